//! The metadata group's machine: what a committed command changes here.
use crate::admin::Internal;
use crate::api::{Effect, Event};
use crate::groups::{Open, Slot, Touch};
use crate::hosts::offsets_topic;
use crate::machines::Machine;
use crate::members::RAISE_AFTER_MS;
use crate::node::Node;
use bytes::Bytes;
use cluster::{Change, Command, Image, Topic, decode_command, encode_command};
use model::{ErrorCode, GroupKey, NodeId, Now};
use partition::{CommittedBody, CommittedEntry, Opened, Partition, Start};
use storage::Recovered;

impl Node {
    /// An entry of a group with a machine is committed.
    pub(crate) fn committed(&mut self, now: Now, key: GroupKey, entry: CommittedEntry) {
        if key != GroupKey::METADATA {
            return self.host_applied(now, key, &entry);
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
        self.note_topics(&change);
        match change {
            Change::TopicDeleted(topic) => {
                self.topic_configs.remove(&topic.id);
                self.peers.leaders.drop_topic(topic.id);
                for partition in 0..topic.partitions.len() {
                    let key = GroupKey { topic: topic.id, partition: partition as i32 };
                    self.drop_host(now, key, ErrorCode::NotCoordinator);
                    self.remove_group(key);
                }
                self.topic_gone(now, &topic.name);
                self.peers.next_confirm.get_or_insert(now.mono);
            }
            Change::TombstoneCleared(topic) => self.peers.leaders.drop_topic(topic),
            Change::Reassigned { topic, partition } => {
                self.look_for_witnesses(now);
                self.reassigned(now, GroupKey { topic: topic.id, partition });
            }
            Change::TopicCreated(topic) => {
                self.look_for_witnesses(now);
                self.born_here(now, &topic, 0);
            }
            Change::PartitionsAdded { topic, first } => {
                self.look_for_witnesses(now);
                self.born_here(now, &topic, first);
            }
            Change::FeatureChanged(_) => {
                // Partitions take transactions from a level on.
                self.configs_changed();
                self.look_for_witnesses(now);
            }
            Change::NodeRegistered(node) => {
                self.peers.next_raise.get_or_insert(now.mono.after_ms(RAISE_AFTER_MS));
                self.node_registered(now, node);
            }
            Change::QuorumChanged => self.quorum_changed(now),
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

    /// Partitions may lack a witness now, or be done with what kept them from getting one.
    fn look_for_witnesses(&mut self, now: Now) {
        if self.leads_metadata() {
            self.peers.next_raise.get_or_insert(now.mono.after_ms(RAISE_AFTER_MS));
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
        let groups = crate::configs::group_config(&image);
        let transactions = crate::configs::txn_config(&image, self.cfg.first_transactional_epoch);
        for host in self.hosts.values_mut() {
            match &mut host.machine {
                Machine::Groups(c) => c.set_config(groups.clone()),
                Machine::Transactions(c) => c.set_config(transactions.clone()),
            }
        }
    }

    /// The group leads: the metadata group registers this node, a coordinator loads.
    pub(crate) fn became(&mut self, now: Now, key: GroupKey) {
        self.look_at_members(now, key);
        if key == GroupKey::METADATA {
            self.peers.next_raise.get_or_insert(now.mono.after_ms(RAISE_AFTER_MS));
            self.register(now);
        } else {
            self.host_leads(now, key);
        }
    }

    /// This node leads the metadata: what that begins with.
    fn register(&mut self, now: Now) {
        let founders = self.dir.founders().0.to_vec();
        let cluster_id = self.cfg.fresh_cluster_id.clone();
        let (image, node) = (self.metadata.image(), self.registration());
        let mut commands = cluster::start_commands(&image, &node, &cluster_id, &founders);
        let last = commands.pop();
        for command in &commands {
            self.propose(now, command, Internal::Part);
        }
        if let Some(registration) = last {
            self.propose(now, &registration, Internal::Register);
        }
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
            if partition.holders().count() > 1 {
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
        self.remove_what_was_deleted(now, &image);
        self.peers.next_confirm.get_or_insert(now.mono);
        // What is open here already may be wanted otherwise by now.
        let open: Vec<GroupKey> =
            self.groups.keys().copied().filter(|key| *key != GroupKey::METADATA).collect();
        open.into_iter().for_each(|key| self.reassigned(now, key));
        let Some(topic) = offsets_topic(&image) else { return };
        let touched: Vec<GroupKey> = self.states.keys().filter(|k| k.topic == topic.id).copied().collect();
        for key in touched {
            self.touch(now, key, Touch::Open);
        }
    }

    /// A topic's files may come back, and those of a replica that was moved: the machine lost power before their
    /// removal was durable, or the process ended before it was asked for.
    fn remove_what_was_deleted(&mut self, now: Now, image: &Image) {
        for (key, generation) in std::mem::take(&mut self.found) {
            let present = self.dir.life(key).0;
            let deleted = image.tombstones.contains_key(&key.topic);
            let elsewhere = image.topic_by_id(key.topic).is_some() && !self.holds(key);
            if generation != present {
                // What an install had put aside is of use to a replica alone; its topic may be gone without a trace by now.
                let goes_on = key == GroupKey::METADATA || self.holds(key);
                if goes_on && generation == present + 1 {
                    self.installs.left_over(now.mono, key, generation);
                } else {
                    self.dir.remove_dir(storage::generation_dir(key, generation));
                }
                continue;
            }
            if !deleted && !elsewhere {
                if !self.was_touched(key) {
                    self.unnamed.insert(key);
                }
                continue;
            }
            if !self.groups.contains_key(&key) && !self.was_touched(key) {
                self.remove_files(key);
            }
            self.remove_group(key);
        }
    }

    /// The metadata's replica here was brought up from a checkpoint: what changed in between was not applied one by
    /// one.
    pub(crate) fn metadata_installed(&mut self, now: Now, recovered: Box<Recovered>) {
        let key = GroupKey::METADATA;
        let hard = self.states.get(&key).map(|state| state.hard).unwrap_or_default();
        let own = self.dir.founders().1;
        let config = crate::configs::metadata_config(self.metadata.image().broker_config());
        let config = std::sync::Arc::new(config);
        let start = Start::Recovered(recovered);
        let (partition, opened) =
            Partition::open(key, start, hard, own, config, &mut self.dir, self.cfg.seed);
        let before = self.metadata.image();
        let loaded = crate::node::load(&mut self.metadata, opened);
        self.groups.insert(key, Slot::Open(Open::new(partition)));
        if let Err(why) = loaded {
            return self.said.push_back((key, partition::PartitionFx::Failed(why.to_string())));
        }
        self.address_metadata();
        self.jumped(now, &before);
        if self.registered || self.peers.registering.is_some() {
            return self.rejoined(now, key);
        }
        // It was damaged at the start: the node begins only now.
        self.begin(now);
    }

    /// What the changes between `before` and now would have caused, one by one.
    fn jumped(&mut self, now: Now, before: &Image) {
        let image = self.metadata.image();
        self.topics = None;
        for topic in before.topics().filter(|t| image.topic_by_id(t.id).is_none()) {
            self.on_change(now, Change::TopicDeleted(topic.clone()), false);
        }
        self.configs_changed();
        for node in image.nodes.keys() {
            self.node_registered(now, *node);
        }
        for topic in image.topics() {
            let first = before.topic_by_id(topic.id).map_or(0, |t| t.partitions.len());
            self.born_here(now, topic, first as i32);
            let known = before.topic_by_id(topic.id).map(|t| &t.partitions[..]).unwrap_or_default();
            let pairs = topic.partitions.iter().zip(known).enumerate();
            for (partition, _) in pairs.filter(|(_, (is, was))| is != was) {
                self.reassigned(now, GroupKey { topic: topic.id, partition: partition as i32 });
            }
        }
        self.quorum_changed(now);
        self.answer_proven();
    }

    /// Replicas of groups with others elsewhere are opened by and by, those touched last life or not.
    fn open_all(&mut self, image: &Image) {
        for topic in image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let here = partition.holders().any(|r| r.node == self.cfg.node_id);
                if here && partition.holders().count() > 1 {
                    self.peers.to_open.push(GroupKey { topic: topic.id, partition: index as i32 });
                }
            }
        }
    }

    /// Proposes a command to the metadata group and lays it over the pending image. Tells whether the log takes it; where it
    /// does not, `who` is answered.
    pub(crate) fn propose(&mut self, now: Now, command: &Command, who: Internal) -> bool {
        let Ok(before) = self.metadata.stage(command) else {
            let token = self.new_internal(who);
            self.command_failed(now, token, ErrorCode::NotController);
            return false;
        };
        if let Some(topic) = cluster::lacks_witness(&self.metadata.pending(), command) {
            self.fx.push(Effect::Event(Event::NoWitness { topic }));
        }
        let token = self.new_internal(who);
        let payload = encode_command(command);
        let key = GroupKey::METADATA;
        self.active.insert(key);
        let proposed = self.with(key, |p, dir, fx| p.propose_command(now, token, payload, dir, fx));
        // What others proposed before is in the log still: what comes next is judged by it.
        if proposed != Some(true) {
            self.metadata.unstage(before);
        }
        if proposed.is_none() {
            self.command_failed(now, token, ErrorCode::NotController);
        }
        proposed == Some(true)
    }

    /// A group leads no more.
    pub(crate) fn resigned(&mut self, now: Now, key: GroupKey) {
        if key == GroupKey::METADATA {
            self.drop_pending();
        } else {
            self.host_resigned(now, key);
        }
        self.verify_no_more(now, key);
        self.leads_no_more(now, key);
        self.refuse_touches(key, ErrorCode::NotLeaderOrFollower);
        self.wake(key);
    }

    /// Tells the others that nobody here leads `key` any more, if they were told so.
    pub(crate) fn leads_no_more(&mut self, now: Now, key: GroupKey) {
        let known = self.peers.leaders.leader(key);
        if known.leader == Some(self.cfg.node_id) {
            let epoch = known.epoch;
            self.peers.leaders.announce(now.mono, key, epoch, None, &[]);
        }
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
