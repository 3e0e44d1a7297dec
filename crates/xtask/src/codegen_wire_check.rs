//! `cargo xtask codegen --check`: fails when checked-in code is not what the schemas give.
use crate::{codegen_proto, codegen_wire};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Fails with the list of files that drifted; leaves the tree as it was.
pub(crate) fn run() -> Result<()> {
    let mut drifted = codegen_wire::drift()?;
    let before = proto_files()?;
    codegen_proto::run()?;
    let after = proto_files()?;
    drifted.extend(
        after.iter().filter(|(path, text)| before.get(*path) != Some(text)).map(|(path, _)| path.clone()),
    );
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        std::fs::remove_file(path)?;
    }
    for (path, text) in before {
        std::fs::write(path, text)?;
    }
    if drifted.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = drifted
        .iter()
        .map(|path| format!("  {}", path.strip_prefix(codegen_proto::root()).unwrap_or(path).display()))
        .collect();
    bail!("generated files differ from their schemas; run `cargo xtask codegen`:\n{}", list.join("\n"))
}

fn proto_files() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let src = codegen_proto::root().join("crates/proto/src");
    let mut paths = vec![src.join("lib.rs")];
    for entry in std::fs::read_dir(src.join("generated"))? {
        paths.push(entry?.path());
    }
    paths.into_iter().map(|path| Ok((path.clone(), std::fs::read(path)?))).collect()
}
