//! Where new replicas go.
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use crate::load::{Candidates, Turns};
use crate::witness::add_witnesses;
use model::{ErrorCode, NodeId};
use proto::cluster::ReplicaSet;
use std::collections::{BTreeMap, BTreeSet};

/// Live nodes in an order that alternates between racks.
fn by_turns(image: &Image, live: &[NodeId]) -> Vec<NodeId> {
    let mut racks: BTreeMap<Option<&str>, Vec<NodeId>> = BTreeMap::new();
    for id in live {
        let rack = image.nodes.get(id).and_then(|n| n.rack.as_deref());
        racks.entry(rack).or_default().push(*id);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| racks.values().filter_map(move |r| r.get(i).copied())).collect()
}

/// Registered nodes that are not live.
fn lost(image: &Image, live: &[NodeId]) -> Vec<NodeId> {
    image.nodes.keys().copied().filter(|id| !live.contains(id)).collect()
}

/// Refuses more replicas than nodes are registered, and those of which a majority would not be there to begin with.
fn check_reachable(factor: i32, there: usize, registered: usize) -> ItemResult<()> {
    let wanted = usize::try_from(factor).unwrap_or(0);
    if wanted > registered {
        return Err(unplaceable(
            factor,
            &format!(
                "The target replication factor of {factor} cannot be reached because only {registered} broker(s) are \
                 registered or some brokers have all their log directories cordoned."
            ),
        ));
    }
    if wanted > there && 2 * there <= wanted {
        return Err(unplaceable(
            factor,
            &format!(
                "{registered} brokers are registered, but only {there} of them live, which is no majority of them."
            ),
        ));
    }
    Ok(())
}

/// Replicas for `count` partitions, striped over the live nodes. `first` moves the stripe along, so that
/// topics of one partition do not all begin at the same node. A node whose load is clearly above the mean gives up
/// turns. Where there are too few live nodes, others that are registered follow them, as with Apache Kafka: a topic can
/// be made while a node is away.
pub(crate) fn place(
    image: &Image,
    candidates: Candidates<'_>,
    first: usize,
    count: usize,
    factor: i32,
) -> ItemResult<Vec<ReplicaSet>> {
    let order = by_turns(image, candidates.nodes);
    let wanted = usize::try_from(factor).unwrap_or(0);
    if order.is_empty() {
        return Err(unplaceable(
            factor,
            "All brokers are currently fenced, or have all their log directories cordoned.",
        ));
    }
    let lost = by_turns(image, &lost(image, candidates.nodes));
    let there = order.len().min(wanted);
    check_reachable(factor, there, there + lost.len())?;
    let mut dealer =
        Dealer { image, turns: Turns::of(candidates), order, taken: BTreeMap::new(), led: BTreeMap::new() };
    let deal = |at| {
        let mut nodes = dealer.deal(at, there);
        nodes.extend((0..wanted - there).map(|r| lost[(at + r) % lost.len()]));
        ReplicaSet { nodes, witness: None }
    };
    let mut sets: Vec<ReplicaSet> = (first..first + count).map(deal).collect();
    add_witnesses(image, &dealer.order, first, &mut sets);
    Ok(sets)
}

/// Deals replicas out in turns.
struct Dealer<'a> {
    image: &'a Image,
    turns: Turns,
    order: Vec<NodeId>,
    /// How many turns of others each node has taken, to hold a replica and to lead.
    taken: BTreeMap<NodeId, usize>,
    led: BTreeMap<NodeId, usize>,
}

