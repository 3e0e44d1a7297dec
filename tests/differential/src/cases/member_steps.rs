//! Members of a classic group: joining, rebalances, static members, leaving.
use super::groups::{commit, fetch};
use super::some;
use crate::script::Script;
use crate::side::Side;
use bytes::Bytes;
use wire::join_group_request::JoinGroupRequestProtocol;
use wire::leave_group_request::MemberIdentity;
use wire::sync_group_request::SyncGroupRequestAssignment;
use wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, ResponseBody, Str, SyncGroupRequest,
};

/// A join as `member`, a name under which an id was learned.
pub(super) fn join(side: &Side, group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: side.name(group),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: side.text(member),
        protocol_type: Str::from("consumer"),
        protocols: vec![
            JoinGroupRequestProtocol { name: Str::from("range"), metadata: Bytes::from_static(b"\0\x01r") },
            JoinGroupRequestProtocol { name: Str::from("sticky"), metadata: Bytes::from_static(b"\0\x01s") },
        ],
        ..Default::default()
    }
}

pub(super) fn sync(side: &Side, group: &str, member: &str, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: side.name(group),
        generation_id: generation,
        member_id: side.text(member),
        protocol_type: some("consumer"),
        protocol_name: some("range"),
        ..Default::default()
    }
}

pub(super) fn beat(side: &Side, group: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: side.name(group),
        generation_id: generation,
        member_id: side.text(member),
        group_instance_id: None,
    }
}

pub(super) fn leave(side: &Side, v: i16, group: &str, member: Str) -> LeaveGroupRequest {
    let identity = MemberIdentity { member_id: member.clone(), ..Default::default() };
    let (member_id, members) = if v >= 3 { (Str::default(), vec![identity]) } else { (member, vec![]) };
    LeaveGroupRequest { group_id: side.name(group), member_id, members }
}

/// Keeps the id that a join was given.
pub(super) fn learn_member(member: &'static str) -> impl Fn(&mut Side, &ResponseBody) {
    move |side, body| {
        if let ResponseBody::JoinGroup(answer) = body {
            side.learn_text(member, &answer.member_id);
        }
    }
}

pub(super) fn steps(script: &mut Script) {
    every_version(script);
    bad_joins(script);
    one_member(script);
    second_member(script);
    static_members(script);
    leaving(script);
}

/// A group for each version of JoinGroup: a join, and from version 4 on another with the id given.
fn every_version(script: &mut Script) {
    const NAMES: [&str; 10] = ["j0", "j1", "j2", "j3", "j4", "j5", "j6", "j7", "j8", "j9"];
    for v in 0..=9i16 {
        let group = NAMES[v as usize];
        script
            .over("the first", v..=v, move |side, _| join(side, group, group))
            .settled()
            .learn(learn_member(group));
        script.over("with the id given", 4.max(v)..=v.max(3), move |side, _| join(side, group, group));
        let sync_at = v.min(5);
        script.over("alone", sync_at..=sync_at, move |side, _| SyncGroupRequest {
            assignments: vec![SyncGroupRequestAssignment {
                member_id: side.text(group),
                assignment: Bytes::from_static(b"mine"),
            }],
            ..sync(side, group, group, 1)
        });
        let beat_at = v.min(4);
        script.over("alone", beat_at..=beat_at, move |side, _| beat(side, group, group, 1));
        let describe_at = v.min(6);
        script.over("with a member", describe_at..=describe_at, move |side, _| DescribeGroupsRequest {
            groups: vec![side.name(group)],
            include_authorized_operations: false,
        });
        let leave_at = v.min(5);
        script.over("alone", leave_at..=leave_at, move |side, v| leave(side, v, group, side.text(group)));
        script.over("left", describe_at..=describe_at, move |side, _| DescribeGroupsRequest {
            groups: vec![side.name(group)],
            include_authorized_operations: false,
        });
    }
}

