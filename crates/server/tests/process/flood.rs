//! Idempotent producers that keep requests in flight and never give up, and a disk that has no room for them.
use crate::mounts::SmallDisk;
use crate::server::{Server, wait_for};
use crate::wire_client::{Client, now_ms};
use bytes::BytesMut;
use model::TopicId;
use records::{BatchBuilder, NewRecord};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use wire::create_topics_request::CreatableTopic;
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{ApiKey, CreateTopicsRequest, InitProducerIdRequest, ProduceRequest, ResponseBody};

const IN_FLIGHT: usize = 5;
/// REQUEST_TIMED_OUT, NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR: a client sends again.
const RETRIABLE: [i16; 3] = [7, 6, 56];
const OUT_OF_ORDER: i16 = 45;
const UNKNOWN_TOPIC: i16 = 3;
/// What an operator who makes room waits for at most.
const SECONDS: Duration = Duration::from_secs(15);

/// Tells producers to stop, whatever happens to the test.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn value(number: usize) -> Vec<u8> {
    let mut value = vec![number as u8; 40_000];
    value[..8].copy_from_slice(&(number as u64).to_be_bytes());
    value
}

/// One producer of one partition: record `n` has the value and the sequence `n`.
struct Producer {
    client: Client,
    id: i64,
    topic: &'static str,
    partition: i32,
    acked: usize,
}

