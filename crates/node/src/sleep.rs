//! When a group may sleep: no ticks at its leader nor at its followers, nothing said until somebody touches it.
//!
//! Ten thousand partitions would otherwise exchange heartbeats of raft seven times a second each, whether they are
//! at rest or each gets a batch every other second. So a partition sleeps almost as soon as it is settled, and the
//! word that it sleeps is the last of its heartbeats: it tells followers what is committed.
//! A group wakes by a touch, a message, a lost lease, or a row in the table of leaders that has a higher epoch or says
//! that its leader leads no more.
use consensus::TICK_MS;
use model::{GroupKey, LeaderEpoch, Mono};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

/// A partition is at rest after so long without activity. One that gets batches all the time stays awake; one that
/// gets them less often costs a word to each follower instead of heartbeats.
const REST: Duration = Duration::from_millis(100);
/// The metadata group: the heartbeats of one group cost nothing.
const METADATA_REST: Duration = Duration::from_secs(3);
/// So many partitions have a tick at once: where more are awake, they take turns.
const TICKS_AT_ONCE: usize = 400;
/// Between two turns, ms.
const LEAST_TURN_MS: usize = 10;
/// But no partition waits for more than so many turns, 300 ms: elsewhere election timeouts must stay longer than its
/// heartbeats.
const MOST_TURNS: usize = 30;

/// Whose turn it is to have a tick, of the partitions that are awake.
///
/// One thread does the work of all groups. Where it is late, nodes take each other for dead, so it does little at
/// once, and no more where everything is awake. What must be quick after a node is lost goes by leases, not by ticks.
#[derive(Debug)]
pub(crate) struct Turns {
    /// When the next turn is.
    due: Mono,
    /// The one that had a tick last, if not all have it at once.
    last: Option<GroupKey>,
}

impl Turns {
    pub(crate) fn new(now: Mono) -> Turns {
        Turns { due: now, last: None }
    }

    pub(crate) fn due(&self) -> Mono {
        self.due
    }

    /// The partitions of `awake` that have a tick at `now`, in order, after those of the turn before. Time that was
    /// lost is not made up for: ticks in a heap would end leases of leaders that live.
    pub(crate) fn take<T>(&mut self, now: Mono, awake: &BTreeMap<GroupKey, T>) -> Vec<GroupKey> {
        if self.due > now {
            return Vec::new();
        }
        let partitions = awake.len() - usize::from(awake.contains_key(&GroupKey::METADATA));
        let turns = partitions.div_ceil(TICKS_AT_ONCE).clamp(1, MOST_TURNS);
        let pause = (TICK_MS as usize).div_ceil(turns).max(LEAST_TURN_MS);
        self.due = now.after_ms(pause as i64);
        let from = self.last.take().filter(|_| turns > 1);
        let after = awake.range((from.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let before = awake.range(..=from.unwrap_or(GroupKey::METADATA)).filter(|_| from.is_some());
        let keys = after.chain(before).map(|(key, _)| *key).filter(|key| *key != GroupKey::METADATA);
        let keys: Vec<GroupKey> = keys.take(partitions.div_ceil(turns)).collect();
        self.last = keys.last().copied().filter(|_| turns > 1);
        keys
    }
}

/// What a leader tells each peer with a replica of a group when the group goes to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleeping {
    /// Which group.
    pub key: GroupKey,
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// The last entry of the leader's log; committed, and matched by every live replica.
    pub last_index: u64,
    /// Its term. Who has that very entry knows by it what is committed; 0 from a node that does not say it.
    pub last_term: u64,
}

/// A replica on another node, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherReplica {
    /// Whether the lease on its node is held.
    pub(crate) live: bool,
    /// Whether it votes. Witnesses do.
    pub(crate) voter: bool,
    /// The last entry that it has persisted.
    pub(crate) matched: u64,
}

/// What a leader knows of its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LedGroup<'a> {
    /// All replicas but the leader, which votes itself.
    pub(crate) others: &'a [OtherReplica],
    /// Which group.
    pub(crate) key: GroupKey,
    /// The last entry of the leader's log.
    pub(crate) last_index: u64,
    /// What of it the leader has persisted.
    pub(crate) persisted: u64,
    /// The commit index.
    pub(crate) committed: u64,
    /// Whether a no-op of this term has committed: before that nobody knows where the log ends.
    pub(crate) confirmed: bool,
    /// Whether appends wait that were not proposed yet, a membership change is on its way, or the
    /// leadership is being handed on.
    pub(crate) busy: bool,
    /// A machine on the log that needs ticks: a coordinator with live members.
    pub(crate) kept_awake: bool,
    /// The last append, read of the index, vote or change of a lease.
    pub(crate) last_activity: Mono,
}

