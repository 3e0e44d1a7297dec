//! Coordinators, committed offsets without members, descriptions, deletions.
use super::some;
use crate::script::Script;
use crate::side::Side;
use model::TopicId;
use wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, Str,
};

/// A commit from outside the group's members.
pub(super) fn commit(
    side: &Side,
    v: i16,
    group: Str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> OffsetCommitRequest {
    let (name, topic_id) =
        if v <= 9 { (side.name(topic), TopicId::ZERO) } else { (Str::default(), side.id(topic)) };
    OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![OffsetCommitRequestTopic {
            name,
            topic_id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_leader_epoch: -1,
                commit_timestamp: -1,
                committed_metadata: some("note"),
            }],
        }],
        ..Default::default()
    }
}

/// What is committed for these partitions, or for all.
pub(super) fn fetch(
    side: &Side,
    v: i16,
    group: Str,
    topics: Option<&[(&str, &[i32])]>,
) -> OffsetFetchRequest {
    if v >= 8 {
        let row = |(name, partitions): &(&str, &[i32])| OffsetFetchRequestTopics {
            name: if v <= 9 { side.name(name) } else { Str::default() },
            topic_id: if v <= 9 { TopicId::ZERO } else { side.id(name) },
            partition_indexes: partitions.to_vec(),
        };
        let topics = topics.map(|rows| rows.iter().map(row).collect());
        let group = OffsetFetchRequestGroup { group_id: group, member_id: None, member_epoch: -1, topics };
        return OffsetFetchRequest { groups: vec![group], ..Default::default() };
    }
    let row = |(name, partitions): &(&str, &[i32])| OffsetFetchRequestTopic {
        name: side.name(name),
        partition_indexes: partitions.to_vec(),
    };
    let topics = topics.map(|rows| rows.iter().map(row).collect());
    OffsetFetchRequest { group_id: group, topics, ..Default::default() }
}

pub(super) fn steps(script: &mut Script) {
    coordinators(script);
    offsets(script);
    deletions(script);
    descriptions(script);
}

fn find(v: i16, kind: i8, key: Str) -> FindCoordinatorRequest {
    let (key, coordinator_keys) = if v >= 4 { (Str::default(), vec![key]) } else { (key, vec![]) };
    FindCoordinatorRequest { key, key_type: kind, coordinator_keys }
}

/// What Kafka makes its state topics for: last, because it shows wherever all topics are listed.
pub(super) fn not_served(script: &mut Script) {
    script.over("of a share group", 6..=6, move |_, v| find(v, 2, Str::from("g:AAAAAAAAAAAAAAAAAAAAAQ:0")));
}

fn coordinators(script: &mut Script) {
    script.each("of a group", move |side, v| find(v, 0, side.name("g"))).settled();
    script.over("of an empty group", 1..=6, move |_, v| find(v, 0, Str::default()));
    script.over("of an unknown kind", 1..=6, move |_, v| find(v, 9, Str::from("x")));
    script.over("of a badly named share group", 6..=6, move |_, v| find(v, 2, Str::from("x")));
    script.over("of none", 4..=6, |_, _| FindCoordinatorRequest::default());
    script.over("of one twice", 4..=6, |side, _| FindCoordinatorRequest {
        coordinator_keys: vec![side.name("g"), side.name("g"), Str::default()],
        ..Default::default()
    });
    script.over("of two", 4..=6, |side, _| FindCoordinatorRequest {
        coordinator_keys: vec![side.name("g"), side.name("h")],
        ..Default::default()
    });
}