impl Producer {
    fn new(broker: SocketAddr, topic: &'static str, partition: i32) -> Producer {
        let mut client = Client::connect(broker);
        let request = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..Default::default() };
        let ResponseBody::InitProducerId(answer) = client.ask(ApiKey::InitProducerId, 4, request) else {
            panic!()
        };
        assert_eq!(answer.error_code, 0);
        Producer { client, id: answer.producer_id, topic, partition, acked: 0 }
    }

    fn request(&self, number: usize) -> ProduceRequest {
        let mut batch = BatchBuilder::new().producer(self.id, 0, number as i32);
        batch.push(NewRecord::new(now_ms(), None, Some(&value(number))));
        let records: BytesMut = batch.finish().unwrap();
        let partition_data = vec![PartitionProduceData { index: self.partition, records: Some(records) }];
        let topic = TopicProduceData { name: self.topic.into(), partition_data, ..Default::default() };
        ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() }
    }

    /// Sends the next records at once; the code that stopped them, 0 where all were taken.
    fn send(&mut self) -> i16 {
        // A broker takes any sequence from a producer that it does not know, so the first record goes alone.
        let numbers = self.acked..self.acked + if self.acked == 0 { 1 } else { IN_FLIGHT };
        let requests: Vec<ProduceRequest> = numbers.map(|number| self.request(number)).collect();
        let mut refused = 0;
        for answer in self.client.ask_all(ApiKey::Produce, 9, requests) {
            let ResponseBody::Produce(answer) = answer else { panic!() };
            let code = answer.responses[0].partition_responses[0].error_code;
            match code {
                0 if refused == 0 => self.acked += 1,
                // What was refused may be there all the same: its partition was given up after it was written,
                // and found it again. It is sent once more, and `check` wants it once.
                0 => {}
                OUT_OF_ORDER => {
                    assert_ne!(refused, 0, "{} acknowledged, the next does not follow", self.acked)
                }
                code => {
                    assert!(RETRIABLE.contains(&code) || code == UNKNOWN_TOPIC, "{code}");
                    refused = code;
                }
            }
        }
        refused
    }

    /// Until told to stop, or the topic is gone; how many records were acknowledged.
    fn run(mut self, stop: &AtomicBool, refusals: &AtomicUsize, all: &AtomicUsize) -> usize {
        while !stop.load(SeqCst) {
            let before = self.acked;
            match self.send() {
                0 => {}
                UNKNOWN_TOPIC => break,
                _ => {
                    refusals.fetch_add(1, SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            all.fetch_add(self.acked - before, SeqCst);
        }
        self.acked
    }
}

/// Every acknowledged record once, in order, and nothing else but what was sent after them.
fn check(client: &mut Client, topic: TopicId, partition: i32, from: usize, acked: usize) {
    let values = client.read_from(topic, partition, from as i64);
    assert!(from + values.len() >= acked, "{acked} acknowledged, {} there", from + values.len());
    for (number, found) in (from..).zip(values) {
        assert!(found == value(number), "another record stands at {number}");
    }
}

/// Fills the disk until producers had more on its way than there was room for; where the broker refused them
/// in time, once more.
fn overfill(disk: &SmallDisk, server: &Server, all: &AtomicUsize) {
    disk.fill();
    let mut looks = 0;
    wait_for("a partition given up", || {
        looks += 1;
        if looks % 25 == 0 {
            disk.free();
            let more = all.load(SeqCst) + 10;
            wait_for("room again", || (all.load(SeqCst) > more).then_some(()));
            disk.fill();
        }
        (server.metric("plimsoll_partitions_given_up_total") > 0).then_some(())
    });
}

fn served(disk: &SmallDisk) -> (Server, Client, TopicId) {
    let server = disk.serve();
    let mut client = server.client();
    let segments = [("segment.bytes", "1048576")];
    let kept = client.create("kept", 2, &segments);
    client.create("doomed", 2, &segments);
    disk.lose_ballast();
    (server, client, kept)
}

#[test]
#[ignore = "needs a broker"]
fn deletions_come_through_on_a_disk_that_producers_filled() {
    flood(&SmallDisk::new(60));
}

#[test]
#[ignore = "needs a broker"]
fn deletions_come_through_on_a_disk_in_memory_that_producers_filled() {
    flood(&SmallDisk::in_memory(60));
}

fn flood(disk: &SmallDisk) {
    let (mut server, mut client, kept) = served(disk);
    let (stop, refusals, all) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (broker, stop, refusals, all) = (server.kafka, &stop, &refusals, &all);
    let acked: Vec<usize> = std::thread::scope(|scope| {
        let until = Stop(stop);
        let run = |topic, p| move || Producer::new(broker, topic, p).run(stop, refusals, all);
        let running: Vec<_> = (0..2).map(|p| scope.spawn(run("kept", p))).collect();
        let doomed: Vec<_> = (0..2).map(|p| scope.spawn(run("doomed", p))).collect();
        wait_for("20 MB", || (all.load(SeqCst) > 500).then_some(()));
        overfill(disk, &server, all);
        wait_for("refusals", || (refusals.load(SeqCst) > 20).then_some(()));
        let begun = Instant::now();
        wait_for("DeleteRecords", || (client.delete_records("kept", 0, 100) == 0).then_some(()));
        wait_for("DeleteTopics", || (client.delete_topic("doomed") == 0).then_some(()));
        assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
        let healed = all.load(SeqCst) + 50;
        wait_for("produce again", || (all.load(SeqCst) > healed).then_some(()));
        drop(until);
        doomed.into_iter().for_each(|producer| _ = producer.join().unwrap());
        running.into_iter().map(|producer| producer.join().unwrap()).collect()
    });
    assert!(server.http("/readyz").starts_with("HTTP/1.1 200"));
    let both = |client: &mut Client| {
        check(client, kept, 0, 100, acked[0]);
        check(client, kept, 1, 0, acked[1]);
    };
    both(&mut client);
    server.kill();
    let server = disk.serve();
    both(&mut server.client());
}

#[test]
#[ignore = "needs a broker"]
fn a_broker_whose_disk_producers_filled_stops_and_starts() {
    let disk = SmallDisk::new(60);
    let (mut server, _, kept) = served(&disk);
    let (stop, refusals, all) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (broker, stop, refusals, all) = (server.kafka, &stop, &refusals, &all);
    let acked: Vec<usize> = std::thread::scope(|scope| {
        let until = Stop(stop);
        let run = |p| move || Producer::new(broker, "kept", p).run(stop, refusals, all);
        let running: Vec<_> = (0..2).map(|p| scope.spawn(run(p))).collect();
        wait_for("10 MB", || (all.load(SeqCst) > 250).then_some(()));
        disk.fill();
        wait_for("refusals", || (refusals.load(SeqCst) > 4).then_some(()));
        drop(until);
        running.into_iter().map(|producer| producer.join().unwrap()).collect()
    });
    let begun = Instant::now();
    server.ask_to_stop();
    let status = server.ended();
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    assert!(status.success() || server.log().contains("took no last record"), "{status}");
    let server = disk.serve();
    let mut client = server.client();
    (0..2).for_each(|p| check(&mut client, kept, p, 0, acked[p as usize]));
    disk.free();
    let mut producer = Producer::new(server.kafka, "kept", 0);
    wait_for("produce again", || (producer.send() == 0).then_some(()));
}

/// Creates topics until the disk has no byte left for another; what `/readyz` says then.
fn exhaust(server: &Server, prefix: &str) -> String {
    let mut client = server.client();
    let mut number = 0;
    wait_for("a disk without room for anything", || {
        number += 1;
        let name = format!("{prefix}-{number}");
        let topic = CreatableTopic {
            name: name.as_str().into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        // Nobody waits for the answer: there is none any more at the end.
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 100, validate_only: false };
        client.ask(ApiKey::CreateTopics, 7, request);
        let said = server.http("/readyz");
        said.starts_with("HTTP/1.1 503").then_some(said)
    })
}

#[test]
#[ignore = "needs a broker"]
fn a_broker_that_can_write_nothing_says_so_and_ends_when_told_to() {
    let disk = SmallDisk::new(60);
    let (mut server, mut client, _) = served(&disk);
    disk.fill();
    let said = exhaust(&server, "first");
    assert!(said.contains("the disk is full: nothing could be written for"), "{said}");
    assert!(server.http("/healthz").starts_with("HTTP/1.1 200"));
    assert!(server.metric("plimsoll_disk_stalled_seconds") >= 3);
    disk.free();
    wait_for("word of the room", || server.http("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    client.create("after", 1, &[]);
    disk.lose_ballast();
    disk.fill();
    exhaust(&server, "second");
    let begun = Instant::now();
    server.ask_to_stop();
    assert_eq!(server.ended().code(), Some(1));
    assert!(begun.elapsed() < 2 * SECONDS, "{:?}", begun.elapsed());
    assert!(server.log().contains("the disk is full and took no last record"));
    disk.free();
    let server = disk.serve();
    assert!(server.client().metadata().1 > 3);
}
