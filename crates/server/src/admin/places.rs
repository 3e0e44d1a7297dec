//! Partitions as people name them: TOPIC, or TOPIC:PARTITION,PARTITION.
use super::connect::advise;
use anyhow::{bail, ensure};
use client_lite::{Client, Place};

/// The partitions that `texts` name; each of them is there.
pub(crate) async fn named_places(client: &Client, texts: &[String]) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    for text in texts {
        let (name, partitions) = match text.split_once(':') {
            None => (text.as_str(), None),
            Some((name, list)) => {
                let numbers: Result<Vec<i32>, _> = list.split(',').map(str::parse).collect();
                match numbers {
                    Ok(numbers) => (name, Some(numbers)),
                    Err(_) => bail!("`{text}` is not TOPIC or TOPIC:PARTITION,PARTITION"),
                }
            }
        };
        let topic = client.topic(name).await.map_err(advise)?;
        let all: Vec<i32> = topic.partitions.iter().map(|p| p.index).collect();
        for partition in partitions.unwrap_or_else(|| all.clone()) {
            ensure!(all.contains(&partition), "topic {name} has no partition {partition}");
            places.push((name.to_owned(), partition));
        }
    }
    Ok(places)
}
