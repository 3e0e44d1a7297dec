//! Commit, fetch, delete and expiry of offsets; deletion of groups.
#![allow(clippy::unwrap_used)]
mod common;
use common::*;
use coordinator::*;
use model::{ErrorCode, TopicId};

const DAY: i64 = 24 * 3_600_000;

#[test]
fn a_commit_is_answered_and_seen_only_when_it_is_committed() {
    let mut b = Bench::new();
    b.auto = false;
    let token = b.send_commit(simple_commit(0, 5));
    assert!(b.replies.is_empty());
    assert_eq!(b.offset(0), -1);
    let stable = b.send_fetch(None, true);
    assert!(b.replies.is_empty(), "a stable fetch waits for the commit under way");
    b.commit_one();
    assert_eq!(b.committed(token), ErrorCode::None);
    assert_eq!(b.fetched(stable).topics[0].partitions[0].offset, 5);
    let token = b.send_fetch(None, false);
    let reply = b.fetched(token);
    let row = &reply.topics[0].partitions[0];
    assert_eq!((row.offset, row.leader_epoch, row.metadata.as_str()), (5, 3, "note"));
    assert_eq!(reply.topics[0].topic_id, TopicId([7; 16]));
}

#[test]
fn commits_of_one_partition_settle_in_order_and_a_failed_one_leaves_no_trace() {
    let mut b = Bench::new();
    b.auto = false;
    let tokens: Vec<Token> = (1..=4).map(|n| b.send_commit(simple_commit(0, n))).collect();
    b.commit_one();
    assert_eq!(b.offset(0), 1);
    b.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(b.offset(0), 1);
    assert_eq!(b.committed(tokens[1]), ErrorCode::CoordinatorNotAvailable);
    b.commit_one();
    assert_eq!(b.offset(0), 3);
    b.fail_one(ErrorCode::KafkaStorageError);
    assert_eq!(b.committed(tokens[3]), ErrorCode::NotCoordinator);
    assert_eq!(b.offset(0), 3);
    let first = b.now();
    let mut fx = Vec::new();
    b.c.on_committed(first, BatchId(1), &mut fx);
    b.c.on_committed(first, BatchId(999), &mut fx);
    assert!(fx.is_empty(), "outcomes of unknown batches are ignored");
}

#[test]
fn a_failed_first_commit_takes_its_simple_group_with_it() {
    let mut b = Bench::new();
    b.auto = false;
    let token = b.send_commit(simple_commit(0, 5));
    b.fail_one(ErrorCode::MessageTooLarge);
    assert_eq!(b.committed(token), ErrorCode::UnknownServerError);
    assert_eq!(b.state(), "Dead");
}

#[test]
fn who_may_commit_depends_on_member_generation_and_state() {
    let mut b = Bench::new();
    assert_eq!(b.commit(commit("m", 1, 0, 1)), ErrorCode::GroupIdNotFound);
    let old = CommitRequest { knows_group_id_not_found: false, ..commit("m", 1, 0, 1) };
    assert_eq!(b.commit(old), ErrorCode::IllegalGeneration);
    let (ids, generation) = b.stable(1);
    assert_eq!(b.commit(commit(&ids[0], generation, 0, 1)), ErrorCode::None);
    assert_eq!(b.commit(commit(&ids[0], generation + 1, 0, 1)), ErrorCode::IllegalGeneration);
    assert_eq!(b.commit(commit("other", generation, 0, 1)), ErrorCode::UnknownMemberId);
    assert_eq!(b.commit(simple_commit(0, 1)), ErrorCode::UnknownMemberId, "members hold the group");
    b.send_join(join(""));
    assert_eq!(
        b.commit(commit(&ids[0], generation, 0, 2)),
        ErrorCode::None,
        "before it rejoins it may commit"
    );
    let token = b.send_join(join(&ids[0]));
    let next = b.joined(token).generation_id;
    assert_eq!(b.commit(commit(&ids[0], next, 0, 3)), ErrorCode::RebalanceInProgress);
    assert_eq!(b.offset(0), 2);
    b.pass(DAY);
    assert_eq!(b.state(), "Empty");
    assert_eq!(b.commit(simple_commit(0, 9)), ErrorCode::None, "an administrator resets an empty group");
}

