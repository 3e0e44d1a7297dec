//! Kafka's bytes in `__transaction_state`: those below were written by `TransactionLog` of Kafka 4.4.0.
use crate::bench::*;
use bytes::Bytes;
use coordinator::RecordError;
use coordinator::txn::*;
use proptest::prelude::*;

const AT: i64 = 1_700_000_000_000;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn value(state: TxnState, epoch: i16) -> TxnValue {
    let partitions = if state == TxnState::Empty { [].into() } else { [tp("t", 5)].into() };
    TxnValue {
        producer_id: 1000,
        previous_producer_id: 1000,
        producer_epoch: epoch,
        partitions,
        last_update: AT + 2,
        start: AT + 1,
        ..stored(state, epoch)
    }
}

fn kafkas() -> Vec<(TxnValue, &'static str)> {
    let empty =
        TxnValue { last_update: AT, start: -1, client_version: TxnVersion::V0, ..value(TxnState::Empty, 3) };
    let complete =
        TxnValue { producer_id: 2000, partitions: [].into(), ..value(TxnState::CompleteCommit, 0) };
    vec![
        (
            TxnValue { previous_producer_id: -1, producer_epoch: 0, ..empty.clone() },
            "000100000000000003e800000000ea6000000000018bcfe56800ffffffffffffffff00",
        ),
        (empty, "000100000000000003e800030000ea6000000000018bcfe56800ffffffffffffffff01000800000000000003e8"),
        (
            value(TxnState::Ongoing, 3),
            "000100000000000003e800030000ea60010202740200000005000000018bcfe568020000018bcfe5680102000800000000\
             000003e802020002",
        ),
        (
            TxnValue { next_producer_id: 2000, ..value(TxnState::PrepareCommit, 32_767) },
            "000100000000000003e87fff0000ea60020202740200000005000000018bcfe568020000018bcfe5680103000800000000\
             000003e8010800000000000007d002020002",
        ),
        (
            complete,
            "000100000000000007d000000000ea6004010000018bcfe568020000018bcfe5680102000800000000000003e802020002",
        ),
    ]
}

#[test]
fn values_have_kafkas_bytes() {
    for (value, text) in kafkas() {
        let bytes = hex(text);
        assert_eq!(encode_value(&value, TxnVersion::V2)[..], bytes, "{value:?}");
        assert_eq!(encode_value(&value, TxnVersion::V1)[..], bytes);
        assert_eq!(decode_value(&bytes), Ok(value));
    }
}

#[test]
fn keys_have_kafkas_bytes() {
    assert_eq!(encode_key("tx-1")[..], hex("0000000474782d31"));
    assert_eq!(decode_key(&hex("0000000474782d31")), Ok("tx-1".to_owned()));
    assert_eq!(decode_key(&hex("0001000474782d31")), Err(RecordError::UnknownVersion(1)));
    assert_eq!(decode_key(&hex("000000057478")), Err(RecordError::Short("transactional id")));
}

#[test]
fn version_0_is_written_before_the_feature_and_read_always() {
    let empty = hex("000000000000000003e800030000ea6000ffffffff0000018bcfe56800ffffffffffffffff");
    let mut value = value(TxnState::Empty, 3);
    (value.last_update, value.start, value.client_version) = (AT, -1, TxnVersion::V0);
    value.previous_producer_id = -1;
    assert_eq!(encode_value(&value, TxnVersion::V0)[..], empty);
    assert_eq!(decode_value(&empty), Ok(value));
    let tv2 = stored(TxnState::CompleteCommit, 3);
    assert_eq!(decode_value(&encode_value(&tv2, TxnVersion::V0)), Ok(tv2), "version 0 cannot say TV2");
    let two = TxnValue {
        partitions: [tp("a", 1), tp("a", 2), tp("b", 0)].into(),
        previous_producer_id: -1,
        client_version: TxnVersion::V0,
        ..stored(TxnState::Ongoing, 3)
    };
    assert_eq!(decode_value(&encode_value(&two, TxnVersion::V0)), Ok(two));
}

#[test]
fn what_is_not_known_is_an_error_and_not_a_guess() {
    let good = encode_value(&value(TxnState::Ongoing, 3), TxnVersion::V2);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        decode_value(&bytes)
    };
    assert_eq!(with(1, 2), Err(RecordError::UnknownVersion(2)));
    assert_eq!(with(16, 6), Err(RecordError::Malformed("transaction status")), "Dead is never stored");
    assert_eq!(with(16, 8), Err(RecordError::Malformed("transaction status")));
    let last = good.len() - 1;
    assert_eq!(with(last, 3), Err(RecordError::Malformed("client transaction version")));
    for length in 0..good.len() {
        assert!(decode_value(&good[..length]).is_err(), "{length}");
    }
}

#[test]
fn kafkas_tag_of_two_phase_commit_is_kept_and_others_are_skipped() {
    let bytes = hex("000100000000000000010000000000000001000000000000000000000000000000000103020007");
    // Kafka's own bytes with no partitions in state 0: an empty array where we write null.
    let value = decode_value(&bytes).unwrap();
    assert_eq!(value.next_producer_epoch, 7);
    let again = encode_value(&value, TxnVersion::V2);
    assert_eq!(decode_value(&again), Ok(value));
    let mut unknown = encode_value(&stored(TxnState::Empty, 0), TxnVersion::V2).to_vec();
    let tags = unknown.len() - 15;
    assert_eq!(unknown[tags], 2);
    unknown[tags] = 3;
    unknown.extend([9, 2, 1, 1]);
    assert_eq!(decode_value(&unknown), Ok(stored(TxnState::Empty, 0)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_value(&bytes);
        let _ = decode_key(&bytes);
        let mut c = TxnCoordinator::new(TxnConfig::default(), 1);
        let _ = c.restore(&bytes);
        let _ = c.replay(0, Bytes::copy_from_slice(&bytes), None);
    }

    #[test]
    fn any_value_comes_back(
        ids in any::<[i64; 3]>(), epochs in any::<[i16; 2]>(), timeout_ms: i32, state in 0usize..6,
        at in proptest::collection::btree_set(("[a-z]{1,9}", any::<i32>()), 0..9), times in any::<[i64; 2]>(),
        level in 0i16..3,
    ) {
        let state = TxnState::ALL[state];
        let partitions = if state == TxnState::Empty { Default::default() } else { at };
        let value = TxnValue {
            producer_id: ids[0], previous_producer_id: ids[1], next_producer_id: ids[2],
            producer_epoch: epochs[0], next_producer_epoch: epochs[1], timeout_ms, state,
            partitions: partitions.iter().map(|(t, p)| tp(t, *p)).collect(),
            last_update: times[0], start: times[1], client_version: TxnVersion::from_level(level).unwrap(),
        };
        prop_assert_eq!(decode_value(&encode_value(&value, TxnVersion::V2)), Ok(value));
    }
}
