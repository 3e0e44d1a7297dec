//! A broker's process: started on free ports, watched, stopped.
use crate::wire_client::Client;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running `plimsoll serve`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) kafka: SocketAddr,
    http: SocketAddr,
    log: PathBuf,
}

/// The command line of a broker over `data`, its output going to `log`.
pub(crate) fn command(data: &Path, log: &Path, sets: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command.args(["--set", "group.initial.rebalance.delay.ms=0", "--data"]).arg(data);
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
        let log = data.with_extension("log");
        let mut child = command(data, &log, sets).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |word: &str| -> SocketAddr {
            let found = lines.by_ref().map_while(Result::ok).find_map(|line| {
                let mut words = line.split_whitespace();
                let said = words.next()? == word;
                said.then(|| words.next().unwrap().trim_start_matches("http://").parse().unwrap())
            });
            found.unwrap_or_else(|| panic!("no {word} address\n{}", read(&log)))
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

    /// A line of `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// The value of a series on the metrics page; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let mut socket = TcpStream::connect(self.http).unwrap();
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
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
