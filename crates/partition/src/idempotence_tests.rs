//! Idempotence against a simple model, over crashes: what was acknowledged is there once, what was not
//! is there at most once.
use crate::test_rig::{Rig, numbered};
use crate::{Origin, PartitionConfig};
use model::ErrorCode;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// The producer sends its next batch.
    Send { producer: usize, records: u8 },
    /// It sends one of its last five batches again.
    Resend { producer: usize, back: u8 },
    /// It skips a sequence number.
    Skip { producer: usize },
    /// The disk works until it is done.
    Settle,
    /// Syncs stop completing.
    Hold,
    /// A checkpoint.
    Checkpoint,
    /// The process dies; with `power`, the machine.
    Crash { power: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3usize, 1..4u8).prop_map(|(producer, records)| Step::Send { producer, records }),
        4 => (0..3usize, 0..5u8).prop_map(|(producer, back)| Step::Resend { producer, back }),
        1 => (0..3usize).prop_map(|producer| Step::Skip { producer }),
        4 => Just(Step::Settle),
        1 => Just(Step::Hold),
        1 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(|power| Step::Crash { power }),
    ]
}

/// A producer as Kafka's clients are: at most five batches in flight, resent in order after a crash.
#[derive(Default)]
struct Producer {
    next_sequence: i32,
    /// Sent and not acknowledged: (first sequence, values).
    in_flight: Vec<(i32, Vec<String>)>,
    /// Acknowledged: (base offset, first sequence, values).
    acknowledged: Vec<(i64, i32, Vec<String>)>,
}

struct World {
    rig: Rig,
    producers: Vec<Producer>,
    /// token -> (producer, first sequence)
    tokens: Vec<(usize, i32)>,
    high: i64,
}

impl World {
    fn send(&mut self, producer: usize, sequence: i32, values: &[String]) {
        let token = self.tokens.len() as u64;
        self.tokens.push((producer, sequence));
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let batch = numbered(producer as i64 + 10, 0, sequence, &values);
        self.rig.submit(token, batch, -1, Origin::Client);
    }

    fn take_answers(&mut self) {
        for token in 0..self.tokens.len() as u64 {
            let Some(result) = self.rig.answer(token) else { continue };
            let (producer, sequence) = self.tokens[token as usize];
            let p = &mut self.producers[producer];
            let done = result.unwrap_or_else(|e| panic!("batch {sequence} of {producer} was refused: {e:?}"));
            if let Some(at) = p.in_flight.iter().position(|(s, _)| *s == sequence) {
                let (_, values) = p.in_flight.remove(at);
                p.acknowledged.push((done.base_offset, sequence, values));
            } else {
                let first = p.acknowledged.iter().find(|(_, s, _)| *s == sequence).unwrap();
                assert_eq!(first.0, done.base_offset, "a duplicate has its first offset");
            }
        }
        assert!(self.rig.part.high_watermark() >= self.high, "the high watermark never falls");
        self.high = self.rig.part.high_watermark();
    }

    /// Clients reconnect and send everything that was not acknowledged again.
    fn reconnect(&mut self) {
        self.tokens.clear();
        self.rig.touch();
        for producer in 0..self.producers.len() {
            for (sequence, values) in self.producers[producer].in_flight.clone() {
                self.send(producer, sequence, &values);
            }
        }
        self.rig.settle();
        self.take_answers();
    }

    fn check(&self) {
        let log = self.rig.read_all();
        let offsets: Vec<i64> = log.iter().map(|(o, _)| *o).collect();
        assert_eq!(offsets, (0..log.len() as i64).collect::<Vec<_>>(), "offsets have no gaps");
        let mut values: Vec<&Vec<u8>> = log.iter().map(|(_, v)| v).collect();
        values.sort();
        let total = values.len();
        values.dedup();
        assert_eq!(values.len(), total, "nothing is there twice");
        for (base, _, batch) in self.producers.iter().flat_map(|p| &p.acknowledged) {
            for (i, value) in batch.iter().enumerate() {
                let (_, found) = &log[*base as usize + i];
                assert_eq!(found, value.as_bytes(), "what was acknowledged is there");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_once_and_never_twice(steps in proptest::collection::vec(step(), 1..80)) {
        let producers = (0..3).map(|_| Producer::default()).collect();
        let rig = Rig::serving(PartitionConfig::default());
        let mut world = World { rig, producers, tokens: Vec::new(), high: 0 };
        for step in steps {
            match step {
                Step::Send { producer, records } => {
                    let p = &mut world.producers[producer];
                    if p.in_flight.len() == 5 {
                        continue;
                    }
                    let sequence = p.next_sequence;
                    let values: Vec<String> =
                        (0..i32::from(records)).map(|i| format!("{producer}:{}", sequence + i)).collect();
                    p.next_sequence += i32::from(records);
                    p.in_flight.push((sequence, values.clone()));
                    world.send(producer, sequence, &values);
                }
                Step::Resend { producer, back } => {
                    let p = &world.producers[producer];
                    let mut sent: Vec<(i32, Vec<String>)> =
                        p.acknowledged.iter().map(|(_, s, v)| (*s, v.clone())).collect();
                    sent.extend(p.in_flight.iter().cloned());
                    sent.sort();
                    if let Some((sequence, values)) = sent.into_iter().rev().nth(usize::from(back)) {
                        world.send(producer, sequence, &values);
                    }
                }
                Step::Skip { producer } => {
                    let sequence = world.producers[producer].next_sequence + 1;
                    if sequence == 1 {
                        continue;
                    }
                    let token = u64::MAX;
                    let batch = numbered(producer as i64 + 10, 0, sequence, &["skipped"]);
                    world.rig.submit(token, batch, -1, Origin::Client);
                    let refused = world.rig.answer(token).expect("refused at once").expect_err("out of order");
                    prop_assert_eq!(refused.code, ErrorCode::OutOfOrderSequenceNumber);
                }
                Step::Settle => world.rig.release_syncs(),
                Step::Hold => world.rig.hold_syncs = true,
                Step::Checkpoint => {
                    world.rig.part.checkpoint(bytes::Bytes::new(), false, &mut world.rig.dir);
                }
                Step::Crash { power } => {
                    world.take_answers();
                    world.rig.restart(power);
                    world.high = 0;
                    world.reconnect();
                }
            }
            world.rig.settle();
            world.take_answers();
        }
        world.rig.release_syncs();
        world.take_answers();
        world.rig.restart(true);
        world.high = 0;
        world.reconnect();
        world.check();
        prop_assert!(world.producers.iter().all(|p| p.in_flight.is_empty()), "all is acknowledged in the end");
    }
}
