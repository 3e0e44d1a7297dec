//! `plimsoll cluster up`: a cluster on this machine, each node a process of this program.
use crate::config::ENV_PREFIX;
use anyhow::{Context, bail};
use clap::Args;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};

/// What comes after Kafka's own ports: those of the controllers, and of metrics and health.
const CONTROLLERS: u16 = 100;
const HTTP: u16 = 200;
/// How long a node may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Lines of a log that are shown when its node does not start.
const LOG_TAIL: usize = 5;

/// Start several nodes on this machine, and stop them with Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster up                                  three nodes: 127.0.0.1:9092, :9093 and :9094
  plimsoll cluster up --nodes 5 --dir /tmp/five --base-port 19092
  plimsoll cluster status                              in another terminal

Each node has a directory below --dir with its configuration, its log and its data. They stay there: the next
start goes on with them. One node can be stopped, killed and started again by itself to see what the others
make of it: kill PID, then plimsoll serve --config DIR/node-N/server.properties.
For nodes on several machines see config/cluster/ and docs/configuration.md.")]
pub(crate) struct UpArgs {
    /// How many nodes.
    #[arg(short, long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Where configurations, logs and data are.
    #[arg(short, long, default_value = "./plimsoll-cluster", value_name = "DIR")]
    dir: PathBuf,
    /// Port of the first node for Kafka clients; the next ones follow. Those of controllers begin 100 higher,
    /// those of metrics and health 200 higher.
    #[arg(short = 'p', long, default_value_t = 9092, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_000))]
    base_port: u16,
}

/// One node.
struct Node {
    id: u16,
    dir: PathBuf,
    kafka: u16,
    controller: u16,
    http: u16,
}

impl Node {
    fn all(args: &UpArgs) -> anyhow::Result<Vec<Node>> {
        let dir = std::path::absolute(&args.dir).with_context(|| args.dir.display().to_string())?;
        let node = |at: u16| {
            let kafka = args.base_port + at;
            let (controller, http) = (kafka + CONTROLLERS, kafka + HTTP);
            Node { id: at + 1, dir: dir.join(format!("node-{}", at + 1)), kafka, controller, http }
        };
        Ok((0..args.nodes).map(node).collect())
    }

    fn config(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log.txt")
    }

    /// Its configuration among `all`.
    fn properties(&self, all: &[Node]) -> String {
        let Node { id, kafka, controller, http, .. } = self;
        let replicas = all.len().min(3);
        let mut text = format!(
            "# Written by `plimsoll cluster up`, anew at each start.\n\
             node.id={id}\n\
             http.listener=127.0.0.1:{http}\n\
             log.dirs={}\n\
             default.replication.factor={replicas}\n\
             offsets.topic.replication.factor={replicas}\n",
            self.dir.join("data").display()
        );
        if all.len() == 1 {
            text.push_str(&format!("listeners=PLAINTEXT://127.0.0.1:{kafka}\n"));
            return text;
        }
        let voters: Vec<String> =
            all.iter().map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller)).collect();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             controller.quorum.voters={}\n",
            voters.join(",")
        );
        text
    }

    fn start(&self) -> anyhow::Result<Running> {
        let program = std::env::current_exe().context("where this program is")?;
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.with_context(|| self.log().display().to_string())?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        // Ctrl-C reaches them through this process alone, once.
        command.process_group(0);
        // What is set for all nodes at once would hold for each of them: the same node.id, the same ports.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with(ENV_PREFIX) && text != "PLIMSOLL_LOG" {
                command.env_remove(&name);
            }
        }
        let mut child = command.spawn().context("a node could not be started")?;
        let lines = BufReader::new(child.stdout.take().context("the output of a node")?).lines();
        Ok(Running { id: self.id, log: self.log(), child, lines })
    }

    fn line(&self, pid: Option<u32>) -> String {
        let Node { id, kafka, http, dir, .. } = self;
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        format!("node {id}  kafka 127.0.0.1:{kafka}  http 127.0.0.1:{http}  pid {pid}  {}\n", dir.display())
    }
}

/// A node's process.
struct Running {
    id: u16,
    log: PathBuf,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Waits until it says where it listens, which it does when it serves.
    async fn ready(&mut self) -> anyhow::Result<()> {
        while let Some(line) = self.lines.next_line().await? {
            if line.trim_start().starts_with("data") {
                return Ok(());
            }
        }
        let status = self.child.wait().await?;
        bail!("node {} did not start: {status}\n{}", self.id, tail(&self.log))
    }

