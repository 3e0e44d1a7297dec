//! What it would cost to go on with the replicas that are left, and whether that is called for at all.
use cluster::{Loss, Partition};
use model::{ErrorCode, GroupKey, LeaderEpoch, NodeId, Offset};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use storage::{Replica, ReplicaKind};

/// How a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing of it is there, or not yet.
    #[default]
    Nothing,
    /// It runs.
    Runs,
    /// Its files are being read.
    Opening,
    /// It may have lost what it acknowledged.
    Restrained,
    /// Some of its bytes are not what was written.
    Suspect,
    /// It cannot be opened.
    Failed,
}

/// What a node says of its replica of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaState {
    /// Its id; 0 where there is none.
    pub replica: u64,
    /// How it is.
    pub condition: Condition,
    /// What is wrong with it.
    pub why: String,
    /// Its term.
    pub term: u64,
    /// The last entry of its log: index and term.
    pub last: (u64, u64),
    /// Log start offset.
    pub log_start: Offset,
    /// High watermark.
    pub high_watermark: Offset,
    /// Log end offset.
    pub log_end: Offset,
    /// Who votes, as it knows.
    pub voters: Vec<Replica>,
    /// The highest epoch of a leader that its node has heard of; -1 for none.
    pub epoch: LeaderEpoch,
    /// The node that leads, as it knows.
    pub leader: Option<NodeId>,
}

/// A replica, or what a member of the group was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    /// Its id.
    pub replica: u64,
    /// Its node.
    pub node: NodeId,
    /// Whether it votes, as far as the best replica knows.
    pub votes: bool,
    /// What its node says; `None` where that is not live, or did not answer.
    pub state: Option<ReplicaState>,
}

/// What an operator is told before loss is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryPlan {
    /// The replicas.
    pub rows: Vec<PlanRow>,
    /// What would be accepted, and the node that leads then; or why nothing is to be.
    pub verdict: Result<(Loss, NodeId), (ErrorCode, String)>,
}

/// What is known when all have answered, or their time is over.
pub(crate) struct Known<'a> {
    pub(crate) key: GroupKey,
    pub(crate) partition: &'a Partition,
    pub(crate) answers: &'a BTreeMap<NodeId, ReplicaState>,
    /// Epoch and node of its leader, as the table of leaders has it.
    pub(crate) leader: (LeaderEpoch, Option<NodeId>),
    pub(crate) principal: &'a str,
}

/// Whether those that `can` decide by themselves: in a joint membership, in both.
pub(crate) fn have_quorum(voters: &[Replica], can: impl Fn(&Replica) -> bool) -> bool {
    let joint = voters.iter().any(|r| matches!(r.kind(), ReplicaKind::Joining | ReplicaKind::Leaving));
    let majority = |other: ReplicaKind| {
        let of = voters.iter().filter(|r| r.kind() == ReplicaKind::Voter || r.kind() == other);
        2 * of.clone().filter(|r| can(r)).count() > of.count()
    };
    majority(ReplicaKind::Joining) && (!joint || majority(ReplicaKind::Leaving))
}

fn names(nodes: impl Iterator<Item = NodeId>) -> String {
    nodes.map(|node| node.to_string()).collect::<Vec<_>>().join(", ")
}

type Verdict = Result<(Loss, NodeId), (ErrorCode, String)>;

