//! Starting and stopping the two brokers.
use crate::disk::Disk;
use crate::run::Place;
use anyhow::{Context, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plimsoll,
    Kafka,
}

/// What an acknowledgement promises, on both sides alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The page cache: Kafka's default, our `write.caching=true`.
    PageCache,
    /// On disk: our default, Kafka's `flush.messages=1`.
    Fsync,
}

/// A running broker.
pub(crate) struct System {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    child: Child,
    /// From the start of the process to the first connection taken.
    pub(crate) started_in: Duration,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn java(jars: &Path, flags: &[&str], class: &str, args: &[&str]) -> Command {
    let mut command = Command::new("java");
    command.args(flags).arg("-cp").arg(format!("{}/*", jars.display())).arg(class).args(args);
    command.stdin(Stdio::null());
    command
}

impl System {
    pub(crate) fn start(place: &Place, kind: Kind, durability: Durability, disk: &Disk) -> Result<System> {
        match kind {
            Kind::Plimsoll => start_plimsoll(place, durability, disk),
            Kind::Kafka => start_kafka(place, durability, disk),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until_open(kind: Kind, port: u16, mut child: Child) -> Result<System> {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("{kind:?} ended at its start: {status}");
        }
        if start.elapsed() > Duration::from_secs(120) {
            bail!("{kind:?} did not open its port within 120 s");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(System { kind, port, child, started_in: start.elapsed() })
}

fn log_file(place: &Place, name: &str) -> Result<std::fs::File> {
    Ok(std::fs::File::create(place.dir.join(name))?)
}

fn start_plimsoll(place: &Place, durability: Durability, disk: &Disk) -> Result<System> {
    let (port, http) = (free_port()?, free_port()?);
    let log = log_file(place, "plimsoll.log")?;
    let mut command = Command::new(&place.plimsoll);
    command
        .args(["serve", "--listener", &format!("PLAINTEXT://127.0.0.1:{port}")])
        .args(["--http-listener", &format!("127.0.0.1:{http}")])
        .arg("--data-dir")
        .arg(disk.path("data"));
    if durability == Durability::PageCache {
        command.args(["--set", "write.caching=true"]);
    }
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    wait_until_open(Kind::Plimsoll, port, child)
}

fn start_kafka(place: &Place, durability: Durability, disk: &Disk) -> Result<System> {
    let (port, controller) = (free_port()?, free_port()?);
    let config = place.dir.join("kafka.properties");
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        disk.path("data").display()
    );
    if durability == Durability::Fsync {
        text.push_str("log.flush.interval.messages=1\n");
    }
    std::fs::write(&config, text)?;
    let config = config.display().to_string();
    let logging = place.dir.join("log4j2.properties");
    std::fs::write(
        &logging,
        "rootLogger.level = WARN\nrootLogger.appenderRef.c.ref = c\nappender.c.type = Console\nappender.c.name = c\nappender.c.layout.type = PatternLayout\n",
    )?;
    let logging = format!("-Dlog4j2.configurationFile={}", logging.display());
    let id = "4L6g3nShT-eMCtK--X86sw";
    let format = java(
        &place.kafka,
        &[&logging],
        "kafka.tools.StorageTool",
        &["format", "--standalone", "-t", id, "-c", &config],
    )
    .output()
    .context("java is missing")?;
    if !format.status.success() {
        bail!("formatting Kafka's directory failed: {}", String::from_utf8_lossy(&format.stderr));
    }
    let flags = [
        logging.as_str(),
        "-Xms1g",
        "-Xmx1g",
        "-server",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent",
        "-Djava.awt.headless=true",
    ];
    let log = log_file(place, "kafka.log")?;
    let child =
        java(&place.kafka, &flags, "kafka.Kafka", &[&config]).stdout(log.try_clone()?).stderr(log).spawn()?;
    wait_until_open(Kind::Kafka, port, child)
}
