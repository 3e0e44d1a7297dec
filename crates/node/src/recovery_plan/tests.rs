//! Who is asked, what is judged.
use super::{Condition, Known, RecoveryPlan, ReplicaState, have_quorum};
use cluster::{Command, Metadata, Partition};
use model::{ErrorCode, GroupKey, NodeId, TopicId};
use proto::cluster as pb;
use std::collections::BTreeMap;
use storage::{Replica, ReplicaKind};

const KEY: GroupKey = GroupKey { topic: TopicId([5; 16]), partition: 0 };

/// One partition on these nodes, with replica ids from 1 on.
fn partition(nodes: &[NodeId]) -> Partition {
    let mut metadata = Metadata::new(1, BTreeMap::new());
    let create = pb::CreateTopic {
        name: "t".into(),
        topic_id: KEY.topic.0.to_vec().into(),
        partitions: vec![pb::ReplicaSet { nodes: nodes.to_vec(), witness: None }],
        ..Default::default()
    };
    metadata.apply(1, &Command::CreateTopic(create)).unwrap();
    metadata.image().topic("t").unwrap().partition(0).unwrap().clone()
}

/// Node `n` has replica `n`, of a group of `voters`.
fn state(n: i32, voters: i32, condition: Condition, last: (u64, u64)) -> ReplicaState {
    let voter =
        |n: i32| Replica { id: n as u64, node_id: n, kind: ReplicaKind::Voter as i32, witness: false };
    ReplicaState {
        replica: n as u64,
        condition,
        term: last.1 + 1,
        last,
        high_watermark: last.0 as i64 - 2,
        log_end: last.0 as i64,
        voters: (1..=voters).map(voter).collect(),
        epoch: 3,
        ..ReplicaState::default()
    }
}

fn plan(replicas: i32, answers: &[ReplicaState], leader: Option<NodeId>) -> RecoveryPlan {
    let nodes: Vec<NodeId> = (1..=replicas).collect();
    let partition = partition(&nodes);
    let answers = answers.iter().map(|s| (s.replica as i32, s.clone())).collect();
    Known { key: KEY, partition: &partition, answers: &answers, leader: (2, leader), principal: "User:op" }
        .plan()
}

const RUNS: Condition = Condition::Runs;

#[test]
fn of_those_that_are_left_the_one_with_the_latest_term_and_the_longest_log_leads() {
    let answers = [state(2, 5, RUNS, (90, 4)), state(4, 5, RUNS, (70, 5))];
    let plan = plan(5, &answers, None);
    let (loss, node) = plan.verdict.clone().unwrap();
    assert_eq!((node, loss.replica, loss.last, loss.offsets), (4, 4, (70, 5), (68, 70)));
    assert_eq!((loss.epoch, loss.principal.as_str()), (6, "User:op"), "the highest term that anybody is in");
    let said = plan.to_string();
    assert!(said.contains("missing are brokers 1, 3, 5"), "{said}");
    assert!(
        said.contains("from offset 68 on may be missing") && said.contains("from 70 on they are gone"),
        "{said}"
    );
}

#[test]
fn nothing_is_given_up_while_somebody_leads_or_a_majority_is_there() {
    let one = [state(1, 3, RUNS, (9, 2))];
    assert_eq!(plan(3, &one, Some(2)).verdict.unwrap_err().0, ErrorCode::ElectionNotNeeded);
    let leads = [ReplicaState { leader: Some(1), ..one[0].clone() }];
    assert_eq!(plan(3, &leads, None).verdict.unwrap_err().0, ErrorCode::ElectionNotNeeded);
    // It believes that another one leads, which nobody hears of.
    let follows = [ReplicaState { leader: Some(2), ..one[0].clone() }];
    assert!(plan(3, &follows, None).verdict.is_ok());
    let two = [state(1, 3, RUNS, (9, 2)), state(3, 3, RUNS, (8, 2))];
    let (code, why) = plan(3, &two, None).verdict.unwrap_err();
    assert_eq!(code, ErrorCode::ElectionNotNeeded);
    assert!(why.contains("brokers 1, 3 are a majority"), "{why}");
    let opens = [one[0].clone(), state(2, 3, Condition::Opening, (0, 0))];
    assert_eq!(plan(3, &opens, None).verdict.unwrap_err().0, ErrorCode::EligibleLeadersNotAvailable);
}

