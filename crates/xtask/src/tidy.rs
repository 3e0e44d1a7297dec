//! `cargo xtask tidy`: the style rules that no lint knows, as a check. Each finding prints its rule's reason.
use crate::codegen_proto::root;
use crate::tidy_source::{Function, Source};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Crates that are state machines: time, files, network and chance come in as inputs or effects.
const PURE: [&str; 11] = [
    "model",
    "records",
    "wire",
    "proto",
    "peer",
    "storage",
    "consensus",
    "partition",
    "cluster",
    "coordinator",
    "node",
];

/// Workspace crates that each pure crate may name: the arrows of the architecture, which only point down.
const ARROWS: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("records", &["model"]),
    ("wire", &["model"]),
    ("proto", &[]),
    ("peer", &["model", "proto"]),
    ("storage", &["model", "records", "proto"]),
    ("consensus", &["model", "records", "proto", "storage"]),
    ("partition", &["model", "records", "proto", "storage", "consensus"]),
    ("cluster", &["model", "proto"]),
    ("coordinator", &["model", "proto"]),
    (
        "node",
        &["model", "records", "proto", "peer", "storage", "consensus", "partition", "cluster", "coordinator"],
    ),
];

/// Crates of which one alone may depend on a thing.
const CONFINED: [(&str, &[&str]); 3] =
    [("raft", &["consensus"]), ("memmap2", &["storage"]), ("tokio", &["broker", "server", "client-lite"])];

const PURITY: &str =
    "pure crates run in the simulator, from a seed: what they do may depend on their inputs only";
const CLOCK: &str = "time comes in as `model::Now`; a clock read here cannot be replayed";
const CHANCE: &str = "randomness comes in as a seed, or two runs of one seed differ";

/// What pure code must not name, and why.
const BANNED: [(&str, &str); 11] = [
    ("Instant::now", CLOCK),
    ("SystemTime::now", CLOCK),
    ("std::fs", "files are effects of `storage::Disk`; only storage/src/disk touches them"),
    ("std::net", PURITY),
    ("std::thread", PURITY),
    ("std::env", PURITY),
    ("tokio", "the shell is async, the core is not"),
    ("async fn", "the shell is async, the core is not"),
    (".await", "the shell is async, the core is not"),
    ("rand::", CHANCE),
    ("thread_rng", CHANCE),
];

/// A broken rule.
struct Finding {
    rule: &'static str,
    reason: &'static str,
    place: String,
}

/// Checks the tree; fails with all findings, grouped by rule.
pub(crate) fn run() -> Result<()> {
    let sources = sources()?;
    let mut findings = Vec::new();
    for source in &sources {
        lengths(source, &mut findings);
        markers(source, &mut findings);
        purity(source, &mut findings);
        test_names(source, &mut findings);
    }
    dead_files(&sources, &mut findings);
    manifests(&mut findings)?;
    clippy_files(&mut findings)?;
    report(findings, sources.len())
}

fn report(mut findings: Vec<Finding>, files: usize) -> Result<()> {
    if findings.is_empty() {
        println!("tidy: {files} files, nothing to report");
        return Ok(());
    }
    findings.sort_by(|a, b| (a.rule, a.reason, &a.place).cmp(&(b.rule, b.reason, &b.place)));
    let mut last = ("", "");
    for finding in &findings {
        if (finding.rule, finding.reason) != last {
            println!("\n{}\n  why: {}", finding.rule, finding.reason);
            last = (finding.rule, finding.reason);
        }
        println!("  {}", finding.place);
    }
    bail!("tidy: {} findings", findings.len())
}

/// Every Rust file of ours, with its path from the root.
fn sources() -> Result<Vec<Source>> {
    let root = root();
    let mut paths = Vec::new();
    let mut dirs = vec![root.join("crates"), root.join("tests"), root.join("jepsen"), root.join("fuzz")];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.filter_map(|entry| entry.ok()) {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && name != "node_modules" {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let path = path.strip_prefix(&root)?.to_string_lossy().into_owned();
        Ok(Source::new(path, &text))
    };
    paths.into_iter().map(read).collect()
}

fn lengths(source: &Source, findings: &mut Vec<Finding>) {
    if source.is_generated() || source.is_test_file() {
        return;
    }
    let lines = source.code_lines();
    if lines > FILE_LINES {
        findings.push(Finding {
            rule: "a file has at most 600 lines, tests apart",
            reason: "one noun a file: a reader keeps the whole of it in mind",
            place: format!("{}: {lines} lines", source.path),
        });
    }
    for Function { name, line, lines } in source.functions() {
        if lines > FUNCTION_LINES {
            findings.push(Finding {
                rule: "a function has at most 70 lines",
                reason: "it fits a screen, and what does not has more than one purpose",
                place: format!("{}:{line}: {name} has {lines} lines", source.path),
            });
        }
    }
}

fn markers(source: &Source, findings: &mut Vec<Finding>) {
    // Spelt in halves, so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (number, line) in source.lines() {
        if words.iter().any(|word| contains_word(line, word)) {
            findings.push(Finding {
                rule: "no markers of unfinished work",
                reason: "what is missing is an issue or an error value, not a remark that nobody reads",
                place: format!("{}:{number}: {}", source.path, line.trim()),
            });
        }
        if !line.is_ascii() {
            findings.push(Finding {
                rule: "source is ASCII",
                reason: "look-alike and invisible characters cannot hide in it; write \\u{..} where one is meant",
                place: format!("{}:{number}: {}", source.path, line.trim()),
            });
        }
    }
}

