//! What is known of every transaction, and what must hold of it while it goes on.
//!
//! A transaction counts as *decided* when a coordinator knows a committed end of it: nothing that clients are told comes
//! into that. Whether an end without an answer was taken is thus known without asking.
use super::super::oracle::Oracle;
use crate::oracle::Value;
use coordinator::txn::{Reply as TxnReply, TxnState};
use model::{ErrorCode, GroupKey, LeaderEpoch, Offset};
use node::{Node, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// Producer id and epoch.
pub(super) type Producer = (i64, i16);

/// A key, and what it is set to; `None` deletes it.
pub(super) type Op = (String, Option<Value>);

/// One batch of a transaction.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: GroupKey,
    pub(super) values: Vec<Value>,
    /// What it sets and deletes, in the compacted topic, whose values come and go.
    pub(super) ops: Vec<Op>,
    /// Where it was acknowledged.
    pub(super) base: Option<Offset>,
}

/// One transaction as its client sees it.
#[derive(Debug)]
pub(super) struct Txn {
    /// The number of its transactional id.
    pub(super) id: usize,
    pub(super) producer: Producer,
    /// Every end raises the epoch (KIP-890 part 2).
    pub(super) v2: bool,
    pub(super) writes: Vec<Write>,
    /// What it commits for its group, and whether that was acknowledged.
    pub(super) offset: Option<(i64, bool)>,
    /// Its client asked for this end at least once.
    pub(super) asked: Option<bool>,
    /// The commit was answered.
    pub(super) committed: bool,
}

/// A key of the compacted topic that only transactions set.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnKey {
    /// What was committed last, if anything was, and where that stands.
    last: Option<(Offset, Option<Value>)>,
    /// What stands after it, and may be committed.
    may_be: Vec<Option<Value>>,
}

impl OwnKey {
    /// Whether a replica may show this. `keeps`: what deletes a key is there still.
    pub(super) fn allows(&self, shown: Option<Option<Value>>, keeps: bool) -> bool {
        let committed = self.last.map(|(_, value)| value);
        let deleted = || !keeps && (committed == Some(None) || self.may_be.contains(&None));
        match shown {
            Some(shown) => committed == Some(shown) || self.may_be.contains(&shown),
            None => committed.is_none() || deleted(),
        }
    }
}

/// Since when every older producer of a transactional id is fenced.
#[derive(Clone, Copy, Debug)]
struct Fence {
    producer: Producer,
    /// The producer id that took the place of the first when its epochs were used up.
    next_id: Option<i64>,
    by: usize,
    /// Requests with higher numbers were sent later.
    calls: u64,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) client: usize,
    pub(super) id: usize,
    pub(super) producer: Option<Producer>,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// InitProducerId; the producer is that which it names, if any.
    Init,
    /// AddPartitionsToTxn, AddOffsetsToTxn.
    Add,
    /// The write of this number.
    Produce(usize, usize),
    /// TxnOffsetCommit.
    Offsets(usize),
    /// EndTxn.
    End(usize, bool),
    /// Something that was sent before, once more. A batch that was appended then is answered as it was.
    Again,
}

/// Offsets of one transactional id's group.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    /// The last that a transaction was given.
    last: i64,
    /// The highest that is known to be committed.
    floor: i64,
}

/// Everything that is known of transactions.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(super) all: Vec<Txn>,
    of_value: BTreeMap<Value, usize>,
    /// By producer and the epoch that it has after the end: whether that is a commit. TV2 alone, whose epochs are
    /// each of one end.
    decided: BTreeMap<Producer, bool>,
    fences: BTreeMap<usize, Fence>,
    sent: BTreeMap<u64, Sent>,
    offsets: BTreeMap<usize, Offsets>,
    /// By leader epoch: the highest last stable offset that was told.
    stable: BTreeMap<GroupKey, BTreeMap<LeaderEpoch, Offset>>,
    /// Transactions with writes whose end may not be decided.
    open: BTreeSet<usize>,
    doomed: BTreeSet<GroupKey>,
    /// Producers that got another id by an end.
    pub(super) ids_used_up: u64,
    /// Requests of producers that were fenced, which were refused.
    pub(super) refused_fenced: u64,
}

fn after_end(txn: &Txn) -> Producer {
    (txn.producer.0, txn.producer.1 + 1)
}

/// Whether a request did what it asked for.
fn succeeded(reply: &Reply) -> bool {
    match reply {
        Reply::Produce(result) => result.is_ok(),
        Reply::Transaction(reply) => reply.error().is_none(),
        Reply::Group(coordinator::Reply::Commit(reply)) => {
            reply.topics.iter().flat_map(|t| &t.partitions).all(|(_, code)| code.is_none())
        }
        _ => false,
    }
}