#[test]
fn one_bad_partition_does_not_hold_up_the_others() {
    let mut b = Bench::with(GroupConfig { offset_metadata_max: 4, ..GroupConfig::default() });
    let mut request = simple_commit(0, 1);
    let partition = |index, metadata: &str| CommitPartition {
        index,
        offset: 1,
        leader_epoch: -1,
        metadata: Some(metadata.into()),
    };
    // Two surrogate pairs are four units, as Java counts.
    request.topics[0].partitions =
        vec![partition(0, "12345"), partition(1, "1234"), partition(2, "\u{1F600}\u{1F600}")];
    let token = b.send_commit(request);
    let Some(Reply::Commit(reply)) = b.reply(token) else { panic!() };
    assert_eq!(
        reply.topics[0].partitions,
        [(0, ErrorCode::OffsetMetadataTooLarge), (1, ErrorCode::None), (2, ErrorCode::None)]
    );
    assert_eq!((b.offset(0), b.offset(1), b.offset(2)), (-1, 1, 1));
    let mut only_bad = simple_commit(3, 1);
    only_bad.topics[0].partitions[0].metadata = Some("too long".into());
    assert_eq!(b.commit(only_bad), ErrorCode::OffsetMetadataTooLarge);
}

#[test]
fn a_group_holds_no_more_offsets_than_its_bound() {
    let mut b = Bench::with(GroupConfig { max_offsets_per_group: 2, ..GroupConfig::default() });
    assert_eq!(b.commit(simple_commit(0, 1)), ErrorCode::None);
    assert_eq!(b.commit(simple_commit(1, 1)), ErrorCode::None);
    assert_eq!(b.commit(simple_commit(2, 1)), ErrorCode::InvalidCommitOffsetSize);
    assert_eq!(b.commit(simple_commit(1, 2)), ErrorCode::None, "what is there may move");
}

#[test]
fn fetch_answers_minus_one_for_what_has_no_offset_and_nothing_for_an_unknown_group() {
    let mut b = Bench::new();
    assert_eq!(b.offset(7), -1);
    let token = b.send_fetch(None, true);
    let reply = b.fetched(token);
    assert_eq!((reply.error, reply.topics.len()), (ErrorCode::None, 0));
}

#[test]
fn offsets_are_deleted_unless_a_member_subscribes_to_the_topic() {
    let mut b = Bench::new();
    let token = b.send_delete_offsets("t", &[0]);
    assert_eq!(b.offsets_deleted(token).error, ErrorCode::GroupIdNotFound);
    let (ids, generation) = b.stable(1);
    b.commit(commit(&ids[0], generation, 0, 1));
    let token = b.send_delete_offsets("t", &[0]);
    assert_eq!(b.offsets_deleted(token).topics[0].1, [(0, ErrorCode::GroupSubscribedToTopic)]);
    b.pass(60_000);
    b.auto = false;
    let token = b.send_delete_offsets("t", &[0, 1]);
    let again = b.send_delete_offsets("t", &[0]);
    assert_eq!(b.open.len(), 1, "the second finds nothing left to delete");
    assert!(b.replies.is_empty(), "and is answered no earlier than the first");
    assert_eq!(b.offset(0), 1);
    b.commit_all();
    assert_eq!(b.offsets_deleted(token).topics[0].1, [(0, ErrorCode::None), (1, ErrorCode::None)]);
    assert_eq!(b.offsets_deleted(again).error, ErrorCode::None);
    assert_eq!(b.offset(0), -1);
}

#[test]
fn offsets_of_a_group_of_another_protocol_are_deleted_only_when_it_is_empty() {
    let mut b = Bench::new();
    let connect = JoinRequest { protocol_type: "connect".into(), ..join("") };
    let token = b.send_join(connect);
    b.until_answered(&[token]);
    let token = b.send_delete_offsets("t", &[0]);
    assert_eq!(b.offsets_deleted(token).error, ErrorCode::NonEmptyGroup);
}

#[test]
fn only_an_empty_group_is_deleted_and_its_records_become_tombstones() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    b.commit(commit(&ids[0], generation, 0, 1));
    let token = b.send_delete_groups(&["g", "none"]);
    let reply = b.groups_deleted(token);
    assert_eq!(reply[0], ("g".into(), ErrorCode::NonEmptyGroup));
    assert_eq!(reply[1], ("none".into(), ErrorCode::GroupIdNotFound));
    b.pass(60_000);
    b.auto = false;
    let token = b.send_delete_groups(&["g"]);
    assert!(b.replies.is_empty());
    assert_eq!(b.state(), "Empty", "seen until the deletion is committed");
    assert_eq!(b.c.list(&ListRequest::default()).unwrap().len(), 1);
    b.commit_all();
    assert_eq!(b.groups_deleted(token)[0].1, ErrorCode::None);
    assert_eq!((b.state(), b.offset(0)), ("Dead", -1));
    assert_eq!(b.c.live_records().count(), 0);
    assert_eq!(b.reloaded().state(), "Dead");
}

