//! The checks of the contract.
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::error::KafkaError;

use crate::adapter::{Client, Member, Record, WAIT};

/// What one check is told.
pub struct Ask<'a> {
    pub topic: String,
    pub records: usize,
    pub codec: &'a str,
}

type Check = fn(&Client, &Ask<'_>) -> Result<(), String>;

pub const CHECKS: &[(&str, Check)] = &[
    ("keys", keys),
    ("nulls", nulls),
    ("headers", headers),
    ("codec", codec),
    ("sizes", sizes),
    ("bulk", bulk),
    ("assign", assign),
    ("subscribe", subscribe),
    ("resume", resume),
    ("rebalance", rebalance),
    ("time", times),
    ("transactions", crate::worker::transactions),
    ("consumer-protocol", |client, ask| share(client, ask, "consumer")),
    ("transaction-loop", crate::worker::transaction_loop),
];

/// What is run by its name alone.
pub const NAMED: &[&str] = &["transaction-loop"];

/// An hour ago: older than any clock difference, younger than any retention.
fn an_hour_ago() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    (now.as_secs() as i64 - 3600) * 1000
}

pub fn expect(condition: bool, detail: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(detail()) }
}

pub fn said(error: KafkaError) -> String {
    error.to_string()
}

/// Bytes that differ for each index and do not compress to nothing.
fn pattern(index: usize, length: usize) -> Vec<u8> {
    (0..length).map(|j| (index + (j & 0xff) * (index * 2 + 1)) as u8).collect()
}

pub fn number(index: usize) -> Option<Vec<u8>> {
    Some(index.to_string().into_bytes())
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn same(sent: &[&Record], received: &[&Record]) -> Result<(), String> {
    expect(sent.len() == received.len(), || {
        format!("{} records sent, {} received", sent.len(), received.len())
    })?;
    for (index, (left, right)) in sent.iter().zip(received).enumerate() {
        let equal = left.key == right.key && left.value == right.value && left.headers == right.headers;
        expect(equal, || format!("record {index} differs at offset {}", right.offset))?;
    }
    Ok(())
}

/// Equal bytes and order within each partition, nothing missing, nothing twice.
pub fn same_by_partition(sent: &[Record], received: &[Record]) -> Result<(), String> {
    expect(sent.len() == received.len(), || {
        format!("{} records sent, {} received", sent.len(), received.len())
    })?;
    for partition in 0..8 {
        let of = |all: &'_ [Record]| -> Vec<Record> {
            all.iter().filter(|record| record.partition == partition).cloned().collect()
        };
        let (mine, theirs) = (of(sent), of(received));
        let ordered = theirs.windows(2).all(|pair| pair[0].offset < pair[1].offset);
        expect(ordered, || format!("partition {partition}: order lost"))?;
        same(&mine.iter().collect::<Vec<_>>(), &theirs.iter().collect::<Vec<_>>())?;
    }
    Ok(())
}

fn roundtrip(client: &Client, topic: &str, sent: &[Record], codec: &str) -> Result<(), String> {
    client.create_topic(topic, 1).map_err(said)?;
    client.produce(topic, sent, codec).map_err(said)?;
    let received = client.read(topic, &[(0, 0)], sent.len(), WAIT).map_err(said)?;
    same(&sent.iter().collect::<Vec<_>>(), &received.iter().collect::<Vec<_>>())
}

pub fn spread(count: usize, partitions: usize, size: usize) -> Vec<Record> {
    let one = |i: usize| Record {
        key: number(i),
        value: Some(pattern(i, size)),
        partition: (i % partitions) as i32,
        ..Record::default()
    };
    (0..count).map(one).collect()
}

fn keys(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    let one = |i: usize| Record {
        key: Some(pattern(i, i % 65)),
        value: Some(pattern(i, 20)),
        ..Record::default()
    };
    let mut sent: Vec<_> = (0..200).map(one).collect();
    sent.push(Record { value: bytes("no key"), ..Record::default() });
    roundtrip(client, &ask.topic, &sent, "none")
}

