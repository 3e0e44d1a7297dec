//! One producer with a transactional id. Others may have the same id: who initialises it last fences the rest, who go on
//! until they hear of it.
use super::super::events::{MS, Micros, SECOND};
use super::model::{Model, Op, Producer, What};
use crate::oracle::Value;
use crate::rng::Rng;
use bytes::BytesMut;
use coordinator::InTransaction;
use model::{ErrorCode, GroupKey, LeaderEpoch};
use records::{BatchBuilder, NewRecord};
use std::collections::{BTreeMap, VecDeque};

/// Partitions of one transaction at most.
const MOST_PARTITIONS: u64 = 4;
/// Keys of one transactional id in a compacted topic.
const KEYS: u64 = 4;

/// One thing that a transaction consists of.
#[derive(Clone, Debug)]
enum Work {
    /// AddPartitionsToTxn, before TV2.
    Add(Vec<GroupKey>),
    Write(GroupKey),
    /// AddOffsetsToTxn, before TV2.
    AddOffsets,
    Offsets,
}

#[derive(Clone, Debug)]
struct Batch {
    write: usize,
    key: GroupKey,
    count: i32,
    bytes: BytesMut,
}

#[derive(Debug)]
struct Doing {
    number: usize,
    todo: VecDeque<Work>,
    batch: Option<Batch>,
    /// Something was acknowledged.
    holds: bool,
    /// It can only be aborted.
    broken: bool,
    ending: Option<bool>,
    /// Its client falls asleep when no more than so much is left to do.
    leaves_at: Option<usize>,
}

/// What a client asks for next. The same again, until it is answered.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Init { expected: Option<Producer>, timeout_ms: i32 },
    Add { producer: Producer, keys: Vec<GroupKey> },
    Produce { key: GroupKey, bytes: BytesMut, of: InTransaction },
    AddOffsets { producer: Producer },
    Offsets { offset: i64, of: InTransaction },
    End { producer: Producer, commit: bool, v2: bool, connection: u64 },
}

/// What clients know and share.
pub(super) struct Shared<'a> {
    pub(super) model: &'a mut Model,
    pub(super) rng: &'a mut Rng,
    pub(super) keys: &'a [GroupKey],
    /// Partitions of the compacted topic.
    pub(super) tables: &'a [GroupKey],
    pub(super) next_value: &'a mut Value,
    pub(super) now: Micros,
    pub(super) draining: bool,
}

impl Shared<'_> {
    fn has(&self, key: GroupKey) -> bool {
        self.keys.contains(&key) || self.tables.contains(&key)
    }

    /// What a record is to say: in the compacted topic one of a few keys of the transactional id, which it may delete.
    fn draw(&mut self, id: usize, key: GroupKey) -> Op {
        let value = *self.next_value;
        *self.next_value += 1;
        if !self.tables.contains(&key) {
            return ("t".to_owned(), Some(value));
        }
        let name = format!("{}{id}-{}", super::OWN_KEYS, self.rng.below(KEYS));
        (name, (!self.rng.chance(1, 3)).then_some(value))
    }
}

/// How an answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Done,
    /// The same is to be asked again.
    Again,
    /// The transaction can only be aborted.
    Abort,
    /// Another producer has the transactional id, or a timeout came.
    Fenced,
    /// No client that counts right is told so.
    OutOfOrder,
}

/// What a code means to a transactional producer (KIP-890).
pub(super) fn heard(code: ErrorCode) -> Heard {
    match code {
        ErrorCode::None => Heard::Done,
        ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping => {
            Heard::Fenced
        }
        ErrorCode::OutOfOrderSequenceNumber => Heard::OutOfOrder,
        code if code.is_retriable() => Heard::Again,
        _ => Heard::Abort,
    }
}

#[derive(Debug)]
pub(super) struct TxnClient {
    pub(super) id: usize,
    pub(super) v2: bool,
    pub(super) producer: Option<Producer>,
    /// InitProducerId names the producer that it has (KIP-360): the epoch must be raised before anything else.
    expected: Option<Producer>,
    sequences: BTreeMap<GroupKey, i32>,
    pub(super) asleep_until: Micros,
    /// It was told to come again: not before this.
    pub(super) again_at: Micros,
    timeout_ms: i32,
    doing: Option<Doing>,
    /// What the request under way is.
    pub(super) asked: Option<Step>,
    /// Requests of transactions that are over, to be sent again.
    pub(super) old: Vec<Step>,
    /// Rises with every request that it gives up: it does not wait for the answer on that connection any more.
    connection: u64,
    /// An end before TV2 that it gave up, which is on its way still.
    given_up: Option<Step>,
    /// The coordinator that it asks for an end after that one: the node, and the epoch in which it leads.
    pub(super) asked_in: Option<(usize, LeaderEpoch)>,
    /// The one given up, and who answered the same on a newer connection.
    pub(super) late_end: Option<(Step, (usize, LeaderEpoch))>,
}

