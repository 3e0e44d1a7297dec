//! Damage: a replica whose bytes are not what was made durable is *suspect*, and is brought up anew from a peer.
//!
//! One that could not be opened for it says nothing: no vote, no acknowledgement. One that runs, because the damage
//! is not in what it votes by, goes on as a follower. Either asks every peer once a second; whoever leads offers its
//! checkpoint (`install.rs`). The new life neither votes nor campaigns before it holds everything that the old one may
//! have acknowledged: what the leader had when it offered. docs/replication.md, "Damage".
use crate::api::{Effect, Event, InstallSaid};
use crate::groups::Slot;
use crate::node::Node;
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::{BTreeMap, BTreeSet};
use storage::{AsideJob, OpToken, birth, generation_dir};

/// A leader that found nobody to hand over to in so long leads no more, ms.
const HAND_OVER_MS: i64 = 5_000;
/// Between two questions, ms.
const ASK_MS: i64 = 1_000;

/// Replicas here that are not as they were.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// Why, and when their peers are asked next.
    pub(crate) rows: BTreeMap<GroupKey, (String, Mono)>,
    /// Leaders among them: since when they try to hand over.
    leading: BTreeMap<GroupKey, Mono>,
    /// Own files that are being read: which of a group, 0 for all of them.
    checks: BTreeMap<OpToken, GroupKey>,
    next_tick: Option<Mono>,
    /// That were found so far.
    found: u64,
    /// That were brought up.
    pub(crate) healed: u64,
}

impl Suspects {
    /// What is damaged stays so: nobody is asked to bring the replica up.
    pub(crate) fn forget(&mut self, key: GroupKey) {
        self.rows.remove(&key);
        self.leading.remove(&key);
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        if self.rows.is_empty() { None } else { self.next_tick.or(Some(Mono(0))) }
    }
}

impl Node {
    /// Whether a replica has peers that can bring it up.
    pub(crate) fn has_peers(&self, key: GroupKey) -> bool {
        self.peers_of(key).is_some_and(|nodes| !nodes.is_empty())
    }

    /// The other nodes with a replica of a group; `None` where none is wanted here.
    fn peers_of(&self, key: GroupKey) -> Option<Vec<NodeId>> {
        let image = self.metadata.image();
        let others = |node: &NodeId| *node != self.cfg.node_id;
        if key == GroupKey::METADATA {
            // Its own log may be what is damaged: whoever may know it is asked.
            let open = self.open_group(key).map(|open| open.partition.members()).unwrap_or_default();
            let nodes = self.cfg.voters.iter().chain(&self.peers.contacts).map(|(_, node)| *node);
            let nodes =
                nodes.chain(image.quorum.values().map(|r| r.node)).chain(open.iter().map(|m| m.node_id));
            let nodes: BTreeSet<NodeId> = nodes.filter(others).collect();
            return Some(nodes.into_iter().collect());
        }
        let partition = image.partition(key).filter(|_| self.holds(key))?;
        if self.goes_on_alone(key) {
            return None;
        }
        Some(partition.holders().map(|r| r.node).filter(others).collect())
    }

    /// Bytes of a replica here are not what was made durable. Without peers nothing follows from it: reads of them
    /// fail.
    pub fn on_damage(&mut self, now: Now, key: GroupKey, why: String) {
        if self.suspects.rows.contains_key(&key) || self.stopping() || !self.has_peers(key) {
            return;
        }
        self.suspects.found += 1;
        self.fx.push(Effect::Event(Event::Suspect { key, why: why.clone() }));
        self.suspects.rows.insert(key, (why, now.mono));
        self.suspects.next_tick = Some(now.mono);
    }

    /// The group could not be opened for damage.
    pub(crate) fn closed_for_damage(&mut self, now: Now, key: GroupKey, why: String) {
        self.groups.insert(key, Slot::Failed(why.clone()));
        self.wake(key);
        self.on_damage(now, key, why);
    }

    /// A peer's replica is suspect, and was in `term`. A leader of that term or a later one holds everything that the
    /// peer may have acknowledged and that is committed.
    pub(crate) fn on_ask(&mut self, now: Now, node: NodeId, key: GroupKey, term: u64) {
        if !self.groups.contains_key(&key) {
            return self.open_replica(now, key);
        }
        let Some(open) = self.open_group(key) else { return };
        let theirs = open.partition.members().iter().any(|m| m.node_id == node);
        let leads = open.partition.leader_epoch().is_some();
        if !theirs || !leads || self.suspects.rows.contains_key(&key) {
            return;
        }
        if open.partition.term() < term {
            // It voted in an election that came to nothing, and has no voice of its own to say so.
            self.with(key, |p, dir, fx| p.hear_term(now, term, dir, fx));
            return self.stir(now, key);
        }
        let newest = open.partition.newest_checkpoint().map_or(0, |(index, _)| index);
        if key == GroupKey::METADATA && newest < open.partition.applied_index() {
            // What it does not apply again one by one must not lie behind what it has applied.
            self.take_checkpoint(key);
        }
        self.offer(key, node, true);
    }

