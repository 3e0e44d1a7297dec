//! When a group is stable: every member is at one generation (or member epoch), and together they have every partition,
//! none more than its share. A coordinator that lets all members in first and assigns later has them all at one epoch while
//! the first of them has everything.
use std::collections::BTreeMap;
use std::time::Instant;

/// What each member says it has.
#[derive(Debug)]
pub(super) struct Board {
    partitions: usize,
    /// Generation and number of partitions; `None` for a member that is on its way.
    members: Vec<Option<(i32, usize)>>,
    /// Of those that are not on their way: members and their partitions by generation.
    counts: BTreeMap<i32, (usize, usize)>,
    stable_since: Option<Instant>,
    /// Generations in which some member was.
    generations: usize,
    last: Option<i32>,
}

impl Board {
    pub(super) fn new(members: usize, partitions: usize) -> Board {
        Board {
            partitions,
            members: vec![None; members],
            counts: BTreeMap::new(),
            stable_since: None,
            generations: 0,
            last: None,
        }
    }

    /// A member has this many partitions in this generation.
    pub(super) fn settle(&mut self, member: usize, generation: i32, owned: usize, now: Instant) {
        if self.members[member] == Some((generation, owned)) {
            return;
        }
        self.remove(member);
        self.members[member] = Some((generation, owned));
        let count = self.counts.entry(generation).or_default();
        *count = (count.0 + 1, count.1 + owned);
        if self.last.is_none_or(|last| last < generation) {
            self.last = Some(generation);
            self.generations += 1;
        }
        self.stable_since = self.is_stable().then_some(now);
    }

    /// A member has to join again, or to give up or take partitions.
    pub(super) fn unsettle(&mut self, member: usize) {
        self.remove(member);
        self.stable_since = None;
    }

    fn remove(&mut self, member: usize) {
        let Some((generation, owned)) = self.members[member].take() else { return };
        if let Some(count) = self.counts.get_mut(&generation) {
            *count = (count.0 - 1, count.1 - owned);
            if count.0 == 0 {
                self.counts.remove(&generation);
            }
        }
    }

    fn is_stable(&self) -> bool {
        let share = self.partitions.div_ceil(self.members.len().max(1));
        self.counts.len() == 1
            && self.counts.values().all(|count| *count == (self.members.len(), self.partitions))
            && self.members.iter().flatten().all(|(_, owned)| *owned <= share)
    }

    /// Since when the group is stable without a break.
    pub(super) fn stable_since(&self) -> Option<Instant> {
        self.stable_since
    }

    /// How many generations had members, later ones than any before.
    pub(super) fn generations(&self) -> usize {
        self.generations
    }

    /// How far it is, for whoever waits in vain.
    pub(super) fn describe(&self) -> String {
        let settled = self.members.iter().flatten().count();
        let each: Vec<String> = self
            .counts
            .iter()
            .map(|(generation, (members, owned))| {
                format!("{members} at {generation} with {owned} partitions")
            })
            .collect();
        format!("{settled} of {} members are settled: {}", self.members.len(), each.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_members_at_one_generation_with_every_partition_are_stable() {
        let (mut board, now) = (Board::new(2, 3), Instant::now());
        board.settle(0, 1, 3, now);
        assert_eq!(board.stable_since(), None, "the other member is missing");
        board.settle(1, 2, 1, now);
        assert_eq!(board.stable_since(), None, "two generations");
        board.unsettle(0);
        board.settle(0, 2, 1, now);
        assert_eq!(board.stable_since(), None, "a partition is nobody's");
        board.settle(0, 2, 2, now);
        assert_eq!((board.stable_since(), board.generations()), (Some(now), 2));
    }

    #[test]
    fn a_group_in_which_one_member_has_everything_is_not_stable() {
        let (mut board, now) = (Board::new(2, 3), Instant::now());
        board.settle(0, 1, 3, now);
        board.settle(1, 1, 0, now);
        assert_eq!(board.stable_since(), None);
        board.settle(0, 2, 2, now);
        board.settle(1, 2, 1, now);
        assert_eq!(board.stable_since(), Some(now));
    }

    #[test]
    fn stability_counts_from_the_last_break() {
        let (mut board, now) = (Board::new(2, 2), Instant::now());
        (0..2).for_each(|member| board.settle(member, 1, 1, now));
        let later = now + std::time::Duration::from_secs(1);
        board.settle(1, 1, 1, later);
        assert_eq!(board.stable_since(), Some(now), "nothing changed");
        board.unsettle(1);
        assert_eq!(board.stable_since(), None);
        assert_eq!(board.describe(), "1 of 2 members are settled: 1 at 1 with 1 partitions");
        board.settle(1, 1, 1, later);
        assert_eq!(board.stable_since(), Some(later));
    }
}