fn nulls(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    let pairs = [
        (None, bytes("value")),
        (bytes("tombstone"), None),
        (bytes(""), bytes("")),
        (None, bytes("")),
        (bytes(""), None),
        (bytes("end"), bytes("end")),
    ];
    let sent = pairs.map(|(key, value)| Record { key, value, ..Record::default() });
    roundtrip(client, &ask.topic, &sent, "none")
}

fn headers(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    let with = |value: &str, headers: &[(&str, Option<Vec<u8>>)]| Record {
        value: bytes(value),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        ..Record::default()
    };
    let mut many = with("many", &[]);
    many.headers = (0..100).map(|i| (format!("h{i}"), Some(pattern(i, i)))).collect();
    let sent = [
        with("none", &[]),
        with("one", &[("a", bytes("1"))]),
        with("twice", &[("a", bytes("1")), ("b", bytes("x")), ("a", bytes("2")), ("a", bytes("1"))]),
        with("empty", &[("empty", bytes("")), ("binary", Some((0..=255).collect()))]),
        with("null", &[("null", None), ("after", bytes("x"))]),
        many,
    ];
    roundtrip(client, &ask.topic, &sent, "none")
}

fn codec(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    let one = |i: usize| Record {
        key: number(i),
        value: bytes(&format!("record {i} of a compressible kind; ").repeat(8)),
        headers: vec![("codec".to_owned(), bytes(ask.codec))],
        ..Record::default()
    };
    roundtrip(client, &ask.topic, &(0..500).map(one).collect::<Vec<_>>(), ask.codec)
}

fn sizes(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    let lengths = [0, 1, 100, 1023, 4096, 16384, 65537, 250_000, 500_000, 900_000];
    let one = |(i, n): (usize, usize)| Record {
        key: number(n),
        value: Some(pattern(i, n)),
        ..Record::default()
    };
    roundtrip(client, &ask.topic, &lengths.into_iter().enumerate().map(one).collect::<Vec<_>>(), "none")
}

fn bulk(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    client.create_topic(&ask.topic, 3).map_err(said)?;
    let one = |i: usize| Record {
        key: number(i),
        value: Some(pattern(i, 10 + i * 37 % 200)),
        partition: (i % 3) as i32,
        ..Record::default()
    };
    let sent: Vec<_> = (0..ask.records).map(one).collect();
    client.produce(&ask.topic, &sent, "none").map_err(said)?;
    let starts = [(0, 0), (1, 0), (2, 0)];
    let received = client.read(&ask.topic, &starts, sent.len(), WAIT * 4).map_err(said)?;
    same_by_partition(&sent, &received)
}

fn assign(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    client.create_topic(&ask.topic, 3).map_err(said)?;
    let sent = spread(300, 3, 50);
    client.produce(&ask.topic, &sent, "none").map_err(said)?;
    let received = client.read(&ask.topic, &[(1, 5)], 95, WAIT).map_err(said)?;
    expect(received.first().is_some_and(|r| r.offset == 5), || "the first record is not at 5".to_owned())?;
    let wanted: Vec<_> = sent.iter().filter(|r| r.partition == 1).skip(5).collect();
    same(&wanted, &received.iter().collect::<Vec<_>>())
}

fn drain(members: &[&Member], count: usize) -> Result<Vec<Record>, String> {
    let end = Instant::now() + WAIT;
    let mut received = Vec::new();
    while received.len() < count && Instant::now() < end {
        for member in members {
            received.extend(member.poll(Duration::from_millis(100)).map_err(said)?);
        }
    }
    Ok(received)
}

fn settle(members: &[&Member], wanted: &[usize]) -> Result<(), String> {
    let end = Instant::now() + WAIT;
    let mut owned = Vec::new();
    while Instant::now() < end {
        owned.clear();
        for member in members {
            member.poll(Duration::from_millis(100)).map_err(said)?;
            owned.push(member.assignment().map_err(said)?.len());
        }
        if owned == wanted {
            return Ok(());
        }
    }
    Err(format!("members own {owned:?} partitions, wanted {wanted:?}"))
}

