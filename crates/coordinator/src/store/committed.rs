//! The committed offsets of one group, kept small: a broker may hold millions of them.
//!
//! Rows of one topic lie in order in chunks, so that a commit moves few bytes however many partitions there are. What most
//! commits do not have (a note, a lifetime of their own, an id other than their neighbours') costs a row eight bytes.
use crate::records::OffsetValue;
use model::TopicId;
use std::sync::Arc;

/// Rows of one chunk; one more splits it.
const CHUNK_ROWS: usize = 512;

/// In the order of topics and partitions.
#[derive(Debug, Default)]
pub(crate) struct CommittedOffsets {
    chunks: Vec<Chunk>,
    rows: usize,
}

/// Some partitions of a topic, at least one, all below those of the topic's next chunk.
#[derive(Debug)]
struct Chunk {
    topic: Arc<str>,
    topic_id: TopicId,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    offset: i64,
    commit_timestamp: i64,
    partition: i32,
    leader_epoch: i32,
    rest: Option<Box<Rest>>,
}

/// What the chunk does not say.
#[derive(Debug)]
struct Rest {
    metadata: Box<str>,
    expire_timestamp: Option<i64>,
    topic_id: TopicId,
}

impl Row {
    fn new(partition: i32, value: OffsetValue, chunk: TopicId) -> Row {
        let OffsetValue { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id } =
            value;
        let plain = metadata.is_empty() && expire_timestamp.is_none() && topic_id == chunk;
        let rest = (!plain).then(|| Box::new(Rest { metadata, expire_timestamp, topic_id }));
        Row { offset, commit_timestamp, partition, leader_epoch, rest }
    }

    fn value(&self, chunk: TopicId) -> OffsetValue {
        let rest = self.rest.as_deref();
        OffsetValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: rest.map(|r| r.metadata.clone()).unwrap_or_default(),
            commit_timestamp: self.commit_timestamp,
            expire_timestamp: rest.and_then(|r| r.expire_timestamp),
            topic_id: rest.map_or(chunk, |r| r.topic_id),
        }
    }
}

impl Chunk {
    fn find(&self, partition: i32) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&partition, |row| row.partition)
    }
}

