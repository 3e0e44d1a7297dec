//! Members of classic groups that do what they should not, or not in time.
use super::groups::commit;
use super::member_steps::{beat, join, learn_member, leave, sync};
use super::some;
use crate::script::Script;
use crate::side::Side;
use bytes::Bytes;
use wire::join_group_request::JoinGroupRequestProtocol;
use wire::leave_group_request::MemberIdentity;
use wire::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use wire::sync_group_request::SyncGroupRequestAssignment;
use wire::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetDeleteRequest, Str, SyncGroupRequest,
};

pub(super) fn steps(script: &mut Script) {
    short_session(script);
    joined_again(script);
    static_errors(script);
    odd_joins(script);
    subscribed(script);
    leave_lists(script);
    expired(script);
}

fn describe(side: &Side, group: &str) -> DescribeGroupsRequest {
    DescribeGroupsRequest { groups: vec![side.name(group)], include_authorized_operations: false }
}

fn assigned(side: &Side, group: &str, member: &str, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest {
        assignments: vec![SyncGroupRequestAssignment {
            member_id: side.text(member),
            assignment: Bytes::from_static(b"all"),
        }],
        ..sync(side, group, member, generation)
    }
}

/// A member of a group of its own, joined and assigned.
fn settle(script: &mut Script, group: &'static str, member: &'static str) {
    script
        .over(&format!("{group} begins"), 3..=3, move |side, _| join(side, group, ""))
        .settled()
        .learn(learn_member(member));
    script.once(&format!("{group} is assigned"), move |side, _| assigned(side, group, member, 1));
}

/// A member with the shortest session, which ends while other steps go on.
fn short_session(script: &mut Script) {
    script
        .over("a short session", 3..=3, |side, _| JoinGroupRequest {
            session_timeout_ms: 6000,
            ..join(side, "brief", "")
        })
        .settled()
        .learn(learn_member("brief member"));
    script.once("a short session, assigned", |side, _| assigned(side, "brief", "brief member", 1));
}

fn expired(script: &mut Script) {
    script
        .once("a short session, over", |side, _| describe(side, "brief"))
        .again(|leaves| !leaves.values().any(|state| state == "\"Empty\""));
    script.each("after its session", |side, _| beat(side, "brief", "brief member", 1));
    script.each("after its session", |side, _| sync(side, "brief", "brief member", 1));
    script.each("after its session", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: side.text("brief member"),
        ..commit(side, v, side.name("brief"), "main", 0, 1)
    });
    script.once("after its session", |side, _| join(side, "brief", "brief member"));
}

/// Joins of those that are members: the same protocols, others, of a leader.
fn joined_again(script: &mut Script) {
    settle(script, "again", "a1");
    script.each("once more, assigned", |side, _| sync(side, "again", "a1", 1));
    script.once("the leader joins again", |side, _| join(side, "again", "a1"));
    script.once("a beat after it", |side, _| beat(side, "again", "a1", 1));
    script.once("an old assignment", |side, _| assigned(side, "again", "a1", 1));
    script.once("the new assignment", |side, _| assigned(side, "again", "a1", 2));
    script.once("with one protocol less", |side, _| {
        let mut request = join(side, "again", "a1");
        request.protocols.remove(0);
        request
    });
    script.once("an assignment by the protocol that went", |side, _| assigned(side, "again", "a1", 3));
    script.once("an assignment without names", |side, _| SyncGroupRequest {
        protocol_type: None,
        protocol_name: None,
        ..assigned(side, "again", "a1", 3)
    });
    script.once("described with one protocol", |side, _| describe(side, "again"));
    script.once("with a reason", |side, _| JoinGroupRequest {
        reason: some("because"),
        ..join(side, "again", "a1")
    });
    script.once("an assignment for strangers", |side, _| {
        let mut request = assigned(side, "again", "a1", 4);
        request.assignments[0].member_id = Str::from("nobody");
        request
    });
    script.once("described without an assignment", |side, _| describe(side, "again"));
    script.once("as a member of it with an instance", |side, _| JoinGroupRequest {
        group_instance_id: some("late"),
        ..join(side, "again", "a1")
    });
    script.once("a beat with an instance", |side, _| HeartbeatRequest {
        group_instance_id: some("late"),
        ..beat(side, "again", "a1", 4)
    });
    script.once("a negative generation", |side, _| beat(side, "again", "a1", -1));
    script.once("no member id", |side, _| beat(side, "again", "", 4));
    script.once("a commit of no generation", |side, v| OffsetCommitRequest {
        member_id: side.text("a1"),
        ..commit(side, v, side.name("again"), "main", 0, 1)
    });
    script.once("a commit of no member", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 4,
        ..commit(side, v, side.name("again"), "main", 0, 1)
    });
}

