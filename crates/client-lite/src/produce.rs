//! Sending batches to partition leaders.
use crate::client::{Client, Retry};
use crate::error::{ClientError, check};
use bytes::{Bytes, BytesMut};
use model::ErrorCode;
use records::{BatchBuilder, next_sequence};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{ApiKey, InitProducerIdRequest, ProduceRequest, ProduceResponse, Str};

/// How many replicas must have a batch before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Acks {
    /// No acknowledgement at all.
    None,
    /// The leader.
    Leader,
    /// All that are in sync.
    #[default]
    All,
}

impl Acks {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Offset of its first record; -1 with [`Acks::None`], and for a duplicate whose offset is forgotten.
    pub base_offset: i64,
    /// The append time, ms, when the broker sets timestamps; otherwise -1.
    pub log_append_time: i64,
    /// First offset of the log; -1 if not told.
    pub log_start_offset: i64,
}

const PRODUCE_TIMEOUT_MS: i32 = 30_000;

impl Client {
    /// Appends one batch to a partition. Retriable failures are retried, so without an idempotent
    /// producer in the batch it may be appended twice. Errors: the broker's code and message.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: Acks,
    ) -> Result<Produced, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            match self.produce_once(topic, partition, batch.clone(), acks).await {
                Ok(produced) => return Ok(produced),
                Err(error) => {
                    self.forget_topic(topic);
                    retry.after(error).await?;
                }
            }
        }
    }

    /// As [`Client::produce`], with a single try.
    pub async fn produce_once(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: Acks,
    ) -> Result<Produced, ClientError> {
        self.produce_with(topic, partition, batch, acks, (None, i16::MAX)).await
    }

    /// As [`Client::produce_once`], for a transactional id and in no newer version than this.
    pub(crate) async fn produce_with(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: Acks,
        (transactional_id, newest): (Option<&str>, i16),
    ) -> Result<Produced, ClientError> {
        let topic_id = self.topic(topic).await?.id;
        let (conn, _) = self.leader(topic, partition).await?;
        let mut version = conn.version_up_to(ApiKey::Produce, newest)?;
        if topic_id.is_zero() {
            version = version.min(12);
        }
        let data = PartitionProduceData { index: partition, records: Some(BytesMut::from(batch)) };
        let data = TopicProduceData { name: Str::from(topic), topic_id, partition_data: vec![data] };
        let request = ProduceRequest {
            transactional_id: transactional_id.map(Str::from),
            acks: acks.code(),
            timeout_ms: PRODUCE_TIMEOUT_MS,
            topic_data: vec![data],
        };
        if acks == Acks::None {
            conn.send_at(request, version).await?;
            return Ok(Produced { base_offset: -1, log_append_time: -1, log_start_offset: -1 });
        }
        let answer = conn.request_at(request, version).await?;
        produced(&answer, || format!("produce to {topic}-{partition}"))
    }
}

fn produced(answer: &ProduceResponse, what: impl Fn() -> String) -> Result<Produced, ClientError> {
    let rows = answer.responses.first().map(|t| &t.partition_responses);
    let row = rows.and_then(|rows| rows.first()).ok_or_else(|| ClientError::Missing { what: what() })?;
    let mut message = row.error_message.as_deref().unwrap_or_default().to_owned();
    for issue in row.record_errors.iter().take(3) {
        let text = issue.batch_index_error_message.as_deref().unwrap_or("refused");
        message.push_str(&format!("; record {}: {text}", issue.batch_index));
    }
    check(what, row.error_code, Some(message.trim_start_matches("; ")))?;
    Ok(Produced {
        base_offset: row.base_offset,
        log_append_time: row.log_append_time_ms,
        log_start_offset: row.log_start_offset,
    })
}

/// A producer whose retries are never stored twice. One batch of a partition is on its way at a time.
#[derive(Debug)]
pub struct IdempotentProducer {
    client: Arc<Client>,
    id: i64,
    epoch: i16,
    sequences: BTreeMap<(String, i32), i32>,
}

impl IdempotentProducer {
    /// Asks the cluster for a producer id.
    pub async fn start(client: Arc<Client>) -> Result<IdempotentProducer, ClientError> {
        let mut retry = Retry::new(&client.options);
        loop {
            match init_producer_id(&client).await {
                Ok((id, epoch)) => {
                    return Ok(IdempotentProducer { client, id, epoch, sequences: BTreeMap::new() });
                }
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// The producer id and epoch.
    pub fn identity(&self) -> (i64, i16) {
        (self.id, self.epoch)
    }

    /// Stamps the batch with producer and sequence, and appends it with acks=all exactly once.
    /// After an error the partition's sequence is where it was.
    pub async fn send(
        &mut self,
        topic: &str,
        partition: i32,
        batch: BatchBuilder,
    ) -> Result<Produced, ClientError> {
        let place = (topic.to_owned(), partition);
        let sequence = self.sequences.get(&place).copied().unwrap_or(0);
        let count = batch.len() as i32;
        let batch = batch.producer(self.id, self.epoch, sequence).finish()?.freeze();
        let sent = self.client.produce(topic, partition, batch, Acks::All).await;
        let stored = match sent {
            Err(ref error) if error.code() == Some(ErrorCode::DuplicateSequenceNumber) => {
                Produced { base_offset: -1, log_append_time: -1, log_start_offset: -1 }
            }
            sent => sent?,
        };
        self.sequences.insert(place, next_sequence(sequence, count));
        Ok(stored)
    }
}

async fn init_producer_id(client: &Client) -> Result<(i64, i16), ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let answer = client.any().await?.request(request).await?;
    check(|| "InitProducerId".to_owned(), answer.error_code, None)?;
    Ok((answer.producer_id, answer.producer_epoch))
}
