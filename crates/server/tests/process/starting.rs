//! What `plimsoll serve` says when it starts, and when it cannot.
use crate::server::{Server, command};
use crate::wire_client::value_batch;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;

/// Starts a broker that cannot start; what it says.
fn refusal(data: &Path, sets: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let status = command(data, &log, sets).status().unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
    std::fs::read_to_string(log).unwrap()
}

#[test]
#[ignore = "needs a broker"]
fn of_two_brokers_on_one_directory_and_port_the_second_is_told_about_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = Server::start(&data, &[]);
    let said = refusal(&data, &[&format!("listeners=PLAINTEXT://{}", first.kafka)]);
    assert!(said.contains(&format!("is in use by process {}", first.pid())), "{said}");
    assert!(!said.contains("cannot listen"), "{said}");
}

#[test]
#[ignore = "needs a broker"]
fn a_port_in_use_is_told_once_with_what_to_do_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    for (set, key, flag) in [
        (format!("listeners=PLAINTEXT://{at}"), "error: listeners: ", "--listen"),
        (format!("http.listener={at}"), "error: http.listener: ", "--http"),
    ] {
        let mut command = command(&dir.path().join("data"), &dir.path().join("log"), &[&set]);
        let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = said.lines().filter(|line| !line.contains(" INFO ")).collect();
        assert!(errors.len() == 2 && errors[0].starts_with(key) && errors[1].contains(flag), "{said}");
        assert_eq!(said.matches("cannot listen").count(), 1, "{said}");
        assert!(said.contains("Another process listens there"), "{said}");
        assert!(!dir.path().join("data").exists(), "nothing is left of a directory that was made for it");
    }
    let server = Server::start(&dir.path().join("data"), &[]);
    assert!(
        server.log().contains("data directory is new"),
        "a refused start writes nothing: {}",
        server.log()
    );
}

/// The banner of a broker with these settings, up to its last line.
fn banner(sets: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(&dir.path().join("data"), &dir.path().join("log"), sets).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        lines.push(line);
        if lines.last().is_some_and(|line| line.contains("plimsoll consume")) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.join("\n")
}

#[test]
#[ignore = "needs a broker"]
fn the_banner_names_what_clients_are_told_where_that_is_another_address() {
    let alone = banner(&["listeners=PLAINTEXT://127.0.0.1:0"]);
    assert!(alone.contains("plimsoll consume") && !alone.contains("clients are told"), "{alone}");
    let every = banner(&["listeners=PLAINTEXT://0.0.0.0:0"]);
    assert!(every.contains("--advertise HOST:PORT") && every.contains("-b 127.0.0.1:"), "{every}");
    let told = banner(&["listeners=PLAINTEXT://0.0.0.0:0", "advertised.listeners=PLAINTEXT://far.example:7"]);
    assert!(told.contains("clients are told far.example:7\n"), "{told}");
}

/// Positions of the records of a state log file.
fn state_records(file: &[u8]) -> Vec<usize> {
    (0..file.len() / 8).map(|at| at * 8).filter(|at| file[*at..].starts_with(b"PLST")).collect()
}

#[test]
#[ignore = "needs a broker"]
fn damage_in_the_state_log_is_refused_until_the_operator_accepts_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &[]);
    let mut client = server.client();
    let topic = client.create("kept", 1, &[]);
    for _ in 0..8 {
        assert_eq!(client.produce("kept", 0, value_batch(b"v")).unwrap().code, 0);
    }
    server.kill();
    let path = data.join("state-0.log");
    let mut file = std::fs::read(&path).unwrap();
    let records = state_records(&file);
    assert!(records.len() > 6, "{records:?}");
    // Far enough from the end that later records prove it to have been synced.
    file[records[records.len() - 4] + 16] ^= 1;
    std::fs::write(&path, file).unwrap();
    let said = refusal(&data, &[]);
    assert!(said.contains("state-0.log") && said.contains("accept.state.log.damage=true"), "{said}");
    let mut server = Server::start(&data, &["accept.state.log.damage=true"]);
    assert!(server.log().contains("take it out after this start"), "{}", server.log());
    assert_eq!(server.client().read_all(topic, 0).len(), 8);
    server.kill();
    let server = Server::start(&data, &[]);
    assert_eq!(server.client().read_all(topic, 0).len(), 8);
}

#[test]
#[ignore = "needs a broker"]
fn a_start_says_how_the_last_one_ended_and_what_it_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (mut logged, mut lives) = (0, 0);
    // What this life logged about the directory.
    let mut told = |server: &Server| {
        let log = server.log();
        let new = log[logged..].to_owned();
        logged = log.len();
        lives += 1;
        let of = |line: &&str| line.contains("data directory is new") || line.contains("metadata recovered");
        let lines: Vec<String> = new.lines().filter(of).map(str::to_owned).collect();
        assert_eq!(lines.len(), 1, "life {lives}: {new}");
        lines[0].clone()
    };
    let mut server = Server::start(&data, &[]);
    assert!(told(&server).contains("data directory is new"));
    let mut client = server.client();
    client.create("kept", 2, &[]);
    for partition in 0..2 {
        assert_eq!(client.produce("kept", partition, value_batch(b"v")).unwrap().code, 0);
    }
    server.kill();
    let mut server = Server::start(&data, &[]);
    let line = told(&server);
    assert!(
        line.contains("unclean: the process ended without a clean stop")
            && line.contains("partitions_to_come=2"),
        "{line}"
    );
    assert!(!line.contains("read_bytes=0 ") && line.contains("read_bytes="), "{line}");
    server.ask_to_stop();
    assert!(server.ended().success());
    let server = Server::start(&data, &[]);
    let line = told(&server);
    assert!(line.contains("last_stop=\"clean\"") && line.contains("partitions_to_come=2"), "{line}");
}