fn offsets(script: &mut Script) {
    script.each("without members", |side, v| commit(side, v, side.name("plain"), "main", 0, 3)).settled();
    script.each("of an unknown partition", |side, v| commit(side, v, side.name("plain"), "main", 99, 3));
    script.over("of an unknown topic", 1..=9, |side, v| commit(side, v, side.name("plain"), "nowhere", 0, 3));
    script.over("of an unknown id", 10..=10, |side, v| {
        let mut request = commit(side, v, side.name("plain"), "main", 0, 3);
        request.topics[0].topic_id = TopicId([7; 16]);
        request
    });
    script.each("of a negative offset", |side, v| commit(side, v, side.name("plain"), "main", 1, -5));
    script.each("of an empty group name", |side, v| commit(side, v, Str::default(), "main", 1, 5));
    script.each("with long metadata", |side, v| {
        let mut request = commit(side, v, side.name("plain"), "main", 1, 5);
        request.topics[0].partitions[0].committed_metadata = Some(Str::from("x".repeat(5000)));
        request
    });
    script.each("without metadata", |side, v| {
        let mut request = commit(side, v, side.name("plain"), "main", 2, 7);
        request.topics[0].partitions[0].committed_metadata = None;
        request
    });
    script.each("by an unknown member", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 3,
        member_id: Str::from("nobody"),
        ..commit(side, v, side.name("plain"), "main", 0, 3)
    });
    script.each("of a partition twice", |side, v| {
        let mut request = commit(side, v, side.name("plain"), "main", 0, 3);
        let twice = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(OffsetCommitRequestPartition { committed_offset: 4, ..twice });
        request
    });
    script.each("of a topic twice", |side, v| {
        let mut request = commit(side, v, side.name("plain"), "main", 0, 3);
        request.topics.extend(commit(side, v, side.name("plain"), "main", 1, 6).topics);
        request
    });
    script.each("of a topic without partitions", |side, v| {
        let mut request = commit(side, v, side.name("plain"), "main", 0, 3);
        request.topics[0].partitions.clear();
        request
    });
    script.over("of a zero id", 10..=10, |side, v| commit(side, v, side.name("plain"), "nowhere", 0, 3));
    script.over("of one good and one unknown topic", 1..=9, |side, v| {
        let mut request = commit(side, v, side.name("plain"), "main", 0, 3);
        request.topics.extend(commit(side, v, side.name("plain"), "nowhere", 1, 6).topics);
        request
    });
    script.each("of a negative partition", |side, v| commit(side, v, side.name("plain"), "main", -1, 3));
    script.each("of the largest offset", |side, v| commit(side, v, side.name("plain"), "main", 2, i64::MAX));
    script.over("with a retention", 2..=4, |side, v| OffsetCommitRequest {
        retention_time_ms: 86_400_000,
        ..commit(side, v, side.name("plain"), "main", 0, 3)
    });
    script.each("by a member of no group", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 0,
        member_id: Str::from("nobody"),
        ..commit(side, v, side.name("unheard"), "main", 0, 3)
    });
    script.each("by nobody of a generation", |side, v| OffsetCommitRequest {
        generation_id_or_member_epoch: 0,
        ..commit(side, v, side.name("unheard"), "main", 0, 3)
    });
    script.over("by an unknown static member", 7..=10, |side, v| OffsetCommitRequest {
        group_instance_id: some("pillar"),
        ..commit(side, v, side.name("plain"), "main", 0, 3)
    });
    script.each("of nothing", |side, v| OffsetCommitRequest {
        topics: vec![],
        ..commit(side, v, side.name("plain"), "main", 0, 3)
    });
    script.each("committed", |side, v| fetch(side, v, side.name("plain"), Some(&[("main", &[0, 1, 2, 99])])));
    script.over("all", 2..=10, |side, v| fetch(side, v, side.name("plain"), None));
    script.over("all, stable", 7..=10, |side, v| OffsetFetchRequest {
        require_stable: true,
        ..fetch(side, v, side.name("plain"), None)
    });
    script
        .each("of an unknown group", |side, v| fetch(side, v, side.name("unheard"), Some(&[("main", &[0])])));
    script.over("all of an unknown group", 2..=10, |side, v| fetch(side, v, side.name("unheard"), None));
    script.each("of an empty group name", |side, v| fetch(side, v, Str::default(), Some(&[("main", &[0])])));
    script.over("of an unknown topic", 1..=9, |side, v| {
        fetch(side, v, side.name("plain"), Some(&[("nowhere", &[0])]))
    });
    script.over("of nothing", 2..=10, |side, v| fetch(side, v, side.name("plain"), Some(&[])));
    script.each("of a partition twice", |side, v| {
        fetch(side, v, side.name("plain"), Some(&[("main", &[0, 0]), ("main", &[0, 1])]))
    });
    script.over("of no groups", 8..=10, |_, _| OffsetFetchRequest::default());
    script.over("of two groups", 8..=10, |side, v| {
        let mut request = fetch(side, v, side.name("plain"), None);
        request.groups.extend(fetch(side, v, side.name("unheard"), Some(&[("main", &[1])])).groups);
        request
    });
    script.over("of a group twice", 8..=10, |side, v| {
        let mut request = fetch(side, v, side.name("plain"), None);
        request.groups.extend(fetch(side, v, side.name("plain"), Some(&[("main", &[1])])).groups);
        request
    });
    script.over("of an unknown id", 10..=10, |side, v| {
        let mut request = fetch(side, v, side.name("plain"), Some(&[("main", &[0])]));
        for topic in request.groups[0].topics.iter_mut().flatten() {
            topic.topic_id = TopicId([7; 16]);
        }
        request
    });
    script.over("of a zero id", 10..=10, |side, v| {
        fetch(side, v, side.name("plain"), Some(&[("nowhere", &[0]), ("main", &[0])]))
    });
    script.over("of an unknown member", 9..=10, |side, v| {
        let mut request = fetch(side, v, side.name("plain"), None);
        request.groups[0].member_id = some("nobody");
        request.groups[0].member_epoch = 3;
        request
    });
}

