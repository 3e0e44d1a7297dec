//! What each node takes in and stores: measured here, told with heartbeats, heard from others (docs/cluster.md, "Who
//! holds and leads how much").
//!
//! A replica's rate is that of its log's end, whether it leads or follows: when a lead moves, both nodes' sums are
//! right at once, and nobody acts twice on what has been done.
use crate::even_out::EvenOut;
use crate::groups::Slot;
use crate::node::Node;
use cluster::NodeLoad;
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Groups that a node names to the others.
pub(crate) const MOST_TOLD: usize = 16;
/// Looks at the load for each look at preferred leaders.
const LOOKS: i64 = 10;
/// The least time between two, ms.
const LEAST_LOOK_MS: i64 = 1_000;
/// Measurements for each look.
const MEASURED: i64 = 6;

/// How often what is looked at, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// From one look at whether a node leads too much to the next.
    pub(crate) look: i64,
    /// From one measurement to the next.
    pub(crate) measure: i64,
    /// Time constant of the averages.
    pub(crate) tau: i64,
}

impl Pace {
    /// With `leader.imbalance.check.interval.seconds`: a look each 30 s by default, and averages over a minute.
    pub(crate) fn of(interval_s: i64) -> Pace {
        let look = (interval_s.saturating_mul(1_000) / LOOKS).max(LEAST_LOOK_MS);
        Pace { look, measure: look / MEASURED, tau: look.saturating_mul(2) }
    }
}

/// An average of bytes a second, in which older ones count ever less. It begins as the mean of all there is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    bytes: u64,
    age_ms: u64,
    rate: u64,
}

impl Rate {
    /// Bytes a second.
    pub(crate) fn get(self) -> u64 {
        self.rate
    }

    /// `ms` after the last time, the count of bytes is this; a count that fell began anew.
    fn note(&mut self, bytes: u64, ms: u64, tau_ms: u64) {
        let more = bytes.checked_sub(self.bytes).unwrap_or(bytes);
        self.bytes = bytes;
        if more == 0 && self.rate == 0 {
            // What is at rest, as most is, has no age either: its first burst is no average yet.
            self.age_ms = tau_ms;
            return;
        }
        let ms = ms.max(1);
        let of = ms + self.age_ms.min(tau_ms);
        self.age_ms = of.min(tau_ms);
        let part = |difference: u64| {
            (u128::from(difference) * u128::from(ms)).div_ceil(u128::from(of)).min(u128::from(u64::MAX))
                as u64
        };
        let last = u64::try_from(u128::from(more) * 1_000 / u128::from(ms)).unwrap_or(u64::MAX);
        self.rate = match last.checked_sub(self.rate) {
            Some(above) => self.rate.saturating_add(part(above)),
            None => self.rate - part(self.rate - last),
        };
    }
}

/// What one node tells the others of its load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Bytes a second that groups take in which it leads.
    pub led: u64,
    /// Bytes a second that its other replicas take in.
    pub followed: u64,
    /// Bytes that it stores, as far as it has opened what it stores.
    pub stored: u64,
    /// The groups that it leads with most, up to 16, and their bytes a second; the largest first.
    pub most: Vec<(GroupKey, u64)>,
}

/// This node's load, and what it knows of the cluster's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadView {
    /// Its own.
    pub own: NodeLoad,
    /// Bytes a second led by all nodes that are known to live and to lead, this one among them.
    pub led_by_all: u64,
    /// Partitions of which this node, leading the metadata, has made another replica the preferred leader because
    /// theirs led too much.
    pub moves: u64,
}

/// What is known of loads.
#[derive(Debug)]
pub(crate) struct Load {
    next_measure: Mono,
    measured: Mono,
    own: Arc<LoadReport>,
    /// Measurements so far, and the one that each peer was told last.
    number: u64,
    told: BTreeMap<NodeId, u64>,
    heard: BTreeMap<NodeId, (Mono, Arc<LoadReport>)>,
    pub(crate) even_out: EvenOut,
}

impl Load {
    pub(crate) fn new(now: Mono) -> Load {
        let (told, heard, even_out) = (BTreeMap::new(), BTreeMap::new(), EvenOut::default());
        let (next_measure, own) = (now.after_ms(LEAST_LOOK_MS), Arc::default());
        Load { next_measure, measured: now, own, number: 0, told, heard, even_out }
    }

    pub(crate) fn on_connected(&mut self, node: NodeId) {
        self.told.remove(&node);
    }

    /// A peer told its load.
    pub(crate) fn heard(&mut self, now: Mono, node: NodeId, load: Arc<LoadReport>) {
        self.heard.insert(node, (now, load));
    }

    /// What `node` has not been told yet.
    pub(crate) fn due_to(&mut self, node: NodeId) -> Option<Arc<LoadReport>> {
        let told = self.told.insert(node, self.number);
        (told.unwrap_or(0) < self.number).then(|| self.own.clone())
    }

    pub(crate) fn next_deadline(&self) -> Mono {
        self.even_out.next_deadline().map_or(self.next_measure, |at| at.min(self.next_measure))
    }
}

impl Node {
    fn pace(&self) -> Pace {
        Pace::of(self.metadata.image().broker_config().leader_imbalance_check_interval_seconds)
    }

