//! Who holds a replica of a partition, and changes of that.
use crate::api::PartitionFx;
use crate::partition::{Partition, Phase};
use consensus::{ChangeError, Follower, MemberChange, Misfit};
use model::{ErrorCode, NodeId, Now};
use storage::{Directory, Replica};

impl Partition {
    /// Its replicas, as of the applied index.
    pub fn members(&self) -> &[Replica] {
        self.group.members()
    }

    /// The member on a node. Where a lost replica is a member still, that is the one that took its place, with the
    /// higher id.
    pub(crate) fn member_on(&self, node: NodeId) -> Option<&Replica> {
        self.members().iter().filter(|m| m.node_id == node).max_by_key(|m| m.id)
    }

    /// This replica's id.
    pub fn replica_id(&self) -> u64 {
        self.replica_id
    }

    /// Members of the group as this replica knows them, and how many of them vote.
    pub fn member_counts(&self) -> (usize, usize) {
        (self.group.members().len(), self.group.voters().len())
    }

    /// Whether nobody else votes; others may follow.
    pub fn votes_alone(&self) -> bool {
        self.group.voters() == [self.replica_id]
    }

    /// Whether two memberships decide together at present.
    pub fn is_joint(&self) -> bool {
        self.group.membership().is_joint()
    }

    /// Proposes a change of the members; [`PartitionFx::Members`] tells when it holds. Errors: see
    /// [`ChangeError`].
    pub fn propose_change(
        &mut self,
        now: Now,
        change: &MemberChange,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) -> Result<(), ChangeError> {
        if self.phase != Phase::Running || dir.fenced().is_some() {
            return Err(ChangeError::NotLeader);
        }
        let result = self.group.propose_change(change);
        self.pump(now, dir, fx);
        result
    }

    /// Whether an entry was applied since the start that made this replica all of its group.
    pub fn was_reset(&self) -> bool {
        self.group.was_reset()
    }

    /// Whether a change of the members is not applied yet, or may not be.
    pub fn change_pending(&self) -> bool {
        self.group.change_pending()
    }

    /// How far the others are, on a leader; else empty.
    pub fn followers(&self) -> impl Iterator<Item = Follower> + '_ {
        self.group.followers()
    }

    /// Where replicas are that are no members as far as this one knows: one that is new hears from a leader
    /// of which its log says nothing yet.
    pub fn set_addresses(&mut self, addresses: Vec<(u64, NodeId)>) {
        self.addresses = addresses;
    }

    /// The entry `index` of `term` is known to be committed: a membership that it, or one before it, brought about
    /// holds here too, although nobody that was removed by it can be asked any more.
    pub fn set_agreed(&mut self, index: u64, term: u64) {
        self.agreed = (index > self.applied.index).then_some((index, term));
    }

    /// Does what [`Partition::set_agreed`] brought about.
    pub fn look(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        self.pump(now, dir, fx);
    }

    /// Index and term of the last applied entry.
    pub fn applied_point(&self) -> (u64, u64) {
        (self.applied.index, self.applied.term)
    }

    /// Whether `replica` is on `node`, as a member or by [`Partition::set_addresses`].
    pub fn knows(&self, replica: u64, node: NodeId) -> bool {
        self.node_of(replica) == Some(node) || self.addresses.contains(&(replica, node))
    }

    pub(crate) fn node_of(&self, replica: u64) -> Option<NodeId> {
        let member = self.members().iter().find(|m| m.id == replica).map(|m| m.node_id);
        member.or_else(|| self.addresses.iter().find(|(id, _)| *id == replica).map(|(_, node)| *node))
    }

    /// A committed change does not fit the members: what was agreed upon cannot be carried out here.
    pub(crate) fn break_at(&mut self, index: u64, misfit: Misfit, fx: &mut Vec<PartitionFx>) {
        self.fail(ErrorCode::KafkaStorageError, fx);
        fx.push(PartitionFx::Failed(format!("entry {index} of {}: {misfit}", self.key)));
    }
}
