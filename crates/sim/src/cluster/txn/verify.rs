//! After everything was healed: every transaction has ended, all of it or nothing of it is there, and so are its offsets.
use super::super::run::Run;
use super::super::world::World;
use super::model::{Model, Txn};
use super::read::{in_order, read};
use super::steps::{fetch_stable, offset_in};
use crate::oracle::Value;
use model::{GroupKey, Offset};
use node::{FetchResult, Token};
use partition::{FetchInput, Isolation};
use std::collections::{BTreeMap, BTreeSet};
use storage::ReadPlan;

/// Tokens of the last questions.
const LAST_LOOK: u64 = 1 << 58;

/// A partition in which a transaction is open, on any node, and whose.
pub(crate) fn still_open(world: &World) -> Option<String> {
    for machine in &world.machines {
        let Some(node) = &machine.node else { continue };
        for key in node.open_keys().filter(|key| *key != GroupKey::METADATA) {
            let Some(info) = node.partition_info(key) else { continue };
            if info.last_stable_offset < info.high_watermark {
                let open = node.open_transactions(key);
                return Some(format!("{key} on node {}: {info:?}, {open:?}", machine.id));
            }
        }
    }
    None
}

/// What a replica of a partition shows to readers of what is committed: by value, where it stands.
type Shown = BTreeMap<Value, Offset>;

impl Run {
    /// Judges every transaction by what is to be read now.
    pub(crate) fn judge_transactions(&mut self, keys: &[GroupKey]) {
        let mut shown: BTreeMap<GroupKey, (Offset, Shown)> = BTreeMap::new();
        for key in keys {
            if self.clients.txns.model.is_doomed(*key) {
                continue;
            }
            if let Some(found) = self.shown(*key) {
                shown.insert(*key, found);
            }
        }
        if !self.is_well() {
            return;
        }
        let model = &self.clients.txns.model;
        let torn: Vec<String> = model
            .all
            .iter()
            .enumerate()
            .filter_map(|(number, txn)| torn(model, number, txn, &shown))
            .collect();
        if let Some(first) = torn.first() {
            let detail = format!("{} transactions, the first: {first}", torn.len());
            return self.oracle.violate("txn-torn", detail);
        }
        self.judge_offsets();
        let model = &self.clients.txns.model;
        let ends: Vec<Option<bool>> = model.all.iter().map(|txn| model.fate(txn)).collect();
        let counts = &mut self.world.sometimes;
        counts.txns_committed = ends.iter().filter(|end| **end == Some(true)).count() as u64;
        counts.txns_aborted = ends.iter().filter(|end| **end == Some(false)).count() as u64;
        counts.ids_used_up = self.clients.txns.model.ids_used_up;
        counts.fenced_refused = model.refused_fenced;
        counts.sent_again = self.clients.txns.late;
        counts.committed_reads = self.clients.txns.reads;
    }

    /// Where a partition's log begins and what is committed in it, the same on every replica.
    fn shown(&mut self, key: GroupKey) -> Option<(Offset, Shown)> {
        let world = &self.world;
        let views = |m: &usize| world.machines[*m].node.as_ref()?.replica_view(key);
        let all = 0..world.machines.len();
        let holders: Vec<usize> = all.filter(|m| views(m).is_some_and(|v| !v.witness)).collect();
        let leader = *holders.iter().find(|m| views(m).is_some_and(|v| v.epoch.is_some()))?;
        let view = views(&leader)?;
        let mut first = None;
        for m in holders {
            let Some(found) = self.shown_on(m, key, (view.log_start, view.high_watermark)) else { continue };
            match &first {
                None => first = Some((m, found)),
                Some((other, known)) if *known != found => {
                    let differs: BTreeSet<_> = known
                        .iter()
                        .chain(&found)
                        .filter(|(v, o)| known.get(v) != Some(o) || found.get(v) != Some(o))
                        .collect();
                    let detail =
                        format!("{key}: nodes {} and {} show {differs:?} differently", other + 1, m + 1);
                    self.oracle.violate("txn-torn", detail);
                }
                Some(_) => {}
            }
        }
        self.judge_order(leader, key, (view.log_start, view.high_watermark));
        first.map(|(_, found)| (view.log_start, found))
    }

    /// `None`: it cannot be read there, which is no matter of transactions.
    fn shown_on(&mut self, m: usize, key: GroupKey, (start, high): (Offset, Offset)) -> Option<Shown> {
        let (mut at, mut seen) = (start, Shown::new());
        while at < high {
            let model = &mut self.clients.txns.model;
            let got = read(&mut self.world, &mut self.oracle, model, m, (key, at, true))?;
            seen.extend(got.records.iter().filter_map(|r| r.value.map(|value| (value, r.offset))));
            if got.stable < high {
                let detail = format!("{key} on node {}: {} is stable of {high}", m + 1, got.stable);
                self.oracle.violate("txn-outlives-timeout", detail);
            }
            if got.next <= at {
                return None;
            }
            at = got.next;
        }
        Some(seen)
    }

