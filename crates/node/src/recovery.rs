//! Accepted loss: an operator has one replica that is left go on alone (docs/replication.md, "Accepted loss").
//!
//! The leader of the metadata asks every live node what it has of the partition, judges (`recovery_plan.rs`), and
//! records what was accepted. The node of the replica that counts closes it, and opens it again under its new id as all
//! of its group. From there on members are changed as ever.
use crate::admin::Internal;
use crate::api::{AdminReply, Effect, Event, PeerOut, Reply, Token};
use crate::groups::{Slot, Touch};
use crate::node::Node;
use crate::recovery_plan::{Condition, Known, ReplicaState};
use bytes::Bytes;
use cluster::{Image, ItemError, Partition, Recovery, accept_loss, may_accept_loss};
use consensus::MemberChange;
use model::{ErrorCode, GroupKey, Mono, NodeId, Now};
use partition::Start;
use prost::Message as _;
use std::collections::BTreeMap;
use storage::{Recovered, Replica, ReplicaKind, UNKNOWN_FLOOR};

/// Nodes that have not answered in so long are taken for gone, ms.
const PATIENCE_MS: i64 = 2_000;
/// Questions that wait for answers; more are refused.
const MOST_INQUIRIES: usize = 64;
/// Bytes of what a node says is wrong with its replica.
pub(crate) const MOST_WHY: usize = 1_000;

/// One partition of a request, while its replicas are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverAsk {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Who asks.
    pub principal: String,
    /// Whether the loss is accepted; if not, this only tells what it would be.
    pub accept: bool,
}

/// What is being found out.
#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    last: u64,
    open: BTreeMap<u64, Inquiry>,
    /// Partitions for which this node has accepted loss.
    pub(crate) accepted: u64,
}

#[derive(Debug)]
struct Inquiry {
    token: Token,
    ask: RecoverAsk,
    key: GroupKey,
    /// Nodes that have not answered.
    missing: Vec<NodeId>,
    answers: BTreeMap<NodeId, ReplicaState>,
    until: Mono,
}

impl Inquiries {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.open.values().map(|inquiry| inquiry.until).min()
    }
}

fn partition_of(image: &Image, key: GroupKey) -> Option<&Partition> {
    image.partition(key)
}

impl Node {
    /// Asks all live nodes what they have of a partition; judged when they have answered.
    pub(crate) fn inquire(&mut self, now: Now, token: Token, ask: &RecoverAsk) {
        let image = self.metadata.image();
        let topic = image.topic(&ask.topic);
        let key = topic.map(|topic| GroupKey { topic: topic.id, partition: ask.partition });
        let Some((key, partition)) = key.and_then(|key| Some((key, partition_of(&image, key)?))) else {
            let error = ItemError::bare(ErrorCode::UnknownTopicOrPartition);
            return self.answer_admin(token, AdminReply::Done(vec![Err(error)]));
        };
        if let Err(error) = may_accept_loss(&image) {
            // A node of before does not know the question.
            return self.answer_admin(token, AdminReply::Done(vec![Err(error)]));
        }
        if self.inquiries.open.len() >= MOST_INQUIRIES {
            return self.answer_admin(token, AdminReply::Refused(ErrorCode::RequestTimedOut));
        }
        let live = self.peers.liveness.live(now.mono);
        let others = partition.holders().map(|r| r.node).filter(|node| *node != self.cfg.node_id);
        let mut missing: Vec<NodeId> = others.filter(|node| live.contains(node)).collect();
        missing.sort_unstable();
        missing.dedup();
        self.inquiries.last += 1;
        let number = self.inquiries.last;
        for node in &missing {
            self.fx.push(Effect::Peer(*node, PeerOut::AskReplica { key, inquiry: number }));
        }
        let answers = BTreeMap::from([(self.cfg.node_id, self.replica_state(now, key))]);
        let until = now.mono.after_ms(PATIENCE_MS);
        let inquiry = Inquiry { token, ask: ask.clone(), key, missing, answers, until };
        self.inquiries.open.insert(number, inquiry);
        self.conclude_inquiries(now);
    }

    fn answer_admin(&mut self, token: Token, reply: AdminReply) {
        self.fx.push(Effect::Reply(token, Reply::Admin(reply)));
    }

