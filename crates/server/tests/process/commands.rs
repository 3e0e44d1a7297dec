//! The commands beside `serve`, against a broker of their own.
use crate::server::Server;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

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

fn plimsoll(server: &Server, args: &[&str], input: &str) -> Output {
    spawn(server, args, input).wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
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
