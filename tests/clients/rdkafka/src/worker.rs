//! A transactional producer that is a member of a group, and the check `transactions`.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

use crate::adapter::{Client, Member, Record, WAIT, config, take};
use crate::checks::{Ask, expect, number, said, same_by_partition, spread};

struct Worker {
    producer: BaseProducer,
    member: Member,
    topic: String,
}

impl Worker {
    fn new(client: &Client, name: &str, group: &str, topic: &str) -> KafkaResult<Self> {
        let producer: BaseProducer = config(&client.bootstrap).set("transactional.id", name).create()?;
        producer.init_transactions(WAIT)?;
        Ok(Self { producer, member: client.member(group, topic)?, topic: topic.to_owned() })
    }

    fn consumer(&self) -> &BaseConsumer {
        &self.member.consumer
    }

    fn send(&self, topic: &str, records: &[Record]) -> KafkaResult<()> {
        for record in records {
            let mut next = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition);
            next.key = record.key.as_deref();
            next.payload = record.value.as_deref();
            self.producer.send(next).map_err(|(error, _)| error)?;
        }
        self.producer.flush(WAIT)
    }

    /// Adds to the transaction where the group goes on after these records.
    fn offsets(&self, records: &[Record]) -> KafkaResult<()> {
        let next = records.iter().map(|r| (r.partition, r.offset + 1)).collect();
        let group = self.consumer().group_metadata().ok_or(KafkaError::Canceled)?;
        self.producer.send_offsets_to_transaction(&places(&self.topic, &next)?, &group, WAIT)
    }

    /// Takes back the transaction, and goes back to these records.
    fn abort(&self, records: &[Record]) -> KafkaResult<()> {
        self.producer.abort_transaction(WAIT)?;
        let first = records.iter().rev().map(|r| (r.partition, r.offset)).collect();
        self.consumer().seek_partitions(places(&self.topic, &first)?, WAIT).map(|_| ())
    }
}

fn places(topic: &str, offsets: &BTreeMap<i32, i64>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// A topic is copied in transactions, with the group's offsets; some are aborted, and a zombie changes nothing.
pub fn transactions(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    let (topic, output, group) = (&ask.topic, format!("{}-out", ask.topic), format!("{}-group", ask.topic));
    client.create_topic(topic, 2).map_err(said)?;
    client.create_topic(&output, 2).map_err(said)?;
    let sent = spread(400, 2, 40);
    client.produce(topic, &sent, "none").map_err(said)?;
    let mut written = copy(client, topic, &output, &group, sent.len())?;
    let heir = supersede(client, topic, &output)?;
    let committed: Vec<_> = sent.iter().chain(&heir[1..]).cloned().collect();
    let starts = [(0, 0), (1, 0)];
    let received = client.read_committed(&output, &starts, committed.len(), WAIT).map_err(said)?;
    same_by_partition(&committed, &received)?;
    written.extend(heir);
    expect(written.len() > committed.len() + 40, || format!("of {} records few were aborted", written.len()))?;
    same_by_partition(&written, &client.read(&output, &starts, written.len(), WAIT).map_err(said)?)?;
    for partition in [0, 1] {
        let found = client.committed(&group, topic, partition).map_err(said)?;
        expect(found == Some(200), || format!("the group's offset of {partition} is {found:?}"))?;
    }
    Ok(())
}

/// Each third transaction is aborted. After the first of these another worker goes on where the last commit was, else
/// the same worker goes back. Gives all that was written.
fn copy(client: &Client, source: &str, target: &str, group: &str, count: usize) -> Result<Vec<Record>, String> {
    let end = Instant::now() + 2 * WAIT;
    let open = || Worker::new(client, group, group, source).map_err(said);
    let (mut written, mut copied, mut turn) = (Vec::new(), 0, 0);
    let mut worker = open()?;
    while copied < count {
        expect(Instant::now() < end, || format!("{copied} of {count} records copied"))?;
        let records = take(worker.consumer(), 40, Duration::from_millis(500)).map_err(said)?;
        if records.is_empty() {
            continue;
        }
        turn += 1;
        worker.producer.begin_transaction().map_err(said)?;
        worker.send(target, &records).map_err(said)?;
        worker.offsets(&records).map_err(said)?;
        if turn % 3 == 0 {
            worker.abort(&records).map_err(said)?;
        } else {
            worker.producer.commit_transaction(WAIT).map_err(said)?;
            copied += records.len();
        }
        written.extend(records);
        if turn == 3 {
            drop(worker);
            worker = open()?;
        }
    }
    Ok(written)
}

/// A topic is copied in transactions while whoever runs this resets the connections; after an error another worker goes on
/// where the last commit was. Readers of committed records get each once and in order.
pub fn transaction_loop(client: &Client, ask: &Ask<'_>) -> Result<(), String> {
    let (topic, output, group) = (&ask.topic, format!("{}-out", ask.topic), format!("{}-group", ask.topic));
    client.create_topic(topic, 2).map_err(said)?;
    client.create_topic(&output, 2).map_err(said)?;
    let mut sent = spread(2000, 2, 40);
    client.produce(topic, &sent, "none").map_err(said)?;
    println!("{}", json!({"check": "transaction-loop", "connections": "reset"}));
    let end = Instant::now() + 10 * WAIT;
    let mut worker = None;
    let mut last = None;
    loop {
        expect(Instant::now() < end, || format!("not copied; the last error: {last:?}"))?;
        match step(client, &mut worker, topic, &output, &group) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                eprintln!("another worker after {error}");
                last = Some(error);
                worker = None;
            }
        }
    }
    drop(worker);
    println!("{}", json!({"check": "transaction-loop", "connections": "stay"}));
    // After the last record of each partition, so that one that is there twice shows.
    let end = Some(b"end".to_vec());
    let end = |partition| Record { key: end.clone(), value: end.clone(), partition, ..Record::default() };
    let ends = [end(0), end(1)];
    client.produce(&output, &ends, "none").map_err(said)?;
    sent.extend(ends);
    let received = client.read_committed(&output, &[(0, 0), (1, 0)], sent.len(), WAIT).map_err(said)?;
    same_by_partition(&sent, &received)
}

