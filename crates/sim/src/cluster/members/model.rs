//! What coordinators acknowledged to members, in the order of the simulated clock, and what must follow from it.
//!
//! A request counts from when it arrives at a node, or was sent; an answer from when the node gives it, heard or not. What is
//! written can only be acknowledged by who leads, so that it is judged whoever answered. What is answered from memory may come
//! from a coordinator that was deposed and does not know: that is judged only where the one who answers leads in the epoch of
//! the one who said otherwise, or a later one.
use super::super::oracle::Oracle;
use super::client::Step;
use super::{Kind, Part, seat};
use ::model::{ErrorCode, LeaderEpoch};
use coordinator::{ConsumerHeartbeatReply, JoinReply};
use std::collections::{BTreeMap, BTreeSet};

/// Counts what happens.
type Moment = u64;

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) group: usize,
    pub(super) kind: Kind,
    pub(super) member: String,
    pub(super) instance: Option<String>,
    /// The generation or member epoch that it names.
    pub(super) epoch: i32,
    pub(super) step: Step,
}

#[derive(Debug)]
struct Pending {
    sent: Sent,
    sent_at: Moment,
    arrived_at: Moment,
    /// What was committed when it arrived.
    floors: BTreeMap<Part, i64>,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// This error, and the member id that comes with it.
    Refused(ErrorCode, String),
    /// Taken.
    Done,
    Joined(JoinReply),
    /// The share of a member of a classic group.
    Synced(BTreeSet<Part>),
    /// The epoch of a member, and what it is to have, where that is said.
    Told(ConsumerHeartbeatReply, Option<BTreeSet<Part>>),
    /// Offsets.
    Read(BTreeMap<Part, i64>),
}

/// Who gave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Teller {
    /// The epoch in which it leads the log of the coordinator; -1: it does not.
    pub(super) reign: LeaderEpoch,
    /// Nobody knows of a later one.
    pub(super) is_newest: bool,
}

/// Who was last given a partition.
#[derive(Clone, Debug)]
struct Owner {
    member: String,
    seat: String,
    epoch: i32,
    reign: LeaderEpoch,
    at: Moment,
}

/// A generation or epoch, who said so, and when.
type Said = (i32, LeaderEpoch, Moment);

/// What is known of one group.
#[derive(Debug, Default)]
struct Known {
    owners: BTreeMap<Part, Owner>,
    /// By member and partition: when it was last given it, by epoch and moment.
    handed: BTreeMap<(String, Part), (i32, Moment)>,
    floors: BTreeMap<Part, i64>,
    /// The newest generation of which somebody has a share (classic).
    newest: Option<Said>,
    /// Members whose heartbeats of this epoch were refused (KIP-848).
    fenced: BTreeMap<String, Said>,
    /// Those of them that were not members any more. Of others the coordinator takes commits of an older epoch still, for what
    /// they have had since (KIP-1251).
    gone: BTreeMap<String, Said>,
}

/// What was seen, for the report of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Partitions that another member had before.
    pub(crate) handed_over: u64,
    /// Commits that were acknowledged.
    pub(crate) commits: u64,
    /// Requests of members that were told that they are out.
    pub(crate) refused: u64,
    /// Offsets that were read.
    pub(crate) reads: u64,
}

/// Everything that is known of members.
#[derive(Debug, Default)]
pub(crate) struct Model {
    now: Moment,
    groups: BTreeMap<usize, Known>,
    pending: BTreeMap<u64, Pending>,
    /// By group and partition: the last offset that a commit was given.
    pub(super) tried: BTreeMap<usize, BTreeMap<Part, i64>>,
    /// Topics that are being deleted: nothing is promised of their offsets.
    doomed: BTreeSet<String>,
    pub(crate) counts: Counts,
}

impl Model {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// The topic is being deleted.
    pub(super) fn forget(&mut self, topic: &str) {
        self.doomed.insert(topic.to_owned());
    }

    pub(super) fn sent(&mut self, call: u64, sent: Sent) {
        let sent_at = self.tick();
        self.pending.insert(call, Pending { sent, sent_at, arrived_at: 0, floors: BTreeMap::new() });
    }

