//! `cargo xtask golden`: frames as Apache Kafka's own classes serialise them, into `tests/golden`.
use crate::codegen_proto::root;
use crate::install::{self, Need};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

const PROGRAM: &str = "tests/clients/java/golden/GoldenFrames.java";
const HEAD: &str = "# Frames that the classes of Apache Kafka 4.4.0 serialised: `cargo xtask golden` writes them anew.\n\
                    # NAME KIND VERSION FILLED-OR-DEFAULT HEX (data messages: with their version in front)\n";

fn file(root: &Path) -> PathBuf {
    root.join("tests/golden/kafka-4.4.0.txt")
}

fn frames(root: &Path) -> Result<String> {
    install::install(root, Need::KafkaBroker)?;
    let mut command = install::java(root, install::KAFKA_BROKER);
    let protocol = root.join("protocol/kafka");
    command.arg(root.join(PROGRAM)).arg(protocol.join("served.txt")).arg(protocol.join("unserved.txt"));
    let done = command.output().with_context(|| format!("{command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(format!("{HEAD}{}", String::from_utf8(done.stdout)?))
}

/// Writes the file.
pub(crate) fn run() -> Result<()> {
    let root = root();
    std::fs::write(file(&root), frames(&root)?)?;
    Ok(())
}

/// Fails when the file is not what Kafka's classes give now.
pub(crate) fn check(root: &Path) -> Result<()> {
    let (held, now) = (std::fs::read_to_string(file(root))?, frames(root)?);
    let differs = held.lines().zip(now.lines()).find(|(held, now)| held != now);
    match differs {
        Some((held, _)) => bail!("`{:.60}...` is not what Kafka serialises: cargo xtask golden", held),
        None if held.len() != now.len() => bail!("frames are missing or too many: cargo xtask golden"),
        None => Ok(()),
    }
}
