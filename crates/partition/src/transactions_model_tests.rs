//! Transactions against a naive model, over losses of the lead, crashes, checkpoints and moves of the log start: what a
//! reader of committed records sees at each replica is what somebody finds who knows nothing but the log.
use crate::replicas_tests::Trio;
use crate::test_rig::{Rig, numbered, plain};
use crate::transactions::OWN_EPOCHS;
use crate::txn_rig::{with_transactions, within};
use crate::{Marker, Origin, PartitionConfig};
use model::ErrorCode;
use proptest::prelude::*;
use records::{ControlKind, parse_end_marker};
use std::collections::BTreeMap;
use storage::{LogConfig, ReadPlan, read_range};

/// What a look at every batch below the high watermark tells.
#[derive(Debug, Default, PartialEq)]
struct Naive {
    stable: i64,
    /// (producer, first offset, marker), in the order of the markers; only where that is not below the log start.
    aborted: Vec<(i64, i64, i64)>,
    /// Offsets and values that count.
    visible: Vec<(i64, String)>,
    open: Vec<(i64, i64)>,
}

/// `history`: every batch that was ever below a high watermark, with those that the log start has passed.
fn naive(history: &BTreeMap<i64, (records::BatchHeader, bytes::Bytes)>, high: i64, log_start: i64) -> Naive {
    let mut open: BTreeMap<i64, (i64, Vec<(i64, String)>)> = BTreeMap::new();
    let mut all = Naive::default();
    for (header, bytes) in history.range(..high).map(|(_, batch)| batch) {
        let id = header.producer_id;
        if header.is_control() {
            let marker = parse_end_marker(bytes).unwrap().unwrap();
            let Some((first, records)) = open.remove(&id) else { continue };
            if marker.kind == ControlKind::Commit {
                all.visible.extend(records);
            } else if header.base_offset >= log_start {
                all.aborted.push((id, first, header.base_offset));
            }
            continue;
        }
        let read = records::records(bytes, 1 << 20).unwrap().map(Result::unwrap);
        let read = read.map(|r| (r.offset, String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
        if header.is_transactional() {
            open.entry(id).or_insert((header.base_offset, Vec::new())).1.extend(read);
        } else {
            all.visible.extend(read);
        }
    }
    let first = open.values().map(|(first, _)| *first).min();
    all.stable = first.unwrap_or(high).min(high).max(log_start);
    all.open = open.into_iter().map(|(id, (first, _))| (first, id)).collect();
    all.open.sort_unstable();
    all.visible.retain(|(offset, _)| (log_start..all.stable).contains(offset));
    all.visible.sort();
    all
}

/// What the replica says.
fn said(rig: &Rig, at_follower: bool) -> Naive {
    Naive {
        stable: rig.part.last_stable_offset(),
        aborted: rig
            .part
            .aborted_transactions(0, i64::MAX)
            .map(|row| (row.producer_id, row.first_offset, row.last_offset))
            .collect(),
        visible: rig.read_committed(at_follower),
        open: rig.part.open_transactions().map(|o| (o.first_offset, o.producer_id)).collect(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A producer writes within a transaction, and begins it where none is open.
    Write {
        producer: usize,
        records: u8,
    },
    /// One without transactions does.
    Plain {
        numbered: bool,
    },
    /// The coordinator ends the transaction.
    End {
        producer: usize,
        commit: bool,
    },
    /// It says so again.
    EndAgain {
        producer: usize,
    },
    /// A write of the epoch before, late.
    Late {
        producer: usize,
    },
    LogStart {
        back: u8,
    },
    Checkpoint {
        replica: usize,
    },
    Restart {
        replica: usize,
        power: bool,
    },
    /// It gets the leader's checkpoint and files for its own.
    Install {
        replica: usize,
    },
    /// The leader writes what nobody else hears, and loses the lead.
    LoseLead {
        producer: usize,
        commit: bool,
    },
    HandOver {
        to: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let producer = 0..3usize;
    prop_oneof![
        8 => (producer.clone(), 1..4u8).prop_map(|(producer, records)| Step::Write { producer, records }),
        2 => any::<bool>().prop_map(|numbered| Step::Plain { numbered }),
        5 => (producer.clone(), any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        1 => producer.clone().prop_map(|producer| Step::EndAgain { producer }),
        1 => producer.clone().prop_map(|producer| Step::Late { producer }),
        1 => (0..9u8).prop_map(|back| Step::LogStart { back }),
        2 => (0..3usize).prop_map(|replica| Step::Checkpoint { replica }),
        1 => (0..3usize, any::<bool>()).prop_map(|(replica, power)| Step::Restart { replica, power }),
        1 => (0..3usize).prop_map(|replica| Step::Install { replica }),
        1 => (producer, any::<bool>()).prop_map(|(producer, commit)| Step::LoseLead { producer, commit }),
        1 => (0..3usize).prop_map(|to| Step::HandOver { to }),
    ]
}

/// A producer, as its coordinator knows it. Even ones are of transaction version 2, odd ones of 1.
#[derive(Clone, Default)]
struct Producer {
    epoch: i16,
    sequence: i32,
    open: bool,
    last: Option<Marker>,
}

impl Producer {
    fn version(id: usize) -> i16 {
        if id.is_multiple_of(2) { OWN_EPOCHS } else { 1 }
    }

    fn marker(&self, id: usize, commit: bool) -> Marker {
        let version = Producer::version(id);
        let producer_epoch = if version >= OWN_EPOCHS { self.epoch + 1 } else { self.epoch };
        Marker { producer_id: id as i64, producer_epoch, commit, coordinator_epoch: 1, txn_version: version }
    }
}

struct World {
    trio: Trio,
    leader: i32,
    producers: Vec<Producer>,
    token: u64,
    history: BTreeMap<i64, (records::BatchHeader, bytes::Bytes)>,
    plain_sequence: i32,
}

impl World {
    fn new() -> World {
        // Small files, so that reads go through them too.
        let log = LogConfig { segment_bytes: 900, ..LogConfig::default() };
        let cfg = PartitionConfig { log, min_insync_replicas: 1, ..with_transactions() };
        let (producers, history) = (vec![Producer::default(); 3], BTreeMap::new());
        World { trio: Trio::led(cfg), leader: 1, producers, token: 0, history, plain_sequence: 0 }
    }

    fn answered(&mut self) -> Result<crate::Appended, crate::AppendError> {
        let (leader, token) = (self.leader, self.token);
        self.trio.settle();
        self.trio.tick(2);
        // A refusal waits until it is sure that this is the leader.
        let rig = self.trio.of(leader);
        rig.part.begin_round(rig.now, &mut rig.dir, &mut rig.fx);
        self.trio.settle();
        self.trio.of(leader).answer(token).expect("answered")
    }

    fn submit_write(&mut self, producer: usize, records: u8) {
        self.token += 1;
        let p = &self.producers[producer];
        let values: Vec<String> =
            (0..records).map(|n| format!("{producer}/{}/{}", p.epoch, p.sequence + i32::from(n))).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let batch = within(producer as i64, p.epoch, p.sequence, &values);
        let (leader, token) = (self.leader, self.token);
        self.trio.of(leader).submit_within(token, batch, Producer::version(producer));
    }

    fn write(&mut self, producer: usize, records: u8) {
        self.submit_write(producer, records);
        self.answered().expect("the next batch");
        let p = &mut self.producers[producer];
        p.sequence += i32::from(records);
        p.open = true;
    }

    fn end(&mut self, producer: usize, commit: bool) {
        if !self.producers[producer].open {
            return;
        }
        let marker = self.producers[producer].marker(producer, commit);
        self.submit_marker(marker);
        assert!(!self.answered().expect("it is open").duplicate);
        self.ended(producer, marker);
    }

    fn ended(&mut self, producer: usize, marker: Marker) {
        let p = &mut self.producers[producer];
        if marker.txn_version >= OWN_EPOCHS {
            (p.epoch, p.sequence) = (marker.producer_epoch, 0);
        }
        (p.open, p.last) = (false, Some(marker));
    }

    fn submit_marker(&mut self, marker: Marker) {
        self.token += 1;
        let (leader, token) = (self.leader, self.token);
        self.trio.of(leader).submit_marker(token, marker);
    }

    fn elect(&mut self, node: i32) {
        if node == self.leader {
            return;
        }
        let old = self.leader;
        self.trio.elect_from(node, old);
        self.leader = node;
        self.trio.tick(4);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { producer, records } => self.write(producer, records),
            Step::Plain { numbered: with_sequence } => {
                self.token += 1;
                let batch = if with_sequence {
                    self.plain_sequence += 1;
                    numbered(50, 0, self.plain_sequence - 1, &["numbered"])
                } else {
                    plain(&["plain"])
                };
                let (leader, token) = (self.leader, self.token);
                self.trio.of(leader).submit(token, batch, -1, Origin::Client);
                self.answered().unwrap();
            }
            Step::End { producer, commit } => self.end(producer, commit),
            Step::EndAgain { producer } => {
                let p = self.producers[producer].clone();
                let Some(marker) = p.last.filter(|_| !p.open) else { return };
                self.submit_marker(marker);
                assert!(self.answered().expect("a repeat").duplicate);
            }
            Step::Late { producer } => self.late(producer),
            Step::LogStart { back } => {
                let leader = self.leader;
                let rig = self.trio.of(leader);
                let offset = (rig.part.high_watermark() - i64::from(back)).max(0);
                rig.part.delete_records(rig.now, 1 << 40, offset, &mut rig.dir, &mut rig.fx);
                self.trio.settle();
                self.trio.tick(2);
            }
            Step::Checkpoint { replica } => {
                let rig = &mut self.trio.rigs[replica];
                rig.part.checkpoint(bytes::Bytes::new(), false, &mut rig.dir);
                rig.settle();
            }
            Step::Restart { replica, power } => self.restart(replica as i32 + 1, power),
            Step::Install { replica } => self.install(replica as i32 + 1),
            Step::LoseLead { producer, commit } => self.lose_lead(producer, commit),
            Step::HandOver { to } => self.elect(to as i32 + 1),
        }
    }

    /// Version 2 alone: at version 1 its epoch is the same.
    fn late(&mut self, producer: usize) {
        let p = self.producers[producer].clone();
        if Producer::version(producer) < OWN_EPOCHS || p.epoch == 0 {
            return;
        }
        self.token += 1;
        let (leader, token) = (self.leader, self.token);
        let batch = within(producer as i64, p.epoch - 1, 99, &["late"]);
        self.trio.of(leader).submit(token, batch, -1, Origin::Client);
        let refused = self.answered().expect_err("its transaction has ended");
        assert_eq!(refused.code, ErrorCode::InvalidProducerEpoch);
    }

    fn restart(&mut self, node: i32, power: bool) {
        if node == self.leader {
            self.elect(node % 3 + 1);
        }
        self.trio.of(node).restart(power);
        self.trio.tick(4);
    }

    fn install(&mut self, node: i32) {
        if node == self.leader {
            return;
        }
        let leader = self.leader;
        let from = self.trio.of(leader);
        from.part.checkpoint(bytes::Bytes::new(), false, &mut from.dir);
        from.settle();
        let disk = from.disk.clone();
        let to = self.trio.of(node);
        to.disk = disk;
        to.restart(true);
        self.trio.tick(4);
    }

    /// A write (or the beginning of one) and a marker that reach nobody are gone with the lead.
    fn lose_lead(&mut self, producer: usize, commit: bool) {
        let old = self.leader;
        self.trio.cut = [old].into();
        self.submit_write(producer, 2);
        let marker = self.producers[producer].marker(producer, commit);
        self.submit_marker(marker);
        self.trio.settle();
        let new = old % 3 + 1;
        for node in (1..=3).filter(|node| *node != old) {
            let rig = self.trio.of(node);
            rig.part.lose_leader(rig.now, &mut rig.dir, &mut rig.fx);
        }
        self.trio.elect(new);
        self.leader = new;
        self.token += 1;
        // Something of its own, so that the old one has to give way.
        let token = self.token;
        self.trio.of(new).submit(token, plain(&["mine"]), -1, Origin::Client);
        self.answered().unwrap();
        self.trio.cut.clear();
        self.trio.tick(8);
    }

    fn check(&mut self, step: &Step) {
        let leader = self.leader;
        let rig = self.trio.of(leader);
        let known = self.history.last_key_value().map_or(0, |(_, (header, _))| header.next_offset());
        let mut at = known.max(rig.part.log_start());
        while at < rig.part.high_watermark() {
            let plan = rig.part.log().read_plan(at, rig.part.high_watermark(), 1 << 20).unwrap();
            let found = match plan {
                ReadPlan::Memory(batches) => batches,
                ReadPlan::File(range) => read_range(&rig.disk, &range).unwrap().batches,
                ReadPlan::Empty => panic!("records up to the high watermark"),
            };
            for bytes in found {
                for batch in records::batches(&bytes) {
                    let (range, header) = batch.unwrap();
                    at = header.next_offset();
                    self.history.insert(header.base_offset, (header, bytes.slice(range)));
                }
            }
        }
        let mut states = BTreeMap::new();
        for rig in &self.trio.rigs {
            let state = rig.part.producers.encode();
            let same = states.entry(rig.part.applied_index()).or_insert_with(|| state.clone());
            assert_eq!(*same, state, "what is derived from the log is the same everywhere");
            let (high, log_start) = (rig.part.high_watermark(), rig.part.log_start());
            let expected = naive(&self.history, high, log_start);
            let follows = !rig.part.is_leader();
            assert_eq!(said(rig, follows), expected, "after {step:?}, follows: {follows}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_replica_shows_what_a_look_at_the_whole_log_tells(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check(step);
        }
        for node in 1..=3 {
            world.restart(node, true);
            world.check(&Step::HandOver { to: 0 });
        }
        for producer in 0..3 {
            world.end(producer, true);
        }
        world.trio.tick(8);
        world.check(&Step::HandOver { to: 0 });
        let rig = world.trio.of(world.leader);
        prop_assert_eq!(rig.part.last_stable_offset(), rig.part.high_watermark(), "all have ended");
    }
}
