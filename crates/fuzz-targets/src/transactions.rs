//! Records of `__transaction_state`, and the coordinator that replays them.
use crate::groups::pairs;
use coordinator::txn::{Effect, MarkerOutcome, TxnConfig, TxnCoordinator, TxnVersion};
use coordinator::txn::{decode_key, decode_value, encode_key, encode_value};
use model::{Mono, Now};

/// A sequence of records as of `group_records`: decoded alone, replayed, taken through a snapshot, loaded, and
/// served until every end that they began is through.
pub fn transaction_records(data: &[u8]) {
    let mut replica = TxnCoordinator::new(TxnConfig::default(), 1);
    for (key, value) in pairs(data) {
        if let Ok(id) = decode_key(&key) {
            assert!(encode_key(&id) == key || key.len() > encode_key(&id).len());
        }
        if let Some(Ok(value)) = value.as_deref().map(decode_value) {
            assert!(decode_value(&encode_value(&value, TxnVersion::V2)).is_ok_and(|again| again == value));
        }
        let _ = replica.replay(0, key, value);
    }
    let snapshot = replica.snapshot();
    let mut other = TxnCoordinator::new(TxnConfig::default(), 2);
    other.restore(&snapshot).expect("our own snapshot");
    assert!(other.snapshot() == snapshot, "a snapshot restores to itself");
    let _ = other.restore(data);
    serve(&mut replica);
}

fn serve(replica: &mut TxnCoordinator) {
    let now = |ms: u64| Now { mono: Mono(ms * 1_000_000), wall: 1_700_000_000_000 + ms as i64 };
    replica.loaded(now(0), 1);
    let (mut queue, mut fx) = (Vec::new(), Vec::new());
    for day in 0..30 {
        // The longest timeout is some 25 days.
        let at = now(day * 86_400_000);
        replica.tick(at, &mut fx);
        for _ in 0..8 {
            queue.append(&mut fx);
            for effect in queue.drain(..) {
                match effect {
                    Effect::Append { batch, .. } => replica.on_committed(at, batch, &mut fx),
                    Effect::NeedProducerIds { count } => {
                        replica.supply_producer_ids(at, 5_000, count, &mut fx);
                    }
                    Effect::SendMarkers(markers) => {
                        for partition in &markers.partitions {
                            let (id, name) = (markers.id, &markers.transactional_id);
                            replica.on_marker_result(at, id, name, partition, MarkerOutcome::Done, &mut fx);
                        }
                    }
                    Effect::Reply { .. } | Effect::Event(_) => {}
                }
            }
        }
    }
    assert!(!replica.has_open(), "every transaction ends");
    replica.unload(now(0), &mut fx);
}
