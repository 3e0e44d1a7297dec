//! A broker of each kind on free ports, with its data on a real disk, stopped when dropped.
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::install::{self, Need};
use crate::resets::{self, Ways};
use crate::test_runner::Context;
use crate::{process, three_nodes};

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Plimsoll,
    Apache,
    /// Three processes of Plimsoll that are one cluster, every topic with three replicas.
    ThreeNodes,
}

impl Kind {
    /// Replicas of each topic.
    pub(crate) fn replicas(self) -> u16 {
        if self == Kind::ThreeNodes { 3 } else { 1 }
    }
}

/// A process.
struct Node {
    child: Child,
    port: u16,
    /// What clients are told to connect to.
    told: u16,
    dir: PathBuf,
}

impl Node {
    fn kill_and_restart(&mut self, binary: &Path) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        std::thread::sleep(Duration::from_secs(1));
        let config = self.dir.join("server.properties");
        self.child = spawn(Command::new(binary).arg("serve").arg("--config").arg(config), &self.dir)?;
        Ok(())
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("broker.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }
}

/// A running broker, or several that are one cluster.
pub(crate) struct Broker {
    nodes: Vec<Node>,
    /// By which clients come, where their connections are to be reset.
    pub(crate) ways: Option<Ways>,
    kind: Kind,
    dir: PathBuf,
    stopped: bool,
}

const READY: Duration = Duration::from_secs(180);
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of each log that are shown when something failed.
const LOG_TAIL: usize = 40;

impl Broker {
    /// Starts one in an empty directory under `target/clients/run` and waits until it serves.
    pub(crate) fn start(context: &Context, kind: Kind, label: &str) -> Result<Self> {
        Self::start_behind(context, kind, label, false)
    }

    /// The same, by ways on which clients' connections can be reset if `ways` says so.
    pub(crate) fn start_behind(context: &Context, kind: Kind, label: &str, ways: bool) -> Result<Self> {
        let root = &context.root;
        let name = format!("{label}-{kind:?}-{}", std::process::id()).to_lowercase();
        let dir = root.join("target/clients/run").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let mut broker = Self { nodes: Vec::new(), ways: None, kind, dir: dir.clone(), stopped: false };
        let mut nodes = match kind {
            Kind::ThreeNodes => three_nodes::properties(&dir),
            Kind::Plimsoll | Kind::Apache => {
                let port = free_port();
                vec![(port, dir.clone(), properties(&dir, port, free_port()))]
            }
        };
        for (port, dir, text) in &mut nodes {
            let told = if ways { free_port() } else { *port };
            if ways {
                *text = resets::behind(text, told, free_port());
            }
            fs::create_dir_all(&*dir)?;
            let child = if kind == Kind::Apache {
                install::install(root, Need::KafkaBroker)?;
                start_apache(root, dir, text)?
            } else {
                start_plimsoll(&context.binary()?, dir, text)?
            };
            broker.nodes.push(Node { child, port: *port, told, dir: dir.clone() });
        }
        if ways {
            let pairs: Vec<_> = broker.nodes.iter().map(|node| (node.told, node.port)).collect();
            broker.ways = Some(Ways::open(root, &pairs)?);
        }
        broker.wait_until_ready(context)?;
        Ok(broker)
    }

