//! The broker's process.
use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How a broker is started, again and again on the same port and data.
pub(crate) struct Broker {
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    port: u16,
    http_port: u16,
    child: Option<Child>,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Broker {
    pub(crate) fn new(program: &Path, data: PathBuf, log: PathBuf) -> Result<Broker> {
        if !program.exists() {
            bail!("{} is missing: cargo build --release -p plimsoll-server", program.display());
        }
        let (port, http_port) = (free_port()?, free_port()?);
        Ok(Broker { program: program.to_path_buf(), data, log, port, http_port, child: None })
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(["serve", "--listener", &format!("PLAINTEXT://{}", self.address())])
            .args(["--http-listener", &format!("127.0.0.1:{}", self.http_port)])
            .arg("--data-dir")
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// An error if the process ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            bail!("the broker ended by itself ({status}); see {}", self.log.display());
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
