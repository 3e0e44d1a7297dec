//! Joining, syncing, leaving, timeouts: how a classic group moves.
#![allow(clippy::unwrap_used)]
mod common;
use bytes::Bytes;
use common::*;
use coordinator::*;
use model::ErrorCode;

#[test]
fn a_new_dynamic_member_must_come_back_with_the_id_it_was_given() {
    let mut b = Bench::new();
    let id = b.new_id();
    assert!(id.starts_with("app-"));
    let token = b.send_join(join(&id));
    b.pass(3_000);
    let reply = b.joined(token);
    assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, 1));
    assert_eq!((reply.leader.as_str(), reply.member_id.as_str()), (id.as_str(), id.as_str()));
    assert_eq!(reply.protocol_name.as_deref(), Some("range"));
    assert_eq!(reply.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(reply.members.len(), 1);
}

#[test]
fn below_v4_a_new_member_joins_with_its_first_request() {
    let mut b = Bench::new();
    let token = b.send_join(join(""));
    assert!(b.replies.is_empty());
    b.pass(2_999);
    assert!(b.replies.is_empty());
    b.pass(1);
    assert_eq!(b.joined(token).error, ErrorCode::None);
}

#[test]
fn an_unused_id_ends_with_its_session_and_holds_the_join_phase_until_then() {
    let mut b = Bench::new();
    let used = b.new_id();
    let _unused = b.new_id();
    let token = b.send_join(join(&used));
    b.pass(3_000);
    // The initial rebalance does not wait for it.
    let generation = b.joined(token).generation_id;
    b.sync_all(std::slice::from_ref(&used), generation);
    let again = b.send_join(join(&used));
    assert!(b.replies.is_empty(), "an id is given out: its owner may be about to join");
    b.pass(7_000);
    assert_eq!(b.joined(again).generation_id, 2);
    assert!(b.events.iter().any(|e| matches!(e, GroupEvent::MemberExpired { .. })));
}

#[test]
fn the_initial_delay_grows_while_members_come_but_not_past_the_rebalance_timeout() {
    let mut b = Bench::new();
    let with_timeout = |ms| JoinRequest { rebalance_timeout_ms: ms, ..join("") };
    let mut tokens = vec![b.send_join(with_timeout(7_000))];
    for _ in 0..2 {
        b.pass(2_000);
        tokens.push(b.send_join(with_timeout(7_000)));
    }
    b.pass(2_500);
    // 6.5 s: two delays of 3 s have passed, the last second of the 7 is running.
    assert!(b.replies.is_empty());
    b.pass(500);
    let replies: Vec<JoinReply> = tokens.into_iter().map(|t| b.joined(t)).collect();
    assert!(replies.iter().all(|r| r.generation_id == 1));
    assert_eq!(replies[0].members.len(), 3);
    assert!(replies[1].members.is_empty(), "only the leader sees the members");
}

#[test]
fn the_protocol_with_most_votes_among_the_common_ones_wins() {
    let mut b = Bench::new();
    let with =
        |names: &[&str]| JoinRequest { protocols: names.iter().map(|n| protocol(n)).collect(), ..join("") };
    let tokens = [
        b.send_join(with(&["range", "sticky", "own"])),
        b.send_join(with(&["sticky", "range"])),
        b.send_join(with(&["sticky", "range"])),
    ];
    b.until_answered(&tokens);
    for token in tokens {
        assert_eq!(b.joined(token).protocol_name.as_deref(), Some("sticky"));
    }
}

