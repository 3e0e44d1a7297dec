//! Consumers that read at followers (KIP-392): where they are sent, and that they do not wait for watermarks.
use crate::partition::Partition;
use model::{GroupKey, Mono, NodeId, Now};

/// Followers hear of commits at once for so long after a consumer was sent to one, ms: twice the time after
/// which Kafka's consumers ask the leader again (`metadata.max.age.ms`).
const PROMPT_MS: i64 = 600_000;

impl Partition {
    /// The follower that a consumer of the leader is to read from: in sync, one of those that `fit`, with all
    /// that consumers of the leader may have seen, and with the most of the log. From then on followers hear of
    /// commits at once. `None`: the consumer stays here.
    pub fn preferred_follower(&mut self, now: Now, fit: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        self.leader_epoch()?;
        let (seen, own) =
            (self.applied_index(), self.members().iter().find(|m| m.id == self.replica_id)?.node_id);
        let replicas = self.replicas(now);
        let fits =
            replicas.iter().rev().filter(|r| r.in_sync && r.matched >= seen && r.node != own && fit(r.node));
        let found = fits.max_by_key(|r| r.matched).map(|r| r.node)?;
        if self.prompt_until.replace(now.mono.after_ms(PROMPT_MS)).is_none() {
            self.group.set_prompt_commit(true);
        }
        Some(found)
    }

    /// Nobody was sent to a follower for long, or others lead now.
    pub(crate) fn end_prompt_commits(&mut self, now: Now) {
        let over = |until: &mut Mono| *until <= now.mono || !self.group.is_leader();
        if self.prompt_until.take_if(over).is_some() && self.key != GroupKey::METADATA {
            self.group.set_prompt_commit(false);
        }
    }

    /// Whether followers hear of commits at once because consumers read there.
    pub fn commits_promptly(&self) -> bool {
        self.prompt_until.is_some()
    }
}