impl Dealer<'_> {
    /// The replicas of the partition at a place of the stripe, the preferred leader first.
    fn deal(&mut self, at: usize, wanted: usize) -> Vec<NodeId> {
        let length = self.order.len();
        let mut nodes: Vec<NodeId> = (0..wanted).map(|r| self.order[(at + r) % length]).collect();
        if self.turns.are_even() {
            return nodes;
        }
        for r in 0..wanted {
            if !self.turns.keeps(nodes[r], (at + r) / length)
                && let Some(heir) = self.heir(&nodes, r)
            {
                *self.taken.entry(heir).or_default() += 1;
                nodes[r] = heir;
            }
        }
        if !self.turns.keeps_lead(nodes[0], at / length)
            && let Some(heir) = self.lead_heir(&nodes)
        {
            *self.led.entry(nodes[heir]).or_default() += 1;
            nodes[..=heir].rotate_right(1);
        }
        nodes
    }

    /// Who takes the turn of the node at `r`: the least loaded that leaves the replicas on as many racks.
    fn heir(&self, nodes: &[NodeId], r: usize) -> Option<NodeId> {
        let racks = self.racks(nodes);
        let fits = |node: &NodeId| {
            let mut after = nodes.to_vec();
            after[r] = *node;
            !nodes.contains(node) && self.racks(&after) >= racks
        };
        let free = self.order.iter().copied().filter(|node| fits(node));
        let scored = free.filter_map(|node| Some(((self.taken.get(&node), self.turns.spare(node)?), node)));
        scored.min_by_key(|(score, _)| *score).map(|(_, node)| node)
    }

    /// The place of the replica that is to lead instead of the first.
    fn lead_heir(&self, nodes: &[NodeId]) -> Option<usize> {
        let scored = nodes
            .iter()
            .enumerate()
            .skip(1)
            .filter_map(|(at, node)| Some(((self.led.get(node), self.turns.spare_lead(*node)?), at)));
        scored.min_by_key(|(score, _)| *score).map(|(_, at)| at)
    }

    fn racks(&self, nodes: &[NodeId]) -> usize {
        let rack = |id: &NodeId| self.image.nodes.get(id).and_then(|node| node.rack.as_deref());
        nodes.iter().map(rack).collect::<BTreeSet<_>>().len()
    }
}

fn unplaceable(factor: i32, why: &str) -> ItemError {
    ItemError::new(
        ErrorCode::InvalidReplicationFactor,
        format!("Unable to replicate the partition {factor} time(s): {why}"),
    )
}

/// Judges replicas that a client chose for one partition.
pub(crate) fn check_manual(image: &Image, nodes: &[NodeId], factor: Option<usize>) -> ItemResult<()> {
    let invalid = |what: String| Err(ItemError::new(ErrorCode::InvalidReplicaAssignment, what));
    if nodes.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut sorted = nodes.to_vec();
    sorted.sort_unstable();
    for (i, id) in sorted.iter().enumerate() {
        if !image.nodes.contains_key(id) {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if i > 0 && sorted[i - 1] == *id {
            return invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
    }
    match factor {
        Some(factor) if factor != nodes.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not \
             consistent with previous partitions, which have {factor} replica(s).",
            nodes.len()
        )),
        _ => Ok(()),
    }
}

/// Refuses a partition whose chosen nodes are all down.
pub(crate) fn check_live(nodes: &[NodeId], live: &[NodeId], partition: i32) -> ItemResult<()> {
    if nodes.iter().any(|n| live.contains(n)) {
        return Ok(());
    }
    Err(ItemError::new(
        ErrorCode::InvalidReplicaAssignment,
        format!(
            "All brokers specified in the manual partition assignment for partition {partition} are fenced \
             or in controlled shutdown."
        ),
    ))
}

