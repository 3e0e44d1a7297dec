//! What the checks need of the library.
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex};

pub const WAIT: Duration = Duration::from_secs(60);

/// What is sent and what comes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub partition: i32,
    pub timestamp: Option<i64>,
    pub offset: i64,
}

/// Keeps the first failure of a delivery.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Option<KafkaError>>>);

impl rdkafka::ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().get_or_insert_with(|| error.clone());
        }
    }
}

pub struct Client {
    pub bootstrap: String,
    replicas: i32,
    admin: AdminClient<DefaultClientContext>,
}

fn to_record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|all| {
        all.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    });
    Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        partition: message.partition(),
        timestamp: message.timestamp().to_millis(),
        offset: message.offset(),
    }
}

/// Polls until the time is over or `count` records came.
pub fn take(consumer: &BaseConsumer, count: usize, limit: Duration) -> KafkaResult<Vec<Record>> {
    let end = Instant::now() + limit;
    let mut records = Vec::new();
    while records.len() < count {
        let left = end.saturating_duration_since(Instant::now());
        match consumer.poll(left) {
            Some(Ok(message)) => records.push(to_record(&message)),
            Some(Err(error)) => return Err(error),
            None => break,
        }
    }
    Ok(records)
}

impl Client {
    pub fn new(bootstrap: &str, replicas: i32) -> KafkaResult<Self> {
        let admin = config(bootstrap).create()?;
        Ok(Self { bootstrap: bootstrap.to_owned(), replicas, admin })
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) -> KafkaResult<()> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(self.replicas));
        let answers = block_on(self.admin.create_topics([&new], &AdminOptions::new()))?;
        for answer in answers {
            answer.map_err(|(_, code)| KafkaError::AdminOp(code))?;
        }
        Ok(())
    }

    pub fn produce(&self, topic: &str, records: &[Record], codec: &str) -> KafkaResult<()> {
        let deliveries = Deliveries::default();
        let producer: BaseProducer<Deliveries> = config(&self.bootstrap)
            .set("compression.type", codec)
            .set("linger.ms", "5")
            .set("enable.idempotence", "true")
            .create_with_context(deliveries.clone())?;
        for record in records {
            let mut next = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition);
            next.key = record.key.as_deref();
            next.payload = record.value.as_deref();
            next.timestamp = record.timestamp;
            if !record.headers.is_empty() {
                let headers = record.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                    all.insert(Header { key, value: value.as_ref() })
                });
                next = next.headers(headers);
            }
            while let Err((error, back)) = producer.send(next) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                producer.poll(Duration::from_millis(100));
                next = back;
            }
        }
        producer.flush(WAIT)?;
        let failed = deliveries.0.lock().unwrap().take();
        failed.map_or(Ok(()), Err)
    }

    pub fn read(
        &self,
        topic: &str,
        starts: &[(i32, i64)],
        count: usize,
        limit: Duration,
    ) -> KafkaResult<Vec<Record>> {
        self.read_isolated("read_uncommitted", topic, starts, count, limit)
    }

    /// Those of committed transactions alone.
    pub fn read_committed(
        &self,
        topic: &str,
        starts: &[(i32, i64)],
        count: usize,
        limit: Duration,
    ) -> KafkaResult<Vec<Record>> {
        self.read_isolated("read_committed", topic, starts, count, limit)
    }

    fn read_isolated(
        &self,
        isolation: &str,
        topic: &str,
        starts: &[(i32, i64)],
        count: usize,
        limit: Duration,
    ) -> KafkaResult<Vec<Record>> {
        let mut config = config(&self.bootstrap);
        let consumer: BaseConsumer =
            config.set("group.id", "unused").set("isolation.level", isolation).create()?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in starts {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        consumer.assign(&list)?;
        take(&consumer, count, limit)
    }

    /// A group's offset.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> KafkaResult<Option<i64>> {
        let consumer: BaseConsumer = config(&self.bootstrap).set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let found = consumer.committed_offsets(list, WAIT)?;
        Ok(found.find_partition(topic, partition).and_then(|row| row.offset().to_raw()).filter(|o| *o >= 0))
    }

    pub fn offset_for_time(&self, topic: &str, partition: i32, time: i64) -> KafkaResult<Option<i64>> {
        let consumer: BaseConsumer = config(&self.bootstrap).set("group.id", "unused").create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(time))?;
        let found = consumer.offsets_for_times(list, WAIT)?;
        let offset = found.find_partition(topic, partition).map(|row| row.offset());
        Ok(match offset {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
    }

    pub fn member(&self, group: &str, topic: &str) -> KafkaResult<Member> {
        self.member_by("classic", group, topic)
    }

    /// One that joins by a protocol: `classic`, or `consumer` (KIP-848).
    pub fn member_by(&self, protocol: &str, group: &str, topic: &str) -> KafkaResult<Member> {
        let mut config = config(&self.bootstrap);
        config.set("group.id", group).set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false").set("group.protocol", protocol);
        if protocol == "classic" {
            config.set("session.timeout.ms", "10000").set("heartbeat.interval.ms", "500");
        }
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[topic])?;
        Ok(Member { consumer })
    }
}

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    // A connection that is reset at times is made again at once; the library would soon wait as long as a session lasts.
    config.set("reconnect.backoff.max.ms", "200");
    config
}

/// One consumer of a group; dropping it leaves the group.
pub struct Member {
    pub consumer: BaseConsumer,
}

impl Member {
    pub fn poll(&self, limit: Duration) -> KafkaResult<Vec<Record>> {
        take(&self.consumer, usize::MAX, limit)
    }

    pub fn assignment(&self) -> KafkaResult<Vec<i32>> {
        Ok(self.consumer.assignment()?.elements().iter().map(|row| row.partition()).collect())
    }

    pub fn commit(&self) -> KafkaResult<()> {
        self.consumer.commit_consumer_state(CommitMode::Sync)
    }
}
