//! One client that is a member of a group, with what it believes.
use super::super::events::{MS, Micros, SECOND};
use super::{Kind, Part, embedded};
use crate::rng::Rng;
use bytes::Bytes;
use coordinator::{ConsumerHeartbeatReply, JoinReply};
use model::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};

/// What members of classic groups ask for; what those of KIP-848 are told is configured to be the same.
pub(super) const SESSION_MS: i32 = 1_500;
/// How long a member may take to give partitions up, or to join again.
pub(super) const REBALANCE_MS: i32 = 1_000;
/// Between two heartbeats.
const BEAT: Micros = 250 * MS;
/// No request is on its way for longer.
pub(crate) const LATEST: Micros = 3 * SECOND;

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Not there, until it wakes up; then it comes as somebody new.
    Away,
    /// It is to join, or to join again.
    Out,
    /// It has joined a generation and is to ask for its assignment; the leader with everybody's.
    Joined(Vec<(String, Bytes)>),
    /// A member.
    In,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// JoinGroup.
    Join,
    /// SyncGroup.
    Sync(Vec<(String, Bytes)>),
    /// Heartbeat.
    Beat,
    /// LeaveGroup.
    Leave,
    /// ConsumerGroupHeartbeat: what it has, and whether it says everything.
    Consumer { owned: BTreeSet<Part>, whole: bool },
    /// ConsumerGroupHeartbeat that leaves, for a while if so.
    ConsumerLeave { for_a_while: bool },
    /// OffsetCommit.
    Commit(BTreeMap<Part, i64>),
    /// OffsetFetch.
    Fetch(BTreeSet<Part>),
}

/// What a client decides by.
pub(super) struct Shared<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) now: Micros,
    /// Nobody comes or goes any more.
    pub(super) draining: bool,
    /// Every partition that the group is to read.
    pub(super) wanted: &'a BTreeSet<Part>,
    /// By partition, the offset that was last given to a commit.
    pub(super) tried: &'a mut BTreeMap<Part, i64>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: usize,
    pub(super) kind: Kind,
    number: usize,
    pub(super) instance: Option<String>,
    /// Empty until the coordinator gives one (classic).
    pub(super) id: String,
    /// Generation or member epoch.
    pub(super) epoch: i32,
    phase: Phase,
    /// What it reads from.
    pub(super) owned: BTreeSet<Part>,
    /// What it was last told to have (KIP-848).
    told: BTreeSet<Part>,
    /// When it is done with what it is to give up.
    give_up_at: Option<Micros>,
    /// What its group was to read when it gave everybody a share, as a leader.
    assigned: Option<BTreeSet<Part>>,
    says_all: bool,
    asleep_until: Micros,
    beat_at: Micros,
    commit_at: Micros,
    /// A commit of before may be on its way until then.
    unsure_until: Micros,
    /// The connection that it uses; where no answer comes it takes another.
    pub(super) connection: u64,
    lives: u32,
    /// The request under way.
    pub(super) asked: Option<Step>,
    /// It has read its offsets since everything was healed.
    pub(super) has_read: bool,
}

impl Member {
    pub(super) fn new((group, kind): (usize, Kind), number: usize, fixed: bool, begins: Micros) -> Member {
        Member {
            group,
            kind,
            number,
            instance: fixed.then(|| format!("seat-{group}-{number}")),
            id: String::new(),
            epoch: 0,
            phase: Phase::Away,
            owned: BTreeSet::new(),
            told: BTreeSet::new(),
            give_up_at: None,
            assigned: None,
            says_all: true,
            asleep_until: begins,
            beat_at: 0,
            commit_at: 0,
            unsure_until: 0,
            connection: 1,
            lives: 0,
            asked: None,
            has_read: false,
        }
    }

    /// What it has is forgotten; it joins (again).
    fn drop_all(&mut self) {
        self.owned.clear();
        self.told.clear();
        (self.give_up_at, self.assigned, self.says_all) = (None, None, true);
        (self.phase, self.epoch) = (Phase::Out, 0);
    }

    /// It comes as somebody who has not been there before.
    fn come(&mut self) {
        self.drop_all();
        self.lives += 1;
        self.id = match self.kind {
            Kind::Classic => String::new(),
            Kind::Consumer => format!("member-{}-{}-{}", self.group, self.number, self.lives),
        };
    }

    fn go_away(&mut self, until: Micros) {
        self.drop_all();
        (self.phase, self.asleep_until) = (Phase::Away, until);
    }

