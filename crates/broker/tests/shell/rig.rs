//! A broker on a thread of its own, and a blocking client.
use broker::{Addresses, Broker, Listener, NodeConfig, Settings, Stopped};
use bytes::{Bytes, BytesMut};
use model::TopicId;
use records::{BatchBuilder, NewRecord};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use storage::DirectoryConfig;
use tokio::sync::Notify;
use wire::create_topics_request::CreatableTopic;
use wire::fetch_request::{FetchPartition, FetchTopic};
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{
    ApiKey, CreateTopicsRequest, FetchRequest, ProduceRequest, Request, RequestHeader, ResponseBody, Str,
};

pub(crate) struct Running {
    pub(crate) addresses: Addresses,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<Stopped>>,
}

pub(crate) fn start(dir: &Path, change: impl FnOnce(&mut Settings)) -> Running {
    let mut settings = Settings {
        listeners: vec![Listener::new("PLAINTEXT", "127.0.0.1", 0)],
        http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        data_dir: dir.to_path_buf(),
        ..Settings::default()
    };
    settings.disk.pool_bytes = 0;
    change(&mut settings);
    starting(settings, node_config(1, vec![(1, 1)])).ready()
}

/// A node of these voters.
pub(crate) fn node_config(id: i32, voters: Vec<(u64, i32)>) -> NodeConfig {
    let static_configs = BTreeMap::from([("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned())]);
    let directory =
        DirectoryConfig { node_id: id, new_directory_id: [id as u8 + 2; 16], ..DirectoryConfig::default() };
    NodeConfig {
        first_transactional_epoch: 0,
        node_id: id,
        fresh_cluster_id: TopicId([9; 16]).to_string(),
        endpoints: Vec::new(),
        voters,
        peer: None,
        rack: None,
        static_configs,
        incarnation: 1,
        directory,
        seed: 6 + id as u64,
    }
}

/// A broker that may not serve yet.
pub(crate) struct Starting {
    addresses: mpsc::Receiver<Addresses>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<Stopped>>,
}

pub(crate) fn starting(settings: Settings, node: NodeConfig) -> Starting {
    let broker = Broker::new(settings, node);
    let stop = broker.stop_handle();
    let (send, addresses) = mpsc::channel();
    // Nobody waits for the addresses of one that is stopped before it serves.
    let told = move |a: &Addresses| drop(send.send(a.clone()));
    let thread = std::thread::spawn(move || broker.run(told).unwrap());
    Starting { addresses, stop, thread: Some(thread) }
}

impl Starting {
    /// Waits until it serves.
    pub(crate) fn ready(mut self) -> Running {
        let addresses = self.addresses.recv_timeout(Duration::from_secs(20)).unwrap();
        Running { addresses, stop: self.stop.clone(), thread: self.thread.take() }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.notify_one();
            let _ = thread.join();
        }
    }
}

impl Running {
    pub(crate) fn client(&self) -> Client {
        self.client_of(0)
    }

    pub(crate) fn client_of(&self, listener: usize) -> Client {
        let socket = TcpStream::connect(self.addresses.listeners[listener].address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { socket, next_id: 1 }
    }

    pub(crate) fn stop(mut self) -> Stopped {
        self.stop.notify_one();
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn http(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.addresses.http.unwrap()).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.notify_one();
            let _ = thread.join();
        }
    }
}

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    next_id: i32,
}

impl Client {
    /// Sends a request; its correlation id.
    pub(crate) fn send(&mut self, key: ApiKey, version: i16, request: impl Into<Request>) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        let header = RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id: id,
            client_id: Some(Str::from_static("rig")),
        };
        let frame: Vec<u8> = wire::encode_request(&header, &request.into()).unwrap().concat();
        self.socket.write_all(&frame).unwrap();
        id
    }

    /// The next answer, which must be to `id`.
    pub(crate) fn receive(&mut self, key: ApiKey, version: i16, id: i32) -> ResponseBody {
        let frame = self.frame().expect("the connection is open");
        let (got, body) = wire::decode_response(key, version, frame).unwrap();
        assert_eq!(got, id, "answers come in the order of the requests");
        body
    }

    /// The next frame; `None` when the connection is closed.
    pub(crate) fn frame(&mut self) -> Option<BytesMut> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).ok()?;
        let mut frame = BytesMut::zeroed(u32::from_be_bytes(length) as usize);
        self.socket.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    pub(crate) fn ask(&mut self, key: ApiKey, version: i16, request: impl Into<Request>) -> ResponseBody {
        let id = self.send(key, version, request);
        self.receive(key, version, id)
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        self.frame().is_none()
    }

    pub(crate) fn create(&mut self, name: &str, partitions: i32) -> TopicId {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
        let ResponseBody::CreateTopics(answer) = self.ask(ApiKey::CreateTopics, 7, request) else { panic!() };
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        answer.topics[0].topic_id
    }
}

pub(crate) fn batch(values: &[&str]) -> BytesMut {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(NewRecord::new(1_000, None, Some(value.as_bytes())));
    }
    batch.finish().unwrap()
}

pub(crate) fn produce(topic: &str, acks: i16, partitions: Vec<(i32, BytesMut)>) -> ProduceRequest {
    let partition_data = partitions
        .into_iter()
        .map(|(index, records)| PartitionProduceData { index, records: Some(records) })
        .collect();
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }],
        ..Default::default()
    }
}

pub(crate) fn fetch(topic: TopicId, wants: &[(i32, i64)], wait_ms: i32) -> FetchRequest {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions = wants.iter().map(partition).collect();
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 10 << 20,
        topics: vec![FetchTopic { topic_id: topic, partitions, ..Default::default() }],
        ..Default::default()
    }
}

pub(crate) fn values(records: &Bytes) -> Vec<String> {
    let mut out = Vec::new();
    for batch in records::fetched_batches(records.clone()) {
        for record in records::records(&batch.unwrap().1, 1 << 20).unwrap() {
            out.push(String::from_utf8_lossy(&record.unwrap().value.unwrap_or_default()).into_owned());
        }
    }
    out
}
