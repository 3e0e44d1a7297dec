//! Three processes: who may answer what must be current, and consumers that read at a follower of their rack.
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::wait_for;
use crate::wire_client::{Client, value_batch};
use client_lite::NewTopic;
use model::{ErrorCode, TopicId};
use std::time::{Duration, Instant};
use wire::fetch_request::{FetchPartition, FetchTopic};
use wire::fetch_response::PartitionData;
use wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::{ApiKey, FetchRequest, ListOffsetsRequest, ResponseBody};

const RACK_AWARE: &str = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Three nodes, each in a rack of its own, and a topic of one partition; its id, its leader, and its epoch.
fn racks() -> (Nodes, TopicId, usize, i32) {
    let mut nodes = Nodes::new(3);
    nodes.set("broker.rack=rack-{id}");
    nodes.set(RACK_AWARE);
    nodes.start_all();
    let (id, leader, epoch) = run(async {
        let client = client(&nodes.addresses()).await;
        let topic = NewTopic {
            name: "near".to_owned(),
            partitions: Some(1),
            replication_factor: Some(3),
            ..NewTopic::default()
        };
        client.create_topic(&topic, false).await.unwrap();
        let topic = client.topic_created("near").await.unwrap();
        let partition = &topic.partitions[0];
        (topic.id, usize::try_from(partition.leader).unwrap(), partition.epoch)
    });
    wait_in_sync(&nodes, 1, "near");
    (nodes, id, leader, epoch)
}

/// One partition's answer to a fetch of `offset`.
fn fetch(
    client: &mut Client,
    topic_id: TopicId,
    rack: &str,
    offset: i64,
    epoch: i32,
    wait_ms: i32,
) -> PartitionData {
    let partition = FetchPartition {
        partition: 0,
        fetch_offset: offset,
        current_leader_epoch: epoch,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic { topic_id, partitions: vec![partition], ..Default::default() };
    let request = FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![topic],
        rack_id: rack.into(),
        ..Default::default()
    };
    let ResponseBody::Fetch(mut answer) = client.ask(ApiKey::Fetch, 13, request) else { panic!() };
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer.responses.remove(0).partitions.remove(0)
}

fn bytes(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, wire::Records::len)
}

#[test]
#[ignore = "needs a broker"]
fn a_consumer_is_sent_to_the_replica_of_its_rack_and_reads_there() {
    let (nodes, topic, leader, epoch) = racks();
    let follower = leader % 3 + 1;
    let rack = format!("rack-{follower}");
    let (mut at_leader, mut there) = (nodes.node(leader).client(), nodes.node(follower).client());
    let produced = at_leader.produce("near", 0, value_batch(b"one")).unwrap();
    assert_eq!((produced.code, produced.base_offset), (0, 0));

    // Two of three have what was acknowledged; this one may be the third, for a moment.
    let sent = wait_for("the follower to have it", || {
        let sent = fetch(&mut at_leader, topic, &rack, 0, epoch, 1_000);
        (sent.preferred_read_replica >= 0).then_some(sent)
    });
    assert_eq!((sent.error_code, sent.preferred_read_replica), (0, follower as i32));
    assert_eq!((bytes(&sent), sent.high_watermark), (0, 1), "what it reads it reads there");
    let own = format!("rack-{leader}");
    for rack in [own.as_str(), "", "rack-9"] {
        let read = fetch(&mut at_leader, topic, rack, 0, epoch, 1_000);
        assert!(read.preferred_read_replica == -1 && bytes(&read) > 0, "{rack}: {read:?}");
    }
    let read = fetch(&mut there, topic, &rack, 0, epoch, 5_000);
    assert_eq!((read.error_code, read.high_watermark, read.last_stable_offset), (0, 1, 1));
    assert!(bytes(&read) > 0);
    assert!(nodes.node(follower).metric("plimsoll_fetched_at_follower_bytes_total") > 0);
    assert_eq!(nodes.node(leader).metric("plimsoll_partitions_read_at_followers"), 1);

    let mut code = |rack: &str, offset, epoch| fetch(&mut there, topic, rack, offset, epoch, 50).error_code;
    assert_eq!(code("", 0, epoch), ErrorCode::NotLeaderOrFollower.code(), "it did not ask for a follower");
    assert_eq!(code(&rack, 0, epoch - 1), ErrorCode::FencedLeaderEpoch.code());
    assert_eq!(code(&rack, 0, epoch + 1), ErrorCode::UnknownLeaderEpoch.code());
    assert_eq!(code(&rack, 99, epoch), ErrorCode::OffsetNotAvailable.code());
    assert_eq!(code(&rack, -1, epoch), ErrorCode::OffsetOutOfRange.code());
    assert_eq!(code(&rack, 1, epoch), 0, "at its end it waits");
}

