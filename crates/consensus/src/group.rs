//! One raft group and the order of its ready path.
use crate::config::GroupParams;
use crate::context::EntryContext;
use crate::error::ProposeError;
use crate::members::{Membership, Misfit};
use crate::peer_message::PeerMessage;
use crate::peers::{Ask, EntriesAsk};
use crate::restraint::{Freed, Restraint};
use crate::view::{EntryMeta, LogView};
use crate::witness::Witnesses;
use bytes::Bytes;
use model::planted::{Bug, planted};
use model::{LeaderEpoch, Offset, WallMs};
use raft::eraftpb::{Entry, EntryType, HardState as RaftHardState, Message, MessageType};
use raft::{RawNode, Ready, StateRole};
use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;
use storage::{EntryHead, EntryKind};

/// The part of a data entry's header that its proposer decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHead {
    /// Frame flags.
    pub flags: u16,
    /// Offsets that its batches take.
    pub offset_count: u32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The leader's clock, ms.
    pub append_time: WallMs,
}

/// An entry for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Its frame's header.
    pub head: EntryHead,
    /// Its payload.
    pub payload: Bytes,
}

/// An entry that is committed and persisted here, in index order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it is.
    pub kind: EntryKind,
    /// The payload of a command; empty for everything else.
    pub payload: Bytes,
}

/// What a vote binds a replica to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardState {
    /// The term.
    pub term: u64,
    /// The vote in it; 0 for none.
    pub vote: u64,
    /// Whether it must be durable before the group goes on: with other replicas, always. A replica that
    /// is all of its group may let it ride with its no-op, whose frame proves the term.
    pub must_sync: bool,
}

/// A replica's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes proposals.
    Leader,
    /// Everything else.
    Follower,
}

/// What a group wants done, in the order of the fields.
#[derive(Debug, Default)]
pub struct GroupFx {
    /// Messages that may leave at once.
    pub messages: Vec<PeerMessage>,
    /// A new term or vote, to be persisted with the entries: see [`Group::hard_state_rides`].
    pub hard_state: Option<HardState>,
    /// Entries to append, in index order; persisted ones are reported by [`Group::on_persisted`]. One whose
    /// index the log has already replaces it and all that follow: a new leader's log differs from there.
    pub appends: Vec<NewEntry>,
    /// Entries to apply. They count as applied when this is returned.
    pub committed: Vec<Committed>,
    /// The role changed to this.
    pub role: Option<Role>,
    /// A committed change that does not fit the membership, which no leader of this program proposes: the
    /// replica must stop. Nothing after it was handed out.
    pub broken: Option<(u64, Misfit)>,
    /// Entries that followers are behind by, to be read back: see [`Group::on_entries`].
    pub wanted: Vec<EntriesAsk>,
    /// Replicas that need entries from before this leader's window: only a checkpoint helps.
    pub lagging: Vec<u64>,
    /// The replica is restrained no more.
    pub freed: Option<Freed>,
    /// Requests of [`Group::read_index`] that are confirmed, with the commit index of then.
    pub confirmed: Vec<(u64, u64)>,
}

/// A Ready whose entries or vote are not persisted yet. It owns the messages that must wait for that.
#[derive(Debug)]
pub(crate) struct Unpersisted {
    number: u64,
    pub(crate) last_index: u64,
    /// The round that makes its vote durable; 0 where it has none to wait for.
    round: u64,
    pub(crate) messages: Vec<PeerMessage>,
}

/// The round of a vote that was just handed out.
const ROUND_UNKNOWN: u64 = u64::MAX;

