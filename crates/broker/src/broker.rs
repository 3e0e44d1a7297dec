//! Puts a broker together, runs it, and stops it.
use crate::clock::Clock;
use crate::core::{Core, DiskQueue};
use crate::error_map::ReadFailure;
use crate::http;
use crate::listener;
use crate::meta_properties;
use crate::metadata_watch::MetadataWatch;
use crate::metrics::handles::Closed;
use crate::metrics::{self, BrokerMetrics};
use crate::observe;
use crate::opening;
use crate::peers::{self, Links};
use crate::reader_pool::ReaderPool;
use crate::settings::{Listener, PeerSettings, Settings};
use crate::shared::{Parts, Shared};
use node::{Event, Node, NodeConfig, ReadToken};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::disk::{DiskOptions, RealDisk};
use storage::{Completion, DiskOp, FileRange};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

/// How often limits, idle connections and overdue answers are looked at.
const SWEEP: Duration = Duration::from_millis(500);
/// How long a stop waits for handlers that wait for others, when nothing else is left.
const HANDLERS_PATIENCE: Duration = Duration::from_millis(500);
/// How long a stop waits for a full disk to have room for its last record.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// How long a stop waits until others lead what was led here.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);
/// Questions of the HTTP thread that may wait.
const ASKS: usize = 16;

/// Why a broker did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be used; the text says why and what to do.
    #[error("{0}")]
    Directory(String),
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {error}")]
    Listen {
        /// The config that names it.
        key: &'static str,
        /// The address.
        address: String,
        /// The system's words.
        error: io::Error,
    },
    /// A thread or runtime could not be made.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// How a broker ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    /// As asked; everything is on disk.
    Clean,
    /// The data directory failed: the process must not pretend otherwise.
    Fenced(String),
    /// The node was unregistered while it was down, is registered again, and has to start once more: its directory has
    /// another replica of the metadata from then on.
    StartAgain,
    /// As asked, but the disk is full and took no last record: the next start recovers as after a kill.
    NoRoom,
}

/// A broker that is ready to run.
pub struct Broker {
    settings: Settings,
    node: NodeConfig,
    stop: Arc<Notify>,
}

/// Where a running broker is reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Each listener.
    pub listeners: Vec<Bound>,
    /// The HTTP listener.
    pub http: Option<SocketAddr>,
}

/// A listener of a running broker.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Host and port that clients are told to connect to.
    pub told: (String, u16),
}

impl Broker {
    /// A broker of these settings. The node's endpoints are filled in from the bound listeners.
    pub fn new(settings: Settings, node: NodeConfig) -> Broker {
        Broker { settings, node, stop: Arc::new(Notify::new()) }
    }

    /// Notify it to stop the broker as SIGTERM does.
    pub fn stop_handle(&self) -> Arc<Notify> {
        self.stop.clone()
    }

