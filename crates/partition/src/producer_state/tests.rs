//! Decisions of the two layers.
use super::*;

fn batch(producer_id: i64, epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchSummary {
    BatchSummary {
        producer_id,
        producer_epoch: epoch,
        base_sequence,
        last_delta: count - 1,
        base_offset,
        timestamp: 77,
    }
}

fn append(state: &mut ProducerState, index: u64, b: BatchSummary) {
    state.push_pending(index, std::iter::once(&Step::Batch(b)));
}

fn commit(state: &mut ProducerState, index: u64, b: BatchSummary) {
    state.apply(index, 1000, std::iter::once(&Step::Batch(b)));
}

#[test]
fn duplicates_are_found_in_both_layers_and_only_the_last_five() {
    let mut state = ProducerState::default();
    for i in 0..7 {
        let b = batch(1, 0, i * 10, 10, i64::from(i) * 100);
        assert_eq!(state.decide(&b), Decision::Append);
        append(&mut state, i as u64 + 2, b);
        if i < 4 {
            commit(&mut state, i as u64 + 2, b);
        }
    }
    for (i, pending) in [(6, Some(8)), (5, Some(7)), (4, Some(6)), (3, None), (2, None)] {
        let Decision::Duplicate { batch: found, pending: p } = state.decide(&batch(1, 0, i * 10, 10, 0))
        else {
            panic!("batch {i} is remembered");
        };
        assert_eq!((found.base_offset, p), (i64::from(i) * 100, pending));
    }
    assert_eq!(state.decide(&batch(1, 0, 10, 10, 0)), Decision::OutOfOrder(70));
    assert_eq!(state.decide(&batch(1, 0, 80, 1, 0)), Decision::OutOfOrder(70));
    assert_eq!(state.decide(&batch(1, 0, 60, 3, 0)), Decision::OutOfOrder(70), "other records, same start");
    assert_eq!(state.decide(&batch(1, 0, 70, 1, 0)), Decision::Append);
}

#[test]
fn epochs_rise_from_sequence_zero_and_never_fall() {
    let mut state = ProducerState::default();
    assert_eq!(state.decide(&batch(1, 3, 500, 1, 0)), Decision::Append, "an unknown producer");
    commit(&mut state, 2, batch(1, 3, 500, 1, 0));
    assert_eq!(state.decide(&batch(1, 2, 501, 1, 0)), Decision::OldEpoch(3));
    assert_eq!(state.decide(&batch(1, 4, 501, 1, 0)), Decision::OutOfOrder(0));
    let bumped = batch(1, 4, 0, 2, 9);
    assert_eq!(state.decide(&bumped), Decision::Append);
    append(&mut state, 3, bumped);
    assert_eq!(state.decide(&batch(1, 3, 501, 1, 0)), Decision::OldEpoch(4));
    assert!(matches!(state.decide(&bumped), Decision::Duplicate { pending: Some(3), .. }));
    state.drop_pending();
    assert_eq!(state.decide(&batch(1, 3, 501, 1, 0)), Decision::Append);
}

#[test]
fn sequences_wrap() {
    let mut state = ProducerState::default();
    commit(&mut state, 2, batch(1, 0, i32::MAX - 1, 3, 0));
    assert_eq!(state.decide(&batch(1, 0, 1, 1, 0)), Decision::Append);
    assert_eq!(state.decide(&batch(1, 0, 0, 1, 0)), Decision::OutOfOrder(1));
    let mut state = ProducerState::default();
    commit(&mut state, 2, batch(1, 0, i32::MAX, 1, 0));
    assert_eq!(state.decide(&batch(1, 0, 0, 1, 0)), Decision::Append);
}

#[test]
fn a_checkpoint_keeps_the_committed_layer_alone() {
    let mut state = ProducerState::default();
    assert!(state.encode().is_empty());
    for i in 0..6 {
        commit(&mut state, i as u64 + 2, batch(9, 1, i, 1, i64::from(i)));
    }
    append(&mut state, 8, batch(9, 1, 6, 1, 6));
    let back = ProducerState::decode(&state.encode()).unwrap();
    assert_eq!(back.committed, state.committed);
    assert!(back.pending.is_empty());
    assert!(ProducerState::decode(&[0xff, 3]).is_err());
}

#[test]
fn silent_producers_expire_and_the_table_is_bounded() {
    let mut state = ProducerState::default();
    for id in 0..100 {
        state.apply(2, id, std::iter::once(&Step::Batch(batch(id, 0, 0, 1, 0))));
    }
    state.expire(1050, 1000);
    assert_eq!(state.rows().next().map(|r| r.producer_id), Some(51));
    append(&mut state, 3, batch(51, 0, 1, 1, 0));
    state.expire(5000, 1000);
    assert_eq!(state.rows().map(|r| r.producer_id).collect::<Vec<_>>(), [51]);
    for id in 0..100 {
        state.apply(2, id, std::iter::once(&Step::Batch(batch(id, 0, 0, 1, 0))));
    }
    state.bound(64);
    assert_eq!(state.rows().count(), 56);
    assert_eq!(state.rows().next().map(|r| r.producer_id), Some(44));
}

fn begin(producer_id: i64, epoch: i16, version: i16, first: i64) -> Step {
    let mark = crate::transactions::BeginMark {
        producer_id,
        epoch,
        transactional_id: "t".into(),
        principal: String::new(),
        client_id: String::new(),
        version,
    };
    Step::Begin(Arc::new(Open { mark, first, begun_at: 5 }))
}

fn end(producer_id: i64, producer_epoch: i16, commit: bool, offset: i64) -> Step {
    Step::End(EndSummary { producer_id, producer_epoch, commit, coordinator_epoch: 3, offset, timestamp: 9 })
}

#[test]
fn what_is_open_is_known_in_both_layers_and_pending_comes_first() {
    let mut state = ProducerState::default();
    state.push_pending(2, [begin(1, 0, 2, 10)].iter());
    assert!(state.any_open() && state.open_of(1).is_some());
    assert_eq!((state.first_open(), state.count_open()), (None, 1), "not committed");
    state.apply(2, 5, [begin(1, 0, 2, 10)].iter());
    assert_eq!((state.first_open(), state.count_open()), (Some(10), 1));
    state.push_pending(3, [end(1, 1, false, 12)].iter());
    assert!(state.open_of(1).is_none(), "ended, as far as this leader knows");
    assert_eq!(state.newest_epoch(1), Some(1));
    let known = state.known(1);
    assert_eq!((known.is_open, known.marker.map(|(_, index)| index)), (false, Some(Some(3))));
    state.push_pending(4, [begin(1, 1, 2, 13)].iter());
    assert_eq!(state.open_of(1).map(|open| open.first), Some(13));
    assert!(!state.known(1).marker.unwrap().0.is_last, "something follows it");
    state.drop_pending();
    assert_eq!((state.open_of(1).map(|open| open.first), state.count_open()), (Some(10), 1));
    state.apply(3, 6, [end(1, 1, false, 12)].iter());
    assert_eq!((state.first_open(), state.any_open(), state.aborted().len()), (None, false, 1));
    assert_eq!(state.known(1).marker.map(|(last, index)| (last.is_last, index)), Some((true, None)));
}

#[test]
fn a_transaction_that_another_one_held_back_says_from_where_on_the_next_may_begin() {
    let mut state = ProducerState::default();
    for (index, step) in
        (2..).zip([begin(1, 0, 2, 10), begin(2, 0, 2, 11), end(2, 1, false, 12), end(1, 1, false, 13)])
    {
        state.apply(index, 5, [step].iter());
    }
    let rows: Vec<_> =
        state.aborted().rows().map(|row| (row.producer_id, row.first, row.last, row.stable)).collect();
    assert_eq!(rows, [(2, 11, 12, 10), (1, 10, 13, 14)]);
}

#[test]
fn sequences_within_a_transaction_depend_on_its_version() {
    let of = |version| {
        let mut state = ProducerState::default();
        state.apply(2, 5, [begin(1, 4, version, 10)].iter());
        state
    };
    assert_eq!(of(1).decide(&batch(1, 4, 77, 1, 0)), Decision::Append, "an unknown producer goes on");
    assert_eq!(of(2).decide(&batch(1, 4, 77, 1, 0)), Decision::OutOfOrder(0));
    assert_eq!(of(2).decide(&batch(1, 4, 0, 1, 0)), Decision::Append);
    assert_eq!(of(2).decide(&batch(1, 3, 0, 1, 0)), Decision::OldEpoch(4));
    let mut state = of(1);
    commit(&mut state, 3, batch(1, 4, 77, 2, 10));
    state.apply(4, 6, [end(1, 4, true, 12)].iter());
    assert_eq!(state.decide(&batch(1, 4, 79, 1, 0)), Decision::Append);
    assert!(matches!(state.decide(&batch(1, 4, 77, 2, 0)), Decision::Duplicate { .. }));
    state.apply(5, 7, [end(1, 5, true, 13)].iter());
    assert_eq!(state.decide(&batch(1, 5, 79, 1, 0)), Decision::OutOfOrder(0));
    assert_eq!(state.decide(&batch(1, 5, 0, 1, 0)), Decision::Append);
}

#[test]
fn a_checkpoint_keeps_what_is_open_markers_and_aborted_transactions() {
    let mut state = ProducerState::default();
    let steps = [
        begin(1, 0, 2, 10),
        begin(2, 0, 1, 11),
        end(2, 0, false, 12),
        begin(3, 7, 2, 13),
        end(3, 8, true, 14),
    ];
    for (index, step) in (2..).zip(steps) {
        state.apply(index, 5, [step].iter());
    }
    let back = ProducerState::decode(&state.encode()).unwrap();
    assert_eq!((back.committed(), back.aborted()), (state.committed(), state.aborted()));
    assert_eq!((back.first_open(), back.count_open()), (Some(10), 1));
    state.apply(9, 9, [end(1, 1, true, 20)].iter());
    state.prune(100);
    state.expire(1_000_000, 1);
    assert!(state.encode().is_empty());
}

#[test]
fn a_checkpoint_whose_rows_make_no_sense_is_refused() {
    use proto::partition as pb;
    let row = |open, marker, epoch| pb::Producer { id: 1, epoch, open, marker, ..pb::Producer::default() };
    let begin = |producer_id, producer_epoch| {
        Some(pb::BeginTransaction { producer_id, producer_epoch, ..pb::BeginTransaction::default() })
    };
    let open = |begin| Some(pb::OpenTransaction { begin, ..pb::OpenTransaction::default() });
    let marker = |producer_epoch| Some(pb::LastMarker { producer_epoch, ..pb::LastMarker::default() });
    for bad in [
        row(open(None), None, 0),
        row(open(begin(2, 0)), None, 0),
        row(open(begin(1, -1)), None, 0),
        row(open(begin(1, 40_000)), None, 0),
        row(None, marker(-1), 0),
        row(None, None, -2),
    ] {
        let table = pb::ProducerTable { producers: vec![bad.clone()], aborted: Vec::new() };
        let bytes = prost::Message::encode_to_vec(&table);
        assert!(ProducerState::decode(&bytes).is_err(), "{bad:?}");
    }
}
