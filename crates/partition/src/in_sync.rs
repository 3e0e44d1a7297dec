//! Which replicas are in sync: live, and caught up within `replica.lag.time.max.ms`, as in Apache Kafka.
use crate::api::PartitionFx;
use crate::partition::Partition;
use model::{Mono, NodeId, Now};
use storage::ReplicaKind;

/// A replica that reached what the leader had no longer ago than this keeps up.
const KEEPS_UP_MS: i64 = 1_000;

/// How far one follower is, as its leader sees it.
#[derive(Clone, Copy, Debug)]
struct Row {
    replica: u64,
    matched: u64,
    /// When it last had all that the leader had then.
    caught_up: Option<Mono>,
    /// What it has to reach for that to be later, and since when the leader has it.
    goal: (u64, Mono),
}

/// The followers of a leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct InSync {
    rows: Vec<Row>,
}

/// A replica and whether it is in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InSyncReplica {
    /// Its node.
    pub node: NodeId,
    /// Entries that it has persisted.
    pub matched: u64,
    /// Whether it votes; a learner counts for nothing that is promised.
    pub votes: bool,
    /// Whether it had all that the leader had, no longer ago than `replica.lag.time.max.ms`.
    pub in_sync: bool,
}

impl InSync {
    /// A follower has persisted entries up to `matched`, the leader has `last`.
    fn note(&mut self, now: Mono, replica: u64, matched: u64, last: u64) {
        let at = match self.rows.iter().position(|r| r.replica == replica) {
            Some(at) => at,
            None => {
                self.rows.push(Row { replica, matched: 0, caught_up: None, goal: (last, now) });
                self.rows.len() - 1
            }
        };
        let row = &mut self.rows[at];
        row.matched = matched;
        if matched >= last {
            row.caught_up = Some(now);
        } else if matched >= row.goal.0 {
            row.caught_up = row.caught_up.max(Some(row.goal.1));
        }
        if matched >= row.goal.0 {
            row.goal = (last, now);
        }
    }

    pub(crate) fn caught_up_at(&self, replica: u64) -> Option<Mono> {
        self.rows.iter().find(|r| r.replica == replica).and_then(|r| r.caught_up)
    }

    fn is_in_sync(&self, now: Mono, replica: u64, last: u64, lag_ms: i64) -> bool {
        let row = self.rows.iter().find(|r| r.replica == replica);
        row.is_some_and(|r| r.matched >= last || r.caught_up.is_some_and(|at| at.after_ms(lag_ms) >= now))
    }
}

impl Partition {
    /// Takes note of how far the followers are; appends that wait for more of them than a commit needs may
    /// be answered.
    pub(crate) fn look_at_followers(&mut self, now: Now, fx: &mut Vec<PartitionFx>) {
        if self.group.is_alone() || !self.group.is_leader() {
            return;
        }
        let last = self.group.last_index();
        for follower in self.group.followers() {
            self.in_sync.note(now.mono, follower.replica_id, follower.matched, last);
        }
        let wanted = usize::try_from(self.cfg.min_insync_replicas).unwrap_or(0);
        if wanted > self.group.voters().len() / 2 + 1 {
            let voters = self.group.voters();
            let voting = self.group.followers().filter(|f| voters.contains(&f.replica_id));
            let mut matched: Vec<u64> = voting.map(|f| f.matched).collect();
            matched.sort_unstable_by(|a, b| b.cmp(a));
            let enough = matched.get(wanted - 1).copied().unwrap_or(0);
            self.acks.on_enough(Some(enough), self.marks.log_start(), fx);
        } else {
            self.acks.on_enough(None, self.marks.log_start(), fx);
        }
    }

    /// Its replicas as a leader sees them, in the order of the members; empty on a follower. One whose node
    /// is not live is not in sync, see [`Partition::set_down`].
    pub fn replicas(&self, now: Now) -> Vec<InSyncReplica> {
        if !self.group.is_leader() {
            return Vec::new();
        }
        let (last, lag) = (self.group.last_index(), self.cfg.replica_lag_ms);
        let alone = self.group.is_alone();
        let row = |m: &storage::Replica| {
            let ours = m.id == self.replica_id;
            let row = self.in_sync.rows.iter().find(|r| r.replica == m.id);
            let live = !self.down.contains(&m.node_id);
            let in_sync = ours || alone || live && self.in_sync.is_in_sync(now.mono, m.id, last, lag);
            let matched = row.map_or(0, |r| r.matched);
            let votes = m.kind() != ReplicaKind::Learner;
            InSyncReplica { node: m.node_id, matched, votes, in_sync }
        };
        self.members().iter().map(row).collect()
    }

    /// Whether a replica has what this leader has, or had it a moment ago: it may vote from now on without making
    /// everybody wait for it.
    pub fn keeps_up(&self, now: Now, replica: u64) -> bool {
        self.in_sync.is_in_sync(now.mono, replica, self.group.last_index(), KEEPS_UP_MS)
    }

    /// The nodes whose replicas are in sync.
    pub fn in_sync_replicas(&self, now: Now) -> Vec<NodeId> {
        self.replicas(now).iter().filter(|r| r.in_sync).map(|r| r.node).collect()
    }

    /// The nodes that are not live, of those that hold a replica.
    pub fn set_down(&mut self, down: impl Fn(NodeId) -> bool) {
        self.down = self.members().iter().map(|m| m.node_id).filter(|n| down(*n)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_in_sync_for_as_long_as_it_keeps_up_however_busy_the_leader_is() {
        let mut followers = InSync::default();
        let in_sync = |f: &InSync, now: u64, last| f.is_in_sync(Mono(now * 1_000_000), 2, last, 100);
        // Always ten entries behind, but never for long.
        for at in 0..50u64 {
            followers.note(Mono(at * 20_000_000), 2, at * 10, at * 10 + 10);
            assert!(at < 2 || in_sync(&followers, at * 20, at * 10 + 10), "{at}");
        }
        assert!(!in_sync(&followers, 49 * 20 + 200, 500), "it fell silent");
        followers.note(Mono(2_000_000_000), 2, 500, 900);
        assert!(!in_sync(&followers, 2_000, 900), "what it reached is old");
        followers.note(Mono(2_010_000_000), 2, 900, 900);
        assert!(in_sync(&followers, 2_010, 900));
        assert!(in_sync(&followers, 9_999, 900), "nothing is missing, however long ago");
    }

    #[test]
    fn a_follower_that_was_never_heard_is_not_in_sync() {
        let mut followers = InSync::default();
        assert!(!followers.is_in_sync(Mono(5), 2, 1, 100));
        followers.note(Mono(5), 2, 0, 7);
        assert!(!followers.is_in_sync(Mono(6), 2, 7, 100));
    }
}
