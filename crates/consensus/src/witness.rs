//! Witnesses: voters that hold the heads of data entries alone and never lead (docs/replication.md, "Witness").
//!
//! A witness votes and acknowledges like any other replica; what it is sent has no batches. Its leader holds back
//! what goes to it until every data replica that it waits for has persisted the same entries: otherwise an entry
//! could commit of which only one disk has the bytes, while another replica counts as in sync.
use crate::context::EntryContext;
use crate::group::Group;
use crate::peer_message::PeerMessage;
use bytes::Bytes;
use model::planted::{Bug, planted};
use raft::eraftpb::{Message, MessageType};
use std::collections::{BTreeMap, VecDeque};
use storage::EntryKind;

/// Messages that are held back for one witness. raft sends 64 ahead of the acknowledgements, and one more with each
/// answer to a heartbeat. What comes when it is full is dropped: the witness refuses what follows, and raft begins
/// anew where its log ends.
const MOST_HELD: usize = 128;

/// What a leader holds back. Its messages have no payload but commands.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    /// Data replicas besides this one that are waited for; `None`: all that vote.
    awaited: Option<Vec<u64>>,
    /// By witness, in the order of their indexes.
    held: BTreeMap<u64, VecDeque<Message>>,
    /// The last index that was let go.
    released: u64,
}

/// The last index that a message speaks of.
fn end_of(m: &Message) -> u64 {
    m.entries.last().map_or(m.index, |e| e.index)
}

/// The message without the batches of its entries.
fn bare(mut m: Message) -> Message {
    for entry in m.mut_entries().iter_mut() {
        let context = EntryContext::decode(&entry.context).filter(|c| c.kind == EntryKind::Data);
        if let Some(context) = context {
            entry.context = EntryContext { kind: EntryKind::Bare, ..context }.encode();
            entry.data = Bytes::new();
        }
    }
    m
}

impl Group {
    /// This replica is a witness, from its first entry on: it does not campaign, and takes heads alone.
    pub fn be_witness(&mut self) {
        self.witness = true;
    }

    /// Whether this replica is one.
    pub fn is_witness(&self) -> bool {
        self.witness
    }

    /// On a leader, the data replicas besides itself whose acknowledgement its witnesses wait for. A new leader waits
    /// for all that vote. Call [`Group::ready`] afterwards where this returns `true`: something may be let go.
    pub fn await_replicas(&mut self, ids: Vec<u64>) -> bool {
        let Some(witnesses) = self.witnesses.as_mut() else { return false };
        if witnesses.awaited.as_ref() == Some(&ids) {
            return false;
        }
        witnesses.awaited = Some(ids);
        witnesses.held.values().any(|held| !held.is_empty())
    }

    /// The last index that this leader let go to a witness; 0 for none.
    pub fn released_index(&self) -> u64 {
        self.witnesses.as_ref().map_or(0, |w| w.released)
    }

    /// Messages that this leader holds back.
    pub fn held_back(&self) -> usize {
        self.witnesses.as_ref().map_or(0, |w| w.held.values().map(VecDeque::len).sum())
    }

    /// The role changed: what an earlier term held back is raft's to send again.
    pub(crate) fn reset_witnesses(&mut self) {
        self.witnesses = (self.is_leader() && self.members.has_witness()).then(Box::default);
    }

    /// A message of raft leaves, or is held back.
    pub(crate) fn let_go(&mut self, m: Message, out: &mut Vec<PeerMessage>) {
        if m.get_msg_type() != MessageType::MsgAppend || !self.members.is_witness(m.to) {
            let message = self.own_up(m);
            out.push(message);
            return;
        }
        let held = self.witnesses.get_or_insert_default().held.entry(m.to).or_default();
        // Where raft takes up anew it says everything from there on again.
        held.retain(|earlier| earlier.index < m.index);
        if held.len() < MOST_HELD {
            held.push_back(bare(m));
        }
    }

    /// Entries up to here may go to witnesses.
    fn witness_limit(&self, awaited: Option<&Vec<u64>>) -> u64 {
        if planted(Bug::WitnessAhead) {
            return u64::MAX;
        }
        let own = self.params.replica_id;
        let voters = self.voters();
        let waits_for = |id: u64| {
            id == own
                || awaited.map_or(voters.contains(&id) && !self.members.is_witness(id), |a| a.contains(&id))
        };
        let progress = self.node.raft.prs().iter().filter(|(id, _)| waits_for(**id));
        progress.map(|(_, pr)| pr.matched).min().unwrap_or(0)
    }

    /// Lets go what the data replicas hold by now.
    pub(crate) fn release_to_witnesses(&mut self, out: &mut Vec<PeerMessage>) {
        let Some(mut witnesses) = self.witnesses.take().filter(|_| self.is_leader()) else { return };
        // A witness that was removed needs nothing any more.
        witnesses.held.retain(|id, _| self.members.is_witness(*id));
        if witnesses.held.values().any(|held| !held.is_empty()) {
            let limit = self.witness_limit(witnesses.awaited.as_ref());
            for held in witnesses.held.values_mut() {
                while let Some(message) = held.pop_front_if(|m| end_of(m) <= limit) {
                    witnesses.released = witnesses.released.max(end_of(&message));
                    out.push(PeerMessage(message));
                }
            }
        }
        self.witnesses = Some(witnesses);
    }
}
