//! Replicas that come and go: the leader of a group makes its members those that the metadata wants
//! (docs/replication.md, "Changing members").
//!
//! There is nothing to remember between two steps but when the last report was made: each look compares what is
//! wanted with what is, and does the next thing. So whoever leads next goes on, and a target may change at any time.
use crate::admin::Internal;
use crate::api::{Effect, Event};
use crate::groups::Slot;
use crate::node::Node;
use bytes::Bytes;
use cluster::Command;
use consensus::{MemberChange, TICK_MS};
use model::{GroupKey, Mono, NodeId, Now};
use proto::cluster::Reassigned;
use std::collections::BTreeSet;
use storage::{Replica, ReplicaKind};

/// A report that had no effect yet is repeated after this, ms.
const REPORT_AGAIN_MS: i64 = 500;
/// Groups of one leader to which replicas are being added; the others wait. As many as fill a disk and a
/// network, and few enough that each is done soon.
const ADDING_AT_ONCE: usize = 16;

/// Nodes that join at one time are waited for, and those that have just started, ms.
pub(crate) const RAISE_AFTER_MS: i64 = 5_000;
/// Partitions that get more replicas in one look.
const RAISED_AT_ONCE: usize = 64;

/// A group led here whose members are to change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Move {
    /// When the end was reported last.
    reported: Option<Mono>,
    /// Whether a replica of it is catching up.
    adding: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing differs.
    Done,
    /// Something must happen first: a change is applied, a replica catches up.
    Wait,
    /// Propose this.
    Change(MemberChange),
    /// Leadership goes to a replica on this node, which removes the one here when the others are in place.
    HandOver(NodeId),
}

/// A member as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: u64,
    pub(crate) node: NodeId,
    pub(crate) kind: ReplicaKind,
    pub(crate) witness: bool,
    /// Its node is live and it has what the leader has, or had a moment ago.
    pub(crate) ready: bool,
}

/// A member as the metadata wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) node: NodeId,
    pub(crate) witness: bool,
}

impl From<&cluster::Replica> for Wanted {
    fn from(r: &cluster::Replica) -> Wanted {
        Wanted { id: r.id, node: r.node, witness: r.kind == cluster::ReplicaKind::Witness }
    }
}

/// The next step from `members` to those that are `wanted`; `own` leads. `may_add`: a new replica may begin to
/// catch up.
pub(crate) fn next_step(own: u64, members: &[Seen], wanted: &[Wanted], may_add: bool) -> Step {
    let is_wanted = |id: u64| wanted.iter().any(|w| w.id == id);
    let joint = |m: &Seen| matches!(m.kind, ReplicaKind::Joining | ReplicaKind::Leaving);
    if members.iter().any(joint) {
        return Step::Change(MemberChange::Leave);
    }
    let learner = |m: &&Seen| m.kind == ReplicaKind::Learner;
    if !is_wanted(own) {
        // A node that is left by all leads nothing from the beginning.
        let heir = |m: &&Seen| m.kind == ReplicaKind::Voter && !m.witness && m.ready && is_wanted(m.id);
        if let Some(heir) = members.iter().find(heir) {
            return Step::HandOver(heir.node);
        }
    }
    // One that is wanted no more takes nobody's place while it catches up.
    if let Some(extra) = members.iter().filter(learner).find(|m| !is_wanted(m.id)) {
        return Step::Change(MemberChange::Replace { promote: Vec::new(), remove: vec![extra.id] });
    }
    let missing = wanted.iter().find(|w| !members.iter().any(|m| m.id == w.id));
    if let Some(goes) = missing.and_then(|w| room_for(own, members, w, is_wanted)) {
        return goes.map_or(Step::Wait, |remove| {
            Step::Change(MemberChange::Replace { promote: Vec::new(), remove })
        });
    }
    if let Some(Wanted { id: replica_id, node: node_id, witness }) = missing.copied() {
        let add = MemberChange::AddLearner { replica_id, node_id, witness };
        return if may_add { Step::Change(add) } else { Step::Wait };
    }
    if members.iter().filter(learner).any(|m| !m.ready) {
        return Step::Wait;
    }
    let promote: Vec<u64> = members.iter().filter(learner).map(|m| m.id).collect();
    let out = |m: &&Seen| !is_wanted(m.id) && m.id != own;
    let remove: Vec<u64> = members.iter().filter(out).map(|m| m.id).collect();
    if !promote.is_empty() || !remove.is_empty() {
        let stays = |m: &&Seen| is_wanted(m.id) || m.id == own;
        let after = members.iter().filter(stays);
        let ready = after.clone().filter(|m| m.ready).count();
        // Nothing is removed where those that stay could not decide by themselves.
        return if ready * 2 > after.count() {
            Step::Change(MemberChange::Replace { promote, remove })
        } else {
            Step::Wait
        };
    }
    if is_wanted(own) { Step::Done } else { Step::Wait }
}

