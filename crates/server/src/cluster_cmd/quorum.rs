//! The metadata's members, as DescribeQuorum tells them.
use crate::admin::connect::advise;
use anyhow::bail;
use client_lite::{Client, Cluster};
use model::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
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

fn request() -> DescribeQuorumRequest {
    let partitions = vec![PartitionData { partition_index: 0 }];
    let topics = vec![TopicData { topic_name: "__cluster_metadata".into(), partitions }];
    DescribeQuorumRequest { topics }
}

/// Why nothing can be asked of the metadata's leader, if that is so: brokers look for one for as long as a request
/// lasts, so one that does not answer within `patience` counts as none. Who votes is known to the leader alone; of
/// `cluster` those are named that are to hold replicas and are not there.
pub(crate) async fn leaderless(client: &Client, cluster: &Cluster, patience: Duration) -> Option<String> {
    if let Ok(asked) = tokio::time::timeout(patience, client.ask_any(request())).await {
        let answer = asked.ok()?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
        let code = partition.map_or(answer.error_code, |p| p.error_code);
        let none = [ErrorCode::NotController, ErrorCode::NotLeaderOrFollower, ErrorCode::RequestTimedOut];
        none.iter().find(|none| none.code() == code)?;
    }
    Some(why_leaderless(cluster))
}

fn why_leaderless(cluster: &Cluster) -> String {
    let holding = cluster.topics.iter().flat_map(|t| &t.partitions).flat_map(|p| &p.replicas);
    let down: BTreeSet<i32> = holding.copied().filter(|id| cluster.broker(*id).is_none()).collect();
    let down: Vec<String> = down.iter().map(ToString::to_string).collect();
    let named =
        if down.is_empty() { String::new() } else { format!(" (not running: node {})", down.join(", ")) };
    format!("the metadata has no leader that answers: a majority of its voters is not reached{named}")
}

impl QuorumState {
    /// Asks for it.
    pub(crate) async fn ask(client: &Client) -> anyhow::Result<QuorumState> {
        let answer = client.ask_any(request()).await.map_err(advise)?;
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

    /// Whether a node is registered: of one that was unregistered no directory is known.
    pub(crate) fn is_registered(&self, node: i32) -> bool {
        self.members.get(&node).is_some_and(|member| member.directory != [0; 16])
    }

    /// The nodes that are registered.
    pub(crate) fn registered(&self) -> Vec<i32> {
        self.members.keys().copied().filter(|node| self.is_registered(*node)).collect()
    }

    /// Where voters are reached, to be found there by others.
    pub(crate) fn voters_at(&self) -> Vec<(String, u16)> {
        self.members.values().filter(|m| m.votes).filter_map(|m| m.address.clone()).collect()
    }
}
