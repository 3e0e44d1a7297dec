//! The commands beside `serve`, against a broker of their own.
use crate::server::{Server, wait_for};
use crate::wire_client::value_batch;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Starts `plimsoll` against `server` with this standard input.
fn spawn(server: &Server, args: &[&str], input: &str) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(args)
        .env("PLIMSOLL_BOOTSTRAP_SERVER", server.kafka.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child
}

pub(crate) fn plimsoll(server: &Server, args: &[&str], input: &str) -> Output {
    spawn(server, args, input).wait_with_output().unwrap()
}

/// A data directory that no broker uses any more: a topic `a` of two partitions and a topic `b`.
fn left_behind(data: &Path) {
    let mut server = Server::start(data, &[]);
    let mut client = server.client();
    client.create("a", 2, &[]);
    client.create("b", 1, &[]);
    for (topic, partition) in [("a", 0), ("a", 1), ("b", 0)] {
        assert_eq!(client.produce(topic, partition, value_batch(b"v")).unwrap().code, 0);
    }
    server.ask_to_stop();
    assert!(server.ended().success());
}

/// Runs `plimsoll log` with these arguments.
fn log(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll")).arg("log").args(args).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[ignore = "needs a broker"]
fn what_precedes_a_bad_line_is_acknowledged_before_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let topic = server.client().create("t", 3, &[]);
    for acks in ["all", "1", "0"] {
        let output =
            plimsoll(&server, &["produce", "t", "-k", ":", "--acks", acks], "a:1\nb:2\nc:3\nnone\nd:4\n");
        assert_eq!(output.status.code(), Some(1));
        let reached = if acks == "0" { "sent" } else { "acknowledged" };
        let wanted =
            format!("error: 3 records {reached}, then: line 4: `none` has no key: `:` is not in it\n");
        assert_eq!(said(&output), wanted);
    }
    let mut client = server.client();
    let held: usize = (0..3).map(|partition| client.read_all(topic, partition).len()).sum();
    assert_eq!(held, 9);
}

#[test]
#[ignore = "needs a broker"]
fn log_tools_take_a_data_directory_and_say_so_where_they_get_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    left_behind(&data);
    let path = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let (root, groups) = (path(""), path("groups"));
    let all = printed(&log(&["dump", &root]));
    for name in ["  a-0\n", "  a-1\n", "  b-0\n", "  metadata-0\n"] {
        assert!(all.contains(name), "{name} in {all}");
    }
    assert!(!all.contains("state-"), "{all}");
    let one = printed(&log(&["dump", &root, "--only", "b-0", "--format", "json"]));
    let line: serde_json::Value = serde_json::from_str(one.lines().next().unwrap()).unwrap();
    assert_eq!(line["partition"], "b-0");
    for command in [&["dump"][..], &["verify"], &["export", "--kafka"]] {
        let out = path("out");
        let rest = if command[0] == "export" { vec![out.as_str()] } else { vec![] };
        let refused = log(&[command, &[&root], &rest, &["--only", "c"]].concat());
        assert!(said(&refused).contains("there are: "), "{}", said(&refused));
        let wrong = log(&[command, &[&groups], &rest].concat());
        assert_eq!(wrong.status.code(), Some(1));
        assert!(said(&wrong).contains("data directory"), "{}", said(&wrong));
    }
    assert!(said(&log(&["verify", &groups])).contains(data.to_str().unwrap()));
    let state = log(&["dump", &path("state-0.log")]);
    assert!(!state.status.success() && said(&state).contains("the state log"), "{}", said(&state));
}

#[test]
#[ignore = "needs a broker"]
fn an_export_that_would_fail_half_way_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    left_behind(&data);
    std::fs::create_dir_all(out.join("b-0")).unwrap();
    let (root, to) = (data.to_str().unwrap(), out.to_str().unwrap());
    let refused = log(&["export", "--kafka", root, to]);
    assert!(said(&refused).contains("b-0: is there already; nothing was written"), "{}", said(&refused));
    let names = || std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names(), ["b-0"]);
    assert!(printed(&log(&["export", "--kafka", root, to, "--only", "a-"])).starts_with("2 partitions"));
    assert_eq!(names().len(), 3);
}

#[test]
#[ignore = "needs a broker"]
fn no_command_outlasts_its_timeout() {
    // It takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for command in [
        &["topic", "list"][..],
        &["topic", "create", "t"],
        &["group", "list"],
        &["produce", "t"],
        &["consume", "t"],
    ] {
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        let output = child.args(command).args(["-b", &address, "--timeout", "1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{command:?}: {:?}", begun.elapsed());
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_batch_that_is_not_answered_ends_produce_in_its_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let topic = server.client().create("t", 1, &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.args(["produce", "t", "--timeout", "1", "-b", &server.kafka.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    writeln!(lines, "answered").unwrap();
    let mut client = server.client();
    wait_for("the first record", || (client.read_all(topic, 0).len() == 1).then_some(()));
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &server.pid().to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    let begun = Instant::now();
    writeln!(lines, "not answered").unwrap();
    let output = child.wait_with_output().unwrap();
    signal("-CONT");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(said(&output).contains("1 record acknowledged, then"), "{}", said(&output));
}

#[test]
#[ignore = "needs a broker"]
fn an_offset_outside_the_log_is_told_with_where_it_was_moved_to() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut client = server.client();
    client.create("t", 1, &[]);
    for _ in 0..5 {
        assert_eq!(client.produce("t", 0, value_batch(b"v")).unwrap().code, 0);
    }
    let reset = ["group", "reset-offsets", "g", "--topic", "t", "--execute"];
    let told = |args: &[&str]| {
        let output = plimsoll(&server, args, "");
        printed(&output);
        said(&output)
    };
    assert_eq!(told(&[&reset[..], &["--to", "5"]].concat()), "");
    let end = "t-0: 99999 is outside the log, clamped to 5, its end.\n";
    assert_eq!(told(&[&reset[..], &["--to", "99999"]].concat()), end);
    let start = "t-0: -2 is outside the log, clamped to 0, its start.\n";
    assert_eq!(told(&[&reset[..5], &["--execute", "--shift", "-7"]].concat()), start);
    assert_eq!(told(&["topic", "trim", "t", "--before", "2"]), "");
    let below = "t-0: 1 is outside the log, clamped to 2, its start.\n";
    assert_eq!(told(&["topic", "trim", "t", "--before", "1"]), below);
    let past = "t-0: 99 is outside the log, clamped to 5, its end.\n";
    assert_eq!(told(&["topic", "trim", "t", "--before", "99"]), past);
    for natural in ["-100", "latest"] {
        assert_eq!(told(&["topic", "trim", "t", "--before", natural]), "");
    }
}