/// Members that must go before `new` may begin: the witness on its node, which votes until then. With it goes, if the
/// others could not decide without, whoever is wanted no more and not ready. `None`: nobody is in its way;
/// `Some(None)`: not yet.
fn room_for(
    own: u64,
    members: &[Seen],
    new: &Wanted,
    is_wanted: impl Fn(u64) -> bool,
) -> Option<Option<Vec<u64>>> {
    let witness = members.iter().find(|m| m.witness && m.node == new.node && !is_wanted(m.id))?;
    let idle = |m: &&Seen| m.id != own && m.id != witness.id && !is_wanted(m.id) && !m.ready;
    let all = || std::iter::once(witness.id).chain(members.iter().filter(idle).map(|m| m.id)).collect();
    let decides = |remove: &Vec<u64>| {
        let votes = |m: &&Seen| m.kind != ReplicaKind::Learner && !remove.contains(&m.id);
        let stay: Vec<&Seen> = members.iter().filter(votes).collect();
        stay.iter().filter(|m| m.ready).count() * 2 > stay.len()
    };
    Some([vec![witness.id], all()].into_iter().find(decides))
}

impl Node {
    /// The members of a group changed: who is live among them, and who is in sync, is another question now.
    pub(crate) fn members_changed(&mut self, now: Now, key: GroupKey) {
        self.note_down(now, key);
        self.stir(now, key);
        self.announce(now, key);
        self.look_at_members(now, key);
        // Whoever is left alone by a leader that is gone leads; nobody else would touch it.
        if self.open_group(key).is_some_and(|o| o.partition.is_alone() && !o.partition.is_leader()) {
            self.with(key, |p, dir, fx| p.touch(now, dir, fx));
        }
    }

    /// Other replicas are wanted, or the group's leader has reported that it has them.
    pub(crate) fn reassigned(&mut self, now: Now, key: GroupKey) {
        if !self.registered {
            // After a start entries are applied once more that a former process has acted upon, and others after
            // them: files must not go by what was wanted in between. When this start is registered, all is looked at.
            return;
        }
        let image = self.metadata.image();
        let own = self.held(&image, key).map(|(_, id, _)| id);
        let moving = image.partition(key);
        if moving.is_none_or(|p| !p.is_moving()) && self.peers.moves.contains_key(&key) {
            self.fx.push(Effect::Event(Event::Moved { key }));
        }
        match self.groups.get(&key) {
            Some(Slot::Open(open))
                if own.is_some_and(|id| self.goes_on_as(key, open.partition.replica_id(), id)) =>
            {
                return self.begin_alone(key);
            }
            Some(Slot::Open(open)) if own != Some(open.partition.replica_id()) => {
                self.fx.push(Effect::Event(Event::ReplicaGone { key }));
                self.remove_group(key);
            }
            Some(Slot::Open(_)) => {
                self.tell_addresses(now, key);
                self.wait_for_fewer(now, key);
            }
            // When its files are read the image is looked at again.
            Some(Slot::Opening(_)) => return,
            Some(Slot::Failed(_)) | None if own.is_none() => self.remove_group(key),
            Some(Slot::Failed(_)) | None => {}
        }
        self.open_replica(now, key);
        self.leads_alone(now, key);
        self.look_at_members(now, key);
    }

    /// Tells a replica what the metadata knows of its group and its own log may say nothing of yet: where others
    /// are, and what was committed when the members changed last.
    pub(crate) fn tell_addresses(&mut self, now: Now, key: GroupKey) {
        let image = self.metadata.image();
        let Some(partition) = image.partition(key) else { return };
        let moving = partition.is_moving() || partition.founders().len() != partition.replicas.len();
        let others =
            partition.holders().filter(|_| moving || partition.founders() != &partition.replicas[..]);
        let addresses = others.map(|r| (r.id, r.node)).collect();
        let (index, term) = partition.agreed();
        if let Some(Slot::Open(open)) = self.groups.get_mut(&key) {
            open.partition.set_addresses(addresses);
            open.partition.set_agreed(index, term);
            open.partition.set_strict(partition.recovery().is_some_and(|r| !r.done));
        }
        if index > 0 {
            self.with(key, |p, dir, fx| p.look(now, dir, fx));
        }
    }

