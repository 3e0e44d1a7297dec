use crate::rig::start;
use wire::{ApiKey, Request};

fn empty(key: ApiKey) -> Request {
    match key {
        ApiKey::Produce => Request::Produce(Default::default()),
        ApiKey::Fetch => Request::Fetch(Default::default()),
        ApiKey::ListOffsets => Request::ListOffsets(Default::default()),
        ApiKey::Metadata => Request::Metadata(Default::default()),
        ApiKey::OffsetCommit => Request::OffsetCommit(Default::default()),
        ApiKey::OffsetFetch => Request::OffsetFetch(Default::default()),
        ApiKey::FindCoordinator => Request::FindCoordinator(Default::default()),
        ApiKey::JoinGroup => Request::JoinGroup(Default::default()),
        ApiKey::Heartbeat => Request::Heartbeat(Default::default()),
        ApiKey::LeaveGroup => Request::LeaveGroup(Default::default()),
        ApiKey::SyncGroup => Request::SyncGroup(Default::default()),
        ApiKey::DescribeGroups => Request::DescribeGroups(Default::default()),
        ApiKey::ListGroups => Request::ListGroups(Default::default()),
        ApiKey::ApiVersions => Request::ApiVersions(Default::default()),
        ApiKey::CreateTopics => Request::CreateTopics(Default::default()),
        ApiKey::DeleteTopics => Request::DeleteTopics(Default::default()),
        ApiKey::DeleteRecords => Request::DeleteRecords(Default::default()),
        ApiKey::InitProducerId => Request::InitProducerId(Default::default()),
        ApiKey::OffsetForLeaderEpoch => Request::OffsetForLeaderEpoch(Default::default()),
        ApiKey::DescribeConfigs => Request::DescribeConfigs(Default::default()),
        ApiKey::AlterConfigs => Request::AlterConfigs(Default::default()),
        ApiKey::AlterReplicaLogDirs => Request::AlterReplicaLogDirs(Default::default()),
        ApiKey::ElectLeaders => Request::ElectLeaders(Default::default()),
        ApiKey::DescribeLogDirs => Request::DescribeLogDirs(Default::default()),
        ApiKey::CreatePartitions => Request::CreatePartitions(Default::default()),
        ApiKey::DeleteGroups => Request::DeleteGroups(Default::default()),
        ApiKey::IncrementalAlterConfigs => Request::IncrementalAlterConfigs(Default::default()),
        ApiKey::AlterPartitionReassignments => Request::AlterPartitionReassignments(Default::default()),
        ApiKey::ListPartitionReassignments => Request::ListPartitionReassignments(Default::default()),
        ApiKey::UnregisterBroker => Request::UnregisterBroker(Default::default()),
        ApiKey::OffsetDelete => Request::OffsetDelete(Default::default()),
        ApiKey::DescribeQuorum => Request::DescribeQuorum(Default::default()),
        ApiKey::UpdateFeatures => Request::UpdateFeatures(Default::default()),
        ApiKey::AddRaftVoter => Request::AddRaftVoter(Default::default()),
        ApiKey::RemoveRaftVoter => Request::RemoveRaftVoter(Default::default()),
        ApiKey::DescribeCluster => Request::DescribeCluster(Default::default()),
        ApiKey::DescribeProducers => Request::DescribeProducers(Default::default()),
        ApiKey::AddPartitionsToTxn => Request::AddPartitionsToTxn(Default::default()),
        ApiKey::AddOffsetsToTxn => Request::AddOffsetsToTxn(Default::default()),
        ApiKey::EndTxn => Request::EndTxn(Default::default()),
        ApiKey::WriteTxnMarkers => Request::WriteTxnMarkers(Default::default()),
        ApiKey::TxnOffsetCommit => Request::TxnOffsetCommit(Default::default()),
        ApiKey::DescribeTransactions => Request::DescribeTransactions(Default::default()),
        ApiKey::ListTransactions => Request::ListTransactions(Default::default()),
        ApiKey::ConsumerGroupHeartbeat => Request::ConsumerGroupHeartbeat(Default::default()),
        ApiKey::ConsumerGroupDescribe => Request::ConsumerGroupDescribe(Default::default()),
        ApiKey::ListConfigResources => Request::ListConfigResources(Default::default()),
        ApiKey::DescribeTopicPartitions => Request::DescribeTopicPartitions(Default::default()),
    }
}

#[test]
fn every_version_of_every_api_is_answered_in_its_own_form() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 2);
    for api in wire::served() {
        for version in api.min..=api.max {
            let mut request = empty(api.key);
            match &mut request {
                Request::Produce(produce) => produce.acks = 1,
                // Versions that cannot ask for "all" by null.
                Request::Metadata(metadata) if version == 0 => metadata.topics = Some(Vec::new()),
                Request::OffsetFetch(fetch) if version < 2 => fetch.topics = Some(Vec::new()),
                _ => {}
            }
            client.ask(api.key, version, request);
        }
    }
}
