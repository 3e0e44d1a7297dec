//! Other nodes: what they say, what they are told, and the time that groups with replicas there are given.
//!
//! A group with replicas elsewhere is *awake* while it gets ticks; it sleeps when nothing has happened to it
//! for a while (`sleep.rs`). Elections are in `elections.rs`.
use crate::api::{Effect, Event, InstallSaid, PeerOut};
use crate::elections::LostPeer;
use crate::groups::{Open, Slot};
use crate::install::Offer;
use crate::install_send::Wanted;
use crate::leaders::{LeaderBatch, Leaders};
use crate::liveness::{Heartbeat, Liveness};
use crate::load::Load;
use crate::members::Move;
use crate::node::Node;
use crate::registration::AskedIds;
use crate::sleep::Turns;
use crate::throttle::Throttle;
use consensus::{PeerMessage, TICK_MS};
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use storage::{DiskErrorKind, ExtractError, Extracted};

/// The first look at leaders after a start, ms.
const BALANCE_SOON_MS: i64 = 10_000;

/// What a node knows of the others.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) liveness: Liveness,
    /// Nodes that were taken for alive since the start.
    pub(crate) heard: BTreeSet<NodeId>,
    pub(crate) leaders: Leaders,
    /// Groups that get ticks, and when something last happened to each.
    pub(crate) awake: BTreeMap<GroupKey, Mono>,
    next_tick: Mono,
    turns: Turns,
    /// Replicas that lost their leader: when they campaign, for the how manieth time.
    pub(crate) campaigns: BTreeMap<GroupKey, (Mono, u8)>,
    /// None of them is due before this.
    pub(crate) next_campaign: Mono,
    /// Groups with replicas on nodes that are lost, which do not know it yet; and when the next of them are told.
    pub(crate) lost: VecDeque<LostPeer>,
    pub(crate) next_lost: Mono,
    /// Groups whose replicas here are to be opened, a few at a time.
    pub(crate) to_open: Vec<GroupKey>,
    /// When this node asks for its registration again.
    pub(crate) registering: Option<Mono>,
    /// The leader that was asked last.
    pub(crate) registering_with: Option<NodeId>,
    pub(crate) asked_ids: Option<AskedIds>,
    /// Members of the metadata group that others named: see [`Node::meet`].
    pub(crate) contacts: Vec<(u64, NodeId)>,
    /// Whether the directory was given another replica of the metadata than runs: see [`Node::take_place`].
    pub(crate) new_place: bool,
    /// When leaders are looked at that another node is to be.
    pub(crate) next_balance: Mono,
    /// When leads leave the full disk here; `None` while it has room.
    pub(crate) leave_full_at: Option<Mono>,
    /// Groups led here whose members are to change.
    pub(crate) moves: BTreeMap<GroupKey, Move>,
    /// When they are looked at.
    pub(crate) next_moves: Mono,
    /// When deletions are confirmed that were not yet.
    pub(crate) next_confirm: Option<Mono>,
    /// When the leader of the metadata looks whether internal topics can have more replicas.
    pub(crate) next_raise: Option<Mono>,
    pub(crate) throttle: Throttle,
    pub(crate) load: Load,
}

impl Peers {
    pub(crate) fn new(node: NodeId, start: u64, now: Mono, others: impl Iterator<Item = NodeId>) -> Peers {
        let mut liveness = Liveness::new(node, start);
        others.for_each(|other| liveness.add(now, other));
        Peers {
            liveness,
            heard: BTreeSet::new(),
            leaders: Leaders::new(node),
            awake: BTreeMap::new(),
            next_tick: now,
            turns: Turns::new(now),
            campaigns: BTreeMap::new(),
            next_campaign: now,
            lost: VecDeque::new(),
            next_lost: now,
            to_open: Vec::new(),
            registering: None,
            registering_with: None,
            asked_ids: None,
            contacts: Vec::new(),
            new_place: false,
            next_balance: now.after_ms(BALANCE_SOON_MS),
            leave_full_at: None,
            moves: BTreeMap::new(),
            next_moves: now,
            next_confirm: None,
            next_raise: None,
            throttle: Throttle::default(),
            load: Load::new(now),
        }
    }
}

