//! A cluster of one for the tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]
use cluster::{Change, Command, Metadata, NewTopic, create_topics};
use model::TopicId;
use proto::cluster::{Endpoint, RegisterNode};
use std::collections::BTreeMap;

/// A node with its metadata, ids drawn in order.
pub struct One {
    pub metadata: Metadata,
    ids: u8,
}

impl One {
    pub fn new(fixed: &[(&str, &str)]) -> One {
        let fixed: BTreeMap<String, String> =
            fixed.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut one = One { metadata: Metadata::new(1, fixed), ids: 0 };
        one.apply(&register(1));
        one
    }

    pub fn apply(&mut self, command: &Command) -> Vec<Change> {
        let index = self.metadata.applied() + 1;
        self.metadata.apply(index, command).unwrap()
    }

    /// Judges one topic; applies what is granted.
    pub fn create(&mut self, topic: NewTopic) -> cluster::ItemResult<cluster::CreatedTopic> {
        let ids = &mut self.ids;
        let mut draw = || {
            *ids += 1;
            TopicId([*ids; 16])
        };
        let outcome = create_topics(&self.metadata.image(), &[topic], &[1], &mut draw).remove(0);
        if let Ok(created) = &outcome.result {
            let command = created.command.clone();
            self.apply(&command);
        }
        outcome.result
    }
}

pub fn register(node_id: i32) -> Command {
    let endpoint = Endpoint {
        listener: "PLAINTEXT".into(),
        host: "localhost".into(),
        port: 9092,
        protocol: "PLAINTEXT".into(),
    };
    Command::RegisterNode(RegisterNode {
        node_id,
        incarnation: 1,
        endpoints: vec![endpoint],
        rack: String::new(),
        ..RegisterNode::default()
    })
}

pub fn topic(name: &str, partitions: i32, factor: i16) -> NewTopic {
    NewTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: factor,
        ..NewTopic::default()
    }
}

pub fn with_configs(name: &str, configs: &[(&str, &str)]) -> NewTopic {
    let configs = configs.iter().map(|(k, v)| (k.to_string(), Some(v.to_string()))).collect();
    NewTopic { configs, ..topic(name, 1, 1) }
}
