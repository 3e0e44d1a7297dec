//! What requests cost in system calls, held against `tests/costs.txt`.
use crate::server::Server;
use crate::wire_client::{Client, value_batch};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// Holds a cost against the limit of that name in `tests/costs.txt`.
pub(crate) fn judge(name: &str, cost: f64) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/costs.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("tests/costs.txt has no {name}"));
    let limit: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
    println!("{name}: {cost:.3}");
    assert!(cost <= limit, "{name} costs {cost:.3}, allowed are {limit}");
}

/// strace, attached to a process and counting.
struct Tracer(Child);

impl Tracer {
    fn attach(pid: u32) -> Tracer {
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-p"]).arg(pid.to_string());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        child.stderr = Some(said.into_inner());
        Tracer(child)
    }

    /// Lets go; how many calls there were.
    fn calls(mut self) -> f64 {
        let asked = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        self.0.wait().unwrap();
        let total = said.lines().find(|line| line.trim_end().ends_with(" total"));
        let total = total.unwrap_or_else(|| panic!("no sum: {said}"));
        total.split_whitespace().nth(3).unwrap().parse().unwrap()
    }
}

/// A broker on a real disk, warm, and a client that produces to it.
fn warm() -> (tempfile::TempDir, Server, Client) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(&dir.path().join("data"), &["log.pool.bytes=0"]);
    let mut client = server.client();
    client.create("t", 1, &[]);
    produce(&mut client, 50, 1_000);
    (dir, server, client)
}

/// Appends that many batches of that size, one after the other.
pub(crate) fn produce(client: &mut Client, times: usize, bytes: usize) {
    let batch = value_batch(&vec![0x5a; bytes]);
    for _ in 0..times {
        assert_eq!(client.produce("t", 0, batch.clone()).unwrap().code, 0);
    }
}

#[test]
#[ignore = "needs a broker"]
fn system_calls_stay_what_they_were() {
    let (_dir, server, mut client) = warm();
    let tracer = Tracer::attach(server.pid());
    produce(&mut client, 500, 100);
    judge("system-calls-per-produce", tracer.calls() / 500.0);
    let tracer = Tracer::attach(server.pid());
    produce(&mut client, 320, 128 << 10);
    judge("system-calls-per-produced-mib", tracer.calls() / 40.0);
}
