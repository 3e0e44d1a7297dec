//! Ways to a broker's nodes on which connections are reset: a process of `tests/clients/python/resets.py`.
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Fewer than these, and the check was not what it says.
const FEWEST: u64 = 10;

pub(crate) struct Ways {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Ways {
    /// Each pair is the port that clients connect to and the node's own.
    pub(crate) fn open(root: &Path, pairs: &[(u16, u16)]) -> Result<Self> {
        let mut command = Command::new("python3");
        command.arg(root.join("tests/clients/python/resets.py"));
        command.args(pairs.iter().map(|(listen, to)| format!("{listen}:{to}")));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("its input was asked for")?;
        let output = BufReader::new(child.stdout.take().context("its output was asked for")?);
        let mut ways = Self { child, input, output };
        let said = ways.line()?;
        ensure!(said == "ready", "the ways to the broker said {said:?}");
        Ok(ways)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// `reset`: from now on all connections are reset every second. `stay`: none is; an error if hardly any was.
    pub(crate) fn tell(&mut self, what: &str) -> Result<()> {
        writeln!(self.input, "{what}")?;
        if what == "stay" {
            let resets: u64 = self.line()?.parse().context("a number of resets")?;
            println!("   {resets} connections reset");
            ensure!(resets >= FEWEST, "only {resets} connections were reset");
        }
        Ok(())
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The properties of a node that tells clients to connect to `told`. Other nodes come by a listener of their own.
pub(crate) fn behind(properties: &str, told: u16, inner: u16) -> String {
    let line = |line: &str| match line.strip_prefix("listeners=") {
        Some(listeners) => format!(
            "listeners={listeners},INNER://127.0.0.1:{inner}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{told},INNER://127.0.0.1:{inner}\n\
             inter.broker.listener.name=INNER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        ),
        None => format!("{line}\n"),
    };
    properties.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::behind;

    #[test]
    fn clients_are_told_another_port_and_nodes_are_not() {
        let text = behind("node.id=1\nlisteners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n", 3, 4);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "node.id=1");
        assert_eq!(
            lines[1],
            "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,INNER://127.0.0.1:4"
        );
        assert_eq!(lines[2], "advertised.listeners=PLAINTEXT://127.0.0.1:3,INNER://127.0.0.1:4");
    }
}
