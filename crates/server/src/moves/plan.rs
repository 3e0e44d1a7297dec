//! Which replicas go where. Pure: from a view of the cluster to a list of moves.
use super::shares::{Share, shares};
use super::stored::even_stored;
use super::view::{Held, View};
use crate::admin::table::Table;
use client_lite::Place;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One partition's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// The partition.
    pub(crate) place: Place,
    /// Its replicas before.
    pub(crate) from: Vec<i32>,
    /// And after, the preferred leader first.
    pub(crate) to: Vec<i32>,
    /// Bytes of one replica.
    pub(crate) bytes: u64,
}

impl Move {
    /// Brokers that get a copy.
    pub(crate) fn adding(&self) -> impl Iterator<Item = i32> + '_ {
        self.to.iter().copied().filter(|node| !self.from.contains(node))
    }

    /// Bytes to be copied.
    pub(crate) fn copied(&self) -> u64 {
        self.adding().count() as u64 * self.bytes
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of the partitions.
    pub(crate) moves: Vec<Move>,
    /// What stands in the way, or is worth knowing.
    pub(crate) constraints: Vec<String>,
    /// Partitions that cannot move before a broker runs that does not run now.
    pub(crate) waiting: BTreeSet<Place>,
    /// Whether leaders are to go to the preferred replicas when the copies are made.
    pub(crate) elects: bool,
    /// What each broker has before and after; empty where that is not what it is about.
    pub(crate) shares: Vec<Share>,
}

impl Plan {
    /// Bytes to be copied.
    pub(crate) fn bytes(&self) -> u64 {
        self.moves.iter().map(Move::copied).sum()
    }

    /// Bytes that the broker with most to take in takes in, and which one that is: copies to others run beside it.
    pub(crate) fn most(&self) -> Option<(i32, u64)> {
        let mut by_broker: BTreeMap<i32, u64> = BTreeMap::new();
        for one in &self.moves {
            for node in one.adding() {
                *by_broker.entry(node).or_default() += one.bytes;
            }
        }
        by_broker.into_iter().max_by_key(|(_, bytes)| *bytes)
    }

    /// Seconds that it takes at `rate` bytes a second for each broker.
    pub(crate) fn seconds(&self, rate: u64) -> u64 {
        self.most().map_or(0, |(_, bytes)| bytes.div_ceil(rate.max(1)))
    }

    /// For people.
    pub(crate) fn as_text(&self, rate: u64) -> String {
        let mut table = Table::new(&["PARTITION", "FROM", "TO", "#COPIED"]);
        for one in &self.moves {
            let place = format!("{}-{}", one.place.0, one.place.1);
            table.push([place, ids(&one.from), ids(&one.to), human(one.copied())]);
        }
        let mut text = if self.moves.is_empty() { "Nothing to do.\n".to_owned() } else { table.to_string() };
        if let Some((broker, most)) = self.most() {
            text.push_str(&format!(
                "{} to copy, most of it {} to broker {broker}: about {} at {}/s for each broker.\n",
                human(self.bytes()),
                human(most),
                duration(self.seconds(rate)),
                human(rate)
            ));
        }
        text.push_str(&Share::as_text(&self.shares));
        text.push_str(&self.notes());
        text
    }

    /// What stands in the way, or is worth knowing, a line each.
    pub(crate) fn notes(&self) -> String {
        self.constraints.iter().map(|constraint| format!("Note: {constraint}\n")).collect()
    }

    /// For scripts.
    pub(crate) fn as_json(&self, rate: u64) -> Value {
        let row = |m: &Move| json!({ "topic": m.place.0, "partition": m.place.1, "from": m.from, "to": m.to, "bytes": m.copied() });
        json!({
            "moves": self.moves.iter().map(row).collect::<Vec<_>>(),
            "bytes": self.bytes(),
            "seconds": self.seconds(rate),
            "constraints": self.constraints,
            "waiting": self.waiting.iter().map(|(topic, p)| json!({ "topic": topic, "partition": p })).collect::<Vec<_>>(),
            "brokers": self.shares.iter().map(Share::as_json).collect::<Vec<_>>(),
        })
    }
}

/// Broker ids with commas between them.
pub(crate) fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Partitions that are named at most.
const NAMED: usize = 20;

