//! A replica that needs what is behind its leader's window is brought up from a checkpoint: this side of it offers and
//! sends.
use crate::api::InstallSaid;
use crate::data::ReadFor;
use crate::install_budget::Budget;
use crate::node::Node;
use bytes::Bytes;
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::{BTreeMap, VecDeque};
use storage::{ExtractError, Extracted};

/// Between two offers to one replica, ms.
const OFFER_MS: i64 = 1_000;
/// What was asked for and waits for its share of the rate; what comes then is asked for again.
const MOST_WAITING: usize = 256;
/// Bytes of a piece at most.
const MOST_PIECE: u32 = 1 << 20;
/// Files stay for so long after somebody asked for one of them, ms.
const PIN_MS: i64 = 10_000;
/// But no longer than this in all, ms.
const MOST_PINNED_MS: i64 = 3_600_000;

/// A piece that somebody asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) node: NodeId,
    pub(crate) key: GroupKey,
    pub(crate) index: u64,
    pub(crate) file: u64,
    pub(crate) pos: u64,
    pub(crate) length: u32,
}

#[derive(Debug)]
struct Pin {
    index: u64,
    last: Mono,
    since: Mono,
    /// It lasted too long: it holds nothing any more.
    spent: bool,
}

/// What this node sends to others.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    offered: BTreeMap<(GroupKey, NodeId), Mono>,
    waiting: VecDeque<Wanted>,
    pins: BTreeMap<(GroupKey, NodeId), Pin>,
    budget: Option<Budget>,
}

impl Sending {
    pub(crate) fn is_busy(&self) -> bool {
        !self.offered.is_empty() || !self.waiting.is_empty() || !self.pins.is_empty()
    }
}

impl Node {
    /// A replica is behind this leader's window.
    pub(crate) fn lags(&mut self, now: Now, key: GroupKey, node: NodeId) {
        let recent = |at: &Mono| at.after_ms(OFFER_MS) > now.mono;
        if self.installs.sending.offered.get(&(key, node)).is_some_and(recent) {
            return;
        }
        self.installs.sending.offered.insert((key, node), now.mono);
        self.offer(key, node, false);
    }

    /// Names the newest checkpoint of a group that leads here.
    pub(crate) fn offer(&mut self, key: GroupKey, node: NodeId, repair: bool) {
        let Some(open) = self.open_group(key) else { return };
        let (term, last_index) = (open.partition.term(), open.partition.last_index());
        match open.partition.newest_checkpoint() {
            Some((index, index_term)) => {
                self.say(node, key, InstallSaid::Offer { term, index, index_term, last_index, repair });
            }
            None => self.take_checkpoint(key),
        }
    }

    /// What is kept for others is bad: as soon as it may go, a checkpoint without it is offered.
    pub(crate) fn offer_less(&mut self, key: GroupKey) {
        for ((of, _), pin) in &mut self.installs.sending.pins {
            pin.spent |= *of == key;
        }
        self.repin(key);
        if self.open_group(key).is_some_and(|open| open.partition.wants_checkpoint()) {
            self.take_checkpoint(key);
        }
    }

    /// There is none yet: the next offer names it.
    pub(crate) fn take_checkpoint(&mut self, key: GroupKey) {
        if let Some(machine) = self.machine_bytes(key) {
            self.with(key, |p, dir, _| p.checkpoint(machine, false, dir));
        }
    }

    pub(crate) fn on_pull(&mut self, now: Now, wanted: Wanted) {
        let waiting = &mut self.installs.sending.waiting;
        if waiting.len() < MOST_WAITING {
            waiting.push_back(wanted);
        }
        self.send_pieces(now);
    }

    fn send_pieces(&mut self, now: Now) {
        let rate = self.metadata.image().broker_config().leader_throttled_rate;
        while let Some(wanted) = self.installs.sending.waiting.front().copied() {
            let budget = self.installs.sending.budget.get_or_insert_with(|| Budget::new(now.mono));
            if !budget.allows(now.mono, rate) {
                return;
            }
            self.installs.sending.waiting.pop_front();
            let Wanted { node, key, index, file, pos, length } = wanted;
            let length = length.min(MOST_PIECE);
            let range = self.open_group(key).and_then(|o| o.partition.file_range(index, file, pos, length));
            match range {
                Some(range) => {
                    if let Some(budget) = &mut self.installs.sending.budget {
                        budget.take(u64::from(range.len));
                    }
                    self.pin(now, key, node, index);
                    let read = self.new_read(ReadFor::Piece(wanted));
                    self.fx.push(crate::api::Effect::Read(read, range));
                }
                None => self.say(node, key, InstallSaid::Piece { index, file, pos, bytes: Bytes::new() }),
            }
        }
    }

    /// A piece was read. Where it could not be read it counts as gone.
    pub(crate) fn piece_read(&mut self, wanted: Wanted, result: Result<Extracted, ExtractError>) {
        let bytes = result.ok().and_then(|mut found| found.batches.pop()).unwrap_or_default();
        self.installs.stats.bytes_sent += bytes.len() as u64;
        let Wanted { node, key, index, file, pos, .. } = wanted;
        self.say(node, key, InstallSaid::Piece { index, file, pos, bytes });
    }

    /// A replica is brought up, or was before.
    pub(crate) fn on_install_done(&mut self, now: Now, node: NodeId, key: GroupKey, last_index: u64) {
        if self.installs.sending.pins.remove(&(key, node)).is_some() {
            self.repin(key);
        }
        self.with(key, |p, dir, fx| p.on_installed(now, node, last_index, dir, fx));
    }

    fn pin(&mut self, now: Now, key: GroupKey, node: NodeId, index: u64) {
        let fresh = Pin { index, last: now.mono, since: now.mono, spent: false };
        let pin = self.installs.sending.pins.entry((key, node)).or_insert(fresh);
        pin.last = now.mono;
        if pin.index != index || pin.since == now.mono {
            pin.index = index;
            self.repin(key);
        }
    }

    /// What is sent of a group stays, from the oldest checkpoint on.
    fn repin(&mut self, key: GroupKey) {
        let pins = self.installs.sending.pins.iter().filter(|((of, _), pin)| *of == key && !pin.spent);
        let oldest = pins.map(|(_, pin)| pin.index).min();
        self.with(key, |p, _, _| p.pin(oldest));
    }

    pub(crate) fn tick_sending(&mut self, now: Now) {
        self.send_pieces(now);
        let full = self.dir.full();
        let sending = &mut self.installs.sending;
        sending.offered.retain(|_, at| at.after_ms(OFFER_MS) > now.mono);
        let mut changed = Vec::new();
        for ((key, _), pin) in &mut sending.pins {
            if !pin.spent && (full || pin.since.after_ms(MOST_PINNED_MS) <= now.mono) {
                pin.spent = true;
                changed.push(*key);
            }
        }
        let over = |pin: &Pin| pin.last.after_ms(PIN_MS) <= now.mono;
        let ended: Vec<_> =
            sending.pins.iter().filter(|(_, pin)| over(pin)).map(|(whose, _)| *whose).collect();
        for whose in ended {
            sending.pins.remove(&whose);
            changed.push(whose.0);
        }
        changed.into_iter().for_each(|key| self.repin(key));
    }
}
