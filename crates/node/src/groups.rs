//! Groups held here: opened at first touch, holding what touches them until they lead.
use crate::api::{Effect, Event, PeerOut, Reply, Token};
use crate::configs::partition_config;
use crate::load::Rate;
use crate::node::{Node, replica};
use crate::panics::guarded;
use crate::txn_verify::HeldAppend;
use bytes::BytesMut;
use cluster::{Image, Topic};
use model::{ErrorCode, GroupKey, NodeId, Now};
use partition::{AppendError, ListOffsetAsk, Origin, Partition, PartitionFx, Start};
use std::sync::Arc;
use storage::{Damage, Directory, GroupState, RecoverError, RecoverJob, Recovered, birth, generation_dir};

/// A group's place in the node.
#[derive(Debug)]
pub(crate) enum Slot {
    /// Its files are being read back.
    Opening(Vec<Touch>),
    /// It runs.
    Open(Open),
    /// It is damaged and stays closed; the text says where and what to do.
    Failed(String),
}

/// A group that runs.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) partition: Box<Partition>,
    /// What waits until it leads.
    pub(crate) waiting: Vec<Touch>,
    /// What it takes in.
    pub(crate) rate: Rate,
}

impl Open {
    pub(crate) fn new(partition: Partition) -> Open {
        Open { partition: Box::new(partition), waiting: Vec::new(), rate: Rate::default() }
    }

    /// Whether requests belong elsewhere: a replica that is alone leads as soon as it is touched.
    pub(crate) fn follows(&self) -> bool {
        !self.partition.is_alone() && !self.partition.is_leader()
    }
}

/// A request that touches a group. Appends need not wait for leadership: they ride with the no-op.
#[derive(Debug)]
pub(crate) enum Touch {
    Produce {
        token: Token,
        records: BytesMut,
        acks: i16,
    },
    /// A record set of a transaction.
    InTransaction(Box<HeldAppend>),
    /// The end of a transaction, for [`Internal::Marker`](crate::admin::Internal::Marker).
    Marker {
        token: u64,
        marker: partition::Marker,
    },
    ListOffset {
        token: Token,
        ask: ListOffsetAsk,
    },
    EpochEnd {
        token: Token,
        current_leader_epoch: i32,
        leader_epoch: i32,
    },
    DeleteRecords {
        token: Token,
        offset: i64,
    },
    /// Only to open it: a coordinator loads, a fetch waits.
    Open,
}

/// Whether what the directory holds of a group is of this replica. One that was adopted from a damaged state log
/// has no id there, and is taken at its files' word.
fn is_ours(state: &GroupState, id: u64) -> bool {
    state.replica == 0 || state.replica == id
}

/// What is said of the files of an only replica that was declared lost.
const GIVEN_UP: &str = "this broker was unregistered, which declared its replica lost, and there is no other one: the \
                        files are kept and not served; delete the topic to be rid of them";

/// Whether a replica is a witness that is not to stay: a copy comes in its place, or it is needed no more.
fn gives_way(partition: &cluster::Partition, replica: &cluster::Replica) -> bool {
    let is_witness = replica.kind == cluster::ReplicaKind::Witness;
    is_witness && partition.witness.is_none_or(|witness| witness.id != replica.id)
}

/// Requests that wait for one group to open: more are told to try again. Who asked may be gone already.
const MOST_WAITING: usize = 1000;
/// And bytes of batches among them; one batch is always let in.
const UNSERVED_BYTES: usize = 64 << 20;

/// Adds what waits, or gives it back with what to answer.
fn wait(waiting: &mut Vec<Touch>, touch: Touch, most_bytes: usize) -> Option<(Touch, ErrorCode)> {
    let bytes = |touch: &Touch| match touch {
        Touch::Produce { records, .. } => records.len(),
        Touch::InTransaction(held) => held.records.len(),
        _ => 0,
    };
    if matches!(touch, Touch::Open) {
        // One is enough, and never refused: to refuse it is to wake every fetch that waits, which asks again.
        if !waiting.iter().any(|touch| matches!(touch, Touch::Open)) {
            waiting.push(touch);
        }
        return None;
    }
    let held: usize = waiting.iter().map(bytes).sum();
    let produces = matches!(touch, Touch::Produce { .. } | Touch::InTransaction(_));
    if waiting.len() >= MOST_WAITING || (produces && held > 0 && held + bytes(&touch) > most_bytes) {
        let code = if produces { ErrorCode::RequestTimedOut } else { ErrorCode::NotLeaderOrFollower };
        return Some((touch, code));
    }
    waiting.push(touch);
    None
}