fn static_errors(script: &mut Script) {
    let as_static = |side: &Side, member: &str| JoinGroupRequest {
        group_instance_id: some("rock"),
        ..join(side, "still", member)
    };
    script.over("the rock", 5..=5, move |side, _| as_static(side, "")).settled().learn(learn_member("r1"));
    script.once("the rock's assignment", |side, _| SyncGroupRequest {
        group_instance_id: some("rock"),
        ..assigned(side, "still", "r1", 1)
    });
    script.each("the rock, not by its name", |side, v| {
        let instance = if v >= 3 { some("sand") } else { None };
        HeartbeatRequest { group_instance_id: instance, ..beat(side, "still", "r1", 1) }
    });
    script.once("the rock with a wrong id", move |side, _| JoinGroupRequest {
        member_id: Str::from("nobody"),
        ..as_static(side, "")
    });
    script.once("sand with the rock's id", move |side, _| JoinGroupRequest {
        group_instance_id: some("sand"),
        ..join(side, "still", "r1")
    });
    script.once("the rock's assignment by a wrong id", |side, _| SyncGroupRequest {
        group_instance_id: some("rock"),
        member_id: Str::from("nobody"),
        ..sync(side, "still", "", 1)
    });
    script
        .once("the rock back with other protocols", move |side, _| {
            let mut request = as_static(side, "");
            request.protocols.remove(0);
            request
        })
        .learn(learn_member("r2"));
    script.once("the rock's first id", |side, _| HeartbeatRequest {
        group_instance_id: some("rock"),
        ..beat(side, "still", "r1", 2)
    });
    script.once("the rock's first id, unnamed", |side, _| beat(side, "still", "r1", 2));
    script.once("what became of the rock", |side, _| describe(side, "still"));
    script
        .once("an empty instance", move |side, _| JoinGroupRequest {
            group_instance_id: some(""),
            ..join(side, "hollow", "")
        })
        .settled()
        .learn(learn_member("h1"));
    script.once("an empty instance's beat", |side, _| HeartbeatRequest {
        group_instance_id: some(""),
        ..beat(side, "hollow", "h1", 1)
    });
    script.once("what became of the empty instance", |side, _| describe(side, "hollow"));
    script.once("a commit by an unknown instance", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 2,
        member_id: side.text("r2"),
        group_instance_id: some("sand"),
        ..commit(side, v, side.name("still"), "main", 0, 1)
    });
    script.once("the rock leaves by a wrong id", |side, v| {
        let mut request = leave(side, v, "still", Str::from("nobody"));
        request.members[0].group_instance_id = some("rock");
        request
    });
    script.once("sand leaves", |side, v| {
        let mut request = leave(side, v, "still", Str::default());
        request.members[0].group_instance_id = some("sand");
        request
    });
    script.once("the rock leaves by its id", |side, v| {
        let mut request = leave(side, v, "still", side.text("r2"));
        request.members[0].group_instance_id = some("rock");
        request.members[0].reason = some("sold");
        request
    });
}

