//! Which replicas are in sync: live, and caught up within `replica.lag.time.max.ms`, as in Apache Kafka.
use crate::api::{AppendError, PartitionFx};
use crate::partition::Partition;
use model::{ErrorCode, Mono, NodeId, Now};
use storage::ReplicaKind;

/// A replica that reached what the leader had no longer ago than this keeps up.
const KEEPS_UP_MS: i64 = 1_000;

/// A replica that was in sync when its node was lost counts for this long when an append asks whether there are enough: a
/// lease that is back in a moment refuses nobody. The answer waits for copies all the same.
const ADMITS_FOR_MS: i64 = 500;

/// A replica that is not there, see [`Partition::set_down`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Down {
    replica: u64,
    since: Mono,
    /// Whether this leader counted it among those in sync until then.
    was_in_sync: bool,
}

/// How far one follower is, as its leader sees it.
#[derive(Clone, Copy, Debug)]
struct Row {
    replica: u64,
    matched: u64,
    /// When it last had all that the leader had then.
    caught_up: Option<Mono>,
    /// What it has to reach for that to be later, and since when the leader has it.
    goal: (u64, Mono),
    /// Whether a witness is told nothing that this replica lacks, and since when its leader leads.
    awaited: bool,
    since: Mono,
    /// Whether it had all that witnesses were told at some time since it is awaited: from then on it always has.
    whole: bool,
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
    /// Whether it holds no data; it is never in sync.
    pub witness: bool,
    /// Whether it had all that the leader had, no longer ago than `replica.lag.time.max.ms`.
    pub in_sync: bool,
}

impl InSync {
    /// A follower has persisted entries up to `matched`, the leader has `last`. `down`: it is not there.
    fn note(&mut self, now: Mono, replica: u64, matched: u64, last: u64, down: bool) {
        let at = match self.rows.iter().position(|r| r.replica == replica) {
            Some(at) => at,
            None => {
                let goal = (last, now);
                let row = Row {
                    replica,
                    matched: 0,
                    caught_up: None,
                    goal,
                    awaited: true,
                    since: now,
                    whole: false,
                };
                self.rows.push(row);
                self.rows.len() - 1
            }
        };
        let row = &mut self.rows[at];
        // A replica that was brought up anew, or lost what it had, begins again.
        row.whole &= matched >= row.matched;
        // Up to this change it had everything, however long ago that was noted: partitions sleep.
        if !down && row.matched >= row.goal.0 {
            row.goal.1 = now;
        }
        row.matched = matched;
        if matched >= row.goal.0 {
            row.caught_up = row.caught_up.max(Some(row.goal.1));
            // One that is not there gets no later goal before the leader has more.
            if !down || last > row.goal.0 {
                row.goal = (last, now);
            }
        }
        if !down && matched >= last {
            row.caught_up = Some(now);
        }
    }

    /// When a follower last had all that its leader had then: now, while it is there and has everything.
    fn caught_up_at(&self, now: Mono, replica: u64, last: u64, down: bool) -> Option<Mono> {
        let row = self.rows.iter().find(|r| r.replica == replica)?;
        if row.matched >= last && !down { Some(now) } else { row.caught_up }
    }

    /// A follower is not there from now on: one that had everything had it until now.
    fn note_down(&mut self, now: Mono, replica: u64) {
        for row in self.rows.iter_mut().filter(|r| r.replica == replica && r.matched >= r.goal.0) {
            row.goal.1 = now;
            row.caught_up = Some(now);
        }
    }

    /// Whether a data replica is waited for before a witness is told what it lacks. At first each one on a live node
    /// is: the leader before may have counted on it. That ends when its node dies, when it needs a checkpoint, or when
    /// it is not in sync; and begins again when it keeps up.
    pub(crate) fn waits_for(&mut self, now: Mono, replica: u64, live: bool, last: u64, lag_ms: i64) -> bool {
        let lag = |awaited| if awaited { lag_ms } else { KEEPS_UP_MS.min(lag_ms) };
        let Some(at) = self.rows.iter().position(|r| r.replica == replica) else { return live };
        let row = self.rows[at];
        let new = row.awaited && row.caught_up.is_none() && row.since.after_ms(lag_ms) >= now;
        let awaited = live && (new || self.is_in_sync(now, replica, last, lag(row.awaited)));
        self.rows[at].awaited = awaited;
        awaited
    }