fn purity(source: &Source, findings: &mut Vec<Finding>) {
    let Some(name) = source.crate_name().filter(|name| PURE.contains(name)) else { return };
    let real_disk = source.path.starts_with("crates/storage/src/disk/");
    if real_disk || source.is_test_file() || !source.path.starts_with(&format!("crates/{name}/src/")) {
        return;
    }
    for (number, line) in source.production_lines() {
        for (banned, reason) in BANNED {
            if contains_word(line, banned) {
                findings.push(Finding {
                    rule: "pure crates name no clock, file, socket, thread or chance",
                    reason,
                    place: format!("{}:{number}: `{banned}`", source.path),
                });
            }
        }
    }
}

fn test_names(source: &Source, findings: &mut Vec<Finding>) {
    let mut attribute = "";
    for (number, line) in source.lines() {
        let line = line.trim();
        let before = std::mem::replace(&mut attribute, line);
        if before.ends_with("test]") && (line.starts_with("fn test_") || line.starts_with("async fn test_")) {
            findings.push(Finding {
                rule: "a test's name is a claim",
                reason: "`test_` says nothing, and a failing claim says what broke",
                place: format!("{}:{number}: {line}", source.path),
            });
        }
        // Those that need a broker are run by suites of their own, against ours and Apache Kafka.
        let run_elsewhere = line == format!("#[ignore = \"{}\"]", crate::broker_tests::NEEDS_A_BROKER);
        if line.starts_with("#[ignore") && !run_elsewhere {
            findings.push(Finding {
                rule: "no ignored tests",
                reason: "a test that does not run guards nothing and looks as if it did",
                place: format!("{}:{number}", source.path),
            });
        }
    }
}

fn dead_files(sources: &[Source], findings: &mut Vec<Finding>) {
    let mut named: BTreeSet<(&str, &str)> = BTreeSet::new();
    for source in sources {
        let Some(name) = source.crate_name() else { continue };
        named.extend(source.modules().map(|module| (name, module)));
    }
    for source in sources {
        let Some(name) = source.crate_name() else { continue };
        let Some(inner) = source.path.strip_prefix(&format!("crates/{name}/src/")) else { continue };
        let path = Path::new(inner);
        let stem = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod") => path.parent().and_then(|dir| dir.file_name()).and_then(|dir| dir.to_str()),
            other => other,
        };
        let root_file = matches!(inner, "lib.rs" | "main.rs") || inner.starts_with("bin/");
        let included = source.is_generated();
        if !root_file && !included && stem.is_some_and(|stem| !named.contains(&(name, stem))) {
            findings.push(Finding {
                rule: "every file is part of its crate",
                reason: "a file that no `mod` names is not compiled and not tested",
                place: source.path.clone(),
            });
        }
    }
}

fn manifests(findings: &mut Vec<Finding>) -> Result<()> {
    let crates = std::fs::read_dir(root().join("crates"))?;
    for entry in crates.filter_map(|entry| entry.ok()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(manifest) = std::fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        let dependencies = dependencies(&manifest);
        if let Some((_, allowed)) = ARROWS.iter().find(|(of, _)| *of == name) {
            let upward = dependencies
                .iter()
                .filter(|dep| PURE.contains(dep) || ["broker", "server", "sim", "client-lite"].contains(dep))
                .filter(|dep| !allowed.contains(dep));
            findings.extend(upward.map(|dep| Finding {
                rule: "dependency arrows only point down",
                reason: "a crate that knows what is above it cannot be tested or replaced without it",
                place: format!("crates/{name}/Cargo.toml: {dep}"),
            }));
        }
        for (dep, allowed) in CONFINED {
            if dependencies.contains(&dep) && !allowed.contains(&name.as_str()) {
                findings.push(Finding {
                    rule: "what is confined to one place stays there",
                    reason: "raft, mapped files and the async runtime are each hidden behind one seam",
                    place: format!("crates/{name}/Cargo.toml: {dep}"),
                });
            }
        }
    }
    Ok(())
}

/// The names below `[dependencies]`; what tests alone need is not the crate's knowledge.
fn dependencies(manifest: &str) -> Vec<&str> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect()
}

fn clippy_files(findings: &mut Vec<Finding>) -> Result<()> {
    let file = |name: &str| root().join("crates").join(name).join("clippy.toml");
    let model = std::fs::read_to_string(file("model")).context("crates/model/clippy.toml")?;
    for name in PURE {
        if std::fs::read_to_string(file(name)).ok().as_ref() != Some(&model) {
            findings.push(Finding {
                rule: "every pure crate has the clippy.toml of `model`",
                reason: "clippy resolves names, so it finds a banned call behind a `use` where this check cannot",
                place: format!("crates/{name}/clippy.toml"),
            });
        }
    }
    Ok(())
}

/// Whether `line` has `word` with no letter, digit or underscore in front; code only, comments are the caller's.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let open_ended = word.ends_with("::");
        !(word.starts_with(|c: char| c.is_alphabetic()) && part_of_name(before))
            && (open_ended || !part_of_name(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        assert!(contains_word("let x = rand::random();", "rand::"));
        assert!(!contains_word("operand::new()", "rand::"));
        assert!(contains_word("use std::fs;", "std::fs"));
        assert!(!contains_word("std::fsync_all()", "std::fs"));
        assert!(contains_word("x.await?", ".await"));
    }

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let manifest = "[package]\nname = \"a\"\n\n[dependencies]\nmodel.workspace = true\nraft = \"1\"\n\n[dev-dependencies]\ntokio = \"1\"\n";
        assert_eq!(dependencies(manifest), ["model", "raft"]);
    }
}
