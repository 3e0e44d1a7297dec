//! Reading batches from partition leaders, and the records that a consumer may see of them.
use crate::client::Client;
use crate::error::{ClientError, check};
use bytes::Bytes;
use model::{ErrorCode, TopicId};
use records::{BatchHeader, ControlKind, Record, fetched_batches, parse_end_marker};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::fetch_request::{FetchPartition, FetchTopic};
use wire::{ApiKey, FetchRequest, FetchResponse, Str};

/// Where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFrom {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset wanted.
    pub offset: i64,
}

/// How much to read and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    /// The longest wait for `min_bytes`.
    pub max_wait: Duration,
    /// Answer as soon as there is so much.
    pub min_bytes: i32,
    /// The most to answer, over all partitions; a first batch comes whole.
    pub max_bytes: i32,
    /// The most to answer for a partition.
    pub partition_max_bytes: i32,
    /// Leave out records of open and aborted transactions.
    pub read_committed: bool,
}

impl Default for FetchOptions {
    fn default() -> Self {
        FetchOptions {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            read_committed: false,
        }
    }
}

/// What was read of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that was asked for.
    pub offset: i64,
    /// Kafka's code.
    pub error_code: i16,
    /// The high watermark.
    pub high_watermark: i64,
    /// The last stable offset; -1 if not told.
    pub last_stable_offset: i64,
    /// First offset of the log; -1 if not told.
    pub log_start_offset: i64,
    /// Aborted transactions in the range: producer and first offset, by ascending offset.
    pub aborted: Vec<(i64, i64)>,
    /// The batches, as they are stored.
    pub records: Bytes,
}

/// The most that one batch may decompress to.
pub const MAX_BATCH_PLAIN: usize = 1 << 30;

impl Fetched {
    /// The records from the asked offset on, without control records and, when `aborted` says so, without
    /// those of aborted transactions; and the offset to read on from.
    pub fn decode(&self) -> Result<(Vec<Record>, i64), ClientError> {
        let mut seen = Vec::new();
        let mut next = self.offset;
        let mut begins = self.aborted.iter().peekable();
        let mut aborting = BTreeSet::new();
        for batch in fetched_batches(self.records.clone()) {
            let (header, bytes) = batch?;
            records::check_crc(&bytes)?;
            while let Some((producer, _)) = begins.next_if(|(_, first)| *first <= header.last_offset()) {
                aborting.insert(*producer);
            }
            if header.is_control() {
                let marker = parse_end_marker(&bytes)?;
                if marker.is_some_and(|m| m.kind == ControlKind::Abort) {
                    aborting.remove(&header.producer_id);
                }
            } else if !is_void(&header, &aborting) {
                for record in records::records(&bytes, MAX_BATCH_PLAIN)? {
                    let record = record?;
                    if record.offset >= self.offset {
                        seen.push(record);
                    }
                }
            }
            next = next.max(header.next_offset());
        }
        Ok((seen, next))
    }

    /// `Ok` unless the broker refused this partition.
    pub fn check(&self) -> Result<(), ClientError> {
        check(
            || format!("fetch from {}-{} at offset {}", self.topic, self.partition, self.offset),
            self.error_code,
            None,
        )
    }

    /// Whether it was refused for what does not change by asking again. To a producer CORRUPT_MESSAGE says that
    /// a batch was damaged on its way, to a reader that the log is.
    pub fn is_final(&self) -> bool {
        self.error_code == ErrorCode::CorruptMessage.code()
            || self.check().is_err_and(|error| !error.is_retriable())
    }
}

fn is_void(header: &BatchHeader, aborting: &BTreeSet<i64>) -> bool {
    header.is_transactional() && aborting.contains(&header.producer_id)
}

