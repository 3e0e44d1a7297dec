//! The topic of offsets under commits as fast as they go.
use crate::server::{Server, wait_for};
use crate::wire_client::Client;
use wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::{ApiKey, OffsetCommitRequest, ResponseBody};

/// Partitions of which each group commits an offset with each request.
const PARTITIONS: i32 = 100;
/// How often each group commits.
const ROUNDS: i64 = 400;
const CLIENTS: usize = 4;
const SIZE: &str = r#"plimsoll_partition_size_bytes{topic="__consumer_offsets",partition="0"}"#;

fn name(group: usize) -> String {
    format!("commits-{group}")
}

fn commit_all(client: &mut Client, group: usize, offset: i64) {
    let partition = |index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: offset,
        ..Default::default()
    };
    let partitions = (0..PARTITIONS).map(partition).collect();
    let request = OffsetCommitRequest {
        group_id: name(group).into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic { name: "t".into(), partitions, ..Default::default() }],
        ..Default::default()
    };
    let ResponseBody::OffsetCommit(answer) = client.ask(ApiKey::OffsetCommit, 8, request) else { panic!() };
    assert!(answer.topics[0].partitions.iter().all(|p| p.error_code == 0), "{answer:?}");
}

/// Below twice what lives in it and two segments. `PLIMSOLL_COMMITS` sets how many offsets are committed.
#[test]
#[ignore = "needs a broker"]
fn the_topic_of_offsets_stays_small_however_many_commits_come() {
    let commits: usize = std::env::var("PLIMSOLL_COMMITS").map_or(400_000, |text| text.parse().unwrap());
    let groups = commits / (PARTITIONS as usize * ROUNDS as usize);
    // Kafka's segments where there is time to fill them.
    let segment: u64 = if commits > 10_000_000 { 100 << 20 } else { 1 << 20 };
    let segment_bytes = format!("offsets.topic.segment.bytes={segment}");
    let sets = ["offsets.topic.num.partitions=1", "log.cleaner.backoff.ms=100", &segment_bytes];
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &sets);
    let mut client = server.client();
    client.create("t", PARTITIONS, &[]);
    assert_eq!(client.commit(&name(0), "t", 0, 0), 0);
    (0..groups).for_each(|group| commit_all(&mut client, group, 0));
    let live = server.metric(SIZE);
    std::thread::scope(|scope| {
        for first in 0..CLIENTS {
            let mut client = server.client();
            scope.spawn(move || {
                for round in 1..ROUNDS {
                    (first..groups).step_by(CLIENTS).for_each(|g| commit_all(&mut client, g, round));
                }
            });
        }
    });
    let bound = 2 * live + 2 * segment;
    let size = wait_for("the topic is small", || Some(server.metric(SIZE)).filter(|size| *size < bound));
    println!("{commits} commits: {size} bytes, {live} live, {bound} allowed");
    server.kill();
    let server = Server::start(&data, &sets);
    let mut client = server.client();
    for group in 0..groups {
        assert_eq!(client.committed(&name(group), "t", group as i32 % PARTITIONS), ROUNDS - 1);
    }
}
