//! Changes of the membership: proposed by the leader one at a time, applied by every replica when committed.
use crate::error::ChangeError;
use crate::group::Group;
use crate::members::{MemberChange, Membership, Misfit, reset_of};
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use storage::Replica;

impl Group {
    /// The members as of the applied index, in the order of their coming.
    pub fn members(&self) -> &[Replica] {
        self.members.rows()
    }

    /// The same, and what can be asked of it.
    pub fn membership(&self) -> &Membership {
        &self.members
    }

    /// Proposes a change of the membership; it is in the next `ready`, and holds once it is applied: see
    /// [`Group::members`]. A joint one is ended by the leader itself. Errors: see [`ChangeError`].
    pub fn propose_change(&mut self, change: &MemberChange) -> Result<(), ChangeError> {
        // A leader that has committed nothing of its own term may not know of the last change (the gap of
        // single-server changes, raft-dev 2015).
        if self.leader_epoch().is_none() {
            return Err(ChangeError::NotLeader);
        }
        if self.change_pending() {
            return Err(ChangeError::Pending);
        }
        if let MemberChange::Replace { remove, .. } = change
            && remove.contains(&self.params.replica_id)
        {
            return Err(ChangeError::Misfit(Misfit::Leader));
        }
        if let MemberChange::Reset { replica_id, .. } = change
            && (*replica_id != self.params.replica_id || self.voters() != [*replica_id])
        {
            return Err(ChangeError::Misfit(Misfit::NotAlone));
        }
        let data = change.encode();
        self.members.after(&data)?;
        let mut entry = Entry { data, ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        let mut message = Message { from: self.params.replica_id, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![entry].into());
        self.node.raft.step(message).map_err(|_| ChangeError::Dropped)
    }

    /// The entry `index` of `term` is known to be committed, from somebody who was told so by a leader. Where it
    /// stands in the log here, so is everything before it (log matching). Call [`Group::ready`] afterwards.
    pub fn known_committed(&mut self, index: u64, term: u64) {
        if !self.is_leader() && index <= self.last_index() {
            self.node.raft.raft_log.maybe_commit(index, term);
        }
    }

    /// Whether a change is not applied yet, or, early in a term, may not be.
    pub fn change_pending(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// Applies a committed change of an entry of `term`. Errors: it does not fit, and nothing has changed.
    pub(crate) fn apply_change(&mut self, term: u64, payload: &Bytes) -> Result<(), Misfit> {
        if term < self.params.changes_from {
            // Of a membership that was given up.
            return Ok(());
        }
        let next = self.members.after(payload)?;
        for step in self.members.to_raft(payload)? {
            self.node.apply_conf_change(&step).map_err(|_| Misfit::Form)?;
        }
        self.members = next;
        self.was_reset |= reset_of(payload).is_some_and(|(id, _)| id == self.params.replica_id);
        Ok(())
    }

    /// The term before which changes of the membership do not count, see [`crate::GroupParams::changes_from`].
    pub fn changes_from(&self) -> u64 {
        self.params.changes_from
    }

    /// Whether an entry was applied since the start that made this replica all of its group.
    pub fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// A leader that is no member any more leads no more. It hands over before it is removed, but may have
    /// been elected with its own removal in its log.
    pub(crate) fn leave_if_removed(&mut self) {
        if self.is_leader() && self.members.kind_of(self.params.replica_id).is_none() {
            let raft = &mut self.node.raft;
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
        }
    }
}