/// From when on a group that is led here may sleep, if nothing changes until then; `None` if something must
/// change first.
///
/// Dead voters do not keep it awake as long as the live ones are a majority; below that the leader needs its
/// ticks, because check-quorum must depose it. A live replica that is behind needs ticks too: they probe it.
pub(crate) fn may_sleep_at(group: &LedGroup<'_>) -> Option<Mono> {
    let voters = 1 + group.others.iter().filter(|other| other.voter).count();
    let live = 1 + group.others.iter().filter(|other| other.voter && other.live).count();
    let caught_up = group.others.iter().all(|other| !other.live || other.matched >= group.last_index);
    let settled = group.persisted >= group.last_index && group.committed >= group.last_index;
    let may =
        live * 2 > voters && caught_up && settled && group.confirmed && !group.busy && !group.kept_awake;
    let rest = if group.key == GroupKey::METADATA { METADATA_REST } else { REST };
    may.then(|| group.last_activity.after(rest))
}

/// What a follower knows of its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FollowedGroup {
    /// The epoch of the leader that it follows; `None` while it follows nobody.
    pub(crate) epoch: Option<LeaderEpoch>,
    /// The last entry of its log.
    pub(crate) last_index: u64,
    /// The commit index.
    pub(crate) committed: u64,
}