impl Node {
    pub(crate) fn open_group(&self, key: GroupKey) -> Option<&Open> {
        match self.groups.get(&key) {
            Some(Slot::Open(open)) => Some(open),
            _ => None,
        }
    }

    /// Calls a running group and keeps what it says for [`Node::settle`].
    pub(crate) fn with<R>(
        &mut self,
        key: GroupKey,
        call: impl FnOnce(&mut Partition, &mut Directory, &mut Vec<PartitionFx>) -> R,
    ) -> Option<R> {
        let Some(Slot::Open(open)) = self.groups.get_mut(&key) else { return None };
        let (partition, dir, scratch) = (&mut open.partition, &mut self.dir, &mut self.scratch);
        match guarded(|| call(partition, dir, scratch)) {
            Ok(result) => {
                self.said.extend(self.scratch.drain(..).map(|said| (key, said)));
                Some(result)
            }
            Err(panic) => {
                self.panicked(key, panic);
                None
            }
        }
    }

    /// Hands a request to its group, opening the group first where need be.
    pub(crate) fn touch(&mut self, now: Now, key: GroupKey, touch: Touch) {
        if self.dir.fenced().is_some() {
            return self.refuse(key, touch, ErrorCode::KafkaStorageError);
        }
        let early = self.is_too_early(key);
        match self.groups.get_mut(&key) {
            Some(Slot::Open(_)) => self.run(now, key, touch),
            Some(Slot::Opening(waiting)) => {
                if let Some((touch, code)) = wait(waiting, touch, UNSERVED_BYTES) {
                    self.refuse(key, touch, code);
                }
            }
            Some(Slot::Failed(_)) => self.refuse(key, touch, ErrorCode::KafkaStorageError),
            // Files of another life are on their way out.
            None if self.removals.contains_key(&key) => {
                self.refuse(key, touch, ErrorCode::NotLeaderOrFollower)
            }
            None if early => self.refuse(key, touch, ErrorCode::NotLeaderOrFollower),
            None => self.open_slot(now, key, touch),
        }
    }

    /// Whether a replica is not to be opened yet, see [`Node::open_replica`]. One without others elsewhere, neither: a late
    /// request of another node, for a marker, may name a topic that was deleted here.
    fn is_too_early(&self, key: GroupKey) -> bool {
        !self.registered && key != GroupKey::METADATA
    }

    fn run(&mut self, now: Now, key: GroupKey, touch: Touch) {
        let Some(Slot::Open(open)) = self.groups.get_mut(&key) else { return };
        let leads = open.partition.leader_epoch().is_some();
        match touch {
            Touch::Open if open.follows() => {}
            touch if open.follows() => self.refuse(key, touch, ErrorCode::NotLeaderOrFollower),
            Touch::Produce { token, records, acks } => {
                self.active.insert(key);
                self.stir(now, key);
                self.with(key, |p, dir, fx| p.append(now, token.0, records, acks, Origin::Client, dir, fx));
            }
            touch if !leads => {
                let refused = wait(&mut open.waiting, touch, UNSERVED_BYTES);
                self.with(key, |p, dir, fx| p.touch(now, dir, fx));
                if let Some((touch, code)) = refused {
                    self.refuse(key, touch, code);
                }
            }
            touch => self.serve(now, key, touch),
        }
    }

