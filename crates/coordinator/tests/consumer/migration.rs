//! Groups that change their protocol while members are in them.
use crate::common::{self, Bench};
use crate::group::*;
use bytes::Bytes;
use coordinator::consumer::MigrationPolicy;
use coordinator::*;
use model::ErrorCode;

/// A subscription of version 1 to `t1`, with what the member has of it.
fn subscription(owned: &[i32]) -> Bytes {
    let mut out = vec![0, 1, 0, 0, 0, 1, 0, 2, b't', b'1', 255, 255, 255, 255];
    out.extend(i32::from(!owned.is_empty()).to_be_bytes());
    if !owned.is_empty() {
        out.extend(partitions(owned));
    }
    Bytes::from(out)
}

fn partitions(list: &[i32]) -> Vec<u8> {
    let mut out = vec![0, 2, b't', b'1'];
    out.extend((list.len() as i32).to_be_bytes());
    list.iter().for_each(|p| out.extend(p.to_be_bytes()));
    out
}

pub(crate) fn assignment(version: u8, list: &[i32]) -> Bytes {
    let mut out = vec![0, version];
    out.extend(i32::from(!list.is_empty()).to_be_bytes());
    if !list.is_empty() {
        out.extend(partitions(list));
    }
    out.extend((-1i32).to_be_bytes());
    Bytes::from(out)
}

/// The partitions of such an assignment.
pub(crate) fn assigned(bytes: &[u8]) -> std::collections::BTreeSet<i32> {
    // Version, topics, the topic's name, partitions.
    let list = bytes.get(14..bytes.len().saturating_sub(4)).unwrap_or(&[]);
    list.chunks_exact(4).map(|p| i32::from_be_bytes(p.try_into().unwrap())).collect()
}

pub(crate) fn classic_join(id: &str, owned: &[i32]) -> JoinRequest {
    let protocol = Protocol { name: "range".into(), metadata: subscription(owned) };
    JoinRequest { protocols: vec![protocol], ..common::join(id) }
}

fn sync(id: &str, generation: i32, given: &[(&str, &[i32])]) -> SyncRequest {
    let assignments = given.iter().map(|(id, list)| ((*id).to_owned(), assignment(1, list))).collect();
    SyncRequest { assignments, ..common::sync(id, generation, &[]) }
}

impl Bench {
    fn join_classic(&mut self, id: &str, owned: &[i32]) -> JoinReply {
        let token = self.send_join(classic_join(id, owned));
        self.joined(token)
    }

    fn sync_classic(&mut self, id: &str, generation: i32) -> SyncReply {
        let token = self.send_sync(sync(id, generation, &[]));
        self.synced(token)
    }

    /// A stable classic group of one member that has all four partitions.
    fn classic(&mut self) -> String {
        let token = self.send_join(classic_join("", &[]));
        self.until_answered(&[token]);
        let id = self.joined(token).member_id;
        let token = self.send_sync(sync(&id, 1, &[(&id, &[0, 1, 2, 3])]));
        assert_eq!(self.synced(token).error, ErrorCode::None);
        assert_eq!(self.state(), "Stable");
        id
    }
}

fn with_policy(policy: MigrationPolicy) -> Bench {
    let mut config = GroupConfig::default();
    config.consumer.assignment_interval_ms = 0;
    config.consumer.migration_policy = policy;
    let mut bench = Bench::with(config);
    bench.c.topics_changed(image(1, &[4]));
    bench
}

#[test]
fn a_classic_group_goes_over_when_a_member_of_the_new_protocol_joins() {
    let mut bench = bench(4);
    let old = bench.classic();
    assert_eq!(bench.ok(join("a")), (2, Some(Owned::new())));
    assert_eq!(bench.describe().error, ErrorCode::GroupIdNotFound);
    assert!(bench.member(&old).unwrap().is_classic);
    assert_eq!(bench.has(&old), 4);
    // The classic member learns by its heartbeat that it is to join again, and gives up two.
    assert_eq!(bench.heartbeat(&old, 1), ErrorCode::RebalanceInProgress);
    let reply = bench.join_classic(&old, &[0, 1, 2, 3]);
    assert_eq!((reply.error, reply.generation_id, reply.leader.as_str()), (ErrorCode::None, 2, ""));
    let reply = bench.sync_classic(&old, 2);
    assert_eq!((reply.error, reply.assignment), (ErrorCode::None, assignment(1, &[0, 1])));
    assert_eq!(bench.ok(beat("a", 2)), (2, None));
    assert_eq!(bench.heartbeat(&old, 2), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.join_classic(&old, &[0, 1]).generation_id, 2);
    assert_eq!(bench.sync_classic(&old, 2).assignment, assignment(1, &[0, 1]));
    assert_eq!(bench.heartbeat(&old, 2), ErrorCode::None);
    assert_eq!(bench.ok(beat("a", 2)).1, Some(Owned::from([(topic(1), vec![2, 3])])));
    assert_eq!(bench.consumers().state, "Stable");
    // A classic member that revokes everything before it joins frees all at once.
    assert_eq!(bench.ok(join("b")).0, 3);
    assert_eq!(bench.heartbeat(&old, 2), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.join_classic(&old, &[]).generation_id, 3);
    // Another coordinator reads the same.
    let next = bench.reloaded();
    assert_eq!(next.consumers().members.len(), 3);
    assert_eq!(next.describe().error, ErrorCode::GroupIdNotFound);
}

