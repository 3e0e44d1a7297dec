//! Starting and stopping both kinds of brokers: one of them, or three that are a cluster.
use crate::disk::Disk;
use crate::kafka;
use crate::rows::Row;
use crate::run::Place;
use crate::usage::{Usage, usage};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plimsoll,
    Kafka,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Durability {
    /// The page cache on both sides: Kafka's default, our `write.caching=true`.
    PageCache,
    /// On disk on both sides: our default, Kafka's `flush.messages=1`.
    Fsync,
    /// Each as it is by default: ours on disk, Kafka's in the page cache.
    Defaults,
}

/// One process: its files and its command line.
struct Node {
    port: u16,
    args: Vec<String>,
    log: PathBuf,
}

/// The files and command lines of a broker, or of three that are a cluster: they can be started on the same data again
/// and again.
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    program: PathBuf,
    nodes: Vec<Node>,
}

/// Running brokers: one, or three that are a cluster.
pub(crate) struct System {
    pub(crate) kind: Kind,
    setup: Setup,
    children: Vec<Child>,
    /// When the first process was started, ms since 1970.
    pub(crate) started_at_ms: f64,
}

/// A clean stop of Apache Kafka with 10,000 partitions syncs 30,000 files.
const PATIENCE: Duration = Duration::from_secs(600);

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Setup {
    /// Empties `disks`, one for each node, for new data directories; Kafka's are formatted.
    pub(crate) fn new(place: &Place, kind: Kind, row: &Row, disks: &[Disk]) -> Result<Setup> {
        let mut ports = Vec::new();
        for disk in disks {
            disk.empty()?;
            ports.push((free_port()?, free_port()?));
        }
        let mut nodes = Vec::new();
        for (at, disk) in disks.iter().enumerate() {
            let name = if kind == Kind::Kafka { "kafka" } else { "plimsoll" };
            let log = place.dir.join(format!("{name}-{}.log", at + 1));
            let _ = std::fs::remove_file(&log);
            let args = match kind {
                Kind::Plimsoll => plimsoll(row, disk.root(), at, &ports)?,
                Kind::Kafka => kafka::prepare(place, row, disk.root(), at, &ports)?,
            };
            nodes.push(Node { port: ports[at].0, args, log });
        }
        let program = if kind == Kind::Kafka { PathBuf::from("java") } else { place.plimsoll.clone() };
        Ok(Setup { kind, program, nodes })
    }

    /// Of the first node.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.nodes[0].port)
    }

    /// Of all nodes, with commas between them.
    pub(crate) fn addresses(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        all.join(",")
    }

    fn spawn_node(&self, at: usize) -> Result<Child> {
        let node = &self.nodes[at];
        let log = std::fs::File::options().create(true).append(true).open(&node.log)?;
        let mut command = Command::new(&self.program);
        command.args(&node.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("start {}", self.program.display()))
    }

    /// Which node listens there, from 0.
    pub(crate) fn node_at(&self, address: &str) -> Option<usize> {
        let port: u16 = address.rsplit_once(':')?.1.parse().ok()?;
        self.nodes.iter().position(|node| node.port == port)
    }

    /// Starts the processes and does not wait for them.
    pub(crate) fn spawn(self) -> Result<System> {
        let started_at_ms = wall_ms();
        let children = (0..self.nodes.len()).map(|at| self.spawn_node(at)).collect::<Result<_>>()?;
        Ok(System { kind: self.kind, setup: self, children, started_at_ms })
    }

    /// Starts the processes and waits until their ports are open.
    pub(crate) fn start(self) -> Result<System> {
        let mut system = self.spawn()?;
        (0..system.children.len()).try_for_each(|at| system.wait_for_port(at))?;
        Ok(system)
    }
}

/// The machine's clock, ms since 1970.
pub(crate) fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs_f64() * 1000.0).unwrap_or_default()
}

impl System {
    pub(crate) fn address(&self) -> String {
        self.setup.address()
    }

