//! Offsets inside transactions: they count from the marker on, or never.
#![allow(clippy::unwrap_used)]
mod common;
use common::*;
use coordinator::*;
use model::ErrorCode;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn offsets_of_a_transaction_count_from_its_commit_on_and_never_if_it_is_aborted() {
    let mut b = Bench::new();
    assert_eq!(b.commit(simple_commit(0, 5)), ErrorCode::None);
    assert_eq!(b.txn_commit(1, simple_commit(0, 9)), ErrorCode::None);
    assert_eq!((b.offset(0), b.stable_offset(0)), (5, Err(ErrorCode::UnstableOffsetCommit)));
    b.end_transaction(1, false);
    assert_eq!((b.offset(0), b.stable_offset(0)), (5, Ok(5)));
    assert_eq!(b.txn_commit(1, simple_commit(0, 9)), ErrorCode::None);
    b.end_transaction(1, true);
    assert_eq!((b.offset(0), b.stable_offset(0)), (9, Ok(9)));
    b.end_transaction(1, false);
    assert_eq!(b.offset(0), 9, "nothing of it is left");
}

#[test]
fn a_plain_commit_that_comes_later_beats_the_transaction() {
    let mut b = Bench::new();
    b.txn_commit(1, simple_commit(0, 9));
    b.commit(simple_commit(0, 12));
    assert_eq!(b.stable_offset(0), Ok(12));
    b.end_transaction(1, true);
    assert_eq!(b.offset(0), 12);
}

#[test]
fn of_two_transactions_the_later_record_wins_whichever_marker_comes_first() {
    let mut b = Bench::new();
    b.txn_commit(1, simple_commit(0, 9));
    b.txn_commit(2, simple_commit(0, 11));
    b.end_transaction(2, true);
    b.end_transaction(1, true);
    assert_eq!(b.offset(0), 11);
}

#[test]
fn an_answer_waits_for_the_commit_of_the_records_and_a_failed_append_leaves_nothing() {
    let mut b = Bench::new();
    b.auto = false;
    let token = b.send_txn_commit(1, simple_commit(0, 9));
    assert!(b.replies.is_empty());
    b.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(b.committed(token), ErrorCode::CoordinatorNotAvailable);
    b.end_transaction(1, true);
    assert_eq!((b.offset(0), b.state()), (-1, "Dead"));
}

#[test]
fn a_group_that_only_an_aborted_transaction_knew_is_none() {
    let mut b = Bench::new();
    b.txn_commit(1, simple_commit(0, 9));
    assert_eq!(b.state(), "Empty");
    b.end_transaction(1, false);
    assert_eq!(b.state(), "Dead");
}

#[test]
fn a_group_of_which_every_commit_failed_is_none() {
    let mut b = Bench::new();
    b.auto = false;
    let first = b.send_txn_commit(1, simple_commit(0, 9));
    let second = b.send_commit(simple_commit(0, 5));
    b.fail_one(ErrorCode::InvalidTxnState);
    assert_eq!((b.committed(first), b.state()), (ErrorCode::InvalidTxnState, "Empty"));
    b.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!((b.committed(second), b.state()), (ErrorCode::CoordinatorNotAvailable, "Dead"));
}

#[test]
fn a_member_that_joins_while_the_commit_that_made_the_group_is_refused_comes_again() {
    for refused in
        [ErrorCode::InvalidTxnState, ErrorCode::TransactionAbortable, ErrorCode::InvalidProducerEpoch]
    {
        let mut b = Bench::new();
        b.auto = false;
        let commit = b.send_txn_commit(1, simple_commit(0, 9));
        let join = b.send_join(join(""));
        b.fail_one(refused);
        assert_eq!(b.committed(commit), refused);
        let reply = b.joined(join);
        assert_eq!(reply.error, ErrorCode::CoordinatorNotAvailable, "it has not asked for a transaction");
        assert!(reply.error.is_retriable());
        assert_eq!(b.state(), "Dead");
        // It comes again, and the group is there for it.
        b.auto = true;
        let (ids, _) = b.stable(1);
        assert_eq!((ids.len(), b.state()), (1, "Stable"));
    }
}

#[test]
fn a_marker_ends_what_waits_in_every_group_of_its_producer_and_in_no_other() {
    let mut b = Bench::new();
    let of = |group: &str, offset| CommitRequest { group_id: group.into(), ..simple_commit(0, offset) };
    for (producer, group) in [(1, "a"), (1, "b"), (2, "b"), (2, "c")] {
        assert_eq!(b.txn_commit(producer, of(group, producer)), ErrorCode::None);
    }
    b.end_transaction(1, true);
    let known = |b: &Bench, group: &str| b.c.committed_offset(group, "t", 0).map(|value| value.offset);
    assert_eq!(["a", "b", "c"].map(|group| known(&b, group)), [Some(1), Some(1), None]);
    b.end_transaction(2, false);
    assert_eq!(["a", "b", "c"].map(|group| known(&b, group)), [Some(1), Some(1), None]);
    let state = |b: &Bench, group: &str| b.c.describe(&[group.to_owned()]).remove(0).state;
    assert_eq!(["a", "b", "c"].map(|group| state(&b, group)), ["Empty", "Empty", "Dead"]);
}

