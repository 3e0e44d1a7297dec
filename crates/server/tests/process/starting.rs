//! What `plimsoll serve` says when it starts, and when it cannot.
use crate::server::{Server, command};
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
fn a_port_in_use_is_told_once_with_what_to_do() {
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
    }
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
