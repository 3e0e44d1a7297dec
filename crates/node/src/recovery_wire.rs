//! What nodes say of their replicas before loss is accepted, as it travels.
use crate::peer_wire::{BadMessage, key_of, topic};
use crate::recovery::MOST_WHY;
use crate::recovery_plan::{Condition, ReplicaState};
use model::GroupKey;
use proto::peer as pb;

/// Voters that a node may name: as many as a group may have.
const MOST_VOTERS: usize = 1 << 10;

pub(crate) fn asked(key: GroupKey, inquiry: u64) -> pb::AskReplica {
    pb::AskReplica { topic_id: topic(key), partition: key.partition, inquiry }
}

pub(crate) fn told(key: GroupKey, inquiry: u64, state: ReplicaState) -> pb::ReplicaState {
    let condition = match state.condition {
        Condition::Nothing => pb::ReplicaCondition::ConditionNone,
        Condition::Runs => pb::ReplicaCondition::ConditionRuns,
        Condition::Opening => pb::ReplicaCondition::ConditionOpening,
        Condition::Restrained => pb::ReplicaCondition::ConditionRestrained,
        Condition::Suspect => pb::ReplicaCondition::ConditionSuspect,
        Condition::Failed => pb::ReplicaCondition::ConditionFailed,
    };
    pb::ReplicaState {
        topic_id: topic(key),
        partition: key.partition,
        inquiry,
        replica: state.replica,
        condition: condition as i32,
        why: state.why,
        term: state.term,
        last_index: state.last.0,
        last_term: state.last.1,
        log_start: state.log_start,
        high_watermark: state.high_watermark,
        log_end: state.log_end,
        voters: state.voters,
        epoch: state.epoch,
        leader: state.leader.unwrap_or(-1),
    }
}

/// Terms are leader epochs: one above them would leave none to go on with.
fn term(term: u64) -> Result<u64, BadMessage> {
    if i32::try_from(term).is_ok() { Ok(term) } else { Err(BadMessage::Field("a term fits an i32")) }
}

pub(crate) fn heard(said: pb::ReplicaState) -> Result<(GroupKey, ReplicaState), BadMessage> {
    let condition = match said.condition() {
        pb::ReplicaCondition::ConditionNone => Condition::Nothing,
        pb::ReplicaCondition::ConditionRuns => Condition::Runs,
        pb::ReplicaCondition::ConditionOpening => Condition::Opening,
        pb::ReplicaCondition::ConditionRestrained => Condition::Restrained,
        pb::ReplicaCondition::ConditionSuspect => Condition::Suspect,
        pb::ReplicaCondition::ConditionFailed => Condition::Failed,
    };
    let long = said.why.len() > MOST_WHY || said.voters.len() > MOST_VOTERS;
    let offsets = [said.log_start, said.high_watermark, said.log_end];
    if long || offsets.iter().any(|offset| *offset < 0) {
        return Err(BadMessage::Field("what a replica has cannot be"));
    }
    let state = ReplicaState {
        replica: said.replica,
        condition,
        why: said.why,
        term: term(said.term)?,
        last: (said.last_index, term(said.last_term)?),
        log_start: said.log_start,
        high_watermark: said.high_watermark,
        log_end: said.log_end,
        voters: said.voters,
        epoch: said.epoch,
        leader: Some(said.leader).filter(|leader| *leader >= 0),
    };
    Ok((key_of(&said.topic_id, said.partition)?, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TopicId;
    use storage::Replica;

    #[test]
    fn what_a_node_has_is_what_is_heard_and_what_cannot_be_is_refused() {
        let key = GroupKey { topic: TopicId([5; 16]), partition: 7 };
        for condition in [Condition::Nothing, Condition::Runs, Condition::Restrained, Condition::Failed] {
            let state = ReplicaState {
                replica: 4,
                condition,
                why: "torn".into(),
                term: 9,
                last: (12, 8),
                log_start: 1,
                high_watermark: 5,
                log_end: 7,
                voters: vec![Replica { id: 4, node_id: 2, kind: 0, witness: false }],
                epoch: -1,
                leader: Some(2),
            };
            assert_eq!(heard(told(key, 3, state.clone())), Ok((key, state.clone())));
            let bad = pb::ReplicaState { term: 1 << 31, ..told(key, 3, state.clone()) };
            assert!(heard(bad).is_err());
            let bad = pb::ReplicaState { log_end: -1, ..told(key, 3, state.clone()) };
            assert!(heard(bad).is_err());
            let bad = pb::ReplicaState { why: "x".repeat(2_000), ..told(key, 3, state) };
            assert!(heard(bad).is_err());
        }
    }
}
