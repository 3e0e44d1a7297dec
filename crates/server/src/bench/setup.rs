//! Creates the topic and finds its partitions' leaders before the clock starts.
use super::BrokerArgs;
use super::TopicArgs;
use anyhow::{Context, Result, bail};
use client_lite::{Client, ClientOptions, Cluster, LATEST, Place};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::{CreateTopicsRequest, Str};

const TOPIC_ALREADY_EXISTS: i16 = 36;
const AGAIN: Duration = Duration::from_millis(50);

fn text(value: &str) -> Str {
    Str::from_utf8(value.to_owned().into()).unwrap_or_default()
}

/// A topic's partitions by the brokers that lead them when the clock starts.
#[derive(Debug)]
pub(super) struct Led {
    pub(super) partitions: i32,
    /// Address of each leader with what it leads.
    pub(super) leaders: Vec<(String, Vec<i32>)>,
}

impl Led {
    fn by_leader(cluster: &Cluster, name: &str) -> Result<Led> {
        let topic = cluster.topic(name).with_context(|| format!("topic '{name}' is missing"))?;
        let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in &topic.partitions {
            leaders.entry(partition.leader).or_default().push(partition.index);
        }
        let led = leaders.into_iter().map(|(id, mut partitions)| {
            partitions.sort_unstable();
            let broker = cluster.broker(id).with_context(|| format!("'{name}' is led by {id}"))?;
            Ok((broker.address(), partitions))
        });
        Ok(Led { partitions: i32::try_from(topic.partitions.len())?, leaders: led.collect::<Result<_>>()? })
    }

    /// What part of the topic these partitions are.
    pub(super) fn share(&self, partitions: &[i32]) -> f64 {
        partitions.len() as f64 / f64::from(self.partitions.max(1))
    }
}

/// Where the partitions of a topic that is there are led; waits `until` then for those without a leader.
pub(super) fn leaders(broker: &BrokerArgs, topic: &str, until: Instant) -> Result<Led> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(broker.address(), ClientOptions::default()).await?;
        loop {
            client.topic_created(topic).await?;
            // A leader may be gone again, where many are elected at once.
            match Led::by_leader(&client.refresh(&[topic]).await?, topic) {
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => tokio::time::sleep(AGAIN).await,
                led => return led,
            }
        }
    })
}

/// The level that the cluster has finalised for a feature; 0 where it names none.
pub(super) fn finalised_level(broker: &BrokerArgs, feature: &str) -> Result<i16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let client = Client::connect(broker.address(), ClientOptions::default()).await?;
        anyhow::Ok(client.any().await?.features().cloned())
    })?;
    let features = answer.map(|answer| answer.finalized_features).unwrap_or_default();
    Ok(features.iter().find(|row| row.name == *feature).map_or(0, |row| row.max_version_level))
}

/// Makes sure that the topic exists, and finds out who leads it.
pub(super) fn ensure_topic(args: &TopicArgs) -> Result<Led> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(args.broker.address(), ClientOptions::default())
            .await
            .with_context(|| format!("connect to {}", args.broker.address()))?;
        let mut configs = Vec::new();
        for pair in &args.topic_configs {
            let (name, value) =
                pair.split_once('=').with_context(|| format!("'{pair}' is not NAME=VALUE"))?;
            configs.push(CreatableTopicConfig { name: text(name), value: Some(text(value)) });
        }
        let topic = CreatableTopic {
            name: text(&args.topic),
            num_partitions: args.partitions,
            replication_factor: -1,
            configs,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        let answer = client.ask_any(request).await?;
        for created in &answer.topics {
            if created.error_code != 0 && created.error_code != TOPIC_ALREADY_EXISTS {
                bail!("creating '{}' failed with code {}", args.topic, created.error_code);
            }
        }
        let topic = client.topic_created(&args.topic).await?;
        // Apache Kafka names a leader before that leader knows: a request in between would be refused.
        let places: Vec<Place> = topic.partitions.iter().map(|p| (args.topic.clone(), p.index)).collect();
        client.list_offsets(&places, LATEST, false).await.context("wait for the leaders")?;
        Led::by_leader(&client.refresh(&[args.topic.as_str()]).await?, &args.topic)
    })
}
