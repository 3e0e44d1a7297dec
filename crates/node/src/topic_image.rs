//! What coordinators of consumer groups know of topics: made of the metadata when one of them needs it, and kept until
//! topics change.
use crate::machines::Machine;
use crate::node::Node;
use cluster::{Change, Image, Partition};
use coordinator::TopicImage;
use model::GroupKey;
use std::sync::Arc;

impl Node {
    /// Forgets the topics where a change touches them or the racks of their replicas.
    pub(crate) fn note_topics(&mut self, change: &Change) {
        let touched = match change {
            Change::TopicCreated(_) | Change::TopicDeleted(_) | Change::PartitionsAdded { .. } => true,
            Change::Reassigned { .. } | Change::NodeRegistered(_) | Change::NodeGone(_) => {
                has_racks(&self.metadata.image())
            }
            _ => false,
        };
        if touched {
            self.topics = None;
        }
    }

    /// Tells a coordinator of the topics as they are now, where it has consumer groups or is about to. Without any,
    /// nothing is made.
    pub(crate) fn tell_topics(&mut self, key: GroupKey, joins: bool) {
        let wants = match self.hosts.get(&key).map(|host| &host.machine) {
            Some(Machine::Groups(c)) => joins || c.has_consumers(),
            Some(Machine::Transactions(_)) | None => false,
        };
        if !wants {
            return;
        }
        let image = self.metadata.image();
        let topics = self.topics.get_or_insert_with(|| Arc::new(topic_image(&image))).clone();
        if let Some(Machine::Groups(c)) = self.hosts.get_mut(&key).map(|host| &mut host.machine) {
            c.topics_changed(topics);
        }
    }
}

/// The topics of an image. Their version is that of the metadata, so that it means the same on every node.
fn topic_image(image: &Image) -> TopicImage {
    let mut topics = TopicImage::new(image.version.max(1));
    let has_racks = has_racks(image);
    for topic in image.topics() {
        let racks = if has_racks {
            topic.partitions.iter().map(|partition| racks(image, partition)).collect()
        } else {
            Vec::new()
        };
        topics.add(&topic.name, topic.id, topic.partitions.len() as i32, &racks);
    }
    topics
}

fn has_racks(image: &Image) -> bool {
    image.nodes.values().any(|node| node.rack.is_some())
}

/// The racks of a partition's replicas, in order.
fn racks(image: &Image, partition: &Partition) -> Vec<String> {
    let rack = |replica: &cluster::Replica| image.nodes.get(&replica.node)?.rack.clone();
    let mut racks: Vec<String> = partition.replicas.iter().filter_map(rack).collect();
    racks.sort_unstable();
    racks
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::{Command, Metadata, NewTopic, create_topics};
    use model::TopicId;
    use proto::cluster::RegisterNode;

    fn cluster(rack: &str) -> Metadata {
        let mut metadata = Metadata::new(1, Default::default());
        let node = RegisterNode { node_id: 1, incarnation: 1, rack: rack.into(), ..RegisterNode::default() };
        metadata.apply(1, &Command::RegisterNode(node)).unwrap();
        let topic =
            NewTopic { name: "t".into(), num_partitions: 3, replication_factor: 1, ..NewTopic::default() };
        let made = create_topics(&metadata.image(), &[topic], &[1], &mut || TopicId([7; 16])).remove(0);
        metadata.apply(2, &made.result.unwrap().command).unwrap();
        metadata
    }

    #[test]
    fn an_image_has_names_ids_and_partitions_and_changes_with_racks() {
        let (plain, racked) = (topic_image(&cluster("").image()), topic_image(&cluster("r1").image()));
        let topic = plain.get("t").unwrap();
        assert_eq!((plain.version(), topic.id, topic.partitions), (2, TopicId([7; 16]), 3));
        assert_ne!(racked.get("t").unwrap().hash, topic.hash);
        assert_eq!(topic_image(&cluster("r1").image()), racked);
    }
}