/// Partitions for people: the first ones by name.
pub(crate) fn named<'a>(places: impl IntoIterator<Item = &'a Place>) -> String {
    let all: Vec<String> = places.into_iter().map(|(topic, index)| format!("{topic}-{index}")).collect();
    let first = all[..all.len().min(NAMED)].join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Bytes for people.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Seconds for people.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..=1 => "a second".to_owned(),
        2..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3_600.0),
    }
}

/// Replicas and preferred leaders by broker.
struct Load {
    replicas: BTreeMap<i32, usize>,
    leaders: BTreeMap<i32, usize>,
    bytes: BTreeMap<i32, u64>,
}

impl Load {
    fn of(view: &View, brokers: &BTreeSet<i32>) -> Load {
        let none = || brokers.iter().map(|id| (*id, 0)).collect::<BTreeMap<i32, usize>>();
        let mut load = Load { replicas: none(), leaders: none(), bytes: BTreeMap::new() };
        for held in &view.held {
            for node in &held.replicas {
                load.add(*node, held.bytes);
            }
            if let Some(first) = held.replicas.first() {
                *load.leaders.entry(*first).or_default() += 1;
            }
        }
        load
    }

    fn add(&mut self, node: i32, bytes: u64) {
        *self.replicas.entry(node).or_default() += 1;
        *self.bytes.entry(node).or_default() += bytes;
    }

    fn take(&mut self, node: i32, bytes: u64) {
        if let Some(count) = self.replicas.get_mut(&node) {
            *count = count.saturating_sub(1);
        }
        if let Some(held) = self.bytes.get_mut(&node) {
            *held = held.saturating_sub(bytes);
        }
    }

    /// The least loaded of `brokers`: by number of replicas, then by bytes, then by id.
    fn least(&self, brokers: impl Iterator<Item = i32>) -> Option<i32> {
        brokers.min_by_key(|id| {
            (self.replicas.get(id).copied().unwrap_or(0), self.bytes.get(id).copied().unwrap_or(0), *id)
        })
    }
}

/// How many racks `replicas` are on.
pub(crate) fn racks(view: &View, replicas: &[i32]) -> usize {
    let rack = |id: &i32| view.brokers.get(id).cloned().flatten();
    replicas.iter().filter_map(rack).collect::<BTreeSet<String>>().len()
}

/// The broker that takes the place of `goes`: on as many racks as can be, then the least loaded.
fn successor(view: &View, load: &Load, held: &Held, goes: i32, targets: &BTreeSet<i32>) -> Option<i32> {
    let stay: Vec<i32> = held.replicas.iter().copied().filter(|id| *id != goes).collect();
    let free: Vec<i32> = targets.iter().copied().filter(|id| !held.replicas.contains(id)).collect();
    let spread = |id: &i32| racks(view, &[&stay[..], &[*id]].concat());
    let widest = free.iter().map(spread).max()?;
    load.least(free.iter().copied().filter(|id| spread(id) == widest))
}

/// Errors: which of `to` are not registered. The cluster refuses them, whether they are to come or not.
fn known(view: &View, to: &[i32]) -> Result<(), String> {
    let Some(registered) = &view.registered else { return Ok(()) };
    let there = |id: &i32| registered.contains(id) || view.brokers.contains_key(id);
    let strangers: Vec<i32> = to.iter().copied().filter(|id| !there(id)).collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let registered: Vec<i32> = registered.iter().copied().collect();
    Err(format!("broker {} is not registered: registered are {}", ids(&strangers), ids(&registered)))
}

/// `to` as given by hand. Errors: what is wrong with it.
pub(crate) fn one(view: &View, place: &Place, to: &[i32]) -> Result<Plan, String> {
    let Some(held) = view.held.iter().find(|h| h.place == *place) else {
        return Err(format!("there is no partition {}-{}", place.0, place.1));
    };
    if to.is_empty() || to.iter().collect::<BTreeSet<_>>().len() != to.len() {
        return Err("give each broker once".to_owned());
    }
    known(view, to)?;
    let mut plan = Plan::default();
    if held.replicas == to {
        if view.ongoing.contains_key(place) {
            plan.constraints.push(format!("{}-{} is being moved there already", place.0, place.1));
        }
        return Ok(plan);
    }
    plan.note_down(view, held, to);
    plan.note_few(view, place, held.replicas.len(), to.len());
    let (from, to, bytes) = (held.replicas.clone(), to.to_vec(), held.bytes);
    plan.moves.push(Move { place: place.clone(), from, to, bytes });
    plan.note_waiting(view);
    Ok(plan)
}

