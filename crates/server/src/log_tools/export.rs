//! `plimsoll log export --kafka`: partitions as plain segment files of Apache Kafka.
use super::names::{dir_of, partitions};
use super::offline::{DataDir, Offline};
use anyhow::{Context, bail};
use clap::Args;
use model::{GroupKey, TopicId};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use storage::EntryKind;
use storage::inspect::{GroupReport, frames, group_states, verify_group};

/// What to export, and where to.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Write segment files of Apache Kafka
    #[arg(long, required = true)]
    kafka: bool,
    /// A data directory (log.dirs)
    dir: PathBuf,
    /// Where to write: a new directory for each partition, `topic-0/00000000000000000000.log`
    out: PathBuf,
    /// Only partitions whose name contains this
    #[arg(long)]
    only: Option<String>,
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let dir = DataDir::open(&args.dir)?;
    let states = group_states(&dir.disk)?;
    let mut due = Vec::new();
    for (key, name) in partitions(&dir.disk, &states, args.only.as_deref())? {
        if key.topic != TopicId::METADATA {
            due.push((key, args.out.join(&name), name));
        }
    }
    // Everything that can be refused is refused before the first byte is written.
    for (_, out, _) in &due {
        if out.exists() {
            bail!(
                "{}: is there already; nothing was written. Name a directory without it, or remove it",
                out.display()
            );
        }
    }
    let mut reports = Vec::new();
    for (key, _, name) in &due {
        let state = states.iter().find(|state| state.key == *key);
        let report = verify_group(&dir.disk, &dir_of(&states, *key), *key, state)?;
        if !report.is_clean() {
            let data = args.dir.display();
            bail!("{name} is damaged; nothing was written. `plimsoll log verify {data}` says where");
        }
        reports.push(report);
    }
    let mut bytes = 0;
    for ((key, out, name), report) in due.iter().zip(&reports) {
        bytes += partition(&dir.disk, *key, report, out)?;
        eprintln!("{name}: written");
    }
    println!("{} partitions, {bytes} bytes in {}", due.len(), args.out.display());
    Ok(())
}

/// Writes one partition; a file of ours becomes a segment named by the offset of its first batch.
fn partition(disk: &Offline, key: GroupKey, report: &GroupReport, out: &Path) -> anyhow::Result<u64> {
    let mut written = 0;
    for file in &report.files {
        let mut segment = None;
        for next in frames(disk, &file.path)? {
            let next = next.with_context(|| key.to_string())?;
            let head = next.frame.header.head;
            if !next.follows || report.last_index.is_some_and(|last| head.index > last) {
                break;
            }
            if head.kind != EntryKind::Data {
                continue;
            }
            let segment = match &mut segment {
                Some(segment) => segment,
                none => none.insert(begin(out, head.base_offset)?),
            };
            segment.write_all(&next.frame.payload)?;
            written += next.frame.payload.len() as u64;
        }
        if let Some(mut segment) = segment {
            segment.flush()?;
        }
    }
    Ok(written)
}

fn begin(out: &Path, base_offset: i64) -> anyhow::Result<BufWriter<File>> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let path = out.join(format!("{base_offset:020}.log"));
    let file = File::create_new(&path).with_context(|| path.display().to_string())?;
    Ok(BufWriter::new(file))
}
