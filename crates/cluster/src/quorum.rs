//! Who is to vote on the metadata, and who is to follow it.
//!
//! The image holds the *wanted* members of the metadata group; its leader changes the group's own membership
//! until both are the same, one member at a time (`node`). Here is only what is wanted.
use crate::change::Change;
use crate::command::Command;
use crate::error::{ApplyError, ItemError, ItemResult};
use crate::features::{VOTERS_CHANGE, plimsoll_level};
use crate::image::{Image, Replica, ReplicaKind};
use crate::snapshot::replica_from;
use model::{ErrorCode, NodeId};
use proto::cluster as pb;
use std::sync::Arc;

/// More voters make every change of the metadata slower and nothing safer.
const MOST_VOTERS: usize = 9;

pub(crate) fn set_cluster_id(
    image: &mut Image,
    index: u64,
    command: &pb::SetClusterId,
) -> Result<Vec<Change>, ApplyError> {
    if !image.cluster_id.is_empty() || command.cluster_id.is_empty() {
        return Ok(Vec::new());
    }
    let founders: Vec<Replica> = command.founders.iter().map(replica_from).collect::<Result<_, _>>()?;
    if founders.iter().any(|r| r.id == 0 || r.kind != ReplicaKind::Voter) {
        return Err(ApplyError::Malformed { index, what: "founders vote, and have ids" });
    }
    image.cluster_id = command.cluster_id.as_str().into();
    let last = founders.iter().map(|r| r.id).max().unwrap_or(0);
    image.next_replica_id = image.next_replica_id.max(last + 1);
    image.quorum = Arc::new(founders.iter().map(|r| (r.node, *r)).collect());
    image.founders = founders.into();
    Ok(vec![Change::ClusterIdSet, Change::QuorumChanged])
}

/// A registered node follows the metadata, unless it is a member already.
pub(crate) fn follow(image: &mut Image, node: NodeId) -> Option<Change> {
    if image.quorum.is_empty() || image.quorum.contains_key(&node) {
        return None;
    }
    let id = image.next_replica_id;
    image.next_replica_id += 1;
    let replica = Replica { id, node, kind: ReplicaKind::Learner };
    Arc::make_mut(&mut image.quorum).insert(node, replica);
    Some(Change::QuorumChanged)
}

/// A node is to vote from now on, or no more. One that lost its turn, because somebody took the node away
/// meanwhile or it was the last voter, changes nothing.
pub(crate) fn set_voter(image: &mut Image, command: &pb::SetVoter) -> Vec<Change> {
    let Some(old) = image.quorum.get(&command.node_id).copied() else { return Vec::new() };
    let kind = if command.voter { ReplicaKind::Voter } else { ReplicaKind::Learner };
    let last = !command.voter && old.kind == ReplicaKind::Voter && voters(image) == 1;
    if old.kind == kind || last {
        return Vec::new();
    }
    // A founder that has not registered yet comes under the id that its directory knows.
    let founded = image.founders.iter().any(|founder| founder.id == old.id);
    if !command.voter && !founded && !image.nodes.contains_key(&command.node_id) {
        Arc::make_mut(&mut image.quorum).remove(&command.node_id);
        return vec![Change::QuorumChanged];
    }
    // A replica that votes no more keeps its id: it has lost nothing that it promised.
    Arc::make_mut(&mut image.quorum).insert(command.node_id, Replica { kind, ..old });
    vec![Change::QuorumChanged]
}

/// What an unregistered node had is lost: its replica is wanted no more. A voter that comes back votes under a new
/// id; until then, and until it is removed, the old one counts among those of which a majority decides.
pub(crate) fn unregistered(image: &mut Image, node: NodeId) -> Option<Change> {
    let old = image.quorum.get(&node).copied()?;
    let quorum = Arc::make_mut(&mut image.quorum);
    if old.kind == ReplicaKind::Voter {
        quorum.insert(node, Replica { id: image.next_replica_id, ..old });
        image.next_replica_id += 1;
    } else {
        quorum.remove(&node);
    }
    Some(Change::QuorumChanged)
}

fn voters(image: &Image) -> usize {
    image.quorum.values().filter(|r| r.kind == ReplicaKind::Voter).count()
}

fn check_cluster(image: &Image, cluster_id: Option<&str>) -> ItemResult<()> {
    match cluster_id {
        Some(id) if id != &*image.cluster_id => Err(ItemError::new(
            ErrorCode::InconsistentClusterId,
            format!("The cluster's id is {}, the request is meant for {id}.", image.cluster_id),
        )),
        _ => Ok(()),
    }
}

