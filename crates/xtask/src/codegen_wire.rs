//! Kafka codec from `protocol/kafka`: structs, dispatch, API table and `docs/supported-apis.md`.
use crate::codegen_proto::root;
use crate::codegen_wire_schema::{Kind, Protocol, snake};
use crate::{codegen_wire_structs, codegen_wire_table};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const GENERATED: &str = "crates/wire/src/generated";

/// Writes the generated files and removes those whose message is gone.
pub(crate) fn run() -> Result<()> {
    let files = generate()?;
    let dir = root().join(GENERATED);
    std::fs::create_dir_all(&dir)?;
    for stale in present(&dir)?.into_iter().filter(|path| !files.contains_key(path)) {
        std::fs::remove_file(root().join(stale))?;
    }
    for (path, text) in files {
        let path = root().join(path);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Paths, relative to the root, whose content is not what would be generated.
pub(crate) fn drift() -> Result<Vec<PathBuf>> {
    let files = generate()?;
    let mut drifted: Vec<PathBuf> =
        present(&root().join(GENERATED))?.into_iter().filter(|path| !files.contains_key(path)).collect();
    for (path, text) in &files {
        if std::fs::read_to_string(root().join(path)).ok().as_ref() != Some(text) {
            drifted.push(path.clone());
        }
    }
    Ok(drifted)
}

fn present(dir: &Path) -> Result<Vec<PathBuf>> {
    let names = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    Ok(names.filter_map(|e| e.ok()).map(|e| Path::new(GENERATED).join(e.file_name())).collect())
}

fn generate() -> Result<BTreeMap<PathBuf, String>> {
    let dir = root().join("protocol/kafka");
    let protocol = Protocol::load(&dir).map_err(|e| anyhow!(e))?;
    for api in &protocol.apis {
        for suffix in ["Request", "Response"] {
            let name = format!("{}{suffix}", api.name);
            protocol.message(&name).with_context(|| format!("{name} is served and has no schema"))?;
        }
    }
    let mut files = BTreeMap::new();
    let generated = Path::new(GENERATED);
    files.insert(generated.join("mod.rs"), format(&codegen_wire_table::emit_mod(&protocol))?);
    files.insert(generated.join("dispatch.rs"), format(&codegen_wire_table::emit_dispatch(&protocol))?);
    for message in protocol.messages.iter().filter(|message| message.kind != Kind::Header) {
        let file = generated.join(format!("{}.rs", snake(&message.name)));
        files.insert(file, format(&codegen_wire_structs::emit(message)).context(message.name.clone())?);
    }
    let served = std::fs::read_to_string(dir.join("served.txt"))?;
    files.insert("docs/supported-apis.md".into(), codegen_wire_table::emit_docs(&protocol, &served));
    Ok(files)
}

fn format(code: &str) -> Result<String> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("rustfmt, a component of the toolchain")?;
    let mut stdin = rustfmt.stdin.take().context("piped")?;
    let code = code.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(code.as_bytes()));
    let output = rustfmt.wait_with_output()?;
    writing.join().map_err(|_| anyhow!("the thread that feeds rustfmt panicked"))??;
    if !output.status.success() {
        bail!("rustfmt refuses generated code");
    }
    Ok(String::from_utf8(output.stdout)?)
}
