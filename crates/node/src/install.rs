//! A replica that needs what is behind its leader's window is brought up from a checkpoint: this side of it pulls.
//!
//! The leader offers its newest checkpoint once a second for as long as raft finds the replica behind; it remembers
//! nothing else. The replica pulls the checkpoint and the files that it names, a few pieces at a time, and goes on
//! with its old life meanwhile. docs/replication.md, "Install", has every case. The leader's side is in
//! `install_send.rs`.
mod take_over;

use crate::api::{Effect, Event, InstallEvent, InstallSaid, PeerOut};
use crate::groups::Slot;
use crate::install_budget::Budget;
use crate::install_looks::{Looks, Verdict};
use crate::install_pace::InstallPace;
use crate::install_send::Sending;
use crate::node::Node;
use bytes::Bytes;
use model::planted::{Bug, planted};
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::{BTreeMap, VecDeque};
use storage::{
    Aside, AsideJob, DiskOp, MissingPart, OpToken, RecoverError, Recovered, aside_path, birth, generation_dir,
};

/// Replicas that are brought up at once; the others wait for a later offer.
const MOST_RUNNING: usize = 4;
/// With those whose leaders are silent.
const MOST_KEPT: usize = 64;
/// Pieces that all of them together have asked for and not got: 6 MiB. Fewer leave the rate to the time of a round
/// trip and a write where nodes are busy; many more would leave raft no room in the queue to a node.
const MOST_ASKED: usize = 24;
/// A piece that did not come is asked for again after this, ms.
const PIECE_PATIENCE_MS: i64 = 3_000;
/// Without a sign of the leader for so long the next offer begins a new turn, ms.
const SILENCE_MS: i64 = 10_000;
/// What was put aside is removed when nobody offers the rest for so long, ms.
const FORGOTTEN_MS: i64 = 600_000;
const TICK_MS: i64 = 100;

/// What all of them have in common.
#[derive(Debug)]
pub(crate) struct Installs {
    pub(crate) running: BTreeMap<GroupKey, Install>,
    pub(crate) sending: Sending,
    /// What an earlier process put aside, until when it is kept.
    leftovers: BTreeMap<GroupKey, (Mono, u32)>,
    budget: Budget,
    pace: InstallPace,
    next_tick: Mono,
    pub(crate) stats: InstallStats,
}

/// Numbers of installs since the node was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstallStats {
    /// That go on now.
    pub running: usize,
    /// Bytes that these have still to pull, as far as that is known.
    pub bytes_left: u64,
    /// That began.
    pub begun: u64,
    /// That ended with a replica brought up.
    pub finished: u64,
    /// That were given up with everything pulled so far.
    pub failed: u64,
    /// That went on with what was here after an interruption.
    pub resumed: u64,
    /// Bytes that were pulled.
    pub bytes_pulled: u64,
    /// Bytes that were sent to others.
    pub bytes_sent: u64,
    /// Bytes a second to which what is pulled is held while groups here are synced.
    pub pace: u64,
}

/// Bytes of one file that are to be asked for.
#[derive(Clone, Copy, Debug)]
struct Part {
    file: u64,
    next: u64,
    end: u64,
}

/// One replica that is brought up.
#[derive(Debug)]
pub(crate) struct Install {
    from: NodeId,
    index: u64,
    generation: u32,
    stage: Stage,
    missing: VecDeque<Part>,
    /// By file and position: how much, and when.
    asked: BTreeMap<(u64, u64), (u32, Mono)>,
    storing: BTreeMap<OpToken, Part>,
    looks: Looks,
    /// When the leader's node was last heard of in this matter.
    heard: Mono,
    begun: Mono,
    pulled: u64,
    /// The replica is damaged: it is replaced though it may not be behind.
    repairs: bool,
    /// The last entry that the replica may have acknowledged.
    floor: u64,
}

/// A leader's newest checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) index_term: u64,
    /// The last entry of the leader's log.
    pub(crate) last_index: u64,
    pub(crate) repair: bool,
}

