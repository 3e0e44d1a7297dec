//! What a node that does not lead the metadata group asks of the one that does: its registration, producer ids.
use crate::admin::Internal;
use crate::api::{Effect, Event, PeerOut, Reply};
use crate::node::Node;
use bytes::Bytes;
use cluster::{Command, ItemError, ItemResult, decode_command, encode_command};
use model::{ErrorCode, GroupKey, Mono, NodeId, Now, ProducerId};

/// What was asked for and not heard of is asked for again after this, ms: the leader may have changed.
const AGAIN_MS: i64 = 500;

/// A block of producer ids that this node asked another one for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedIds {
    pub(crate) first: ProducerId,
    at: Mono,
}

impl Node {
    /// Whether this node leads the metadata group and its epoch is confirmed: it may change the metadata.
    pub fn leads_metadata(&self) -> bool {
        self.open_group(GroupKey::METADATA).is_some_and(|o| o.partition.leader_epoch().is_some())
    }

    /// The node that leads the metadata group, as far as this one knows.
    pub fn metadata_leader(&self) -> Option<NodeId> {
        self.metadata_lead().map(|(node, _)| node)
    }

    /// Another node says to which cluster it belongs, or which id it is to have. Until this one knows its own, that
    /// is what it proposes if it leads first.
    pub fn heard_cluster_id(&mut self, id: &str) {
        let open = self.metadata.image().cluster_id.is_empty() && self.cfg.directory.cluster_id.is_empty();
        if open && !id.is_empty() {
            self.cfg.fresh_cluster_id = id.to_owned();
        }
    }

    /// Has the leader of the metadata group propose a command. Whether it came about shows in the image.
    pub(crate) fn ask_leader(&mut self, token: u64, command: &Command) {
        let me = self.cfg.node_id;
        if let Some(leader) = self.metadata_leader().filter(|leader| *leader != me) {
            let command = encode_command(command);
            self.fx.push(Effect::Peer(leader, PeerOut::Propose { token, command }));
        }
    }

    /// This start of the node, as it is told to the metadata group.
    pub(crate) fn registration(&self) -> cluster::Registration {
        cluster::Registration {
            node_id: self.cfg.node_id,
            incarnation: self.cfg.incarnation,
            endpoints: self.cfg.endpoints.clone(),
            rack: self.cfg.rack.clone(),
            directories: vec![self.dir.directory_id()],
            peer: self.cfg.peer.clone(),
        }
    }

    /// Whether this start of a node is registered, or proposed.
    fn is_registered(&self, node: NodeId, incarnation: u64) -> bool {
        self.metadata.pending().nodes.get(&node).is_some_and(|n| n.incarnation == incarnation)
    }

    /// Judges the registration of a node that asks to be let in; `None` where it is registered already.
    pub(crate) fn judge_registration(
        &self,
        node: NodeId,
        registration: Bytes,
    ) -> ItemResult<Option<Command>> {
        let invalid = |what: &str| ItemError::new(ErrorCode::InvalidRequest, what);
        let command = decode_command(self.metadata.applied() + 1, registration)
            .map_err(|e| ItemError::new(ErrorCode::InvalidRequest, e.to_string()))?;
        let Command::RegisterNode(asked) = &command else { return Err(invalid("it is no registration")) };
        if asked.node_id != node {
            return Err(invalid("it is the registration of another node"));
        }
        cluster::check_registration(&self.metadata.pending(), asked)?;
        Ok((!self.is_registered(node, asked.incarnation)).then_some(command))
    }

    /// Until its registration is in the image the node asks for it.
    pub(crate) fn register_again(&mut self, now: Now) {
        let leader = self.metadata_leader();
        let news = leader.is_some() && leader != self.peers.registering_with;
        if self.registered || self.peers.registering.is_none_or(|at| at > now.mono && !news) {
            return;
        }
        self.peers.registering_with = leader;
        self.peers.registering = Some(now.mono.after_ms(AGAIN_MS));
        if !self.leads_metadata() {
            let command = self.registration().command();
            self.ask_leader(0, &command);
        }
    }

    /// Another node asks for a command.
    pub(crate) fn on_propose(&mut self, now: Now, node: NodeId, token: u64, command: Bytes) {
        let refused = |code| Effect::Peer(node, PeerOut::Proposed { token, code });
        // It is this version's own kind of command, or it is not proposed: what is committed must be applied.
        let next = self.metadata.applied() + 1;
        let Ok(command) = decode_command(next, command) else {
            return self.fx.push(refused(ErrorCode::InvalidRequest));
        };
        if !allowed(node, &command) {
            return self.fx.push(refused(ErrorCode::InvalidRequest));
        }
        if self.leads_metadata()
            && let Command::RegisterNode(registration) = &command
        {
            let image = self.metadata.pending();
            if let Err(error) = cluster::check_registration(&image, registration) {
                return self.fx.push(refused(error.code));
            }
            // It has not heard of it yet.
            if self.is_registered(node, registration.incarnation) {
                return self.fx.push(refused(ErrorCode::None));
            }
        }
        if !self.leads_metadata() {
            return self.fx.push(refused(ErrorCode::NotController));
        }
        self.propose(now, &command, Internal::Peer(node, token));
    }

    /// The answer to a proposal by way of the leader.
    pub(crate) fn on_proposed(&mut self, now: Now, code: ErrorCode) {
        use ErrorCode::{InvalidRegistration, StaleBrokerEpoch, UnsupportedVersion};
        if matches!(code, InvalidRegistration | StaleBrokerEpoch | UnsupportedVersion) && !self.registered {
            self.fx.push(Effect::Event(Event::NotRegistered(code)));
        }
        if code != ErrorCode::None {
            // Another one may lead by now.
            self.peers.asked_ids = None;
            self.hand_out_ids(now);
        }
    }

    /// Asks the leader for producer ids, unless it was just asked.
    pub(crate) fn ask_for_ids(&mut self, now: Now) {
        let image = self.metadata.image();
        let recent = |asked: &AskedIds| {
            asked.at.after_ms(AGAIN_MS) > now.mono && image.next_producer_id <= asked.first
        };
        if self.peers.asked_ids.as_ref().is_some_and(recent) {
            return;
        }
        let known = self.registered && self.metadata_leader().is_some();
        let command = cluster::allocate_producer_ids(&image, self.cfg.node_id);
        let (true, Ok(command)) = (known, command) else { return self.refuse_ids() };
        if let Command::AllocateProducerIds(block) = &command {
            self.peers.asked_ids = Some(AskedIds { first: block.first, at: now.mono });
        }
        self.ask_leader(0, &command);
    }

    /// Who waits for a producer id is told to ask again.
    pub(crate) fn refuse_ids(&mut self) {
        self.refuse_hosts();
        for token in std::mem::take(&mut self.waiting_for_ids) {
            let reply = Reply::ProducerId(Err(ErrorCode::CoordinatorLoadInProgress));
            self.fx.push(Effect::Reply(token, reply));
        }
    }
}

/// What a node may ask for: that which is its own.
fn allowed(node: NodeId, command: &Command) -> bool {
    match command {
        Command::RegisterNode(c) => c.node_id == node,
        Command::AllocateProducerIds(c) => c.node_id == node,
        Command::ConfirmDeletion(c) => c.node_id == node,
        // Whoever leads a group knows its members; a report of others than are wanted says nothing.
        Command::Reassigned(_) => true,
        _ => false,
    }
}