/// Whether a follower stops its ticks on its leader's word; the caller has seen that the word is that leader's.
///
/// Heartbeats and entries travel on two connections. A follower that has an entry already which the leader
/// appended after it spoke, or not yet one that it speaks of, stays awake, as does one that does not know that
/// the last entry is committed, because its own last entry is another: its consumers would wait for it.
pub(crate) fn follower_may_sleep(group: &FollowedGroup, said: &Sleeping) -> bool {
    group.epoch == Some(said.epoch)
        && group.last_index == said.last_index
        && group.committed == said.last_index
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TopicId;

    const IDLE_SINCE: Mono = Mono(5_000_000_000);
    const PARTITION: GroupKey = GroupKey { topic: TopicId([9; 16]), partition: 0 };

    fn awake(partitions: i32) -> BTreeMap<GroupKey, ()> {
        let partitions = (0..partitions).map(|partition| GroupKey { partition, ..PARTITION });
        partitions.chain([GroupKey::METADATA]).map(|key| (key, ())).collect()
    }

    #[test]
    fn few_partitions_have_a_tick_at_once_and_the_metadata_has_its_own() {
        let awake = awake(399);
        let all: Vec<GroupKey> = awake.keys().copied().filter(|key| *key != GroupKey::METADATA).collect();
        let mut turns = Turns::new(Mono(0));
        for ms in (0..500).step_by(10) {
            let keys = turns.take(Mono(0).after_ms(ms), &awake);
            assert_eq!(keys, if ms % 50 == 0 { all.clone() } else { Vec::new() }, "{ms}");
        }
    }

    #[test]
    fn many_partitions_take_turns_and_none_is_left_behind_or_hurried() {
        for (partitions, most, period) in
            [(500, 250, 50), (1_999, 400, 50), (10_000, 400, 250), (11_999, 400, 300), (60_000, 2_000, 300)]
        {
            let awake = awake(partitions);
            let mut turns = Turns::new(Mono(0));
            let mut ticks: BTreeMap<GroupKey, Vec<i64>> = BTreeMap::new();
            for ms in 0..2_000 {
                let keys = turns.take(Mono(0).after_ms(ms), &awake);
                assert!(keys.len() <= most, "{partitions}: {} at once", keys.len());
                keys.into_iter().for_each(|key| ticks.entry(key).or_default().push(ms));
            }
            assert_eq!(ticks.len(), awake.len() - 1);
            for at in ticks.values() {
                let between = at.windows(2).map(|two| two[1] - two[0]);
                assert!(between.clone().all(|ms| ms <= period + 10), "{partitions}: {at:?}");
                assert!(between.clone().all(|ms| ms >= 40), "{partitions}: {at:?}");
            }
        }
    }

    #[test]
    fn turns_go_on_when_groups_fall_asleep_and_wake() {
        let mut awake = awake(5_000);
        let mut turns = Turns::new(Mono(0));
        let at = *turns.take(Mono(0), &awake).last().expect("many are awake");
        awake.remove(&at);
        let next = turns.take(Mono(0).after_ms(50), &awake);
        assert!(next[0] > at, "after the one that is gone");
        awake.retain(|key, ()| key.partition < 10);
        assert_eq!(turns.take(Mono(0).after_ms(100), &awake).len(), awake.len() - 1);
    }

    fn other(live: bool, matched: u64) -> OtherReplica {
        OtherReplica { live, voter: true, matched }
    }

    fn at_rest(others: &[OtherReplica]) -> LedGroup<'_> {
        LedGroup {
            others,
            key: PARTITION,
            last_index: 9,
            persisted: 9,
            committed: 9,
            confirmed: true,
            busy: false,
            kept_awake: false,
            last_activity: IDLE_SINCE,
        }
    }

    #[test]
    fn a_partition_sleeps_soon_after_its_last_activity_and_the_metadata_later() {
        let both = [other(true, 9), other(true, 9)];
        assert_eq!(may_sleep_at(&at_rest(&both)), Some(Mono(5_100_000_000)));
        assert_eq!(may_sleep_at(&at_rest(&[])), Some(Mono(5_100_000_000)), "a single voter too");
        let metadata = LedGroup { key: GroupKey::METADATA, ..at_rest(&both) };
        assert_eq!(may_sleep_at(&metadata), Some(Mono(8_000_000_000)));
    }

    #[test]
    fn whatever_is_unsettled_keeps_a_group_awake() {
        let both = [other(true, 9), other(true, 9)];
        let rest = at_rest(&both);
        for awake in [
            LedGroup { persisted: 8, ..rest },
            LedGroup { committed: 8, ..rest },
            LedGroup { confirmed: false, ..rest },
            LedGroup { busy: true, ..rest },
            LedGroup { kept_awake: true, ..rest },
        ] {
            assert_eq!(may_sleep_at(&awake), None, "{awake:?}");
        }
    }

    #[test]
    fn a_live_replica_that_is_behind_keeps_its_group_awake_and_a_dead_one_does_not() {
        assert_eq!(may_sleep_at(&at_rest(&[other(true, 9), other(true, 8)])), None);
        assert!(may_sleep_at(&at_rest(&[other(true, 9), other(false, 8)])).is_some());
        let learner = OtherReplica { live: true, voter: false, matched: 3 };
        assert_eq!(may_sleep_at(&at_rest(&[other(true, 9), learner])), None);
        let gone = OtherReplica { live: false, ..learner };
        assert!(may_sleep_at(&at_rest(&[other(true, 9), gone])).is_some());
    }

    #[test]
    fn a_leader_without_a_live_majority_stays_awake_to_be_deposed() {
        assert_eq!(may_sleep_at(&at_rest(&[other(false, 9), other(false, 9)])), None);
        assert_eq!(may_sleep_at(&at_rest(&[other(false, 9)])), None, "one of two is no majority");
        let learner = OtherReplica { live: true, voter: false, matched: 9 };
        assert_eq!(may_sleep_at(&at_rest(&[other(false, 9), learner])), None, "learners do not count");
    }

    #[test]
    fn a_follower_sleeps_only_where_it_stands_as_its_leader_says() {
        let key = GroupKey::METADATA;
        let said = Sleeping { key, epoch: 4, last_index: 9, last_term: 4 };
        let same = FollowedGroup { epoch: Some(4), last_index: 9, committed: 9 };
        assert!(follower_may_sleep(&same, &said));
        for awake in [
            FollowedGroup { epoch: Some(5), ..same },
            FollowedGroup { epoch: None, ..same },
            FollowedGroup { last_index: 10, ..same },
            FollowedGroup { last_index: 8, committed: 8, ..same },
            FollowedGroup { committed: 8, ..same },
        ] {
            assert!(!follower_may_sleep(&awake, &said), "{awake:?}");
        }
    }
}