#[derive(Debug)]
enum Stage {
    /// For an offer.
    Waits,
    /// At what is here.
    Looks(OpToken),
    Pulls,
    /// Everything is here; it is being made durable.
    Syncs(OpToken, Box<Recovered>),
    /// The record that ends the old life is on its way, in this round.
    Switches(u64, Box<Recovered>),
}

impl Install {
    fn left(&self) -> u64 {
        let parts = self.missing.iter().filter(|p| p.file > 0).map(|p| p.end - p.next);
        let asked = self.asked.values().map(|(length, _)| u64::from(*length));
        parts.chain(asked).chain(self.storing.values().map(|p| p.end - p.next)).sum()
    }

    fn dir(&self, key: GroupKey) -> String {
        generation_dir(key, self.generation)
    }

    /// The next piece to ask for: those of the checkpoint one after the other, because its end is not known.
    fn next_piece(&mut self, piece: u64) -> Option<(u64, u64, u32)> {
        let part = self.missing.front_mut()?;
        if part.file == 0 && (!self.asked.is_empty() || !self.storing.is_empty()) {
            return None;
        }
        let (file, pos) = (part.file, part.next);
        let length = piece.min(part.end - pos);
        part.next += length;
        if part.next == part.end {
            self.missing.pop_front();
        }
        Some((file, pos, u32::try_from(length).unwrap_or(u32::MAX)))
    }

    /// A piece is to be asked for again.
    fn again(&mut self, file: u64, pos: u64, length: u32) {
        match self.missing.iter_mut().find(|p| p.file == 0) {
            Some(checkpoint) if file == 0 => checkpoint.next = checkpoint.next.min(pos),
            _ if file == 0 => self.missing.push_front(Part { file, next: pos, end: u64::MAX }),
            _ => self.missing.push_front(Part { file, next: pos, end: pos + u64::from(length) }),
        }
    }

    /// What was asked for will not come.
    fn ask_anew(&mut self) {
        for ((file, pos), (length, _)) in std::mem::take(&mut self.asked) {
            self.again(file, pos, length);
        }
    }
}

impl Installs {
    pub(crate) fn new(now: Mono) -> Installs {
        Installs {
            running: BTreeMap::new(),
            sending: Sending::default(),
            leftovers: BTreeMap::new(),
            budget: Budget::new(now),
            pace: InstallPace::default(),
            next_tick: now,
            stats: InstallStats::default(),
        }
    }

    /// An earlier process put files of the next life aside.
    pub(crate) fn left_over(&mut self, now: Mono, key: GroupKey, generation: u32) {
        if !self.running.contains_key(&key) {
            self.leftovers.insert(key, (now.after_ms(FORGOTTEN_MS), generation));
        }
    }

    /// Groups here were synced.
    pub(crate) fn on_sync(&mut self, now: Mono, micros: u64) {
        let pulls = self.running.values().any(|install| matches!(install.stage, Stage::Pulls));
        self.pace.on_sync(now, micros, pulls);
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let ticks = !self.running.is_empty() || self.sending.is_busy();
        let leftovers = self.leftovers.values().map(|(at, _)| *at).min();
        [ticks.then_some(self.next_tick), leftovers].into_iter().flatten().min()
    }
}

impl Node {
    /// A leader has a checkpoint for a replica that it finds behind, or that asked for one.
    pub(crate) fn on_offer(&mut self, now: Now, node: NodeId, key: GroupKey, offer: Offer) {
        if !self.groups.contains_key(&key) {
            return self.open_replica(now, key);
        }
        if offer.term < self.term_of(key) {
            return;
        }
        let suspect = self.suspects.rows.contains_key(&key);
        let repairs = suspect && offer.repair;
        if repairs && self.goes_back(key, offer.index) {
            return;
        }
        let fits = match self.groups.get(&key) {
            Some(Slot::Open(open)) if repairs => open.partition.may_be_replaced(),
            Some(Slot::Open(open)) => open.partition.is_behind(offer.index, offer.index_term),
            Some(Slot::Failed(_)) => repairs,
            Some(Slot::Opening(_)) | None => return,
        };
        if !fits {
            if !suspect {
                // It may have been said before, and been lost.
                self.drop_install(key);
                self.tell_end(key, node);
            }
            return;
        }
        match self.installs.running.get_mut(&key) {
            Some(install) => {
                install.heard = now.mono;
                let moved = install.from != node;
                if moved && matches!(install.stage, Stage::Pulls) {
                    install.ask_anew();
                }
                install.from = node;
                install.repairs |= repairs;
                install.floor = install.floor.max(if repairs { offer.last_index } else { 0 });
                if matches!(install.stage, Stage::Waits) && install.storing.is_empty() {
                    let index = offer.index;
                    if std::mem::replace(&mut install.index, index) != index {
                        install.looks = Looks::default();
                    }
                    self.installs.stats.resumed += 1;
                    let what = InstallEvent::Resumed { index };
                    self.fx.push(Effect::Event(Event::Install { key, node, what }));
                    self.look_aside(key);
                }
            }
            None => self.begin_install(now, node, key, offer.index, repairs.then_some(offer.last_index)),
        }
        self.pull(now);
    }

