//! What the log holds, in two layers: *committed*, and what this leader has appended on top of it.
//!
//! Decisions read the latest of both, OffsetFetch reads the committed layer, checkpoints hold only that.
use crate::consumer::records::ConsumerKey;
use crate::events::{BatchId, Record};
use crate::records::{OffsetValue, group_key, offset_key};
use crate::txn_offsets::TxnOffsets;
use bytes::Bytes;
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
    pub(crate) topics: BTreeMap<Arc<str>, BTreeMap<i32, OffsetValue>>,
    /// Records of a consumer group.
    pub(crate) consumer: BTreeMap<ConsumerKey, Bytes>,
    pending_meta: Layers<Bytes>,
    pending_consumer: BTreeMap<ConsumerKey, Layers<Bytes>>,
    pending_offsets: BTreeMap<(Arc<str>, i32), Layers<OffsetValue>>,
    pub(crate) txn: TxnOffsets,
    open: BTreeSet<BatchId>,
    offsets: usize,
}

impl GroupStore {
    fn is_empty(&self) -> bool {
        let nothing = self.meta.is_none() && self.topics.is_empty() && self.consumer.is_empty();
        nothing && self.txn.is_empty() && self.open.is_empty()
    }

    /// Whether the group's own record exists, counting what is under way.
    pub(crate) fn has_meta(&self) -> bool {
        self.pending_meta.last().map_or(self.meta.is_some(), |(_, value)| value.is_some())
    }

    /// Whether the log says that this is a consumer group, committed records alone.
    pub(crate) fn is_consumer(&self) -> bool {
        self.consumer.contains_key(&ConsumerKey::Epoch)
    }

    /// Tombstones for every record of a consumer group, committed or under way, members first.
    pub(crate) fn consumer_tombstones(&self) -> Vec<Write> {
        let keys: BTreeSet<&ConsumerKey> = self.consumer.keys().chain(self.pending_consumer.keys()).collect();
        keys.into_iter().rev().map(|key| Write::Consumer { key: key.clone(), value: None }).collect()
    }

    /// Whether nothing is under way for this group.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a record of this partition's offset is under way.
    pub(crate) fn is_pending(&self, topic: &str, partition: i32) -> bool {
        !self.pending_offsets.is_empty() && self.pending_offsets.contains_key(&(Arc::from(topic), partition))
    }

    fn committed(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.topics.get(topic)?.get(&partition)
    }

    /// Whether the partition has an offset, counting what is under way.
    pub(crate) fn has_offset(&self, topic: &str, partition: i32) -> bool {
        if self.pending_offsets.is_empty() {
            return self.committed(topic, partition).is_some();
        }
        match self.pending_offsets.get(&(Arc::from(topic), partition)).and_then(|layers| layers.last()) {
            Some((_, value)) => value.is_some(),
            None => self.committed(topic, partition).is_some(),
        }
    }

    /// All partitions with an offset, counting what is under way and what waits for its transaction.
    pub(crate) fn latest_places(&self) -> Vec<(Arc<str>, i32)> {
        let mut places: BTreeSet<(Arc<str>, i32)> = BTreeSet::new();
        for (topic, partitions) in &self.topics {
            places.extend(partitions.keys().map(|p| (topic.clone(), *p)));
        }
        for (place, layers) in &self.pending_offsets {
            if layers.last().is_some_and(|(_, value)| value.is_some()) {
                places.insert(place.clone());
            } else {
                places.remove(place);
            }
        }
        places.extend(self.txn.places().cloned());
        places.into_iter().collect()
    }

    /// Partitions with an offset, an upper bound while records are under way.
    pub(crate) fn offset_count(&self) -> usize {
        self.offsets + self.pending_offsets.len() + self.txn.len()
    }

    /// Adds to `gone` the producers of which nothing waits here any more.
    fn set_offset(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        value: Option<OffsetValue>,
        gone: &mut Vec<ProducerId>,
    ) {
        self.txn.overtaken(topic, partition, gone);
        self.put_offset(topic, partition, value);
    }

    fn put_offset(&mut self, topic: &Arc<str>, partition: i32, value: Option<OffsetValue>) {
        match value {
            Some(value) => {
                let partitions = match self.topics.get_mut(topic) {
                    Some(found) => found,
                    None => self.topics.entry(topic.clone()).or_default(),
                };
                if partitions.insert(partition, value).is_none() {
                    self.offsets += 1;
                }
            }
            None => {
                if let Some(partitions) = self.topics.get_mut(topic) {
                    if partitions.remove(&partition).is_some() {
                        self.offsets -= 1;
                    }
                    if partitions.is_empty() {
                        self.topics.remove(topic);
                    }
                }
            }
        }
    }