    /// What this node has of a partition.
    fn replica_state(&self, now: Now, key: GroupKey) -> ReplicaState {
        let epoch = self.peers.leaders.leader(key).epoch;
        let mut state = ReplicaState { epoch, term: self.term_of(key), ..ReplicaState::default() };
        let image = self.metadata.image();
        let held = partition_of(&image, key).and_then(|p| p.holders().find(|r| r.node == self.cfg.node_id));
        state.replica = held.map_or(0, |r| r.id);
        match self.groups.get(&key) {
            Some(Slot::Open(open)) => {
                let p = &open.partition;
                let floor = self.dir.life(key).1;
                (state.replica, state.last) = (p.replica_id(), (p.last_index(), p.last_term()));
                (state.log_start, state.log_end) = (p.log_start(), p.log_end());
                state.high_watermark = p.high_watermark();
                let votes = p.members().iter().filter(|m| m.kind() != ReplicaKind::Learner);
                state.voters = votes.cloned().collect();
                let live = |node: &NodeId| self.peers.liveness.holds(now.mono, *node);
                let leads = p.leader_node().filter(|node| *node == self.cfg.node_id || live(node));
                state.leader = leads;
                state.condition = match self.suspicion(key) {
                    Some(why) => {
                        state.why = why.to_owned();
                        Condition::Suspect
                    }
                    None if p.is_restrained() => {
                        if floor != UNKNOWN_FLOOR {
                            // Its log may not lead for being the longest.
                            state.why = format!("was damaged, and lacks entries up to {floor}");
                        }
                        Condition::Restrained
                    }
                    None => Condition::Runs,
                };
            }
            Some(Slot::Opening(_)) => state.condition = Condition::Opening,
            Some(Slot::Failed(why)) => {
                state.condition = Condition::Failed;
                state.why = self.suspicion(key).unwrap_or(why).to_owned();
            }
            None if held.is_some() && self.was_touched(key) => state.condition = Condition::Opening,
            None => {}
        }
        state.why.truncate(state.why.floor_char_boundary(MOST_WHY));
        state
    }

    /// The leader of the metadata asks what is here.
    pub(crate) fn on_ask_replica(&mut self, now: Now, node: NodeId, key: GroupKey, inquiry: u64) {
        self.open_replica(now, key);
        let state = Box::new(self.replica_state(now, key));
        self.fx.push(Effect::Peer(node, PeerOut::ReplicaState { key, inquiry, state }));
    }

    /// What another node has.
    pub(crate) fn on_replica_state(&mut self, now: Now, node: NodeId, inquiry: u64, state: ReplicaState) {
        let Some(open) = self.inquiries.open.get_mut(&inquiry) else { return };
        if open.missing.contains(&node) {
            open.missing.retain(|n| *n != node);
            open.answers.insert(node, state);
            self.conclude_inquiries(now);
        }
    }

    /// Judges what all have answered to, or whose time is over.
    pub(crate) fn conclude_inquiries(&mut self, now: Now) {
        let over = |i: &Inquiry| i.missing.is_empty() || i.until <= now.mono;
        let due: Vec<u64> =
            self.inquiries.open.iter().filter(|(_, i)| over(i)).map(|(number, _)| *number).collect();
        for number in due {
            if let Some(inquiry) = self.inquiries.open.remove(&number) {
                self.conclude(now, inquiry);
            }
        }
    }

    fn conclude(&mut self, now: Now, inquiry: Inquiry) {
        let Inquiry { token, ask, key, answers, .. } = inquiry;
        if !self.leads_metadata() {
            return self.answer_admin(token, AdminReply::Refused(ErrorCode::NotController));
        }
        let image = self.metadata.pending();
        let Some(partition) = partition_of(&image, key) else {
            let error = ItemError::bare(ErrorCode::UnknownTopicOrPartition);
            return self.answer_admin(token, AdminReply::Done(vec![Err(error)]));
        };
        let leader = self.leader_of(key);
        let leader = (leader.0, leader.1.filter(|_| partition.holders().count() > 1));
        let principal = &ask.principal;
        let mut plan = Known { key, partition, answers: &answers, leader, principal }.plan();
        let command = match &plan.verdict {
            Ok((loss, _)) => Some(accept_loss(&image, loss)),
            Err(_) => None,
        };
        match command {
            Some(Err(error)) => {
                plan.verdict = Err((error.code, error.message.unwrap_or_default()));
                self.answer_admin(token, AdminReply::Recovery(Box::new(plan)));
            }
            Some(Ok(command)) if ask.accept => {
                let reply = AdminReply::Recovery(Box::new(plan));
                self.propose(now, &command, Internal::Admin(token, reply));
            }
            _ => self.answer_admin(token, AdminReply::Recovery(Box::new(plan))),
        }
    }