#[test]
fn members_are_checked_and_clients_that_name_none_are_not() {
    let mut b = Bench::new();
    let (ids, generation) = b.stable(1);
    assert_eq!(b.txn_commit(1, commit(&ids[0], generation, 0, 3)), ErrorCode::None);
    assert_eq!(b.txn_commit(1, commit(&ids[0], generation - 1, 0, 3)), ErrorCode::IllegalGeneration);
    assert_eq!(b.txn_commit(1, commit("who", generation, 0, 3)), ErrorCode::UnknownMemberId);
    assert_eq!(b.txn_commit(1, simple_commit(0, 4)), ErrorCode::None);
    assert_eq!(
        b.txn_commit(1, CommitRequest { group_id: "other".into(), ..commit("x", 4, 0, 3) }),
        ErrorCode::IllegalGeneration
    );
}

#[test]
fn a_deleted_group_takes_what_waits_with_it() {
    let mut b = Bench::new();
    b.txn_commit(1, simple_commit(0, 9));
    let token = b.send_delete_groups(&["g"]);
    assert_eq!(b.groups_deleted(token)[0].1, ErrorCode::None);
    b.end_transaction(1, true);
    assert_eq!((b.offset(0), b.state()), (-1, "Dead"));
    assert_eq!(b.reloaded().state(), "Dead");
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Plain { partition: i32, offset: i64 },
    InTransaction { producer: i64, partition: i32, offset: i64 },
    End { producer: i64, commit: bool },
    Delete { partition: i32 },
    Reload { through_snapshot: bool },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3, 0..1000i64).prop_map(|(partition, offset)| Op::Plain { partition, offset }),
        6 => (1..4i64, 0..3, 0..1000i64)
            .prop_map(|(producer, partition, offset)| Op::InTransaction { producer, partition, offset }),
        3 => (1..4i64, any::<bool>()).prop_map(|(producer, commit)| Op::End { producer, commit }),
        1 => (0..3).prop_map(|partition| Op::Delete { partition }),
        1 => any::<bool>().prop_map(|through_snapshot| Op::Reload { through_snapshot }),
    ]
}

/// Kafka's rule, naively: of all records that count, the last one in the log.
#[derive(Default)]
struct Naive {
    at: u64,
    settled: BTreeMap<i32, (u64, i64)>,
    waiting: BTreeMap<(i64, i32), (u64, i64)>,
}

impl Naive {
    fn settle(&mut self, partition: i32, row: (u64, i64)) {
        let now = self.settled.entry(partition).or_insert(row);
        *now = (*now).max(row);
    }

    fn offset(&self, partition: i32) -> i64 {
        self.settled.get(&partition).map_or(-1, |row| row.1)
    }

    fn step(&mut self, op: Op) {
        self.at += 1;
        match op {
            Op::Plain { partition, offset } => self.settle(partition, (self.at, offset)),
            Op::InTransaction { producer, partition, offset } => {
                self.waiting.insert((producer, partition), (self.at, offset));
            }
            Op::End { producer, commit } => {
                let ended: Vec<_> = self.waiting.extract_if(.., |(p, _), _| *p == producer).collect();
                for ((_, partition), row) in ended.into_iter().filter(|_| commit) {
                    self.settle(partition, row);
                }
            }
            // A tombstone where there was anything.
            Op::Delete { partition } => {
                let waited = self.waiting.keys().any(|(_, p)| *p == partition);
                if waited || self.offset(partition) >= 0 {
                    self.settle(partition, (self.at, -1));
                }
            }
            Op::Reload { .. } => {}
        }
    }
}

proptest! {
    #[test]
    fn offsets_are_those_of_the_last_record_that_counts(ops in proptest::collection::vec(op(), 1..60)) {
        let (mut b, mut naive) = (Bench::new(), Naive::default());
        for op in ops {
            match op {
                Op::Plain { partition, offset } => {
                    prop_assert_eq!(b.commit(simple_commit(partition, offset)), ErrorCode::None);
                }
                Op::InTransaction { producer, partition, offset } => {
                    prop_assert_eq!(b.txn_commit(producer, simple_commit(partition, offset)), ErrorCode::None);
                }
                Op::End { producer, commit } => b.end_transaction(producer, commit),
                Op::Delete { partition } => _ = b.send_delete_offsets("t", &[partition]),
                Op::Reload { through_snapshot: false } => b = b.reloaded(),
                Op::Reload { through_snapshot: true } => {
                    let snapshot = b.c.snapshot();
                    let mut fx = Vec::new();
                    let now = b.now();
                    b.c.unload(now, &mut fx);
                    b.c.restore(&snapshot).unwrap();
                    b.c.loaded(now, &mut fx);
                    prop_assert!(fx.is_empty());
                }
            }
            naive.step(op);
            for partition in 0..3 {
                prop_assert_eq!(b.offset(partition), naive.offset(partition), "partition {}", partition);
            }
        }
    }
}