fn bad_joins(script: &mut Script) {
    script.each("an empty group name", |side, _| JoinGroupRequest {
        group_id: Str::default(),
        ..join(side, "bad", "")
    });
    script.each("no protocols", |side, _| JoinGroupRequest { protocols: vec![], ..join(side, "bad", "") });
    script.each("no protocol type", |side, _| JoinGroupRequest {
        protocol_type: Str::default(),
        ..join(side, "bad", "")
    });
    script.each("a session too short", |side, _| JoinGroupRequest {
        session_timeout_ms: 1,
        ..join(side, "bad", "")
    });
    script.each("a session too long", |side, _| JoinGroupRequest {
        session_timeout_ms: i32::MAX,
        ..join(side, "bad", "")
    });
    script.each("an unknown member", |side, _| JoinGroupRequest {
        member_id: Str::from("nobody"),
        ..join(side, "bad", "")
    });
    script.each("in an unknown group", |side, _| SyncGroupRequest {
        member_id: Str::from("nobody"),
        ..sync(side, "unheard", "", 1)
    });
    script.each("in an unnamed group", |side, _| SyncGroupRequest {
        group_id: Str::default(),
        member_id: Str::from("nobody"),
        ..sync(side, "unheard", "", 1)
    });
    script.each("in an unknown group", |side, _| HeartbeatRequest {
        member_id: Str::from("nobody"),
        ..beat(side, "unheard", "", 1)
    });
    script.each("in an unnamed group", |side, _| HeartbeatRequest {
        group_id: Str::default(),
        member_id: Str::from("nobody"),
        ..beat(side, "unheard", "", 1)
    });
    script.each("an unknown group", |side, v| leave(side, v, "unheard", Str::from("nobody")));
    script.each("an unnamed group", |side, v| LeaveGroupRequest {
        group_id: Str::default(),
        ..leave(side, v, "unheard", Str::from("nobody"))
    });
}

fn one_member(script: &mut Script) {
    script.once("the first of g", |side, _| join(side, "g", "m1")).settled().learn(learn_member("m1"));
    script.once("an id, not yet joined", |side, _| beat(side, "g", "m1", 0));
    script.once("the first of g, with its id", |side, _| join(side, "g", "m1"));
    script.once("before the assignment", |side, _| beat(side, "g", "m1", 1));
    script.once("a commit before the assignment", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: side.text("m1"),
        ..commit(side, v, side.name("g"), "main", 0, 1)
    });
    script.once("another generation", |side, _| sync(side, "g", "m1", 7));
    script.once("another protocol", |side, _| SyncGroupRequest {
        protocol_name: some("other"),
        ..sync(side, "g", "m1", 1)
    });
    script.once("another protocol type", |side, _| SyncGroupRequest {
        protocol_type: some("other"),
        ..sync(side, "g", "m1", 1)
    });
    script.once("the assignment", |side, _| SyncGroupRequest {
        assignments: vec![SyncGroupRequestAssignment {
            member_id: side.text("m1"),
            assignment: Bytes::from_static(b"all"),
        }],
        ..sync(side, "g", "m1", 1)
    });
    script.once("the assignment again", |side, _| sync(side, "g", "m1", 1));
    script.each("in time", |side, _| beat(side, "g", "m1", 1));
    script.each("of another generation", |side, _| beat(side, "g", "m1", 9));
    script.each("of a stranger", |side, _| beat(side, "g", "nobody", 1));
    script.each("by the member", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: side.text("m1"),
        ..commit(side, v, side.name("g"), "main", 1, 4)
    });
    script.each("by the member, another generation", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 5,
        member_id: side.text("m1"),
        ..commit(side, v, side.name("g"), "main", 1, 4)
    });
    script.each("by nobody, with members there", |side, v| commit(side, v, side.name("g"), "main", 1, 4));
    script.each("of the group", |side, v| fetch(side, v, side.name("g"), Some(&[("main", &[0, 1])])));
    script.each("stable", |side, _| DescribeGroupsRequest {
        groups: vec![side.name("g")],
        include_authorized_operations: false,
    });
    script.once("with members", |_, _| ListGroupsRequest::default());
    script.once("a group with members", |side, _| DeleteGroupsRequest { groups_names: vec![side.name("g")] });
    script.once("other protocols", |side, _| JoinGroupRequest {
        protocols: vec![JoinGroupRequestProtocol { name: Str::from("other"), metadata: Bytes::new() }],
        ..join(side, "g", "")
    });
    script.once("another protocol type", |side, _| JoinGroupRequest {
        protocol_type: Str::from("connect"),
        ..join(side, "g", "")
    });
}