    /// The node leads the metadata no more: whoever asked asks its successor.
    pub(crate) fn drop_inquiries(&mut self) {
        for (_, inquiry) in std::mem::take(&mut self.inquiries.open) {
            self.answer_admin(inquiry.token, AdminReply::Refused(ErrorCode::NotController));
        }
    }

    /// Whether what is here under the id `was` goes on under the id that is wanted on this node.
    pub(crate) fn goes_on_as(&self, key: GroupKey, was: u64, id: u64) -> bool {
        let image = self.metadata.image();
        let recovery = partition_of(&image, key).and_then(|p| p.recovery_of(id));
        recovery.is_some_and(|r| r.was == was)
    }

    /// Whether the replica here was made all of its group, and the others are not there yet: nobody can bring it up.
    pub(crate) fn goes_on_alone(&self, key: GroupKey) -> bool {
        let image = self.metadata.image();
        let Some(partition) = partition_of(&image, key) else { return false };
        let own = partition.holders().find(|r| r.node == self.cfg.node_id);
        own.and_then(|r| partition.recovery_of(r.id)).is_some_and(|recovery| !recovery.done)
    }

    /// The replica that runs here under its former id is closed, and read back as all of its group.
    pub(crate) fn begin_alone(&mut self, key: GroupKey) {
        self.drop_install(key);
        self.peers.moves.remove(&key);
        self.peers.campaigns.remove(&key);
        self.suspects.forget(key);
        self.give_up_group(key);
    }

    /// How a replica with the id `id` starts from what was read back: as all of its group, where an operator has made
    /// it so and its group has no other members yet.
    pub(crate) fn start_of(&mut self, key: GroupKey, id: u64, recovered: Box<Recovered>) -> Start {
        let image = self.metadata.image();
        let recovery = partition_of(&image, key).and_then(|p| p.recovery_of(id)).filter(|r| !r.done);
        let Some(recovery) = recovery else { return Start::Recovered(recovered) };
        let before = self.states.get(&key).map_or(0, |state| state.replica);
        if before != id {
            // Durable before anything is acknowledged under the new id.
            self.dir.rename(key, id);
            if let Some(state) = self.states.get_mut(&key) {
                state.replica = id;
            }
            self.inquiries.accepted += 1;
            self.fx.push(Effect::Event(Event::LossAccepted { key, recovery: Box::new(recovery.clone()) }));
        }
        if self.dir.life(key).1 > 0 {
            // It was damaged since, and others lead by now: what it knows of the members may be old.
            return Start::Recovered(recovered);
        }
        Start::Reset { recovered, from_term: recovery.epoch, node: self.cfg.node_id }
    }

    /// A replica was opened, or is to get company: where nobody else is a member, nobody else elects it, and clients touch
    /// nothing that is to have several replicas and that nobody leads.
    pub(crate) fn leads_alone(&mut self, now: Now, key: GroupKey) {
        let image = self.metadata.image();
        let alone = self.open_group(key).is_some_and(|open| open.partition.is_alone());
        let lossy = partition_of(&image, key).is_some_and(|p| p.recovery().is_some_and(|r| !r.done));
        if alone && (lossy || self.has_peers(key)) {
            self.touch(now, key, Touch::Open);
        }
    }

    /// The first change of a group whose replica here was made all of it: its log says so from there on.
    pub(crate) fn reset_due(&self, key: GroupKey) -> Option<MemberChange> {
        let image = self.metadata.image();
        let p = &self.open_group(key)?.partition;
        let recovery = partition_of(&image, key)?.recovery_of(p.replica_id()).filter(|r| !r.done)?;
        let due = p.votes_alone() && !p.was_reset();
        due.then(|| reset_of(recovery, self.cfg.node_id))
    }

    /// Partitions for which loss was accepted and whose replica here went on alone, since the start.
    pub fn losses_accepted(&self) -> u64 {
        self.inquiries.accepted
    }
}

fn reset_of(recovery: &Recovery, node_id: NodeId) -> MemberChange {
    let row = |r: &cluster::Replica| Replica {
        id: r.id,
        node_id: r.node,
        kind: ReplicaKind::Voter as i32,
        witness: r.kind == cluster::ReplicaKind::Witness,
    };
    let record = proto::peer::Reset {
        node_id,
        given_up: recovery.given_up.iter().map(row).collect(),
        index: recovery.last.0,
        term: recovery.last.1,
        from_offset: recovery.offsets.0,
        end_offset: recovery.offsets.1,
        principal: recovery.principal.clone(),
    };
    MemberChange::Reset { replica_id: recovery.replica, record: Bytes::from(record.encode_to_vec()) }
}