/// Whether a producer was told that another one has its place.
fn is_fenced(reply: &Reply) -> bool {
    let code = match reply {
        Reply::Produce(Err(error)) => error.code,
        Reply::Transaction(reply) => reply.error(),
        Reply::Group(coordinator::Reply::Commit(reply)) => {
            let codes = reply.topics.iter().flat_map(|t| &t.partitions).map(|(_, code)| *code);
            codes.into_iter().next().unwrap_or_default()
        }
        _ => return false,
    };
    matches!(code, ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced)
}

impl Model {
    /// A transaction begins at its client; its number.
    pub(super) fn begin(&mut self, id: usize, producer: Producer, v2: bool, offsets: bool) -> usize {
        let offset = offsets.then(|| {
            let row = self.offsets.entry(id).or_insert(Offsets { last: 0, floor: -1 });
            row.last += 1;
            (row.last, false)
        });
        let (writes, asked, committed) = (Vec::new(), None, false);
        self.all.push(Txn { id, producer, v2, writes, offset, asked, committed });
        self.all.len() - 1
    }

    /// It is to write these values; the number of the write.
    pub(super) fn write(&mut self, number: usize, key: GroupKey, ops: Vec<Op>) -> usize {
        let values: Vec<Value> = ops.iter().filter_map(|(_, value)| *value).collect();
        self.of_value.extend(values.iter().map(|value| (*value, number)));
        let table = ops.iter().any(|(name, _)| name.starts_with(super::OWN_KEYS));
        let (values, ops) = if table { (Vec::new(), ops) } else { (values, Vec::new()) };
        let writes = &mut self.all[number].writes;
        writes.push(Write { key, values, ops, base: None });
        writes.len() - 1
    }

    /// The topic is being deleted: nothing is promised of what was written there.
    pub(crate) fn forget(&mut self, key: GroupKey) {
        self.doomed.insert(key);
        self.stable.remove(&key);
    }

    pub(super) fn is_doomed(&self, key: GroupKey) -> bool {
        self.doomed.contains(&key)
    }

    pub(super) fn sent(&mut self, call: u64, sent: Sent) {
        if let What::End(number, commit) = sent.what {
            // Once a commit was asked for it may happen, whatever comes later.
            let asked = &mut self.all[number].asked;
            *asked = Some(commit || *asked == Some(true));
        }
        self.sent.insert(call, sent);
    }

    /// A node answered; the answer may never arrive. `calls`: requests that were sent so far.
    pub(crate) fn answered(&mut self, oracle: &mut Oracle, call: u64, calls: u64, reply: &Reply) {
        let Some(sent) = self.sent.remove(&call) else { return };
        self.judge_fence(oracle, call, &sent, reply);
        if let Reply::Transaction(TxnReply::End(r)) = reply {
            self.follow_id(&sent, r.producer_id);
        }
        if !succeeded(reply) {
            return;
        }
        match (sent.what, reply) {
            (What::Init, Reply::Transaction(TxnReply::Init(r))) => {
                let producer = (r.producer_id, r.producer_epoch);
                let known = self.fences.get(&sent.id).map(|fence| fence.producer);
                if known.is_none_or(|known| known.0 != producer.0 || known.1 < producer.1) {
                    let fence = Fence { producer, next_id: None, by: sent.client, calls };
                    self.fences.insert(sent.id, fence);
                }
            }
            (What::Produce(number, write), Reply::Produce(Ok(done))) => {
                let write = &mut self.all[number].writes[write];
                write.base = Some(done.base_offset);
                if write.ops.is_empty() {
                    oracle.acked(write.key, -1, done.base_offset, &write.values);
                }
                self.open.insert(number);
            }
            (What::Offsets(number), _) => {
                if let Some((_, acked)) = &mut self.all[number].offset {
                    *acked = true;
                }
            }
            (What::End(number, true), _) => self.commit_answered(oracle, number),
            _ => {}
        }
    }

    /// An end may give its producer another id.
    fn follow_id(&mut self, sent: &Sent, producer_id: i64) {
        let Some(fence) = self.fences.get_mut(&sent.id) else { return };
        let own =
            sent.producer.is_some_and(|(id, epoch)| id == fence.producer.0 && epoch >= fence.producer.1);
        if own && producer_id >= 0 && producer_id != fence.producer.0 {
            fence.next_id = Some(producer_id);
            self.ids_used_up += 1;
        }
    }

