//! Child processes: run to the end, run with a time limit, stop politely.
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a command with our own output streams; an error names it and its exit status.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?}: {status}") }
}

/// Runs a command without showing its output unless it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(40)..];
    bail!("{command:?}: {}\n{}", output.status, tail.join("\n"))
}

/// Runs a command and hands over each line that it prints; true if it ended well in time.
pub(crate) fn lines(command: &mut Command, limit: Duration, mut each: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let stdout = child.stdout.take().context("the child's output was asked for")?;
    let (sender, receiver) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + limit;
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => each(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                bail!("{command:?}: stopped after {} s", limit.as_secs());
            }
        }
    }
    let fine = child.wait()?.success();
    reader.join().ok();
    Ok(fine)
}

/// Asks a process to end, waits, and kills it if it does not listen.
pub(crate) fn stop(child: &mut Child, patience: Duration) -> Result<()> {
    let asked = Command::new("kill").arg(child.id().to_string()).status()?;
    let end = Instant::now() + patience;
    while asked.success() && Instant::now() < end {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    bail!("process {} did not end within {} s of SIGTERM", child.id(), patience.as_secs())
}
