//! The transactional producer against a running broker, Plimsoll or Apache Kafka; as `against_a_broker.rs`.
#![allow(clippy::unwrap_used, missing_docs)]
use client_lite::{
    Client, ClientOptions, Committer, FetchFrom, FetchOptions, LATEST, NewTopic, Place, TxnOptions,
    TxnProducer,
};
use records::{BatchBuilder, NewRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

async fn client() -> Arc<Client> {
    let bootstrap = std::env::var("CLIENT_LITE_BOOTSTRAP").expect("CLIENT_LITE_BOOTSTRAP names the broker");
    Arc::new(Client::connect(&bootstrap, ClientOptions::default()).await.unwrap())
}

fn fresh(what: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("client-lite-{what}-{nanos}")
}

fn batch(value: &str) -> BatchBuilder {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord::new(now, None, Some(value.as_bytes())));
    builder
}

async fn topic(client: &Client) -> String {
    let name = fresh("txn");
    let new = NewTopic { name: name.clone(), partitions: Some(2), ..Default::default() };
    client.create_topic(&new, false).await.unwrap();
    client.topic_created(&name).await.unwrap();
    name
}

async fn producer(client: &Arc<Client>, id: &str, newest: i16) -> TxnProducer {
    let (timeout, retry_for) = (Duration::from_secs(30), Duration::from_secs(30));
    let options = TxnOptions { id: id.to_owned(), timeout, retry_for, newest };
    TxnProducer::start(client.clone(), options).await.unwrap()
}

/// The values that a reader of what is committed finds up to the last stable offset.
async fn committed(client: &Client, topic: &str, partition: i32) -> Vec<String> {
    let place = (topic.to_owned(), partition);
    let end = client.list_offsets(std::slice::from_ref(&place), LATEST, true).await.unwrap()[&place].offset;
    let options = FetchOptions {
        max_wait: Duration::from_millis(100),
        read_committed: true,
        ..FetchOptions::default()
    };
    let (mut offset, mut found) = (0, Vec::new());
    while offset < end {
        let from = FetchFrom { topic: topic.to_owned(), partition, offset };
        let answer = client.fetch(&[from], &options).await.unwrap().remove(0);
        answer.check().unwrap();
        let (records, next) = answer.decode().unwrap();
        found.extend(records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()));
        offset = next;
    }
    found
}

async fn all_or_nothing(newest: i16) {
    let client = client().await;
    let (topic, group) = (topic(&client).await, fresh("group"));
    let mut producer = producer(&client, &fresh("id"), newest).await;
    assert!(producer.version() <= newest);
    for (round, commits) in [(0, true), (1, false), (2, true)] {
        producer.begin().unwrap();
        producer.send(&topic, 0, batch(&format!("{round}-a"))).await.unwrap();
        producer.send(&topic, 1, batch(&format!("{round}-b"))).await.unwrap();
        producer.send(&topic, 0, batch(&format!("{round}-c"))).await.unwrap();
        let offsets: BTreeMap<Place, i64> = BTreeMap::from([((topic.clone(), 0), round + 1)]);
        producer.send_offsets(&group, Committer::NOBODY, &offsets).await.unwrap();
        let before = producer.identity();
        if commits {
            producer.commit().await.unwrap()
        } else {
            producer.abort().await.unwrap()
        }
        assert_eq!(producer.identity() == before, producer.version() < 2, "{before:?}");
        // Whoever asks for stable offsets of a partition waits for the markers.
        let place = (topic.clone(), 0);
        let found = client.committed_stable(&group, Some(std::slice::from_ref(&place))).await.unwrap();
        assert_eq!(found[&place].offset, if commits { round + 1 } else { round }, "round {round}");
    }
    // Another one of the same id ends what this one left open: no marker of it is on its way any more.
    producer.begin().unwrap();
    producer.send(&topic, 0, batch("lost")).await.unwrap();
    let id = producer.options().id.clone();
    let _successor = self::producer(&client, &id, newest).await;
    let late = producer.send(&topic, 0, batch("late")).await;
    assert!(late.is_err(), "{late:?}");
    assert!(producer.abort().await.is_err() && producer.is_dead());
    assert_eq!(committed(&client, &topic, 0).await, ["0-a", "0-c", "2-a", "2-c"]);
    assert_eq!(committed(&client, &topic, 1).await, ["0-b", "2-b"]);
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn transactions_of_the_new_protocol_count_all_or_not_at_all() {
    all_or_nothing(2).await;
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn transactions_of_the_old_protocol_count_all_or_not_at_all() {
    all_or_nothing(1).await;
}
