//! A broker's process: started on free ports, watched, stopped.
use crate::wire_client::Client;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long anything may take before a test calls it stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `found` says something.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running `plimsoll serve`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) kafka: SocketAddr,
    http: SocketAddr,
    log: PathBuf,
}

/// The program that is tested.
pub(crate) const THIS: &str = env!("CARGO_BIN_EXE_plimsoll");

/// The command line of a broker over `data`, its output going to `log`.
pub(crate) fn command(data: &Path, log: &Path, sets: &[&str]) -> Command {
    command_of(Path::new(THIS), data, log, sets)
}

/// The same of another build.
pub(crate) fn command_of(program: &Path, data: &Path, log: &Path, sets: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("serve");
    command.args(["--set", "group.initial.rebalance.delay.ms=0", "--data"]).arg(data);
    for (key, flag) in [("listeners=", "--listen"), ("http.listener=", "--http")] {
        if !sets.iter().any(|set| set.starts_with(key)) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command
}

impl Server {
    /// Starts a broker with these settings and waits until it says where it listens.
    pub(crate) fn start(data: &Path, sets: &[&str]) -> Server {
        Server::start_with(data, &data.with_extension("log"), sets)
    }

    /// The same with its log elsewhere.
    pub(crate) fn start_with(data: &Path, log: &Path, sets: &[&str]) -> Server {
        Server::wait(command(data, log, sets), log)
    }

    /// Runs a broker's command line and waits until it says where it listens.
    pub(crate) fn wait(mut command: Command, log: &Path) -> Server {
        let log = log.to_path_buf();
        let mut child = command.spawn().unwrap();
        let (said, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Its end is the process's.
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let address = |word: &str| -> SocketAddr {
            loop {
                let line = lines.recv_timeout(PATIENCE);
                let line = line.unwrap_or_else(|e| panic!("no {word} address: {e}\n{}", read(&log)));
                let mut words = line.split_whitespace();
                if words.next() == Some(word) {
                    return words.next().unwrap().trim_start_matches("http://").parse().unwrap();
                }
            }
        };
        let (kafka, http) = (address("kafka"), address("http"));
        Server { child, kafka, http, log }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.kafka)
    }

    /// Everything that it logged.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("the broker's end", || self.child.try_wait().unwrap())
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        assert!(Command::new("kill").arg(self.pid().to_string()).status().unwrap().success());
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A line of `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// What its HTTP listener says.
    pub(crate) fn http(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.http).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    /// The value of a series on the metrics page; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.http("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}
