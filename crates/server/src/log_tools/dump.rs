//! `plimsoll log dump`: the entries of one data file, of a partition, or of a whole data directory.
use super::names::{dir_of, partitions};
use super::offline::{DataDir, Offline, is_data_dir};
use crate::admin::format::Format;
use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};
use std::path::{Path, PathBuf};
use storage::inspect::{FrameAt, frames, group_states};
use storage::{DiskRead, EntryKind};

/// Most bytes that a batch's records may take decompressed.
const DECOMPRESSED: usize = 256 << 20;
/// Bytes of a key or value that are shown.
const SHOWN: usize = 200;
/// Beside the partitions in a data directory, of another format.
const STATE_LOG: [&str; 2] = ["state-0.log", "state-1.log"];

/// What to dump.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// A data file (.log), the directory of one partition below groups/, or a data directory (log.dirs)
    path: PathBuf,
    /// Of a data directory: only partitions whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Print records, not only batches
    #[arg(long)]
    records: bool,
    /// Shape of the output; json is one document a line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &DumpArgs) -> anyhow::Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    if is_data_dir(&args.path) {
        let dir = DataDir::open(&args.path)?;
        // Whoever dumps may do so because something is damaged: names are not worth a refusal.
        let states = group_states(&dir.disk).unwrap_or_default();
        for (key, name) in partitions(&dir.disk, &states, args.only.as_deref())? {
            for file in data_files(&args.path.join(dir_of(&states, key)))? {
                dump(&file, Some(&name), args, &mut out)?;
            }
        }
        return Ok(out.flush()?);
    }
    if args.only.is_some() {
        bail!("{}: --only picks partitions of a data directory, and this is none", args.path.display());
    }
    if !args.path.exists() {
        bail!("{}: there is no such file or directory", args.path.display());
    }
    let files = if args.path.is_file() { vec![args.path.clone()] } else { data_files(&args.path)? };
    if files.is_empty() {
        bail!(
            "{}: no data file (like 00000000000000000002.log) there\n  \
             give a data file, a partition's directory below groups/, or the data directory",
            args.path.display()
        );
    }
    for file in files {
        dump(&file, None, args, &mut out)?;
    }
    Ok(out.flush()?)
}

/// A data file's name is the index of its first entry.
fn is_data_file(name: &str) -> bool {
    name.strip_suffix(".log").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The data files of a partition's directory, oldest first.
fn data_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let names = Offline::new(path).list("")?;
    Ok(names.iter().filter(|name| is_data_file(name)).map(|name| path.join(name)).collect())
}

fn dump(file: &Path, partition: Option<&str>, args: &DumpArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let name = file.file_name().and_then(|name| name.to_str()).context("a file without a name")?;
    if STATE_LOG.contains(&name) {
        bail!("{}: the state log is no data file; `plimsoll log verify` reads it", file.display());
    }
    let disk = Offline::new(file.parent().unwrap_or(Path::new(".")));
    let table = args.format == Format::Table;
    match partition {
        _ if !table => {}
        Some(partition) => writeln!(out, "{}  {partition}", file.display())?,
        None => writeln!(out, "{}", file.display())?,
    }
    let mut walk = frames(&disk, name)?;
    let mut any = false;
    for next in walk.by_ref() {
        let next = next?;
        any = true;
        if !next.follows {
            writeln!(
                out,
                "{}",
                end(table, next.pos, "what follows is left over from an earlier use of the file")
            )?;
            return Ok(());
        }
        entry(&next, file, partition, args, out)?;
    }
    if let Some(why) = walk.ended_by() {
        writeln!(out, "{}", end(table, walk.pos(), &why.to_string()))?;
        if !any && !is_data_file(name) {
            bail!("{}: this is no data file; they are named like 00000000000000000002.log", file.display());
        }
    }
    Ok(())
}

fn end(table: bool, pos: u64, why: &str) -> String {
    if table {
        format!("  {pos}: end of the log here: {why}")
    } else {
        json!({ "end": pos, "why": why }).to_string()
    }
}

fn entry(
    at: &FrameAt,
    file: &Path,
    partition: Option<&str>,
    args: &DumpArgs,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let head = at.frame.header.head;
    let batches =
        if head.kind == EntryKind::Data { batches(&at.frame.payload, args.records) } else { vec![] };
    if args.format == Format::Json {
        let document = json!({
            "partition": partition,
            "file": file.display().to_string(),
            "pos": at.pos,
            "bytes": at.frame.raw.len(),
            "index": head.index,
            "term": head.term,
            "kind": format!("{:?}", head.kind),
            "base_offset": head.base_offset,
            "offset_count": head.offset_count,
            "append_time": head.append_time,
            "crc": at.frame.header.crc,
            "batches": batches,
        });
        return Ok(writeln!(out, "{document}")?);
    }
    writeln!(
        out,
        "  {}: index {} term {} {:?} offset {} count {} time {} bytes {} crc {:08x}",
        at.pos,
        head.index,
        head.term,
        head.kind,
        head.base_offset,
        head.offset_count,
        head.append_time,
        at.frame.raw.len(),
        at.frame.header.crc
    )?;
    for batch in &batches {
        line(out, "    batch", batch)?;
        for record in batch["records"].as_array().into_iter().flatten() {
            line(out, "      record", record)?;
        }
    }
    Ok(())
}

/// `name value` pairs of a document's plain fields.
fn line(out: &mut impl Write, what: &str, document: &Value) -> std::io::Result<()> {
    write!(out, "{what}")?;
    for (name, value) in document.as_object().into_iter().flatten().filter(|(name, _)| *name != "records") {
        write!(out, " {name} {value}")?;
    }
    writeln!(out)
}

fn batches(payload: &Bytes, with_records: bool) -> Vec<Value> {
    let mut found = Vec::new();
    for batch in records::fetched_batches(payload.clone()) {
        let Ok((header, bytes)) = batch else { break };
        let mut document = json!({
            "base_offset": header.base_offset,
            "last_offset": header.last_offset(),
            "count": header.record_count,
            "codec": header.codec().map_or_else(|e| e.to_string(), |codec| codec.name().to_owned()),
            "epoch": header.partition_leader_epoch,
            "timestamp": header.max_timestamp,
            "producer_id": header.producer_id,
            "producer_epoch": header.producer_epoch,
            "sequence": header.base_sequence,
            "transactional": header.is_transactional(),
            "control": header.is_control(),
            "bytes": header.size_in_bytes(),
        });
        if with_records {
            document["records"] = records_of(&bytes);
        }
        found.push(document);
    }
    found
}

fn records_of(batch: &Bytes) -> Value {
    let shown = |bytes: &Bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    let document = |record: Result<records::Record, records::BatchError>| match record {
        Ok(record) => json!({
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": record.key.as_ref().map(shown),
            "value": record.value.as_ref().map(shown),
            "headers": record.headers.len(),
        }),
        Err(error) => json!({ "damaged": error.to_string() }),
    };
    match records::records(batch, DECOMPRESSED) {
        Ok(found) => found.map(document).collect(),
        Err(error) => json!([{ "damaged": error.to_string() }]),
    }
}
