//! The controller listener and what is forwarded, over real sockets.
use crate::rig::{Client, Running, Starting, node_config, starting};
use broker::{Listener, PeerAddress, PeerSettings, Secret, Settings};
use bytes::BytesMut;
use peer::{
    Body, Decoder, Frame, Handshake, HandshakeError, Limits, Local, MAGIC, Purpose, Reason, Step, VERSIONS,
};
use proto::peer::Heartbeat;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::create_topics_request::CreatableTopic;
use wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::{ApiKey, CreateTopicsRequest, IncrementalAlterConfigsRequest, MetadataRequest, ResponseBody};

const SECRET: &[u8] = b"what both of them know";

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Where two nodes listen for each other, and for metrics.
pub(crate) struct Pair {
    controllers: [SocketAddr; 2],
    http: [SocketAddr; 2],
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let free = || [free_address(), free_address()];
        Pair { controllers: free(), http: free() }
    }

    fn starting(&self, dir: &Path, id: usize) -> Starting {
        let (own, other) = (self.controllers[id - 1], self.controllers[2 - id]);
        let voter = PeerAddress { node: 3 - id as i32, host: other.ip().to_string(), port: other.port() };
        let mut settings = Settings {
            listeners: vec![Listener::new("PLAINTEXT", "127.0.0.1", 0)],
            http: Some(self.http[id - 1]),
            data_dir: dir.join(id.to_string()),
            peers: Some(PeerSettings {
                listeners: vec![(own.ip().to_string(), own.port())],
                voters: vec![voter],
                votes: true,
                servers: Vec::new(),
                secret: Secret::new(SECRET.to_vec()),
                cluster_id: "forming".to_owned(),
            }),
            ..Settings::default()
        };
        settings.disk.pool_bytes = 0;
        starting(settings, node_config(id as i32, vec![(1, 1), (2, 2)]))
    }

    /// The metrics page of a node.
    pub(crate) fn metrics(&self, id: usize) -> String {
        let mut socket = connected(self.http[id - 1]);
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) fn metric(&self, id: usize, series: &str) -> u64 {
        let text = self.metrics(id);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    fn refused(&self, id: usize, reason: &str) -> u64 {
        self.metric(id, &format!("plimsoll_peer_handshakes_refused_total{{reason=\"{reason}\",by=\"this\"}}"))
    }
}

/// Connects as soon as somebody listens.
fn connected(address: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(socket) => {
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                return socket;
            }
            Err(_) if begun.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{address}: {error}"),
        }
    }
}

/// A test that speaks as a node.
struct Fake {
    socket: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
}

fn local(node_id: i32, process_start: u64) -> Local {
    Local {
        versions: VERSIONS,
        cluster_id: "forming".to_owned(),
        node_id,
        process_start,
        directory_id: [4; 16],
        secret: peer::Secret::new(SECRET.to_vec()),
    }
}

impl Fake {
    fn new(socket: TcpStream) -> Fake {
        Fake { socket, decoder: Decoder::new(), buffer: BytesMut::new() }
    }