    /// Runs until SIGTERM or SIGINT, or until the directory fails; `started` learns the addresses. Blocks
    /// the calling thread, which becomes the broker thread.
    pub fn run(self, started: impl FnOnce(&Addresses)) -> Result<Stopped, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        local.block_on(&runtime, self.run_local(started))
    }

    async fn run_local(mut self, started: impl FnOnce(&Addresses)) -> Result<Stopped, RunError> {
        let (done, completions) = mpsc::unbounded_channel();
        let disk = open_disk(&self.settings, done)?;
        // After the lock: of two brokers on one directory the second is told about that. Before the node opens
        // the directory: a start that is refused writes nothing there.
        let (bound, controllers, http) = match bind(&self.settings).await {
            Ok(bound) => bound,
            Err(refused) => {
                disk.abandon();
                return Err(refused);
            }
        };
        let told = bound.iter().filter(|(l, _)| l.advertised);
        self.node.endpoints = told.map(|(l, s)| endpoint(l, s)).collect::<io::Result<_>>()?;
        let (clock, seed) = (Clock::new(), self.node.seed);
        let disk = Rc::new(disk);
        let (reader, begun) = (disk.reader(), Instant::now());
        let counted = opening::Counted::new(&*reader);
        let node =
            Node::open(self.node, &counted, clock.now()).map_err(|e| RunError::Directory(e.to_string()))?;
        let read = counted.bytes();
        let (wanted, reads) = mpsc::unbounded_channel();
        let links = Links::new(peers::limits(self.settings.request_max_bytes));
        let core = Core::new(node, Box::new(Queue(disk.clone())), wanted, links.clone(), clock);
        let others = self.settings.peers.clone().map(Rc::new);
        let apis: Vec<_> = wire::served().iter().map(|api| (api.key.code(), api.name)).collect();
        let shared = Shared::new(Parts {
            readers: ReaderPool::new(self.settings.reader_threads)?,
            metrics: BrokerMetrics::new(metrics::install(), &apis),
            settings: self.settings,
            core,
            disk,
            links,
            seed,
        });
        let fenced = Rc::new(Notify::new());
        spawn_local(read_for_node(shared.clone(), reads));
        spawn_local(react(shared.clone(), completions, fenced.clone()));
        if let Some(others) = &others {
            peers::start(&shared, others, controllers);
        }
        // First: whoever reads the addresses may tell it to stop at once.
        let mut asked = Asked::new(self.stop, fenced)?;
        // It may be long until a majority is there: clients are told so instead of being kept waiting.
        let sockets = Some((bound, http));
        let waits = others.as_ref().is_some_and(|others| others.needs_others());
        let (early, late) = if waits { (sockets, None) } else { (None, sockets) };
        let early = early.map(|(bound, http)| start(&shared, bound, http)).transpose()?;
        tokio::select! {
            biased;
            ready = ready(&shared, others.as_deref()) => if !ready? {
                return Ok(match end(&shared).await {
                    Stopped::Clean | Stopped::NoRoom => Stopped::StartAgain,
                    ended => ended,
                });
            },
            () = asked.once() => return Ok(end(&shared).await),
        }
        shared.core.look(|node| opening::tell(node, read, begun.elapsed()));
        shared.refresh_settings();
        tell_kafkas_tools(&shared);
        let late = late.map(|(bound, http)| start(&shared, bound, http)).transpose()?;
        shared.serving_since.set(Some(Instant::now()));
        spawn_local(sweep(shared.clone()));
        if let Some(addresses) = early.or(late) {
            started(&addresses);
        }
        asked.once().await;
        Ok(end(&shared).await)
    }
}

fn open_disk(settings: &Settings, done: mpsc::UnboundedSender<Completion>) -> Result<RealDisk, RunError> {
    let tell = move |completion| {
        // The receiver goes last, when nobody waits for completions any more.
        let _ = done.send(completion);
    };
    // Others take a node for dead that is silent for as long as the medium takes for gigabytes.
    let options = DiskOptions { prompt: settings.peers.is_some(), ..settings.disk.clone() };
    RealDisk::open(&settings.data_dir, options, Box::new(tell))
        .map_err(|e| RunError::Directory(e.to_string()))
}

/// Who may end a broker.
struct Asked {
    stop: Arc<Notify>,
    fenced: Rc<Notify>,
    terminate: Signal,
    interrupt: Signal,
}

impl Asked {
    fn new(stop: Arc<Notify>, fenced: Rc<Notify>) -> io::Result<Asked> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Asked { stop, fenced, terminate, interrupt })
    }

    /// Resolves when somebody does.
    async fn once(&mut self) {
        tokio::select! {
            () = self.stop.notified() => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.fenced.notified() => {}
        }
    }
}

struct Queue(Rc<RealDisk>);

impl DiskQueue for Queue {
    fn submit(&self, op: DiskOp) {
        self.0.submit(op);
    }
}

/// What is listened on: for clients, for other nodes, for metrics and health.
type Sockets = (Vec<(Listener, TcpListener)>, Vec<TcpListener>, Option<std::net::TcpListener>);

async fn bind(settings: &Settings) -> Result<Sockets, RunError> {
    let bound = bind_all(settings).await?;
    let controllers = bind_controllers(settings).await?;
    Ok((bound, controllers, bind_http(settings)?))
}

