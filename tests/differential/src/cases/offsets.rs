//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords.
use super::batches::time;
use crate::script::Script;
use crate::side::Side;
use wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use wire::{DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, Str};

fn list(name: Str, partition_index: i32, epoch: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition {
        partition_index,
        current_leader_epoch: epoch,
        timestamp,
        ..Default::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name, partitions: vec![partition] }],
        timeout_ms: 1000,
        ..Default::default()
    }
}

pub(super) fn steps(script: &mut Script) {
    let sentinels = [("latest", -1), ("earliest", -2), ("largest timestamp", -3), ("earliest local", -4)];
    for (name, timestamp) in sentinels.into_iter().chain([
        ("latest tiered", -5),
        ("earliest pending", -6),
        ("no such sentinel", -7),
    ]) {
        script.each(name, move |side, _| list(side.name("main"), 0, -1, timestamp));
    }
    script.each("of an empty partition, largest timestamp", |side, _| list(side.name("grown"), 0, -1, -3));
    script.each("of an empty partition, latest", |side, _| list(side.name("grown"), 0, -1, -1));
    for (name, after) in [
        ("first timestamp", 0),
        ("a timestamp between", 1),
        ("far back", -1_000_000),
        ("far ahead", 90_000_000),
    ] {
        script.each(name, move |side, _| list(side.name("main"), 0, -1, time() + after));
        script.each(&format!("{name}, compressed"), move |side, _| {
            list(side.name("main"), 1, -1, time() + after)
        });
    }
    script.each("time 0", |side, _| list(side.name("main"), 2, -1, 0));
    script.over("committed only", 2..=11, |side, _| ListOffsetsRequest {
        isolation_level: 1,
        ..list(side.name("main"), 2, -1, -1)
    });
    script.each("an unknown topic", |side, _| list(side.name("nowhere"), 0, -1, -1));
    script.each("an unknown partition", |side, _| list(side.name("main"), 99, -1, -1));
    script.over("a newer epoch", 4..=11, |side, _| {
        list(side.name("main"), 0, side.number("epoch", 0) as i32 + 1, -1)
    });
    script.each("a partition twice", |side, _| {
        let mut request = list(side.name("main"), 0, -1, -1);
        let twice = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(twice);
        request
    });
    script.each("a topic twice", |side, _| {
        let mut request = list(side.name("main"), 0, -1, -1);
        request.topics.extend(list(side.name("main"), 1, -1, -2).topics);
        request
    });
    script.each("two partitions, one unknown", |side, _| {
        let mut request = list(side.name("main"), 0, -1, -1);
        request.topics[0].partitions.extend(list(side.name("main"), 99, -1, -1).topics.remove(0).partitions);
        request
    });
    script.each("nothing", |_, _| ListOffsetsRequest { replica_id: -1, ..Default::default() });
    script.each("a topic without partitions", |side, _| {
        let mut request = list(side.name("main"), 0, -1, -1);
        request.topics[0].partitions.clear();
        request
    });
    script.each("a negative partition", |side, _| list(side.name("main"), -1, -1, -1));
    script.each("the least timestamp", |side, _| list(side.name("main"), 0, -1, i64::MIN));
    script.each("the largest time", |side, _| list(side.name("main"), 0, -1, i64::MAX));
    script.each("as a debugger", |side, _| ListOffsetsRequest {
        replica_id: -2,
        ..list(side.name("main"), 0, -1, -1)
    });
    script.each("as a stranger's replica", |side, _| ListOffsetsRequest {
        replica_id: 7,
        ..list(side.name("main"), 0, -1, -1)
    });
    script.over("an isolation that is none", 2..=11, |side, _| ListOffsetsRequest {
        isolation_level: 7,
        ..list(side.name("main"), 0, -1, -1)
    });
    script
        .over("this epoch", 4..=11, |side, _| list(side.name("main"), 0, side.number("epoch", 0) as i32, -1));
    epochs(script);
    deletions(script);
}

fn epochs(script: &mut Script) {
    let ask = |name: Str, partition: i32, current: i32, epoch: i32| OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: name,
            partitions: vec![OffsetForLeaderPartition {
                partition,
                current_leader_epoch: current,
                leader_epoch: epoch,
            }],
        }],
    };
    let epoch = |side: &Side| side.number("epoch", 0) as i32;
    script.each("this epoch", move |side, _| ask(side.name("main"), 0, -1, epoch(side)));
    script.each("the next epoch", move |side, _| ask(side.name("main"), 0, -1, epoch(side) + 1));
    script.each("no epoch", move |side, _| ask(side.name("main"), 0, -1, -1));
    script
        .each("from a newer leader", move |side, _| ask(side.name("main"), 0, epoch(side) + 1, epoch(side)));
    script.each("an unknown topic", move |side, _| ask(side.name("nowhere"), 0, -1, 0));
    script.each("an epoch far ahead", move |side, _| ask(side.name("main"), 0, -1, i32::MAX));
    script.each("an epoch below all", move |side, _| ask(side.name("main"), 0, -1, -2));
    script.each("a negative partition", move |side, _| ask(side.name("main"), -1, -1, 0));
    script.each("nothing", |_, _| OffsetForLeaderEpochRequest { replica_id: -1, ..Default::default() });
    script.each("of an empty partition", move |side, _| ask(side.name("doomed"), 0, -1, epoch(side)));
    script.each("a partition twice", move |side, _| {
        let mut request = ask(side.name("main"), 0, -1, epoch(side));
        let twice = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(twice);
        request
    });
    script.each("an unknown partition", move |side, _| ask(side.name("main"), 99, -1, 0));
}

fn deletions(script: &mut Script) {
    let delete = |name: Str, partition_index: i32, offset: i64| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name,
            partitions: vec![DeleteRecordsPartition { partition_index, offset }],
        }],
        timeout_ms: 10_000,
    };
    script.each("up to 2", move |side, _| delete(side.name("main"), 1, 2));
    script.each("below the start", move |side, _| delete(side.name("main"), 1, 1));
    script.each("past the end", move |side, _| delete(side.name("main"), 1, 1_000_000));
    script.each("a negative offset", move |side, _| delete(side.name("main"), 1, -2));
    script.each("an unknown topic", move |side, _| delete(side.name("nowhere"), 0, 0));
    script.each("nothing", |_, _| DeleteRecordsRequest { timeout_ms: 10_000, ..Default::default() });
    script.each("a partition twice", move |side, _| {
        let mut request = delete(side.name("main"), 1, 2);
        let twice = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(twice);
        request
    });
    script.each("a topic twice", move |side, _| {
        let mut request = delete(side.name("main"), 1, 2);
        request.topics.extend(delete(side.name("main"), 99, 2).topics);
        request
    });
    script.each("a negative partition", move |side, _| delete(side.name("main"), -1, 0));
    script.each("of an empty partition", move |side, _| delete(side.name("doomed"), 0, 0));
    script.each("of an empty partition, all", move |side, _| delete(side.name("doomed"), 0, -1));
    script.each("of a bad name", move |_, _| delete(Str::from("a b"), 0, 0));
    script.each("an unknown partition", move |side, _| delete(side.name("main"), 99, 0));
    script.each("of a compacted topic", move |side, _| delete(side.name("compact"), 0, 1));
    script.each("all", move |side, _| delete(side.name("stamped"), 0, -1));
    script.each("earliest after deletion", |side, _| list(side.name("main"), 1, -1, -2));
    script.each("earliest of what is empty", |side, _| list(side.name("stamped"), 0, -1, -2));
    script.each("largest timestamp of what is empty", |side, _| list(side.name("stamped"), 0, -1, -3));
}
