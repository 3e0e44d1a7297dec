//! A blocking client that speaks the codec directly.
use bytes::{Bytes, BytesMut};
use model::TopicId;
use records::{BatchBuilder, NewRecord};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::fetch_request::{FetchPartition, FetchTopic};
use wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::offset_fetch_request::OffsetFetchRequestTopic;
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{
    ApiKey, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
    FindCoordinatorRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
    Request, RequestHeader, ResponseBody,
};

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    next_id: i32,
}

/// What a produced batch was answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Produced {
    pub(crate) code: i16,
    pub(crate) base_offset: i64,
    pub(crate) message: String,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { socket, next_id: 1 }
    }

    /// Sends a request and reads its answer; an error when the connection ends before it.
    pub(crate) fn try_ask(
        &mut self,
        key: ApiKey,
        version: i16,
        request: impl Into<Request>,
    ) -> io::Result<ResponseBody> {
        let id = self.next_id;
        self.next_id += 1;
        let client_id = Some("process-test".into());
        let header = RequestHeader { api_key: key, api_version: version, correlation_id: id, client_id };
        let frame = wire::encode_request(&header, &request.into()).unwrap().concat();
        self.socket.write_all(&frame)?;
        let (got, body) = wire::decode_response(key, version, self.frame()?).unwrap();
        assert_eq!(got, id, "answers come in the order of the requests");
        Ok(body)
    }

    /// Sends requests one behind the other, then reads their answers.
    pub(crate) fn ask_all<R: Into<Request>>(
        &mut self,
        key: ApiKey,
        version: i16,
        requests: Vec<R>,
    ) -> Vec<ResponseBody> {
        let mut ids = Vec::new();
        for request in requests {
            let client_id = Some("process-test".into());
            let id = self.next_id;
            let header = RequestHeader { api_key: key, api_version: version, correlation_id: id, client_id };
            let frame = wire::encode_request(&header, &request.into()).unwrap().concat();
            self.socket.write_all(&frame).unwrap();
            self.next_id += 1;
            ids.push(id);
        }
        let mut answer = |id| {
            let (got, body) = wire::decode_response(key, version, self.frame().unwrap()).unwrap();
            assert_eq!(got, id, "answers come in the order of the requests");
            body
        };
        ids.into_iter().map(&mut answer).collect()
    }

    pub(crate) fn ask(&mut self, key: ApiKey, version: i16, request: impl Into<Request>) -> ResponseBody {
        self.try_ask(key, version, request).unwrap()
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> io::Result<BytesMut> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let mut frame = BytesMut::zeroed(u32::from_be_bytes(length) as usize);
        self.socket.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Sends bytes, or as many as the broker takes before it closes.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends no more and reads to the end: what the broker still said. `None` if it keeps the connection.
    pub(crate) fn until_closed(mut self, patience: Duration) -> Option<Vec<u8>> {
        let _ = self.socket.shutdown(Shutdown::Write);
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut said = Vec::new();
        match self.socket.read_to_end(&mut said) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
            _ => Some(said),
        }
    }

    /// Brokers and topics, as any client asks for them.
    pub(crate) fn metadata(&mut self) -> (usize, usize) {
        let request = MetadataRequest { topics: None, ..Default::default() };
        let ResponseBody::Metadata(answer) = self.ask(ApiKey::Metadata, 12, request) else { panic!() };
        (answer.brokers.len(), answer.topics.len())
    }

    pub(crate) fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicId {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
        let ResponseBody::CreateTopics(answer) = self.ask(ApiKey::CreateTopics, 7, request) else { panic!() };
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        answer.topics[0].topic_id
    }

    /// Appends one batch with acks=all.
    pub(crate) fn produce(&mut self, topic: &str, partition: i32, records: BytesMut) -> io::Result<Produced> {
        let partition_data = vec![PartitionProduceData { index: partition, records: Some(records) }];
        let topic = TopicProduceData { name: topic.into(), partition_data, ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() };
        let ResponseBody::Produce(answer) = self.try_ask(ApiKey::Produce, 9, request)? else { panic!() };
        let answer = &answer.responses[0].partition_responses[0];
        let message = answer.error_message.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default();
        Ok(Produced { code: answer.error_code, base_offset: answer.base_offset, message })
    }

    /// The error code, the high watermark, and the batches from `offset` on.
    pub(crate) fn fetch(&mut self, topic: TopicId, partition: i32, offset: i64) -> (i16, i64, Bytes) {
        self.fetch_waiting(topic, partition, offset, 0).unwrap()
    }

    /// The same, waiting for something to come.
    pub(crate) fn fetch_waiting(
        &mut self,
        topic: TopicId,
        partition: i32,
        offset: i64,
        wait_ms: i32,
    ) -> io::Result<(i16, i64, Bytes)> {
        let wanted = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 8 << 20,
            ..Default::default()
        };
        let topics = vec![FetchTopic { topic_id: topic, partitions: vec![wanted], ..Default::default() }];
        let request = FetchRequest {
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: 16 << 20,
            topics,
            ..Default::default()
        };
        let ResponseBody::Fetch(answer) = self.try_ask(ApiKey::Fetch, 13, request)? else { panic!() };
        let Some(answer) = answer.responses.first().map(|topic| &topic.partitions[0]) else {
            return Ok((0, offset, Bytes::new()));
        };
        let records = answer.records.as_ref().map(wire::Records::to_bytes).unwrap_or_default();
        Ok((answer.error_code, answer.high_watermark, records))
    }

    /// Every value of a partition, in order.
    pub(crate) fn read_all(&mut self, topic: TopicId, partition: i32) -> Vec<Vec<u8>> {
        self.read_from(topic, partition, 0)
    }

    /// Every value from an offset on.
    pub(crate) fn read_from(&mut self, topic: TopicId, partition: i32, offset: i64) -> Vec<Vec<u8>> {
        let mut values: Vec<Vec<u8>> = Vec::new();
        loop {
            let next = offset + values.len() as i64;
            let (code, end, records) = self.fetch(topic, partition, next);
            assert_eq!(code, 0);
            if next >= end {
                return values;
            }
            for batch in records::fetched_batches(records) {
                for record in records::records(&batch.unwrap().1, 64 << 20).unwrap() {
                    values.push(record.unwrap().value.unwrap_or_default().to_vec());
                }
            }
        }
    }

    /// Commits as nobody's member; the error code.
    pub(crate) fn commit(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> i16 {
        let partitions = vec![OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            ..Default::default()
        }];
        let topics = vec![OffsetCommitRequestTopic { name: topic.into(), partitions, ..Default::default() }];
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics,
            ..Default::default()
        };
        loop {
            let answer = self.ask(ApiKey::OffsetCommit, 8, request.clone());
            let ResponseBody::OffsetCommit(answer) = answer else { panic!() };
            let code = answer.topics[0].partitions[0].error_code;
            match code {
                // COORDINATOR_NOT_AVAILABLE: the first question for one creates the topic of offsets.
                15 => {
                    let request = FindCoordinatorRequest { key: group.into(), ..Default::default() };
                    self.ask(ApiKey::FindCoordinator, 0, request);
                }
                // COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR: while its partition opens.
                14 | 16 => {}
                code => return code,
            }
        }
    }

    /// What was committed.
    pub(crate) fn committed(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        let topics = vec![OffsetFetchRequestTopic { name: topic.into(), partition_indexes: vec![partition] }];
        let request =
            OffsetFetchRequest { group_id: group.into(), topics: Some(topics), ..Default::default() };
        loop {
            let answer = self.ask(ApiKey::OffsetFetch, 7, request.clone());
            let ResponseBody::OffsetFetch(answer) = answer else { panic!() };
            if ![14, 16].contains(&answer.error_code) {
                assert_eq!(answer.error_code, 0);
                return answer.topics[0].partitions[0].committed_offset;
            }
        }
    }

    /// Moves the start of a partition; the error code.
    pub(crate) fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> i16 {
        let partitions = vec![DeleteRecordsPartition { partition_index: partition, offset }];
        let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
        let request = DeleteRecordsRequest { topics, timeout_ms: 30_000 };
        let ResponseBody::DeleteRecords(answer) = self.ask(ApiKey::DeleteRecords, 2, request) else {
            panic!()
        };
        answer.topics[0].partitions[0].error_code
    }

    /// Deletes a topic; the error code.
    pub(crate) fn delete_topic(&mut self, topic: &str) -> i16 {
        let request =
            DeleteTopicsRequest { topic_names: vec![topic.into()], timeout_ms: 30_000, ..Default::default() };
        let ResponseBody::DeleteTopics(answer) = self.ask(ApiKey::DeleteTopics, 4, request) else { panic!() };
        answer.responses[0].error_code
    }
}

/// A batch of one record with the time of now.
pub(crate) fn value_batch(value: &[u8]) -> BytesMut {
    let mut batch = BatchBuilder::new();
    batch.push(NewRecord::new(now_ms(), None, Some(value)));
    batch.finish().unwrap()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}
