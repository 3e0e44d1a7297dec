//! Apache Kafka's command line and configuration.
use crate::rows::Row;
use crate::run::Place;
use crate::systems::{Durability, Ports, voters};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

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

fn properties(row: &Row, data: &Path, at: usize, ports: &Ports) -> Result<String> {
    let ((port, controller), nodes) = (ports[at], ports.len());
    let quorum = match nodes {
        1 => format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller}"),
        _ => format!("controller.quorum.voters={}", voters(ports)),
    };
    // Deleted topics give their space back after a second instead of a minute: a run would find the file
    // system filled by the one before. Nothing that is measured depends on it.
    let mut text = format!(
        "process.roles=broker,controller\nnode.id={}\n{quorum}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor={nodes}\ntransaction.state.log.replication.factor={nodes}\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor={nodes}\n\
         share.coordinator.state.topic.min.isr=1\nlog.segment.delete.delay.ms=1000\n",
        at + 1,
        data.display()
    );
    if nodes > 1 {
        write!(text, "default.replication.factor={nodes}\nmin.insync.replicas=2\n")?;
    }
    if row.durability == Durability::Fsync {
        text.push_str("log.flush.interval.messages=1\n");
    }
    row.load.settings().iter().for_each(|line| text.push_str(&format!("{line}\n")));
    Ok(text)
}

/// Formats a node's directory; returns the arguments of `java` that start it.
pub(crate) fn prepare(
    place: &Place,
    row: &Row,
    data: &Path,
    at: usize,
    ports: &Ports,
) -> Result<Vec<String>> {
    let config = place.dir.join(format!("kafka-{}.properties", at + 1));
    std::fs::write(&config, properties(row, data, at, ports)?)?;
    let config = config.display().to_string();
    let logging = place.dir.join("log4j2.properties");
    std::fs::write(&logging, LOGGING)?;
    let logging = format!("-Dlog4j2.configurationFile={}", logging.display());
    let mut format = vec!["format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", &config];
    if ports.len() == 1 {
        format.insert(1, "--standalone");
    }
    let format = Command::new("java")
        .args(java(&place.kafka, &[&logging], "kafka.tools.StorageTool", &format))
        .output()
        .context("java is missing")?;
    if !format.status.success() {
        bail!("formatting Kafka's directory failed: {}", String::from_utf8_lossy(&format.stderr));
    }
    let flags: Vec<&str> = std::iter::once(logging.as_str()).chain(FLAGS).collect();
    Ok(java(&place.kafka, &flags, "kafka.Kafka", &[&config]))
}