    fn open_slot(&mut self, now: Now, key: GroupKey, touch: Touch) {
        let image = self.metadata.image();
        let Some((topic, id, members)) = self.held(&image, key) else {
            let code = self.not_held(key);
            return self.refuse(key, touch, code);
        };
        let witness = self.is_witness_here(&image, key);
        let config = self
            .topic_configs
            .entry(key.topic)
            .or_insert_with(|| Arc::new(partition_config(&image, &topic)))
            .clone();
        let birth = birth(key, members);
        let ours = |state: &GroupState| is_ours(state, id) || self.goes_on_as(key, state.replica, id);
        if self.states.get(&key).is_some_and(|state| !ours(state)) {
            if image.partition(key).is_some_and(cluster::Partition::is_lost) {
                // Nobody has anything else of it: what is here is not served, and not removed either.
                self.group_failed(key, GIVEN_UP.to_owned());
                return self.refuse(key, touch, ErrorCode::KafkaStorageError);
            }
            // What is here is of a replica that was removed from the group; the one that is to be here begins anew.
            self.remove_group(key);
            return self.refuse(key, touch, ErrorCode::NotLeaderOrFollower);
        }
        match self.states.get(&key) {
            Some(state) if state.failed.is_some() => {
                let why = state.failed.clone().unwrap_or_default();
                self.group_failed(key, why);
                self.refuse(key, touch, ErrorCode::KafkaStorageError);
            }
            Some(state) => {
                let job =
                    RecoverJob { key, dir: generation_dir(key, state.generation), mark: state.mark, birth };
                self.dir.recover(job);
                self.groups.insert(key, Slot::Opening(vec![touch]));
            }
            None => {
                let start = Start::Born(birth);
                let seed = self.cfg.seed;
                let (mut partition, _) =
                    Partition::open(key, start, Default::default(), id, config, &mut self.dir, seed);
                if witness {
                    partition.be_witness();
                }
                self.groups.insert(key, Slot::Open(Open::new(partition)));
                self.tell_addresses(now, key);
                self.first_election(now, key);
                self.run(now, key, touch);
            }
        }
    }

    /// The topic of a group that is held here, this node's replica id, and the group's first replicas.
    pub(crate) fn held(
        &self,
        image: &Image,
        key: GroupKey,
    ) -> Option<(Arc<Topic>, u64, Vec<storage::Replica>)> {
        let topic = image.topic_by_id(key.topic)?;
        let partition = topic.partition(key.partition)?;
        let own = self.held_replica(image, key)?;
        let founder = |r: &cluster::Replica| {
            let witness = r.kind == cluster::ReplicaKind::Witness;
            storage::Replica { witness, ..replica(r.id, r.node) }
        };
        Some((topic.clone(), own.id, partition.founders().iter().map(founder).collect()))
    }

    /// What this node has, or is to have, of a group. A witness whose node is to have a copy instead stays until
    /// [`Node::make_room`], over starts too: the group may need its vote to let it go.
    pub(crate) fn held_replica(&self, image: &Image, key: GroupKey) -> Option<cluster::Replica> {
        let partition = image.partition(key)?;
        let here = || partition.holders().filter(|r| r.node == self.cfg.node_id);
        let open = self.open_group(key).map(|open| open.partition.replica_id());
        let local = open.or_else(|| self.states.get(&key).map(|state| state.replica));
        let found =
            here().find(|r| Some(r.id) == local).or_else(|| here().find(|r| !gives_way(partition, r)));
        found.copied()
    }

    /// Whether the replica here is a witness that is not to stay.
    fn makes_room(&self, key: GroupKey) -> bool {
        let image = self.metadata.image();
        let held = image.partition(key).zip(self.held_replica(&image, key));
        held.is_some_and(|(partition, replica)| gives_way(partition, &replica))
    }

    /// A message for a replica that is to take the place of the witness here: its leader counts on that replica
    /// only after the group has let the witness go. So that may be removed now.
    pub(crate) fn make_room(&mut self, now: Now, key: GroupKey, from: (u64, NodeId), to: u64) {
        let image = self.metadata.image();
        let Some(partition) = image.partition(key) else { return };
        let comes = |r: &cluster::Replica| r.id == to && r.node == self.cfg.node_id;
        let known = partition.holders().any(|r| (r.id, r.node) == from) && partition.wanted().any(comes);
        let gives_way = match self.groups.get(&key) {
            Some(Slot::Open(open)) => open.partition.is_witness() && open.partition.replica_id() != to,
            // Damaged, and closed.
            Some(Slot::Failed(_)) => self.states.get(&key).is_some_and(|state| !is_ours(state, to)),
            Some(Slot::Opening(_)) | None => false,
        };
        if known && gives_way {
            self.fx.push(Effect::Event(Event::ReplicaGone { key }));
            self.remove_group(key);
            self.open_replica(now, key);
        }
    }

