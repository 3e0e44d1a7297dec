//! Whether one node leads too much, and which lead is to go where. Pure numbers; `even_out.rs` acts on them.
use cluster::is_clearly_above;
use model::{GroupKey, NodeId};
use std::collections::BTreeMap;

/// A move must make the larger of the two nodes' loads smaller by this part of the margin.
const LEAST_GAIN: u64 = 16;

/// A group that could be led by another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Movable {
    pub(crate) key: GroupKey,
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Nodes that could lead it.
    pub(crate) heirs: Vec<NodeId>,
}

/// The node that leads most, if that is clearly more than the mean: 1.3 times as much, and more than `margin` above
/// it.
pub(crate) fn leads_too_much(led: &BTreeMap<NodeId, u64>, margin: u64) -> Option<NodeId> {
    let (node, most) = led.iter().max_by_key(|(node, led)| (**led, std::cmp::Reverse(**node)))?;
    let sum = led.values().fold(0u64, |sum, led| sum.saturating_add(*led));
    is_clearly_above(*most, sum, led.len(), margin).then_some(*node)
}

/// The lead that goes from `node`, and where to, so that the larger of both nodes' loads becomes least; among equals to the
/// node that leads least. `None` where none is worth it: then also no node would become more loaded than `node` was.
pub(crate) fn best_move(
    led: &BTreeMap<NodeId, u64>,
    node: NodeId,
    margin: u64,
    movable: &[Movable],
) -> Option<(GroupKey, u64, NodeId)> {
    let from = led.get(&node).copied()?;
    let least = (margin / LEAST_GAIN).max(1);
    let mut best: Option<((u64, u64), GroupKey, u64, NodeId)> = None;
    for one in movable {
        for heir in one.heirs.iter().filter(|heir| **heir != node) {
            let Some(to) = led.get(heir) else { continue };
            let after = from.saturating_sub(one.rate).max(to.saturating_add(one.rate));
            let gains = after.saturating_add(least) <= from;
            let score = (after, *to);
            if gains && best.is_none_or(|(least, ..)| score < least) {
                best = Some((score, one.key, one.rate, *heir));
            }
        }
    }
    best.map(|(_, key, rate, heir)| (key, rate, heir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::MOST_TOLD;
    use model::TopicId;
    use proptest::prelude::*;

    const MARGIN: u64 = 1 << 20;

    fn key(partition: usize) -> GroupKey {
        GroupKey { topic: TopicId([1; 16]), partition: partition as i32 }
    }

    /// Partitions: rate, replicas, the leader first.
    type Cluster = Vec<(u64, Vec<NodeId>)>;

    fn led(nodes: NodeId, cluster: &Cluster) -> BTreeMap<NodeId, u64> {
        let mut led: BTreeMap<NodeId, u64> = (1..=nodes).map(|node| (node, 0)).collect();
        cluster.iter().for_each(|(rate, replicas)| *led.entry(replicas[0]).or_default() += rate);
        led
    }

    /// One look; whether anything was moved.
    fn look(nodes: NodeId, cluster: &mut Cluster) -> bool {
        let led = led(nodes, cluster);
        let Some(node) = leads_too_much(&led, MARGIN) else { return false };
        let mut told: Vec<usize> = (0..cluster.len()).filter(|p| cluster[*p].1[0] == node).collect();
        told.sort_by_key(|p| (std::cmp::Reverse(cluster[*p].0), *p));
        told.truncate(MOST_TOLD);
        let row = |p: usize| Movable { key: key(p), rate: cluster[p].0, heirs: cluster[p].1.clone() };
        let movable: Vec<Movable> = told.into_iter().map(row).collect();
        let Some((key, _, to)) = best_move(&led, node, MARGIN, &movable) else { return false };
        let replicas = &mut cluster[key.partition as usize].1;
        let at = replicas.iter().position(|node| *node == to).unwrap();
        replicas[..=at].rotate_right(1);
        true
    }

    fn any_cluster() -> impl Strategy<Value = (NodeId, Cluster)> {
        (2i32..7).prop_flat_map(|nodes| {
            let replicas = Just((1..=nodes).collect::<Vec<NodeId>>()).prop_shuffle();
            let rate = prop_oneof![0u64..1_000, 100_000u64..1_000_000, 1_000_000u64..500_000_000];
            let partition = (rate, replicas, 1..=nodes as usize).prop_map(|(rate, mut replicas, factor)| {
                replicas.truncate(factor);
                (rate, replicas)
            });
            (Just(nodes), prop::collection::vec(partition, 1..60))
        })
    }

    proptest! {
        #[test]
        fn it_ends_and_never_makes_the_most_loaded_node_more_loaded((nodes, mut cluster) in any_cluster()) {
            let most = |cluster: &Cluster| led(nodes, cluster).into_values().max().unwrap();
            let squares = |cluster: &Cluster| {
                led(nodes, cluster).into_values().map(|l| u128::from(l).pow(2)).sum::<u128>()
            };
            let mut moves = 0;
            loop {
                let (before, uneven) = (most(&cluster), squares(&cluster));
                if !look(nodes, &mut cluster) {
                    break;
                }
                moves += 1;
                prop_assert!(most(&cluster) <= before && squares(&cluster) < uneven);
                prop_assert!(moves < 10 * cluster.len(), "it goes on and on");
            }
            prop_assert!(!look(nodes, &mut cluster), "what is even stays");
        }

        #[test]
        fn where_every_node_holds_everything_it_ends_even(
            nodes in 2i32..7,
            rates in prop::collection::vec(1_000_000u64..2_000_000, 60..120),
        ) {
            let all = |first: NodeId| (0..nodes).map(|n| (first - 1 + n) % nodes + 1).collect::<Vec<_>>();
            let mut cluster: Cluster = rates.iter().map(|rate| (*rate, all(1))).collect();
            let mut moves = 0;
            while look(nodes, &mut cluster) {
                moves += 1;
            }
            prop_assert!(moves < cluster.len(), "none was moved twice");
            prop_assert_eq!(leads_too_much(&led(nodes, &cluster), MARGIN), None);
        }
    }

    #[test]
    fn the_move_that_evens_out_most_is_taken() {
        let mib = |n: u64| n << 20;
        let led = BTreeMap::from([(1, mib(20)), (2, mib(4)), (3, mib(2))]);
        assert_eq!(leads_too_much(&led, MARGIN), Some(1));
        let movable =
            |p, rate, heirs: &[NodeId]| Movable { key: key(p), rate: mib(rate), heirs: heirs.to_vec() };
        let all = [movable(0, 15, &[2, 3]), movable(1, 8, &[2]), movable(2, 8, &[3, 2]), movable(3, 1, &[3])];
        assert_eq!(best_move(&led, 1, MARGIN, &all), Some((key(2), mib(8), 3)));
        assert_eq!(best_move(&led, 1, MARGIN, &all[..1]), Some((key(0), mib(15), 3)), "17 instead of 20");
        assert_eq!(
            best_move(&led, 1, MARGIN, &[movable(0, 20, &[2, 3])]),
            None,
            "only another one would lead it"
        );
    }

    #[test]
    fn little_and_nearly_even_is_left_alone() {
        let led = |rows: &[u64]| (1..).zip(rows.iter().copied()).collect::<BTreeMap<NodeId, u64>>();
        assert_eq!(leads_too_much(&led(&[1 << 20, 0, 0]), MARGIN), None);
        assert_eq!(leads_too_much(&led(&[12 << 20, 10 << 20, 9 << 20]), MARGIN), None);
        assert_eq!(leads_too_much(&led(&[50 << 20]), MARGIN), None, "there is nobody else");
        assert_eq!(leads_too_much(&BTreeMap::new(), MARGIN), None);
    }
}
