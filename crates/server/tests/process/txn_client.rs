//! A transactional producer by hand: every request as a test wants it, at the version that it wants.
use crate::server::wait_for;
use crate::wire_client::{Client, now_ms};
use records::{BatchBuilder, NewRecord};
use wire::add_partitions_to_txn_request::AddPartitionsToTxnTopicV3;
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{
    AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProduceRequest, ResponseBody,
};

/// Codes of Kafka's.
pub(crate) const PRODUCER_FENCED: i16 = 90;
pub(crate) const INVALID_TXN_STATE: i16 = 48;
pub(crate) const NOT_COORDINATOR: i16 = 16;
/// Codes after which a client asks again: COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR,
/// CONCURRENT_TRANSACTIONS.
const AGAIN: [i16; 4] = [14, 15, 16, 51];

/// A producer id and epoch.
pub(crate) type Producer = (i64, i16);

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// One epoch for many transactions.
    Tv1,
    /// An epoch for each (KIP-890).
    Tv2,
}

pub(crate) struct TxnClient {
    pub(crate) client: Client,
    id: String,
    speaks: Speaks,
}

impl TxnClient {
    pub(crate) fn new(client: Client, id: &str, speaks: Speaks) -> TxnClient {
        TxnClient { client, id: id.to_owned(), speaks }
    }

    /// As any client finds it, which makes the topic of transactions where it is missing.
    pub(crate) fn find_coordinator(&mut self) {
        let client = &mut self.client;
        let id = &self.id;
        wait_for("a coordinator of transactions", || {
            let request = FindCoordinatorRequest { key: id.into(), key_type: 1, ..Default::default() };
            let ResponseBody::FindCoordinator(answer) = client.ask(ApiKey::FindCoordinator, 3, request)
            else {
                panic!()
            };
            (answer.error_code == 0).then_some(())
        });
    }

    /// InitProducerId of a client that knows no producer.
    pub(crate) fn init(&mut self, timeout_ms: i32) -> Producer {
        self.find_coordinator();
        let client = &mut self.client;
        let id = &self.id;
        wait_for("a producer id", || {
            let request = InitProducerIdRequest {
                transactional_id: Some(id.into()),
                transaction_timeout_ms: timeout_ms,
                producer_id: -1,
                producer_epoch: -1,
            };
            let ResponseBody::InitProducerId(answer) = client.ask(ApiKey::InitProducerId, 5, request) else {
                panic!()
            };
            assert!(answer.error_code == 0 || AGAIN.contains(&answer.error_code), "{answer:?}");
            (answer.error_code == 0).then_some((answer.producer_id, answer.producer_epoch))
        })
    }

    /// AddPartitionsToTxn of before TV2; the code.
    pub(crate) fn add(&mut self, producer: Producer, topic: &str, partition: i32) -> i16 {
        let topics = vec![AddPartitionsToTxnTopicV3 { name: topic.into(), partitions: vec![partition] }];
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.as_str().into(),
            v3_and_below_producer_id: producer.0,
            v3_and_below_producer_epoch: producer.1,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        loop {
            let answer = self.client.ask(ApiKey::AddPartitionsToTxn, 3, request.clone());
            let ResponseBody::AddPartitionsToTxn(answer) = answer else { panic!() };
            let topic = &answer.results_by_topic_v3_and_below[0];
            let code = topic.results_by_partition[0].partition_error_code;
            if !AGAIN.contains(&code) {
                return code;
            }
        }
    }

    /// One record in the transaction; the code. A client of TV1 has added the partition.
    pub(crate) fn produce(&mut self, producer: Producer, topic: &str, partition: i32, sequence: i32) -> i16 {
        let mut batch = BatchBuilder::new().producer(producer.0, producer.1, sequence).transactional();
        batch.push(NewRecord::new(now_ms(), None, Some(b"v")));
        let records = Some(batch.finish().unwrap());
        let partition_data = vec![PartitionProduceData { index: partition, records }];
        let topic_data = vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }];
        let request = ProduceRequest {
            transactional_id: Some(self.id.as_str().into()),
            acks: -1,
            timeout_ms: 10_000,
            topic_data,
        };
        let version = if self.speaks == Speaks::Tv2 { 12 } else { 11 };
        loop {
            let answer = self.client.ask(ApiKey::Produce, version, request.clone());
            let ResponseBody::Produce(answer) = answer else { panic!() };
            let code = answer.responses[0].partition_responses[0].error_code;
            // NOT_ENOUGH_REPLICAS: the coordinator could not be asked.
            if code != 19 && !AGAIN.contains(&code) {
                return code;
            }
        }
    }

    /// EndTxn until it is answered for good: the code, and the producer to go on as.
    pub(crate) fn end(&mut self, producer: Producer, commit: bool) -> (i16, Producer) {
        loop {
            let said = self.end_once(producer, commit);
            if !AGAIN.contains(&said.0) {
                return said;
            }
        }
    }

    /// The same, whatever the answer.
    pub(crate) fn end_once(&mut self, producer: Producer, commit: bool) -> (i16, Producer) {
        let request = EndTxnRequest {
            transactional_id: self.id.as_str().into(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            committed: commit,
        };
        let version = if self.speaks == Speaks::Tv2 { 5 } else { 4 };
        let ResponseBody::EndTxn(answer) = self.client.ask(ApiKey::EndTxn, version, request) else {
            panic!()
        };
        let raised = (answer.producer_id, answer.producer_epoch);
        let next = if self.speaks == Speaks::Tv2 { raised } else { producer };
        (answer.error_code, next)
    }
}