#[test]
fn a_member_without_a_common_protocol_or_of_another_type_is_refused() {
    let mut b = Bench::new();
    let (_, _) = b.stable(1);
    let other = JoinRequest { protocols: vec![protocol("other")], ..join("") };
    let token = b.send_join(other);
    assert_eq!(b.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    let connect = JoinRequest { protocol_type: "connect".into(), ..join("") };
    let token = b.send_join(connect);
    assert_eq!(b.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    let mut b = Bench::new();
    let none = JoinRequest { protocols: vec![], ..join("") };
    let token = b.send_join(none);
    assert_eq!(b.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(b.state(), "Dead");
}

#[test]
fn requests_that_cannot_be_right_are_refused_without_a_group() {
    let mut b = Bench::new();
    for (request, error) in [
        (JoinRequest { group_id: String::new(), ..join("") }, ErrorCode::InvalidGroupId),
        (JoinRequest { session_timeout_ms: 5_999, ..join("") }, ErrorCode::InvalidSessionTimeout),
        (JoinRequest { session_timeout_ms: 1_800_001, ..join("") }, ErrorCode::InvalidSessionTimeout),
        (join("nobody"), ErrorCode::UnknownMemberId),
    ] {
        let token = b.send_join(request);
        assert_eq!(b.joined(token).error, error);
    }
    let token = b.send_sync(sync("nobody", 1, &[]));
    assert_eq!(b.synced(token).error, ErrorCode::UnknownMemberId);
    assert_eq!(b.heartbeat("nobody", 1), ErrorCode::UnknownMemberId);
    let token = b.send_leave(&[("nobody", None)]);
    let reply = b.left(token);
    assert_eq!((reply.error, reply.members[0].error), (ErrorCode::None, ErrorCode::UnknownMemberId));
    assert!(b.log.is_empty());
}

#[test]
fn sync_is_answered_only_when_the_assignment_is_committed() {
    let mut b = Bench::new();
    let ids = [b.new_id(), b.new_id()];
    let tokens = [b.send_join(join(&ids[0])), b.send_join(join(&ids[1]))];
    b.until_answered(&tokens);
    let generation = b.joined(tokens[0]).generation_id;
    b.joined(tokens[1]);
    b.auto = false;
    let leader = b.send_sync(sync(&ids[0], generation, &ids));
    let follower = b.send_sync(sync(&ids[1], generation, &[]));
    assert!(b.replies.is_empty());
    assert_eq!(b.state(), "CompletingRebalance");
    b.commit_one();
    assert_eq!(b.synced(leader).assignment, Bytes::from(format!("for {}", ids[0])));
    assert_eq!(b.synced(follower).assignment, Bytes::from(format!("for {}", ids[1])));
    assert_eq!(b.state(), "Stable");
    assert!(matches!(b.events.last(), Some(GroupEvent::RebalanceCompleted { members: 2, .. })));
}

#[test]
fn an_assignment_that_cannot_be_stored_is_refused_and_the_group_rebalances() {
    let mut b = Bench::new();
    let token = b.send_join(join(""));
    b.pass(3_000);
    let id = b.joined(token).member_id;
    b.auto = false;
    let token = b.send_sync(sync(&id, 1, std::slice::from_ref(&id)));
    b.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(b.synced(token).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(b.state(), "PreparingRebalance");
    assert_eq!(b.describe().causes.last().unwrap().kind, CauseKind::StoreFailed);
    let token = b.send_join(join(&id));
    assert_eq!(b.joined(token).generation_id, 2);
}

#[test]
fn an_assignment_of_a_generation_that_is_over_changes_nothing_when_it_commits() {
    let mut b = Bench::new();
    let token = b.send_join(join(""));
    b.pass(3_000);
    let id = b.joined(token).member_id;
    b.auto = false;
    let first = b.send_sync(sync(&id, 1, std::slice::from_ref(&id)));
    let joining = b.send_join(join(""));
    assert_eq!(b.synced(first).error, ErrorCode::RebalanceInProgress);
    b.commit_one();
    assert_eq!(b.state(), "PreparingRebalance");
    let again = b.send_join(join(&id));
    assert_eq!(b.joined(again).generation_id, 2);
    assert_eq!(b.joined(joining).generation_id, 2);
}

#[test]
fn a_repeated_sync_of_the_leader_is_stored_once_and_both_are_answered() {
    let mut b = Bench::new();
    let token = b.send_join(join(""));
    b.pass(3_000);
    let id = b.joined(token).member_id;
    b.auto = false;
    let first = b.send_sync(sync(&id, 1, std::slice::from_ref(&id)));
    let second = b.send_sync(sync(&id, 1, std::slice::from_ref(&id)));
    assert_eq!(b.synced(first).error, ErrorCode::RebalanceInProgress);
    assert_eq!(b.open.len(), 1);
    b.commit_one();
    assert_eq!(b.synced(second).error, ErrorCode::None);
}

#[test]
fn sync_is_checked_for_member_generation_and_protocol() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    for (request, error) in [
        (sync("other", generation, &[]), ErrorCode::UnknownMemberId),
        (sync(&ids[0], generation + 1, &[]), ErrorCode::IllegalGeneration),
        (
            SyncRequest { protocol_name: Some("sticky".into()), ..sync(&ids[0], generation, &[]) },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            SyncRequest { protocol_type: Some("connect".into()), ..sync(&ids[0], generation, &[]) },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            SyncRequest { protocol_type: None, protocol_name: None, ..sync(&ids[0], generation, &[]) },
            ErrorCode::None,
        ),
    ] {
        let token = b.send_sync(request);
        assert_eq!(b.synced(token).error, error);
    }
    assert_eq!(b.heartbeat(&ids[0], generation + 1), ErrorCode::IllegalGeneration);
    assert_eq!(b.heartbeat("other", generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_second_member_makes_the_first_rejoin_and_both_agree_on_the_generation() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    let joining = b.send_join(join(""));
    assert_eq!(b.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    let token = b.send_sync(sync(&ids[0], generation, &[]));
    assert_eq!(b.synced(token).error, ErrorCode::RebalanceInProgress);
    assert!(b.replies.is_empty());
    let again = b.send_join(join(&ids[0]));
    let (first, second) = (b.joined(again), b.joined(joining));
    assert_eq!((first.generation_id, second.generation_id), (generation + 1, generation + 1));
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    assert_eq!(second.leader, ids[0]);
    b.sync_all(&[ids[0].clone(), second.member_id], generation + 1);
}

#[test]
fn a_cooperative_member_that_gives_up_partitions_joins_again_with_new_metadata() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(2);
    // The follower's owned partitions changed: its metadata did, so a rebalance follows at once.
    let changed = JoinRequest {
        protocols: vec![Protocol { name: "range".into(), metadata: subscription(&["t", "u"]) }],
        ..join(&ids[1])
    };
    let follower = b.send_join(changed.clone());
    assert!(b.replies.is_empty());
    let leader = b.send_join(join(&ids[0]));
    assert_eq!(b.joined(leader).generation_id, generation + 1);
    assert_eq!(b.joined(follower).generation_id, generation + 1);
    // It missed the answer and asks again with the same metadata: same generation, no new rebalance.
    let retry = b.send_join(changed);
    assert_eq!(b.joined(retry).generation_id, generation + 1);
    assert_eq!(b.state(), "CompletingRebalance");
    b.sync_all(&ids, generation + 1);
    let token = b.send_join(JoinRequest {
        protocols: vec![Protocol { name: "range".into(), metadata: subscription(&["t", "u"]) }],
        ..join(&ids[1])
    });
    assert_eq!(b.joined(token).generation_id, generation + 1, "an unchanged follower is just told");
    assert_eq!(b.state(), "Stable");
    b.send_join(join(&ids[0]));
    assert_eq!(b.state(), "PreparingRebalance", "the leader's join always rebalances");
}

#[test]
fn members_that_do_not_rejoin_in_time_are_out_and_the_lead_moves() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(2);
    let joining = b.send_join(join(""));
    for _ in 0..12 {
        // Alive but silent in the join phase: heartbeats alone do not keep a seat.
        b.pass(5_000);
        b.heartbeat(&ids[0], generation);
        b.heartbeat(&ids[1], generation);
    }
    let reply = b.joined(joining);
    assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, generation + 1));
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(reply.members.len(), 1);
    assert_eq!(b.heartbeat(&ids[0], generation), ErrorCode::UnknownMemberId);
}

#[test]
fn heartbeats_keep_a_session_and_silence_ends_it() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(2);
    for _ in 0..10 {
        b.pass(9_000);
        assert_eq!(b.heartbeat(&ids[0], generation), ErrorCode::None);
        assert_eq!(b.heartbeat(&ids[1], generation), ErrorCode::None);
    }
    b.pass(9_000);
    b.heartbeat(&ids[0], generation);
    b.pass(1_001);
    assert_eq!(b.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    let cause = b.describe().causes.last().unwrap().clone();
    assert_eq!((cause.kind, &cause.member_id), (CauseKind::SessionExpired, &ids[1]));
    let token = b.send_join(join(&ids[0]));
    assert_eq!(b.joined(token).generation_id, generation + 1);
}

#[test]
fn commits_keep_a_session_too() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    for n in 0..10 {
        b.pass(9_000);
        assert_eq!(b.commit(commit(&ids[0], generation, 0, n)), ErrorCode::None);
    }
    assert_eq!(b.state(), "Stable");
}

#[test]
fn the_last_member_leaving_empties_the_group_and_is_answered_when_that_is_stored() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    b.auto = false;
    let token = b.send_leave(&[(&ids[0], None)]);
    assert!(b.replies.is_empty());
    b.commit_all();
    assert_eq!(b.left(token).members[0].error, ErrorCode::None);
    assert_eq!(b.state(), "Empty");
    assert_eq!(b.describe().generation_id, generation + 1);
    let value = records::GroupValue::decode(b.log.last().unwrap().value.as_ref().unwrap()).unwrap();
    assert_eq!((value.generation, value.members.len(), value.protocol), (generation + 1, 0, None));
    assert_eq!(value.protocol_type, "consumer");
}

