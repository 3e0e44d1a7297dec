//! A replica that may have lost entries that it acknowledged: after a power cut with `write.caching`, or where its
//! files were damaged.
//!
//! What it acknowledged counts towards commits that others made. As long as it neither votes nor leads, every
//! majority that elects a leader has a replica that holds these entries still. It is free again when it has taken
//! in a leader's log up to what was committed when that leader knew how far it really is. Where so many are
//! restrained that the others cannot elect, every voter must tell a candidate in its term where its log ends, and the
//! one whose log is the longest leads. docs/replication.md, "Restrained replicas".
use crate::group::{Group, GroupFx};
use crate::peer_message::PeerMessage;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// In requests for votes and their answers raft leaves `reject_hint` unused. This there says that the sender is
/// restrained.
const RESTRAINED: u64 = 1;
/// Its files were damaged: where its log ends says nothing of what it had.
const DAMAGED: u64 = 2;
/// A refusal that names where its sender's log ends. Its sender is in the candidate's term, so its log grows by no
/// earlier leader's word any more.
const NAMES_END: u64 = 4;
/// A request of a candidate that knows in its term where every voter's log ends, and whose own is no shorter.
const LONGEST: u64 = 8;

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
    /// By voter: where its log ended when it last asked for votes. It may have grown since: whoever goes by this only
    /// tries, nobody is elected for it.
    ends: BTreeMap<u64, End>,
    /// The candidate, and its term, that is refused with the end of the log here.
    refuses: Option<(u64, u64)>,
    /// A candidate's term, and ends that it was refused with.
    named: (u64, BTreeMap<u64, End>),
    /// The term in which voters were asked for the second time.
    insisted: u64,
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
    /// a loss of power. A replica that is all of its group and holds everything up to `floor` is not restrained: nobody
    /// else knows more. One that lacks some of it only believes to be alone: its checkpoint is older than the others.
    pub fn restrain(&mut self, floor: u64) {
        if !self.is_alone() || floor > self.persisted.0 {
            let restraint = self.restraint.get_or_insert_default();
            (restraint.own, restraint.floor) = (true, floor);
        }
    }

    /// Whether it lacks entries that it may have acknowledged and would win an election by its own vote: as far as its
    /// log says, which was brought up to an earlier checkpoint, it is the only voter.
    pub(crate) fn must_catch_up_first(&self) -> bool {
        let lacks = self.restraint.as_ref().is_some_and(|r| r.own && r.floor > self.persisted.0);
        lacks && self.voters() == [self.params.replica_id]
    }

    /// Whether it is restrained.
    pub fn is_restrained(&self) -> bool {
        self.restraint.as_ref().is_some_and(|r| r.own)
    }

    /// Looks at a message before raft does; `false` drops it.
    pub(crate) fn heed(&mut self, m: &mut Message) -> bool {
        match m.get_msg_type() {
            MessageType::MsgRequestPreVote => self.heed_request(m),
            MessageType::MsgRequestVote => self.heed_candidate(m),
            MessageType::MsgRequestVoteResponse => self.heed_answer(m),
            MessageType::MsgTimeoutNow => !self.is_restrained() && !self.witness,
            MessageType::MsgHeartbeat | MessageType::MsgAppend if m.term >= self.term() => {
                self.heed_leader(m);
                true
            }
            _ => true,
        }
    }

    /// Whoever is to be elected is refused first, where it or this replica is restrained, and told where the log here
    /// ends; it asks again when it knows that of all.
    fn heed_candidate(&mut self, m: &mut Message) -> bool {
        let said = m.reject_hint;
        let restrained = said & RESTRAINED != 0;
        if restrained && self.is_leader() || said & DAMAGED != 0 {
            return self.heed_request(m);
        }
        m.reject_hint = 0;
        let own = self.restraint.as_ref().filter(|r| r.own);
        if own.is_some_and(|r| r.floor > 0) {
            return false;
        }
        if said & LONGEST == 0 && (restrained || own.is_some()) {
            self.restraint.get_or_insert_default().refuses = Some((m.from, m.term));
            // Older than any log: raft takes the term, and refuses.
            (m.index, m.log_term, m.commit, m.commit_term) = (0, 0, 0, 0);
        }
        true
    }

    fn heed_answer(&mut self, m: &mut Message) -> bool {
        let said = std::mem::take(&mut m.reject_hint);
        if !m.reject || said & NAMES_END == 0 {
            return true;
        }
        let raft = &self.node.raft;
        if raft.state == StateRole::Candidate && raft.term == m.term {
            let restrained = said & RESTRAINED != 0;
            let end = End { term: m.log_term, index: m.index, restrained, damaged: false };
            let restraint = self.restraint.get_or_insert_default();
            if restraint.named.0 != m.term {
                restraint.named = (m.term, BTreeMap::new());
            }
            restraint.named.1.insert(m.from, end);
        }
        // Not counted: it may be asked again.
        false
    }

    /// A candidate that knows where the log of each voter ends, and whose own is the longest, asks again.
    fn insist(&mut self, fx: &mut GroupFx) {
        let raft = &self.node.raft;
        let Some(restraint) = self.restraint.as_ref().filter(|r| r.named.0 == raft.term) else { return };
        let (granted, ..) = raft.prs().tally_votes();
        let (last_term, last) = (raft.raft_log.last_term(), raft.raft_log.last_index());
        let named = &restraint.named.1;
        let longest = named.values().all(|end| (end.term, end.index) <= (last_term, last));
        let all = granted + named.len() == self.voters().len();
        if raft.state != StateRole::Candidate || restraint.insisted == raft.term || !longest || !all {
            return;
        }
        let hint = LONGEST | if restraint.own { restraint.hint() } else { 0 };
        for to in named.keys() {
            let mut m = Message { from: self.params.replica_id, to: *to, ..Message::default() };
            m.set_msg_type(MessageType::MsgRequestVote);
            (m.term, m.index, m.log_term, m.reject_hint) = (raft.term, last, last_term, hint);
            (m.commit, m.commit_term) = raft.raft_log.commit_info();
            fx.messages.push(PeerMessage(m));
        }
        let term = raft.term;
        if let Some(restraint) = &mut self.restraint {
            restraint.insisted = term;
        }
    }

    fn heed_request(&mut self, m: &mut Message) -> bool {
        let said = std::mem::take(&mut m.reject_hint);
        let (restrained, damaged) = (said & (RESTRAINED | DAMAGED) != 0, said & DAMAGED != 0);
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
        let (witnesses, voters): (Vec<u64>, _) =
            self.voters().into_iter().partition(|id| self.members.is_witness(*id));
        for id in voters {
            let end = if id == self.params.replica_id { Some(&own) } else { restraint.ends.get(&id) };
            let Some(end) = end.filter(|end| !end.damaged) else { return false };
            ends.insert(id, *end);
        }
        // A witness asks for no votes, so nobody knows of it. It syncs what it acknowledges; one that is damaged counts
        // as free here, by which this rule elects nobody, as where a copy is damaged.
        let free = ends.iter().filter(|(_, end)| !end.restrained).map(|(id, _)| *id).chain(witnesses);
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
        restraint.ends.clear();
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
        let refused = self.restraint.as_ref().filter(|r| r.refuses == Some((m.to, m.term)));
        if let Some(restraint) = refused.filter(|_| m.reject)
            && m.get_msg_type() == MessageType::MsgRequestVoteResponse
        {
            let log = &self.node.raft.raft_log;
            (m.index, m.log_term) = (log.last_index(), log.last_term());
            m.reject_hint = NAMES_END | if restraint.own { restraint.hint() } else { 0 };
        }
        PeerMessage(m)
    }

    /// Tells a leader how far this replica is; frees it where it holds all that matters.
    pub(crate) fn look_at_restraint(&mut self, fx: &mut GroupFx) {
        self.insist(fx);
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
