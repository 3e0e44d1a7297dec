//! What a group is made of, and how raft is set up for it.
use crate::members::Membership;
use model::GroupKey;

/// Milliseconds between two calls of `Group::tick` while a group is awake.
pub const TICK_MS: u64 = 50;
/// A leader's heartbeat: 150 ms.
const HEARTBEAT_TICKS: usize = 3;
/// The shortest election timeout: 1 s.
const ELECTION_TICKS: usize = 20;
/// Election timeouts stay below this: 1.5 s.
const MAX_ELECTION_TICKS: usize = 30;
/// Append messages in flight to one follower; raft allocates 8 bytes for each at once.
const INFLIGHT_MESSAGES: usize = 64;
/// Bytes of entries in one append message.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Bytes that one Ready may commit. Committed entries carry no payload, so this bounds their number.
const COMMITTED_BYTES_PER_READY: u64 = 16 << 20;

/// What a group starts from.
#[derive(Clone, Debug)]
pub struct GroupParams {
    /// Which group.
    pub key: GroupKey,
    /// This replica's id, never 0.
    pub replica_id: u64,
    /// The members at `commit`. This replica may not be among them yet, or no more.
    pub members: Membership,
    /// The newest term that is known, from the state log or the last frame.
    pub term: u64,
    /// The vote in that term; 0 for none.
    pub vote: u64,
    /// Commit index. Everything up to it counts as applied.
    pub commit: u64,
    /// Payload bytes that may wait for commit before proposals are refused.
    pub max_uncommitted_bytes: u64,
    /// Followers are told of each commit at once, instead of with the next append or heartbeat.
    pub prompt_commit: bool,
    /// Changes of the membership in entries of lower terms do not count: this replica was made all of its group
    /// after them, see [`crate::MemberChange::Reset`]. 0: all count.
    pub changes_from: u64,
    /// Election timeouts are a pure function of this, the group, the replica, the term and how many
    /// timeouts were drawn before.
    pub seed: u64,
}

impl GroupParams {
    pub(crate) fn raft_config(&self) -> raft::Config {
        raft::Config {
            id: self.replica_id,
            election_tick: ELECTION_TICKS,
            min_election_tick: ELECTION_TICKS,
            max_election_tick: MAX_ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: self.commit,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: INFLIGHT_MESSAGES,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY,
            check_quorum: true,
            pre_vote: true,
            skip_bcast_commit: !self.prompt_commit,
            // raft joins entries to a waiting message without entries, wherever that message stands.
            batch_append: false,
            ..raft::Config::default()
        }
    }

    /// The election timeout of this replica in `term` after `draws` earlier ones, ticks.
    pub(crate) fn election_timeout(&self, term: u64, draws: u64) -> usize {
        let (high, low) = self.key.topic.0.split_at(8);
        let word = |b: &[u8]| b.iter().fold(0u64, |acc, x| (acc << 8) | u64::from(*x));
        let parts = [word(high), word(low), self.key.partition as u64, self.replica_id, term, draws];
        let mixed = parts.iter().fold(self.seed, |acc, part| mix(acc ^ *part));
        ELECTION_TICKS + (mixed % (MAX_ELECTION_TICKS - ELECTION_TICKS) as u64) as usize
    }
}

/// The finalizer of splitmix64.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn election_timeouts_depend_on_each_input_and_stay_in_range() {
        let params = |replica_id, seed| GroupParams {
            key: GroupKey::METADATA,
            replica_id,
            members: Membership::default(),
            term: 0,
            vote: 0,
            commit: 0,
            max_uncommitted_bytes: 1,
            prompt_commit: false,
            changes_from: 0,
            seed,
        };
        let row = |p: &GroupParams| (0..40u64).map(|t| p.election_timeout(t, t % 3)).collect::<Vec<_>>();
        let first = row(&params(1, 7));
        assert_eq!(first, row(&params(1, 7)));
        assert_ne!(first, row(&params(2, 7)));
        assert_ne!(first, row(&params(1, 8)));
        assert!(first.iter().all(|t| (ELECTION_TICKS..MAX_ELECTION_TICKS).contains(t)));
        assert!(first.iter().any(|t| *t != first[0]));
    }
}
