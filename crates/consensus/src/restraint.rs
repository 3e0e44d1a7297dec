//! A replica that may have lost entries that it acknowledged: after a power cut with `write.caching`, or where its
//! files were damaged.
//!
//! What it acknowledged counts towards commits that others made. As long as it neither votes nor leads, every
//! majority that elects a leader has a replica that holds these entries still. It is free again when it has taken
//! in a leader's log up to what was committed when that leader knew how far it really is. Where so many are
//! restrained that the others cannot elect, they wait until every voter has told where its log ends, and the one
//! whose log is the longest leads. docs/replication.md, "Restrained replicas".
use crate::group::{Group, GroupFx};
use crate::peer_message::PeerMessage;
use raft::eraftpb::{Message, MessageType};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// In a request for votes raft leaves `reject_hint` unused: this there says that its sender is restrained.
const RESTRAINED: u64 = 1;
/// As well, and its files were damaged: where its log ends says nothing of what it had.
const DAMAGED: u64 = 2;

/// What is known of replicas that are restrained, this one among them or not.
#[derive(Debug, Default)]
pub(crate) struct Restraint {
    /// Whether this replica is.
    own: bool,
    /// It is free no sooner than this entry is persisted here; 0 after a loss of power, where nobody can tell.
    floor: u64,
    /// A term whose leader knows how far this replica is, and what was committed then.
    met: Option<(u64, u64)>,
    /// The leader that is to hear how far this replica is.
    tell: Option<u64>,
    /// By voter: where its log ends, as it said when it last asked for votes.
    ends: BTreeMap<u64, End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    term: u64,
    index: u64,
    restrained: bool,
    damaged: bool,
}

impl Restraint {
    fn hint(&self) -> u64 {
        if self.floor > 0 { DAMAGED } else { RESTRAINED }
    }
}

impl Group {
    /// The replica may have lost what it acknowledged: it neither votes nor leads until it holds it again, see
    /// [`GroupFx::freed`]. `floor`: where files were damaged, the last entry that it may have acknowledged; 0 after
    /// a loss of power. A replica that is all of its group is never restrained: nobody else knows more.
    pub fn restrain(&mut self, floor: u64) {
        if !self.is_alone() {
            let restraint = self.restraint.get_or_insert_default();
            (restraint.own, restraint.floor) = (true, floor);
        }
    }

    /// Whether it is restrained.
    pub fn is_restrained(&self) -> bool {
        self.restraint.as_ref().is_some_and(|r| r.own)
    }

