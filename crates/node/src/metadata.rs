//! The metadata group's machine: what a committed command changes here.
use crate::admin::Internal;
use crate::coordinators::offsets_topic;
use crate::groups::{Slot, Touch};
use crate::node::Node;
use bytes::Bytes;
use cluster::{Change, Command, Endpoint, decode_command, encode_command};
use model::{ErrorCode, GroupKey, Now};
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
            self.command_done(now, token);
        }
    }

    fn on_change(&mut self, now: Now, change: Change, asked_here: bool) {
        match change {
            Change::TopicDeleted(topic) => {
                self.topic_configs.remove(&topic.id);
                for partition in 0..topic.partitions.len() {
                    let key = GroupKey { topic: topic.id, partition: partition as i32 };
                    self.remove_group(key);
                }
                self.topic_gone(now, &topic.name);
            }
            Change::ConfigChanged { .. } => self.configs_changed(),
            Change::ProducerIdsAllocated { node, first, count } if asked_here && node == self.cfg.node_id => {
                self.producer_ids = (first, count);
                self.hand_out_ids(now);
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
        let endpoint = |e: &Endpoint| proto::cluster::Endpoint {
            listener: e.listener.clone(),
            host: e.host.clone(),
            port: u32::from(e.port),
            protocol: e.protocol.clone(),
        };
        let command = RegisterNode {
            node_id: self.cfg.node_id,
            incarnation: self.cfg.incarnation,
            endpoints: self.cfg.endpoints.iter().map(endpoint).collect(),
            rack: self.cfg.rack.clone().unwrap_or_default(),
            directories: vec![Bytes::copy_from_slice(&self.dir.directory_id())],
        };
        self.propose(now, &Command::RegisterNode(command), Internal::Register);
    }

    /// This node is registered: groups with members or offsets on this disk get their coordinators back.
    pub(crate) fn registered(&mut self, now: Now) {
        self.registered = true;
        let image = self.metadata.image();
        let Some(topic) = offsets_topic(&image) else { return };
        let touched: Vec<GroupKey> = self.states.keys().filter(|k| k.topic == topic.id).copied().collect();
        for key in touched {
            self.touch(now, key, Touch::Open);
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
            self.metadata.drop_pending();
        } else {
            self.host_resigned(now, key);
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