    /// Adds to `gone` the producers of which nothing waits here any more.
    fn commit(&mut self, batch: BatchId, place: &Place, gone: &mut Vec<ProducerId>) {
        match place {
            Place::Group => {
                if let Some(value) = settle(&mut self.pending_meta, batch) {
                    self.meta = value;
                }
            }
            Place::TxnOffset(row) => {
                let (producer, topic, partition, value) = row.as_ref();
                self.txn.insert(*producer, topic, *partition, value.clone());
            }
            Place::Consumer(key) => {
                let Some(layers) = self.pending_consumer.get_mut(key) else { return };
                let value = settle(layers, batch);
                if layers.is_empty() {
                    self.pending_consumer.remove(key);
                }
                match value {
                    Some(Some(value)) => drop(self.consumer.insert(key.clone(), value)),
                    Some(None) => drop(self.consumer.remove(key)),
                    None => {}
                }
            }
            Place::Offset(topic, partition) => {
                let key = (topic.clone(), *partition);
                let Some(layers) = self.pending_offsets.get_mut(&key) else { return };
                let value = settle(layers, batch);
                if layers.is_empty() {
                    self.pending_offsets.remove(&key);
                }
                if let Some(value) = value {
                    self.set_offset(topic, *partition, value, gone);
                }
            }
        }
    }

    fn undo(&mut self, batch: BatchId, place: &Place) {
        match place {
            Place::Group => self.pending_meta.retain(|(b, _)| *b != batch),
            Place::TxnOffset(_) => {}
            Place::Consumer(key) => {
                if let Some(layers) = self.pending_consumer.get_mut(key) {
                    layers.retain(|(b, _)| *b != batch);
                    if layers.is_empty() {
                        self.pending_consumer.remove(key);
                    }
                }
            }
            Place::Offset(topic, partition) => {
                let key = (topic.clone(), *partition);
                if let Some(layers) = self.pending_offsets.get_mut(&key) {
                    layers.retain(|(b, _)| *b != batch);
                    if layers.is_empty() {
                        self.pending_offsets.remove(&key);
                    }
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
        let store = self.entry(group);
        store.open.insert(batch);
        match write {
            Write::Group { value } => {
                store.pending_meta.push((batch, value));
                Place::Group
            }
            Write::TxnOffset { producer_id, topic, partition, value } => {
                Place::TxnOffset(Box::new((producer_id, topic, partition, value)))
            }
            Write::Consumer { key, value } => {
                store.pending_consumer.entry(key.clone()).or_default().push((batch, value));
                Place::Consumer(key)
            }
            Write::Offset { topic, partition, value } => {
                store.pending_offsets.entry((topic.clone(), partition)).or_default().push((batch, value));
                Place::Offset(topic, partition)
            }
        }
    }

    pub(crate) fn commit(&mut self, batch: BatchId, group: &Arc<str>, places: &[Place]) {
        if let Some(store) = self.groups.get_mut(group) {
            let mut gone = Vec::new();
            places.iter().for_each(|place| store.commit(batch, place, &mut gone));
            store.open.remove(&batch);
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
            places.iter().for_each(|place| store.undo(batch, place));
            store.open.remove(&batch);
        }
        self.drop_if_empty(group);
    }

    /// Forgets everything that is pending.
    pub(crate) fn drop_pending(&mut self) {
        for store in self.groups.values_mut() {
            store.pending_meta.clear();
            store.pending_consumer.clear();
            store.pending_offsets.clear();
            store.open.clear();
        }
        self.groups.retain(|_, store| !store.is_empty());
    }

    /// The newest append under way that touches the group.
    pub(crate) fn newest_open(&self, group: &str) -> Option<BatchId> {
        self.get(group)?.open.last().copied()
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
            self.entry(&Arc::from(group)).set_offset(&Arc::from(topic), partition, value, &mut gone);
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
        self.entry(&group).txn.insert(producer, &Arc::from(topic), partition, value);
        self.waiting.entry(producer).or_default().insert(group);
    }

    /// The transaction of `producer` ended: its offsets count now, or never. Answers the groups that had some.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, commit: bool) -> BTreeSet<Arc<str>> {
        let groups = self.waiting.remove(&producer).unwrap_or_default();
        for group in &groups {
            let Some(store) = self.groups.get_mut(group) else { continue };
            let mut gone = Vec::new();
            for (topic, partition, value) in store.txn.end(producer, commit, &mut gone) {
                store.put_offset(&topic, partition, Some(value));
            }
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
            let rows = store.txn.rows().into_iter();
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
            let offsets = store.topics.iter().flat_map(move |(topic, partitions)| {
                partitions.iter().map(move |(partition, value)| Record {
                    key: offset_key(group, topic, *partition),
                    value: Some(value.encode()),
                })
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

#[cfg(test)]
mod tests;