    /// Measures what is due, and evens out.
    pub(crate) fn look_at_load(&mut self, now: Now) {
        let pace = self.pace();
        if self.peers.load.next_measure <= now.mono {
            self.peers.load.next_measure = now.mono.after_ms(pace.measure);
            self.measure(now, pace);
        }
        self.even_out(now, pace);
    }

    fn measure(&mut self, now: Now, pace: Pace) {
        let ms = now.mono.since(self.peers.load.measured).as_millis() as u64;
        self.peers.load.measured = now.mono;
        let mut load = LoadReport::default();
        for (key, slot) in self.groups.iter_mut().filter(|(key, _)| **key != GroupKey::METADATA) {
            let Slot::Open(open) = slot else { continue };
            open.rate.note(open.partition.counters().bytes_appended, ms, pace.tau.unsigned_abs());
            load.stored = load.stored.saturating_add(open.partition.log().size_bytes());
            let rate = open.rate.get();
            let leads = open.partition.leader_epoch().is_some();
            let sum = if leads { &mut load.led } else { &mut load.followed };
            *sum = sum.saturating_add(rate);
            if leads && rate > 0 {
                load.most.push((*key, rate));
            }
        }
        load.most.sort_unstable_by_key(|(key, rate)| (std::cmp::Reverse(*rate), *key));
        load.most.truncate(MOST_TOLD);
        let image = self.metadata.image();
        self.peers.load.heard.retain(|node, _| image.nodes.contains_key(node));
        self.peers.load.told.retain(|node, _| image.nodes.contains_key(node));
        self.peers.load.own = Arc::new(load);
        self.peers.load.number += 1;
    }

    /// What live nodes told lately, this one among them.
    pub(crate) fn reports(&self, now: Now) -> BTreeMap<NodeId, Arc<LoadReport>> {
        let lately = self.pace().look.saturating_mul(2);
        let others = self.peers.load.heard.iter().filter(|(node, (at, _))| {
            at.after_ms(lately) > now.mono && self.peers.liveness.holds(now.mono, **node)
        });
        let mut reports: BTreeMap<NodeId, Arc<LoadReport>> =
            others.map(|(node, (_, report))| (*node, report.clone())).collect();
        if self.peers.load.number > 0 {
            reports.insert(self.cfg.node_id, self.peers.load.own.clone());
        }
        reports
    }

    /// The same, as placement takes it.
    pub(crate) fn loads(&self, now: Now) -> BTreeMap<NodeId, NodeLoad> {
        self.reports(now).iter().map(|(node, report)| (*node, sums(report))).collect()
    }

    /// What this node takes in and stores, and what all lead together.
    pub fn load_view(&self, now: Now) -> LoadView {
        let led_by_all = self.reports(now).values().fold(0u64, |sum, r| sum.saturating_add(r.led));
        LoadView { own: sums(&self.peers.load.own), led_by_all, moves: self.peers.load.even_out.moves() }
    }

    /// Bytes a second that the replica of a group here takes in; `None` where it is not open.
    pub fn replica_rate(&self, key: GroupKey) -> Option<u64> {
        self.open_group(key).map(|open| open.rate.get())
    }
}

fn sums(report: &LoadReport) -> NodeLoad {
    NodeLoad { led: report.led, followed: report.followed, stored: report.stored }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_comes_in_within_a_minute_or_two_and_falls_to_nothing() {
        let (mut rate, mut bytes) = (Rate::default(), 0u64);
        let mut pass = |rate: &mut Rate, seconds: u64, per_second: u64| {
            for _ in 0..seconds / 5 {
                bytes += 5 * per_second;
                rate.note(bytes, 5_000, 60_000);
            }
            rate.get()
        };
        assert_eq!(pass(&mut rate, 5, 1_000_000), 1_000_000, "right from the beginning");
        assert_eq!(pass(&mut rate, 60, 1_000_000), 1_000_000);
        let risen = pass(&mut rate, 60, 3_000_000);
        assert!((2_000_000..2_500_000).contains(&risen), "{risen}");
        let calm = pass(&mut rate, 60, 0);
        assert!((800_000..1_100_000).contains(&calm), "{calm}");
        assert_eq!(pass(&mut rate, 1_800, 0), 0);
    }

    #[test]
    fn one_burst_after_a_rest_is_no_rate_and_a_count_may_begin_anew() {
        let mut rate = Rate::default();
        (0..3).for_each(|_| rate.note(0, 5_000, 60_000));
        rate.note(10_000_000, 5_000, 60_000);
        assert!(rate.get() < 200_000, "{}", rate.get());
        let before = rate.get();
        rate.note(0, 5_000, 60_000);
        assert!(rate.get() < before);
        rate.note(1_000, 0, 60_000);
    }

    #[test]
    fn looks_are_ten_times_as_frequent_as_those_at_preferred_leaders() {
        assert_eq!(Pace::of(300), Pace { look: 30_000, measure: 5_000, tau: 60_000 });
        assert_eq!(Pace::of(1).look, 1_000);
        assert!(Pace::of(i64::MAX).tau > 0);
    }
}
