//! What the shell itself is configured with; everything that Kafka calls a broker or topic
//! configuration lives in the node.
use model::NodeId;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use storage::disk::DiskOptions;

/// An address that clients connect to, and the one they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, `PLAINTEXT` for example.
    pub name: String,
    /// Its security protocol, by Kafka's name.
    pub protocol: String,
    /// Host to bind; empty means every interface.
    pub host: String,
    /// Port to bind; 0 lets the system choose.
    pub port: u16,
    /// Whether clients are told of it; one that they are not told of names them no brokers.
    pub advertised: bool,
    /// Host that clients are told; the bound one when `None`.
    pub advertised_host: Option<String>,
    /// Port that clients are told; the bound one when `None`.
    pub advertised_port: Option<u16>,
}

impl Listener {
    /// A listener without an advertised address of its own.
    pub fn new(name: &str, host: &str, port: u16) -> Listener {
        Listener {
            name: name.to_string(),
            protocol: "PLAINTEXT".to_string(),
            host: host.to_string(),
            port,
            advertised: true,
            advertised_host: None,
            advertised_port: None,
        }
    }
}

/// Another node, as it is reached by its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its `node.id`.
    pub node: NodeId,
    /// Name or address.
    pub host: String,
    /// Port of its controller listener.
    pub port: u16,
}

/// The other nodes and what is needed to talk to them.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Hosts and ports where they connect to this one. Empty: where clients connect.
    pub listeners: Vec<(String, u16)>,
    /// The voters but this one (`controller.quorum.voters`).
    pub voters: Vec<PeerAddress>,
    /// Whether this node is one of them.
    pub votes: bool,
    /// Where nodes are looked for without a list of voters (`controller.quorum.bootstrap.servers`).
    pub servers: Vec<(String, u16)>,
    /// What both ends of a connection must know (`cluster.secret.file`); empty without one.
    pub secret: peer::Secret,
    /// `cluster.id`, which holds until the metadata has one; empty where it was not set.
    pub cluster_id: String,
}

impl PeerSettings {
    /// Whether the node finds its cluster, or comes up, only with others.
    pub(crate) fn needs_others(&self) -> bool {
        !self.voters.is_empty() || !self.servers.is_empty()
    }
}

/// Limits and addresses of the shell.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where metrics and health are served; `None` serves none.
    pub http: Option<SocketAddr>,
    /// Nobody chose that address: where another process listens there, HTTP is gone without.
    pub http_by_default: bool,
    /// Where data is.
    pub data_dir: PathBuf,
    /// Connections at one time (`max.connections`).
    pub max_connections: usize,
    /// Connections from one address at one time (`max.connections.per.ip`).
    pub max_connections_per_ip: usize,
    /// The same for single addresses (`max.connections.per.ip.overrides`).
    pub per_ip_overrides: Vec<(String, usize)>,
    /// New connections in a second (`max.connection.creation.rate`).
    pub max_connection_rate: u32,
    /// A connection that asks nothing for this long is closed (`connections.max.idle.ms`).
    pub idle_timeout: Option<Duration>,
    /// Largest request (`socket.request.max.bytes`).
    pub request_max_bytes: usize,
    /// Largest frame before the first valid request of a connection.
    pub first_request_max_bytes: usize,
    /// Bytes of requests read and not answered, over all connections (`queued.max.request.bytes`).
    pub queued_max_request_bytes: u64,
    /// The same for one connection.
    pub connection_request_bytes: usize,
    /// Requests of one connection that may be unanswered.
    pub connection_requests: usize,
    /// Bytes read from files for answers that are not sent yet.
    pub response_memory_bytes: u64,
    /// A connection whose answer makes no progress for this long is closed.
    pub write_stall: Duration,
    /// The data directory's pool, reserve and threads.
    pub disk: DiskOptions,
    /// Threads that read files for fetches.
    pub reader_threads: usize,
    /// Most bytes of one Fetch answer (`fetch.max.bytes`).
    pub fetch_max_bytes: usize,
    /// Incremental fetch sessions (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions: usize,
    /// Socket send buffer (`socket.send.buffer.bytes`); -1 leaves it to the system.
    pub send_buffer_bytes: i32,
    /// Socket receive buffer (`socket.receive.buffer.bytes`); -1 leaves it to the system.
    pub receive_buffer_bytes: i32,
    /// Connections that wait to be accepted (`socket.listen.backlog.size`).
    pub backlog: u32,
    /// How long a stop waits for requests in progress.
    pub stop_patience: Duration,
    /// The other nodes; `None` for a node that is its own only voter.
    pub peers: Option<PeerSettings>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listeners: vec![Listener::new("PLAINTEXT", "127.0.0.1", 9092)],
            http: Some(SocketAddr::from(([127, 0, 0, 1], 9644))),
            http_by_default: false,
            data_dir: PathBuf::from("./plimsoll-data"),
            max_connections: 50_000,
            max_connections_per_ip: 1_000,
            per_ip_overrides: Vec::new(),
            max_connection_rate: 5_000,
            idle_timeout: Some(Duration::from_secs(600)),
            request_max_bytes: 100 << 20,
            first_request_max_bytes: 512 << 10,
            queued_max_request_bytes: 128 << 20,
            connection_request_bytes: 32 << 20,
            connection_requests: 256,
            response_memory_bytes: 128 << 20,
            write_stall: Duration::from_secs(60),
            disk: DiskOptions::default(),
            reader_threads: 2,
            fetch_max_bytes: 55 << 20,
            fetch_sessions: 1_000,
            send_buffer_bytes: -1,
            receive_buffer_bytes: -1,
            backlog: 1024,
            stop_patience: Duration::from_secs(10),
            peers: None,
        }
    }
}

impl Settings {
    /// Takes over what the broker's configs say; 0 or less means no limit where Kafka has it so.
    pub fn take_over(&mut self, config: &cluster::BrokerConfig) {
        let bytes = |v: i64| u64::try_from(v).ok().filter(|v| *v > 0);
        self.max_connections = config.max_connections.max(0) as usize;
        self.max_connections_per_ip = config.max_connections_per_ip.max(0) as usize;
        self.per_ip_overrides = config
            .max_connections_per_ip_overrides
            .iter()
            .map(|(ip, n)| (ip.clone(), (*n).max(0) as usize))
            .collect();
        self.max_connection_rate = config.max_connection_creation_rate.max(0) as u32;
        self.idle_timeout = bytes(config.connections_max_idle_ms).map(Duration::from_millis);
        self.request_max_bytes = config.socket_request_max_bytes.max(0) as usize;
        self.first_request_max_bytes = config.socket_first_request_max_bytes.max(0) as usize;
        self.queued_max_request_bytes = bytes(config.queued_max_request_bytes).unwrap_or(u64::MAX);
        self.connection_request_bytes =
            bytes(config.connection_max_request_bytes).map_or(usize::MAX, |v| v as usize);
        self.fetch_max_bytes = config.fetch_max_bytes.max(0) as usize;
        self.fetch_sessions = config.max_fetch_sessions.max(0) as usize;
        self.disk.pool_bytes = config.log_pool_bytes.max(0) as u64;
        self.disk.reserve_bytes = config.log_disk_min_free_bytes.max(0) as u64;
        self.backlog = config.socket_listen_backlog_size.max(1) as u32;
    }
}