    /// Everybody who is there stays, and the first of each group is there.
    pub(super) fn settle(&mut self, now: Micros) {
        self.has_read = false;
        if self.phase != Phase::Away || self.number == 0 {
            self.asleep_until = self.asleep_until.min(now);
        }
    }

    /// Whether its group is to have it at the end.
    pub(super) fn is_living(&self) -> bool {
        self.phase != Phase::Away
    }

    pub(super) fn is_in(&self) -> bool {
        self.phase == Phase::In && self.give_up_at.is_none()
    }

    /// When it wants to look for something to do.
    pub(super) fn due(&self, now: Micros) -> Micros {
        let in_time = match self.phase {
            Phase::In => self.beat_at.min(self.commit_at).min(self.give_up_at.unwrap_or(Micros::MAX)),
            _ => now,
        };
        in_time.max(self.asleep_until).clamp(now + 5 * MS, now + 300 * MS)
    }

    /// What it asks for next.
    pub(super) fn next(&mut self, shared: &mut Shared<'_>) -> Option<Step> {
        if self.asleep_until > shared.now {
            return None;
        }
        match &self.phase {
            Phase::Away if shared.draining && self.number > 0 => return None,
            Phase::Away => self.come(),
            _ => {}
        }
        match (&self.phase, self.kind) {
            (Phase::Joined(shares), _) => return Some(Step::Sync(shares.clone())),
            (Phase::In, _) => {}
            (_, Kind::Classic) => return Some(Step::Join),
            (_, Kind::Consumer) => return Some(self.consumer_beat()),
        }
        if let Some(step) = self.comes_or_goes(shared) {
            return Some(step);
        }
        if self.phase != Phase::In || self.asleep_until > shared.now {
            return None;
        }
        if self.give_up_at.is_some_and(|at| at <= shared.now) {
            self.owned.retain(|part| self.told.contains(part));
            (self.give_up_at, self.beat_at) = (None, shared.now);
        }
        // A leader whose topics changed has the group assign anew.
        if self.assigned.as_ref().is_some_and(|parts| parts != shared.wanted) {
            self.join_again();
            return Some(Step::Join);
        }
        if self.beat_at <= shared.now {
            self.beat_at = shared.now + BEAT / 2 + shared.rng.below(BEAT);
            return Some(if self.kind == Kind::Classic { Step::Beat } else { self.consumer_beat() });
        }
        if self.commit_at <= shared.now && !self.owned.is_empty() {
            self.commit_at = shared.now + 150 * MS + shared.rng.below(700 * MS);
            return Some(self.offsets(shared));
        }
        None
    }

    fn offsets(&mut self, shared: &mut Shared<'_>) -> Step {
        let unsure = self.unsure_until > shared.now;
        let reads = unsure || shared.rng.chance(1, 3) || (shared.draining && !self.has_read);
        if reads {
            return Step::Fetch(self.owned.clone());
        }
        let mut rows = BTreeMap::new();
        for part in &self.owned {
            if rows.is_empty() || shared.rng.chance(1, 2) {
                let next = shared.tried.entry(part.clone()).or_insert(0);
                *next += 1;
                rows.insert(part.clone(), *next);
            }
        }
        Step::Commit(rows)
    }

    fn consumer_beat(&self) -> Step {
        let whole = self.says_all || self.phase == Phase::Out;
        Step::Consumer { owned: self.owned.clone(), whole }
    }

    /// Now and then it leaves, vanishes, or does nothing for a while and goes on as if nothing had been.
    fn comes_or_goes(&mut self, shared: &mut Shared<'_>) -> Option<Step> {
        if shared.draining || self.beat_at > shared.now {
            return None;
        }
        let until = shared.now + 100 * MS + shared.rng.below(3 * SECOND);
        match shared.rng.below(90) {
            0 => {
                let leave = match (self.kind, &self.instance) {
                    // Of the classic protocol static members do not leave.
                    (Kind::Classic, None) => Some(Step::Leave),
                    (Kind::Classic, Some(_)) => None,
                    (Kind::Consumer, instance) => {
                        let for_a_while = instance.is_some() && shared.rng.chance(3, 4);
                        Some(Step::ConsumerLeave { for_a_while })
                    }
                };
                if leave.is_none() {
                    self.go_away(until);
                }
                self.owned.clear();
                return leave;
            }
            1 => self.go_away(until),
            2 | 3 => self.asleep_until = until,
            _ => {}
        }
        None
    }