    /// Witnesses were told everything up to `released`.
    pub(crate) fn note_released(&mut self, released: u64) {
        for row in &mut self.rows {
            row.whole = row.awaited && (row.whole || row.matched >= released);
        }
    }

    /// A replica needs what its leader can send it by a checkpoint alone.
    pub(crate) fn is_behind(&mut self, replica: u64) {
        for row in self.rows.iter_mut().filter(|r| r.replica == replica && r.caught_up.is_none()) {
            row.awaited = false;
        }
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
            let down = self.down.iter().any(|d| d.replica == follower.replica_id);
            self.in_sync.note(now.mono, follower.replica_id, follower.matched, last, down);
        }
        let wanted = usize::try_from(self.cfg.min_insync_replicas).unwrap_or(0);
        // A commit may rest on witnesses, which are no copies.
        if wanted + self.voting_witnesses() > self.group.voters().len() / 2 + 1 {
            let (voters, members) = (self.group.voters(), self.group.membership());
            let copies = |id: &u64| voters.contains(id) && !members.is_witness(*id);
            let voting = self.group.followers().filter(|f| copies(&f.replica_id));
            let mut matched: Vec<u64> = voting.map(|f| f.matched).collect();
            matched.sort_unstable_by(|a, b| b.cmp(a));
            let enough = matched.get(wanted - 1).copied().unwrap_or(0);
            self.acks.on_enough(Some(enough), self.marks.log_start(), fx);
            if self.acks.wait_for_more() {
                self.give_up_waiting(now, wanted, fx);
            }
        } else {
            self.acks.on_enough(None, self.marks.log_start(), fx);
        }
    }

    /// Appends that are committed and wait for more replicas than are in sync any more are answered so: the records
    /// are there and visible.
    fn give_up_waiting(&mut self, now: Now, wanted: usize, fx: &mut Vec<PartitionFx>) {
        let in_sync = self.admitted(now);
        if in_sync < wanted {
            let why = format!("{in_sync} replicas are in sync, min.insync.replicas is {wanted}");
            let error = AppendError::new(ErrorCode::NotEnoughReplicasAfterAppend, why);
            self.acks.fail_committed(&error, fx);
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
        let with_witness = self.group.membership().has_witness();
        let row = |m: &storage::Replica| {
            let ours = m.id == self.replica_id;
            let row = self.in_sync.rows.iter().find(|r| r.replica == m.id);
            let lost = self.member_on(m.node_id).is_some_and(|newest| newest.id != m.id);
            let live = !self.is_down(m.id) && !lost;
            let matched = row.map_or(0, |r| r.matched);
            let votes = m.kind() != ReplicaKind::Learner;
            // Beside a witness only one counts that votes, that the witness waits for, and that lacks nothing it was
            // told: on these two disks are all that is committed.
            let counts = !with_witness || votes && row.is_some_and(|r| r.whole);
            let keeps_up = live && counts && self.in_sync.is_in_sync(now.mono, m.id, last, lag);
            let in_sync = !m.witness && (ours || alone || keeps_up);
            InSyncReplica { node: m.node_id, matched, votes, witness: m.witness, in_sync }
        };
        self.members().iter().map(row).collect()
    }

    /// When a follower last had all that its leader, which is here, had then: now, while it is live and lacks nothing,
    /// whether anything is appended or not. `None`: not since this leader leads, or it does not lead.
    pub fn caught_up_at(&self, now: Now, replica: u64) -> Option<Mono> {
        self.in_sync.caught_up_at(now.mono, replica, self.group.last_index(), self.is_down(replica))
    }

    /// Nodes of the other replicas that hold data, as a leader sees them, and by how many entries of the log each is
    /// behind: the leader knows entries of its followers and not offsets. One that it has not heard of since it leads
    /// counts as having nothing. Empty on a follower.
    pub fn replica_lags(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let last = self.group.last_index();
        let others = self.members().iter().filter(|m| m.id != self.replica_id && !m.witness);
        let leads = self.group.is_leader();
        others.filter(move |_| leads).map(move |m| {
            let follower = self.group.followers().find(|f| f.replica_id == m.id);
            (m.node_id, last.saturating_sub(follower.map_or(0, |f| f.matched)))
        })
    }

    /// Replicas that vote and hold data.
    pub(crate) fn data_voters(&self) -> usize {
        self.group.voters().len() - self.voting_witnesses()
    }

    /// Whether a replica has what this leader has, or had it a moment ago: it may vote from now on without making
    /// everybody wait for it. One that is not there does not, see [`Partition::set_down`].
    pub fn keeps_up(&self, now: Now, replica: u64) -> bool {
        !self.is_down(replica)
            && self.in_sync.is_in_sync(now.mono, replica, self.group.last_index(), KEEPS_UP_MS)
    }

    /// The nodes whose replicas are in sync.
    pub fn in_sync_replicas(&self, now: Now) -> Vec<NodeId> {
        self.replicas(now).iter().filter(|r| r.in_sync).map(|r| r.node).collect()
    }

    /// How many voting replicas there are for the promise of `min.insync.replicas`: those in sync, and those that were
    /// a moment ago.
    pub(crate) fn admitted(&self, now: Now) -> usize {
        let in_sync = self.replicas(now).iter().filter(|r| r.in_sync && r.votes).count();
        let lately = |d: &&Down| d.was_in_sync && d.since.after_ms(ADMITS_FOR_MS) >= now.mono;
        in_sync + self.down.iter().filter(lately).filter(|d| self.group.voters().contains(&d.replica)).count()
    }

    pub(crate) fn is_down(&self, replica: u64) -> bool {
        self.down.iter().any(|d| d.replica == replica)
    }

    /// Which members are not there: their nodes are not live, or their files are lost.
    pub fn set_down(&mut self, now: Now, down: impl Fn(&storage::Replica) -> bool) {
        let replicas = self.replicas(now);
        let note = |(at, m): (usize, &storage::Replica)| {
            let known = self.down.iter().find(|d| d.replica == m.id).copied();
            let was_in_sync = replicas.get(at).is_some_and(|r| r.in_sync);
            known.unwrap_or(Down { replica: m.id, since: now.mono, was_in_sync })
        };
        let all: Vec<Down> = self.members().iter().enumerate().filter(|(_, m)| down(m)).map(note).collect();
        let known = std::mem::replace(&mut self.down, all);
        for lost in self.down.iter().filter(|d| known.iter().all(|k| k.replica != d.replica)) {
            self.in_sync.note_down(now.mono, lost.replica);
        }
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
            followers.note(Mono(at * 20_000_000), 2, at * 10, at * 10 + 10, false);
            assert!(at < 2 || in_sync(&followers, at * 20, at * 10 + 10), "{at}");
        }
        assert!(!in_sync(&followers, 49 * 20 + 200, 500), "it fell silent");
        followers.note(Mono(2_000_000_000), 2, 500, 900, false);
        assert!(!in_sync(&followers, 2_000, 900), "what it reached is old");
        followers.note(Mono(2_010_000_000), 2, 900, 900, false);
        assert!(in_sync(&followers, 2_010, 900));
        assert!(in_sync(&followers, 9_999, 900), "nothing is missing, however long ago");
    }

    #[test]
    fn a_follower_that_was_never_heard_is_not_in_sync() {
        let mut followers = InSync::default();
        assert!(!followers.is_in_sync(Mono(5), 2, 1, 100));
        followers.note(Mono(5), 2, 0, 7, false);
        assert!(!followers.is_in_sync(Mono(6), 2, 7, 100));
    }
}
