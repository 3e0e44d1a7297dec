//! Consumer groups of the new protocol (KIP-848): one member from its first heartbeat to its last.
use super::groups;
use super::some;
use crate::script::Script;
use crate::side::Side;
use wire::consumer_group_heartbeat_request::TopicPartitions;
use wire::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, ResponseBody, Str,
};

const GROUP: &str = "of consumers";

pub(super) fn steps(script: &mut Script) {
    refusals(script);
    member(script);
    shows(script);
    offsets(script);
    ends(script);
}

/// The epoch that the member has joined at, moved by `by`: Kafka 4.4 begins at 2, and nobody counts on where epochs begin.
fn epoch(side: &Side, by: i32) -> i32 {
    side.number("epoch of consumers", 1) as i32 + by
}

fn learn_epoch(side: &mut Side, body: &ResponseBody) {
    let ResponseBody::ConsumerGroupHeartbeat(answer) = body else { return };
    if answer.error_code == 0 {
        let epoch = i64::from(answer.member_epoch);
        for field in ["member_epoch", "group_epoch", "assignment_epoch"] {
            side.learn_number("epoch of consumers", field, epoch);
        }
        side.learn_number("next epoch of consumers", "group_epoch", epoch + 1);
    }
}

/// A heartbeat that changes nothing.
fn beat(side: &Side, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: side.name(GROUP),
        member_id: Str::from("member-a"),
        member_epoch: epoch,
        ..Default::default()
    }
}

fn join(side: &Side) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![side.name("main")]),
        topic_partitions: Some(Vec::new()),
        ..beat(side, 0)
    }
}

fn refusals(script: &mut Script) {
    type Change = fn(&mut ConsumerGroupHeartbeatRequest);
    let cases: [(&str, Change); 11] = [
        ("of an empty group name", |r| r.group_id = Str::default()),
        ("without a member id", |r| r.member_id = Str::default()),
        ("of an empty instance id", |r| r.instance_id = some("")),
        ("of an empty rack", |r| r.rack_id = some("")),
        ("that joins without a rebalance timeout", |r| r.rebalance_timeout_ms = -1),
        ("that joins without partitions", |r| r.topic_partitions = None),
        ("that joins with partitions", |r| {
            r.topic_partitions = Some(vec![TopicPartitions { partitions: vec![0], ..Default::default() }]);
        }),
        ("that joins without a subscription", |r| r.subscribed_topic_names = None),
        ("of an assignor that is none", |r| r.server_assignor = some("best")),
        ("of an epoch that is none", |r| r.member_epoch = -3),
        ("of a bad regular expression", |r| r.subscribed_topic_regex = some("[")),
    ];
    for (name, change) in cases {
        script.once(name, move |side, _| {
            let mut request = join(side);
            change(&mut request);
            request
        });
    }
    script.each("to no group", |side, _| beat(side, 1));
    script.each("that leaves no group", |side, _| beat(side, -1));
    script.each("that leaves for a while without an instance id", |side, _| beat(side, -2));
}

fn member(script: &mut Script) {
    script.once("that joins", |side, _| join(side)).settled().learn(learn_epoch);
    script.once("that joins again", |side, _| join(side));
    script.each("at its epoch", |side, _| beat(side, epoch(side, 0)));
    script.each("of a newer epoch", |side, _| beat(side, epoch(side, 4)));
    script.each("of nobody", |side, _| ConsumerGroupHeartbeatRequest {
        member_id: Str::from("member-z"),
        ..beat(side, 1)
    });
    script.each("that leaves by nobody", |side, _| ConsumerGroupHeartbeatRequest {
        member_id: Str::from("member-z"),
        ..beat(side, -1)
    });
}

fn shows(script: &mut Script) {
    let describe = |side: &Side, names: &[&str]| ConsumerGroupDescribeRequest {
        group_ids: names.iter().map(|name| side.name(name)).collect(),
        include_authorized_operations: true,
    };
    script.each("a group", move |side, _| describe(side, &[GROUP]));
    script.each("a classic one and none", move |side, _| describe(side, &["plain", "no such"]));
    script.each("none at all", move |side, _| describe(side, &[]));
    script.each("of the new protocol", |side, _| DescribeGroupsRequest {
        groups: vec![side.name(GROUP)],
        include_authorized_operations: false,
    });
    script.over("those of the new protocol", 5..=5, |_, _| ListGroupsRequest {
        types_filter: vec![Str::from("Consumer")],
        ..Default::default()
    });
}

fn offsets(script: &mut Script) {
    let commit = |side: &Side, v: i16, member: &str, epoch: i32| OffsetCommitRequest {
        member_id: Str::from(member),
        generation_id_or_member_epoch: epoch,
        ..groups::commit(side, v, side.name(GROUP), "main", 0, 7)
    };
    script.over("of a member", 5..=10, move |side, v| commit(side, v, "member-a", epoch(side, 0)));
    script.over("of a member at an older epoch", 9..=10, move |side, v| commit(side, v, "member-a", 0));
    script.over("of a member at a newer epoch", 9..=10, move |side, v| {
        commit(side, v, "member-a", epoch(side, 1))
    });
    script.over("of nobody", 9..=10, move |side, v| commit(side, v, "member-z", 1));
    script.over("of nobody in particular", 9..=10, move |side, v| commit(side, v, "", -1));
    let fetch = |side: &Side, v: i16, member: &str, epoch: i32| -> OffsetFetchRequest {
        let mut request = groups::fetch(side, v, side.name(GROUP), Some(&[("main", &[0])]));
        for group in &mut request.groups {
            (group.member_id, group.member_epoch) = (some(member), epoch);
        }
        request
    };
    script.over("of a member", 9..=10, move |side, v| fetch(side, v, "member-a", epoch(side, 0)));
    script.over("of a member at an older epoch", 9..=10, move |side, v| fetch(side, v, "member-a", 0));
    script.over("of nobody", 9..=10, move |side, v| fetch(side, v, "member-z", 1));
}

fn ends(script: &mut Script) {
    let delete = |side: &Side| DeleteGroupsRequest { groups_names: vec![side.name(GROUP)] };
    script.once("with a member", move |side, _| delete(side));
    script.once("that leaves", |side, _| beat(side, -1));
    script.each("after all have left", |side, _| ConsumerGroupDescribeRequest {
        group_ids: vec![side.name(GROUP)],
        include_authorized_operations: false,
    });
    script.once("that nobody is in", move |side, _| delete(side));
}
