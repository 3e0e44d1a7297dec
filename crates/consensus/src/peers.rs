//! The other replicas of a group: their messages, entries that they are behind by, who leads.
use crate::context::EntryContext;
use crate::group::{Group, GroupFx, NewEntry};
use crate::members::Misfit;
use crate::peer_message::PeerMessage;
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{GetEntriesContext, ProgressState, ReadState, StateRole};
use storage::{EntryHead, EntryKind};

/// Entries to read back for a follower that is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntriesAsk {
    /// Names the wish for [`Group::on_entries`].
    pub number: u64,
    /// The first index.
    pub low: u64,
    /// The index after the last; what is read may end before it.
    pub high: u64,
    /// Payload bytes, but one entry whatever its size.
    pub max_bytes: u64,
}

/// A wish that is being fulfilled.
#[derive(Debug)]
pub(crate) struct Ask {
    number: u64,
    low: u64,
    contexts: Vec<GetEntriesContext>,
}

/// Why a message was not taken in. The peer's log and ours cannot both be what raft takes them for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The leader says that this replica had more than it has: synced entries were lost here.
    #[error("the leader counts entry {theirs} as ours, the last one here is {last}")]
    Lost {
        /// What the leader counts on.
        theirs: u64,
        /// The last index here.
        last: u64,
    },
    /// An entry differs from one that is committed here.
    #[error("entry {index} differs from the one that is committed here")]
    ContradictsCommit {
        /// Its index.
        index: u64,
    },
    /// Entries do not begin at the offset where the log ends.
    #[error("entry {index} begins at offset {found}, the one before it ends at {expected}")]
    Offsets {
        /// The first entry that does not fit.
        index: u64,
        /// Its offset.
        found: i64,
        /// Where it had to begin.
        expected: i64,
    },
    /// A follower says that it holds what was never written here.
    #[error("a follower acknowledges entry {theirs}, the last one here is {last}")]
    NeverSent {
        /// What it acknowledges.
        theirs: u64,
        /// The last index here.
        last: u64,
    },
    /// A data entry without its batches for a replica that holds data, or one with them for a witness.
    #[error("entry {index} is not of the form that this replica keeps")]
    Bare {
        /// Its index.
        index: u64,
    },
    /// An entry changes the membership in a way that does not fit what it is then.
    #[error("entry {index} does not fit the membership: {misfit}")]
    Members {
        /// Its index.
        index: u64,
        /// Why not.
        misfit: Misfit,
    },
    /// Nothing that replicas here tell one another.
    #[error("a message of a kind that is not sent")]
    Unexpected,
}

/// How far a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Its replica id.
    pub replica_id: u64,
    /// Entries that it has persisted.
    pub matched: u64,
    /// Whether it was heard since the last look of check-quorum.
    pub active: bool,
    /// The index of a snapshot that is on its way to it; 0 for none.
    pub pending_snapshot: u64,
    /// Whether its log was found to go on where the leader's does, and is being filled from there.
    pub replicating: bool,
}

impl Group {
    /// Takes a message from another replica. What raft itself refuses is dropped in silence (old terms,
    /// strangers). Errors: see [`Refused`]; nothing has changed then.
    pub fn step(&mut self, mut message: PeerMessage) -> Result<(), Refused> {
        if !self.heed(&mut message.0) {
            return Ok(());
        }
        self.judge(&message.0)?;
        let _ = self.node.step(message.0);
        self.fix_timeout();
        Ok(())
    }

    /// Guards raft's assertions against what a peer may send.
    fn judge(&self, m: &Message) -> Result<(), Refused> {
        let last = self.last_index();
        match m.get_msg_type() {
            MessageType::MsgHeartbeat if m.commit > last && m.term >= self.term() => {
                Err(Refused::Lost { theirs: m.commit, last })
            }
            MessageType::MsgAppend if m.term >= self.term() => self.judge_append(m),
            // One that leads no more may have sent what its disk has lost since.
            MessageType::MsgAppendResponse
                if !m.reject && m.index > last && m.term == self.term() && self.is_leader() =>
            {
                Err(Refused::NeverSent { theirs: m.index, last })
            }
            MessageType::MsgSnapshot
            | MessageType::MsgPropose
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgTransferLeader => Err(Refused::Unexpected),
            _ => Ok(()),
        }
    }

