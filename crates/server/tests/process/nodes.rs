//! Several processes that are one cluster.
use crate::server::{Server, THIS, command_of, wait_for};
use client_lite::{Client, ClientOptions, ConnOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Ports below those that the system gives to connections: a node that is down gets its own back.
const PORTS: (u16, u16) = (10_000, 30_000);

/// A port that nobody listens on.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.1 - PORTS.0;
    let begin = (std::process::id() * 61 % u32::from(count)) as u16;
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.0 + (begin + next) % count;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Where nodes listen and what they are told; and those that run.
pub(crate) struct Nodes {
    kafka: Vec<u16>,
    controllers: Vec<u16>,
    sets: Vec<String>,
    /// What each node runs when it starts next.
    programs: Vec<PathBuf>,
    /// Nodes find each other at the addresses of the first so many; `None`: each is told all voters.
    pub(crate) finds: Option<usize>,
    pub(crate) running: Vec<Option<Server>>,
    /// Goes last: a node that is dropped by a test that failed shows its log.
    dir: TempDir,
}

impl Nodes {
    /// Chooses ports for `count` nodes and starts none.
    pub(crate) fn new(count: usize) -> Nodes {
        let ports = || (0..count).map(|_| free_port()).collect();
        Nodes {
            dir: tempfile::tempdir().unwrap(),
            kafka: ports(),
            controllers: ports(),
            sets: Vec::new(),
            programs: vec![THIS.into(); count],
            finds: None,
            running: (0..count).map(|_| None).collect(),
        }
    }

    /// Starts `count` nodes on empty directories and waits until each serves.
    pub(crate) fn start(count: usize) -> Nodes {
        let mut nodes = Nodes::new(count);
        nodes.start_all();
        nodes
    }

    /// The same for every node, but that `{id}` is its number.
    pub(crate) fn set(&mut self, pair: &str) {
        self.sets.push(pair.to_owned());
    }

    /// From its next start on the node runs this build.
    pub(crate) fn set_program(&mut self, id: usize, program: &Path) {
        program.clone_into(&mut self.programs[id - 1]);
    }

    /// What the node runs when it starts next.
    pub(crate) fn program(&self, id: usize) -> &Path {
        &self.programs[id - 1]
    }

    /// The data directory of a node.
    pub(crate) fn data(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("node-{id}"))
    }

    pub(crate) fn log_path(&self, id: usize) -> PathBuf {
        self.data(id).with_extension("log")
    }

    /// What a node logged.
    pub(crate) fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    /// A file beside the nodes' directories.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The settings of a node; ids count from 1.
    fn settings(&self, id: usize) -> Vec<String> {
        let voters: Vec<String> =
            (1..).zip(&self.controllers).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let (kafka, controller) = (self.kafka[id - 1], self.controllers[id - 1]);
        let mut sets = vec![
            format!("node.id={id}"),
            format!("listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            match self.finds {
                None => format!("controller.quorum.voters={}", voters.join(",")),
                Some(first) => {
                    let at: Vec<String> = (1..=first).map(|id| self.controller(id)).collect();
                    format!("controller.quorum.bootstrap.servers={}", at.join(","))
                }
            },
            "default.replication.factor=3".to_owned(),
            "offsets.topic.replication.factor=3".to_owned(),
            "offsets.topic.num.partitions=4".to_owned(),
        ];
        sets.extend(self.sets.iter().map(|set| set.replace("{id}", &id.to_string())));
        sets
    }

    /// Starts all nodes at once: none serves without others.
    pub(crate) fn start_all(&mut self) {
        self.start_these(1..=self.kafka.len());
    }

    /// Starts these nodes at once.
    pub(crate) fn start_these(&mut self, ids: std::ops::RangeInclusive<usize>) {
        let this = &*self;
        let servers: Vec<Server> = std::thread::scope(|scope| {
            let start = |id| scope.spawn(move || this.start_node(id));
            let starting: Vec<_> = ids.clone().map(start).collect();
            starting.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (id, server) in ids.zip(servers) {
            self.running[id - 1] = Some(server);
        }
    }

    /// Starts a node and waits until it serves.
    pub(crate) fn start_node(&self, id: usize) -> Server {
        let sets = self.settings(id);
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let log = self.log_path(id);
        Server::wait(command_of(self.program(id), &self.data(id), &log, &sets), &log)
    }

    /// Starts a node with this file; what is its own here, it is told besides.
    pub(crate) fn start_configured(&mut self, id: usize, config: &Path) {
        let listeners = self.settings(id).into_iter().find(|set| set.starts_with("listeners=")).unwrap();
        let (data, log) = (self.data(id), self.log_path(id));
        let mut command = command_of(self.program(id), &data, &log, &[&listeners]);
        command.arg("--config").arg(config);
        self.running[id - 1] = Some(Server::wait(command, &log));
    }

    /// Starts a node that may never serve, with one more setting.
    pub(crate) fn spawn(&self, id: usize, set: &str) -> Child {
        let sets = self.settings(id);
        let sets: Vec<&str> = sets.iter().map(String::as_str).chain([set]).collect();
        command_of(self.program(id), &self.data(id), &self.log_path(id), &sets).spawn().unwrap()
    }

    /// Stops a node in good order: it has handed over all that it led.
    pub(crate) fn stop(&mut self, id: usize) {
        let mut server = self.running[id - 1].take().unwrap();
        let before = server.log().len();
        server.ask_to_stop();
        let status = server.ended();
        let log = server.log();
        assert!(status.success(), "{status}\n{log}");
        assert!(!log[before..].contains("before all that is led here"), "{log}");
    }

    /// A node that runs.
    pub(crate) fn node(&self, id: usize) -> &Server {
        self.running[id - 1].as_ref().unwrap()
    }

    /// Where clients find a node.
    pub(crate) fn address(&self, id: usize) -> String {
        format!("127.0.0.1:{}", self.kafka[id - 1])
    }

    /// Where other nodes find a node.
    pub(crate) fn controller(&self, id: usize) -> String {
        format!("127.0.0.1:{}", self.controllers[id - 1])
    }

    /// Where clients find any of them.
    pub(crate) fn addresses(&self) -> String {
        (1..=self.kafka.len()).map(|id| self.address(id)).collect::<Vec<_>>().join(",")
    }
}

/// A client that notices a change soon.
pub(crate) async fn client(addresses: &str) -> Arc<Client> {
    client_within(addresses, Duration::from_secs(10)).await
}

/// The same, waiting no longer than this for an answer.
pub(crate) async fn client_within(addresses: &str, request_timeout: Duration) -> Arc<Client> {
    let connect_timeout = Duration::from_millis(500);
    let conn = ConnOptions { connect_timeout, request_timeout, ..ConnOptions::default() };
    let (backoff, backoff_max) = (Duration::from_millis(5), Duration::from_millis(20));
    let options = ClientOptions { conn, backoff, backoff_max, ..ClientOptions::default() };
    Arc::new(Client::connect(addresses, options).await.unwrap())
}

/// Runs a future to its end on this thread.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Waits until every partition of a topic has a leader, and all of its replicas are in sync.
pub(crate) fn wait_in_sync(nodes: &Nodes, through: usize, topic: &str) {
    let address = nodes.address(through);
    wait_for("all replicas to be in sync", || {
        run(async {
            let cluster = client(&address).await.refresh(&[topic]).await.unwrap();
            let topic = cluster.topic(topic)?;
            let whole = |p: &client_lite::Partition| p.leader >= 0 && p.in_sync.len() == p.replicas.len();
            (!topic.partitions.is_empty() && topic.partitions.iter().all(whole)).then_some(())
        })
    });
}