impl Plan {
    /// Of the brokers that do not run: those that are to get a copy are waited for, the others are not.
    fn note_down(&mut self, view: &View, held: &Held, to: &[i32]) {
        let down = to.iter().copied().filter(|id| !view.brokers.contains_key(id));
        let has = |id: &i32| {
            let copies = view.ongoing.get(&held.place).is_some_and(|o| o.adding.contains(id));
            held.replicas.contains(id) && !copies
        };
        let (there, new): (Vec<i32>, Vec<i32>) = down.partition(has);
        if !new.is_empty() {
            self.constraints.push(format!("broker {} is not running: the move waits for it", ids(&new)));
        }
        if !there.is_empty() {
            let there = ids(&there);
            self.constraints.push(format!(
                "broker {there} is not running: what it has of the partition stays there, and is not waited for"
            ));
        }
    }

    /// Notes what has no leader because too few of its replicas run: nothing is copied from it before one more does.
    fn note_waiting(&mut self, view: &View) {
        let runs = |id: &&i32| view.brokers.contains_key(*id);
        let mut down: BTreeSet<i32> = BTreeSet::new();
        for one in &self.moves {
            let led = view.held.iter().any(|h| h.place == one.place && h.leader >= 0);
            if !led && one.from.iter().filter(runs).count() * 2 <= one.from.len() {
                down.extend(one.from.iter().filter(|id| !runs(id)));
                self.waiting.insert(one.place.clone());
            }
        }
        if !self.waiting.is_empty() {
            let down: Vec<i32> = down.into_iter().collect();
            self.constraints.push(format!(
                "{} partition(s) cannot move until broker {} runs, for without it they have no leader to copy from: {}",
                self.waiting.len(),
                ids(&down),
                named(&self.waiting)
            ));
        }
    }

    fn note_few(&mut self, view: &View, place: &Place, before: usize, after: usize) {
        if after < before {
            let what = format!("{}-{} keeps {after} replicas instead of {before}", place.0, place.1);
            self.constraints.push(what);
        }
        if view.ongoing.contains_key(place) {
            self.constraints.push(format!(
                "{}-{} is being moved already: this takes the place of what goes on",
                place.0, place.1
            ));
        }
    }
}

/// Everything leaves broker `node`. Errors: some partition has nowhere to go.
pub(crate) fn drain(view: &View, node: i32) -> Result<Plan, String> {
    let targets: BTreeSet<i32> = view.brokers.keys().copied().filter(|id| *id != node).collect();
    let mut load = Load::of(view, &targets);
    let mut plan = Plan::default();
    let mut stuck: Vec<&Held> = Vec::new();
    for held in view.held.iter().filter(|h| h.replicas.contains(&node)) {
        let Some(heir) = successor(view, &load, held, node, &targets) else {
            stuck.push(held);
            continue;
        };
        load.add(heir, held.bytes);
        // Leadership goes to a replica that is there already.
        let mut to: Vec<i32> = held.replicas.iter().copied().filter(|id| *id != node).collect();
        to.push(heir);
        let (from, bytes) = (held.replicas.clone(), held.bytes);
        plan.moves.push(Move { place: held.place.clone(), from, to, bytes });
    }
    if let Some(first) = stuck.first() {
        return Err(format!(
            "{} partition(s) cannot leave broker {node}: {}-{} for one has {} replicas, and there are {} other \
             brokers that run\n  Add a broker first, or give these partitions fewer replicas with \
             `plimsoll partition move TOPIC PARTITION --to BROKERS`.",
            stuck.len(),
            first.place.0,
            first.place.1,
            first.replicas.len(),
            targets.len()
        ));
    }
    plan.note_waiting(view);
    Ok(plan)
}

/// Bytes a second that a lead counts for beside what the partition takes in: what is at rest is spread by number.
const LEAD: u64 = 64 << 10;