    /// Waits for its end; reads what it says until then.
    async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        while let Ok(Some(_)) = self.lines.next_line().await {}
        self.child.wait().await
    }

    /// SIGTERM, then SIGKILL.
    async fn stop(mut self) -> (u16, bool) {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended in this moment.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let ended = tokio::time::timeout(STOP_PATIENCE, self.ended()).await;
        let clean = matches!(ended, Ok(Ok(status)) if status.success());
        if ended.is_err() {
            let _ = self.child.kill().await;
        }
        (self.id, clean)
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Runs the command.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    let nodes = Node::all(&args)?;
    for node in &nodes {
        let write = || {
            std::fs::create_dir_all(&node.dir)?;
            std::fs::write(node.config(), node.properties(&nodes))
        };
        write().with_context(|| node.dir.display().to_string())?;
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut running = nodes.iter().map(Node::start).collect::<anyhow::Result<Vec<_>>>()?;
    let asked = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(asked);
    let up = tokio::select! {
        up = started(&nodes, &mut running) => Some(up),
        () = &mut asked => None,
    };
    match up {
        Some(Ok(())) => {
            tokio::select! {
                () = all_ended(&mut running) => bail!("every node has ended; their logs say why"),
                () = &mut asked => {}
            }
        }
        Some(Err(error)) => {
            stop(running).await?;
            return Err(error);
        }
        None => {}
    }
    stop(running).await
}

async fn started(nodes: &[Node], running: &mut [Running]) -> anyhow::Result<()> {
    for (node, process) in nodes.iter().zip(running.iter_mut()) {
        process.ready().await?;
        say(&node.line(process.child.id()))?;
    }
    let servers: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.kafka)).collect();
    say(&format!(
        "try     plimsoll cluster status -b {first}\n        echo hello | plimsoll produce greetings -b {all}\n\
         Ctrl-C stops all nodes.\n",
        first = servers[0],
        all = servers.join(",")
    ))
}

/// Resolves when no node is left; says of each one that ends what can be done.
async fn all_ended(running: &mut [Running]) {
    let watch = |process: &mut Running| {
        let id = process.id;
        let config = process.log.with_file_name("server.properties");
        (id, config)
    };
    let mut left: Vec<(u16, PathBuf)> = running.iter_mut().map(watch).collect();
    while !left.is_empty() {
        for process in running.iter_mut() {
            let ended = process.child.try_wait().ok().flatten();
            let at = left.iter().position(|(id, _)| *id == process.id);
            if let (Some(status), Some(at)) = (ended, at) {
                let (id, config) = left.remove(at);
                let again = config.display();
                // Whoever closed the output still wants the nodes.
                let _ = say(&format!(
                    "node {id} ended ({status}); start it again with: plimsoll serve --config {again}\n"
                ));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn stop(running: Vec<Running>) -> anyhow::Result<()> {
    let mut unclean = Vec::new();
    // One by one: each hands over what it leads to those that are left.
    for mut process in running {
        if process.child.try_wait().ok().flatten().is_none() {
            let (id, clean) = process.stop().await;
            if !clean {
                unclean.push(id.to_string());
            }
        }
    }
    if unclean.is_empty() {
        return say("all nodes have stopped\n");
    }
    bail!("without a clean stop: node {}; the next start recovers", unclean.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u16) -> Vec<Node> {
        let args = UpArgs { nodes: count, dir: PathBuf::from("/d"), base_port: 9092 };
        Node::all(&args).unwrap()
    }

    #[test]
    fn every_node_is_told_of_the_others() {
        let all = nodes(3);
        let text = all[1].properties(&all);
        for line in [
            "node.id=2",
            "log.dirs=/d/node-2/data",
            "http.listener=127.0.0.1:9293",
            "listeners=PLAINTEXT://127.0.0.1:9093,CONTROLLER://127.0.0.1:9193",
            "controller.quorum.voters=1@127.0.0.1:9192,2@127.0.0.1:9193,3@127.0.0.1:9194",
            "default.replication.factor=3",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_node_alone_has_no_controller_listener() {
        let all = nodes(1);
        let text = all[0].properties(&all);
        assert!(text.contains("listeners=PLAINTEXT://127.0.0.1:9092\n") && !text.contains("CONTROLLER"));
        assert!(text.contains("default.replication.factor=1\n"));
    }
}
