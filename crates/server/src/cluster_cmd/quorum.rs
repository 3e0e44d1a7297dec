//! The metadata's members, as DescribeQuorum tells them.
use crate::admin::connect::advise;
use anyhow::bail;
use client_lite::Client;
use model::ErrorCode;
use std::collections::BTreeMap;
use wire::DescribeQuorumRequest;
use wire::describe_quorum_request::{PartitionData, TopicData};
use wire::describe_quorum_response::ReplicaState;

/// Who votes, who follows, and where they are reached by each other.
pub(crate) struct QuorumState {
    /// The node that leads the metadata.
    pub(crate) leader: i32,
    /// One past the last committed entry.
    pub(crate) end: i64,
    /// By node.
    pub(crate) members: BTreeMap<i32, Member>,
}

/// One node.
pub(crate) struct Member {
    pub(crate) votes: bool,
    pub(crate) directory: [u8; 16],
    /// One past the last entry that it has; -1: none is known.
    pub(crate) end: i64,
    /// Where other nodes connect.
    pub(crate) address: Option<(String, u16)>,
}

impl QuorumState {
    /// Asks for it.
    pub(crate) async fn ask(client: &Client) -> anyhow::Result<QuorumState> {
        let partitions = vec![PartitionData { partition_index: 0 }];
        let topics = vec![TopicData { topic_name: "__cluster_metadata".into(), partitions }];
        let answer = client.ask_any(DescribeQuorumRequest { topics }).await.map_err(advise)?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
        let code = partition.map_or(answer.error_code, |p| p.error_code);
        let Some(partition) = partition.filter(|_| code == 0) else {
            let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
            bail!("the metadata has no leader that could answer: {code}\n  Are most of its voters up?");
        };
        let mut members = BTreeMap::new();
        let rows = |rows: &[ReplicaState], votes: bool| -> Vec<(i32, Member)> {
            let member = |row: &ReplicaState| {
                let directory = row.replica_directory_id;
                (row.replica_id, Member { votes, directory, end: row.log_end_offset, address: None })
            };
            rows.iter().map(member).collect()
        };
        members.extend(rows(&partition.current_voters, true));
        members.extend(rows(&partition.observers, false));
        for node in &answer.nodes {
            let listener = node.listeners.first();
            if let (Some(member), Some(at)) = (members.get_mut(&node.node_id), listener) {
                member.address = Some((at.host.to_string(), at.port));
            }
        }
        Ok(QuorumState { leader: partition.leader_id, end: partition.high_watermark, members })
    }

    /// Where voters are reached, to be found there by others.
    pub(crate) fn voters_at(&self) -> Vec<(String, u16)> {
        self.members.values().filter(|m| m.votes).filter_map(|m| m.address.clone()).collect()
    }
}
