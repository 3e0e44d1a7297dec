//! Starting and stopping the two brokers.
use crate::disk::Disk;
use crate::run::Place;
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

/// A broker's files and command line: it can be started on the same data again and again.
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
}

/// A running broker.
pub(crate) struct System {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    child: Child,
    /// When the process was started, ms since 1970.
    pub(crate) started_at_ms: f64,
}

/// A clean stop of Apache Kafka with 10,000 partitions syncs 30,000 files.
const PATIENCE: Duration = Duration::from_secs(600);

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Setup {
    /// Empties `disk` for a new data directory; Kafka's is formatted.
    pub(crate) fn new(place: &Place, kind: Kind, durability: Durability, disk: &Disk) -> Result<Setup> {
        disk.empty()?;
        let log = place.dir.join(if kind == Kind::Kafka { "kafka.log" } else { "plimsoll.log" });
        let _ = std::fs::remove_file(log);
        let data = disk.root();
        match kind {
            Kind::Plimsoll => plimsoll(place, durability, data),
            Kind::Kafka => kafka(place, durability, data),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn spawn(&self) -> Result<System> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started_at_ms = wall_ms();
        let child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        Ok(System { kind: self.kind, port: self.port, child, started_at_ms })
    }

    /// Starts the process and waits until its port is open.
    pub(crate) fn start(&self) -> Result<System> {
        let mut system = self.spawn()?;
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = system.child.try_wait()? {
                bail!("{:?} ended at its start ({status}): see {}", self.kind, self.log.display());
            }
            if start.elapsed() > PATIENCE {
                bail!("{:?} did not open its port within {PATIENCE:?}", self.kind);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(system)
    }
}

/// The machine's clock, ms since 1970.
pub(crate) fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs_f64() * 1000.0).unwrap_or_default()
}

impl System {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A clean stop; waits for the end.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                bail!("{:?} did not stop within {PATIENCE:?}", self.kind);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for System {
    /// kill -9, as far as it still runs.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn plimsoll(place: &Place, durability: Durability, data: &Path) -> Result<Setup> {
    let (port, http) = (free_port()?, free_port()?);
    let mut args: Vec<String> = vec!["serve".into(), "--data-dir".into(), data.display().to_string()];
    args.extend(["--listener".into(), format!("PLAINTEXT://127.0.0.1:{port}")]);
    args.extend(["--http-listener".into(), format!("127.0.0.1:{http}")]);
    if durability == Durability::PageCache {
        args.extend(["--set".into(), "write.caching=true".into()]);
    }
    let (program, log) = (place.plimsoll.clone(), place.dir.join("plimsoll.log"));
    Ok(Setup { kind: Kind::Plimsoll, port, program, args, log })
}

fn java(jars: &Path, flags: &[&str], class: &str, args: &[&str]) -> Vec<String> {
    let classes = format!("{}/*", jars.display());
    let all = flags.iter().copied().chain(["-cp", &classes, class]).chain(args.iter().copied());
    all.map(str::to_owned).collect()
}

/// What Kafka's own start script sets, and the heap of 1 GB.
const FLAGS: [&str; 8] = [
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
const LOGGING: &str = "rootLogger.level = WARN\nrootLogger.appenderRef.c.ref = c\n\
                       appender.c.type = Console\nappender.c.name = c\nappender.c.layout.type = PatternLayout\n";

fn kafka_properties(durability: Durability, port: u16, controller: u16, data: &Path) -> String {
    // Deleted topics give their space back after a second instead of a minute: a run would find the file
    // system filled by the one before. Nothing that is measured depends on it.
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\nlog.segment.delete.delay.ms=1000\n",
        data.display()
    );
    if durability == Durability::Fsync {
        text.push_str("log.flush.interval.messages=1\n");
    }
    text
}

fn kafka(place: &Place, durability: Durability, data: &Path) -> Result<Setup> {
    let (port, controller) = (free_port()?, free_port()?);
    let config = place.dir.join("kafka.properties");
    std::fs::write(&config, kafka_properties(durability, port, controller, data))?;
    let config = config.display().to_string();
    let logging = place.dir.join("log4j2.properties");
    std::fs::write(&logging, LOGGING)?;
    let logging = format!("-Dlog4j2.configurationFile={}", logging.display());
    let id = "4L6g3nShT-eMCtK--X86sw";
    let format = Command::new("java")
        .args(java(
            &place.kafka,
            &[&logging],
            "kafka.tools.StorageTool",
            &["format", "--standalone", "-t", id, "-c", &config],
        ))
        .output()
        .context("java is missing")?;
    if !format.status.success() {
        bail!("formatting Kafka's directory failed: {}", String::from_utf8_lossy(&format.stderr));
    }
    let flags: Vec<&str> = std::iter::once(logging.as_str()).chain(FLAGS).collect();
    let args = java(&place.kafka, &flags, "kafka.Kafka", &[&config]);
    let log = place.dir.join("kafka.log");
    Ok(Setup { kind: Kind::Kafka, port, program: PathBuf::from("java"), args, log })
}