impl TxnClient {
    pub(super) fn new(id: usize, asleep_until: Micros) -> TxnClient {
        TxnClient {
            id,
            v2: true,
            producer: None,
            expected: None,
            sequences: BTreeMap::new(),
            asleep_until,
            again_at: 0,
            timeout_ms: 1_000,
            doing: None,
            asked: None,
            old: Vec::new(),
            connection: 1,
            given_up: None,
            asked_in: None,
            late_end: None,
        }
    }

    /// Whether it has something to bring to an end.
    pub(super) fn is_unfinished(&self, now: Micros) -> bool {
        self.asleep_until <= now && (self.doing.is_some() || self.expected.is_some())
    }

    /// What it had is forgotten, and it does nothing for a while.
    pub(super) fn give_up(&mut self, until: Micros) {
        (self.producer, self.expected, self.doing, self.asked) = (None, None, None, None);
        (self.given_up, self.asked_in) = (None, None);
        self.sequences.clear();
        self.asleep_until = until;
    }

    /// No answer came: it goes on by another connection.
    pub(super) fn gave_up(&mut self) {
        self.connection += 1;
        let asked = self.asked.take();
        if let Some(end) = asked.filter(|step| matches!(step, Step::End { v2: false, .. })) {
            self.given_up = Some(end);
            self.asked_in = None;
        }
    }

    /// Whether the end that it asks for was asked for before, by an older connection.
    pub(super) fn repeats_end(&self) -> bool {
        self.given_up.is_some()
    }

    /// The partition is deleted.
    pub(super) fn forget(&mut self, key: GroupKey) {
        let Some(doing) = &mut self.doing else { return };
        if doing.batch.take_if(|batch| batch.key == key).is_some() {
            doing.todo.pop_front();
        }
        doing.todo.retain(|work| !matches!(work, Work::Write(k) if *k == key));
    }

    fn of(&self, producer: Producer) -> InTransaction {
        InTransaction {
            transactional_id: super::name_of(self.id),
            producer_id: producer.0,
            producer_epoch: producer.1,
            version: if self.v2 { 2 } else { 1 },
            principal: "User:sim".to_owned(),
            client_id: format!("client-{}", self.id),
        }
    }

    /// What it asks for next, and what that means to the model.
    pub(super) fn step(&mut self, shared: &mut Shared<'_>) -> Option<(Step, What)> {
        let Some(producer) = self.producer else {
            return if shared.draining && self.expected.is_none() { None } else { Some(self.init(shared)) };
        };
        if self.doing.is_none() {
            if shared.draining || shared.keys.is_empty() {
                return None;
            }
            self.doing = Some(self.begin(producer, shared));
        }
        let (v2, connection) = (self.v2, self.connection);
        loop {
            let doing = self.doing.as_mut()?;
            if doing.leaves_at.take_if(|left| doing.todo.len() <= *left).is_some() && !shared.draining {
                self.asleep_until = shared.now + 200 * MS + shared.rng.below(6 * SECOND);
                return None;
            }
            if doing.broken {
                doing.ending = Some(false);
            }
            if doing.todo.is_empty() && doing.ending.is_none() {
                doing.ending = Some(doing.holds && shared.rng.chance(3, 4));
            }
            if let Some(commit) = doing.ending {
                let end = Step::End { producer, commit, v2, connection };
                return Some((end, What::End(doing.number, commit)));
            }
            let work = doing.todo.front()?.clone();
            match work {
                Work::Add(mut keys) => {
                    keys.retain(|key| shared.has(*key));
                    if keys.is_empty() {
                        doing.todo.pop_front();
                        continue;
                    }
                    return Some((Step::Add { producer, keys }, What::Add));
                }
                Work::Write(key) if doing.batch.is_none() && !shared.has(key) => {
                    doing.todo.pop_front();
                }
                Work::Write(key) => return Some(self.write(key, producer, shared)),
                Work::AddOffsets => return Some((Step::AddOffsets { producer }, What::Add)),
                Work::Offsets => {
                    let number = doing.number;
                    let offset = shared.model.all[number].offset.map_or(0, |(offset, _)| offset);
                    let of = self.of(producer);
                    return Some((Step::Offsets { offset, of }, What::Offsets(number)));
                }
            }
        }
    }

    fn init(&mut self, shared: &mut Shared<'_>) -> (Step, What) {
        if self.expected.is_none() {
            self.v2 = shared.rng.chance(2, 3);
            self.timeout_ms = *shared.rng.pick(&[400, 1_500, 5_000]).unwrap_or(&1_500);
        }
        (Step::Init { expected: self.expected, timeout_ms: self.timeout_ms }, What::Init)
    }

