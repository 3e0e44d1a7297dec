//! Visits to groups that nobody has touched since the start: retention, `segment.ms` and the metrics of a
//! partition must not wait for a client.
use crate::groups::Touch;
use crate::node::Node;
use model::{GroupKey, Mono, Now};
use std::ops::Bound;

/// The first visit after a start, ms: clients go first.
const FIRST_MS: i64 = 10_000;
/// Every group is visited within about so many seconds, however many there are.
const WITHIN_S: usize = 600;
const EVERY_MS: i64 = 1_000;

/// Where the round stands.
#[derive(Debug)]
pub(crate) struct Visits {
    /// `None`: every group of the last life was visited; newer ones are open since their first append.
    next: Option<Mono>,
    after: Option<GroupKey>,
}

impl Visits {
    pub(crate) fn new(now: Now) -> Visits {
        Visits { next: Some(now.mono.after_ms(FIRST_MS)), after: None }
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.next
    }
}

impl Node {
    /// Opens the next few groups that have files here.
    pub(crate) fn visit(&mut self, now: Now) {
        if self.visits.next.is_none_or(|at| at > now.mono) {
            return;
        }
        let count = self.states.len().div_ceil(WITHIN_S).max(1);
        let from = self.visits.after.map_or(Bound::Unbounded, Bound::Excluded);
        let unopened = self.states.range((from, Bound::Unbounded)).map(|(key, _)| *key);
        let keys: Vec<GroupKey> =
            unopened.filter(|key| !self.groups.contains_key(key) && self.holds(*key)).take(count).collect();
        self.visits.next = (!keys.is_empty()).then(|| now.mono.after_ms(EVERY_MS));
        for key in keys {
            self.visits.after = Some(key);
            self.touch(now, key, Touch::Open);
        }
    }
}