/// One transaction; or, where nothing came, whether the group's offsets are at the ends.
fn step(
    client: &Client,
    worker: &mut Option<Worker>,
    source: &str,
    target: &str,
    group: &str,
) -> KafkaResult<bool> {
    let worker = match worker {
        Some(worker) => worker,
        None => worker.insert(Worker::new(client, group, group, source)?),
    };
    let records = take(worker.consumer(), 40, Duration::from_millis(500))?;
    if records.is_empty() {
        let at = |partition| client.committed(group, source, partition);
        return Ok(at(0)? == Some(1000) && at(1)? == Some(1000));
    }
    worker.producer.begin_transaction()?;
    worker.send(target, &records)?;
    worker.offsets(&records)?;
    worker.producer.commit_transaction(WAIT)?;
    std::thread::sleep(Duration::from_millis(200));
    Ok(false)
}

/// A second producer takes over a transactional id: the transaction of the first is aborted, and it is fenced.
fn supersede(client: &Client, topic: &str, target: &str) -> Result<Vec<Record>, String> {
    let one = |(at, word): (usize, &str)| Record {
        key: number(at),
        value: Some(word.as_bytes().to_vec()),
        ..Record::default()
    };
    let records: Vec<_> = ["zombie", "heir"].into_iter().enumerate().map(one).collect();
    let open = |group: &str| {
        let name = format!("{topic}-id");
        let worker = Worker::new(client, &name, &format!("{topic}-{group}"), topic)?;
        worker.producer.begin_transaction()?;
        Ok(worker)
    };
    let zombie = open("zombie").map_err(said)?;
    zombie.send(target, &records[..1]).map_err(said)?;
    let heir = open("heir").map_err(said)?;
    heir.send(target, &records[1..]).map_err(said)?;
    heir.producer.commit_transaction(WAIT).map_err(said)?;
    let started = Instant::now();
    let answer = zombie.producer.commit_transaction(WAIT);
    expect(answer.is_err(), || "the zombie committed".to_owned())?;
    expect(started.elapsed() < WAIT / 2, || format!("the zombie was not fenced at once: {answer:?}"))?;
    Ok(records)
}