    /// Whether the members of a group that leads here are to change is found out at the next tick.
    pub(crate) fn look_at_members(&mut self, now: Now, key: GroupKey) {
        if key == GroupKey::METADATA {
            return;
        }
        let image = self.metadata.image();
        let Some(partition) = image.partition(key) else { return };
        let leads = self.open_group(key).filter(|o| o.partition.is_leader());
        let Some(open) = leads else { return };
        let same = |m: &Replica| m.kind() == ReplicaKind::Voter && partition.wanted().any(|r| r.id == m.id);
        let members = open.partition.members();
        let differs = !members.iter().all(same) || members.len() != partition.wanted().count();
        if differs || partition.is_moving() {
            if self.peers.moves.is_empty() {
                self.peers.next_moves = now.mono;
            }
            self.peers.moves.entry(key).or_default();
        }
    }

    /// Takes every group whose members are to change one step further.
    pub(crate) fn advance_moves(&mut self, now: Now) {
        if self.peers.moves.is_empty() || self.peers.next_moves > now.mono {
            return;
        }
        self.peers.next_moves = now.mono.after_ms(TICK_MS as i64);
        let keys: BTreeSet<GroupKey> = self.peers.moves.keys().copied().collect();
        let mut adding = self.peers.moves.values().filter(|m| m.adding).count();
        for key in keys {
            let was = self.peers.moves.get(&key).is_some_and(|m| m.adding);
            adding -= usize::from(was);
            self.advance_move(now, key, adding < ADDING_AT_ONCE);
            adding += usize::from(self.peers.moves.get(&key).is_some_and(|m| m.adding));
        }
    }

    /// `may_add`: few enough others are catching up.
    fn advance_move(&mut self, now: Now, key: GroupKey, may_add: bool) {
        let image = self.metadata.image();
        let partition = image.partition(key);
        let open = self.open_group(key).filter(|o| o.partition.leader_epoch().is_some());
        let (Some(partition), Some(open)) = (partition, open) else {
            self.peers.moves.remove(&key);
            return;
        };
        if open.partition.change_pending() || open.partition.is_transferring() || self.handing_over.is_some()
        {
            return;
        }
        if let Some(reset) = self.reset_due(key) {
            self.with(key, |p, dir, fx| p.propose_change(now, &reset, dir, fx).is_ok());
            return self.settle(now);
        }
        let wanted: Vec<Wanted> = partition.wanted().map(Wanted::from).collect();
        let own = open.partition.replica_id();
        let seen: Vec<Seen> = self.seen(now, key);
        let adding = seen.iter().any(|m| m.kind == ReplicaKind::Learner);
        let step = next_step(own, &seen, &wanted, may_add);
        let adds = adding || matches!(step, Step::Change(MemberChange::AddLearner { .. }));
        if let Some(row) = self.peers.moves.get_mut(&key) {
            row.adding = adds;
        }
        match step {
            // One that waits for its turn may sleep.
            Step::Wait if !may_add && !adds => {}
            Step::Wait => self.stir(now, key),
            Step::Change(change) => {
                // Refused while it is being handed over, for example: the next look finds the same.
                self.with(key, |p, dir, fx| p.propose_change(now, &change, dir, fx).is_ok());
                self.stir(now, key);
                self.settle(now);
            }
            Step::HandOver(node) => {
                self.transfer_leader(now, key, node);
                self.settle(now);
            }
            Step::Done if partition.is_moving() => self.report(now, key, wanted, partition.generation()),
            Step::Done => _ = self.peers.moves.remove(&key),
        }
    }

    fn seen(&self, now: Now, key: GroupKey) -> Vec<Seen> {
        let Some(open) = self.open_group(key) else { return Vec::new() };
        let live = |node: NodeId| self.peers.liveness.holds(now.mono, node);
        let own = open.partition.replica_id();
        let row = |m: &Replica| {
            let ready = m.id == own || live(m.node_id) && open.partition.keeps_up(now, m.id);
            Seen { id: m.id, node: m.node_id, kind: m.kind(), witness: m.witness, ready }
        };
        open.partition.members().iter().map(row).collect()
    }