impl Known<'_> {
    /// The state of a replica, where its node is live and it is the one that is there.
    fn state_of(&self, id: u64, node: NodeId) -> Option<&ReplicaState> {
        self.answers.get(&node).filter(|state| state.replica == id)
    }

    /// The replica whose log is the longest, of those that have records and are whole; where there is none, of those that
    /// are damaged in what they only keep for readers.
    fn best(&self) -> Option<(NodeId, &ReplicaState)> {
        let whole = self.longest(&[Condition::Runs, Condition::Restrained]);
        whole.or_else(|| self.longest(&[Condition::Suspect]))
    }

    fn longest(&self, conditions: &[Condition]) -> Option<(NodeId, &ReplicaState)> {
        let copies = || self.partition.holders().filter(|r| r.kind != cluster::ReplicaKind::Witness);
        let holds = |node: NodeId, id: u64| copies().any(|r| (r.node, r.id) == (node, id));
        let usable = self
            .answers
            .iter()
            .filter(|(node, state)| conditions.contains(&state.condition) && holds(**node, state.replica));
        let best = usable.max_by_key(|(node, state)| (state.last.1, state.last.0, Reverse(**node)));
        best.map(|(node, state)| (*node, state))
    }

    pub(crate) fn plan(&self) -> RecoveryPlan {
        let best = self.best();
        let voters = best.map_or(&[][..], |(_, state)| &state.voters);
        let row = |id, node| PlanRow {
            replica: id,
            node,
            votes: voters.iter().any(|v| v.id == id),
            state: self.state_of(id, node).cloned(),
        };
        let mut rows: Vec<PlanRow> = self.partition.holders().map(|r| row(r.id, r.node)).collect();
        for voter in voters.iter().filter(|v| !self.partition.holders().any(|r| r.id == v.id)) {
            rows.push(row(voter.id, voter.node_id));
        }
        RecoveryPlan { verdict: self.verdict(best), rows }
    }

    fn verdict(&self, best: Option<(NodeId, &ReplicaState)>) -> Verdict {
        let leads = |(node, state): (&NodeId, &ReplicaState)| (state.leader == Some(*node)).then_some(*node);
        if let Some(leader) = self.leader.1.or_else(|| self.answers.iter().find_map(leads)) {
            return Err((ErrorCode::ElectionNotNeeded, format!("broker {leader} leads it")));
        }
        let not_available = |why: String| Err((ErrorCode::EligibleLeadersNotAvailable, why));
        let opening = self.answers.iter().find(|(_, state)| state.condition == Condition::Opening);
        if let Some((node, _)) = opening {
            return not_available(format!("broker {node} is still reading its files: ask again"));
        }
        let Some((node, state)) = best else {
            return not_available("no replica of it runs on a broker that is alive".to_owned());
        };
        let is = |v: &Replica, conditions: &[Condition]| {
            self.state_of(v.id, v.node_id).is_some_and(|state| conditions.contains(&state.condition))
        };
        // One that is damaged in its base votes, and follows whoever is whole.
        let votes = [Condition::Runs, Condition::Suspect];
        let there = |v: &Replica| is(v, &[Condition::Runs, Condition::Restrained, Condition::Suspect]);
        let not_needed = |why: String| Err((ErrorCode::ElectionNotNeeded, why));
        let whole = state.condition != Condition::Suspect;
        // A witness gives its vote to nobody who lacks what it knows to be there.
        let ahead = |v: &Replica| {
            let of = self.state_of(v.id, v.node_id).filter(|_| v.witness);
            of.is_some_and(|w| (w.last.1, w.last.0) > (state.last.1, state.last.0))
        };
        if whole && have_quorum(&state.voters, |v| is(v, &votes) && !ahead(v)) {
            let elect = names(state.voters.iter().filter(|v| is(v, &votes)).map(|v| v.node_id));
            return not_needed(format!(
                "brokers {elect} are a majority of its voters and elect by themselves"
            ));
        }
        let was_damaged = |v: &Replica| {
            let of = self.state_of(v.id, v.node_id);
            of.is_some_and(|s| s.condition == Condition::Restrained && !s.why.is_empty())
        };
        if whole && state.voters.iter().all(|v| there(v) && !was_damaged(v) && !ahead(v)) {
            return not_needed("all of its voters are there: the longest log leads by itself".to_owned());
        }
        let terms =
            self.answers.values().map(|state| state.term.max(u64::try_from(state.epoch).unwrap_or(0)));
        let before = self.partition.recovery().map_or(0, |r| r.epoch);
        let known = terms.chain([before, u64::try_from(self.leader.0).unwrap_or(0)]).max().unwrap_or(0);
        let loss = Loss {
            topic: self.key.topic,
            partition: self.key.partition,
            replica: state.replica,
            generation: self.partition.generation(),
            epoch: known,
            last: state.last,
            offsets: (state.high_watermark, state.log_end),
            principal: self.principal.to_owned(),
        };
        Ok((loss, node))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::Nothing => "nothing there",
            Condition::Runs => "runs",
            Condition::Opening => "reads its files",
            Condition::Restrained => "restrained",
            Condition::Suspect => "damaged",
            Condition::Failed => "cannot be opened",
        })
    }
}

impl fmt::Display for PlanRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlanRow { replica, node, votes, state } = self;
        write!(f, "replica {replica} on broker {node}{}: ", if *votes { ", a voter" } else { "" })?;
        let Some(state) = state else { return f.write_str("not reached, or lost") };
        let (index, term) = state.last;
        write!(f, "{}", state.condition)?;
        if !state.why.is_empty() {
            write!(f, " ({})", state.why)?;
        }
        match state.condition {
            Condition::Nothing => Ok(()),
            _ => write!(
                f,
                ", last entry {index} of term {term}, offsets {} to {}, high watermark {}",
                state.log_start, state.log_end, state.high_watermark
            ),
        }
    }
}

impl fmt::Display for RecoveryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        match &self.verdict {
            Err((_, why)) => write!(f, "nothing is to be given up: {why}"),
            Ok((loss, node)) => {
                let (from, end) = loss.offsets;
                let missing = self.rows.iter().filter(|row| row.votes && row.state.is_none());
                let missing = names(missing.map(|row| row.node));
                if !missing.is_empty() {
                    writeln!(f, "nothing is lost if a majority comes back: missing are brokers {missing}")?;
                }
                write!(
                    f,
                    "broker {node} would lead with what it has: acknowledged records from offset {from} on may be \
                     missing or others, from {end} on they are gone; all other replicas begin anew as copies of it"
                )?;
                let damaged = |row: &&PlanRow| {
                    let state = row.state.as_ref();
                    row.replica == loss.replica && state.is_some_and(|s| s.condition == Condition::Suspect)
                };
                match self.rows.iter().find(damaged) {
                    None => Ok(()),
                    Some(_) => f.write_str(
                        ", and none can be made before the log start is past what cannot be read \
                         (plimsoll topic trim)",
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