fn deletions(script: &mut Script) {
    let delete = |side: &Side, group: &str, topic: &str, partitions: &[i32]| OffsetDeleteRequest {
        group_id: if group.is_empty() { Str::default() } else { side.name(group) },
        topics: vec![OffsetDeleteRequestTopic {
            name: side.name(topic),
            partitions: partitions
                .iter()
                .map(|partition_index| OffsetDeleteRequestPartition { partition_index: *partition_index })
                .collect(),
        }],
    };
    script.each("one", move |side, _| delete(side, "plain", "main", &[2]));
    script.each("one that is not there", move |side, _| delete(side, "plain", "main", &[1]));
    script.each("of an unknown partition", move |side, _| delete(side, "plain", "main", &[99]));
    script.each("of an unknown topic", move |side, _| delete(side, "plain", "nowhere", &[0]));
    script.each("of an unknown group", move |side, _| delete(side, "unheard", "main", &[0]));
    script.each("of an empty group name", move |side, _| delete(side, "", "main", &[0]));
    script.each("of a partition twice", move |side, _| delete(side, "plain", "main", &[1, 1]));
    script.each("of no partitions", move |side, _| delete(side, "plain", "main", &[]));
    script
        .each("of no topics", |side, _| OffsetDeleteRequest { group_id: side.name("plain"), topics: vec![] });
    script.once("after deletions", |side, v| fetch(side, v, side.name("plain"), None));
}

fn descriptions(script: &mut Script) {
    script.each("without members", |side, _| DescribeGroupsRequest {
        groups: vec![side.name("plain")],
        include_authorized_operations: false,
    });
    script.over("what may be done", 3..=6, |side, _| DescribeGroupsRequest {
        groups: vec![side.name("plain")],
        include_authorized_operations: true,
    });
    script.each("unknown", |side, _| DescribeGroupsRequest {
        groups: vec![side.name("unheard"), Str::default()],
        include_authorized_operations: false,
    });
    script.each("none", |_, _| DescribeGroupsRequest::default());
    script.each("twice", |side, _| DescribeGroupsRequest {
        groups: vec![side.name("plain"), side.name("plain")],
        include_authorized_operations: false,
    });
    script.each("all", |_, _| ListGroupsRequest::default());
    for (name, state, kind) in [
        ("empty ones", "Empty", ""),
        ("stable ones", "stable", ""),
        ("of an unknown state", "Happy", ""),
        ("dead ones", "DEAD", ""),
        ("assigning ones", "Assigning", ""),
        ("preparing ones", "preparingrebalance", ""),
        ("empty classic ones", "empty", "CLASSIC"),
        ("share ones", "", "share"),
        ("streams ones", "", "streams"),
        ("classic ones", "", "classic"),
        ("consumer ones", "", "Consumer"),
        ("of an unknown type", "", "special"),
    ] {
        let list = |text: &str| if text.is_empty() { vec![] } else { vec![Str::from(text)] };
        let (states, kinds) = (list(state), list(kind));
        let from = if kind.is_empty() { 4 } else { 5 };
        script.over(name, from..=5, move |_, _| ListGroupsRequest {
            states_filter: states.clone(),
            types_filter: kinds.clone(),
        });
    }
    script.each("unknown and unnamed", |side, _| DeleteGroupsRequest {
        groups_names: vec![side.name("unheard"), Str::default()],
    });
    script.each("none", |_, _| DeleteGroupsRequest::default());
    script.each("twice", |side, _| DeleteGroupsRequest {
        groups_names: vec![side.name("unheard"), side.name("unheard")],
    });
    script.once("known", |side, _| DeleteGroupsRequest { groups_names: vec![side.name("plain")] });
    script.once("known before", |side, _| DeleteGroupsRequest { groups_names: vec![side.name("plain")] });
}
