//! When a group may sleep: no ticks at its leader nor at its followers, nothing said until somebody touches it.
//!
//! Ten thousand partitions at rest would otherwise exchange heartbeats of raft seven times a second each.
//! A group wakes by a touch, a message, a higher epoch in the table of leaders, or a lost lease.
use model::{GroupKey, LeaderEpoch, Mono};
use std::time::Duration;

/// A group is at rest after so long without activity.
pub(crate) const REST: Duration = Duration::from_secs(3);

/// What a leader tells each peer with a replica of a group when the group goes to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleeping {
    /// Which group.
    pub key: GroupKey,
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// The last entry of the leader's log; committed, and matched by every live replica.
    pub last_index: u64,
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
    may.then(|| group.last_activity.after(REST))
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
/// appended after it spoke, or not yet one that it speaks of, stays awake, as does one that has not heard that
/// the last entry is committed: its consumers would wait for it.
pub(crate) fn follower_may_sleep(group: &FollowedGroup, said: &Sleeping) -> bool {
    group.epoch == Some(said.epoch)
        && group.last_index == said.last_index
        && group.committed == said.last_index
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_SINCE: Mono = Mono(5_000_000_000);

    fn other(live: bool, matched: u64) -> OtherReplica {
        OtherReplica { live, voter: true, matched }
    }

    fn at_rest(others: &[OtherReplica]) -> LedGroup<'_> {
        LedGroup {
            others,
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
    fn a_group_sleeps_three_seconds_after_its_last_activity() {
        let both = [other(true, 9), other(true, 9)];
        assert_eq!(may_sleep_at(&at_rest(&both)), Some(Mono(8_000_000_000)));
        assert_eq!(may_sleep_at(&at_rest(&[])), Some(Mono(8_000_000_000)), "a single voter too");
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
        let said = Sleeping { key, epoch: 4, last_index: 9 };
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
