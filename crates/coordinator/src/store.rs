//! What the log holds, in two layers: *committed*, and what this leader has appended on top of it.
//!
//! Decisions read the latest of both, OffsetFetch reads the committed layer, checkpoints hold only that.
use crate::consumer::records::ConsumerKey;
use crate::events::{BatchId, Record};
use crate::records::{OffsetValue, group_key, offset_key};
use crate::txn_offsets::TxnOffsets;
use bytes::Bytes;
use committed::CommittedOffsets;
use model::ProducerId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One record to append.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Offset {
        topic: Arc<str>,
        partition: i32,
        value: Option<OffsetValue>,
    },
    TxnOffset {
        producer_id: ProducerId,
        topic: Arc<str>,
        partition: i32,
        value: OffsetValue,
    },
    Group {
        value: Option<Bytes>,
    },
    /// A record of a consumer group.
    Consumer {
        key: ConsumerKey,
        value: Option<Bytes>,
    },
}

impl Write {
    pub(crate) fn record(&self, group: &str) -> Record {
        match self {
            Write::Offset { topic, partition, value } => Record {
                key: offset_key(group, topic, *partition),
                value: value.as_ref().map(OffsetValue::encode),
            },
            Write::TxnOffset { topic, partition, value, .. } => {
                Record { key: offset_key(group, topic, *partition), value: Some(value.encode()) }
            }
            Write::Group { value } => Record { key: group_key(group), value: value.clone() },
            Write::Consumer { key, value } => Record { key: key.encode(group), value: value.clone() },
        }
    }
}

/// Which value a pending record changes.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Offset(Arc<str>, i32),
    /// Waits for its transaction once it is committed.
    TxnOffset(Box<(ProducerId, Arc<str>, i32, OffsetValue)>),
    Group,
    Consumer(ConsumerKey),
}

type Layers<T> = Vec<(BatchId, Option<T>)>;

#[derive(Debug, Default)]
pub(crate) struct GroupStore {
    pub(crate) meta: Option<Bytes>,
    pub(crate) offsets: CommittedOffsets,
    /// Records of a consumer group.
    pub(crate) consumer: BTreeMap<ConsumerKey, Bytes>,
    /// Nothing for most groups at any moment.
    unsettled: Option<Box<Unsettled>>,
}

/// What of a group is not decided yet.
#[derive(Debug, Default)]
struct Unsettled {
    meta: Layers<Bytes>,
    consumer: BTreeMap<ConsumerKey, Layers<Bytes>>,
    offsets: BTreeMap<(Arc<str>, i32), Layers<OffsetValue>>,
    open: BTreeSet<BatchId>,
    txn: TxnOffsets,
}

impl Unsettled {
    fn is_empty(&self) -> bool {
        let pending = self.meta.is_empty() && self.consumer.is_empty() && self.offsets.is_empty();
        pending && self.open.is_empty() && self.txn.is_empty()
    }

    fn undo(&mut self, batch: BatchId, place: &Place) {
        match place {
            Place::Group => self.meta.retain(|(b, _)| *b != batch),
            Place::TxnOffset(_) => {}
            Place::Consumer(key) => undo_in(&mut self.consumer, batch, key),
            Place::Offset(topic, partition) => {
                undo_in(&mut self.offsets, batch, &(topic.clone(), *partition))
            }
        }
    }
}

/// Takes the layer of `batch` away.
fn undo_in<K: Ord, T>(pending: &mut BTreeMap<K, Layers<T>>, batch: BatchId, key: &K) {
    if let Some(layers) = pending.get_mut(key) {
        layers.retain(|(b, _)| *b != batch);
        if layers.is_empty() {
            pending.remove(key);
        }
    }
}

/// The value that `batch` decides.
fn settle_in<K: Ord, T>(pending: &mut BTreeMap<K, Layers<T>>, batch: BatchId, key: &K) -> Option<Option<T>> {
    let layers = pending.get_mut(key)?;
    let value = settle(layers, batch);
    if layers.is_empty() {
        pending.remove(key);
    }
    value
}

impl GroupStore {
    fn is_empty(&self) -> bool {
        let nothing = self.meta.is_none() && self.offsets.is_empty() && self.consumer.is_empty();
        nothing && self.unsettled.is_none()
    }