/// Replicas and preferred leaders are spread evenly over the brokers that run, and so is what they store and lead.
pub(crate) fn rebalance(view: &View) -> Plan {
    let brokers: BTreeSet<i32> = view.brokers.keys().copied().collect();
    let mut load = Load::of(view, &brokers);
    let mut held: Vec<Held> = view.held.clone();
    // Small ones first: they even out the number for the least copying.
    held.sort_by(|a, b| (a.bytes, &a.place).cmp(&(b.bytes, &b.place)));
    while let Some((at, from, to)) = next_even(view, &held, &load) {
        load.take(from, held[at].bytes);
        load.add(to, held[at].bytes);
        for node in held[at].replicas.iter_mut().filter(|node| **node == from) {
            *node = to;
        }
    }
    even_stored(view, &mut held);
    held.sort_by(|a, b| a.place.cmp(&b.place));
    spread_leaders(&mut held, &brokers);
    let mut plan = Plan { shares: shares(&brokers, &view.held, &held), ..Plan::default() };
    for after in held {
        let before = view.held.iter().find(|h| h.place == after.place).expect("made from it");
        if before.replicas != after.replicas {
            let (from, to) = (before.replicas.clone(), after.replicas);
            plan.moves.push(Move { place: after.place, from, to, bytes: after.bytes });
        }
    }
    plan.note_waiting(view);
    plan.elects = true;
    if !plan.moves.is_empty() {
        plan.constraints.push(
            "the preferred replicas lead when all copies are made; with --no-wait, or interrupted, at the next look of \
             leader.imbalance.check.interval.seconds"
                .to_owned(),
        );
    }
    let gone: BTreeSet<i32> =
        view.held.iter().flat_map(|h| &h.replicas).copied().filter(|id| !brokers.contains(id)).collect();
    if !gone.is_empty() {
        let gone: Vec<i32> = gone.into_iter().collect();
        let gone = ids(&gone);
        plan.constraints.push(format!("broker {gone} is not running: what it holds is left where it is"));
    }
    plan
}

/// A replica that goes from the most loaded broker to the least, if that makes them more even.
fn next_even(view: &View, held: &[Held], load: &Load) -> Option<(usize, i32, i32)> {
    let count = |id: &i32| load.replicas.get(id).copied().unwrap_or(0);
    let mut brokers: Vec<i32> = view.brokers.keys().copied().collect();
    brokers.sort_by_key(|id| (count(id), *id));
    for from in brokers.iter().rev() {
        for to in &brokers {
            if count(from) <= count(to) + 1 {
                break;
            }
            let fits = |h: &Held| {
                let after: Vec<i32> =
                    h.replicas.iter().map(|id| if id == from { *to } else { *id }).collect();
                h.replicas.contains(from)
                    && !h.replicas.contains(to)
                    && racks(view, &after) >= racks(view, &h.replicas)
            };
            if let Some(at) = held.iter().position(fits) {
                return Some((at, *from, *to));
            }
        }
    }
    None
}

/// Puts another replica first where that makes more even what the preferred leaders are to lead.
fn spread_leaders(held: &mut [Held], brokers: &BTreeSet<i32>) {
    let weight = |held: &Held| held.rate.saturating_add(LEAD);
    let mut leaders: BTreeMap<i32, u64> = brokers.iter().map(|id| (*id, 0)).collect();
    for (first, weight) in held.iter().filter_map(|h| Some((h.replicas.first()?, weight(h)))) {
        *leaders.entry(*first).or_default() += weight;
    }
    loop {
        let mut changed = false;
        for held in held.iter_mut() {
            let count = |id: &i32| leaders.get(id).copied().unwrap_or(u64::MAX);
            let Some(first) = held.replicas.first().copied() else { continue };
            let candidates = held.replicas.iter().filter(|id| brokers.contains(id));
            let Some(best) = candidates.min_by_key(|id| (count(id), **id)).copied() else { continue };
            let weight = weight(held);
            if count(&best).saturating_add(weight) < count(&first) {
                held.replicas.retain(|id| *id != best);
                held.replicas.insert(0, best);
                *leaders.entry(first).or_default() -= weight;
                *leaders.entry(best).or_default() += weight;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