    pub(crate) fn addresses(&self) -> String {
        self.setup.addresses()
    }

    /// Which node listens there, from 0.
    pub(crate) fn node_at(&self, address: &str) -> Option<usize> {
        self.setup.node_at(address)
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.children.len()
    }

    /// What all processes together used and hold.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut total = Usage::default();
        for child in &self.children {
            total = total.and(usage(child.id())?);
        }
        Ok(total)
    }

    fn wait_for_port(&mut self, at: usize) -> Result<()> {
        let start = Instant::now();
        let node = &self.setup.nodes[at];
        while TcpStream::connect(("127.0.0.1", node.port)).is_err() {
            if let Some(status) = self.children[at].try_wait()? {
                bail!("{:?} ended at its start ({status}): see {}", self.kind, node.log.display());
            }
            if start.elapsed() > PATIENCE {
                bail!("{:?} did not open its port within {PATIENCE:?}", self.kind);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// kill -9 of one node.
    pub(crate) fn kill_node(&mut self, at: usize) -> Result<()> {
        self.children[at].kill()?;
        self.children[at].wait()?;
        Ok(())
    }

    /// A clean stop of one node; waits for the end.
    pub(crate) fn stop_node(&mut self, at: usize) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.children[at].id().to_string()]).status()?;
        let start = Instant::now();
        while self.children[at].try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                bail!("{:?} did not stop within {PATIENCE:?}", self.kind);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts a node again that was stopped or killed.
    pub(crate) fn start_node(&mut self, at: usize) -> Result<()> {
        self.children[at] = self.setup.spawn_node(at)?;
        self.wait_for_port(at)
    }

    /// A clean stop of all; what is on disk can be started again.
    pub(crate) fn stop(mut self) -> Result<Setup> {
        (0..self.children.len()).try_for_each(|at| self.stop_node(at))?;
        Ok(self.take())
    }

    /// kill -9 of all; what is on disk can be started again.
    pub(crate) fn kill(mut self) -> Result<Setup> {
        (0..self.children.len()).try_for_each(|at| self.kill_node(at))?;
        Ok(self.take())
    }

    fn take(&mut self) -> Setup {
        self.children.clear();
        let empty = Setup { kind: self.kind, program: PathBuf::new(), nodes: Vec::new() };
        std::mem::replace(&mut self.setup, empty)
    }
}

impl Drop for System {
    /// kill -9, as far as they still run.
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ports of each node: clients', controllers'.
pub(crate) type Ports = [(u16, u16)];

/// All nodes as `controller.quorum.voters` names them.
pub(crate) fn voters(ports: &Ports) -> String {
    let all: Vec<String> = (1..).zip(ports).map(|(id, (_, port))| format!("{id}@127.0.0.1:{port}")).collect();
    all.join(",")
}

fn plimsoll(row: &Row, data: &Path, at: usize, ports: &Ports) -> Result<Vec<String>> {
    let ((port, controller), http) = (ports[at], free_port()?);
    let mut args: Vec<String> = vec!["serve".into(), "--data-dir".into(), data.display().to_string()];
    args.extend(["--http-listener".into(), format!("127.0.0.1:{http}")]);
    let mut set = |line: String| args.extend(["--set".to_owned(), line]);
    if row.durability == Durability::PageCache {
        set("write.caching=true".into());
    }
    row.load.settings().iter().for_each(|line| set((*line).to_owned()));
    if ports.len() == 1 {
        set(format!("listeners=PLAINTEXT://127.0.0.1:{port}"));
        return Ok(args);
    }
    set(format!("node.id={}", at + 1));
    set(format!("controller.quorum.voters={}", voters(ports)));
    set(format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"));
    set("controller.listener.names=CONTROLLER".into());
    set(format!("default.replication.factor={}", ports.len()));
    set("min.insync.replicas=2".into());
    set(format!("offsets.topic.replication.factor={}", ports.len()));
    set(format!("transaction.state.log.replication.factor={}", ports.len()));
    Ok(args)
}