    /// Whether the metadata would be older than it is here. Topics that came in between would be taken for deleted.
    fn goes_back(&self, key: GroupKey, index: u64) -> bool {
        key == GroupKey::METADATA && index < self.metadata.applied()
    }

    /// `repairs`: a damaged replica is to be replaced, by an offer of a leader whose log ended there.
    fn begin_install(&mut self, now: Now, node: NodeId, key: GroupKey, index: u64, repairs: Option<u64>) {
        // One whose leader fell silent keeps what it has, and nobody waits for it.
        let busy = self.installs.running.values().filter(|i| !matches!(i.stage, Stage::Waits)).count();
        let many = busy >= MOST_RUNNING || self.installs.running.len() >= MOST_KEPT;
        if many || self.dir.full() || self.stopping() {
            return;
        }
        let install = Install {
            from: node,
            index,
            generation: self.dir.life(key).0 + 1,
            stage: Stage::Waits,
            missing: VecDeque::new(),
            asked: BTreeMap::new(),
            storing: BTreeMap::new(),
            looks: Looks::default(),
            heard: now.mono,
            begun: now.mono,
            pulled: 0,
            repairs: repairs.is_some(),
            floor: repairs.unwrap_or(0),
        };
        let resumes = self.installs.leftovers.remove(&key).is_some();
        self.installs.stats.begun += 1;
        self.installs.stats.resumed += u64::from(resumes);
        self.installs.next_tick = self.installs.next_tick.max(now.mono);
        self.installs.running.insert(key, install);
        let what = InstallEvent::Begun { index, resumes };
        self.fx.push(Effect::Event(Event::Install { key, node, what }));
        self.look_aside(key);
    }

    fn look_aside(&mut self, key: GroupKey) {
        let image = self.metadata.image();
        let bare = self.is_witness_here(&image, key);
        let members = self.held(&image, key).map(|(_, _, members)| members).unwrap_or_default();
        let Some(install) = self.installs.running.get_mut(&key) else { return };
        let job = AsideJob {
            key,
            dir: install.dir(key),
            index: install.index,
            birth: birth(key, members),
            check: false,
            bare,
            only: None,
        };
        install.missing.clear();
        install.asked.clear();
        install.stage = Stage::Looks(self.dir.look_aside(job));
    }

    /// Asks for pieces, as many as may be on their way.
    pub(crate) fn pull(&mut self, now: Now) {
        let image = self.metadata.image();
        let config = image.broker_config();
        let (rate, piece) = (config.follower_throttled_rate, config.install_piece_bytes);
        let mut asked: usize = self.installs.running.values().map(|i| i.asked.len() + i.storing.len()).sum();
        let mut said = Vec::new();
        let rate = self.installs.pace.limit(now.mono, rate);
        let Installs { running, budget, pace, .. } = &mut self.installs;
        for (key, install) in running.iter_mut().filter(|(_, i)| matches!(i.stage, Stage::Pulls)) {
            while asked < MOST_ASKED {
                if !budget.allows(now.mono, rate) {
                    pace.hold();
                    break;
                }
                let Some((file, pos, length)) = install.next_piece(piece.max(1).unsigned_abs()) else {
                    break;
                };
                asked += 1;
                budget.take(u64::from(length));
                install.asked.insert((file, pos), (length, now.mono));
                let pull = InstallSaid::Pull { index: install.index, file, pos, length };
                said.push((install.from, *key, pull));
            }
        }
        said.into_iter().for_each(|(node, key, pull)| self.say(node, key, pull));
    }