impl Client {
    /// Reads several partitions, of each leader in one request, all at once. What a broker refuses for one
    /// partition is in its row; the cache forgets topics whose leader has moved, so asking again helps.
    pub async fn fetch(
        &self,
        from: &[FetchFrom],
        options: &FetchOptions,
    ) -> Result<Vec<Fetched>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<(TopicId, &FetchFrom)>> = BTreeMap::new();
        for row in from {
            let topic = self.topic(&row.topic).await?;
            let partition = topic.partitions.iter().find(|p| p.index == row.partition);
            let missing = || ClientError::Missing { what: format!("{}-{}", row.topic, row.partition) };
            let leader = partition.ok_or_else(missing)?.led_by(&row.topic);
            let leader = leader.inspect_err(|_| self.forget_topic(&row.topic))?;
            by_leader.entry(leader).or_default().push((topic.id, row));
        }
        let mut pending = Vec::new();
        for (leader, rows) in &by_leader {
            let conn = match self.named(*leader).await {
                Ok(conn) => conn,
                Err(error) => {
                    rows.iter().for_each(|(_, row)| self.forget_topic(&row.topic));
                    return Err(error);
                }
            };
            let mut version = conn.version(ApiKey::Fetch)?;
            if rows.iter().any(|(id, _)| id.is_zero()) {
                version = version.min(12);
            }
            pending.push((conn.begin_at(fetch_request(rows, options), version).await?, rows));
        }
        let mut out = Vec::with_capacity(from.len());
        for (answer, rows) in pending {
            let answer = answer.wait().await?;
            check(|| "Fetch".to_owned(), answer.error_code, None)?;
            out.extend(self.rows_of(answer, rows));
        }
        Ok(out)
    }

    fn rows_of(&self, answer: FetchResponse, asked: &[(TopicId, &FetchFrom)]) -> Vec<Fetched> {
        let mut out = Vec::new();
        for topic in answer.responses {
            for row in topic.partitions {
                let this = |(id, from): &&(TopicId, &FetchFrom)| {
                    let same = if topic.topic_id.is_zero() {
                        topic.topic == from.topic.as_str()
                    } else {
                        topic.topic_id == *id
                    };
                    same && from.partition == row.partition_index
                };
                let Some((_, from)) = asked.iter().find(this) else { continue };
                if row.error_code != 0 {
                    self.forget_topic(&from.topic);
                }
                let mut aborted: Vec<(i64, i64)> = row
                    .aborted_transactions
                    .iter()
                    .flatten()
                    .map(|a| (a.producer_id, a.first_offset))
                    .collect();
                aborted.sort_by_key(|(_, first)| *first);
                out.push(Fetched {
                    topic: from.topic.clone(),
                    partition: from.partition,
                    offset: from.offset,
                    error_code: row.error_code,
                    high_watermark: row.high_watermark,
                    last_stable_offset: row.last_stable_offset,
                    log_start_offset: row.log_start_offset,
                    aborted,
                    records: row.records.as_ref().map(wire::Records::to_bytes).unwrap_or_default(),
                });
            }
        }
        out
    }
}

/// A request outside any session: every partition is named each time.
fn fetch_request(rows: &[(TopicId, &FetchFrom)], options: &FetchOptions) -> FetchRequest {
    let mut topics: BTreeMap<&str, FetchTopic> = BTreeMap::new();
    for (id, from) in rows {
        let topic = topics.entry(&from.topic).or_insert_with(|| FetchTopic {
            topic: Str::from(&from.topic),
            topic_id: *id,
            partitions: Vec::new(),
        });
        topic.partitions.push(FetchPartition {
            partition: from.partition,
            current_leader_epoch: -1,
            fetch_offset: from.offset,
            partition_max_bytes: options.partition_max_bytes,
            ..Default::default()
        });
    }
    FetchRequest {
        max_wait_ms: options.max_wait.as_millis().min(i32::MAX as u128) as i32,
        min_bytes: options.min_bytes,
        max_bytes: options.max_bytes,
        isolation_level: i8::from(options.read_committed),
        session_id: 0,
        session_epoch: -1,
        topics: topics.into_values().collect(),
        ..Default::default()
    }
}