/// One replica of one raft group.
pub struct Group {
    pub(crate) node: RawNode<LogView>,
    pub(crate) params: GroupParams,
    /// As of the applied index.
    pub(crate) members: Membership,
    pub(crate) unpersisted: VecDeque<Unpersisted>,
    released: Vec<PeerMessage>,
    draws: u64,
    /// Term and vote handed out last.
    hard: (u64, u64),
    /// Entries up to here, and votes of rounds up to there, are durable.
    pub(crate) persisted: (u64, u64),
    pub(crate) asks: Vec<Ask>,
    pub(crate) wishes: u64,
    pub(crate) restraint: Option<Box<Restraint>>,
    /// Whether this replica is a witness.
    pub(crate) witness: bool,
    /// Of a leader with witnesses.
    pub(crate) witnesses: Option<Box<Witnesses>>,
    pub(crate) was_reset: bool,
    /// It campaigns when its log is persisted.
    campaigns_soon: bool,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raft = &self.node.raft;
        f.debug_struct("Group")
            .field("key", &self.params.key)
            .field("term", &raft.term)
            .field("role", &raft.state)
            .field("committed", &raft.raft_log.committed)
            .field("persisted", &raft.raft_log.persisted)
            .field("last", &raft.raft_log.last_index())
            .finish_non_exhaustive()
    }
}

impl Group {
    /// A replica that restarts, or starts, from `view`; everything in the view is persisted.
    /// Panics if the parameters contradict the view: that is lost data, never to be clamped.
    pub fn new(params: GroupParams, mut view: LogView) -> Group {
        let hard = RaftHardState {
            term: params.term,
            vote: params.vote,
            commit: params.commit,
            ..RaftHardState::default()
        };
        let members = params.members.clone();
        view.set_start(hard, members.conf_state());
        let node = RawNode::new(&params.raft_config(), view, quiet())
            .unwrap_or_else(|e| panic!("group {} cannot start: {e}", params.key));
        let persisted = (node.store().last(), 0);
        let mut group = Group {
            node,
            hard: (params.term, params.vote),
            params,
            members,
            unpersisted: VecDeque::new(),
            released: Vec::new(),
            draws: 0,
            persisted,
            asks: Vec::new(),
            wishes: 0,
            restraint: None,
            witness: false,
            witnesses: None,
            was_reset: false,
            campaigns_soon: false,
        };
        group.node.raft.maybe_free_inflight_buffers();
        group.fix_timeout();
        group
    }

    /// Starts an election now, where this replica votes. A group of one is won at once; its no-op is in the
    /// next `ready`.
    pub fn campaign(&mut self) {
        if !self.node.raft.promotable() || self.witness || self.must_catch_up_first() {
            return;
        }
        if self.must_persist_first() {
            self.campaigns_soon = true;
            return;
        }
        self.draws += 1;
        // Refused only with an unapplied configuration change; the next tick tries again.
        let _ = self.node.campaign();
        self.fix_timeout();
    }

    /// Whether it is the only voter, which wins at once, and its log is not persisted: raft takes for granted that a new
    /// leader's is, because others are asked for votes only when it is.
    fn must_persist_first(&self) -> bool {
        let raft = &self.node.raft;
        let behind = raft.raft_log.persisted < raft.raft_log.last_index();
        behind && raft.state != StateRole::Leader && self.voters() == [self.params.replica_id]
    }

    /// Lets [`crate::TICK_MS`] pass. A group of one voter needs no ticks; a sleeping leader must get none.
    pub fn tick(&mut self) {
        if self.witness || self.must_catch_up_first() {
            // Time makes it believe in its leader no longer, and nothing else.
            let elapsed = &mut self.node.raft.election_elapsed;
            *elapsed = elapsed.saturating_add(1);
            return;
        }
        if self.must_persist_first() {
            return;
        }
        let before = self.node.raft.election_elapsed;
        self.node.tick();
        if self.node.raft.election_elapsed <= before {
            self.draws += 1;
        }
        self.fix_timeout();
    }

    /// raft draws its timeouts from a thread's generator; ours replace them.
    pub(crate) fn fix_timeout(&mut self) {
        let timeout = self.params.election_timeout(self.node.raft.term, self.draws);
        self.node.raft.set_randomized_election_timeout(timeout);
    }