#[test]
fn policies_and_other_protocols_keep_a_group_as_it_is() {
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let mut bench = with_policy(policy);
        let old = bench.classic();
        assert_eq!(bench.refused(join("a")), ErrorCode::GroupIdNotFound);
        assert_eq!(bench.heartbeat(&old, 1), ErrorCode::None);
    }
    let mut bench = bench(4);
    let token = bench.send_join(JoinRequest { protocol_type: "connect".into(), ..classic_join("", &[]) });
    bench.until_answered(&[token]);
    assert_eq!(bench.refused(join("a")), ErrorCode::GroupIdNotFound);
    assert_eq!(bench.state(), "CompletingRebalance");
}

#[test]
fn a_change_that_is_not_stored_leaves_the_classic_group_and_its_members() {
    let mut bench = bench(4);
    let old = bench.classic();
    assert_eq!(bench.join_classic(&old, &[]).generation_id, 2);
    bench.auto = false;
    let waiting = bench.send_sync(sync(&old, 2, &[(&old, &[0, 1, 2, 3])]));
    let token = bench.send_beat(join("a"));
    // The change of protocol is another rebalance: who waits is to join again.
    assert_eq!(bench.synced(waiting).error, ErrorCode::RebalanceInProgress);
    let queued = bench.send_join(JoinRequest { member_id: old.clone(), ..classic_join("", &[]) });
    // Lists and descriptions tell what is committed.
    assert_eq!((bench.state(), bench.consumers().error), ("CompletingRebalance", ErrorCode::GroupIdNotFound));
    assert_eq!(bench.c.list(&ListRequest::default()).unwrap()[0].group_type, "classic");
    bench.commit_one();
    assert!(bench.replies.is_empty());
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    bench.commit_all();
    assert_eq!(bench.beaten(token).error, ErrorCode::CoordinatorNotAvailable);
    // What came meanwhile goes to the classic group, which starts over.
    assert_eq!(bench.joined(queued).generation_id, 3);
    assert_eq!(bench.state(), "CompletingRebalance");
}

