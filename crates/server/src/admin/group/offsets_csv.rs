//! Files of offsets, as `kafka-consumer-groups --export` writes and `--from-file` reads them: a line for each partition,
//! TOPIC,PARTITION,OFFSET, or with several groups GROUP,TOPIC,PARTITION,OFFSET. A name may stand in quotes.
use anyhow::{Context, bail, ensure};
use client_lite::Place;
use std::collections::BTreeMap;

/// Offsets by group.
pub(super) type Offsets = BTreeMap<String, BTreeMap<Place, i64>>;

/// Reads such a file. Lines that name no group are those of `groups`, if it is one; lines of other groups are an error.
pub(super) fn read(text: &str, groups: &[String]) -> anyhow::Result<Offsets> {
    let mut offsets = Offsets::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (group, place, offset) =
            row(line, groups).with_context(|| format!("line {}: `{line}`", at + 1))?;
        let named = format!("line {}: {}-{} has been named before", at + 1, place.0, place.1);
        let before = offsets.entry(group).or_default().insert(place, offset);
        ensure!(before.is_none(), "{named}");
    }
    Ok(offsets)
}

fn row(line: &str, groups: &[String]) -> anyhow::Result<(String, Place, i64)> {
    let cells = cells(line);
    let (group, topic, partition, offset) = match (cells.as_slice(), groups) {
        ([topic, partition, offset], [group]) => (group, topic, partition, offset),
        ([group, topic, partition, offset], _) => (group, topic, partition, offset),
        (_, [_]) => bail!("is not TOPIC,PARTITION,OFFSET"),
        _ => bail!("is not GROUP,TOPIC,PARTITION,OFFSET"),
    };
    ensure!(groups.contains(group), "group {group} is not one that the command names");
    let partition = partition.parse().with_context(|| format!("`{partition}` is no partition"))?;
    let number = offset.parse().ok().filter(|n: &i64| *n >= 0);
    let offset = number.with_context(|| format!("`{offset}` is no offset"))?;
    Ok((group.clone(), (topic.clone(), partition), offset))
}

/// The cells of a line; in quotes a comma is one of the text, and two quotes are one.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    let mut rest = line.trim().chars().peekable();
    while let Some(c) = rest.next() {
        let cell = cells.len() - 1;
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => cells[cell].extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells[cell].push(c),
        }
    }
    cells
}

/// Writes such a file; with the group's name where there are several.
pub(super) fn write<'a>(
    offsets: impl IntoIterator<Item = (&'a str, &'a Place, i64)>,
    several: bool,
) -> String {
    let mut text = String::new();
    for (group, (topic, partition), offset) in offsets {
        if several {
            text.push_str(&format!("{},", cell(group)));
        }
        text.push_str(&format!("{topic},{partition},{offset}\n"));
    }
    text
}

/// A group's name may be any text.
fn cell(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: &str, partition: i32) -> Place {
        (topic.to_owned(), partition)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let groups = ["billing".to_owned(), "a, \"b\"".to_owned()];
        let (t, u) = (place("t", 0), place("u", 7));
        let rows = [("billing", &t, 5), ("billing", &u, 6), (groups[1].as_str(), &t, 7)];
        let text = write(rows, true);
        assert_eq!(text, "billing,t,0,5\nbilling,u,7,6\n\"a, \"\"b\"\"\",t,0,7\n");
        let read_again = read(&text, &groups).unwrap();
        assert_eq!(read_again["billing"], [(t.clone(), 5), (u, 6)].into());
        assert_eq!(read_again[&groups[1]], [(t.clone(), 7)].into());
        assert_eq!(read("\"t\",0,5\r\n\n", &groups[..1]).unwrap()["billing"], [(t.clone(), 5)].into());
        assert_eq!(write([("billing", &t, 5)], false), "t,0,5\n");
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_wrong() {
        for (text, groups, told) in [
            ("t,0,1\nt,0\n", &["g"][..], "line 2: `t,0`: is not TOPIC,PARTITION,OFFSET"),
            ("t,0,1\n", &["g", "h"], "line 1: `t,0,1`: is not GROUP,TOPIC,PARTITION,OFFSET"),
            ("t,x,1", &["g"], "line 1: `t,x,1`: `x` is no partition"),
            ("t,0,-1", &["g"], "line 1: `t,0,-1`: `-1` is no offset"),
            ("h,t,0,1", &["g"], "line 1: `h,t,0,1`: group h is not one that the command names"),
            ("t,0,1\nt,0,2", &["g"], "line 2: t-0 has been named before"),
        ] {
            let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
            let error = format!("{:#}", read(text, &groups).unwrap_err());
            assert!(error.starts_with(told), "{error}");
        }
    }
}
