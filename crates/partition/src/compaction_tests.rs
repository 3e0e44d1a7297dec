//! Compaction by replicas of one partition, through changes of the leader and restarts.
use crate::replicas_tests::Trio;
use crate::test_rig::Rig;
use crate::{CleaningConfig, PartitionConfig};
use bytes::BytesMut;
use records::{BatchBuilder, NewRecord};
use std::collections::BTreeMap;
use storage::{LogConfig, ReadPlan, read_range};

type Table = BTreeMap<String, String>;

fn compacted() -> PartitionConfig {
    let log = LogConfig { file_bytes: 600, window_bytes: 0, ..LogConfig::default() };
    let cleaning = CleaningConfig {
        min_dirty_ratio: 0.3,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        delete_retention_ms: 1_000,
    };
    let (compact, delete, min_insync_replicas) = (true, false, 2);
    PartitionConfig {
        log,
        cleaning: Some(cleaning),
        compact,
        delete,
        min_insync_replicas,
        ..Default::default()
    }
}

fn put(key: &str, value: Option<&str>) -> BytesMut {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord::new(1_000_000, Some(key.as_bytes()), value.map(str::as_bytes)));
    builder.finish().unwrap()
}

/// Reads on from `at`, as a consumer that keeps the last value of each key; where it has come to.
fn consume(rig: &Rig, mut at: i64, upto: i64, table: &mut Table) -> i64 {
    while at < upto.min(rig.part.high_watermark()) {
        let batches = match rig.part.replay_plan(at, 1).unwrap() {
            ReadPlan::Memory(batches) => batches,
            ReadPlan::File(range) => read_range(&rig.disk, &range).unwrap().batches,
            ReadPlan::Empty => break,
        };
        for bytes in batches {
            for (range, header) in records::batches(&bytes).map(Result::unwrap) {
                assert!(header.next_offset() > at, "offsets rise");
                for record in records::records(&bytes.slice(range), 1 << 20).unwrap().map(Result::unwrap) {
                    let text = |b: bytes::Bytes| String::from_utf8(b.to_vec()).unwrap();
                    let key = text(record.key.unwrap());
                    match record.value {
                        Some(value) => _ = table.insert(key, text(value)),
                        None => _ = table.remove(&key),
                    }
                }
                at = header.next_offset();
            }
        }
    }
    at
}

fn table(rig: &Rig) -> Table {
    let mut table = Table::new();
    consume(rig, rig.part.log_start(), i64::MAX, &mut table);
    table
}

/// Lets everything that is sealed leave the window, and files go that nothing names.
fn tend(trio: &mut Trio) {
    trio.tick(8);
    for node in 1..=3 {
        for _ in 0..2 {
            trio.of(node).tick();
        }
    }
    trio.settle();
}

/// Nobody hears of node `from` until `to` leads.
fn hand_over(trio: &mut Trio, from: i32, to: i32) {
    trio.cut = [from].into();
    for node in (1..=3).filter(|node| *node != from) {
        let rig = trio.of(node);
        rig.part.lose_leader(rig.now, &mut rig.dir, &mut rig.fx);
    }
    trio.elect(to);
    trio.cut.clear();
    trio.tick(40);
    assert!(trio.of(to).part.leader_epoch().is_some());
}

#[test]
fn replicas_clean_on_their_own_and_hold_the_last_value_of_each_key() {
    let mut trio = Trio::led(compacted());
    let (mut model, mut token, mut leader) = (Table::new(), 0, 1);
    let mut rng = 7u64;
    let mut below = |n: u64| {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (rng >> 33) % n
    };
    let mut passes = 0;
    for round in 0..40 {
        for _ in 0..12 {
            token += 1;
            let key = format!("k{}", below(9));
            let value = (below(4) > 0).then(|| format!("v{token}"));
            trio.append(leader, token, put(&key, value.as_deref())).unwrap();
            match value {
                Some(value) => _ = model.insert(key, value),
                None => _ = model.remove(&key),
            }
        }
        tend(&mut trio);
        for node in 1..=3 {
            let rig = trio.of(node);
            rig.now.wall += 200;
            let wanted = rig.part.dirtiness(rig.now.wall).unwrap().1;
            if wanted && below(2) == 0 {
                passes += u64::from(rig.clean().is_some());
            }
        }
        trio.settle();
        tend(&mut trio);
        if round % 5 == 4 {
            let node = 1 + below(3) as i32;
            trio.of(node).restart(below(2) == 0);
            trio.tick(40);
            leader = (1..=3).find(|node| trio.of(*node).part.leader_epoch().is_some()).unwrap();
            let next = leader % 3 + 1;
            hand_over(&mut trio, leader, next);
            leader = next;
        }
        for node in 1..=3 {
            assert_eq!(table(trio.of(node)), model, "node {node}, round {round}");
        }
    }
    assert!(passes > 20, "{passes}");
    for node in 1..=3 {
        // What is left in its files alone.
        trio.of(node).restart(true);
    }
    trio.elect(leader);
    trio.tick(8);
    for node in 1..=3 {
        assert_eq!(table(trio.of(node)), model, "node {node}");
    }
    let horizons: Vec<i64> = (1..=3).map(|node| trio.of(node).part.clean_horizon()).collect();
    assert!(horizons[0] > 0 && horizons.iter().all(|h| *h == horizons[0]), "{horizons:?}");
    let bytes = trio.of(leader).part.log().size_bytes();
    assert!(bytes < 5_000, "{bytes} bytes for nine keys");
}

/// A consumer reads a value at one leader and goes on at another that has cleaned with a clock far ahead; what its
/// table holds at the end.
fn read_across_a_tombstone() -> Table {
    let mut trio = Trio::led(compacted());
    trio.append(1, 1, put("k", Some("deleted later"))).unwrap();
    for n in 0..10 {
        trio.append(1, 2 + n, put("other", Some(&n.to_string()))).unwrap();
    }
    let mut seen = Table::new();
    let at = consume(trio.of(1), 0, 5, &mut seen);
    trio.append(1, 20, put("k", None)).unwrap();
    for pass in 0..4 {
        for n in 0..10 {
            trio.append(1, 100 + pass * 10 + n, put("other", Some(&n.to_string()))).unwrap();
        }
        tend(&mut trio);
        let rig = trio.of(2);
        rig.now.wall += 10_000;
        assert!(rig.clean().is_some());
    }
    tend(&mut trio);
    // Nothing is in memory then.
    trio.of(2).restart(true);
    trio.tick(40);
    hand_over(&mut trio, 1, 2);
    consume(trio.of(2), at, i64::MAX, &mut seen);
    seen
}

#[test]
fn a_replica_keeps_a_tombstone_until_the_leader_has_committed_its_horizon() {
    let table = read_across_a_tombstone();
    assert_eq!(table.keys().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn a_deleted_key_that_lives_again_is_seen() {
    model::planted::plant(Some(model::planted::Bug::DeletedKeyRevived));
    let table = read_across_a_tombstone();
    model::planted::plant(None);
    assert!(table.contains_key("k"), "the planted bug lets go of the tombstone");
}