/// Refuses partitions beyond `plimsoll.max.partitions` for each live node.
pub(crate) fn check_room(image: &Image, live: &[NodeId], already: usize, more: usize) -> ItemResult<()> {
    let each = image.broker_config().max_partitions_per_broker;
    let most = usize::try_from(each).unwrap_or(0).saturating_mul(live.len());
    let have = image.partition_count() + already;
    if have + more <= most {
        return Ok(());
    }
    Err(ItemError::new(
        ErrorCode::PolicyViolation,
        format!(
            "{more} more partition(s) would exceed plimsoll.max.partitions: {have} exist, {most} are allowed \
             ({each} for each of {} broker(s)).",
            live.len()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Node;
    use crate::load::NodeLoad;
    use std::sync::Arc;

    fn image(racks: &[(NodeId, &str)]) -> Image {
        let mut image = Image::empty(1, Arc::default());
        let node = |(id, rack): &(NodeId, &str)| {
            let rack = (!rack.is_empty()).then(|| rack.to_string());
            let node = Node {
                id: *id,
                incarnation: 1,
                endpoints: vec![],
                rack,
                directories: vec![],
                peer: None,
                features: vec![],
            };
            (*id, Arc::new(node))
        };
        image.nodes = Arc::new(racks.iter().map(node).collect());
        image
    }

    #[test]
    fn replicas_are_distinct_striped_and_spread_over_racks() {
        let image = image(&[(1, "a"), (2, "a"), (3, "b"), (4, "b")]);
        let sets = place(&image, (&[1, 2, 3, 4]).into(), 0, 4, 2).unwrap();
        let nodes: Vec<_> = sets.iter().map(|s| s.nodes.clone()).collect();
        assert_eq!(nodes, vec![vec![1, 3], vec![3, 2], vec![2, 4], vec![4, 1]]);
    }

    fn loads(rows: &[(NodeId, u64)]) -> BTreeMap<NodeId, NodeLoad> {
        let load = |led: u64| NodeLoad { led: led << 20, followed: 0, stored: 0 };
        rows.iter().map(|(node, led)| (*node, load(*led))).collect()
    }

    #[test]
    fn a_hot_node_gives_up_turns_in_its_rack_and_leads_less() {
        let image = image(&[(1, "a"), (2, "a"), (3, "b"), (4, "b")]);
        let loads = loads(&[(1, 40), (2, 0), (3, 20), (4, 20)]);
        let sets = place(&image, Candidates::new(&[1, 2, 3, 4], &loads), 0, 400, 2).unwrap();
        let held = |node| sets.iter().filter(|set| set.nodes.contains(&node)).count();
        assert_eq!([1, 2, 3, 4].map(held), [100, 300, 200, 200]);
        let racks = |set: &&ReplicaSet| set.nodes.iter().any(|n| *n < 3) && set.nodes.iter().any(|n| *n > 2);
        assert_eq!(sets.iter().filter(racks).count(), 400);
        let leads = sets.iter().filter(|set| set.nodes[0] == 1).count();
        assert!((25..=50).contains(&leads), "{leads}");
    }

    #[test]
    fn where_every_node_holds_everything_a_hot_one_is_preferred_less() {
        let (image, loads) = (image(&[(1, ""), (2, ""), (3, "")]), loads(&[(1, 60), (2, 15), (3, 15)]));
        let mut first: BTreeMap<NodeId, usize> = BTreeMap::new();
        // One topic of one partition after the other.
        for at in 0..300 {
            let set = place(&image, Candidates::new(&[1, 2, 3], &loads), at, 1, 3).unwrap().remove(0);
            *first.entry(set.nodes[0]).or_default() += 1;
            assert_eq!(set.nodes.iter().collect::<BTreeSet<_>>().len(), 3);
        }
        assert_eq!((first[&1], first[&2] + first[&3]), (50, 250));
    }

    #[test]
    fn a_turn_of_the_only_node_of_a_rack_is_kept() {
        let (image, loads) = (image(&[(1, "a"), (2, "b"), (3, "b")]), loads(&[(1, 90), (2, 1), (3, 1)]));
        let sets = place(&image, Candidates::new(&[1, 2, 3], &loads), 0, 30, 2).unwrap();
        let before = place(&image, (&[1, 2, 3]).into(), 0, 30, 2).unwrap();
        let both = |sets: &[ReplicaSet]| sets.iter().filter(|set| set.nodes.contains(&1)).count();
        assert_eq!(both(&sets), both(&before), "else both replicas would be in one rack");
        assert!(sets.iter().filter(|set| set.nodes[0] == 1).count() <= 5);
    }

    #[test]
    fn nodes_that_are_away_take_what_live_ones_cannot_and_never_first() {
        let image = image(&[(1, "a"), (2, "a"), (3, "b"), (4, "b")]);
        let sets = place(&image, (&[1, 2, 3]).into(), 0, 6, 4).unwrap();
        for set in &sets {
            assert_eq!((set.nodes.len(), set.nodes[3]), (4, 4), "{set:?}");
            assert_eq!(set.nodes.iter().collect::<BTreeSet<_>>().len(), 4);
        }
        let sets = place(&image, (&[1, 3]).into(), 0, 4, 3).unwrap();
        let last: Vec<NodeId> = sets.iter().map(|set| set.nodes[2]).collect();
        assert_eq!(last, [2, 4, 2, 4], "they take turns");
        let error = place(&image, (&[1]).into(), 0, 1, 3).unwrap_err();
        assert_eq!(
            error.message.unwrap(),
            "Unable to replicate the partition 3 time(s): 4 brokers are registered, but only 1 of them live, which is \
             no majority of them."
        );
        assert!(place(&image, (&[1]).into(), 0, 1, 2).is_err());
        assert!(place(&image, (&[1, 2, 3, 4]).into(), 0, 1, 5).is_err());
    }

    #[test]
    fn too_high_a_factor_is_refused_in_kafkas_words() {
        let error = place(&image(&[(1, "")]), (&[1]).into(), 0, 1, 3).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidReplicationFactor);
        assert_eq!(
            error.message.unwrap(),
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached \
             because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
        );
    }
}