    pub(crate) fn say(&mut self, node: NodeId, key: GroupKey, said: InstallSaid) {
        self.fx.push(Effect::Peer(node, PeerOut::Install { key, said }));
    }

    /// A piece came; an empty one says that the file is gone.
    pub(crate) fn on_piece(
        &mut self,
        now: Now,
        node: NodeId,
        key: GroupKey,
        (index, file, pos): (u64, u64, u64),
        bytes: Bytes,
    ) {
        let Some(install) = self.installs.running.get_mut(&key) else { return };
        let due = install.from == node && install.index == index && matches!(install.stage, Stage::Pulls);
        if !due {
            // Another leader was asked for the same meanwhile: its answer is waited for.
            return;
        }
        let Some((length, _)) = install.asked.remove(&(file, pos)) else { return };
        install.heard = now.mono;
        let got = bytes.len() as u64;
        let ends = file == 0 && got < u64::from(length);
        if got > u64::from(length) || (got == 0 && !(ends && pos > 0)) {
            // The next offer names a newer checkpoint, or this one as it is now. What is here of files that it names
            // too stays.
            install.stage = Stage::Waits;
            install.asked.clear();
            let tells = install.looks.gone() && file > 0;
            let paths = vec![aside_path(&install.dir(key), index, 0)];
            self.dir.fx().ops.push(DiskOp::Remove { paths, recycle: false });
            if tells {
                self.say(node, key, InstallSaid::Bad);
            }
            return;
        }
        if ends {
            install.missing.retain(|part| part.file > 0);
        } else if got < u64::from(length) {
            install.again(file, pos + got, length - bytes.len() as u32);
        }
        install.pulled += got;
        self.installs.stats.bytes_pulled += got;
        let path = aside_path(&install.dir(key), index, file);
        let token = self.dir.put_aside(key, path, pos, bytes);
        install.storing.insert(token, Part { file, next: pos, end: pos + got });
        self.pull(now);
    }

    pub(crate) fn aside_stored(&mut self, now: Now, key: GroupKey, token: OpToken, ok: bool) {
        let Some(install) = self.installs.running.get_mut(&key) else { return };
        if let Some(part) = install.storing.remove(&token) {
            if !ok {
                // No room: the next offer tries again.
                install.again(part.file, part.next, u32::try_from(part.end - part.next).unwrap_or(u32::MAX));
                if matches!(install.stage, Stage::Pulls) {
                    install.stage = Stage::Waits;
                }
            }
            let all = install.missing.is_empty() && install.asked.is_empty() && install.storing.is_empty();
            if all && matches!(install.stage, Stage::Pulls) {
                install.looks.pulled();
                self.look_aside(key);
            }
            return self.pull(now);
        }
        match std::mem::replace(&mut install.stage, Stage::Waits) {
            Stage::Syncs(due, recovered) if due == token => {
                if ok {
                    self.take_over(key, recovered);
                }
            }
            other => install.stage = other,
        }
    }

