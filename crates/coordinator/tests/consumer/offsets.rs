//! Offsets, listing and deletion of consumer groups.
use crate::common::{commit, simple_commit};
use crate::group::*;
use coordinator::*;
use model::ErrorCode;

fn commit_as(member: &str, epoch: i32, partition: i32) -> CommitRequest {
    let mut request = commit(member, epoch, partition, 9);
    request.topics[0].name = "t1".into();
    request.topics[0].topic_id = topic(1);
    request
}

#[test]
fn members_commit_at_their_epoch_or_what_they_have_had_since() {
    let mut bench = bench(4);
    bench.pair();
    assert_eq!(bench.commit(commit_as("a", 2, 0)), ErrorCode::None);
    // It has had 0 since epoch 1, and never had 2 since.
    assert_eq!(bench.commit(commit_as("a", 1, 0)), ErrorCode::None);
    assert_eq!(bench.commit(commit_as("a", 1, 2)), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.commit(commit_as("b", 1, 2)), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.commit(commit_as("a", 3, 0)), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.commit(commit_as("c", 2, 0)), ErrorCode::UnknownMemberId);
    assert_eq!(bench.commit(commit_as("", -1, 0)), ErrorCode::UnknownMemberId);
    let old = CommitRequest { knows_group_id_not_found: false, ..commit_as("a", 2, 0) };
    assert_eq!(bench.commit(old), ErrorCode::UnsupportedVersion);
}

/// `a` gave 2 and 3 up at epoch 2, which is the target's too, so that it goes on at it.
#[test]
fn a_commit_of_before_a_revocation_is_refused_when_the_next_member_has_the_partition() {
    let mut bench = bench(4);
    bench.pair();
    assert_eq!(bench.commit(commit_as("b", 2, 2)), ErrorCode::None);
    assert_eq!(bench.commit(commit_as("a", 2, 2)), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.txn_commit(1, commit_as("a", 2, 3)), ErrorCode::IllegalGeneration);
    let by_name = |member: &str| {
        let mut request = commit_as(member, 2, 2);
        request.topics[0].topic_id = model::TopicId::ZERO;
        request
    };
    assert_eq!(bench.commit(by_name("a")), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.commit(by_name("b")), ErrorCode::None);
    // What nobody has anybody may commit for, as in Kafka.
    assert_eq!(bench.commit(commit_as("a", 2, 9)), ErrorCode::None);
}

#[test]
fn offsets_in_transactions_are_of_members_at_their_epoch_or_of_clients_that_name_none() {
    let mut bench = bench(4);
    bench.pair();
    assert_eq!(bench.txn_commit(1, commit_as("a", 2, 0)), ErrorCode::None);
    assert_eq!(bench.txn_commit(1, commit_as("a", 1, 0)), ErrorCode::None, "it has had 0 since");
    assert_eq!(bench.txn_commit(1, commit_as("a", 1, 2)), ErrorCode::IllegalGeneration);
    assert_eq!(bench.txn_commit(1, commit_as("a", 3, 0)), ErrorCode::IllegalGeneration);
    assert_eq!(bench.txn_commit(1, commit_as("c", 2, 0)), ErrorCode::UnknownMemberId);
    assert_eq!(bench.txn_commit(1, commit_as("", -1, 1)), ErrorCode::None);
    assert!(bench.c.committed_offset("g", "t1", 0).is_none());
    bench.end_transaction(1, true);
    let committed = |p| bench.c.committed_offset("g", "t1", p).map(|value| value.offset);
    assert_eq!((committed(0), committed(1)), (Some(9), Some(9)));
    assert_eq!(bench.c.state_counts().iter().map(|(_, n)| n).sum::<usize>(), 0, "no classic group beside it");
}

#[test]
fn members_read_at_their_epoch() {
    let mut bench = bench(4);
    bench.pair();
    let mut fetch = |id: Option<&str>, epoch| {
        let (token, mut fx) = (bench.token(), Vec::new());
        let request = FetchRequest {
            group_id: "g".into(),
            member_id: id.map(str::to_owned),
            member_epoch: epoch,
            ..FetchRequest::default()
        };
        bench.c.fetch_offsets(bench.now(), token, request, &mut fx);
        bench.take(fx);
        bench.fetched(token).error
    };
    assert_eq!(fetch(None, -1), ErrorCode::None);
    assert_eq!(fetch(Some("a"), 2), ErrorCode::None);
    assert_eq!(fetch(Some("a"), 1), ErrorCode::StaleMemberEpoch);
    assert_eq!(fetch(Some("c"), 2), ErrorCode::UnknownMemberId);
}

