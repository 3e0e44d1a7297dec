//! From the log to serving, and out of it again.
#![allow(clippy::unwrap_used)]
mod common;
use bytes::Bytes;
use common::*;
use coordinator::*;
use model::ErrorCode;

#[test]
fn until_it_is_loaded_every_request_is_told_to_wait_but_heartbeats_are_let_be() {
    let mut b = Bench::loading(GroupConfig::default());
    let load = ErrorCode::CoordinatorLoadInProgress;
    let token = b.send_join(join(""));
    assert_eq!(b.joined(token).error, load);
    let token = b.send_sync(sync("m", 1, &[]));
    assert_eq!(b.synced(token).error, load);
    assert_eq!(b.heartbeat("m", 1), ErrorCode::None);
    let token = b.send_leave(&[("m", None)]);
    assert_eq!(b.left(token).error, load);
    assert_eq!(b.commit(simple_commit(0, 1)), load);
    let token = b.send_fetch(None, true);
    assert_eq!(b.fetched(token).error, load);
    let token = b.send_delete_offsets("t", &[0]);
    assert_eq!(b.offsets_deleted(token).error, load);
    let token = b.send_delete_groups(&["g"]);
    assert_eq!(b.groups_deleted(token)[0].1, load);
    assert_eq!(b.describe().error, load);
    assert_eq!(b.c.list(&ListRequest::default()), Err(load));
    assert_eq!(b.c.next_deadline(), None);
}

#[test]
fn a_loaded_group_goes_on_where_it_was_and_each_session_runs_anew() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(2);
    b.commit(commit(&ids[0], generation, 0, 17));
    let before = b.describe();
    b.now_ms += 3_600_000;
    let mut next = b.reloaded();
    let after = next.describe();
    assert_eq!((after.state, after.generation_id), ("Stable", generation));
    assert_eq!(after.members, before.members);
    assert_eq!(next.offset(0), 17);
    next.pass(9_999);
    assert_eq!(next.heartbeat(&ids[0], generation), ErrorCode::None);
    let token = next.send_sync(sync(&ids[0], generation, &[]));
    assert_eq!(next.synced(token).assignment, Bytes::from(format!("for {}", ids[0])));
    assert_eq!(next.commit(commit(&ids[0], generation, 0, 18)), ErrorCode::None);
    next.pass(1);
    assert_eq!(next.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress, "the other was silent");
}

#[test]
fn what_was_not_committed_is_not_there_after_loading() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    b.commit(commit(&ids[0], generation, 0, 1));
    b.auto = false;
    b.send_commit(commit(&ids[0], generation, 0, 2));
    let mut next = b.reloaded();
    assert_eq!(next.offset(0), 1);
}

#[test]
fn unloading_answers_everyone_and_keeps_what_is_committed() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(2);
    b.commit(commit(&ids[0], generation, 0, 1));
    b.auto = false;
    let commit_token = b.send_commit(commit(&ids[0], generation, 0, 2));
    let fetch_token = b.send_fetch(None, true);
    let join_token = b.send_join(join(&ids[0]));
    let mut fx = Vec::new();
    b.c.unload(b.now(), &mut fx);
    b.take(fx);
    let gone = ErrorCode::NotCoordinator;
    assert_eq!(b.committed(commit_token), gone);
    assert_eq!(b.fetched(fetch_token).error, gone);
    assert_eq!(b.joined(join_token).error, gone);
    assert_eq!(b.heartbeat(&ids[0], generation), gone);
    assert_eq!(b.describe().error, gone);
    // The commit did reach the log: the outcome of the old lead says nothing, the log says it all.
    let (batch, records) = b.open.remove(0);
    let mut fx = Vec::new();
    b.c.on_committed(b.now(), batch, &mut fx);
    assert!(fx.is_empty());
    assert_eq!(b.c.committed_offset("g", "t", 0).unwrap().offset, 1);
    for record in records {
        b.c.replay(99, record.key, record.value).unwrap();
    }
    b.c.begin_loading();
    assert_eq!(b.commit(simple_commit(0, 1)), ErrorCode::CoordinatorLoadInProgress);
    let mut fx = Vec::new();
    b.c.loaded(b.now(), &mut fx);
    b.take(fx);
    assert_eq!(b.offset(0), 2);
    assert_eq!(b.heartbeat(&ids[0], generation), ErrorCode::None);
}

#[test]
fn a_sync_parked_behind_its_append_is_answered_by_unloading() {
    let mut b = Bench::new();
    let token = b.send_join(join(""));
    b.until_answered(&[token]);
    let id = b.joined(token).member_id;
    b.auto = false;
    let token = b.send_sync(sync(&id, 1, std::slice::from_ref(&id)));
    let mut fx = Vec::new();
    b.c.unload(b.now(), &mut fx);
    b.take(fx);
    assert_eq!(b.synced(token).error, ErrorCode::NotCoordinator);
}

#[test]
fn a_loaded_group_above_the_size_limit_rebalances_down_to_it() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(3);
    let mut next = Bench::loading(GroupConfig { max_size: 2, ..GroupConfig::default() });
    for record in &b.log {
        next.c.replay(0, record.key.clone(), record.value.clone()).unwrap();
    }
    let mut fx = Vec::new();
    next.c.loaded(next.now(), &mut fx);
    next.take(fx);
    assert_eq!(next.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    let tokens: Vec<Token> = ids.iter().map(|id| next.send_join(join(id))).collect();
    let errors: Vec<ErrorCode> = tokens.into_iter().map(|t| next.joined(t).error).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::None, ErrorCode::GroupMaxSizeReached]);
    assert_eq!(next.c.member_counts(), (2, 0));
}

#[test]
fn describe_and_list_speak_kafkas_words() {
    let mut b = Bench::new();
    let missing = b.describe();
    assert_eq!((missing.error, missing.state), (ErrorCode::GroupIdNotFound, "Dead"));
    assert_eq!(missing.error_message.as_deref(), Some("Group g not found."));
    let (ids, generation) = b.stable(1);
    let stable = b.describe();
    assert_eq!((stable.protocol_type.as_str(), stable.protocol_data.as_str()), ("consumer", "range"));
    assert_eq!(stable.members[0].metadata, subscription(&["t"]));
    assert_eq!(stable.members[0].client_host, "/127.0.0.1");
    b.send_join(join(""));
    let moving = b.describe();
    assert_eq!((moving.state, moving.protocol_data.as_str()), ("PreparingRebalance", ""));
    assert!(moving.members[0].metadata.is_empty());
    let mut simple = simple_commit(0, 1);
    simple.group_id = "s".into();
    b.commit(simple);
    let list = |b: &Bench, states: &[&str], types: &[&str]| -> Vec<String> {
        let own = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect();
        let rows = b.c.list(&ListRequest { states: own(states), types: own(types) }).unwrap();
        rows.into_iter().map(|r| format!("{}/{}/{}", r.group_id, r.protocol_type, r.state)).collect()
    };
    assert_eq!(list(&b, &[], &[]), ["g/consumer/PreparingRebalance", "s//Empty"]);
    assert_eq!(list(&b, &["empty"], &["Classic"]), ["s//Empty"]);
    assert!(list(&b, &["Nonsense"], &[]).is_empty());
    assert!(list(&b, &[], &["consumer"]).is_empty());
    let counts = b.c.state_counts();
    assert_eq!(counts.map(|(_, n)| n), [1, 1, 0, 0]);
    let _ = (ids, generation);
}