#[test]
fn a_failed_deletion_brings_the_group_back() {
    let mut b = Bench::new();
    b.commit(simple_commit(0, 5));
    b.auto = false;
    let token = b.send_delete_groups(&["g"]);
    b.fail_one(ErrorCode::RequestTimedOut);
    assert_eq!(b.groups_deleted(token)[0].1, ErrorCode::CoordinatorNotAvailable);
    assert_eq!((b.state(), b.offset(0)), ("Empty", 5));
}

#[test]
fn a_group_that_is_made_anew_during_its_deletion_survives_it() {
    let mut b = Bench::new();
    b.commit(simple_commit(0, 5));
    b.auto = false;
    b.send_delete_groups(&["g"]);
    let token = b.send_commit(simple_commit(1, 6));
    b.commit_all();
    assert_eq!(b.committed(token), ErrorCode::None);
    assert_eq!((b.offset(0), b.offset(1), b.state()), (-1, 6, "Empty"));
    assert_eq!(b.reloaded().offset(1), 6);
}

#[test]
fn offsets_of_a_simple_group_expire_after_their_last_commit() {
    let mut b = Bench::new();
    b.commit(simple_commit(0, 1));
    b.pass(4 * DAY);
    b.commit(simple_commit(1, 1));
    b.pass(3 * DAY + 600_000);
    assert_eq!((b.offset(0), b.offset(1)), (-1, 1));
    b.pass(4 * DAY + 600_000);
    assert_eq!(b.state(), "Dead");
    assert_eq!(b.c.live_records().count(), 0);
}

#[test]
fn offsets_of_a_consumer_group_live_for_the_retention_after_it_became_empty() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    b.commit(commit(&ids[0], generation, 0, 1));
    for _ in 0..(8 * DAY / 9_000) {
        b.pass(9_000);
        b.heartbeat(&ids[0], generation);
    }
    assert_eq!(b.offset(0), 1, "in use");
    let token = b.send_leave(&[(&ids[0], None)]);
    b.left(token);
    b.pass(7 * DAY - 600_000);
    assert_eq!(b.offset(0), 1);
    b.pass(1_200_000);
    assert_eq!((b.offset(0), b.state()), (-1, "Dead"));
}

#[test]
fn a_stable_group_loses_old_offsets_of_topics_that_it_no_longer_reads() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    let mut other = commit(&ids[0], generation, 0, 1);
    other.topics[0].name = "abandoned".into();
    b.commit(other);
    b.commit(commit(&ids[0], generation, 0, 1));
    for _ in 0..(7 * DAY / 9_000 + 100) {
        b.pass(9_000);
        b.heartbeat(&ids[0], generation);
    }
    assert_eq!(b.offset(0), 1);
    assert_eq!(b.c.committed_offset("g", "abandoned", 0), None);
    assert_eq!(b.state(), "Stable");
}

#[test]
fn a_lifetime_of_the_clients_own_beats_the_brokers() {
    let mut b = Bench::new();
    b.commit(CommitRequest { retention_ms: Some(3_600_000), ..simple_commit(0, 1) });
    b.commit(CommitRequest { retention_ms: Some(-1), ..simple_commit(1, 1) });
    b.pass(3_600_000 + 600_000);
    assert_eq!((b.offset(0), b.offset(1)), (-1, 1));
}

#[test]
fn an_offset_with_a_newer_commit_under_way_does_not_expire() {
    let mut b = Bench::new();
    b.commit(simple_commit(0, 1));
    b.pass(7 * DAY - 1);
    b.auto = false;
    b.send_commit(simple_commit(0, 2));
    b.pass(600_001);
    assert_eq!(b.open.len(), 1);
    b.commit_all();
    assert_eq!(b.offset(0), 2);
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut b = Bench::new();
    b.commit(simple_commit(0, 1));
    let mut other = simple_commit(0, 1);
    other.topics[0].name = "kept".into();
    b.commit(other);
    let mut fx = Vec::new();
    b.c.topics_deleted(b.now(), &["t".into()], &mut fx);
    b.take(fx);
    assert_eq!(b.offset(0), -1);
    assert_eq!(b.c.committed_offsets().map(|(_, t, _, _)| t).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn expiry_of_many_offsets_comes_in_bounded_batches() {
    let mut b = Bench::new();
    let mut request = simple_commit(0, 1);
    request.topics[0].partitions = (0..2_500)
        .map(|index| CommitPartition { index, offset: 1, leader_epoch: -1, metadata: None })
        .collect();
    b.commit(request);
    b.auto = false;
    b.pass(7 * DAY + 600_000);
    assert_eq!(b.open.iter().map(|(_, r)| r.len()).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    b.commit_all();
    assert_eq!(b.c.live_records().count(), 0);
}