    /// All its addresses, with commas between them.
    pub(crate) fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.told)).collect();
        addresses.join(",")
    }

    /// Whether the first node says in ApiVersions that it serves a request.
    pub(crate) fn serves(&self, api: i16) -> Result<bool> {
        let port = self.nodes.first().context("a broker has a node")?.port;
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Length, API key 18, version 0, correlation id 1, no client id.
        stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255])?;
        let mut head = [0; 14];
        stream.read_exact(&mut head)?;
        let count = u32::from_be_bytes([head[10], head[11], head[12], head[13]]);
        for _ in 0..count {
            let mut row = [0; 6];
            stream.read_exact(&mut row)?;
            if i16::from_be_bytes([row[0], row[1]]) == api {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Kills one node after the other with SIGKILL while `work` goes on, and starts it again a second later.
    pub(crate) fn while_nodes_die<T>(
        &mut self,
        binary: &Path,
        every: Duration,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let (done, ended) = channel();
        std::thread::scope(|scope| {
            let killer = scope.spawn(move || -> Result<usize> {
                let mut kills = 0;
                while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    let victim = kills % self.nodes.len();
                    self.nodes[victim].kill_and_restart(binary)?;
                    kills += 1;
                }
                Ok(kills)
            });
            let result = work();
            done.send(()).ok();
            let kills = killer.join().expect("no panic in the thread that kills")?;
            println!("   {kills} kills");
            result
        })
    }

    /// The ends of its logs.
    pub(crate) fn log_tails(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let _ = write!(text, "-- {}\n{}\n", node.dir.display(), node.log_tail());
        }
        text
    }

    fn wait_until_ready(&mut self, context: &Context) -> Result<()> {
        let end = Instant::now() + READY;
        for at in 0..self.nodes.len() {
            while TcpStream::connect(("127.0.0.1", self.nodes[at].port)).is_err() {
                self.all_run().context("before it accepted")?;
                if Instant::now() > end {
                    bail!(
                        "{:?} did not accept within {} s\n{}",
                        self.kind,
                        READY.as_secs(),
                        self.log_tails()
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        match self.kind {
            Kind::ThreeNodes => three_nodes::wait_until_formed(&context.binary()?, &self.bootstrap(), READY)
                .with_context(|| self.log_tails()),
            Kind::Plimsoll | Kind::Apache => Ok(()),
        }
    }

    fn all_run(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if let Some(status) = node.child.try_wait()? {
                bail!("{:?} ended by itself with {status}\n{}", self.kind, node.log_tail());
            }
        }
        Ok(())
    }

    /// What must hold of several nodes after a client's checks: its topics have all their replicas, and these
    /// have all that was written. Of one node: nothing.
    pub(crate) fn judge_replicas(&self, context: &Context, prefix: &str) -> Result<()> {
        match self.kind {
            Kind::ThreeNodes => {
                three_nodes::judge_replicas(&context.binary()?, &self.bootstrap(), prefix, PATIENCE)
            }
            Kind::Plimsoll | Kind::Apache => Ok(()),
        }
    }

    /// Stops it in good order; an error if it had ended by itself or does not listen to SIGTERM.
    pub(crate) fn stop(mut self) -> Result<()> {
        let ran = self.all_run();
        let stopped = self.stop_all();
        ran?;
        stopped.with_context(|| self.log_tails())?;
        fs::remove_dir_all(&self.dir).context("remove the broker's directory")
    }

    /// All at once: nobody waits for somebody who was stopped before.
    fn stop_all(&mut self) -> Result<()> {
        self.stopped = true;
        std::thread::scope(|scope| {
            let stop = |node| scope.spawn(move || stop(node));
            let stopping: Vec<_> = self.nodes.iter_mut().map(stop).collect();
            stopping.into_iter().try_for_each(|thread| thread.join().expect("no panic in `stop`"))
        })
    }
}

fn stop(node: &mut Node) -> Result<()> {
    process::stop(&mut node.child, PATIENCE)
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !self.stopped {
            self.stop_all().ok();
        }
    }
}

/// Ports below those that the system gives to connections: the nodes of a cluster connect to each other while
/// some of them do not listen yet.
const PORTS: (u16, u16) = (10_000, 30_000);

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(PORTS.1 - PORTS.0);
    loop {
        let at =
            std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
        let port = PORTS.0 + (at % count) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn spawn(command: &mut Command, dir: &Path) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(dir.join("broker.log"))?;
    let command = command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("{command:?}"))
}

/// What both kinds are told alike: the differential suite compares their configs too.
fn properties(dir: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
        dir.join("data").display()
    )
}

fn start_plimsoll(binary: &Path, dir: &Path, properties: &str) -> Result<Child> {
    let config = dir.join("server.properties");
    fs::write(&config, format!("{properties}http.listener=127.0.0.1:{}\n", free_port()))?;
    spawn(Command::new(binary).arg("serve").arg("--config").arg(config), dir)
}

fn start_apache(root: &Path, dir: &Path, properties: &str) -> Result<Child> {
    let config = dir.join("server.properties");
    fs::write(&config, properties)?;
    let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", "cGxpbXNvbGwtdGVzdHM0Zw", "-c"];
    process::run_quietly(install::java(root, install::KAFKA_BROKER).args(format).arg(&config))?;
    let mut command = install::java(root, install::KAFKA_BROKER);
    spawn(command.args(["-Xms128m", "-Xmx512m", "kafka.Kafka"]).arg(config), dir)
}

/// Where cargo builds.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
