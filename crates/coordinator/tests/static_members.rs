//! Static membership: seats that outlive processes, and who is fenced.
#![allow(clippy::unwrap_used)]
mod common;
use bytes::Bytes;
use common::*;
use coordinator::*;
use model::ErrorCode;

/// A stable group of the static members `a` (leader) and `b`.
fn stable_pair(b: &mut Bench) -> (Vec<String>, i32) {
    let tokens = [b.send_join(static_join("", "a")), b.send_join(static_join("", "b"))];
    b.until_answered(&tokens);
    let replies = tokens.map(|t| b.joined(t));
    let ids: Vec<String> = replies.iter().map(|r| r.member_id.clone()).collect();
    b.sync_all(&ids, 1);
    (ids, 1)
}

#[test]
fn a_static_member_needs_no_second_request_and_its_id_names_the_instance() {
    let mut b = Bench::new();
    let token = b.send_join(JoinRequest { require_known_member_id: true, ..static_join("", "a") });
    b.until_answered(&[token]);
    let reply = b.joined(token);
    assert_eq!(reply.error, ErrorCode::None);
    assert!(reply.member_id.starts_with("a-"));
    assert_eq!(reply.members[0].instance_id.as_deref(), Some("a"));
}

#[test]
fn a_restarted_member_takes_its_seat_without_a_rebalance_and_the_old_id_is_fenced() {
    let mut b = Bench::new();
    let (ids, generation) = stable_pair(&mut b);
    b.auto = false;
    let token = b.send_join(static_join("", "b"));
    assert!(b.replies.is_empty(), "answered when the new id is stored");
    b.commit_all();
    let reply = b.joined(token);
    assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, generation));
    assert_ne!(reply.member_id, ids[1]);
    assert_eq!(b.state(), "Stable");
    assert_eq!(b.heartbeat_as(&ids[0], Some("a"), generation), ErrorCode::None);
    assert_eq!(b.heartbeat_as(&ids[1], Some("b"), generation), ErrorCode::FencedInstanceId);
    let again =
        b.send_sync(SyncRequest { instance_id: Some("b".into()), ..sync(&reply.member_id, generation, &[]) });
    assert_eq!(b.synced(again).assignment, Bytes::from(format!("for {}", ids[1])), "the seat's assignment");
    let fenced = CommitRequest { instance_id: Some("b".into()), ..commit(&ids[1], generation, 0, 1) };
    assert_eq!(b.commit(fenced), ErrorCode::FencedInstanceId);
    let token = b.send_join(static_join(&ids[1], "b"));
    let refused = b.joined(token);
    assert_eq!((refused.error, refused.protocol_name), (ErrorCode::FencedInstanceId, None));
    let token = b.send_sync(SyncRequest { instance_id: Some("b".into()), ..sync(&ids[1], generation, &[]) });
    assert_eq!(b.synced(token).error, ErrorCode::FencedInstanceId);
    let token = b.send_leave(&[(&ids[1], Some("b"))]);
    assert_eq!(b.left(token).members[0].error, ErrorCode::FencedInstanceId);
    let log = b.reloaded();
    assert_eq!(log.describe().members[1].member_id, reply.member_id);
}

#[test]
fn a_restarted_leader_is_told_not_to_assign_again() {
    let mut b = Bench::new();
    let (ids, generation) = stable_pair(&mut b);
    let token = b.send_join(static_join("", "a"));
    let reply = b.joined(token);
    assert_eq!((reply.skip_assignment, reply.generation_id), (true, generation));
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(reply.members.len(), 2);
    // Clients that cannot skip are told the id of the leader before: they act as followers.
    let old = JoinRequest { supports_skip_assignment: false, ..static_join("", "a") };
    let token = b.send_join(old);
    let told = b.joined(token);
    assert_eq!((told.skip_assignment, told.leader), (false, reply.member_id));
    assert!(told.members.is_empty());
    assert_ne!(told.member_id, ids[0]);
}

#[test]
fn a_replacement_that_cannot_be_stored_gives_the_old_id_its_seat_back() {
    let mut b = Bench::new();
    let (ids, generation) = stable_pair(&mut b);
    b.auto = false;
    let token = b.send_join(static_join("", "b"));
    b.fail_one(ErrorCode::NotLeaderOrFollower);
    let reply = b.joined(token);
    assert_eq!((reply.error, reply.member_id.as_str()), (ErrorCode::NotCoordinator, ""));
    assert_eq!(b.heartbeat_as(&ids[1], Some("b"), generation), ErrorCode::None);
    assert_eq!(b.state(), "Stable");
}