    fn begin(&self, producer: Producer, shared: &mut Shared<'_>) -> Doing {
        let mut keys = shared.keys.to_vec();
        keys.sort_by_key(|_| shared.rng.below(1 << 30));
        keys.truncate(1 + shared.rng.below(MOST_PARTITIONS) as usize);
        if !shared.tables.is_empty() && shared.rng.chance(1, 3) {
            keys.extend(shared.rng.pick(shared.tables));
        }
        let offsets = shared.rng.chance(1, 3);
        let mut todo = VecDeque::new();
        if !self.v2 {
            // Some add their partitions one after the other.
            match shared.rng.chance(1, 2) {
                true => todo.push_back(Work::Add(keys.clone())),
                false => todo.extend(keys.iter().map(|key| Work::Add(vec![*key]))),
            }
        }
        for _ in 0..1 + shared.rng.below(2) {
            todo.extend(keys.iter().map(|key| Work::Write(*key)));
        }
        if offsets {
            todo.extend((!self.v2).then_some(Work::AddOffsets));
            todo.push_back(Work::Offsets);
        }
        let leaves_at = shared.rng.chance(1, 12).then(|| shared.rng.below(todo.len() as u64) as usize);
        let number = shared.model.begin(self.id, producer, self.v2, offsets);
        Doing { number, todo, batch: None, holds: false, broken: false, ending: None, leaves_at }
    }

    fn write(&mut self, key: GroupKey, producer: Producer, shared: &mut Shared<'_>) -> (Step, What) {
        let of = self.of(producer);
        let sequence = self.sequences.get(&key).copied().unwrap_or(0);
        let doing = self.doing.as_mut().expect("the step of a transaction");
        let (number, id) = (doing.number, self.id);
        let batch = doing.batch.get_or_insert_with(|| {
            let count = 1 + shared.rng.below(3);
            let ops: Vec<Op> = (0..count).map(|_| shared.draw(id, key)).collect();
            let mut builder = BatchBuilder::new().producer(producer.0, producer.1, sequence).transactional();
            for (name, value) in &ops {
                let value = value.map(Value::to_be_bytes);
                let value = value.as_ref().map(<[u8; 8]>::as_slice);
                builder.push(NewRecord::new(1_700_000_000_000, Some(name.as_bytes()), value));
            }
            let bytes = builder.finish().expect("an uncompressed batch can always be built");
            let write = shared.model.write(number, key, ops);
            Batch { write, key, count: count as i32, bytes }
        });
        let step = Step::Produce { key, bytes: batch.bytes.clone(), of };
        (step, What::Produce(number, batch.write))
    }

    /// The request under way was answered. `next`: the producer that an Init or an end gave.
    pub(super) fn hear(&mut self, step: Step, heard: Heard, next: Option<Producer>, shared: &mut Shared<'_>) {
        match (heard, &step) {
            (Heard::Again, _) => self.again_at = shared.now + 20 * MS + shared.rng.below(60 * MS),
            (Heard::Done, Step::Init { .. }) => {
                (self.producer, self.expected) = (next, None);
                self.sequences.clear();
            }
            (Heard::Done, Step::End { commit, v2, .. }) => {
                if let (Some(end), Some(by)) = (self.given_up.take(), self.asked_in.take()) {
                    self.late_end = Some((end, by));
                }
                self.ended(*commit, *v2, next, shared);
            }
            (Heard::Done, _) => self.went_well(&step),
            (Heard::Abort | Heard::OutOfOrder, Step::End { .. })
            | (_, Step::Init { .. })
            | (Heard::Fenced, _) => {
                let rest = 100 * MS + shared.rng.below(3 * SECOND);
                self.give_up(shared.now + rest);
            }
            (Heard::Abort | Heard::OutOfOrder, _) => {
                if let Some(doing) = &mut self.doing {
                    doing.broken = true;
                }
            }
        }
        let keep = matches!(step, Step::Produce { .. } | Step::Add { .. })
            || matches!(step, Step::End { v2: true, .. });
        if keep && heard == Heard::Done {
            self.old.push(step);
            if self.old.len() > 8 {
                self.old.remove(0);
            }
        }
    }

    fn went_well(&mut self, step: &Step) {
        let Some(doing) = &mut self.doing else { return };
        match step {
            Step::Produce { key, .. } => {
                let Some(batch) = doing.batch.take() else { return };
                let next = self.sequences.entry(*key).or_default();
                *next = records::next_sequence(*next, batch.count);
                doing.holds = true;
            }
            Step::Offsets { .. } => doing.holds = true,
            _ => {}
        }
        doing.todo.pop_front();
    }

    fn ended(&mut self, commit: bool, v2: bool, next: Option<Producer>, shared: &mut Shared<'_>) {
        self.doing = None;
        if v2 {
            self.producer = next;
            self.sequences.clear();
        } else if !commit {
            // What is on its way must find no later transaction of its epoch.
            (self.expected, self.producer) = (self.producer, None);
        }
        // Now and then the client ends; another one, or itself, begins anew.
        if shared.rng.chance(1, 20) && !shared.draining {
            let rest = shared.rng.below(3 * SECOND);
            self.give_up(shared.now + rest);
        }
    }
}