async fn bind_all(settings: &Settings) -> Result<Vec<(Listener, TcpListener)>, RunError> {
    let mut bound = Vec::with_capacity(settings.listeners.len());
    for l in &settings.listeners {
        let socket = listener::bind(settings, &l.host, l.port).await.map_err(|error| {
            let address = format!("{}://{}:{}", l.name, l.host, l.port);
            RunError::Listen { key: "listeners", address, error }
        })?;
        bound.push((l.clone(), socket));
    }
    Ok(bound)
}

/// Where other nodes connect.
async fn bind_controllers(settings: &Settings) -> Result<Vec<TcpListener>, RunError> {
    let Some(others) = &settings.peers else { return Ok(Vec::new()) };
    let failed = |(address, error)| RunError::Listen { key: "listeners", address, error };
    peers::bind(settings, others).await.map_err(failed)
}

/// What clients are told of a bound listener.
fn endpoint(listener: &Listener, socket: &TcpListener) -> io::Result<cluster::Endpoint> {
    let bound = socket.local_addr()?;
    let host = match (&listener.advertised_host, listener.host.as_str()) {
        (Some(host), _) => host.clone(),
        (None, "" | "0.0.0.0" | "::") => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        (None, host) => host.to_owned(),
    };
    Ok(cluster::Endpoint {
        listener: listener.name.clone(),
        host,
        port: listener.advertised_port.unwrap_or(bound.port()),
        protocol: listener.protocol.clone(),
    })
}

/// Where metrics and health are served. The default address is often that of another node of this machine, and
/// nobody asked for it: no reason to end the start.
fn bind_http(settings: &Settings) -> Result<Option<std::net::TcpListener>, RunError> {
    let Some(address) = settings.http else { return Ok(None) };
    match std::net::TcpListener::bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if settings.http_by_default && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                "{address} is in use and http.listener is not set: no metrics and no health are served here; set \
                 http.listener to another address, or to nothing"
            );
            Ok(None)
        }
        Err(error) => Err(RunError::Listen { key: "http.listener", address: address.to_string(), error }),
    }
}

fn start(
    shared: &Rc<Shared>,
    bound: Vec<(Listener, TcpListener)>,
    http: Option<std::net::TcpListener>,
) -> Result<Addresses, RunError> {
    let mut listeners = Vec::with_capacity(bound.len());
    let http = match http {
        Some(listener) => {
            let (send, receive) = mpsc::channel(ASKS);
            spawn_local(observe::answer(shared.clone(), receive));
            let registry = shared.metrics.registry().clone();
            Some(http::start(listener, registry, send, shared.stop.subscribe())?)
        }
        None => None,
    };
    for (listener, socket) in bound {
        let told = endpoint(&listener, &socket)?;
        listeners.push(Bound {
            name: listener.name.clone(),
            address: socket.local_addr()?,
            told: (told.host, told.port),
        });
        spawn_local(listener::accept(shared.clone(), socket, listener.name.into()));
    }
    Ok(Addresses { listeners, http })
}

fn tell_kafkas_tools(shared: &Shared) {
    let (cluster, node) = (shared.core.cluster_id(), shared.core.node_id());
    let directory = shared.core.look(Node::directory_id);
    if let Err(error) = meta_properties::write(&shared.settings().data_dir, &cluster, node, directory) {
        tracing::warn!(%error, "meta.properties, which Apache Kafka's tools read, could not be written");
    }
}

/// Waits until the metadata is loaded, has a leader, and knows this node. `false`: the process has to start again.
async fn ready(shared: &Rc<Shared>, others: Option<&PeerSettings>) -> Result<bool, RunError> {
    let mut say = Instant::now() + peers::SAY_EVERY;
    while !shared.core.ready() || shared.core.with_node(|node, now| node.take_given_place(now)) {
        if shared.core.look(Node::has_new_place) {
            tracing::warn!(
                "this node was unregistered while it was down: the replicas in its directory do not count any more. It \
                 is registered again, starts once more, and gets copies of all that it is to hold"
            );
            return Ok(false);
        }
        if let Some(why) = shared.core.fenced() {
            return Err(RunError::Directory(why));
        }
        let _ = tokio::time::timeout(SWEEP, shared.core.turned()).await;
        if let Some(others) = others
            && Instant::now() >= say
        {
            say += peers::SAY_EVERY;
            let voters = peers::waits_for(shared);
            if others.needs_others() && !shared.core.look(Node::knows_cluster) {
                tracing::warn!("waiting for a cluster: {}", shared.finding.why());
                continue;
            }
            if shared.core.ready() {
                tracing::warn!(
                    "this node was unregistered while it was down, and starts once more when a majority of the voters of \
                     the metadata runs without it: {voters}"
                );
                continue;
            }
            let why = shared.finding.why();
            if !why.is_empty() {
                tracing::warn!("this node is not let in: {why}");
                continue;
            }
            match shared.core.metadata_leader() {
                Some(leader) => tracing::warn!(
                    "waiting until node {leader}, which leads the metadata, has registered this node: {voters}"
                ),
                None => tracing::warn!(
                    "waiting for a majority of the voters to elect a leader of the metadata: {voters}"
                ),
            }
        }
    }
    Ok(true)
}

