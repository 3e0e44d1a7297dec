//! Lists that are put together from what each coordinator knows.
use super::connect::advise;
use anyhow::ensure;
use client_lite::Client;

/// Fails where a partition of `topic` has no leader: what is coordinated there was left out of the list, which would
/// otherwise look whole. Brokers that are down are not in the cluster's metadata, so nobody was asked in vain.
pub(crate) async fn all_were_asked(client: &Client, topic: &str, what: &str) -> anyhow::Result<()> {
    let cluster = client.refresh(&[topic]).await.map_err(advise)?;
    let partitions = cluster.topic(topic).map(|topic| &topic.partitions[..]).unwrap_or_default();
    let without = partitions.iter().filter(|partition| partition.leader < 0).count();
    ensure!(
        without == 0,
        "not all {what} are listed: {without} of {} partitions of {topic} have no leader that could be asked\n  \
         `plimsoll cluster status` says why.",
        partitions.len()
    );
    Ok(())
}