    /// Another replica pulled bytes here that are not what the checkpoint says: its own files are read.
    pub(crate) fn on_bad(&mut self, key: GroupKey) {
        if self.goes_on_alone(key) {
            // It is known, and an operator raises the log start past it: what is below that need not be sent.
            return self.offer_less(key);
        }
        let checking = self.suspects.checks.values().any(|of| *of == key);
        let newest = self.open_group(key).and_then(|open| open.partition.newest_checkpoint());
        let (Some((index, _)), false) = (newest, checking || !self.has_peers(key)) else { return };
        let dir = generation_dir(key, self.dir.life(key).0);
        let job =
            AsideJob { key, dir, index, birth: birth(key, Vec::new()), check: true, bare: false, only: None };
        let token = self.dir.look_aside(job);
        self.suspects.checks.insert(token, key);
    }

    /// Own files were read; whether that was it.
    pub(crate) fn checked(&mut self, now: Now, token: OpToken, found: &storage::AsideDone) -> bool {
        let Some(key) = self.suspects.checks.remove(&token) else { return false };
        let storage::AsideDone::Looked(result) = found else { return true };
        let present = generation_dir(key, self.dir.life(key).0);
        if let Ok(storage::Aside::Missing(parts)) = &**result
            && let Some(part) = parts.iter().find(|p| p.file > 0)
        {
            // A file that was removed while it was read is no damage; one that is still listed is.
            let listed = |p: &partition::Partition| p.file_range(0, part.file, part.good, 1).is_some();
            if self.open_group(key).is_some_and(|open| listed(&open.partition)) {
                let path = storage::aside_path(&present, 0, part.file);
                self.on_damage(now, key, format!("{path} at byte {}: not what was written", part.good));
            }
        }
        true
    }

    /// Peers are asked; leaders hand over first.
    pub(crate) fn tick_suspects(&mut self, now: Now) {
        let due = self.suspects.next_deadline().is_some_and(|at| at <= now.mono);
        if self.stopping() || !due {
            return;
        }
        self.suspects.next_tick = Some(now.mono.after_ms(ASK_MS / 4));
        let rows: Vec<GroupKey> =
            self.suspects.rows.iter().filter(|(_, (_, at))| *at <= now.mono).map(|(key, _)| *key).collect();
        for key in rows {
            let Some(others) = self.peers_of(key) else {
                self.suspects.rows.remove(&key);
                continue;
            };
            if let Some((_, at)) = self.suspects.rows.get_mut(&key) {
                *at = now.mono.after_ms(ASK_MS);
            }
            if self.open_group(key).is_some_and(|open| open.partition.is_leader()) {
                self.lead_no_more(now, key);
                continue;
            }
            let term = self.term_of(key);
            others.into_iter().for_each(|node| self.say(node, key, InstallSaid::Ask { term }));
        }
    }

    fn lead_no_more(&mut self, now: Now, key: GroupKey) {
        let since = *self.suspects.leading.entry(key).or_insert(now.mono);
        if since.after_ms(HAND_OVER_MS) <= now.mono {
            // What the others lack is perhaps what cannot be read here.
            self.suspects.leading.remove(&key);
            self.with(key, |p, dir, fx| p.stand_down(now, dir, fx));
            return;
        }
        // Not just anyone that is in sync: what it lacks could only come from the files that are damaged.
        if let Some(to) = self.open_group(key).and_then(|open| self.heir(now, open)) {
            self.transfer_leader(now, key, to);
        }
    }

    /// The term that a replica here is in, open or not.
    pub(crate) fn term_of(&self, key: GroupKey) -> u64 {
        let closed = || self.states.get(&key).map_or(0, |state| state.hard.term);
        self.open_group(key).map_or_else(closed, |open| open.partition.term())
    }

    /// Tells a leader where the log here ends; a restrained replica, up to where it is surely the leader's.
    pub(crate) fn tell_end(&mut self, key: GroupKey, leader: NodeId) {
        let Some(open) = self.open_group(key) else { return };
        let restrained = open.partition.is_restrained();
        let last_index =
            if restrained { open.partition.committed_index() } else { open.partition.last_index() };
        self.say(leader, key, InstallSaid::Done { last_index });
    }

    /// A suspect replica was brought up.
    pub(crate) fn healed(&mut self, key: GroupKey) {
        self.suspects.leading.remove(&key);
        self.compares.forget(key);
        if self.suspects.rows.remove(&key).is_some() {
            self.suspects.healed += 1;
        }
    }

    /// Replicas here that are suspect now, that were found so, and that were brought up.
    pub fn suspect_counts(&self) -> (usize, u64, u64) {
        (self.suspects.rows.len(), self.suspects.found, self.suspects.healed)
    }

    /// Why a replica here is suspect.
    pub fn suspicion(&self, key: GroupKey) -> Option<&str> {
        self.suspects.rows.get(&key).map(|(why, _)| why.as_str())
    }
}