    fn judge_append(&self, m: &Message) -> Result<(), Refused> {
        let log = &self.node.raft.raft_log;
        let (view, committed) = (self.node.store(), log.committed);
        let other = if self.witness { EntryKind::Data } else { EntryKind::Bare };
        let unfit = |e: &&Entry| EntryContext::decode(&e.context).is_some_and(|c| c.kind == other);
        if let Some(entry) = m.entries.iter().find(unfit) {
            return Err(Refused::Bare { index: entry.index });
        }
        if m.index < committed {
            return Ok(());
        }
        // Whoever leads has all that is committed; of an older term its log cannot be there.
        if log.term(committed).is_ok_and(|term| m.log_term < term) {
            return Err(Refused::ContradictsCommit { index: committed });
        }
        if log.term(m.index).unwrap_or(0) != m.log_term {
            return Ok(());
        }
        let known = |e: &&Entry| e.index <= log.last_index() && log.term(e.index).unwrap_or(0) == e.term;
        let Some(first) = m.entries.iter().find(|e| !known(e)) else { return Ok(()) };
        if first.index <= committed {
            return Err(Refused::ContradictsCommit { index: first.index });
        }
        // What raft has taken in and not handed out yet stands between the view and the message.
        let unstable = log.unstable_entries();
        let before = unstable.first().map_or(first.index, |e| e.index.min(first.index)) - 1;
        let mut expected = view.offset_after(before);
        for context in unstable.iter().filter(|e| e.index < first.index).map(|e| &e.context) {
            let Some(c) = EntryContext::decode(context) else { continue };
            expected = Some(c.base_offset + i64::from(c.offset_count));
        }
        for entry in m.entries.iter().skip_while(|e| e.index < first.index) {
            let Some(context) = EntryContext::decode(&entry.context) else { continue };
            if let Some(expected) = expected.filter(|e| *e != context.base_offset) {
                let found = context.base_offset;
                return Err(Refused::Offsets { index: entry.index, found, expected });
            }
            expected = Some(context.base_offset + i64::from(context.offset_count));
        }
        self.judge_changes(first.index, &m.entries)
    }

    /// Whether every configuration change among the new entries, from `first` on, fits what the membership
    /// will be at its turn: the applied one, changed by what lies between.
    fn judge_changes(&self, first: u64, entries: &[Entry]) -> Result<(), Refused> {
        let changes = |e: &&Entry| e.get_entry_type() != EntryType::EntryNormal;
        let new = || entries.iter().filter(|e| e.index >= first).filter(changes);
        if new().next().is_none() {
            return Ok(());
        }
        let unstable = self.node.raft.raft_log.unstable_entries();
        let handed_out = unstable.first().map_or(first, |e| e.index.min(first));
        let between = unstable.iter().filter(|e| e.index < first).filter(changes).map(|e| &e.data);
        let mut members = self.members.clone();
        for payload in self.node.store().changes_before(handed_out).chain(between) {
            // One that does not fit stops this replica when it is committed, not before.
            members = members.after(payload).unwrap_or(members);
        }
        for entry in new() {
            let refused = |misfit| Refused::Members { index: entry.index, misfit };
            members = members.after(&entry.data).map_err(refused)?;
        }
        Ok(())
    }

    /// Entries from `index` on are replaced: what was to be said once they were durable is never said.
    pub(crate) fn give_up_from(&mut self, index: u64) {
        self.node.mut_store().truncate_from(index);
        self.persisted.0 = self.persisted.0.min(index - 1);
        for open in &mut self.unpersisted {
            open.last_index = open.last_index.min(index - 1);
            open.messages.retain(|m| {
                let m = &m.0;
                let acknowledges = m.get_msg_type() == MessageType::MsgAppendResponse && !m.reject;
                !acknowledges || m.index < index
            });
        }
    }

    /// Hands out what raft wants to read, each wish once.
    pub(crate) fn take_asked(&mut self, fx: &mut GroupFx) {
        fx.lagging.extend(self.node.mut_store().take_lagging());
        for asked in self.node.mut_store().take_asked() {
            if let Some(ask) = self.asks.iter_mut().find(|a| a.low == asked.low) {
                // The same follower asks again with each heartbeat; raft looks at its progress anew anyway.
                if ask.contexts.len() < self.node.raft.prs().iter().count() {
                    ask.contexts.push(asked.context);
                }
                continue;
            }
            self.wishes += 1;
            let number = self.wishes;
            let (low, high, max_bytes) = (asked.low, asked.high, asked.max_bytes);
            self.asks.push(Ask { number, low, contexts: vec![asked.context] });
            fx.wanted.push(EntriesAsk { number, low, high, max_bytes });
        }
    }

    /// The end of an [`EntriesAsk`]: dense entries from its `low` on; none where they could not be read, and
    /// the follower's next sign of life asks again. Call [`Group::ready`] afterwards.
    pub fn on_entries(&mut self, number: u64, entries: Vec<NewEntry>) {
        let Some(at) = self.asks.iter().position(|a| a.number == number) else { return };
        let ask = self.asks.swap_remove(at);
        if entries.first().is_none_or(|e| e.head.index != ask.low) {
            return;
        }
        // The log may have been cut since, and written anew.
        let ours = |e: &NewEntry| self.node.raft.raft_log.term(e.head.index) == Ok(e.head.term);
        let entries: Vec<Entry> = entries.into_iter().take_while(ours).map(to_raft).collect();
        if entries.is_empty() {
            return;
        }
        self.node.mut_store().lay_out(entries);
        for context in ask.contexts {
            self.node.on_entries_fetched(context);
        }
        self.node.mut_store().lay_out(Vec::new());
    }

