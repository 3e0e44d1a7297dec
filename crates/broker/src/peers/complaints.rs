//! What is wrong between nodes is said once, and every half minute how often it was wrong since: a node that is
//! refused tries again every second, on two connections to each of the others.
use model::NodeId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two lines of one kind.
const EVERY: Duration = Duration::from_secs(30);
/// Kinds that are told apart: whoever connects may call itself any node. Beyond that the nodes are not.
const MOST: usize = 256;

/// Of which node, why, and who says so.
type Kind = (Option<NodeId>, &'static str, &'static str);

/// Lets one complaint of each kind through in half a minute.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// By kind: when it was let through last, and how many were not since.
    kinds: RefCell<BTreeMap<Kind, (Option<Duration>, u64)>>,
}

impl Complaints {
    /// What is to be added to this complaint: how many like it were kept back. `None`: it is kept back itself.
    pub(super) fn may(&self, (node, why, by): Kind, uptime: Duration) -> Option<String> {
        let mut kinds = self.kinds.borrow_mut();
        let lately = |said: Option<Duration>| said.is_some_and(|said| uptime.saturating_sub(said) < EVERY);
        let mut kind = (node, why, by);
        if kinds.len() >= MOST && !kinds.contains_key(&kind) {
            kinds.retain(|_, (said, _)| lately(*said));
            if kinds.len() >= MOST {
                kind.0 = None;
            }
        }
        let (said, unsaid) = kinds.entry(kind).or_default();
        if lately(*said) {
            *unsaid += 1;
            return None;
        }
        *said = Some(uptime);
        let kept = std::mem::take(unsaid);
        Some(if kept == 0 { String::new() } else { format!(" ({kept} more like it were not logged)") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_and_reason_is_said_once_and_then_every_half_minute_with_the_count() {
        let (complaints, at) = (Complaints::default(), Duration::from_secs);
        let refused = |node, why, seconds| complaints.may((Some(node), why, "this"), at(seconds));
        assert_eq!(refused(2, "wrong_secret", 1).as_deref(), Some(""));
        assert_eq!(refused(2, "wrong_secret", 1), None);
        assert_eq!(refused(3, "wrong_secret", 1).as_deref(), Some(""), "another node");
        assert_eq!(refused(2, "wrong_cluster", 2).as_deref(), Some(""), "another reason");
        assert_eq!(refused(2, "wrong_secret", 30), None);
        assert_eq!(refused(2, "wrong_secret", 31).as_deref(), Some(" (2 more like it were not logged)"));
        assert_eq!(refused(2, "wrong_secret", 61).as_deref(), Some(""));
    }

    #[test]
    fn strangers_that_call_themselves_many_nodes_take_no_more_memory_and_few_lines() {
        let complaints = Complaints::default();
        let all = |nodes: std::ops::Range<NodeId>, uptime| {
            let said = |node| complaints.may((Some(node), "wrong_secret", "this"), uptime).is_some();
            nodes.filter(|node| said(*node)).count()
        };
        assert_eq!(all(0..10_000, Duration::ZERO), MOST + 1);
        assert_eq!(complaints.kinds.borrow().len(), MOST + 1);
        assert_eq!(all(10_000..20_000, EVERY), MOST + 1, "those of long ago make room");
        assert_eq!(complaints.kinds.borrow().len(), MOST + 1);
    }
}