/// Reads what the node asks for, each on its own: loading a group does not wait for another.
async fn read_for_node(shared: Rc<Shared>, mut reads: mpsc::UnboundedReceiver<(ReadToken, FileRange)>) {
    while let Some((token, range)) = reads.recv().await {
        let shared = shared.clone();
        spawn_local(async move {
            match shared.read_file(range).await {
                Ok(extracted) => shared.core.with_node(|node, now| node.on_read(now, token, Ok(extracted))),
                Err(ReadFailure::Extract(error)) => {
                    shared.core.with_node(|node, now| node.on_read(now, token, Err(error)));
                }
                Err(ReadFailure::Stopped) => {}
            }
        });
    }
}

async fn react(shared: Rc<Shared>, completions: mpsc::UnboundedReceiver<Completion>, fenced: Rc<Notify>) {
    let on_event = |event| {
        if let Event::Fenced(_) = &event {
            fenced.notify_one();
        }
        observe::on_event(&shared, event);
    };
    shared.core.clone().run(shared.clone(), completions, on_event).await;
}

async fn sweep(shared: Rc<Shared>) {
    let mut beat = tokio::time::interval(SWEEP);
    let mut watch = MetadataWatch::default();
    loop {
        beat.tick().await;
        if shared.clustered && !shared.stopping() {
            watch.look(shared.core.uptime(), shared.core.look(Node::metadata_lead));
        }
        shared.refresh_settings();
        let pressed = shared.request_memory.pressed();
        shared.connections.sweep(&shared.settings(), shared.core.uptime(), Instant::now(), pressed);
        shared.links.sweep(Instant::now());
    }
}

/// Lets others lead what is led here, while this node still serves.
async fn hand_over(shared: &Rc<Shared>) {
    if !shared.clustered || shared.core.fenced().is_some() {
        return;
    }
    shared.core.with_node(|node, now| node.begin_hand_over(now));
    let handed_over = async {
        while !shared.core.handed_over() {
            shared.core.turned().await;
        }
    };
    if tokio::time::timeout(HAND_OVER_PATIENCE, handed_over).await.is_err() {
        tracing::warn!("stopping before all that is led here has another leader: what is left elects one");
    }
}

/// Ends a broker: no new connections, requests in progress are answered, then the node puts everything
/// on disk.
async fn end(shared: &Rc<Shared>) -> Stopped {
    tracing::info!("stopping");
    hand_over(shared).await;
    shared.begin_stop();
    let begun = Instant::now();
    let patience = shared.settings().stop_patience;
    while shared.connections.len() > 0 && begun.elapsed() < patience {
        if shared.connections.only_handlers() && begun.elapsed() > HANDLERS_PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shared.connections.close_all(Closed::Shutdown);
    shared.links.stop();
    if shared.core.fenced().is_none() {
        shared.core.with_node(|node, now| node.begin_stop(now));
        let asked = Instant::now();
        while !shared.core.look(Node::stopped) && shared.core.fenced().is_none() {
            if asked.elapsed() > ROOM_PATIENCE && observe::stalled(shared).is_some() {
                return Stopped::NoRoom;
            }
            // A turn that ends between two looks is seen at the next.
            let _ = tokio::time::timeout(SWEEP, shared.core.turned()).await;
        }
    }
    match shared.core.fenced() {
        Some(why) => Stopped::Fenced(why),
        None => Stopped::Clean,
    }
}