impl Node {
    /// The liveness connection to `node`, whose process start is `start`, stands.
    pub fn on_peer_connected(&mut self, now: Now, node: NodeId, start: u64) {
        if self.stopping() {
            return;
        }
        let mut leases = Vec::new();
        self.peers.liveness.on_connected(now.mono, node, start, &mut leases);
        self.peers.leaders.on_connected(now.mono, node);
        self.peers.load.on_connected(node);
        self.on_leases(now, leases);
    }

    /// The liveness connection to `node` is gone.
    pub fn on_peer_disconnected(&mut self, now: Now, node: NodeId) {
        if self.stopping() {
            return;
        }
        let mut leases = Vec::new();
        self.peers.liveness.on_disconnected(now.mono, node, &mut leases);
        self.peers.leaders.on_disconnected(node);
        self.on_leases(now, leases);
    }

    /// Something that `node` was told did not leave: what is not said again is told whole.
    pub fn on_peer_missed(&mut self, now: Now, node: NodeId) {
        self.peers.leaders.on_connected(now.mono, node);
    }

    /// Another node says something. A node that stops has its last checkpoints made and listens no more.
    pub fn on_peer(&mut self, now: Now, node: NodeId, said: PeerOut) {
        if self.stopping() {
            return;
        }
        match said {
            PeerOut::Raft { key, message } => self.on_raft(now, node, key, message),
            PeerOut::Heartbeat(beat) => self.on_heartbeat(now, node, &beat),
            PeerOut::Leaders(batch) => self.on_leaders(now, node, &batch),
            PeerOut::Propose { token, command } => self.on_propose(now, node, token, command),
            PeerOut::Proposed { code, .. } => self.on_proposed(now, code),
            PeerOut::AskReplica { key, inquiry } => self.on_ask_replica(now, node, key, inquiry),
            PeerOut::ReplicaState { inquiry, state, .. } => {
                self.on_replica_state(now, node, inquiry, *state);
            }
            PeerOut::Install { key, said } => self.on_install(now, node, key, said),
            PeerOut::HandOver { key, to } => self.hand_over_one(now, key, to),
            PeerOut::TxnAsk { number, ask } => self.on_txn_ask(now, node, number, *ask),
            PeerOut::TxnAnswer { number, code } => self.on_txn_answer(now, number, code),
            PeerOut::Markers { number, markers } => self.on_markers(now, node, number, *markers),
            PeerOut::Marked { number, partitions } => self.on_marked(now, number, partitions),
            PeerOut::Chain { key, index, value, asks } => {
                self.on_chain(now, node, key, (index, value), asks);
            }
        }
        self.settle(now);
    }

    fn on_raft(&mut self, now: Now, node: NodeId, key: GroupKey, message: PeerMessage) {
        if !self.groups.contains_key(&key) {
            // A topic that this node has not heard of yet: raft says it again.
            self.open_replica(now, key);
        }
        let from = message.from();
        // An earlier replica of this node may be a member still: what is meant for it is not for its successor.
        let to = message.to();
        let theirs = |open: &Open| open.partition.knows(from, node) && open.partition.replica_id() == to;
        if !self.open_group(key).is_some_and(theirs) {
            return self.make_room(now, key, (from, node), to);
        }
        // Heartbeats of a leader that is known are no activity: a group at rest would never sleep, and the last
        // one, which travels on another connection than the word that the group sleeps, would wake it.
        let known = |open: &Open| message.is_heartbeat() && message.term() == open.partition.term();
        let idle = self.open_group(key).is_some_and(known);
        if self.with(key, |p, dir, fx| p.step(now, message, dir, fx)).is_some() && !idle {
            self.stir(now, key);
        }
    }

    fn on_install(&mut self, now: Now, node: NodeId, key: GroupKey, said: InstallSaid) {
        match said {
            InstallSaid::Offer { term, index, index_term, last_index, repair } => {
                self.on_offer(now, node, key, Offer { term, index, index_term, last_index, repair });
            }
            InstallSaid::Ask { term } => self.on_ask(now, node, key, term),
            InstallSaid::Bad => self.on_bad(key),
            InstallSaid::Pull { index, file, pos, length } => {
                self.on_pull(now, Wanted { node, key, index, file, pos, length });
            }
            InstallSaid::Piece { index, file, pos, bytes } => {
                self.on_piece(now, node, key, (index, file, pos), bytes);
            }
            InstallSaid::Done { last_index } => self.on_install_done(now, node, key, last_index),
        }
    }

