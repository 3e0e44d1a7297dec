//! How much each node takes in and stores: an input of placement, never of what is applied (docs/cluster.md, "Who
//! holds and leads how much").
use model::NodeId;
use std::collections::BTreeMap;

/// What one node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Bytes a second that partitions take in which it leads.
    pub led: u64,
    /// Bytes a second that its replicas take in which follow.
    pub followed: u64,
    /// Bytes that it stores.
    pub stored: u64,
}

/// The nodes that may take replicas, and what they do as far as that is known.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(crate) nodes: &'a [NodeId],
    loads: Option<&'a BTreeMap<NodeId, NodeLoad>>,
}

impl<'a> Candidates<'a> {
    /// These nodes. Loads count only where they are known of all of them.
    pub fn new(nodes: &'a [NodeId], loads: &'a BTreeMap<NodeId, NodeLoad>) -> Candidates<'a> {
        let known = nodes.iter().all(|node| loads.contains_key(node));
        Candidates { nodes, loads: known.then_some(loads) }
    }
}

impl<'a> From<&'a [NodeId]> for Candidates<'a> {
    fn from(nodes: &'a [NodeId]) -> Candidates<'a> {
        Candidates { nodes, loads: None }
    }
}

impl<'a, const N: usize> From<&'a [NodeId; N]> for Candidates<'a> {
    fn from(nodes: &'a [NodeId; N]) -> Candidates<'a> {
        Candidates { nodes, loads: None }
    }
}

/// Whether `load` is clearly above the mean of `count` loads with this sum: 1.3 times as much, and more than
/// `margin` above it.
pub fn is_clearly_above(load: u64, sum: u64, count: usize, margin: u64) -> bool {
    let (load, sum, count) = (u128::from(load), u128::from(sum), count as u128);
    count > 0 && load * count * 10 > sum * 13 && load * count > sum + u128::from(margin) * count
}

/// Traffic that a node may have above the mean, bytes a second.
pub const TRAFFIC_MARGIN: u64 = 1 << 20;
/// Bytes that a node may store above the mean.
const STORED_MARGIN: u64 = 1 << 30;
/// Turns are counted in parts of this.
const WHOLE: u64 = 1_000;

/// Which of its turns a node keeps when new replicas are dealt out. All are kept by nodes that are not named.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    replicas: BTreeMap<NodeId, u64>,
    leads: BTreeMap<NodeId, u64>,
    traffic: BTreeMap<NodeId, u64>,
    led: BTreeMap<NodeId, u64>,
}

/// Nodes whose load is clearly above the mean, and of a thousand turns how many they keep: mean / load.
fn kept(loads: &BTreeMap<NodeId, u64>, margin: u64) -> BTreeMap<NodeId, u64> {
    let (sum, count) = (loads.values().fold(0u64, |sum, load| sum.saturating_add(*load)), loads.len());
    let hot = loads.iter().filter(|(_, load)| is_clearly_above(**load, sum, count, margin));
    let mean = sum / count.max(1) as u64;
    hot.map(|(node, load)| (*node, (u128::from(mean) * u128::from(WHOLE) / u128::from(*load)) as u64))
        .collect()
}

impl Turns {
    pub(crate) fn of(candidates: Candidates<'_>) -> Turns {
        let Some(loads) = candidates.loads else { return Turns::default() };
        let by = |what: &dyn Fn(&NodeLoad) -> u64| -> BTreeMap<NodeId, u64> {
            let row = |node: &NodeId| (*node, loads.get(node).map_or(0, what));
            candidates.nodes.iter().map(row).collect()
        };
        let (traffic, led) = (by(&|l| l.led.saturating_add(l.followed)), by(&|l| l.led));
        let mut replicas = kept(&traffic, TRAFFIC_MARGIN);
        for (node, stored) in kept(&by(&|l| l.stored), STORED_MARGIN) {
            let both = replicas.entry(node).or_insert(WHOLE);
            *both = stored.min(*both);
        }
        Turns { replicas, leads: kept(&led, TRAFFIC_MARGIN), traffic, led }
    }

    /// Whether the load is even, or not known.
    pub(crate) fn are_even(&self) -> bool {
        self.replicas.is_empty() && self.leads.is_empty()
    }

    /// Whether a node's `turn`th turn to hold a replica is its own: evenly spread over all turns.
    pub(crate) fn keeps(&self, node: NodeId, turn: usize) -> bool {
        self.replicas.get(&node).is_none_or(|kept| is_kept(*kept, turn))
    }

    /// Whether its `turn`th turn to lead is.
    pub(crate) fn keeps_lead(&self, node: NodeId, turn: usize) -> bool {
        self.leads.get(&node).is_none_or(|kept| is_kept(*kept, turn))
    }

    /// What a node takes in; `None` where it is itself one that gives up turns.
    pub(crate) fn spare(&self, node: NodeId) -> Option<u64> {
        (!self.replicas.contains_key(&node)).then(|| self.traffic.get(&node).copied().unwrap_or(0))
    }

    /// What a node leads; `None` where it is itself one that gives up leads.
    pub(crate) fn spare_lead(&self, node: NodeId) -> Option<u64> {
        (!self.leads.contains_key(&node)).then(|| self.led.get(&node).copied().unwrap_or(0))
    }

    /// `count` replicas of a node, as many as they weigh where it keeps only some of its turns.
    pub(crate) fn weighed(&self, node: NodeId, count: usize) -> u64 {
        let kept = self.replicas.get(&node).copied().unwrap_or(WHOLE).max(1);
        (count as u64 + 1).saturating_mul(WHOLE) / kept
    }
}

fn is_kept(kept: u64, turn: usize) -> bool {
    let until = |turn: u64| turn.wrapping_mul(kept) / WHOLE;
    until(turn as u64 + 1) > until(turn as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(rows: &[(NodeId, u64, u64)]) -> BTreeMap<NodeId, NodeLoad> {
        let mib = |n: u64| n << 20;
        rows.iter()
            .map(|(node, led, stored)| {
                (*node, NodeLoad { led: mib(*led), followed: 0, stored: mib(*stored) })
            })
            .collect()
    }

    #[test]
    fn a_node_keeps_its_share_of_turns_where_it_is_clearly_above_the_mean() {
        let loads = loads(&[(1, 40, 10_000), (2, 10, 1_000), (3, 10, 1_000)]);
        let turns = Turns::of(Candidates::new(&[1, 2, 3], &loads));
        let kept = |keeps: &dyn Fn(usize) -> bool| (0..1_000).filter(|turn| keeps(*turn)).count();
        assert_eq!(kept(&|turn| turns.keeps_lead(1, turn)), 500, "mean 20 of 40");
        assert_eq!(kept(&|turn| turns.keeps(1, turn)), 400, "mean 4000 of 10000 stored");
        assert_eq!(kept(&|turn| turns.keeps(2, turn)), 1_000);
        assert!(
            turns.weighed(1, 1) > turns.weighed(2, 3),
            "two replicas there weigh as much as five elsewhere"
        );
    }

    #[test]
    fn little_load_uneven_by_little_and_load_that_is_not_known_change_nothing() {
        for rows in [&[(1, 1, 900), (2, 0, 0)][..], &[(1, 12, 5_000), (2, 10, 4_500)], &[(1, 400, 0)]] {
            let loads = loads(rows);
            let nodes: Vec<NodeId> = loads.keys().copied().collect();
            assert!(Turns::of(Candidates::new(&nodes, &loads)).are_even(), "{rows:?}");
        }
        assert!(Turns::of(Candidates::new(&[1, 2], &loads(&[(1, 400, 0)]))).are_even());
    }
}