    /// Whether this node's replica of a group is to be a witness.
    pub(crate) fn is_witness_here(&self, image: &Image, key: GroupKey) -> bool {
        self.held_replica(image, key).is_some_and(|r| r.kind == cluster::ReplicaKind::Witness)
    }

    /// Opens this node's replica of a group with others elsewhere, where there is one. Not before the image is
    /// up to date: of a topic that was deleted here in the last life nothing is left, and the replica would
    /// begin anew.
    pub(crate) fn open_replica(&mut self, now: Now, key: GroupKey) {
        if self.registered
            && !self.groups.contains_key(&key)
            && !self.removals.contains_key(&key)
            && self.dir.fenced().is_none()
            && self.holds(key)
        {
            self.open_slot(now, key, Touch::Open);
        }
    }

    fn base_is_damaged(&mut self, now: Now, key: GroupKey, damage: &Damage) {
        if self.has_peers(key) {
            return self.on_damage(now, key, damage.to_string());
        }
        let detail = format!("fetches of the damaged range fail: {damage}");
        self.fx.push(Effect::Event(Event::GroupFailed { key, detail }));
    }

    /// A disk that could not be read may be read later; damage stays.
    fn not_recovered(&mut self, now: Now, key: GroupKey, error: RecoverError) {
        match error {
            RecoverError::Disk(error) => self.fx.push(Effect::Event(Event::GroupFailed {
                key,
                detail: format!("cannot be read, the next request tries again: {error}"),
            })),
            RecoverError::Damaged(damage) if self.has_peers(key) => {
                self.closed_for_damage(now, key, damage.to_string());
            }
            RecoverError::Damaged(damage) => self.group_failed(key, damage.to_string()),
        }
    }

    pub(crate) fn on_recovered(&mut self, now: Now, key: GroupKey, result: Result<Recovered, RecoverError>) {
        let opening = |slot: &mut Slot| match slot {
            Slot::Opening(waiting) => Some(std::mem::take(waiting)),
            Slot::Open(_) | Slot::Failed(_) => None,
        };
        let Some(waiting) = self.groups.get_mut(&key).and_then(opening) else { return };
        self.groups.remove(&key);
        let damaged = match &result {
            Ok(recovered) => !recovered.base_damage.is_empty(),
            Err(error) => matches!(error, RecoverError::Damaged(_)),
        };
        if damaged && (self.makes_room(key) || self.held(&self.metadata.image(), key).is_none()) {
            // The group had let it go, and it was being removed when the process ended; or that is due since then.
            return self.remove_unopened(key, waiting);
        }
        let recovered = match result {
            Ok(recovered) => recovered,
            Err(error) => {
                waiting.into_iter().for_each(|touch| self.refuse(key, touch, ErrorCode::KafkaStorageError));
                return self.not_recovered(now, key, error);
            }
        };
        let image = self.metadata.image();
        // The topic was deleted, or the replica moved, while its files were read.
        let here = |state: &GroupState, id| is_ours(state, id) || self.goes_on_as(key, state.replica, id);
        let ours = |id: u64| self.states.get(&key).is_none_or(|state| here(state, id));
        let Some((topic, id, _)) = self.held(&image, key).filter(|(_, id, _)| ours(*id)) else {
            return self.remove_unopened(key, waiting);
        };
        recovered.base_damage.iter().for_each(|damage| self.base_is_damaged(now, key, damage));
        let config = self
            .topic_configs
            .entry(key.topic)
            .or_insert_with(|| Arc::new(partition_config(&image, &topic)))
            .clone();
        let hard = self.states.get(&key).map(|s| s.hard).unwrap_or_default();
        let start = self.start_of(key, id, Box::new(recovered));
        let (mut partition, opened) = match self.open_guarded(key, start, hard, id, config) {
            Ok(opened) => opened,
            Err(why) => {
                waiting.into_iter().for_each(|touch| self.refuse(key, touch, ErrorCode::KafkaStorageError));
                return self.group_failed(key, why);
            }
        };
        let witness = self.is_witness_here(&image, key);
        if witness {
            partition.be_witness();
        }
        if let Some(detail) = &opened.failed {
            self.said.push_back((key, PartitionFx::Failed(detail.clone())));
        }
        if self.dir.full() {
            partition.cut_tail(&mut self.dir);
        }
        self.groups.insert(key, Slot::Open(Open::new(partition)));
        self.tell_addresses(now, key);
        self.rejoined(now, key);
        if !witness {
            self.machine_opened(key, opened);
        }
        for touch in waiting {
            self.run(now, key, touch);
        }
        self.leads_alone(now, key);
        self.host_follows(now, key);
        if self.is_hosted(key) && !witness {
            // Its coordinator waits for it to lead.
            self.run(now, key, Touch::Open);
        }
    }