#[test]
fn members_that_never_sync_are_out_after_the_rebalance_timeout() {
    let mut b = Bench::new();
    let ids = [b.new_id(), b.new_id()];
    let tokens = [b.send_join(join(&ids[0])), b.send_join(join(&ids[1]))];
    b.until_answered(&tokens);
    for token in tokens {
        b.joined(token);
    }
    let synced = b.send_sync(sync(&ids[0], 1, &ids));
    assert_eq!(b.synced(synced).error, ErrorCode::None);
    for _ in 0..13 {
        b.pass(5_000);
        b.heartbeat(&ids[0], 1);
        b.heartbeat(&ids[1], 1);
    }
    assert_eq!(b.heartbeat(&ids[1], 1), ErrorCode::UnknownMemberId);
    assert_eq!(b.describe().causes.last().unwrap().kind, CauseKind::SyncExpired);
}

#[test]
fn a_leader_that_dies_before_it_assigns_lets_the_others_rejoin() {
    let mut b = Bench::new();
    let ids = [b.new_id(), b.new_id()];
    let tokens = [b.send_join(join(&ids[0])), b.send_join(join(&ids[1]))];
    b.until_answered(&tokens);
    for token in tokens {
        b.joined(token);
    }
    let follower = b.send_sync(sync(&ids[1], 1, &[]));
    b.pass(10_000);
    assert_eq!(b.synced(follower).error, ErrorCode::RebalanceInProgress);
    let token = b.send_join(join(&ids[1]));
    let reply = b.joined(token);
    assert_eq!((reply.generation_id, reply.leader), (2, ids[1].clone()));
}

