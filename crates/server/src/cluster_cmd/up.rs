//! `plimsoll cluster up`: a cluster on this machine, each node a process of this program.
use crate::config::ENV_PREFIX;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
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
/// Between two looks whether all nodes are there still.
const LOOK: Duration = Duration::from_millis(200);
/// Lines of a log that are shown when its node does not start.
const LOG_TAIL: usize = 5;

/// Start several nodes on this machine, and stop them with Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster up                                  three nodes: 127.0.0.1:9092, :9093 and :9094
  plimsoll cluster up --nodes 5 --dir /tmp/five --base-port 19092
  plimsoll cluster status                              in another terminal

Each node has a directory below --dir with its configuration, its log and its data. They stay there: the next
start goes on with them. While nodes run there, or one of the ports is taken, a start is refused and changes nothing. One node can be stopped, killed and started again by itself to see what the others
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

    /// Whether it could run now: nobody uses its directory, and its ports are free. Errors: who or what is in the way.
    fn is_free(&self, alone: bool) -> anyhow::Result<()> {
        let data = self.dir.join("data");
        if let Some(holder) = holder(&data)? {
            bail!(
                "{} is in use by {holder}: a cluster runs in this directory already, and is left as it is\n  \
                 `plimsoll cluster status -b 127.0.0.1:PORT` shows it, with the port in {}. Stop it with Ctrl-C where \
                 it was started, or choose another directory with --dir (and other ports with --base-port).",
                data.display(),
                self.config().display()
            );
        }
        let controller = (!alone).then_some(("the controller", self.controller));
        for (what, port) in
            [("Kafka clients", self.kafka), ("metrics", self.http)].into_iter().chain(controller)
        {
            // Let go at once: the node takes it when it starts.
            if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                bail!(
                    "node {} cannot listen on 127.0.0.1:{port}, for {what}: {error}\n  Stop what listens there, or \
                     choose other ports with --base-port.",
                    self.id
                );
            }
        }
        Ok(())
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
        let logged = log.metadata().map_or(0, |found| found.len());
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
        Ok(Running { id: self.id, log: self.log(), logged, child, lines })
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
    /// Bytes of the log that earlier runs wrote.
    logged: u64,
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
        Err(self.not_started(status))
    }

    /// Why it ended, in its own words.
    fn not_started(&self, status: ExitStatus) -> anyhow::Error {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let own = text.get(usize::try_from(self.logged).unwrap_or(usize::MAX)..).unwrap_or_default();
        let why = last_words(&String::from_utf8_lossy(own));
        anyhow!("node {} did not start ({status}): {why}\n  Its log: {}", self.id, self.log.display())
    }

    /// Errors: it has ended, and why.
    fn is_there(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => Err(self.not_started(status)),
            None => Ok(()),
        }
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

/// The process that has locked a data directory, if one has.
fn holder(data: &Path) -> anyhow::Result<Option<String>> {
    let path = data.join("lock");
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| path.display().to_string())?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // It ends with the file.
        Ok(()) => Ok(None),
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Only for the message: without it the holder is unknown.
            let _ = (&mut file).take(100).read_to_string(&mut text);
            let named = text.trim();
            Ok(Some(if named.is_empty() { "another process".to_owned() } else { named.to_owned() }))
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The error that a process ended with and what follows it; without one the last lines.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let error = lines.iter().rposition(|line| line.starts_with("error: "));
    let begin = error.unwrap_or(lines.len().saturating_sub(LOG_TAIL));
    let text = lines[begin..].iter().take(LOG_TAIL).copied().collect::<Vec<_>>().join("\n");
    text.strip_prefix("error: ").map_or(text.clone(), str::to_owned)
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Runs the command.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    let nodes = Node::all(&args)?;
    // Before anything is written: a cluster that runs keeps its configuration.
    for node in &nodes {
        node.is_free(nodes.len() == 1)?;
    }
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
            // Why one did not start counts, not how the others took it.
            let _ = stop(running).await;
            return Err(error);
        }
        None => {}
    }
    stop(running).await
}

async fn started(nodes: &[Node], running: &mut [Running]) -> anyhow::Result<()> {
    for (at, node) in nodes.iter().enumerate() {
        loop {
            match tokio::time::timeout(LOOK, running[at].ready()).await {
                Ok(ready) => break ready?,
                // It may wait for others that have ended.
                Err(_) => running.iter_mut().try_for_each(Running::is_there)?,
            }
        }
        say(&node.line(running[at].child.id()))?;
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
    #[test]
    fn the_error_that_a_node_ended_with_is_told_whole() {
        let log = "INFO a\nerror: older\nINFO b\nerror: port 1 is taken\n  Choose another one.\n";
        assert_eq!(last_words(log), "port 1 is taken\n  Choose another one.");
        assert_eq!(last_words("1\n2\n3\n4\n5\n6\n"), "2\n3\n4\n5\n6");
        assert_eq!(last_words(""), "");
    }

    #[test]
    fn a_directory_that_is_locked_or_a_port_that_is_taken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let others = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [controller, http] = others.map(|listener| listener.local_addr().unwrap().port());
        let node = Node { id: 1, dir: dir.path().to_owned(), kafka: port, controller, http };
        let refused = node.is_free(false).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("127.0.0.1:{port}")) && refused.contains("--base-port"),
            "{refused}"
        );
        drop(taken);
        node.is_free(false).unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let mut lock = File::create(data.join("lock")).unwrap();
        writeln!(lock, "process 4711").unwrap();
        node.is_free(false).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let refused = node.is_free(false).unwrap_err().to_string();
        assert!(refused.contains("is in use by process 4711") && refused.contains("--dir"), "{refused}");
    }
}
