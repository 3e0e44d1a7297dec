//! Requests that change a cluster: moves, elections, voters, features. What is asked for is mostly impossible, so that both
//! clusters stay as they are.
use super::some;
use crate::script::Script;
use wire::add_raft_voter_request::Listener;
use wire::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use wire::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use wire::describe_quorum_request::{PartitionData, TopicData};
use wire::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use wire::update_features_request::FeatureUpdateKey;
use wire::{
    AddRaftVoterRequest, AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest,
    DescribeQuorumRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest, RemoveRaftVoterRequest,
    Str, UnregisterBrokerRequest, UpdateFeaturesRequest, elect_leaders_request,
};

const PATIENCE_MS: i32 = 10_000;

pub(super) fn steps(script: &mut Script) {
    moves(script);
    elections(script);
    quorum(script);
    script.each("an unknown broker", |_, _| UnregisterBrokerRequest { broker_id: 99 });
    script.each("an unknown feature", |_, _| UpdateFeaturesRequest {
        timeout_ms: PATIENCE_MS,
        feature_updates: vec![FeatureUpdateKey {
            feature: Str::from("no.such.version"),
            max_version_level: 1,
            upgrade_type: 1,
            ..Default::default()
        }],
        ..Default::default()
    });
    log_dirs(script);
}

fn moves(script: &mut Script) {
    let ask = |name: Str, partition_index: i32, replicas: Option<Vec<i32>>| {
        let partitions = vec![ReassignablePartition { partition_index, replicas }];
        AlterPartitionReassignmentsRequest {
            timeout_ms: PATIENCE_MS,
            allow_replication_factor_change: true,
            topics: vec![ReassignableTopic { name, partitions }],
        }
    };
    script.each("of an unknown topic", move |side, _| ask(side.name("nowhere"), 0, Some(vec![1])));
    script.each("of an unknown partition", move |side, _| ask(side.name("main"), 99, Some(vec![1])));
    script.each("nothing to take back", move |side, _| ask(side.name("main"), 0, None));
    let list = |name: Str| ListPartitionReassignmentsRequest {
        timeout_ms: PATIENCE_MS,
        topics: Some(vec![ListPartitionReassignmentsTopics { name, partition_indexes: vec![0] }]),
    };
    script.each("of one", move |side, _| list(side.name("main")));
    script.each("all", |_, _| ListPartitionReassignmentsRequest { timeout_ms: PATIENCE_MS, topics: None });
}

fn elections(script: &mut Script) {
    let ask = |topic: Str, partition: i32| ElectLeadersRequest {
        election_type: 0,
        topic_partitions: Some(vec![elect_leaders_request::TopicPartitions {
            topic,
            partitions: vec![partition],
        }]),
        timeout_ms: PATIENCE_MS,
    };
    script.each("who leads already", move |side, _| ask(side.name("main"), 0));
    script.each("of an unknown topic", move |side, _| ask(side.name("nowhere"), 0));
}

fn quorum(script: &mut Script) {
    script.each("of a topic", |side, _| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: side.name("main"),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    });
    script.each("of another cluster", |_, _| AddRaftVoterRequest {
        cluster_id: some("another"),
        timeout_ms: PATIENCE_MS,
        voter_id: 99,
        voter_directory_id: [7; 16],
        listeners: vec![Listener { name: Str::from("CONTROLLER"), host: Str::from("127.0.0.1"), port: 9093 }],
        ..Default::default()
    });
    script.each("of another cluster", |_, _| RemoveRaftVoterRequest {
        cluster_id: some("another"),
        voter_id: 99,
        voter_directory_id: [7; 16],
    });
}

fn log_dirs(script: &mut Script) {
    let ask = |name: Str| AlterReplicaLogDirsRequest {
        dirs: vec![AlterReplicaLogDir {
            path: Str::from("/no/such/directory"),
            topics: vec![AlterReplicaLogDirTopic { name, partitions: vec![0] }],
        }],
    };
    script.over("to an unknown directory", 1..=2, move |side, _| ask(side.name("main")));
    script.over("of an unknown topic", 1..=2, move |side, _| ask(side.name("nowhere")));
}