#[test]
fn a_parked_join_of_a_new_member_ends_after_five_minutes() {
    let mut b = Bench::with(GroupConfig { initial_rebalance_delay_ms: 600_000, ..GroupConfig::default() });
    let token = b.send_join(join(""));
    b.pass(299_999);
    assert!(b.replies.is_empty());
    b.pass(1);
    assert_eq!(b.joined(token).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_join_that_repeats_while_parked_displaces_the_earlier_one() {
    let mut b = Bench::new();
    let (ids, _) = b.stable(2);
    let first = b.send_join(join(&ids[0]));
    let second = b.send_join(join(&ids[0]));
    assert_eq!(b.joined(first).error, ErrorCode::RebalanceInProgress);
    let other = b.send_join(join(&ids[1]));
    assert_eq!(b.joined(second).error, ErrorCode::None);
    assert_eq!(b.joined(other).error, ErrorCode::None);
}

#[test]
fn a_full_group_takes_no_more_members() {
    let mut b = Bench::with(GroupConfig { max_size: 2, ..GroupConfig::default() });
    let (ids, generation) = b.stable(2);
    let token = b.send_join(join(""));
    assert_eq!(b.joined(token).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(b.heartbeat(&ids[0], generation), ErrorCode::None);
    let mut b = Bench::with(GroupConfig { max_groups: 0, ..GroupConfig::default() });
    let token = b.send_join(join(""));
    assert_eq!(b.joined(token).error, ErrorCode::GroupMaxSizeReached);
    let mut b = Bench::with(GroupConfig { max_pending_members: 1, ..GroupConfig::default() });
    b.new_id();
    let token = b.send_join(JoinRequest { require_known_member_id: true, ..join("") });
    assert_eq!(b.joined(token).error, ErrorCode::GroupMaxSizeReached);
}

#[test]
fn a_group_remembers_only_the_newest_causes() {
    let mut b = Bench::with(GroupConfig { causes_kept: 3, ..GroupConfig::default() });
    let (ids, _) = b.stable(1);
    for n in 0..5 {
        let reason = Some(format!("reason {n} {}", "x".repeat(400)));
        let token = b.send_join(JoinRequest { reason, ..join(&ids[0]) });
        let generation = b.joined(token).generation_id;
        b.sync_all(&ids, generation);
    }
    let causes = b.describe().causes;
    assert_eq!(causes.len(), 3);
    assert!(causes[2].reason.starts_with("reason 4 ") && causes[2].reason.len() == 256);
}

#[test]
fn fifty_members_come_go_and_die_and_every_request_is_answered() {
    let mut b = Bench::new();
    let (mut ids, mut generation) = b.stable(50);
    for round in 0..20 {
        let token = b.send_leave(&[(&ids.remove(round % ids.len()), None)]);
        assert_eq!(b.left(token).error, ErrorCode::None);
        ids.remove((round * 7) % ids.len());
        let fresh = [b.new_id(), b.new_id()];
        ids.extend(fresh);
        let tokens: Vec<Token> = ids.iter().map(|id| b.send_join(join(id))).collect();
        b.until_answered(&tokens);
        let replies: Vec<JoinReply> = tokens.into_iter().map(|t| b.joined(t)).collect();
        assert!(replies.iter().all(|r| r.error.is_none() && r.generation_id == replies[0].generation_id));
        assert!(replies[0].generation_id > generation);
        generation = replies[0].generation_id;
        assert_eq!(b.c.member_counts(), (50, 0));
        b.sync_all(&ids, generation);
    }
    assert!(b.replies.is_empty());
}

#[test]
fn a_rebalance_timeout_of_zero_is_no_busy_loop() {
    let mut b = Bench::new();
    let zero =
        |id: &str, instance: &str| JoinRequest { rebalance_timeout_ms: 0, ..static_join(id, instance) };
    let tokens = [b.send_join(zero("", "a")), b.send_join(zero("", "b"))];
    b.until_answered(&tokens);
    let ids = tokens.map(|t| b.joined(t).member_id);
    b.send_sync(sync(&ids[0], 1, &ids));
    b.pass(30_000);
    assert_eq!(b.state(), "Empty");
}