    fn report(&mut self, now: Now, key: GroupKey, wanted: Vec<Wanted>, generation: u64) {
        let Some(row) = self.peers.moves.get_mut(&key) else { return };
        if row.reported.is_some_and(|at| at.after_ms(REPORT_AGAIN_MS) > now.mono) {
            return;
        }
        row.reported = Some(now.mono);
        let Some((index, term)) = self.open_group(key).map(|o| o.partition.applied_point()) else { return };
        let topic_id = Bytes::copy_from_slice(&key.topic.0);
        let replicas = wanted.into_iter().map(|w| w.id).collect();
        let partition = key.partition;
        let report = Reassigned { topic_id, partition, replicas, index, term, generation };
        let command = Command::Reassigned(report);
        self.tell_metadata(now, &command);
    }

    /// The members of a group as the replica here knows them, and what it would do next where it leads: for
    /// reports of what is stuck.
    pub fn explain_move(&self, now: Now, key: GroupKey) -> Option<String> {
        let image = self.metadata.image();
        let partition = image.partition(key)?;
        let open = self.open_group(key)?;
        let wanted: Vec<Wanted> = partition.wanted().map(Wanted::from).collect();
        let seen = self.seen(now, key);
        let step = next_step(open.partition.replica_id(), &seen, &wanted, true);
        let (leads, pending) = (open.partition.leader_epoch(), open.partition.change_pending());
        let looked_at = self.peers.moves.get(&key);
        Some(format!("{seen:?}, leads {leads:?}, pending {pending}, {looked_at:?}, next {step:?}"))
    }

    /// Internal topics get the replicas that are configured for them, and two replicas a witness, as soon as there are
    /// nodes enough.
    pub(crate) fn raise_topics(&mut self, now: Now) {
        if self.peers.next_raise.is_none_or(|at| at > now.mono) {
            return;
        }
        self.peers.next_raise = None;
        if !self.leads_metadata() || self.handing_over.is_some() {
            return;
        }
        let image = self.metadata.pending();
        let mut live = self.peers.liveness.live(now.mono);
        live.retain(|node| image.nodes.contains_key(node));
        let loads = self.loads(now);
        let candidates = cluster::Candidates::new(&live, &loads);
        let mut commands = cluster::raise_internal(&image, candidates, RAISED_AT_ONCE);
        commands.extend(cluster::raise_witnesses(&image, &live, RAISED_AT_ONCE));
        // Nodes that are registered and not live yet may be soon; what is being raised may not be all.
        if !commands.is_empty() || live.len() < image.nodes.len() {
            self.peers.next_raise = Some(now.mono.after_ms(RAISE_AFTER_MS));
        }
        for command in &commands {
            self.propose(now, command, Internal::Part);
        }
    }