    /// Proposes one data entry; it is in the next `ready`. Errors: see [`ProposeError`].
    pub fn propose_data(&mut self, head: DataHead, payload: Bytes) -> Result<(), ProposeError> {
        let context = EntryContext {
            kind: EntryKind::Data,
            flags: head.flags,
            offset_count: head.offset_count,
            base_offset: head.base_offset,
            append_time: head.append_time,
        };
        self.propose(context, payload)
    }

    /// Proposes one command at offset `base_offset`, the next one. Errors: see [`ProposeError`].
    pub fn propose_command(
        &mut self,
        base_offset: Offset,
        append_time: WallMs,
        payload: Bytes,
    ) -> Result<(), ProposeError> {
        let kind = EntryKind::Command;
        self.propose(EntryContext { kind, flags: 0, offset_count: 0, base_offset, append_time }, payload)
    }

    fn propose(&mut self, context: EntryContext, data: Bytes) -> Result<(), ProposeError> {
        self.check_budget(data.len() as u64)?;
        let entry = Entry { data, context: context.encode(), ..Entry::default() };
        let mut message = Message { from: self.params.replica_id, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![entry].into());
        self.node.raft.step(message).map_err(|_| ProposeError::Dropped)
    }

    /// Whether `len` more payload bytes may be proposed: one entry always may when nothing waits.
    pub fn check_budget(&self, len: u64) -> Result<(), ProposeError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader);
        }
        let uncommitted = self.uncommitted_bytes();
        let limit = self.params.max_uncommitted_bytes;
        if uncommitted > 0 && uncommitted + len > limit {
            return Err(ProposeError::Busy { uncommitted, limit });
        }
        Ok(())
    }

    /// Payload bytes appended and not yet committed.
    pub fn uncommitted_bytes(&self) -> u64 {
        let unstable: usize = self.node.raft.raft_log.unstable_entries().iter().map(|e| e.data.len()).sum();
        self.node.store().unapplied_bytes() + unstable as u64
    }

    /// Drains what the group wants done. The caller appends `appends`, and tells the round of `hard_state`
    /// with [`Group::hard_state_rides`], before it calls anything else here.
    pub fn ready(&mut self, fx: &mut GroupFx) {
        while self.node.has_ready() {
            let mut rd = self.node.ready();
            if let Some(ss) = rd.ss() {
                fx.role = Some(role_of(ss.raft_state));
                if ss.raft_state != StateRole::Leader {
                    self.asks.clear();
                }
                self.reset_witnesses();
            }
            for message in rd.take_messages() {
                self.let_go(message, &mut fx.messages);
            }
            fx.confirmed.extend(rd.take_read_states().iter().filter_map(crate::peers::confirmed));
            let votes = self.take_hard_state(&rd, fx);
            let entries = rd.take_entries();
            let last_index = entries.last().map(|e| e.index);
            for entry in entries {
                self.hand_out(entry, fx);
            }
            self.take_committed(&mut rd, fx);
            if fx.broken.is_some() {
                return;
            }
            self.hold(&mut rd, last_index, votes, fx);
            self.node.advance_append_async(rd);
            self.node.advance_apply();
            self.leave_if_removed();
            self.release();
        }
        fx.messages.append(&mut self.released);
        self.release_to_witnesses(&mut fx.messages);
        self.look_at_restraint(fx);
        self.take_asked(fx);
        self.fix_timeout();
    }

    /// Whether term or vote changed so that others must not hear of it before it is durable.
    fn take_hard_state(&mut self, rd: &Ready, fx: &mut GroupFx) -> bool {
        let Some(hs) = rd.hs().filter(|hs| (hs.term, hs.vote) != self.hard) else { return false };
        self.hard = (hs.term, hs.vote);
        let must_sync = !self.is_alone() && !planted(Bug::VoteNotSynced);
        fx.hard_state = Some(HardState { term: hs.term, vote: hs.vote, must_sync });
        must_sync
    }

    /// The hard state of the last [`Group::ready`] is durable with this round, see [`Group::on_persisted`].
    pub fn hard_state_rides(&mut self, round: u64) {
        for open in self.unpersisted.iter_mut().rev().take_while(|u| u.round == ROUND_UNKNOWN) {
            open.round = round;
        }
    }

    fn hand_out(&mut self, entry: Entry, fx: &mut GroupFx) {
        if entry.index <= self.node.store().last() {
            self.give_up_from(entry.index);
        }
        let context = EntryContext::decode(&entry.context);
        let kind = match (&context, entry.entry_type) {
            (Some(c), EntryType::EntryNormal) => c.kind,
            (None, EntryType::EntryNormal) => EntryKind::NoOp,
            (_, EntryType::EntryConfChange | EntryType::EntryConfChangeV2) => EntryKind::ConfChange,
        };
        let view = self.node.mut_store();
        // What raft makes itself has no clock; every replica must write the same header.
        let head = EntryHead {
            index: entry.index,
            term: entry.term,
            kind,
            flags: context.map_or(0, |c| c.flags),
            offset_count: context.map_or(0, |c| c.offset_count),
            base_offset: context.map_or(view.next_offset(), |c| c.base_offset),
            append_time: context.map_or(0, |c| c.append_time),
        };
        assert_eq!(head.base_offset, view.next_offset(), "base offsets follow the log's end");
        view.push_unapplied(EntryMeta {
            index: entry.index,
            term: entry.term,
            kind,
            len: entry.data.len() as u32,
            next_offset: head.next_offset(),
            payload: if kind == EntryKind::Data { Bytes::new() } else { entry.data.clone() },
        });
        fx.appends.push(NewEntry { head, payload: entry.data });
    }

    fn take_committed(&mut self, rd: &mut Ready, fx: &mut GroupFx) {
        for entry in rd.take_committed_entries() {
            let meta = self.node.mut_store().pop_applied(entry.index);
            if meta.kind == EntryKind::ConfChange
                && let Err(misfit) = self.apply_change(meta.term, &meta.payload)
            {
                fx.broken = Some((meta.index, misfit));
                return;
            }
            let payload = if meta.kind == EntryKind::Command { meta.payload } else { Bytes::new() };
            fx.committed.push(Committed { index: meta.index, term: meta.term, kind: meta.kind, payload });
        }
    }

    /// Keeps a Ready until it is persisted; one without anything to persist rides with the last.
    fn hold(&mut self, rd: &mut Ready, last_index: Option<u64>, votes: bool, fx: &mut GroupFx) {
        let number = rd.number();
        let mut messages: Vec<_> = rd.take_persisted_messages().into_iter().map(|m| self.own_up(m)).collect();
        // An answer to a heartbeat promises nothing but the term: a slow sync of entries must not make the
        // leader believe that we are gone.
        if !votes && self.unpersisted.iter().all(|u| u.round <= self.persisted.1) {
            fx.messages.extend(messages.extract_if(.., |m| m.0.get_msg_type() == HEARTBEAT_ANSWER));
        }
        if planted(Bug::FollowerAckBeforeSync) && !votes && !self.is_leader() {
            fx.messages.append(&mut messages);
        }
        let round = if votes { ROUND_UNKNOWN } else { 0 };
        match (last_index, self.unpersisted.back_mut()) {
            (None, Some(open)) if !votes => {
                open.number = number;
                open.messages.extend(messages);
            }
            (last_index, _) => {
                let last_index = last_index.unwrap_or(0);
                self.unpersisted.push_back(Unpersisted { number, last_index, round, messages });
            }
        }
    }

    /// Entries up to `index` are durable, or the log never had more than that; 0 says nothing of entries. So
    /// are the hard states that ride in rounds up to `round`. Call [`Group::ready`] afterwards.
    pub fn on_persisted(&mut self, index: u64, round: u64) {
        self.persisted = (self.persisted.0.max(index), self.persisted.1.max(round));
        self.release();
        if self.campaigns_soon && !self.must_persist_first() {
            self.campaigns_soon = false;
            self.campaign();
        }
    }

    fn release(&mut self) {
        let mut newest = None;
        let (index, round) = self.persisted;
        while self.unpersisted.front().is_some_and(|u| u.last_index <= index && u.round <= round) {
            let done = self.unpersisted.pop_front().expect("looked at above");
            newest = Some(done.number);
            done.messages.into_iter().for_each(|message| release(&mut self.released, message));
        }
        if let Some(number) = newest {
            self.node.on_persist_ready(number);
        }
    }

    /// Entries below `first_index` left the window.
    pub fn compact_to(&mut self, first_index: u64) {
        self.node.mut_store().compact_to(first_index);
    }

    /// Gives back what busy times made room for. Call it when nothing has happened for a while.
    pub fn rest(&mut self) {
        let raft = &mut self.node.raft;
        raft.maybe_free_inflight_buffers();
        raft.raft_log.unstable.entries.shrink_to_fit();
        raft.msgs.shrink_to_fit();
        self.node.mut_store().shrink();
        self.unpersisted.shrink_to_fit();
        self.released.shrink_to_fit();
    }

    /// Whether this replica leads, confirmed or not.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The term as Kafka's leader epoch, once an entry of it is applied here; only then may it serve.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        let applied = self.node.raft.raft_log.applied;
        let applied_own = self.node.store().term_of(applied) == Some(self.term());
        let confirmed = self.is_leader() && (applied_own || planted(Bug::ServeUnconfirmed));
        confirmed.then(|| epoch_of_term(self.term()))
    }

    /// The newest index, proposed entries included.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The term of the newest entry.
    pub fn last_term(&self) -> u64 {
        self.node.raft.raft_log.last_term()
    }

    /// The newest index that is known to be committed.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The newest index that is persisted here, as far as this replica was told.
    pub fn persisted_index(&self) -> u64 {
        self.persisted.0
    }

    /// The newest applied index.
    pub fn applied(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    /// Whether this replica is all of its group.
    pub fn is_alone(&self) -> bool {
        let conf = self.node.raft.prs();
        conf.iter().count() == 1 && conf.get(self.params.replica_id).is_some()
    }

    /// Replica ids that vote now, in either membership of a joint one, in order.
    pub fn voters(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.node.raft.prs().conf().voters().ids().iter().collect();
        ids.sort_unstable();
        ids
    }
}