/// Whether `directory` is one of the node's; all zeros stand for any.
fn has_directory(image: &Image, node: NodeId, directory: [u8; 16]) -> bool {
    // Of one that was unregistered nobody knows any more.
    let known = image.nodes.get(&node).map(|n| &n.directories[..]);
    directory == [0; 16] || known.is_none_or(|known| known.contains(&directory))
}

fn check_level(image: &Image) -> ItemResult<()> {
    if plimsoll_level(image) >= VOTERS_CHANGE {
        return Ok(());
    }
    Err(ItemError::new(
        ErrorCode::UnsupportedVersion,
        format!(
            "Voters change from plimsoll.version {VOTERS_CHANGE} on, the cluster is at {}: raise it when every \
             node runs a release that supports it.",
            plimsoll_level(image)
        ),
    ))
}

/// Judges AddRaftVoter (KIP-853): a registered node, which follows the metadata already, is to vote.
pub fn add_voter(
    image: &Image,
    cluster_id: Option<&str>,
    node: NodeId,
    directory: [u8; 16],
) -> ItemResult<Command> {
    check_cluster(image, cluster_id)?;
    check_level(image)?;
    let Some(member) = image.quorum.get(&node).filter(|_| image.nodes.contains_key(&node)) else {
        return Err(ItemError::new(
            ErrorCode::InvalidVoterKey,
            format!("Node {node} is not registered: start it, it joins as a broker, and may vote then."),
        ));
    };
    if !has_directory(image, node, directory) {
        return Err(ItemError::new(
            ErrorCode::InvalidVoterKey,
            format!("Node {node} is registered with another data directory."),
        ));
    }
    if member.kind == ReplicaKind::Voter {
        return Err(ItemError::new(ErrorCode::DuplicateVoter, format!("Node {node} votes already.")));
    }
    if voters(image) >= MOST_VOTERS {
        let why = format!("There are {MOST_VOTERS} voters, and no more may be.");
        return Err(ItemError::new(ErrorCode::InvalidRequest, why));
    }
    Ok(Command::SetVoter(pb::SetVoter { node_id: node, voter: true }))
}