impl CommittedOffsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Partitions with an offset.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// The chunk that holds the partition if any does, or where one for it would be.
    fn chunk_of(&self, topic: &str, partition: i32) -> Result<usize, usize> {
        let after = self.chunks.partition_point(|c| (&*c.topic, c.rows[0].partition) <= (topic, partition));
        let ours = |at: usize| self.chunks.get(at).is_some_and(|c| &*c.topic == topic);
        match after.checked_sub(1).filter(|at| ours(*at)) {
            Some(at) => Ok(at),
            None if ours(after) => Ok(after),
            None => Err(after),
        }
    }

    fn row(&self, topic: &str, partition: i32) -> Option<(&Row, TopicId)> {
        let chunk = &self.chunks[self.chunk_of(topic, partition).ok()?];
        Some((&chunk.rows[chunk.find(partition).ok()?], chunk.topic_id))
    }

    pub(crate) fn contains(&self, topic: &str, partition: i32) -> bool {
        self.row(topic, partition).is_some()
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<OffsetValue> {
        self.row(topic, partition).map(|(row, chunk)| row.value(chunk))
    }

    pub(crate) fn put(&mut self, topic: &Arc<str>, partition: i32, value: OffsetValue) {
        let at = match self.chunk_of(topic, partition) {
            Ok(at) => at,
            Err(at) => {
                let (topic, topic_id) = (topic.clone(), value.topic_id);
                self.chunks.reserve_exact(room(self.chunks.len(), self.chunks.capacity()));
                self.chunks.insert(at, Chunk { topic, topic_id, rows: Vec::new() });
                at
            }
        };
        let chunk = &mut self.chunks[at];
        match chunk.find(partition) {
            Ok(row) => {
                if chunk.rows.len() == 1 {
                    chunk.topic_id = value.topic_id;
                }
                chunk.rows[row] = Row::new(partition, value, chunk.topic_id);
            }
            Err(row) => {
                chunk.rows.reserve_exact(room(chunk.rows.len(), chunk.rows.capacity()));
                chunk.rows.insert(row, Row::new(partition, value, chunk.topic_id));
                self.rows += 1;
                self.split(at);
            }
        }
    }

    fn split(&mut self, at: usize) {
        let chunk = &mut self.chunks[at];
        if chunk.rows.len() <= CHUNK_ROWS {
            return;
        }
        // Partitions mostly come in their order: what stays is full, or full enough.
        let rows = chunk.rows.split_off(CHUNK_ROWS * 3 / 4);
        let (topic, topic_id) = (chunk.topic.clone(), chunk.topic_id);
        self.chunks.insert(at + 1, Chunk { topic, topic_id, rows });
    }

    pub(crate) fn remove(&mut self, topic: &str, partition: i32) {
        let Ok(at) = self.chunk_of(topic, partition) else { return };
        let Ok(row) = self.chunks[at].find(partition) else { return };
        self.chunks[at].rows.remove(row);
        self.rows -= 1;
        if self.chunks[at].rows.is_empty() {
            self.chunks.remove(at);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, OffsetValue)> {
        let value = |chunk: &'_ Chunk, row: &Row| row.value(chunk.topic_id);
        self.chunks.iter().flat_map(move |chunk| {
            chunk.rows.iter().map(move |row| (&chunk.topic, row.partition, value(chunk, row)))
        })
    }
}

/// For how many more there is to be room in a full vector: an eighth, because most groups never get any more.
fn room(len: usize, capacity: usize) -> usize {
    if len < capacity { 0 } else { 1 + len / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn value(offset: i64, note: bool, expires: bool, id: u8) -> OffsetValue {
        OffsetValue {
            offset,
            leader_epoch: 3,
            metadata: if note { "note".into() } else { "".into() },
            commit_timestamp: offset + 1,
            expire_timestamp: expires.then_some(9),
            topic_id: TopicId([id; 16]),
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would_hold(steps in prop::collection::vec(
            (0u8..3, 0i32..1500, any::<Option<(bool, bool)>>(), 0u8..2), 1..4000,
        )) {
            let names: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).into();
            let (mut held, mut map) = (CommittedOffsets::default(), BTreeMap::new());
            for (at, (topic, partition, put, id)) in steps.into_iter().enumerate() {
                let name = &names[usize::from(topic)];
                match put {
                    Some((note, expires)) => {
                        let value = value(at as i64, note, expires, id);
                        held.put(name, partition, value.clone());
                        map.insert((name.clone(), partition), value);
                    }
                    None => {
                        held.remove(name, partition);
                        map.remove(&(name.clone(), partition));
                    }
                }
                let known = map.get(&(name.clone(), partition));
                prop_assert_eq!(&held.get(name, partition), &known.cloned());
                prop_assert_eq!(held.contains(name, partition), known.is_some());
            }
            prop_assert_eq!((held.len(), held.is_empty()), (map.len(), map.is_empty()));
            let all = held.iter().map(|(topic, partition, value)| ((topic.clone(), partition), value));
            prop_assert!(all.eq(map));
            prop_assert!(held.chunks.iter().all(|c| (1..=CHUNK_ROWS).contains(&c.rows.len())));
        }
    }

    #[test]
    fn many_partitions_lie_in_many_chunks() {
        let (topic, mut held): (Arc<str>, _) = ("t".into(), CommittedOffsets::default());
        for partition in (0..5_000).rev().step_by(2).chain(0..5_000) {
            held.put(&topic, partition, value(i64::from(partition), false, false, 1));
        }
        assert!(
            held.iter()
                .map(|(_, partition, v)| (partition, v.offset))
                .eq((0..5_000).map(|p| (p, i64::from(p))))
        );
        assert!((10..30).contains(&held.chunks.len()), "{}", held.chunks.len());
        (0..5_000).for_each(|partition| held.remove("t", partition));
        assert!(held.is_empty() && held.chunks.is_empty());
    }
}