    pub(crate) fn aside_looked(
        &mut self,
        now: Now,
        key: GroupKey,
        token: OpToken,
        found: Result<Aside, RecoverError>,
    ) {
        let Some(install) = self.installs.running.get_mut(&key) else { return };
        if !matches!(install.stage, Stage::Looks(due) if due == token) {
            return;
        }
        match found {
            Ok(Aside::Missing(parts)) => {
                let verdict = install.looks.miss(&parts);
                if verdict == Verdict::GiveUp {
                    let why = "what is pulled is not what the checkpoint says";
                    return self.install_failed(key, why.to_owned());
                }
                let from = install.from;
                if parts.iter().any(|part| part.file == 0) {
                    // What is there may be longer than what comes.
                    let paths = vec![aside_path(&install.dir(key), install.index, 0)];
                    self.dir.fx().ops.push(DiskOp::Remove { paths, recycle: false });
                }
                let part = |p: MissingPart| Part { file: p.file, next: p.good, end: p.size };
                install.missing = parts.into_iter().map(part).collect();
                install.stage = Stage::Pulls;
                if verdict == Verdict::PullAgain {
                    self.say(from, key, InstallSaid::Bad);
                }
                self.pull(now);
            }
            Ok(Aside::Good) => {}
            Ok(Aside::Stale(paths)) => {
                self.dir.fx().ops.push(DiskOp::Remove { paths, recycle: false });
                self.look_aside(key);
            }
            Ok(Aside::Bare { path, bytes }) => {
                let end = bytes.len() as u64;
                self.dir.fx().ops.push(DiskOp::Remove { paths: vec![path.clone()], recycle: false });
                install.stage = Stage::Pulls;
                let token = self.dir.put_aside(key, path, 0, bytes);
                install.storing.insert(token, Part { file: 0, next: 0, end });
            }
            Ok(Aside::Whole(recovered)) if planted(Bug::InstallBeforeSync) => self.take_over(key, recovered),
            Ok(Aside::Whole(recovered)) => {
                let token = self.dir.sync_aside(key, install.dir(key));
                install.stage = Stage::Syncs(token, recovered);
            }
            Err(error) => self.install_failed(key, error.to_string()),
        }
    }

    fn install_failed(&mut self, key: GroupKey, why: String) {
        let Some(node) = self.installs.running.get(&key).map(|install| install.from) else { return };
        self.drop_install(key);
        self.installs.stats.failed += 1;
        let what = InstallEvent::Failed { why };
        self.fx.push(Effect::Event(Event::Install { key, node, what }));
    }

    /// Gives up what was put aside, unless it is the replica's already.
    pub(crate) fn drop_install(&mut self, key: GroupKey) {
        let switches = |i: &Install| matches!(i.stage, Stage::Switches(..));
        if self.installs.running.get(&key).is_some_and(switches) {
            return;
        }
        let running = self.installs.running.remove(&key).map(|install| install.generation);
        let left = self.installs.leftovers.remove(&key).map(|(_, generation)| generation);
        // Never what the replica lives in.
        if let Some(generation) = running.or(left).filter(|g| *g > self.dir.life(key).0) {
            self.dir.remove_dir(generation_dir(key, generation));
        }
    }

    /// Pieces that did not come, leaders that fell silent, budgets, pins.
    pub(crate) fn tick_installs(&mut self, now: Now) {
        if self.stopping() || self.installs.next_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        self.installs.next_tick = now.mono.after_ms(TICK_MS);
        let mut forgotten = Vec::new();
        for (key, install) in &mut self.installs.running {
            let late = |at: &Mono| at.after_ms(PIECE_PATIENCE_MS) <= now.mono;
            if install.asked.values().any(|(_, at)| late(at)) {
                install.ask_anew();
            }
            if install.heard.after_ms(SILENCE_MS) <= now.mono && matches!(install.stage, Stage::Pulls) {
                install.stage = Stage::Waits;
                install.asked.clear();
            }
            if install.heard.after_ms(FORGOTTEN_MS) <= now.mono && matches!(install.stage, Stage::Waits) {
                forgotten.push(*key);
            }
        }
        let old = self.installs.leftovers.iter().filter(|(_, (at, _))| *at <= now.mono);
        forgotten.extend(old.map(|(key, _)| *key));
        forgotten.into_iter().for_each(|key| self.drop_install(key));
        self.pull(now);
        self.tick_sending(now);
    }

    /// What installs did and do.
    pub fn install_stats(&self) -> InstallStats {
        let running = self.installs.running.values();
        InstallStats {
            running: running.len(),
            bytes_left: running.map(Install::left).sum(),
            pace: self.installs.pace.rate(),
            ..self.installs.stats
        }
    }

    /// The replicas here that are being brought up, with the bytes that they have still to pull.
    pub fn installs(&self) -> Vec<(GroupKey, u64)> {
        self.installs.running.iter().map(|(key, install)| (*key, install.left())).collect()
    }

    /// Bytes that a replica here has still to pull before it is brought up; `None` where it is not being brought up.
    pub fn installing(&self, key: GroupKey) -> Option<u64> {
        self.installs.running.get(&key).map(Install::left)
    }
}
