//! `cargo xtask docs`: writes every generated page. Tests compare the pages with what is checked in.
use crate::cargo_cmd::{cargo, none_left};
use crate::{codegen_proto, codegen_wire, process};
use anyhow::Result;

/// Each page's test writes it when this variable is set.
const WRITE: &str = "PLIMSOLL_WRITE_DOCS";

/// Packages whose tests write pages, and the filter that picks those tests.
const PAGES: [(&str, &[&str]); 2] = [
    ("plimsoll-cluster", &["--test", "docs"]), // docs/configuration.md and the samples of config/
    ("plimsoll-broker", &["--lib", "metrics"]), // docs/metrics.md
];

/// Writes `docs/supported-apis.md`, `docs/configuration.md`, `docs/metrics.md` and the sample configurations.
pub(crate) fn run(args: &[String]) -> Result<()> {
    none_left(args)?;
    codegen_proto::run()?;
    codegen_wire::run()?;
    for (package, filter) in PAGES {
        process::run_quietly(cargo(&["test", "-q", "-p", package]).args(filter).env(WRITE, "1"))?;
    }
    println!("docs: written; `git diff docs config` shows what changed");
    Ok(())
}
