//! What a node tells the metadata log when it starts.
use crate::command::Command;
use crate::image::{Endpoint, Image};
use model::NodeId;
use proto::cluster as pb;

/// Kafka's level of the metadata format whose features are served here: 4.4-IV2.
const METADATA_VERSION: (&str, i32) = ("metadata.version", 33);

/// A node as it announces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its `node.id`.
    pub node_id: NodeId,
    /// What clients are told, a line for each listener.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Ids of its data directories.
    pub directories: Vec<[u8; 16]>,
}

/// The commands to propose once the metadata group serves: the cluster's id and features where there are
/// none yet (`cluster_id` is then the drawn or configured one), and this start of the node.
pub fn start_commands(image: &Image, node: &Registration, cluster_id: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    if image.cluster_id.is_empty() {
        commands.push(Command::SetClusterId(pb::SetClusterId { cluster_id: cluster_id.to_owned() }));
    }
    let (name, level) = METADATA_VERSION;
    if image.features.get(name).is_none_or(|have| i32::from(*have) < level) {
        commands.push(Command::UpdateFeature(pb::UpdateFeature { name: name.to_owned(), level }));
    }
    let endpoint = |e: &Endpoint| pb::Endpoint {
        listener: e.listener.clone(),
        host: e.host.clone(),
        port: u32::from(e.port),
        protocol: e.protocol.clone(),
    };
    commands.push(Command::RegisterNode(pb::RegisterNode {
        node_id: node.node_id,
        incarnation: image.nodes.get(&node.node_id).map_or(0, |n| n.incarnation) + 1,
        endpoints: node.endpoints.iter().map(endpoint).collect(),
        rack: node.rack.clone().unwrap_or_default(),
        directories: node.directories.iter().map(|d| bytes::Bytes::copy_from_slice(d)).collect(),
    }));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metadata;

    #[test]
    fn the_second_start_only_registers_under_a_new_incarnation() {
        let mut metadata = Metadata::new(3, Default::default());
        let endpoint =
            Endpoint { listener: "P".into(), host: "h".into(), port: 9092, protocol: "PLAINTEXT".into() };
        let node =
            Registration { node_id: 3, endpoints: vec![endpoint], rack: None, directories: vec![[4; 16]] };
        let first = start_commands(&metadata.image(), &node, "id");
        assert_eq!(first.len(), 3);
        for (i, command) in first.iter().enumerate() {
            metadata.apply(i as u64 + 1, command).unwrap();
        }
        let image = metadata.image();
        assert_eq!((&*image.cluster_id, image.features["metadata.version"]), ("id", 33));
        assert_eq!((image.nodes[&3].incarnation, image.nodes[&3].endpoints[0].port), (1, 9092));
        let second = start_commands(&image, &node, "other");
        assert_eq!(second.len(), 1);
        metadata.apply(4, &second[0]).unwrap();
        assert_eq!((metadata.image().nodes[&3].incarnation, &*metadata.image().cluster_id), (2, "id"));
    }
}
