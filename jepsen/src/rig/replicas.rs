//! What each node has on its disk when all is over: the same entries, by their chain of checksums.
use anyhow::{Context, Result, bail};
use jepsen::history::Line;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One partition on one node.
#[derive(Clone, Debug, Default)]
struct Copy {
    /// Index, and a number for term and checksum. The checksum of a frame covers all frames before it.
    entries: Vec<(u64, u64)>,
    /// The offset after the last record.
    end: i64,
    /// Offset, count, producer and epoch of batches of later epochs of their producers.
    renumbered: Vec<(i64, u64, i64, i16)>,
}

/// The line of each replica of each key, over the entries that all of them have. `has` says which nodes must have
/// a key.
pub(crate) fn compare(
    broker: &Path,
    data: &[(u32, PathBuf)],
    topic: &str,
    keys: u32,
    has: impl Fn(u32, u32) -> bool,
) -> Result<Vec<Line>> {
    let mut copies: BTreeMap<u32, Vec<(u32, Copy)>> = BTreeMap::new();
    for (node, dir) in data {
        let mut found = read(broker, dir, topic).with_context(|| format!("the data of node {node}"))?;
        for key in (0..keys).filter(|key| has(*key, *node)) {
            let copy = found.remove(&format!("{topic}-{key}")).unwrap_or_default();
            copies.entry(key).or_default().push((*node, copy));
        }
    }
    let lines = copies.iter().flat_map(|(key, of_key)| lines_of(*key, of_key));
    Ok(lines.collect())
}

/// Keeps what `plimsoll log dump` says of each node in `node-N.dump`.
pub(crate) fn keep(broker: &Path, data: &[(u32, PathBuf)], topic: &str, to: &Path) -> Result<()> {
    for (node, dir) in data {
        let file = std::fs::File::create(to.join(format!("node-{node}.dump")))?;
        let mut command = Command::new(broker);
        command.args(["log", "dump", "--format", "json", "--records", "--only", topic]).arg(dir);
        command.stdout(file).status().with_context(|| format!("{command:?}"))?;
    }
    Ok(())
}

fn lines_of(key: u32, copies: &[(u32, Copy)]) -> Vec<Line> {
    // One without any entry has not been given what it should have: then nothing is equal.
    let held = || copies.iter().filter(|(_, copy)| !copy.entries.is_empty());
    let first = held().filter_map(|(_, copy)| copy.entries.first()).map(|(index, _)| *index).max();
    let last = held().filter_map(|(_, copy)| copy.entries.last()).map(|(index, _)| *index).min();
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let line = |(node, copy): &(u32, Copy)| {
        let sum = copy.entries.iter().filter(|(index, _)| (first..=last).contains(index)).fold(
            0xcbf2_9ce4_8422_2325u64,
            |sum, (index, entry)| {
                [*index, *entry].iter().fold(sum, |sum, x| (sum ^ x).wrapping_mul(0x100_0000_01b3))
            },
        );
        let digest = format!("{sum:016x} to offset {}", copy.end);
        Line::Replica { node: *node, key, first, last, digest }
    };
    // What one has all have, or they differ.
    let rows = copies.first().map_or(&[][..], |(_, copy)| &copy.renumbered[..]);
    let renumbered = rows.iter().map(|(offset, count, producer, epoch)| Line::Renumbered {
        key,
        offset: *offset,
        count: *count,
        producer: *producer,
        epoch: *epoch,
    });
    copies.iter().map(line).chain(renumbered).collect()
}

/// Its first offset, count, producer and epoch, where that is not the producer's first.
fn of_later_epoch(batch: &Value) -> Option<(i64, u64, i64, i16)> {
    let number = |name: &str| batch[name].as_i64();
    let epoch = i16::try_from(number("producer_epoch")?).ok().filter(|epoch| *epoch > 0)?;
    Some((number("base_offset")?, batch["count"].as_u64()?, number("producer_id")?, epoch))
}

fn read(broker: &Path, dir: &Path, topic: &str) -> Result<BTreeMap<String, Copy>> {
    let mut command = Command::new(broker);
    command.args(["log", "dump", "--format", "json", "--only", topic]).arg(dir);
    // A node may have no replica of the topic any more: what it says of that is told below.
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let complaints = child.stderr.take().context("the complaints of the dump")?;
    let complaints = std::thread::spawn(move || std::io::read_to_string(complaints).unwrap_or_default());
    let output = child.stdout.take().context("the output of the dump")?;
    let mut copies: BTreeMap<String, Copy> = BTreeMap::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        let document: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let Some(partition) = document["partition"].as_str() else { continue };
        let number = |name: &str| document[name].as_u64().with_context(|| format!("{name} in {line}"));
        let copy = copies.entry(partition.to_owned()).or_default();
        copy.entries.push((number("index")?, number("term")? << 32 | number("crc")?));
        if document["kind"] == "Data" {
            let end = number("base_offset")? + number("offset_count")?;
            copy.end = copy.end.max(end as i64);
            copy.renumbered
                .extend(document["batches"].as_array().into_iter().flatten().filter_map(of_later_epoch));
        }
    }
    let status = child.wait()?;
    let complaints = complaints.join().unwrap_or_default();
    if !status.success() && !complaints.contains("no partition's name contains that") {
        bail!("{command:?}: {status}: {}", complaints.trim());
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::{Copy, lines_of};
    use jepsen::checker::{Kind, check};
    use jepsen::history::{Builder, History};

    fn history(copies: &[(u32, Copy)]) -> History {
        let mut builder = Builder::default();
        lines_of(0, copies).into_iter().for_each(|line| builder.push(line).unwrap());
        builder.finish()
    }

    fn copy(entries: &[(u64, u64)], end: i64) -> Copy {
        Copy { entries: entries.to_vec(), end, ..Copy::default() }
    }

    #[test]
    fn replicas_are_compared_where_all_have_entries() {
        let (long, short) = (copy(&[(2, 20), (3, 30), (4, 40), (5, 50)], 2), copy(&[(3, 30), (4, 40)], 2));
        assert!(check(&history(&[(1, long.clone()), (2, short)])).is_clean());
        let other = copy(&[(3, 30), (4, 41)], 2);
        assert_eq!(check(&history(&[(1, long.clone()), (2, other)])).kinds(), [Kind::ReplicasDiffer]);
        let behind = copy(&[(2, 20), (3, 30)], 1);
        assert_eq!(check(&history(&[(1, long.clone()), (2, behind)])).kinds(), [Kind::ReplicasDiffer]);
        assert_eq!(check(&history(&[(1, long), (2, Copy::default())])).kinds(), [Kind::ReplicasDiffer]);
    }
}
