//! The `range` assignor: of each topic, a run of neighbouring partitions for each subscriber.
//!
//! Members are taken in the order of instance ids, then member ids, so a static member that restarts has its run
//! again, and topics with equally many partitions and the same subscribers are cut in the same places.
use super::assignor::{GroupSpec, Partitions};
use model::TopicId;
use std::collections::BTreeMap;

struct Cut {
    partitions: i32,
    members: i32,
    given: i32,
    next: i32,
}

impl Cut {
    /// The next member's run: the first ones get one more where the topic does not divide evenly.
    fn take(&mut self) -> std::ops::Range<i32> {
        let quota = self.partitions / self.members + i32::from(self.given < self.partitions % self.members);
        let start = self.next;
        self.given += 1;
        self.next = (start + quota).min(self.partitions);
        start..self.next
    }
}

pub(crate) fn assign(spec: &GroupSpec) -> BTreeMap<String, Partitions> {
    let mut cuts: BTreeMap<TopicId, Cut> = BTreeMap::new();
    for topic in spec.members.values().flat_map(|m| &m.subscribed) {
        let Some(partitions) = spec.topics.get(topic) else { continue };
        let cut =
            cuts.entry(*topic).or_insert(Cut { partitions: *partitions, members: 0, given: 0, next: 0 });
        cut.members += 1;
    }
    let mut order: Vec<_> = spec.members.iter().collect();
    order.sort_by(|(a_id, a), (b_id, b)| match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a_id.cmp(b_id),
    });
    let mut out = BTreeMap::new();
    for (id, member) in order {
        let mut own = Partitions::new();
        for topic in &member.subscribed {
            let Some(cut) = cuts.get_mut(topic) else { continue };
            let run = cut.take();
            if !run.is_empty() {
                own.insert(*topic, run.collect());
            }
        }
        out.insert(id.clone(), own);
    }
    out
}