#[test]
#[ignore = "needs a broker"]
fn what_is_acknowledged_is_read_at_a_follower_within_milliseconds() {
    let (nodes, topic, leader, epoch) = racks();
    let follower = leader % 3 + 1;
    let rack = format!("rack-{follower}");
    let (mut at_leader, mut there) = (nodes.node(leader).client(), Some(nodes.node(follower).client()));
    at_leader.produce("near", 0, value_batch(b"first")).unwrap();
    wait_for("the follower to have the first record", || {
        let sent = fetch(&mut at_leader, topic, &rack, 0, epoch, 1_000);
        (sent.preferred_read_replica == follower as i32).then_some(())
    });
    let mut late: Vec<Duration> = (1..=200)
        .map(|offset| {
            let rack = rack.clone();
            let (mut reader, begun) = (there.take().unwrap(), Instant::now());
            let waits = std::thread::spawn(move || {
                let read = fetch(&mut reader, topic, &rack, offset, epoch, 10_000);
                assert!(read.error_code == 0 && bytes(&read) > 0, "{read:?}");
                (reader, Instant::now())
            });
            std::thread::sleep(Duration::from_millis(5).saturating_sub(begun.elapsed()));
            assert_eq!(at_leader.produce("near", 0, value_batch(b"more")).unwrap().base_offset, offset);
            let acked = Instant::now();
            let (reader, read) = waits.join().unwrap();
            there = Some(reader);
            read.saturating_duration_since(acked)
        })
        .collect();
    late.sort_unstable();
    println!("read at a follower after its acknowledgement: median {:?}, p99 {:?}", late[100], late[197]);
    // A watermark that waited for a heartbeat of raft would come 150 ms late at worst, 75 ms in the mean.
    assert!(late[100] < Duration::from_millis(30), "{:?}", late[100]);
}

/// The end of the log as `client` is told, or Kafka's code.
fn latest(client: &mut Client) -> Result<i64, i16> {
    let partition = ListOffsetsPartition { partition_index: 0, timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "near".into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let ResponseBody::ListOffsets(answer) = client.ask(ApiKey::ListOffsets, 7, request) else { panic!() };
    let row = &answer.topics[0].partitions[0];
    if row.error_code == 0 { Ok(row.offset) } else { Err(row.error_code) }
}

#[test]
#[ignore = "needs a broker"]
fn a_leader_without_a_majority_does_not_say_where_the_log_ends() {
    let (mut nodes, _, leader, _) = racks();
    let mut client = nodes.node(leader).client();
    client.produce("near", 0, value_batch(b"one")).unwrap();
    assert_eq!(latest(&mut client), Ok(1));
    let asked = "plimsoll_strong_reads_total{result=\"asked\"}";
    assert!(
        nodes.node(leader).metric(asked) > 0
            && nodes.node(leader).metric("plimsoll_strong_read_rounds_total") > 0
    );
    // A group at rest is asked, and stays at rest.
    wait_for("the group to sleep", || {
        (nodes.node(leader).metric("plimsoll_replica_groups_awake") == 0).then_some(())
    });
    assert_eq!(latest(&mut client), Ok(1));
    for id in (1..=3).filter(|id| *id != leader) {
        nodes.running[id - 1].as_mut().unwrap().kill();
    }
    let begun = Instant::now();
    let refused = latest(&mut client);
    println!("refused after {:?}: {refused:?}", begun.elapsed());
    assert_eq!(refused, Err(ErrorCode::NotLeaderOrFollower.code()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for id in (1..=3).filter(|id| *id != leader) {
        nodes.running[id - 1] = Some(nodes.start_node(id));
    }
    wait_for("somebody to know where it ends", || {
        (1..=3).find_map(|id| latest(&mut nodes.node(id).client()).ok()).filter(|end| *end == 1)
    });
}