#[test]
fn offsets_of_subscribed_topics_stay() {
    let mut bench = bench(4);
    bench.pair();
    bench.commit(commit_as("a", 2, 0));
    bench.commit(commit("a", 2, 0, 5));
    let token = bench.send_delete_offsets("t1", &[0]);
    assert_eq!(bench.offsets_deleted(token).topics[0].1, [(0, ErrorCode::GroupSubscribedToTopic)]);
    let token = bench.send_delete_offsets("t", &[0]);
    assert_eq!(bench.offsets_deleted(token).topics[0].1, [(0, ErrorCode::None)]);
    assert_eq!(bench.offset(0), -1);
    assert!(bench.c.committed_offset("g", "t1", 0).is_some());
}

#[test]
fn a_group_is_deleted_when_nobody_is_in_it() {
    let mut bench = bench(4);
    bench.pair();
    let token = bench.send_delete_groups(&["g"]);
    assert_eq!(bench.groups_deleted(token), [("g".to_owned(), ErrorCode::NonEmptyGroup)]);
    bench.beat(beat("a", -1));
    bench.beat(beat("b", -1));
    assert_eq!(bench.commit(simple_commit(0, 7)), ErrorCode::None);
    bench.auto = false;
    let token = bench.send_delete_groups(&["g"]);
    // Visible until the deletion is committed, and back where it fails.
    assert_eq!(bench.consumers().state, "Empty");
    // Nobody makes a new one on top of that.
    assert_eq!(bench.refused(join("a")), ErrorCode::CoordinatorLoadInProgress);
    let early = bench.send_join(crate::common::join(""));
    assert_eq!(bench.joined(early).error, ErrorCode::CoordinatorLoadInProgress);
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.groups_deleted(token), [("g".to_owned(), ErrorCode::CoordinatorNotAvailable)]);
    assert_eq!((bench.consumers().epoch, bench.offset(0)), (4, 7));
    bench.auto = true;
    let token = bench.send_delete_groups(&["g"]);
    assert_eq!(bench.groups_deleted(token), [("g".to_owned(), ErrorCode::None)]);
    assert_eq!(bench.consumers().error, ErrorCode::GroupIdNotFound);
    assert_eq!(bench.reloaded().c.live_records().count(), 0);
}

#[test]
fn lists_tell_types_and_states() {
    let mut bench = bench(4);
    bench.ok(join("a"));
    let list = |bench: &crate::common::Bench, types: &[&str], states: &[&str]| {
        let all = |texts: &[&str]| texts.iter().map(|s| (*s).to_owned()).collect();
        bench.c.list(&ListRequest { types: all(types), states: all(states) }).unwrap()
    };
    let row = ListedGroup {
        group_id: "g".into(),
        protocol_type: "consumer".into(),
        state: "Stable",
        group_type: "consumer",
    };
    assert_eq!(list(&bench, &[], &[]), std::slice::from_ref(&row));
    assert_eq!(list(&bench, &["Consumer"], &["stable"]), [row]);
    assert_eq!(list(&bench, &["classic"], &[]), []);
    assert_eq!(list(&bench, &[], &["Empty"]), []);
    assert_eq!(bench.c.consumer_state_counts()[3], (ConsumerState::Stable, 1));
    assert_eq!(bench.c.member_counts(), (0, 1));
}

#[test]
fn empty_groups_end_when_their_offsets_have() {
    let mut bench = bench(4);
    bench.ok(join("a"));
    bench.commit(commit_as("a", 1, 0));
    bench.commit(commit("a", 1, 0, 5));
    let week = i64::from(GroupConfig::default().offsets_retention_minutes) * 60_000;
    for _ in 0..(week / 40_000 + 20) {
        bench.pass(40_000);
        bench.ok(beat("a", 1));
    }
    // Nobody subscribes to `t`; `t1` stays while somebody does.
    assert_eq!(bench.offset(0), -1);
    assert!(bench.c.committed_offset("g", "t1", 0).is_some());
    bench.beat(beat("a", -1));
    bench.pass(1_300_000);
    assert_eq!(bench.consumers().error, ErrorCode::GroupIdNotFound);
    assert_eq!(bench.c.live_records().count(), 0);
}