    pub(crate) fn group_failed(&mut self, key: GroupKey, detail: String) {
        self.fx.push(Effect::Event(Event::GroupFailed { key, detail: detail.clone() }));
        self.groups.insert(key, Slot::Failed(detail));
        self.wake(key);
    }

    fn remove_unopened(&mut self, key: GroupKey, waiting: Vec<Touch>) {
        let code = self.not_held(key);
        for touch in waiting {
            self.refuse(key, touch, code);
        }
        self.remove_group(key);
    }

    /// Removes what is here of a group that was deleted, or of a replica that was moved away.
    pub(crate) fn remove_group(&mut self, key: GroupKey) {
        self.drop_install(key);
        let code = self.not_held(key);
        self.suspects.rows.remove(&key);
        self.compares.forget(key);
        match self.groups.remove(&key) {
            Some(Slot::Open(mut open)) => {
                let mut said = Vec::new();
                open.partition.fail(code, &mut said);
                self.said.extend(said.into_iter().map(|s| (key, s)));
                for touch in open.waiting {
                    self.refuse(key, touch, code);
                }
                open.partition.delete(&mut self.dir);
                self.removals.insert(key, true);
            }
            // Files are still being read: `on_recovered` finds the topic gone and comes back here.
            Some(opening @ Slot::Opening(_)) => {
                self.groups.insert(key, opening);
                return;
            }
            Some(Slot::Failed(_)) => self.remove_files(key),
            None if self.unnamed.contains(&key) || self.was_touched(key) => self.remove_files(key),
            None => {}
        }
        self.unnamed.remove(&key);
        self.given_up.remove(&key);
        self.peers.moves.remove(&key);
        self.peers.awake.remove(&key);
        self.peers.campaigns.remove(&key);
        self.states.remove(&key);
        self.active.remove(&key);
        self.wake(key);
        self.watches.forget(key);
    }

    pub(crate) fn remove_files(&mut self, key: GroupKey) {
        self.dir.remove(key);
        self.dir.forget(key);
        self.removals.insert(key, true);
    }

    /// Answers every request that waits for `key` to lead.
    pub(crate) fn refuse_touches(&mut self, key: GroupKey, code: ErrorCode) {
        let waiting = match self.groups.get_mut(&key) {
            Some(Slot::Open(open)) => std::mem::take(&mut open.waiting),
            Some(Slot::Opening(waiting)) => std::mem::take(waiting),
            _ => Vec::new(),
        };
        for touch in waiting {
            self.refuse(key, touch, code);
        }
    }

    pub(crate) fn refuse(&mut self, key: GroupKey, touch: Touch, code: ErrorCode) {
        let (token, reply) = match touch {
            Touch::Produce { token, .. } => {
                let error = AppendError { code, message: None, issues: Vec::new(), log_start: -1 };
                (token, Reply::Produce(Err(error)))
            }
            Touch::InTransaction(held) => return self.append_refused(key, held.token, code),
            Touch::Marker { token, .. } => return self.append_refused(key, token, code),
            Touch::ListOffset { token, .. } => (token, Reply::ListOffset(Err(code))),
            Touch::EpochEnd { token, .. } => (token, Reply::EpochEnd(Err(code))),
            Touch::DeleteRecords { token, .. } => (token, Reply::DeleteRecords(Err(code))),
            Touch::Open => return self.wake(key),
        };
        self.fx.push(Effect::Reply(token, reply));
    }

    /// An append is refused before anything was written; whoever waits hears of it with the others of this turn.
    fn append_refused(&mut self, key: GroupKey, token: u64, code: ErrorCode) {
        let result = Err(AppendError::bare(code));
        self.said.push_back((key, PartitionFx::AppendDone { token, result }));
    }