    fn judge_fence(&mut self, oracle: &mut Oracle, call: u64, sent: &Sent, reply: &Reply) {
        let Some(fence) = self.fences.get(&sent.id).filter(|fence| call > fence.calls) else { return };
        let Some(producer) = sent.producer else { return };
        let (id, epoch) = fence.producer;
        let retries = matches!(sent.what, What::Init) && fence.by == sent.client;
        let same = (producer.0 == id && producer.1 >= epoch) || fence.next_id == Some(producer.0);
        if same || retries || matches!(sent.what, What::Again) {
            return;
        }
        if succeeded(reply) {
            let detail = format!(
                "txn-{}: client {} as {producer:?} succeeded with {:?}, after client {} became {:?}",
                sent.id, sent.client, sent.what, fence.by, fence.producer
            );
            oracle.violate("txn-fenced-came-back", detail);
        }
        self.refused_fenced += u64::from(is_fenced(reply));
    }

    fn commit_answered(&mut self, oracle: &mut Oracle, number: usize) {
        let txn = &mut self.all[number];
        txn.committed = true;
        if let (Some((offset, true)), Some(row)) = (txn.offset, self.offsets.get_mut(&txn.id)) {
            row.floor = row.floor.max(offset);
        }
        if txn.v2 && self.decided.get(&after_end(txn)) == Some(&false) {
            let detail = format!("transaction {number} of txn-{}: its commit is answered, it aborts", txn.id);
            oracle.violate("txn-torn", detail);
        }
    }

    /// Looks at what the coordinators of a node know to be committed.
    pub(crate) fn observe(&mut self, oracle: &mut Oracle, node: &Node) {
        for (name, value) in node.transaction_coordinators().flat_map(|c| c.transactions()) {
            let commit = match value.state {
                TxnState::PrepareCommit | TxnState::CompleteCommit => true,
                TxnState::PrepareAbort | TxnState::CompleteAbort => false,
                TxnState::Empty | TxnState::Ongoing => continue,
            };
            if !value.client_version.raises_epoch() {
                continue;
            }
            let used_up = value.producer_epoch == 0 && value.previous_producer_id >= 0;
            let producer = match value.previous_producer_id {
                // The end that used up the epochs.
                id if used_up && id != value.producer_id => (id, i16::MAX),
                _ => (value.producer_id, value.producer_epoch),
            };
            let fresh = !self.decided.contains_key(&producer);
            let before = *self.decided.entry(producer).or_insert(commit);
            if fresh && commit {
                Self::judge_commit(&self.all, oracle, producer);
            }
            if before != commit {
                let detail = format!("{name}: one end of {producer:?} is a commit and an abort");
                oracle.violate("txn-torn", detail);
            }
        }
        self.prune();
        let writes = |number: &usize| self.all[*number].writes.iter();
        for (number, write) in self.open.iter().flat_map(|number| writes(number).map(move |w| (number, w))) {
            // A witness knows nothing of transactions.
            let shows = || node.replica_view(write.key).is_some_and(|view| !view.witness);
            let known = write.base.filter(|_| !self.doomed.contains(&write.key) && shows());
            let (Some(first), Some(info)) = (known, node.partition_info(write.key)) else { continue };
            let told = (info.log_start, info.last_stable_offset);
            self.judge_stable(oracle, *number, write.key, first, told);
        }
    }

    /// A transaction that is committed is one whose client asked for that: a late repeat of the end before asks for
    /// another.
    fn judge_commit(all: &[Txn], oracle: &mut Oracle, after: Producer) {
        let mut of =
            all.iter().enumerate().rev().filter(|(_, txn)| txn.v2 && after_end(txn) == after).peekable();
        let Some((number, txn)) = of.peek().copied() else { return };
        if of.all(|(_, txn)| txn.asked != Some(true)) {
            let detail =
                format!("transaction {number} of txn-{}: it commits, and nobody asked for it", txn.id);
            oracle.violate("txn-late-end", detail);
        }
    }

    /// What is open holds the last stable offset back, on every replica.
    fn judge_stable(
        &self,
        oracle: &mut Oracle,
        number: usize,
        key: GroupKey,
        first: Offset,
        (log_start, stable): (Offset, Offset),
    ) {
        if stable > first.max(log_start) {
            let detail = format!("{key}: {stable} is stable, transaction {number} is open from {first} on");
            oracle.violate("lso-too-high", detail);
        }
    }

    /// Whether it commits, as far as that is decided; `None` where nobody can tell.
    pub(super) fn fate(&self, txn: &Txn) -> Option<bool> {
        let decided = if txn.v2 { self.decided.get(&after_end(txn)).copied() } else { None };
        decided.or(txn.committed.then_some(true)).or((txn.asked != Some(true)).then_some(false))
    }

