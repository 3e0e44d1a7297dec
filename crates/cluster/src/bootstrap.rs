//! What the leader of the metadata proposes when it begins to lead: the cluster's identity, and itself.
use crate::command::Command;
use crate::error::{ItemError, ItemResult};
use crate::features::{self, FEATURES};
use crate::image::{Endpoint, Image};
use bytes::Bytes;
use model::{ErrorCode, NodeId};
use proto::cluster as pb;
use proto::storage as st;

/// A node as it announces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its `node.id`.
    pub node_id: NodeId,
    /// Rises with each start.
    pub incarnation: u64,
    /// What clients are told, a line for each listener.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Ids of its data directories.
    pub directories: Vec<[u8; 16]>,
    /// Where other nodes connect; `None` where they cannot.
    pub peer: Option<Endpoint>,
}

impl Registration {
    /// As a command; with what this program supports.
    pub fn command(&self) -> Command {
        Command::RegisterNode(pb::RegisterNode {
            node_id: self.node_id,
            incarnation: self.incarnation,
            endpoints: self.endpoints.iter().map(endpoint).collect(),
            rack: self.rack.clone().unwrap_or_default(),
            directories: self.directories.iter().map(|d| Bytes::copy_from_slice(d)).collect(),
            peer: self.peer.as_ref().map(endpoint),
            features: features::ranges(),
        })
    }
}

pub(crate) fn endpoint(e: &Endpoint) -> pb::Endpoint {
    pb::Endpoint {
        listener: e.listener.clone(),
        host: e.host.clone(),
        port: u32::from(e.port),
        protocol: e.protocol.clone(),
    }
}

/// The commands to propose once the metadata group serves: in a new cluster its id (`cluster_id` is the drawn or
/// configured one), its founders and the levels of its features; then this start of the node. The id comes after the
/// levels: a leader may be lost between any two of them, and by the id the next one knows that nothing is missing.
pub fn start_commands(
    image: &Image,
    node: &Registration,
    cluster_id: &str,
    founders: &[st::Replica],
) -> Vec<Command> {
    let mut commands = Vec::new();
    if image.cluster_id.is_empty() {
        let level = |f: &features::Feature| {
            let (name, level) = (f.name.to_owned(), i32::from(f.highest));
            Command::UpdateFeature(pb::UpdateFeature { name, level })
        };
        commands.extend(FEATURES.iter().map(level));
        let (cluster_id, founders) = (cluster_id.to_owned(), founders.to_vec());
        commands.push(Command::SetClusterId(pb::SetClusterId { cluster_id, founders }));
    }
    commands.push(node.command());
    commands
}

/// Judges a node's registration. Errors: it does not support a feature's level; the node is known with another
/// data directory; a later start of it is known.
pub fn check_registration(image: &Image, node: &pb::RegisterNode) -> ItemResult<()> {
    features::check_features(image, &node.features)?;
    let Some(known) = image.nodes.get(&node.node_id) else { return Ok(()) };
    let id = node.node_id;
    let same = |directory: &Bytes| known.directories.iter().any(|d| d[..] == directory[..]);
    if !known.directories.is_empty() && !node.directories.iter().any(same) {
        return Err(ItemError::new(
            ErrorCode::InvalidRegistration,
            format!(
                "node {id} is known with another data directory; start it with that, or have it replaced"
            ),
        ));
    }
    if node.incarnation < known.incarnation {
        return Err(ItemError::new(
            ErrorCode::StaleBrokerEpoch,
            format!("a later start of node {id} is known: two processes run as node {id}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metadata;

    fn node(incarnation: u64, directory: u8) -> Registration {
        let endpoint =
            Endpoint { listener: "P".into(), host: "h".into(), port: 9092, protocol: "PLAINTEXT".into() };
        Registration {
            node_id: 3,
            incarnation,
            endpoints: vec![endpoint.clone()],
            rack: None,
            directories: vec![[directory; 16]],
            peer: Some(endpoint),
        }
    }

    fn started() -> Metadata {
        let mut metadata = Metadata::new(3, Default::default());
        let founder = st::Replica { id: 1, node_id: 3, kind: st::ReplicaKind::Voter.into(), witness: false };
        let first = start_commands(&metadata.image(), &node(1, 4), "id", &[founder]);
        for (index, command) in (1..).zip(&first) {
            metadata.apply(index, command).unwrap();
        }
        metadata
    }

    #[test]
    fn a_new_cluster_has_id_founders_and_features_and_the_next_start_only_registers() {
        let metadata = started();
        let image = metadata.image();
        assert_eq!((&*image.cluster_id, image.founders.len()), ("id", 1));
        for feature in FEATURES {
            assert_eq!(image.features[feature.name], feature.highest);
        }
        assert_eq!((image.nodes[&3].incarnation, image.nodes[&3].endpoints[0].port), (1, 9092));
        assert_eq!(image.nodes[&3].peer.as_ref().unwrap().host, "h");
        let second = start_commands(&image, &node(2, 4), "other", &[]);
        assert!(matches!(second.as_slice(), [Command::RegisterNode(_)]));
    }

    #[test]
    fn a_beginning_that_was_cut_short_is_made_whole_by_the_next_leader() {
        let begin = |image: &Image| start_commands(image, &node(1, 4), "id", &[]);
        let all = begin(&Metadata::new(3, Default::default()).image());
        for kept in 0..all.len() {
            let mut metadata = Metadata::new(3, Default::default());
            for (index, command) in (1..).zip(&all[..kept]) {
                metadata.apply(index, command).unwrap();
            }
            let rest = begin(&metadata.image());
            for (index, command) in (kept as u64 + 1..).zip(&rest) {
                metadata.apply(index, command).unwrap();
            }
            let image = metadata.image();
            assert_eq!(&*image.cluster_id, "id", "after {kept} commands");
            for feature in FEATURES {
                assert_eq!(image.features.get(feature.name), Some(&feature.highest), "after {kept} commands");
            }
        }
    }

    #[test]
    fn a_registration_with_another_directory_or_of_an_older_start_is_refused() {
        let image = started().image();
        let judge = |r: &Registration| match r.command() {
            Command::RegisterNode(c) => check_registration(&image, &c).map_err(|e| e.code),
            _ => unreachable!(),
        };
        assert_eq!(judge(&node(2, 4)), Ok(()));
        assert_eq!(judge(&node(2, 5)), Err(ErrorCode::InvalidRegistration));
        assert_eq!(judge(&node(0, 4)), Err(ErrorCode::StaleBrokerEpoch));
        assert_eq!(judge(&Registration { node_id: 4, ..node(0, 5) }), Ok(()));
    }
}
