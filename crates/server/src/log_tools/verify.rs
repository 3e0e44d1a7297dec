//! `plimsoll log verify`: every byte that a start or a fetch would rely on.
use super::names::{dir_of, partitions};
use super::offline::DataDir;
use crate::admin::format::FormatArgs;
use crate::admin::table::Table;
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use storage::inspect::{GroupReport, group_states, verify_group};

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A data directory (log.dirs)
    dir: PathBuf,
    /// Only partitions whose name contains this
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let dir = DataDir::open(&args.dir)?;
    let states = group_states(&dir.disk)?;
    let mut table = Table::new(&["PARTITION", "#FILES", "#ENTRIES", "#BYTES", "OFFSETS", "RESULT"]);
    let (mut rows, mut damaged) = (Vec::new(), 0);
    for (key, name) in partitions(&dir.disk, &states, args.only.as_deref())? {
        let state = states.iter().find(|state| state.key == key);
        let report = verify_group(&dir.disk, &dir_of(&states, key), key, state)?;
        damaged += usize::from(!report.is_clean());
        table.push(row(&name, &report));
        rows.push(document(&name, &report));
    }
    args.format.print(&table, &json!({ "partitions": rows, "damaged": damaged }))?;
    if damaged > 0 {
        bail!("{damaged} damaged; nothing was changed. Restore these partitions from a copy");
    }
    Ok(())
}

fn row(name: &str, report: &GroupReport) -> [String; 6] {
    let sum = |count: fn(&storage::inspect::FileReport) -> u64| report.files.iter().map(count).sum::<u64>();
    let (start, end) = offsets(report);
    [
        name.to_owned(),
        report.files.len().to_string(),
        sum(|file| file.frames).to_string(),
        sum(|file| file.bytes).to_string(),
        format!("{start} to {end}"),
        problems(report).first().cloned().unwrap_or_else(|| "good".to_owned()),
    ]
}

/// First and next offset.
fn offsets(report: &GroupReport) -> (i64, i64) {
    let held: Vec<_> = report.files.iter().filter(|file| file.frames > 0).map(|file| file.offsets).collect();
    let start = held.iter().map(|offsets| offsets.0).min();
    let end = held.iter().map(|offsets| offsets.1).max();
    (start.unwrap_or(0), end.unwrap_or(0))
}

fn problems(report: &GroupReport) -> Vec<String> {
    let damage = report.files.iter().filter_map(|file| file.damage.as_ref());
    let damage = damage.map(|d| format!("{} at byte {}: {}", d.file, d.pos, d.detail));
    report.refused.iter().cloned().chain(damage).collect()
}

fn document(name: &str, report: &GroupReport) -> Value {
    let file = |file: &storage::inspect::FileReport| {
        json!({
            "path": file.path,
            "entries": file.frames,
            "bytes": file.bytes,
            "first_offset": file.offsets.0,
            "next_offset": file.offsets.1,
        })
    };
    json!({
        "partition": name,
        "last_index": report.last_index,
        "checkpoint": report.checkpoint,
        "files": report.files.iter().map(file).collect::<Vec<_>>(),
        "problems": problems(report),
    })
}