fn subscribe(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    client.create_topic(&ask.topic, 3).map_err(said)?;
    let sent = spread(600, 3, 50);
    client.produce(&ask.topic, &sent, "none").map_err(said)?;
    let member = client.member(&format!("{}-group", ask.topic), &ask.topic).map_err(said)?;
    same_by_partition(&sent, &drain(&[&member], sent.len())?)?;
    let owned = member.assignment().map_err(said)?;
    expect(owned.len() == 3, || format!("assigned {owned:?}, not all three"))
}

fn resume(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    client.create_topic(&ask.topic, 2).map_err(said)?;
    let group = format!("{}-group", ask.topic);
    let sent = spread(200, 2, 50);
    client.produce(&ask.topic, &sent[..80], "none").map_err(said)?;
    let member = client.member(&group, &ask.topic).map_err(said)?;
    let mut received = drain(&[&member], 80)?;
    member.commit().map_err(said)?;
    drop(member);
    client.produce(&ask.topic, &sent[80..], "none").map_err(said)?;
    let member = client.member(&group, &ask.topic).map_err(said)?;
    received.extend(drain(&[&member], 120)?);
    received.extend(member.poll(Duration::from_secs(1)).map_err(said)?);
    same_by_partition(&sent, &received)
}

fn rebalance(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    share(client, ask, "classic")
}

fn share(client: &Client, ask: &Ask<'_>, protocol: &str) -> Result<(), String> {
    client.create_topic(&ask.topic, 4).map_err(said)?;
    let group = format!("{}-group", ask.topic);
    let first = client.member_by(protocol, &group, &ask.topic).map_err(said)?;
    settle(&[&first], &[4])?;
    let second = client.member_by(protocol, &group, &ask.topic).map_err(said)?;
    settle(&[&first, &second], &[2, 2])?;
    let (mine, theirs) = (first.assignment().map_err(said)?, second.assignment().map_err(said)?);
    expect(!mine.iter().any(|p| theirs.contains(p)), || format!("{mine:?} and {theirs:?} overlap"))?;
    let sent = spread(400, 4, 50);
    client.produce(&ask.topic, &sent, "none").map_err(said)?;
    same_by_partition(&sent, &drain(&[&first, &second], 400)?)?;
    first.commit().map_err(said)?;
    second.commit().map_err(said)?;
    drop(second);
    settle(&[&first], &[4])?;
    let more = spread(100, 4, 60);
    client.produce(&ask.topic, &more, "none").map_err(said)?;
    same_by_partition(&more, &drain(&[&first], 100)?)
}

fn times(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    client.create_topic(&ask.topic, 1).map_err(said)?;
    let first = an_hour_ago();
    let one = |i: i64| Record {
        value: bytes(&i.to_string()),
        timestamp: Some(first + i * 1000),
        ..Record::default()
    };
    let sent: Vec<_> = (0..100).map(one).collect();
    client.produce(&ask.topic, &sent, "none").map_err(said)?;
    let rows = [(0, Some(0)), (50_000, Some(50)), (50_001, Some(51)), (99_000, Some(99)), (99_001, None)];
    for (asked, wanted) in rows {
        let found = client.offset_for_time(&ask.topic, 0, first + asked).map_err(said)?;
        expect(found == wanted, || format!("offset for first+{asked} ms is {found:?}, not {wanted:?}"))?;
    }
    let received = client.read(&ask.topic, &[(0, 50)], 50, WAIT).map_err(said)?;
    same(&sent[50..].iter().collect::<Vec<_>>(), &received.iter().collect::<Vec<_>>())?;
    let stamped = received.iter().zip(&sent[50..]).all(|(got, put)| got.timestamp == put.timestamp);
    expect(stamped, || "timestamps differ".to_owned())
}