    fn on_heartbeat(&mut self, now: Now, node: NodeId, beat: &Heartbeat) {
        let mut leases = Vec::new();
        let heard = self.peers.liveness.on_heartbeat(now.mono, node, beat, &mut leases);
        self.on_leases(now, leases);
        if heard {
            beat.sleeping.iter().for_each(|said| self.follower_sleeps(now, node, said));
            beat.load.iter().for_each(|load| self.peers.load.heard(now.mono, node, load.clone()));
        }
    }

    fn on_leaders(&mut self, now: Now, node: NodeId, batch: &LeaderBatch) {
        let image = self.metadata.image();
        let deleted = |topic| image.tombstones.contains_key(&topic);
        let rose = self.peers.leaders.on_rows(node, batch.whole, &batch.rows, &deleted);
        // Whoever sleeps behind a leader that leads no more would miss nothing.
        let resigned = batch.rows.iter().filter(|row| row.leader.is_none()).map(|row| row.key);
        for key in resigned {
            if self.open_group(key).is_some_and(|o| o.partition.leader_node() == Some(node)) {
                self.stir(now, key);
            }
        }
        for key in rose {
            let epoch = self.peers.leaders.leader(key).epoch;
            let behind = self.open_group(key).is_some_and(|o| o.partition.term() < epoch as u64);
            if behind {
                self.stir(now, key);
            }
        }
    }

    /// Something happened to a group: it gets ticks, where it has replicas elsewhere.
    pub(crate) fn stir(&mut self, now: Now, key: GroupKey) {
        let Some(Slot::Open(open)) = self.groups.get_mut(&key) else { return };
        if open.partition.is_alone() {
            return;
        }
        if self.peers.awake.insert(key, now.mono).is_none() {
            open.partition.wake();
            self.peers.liveness.wakes(key);
            self.peers.next_tick = self.peers.next_tick.max(now.mono);
        }
    }

    /// When something is to be done for the sake of other nodes.
    pub(crate) fn peers_deadline(&self) -> Option<Mono> {
        if self.stopping() {
            return None;
        }
        let next_tick = self.peers.next_tick.min(self.peers.turns.due());
        let ticks = (!self.peers.awake.is_empty()).then_some(next_tick);
        let campaigns = (!self.peers.campaigns.is_empty()).then_some(self.peers.next_campaign);
        let lost = (!self.peers.lost.is_empty()).then_some(self.peers.next_lost);
        let told = [self.peers.liveness.next_deadline(), self.peers.leaders.next_deadline()];
        let opening = (!self.peers.to_open.is_empty()).then_some(self.peers.next_tick);
        let moves = (!self.peers.moves.is_empty()).then_some(self.peers.next_moves);
        let inquiries = self.inquiries.next_deadline();
        let others =
            [inquiries, self.peers.next_confirm, self.peers.next_raise, self.peers.throttle.next_deadline()];
        let load = Some(self.peers.load.next_deadline());
        [ticks, campaigns, lost, opening, moves, load, self.peers.registering]
            .into_iter()
            .chain(others)
            .chain(told)
            .flatten()
            .min()
    }

    /// Leases, heartbeats, elections, ticks.
    pub(crate) fn tick_peers(&mut self, now: Now) {
        if self.stopping() {
            return;
        }
        let mut leases = Vec::new();
        self.peers.liveness.advance(now.mono, &mut leases);
        self.on_leases(now, leases);
        self.tell_lost(now);
        self.campaign_due(now);
        self.balance(now);
        self.leave_full_disk(now);
        self.open_some(now);
        self.register_again(now);
        self.advance_moves(now);
        self.read_throttled(now);
        self.confirm_deletions(now);
        self.raise_topics(now);
        self.look_at_load(now);
        if self.peers.next_tick <= now.mono {
            // Time that was lost is not made up for: ticks in a heap would end leases of leaders that live.
            self.peers.next_tick = now.mono.after_ms(TICK_MS as i64);
            if self.peers.awake.contains_key(&GroupKey::METADATA) {
                self.tick_group(now, GroupKey::METADATA);
            }
            self.hand_over_more(now);
            self.tend_quorum(now);
        }
        for key in self.peers.turns.take(now.mono, &self.peers.awake) {
            self.tick_group(now, key);
        }
        self.settle(now);
        self.tell_peers(now);
    }

