//! Consumer groups of the new protocol (KIP-848) over the wire.
use crate::rig::{Client, start};
use wire::consumer_group_heartbeat_response::Assignment;
use wire::create_partitions_request::CreatePartitionsTopic;
use wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::{
    ApiKey, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    CreatePartitionsRequest, DescribeGroupsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    ListGroupsRequest, ResponseBody, Str,
};

/// Kafka's number of the resource type GROUP.
const GROUP: i8 = 32;
const INVALID_CONFIG: i16 = 40;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_MEMBER_EPOCH: i16 = 110;

fn beat(client: &mut Client, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    let joins = epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "a".into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 60_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec![Str::from("t")]),
        topic_partitions: joins.then(Vec::new),
        ..Default::default()
    };
    let ResponseBody::ConsumerGroupHeartbeat(answer) = client.ask(ApiKey::ConsumerGroupHeartbeat, 1, request)
    else {
        panic!()
    };
    answer
}

fn set(client: &mut Client, name: &str, value: &str) -> i16 {
    let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
    let resource =
        AlterConfigsResource { resource_type: GROUP, resource_name: "g".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let ResponseBody::IncrementalAlterConfigs(answer) =
        client.ask(ApiKey::IncrementalAlterConfigs, 1, request)
    else {
        panic!()
    };
    answer.responses[0].error_code
}

fn find_coordinator(client: &mut Client) {
    loop {
        let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
        let ResponseBody::FindCoordinator(answer) = client.ask(ApiKey::FindCoordinator, 4, request) else {
            panic!()
        };
        if answer.coordinators[0].error_code == 0 {
            return;
        }
    }
}

fn partitions(assignment: Option<Assignment>) -> Vec<i32> {
    assignment.unwrap().topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
}

#[test]
fn a_member_joins_hears_of_new_partitions_and_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let topic = client.create("t", 2);
    find_coordinator(&mut client);
    assert_eq!(beat(&mut client, 1).error_code, GROUP_ID_NOT_FOUND);
    assert_eq!(set(&mut client, "consumer.heartbeat.interval.ms", "4999"), INVALID_CONFIG);
    assert_eq!(set(&mut client, "consumer.heartbeat.interval.ms", "7000"), 0);
    assert_eq!(set(&mut client, "consumer.assignment.interval.ms", "0"), 0);
    let joined = beat(&mut client, 0);
    assert_eq!((joined.error_code, joined.member_epoch, joined.heartbeat_interval_ms), (0, 1, 200));
    assert_eq!(partitions(joined.assignment), [0, 1]);
    assert_eq!(beat(&mut client, 7).error_code, FENCED_MEMBER_EPOCH);

    let more = CreatePartitionsTopic { name: "t".into(), count: 3, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![more], timeout_ms: 10_000, validate_only: false };
    client.ask(ApiKey::CreatePartitions, 3, request);
    let told = beat(&mut client, 1);
    assert_eq!((told.error_code, told.member_epoch), (0, 2));
    assert_eq!(partitions(told.assignment), [0, 1, 2]);
    assert!(beat(&mut client, 2).assignment.is_none(), "nothing new");

    for version in 0..=1 {
        let request = ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() };
        let ResponseBody::ConsumerGroupDescribe(answer) =
            client.ask(ApiKey::ConsumerGroupDescribe, version, request)
        else {
            panic!()
        };
        let group = &answer.groups[0];
        assert_eq!((group.error_code, group.group_state.as_str()), (0, "Stable"));
        assert_eq!((group.group_epoch, group.assignment_epoch), (2, 2));
        assert_eq!(group.assignor_name, "uniform");
        let member = &group.members[0];
        assert_eq!((member.member_id.as_str(), member.member_epoch), ("a", 2));
        let row = &member.assignment.topic_partitions[0];
        assert_eq!((row.topic_id, row.topic_name.as_str(), row.partitions.len()), (topic, "t", 3));
        assert_eq!(member.target_assignment, member.assignment);
        assert!(version == 0 || member.member_type == 1);
    }
    let metrics = broker.http("/metrics");
    assert!(metrics.contains("plimsoll_groups{type=\"consumer\",state=\"Stable\"} 1\n"));
    assert!(metrics.contains("plimsoll_group_members{type=\"consumer\"} 1\n"));
}

#[test]
fn classic_requests_tell_consumer_groups_from_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 1);
    find_coordinator(&mut client);
    assert_eq!(beat(&mut client, 0).error_code, 0);
    let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    let ResponseBody::DescribeGroups(answer) = client.ask(ApiKey::DescribeGroups, 6, request) else {
        panic!()
    };
    assert_eq!(answer.groups[0].error_code, GROUP_ID_NOT_FOUND);
    for (kind, count) in [("consumer", 1), ("classic", 0)] {
        let request = ListGroupsRequest { types_filter: vec![kind.into()], ..Default::default() };
        let ResponseBody::ListGroups(answer) = client.ask(ApiKey::ListGroups, 5, request) else { panic!() };
        assert_eq!(answer.groups.len(), count, "{kind}");
        assert!(answer.groups.iter().all(|group| group.group_type == kind));
    }
}