#[test]
fn classic_members_join_a_consumer_group() {
    let mut bench = bench(4);
    bench.ok(join("a"));
    let asks = bench.send_join(JoinRequest { require_known_member_id: true, ..classic_join("", &[]) });
    let asked = bench.joined(asks);
    assert_eq!(asked.error, ErrorCode::MemberIdRequired);
    let reply = bench.join_classic(&asked.member_id, &[]);
    assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, 2));
    let id = reply.member_id;
    // Nothing is free yet.
    assert_eq!(bench.sync_classic(&id, 2).assignment, assignment(1, &[]));
    assert_eq!(bench.heartbeat(&id, 2), ErrorCode::None);
    assert_eq!(bench.ok(beat("a", 1)).0, 2);
    assert_eq!(bench.ok(beat_with("a", 2, &[(1, &[0, 1])])).0, 2);
    assert_eq!(bench.heartbeat(&id, 2), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.join_classic(&id, &[]).generation_id, 2);
    assert_eq!(bench.sync_classic(&id, 2).assignment, assignment(1, &[2, 3]));
    // Errors are those of the classic protocol.
    assert_eq!(bench.heartbeat(&id, 1), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat("a", 2), ErrorCode::UnknownMemberId);
    assert_eq!(bench.sync_classic(&id, 1).error, ErrorCode::IllegalGeneration);
    assert_eq!(bench.commit(common::commit(&id, 1, 0, 5)), ErrorCode::IllegalGeneration);
    assert_eq!(bench.commit(common::commit(&id, 2, 0, 5)), ErrorCode::None);
    let other = JoinRequest { protocol_type: "connect".into(), ..classic_join("", &[]) };
    let token = bench.send_join(other);
    assert_eq!(bench.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    let token = bench.send_leave(&[(&id, None), ("a", None)]);
    let left: Vec<ErrorCode> = bench.left(token).members.iter().map(|m| m.error).collect();
    assert_eq!(left, [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(bench.ok(beat("a", 2)).1, Some(Owned::from([(topic(1), vec![0, 1, 2, 3])])));
}

#[test]
fn classic_members_that_do_not_sync_or_join_again_are_out() {
    let mut bench = bench(4);
    bench.ok(join("a"));
    let request = JoinRequest { rebalance_timeout_ms: 5_000, ..classic_join("", &[]) };
    let token = bench.send_join(request.clone());
    let id = bench.joined(token).member_id;
    bench.pass(5_000);
    assert_eq!(bench.sync_classic(&id, 2).error, ErrorCode::UnknownMemberId);
    let token = bench.send_join(request);
    let reply = bench.joined(token);
    let id = reply.member_id;
    assert_eq!(bench.sync_classic(&id, reply.generation_id).error, ErrorCode::None);
    bench.ok(join("b"));
    assert_eq!(bench.heartbeat(&id, reply.generation_id), ErrorCode::RebalanceInProgress);
    bench.pass(4_000);
    assert_eq!(bench.heartbeat(&id, reply.generation_id), ErrorCode::RebalanceInProgress);
    bench.pass(1_000);
    assert_eq!(bench.heartbeat(&id, reply.generation_id), ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_goes_back_when_the_last_member_of_the_new_protocol_has_left() {
    let mut bench = bench(4);
    let old = bench.classic();
    bench.ok(join("a"));
    bench.auto = false;
    let token = bench.send_beat(beat("a", -1));
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.beaten(token).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(bench.consumers().members.len(), 2);
    let token = bench.send_beat(beat("a", -1));
    let waits = bench.send_join(JoinRequest { member_id: old.clone(), ..classic_join("", &[]) });
    bench.commit_all();
    assert_eq!(bench.beaten(token).error, ErrorCode::None);
    bench.auto = true;
    bench.until_answered(&[waits]);
    let reply = bench.joined(waits);
    assert_eq!((reply.error, reply.leader == old), (ErrorCode::None, true));
    assert!(reply.generation_id > 2, "generations do not fall: {}", reply.generation_id);
    assert_eq!(bench.consumers().error, ErrorCode::GroupIdNotFound);
    let token = bench.send_sync(sync(&old, reply.generation_id, &[(&old, &[0, 1, 2, 3])]));
    assert_eq!(bench.synced(token).error, ErrorCode::None);
    let next = bench.reloaded();
    assert_eq!((next.state(), next.consumers().error), ("Stable", ErrorCode::GroupIdNotFound));
}

#[test]
fn a_classic_member_at_the_groups_epoch_only_joins_again_when_the_group_goes_back() {
    let mut bench = bench(4);
    let old = bench.classic();
    bench.ok(join("a"));
    assert_eq!(bench.heartbeat(&old, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.join_classic(&old, &[]).generation_id, 2);
    bench.sync_classic(&old, 2);
    bench.beat(beat("a", -1));
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(bench.heartbeat(&old, 2), ErrorCode::RebalanceInProgress, "it has not lost what it has");
}

#[test]
fn without_the_policy_classic_members_stay_in_a_consumer_group() {
    let mut bench = with_policy(MigrationPolicy::Upgrade);
    let old = bench.classic();
    bench.ok(join("a"));
    bench.beat(beat("a", -1));
    assert_eq!(bench.consumers().members.len(), 1);
    assert_eq!(bench.heartbeat(&old, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.join_classic(&old, &[0, 1, 2, 3]).error, ErrorCode::None);
}

#[test]
fn a_static_member_takes_its_seat_along() {
    let mut bench = bench(4);
    let token = bench.send_join(JoinRequest { instance_id: Some("i".into()), ..classic_join("", &[]) });
    bench.until_answered(&[token]);
    let old = bench.joined(token).member_id;
    let mut first = sync(&old, 1, &[(&old, &[0, 1, 2, 3])]);
    first.instance_id = Some("i".into());
    let token = bench.send_sync(first);
    bench.synced(token);
    // It restarts with the new protocol.
    let (epoch, got) = bench.ok(static_join("a", "i"));
    assert_eq!((epoch, got), (2, Some(Owned::from([(topic(1), vec![0, 1, 2, 3])]))));
    assert_eq!(bench.heartbeat_as(&old, Some("i"), 1), ErrorCode::FencedInstanceId);
    // And back: the group is classic again.
    let token = bench.send_join(JoinRequest { instance_id: Some("i".into()), ..classic_join("", &[]) });
    assert_eq!(bench.joined(token).error, ErrorCode::None);
    assert_eq!(bench.state(), "PreparingRebalance");
}