/// Judges RemoveRaftVoter (KIP-853): a voter is to follow only. Refused where those that stay have no majority among
/// the `live` nodes: nothing could be decided any more.
pub fn remove_voter(
    image: &Image,
    live: &[NodeId],
    cluster_id: Option<&str>,
    node: NodeId,
    directory: [u8; 16],
) -> ItemResult<Command> {
    check_cluster(image, cluster_id)?;
    check_level(image)?;
    let votes = image.quorum.get(&node).is_some_and(|r| r.kind == ReplicaKind::Voter);
    if !votes || !has_directory(image, node, directory) {
        let why = format!("Node {node} with this data directory is no voter.");
        return Err(ItemError::new(ErrorCode::VoterNotFound, why));
    }
    if voters(image) == 1 {
        return Err(ItemError::new(
            ErrorCode::InvalidRequest,
            format!("Node {node} is the only voter: without it nothing could be decided any more."),
        ));
    }
    let stay = || image.quorum.iter().filter(|(id, r)| **id != node && r.kind == ReplicaKind::Voter);
    let dead: Vec<String> =
        stay().filter(|(id, _)| !live.contains(id)).map(|(id, _)| id.to_string()).collect();
    if dead.len() * 2 >= stay().count() {
        let why = format!(
            "Without node {node} too few of the voters that stay are reachable ({} are not): nothing could be decided \
             any more. Bring them back, or remove them first.",
            dead.join(", ")
        );
        return Err(ItemError::new(ErrorCode::InvalidRequest, why));
    }
    Ok(Command::SetVoter(pb::SetVoter { node_id: node, voter: false }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metadata;
    use proto::storage as st;

    fn founders(nodes: &[i32]) -> Vec<st::Replica> {
        let voter = |(id, node_id): (u64, &i32)| st::Replica {
            id,
            node_id: *node_id,
            kind: st::ReplicaKind::Voter.into(),
            witness: false,
        };
        (1..).zip(nodes).map(voter).collect()
    }

    /// A cluster founded by these nodes, in which the others register too.
    fn cluster(first: &[i32], others: &[i32]) -> Metadata {
        let mut metadata = Metadata::new(1, Default::default());
        let mut commands = vec![
            Command::SetClusterId(pb::SetClusterId { cluster_id: "c".into(), founders: founders(first) }),
            Command::UpdateFeature(pb::UpdateFeature { name: "plimsoll.version".into(), level: 2 }),
        ];
        for node_id in first.iter().chain(others) {
            let directories = vec![bytes::Bytes::from(vec![*node_id as u8; 16])];
            let node = pb::RegisterNode { node_id: *node_id, directories, ..Default::default() };
            commands.push(Command::RegisterNode(node));
        }
        for (index, command) in (1..).zip(&commands) {
            metadata.apply(index, command).unwrap();
        }
        metadata
    }

    fn apply(metadata: &mut Metadata, command: &Command) -> Vec<Change> {
        metadata.apply(metadata.applied() + 1, command).unwrap()
    }

    fn members(metadata: &Metadata) -> Vec<(u64, NodeId, ReplicaKind)> {
        metadata.image().quorum.values().map(|r| (r.id, r.node, r.kind)).collect()
    }

    #[test]
    fn a_node_that_is_no_founder_follows_under_an_id_of_its_own() {
        use ReplicaKind::{Learner, Voter};
        let mut metadata = cluster(&[1, 2], &[7]);
        assert_eq!(members(&metadata), [(1, 1, Voter), (2, 2, Voter), (3, 7, Learner)]);
        let again = Command::RegisterNode(pb::RegisterNode { node_id: 7, ..Default::default() });
        assert_eq!(apply(&mut metadata, &again), [Change::NodeRegistered(7)], "it keeps its replica");
        let mut other = Metadata::new(9, Default::default());
        other.restore(metadata.snapshot()).unwrap();
        assert_eq!(members(&other), members(&metadata));
        assert_eq!(other.image().founders, metadata.image().founders);
        assert_eq!(other.image().founders.len(), 2);
    }

    #[test]
    fn voters_come_and_go_and_the_last_one_stays() {
        let mut metadata = cluster(&[1], &[2]);
        let add = add_voter(&metadata.image(), Some("c"), 2, [2; 16]).unwrap();
        assert_eq!(apply(&mut metadata, &add), [Change::QuorumChanged]);
        assert_eq!(apply(&mut metadata, &add), [], "twice in the log it counts once");
        let code = |result: ItemResult<Command>| result.unwrap_err().code;
        assert_eq!(code(add_voter(&metadata.image(), None, 2, [0; 16])), ErrorCode::DuplicateVoter);
        let one = remove_voter(&metadata.image(), &[1, 2, 7], None, 1, [1; 16]).unwrap();
        let two = remove_voter(&metadata.image(), &[1, 2, 7], None, 2, [2; 16]).unwrap();
        assert_eq!(apply(&mut metadata, &one), [Change::QuorumChanged]);
        // It was judged when there were two.
        assert_eq!(apply(&mut metadata, &two), []);
        assert_eq!(
            code(remove_voter(&metadata.image(), &[1, 2, 7], None, 2, [2; 16])),
            ErrorCode::InvalidRequest
        );
        assert_eq!(
            code(remove_voter(&metadata.image(), &[1, 2, 7], None, 1, [1; 16])),
            ErrorCode::VoterNotFound
        );
    }

    #[test]
    fn an_unregistered_follower_is_forgotten_and_a_voter_waits_for_its_successor() {
        use ReplicaKind::{Learner, Voter};
        let mut metadata = cluster(&[1, 2], &[7]);
        for node_id in [7, 2] {
            apply(&mut metadata, &Command::UnregisterNode(pb::UnregisterNode { node_id, incarnation: 0 }));
        }
        assert_eq!(members(&metadata), [(1, 1, Voter), (4, 2, Voter)]);
        let again = pb::RegisterNode { node_id: 7, ..Default::default() };
        apply(&mut metadata, &Command::RegisterNode(again));
        assert_eq!(members(&metadata), [(1, 1, Voter), (4, 2, Voter), (5, 7, Learner)]);
        let gone = remove_voter(&metadata.image(), &[1, 2, 7], None, 2, [2; 16]).unwrap();
        apply(&mut metadata, &gone);
        assert_eq!(members(&metadata), [(1, 1, Voter), (5, 7, Learner)]);
    }

    #[test]
    fn strangers_other_clusters_other_directories_and_old_levels_are_refused() {
        let metadata = cluster(&[1], &[2]);
        let image = metadata.image();
        let code = |result: ItemResult<Command>| result.unwrap_err().code;
        assert_eq!(code(add_voter(&image, Some("d"), 2, [2; 16])), ErrorCode::InconsistentClusterId);
        assert_eq!(code(add_voter(&image, None, 3, [2; 16])), ErrorCode::InvalidVoterKey);
        assert_eq!(code(add_voter(&image, None, 2, [9; 16])), ErrorCode::InvalidVoterKey);
        assert_eq!(
            code(remove_voter(&image, &[1, 2], Some("d"), 1, [1; 16])),
            ErrorCode::InconsistentClusterId
        );
        assert_eq!(code(remove_voter(&image, &[1, 2], None, 2, [2; 16])), ErrorCode::VoterNotFound);
        let mut old = Image::clone(&image);
        old.features = Arc::default();
        assert_eq!(code(add_voter(&old, None, 2, [2; 16])), ErrorCode::UnsupportedVersion);
    }
}