    fn tick_group(&mut self, now: Now, key: GroupKey) {
        self.with(key, |p, dir, fx| p.tick_group(now, dir, fx));
        self.look_at(now, key);
    }

    /// Heartbeats and rows that are due.
    pub(crate) fn tell_peers(&mut self, now: Now) {
        let busy = self.dir.syncing_since().map_or(0, |since| now.mono.since(since).as_millis() as u64);
        let mut beats = Vec::new();
        self.peers.liveness.heartbeats(now.mono, busy, &mut beats);
        for (node, beat) in &mut beats {
            (beat.full, beat.load) = (self.dir.full(), self.peers.load.due_to(*node));
        }
        let beats = beats.into_iter().map(|(node, beat)| Effect::Peer(node, PeerOut::Heartbeat(beat)));
        self.fx.extend(beats);
        let mut batches = Vec::new();
        self.peers.leaders.batches(now.mono, &mut batches);
        let batches = batches.into_iter().map(|(node, rows)| Effect::Peer(node, PeerOut::Leaders(rows)));
        self.fx.extend(batches);
    }

    /// Entries for a replica that is behind were read.
    pub(crate) fn entries_read(
        &mut self,
        now: Now,
        key: GroupKey,
        number: u64,
        term: u64,
        result: Result<Extracted, ExtractError>,
    ) {
        // A log is not cut while its replica leads.
        let leads = |open: &crate::groups::Open| open.partition.is_leader() && open.partition.term() == term;
        let uncut = self.open_group(key).is_some_and(leads);
        let entries = match result {
            Ok(found) => found.entries,
            // It was deleted while its files were read.
            Err(_) if self.open_group(key).is_none() => return,
            // What the replica needs left the window meanwhile: its next answer asks for something else.
            Err(ExtractError::Disk(error)) if error.kind == DiskErrorKind::NotFound => Vec::new(),
            Err(ExtractError::Unsettled(_)) if !uncut => Vec::new(),
            Err(ExtractError::Damaged(damage) | ExtractError::Unsettled(damage)) if self.has_peers(key) => {
                self.on_damage(now, key, damage.to_string());
                Vec::new()
            }
            Err(error) => {
                let detail = format!("entries for a replica that is behind: {error}");
                self.fx.push(Effect::Event(Event::GroupFailed { key, detail }));
                Vec::new()
            }
        };
        self.with(key, |p, dir, fx| p.on_entries(now, number, entries, dir, fx));
    }

    /// Who leads a partition, as far as this node knows: (epoch, node). The epoch is -1 where it is not
    /// known yet, the node `None` where there is no live leader.
    pub fn leader_of(&self, key: GroupKey) -> (i32, Option<NodeId>) {
        let image = self.metadata.image();
        let replicas = image.partition(key);
        let only = replicas.filter(|p| p.is_alone()).map(|p| p.replicas[0].node);
        if only == Some(self.cfg.node_id) {
            return (self.leader_epoch(key), only);
        }
        let view = self.peers.leaders.leader(key);
        // Whoever is alone elects itself when it is touched.
        let live = |node: &NodeId| self.peers.liveness.lost_since(*node).is_none();
        (view.epoch, view.leader.or(only.filter(live)))
    }

    /// Nodes whose replicas of a partition are in sync, in the order of the wanted set.
    pub fn in_sync_of(&self, key: GroupKey) -> Vec<NodeId> {
        let image = self.metadata.image();
        let Some(partition) = image.partition(key) else { return Vec::new() };
        let wanted = partition.replicas.iter().map(|r| r.node);
        if partition.is_alone() {
            return wanted.collect();
        }
        let view = self.peers.leaders.leader(key);
        wanted.filter(|node| view.in_sync.contains(node)).collect()
    }

    /// Groups with replicas elsewhere that get ticks.
    pub fn groups_awake(&self) -> usize {
        self.peers.awake.len()
    }

    /// The nodes that are taken for alive, this one among them.
    pub fn live_nodes(&self, now: Now) -> Vec<NodeId> {
        self.peers.liveness.live(now.mono)
    }

    /// Those, and the nodes that were lost a moment ago.
    pub fn recent_nodes(&self, now: Now) -> Vec<NodeId> {
        self.peers.liveness.recent(now.mono, crate::admin::SESSION)
    }
}