    /// Asks whether this replica still leads: the answer is in [`GroupFx::confirmed`] with `request` and the
    /// commit index that a strong read must have applied. Nothing comes where it does not lead; ask again
    /// after a while (raft-thesis 6.4). `false`: its own no-op is not committed yet.
    pub fn read_index(&mut self, request: u64) -> bool {
        let leads = self.leader_epoch().is_some();
        if leads {
            self.node.read_index(request.to_be_bytes().to_vec());
        }
        leads
    }

    /// Whether followers are told of each commit at once, see [`crate::GroupParams::prompt_commit`].
    pub fn set_prompt_commit(&mut self, prompt: bool) {
        self.node.raft.skip_bcast_commit(!prompt);
    }

    /// How far the others are, on a leader; its own row tells what is persisted here. Else empty.
    pub fn followers(&self) -> impl Iterator<Item = Follower> + '_ {
        let leads = self.is_leader();
        let rows = self.node.raft.prs().iter().filter(move |_| leads);
        rows.map(|(id, pr)| Follower {
            replica_id: *id,
            matched: pr.matched,
            active: pr.recent_active,
            pending_snapshot: pr.pending_snapshot,
            replicating: pr.state == ProgressState::Replicate,
        })
    }

    /// Another replica says that its log ends at `last_index` now: it took over a checkpoint, and what it may have
    /// acknowledged above that is not there any more. On a leader; entries from there on are next.
    pub fn on_installed(&mut self, replica: u64, last_index: u64) {
        if !self.is_leader() || replica == self.params.replica_id || last_index > self.last_index() {
            return;
        }
        let raft = &mut self.node.raft;
        let Some(progress) = raft.mut_prs().get_mut(replica) else { return };
        progress.matched = progress.matched.min(last_index);
        progress.recent_active = true;
        progress.become_probe();
        progress.next_idx = last_index + 1;
        raft.send_append(replica);
    }

    /// Whether a checkpoint at `index` of `term`, which is committed, holds more than this log: not where the entry is
    /// here already, or may have been applied. A restrained replica is sent everything from its commit index on, so that
    /// counts for it.
    pub fn is_behind(&self, index: u64, term: u64) -> bool {
        let here = self.node.raft.raft_log.term(index) == Ok(term);
        index > self.committed() && (!here || self.is_restrained())
    }

    /// Hands leadership to replica `to`, once it has everything. It may not work out: look at the role.
    pub fn transfer_leader(&mut self, to: u64) {
        self.node.transfer_leader(to);
    }

    /// Whether leadership is being handed over: proposals are refused meanwhile.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// The replica that leads, as far as this one knows.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|id| *id != raft::INVALID_ID)
    }

    /// The leader is known to be gone: others that ask for this replica's vote are not told that there is one.
    pub fn lose_leader(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower && raft.leader_id != raft::INVALID_ID {
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
        }
        self.fix_timeout();
    }

    /// Leads no more, of its own will; the others elect when they miss its heartbeats.
    pub fn stand_down(&mut self) {
        if self.is_leader() {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
            self.fix_timeout();
        }
    }

    /// Somebody is in a later term, and cannot say so by a message of raft: as if it had.
    pub fn hear_term(&mut self, term: u64) {
        if term > self.node.raft.term {
            self.node.raft.become_follower(term, raft::INVALID_ID);
            self.fix_timeout();
        }
    }

    /// Ticks begin again after a rest: nobody is held silent for the time in which nobody was asked.
    pub fn wake(&mut self) {
        self.node.raft.election_elapsed = 0;
    }
}

/// The answer to [`Group::read_index`].
pub(crate) fn confirmed(state: &ReadState) -> Option<(u64, u64)> {
    let request = <[u8; 8]>::try_from(&state.request_ctx[..]).ok()?;
    Some((u64::from_be_bytes(request), state.index))
}

/// An entry of the log as raft sends it: equal to what its proposer made.
fn to_raft(NewEntry { head, payload }: NewEntry) -> Entry {
    let EntryHead { index, term, kind, flags, offset_count, base_offset, append_time } = head;
    let mut entry = Entry { index, term, ..Entry::default() };
    match kind {
        EntryKind::Data | EntryKind::Command | EntryKind::Bare => {
            let context = EntryContext { kind, flags, offset_count, base_offset, append_time };
            entry.context = context.encode();
            entry.data = payload;
        }
        EntryKind::NoOp => entry.data = Bytes::new(),
        EntryKind::ConfChange => {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            entry.data = payload;
        }
    }
    entry
}