    fn unsettled_mut(&mut self) -> &mut Unsettled {
        self.unsettled.get_or_insert_default()
    }

    /// Gives the room back that nothing needs any more.
    fn give_back(&mut self) {
        self.unsettled.take_if(|unsettled| unsettled.is_empty());
    }

    /// Whether the group's own record exists, counting what is under way.
    pub(crate) fn has_meta(&self) -> bool {
        let pending = self.unsettled.as_ref().and_then(|u| u.meta.last());
        pending.map_or(self.meta.is_some(), |(_, value)| value.is_some())
    }

    /// Whether the log says that this is a consumer group, committed records alone.
    pub(crate) fn is_consumer(&self) -> bool {
        self.consumer.contains_key(&ConsumerKey::Epoch)
    }

    /// Tombstones for every record of a consumer group, committed or under way, members first.
    pub(crate) fn consumer_tombstones(&self) -> Vec<Write> {
        let pending = self.unsettled.iter().flat_map(|u| u.consumer.keys());
        let keys: BTreeSet<&ConsumerKey> = self.consumer.keys().chain(pending).collect();
        keys.into_iter().rev().map(|key| Write::Consumer { key: key.clone(), value: None }).collect()
    }

    /// Whether nothing is under way for this group.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled.as_ref().is_none_or(|u| u.open.is_empty())
    }

    /// The newest value of the partition's offset under way, `Some(None)` for a tombstone.
    fn pending(&self, topic: &str, partition: i32) -> Option<Option<&OffsetValue>> {
        let unsettled = self.unsettled.as_ref().filter(|u| !u.offsets.is_empty())?;
        let layers = unsettled.offsets.get(&(Arc::from(topic), partition))?;
        layers.last().map(|(_, value)| value.as_ref())
    }

    /// Whether a record of this partition's offset is under way.
    pub(crate) fn is_pending(&self, topic: &str, partition: i32) -> bool {
        self.pending(topic, partition).is_some()
    }

    /// Whether the partition has an offset, counting what is under way.
    pub(crate) fn has_offset(&self, topic: &str, partition: i32) -> bool {
        match self.pending(topic, partition) {
            Some(value) => value.is_some(),
            None => self.offsets.contains(topic, partition),
        }
    }

    /// Whether an offset of the partition waits for its transaction.
    pub(crate) fn waits_for_transaction(&self, topic: &str, partition: i32) -> bool {
        self.unsettled.as_ref().is_some_and(|u| u.txn.holds(topic, partition))
    }

    /// Whose offsets wait.
    #[cfg(test)]
    fn producers(&self) -> impl Iterator<Item = ProducerId> + '_ {
        self.unsettled.iter().flat_map(|u| u.txn.producers())
    }

    /// All partitions with an offset, counting what is under way and what waits for its transaction.
    pub(crate) fn latest_places(&self) -> Vec<(Arc<str>, i32)> {
        let committed = self.offsets.iter().map(|(topic, partition, _)| (topic.clone(), partition));
        let mut places: BTreeSet<(Arc<str>, i32)> = committed.collect();
        if let Some(unsettled) = &self.unsettled {
            for (place, layers) in &unsettled.offsets {
                if layers.last().is_some_and(|(_, value)| value.is_some()) {
                    places.insert(place.clone());
                } else {
                    places.remove(place);
                }
            }
            places.extend(unsettled.txn.places());
        }
        places.into_iter().collect()
    }

    /// Partitions with an offset, an upper bound while records are under way.
    pub(crate) fn offset_count(&self) -> usize {
        self.offsets.len() + self.unsettled.as_ref().map_or(0, |u| u.offsets.len() + u.txn.len())
    }

    /// Adds to `gone` the producers of which nothing waits here any more.
    fn set_offset(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        value: Option<OffsetValue>,
        gone: &mut Vec<ProducerId>,
    ) {
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.txn.overtaken(topic, partition, gone);
        }
        match value {
            Some(value) => self.offsets.put(topic, partition, value),
            None => self.offsets.remove(topic, partition),
        }
    }

    /// Adds to `gone` the producers of which nothing waits here any more.
    fn commit(&mut self, batch: BatchId, place: &Place, gone: &mut Vec<ProducerId>) {
        match place {
            Place::Group => {
                if let Some(value) = settle(&mut self.unsettled_mut().meta, batch) {
                    self.meta = value;
                }
            }
            Place::TxnOffset(row) => {
                let (producer, topic, partition, value) = row.as_ref();
                self.unsettled_mut().txn.insert(*producer, topic, *partition, value.clone());
            }
            Place::Consumer(key) => match settle_in(&mut self.unsettled_mut().consumer, batch, key) {
                Some(Some(value)) => drop(self.consumer.insert(key.clone(), value)),
                Some(None) => drop(self.consumer.remove(key)),
                None => {}
            },
            Place::Offset(topic, partition) => {
                let key = (topic.clone(), *partition);
                if let Some(value) = settle_in(&mut self.unsettled_mut().offsets, batch, &key) {
                    self.set_offset(topic, *partition, value, gone);
                }
            }
        }
    }
}