    /// Groups led here whose members are being changed.
    pub fn groups_moving(&self) -> usize {
        self.peers.moves.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNER: ReplicaKind = ReplicaKind::Learner;
    const VOTER: ReplicaKind = ReplicaKind::Voter;

    fn seen(rows: &[(u64, ReplicaKind, bool)]) -> Vec<Seen> {
        rows.iter()
            .map(|(id, kind, ready)| Seen {
                id: *id,
                node: *id as NodeId,
                kind: *kind,
                witness: *id >= WITNESS,
                ready: *ready,
            })
            .collect()
    }

    /// Ids from here on are of witnesses.
    const WITNESS: u64 = 90;

    fn want(ids: &[u64]) -> Vec<Wanted> {
        ids.iter().map(|id| Wanted { id: *id, node: *id as NodeId, witness: *id >= WITNESS }).collect()
    }

    fn step(members: &[(u64, ReplicaKind, bool)], wanted: &[u64]) -> Step {
        next_step(1, &seen(members), &want(wanted), true)
    }

    fn replace(promote: &[u64], remove: &[u64]) -> Step {
        Step::Change(MemberChange::Replace { promote: promote.to_vec(), remove: remove.to_vec() })
    }

    #[test]
    fn a_replica_is_added_waited_for_and_takes_the_place_of_the_one_that_goes() {
        let three = [(1, VOTER, true), (2, VOTER, true), (3, VOTER, true)];
        let add = MemberChange::AddLearner { replica_id: 4, node_id: 4, witness: false };
        assert_eq!(step(&three, &[1, 2, 4]), Step::Change(add));
        let with = |ready| [three[0], three[1], three[2], (4, LEARNER, ready)];
        assert_eq!(step(&with(false), &[1, 2, 4]), Step::Wait);
        assert_eq!(step(&with(true), &[1, 2, 4]), replace(&[4], &[3]));
        let joint = [three[0], three[1], (3, ReplicaKind::Leaving, true), (4, ReplicaKind::Joining, true)];
        assert_eq!(step(&joint, &[1, 2, 4]), Step::Change(MemberChange::Leave));
        assert_eq!(step(&[three[0], three[1], (4, VOTER, true)], &[1, 2, 4]), Step::Done);
    }

    #[test]
    fn a_leader_that_goes_hands_over_as_soon_as_one_that_stays_can_lead() {
        let with_others = [(1, VOTER, true), (2, VOTER, false), (3, VOTER, true), (4, LEARNER, false)];
        assert_eq!(step(&with_others, &[2, 3, 4]), Step::HandOver(3));
        let alone = [(1, VOTER, true), (2, LEARNER, true)];
        assert_eq!(step(&alone, &[2]), replace(&[2], &[]));
        assert_eq!(step(&[(1, VOTER, true), (2, VOTER, false)], &[2]), Step::Wait);
        assert_eq!(step(&[(1, VOTER, true), (2, VOTER, true)], &[2]), Step::HandOver(2));
        let both = [(2, VOTER, true), (1, VOTER, true)];
        assert_eq!(next_step(2, &seen(&both), &want(&[2]), true), replace(&[], &[1]));
    }

    #[test]
    fn a_witness_joins_like_the_others_and_never_leads() {
        let two = [(1, VOTER, true), (2, VOTER, true)];
        let add = MemberChange::AddLearner { replica_id: 91, node_id: 91, witness: true };
        assert_eq!(step(&two, &[1, 2, 91]), Step::Change(add));
        let with = |kind| [two[0], two[1], (91, kind, true)];
        assert_eq!(step(&with(LEARNER), &[1, 2, 91]), replace(&[91], &[]));
        assert_eq!(step(&with(VOTER), &[1, 2, 91]), Step::Done);
        assert_eq!(step(&with(VOTER), &[1, 2]), replace(&[], &[91]));
        let alone = [(1, VOTER, true), (2, VOTER, false), (91, VOTER, true)];
        assert_eq!(step(&alone, &[2, 91]), Step::Wait, "a witness is no heir");
    }

    #[test]
    fn a_copy_comes_to_the_node_of_a_witness_when_that_votes_no_more() {
        let seen = |second: bool| {
            let mut members = seen(&[(1, VOTER, true), (2, VOTER, second), (91, VOTER, true)]);
            members[2].node = 3;
            members
        };
        let wanted = |ids: &[u64]| want(ids);
        assert_eq!(next_step(1, &seen(true), &wanted(&[1, 3]), true), replace(&[], &[91]));
        // The other one is lost: with the witness's vote both go, and one decides alone.
        assert_eq!(next_step(1, &seen(false), &wanted(&[1, 3]), true), replace(&[], &[91, 2]));
        assert_eq!(next_step(1, &seen(false), &wanted(&[1, 2, 3]), true), Step::Wait, "it is wanted");
        // One that only learns is no vote in its place.
        let mut with_learner = seen(false);
        with_learner.push(Seen { id: 5, node: 2, kind: LEARNER, witness: false, ready: true });
        assert_eq!(next_step(1, &with_learner, &wanted(&[1, 5, 3]), true), replace(&[], &[91, 2]));
        let add = MemberChange::AddLearner { replica_id: 3, node_id: 3, witness: false };
        assert_eq!(next_step(1, &seen(true)[..2], &wanted(&[1, 3]), true), Step::Change(add));
    }

    #[test]
    fn what_is_wanted_no_more_goes_first() {
        let members = [(1, VOTER, true), (2, VOTER, true), (4, LEARNER, false)];
        assert_eq!(step(&members, &[1, 2]), replace(&[], &[4]));
        assert_eq!(step(&members, &[1, 2, 5]), replace(&[], &[4]), "its successor comes after it");
    }

    #[test]
    fn nothing_is_removed_where_the_rest_could_not_decide() {
        let members = [(1, VOTER, true), (2, VOTER, false), (3, VOTER, true)];
        assert_eq!(step(&members, &[1, 2]), Step::Wait);
        assert_eq!(step(&members, &[1, 3]), replace(&[], &[2]), "a dead one may go");
    }

    #[test]
    fn new_replicas_wait_for_their_turn() {
        let members = seen(&[(1, VOTER, true)]);
        assert_eq!(next_step(1, &members, &want(&[1, 2]), false), Step::Wait);
    }
}