    /// The group leads: what waited for that is served.
    pub(crate) fn serve_waiting(&mut self, now: Now, key: GroupKey) {
        let Some(Slot::Open(open)) = self.groups.get_mut(&key) else { return };
        for touch in std::mem::take(&mut open.waiting) {
            self.serve(now, key, touch);
        }
        self.wake(key);
    }

    /// Fetches that wait for `key` plan again.
    pub(crate) fn wake(&mut self, key: GroupKey) {
        let mut woken = Vec::new();
        self.watches.moved(key, &mut woken);
        self.fx.extend(woken.into_iter().map(|token| Effect::Reply(token, Reply::Watched)));
    }

    /// Carries what partitions said to where it belongs, until nothing is left unsaid.
    pub(crate) fn settle(&mut self, now: Now) {
        while let Some((key, said)) = self.said.pop_front() {
            match said {
                PartitionFx::AppendDone { token, result } => self.append_done(now, token, result),
                PartitionFx::CommandFailed { token, code } => self.command_failed(now, token, code),
                PartitionFx::LogStartDone { token, result } => {
                    self.fx.push(Effect::Reply(Token(token), Reply::DeleteRecords(result)));
                }
                PartitionFx::Committed(entry) => self.committed(now, key, entry),
                PartitionFx::HighWatermark(_) | PartitionFx::LogStart(_) => self.wake(key),
                PartitionFx::Send { node, message } => {
                    self.fx.push(Effect::Peer(node, PeerOut::Raft { key, message }));
                }
                PartitionFx::ReadEntries { number, range } => self.read_entries(now, key, number, range),
                PartitionFx::Lags { node } => self.lags(now, key, node),
                PartitionFx::WantsRound => self.strong.wants_round(key),
                PartitionFx::Confirmed { token, result } => self.confirmed(now, token, result),
                PartitionFx::Forgot { node } => self.tell_end(key, node),
                PartitionFx::Refused { node, why } => {
                    self.fx.push(Effect::Event(Event::PeerRefused { node, key, why }));
                }
                PartitionFx::Freed { lost } => self.fx.push(Effect::Event(Event::Freed { key, lost })),
                PartitionFx::Became(epoch) => {
                    self.fx.push(Effect::Event(Event::Leads { key, epoch }));
                    self.announce(now, key);
                    self.serve_waiting(now, key);
                    self.became(now, key);
                }
                PartitionFx::Resigned => self.resigned(now, key),
                PartitionFx::Members => self.members_changed(now, key),
                PartitionFx::Failed(detail) => {
                    self.drop_host(now, key, ErrorCode::CoordinatorNotAvailable);
                    self.dir.set_failed(key, Some(detail.clone()));
                    self.leads_no_more(now, key);
                    self.refuse_touches(key, ErrorCode::KafkaStorageError);
                    if let Some(Slot::Open(open)) = self.groups.remove(&key) {
                        self.close_failed(*open.partition);
                    }
                    self.group_failed(key, detail);
                }
            }
        }
        self.tell_marked();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produce(bytes: usize) -> Touch {
        Touch::Produce { token: Token(0), records: BytesMut::zeroed(bytes), acks: -1 }
    }

    #[test]
    fn what_waits_for_a_group_is_bounded_by_bytes_and_number() {
        let mut waiting = Vec::new();
        assert!(wait(&mut waiting, produce(200), 100).is_none(), "one is always let in");
        assert!(matches!(wait(&mut waiting, produce(1), 100), Some((_, ErrorCode::RequestTimedOut))));
        let delete = |n| Touch::DeleteRecords { token: Token(n), offset: 0 };
        let refused = (0..2000).filter_map(|n| wait(&mut waiting, delete(n), 100)).collect::<Vec<_>>();
        assert_eq!((waiting.len(), refused.len()), (MOST_WAITING, 1001));
        for _ in 0..10 {
            assert!(wait(&mut waiting, Touch::Open, 100).is_none(), "what only opens it is never refused");
        }
        assert_eq!(waiting.len(), MOST_WAITING + 1, "and one is enough");
        assert!(refused.iter().all(|(_, code)| *code == ErrorCode::NotLeaderOrFollower));
    }
}