    /// Looks at a message before raft does; `false` drops it.
    pub(crate) fn heed(&mut self, m: &mut Message) -> bool {
        match m.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => self.heed_request(m),
            MessageType::MsgTimeoutNow => !self.is_restrained(),
            MessageType::MsgHeartbeat | MessageType::MsgAppend if m.term >= self.term() => {
                self.heed_leader(m);
                true
            }
            _ => true,
        }
    }

    fn heed_request(&mut self, m: &mut Message) -> bool {
        let said = std::mem::take(&mut m.reject_hint);
        let (restrained, damaged) = (said == RESTRAINED || said == DAMAGED, said == DAMAGED);
        if restrained && self.is_leader() {
            // It counts as holding what it said once; from its commit index on it is sent everything again.
            self.on_installed(m.from, m.commit.min(self.last_index()));
            return false;
        }
        if !restrained && self.restraint.is_none() {
            return true;
        }
        let end = End { term: m.log_term, index: m.index, restrained, damaged };
        let known = self.node.raft.prs().get(m.from).is_some();
        if known {
            self.restraint.get_or_insert_default().ends.insert(m.from, end);
        }
        !restrained && !self.is_restrained() || known && self.is_longest(m.from)
    }

    /// Whether the replicas that are not restrained cannot elect, every voter has told where its log ends, nobody's
    /// is longer than that of `replica`, and a loss of power is all that befell them.
    fn is_longest(&self, replica: u64) -> bool {
        let Some(restraint) = &self.restraint else { return false };
        let log = &self.node.raft.raft_log;
        let (restrained, damaged) = (restraint.own, restraint.floor > 0);
        let own = End { term: log.last_term(), index: log.last_index(), restrained, damaged };
        let mut ends = BTreeMap::new();
        for id in self.voters() {
            let end = if id == self.params.replica_id { Some(&own) } else { restraint.ends.get(&id) };
            let Some(end) = end.filter(|end| !end.damaged) else { return false };
            ends.insert(id, *end);
        }
        let free = ends.iter().filter(|(_, end)| !end.restrained).map(|(id, _)| *id);
        let longest = ends.iter().max_by_key(|(id, end)| (end.term, end.index, Reverse(**id)));
        !self.node.raft.prs().has_quorum(&free.collect()) && longest.is_some_and(|(id, _)| *id == replica)
    }

    fn heed_leader(&mut self, m: &mut Message) {
        let committed = self.committed();
        // Where the message takes up, this replica's log is the leader's: it counts on nothing above that.
        let fits = m.index < committed || self.node.raft.raft_log.match_term(m.index, m.log_term);
        let Some(restraint) = &mut self.restraint else { return };
        if !restraint.own {
            // Somebody leads: where logs ended before says nothing any more.
            self.restraint = None;
            return;
        }
        if restraint.met.is_some_and(|(term, _)| term == m.term) {
            return;
        }
        restraint.met = None;
        if m.get_msg_type() == MessageType::MsgAppend {
            restraint.met = fits.then_some((m.term, m.commit));
        } else {
            // It goes by what was acknowledged before; what is here at these places may be something else.
            m.commit = m.commit.min(committed);
            restraint.tell = Some(m.from);
        }
    }

    /// Notes in requests for votes that their sender is restrained.
    pub(crate) fn own_up(&self, mut m: Message) -> PeerMessage {
        let requests = [MessageType::MsgRequestVote, MessageType::MsgRequestPreVote];
        if let Some(restraint) = self.restraint.as_ref().filter(|r| r.own)
            && requests.contains(&m.get_msg_type())
        {
            m.reject_hint = restraint.hint();
        }
        PeerMessage(m)
    }

    /// Tells a leader how far this replica is; frees it where it holds all that matters.
    pub(crate) fn look_at_restraint(&mut self, fx: &mut GroupFx) {
        let leads = self.leader_epoch().is_some();
        let Some(restraint) = self.restraint.as_mut().filter(|r| r.own) else { return };
        let raft = &self.node.raft;
        let log = &raft.raft_log;
        if let Some(leader) = restraint.tell.take().filter(|_| restraint.met.is_none()) {
            let mut m = Message { from: self.params.replica_id, to: leader, ..Message::default() };
            m.set_msg_type(MessageType::MsgRequestPreVote);
            (m.term, m.reject_hint) = (raft.term + 1, restraint.hint());
            (m.index, m.log_term) = (log.last_index(), log.last_term());
            (m.commit, m.commit_term) = log.commit_info();
            fx.messages.push(PeerMessage(m));
        }
        let caught_up = |(term, target): (u64, u64)| {
            let committed = log.committed >= target && log.term(log.committed) == Ok(term);
            // What is not persisted yet would be lost once more.
            term == raft.term && committed && self.persisted.0 >= target.max(restraint.floor)
        };
        let caught_up = restraint.met.is_some_and(caught_up).then_some(Freed::CaughtUp);
        let freed = if leads { Some(Freed::Leads) } else { caught_up };
        if freed.is_some() {
            fx.freed = freed;
            self.restraint = None;
        }
    }
}

/// How a replica's restraint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// It holds again whatever it may have acknowledged.
    CaughtUp,
    /// A majority had lost power: its log was the longest, and what is not in it is gone.
    Leads,
}