#[test]
fn restrained_replicas_wait_for_all_of_them_and_with_one_missing_the_longest_may_be_taken() {
    let restrained = |n, last| state(n, 3, Condition::Restrained, last);
    let all = [restrained(1, (9, 2)), restrained(2, (11, 2)), state(3, 3, RUNS, (8, 2))];
    let (code, why) = plan(3, &all, None).verdict.unwrap_err();
    assert_eq!(code, ErrorCode::ElectionNotNeeded);
    assert!(why.contains("by itself"), "{why}");
    let (loss, node) = plan(3, &all[..2], None).verdict.unwrap();
    assert_eq!((node, loss.last), (2, (11, 2)));
}

#[test]
fn one_that_is_damaged_leads_where_no_other_is_whole_and_votes_for_one_that_is() {
    let suspect = |n, last| state(n, 3, Condition::Suspect, last);
    let all = [suspect(1, (9, 2)), suspect(2, (11, 2)), suspect(3, (10, 2))];
    let damaged = plan(3, &all, None);
    assert_eq!(damaged.verdict.as_ref().map(|(loss, node)| (loss.replica, *node)), Ok((2, 2)));
    assert!(damaged.to_string().contains("past what cannot be read"), "{damaged}");
    let one_whole = [state(1, 3, RUNS, (9, 2)), suspect(2, (11, 2))];
    let (code, why) = plan(3, &one_whole, None).verdict.unwrap_err();
    assert_eq!(code, ErrorCode::ElectionNotNeeded);
    assert!(why.contains("brokers 1, 2 are a majority"), "{why}");
    let alone = plan(3, &one_whole[..1], None);
    assert!(!alone.to_string().contains("cannot be read"), "{alone}");
}

#[test]
fn what_cannot_be_opened_or_is_of_another_replica_does_not_lead() {
    let damaged = [state(2, 3, Condition::Failed, (0, 0))];
    assert_eq!(plan(3, &damaged, None).verdict.unwrap_err().0, ErrorCode::EligibleLeadersNotAvailable);
    let mut other = state(1, 3, RUNS, (9, 2));
    other.replica = 7;
    let partition = partition(&[1, 2, 3]);
    let answers = BTreeMap::from([(1, other)]);
    let known =
        Known { key: KEY, partition: &partition, answers: &answers, leader: (2, None), principal: "" };
    assert!(known.plan().verdict.is_err());
    assert_eq!(plan(3, &[], None).verdict.unwrap_err().0, ErrorCode::EligibleLeadersNotAvailable);
}

#[test]
fn of_two_memberships_that_decide_together_both_must_have_a_majority_to_be_left_alone() {
    let kinds = [
        (1, ReplicaKind::Voter),
        (2, ReplicaKind::Leaving),
        (3, ReplicaKind::Leaving),
        (4, ReplicaKind::Joining),
        (5, ReplicaKind::Joining),
    ];
    let voters: Vec<Replica> = kinds
        .iter()
        .map(|(n, kind)| Replica { id: *n, node_id: *n as i32, kind: *kind as i32, witness: false })
        .collect();
    let can = |ids: &'static [u64]| move |r: &Replica| ids.contains(&r.id);
    assert!(!have_quorum(&voters, can(&[1, 2, 3])), "of the old one alone");
    assert!(!have_quorum(&voters, can(&[1, 4, 5])), "of the new one alone");
    assert!(have_quorum(&voters, can(&[1, 3, 4])));
}
