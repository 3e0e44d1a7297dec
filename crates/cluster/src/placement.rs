//! Where new replicas go.
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use model::{ErrorCode, NodeId};
use proto::cluster::ReplicaSet;
use std::collections::BTreeMap;

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

/// Replicas for `count` partitions, striped over the live nodes. `first` moves the stripe along, so that
/// topics of one partition do not all begin at the same node.
pub(crate) fn place(
    image: &Image,
    live: &[NodeId],
    first: usize,
    count: usize,
    factor: i32,
) -> ItemResult<Vec<ReplicaSet>> {
    let order = by_turns(image, live);
    let wanted = usize::try_from(factor).unwrap_or(0);
    if order.is_empty() {
        return Err(unplaceable(
            factor,
            "All brokers are currently fenced, or have all their log directories cordoned.",
        ));
    }
    if wanted > order.len() {
        return Err(unplaceable(
            factor,
            &format!(
                "The target replication factor of {factor} cannot be reached because only {} broker(s) are \
                 registered or some brokers have all their log directories cordoned.",
                order.len()
            ),
        ));
    }
    let set =
        |p: usize| ReplicaSet { nodes: (0..wanted).map(|r| order[(first + p + r) % order.len()]).collect() };
    Ok((0..count).map(set).collect())
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
        let sets = place(&image, &[1, 2, 3, 4], 0, 4, 2).unwrap();
        let nodes: Vec<_> = sets.iter().map(|s| s.nodes.clone()).collect();
        assert_eq!(nodes, vec![vec![1, 3], vec![3, 2], vec![2, 4], vec![4, 1]]);
    }

    #[test]
    fn too_high_a_factor_is_refused_in_kafkas_words() {
        let error = place(&image(&[(1, "")]), &[1], 0, 1, 3).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidReplicationFactor);
        assert_eq!(
            error.message.unwrap(),
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached \
             because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
        );
    }
}
