//! The metadata group's machine: what a committed command changes here.
use crate::admin::Internal;
use crate::coordinators::offsets_topic;
use crate::groups::{Slot, Touch};
use crate::node::Node;
use bytes::Bytes;
use cluster::{Change, Command, Endpoint, Image, Topic, decode_command, encode_command};
use model::{ErrorCode, GroupKey, NodeId, Now};
use partition::{CommittedBody, CommittedEntry, Opened};
use proto::cluster::{RegisterNode, SetClusterId};

impl Node {
    /// An entry of a group with a machine is committed.
    pub(crate) fn committed(&mut self, now: Now, key: GroupKey, entry: CommittedEntry) {
        if key != GroupKey::METADATA {
            return;
        }
        let CommittedBody::Command(payload) = entry.body else {
            return self.metadata.skip_to(entry.index);
        };
        // A block that an earlier process of this node asked for may be handed out already.
        let asked_here = |t: u64| matches!(self.internal.get(&t), Some(Internal::ProducerIds));
        let ours = entry.token.is_some_and(asked_here);
        let applied = decode_command(entry.index, payload)
            .and_then(|command| self.metadata.apply(entry.index, &command));
        match applied {
            Ok(changes) => {
                for change in changes {
                    self.on_change(now, change, ours);
                }
            }
            // A command that cannot be applied stops the group: skipping it would diverge.
            Err(error) => {
                self.said.push_back((key, partition::PartitionFx::Failed(error.to_string())));
            }
        }
        if let Some(token) = entry.token {
            self.command_done(token);
        }
        self.answer_proven();
    }

    fn on_change(&mut self, now: Now, change: Change, asked_here: bool) {
        match change {
            Change::TopicDeleted(topic) => {
                self.topic_configs.remove(&topic.id);
                self.peers.leaders.drop_topic(topic.id);
                for partition in 0..topic.partitions.len() {
                    let key = GroupKey { topic: topic.id, partition: partition as i32 };
                    self.remove_group(key);
                }
                self.topic_gone(now, &topic.name);
            }
            Change::TopicCreated(topic) => self.born_here(now, &topic, 0),
            Change::PartitionsAdded { topic, first } => self.born_here(now, &topic, first),
            Change::NodeRegistered(node) => self.node_registered(now, node),
            Change::ConfigChanged { .. } => self.configs_changed(),
            Change::ProducerIdsAllocated { node, first, count } if node == self.cfg.node_id => {
                let asked = self.peers.asked_ids.take_if(|asked| asked.first == first).is_some();
                if asked || asked_here {
                    self.producer_ids = (first, count);
                    self.hand_out_ids(now);
                }
            }
            _ => {}
        }
    }

    /// Configs changed: every open partition and coordinator gets what is in force now.
    fn configs_changed(&mut self) {
        let image = self.metadata.image();
        self.topic_configs.clear();
        for (key, slot) in &mut self.groups {
            let (Slot::Open(open), Some(topic)) = (slot, image.topic_by_id(key.topic)) else { continue };
            let config = self
                .topic_configs
                .entry(key.topic)
                .or_insert_with(|| std::sync::Arc::new(crate::configs::partition_config(&image, topic)));
            open.partition.set_config(config.clone());
        }
        let config = crate::configs::group_config(image.broker_config());
        for host in self.hosts.values_mut() {
            host.set_config(config.clone());
        }
    }

    /// The group leads: the metadata group registers this node, a coordinator loads.
    pub(crate) fn became(&mut self, now: Now, key: GroupKey) {
        if key == GroupKey::METADATA {
            self.register(now);
        } else {
            self.host_leads(now, key);
        }
    }

    fn register(&mut self, now: Now) {
        let image = self.metadata.image();
        if image.cluster_id.is_empty() {
            let cluster_id = self.cfg.fresh_cluster_id.clone();
            self.propose(now, &Command::SetClusterId(SetClusterId { cluster_id }), Internal::Part);
        }
        let command = self.registration();
        self.propose(now, &command, Internal::Register);
    }

