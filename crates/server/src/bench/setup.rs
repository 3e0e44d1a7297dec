//! Creates the topic and finds its partitions' leaders before the clock starts.
use super::TopicArgs;
use anyhow::{Context, Result, bail};
use client_lite::{Client, ClientOptions, LATEST, Place};
use wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::{CreateTopicsRequest, Str};

const TOPIC_ALREADY_EXISTS: i16 = 36;

fn text(value: &str) -> Str {
    Str::from_utf8(value.to_owned().into()).unwrap_or_default()
}

/// Makes sure that the topic exists; returns its partition count.
pub(super) fn ensure_topic(args: &TopicArgs) -> Result<i32> {
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
        Ok(i32::try_from(places.len())?)
    })
}
