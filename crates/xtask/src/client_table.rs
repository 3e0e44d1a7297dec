//! The table client by check, printed at the end and kept in `docs/clients.md`.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::brokers::Kind;

/// One check of one client against one broker.
pub(crate) struct Cell {
    pub(crate) check: String,
    pub(crate) codec: Option<String>,
    /// None: the client has no way to do it.
    pub(crate) ok: Option<bool>,
    pub(crate) detail: String,
    pub(crate) seconds: f64,
}

impl Cell {
    /// The column: a codec has one of its own.
    pub(crate) fn name(&self) -> String {
        self.codec.clone().unwrap_or_else(|| self.check.clone())
    }
}

/// Results of this run.
#[derive(Default)]
pub(crate) struct ClientTable {
    versions: BTreeMap<String, String>,
    cells: BTreeMap<(String, String, Kind), Cell>,
}

const COLUMNS: [&str; 18] = [
    "keys",
    "nulls",
    "headers",
    "none",
    "gzip",
    "snappy",
    "lz4",
    "zstd",
    "sizes",
    "bulk",
    "assign",
    "subscribe",
    "resume",
    "rebalance",
    "time",
    "transactions",
    "consumer-protocol",
    "transaction-loop",
];
/// Suites with checks of their own: a table for each.
const OTHERS: [&str; 7] =
    ["kafka-tools", "kafka-java", "kafka-streams", "kafka-connect", "offsets-topic", "flink", "spark"];

impl ClientTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(crate) fn version(&mut self, client: &str, version: &str) {
        self.versions.insert(client.to_owned(), version.to_owned());
    }

    pub(crate) fn set(&mut self, client: &str, kind: Kind, cell: Cell) {
        self.cells.insert((client.to_owned(), cell.name(), kind), cell);
    }

    pub(crate) fn fails(&self, client: &str, check: &str, kind: Kind) -> bool {
        self.cell(client, check, kind).is_some_and(|cell| cell.ok == Some(false))
    }

    fn cell(&self, client: &str, check: &str, kind: Kind) -> Option<&Cell> {
        self.cells.get(&(client.to_owned(), check.to_owned(), kind))
    }

    fn mark(&self, client: &str, check: &str) -> String {
        let one = |kind| match self.cell(client, check, kind).map(|cell| cell.ok) {
            Some(Some(true)) => "\u{2713}",
            Some(Some(false)) => "\u{2717}",
            Some(None) => "n/a",
            None => "\u{b7}",
        };
        format!("{} {} {}", one(Kind::Plimsoll), one(Kind::Apache), one(Kind::ThreeNodes))
    }

    /// Markdown: one table of the clients, one for each suite with checks of its own, then the reasons.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let mut clients: Vec<_> = self.cells.keys().map(|(client, ..)| client.as_str()).collect();
        clients.dedup();
        let (others, clients): (Vec<&str>, Vec<&str>) =
            clients.into_iter().partition(|name| OTHERS.contains(name));
        if !clients.is_empty() {
            self.render_clients(&clients, &mut text);
        }
        for name in others {
            self.render_checks(name, &mut text);
        }
        self.render_reasons(&mut text);
        text
    }

    fn title(&self, client: &str) -> String {
        let version = self.versions.get(client).map(String::as_str).unwrap_or_default();
        format!("{client} {version}").trim_end().to_owned()
    }

    fn render_clients(&self, clients: &[&str], text: &mut String) {
        let _ = writeln!(text, "| client | {} |", COLUMNS.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(COLUMNS.len()));
        for client in clients {
            let marks = COLUMNS.map(|column| self.mark(client, column));
            let _ = writeln!(text, "| {} | {} |", self.title(client), marks.join(" | "));
        }
    }

    fn render_checks(&self, client: &str, text: &mut String) {
        let mut checks: Vec<_> =
            self.cells.keys().filter(|(name, ..)| name == client).map(|(_, check, _)| check).collect();
        checks.dedup();
        let _ = writeln!(text, "\n| {} | |\n|---|---|", self.title(client));
        for check in checks {
            let _ = writeln!(text, "| {check} | {} |", self.mark(client, check));
        }
    }

    fn render_reasons(&self, text: &mut String) {
        for ((client, check, kind), cell) in self.cells.iter().filter(|(_, cell)| cell.ok != Some(true)) {
            let _ = writeln!(text, "\n{client} {check}, {kind:?}: {}", cell.detail);
        }
    }

    /// Replaces the page.
    pub(crate) fn write(&self, path: &Path, records: u32) -> Result<()> {
        let page = format!(
            "# Clients\n\nWritten by `cargo xtask test --full` (`--write-docs` writes it after any run). Each \
             cell holds three marks: one node of Plimsoll, Apache Kafka 4.4.0, three nodes of Plimsoll with three replicas of \
             each topic. \u{2713} passed, \u{2717} failed, n/a the client has no way to do it, \u{b7} not run. `bulk` sent and read {records} records. What each check does: \
             `tests/clients/README.md`.\n\n{}",
            self.render()
        );
        std::fs::write(path, page).with_context(|| path.display().to_string())
    }
}