    /// This start of the node, as it is told to the metadata group.
    pub(crate) fn registration(&self) -> Command {
        let endpoint = |e: &Endpoint| proto::cluster::Endpoint {
            listener: e.listener.clone(),
            host: e.host.clone(),
            port: u32::from(e.port),
            protocol: e.protocol.clone(),
        };
        Command::RegisterNode(RegisterNode {
            node_id: self.cfg.node_id,
            incarnation: self.cfg.incarnation,
            endpoints: self.cfg.endpoints.iter().map(endpoint).collect(),
            rack: self.cfg.rack.clone().unwrap_or_default(),
            directories: vec![Bytes::copy_from_slice(&self.dir.directory_id())],
        })
    }

    fn node_registered(&mut self, now: Now, node: NodeId) {
        let image = self.metadata.image();
        let ours = image.nodes.get(&node).is_some_and(|n| n.incarnation == self.cfg.incarnation);
        if node != self.cfg.node_id {
            self.peers.liveness.add(now.mono, node);
        } else if ours && !self.registered {
            self.registered(now);
        }
    }

    /// Partitions `first..` of a topic are new: those with replicas elsewhere elect a leader at once.
    fn born_here(&mut self, now: Now, topic: &Topic, first: i32) {
        for (index, partition) in topic.partitions.iter().enumerate().skip(first as usize) {
            if partition.replicas.len() > 1 {
                self.open_replica(now, GroupKey { topic: topic.id, partition: index as i32 });
            }
        }
    }

    /// This node is registered: groups with members or offsets on this disk get their coordinators back.
    pub(crate) fn registered(&mut self, now: Now) {
        self.registered = true;
        self.peers.registering = None;
        let image = self.metadata.image();
        self.open_all(&image);
        self.remove_what_was_deleted(&image);
        let Some(topic) = offsets_topic(&image) else { return };
        let touched: Vec<GroupKey> = self.states.keys().filter(|k| k.topic == topic.id).copied().collect();
        for key in touched {
            self.touch(now, key, Touch::Open);
        }
    }

    /// A topic's files may come back: the machine lost power before their removal was durable, or the process
    /// ended before it was asked for.
    fn remove_what_was_deleted(&mut self, image: &Image) {
        for key in std::mem::take(&mut self.found) {
            if !image.tombstones.contains_key(&key.topic) {
                continue;
            }
            if !self.groups.contains_key(&key) && !self.was_touched(key) {
                self.dir.fx().ops.push(storage::DiskOp::RemoveDir { path: storage::group_dir(key) });
            }
            self.remove_group(key);
        }
    }

    /// Replicas of groups with others elsewhere are opened by and by, those touched last life or not.
    fn open_all(&mut self, image: &Image) {
        for topic in image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let here = partition.replicas.iter().any(|r| r.node == self.cfg.node_id);
                if here && partition.replicas.len() > 1 {
                    self.peers.to_open.push(GroupKey { topic: topic.id, partition: index as i32 });
                }
            }
        }
    }

    /// Proposes a command to the metadata group and lays it over the pending image.
    pub(crate) fn propose(&mut self, now: Now, command: &Command, who: Internal) -> bool {
        if self.metadata.stage(command).is_err() {
            return false;
        }
        let token = self.new_internal(who);
        let payload = encode_command(command);
        let key = GroupKey::METADATA;
        self.active.insert(key);
        self.with(key, |p, dir, fx| p.propose_command(now, token, payload, dir, fx)).is_some()
    }

    /// A group leads no more.
    pub(crate) fn resigned(&mut self, now: Now, key: GroupKey) {
        if key == GroupKey::METADATA {
            self.drop_pending();
        } else {
            self.host_resigned(now, key);
        }
        let known = self.peers.leaders.leader(key);
        if known.leader == Some(self.cfg.node_id) {
            let epoch = known.epoch;
            self.peers.leaders.announce(now.mono, key, epoch, None, &[]);
        }
        self.refuse_touches(key, ErrorCode::NotLeaderOrFollower);
        self.wake(key);
    }

    /// The bytes of the machine on a group's log, for its checkpoint; `None` while it is loading.
    pub(crate) fn machine_bytes(&self, key: GroupKey) -> Option<Bytes> {
        if key == GroupKey::METADATA { Some(self.metadata.snapshot()) } else { self.host_bytes(key) }
    }

    /// A recovered group with a machine was opened.
    pub(crate) fn machine_opened(&mut self, key: GroupKey, opened: Opened) {
        if key != GroupKey::METADATA {
            self.host_opened(key, opened);
        }
    }
}