fn second_member(script: &mut Script) {
    script.once("the second of g", |side, _| join(side, "g", "m2")).learn(learn_member("m2"));
    script.begin("the second of g, with its id", |side, _| join(side, "g", "m2"));
    // The join went out on a connection of its own.
    script
        .once("the second of g waits", |side, _| DescribeGroupsRequest {
            groups: vec![side.name("g")],
            include_authorized_operations: false,
        })
        .again(|leaves| !leaves.values().any(|state| state == "\"PreparingRebalance\""));
    script.once("the first of g, again", |side, _| join(side, "g", "m1"));
    script.finish::<JoinGroupRequest>("the second of g, with its id");
    script.once("of the old generation", |side, _| beat(side, "g", "m1", 1));
    script.begin("the second of g waits for its assignment", |side, _| sync(side, "g", "m2", 2));
    script.once("the leader of g", |side, _| SyncGroupRequest {
        assignments: ["m1", "m2"]
            .map(|member| SyncGroupRequestAssignment {
                member_id: side.text(member),
                assignment: Bytes::from_static(b"half"),
            })
            .into(),
        ..sync(side, "g", "m1", 2)
    });
    script.finish::<SyncGroupRequest>("the second of g waits for its assignment");
    script.once("two members", |side, _| DescribeGroupsRequest {
        groups: vec![side.name("g")],
        include_authorized_operations: false,
    });
    script.once("a stranger and the second", |side, v| {
        let mut request = leave(side, v, "g", side.text("m2"));
        request.members.push(MemberIdentity { member_id: Str::from("nobody"), ..Default::default() });
        request
    });
    script.once("after the second left", |side, _| beat(side, "g", "m1", 2));
    script.once("the second, gone", |side, _| beat(side, "g", "m2", 2));
}

fn static_members(script: &mut Script) {
    let as_static = |side: &Side, member: &str| JoinGroupRequest {
        group_instance_id: some("pillar"),
        ..join(side, "s", member)
    };
    script.once("a static member", move |side, _| as_static(side, "p1")).settled().learn(learn_member("p1"));
    script.once("its assignment", |side, _| SyncGroupRequest {
        group_instance_id: some("pillar"),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: side.text("p1"),
            assignment: Bytes::from_static(b"stone"),
        }],
        ..sync(side, "s", "p1", 1)
    });
    script.once("the static member back", move |side, _| as_static(side, "p2")).learn(learn_member("p2"));
    script.once("the one before it", |side, _| HeartbeatRequest {
        group_instance_id: some("pillar"),
        ..beat(side, "s", "p1", 1)
    });
    script.once("the one that came back", |side, _| HeartbeatRequest {
        group_instance_id: some("pillar"),
        ..beat(side, "s", "p2", 1)
    });
    script.once("an unknown static member", |side, _| HeartbeatRequest {
        group_instance_id: some("nobody"),
        ..beat(side, "s", "p2", 1)
    });
    script.once("a fenced commit", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: side.text("p1"),
        group_instance_id: some("pillar"),
        ..commit(side, v, side.name("s"), "main", 0, 1)
    });
    script.once("with a static member", |side, _| DescribeGroupsRequest {
        groups: vec![side.name("s")],
        include_authorized_operations: false,
    });
    script.once("the static member leaves", |side, v| {
        let mut request = leave(side, v, "s", Str::default());
        request.members[0].group_instance_id = some("pillar");
        request
    });
    script.once("it leaves again", |side, v| {
        let mut request = leave(side, v, "s", Str::default());
        request.members[0].group_instance_id = some("pillar");
        request
    });
}

fn leaving(script: &mut Script) {
    script.once("the first of g leaves", |side, v| leave(side, v, "g", side.text("m1")));
    script.once("g is empty", |side, _| DescribeGroupsRequest {
        groups: vec![side.name("g")],
        include_authorized_operations: false,
    });
    script.once("g is kept with its offsets", |side, v| fetch(side, v, side.name("g"), None));
    script.once("empty groups", |side, _| DeleteGroupsRequest {
        groups_names: vec![side.name("g"), side.name("s"), side.name("j5")],
    });
}