/// Lets a message go. Of acknowledgements that one sync brings, the last says everything.
fn release(released: &mut Vec<PeerMessage>, message: PeerMessage) {
    let says_all = |last: &mut PeerMessage| {
        let (last, new) = (&last.0, &message.0);
        let acknowledges = |m: &Message| m.get_msg_type() == MessageType::MsgAppendResponse && !m.reject;
        acknowledges(last)
            && acknowledges(new)
            && (last.to, last.term) == (new.to, new.term)
            && last.index <= new.index
    };
    released.pop_if(says_all);
    released.push(message);
}

const HEARTBEAT_ANSWER: MessageType = MessageType::MsgHeartbeatResponse;

/// raft insists on a logger; events that matter are effects.
fn quiet() -> &'static slog::Logger {
    static QUIET: OnceLock<slog::Logger> = OnceLock::new();
    QUIET.get_or_init(|| slog::Logger::root(slog::Discard, slog::o!()))
}

/// A term as Kafka's leader epoch. Terms stay below 2^31: one election a millisecond for 24 days.
pub fn epoch_of_term(term: u64) -> LeaderEpoch {
    LeaderEpoch::try_from(term).expect("a term fits an i32")
}

fn role_of(state: StateRole) -> Role {
    if state == StateRole::Leader { Role::Leader } else { Role::Follower }
}
