//! A broker of either kind on a free port, with its data on a real disk, stopped when dropped.
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::install::{self, Need};
use crate::process;
use crate::test_runner::Context;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Plimsoll,
    Apache,
}

/// A running broker.
pub(crate) struct Broker {
    child: Child,
    kind: Kind,
    port: u16,
    dir: PathBuf,
    stopped: bool,
}

const READY: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

impl Broker {
    /// Starts one in an empty directory under `target/clients/run` and waits until it accepts.
    pub(crate) fn start(context: &Context, kind: Kind, label: &str) -> Result<Self> {
        let root = &context.root;
        let name = format!("{label}-{kind:?}-{}", std::process::id()).to_lowercase();
        let dir = root.join("target/clients/run").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let (port, second) = (free_port()?, free_port()?);
        let child = match kind {
            Kind::Plimsoll => start_plimsoll(&context.binary()?, &dir, port, second)?,
            Kind::Apache => {
                install::install(root, Need::KafkaBroker)?;
                start_apache(root, &dir, port, second)?
            }
        };
        let mut broker = Self { child, kind, port, dir, stopped: false };
        broker.wait_until_ready()?;
        Ok(broker)
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("broker.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + READY;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                self.stopped = true;
                bail!("{:?} ended with {status} before it accepted\n{}", self.kind, self.log_tail());
            }
            if Instant::now() > end {
                bail!("{:?} did not accept within {} s\n{}", self.kind, READY.as_secs(), self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops it in good order; an error if it had ended by itself or does not listen to SIGTERM.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.stopped = true;
        if let Some(status) = self.child.try_wait()? {
            bail!("{:?} ended by itself with {status}\n{}", self.kind, self.log_tail());
        }
        process::stop(&mut self.child, PATIENCE).with_context(|| self.log_tail())?;
        fs::remove_dir_all(&self.dir).context("remove the broker's directory")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !self.stopped {
            process::stop(&mut self.child, PATIENCE).ok();
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn spawn(command: &mut Command, dir: &Path) -> Result<Child> {
    let log = fs::File::create(dir.join("broker.log"))?;
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

fn start_plimsoll(binary: &Path, dir: &Path, port: u16, controller: u16) -> Result<Child> {
    let config = dir.join("server.properties");
    let text = format!("{}http.listener=127.0.0.1:{}\n", properties(dir, port, controller), free_port()?);
    fs::write(&config, text)?;
    spawn(Command::new(binary).arg("serve").arg("--config").arg(config), dir)
}

fn start_apache(root: &Path, dir: &Path, port: u16, controller: u16) -> Result<Child> {
    let config = dir.join("server.properties");
    fs::write(&config, properties(dir, port, controller))?;
    let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", "cGxpbXNvbGwtdGVzdHM0Zw", "-c"];
    process::run_quietly(install::java(root, install::KAFKA_BROKER).args(format).arg(&config))?;
    let mut command = install::java(root, install::KAFKA_BROKER);
    spawn(command.args(["-Xms128m", "-Xmx512m", "kafka.Kafka"]).arg(config), dir)
}

/// Where cargo builds.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
