//! What coordinators know: they are the leaders of the partitions of one topic, each for what is kept there.
use super::connect::advise;
use anyhow::bail;
use client_lite::{Client, Cluster};

/// The topic whose leaders coordinate groups.
pub(crate) const OF_GROUPS: &str = "__consumer_offsets";
/// The topic whose leaders coordinate transactions.
pub(crate) const OF_TRANSACTIONS: &str = "__transaction_state";

/// Fails where a partition of `topic` has no leader: what is coordinated there was left out of the list, which would
/// otherwise look whole. Brokers that are down are not in the cluster's metadata, so nobody was asked in vain.
pub(crate) async fn all_were_asked(client: &Client, topic: &str, what: &str) -> anyhow::Result<()> {
    let cluster = client.refresh(&[topic]).await.map_err(advise)?;
    match without_leader(&cluster, topic) {
        None => Ok(()),
        Some(why) => bail!("not all {what} are listed: {why}\n  `plimsoll cluster status` says why."),
    }
}

/// How many partitions of `topic` have no leader, in words, where some have none.
pub(crate) fn without_leader(cluster: &Cluster, topic: &str) -> Option<String> {
    let partitions = &cluster.topic(topic)?.partitions;
    let without = partitions.iter().filter(|partition| partition.leader < 0).count();
    let all = partitions.len();
    (without > 0)
        .then(|| format!("{without} of {all} partitions of {topic} have no leader that could be asked"))
}