    /// What a request under way asks for.
    pub(super) fn step_of(&self, call: u64) -> Option<Step> {
        self.pending.get(&call).map(|pending| pending.sent.step.clone())
    }

    /// It has come to a node.
    pub(crate) fn arrived(&mut self, call: u64) {
        let now = self.tick();
        let Some(pending) = self.pending.get_mut(&call) else { return };
        pending.arrived_at = now;
        if let (Step::Fetch(_), Some(known)) = (&pending.sent.step, self.groups.get(&pending.sent.group)) {
            pending.floors = known.floors.clone();
        }
    }

    /// A node answered; the answer may never be heard.
    pub(super) fn answered(&mut self, oracle: &mut Oracle, call: u64, by: Teller, answer: &Answer) {
        let now = self.tick();
        let Some(pending) = self.pending.remove(&call) else { return };
        let known = self.groups.entry(pending.sent.group).or_default();
        let Pending { sent, .. } = &pending;
        if let Answer::Refused(code, _) = answer {
            let out = matches!(
                code,
                ErrorCode::UnknownMemberId
                    | ErrorCode::FencedMemberEpoch
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::FencedInstanceId
            );
            self.counts.refused += u64::from(out);
            return known.refused(sent, *code, by, now);
        }
        known.judge_fenced(oracle, &pending, by);
        match (&sent.step, answer) {
            (Step::Sync(_), Answer::Synced(parts)) => {
                if known.newest.is_none_or(|said| said.0 < sent.epoch) {
                    known.newest = Some((sent.epoch, by.reign, now));
                }
                let handed = known.give(oracle, (&pending, sent.epoch), by, now, parts);
                self.counts.handed_over += handed;
            }
            (Step::Consumer { owned, .. }, Answer::Told(reply, parts)) => {
                if sent.epoch == 0 {
                    known.fenced.remove(&sent.member);
                    known.gone.remove(&sent.member);
                }
                known.judge_kept(oracle, &pending, by, owned);
                if let Some(parts) = parts {
                    self.counts.handed_over +=
                        known.give(oracle, (&pending, reply.member_epoch), by, now, parts);
                }
            }
            (Step::Commit(rows), Answer::Done) => {
                self.counts.commits += 1;
                // Nobody knows whose the partitions of a deleted topic were.
                let rows = rows.iter().filter(|((topic, _), _)| !self.doomed.contains(topic));
                known.judge_commit(oracle, &pending, rows.clone().map(|(part, _)| part));
                for (part, offset) in rows {
                    let floor = known.floors.entry(part.clone()).or_insert(-1);
                    *floor = (*floor).max(*offset);
                }
            }
            (Step::Fetch(_), Answer::Read(rows)) => {
                let none = BTreeMap::new();
                let tried = self.tried.get(&sent.group).unwrap_or(&none);
                for (part, offset) in rows.iter().filter(|((topic, _), _)| !self.doomed.contains(topic)) {
                    self.counts.reads += 1;
                    let floor = pending.floors.get(part).copied().unwrap_or(-1);
                    let most = tried.get(part).copied().unwrap_or(-1);
                    if *offset < floor || *offset > most {
                        let detail = format!(
                            "group {}, {part:?}: {floor} was committed, {most} tried, told was {offset}",
                            sent.group
                        );
                        oracle.violate("group-offset-back", detail);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Known {
    /// A coordinator that was not deposed decides on committed state alone whether one of its members is out.
    fn refused(&mut self, sent: &Sent, code: ErrorCode, by: Teller, now: Moment) {
        let out = matches!(code, ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch);
        if out && by.is_newest && sent.epoch > 0 && matches!(sent.step, Step::Consumer { .. }) {
            let said = (sent.epoch, by.reign, now);
            let gone = (code == ErrorCode::UnknownMemberId).then_some(&mut self.gone);
            for list in [Some(&mut self.fenced), gone].into_iter().flatten() {
                let before = list.entry(sent.member.clone()).or_insert(said);
                if before.0 < said.0 {
                    *before = said;
                }
            }
        }
    }

    /// Who is out stays out: of KIP-848 with the epoch at which it was told so, of a classic group with a generation of
    /// which a newer one has been assigned.
    fn judge_fenced(&self, oracle: &mut Oracle, pending: &Pending, by: Teller) {
        let Pending { sent, arrived_at, .. } = pending;
        let written = matches!(sent.step, Step::Commit(_));
        let out = if written { &self.gone } else { &self.fenced };
        let said = match sent.kind {
            Kind::Consumer => out.get(&sent.member).filter(|said| said.0 >= sent.epoch),
            Kind::Classic => self.newest.as_ref().filter(|said| said.0 > sent.epoch),
        };
        let Some((epoch, reign, at)) = said.filter(|said| said.2 < *arrived_at) else { return };
        let answered = matches!(sent.step, Step::Beat | Step::Sync(_) | Step::Consumer { .. });
        if sent.epoch > 0 && (written || (answered && by.reign >= *reign)) {
            let detail = format!(
                "{} at {} succeeded with {:?} at {arrived_at}; since {at} it is out, by {epoch}",
                sent.member, sent.epoch, sent.step
            );
            oracle.violate("group-fenced-stays-fenced", detail);
        }
    }

    /// A member was given its share. How many partitions others had before.
    fn give(
        &mut self,
        oracle: &mut Oracle,
        (pending, epoch): (&Pending, i32),
        by: Teller,
        now: Moment,
        parts: &BTreeSet<Part>,
    ) -> u64 {
        let sent = &pending.sent;
        let seat = seat(&sent.member, sent.instance.as_deref());
        let mut handed_over = 0;
        for part in parts {
            let handed = self.handed.entry((sent.member.clone(), part.clone())).or_insert((epoch, now));
            if handed.0 < epoch {
                *handed = (epoch, now);
            }
            let fresh = || Owner {
                member: sent.member.clone(),
                seat: seat.to_owned(),
                epoch,
                reign: by.reign,
                at: now,
            };
            let Some(owner) = self.owners.get_mut(part) else {
                self.owners.insert(part.clone(), fresh());
                continue;
            };
            let same_seat = owner.seat == seat;
            let again = same_seat && epoch == owner.epoch && by.reign >= owner.reign;
            if epoch > owner.epoch || (again && owner.member != sent.member) {
                handed_over += u64::from(!same_seat);
                *owner = fresh();
            } else if !same_seat {
                // An answer of a coordinator that was deposed, or one that was long on its way, tells of the past.
                let past = epoch < owner.epoch && (by.reign < owner.reign || pending.arrived_at < owner.at);
                if !past {
                    let detail = format!("{part:?} is given to {} at {epoch}; {owner:?} has it", sent.member);
                    oracle.violate("group-two-owners", detail);
                }
            }
        }
        handed_over
    }

    /// The one who was given a partition after this member, if somebody was.
    fn later_owner(&self, member: &str, part: &Part) -> Option<&Owner> {
        let mine = self.handed.get(&(member.to_owned(), part.clone())).copied().unwrap_or((-1, 0));
        self.owners.get(part).filter(|owner| owner.member != member && (owner.epoch, owner.at) > mine)
    }

    /// A commit was taken: nobody else was given these partitions before it came.
    fn judge_commit<'a>(
        &self,
        oracle: &mut Oracle,
        pending: &Pending,
        parts: impl Iterator<Item = &'a Part>,
    ) {
        let sent = &pending.sent;
        for part in parts {
            let owner = self.later_owner(&sent.member, part).filter(|owner| owner.at < pending.arrived_at);
            if let Some(owner) = owner {
                let detail = format!(
                    "{} at {} commits for {part:?}, which {owner:?} had when that came, at {}",
                    sent.member, sent.epoch, pending.arrived_at
                );
                oracle.violate("group-two-owners", detail);
            }
        }
    }

    /// A member says that it has these, and that is taken: nobody else was given them before it said so.
    fn judge_kept(&self, oracle: &mut Oracle, pending: &Pending, by: Teller, owned: &BTreeSet<Part>) {
        let sent = &pending.sent;
        for part in owned {
            let later = self.later_owner(&sent.member, part);
            let later = later.filter(|owner| owner.at < pending.sent_at && by.reign >= owner.reign);
            if let Some(owner) = later {
                let detail = format!(
                    "{} at {} keeps {part:?} and is a member still; {owner:?} has it",
                    sent.member, sent.epoch
                );
                oracle.violate("group-two-owners", detail);
            }
        }
    }
}