    /// Of the keys that transactions set in the compacted topic, a replica shows what committed ones set last.
    pub(crate) fn judge_own_keys(&mut self, m: usize, key: GroupKey, (start, high): (Offset, Offset)) {
        let (mut at, mut table) = (start, BTreeMap::new());
        while at < high {
            let model = &mut self.clients.txns.model;
            let Some(got) = read(&mut self.world, &mut self.oracle, model, m, (key, at, true)) else {
                return;
            };
            table.extend(got.records.into_iter().map(|record| (record.name, record.value)));
            if got.next <= at {
                // It is not to be read there, which others judge.
                return;
            }
            at = got.next;
        }
        let mut found = None;
        let known = self.clients.txns.model.own_keys(key);
        for (name, own) in &known {
            let shown = table.get(*name).copied();
            if !own.allows(shown, self.swarm.keeps_deletes) {
                let detail = format!(
                    "{key} on node {}: {name} is {own:?}, it shows {shown:?} from {start} to {high}",
                    m + 1
                );
                let lost = shown.is_none_or(|value| value.is_none());
                found = found.or(Some((if lost { "compacted-lost" } else { "deleted-key-revived" }, detail)));
            }
        }
        self.world.sometimes.own_keys += known.len() as u64;
        if let Some((checker, detail)) = found {
            self.oracle.violate(checker, detail);
        }
    }

    fn judge_order(&mut self, m: usize, key: GroupKey, (start, high): (Offset, Offset)) {
        let (mut at, mut epochs) = (start, BTreeMap::new());
        while at < high {
            let input = FetchInput {
                offset: at,
                max_bytes: 200_000,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                isolation: Isolation::ReadUncommitted,
                at_follower: false,
            };
            let Some(FetchResult::Ok(ok)) = self.world.call(m, |n, now| n.fetch(now, key, &input)) else {
                return;
            };
            let runs = match ok.plan {
                ReadPlan::Empty => return,
                ReadPlan::Memory(runs) => runs,
                ReadPlan::File(range) => match storage::read_range(&self.world.machines[m].disk, &range) {
                    Ok(found) => found.batches,
                    Err(_) => return,
                },
            };
            let next = in_order(&mut self.oracle, key, &runs, &mut epochs);
            if next <= at {
                return;
            }
            at = next;
        }
    }

    /// The offset of each group is that of the last transaction that committed one.
    fn judge_offsets(&mut self) {
        for id in 0..self.clients.txns.ids() {
            let group = super::group_of(id);
            let Some(offset) = self.last_offset(&group) else { return };
            let model = &mut self.clients.txns.model;
            let committed = model.all.iter().filter(|txn| txn.id == id && model.fate(txn) == Some(true));
            let last =
                committed.filter_map(|txn| txn.offset.filter(|(_, acked)| *acked)).map(|(n, _)| n).max();
            let floor = last.unwrap_or(-1).max(model.floor(id));
            model.offset_read(&mut self.oracle, id, floor, offset);
        }
    }

    /// What a group's coordinator says now.
    fn last_offset(&mut self, group: &str) -> Option<i64> {
        let key = super::steps::partition_of(&mut self.world, cluster::CONSUMER_OFFSETS, group)?;
        let until = self.world.t + super::super::verify::PATIENCE;
        let (mut asked, mut heard) = (0, None);
        while self.is_well() && self.world.t < until {
            asked += 1;
            let token = Token(LAST_LOOK + asked);
            let leader = self.world.ask_leader(key).map(|(_, leader)| leader);
            if let Some(leader) = leader {
                self.world.call(leader, |n, now| n.group(now, token, group, fetch_stable(group.to_owned())));
            }
            let again = self.world.t + super::super::events::SECOND;
            while self.is_well() && self.world.t < again && heard.is_none() {
                self.world.later(super::super::events::MS, super::super::events::Event::Look);
                self.step_then(|world| {
                    for replied in world.replies.extract_if(.., |r| r.token == token) {
                        heard = heard.or(offset_in(&replied.reply));
                    }
                });
            }
            if heard.is_some() {
                return heard;
            }
        }
        if self.is_well() {
            self.oracle.violate("txn-offsets", format!("{group}: nobody tells its offset"));
        }
        None
    }
}

/// How much of a transaction can be read is all of it or nothing.
fn torn(
    model: &Model,
    number: usize,
    txn: &Txn,
    shown: &BTreeMap<GroupKey, (Offset, Shown)>,
) -> Option<String> {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for write in &txn.writes {
        let (Some((start, shown)), Some(base)) = (shown.get(&write.key), write.base) else { continue };
        for (offset, value) in (base..).zip(&write.values).filter(|(offset, _)| offset >= start) {
            let place = format!("{value} at {}@{offset}", write.key);
            if shown.contains_key(value) { there.push(place) } else { missing.push(place) }
        }
    }
    let fate = model.fate(txn);
    let told = || {
        format!(
            "transaction {number} of txn-{}, {:?}, {fate:?}: {there:?} are there, {missing:?} not",
            txn.id, txn.producer
        )
    };
    let whole = there.is_empty() || missing.is_empty();
    let as_decided = match fate {
        Some(true) => missing.is_empty(),
        Some(false) => there.is_empty(),
        None => true,
    };
    (!whole || !as_decided).then(told)
}