#[test]
fn two_processes_with_one_instance_id_fence_each_other_while_they_wait() {
    let mut b = Bench::new();
    let first = b.send_join(static_join("", "a"));
    let second = b.send_join(static_join("", "a"));
    let reply = b.joined(first);
    assert_eq!((reply.error, reply.protocol_name), (ErrorCode::FencedInstanceId, None));
    b.until_answered(&[second]);
    assert_eq!(b.joined(second).members.len(), 1);
    // In the middle of a sync as well, and then the group rebalances: the leader knows the old id.
    let mut b = Bench::new();
    let tokens = [b.send_join(static_join("", "a")), b.send_join(static_join("", "b"))];
    b.until_answered(&tokens);
    let ids = tokens.map(|t| b.joined(t).member_id);
    let waiting = b.send_sync(sync(&ids[1], 1, &[]));
    let replacing = b.send_join(static_join("", "b"));
    assert_eq!(b.synced(waiting).error, ErrorCode::FencedInstanceId);
    assert_eq!(b.state(), "PreparingRebalance");
    let leader = b.send_join(static_join(&ids[0], "a"));
    assert_eq!(b.joined(leader).generation_id, 2);
    assert_eq!(b.joined(replacing).generation_id, 2);
}

#[test]
fn a_replacement_that_changes_the_chosen_protocol_rebalances() {
    let mut b = Bench::new();
    let both = |instance: &str, first: &str, second: &str| JoinRequest {
        protocols: vec![protocol(first), protocol(second)],
        ..static_join("", instance)
    };
    let tokens = [b.send_join(both("a", "range", "sticky")), b.send_join(both("b", "range", "sticky"))];
    b.until_answered(&tokens);
    let ids: Vec<String> = tokens.map(|t| b.joined(t).member_id).to_vec();
    b.sync_all(&ids, 1);
    let only_sticky = JoinRequest { protocols: vec![protocol("sticky")], ..static_join("", "b") };
    let token = b.send_join(only_sticky);
    assert!(b.replies.is_empty());
    let leader = b.send_join(JoinRequest { member_id: ids[0].clone(), ..both("a", "range", "sticky") });
    assert_eq!(b.joined(leader).protocol_name.as_deref(), Some("sticky"));
    assert_eq!(b.joined(token).generation_id, 2);
    assert_eq!(b.describe().causes.last().unwrap().kind, CauseKind::StaticMemberReplaced);
}

#[test]
fn a_silent_static_member_keeps_its_seat_through_a_rebalance_until_its_session_ends() {
    let mut b = Bench::new();
    let long = JoinRequest { session_timeout_ms: 120_000, ..static_join("", "b") };
    let tokens = [b.send_join(static_join("", "a")), b.send_join(long)];
    b.until_answered(&tokens);
    let ids: Vec<String> = tokens.map(|t| b.joined(t).member_id).to_vec();
    b.sync_all(&ids, 1);
    let leader = b.send_join(static_join(&ids[0], "a"));
    b.until_answered(&[leader]);
    let reply = b.joined(leader);
    assert_eq!(
        (reply.generation_id, reply.members.len()),
        (2, 2),
        "b did not rejoin and is still assigned to"
    );
}

#[test]
fn an_administrator_removes_static_members_by_instance_id_alone() {
    let mut b = Bench::new();
    let (ids, _) = stable_pair(&mut b);
    let token = b.send_leave(&[("", Some("a")), ("", Some("nobody")), ("", None), (&ids[1], Some("b"))]);
    let errors: Vec<ErrorCode> = b.left(token).members.iter().map(|m| m.error).collect();
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(errors, [ErrorCode::None, unknown, unknown, ErrorCode::None]);
    assert_eq!(b.state(), "Empty");
}

#[test]
fn an_id_that_was_given_out_to_a_dynamic_member_cannot_become_static() {
    let mut b = Bench::new();
    let id = b.new_id();
    let token = b.send_join(static_join(&id, "a"));
    assert_eq!(b.joined(token).error, ErrorCode::UnknownServerError);
    let token = b.send_leave(&[(&id, None)]);
    assert_eq!(b.left(token).members[0].error, ErrorCode::None, "an unused id may leave");
}