fn odd_joins(script: &mut Script) {
    settle(script, "odd", "o1");
    let protocol =
        |name: &'static str| JoinGroupRequestProtocol { name: Str::from(name), metadata: Bytes::new() };
    script.each("protocols that nobody has", move |side, _| JoinGroupRequest {
        protocols: vec![protocol("other")],
        ..join(side, "odd", "")
    });
    script.each("a protocol twice", move |side, _| JoinGroupRequest {
        protocols: vec![protocol("other"), protocol("other")],
        ..join(side, "odd", "")
    });
    script.each("a session of no time", |side, _| JoinGroupRequest {
        session_timeout_ms: 0,
        ..join(side, "odd", "")
    });
    script.each("a session below no time", |side, _| JoinGroupRequest {
        session_timeout_ms: -1,
        ..join(side, "odd", "")
    });
    script.each("a session just too short", |side, _| JoinGroupRequest {
        session_timeout_ms: 5999,
        ..join(side, "odd", "")
    });
    script.each("a session just too long", |side, _| JoinGroupRequest {
        session_timeout_ms: 1_800_001,
        ..join(side, "odd", "")
    });
    script.each("an unknown member of a group", |side, _| JoinGroupRequest {
        member_id: Str::from("nobody"),
        ..join(side, "odd", "")
    });
    script.each("an unknown member of a group", |side, _| SyncGroupRequest {
        member_id: Str::from("nobody"),
        ..sync(side, "odd", "", 1)
    });
    script.each("of an older generation", |side, _| sync(side, "odd", "o1", 0));
    script.each("of a later generation", |side, _| sync(side, "odd", "o1", 2));
    script.over("of no protocol", 5..=5, |side, _| SyncGroupRequest {
        protocol_name: None,
        ..sync(side, "odd", "o1", 1)
    });
    script.once("what became of odd", |side, _| describe(side, "odd"));
}

/// Offsets of a topic that a member reads stay.
fn subscribed(script: &mut Script) {
    let delete = |side: &Side, topic: &str| OffsetDeleteRequest {
        group_id: side.name("readers"),
        topics: vec![OffsetDeleteRequestTopic {
            name: side.name(topic),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    script
        .over("a reader of main", 3..=3, |side, _| {
            let topic = side.name("main");
            let length = (topic.len() as u16).to_be_bytes();
            let subscription = [&[0, 0, 0, 0, 0, 1][..], &length, topic.as_bytes(), &[0xff; 4]].concat();
            let protocol =
                JoinGroupRequestProtocol { name: Str::from("range"), metadata: Bytes::from(subscription) };
            JoinGroupRequest { protocols: vec![protocol], ..join(side, "readers", "") }
        })
        .settled()
        .learn(learn_member("reader"));
    script.once("what is read, before the assignment", move |side, _| delete(side, "main"));
    script.once("a reader of main, assigned", |side, _| assigned(side, "readers", "reader", 1));
    script.once("a reader's commit", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: side.text("reader"),
        ..commit(side, v, side.name("readers"), "main", 0, 1)
    });
    script.once("what is read", move |side, _| delete(side, "main"));
    script.once("what is not read", move |side, _| delete(side, "compact"));
    script.once("what is read and what is not", move |side, _| {
        let mut request = delete(side, "main");
        request.topics.extend(delete(side, "compact").topics);
        request
    });
    script.once("of a group whose metadata is unreadable", move |side, _| OffsetDeleteRequest {
        group_id: side.name("odd"),
        ..delete(side, "main")
    });
}

fn leave_lists(script: &mut Script) {
    script.over("nobody leaves", 3..=5, |side, v| LeaveGroupRequest {
        members: vec![],
        ..leave(side, v, "odd", Str::default())
    });
    script.over("nobody leaves an unknown group", 3..=5, |side, v| LeaveGroupRequest {
        members: vec![],
        ..leave(side, v, "unheard", Str::default())
    });
    script.over("two strangers leave", 3..=5, |side, v| {
        let mut request = leave(side, v, "odd", Str::from("nobody"));
        request.members.push(MemberIdentity { group_instance_id: some("sand"), ..Default::default() });
        request
    });
    script.each("a stranger leaves", |side, v| leave(side, v, "odd", Str::from("nobody")));
    script.each("one without a name leaves", |side, v| leave(side, v, "odd", Str::default()));
    script.once("one leaves twice", |side, v| {
        let mut request = leave(side, v, "odd", side.text("o1"));
        request.members.push(request.members[0].clone());
        request
    });
    script.once("odd is empty", |side, _| describe(side, "odd"));
}
