//! Partitions as people name them: TOPIC, or TOPIC:PARTITION,PARTITION.
use super::connect::advise;
use anyhow::ensure;
use client_lite::{Client, Cluster, Place};
use std::collections::BTreeSet;
use std::str::FromStr;

/// A topic, or some of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The topic.
    pub(crate) topic: String,
    /// These partitions of it; otherwise all.
    pub(crate) partitions: Option<Vec<i32>>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let Some((topic, list)) = text.split_once(':') else {
            return Ok(Named { topic: text.to_owned(), partitions: None });
        };
        let numbers: Result<Vec<i32>, _> = list.split(',').map(str::parse).collect();
        let numbers = numbers.map_err(|_| format!("`{text}` is not TOPIC or TOPIC:PARTITION,PARTITION"))?;
        Ok(Named { topic: topic.to_owned(), partitions: Some(numbers) })
    }
}

/// The partitions that are named, each once; each of them is there.
pub(crate) async fn named_places(client: &Client, names: &[Named]) -> anyhow::Result<Vec<Place>> {
    let mut places = BTreeSet::new();
    for Named { topic, partitions } in names {
        let row = client.topic(topic).await.map_err(advise)?;
        let all: Vec<i32> = row.partitions.iter().map(|p| p.index).collect();
        for partition in partitions.as_ref().unwrap_or(&all) {
            ensure!(
                all.contains(partition),
                "topic {topic} has no partition {partition}: it has {}, numbered from 0 on",
                all.len()
            );
            places.insert((topic.clone(), *partition));
        }
    }
    Ok(places.into_iter().collect())
}

/// Whether a partition has a leader that could be asked.
pub(crate) fn has_leader(cluster: &Cluster, (topic, partition): &Place) -> bool {
    let topic = cluster.topic(topic).filter(|topic| topic.error_code == 0);
    topic.is_some_and(|topic| topic.partitions.iter().any(|p| p.index == *partition && p.leader >= 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_as_a_whole_or_by_its_partitions() {
        let named = |topic: &str, partitions| Ok(Named { topic: topic.to_owned(), partitions });
        assert_eq!("orders".parse(), named("orders", None));
        assert_eq!("orders:0,3".parse(), named("orders", Some(vec![0, 3])));
        for wrong in ["orders:", "orders:x", "orders:1,", "orders:1:2"] {
            assert!(wrong.parse::<Named>().unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