/// Takes the newest layer of `batch` and drops those below it; later layers stay.
fn settle<T>(layers: &mut Layers<T>, batch: BatchId) -> Option<Option<T>> {
    let at = layers.iter().rposition(|(b, _)| *b == batch)?;
    layers.drain(..=at).next_back().map(|(_, value)| value)
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) groups: BTreeMap<Arc<str>, GroupStore>,
    /// Records of types that are not ours, kept for checkpoints.
    pub(crate) foreign: BTreeMap<Bytes, Bytes>,
    /// Which groups have offsets that wait for a producer's transaction: no more rows than there are such offsets.
    pub(crate) waiting: BTreeMap<ProducerId, BTreeSet<Arc<str>>>,
}

impl Store {
    pub(crate) fn get(&self, group: &str) -> Option<&GroupStore> {
        self.groups.get(group)
    }

    fn entry(&mut self, group: &Arc<str>) -> &mut GroupStore {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.clone(), GroupStore::default());
        }
        self.groups.get_mut(group).expect("inserted above if it was missing")
    }

    fn drop_if_empty(&mut self, group: &str) {
        if self.groups.get(group).is_some_and(GroupStore::is_empty) {
            self.groups.remove(group);
        }
    }

    /// Puts a record on top as pending.
    pub(crate) fn stage(&mut self, batch: BatchId, group: &Arc<str>, write: Write) -> Place {
        let unsettled = self.entry(group).unsettled_mut();
        unsettled.open.insert(batch);
        match write {
            Write::Group { value } => {
                unsettled.meta.push((batch, value));
                Place::Group
            }
            Write::TxnOffset { producer_id, topic, partition, value } => {
                Place::TxnOffset(Box::new((producer_id, topic, partition, value)))
            }
            Write::Consumer { key, value } => {
                unsettled.consumer.entry(key.clone()).or_default().push((batch, value));
                Place::Consumer(key)
            }
            Write::Offset { topic, partition, value } => {
                unsettled.offsets.entry((topic.clone(), partition)).or_default().push((batch, value));
                Place::Offset(topic, partition)
            }
        }
    }

    pub(crate) fn commit(&mut self, batch: BatchId, group: &Arc<str>, places: &[Place]) {
        if let Some(store) = self.groups.get_mut(group) {
            let mut gone = Vec::new();
            places.iter().for_each(|place| store.commit(batch, place, &mut gone));
            store.unsettled_mut().open.remove(&batch);
            store.give_back();
            for place in places {
                if let Place::TxnOffset(row) = place {
                    self.waiting.entry(row.0).or_default().insert(group.clone());
                }
            }
            self.wait_no_more(group, &gone);
        }
        self.drop_if_empty(group);
    }

    /// Nothing of the group waits for these any more.
    fn wait_no_more(&mut self, group: &str, gone: &[ProducerId]) {
        for producer in gone {
            if let Some(groups) = self.waiting.get_mut(producer) {
                groups.remove(group);
                if groups.is_empty() {
                    self.waiting.remove(producer);
                }
            }
        }
    }

    pub(crate) fn undo(&mut self, batch: BatchId, group: &str, places: &[Place]) {
        if let Some(store) = self.groups.get_mut(group) {
            let unsettled = store.unsettled_mut();
            places.iter().for_each(|place| unsettled.undo(batch, place));
            unsettled.open.remove(&batch);
            store.give_back();
        }
        self.drop_if_empty(group);
    }

    /// Forgets everything that is pending.
    pub(crate) fn drop_pending(&mut self) {
        for store in self.groups.values_mut() {
            if let Some(unsettled) = store.unsettled.take() {
                store.unsettled_mut().txn = unsettled.txn;
                store.give_back();
            }
        }
        self.groups.retain(|_, store| !store.is_empty());
    }

    /// The newest append under way that touches the group.
    pub(crate) fn newest_open(&self, group: &str) -> Option<BatchId> {
        self.get(group)?.unsettled.as_ref()?.open.last().copied()
    }

    pub(crate) fn replay_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        value: Option<OffsetValue>,
    ) {
        if value.is_some() || self.groups.contains_key(group) {
            let mut gone = Vec::new();
            let store = self.entry(&Arc::from(group));
            store.set_offset(&Arc::from(topic), partition, value, &mut gone);
            store.give_back();
            self.wait_no_more(group, &gone);
            self.drop_if_empty(group);
        }
    }

    pub(crate) fn replay_txn_offset(
        &mut self,
        producer: ProducerId,
        group: &str,
        topic: &str,
        partition: i32,
        value: OffsetValue,
    ) {
        let group: Arc<str> = Arc::from(group);
        self.entry(&group).unsettled_mut().txn.insert(producer, &Arc::from(topic), partition, value);
        self.waiting.entry(producer).or_default().insert(group);
    }

    /// The transaction of `producer` ended: its offsets count now, or never. Answers the groups that had some.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, commit: bool) -> BTreeSet<Arc<str>> {
        let groups = self.waiting.remove(&producer).unwrap_or_default();
        for group in &groups {
            let Some(store) = self.groups.get_mut(group) else { continue };
            let mut gone = Vec::new();
            for (topic, partition, value) in store.unsettled_mut().txn.end(producer, commit, &mut gone) {
                store.offsets.put(&topic, partition, value);
            }
            store.give_back();
            self.wait_no_more(group, &gone);
            self.drop_if_empty(group);
        }
        groups
    }

    /// Offsets that wait for their transactions: the producer, and the record, in the order of each group's log.
    pub(crate) fn txn_records(&self) -> impl Iterator<Item = (ProducerId, Record)> + '_ {
        self.groups.iter().flat_map(|(group, store)| {
            let record = |topic: &str, partition, value: &OffsetValue| Record {
                key: offset_key(group, topic, partition),
                value: Some(value.encode()),
            };
            let rows = store.unsettled.iter().flat_map(|u| u.txn.rows());
            rows.map(move |(producer, topic, partition, value)| (producer, record(topic, partition, value)))
        })
    }

    pub(crate) fn replay_group(&mut self, group: &str, value: Option<Bytes>) {
        if value.is_some() || self.groups.contains_key(group) {
            self.entry(&Arc::from(group)).meta = value;
            self.drop_if_empty(group);
        }
    }

    pub(crate) fn replay_consumer(&mut self, group: &str, key: ConsumerKey, value: Option<Bytes>) {
        if value.is_some() || self.groups.contains_key(group) {
            let store = self.entry(&Arc::from(group));
            match value {
                Some(value) => drop(store.consumer.insert(key, value)),
                None => drop(store.consumer.remove(&key)),
            }
            self.drop_if_empty(group);
        }
    }

    /// The committed layer as records, in key order within each group.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let ours = self.groups.iter().flat_map(|(group, store)| {
            let meta = store.meta.iter().map(|m| Record { key: group_key(group), value: Some(m.clone()) });
            let offsets = store.offsets.iter().map(move |(topic, partition, value)| Record {
                key: offset_key(group, topic, partition),
                value: Some(value.encode()),
            });
            let consumer = store
                .consumer
                .iter()
                .map(|(key, value)| Record { key: key.encode(group), value: Some(value.clone()) });
            meta.chain(consumer).chain(offsets)
        });
        let foreign = self.foreign.iter().map(|(k, v)| Record { key: k.clone(), value: Some(v.clone()) });
        ours.chain(foreign)
    }
}

mod committed;
#[cfg(test)]
mod tests;