    /// The next frame; `None` when the connection is closed.
    fn frame(&mut self) -> Option<peer::Received> {
        loop {
            if let Some(received) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(received);
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Shakes hands with the node that listens at `address`.
    fn connect(address: SocketAddr, local: Local, purpose: Purpose) -> Result<Fake, HandshakeError> {
        let mut fake = Fake::new(connected(address));
        let (mut handshake, hello) = Handshake::connect(local, purpose, Some(1), [7; 32]);
        fake.socket.write_all(&hello).unwrap();
        loop {
            let received = fake.frame().expect("a farewell at least");
            match handshake.on_frame(received)? {
                Step::Send(bytes) => fake.socket.write_all(&bytes).unwrap(),
                Step::Judge(_) => {
                    handshake.approve().unwrap();
                    fake.decoder.establish(Limits::DEFAULT);
                    return Ok(fake);
                }
            }
        }
    }

    fn refusal(address: SocketAddr, local: Local) -> Option<Reason> {
        Fake::connect(address, local, Purpose::Data).err().and_then(|error| error.reason())
    }

    fn send(&mut self, body: Body) {
        for piece in Frame::bare(body).encode(Limits::DEFAULT).unwrap() {
            self.socket.write_all(&piece).unwrap();
        }
    }
}

#[test]
fn nodes_that_do_not_belong_here_are_told_why_and_counted() {
    let (dir, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    // Node 2, which connects to nobody: the test is node 1.
    let _two = pair.starting(dir.path(), 2);
    let address = pair.controllers[1];
    let to_two = |local: Local| {
        let mut fake = Fake::new(connected(address));
        let (mut handshake, hello) = Handshake::connect(local, Purpose::Data, Some(2), [7; 32]);
        fake.socket.write_all(&hello).unwrap();
        loop {
            match handshake.on_frame(fake.frame()?) {
                Ok(Step::Send(bytes)) => fake.socket.write_all(&bytes).unwrap(),
                Ok(Step::Judge(_)) => return None,
                Err(error) => return error.reason(),
            }
        }
    };
    assert_eq!(to_two(local(9, 5)), Some(Reason::UnknownPeer));
    assert_eq!(to_two(local(2, 5)), Some(Reason::DuplicateNodeId));
    let stranger = Local { secret: peer::Secret::new(b"something else".to_vec()), ..local(1, 5) };
    assert_eq!(to_two(stranger), Some(Reason::WrongSecret));
    let elsewhere = Local { cluster_id: "another".to_owned(), ..local(1, 5) };
    assert_eq!(to_two(elsewhere), Some(Reason::WrongCluster));
    let newer = Local { versions: 7..=9, ..local(1, 5) };
    assert_eq!(to_two(newer), Some(Reason::NoCommonVersion));
    assert_eq!(to_two(local(1, 5)), None);
    assert_eq!(to_two(local(1, 4)), Some(Reason::OlderProcess));
    assert_eq!(to_two(local(1, 5)), None, "its other connection is of the same process");
    assert_eq!(Fake::refusal(address, local(1, 5)), Some(Reason::WrongNode), "it is not node 1");
    for reason in [
        "unknown_peer",
        "duplicate_node_id",
        "wrong_secret",
        "wrong_cluster",
        "no_common_version",
        "older_process",
    ] {
        assert_eq!(pair.refused(2, reason), 1, "{reason}");
    }
}

#[test]
fn garbage_at_the_controller_port_is_closed_and_counted() {
    let (dir, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let _one = pair.starting(dir.path(), 1);
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 10, 0, 18, 0, 4],
        &[0xd0, b'L', b'I', b'M', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xd0, b'L', b'I', b'M', 0, 0, 0, 12, 1, 2, 3, 4, 0, 0, 0, 4, 5, 6, 7, 8],
    ];
    for bytes in garbage {
        let mut fake = Fake::new(connected(pair.controllers[0]));
        fake.socket.write_all(bytes).unwrap();
        assert!(fake.frame().is_none(), "{bytes:?}");
    }
    assert_eq!(pair.refused(1, "no_peer"), 2);
    assert_eq!(pair.refused(1, "frame"), 2);
    // One that says nothing is closed in time.
    let begun = Instant::now();
    let mut silent = Fake::new(connected(pair.controllers[0]));
    silent.socket.write_all(&MAGIC).unwrap();
    assert!(silent.frame().is_none());
    assert!((4..9).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(pair.refused(1, "late"), 1);
}

#[test]
fn a_newer_connection_takes_the_place_of_the_older_one_and_a_bad_frame_ends_it() {
    let (dir, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let _two = pair.starting(dir.path(), 2);
    let connect = |start| {
        let mut fake = Fake::new(connected(pair.controllers[1]));
        let (mut handshake, hello) =
            Handshake::connect(local(1, start), Purpose::Liveness, Some(2), [start as u8; 32]);
        fake.socket.write_all(&hello).unwrap();
        while let Step::Send(bytes) = handshake.on_frame(fake.frame().unwrap()).unwrap() {
            fake.socket.write_all(&bytes).unwrap();
        }
        fake.decoder.establish(Limits::DEFAULT);
        fake
    };
    let mut older = connect(5);
    assert!(matches!(
        older.frame().unwrap().frame.body,
        Body::Heartbeat(_) | Body::LeaderRows(_) | Body::Raft(_)
    ));
    let mut newer = connect(6);
    while older.frame().is_some() {}
    let up = "plimsoll_peer_connections{node=\"1\",connection=\"liveness\"}";
    assert_eq!(pair.metric(2, up), 1);
    newer.send(Body::Heartbeat(Heartbeat { process_start: 6, sequence: 1, ..Heartbeat::default() }));
    assert!(newer.frame().is_some(), "it goes on");
    newer.socket.write_all(&[0xff; 64]).unwrap();
    while newer.frame().is_some() {}
    assert_eq!(pair.metric(2, up), 0);
    assert!(pair.metric(2, "plimsoll_peer_received_messages_total{kind=\"heartbeat\"}") >= 1);
}

pub(crate) fn both(dir: &Path, pair: &Pair) -> [Running; 2] {
    let [one, two] = [1, 2].map(|id| pair.starting(dir, id));
    [one.ready(), two.ready()]
}

fn create(client: &mut Client, name: &str, timeout_ms: i32) -> i16 {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms, validate_only: false };
    let ResponseBody::CreateTopics(answer) = client.ask(ApiKey::CreateTopics, 7, request) else { panic!() };
    answer.topics[0].error_code
}

fn topics(client: &mut Client) -> usize {
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let ResponseBody::Metadata(answer) = client.ask(ApiKey::Metadata, 12, request) else { panic!() };
    answer.topics.len()
}

#[test]
fn admin_requests_are_carried_out_by_the_leader_whoever_was_asked() {
    let (dir, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let nodes = both(dir.path(), &pair);
    for (at, node) in nodes.iter().enumerate() {
        // The rig checks that the answer has the client's own correlation id.
        let mut client = node.client();
        topics(&mut client);
        assert_eq!(create(&mut client, &format!("topic-{at}"), 10_000), 0);
        assert_eq!(topics(&mut client), at + 1, "it is there when its creator asks");
        assert_eq!(create(&mut client, &format!("topic-{at}"), 10_000), 36, "TOPIC_ALREADY_EXISTS");
        let config = |value: &str| AlterableConfig {
            name: "retention.ms".into(),
            config_operation: 0,
            value: Some(value.into()),
        };
        let resource = |value: &str| AlterConfigsResource {
            resource_type: 2,
            resource_name: format!("topic-{at}").as_str().into(),
            configs: vec![config(value)],
        };
        for (value, code) in [("60000", 0), ("never", 40)] {
            let request =
                IncrementalAlterConfigsRequest { resources: vec![resource(value)], validate_only: false };
            let ResponseBody::IncrementalAlterConfigs(answer) =
                client.ask(ApiKey::IncrementalAlterConfigs, 1, request)
            else {
                panic!()
            };
            assert_eq!(answer.responses[0].error_code, code, "{answer:?}");
        }
    }
    let answered = "plimsoll_forwarded_requests_total{result=\"answered\"}";
    assert_eq!([1, 2].map(|id| pair.metric(id, answered)).iter().sum::<u64>(), 4);
    assert_eq!([1, 2].map(|id| pair.metric(id, "plimsoll_forwarded_requests_waiting")), [0, 0]);
}

#[test]
fn without_a_leader_an_admin_request_waits_as_long_as_it_may_and_no_longer() {
    let (dir, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let [one, two] = both(dir.path(), &pair);
    two.stop();
    let mut client = one.client();
    // It led, or learns in a moment that nobody does.
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let code = create(&mut client, "never", 500);
        if code == 41 && asked.elapsed() >= Duration::from_millis(500) {
            break;
        }
        // While it still leads it cannot commit.
        assert!(matches!(code, 7 | 36 | 41), "{code}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{code} after {:?}", asked.elapsed());
    }
    // It comes back while a request waits: that is answered then.
    let back = pair.starting(dir.path(), 2);
    let code = create(&mut client, "at-last", 15_000);
    assert!(matches!(code, 0 | 36), "{code}");
    drop(back.ready());
}
