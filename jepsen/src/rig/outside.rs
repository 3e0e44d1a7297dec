//! Clients that are not ours, as programs: they write the history as JSON lines.
use crate::recorder::{OTHERS, Recorder};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const JAVA: &str = include_str!("../../clients/RigClient.java");
const PYTHON: &str = include_str!("../../clients/rig_client.py");
/// How long the final read of such a client may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// Where other clients are found; without, they are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    /// The jars of Apache Kafka's clients.
    pub(crate) java: Option<PathBuf>,
    /// A python that has confluent-kafka.
    pub(crate) python: Option<PathBuf>,
}

/// What a client of another kind is told.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) keys: u32,
    pub(crate) workers: u32,
    pub(crate) pause_ms: u64,
    /// As `--workload` names it.
    pub(crate) workload: &'static str,
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless the run was given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outside {
    /// Starts those that are there. Their processes are numbered from one and two million.
    pub(crate) fn start(&self, dir: &Path, work: &Work, recorder: &Recorder) -> Result<Vec<Program>> {
        let mut programs = Vec::new();
        if let Some(jars) = &self.java {
            let source = dir.join("RigClient.java");
            std::fs::write(&source, JAVA)?;
            let mut command = Command::new("java");
            // Its file of figures would be that of a process of another rig, which has the same id in its own namespace.
            command.args([
                "-Xmx256m",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-XX:-UsePerfData",
                "-XX:-CreateCoredumpOnCrash",
            ]);
            command.arg(format!("-XX:ErrorFile={}", dir.join("java.crash").display())).arg("-cp");
            command.arg(jars.join("*")).arg(source);
            programs.push(start("java", command, dir, work, OTHERS, recorder)?);
        }
        if let Some(python) = &self.python {
            let source = dir.join("rig_client.py");
            std::fs::write(&source, PYTHON)?;
            let mut command = Command::new(python);
            command.arg(source);
            programs.push(start("librdkafka", command, dir, work, 2 * OTHERS, recorder)?);
        }
        Ok(programs)
    }
}

fn start(
    name: &'static str,
    mut command: Command,
    dir: &Path,
    work: &Work,
    first_process: u32,
    recorder: &Recorder,
) -> Result<Program> {
    command.args([&work.bootstrap, &work.topic]);
    command.args([work.keys, first_process, work.workers].map(|number| number.to_string()));
    command.arg(work.pause_ms.to_string()).arg(work.workload);
    let errors = File::create(dir.join(format!("{name}.err")))?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let output = child.stdout.take().context("the output of a client")?;
    let recorder = recorder.clone();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            recorder.push_text(name, &line);
        }
    });
    let input = child.stdin.take();
    Ok(Program { name, child, input, reader: Some(reader) })
}

impl Program {
    pub(crate) fn begin_final(&mut self) {
        if let Some(input) = &mut self.input {
            // One that has ended is found by `finish`.
            let _ = input.write_all(b"final\n");
        }
    }

    /// Waits for its end; what is wrong with it, in words.
    pub(crate) fn finish(mut self) -> Result<Option<String>> {
        let end = Instant::now() + PATIENCE;
        let wrong = loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => break None,
                Some(status) => break Some(format!("the {} client ended with {status}", self.name)),
                None if Instant::now() > end => {
                    // Where it stands is told to its file of errors.
                    let pid = rustix::process::Pid::from_child(&self.child);
                    rustix::process::kill_process(pid, rustix::process::Signal::ABORT)?;
                    std::thread::sleep(Duration::from_secs(1));
                    self.child.kill()?;
                    self.child.wait()?;
                    break Some(format!("the {} client did not end its final read", self.name));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let _ = self.reader.take().map(JoinHandle::join);
        Ok(wrong)
    }
}