    /// A reader of what is committed got this value.
    pub(super) fn seen(&self, oracle: &mut Oracle, key: GroupKey, offset: Offset, value: Value) {
        let Some(number) = self.of_value.get(&value) else { return };
        let txn = &self.all[*number];
        let told = || format!("{key}@{offset}: {value} of transaction {number} of {:?}", txn.producer);
        match (txn.asked, self.decided.get(&after_end(txn)).filter(|_| txn.v2)) {
            (None, _) => oracle.violate("txn-open-read", format!("{}, which nobody ended", told())),
            (Some(false), _) | (_, Some(false)) => {
                oracle.violate("txn-aborted-read", format!("{}, which was aborted", told()));
            }
            (Some(true), None) if txn.v2 => {
                oracle.violate("txn-open-read", format!("{}, whose end is not decided", told()));
            }
            (Some(true), _) => {}
        }
    }

    /// A replica told its last stable offset. `epoch`: in which it leads.
    pub(super) fn told(
        &mut self,
        oracle: &mut Oracle,
        key: GroupKey,
        epoch: Option<LeaderEpoch>,
        (log_start, stable, high): (Offset, Offset, Offset),
    ) {
        if self.is_doomed(key) {
            return;
        }
        if stable > high {
            oracle.violate("lso-too-high", format!("{key}: {stable} is above the high watermark {high}"));
        }
        self.prune();
        for number in &self.open {
            let writes = self.all[*number].writes.iter().filter(|w| w.key == key);
            if let Some(first) = writes.filter_map(|w| w.base).min() {
                self.judge_stable(oracle, *number, key, first, (log_start, stable));
            }
        }
        let Some(epoch) = epoch else { return };
        let known = self.stable.entry(key).or_default();
        let before = known.range(..=epoch).map(|(_, stable)| *stable).max().unwrap_or(0);
        known.insert(epoch, before.max(stable));
        if stable < before {
            let detail = format!("{key}: {before} was told, the leader of epoch {epoch} says {stable}");
            oracle.violate("lso-regressed", detail);
        }
    }

    /// Transactions that may have ended are open no more.
    fn prune(&mut self) {
        let (all, decided) = (&self.all, &self.decided);
        self.open.retain(|number| {
            let txn = &all[*number];
            !decided.contains_key(&after_end(txn)) && (txn.v2 || txn.asked.is_none())
        });
    }

    /// What transactions set their keys to in a partition of the compacted topic.
    pub(super) fn own_keys(&self, key: GroupKey) -> BTreeMap<&str, OwnKey> {
        let mut ops: Vec<(Offset, &Op, Option<bool>)> = Vec::new();
        for txn in &self.all {
            let fate = self.fate(txn);
            for write in txn.writes.iter().filter(|write| write.key == key && fate != Some(false)) {
                let Some(base) = write.base else { continue };
                ops.extend((base..).zip(&write.ops).map(|(offset, op)| (offset, op, fate)));
            }
        }
        ops.sort_by_key(|(offset, ..)| *offset);
        let mut known: BTreeMap<&str, OwnKey> = BTreeMap::new();
        for (at, (name, value), fate) in ops {
            let own = known.entry(name).or_default();
            if fate.is_some() {
                *own = OwnKey { last: Some((at, *value)), may_be: Vec::new() };
            } else {
                own.may_be.push(*value);
            }
        }
        known
    }

    /// Whether no other producer of the transactional id has come since, and no timeout.
    pub(super) fn is_newest(&self, id: usize, producer: Option<Producer>) -> bool {
        let Some(producer) = producer else { return false };
        let fenced = self.fences.get(&id).is_some_and(|fence| fence.producer > producer);
        !fenced && !self.decided.contains_key(&(producer.0, producer.1 + 1))
    }

    /// What a group's offset is at least.
    pub(super) fn floor(&self, id: usize) -> i64 {
        self.offsets.get(&id).map_or(-1, |row| row.floor)
    }

    /// A group's offset was read; it was known to be `floor` at least when that was asked.
    pub(super) fn offset_read(&mut self, oracle: &mut Oracle, id: usize, floor: i64, offset: i64) {
        if offset < floor {
            let detail = format!("txn-group-{id}: {floor} was committed, told was {offset}");
            oracle.violate("txn-offsets", detail);
        }
        let of = self.all.iter().find(|txn| txn.id == id && txn.offset.is_some_and(|(n, _)| n == offset));
        let aborted = match of {
            Some(txn) => txn.asked != Some(true) || self.fate(txn) == Some(false),
            None => offset >= 0,
        };
        if aborted {
            let detail = format!("txn-group-{id}: {offset} was told, which was not committed: {of:?}");
            oracle.violate("txn-offsets", detail);
        }
        if let Some(row) = self.offsets.get_mut(&id) {
            row.floor = row.floor.max(offset);
        }
    }
}

#[cfg(test)]
mod tests;
