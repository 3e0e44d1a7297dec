//! The client against a running broker, Plimsoll or Apache Kafka:
//! `CLIENT_LITE_BOOTSTRAP=127.0.0.1:9092 cargo test -p plimsoll-client-lite -- --ignored`. Of a cluster: the
//! addresses with commas between them.
#![allow(clippy::unwrap_used, missing_docs)]
use client_lite::{
    Acks, Beat, Client, ClientOptions, Committer, ConfigOp, Conn, ConnOptions, Consumed, Consumer, EARLIEST,
    FetchFrom, FetchOptions, GroupMember, IdempotentProducer, LATEST, MAX_TIMESTAMP, MemberOptions, NewTopic,
    RawConn, Reset, ResourceKind,
};
use records::{BatchBuilder, Codec, NewRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn bootstrap() -> String {
    std::env::var("CLIENT_LITE_BOOTSTRAP").expect("CLIENT_LITE_BOOTSTRAP names the broker")
}

/// For connections that no client makes.
fn one_of_them() -> String {
    bootstrap().split(',').next().unwrap().to_owned()
}

async fn client() -> Arc<Client> {
    Arc::new(Client::connect(&bootstrap(), ClientOptions::default()).await.unwrap())
}

/// A name that no earlier run has used.
fn fresh(what: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("client-lite-{what}-{nanos}")
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

async fn topic(client: &Client, what: &str, partitions: i32) -> String {
    let name = fresh(what);
    let new = NewTopic { name: name.clone(), partitions: Some(partitions), ..Default::default() };
    client.create_topic(&new, false).await.unwrap();
    client.topic_created(&name).await.unwrap();
    name
}

fn batch(codec: Codec, timestamp: i64, values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new().codec(codec, None);
    for value in values {
        builder.push(NewRecord {
            timestamp,
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: &[(b"h", Some(b"1")), (b"h", None)],
        });
    }
    builder
}

async fn read_all(client: &Client, topic: &str, partition: i32, from: i64) -> Vec<records::Record> {
    let end = client.list_offsets(&[(topic.to_owned(), partition)], LATEST, false).await.unwrap();
    let end = end.values().next().unwrap().offset;
    let (mut offset, mut seen) = (from, Vec::new());
    while offset < end {
        let row = FetchFrom { topic: topic.to_owned(), partition, offset };
        let rows = client.fetch(&[row], &FetchOptions::default()).await.unwrap();
        rows[0].check().unwrap();
        let (records, next) = rows[0].decode().unwrap();
        seen.extend(records);
        offset = next;
    }
    seen
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn every_codec_is_stored_and_read_back() {
    let client = client().await;
    let topic = topic(&client, "codecs", 1).await;
    let start = now_ms();
    for (at, codec) in Codec::ALL.into_iter().enumerate() {
        let sent = batch(codec, start + at as i64, &["one", "two"]).finish().unwrap().freeze();
        let stored = client.produce(&topic, 0, sent, Acks::All).await.unwrap();
        assert_eq!(stored.base_offset, 2 * at as i64);
    }
    let records = read_all(&client, &topic, 0, 0).await;
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert!(records.iter().all(|r| r.headers.len() == 2 && r.key.as_deref() == Some(b"key")));
    assert_eq!(records[9].value.as_deref(), Some(&b"two"[..]));
    assert_eq!(read_all(&client, &topic, 0, 3).await.len(), 7);

    let place = (topic.clone(), 0);
    for (timestamp, offset) in [(EARLIEST, 0), (LATEST, 10), (MAX_TIMESTAMP, 8), (start + 2, 4)] {
        let found = client.list_offsets(std::slice::from_ref(&place), timestamp, false).await.unwrap();
        assert_eq!(found[&place].offset, offset, "at {timestamp}");
    }
    let starts = client.delete_records(&BTreeMap::from([(place.clone(), 4)])).await.unwrap();
    assert_eq!(starts[&place], 4);
    let below = [FetchFrom { topic: topic.clone(), partition: 0, offset: 0 }];
    let rows = client.fetch(&below, &FetchOptions::default()).await.unwrap();
    assert_eq!(rows[0].check().unwrap_err().code().unwrap().name(), "OFFSET_OUT_OF_RANGE");
    client.delete_topic(&topic).await.unwrap();
    // Here too Apache Kafka answers before every broker knows.
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let gone = loop {
        client.forget_topic(&topic);
        match client.topic(&topic).await {
            Ok(_) => assert!(std::time::Instant::now() < end, "the topic stays"),
            Err(error) => break error,
        }
    };
    assert_eq!(gone.code().unwrap().name(), "UNKNOWN_TOPIC_OR_PARTITION");
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn acks_zero_and_one_are_stored_too() {
    let client = client().await;
    let topic = topic(&client, "acks", 1).await;
    let sent = || batch(Codec::None, now_ms(), &["x"]).finish().unwrap().freeze();
    assert_eq!(client.produce(&topic, 0, sent(), Acks::None).await.unwrap().base_offset, -1);
    assert_eq!(client.produce(&topic, 0, sent(), Acks::Leader).await.unwrap().base_offset, 1);
    client.delete_topic(&topic).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn an_idempotent_duplicate_is_answered_with_the_first_offset() {
    let client = client().await;
    let topic = topic(&client, "idempotent", 1).await;
    let mut producer = IdempotentProducer::start(client.clone()).await.unwrap();
    let (id, epoch) = producer.identity();
    for offset in 0..3 {
        let stored = producer.send(&topic, 0, batch(Codec::None, now_ms(), &["x"])).await.unwrap();
        assert_eq!(stored.base_offset, offset);
    }
    let again = batch(Codec::None, now_ms(), &["x"]).producer(id, epoch, 1).finish().unwrap().freeze();
    assert_eq!(client.produce(&topic, 0, again, Acks::All).await.unwrap().base_offset, 1);
    let gap = batch(Codec::None, now_ms(), &["x"]).producer(id, epoch, 9).finish().unwrap().freeze();
    let error = client.produce(&topic, 0, gap, Acks::All).await.unwrap_err();
    assert_eq!(error.code().unwrap().name(), "OUT_OF_ORDER_SEQUENCE_NUMBER");
    client.delete_topic(&topic).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn a_damaged_batch_is_refused_with_kafkas_code() {
    let client = client().await;
    let topic = topic(&client, "damage", 1).await;
    let mut bad = batch(Codec::None, now_ms(), &["x"]).finish().unwrap();
    bad[40] ^= 1;
    let error = client.produce_once(&topic, 0, bad.freeze(), Acks::All).await.unwrap_err();
    assert_eq!(error.code().unwrap().name(), "CORRUPT_MESSAGE");
    let control = batch(Codec::None, now_ms(), &["x"]).control().finish().unwrap().freeze();
    let error = client.produce_once(&topic, 0, control, Acks::All).await.unwrap_err();
    assert_eq!(error.code().unwrap().name(), "INVALID_RECORD");
    client.delete_topic(&topic).await.unwrap();
}

/// Apache Kafka answers a change before every broker knows of it, so it is asked again for a while.
async fn retention_becomes(client: &Client, topic: &str, wanted: (&str, &str)) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let entries = client.describe_configs(ResourceKind::Topic, topic, None, true).await.unwrap();
        let entry = entries.iter().find(|e| e.name == "retention.ms").unwrap();
        if (entry.value.as_deref().unwrap(), entry.source) == wanted {
            return;
        }
        assert!(std::time::Instant::now() < end, "{entry:?} and not {wanted:?}");
    }
}

/// The same for partitions.
async fn partitions_become(client: &Client, topic: &str, wanted: usize) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let found = client.topic_created(topic).await.unwrap().partitions.len();
        if found == wanted {
            return;
        }
        assert!(std::time::Instant::now() < end, "{found} and not {wanted}");
    }
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn topics_are_configured_and_grown() {
    let client = client().await;
    let topic = topic(&client, "admin", 1).await;
    let set = [ConfigOp::Set("retention.ms".to_owned(), "1234567".to_owned())];
    client.alter_configs(ResourceKind::Topic, &topic, &set, false).await.unwrap();
    retention_becomes(&client, &topic, ("1234567", "DYNAMIC_TOPIC_CONFIG")).await;
    let unset = [ConfigOp::Delete("retention.ms".to_owned())];
    client.alter_configs(ResourceKind::Topic, &topic, &unset, false).await.unwrap();
    retention_becomes(&client, &topic, ("604800000", "DEFAULT_CONFIG")).await;
    let wrong = [ConfigOp::Set("no.such.key".to_owned(), "1".to_owned())];
    let error = client.alter_configs(ResourceKind::Topic, &topic, &wrong, false).await.unwrap_err();
    assert_eq!(error.code().unwrap().name(), "INVALID_CONFIG");
    client.create_partitions(&topic, 3, false).await.unwrap();
    partitions_become(&client, &topic, 3).await;
    let again = NewTopic { name: topic.clone(), ..Default::default() };
    let error = client.create_topic(&again, false).await.unwrap_err();
    assert_eq!(error.code().unwrap().name(), "TOPIC_ALREADY_EXISTS");
    client.delete_topic(&topic).await.unwrap();
}

async fn poll_until(consumer: &mut Consumer, count: usize) -> Vec<Consumed> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(consumer.poll().await.unwrap());
    }
    seen
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn a_group_reads_commits_and_resumes() {
    let client = client().await;
    let topic = topic(&client, "group", 2).await;
    let group = fresh("group");
    for partition in 0..2 {
        let sent = batch(Codec::Zstd, now_ms(), &["a", "b", "c"]).finish().unwrap().freeze();
        client.produce(&topic, partition, sent, Acks::All).await.unwrap();
    }
    let member = || GroupMember::new(client.clone(), MemberOptions::new(&group, &[&topic]));
    let consumer = || Consumer::in_group(client.clone(), member(), Reset::Earliest, FetchOptions::default());
    let mut first = consumer();
    assert_eq!(poll_until(&mut first, 6).await.len(), 6);
    first.commit().await.unwrap();
    let described = client.describe_group(&group).await.unwrap();
    assert_eq!((&*described.group_state, described.members.len()), ("Stable", 1));
    let error = client.delete_group(&group).await.unwrap_err();
    assert_eq!(error.code().unwrap().name(), "NON_EMPTY_GROUP");
    first.close().await.unwrap();

    let sent = batch(Codec::None, now_ms(), &["d"]).finish().unwrap().freeze();
    client.produce(&topic, 1, sent, Acks::All).await.unwrap();
    let mut second = consumer();
    let seen = poll_until(&mut second, 1).await;
    assert_eq!(seen[0].record.value.as_deref(), Some(&b"d"[..]));
    second.close().await.unwrap();

    let back = BTreeMap::from([((topic.clone(), 0), 1), ((topic.clone(), 1), 4)]);
    client.commit(&group, Committer::NOBODY, &back).await.unwrap();
    let committed = client.committed(&group, None).await.unwrap();
    assert_eq!(committed.values().map(|c| c.offset).collect::<Vec<_>>(), [1, 4]);
    client.delete_offsets(&group, &[(topic.clone(), 1)]).await.unwrap();
    assert_eq!(client.committed(&group, None).await.unwrap().len(), 1);
    assert!(client.list_groups().await.unwrap().iter().any(|g| g.group_id == group.as_str()));
    client.delete_group(&group).await.unwrap();
    let error = client.describe_group(&group).await.unwrap_err();
    assert_eq!(error.code().unwrap().name(), "GROUP_ID_NOT_FOUND");
    client.delete_topic(&topic).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn two_members_share_a_topic() {
    let client = client().await;
    let topic = topic(&client, "share", 4).await;
    let group = fresh("share");
    let mut first = GroupMember::new(client.clone(), MemberOptions::new(&group, &[&topic]));
    assert_eq!(first.join().await.unwrap().len(), 4);
    // The second waits in its join until the first has joined again, on connections of its own.
    let other = Arc::new(Client::connect(&bootstrap(), ClientOptions::default()).await.unwrap());
    let mut second = GroupMember::new(other, MemberOptions::new(&group, &[&topic]));
    let joining = tokio::spawn(async move {
        second.join().await.unwrap();
        second
    });
    while first.heartbeat().await.unwrap() == Beat::Steady {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.join().await.unwrap();
    let mut second = joining.await.unwrap();
    assert_eq!((first.assignment().len(), second.assignment().len()), (2, 2));
    assert_eq!(first.generation(), second.generation());
    second.leave().await.unwrap();
    while first.heartbeat().await.unwrap() == Beat::Steady {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(first.join().await.unwrap().len(), 4);
    first.leave().await.unwrap();
    client.delete_topic(&topic).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn answers_of_pipelined_requests_find_their_callers() {
    let conn = Conn::connect(&one_of_them(), ConnOptions::default()).await.unwrap();
    let version = conn.version(wire::ApiKey::Metadata).unwrap();
    let mut pending = Vec::new();
    for _ in 0..50 {
        let request = wire::MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        pending.push(conn.begin_at(request, version).await.unwrap());
    }
    for answer in pending {
        assert!(!answer.wait().await.unwrap().brokers.is_empty());
    }
}

#[tokio::test]
#[ignore = "needs a broker"]
async fn a_negative_frame_length_closes_the_connection() {
    let mut raw = RawConn::connect(&one_of_them()).await.unwrap();
    raw.send(&[0xff; 8]).await.unwrap();
    assert_eq!(raw.receive().await.unwrap(), None);
}
