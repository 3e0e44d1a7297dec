//! The index of groups whose offsets wait for transactions, against a look at every group.
use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Appended; committed or undone later, in the order of the log.
    Plain {
        group: usize,
        partition: i32,
        tombstone: bool,
    },
    InTransaction {
        group: usize,
        producer: ProducerId,
        partition: i32,
    },
    /// The oldest append under way is decided.
    Decided {
        committed: bool,
    },
    End {
        producer: ProducerId,
        commit: bool,
    },
    /// A follower's replay of the same records.
    Replayed {
        group: usize,
        producer: Option<ProducerId>,
        partition: i32,
        tombstone: bool,
    },
    LeadLost,
}

const GROUPS: [&str; 4] = ["a", "b", "c", "d"];

fn op() -> impl Strategy<Value = Op> {
    let group = || 0..GROUPS.len();
    prop_oneof![
        2 => (group(), 0..3, any::<bool>())
            .prop_map(|(group, partition, tombstone)| Op::Plain { group, partition, tombstone }),
        5 => (group(), 1..5i64, 0..3)
            .prop_map(|(group, producer, partition)| Op::InTransaction { group, producer, partition }),
        6 => any::<bool>().prop_map(|committed| Op::Decided { committed }),
        3 => (1..5i64, any::<bool>()).prop_map(|(producer, commit)| Op::End { producer, commit }),
        3 => (group(), proptest::option::of(1..5i64), 0..3, any::<bool>())
            .prop_map(|(group, producer, partition, tombstone)| Op::Replayed { group, producer, partition, tombstone }),
        1 => Just(Op::LeadLost),
    ]
}

fn value() -> OffsetValue {
    OffsetValue {
        offset: 7,
        leader_epoch: -1,
        metadata: "".into(),
        commit_timestamp: 0,
        expire_timestamp: None,
        topic_id: model::TopicId::ZERO,
    }
}

#[derive(Default)]
struct Rig {
    store: Store,
    under_way: std::collections::VecDeque<(BatchId, Arc<str>, Vec<Place>)>,
    last: u64,
}

impl Rig {
    fn append(&mut self, group: usize, write: Write) {
        self.last += 1;
        let (batch, group) = (BatchId(self.last), Arc::from(GROUPS[group]));
        let place = self.store.stage(batch, &group, write);
        self.under_way.push_back((batch, group, vec![place]));
    }

    /// Answers the groups that a marker ended something in, by a look at all of them.
    fn with_offsets_of(&self, producer: ProducerId) -> BTreeSet<Arc<str>> {
        let rows = self.store.groups.iter().filter(|(_, s)| s.producers().any(|p| p == producer));
        rows.map(|(group, _)| group.clone()).collect()
    }

    fn step(&mut self, op: Op) {
        let topic: Arc<str> = "t".into();
        match op {
            Op::Plain { group, partition, tombstone } => {
                let value = (!tombstone).then(value);
                self.append(group, Write::Offset { topic, partition, value });
            }
            Op::InTransaction { group, producer: producer_id, partition } => {
                self.append(group, Write::TxnOffset { producer_id, topic, partition, value: value() });
            }
            Op::Decided { committed } => {
                let Some((batch, group, places)) = self.under_way.pop_front() else { return };
                if committed {
                    self.store.commit(batch, &group, &places);
                } else {
                    self.store.undo(batch, &group, &places);
                }
            }
            Op::End { producer, commit } => {
                let wanted = self.with_offsets_of(producer);
                assert_eq!(self.store.end_transaction(producer, commit), wanted);
                assert!(self.with_offsets_of(producer).is_empty());
            }
            Op::Replayed { group, producer: Some(producer), partition, .. } => {
                self.store.replay_txn_offset(producer, GROUPS[group], "t", partition, value());
            }
            Op::Replayed { group, producer: None, partition, tombstone } => {
                let value = (!tombstone).then(value);
                self.store.replay_offset(GROUPS[group], "t", partition, value);
            }
            Op::LeadLost => {
                self.under_way.clear();
                self.store.drop_pending();
            }
        }
    }
}

proptest! {
    #[test]
    fn the_index_of_waiting_groups_is_what_a_look_at_all_groups_finds(
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut rig = Rig::default();
        for op in ops {
            rig.step(op);
            let mut scanned: BTreeMap<ProducerId, BTreeSet<Arc<str>>> = BTreeMap::new();
            for (group, store) in &rig.store.groups {
                for producer in store.producers() {
                    scanned.entry(producer).or_default().insert(group.clone());
                }
            }
            prop_assert_eq!(&rig.store.waiting, &scanned, "after {:?}", op);
            let empty = rig.store.groups.values().filter(|store| store.is_empty()).count();
            prop_assert_eq!(empty, 0, "a group of nothing stays");
        }
    }
}