    /// No answer came. What was asked for may still happen, after a commit even much later: then it waits until that is
    /// over, as it commits growing offsets only.
    pub(super) fn gave_up(&mut self, now: Micros, rng: &mut Rng) {
        self.says_all = true;
        self.connection += 1;
        match self.asked.take() {
            Some(Step::Leave | Step::ConsumerLeave { .. }) => self.go_away(now + rng.below(2 * SECOND)),
            Some(Step::Commit(_)) => self.unsure_until = now + LATEST,
            Some(Step::Consumer { .. } | Step::Beat) => self.beat_at = now,
            _ => {}
        }
    }

    /// The partitions that it is to have are these, for the generation or epoch that it is in.
    fn has(&mut self, parts: BTreeSet<Part>) {
        self.phase = Phase::In;
        self.owned = parts;
    }

    /// It joined a generation. `wanted`: what the leader is to share out.
    pub(super) fn joined(&mut self, reply: &JoinReply, wanted: &BTreeSet<Part>) {
        (self.id, self.epoch) = (reply.member_id.clone(), reply.generation_id);
        self.owned.clear();
        let leads = reply.leader == reply.member_id && !reply.skip_assignment;
        let ids: Vec<String> = reply.members.iter().map(|m| m.member_id.clone()).collect();
        self.assigned = match leads {
            true => Some(wanted.clone()),
            // Nobody knows what the leader of before shared out: this one has the group assign anew.
            false => reply.skip_assignment.then(BTreeSet::new),
        };
        self.phase = Phase::Joined(if leads { embedded::shares(&ids, wanted) } else { Vec::new() });
    }

    /// It was given its share.
    pub(super) fn synced(&mut self, parts: BTreeSet<Part>, now: Micros) {
        self.has(parts);
        (self.beat_at, self.commit_at) = (now + BEAT, now + 50 * MS);
    }

    /// It is told to have these, or, with nothing, what it was told before. New ones it takes at once; to give others up
    /// takes a while, now and then longer than it has.
    pub(super) fn told(
        &mut self,
        reply: &ConsumerHeartbeatReply,
        parts: Option<BTreeSet<Part>>,
        now: Micros,
        rng: &mut Rng,
    ) {
        (self.phase, self.epoch, self.says_all) = (Phase::In, reply.member_epoch, false);
        let Some(parts) = parts else { return };
        self.owned.extend(parts.iter().cloned());
        self.told = parts;
        if self.owned.len() == self.told.len() {
            self.give_up_at = None;
        } else if self.give_up_at.is_none() {
            let slow = rng.chance(1, 4);
            let most = if slow { 3 * REBALANCE_MS as Micros * MS } else { 100 * MS };
            self.give_up_at = Some(now + rng.below(most));
            // As clients do, it commits before it gives them up.
            self.commit_at = now;
        }
    }

    /// An answer without an error that leaves it where it is.
    pub(super) fn went_well(&mut self, step: &Step, now: Micros, rng: &mut Rng) {
        match step {
            Step::Fetch(_) => self.has_read = true,
            Step::Leave | Step::ConsumerLeave { .. } => self.go_away(now + rng.below(2 * SECOND)),
            _ => {}
        }
    }

    /// It joins the next generation as who it is, and reads nothing until then.
    fn join_again(&mut self) {
        let id = std::mem::take(&mut self.id);
        self.drop_all();
        self.id = id;
    }

    /// An answer with an error. `given`: the id that comes with it.
    pub(super) fn refused(&mut self, step: &Step, code: ErrorCode, given: &str, now: Micros, rng: &mut Rng) {
        if matches!(step, Step::Leave | Step::ConsumerLeave { .. }) {
            // It is gone, or its session will end.
            return self.go_away(now + rng.below(2 * SECOND));
        }
        match code {
            ErrorCode::MemberIdRequired => self.id = given.to_owned(),
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => self.join_again(),
            ErrorCode::FencedInstanceId => self.go_away(now + rng.below(SECOND)),
            ErrorCode::StaleMemberEpoch => self.beat_at = now,
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch | ErrorCode::GroupIdNotFound => {
                let keeps_its_id = self.kind == Kind::Consumer && rng.chance(1, 2);
                if keeps_its_id { self.join_again() } else { self.come() }
            }
            _ => {
                self.says_all = true;
                (self.beat_at, self.asleep_until) = (now, now + 20 * MS + rng.below(60 * MS));
            }
        }
    }
}
