//! `plimsoll consume`.
use super::connect::{ConnectArgs, advise, within};
use super::format::bytes_to_json;
use super::point::show_point;
use super::seek::Seek;
use anyhow::bail;
use clap::{Args, ValueEnum};
use client_lite::{
    Client, Consumed, Consumer, EARLIEST, FetchOptions, GroupMember, LATEST, MemberOptions, Place, Reset,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

/// Read records and print them, until Ctrl-C, -n or -e.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll consume greetings                           everything there is, then what comes
  plimsoll consume orders -o latest                    only what comes
  plimsoll consume orders -o -10 -e                    the last 10 of each partition
  plimsoll consume orders -o @-15m -e -f '%T %k %v\\n'  the last 15 minutes, with time and key
  plimsoll consume orders -g billing -n 100            as a member of a group, 100 records
  plimsoll consume orders -e --format json | jq .value

Placeholders of -f: %t topic, %p partition, %o offset, %T time, %d timestamp in ms, %k key, %v value,
%h headers, %% a percent sign; \\n newline, \\t tab.")]
pub(crate) struct ConsumeArgs {
    /// The topics.
    #[arg(required = true)]
    topics: Vec<String>,
    /// Where to begin: earliest, latest, an offset, -N (N before the end), or @TIME. An offset outside the
    /// log counts as its nearer end. In a group only earliest and latest, for partitions without a committed
    /// offset.
    #[arg(short, long, default_value = "earliest", allow_hyphen_values = true, value_name = "PLACE")]
    offset: Seek,
    /// Partitions to read; otherwise all. May be repeated.
    #[arg(short, long = "partition", conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Read as a member of this group, and commit what was printed.
    #[arg(short, long)]
    group: Option<String>,
    /// Stop after this many records.
    #[arg(short, long, value_name = "N")]
    num: Option<u64>,
    /// Stop at the end of what is there now.
    #[arg(short, long)]
    exit: bool,
    /// Leave out records of open and aborted transactions.
    #[arg(long)]
    read_committed: bool,
    /// Shape of the output.
    #[arg(long, value_enum, default_value = "value")]
    format: RecordFormat,
    /// Print each record by this template; see below.
    #[arg(short = 'f', long, conflicts_with = "format", value_name = "TEXT")]
    template: Option<String>,
    /// Say nothing on standard error but errors.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecordFormat {
    /// The value alone, a line each.
    #[value(alias = "table")]
    Value,
    /// Topic, partition, offset, time, key and value.
    Full,
    /// One JSON object a line.
    Json,
}

const WAIT: Duration = Duration::from_millis(250);
/// Partitions of which it is told that reading begins elsewhere.
const MOVED_TOLD: usize = 10;
const FULL: &str = "%t-%p @%o %T %k => %v %h\\n";

/// Runs the command.
pub(crate) async fn run(args: ConsumeArgs) -> anyhow::Result<()> {
    let limit = args.connect.limit();
    let (consumer, ends) = within(limit, begin(&args)).await?;
    let printer = Printer::new(&args);
    Reading { args: &args, ends, printer, printed: 0 }.run(consumer).await
}

/// Where each partition ends.
type Ends = BTreeMap<Place, i64>;

/// Finds where to begin, and where to end if that is wanted.
async fn begin(args: &ConsumeArgs) -> anyhow::Result<(Consumer, Option<Ends>)> {
    let client = args.connect.client().await?;
    let places = places(&client, args).await?;
    let ends = if args.exit {
        let ends = client.list_offsets(&places, LATEST, args.read_committed).await.map_err(advise)?;
        Some(ends.into_iter().map(|(place, at)| (place, at.offset)).collect())
    } else {
        None
    };
    let fetch = FetchOptions { max_wait: WAIT, read_committed: args.read_committed, ..Default::default() };
    let Some(group) = &args.group else {
        let positions = args.offset.resolve(&client, &places).await?;
        if let (Seek::Offset(asked), false) = (&args.offset, args.quiet) {
            tell_moved(&client, *asked, &positions).await?;
        }
        return Ok((Consumer::assigned(client, positions, fetch), ends));
    };
    let reset = match args.offset {
        Seek::Earliest => Reset::Earliest,
        Seek::Latest => Reset::Latest,
        _ => bail!(
            "a group begins at its committed offsets; -o may only be earliest or latest there\n  \
             `plimsoll group reset-offsets {group} --to PLACE --execute` moves them"
        ),
    };
    let topics: Vec<&str> = args.topics.iter().map(String::as_str).collect();
    let member = GroupMember::new(client.clone(), MemberOptions::new(group, &topics));
    Ok((Consumer::in_group(client, member, reset, fetch), ends))
}

/// Says where reading begins instead of an offset that is not in the log: whoever waits should know for what.
async fn tell_moved(client: &Client, asked: i64, positions: &Ends) -> anyhow::Result<()> {
    let moved: Vec<Place> =
        positions.iter().filter(|(_, at)| **at != asked).map(|(place, _)| place.clone()).collect();
    if moved.is_empty() {
        return Ok(());
    }
    let starts = client.list_offsets(&moved, EARLIEST, false).await.map_err(advise)?;
    let ends = client.list_offsets(&moved, LATEST, false).await.map_err(advise)?;
    for place in moved.iter().take(MOVED_TOLD) {
        let (topic, partition) = place;
        let held = match (starts.get(place), ends.get(place)) {
            (Some(start), Some(end)) if start.offset < end.offset => {
                format!("holds offsets {} to {}", start.offset, end.offset - 1)
            }
            _ => "is empty".to_owned(),
        };
        let at = positions[place];
        let wait = if at < asked { ", with what comes next" } else { "" };
        eprintln!("{topic}-{partition} {held}: {asked} is outside, reading begins at {at}{wait}.");
    }
    if moved.len() > MOVED_TOLD {
        eprintln!("So it is with {} more partitions.", moved.len() - MOVED_TOLD);
    }
    Ok(())
}

async fn places(client: &Client, args: &ConsumeArgs) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    for name in &args.topics {
        let topic = client.topic(name).await.map_err(advise)?;
        for partition in &args.partitions {
            if !topic.partitions.iter().any(|p| p.index == *partition) {
                let last = topic.partitions.len() as i32 - 1;
                bail!("topic {name} has no partition {partition}: it has 0 to {last}");
            }
        }
        let wanted = |index: &i32| args.partitions.is_empty() || args.partitions.contains(index);
        places.extend(topic.partitions.iter().map(|p| p.index).filter(wanted).map(|p| (name.clone(), p)));
    }
    Ok(places)
}

/// Joining a group takes as long as its other members let it: only reading without one is held to the limit.
async fn poll(consumer: &mut Consumer, limit: Duration) -> anyhow::Result<Vec<Consumed>> {
    let alone = consumer.member().is_none();
    let polled = async { consumer.poll().await.map_err(advise) };
    if alone { within(limit, polled).await } else { polled.await }
}

struct Reading<'a> {
    args: &'a ConsumeArgs,
    /// Where each partition ended when the command began, if that is where to stop.
    ends: Option<Ends>,
    printer: Printer,
    printed: u64,
}

impl Reading<'_> {
    async fn run(mut self, mut consumer: Consumer) -> anyhow::Result<()> {
        // Either way the group is left properly; who goes without a word holds up the others.
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        let done = loop {
            if self.enough(&consumer) {
                break Ok(());
            }
            let polled = tokio::select! {
                polled = poll(&mut consumer, self.args.connect.limit()) => polled,
                _ = &mut interrupt => break Ok(()),
                _ = terminate.recv() => break Ok(()),
            };
            let seen = match polled {
                Ok(seen) => seen,
                Err(error) => break Err(error),
            };
            let printed = match self.print(&seen) {
                Ok(printed) => printed,
                Err(error) => break Err(error),
            };
            // In a group only what was printed is committed; the rest is read again.
            let offsets = if printed.len() == seen.len() {
                consumer.positions().clone()
            } else {
                printed.iter().map(|c| ((c.topic.clone(), c.partition), c.record.offset + 1)).collect()
            };
            if let Err(error) = consumer.commit_at(&offsets).await {
                break Err(advise(error));
            }
        };
        let left = consumer.close().await.map_err(advise);
        done.and(left)
    }

    fn enough(&self, consumer: &Consumer) -> bool {
        if self.args.num.is_some_and(|n| self.printed >= n) {
            return true;
        }
        let Some(ends) = &self.ends else { return false };
        let joined = consumer.member().is_none_or(|m| m.generation() >= 0);
        let mut positions = consumer.positions().iter();
        joined && positions.all(|(place, at)| ends.get(place).is_none_or(|end| at >= end))
    }

    /// Prints as many as are wanted, and says which.
    fn print<'a>(&mut self, seen: &'a [Consumed]) -> anyhow::Result<&'a [Consumed]> {
        let wanted = self.args.num.map_or(u64::MAX, |n| n - self.printed);
        let before_end = |c: &&Consumed| {
            let end = self.ends.as_ref().and_then(|ends| ends.get(&(c.topic.clone(), c.partition)));
            end.is_none_or(|end| c.record.offset < *end)
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let mut consumed = 0;
        let mut printed = 0;
        for one in seen {
            if printed >= wanted {
                break;
            }
            if before_end(&one) {
                self.printer.print(&mut out, one)?;
                printed += 1;
            }
            consumed += 1;
        }
        out.flush()?;
        self.printed += printed;
        Ok(&seen[..consumed])
    }
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(char),
}

enum Printer {
    Json,
    Template(Vec<Piece>),
}

impl Printer {
    fn new(args: &ConsumeArgs) -> Printer {
        match (&args.template, args.format) {
            (Some(template), _) => Printer::Template(parse_template(template)),
            (None, RecordFormat::Value) => Printer::Template(parse_template("%v\\n")),
            (None, RecordFormat::Full) => Printer::Template(parse_template(FULL)),
            (None, RecordFormat::Json) => Printer::Json,
        }
    }

    fn print(&self, out: &mut impl Write, consumed: &Consumed) -> io::Result<()> {
        match self {
            Printer::Json => writeln!(out, "{}", to_json(consumed)),
            Printer::Template(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.write_all(text.as_bytes())?,
                        Piece::Field(field) => print_field(out, *field, consumed)?,
                    }
                }
                Ok(())
            }
        }
    }
}

fn parse_template(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('%', Some(field)) if "tpoTdkvh".contains(field) => {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Field(field));
                chars.next();
            }
            ('%', Some('%')) | ('\\', Some('\\')) => {
                plain.push(c);
                chars.next();
            }
            ('\\', Some('n')) => {
                plain.push('\n');
                chars.next();
            }
            ('\\', Some('t')) => {
                plain.push('\t');
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

fn print_field(out: &mut impl Write, field: char, consumed: &Consumed) -> io::Result<()> {
    let record = &consumed.record;
    let null = || bytes::Bytes::from_static(b"(null)");
    match field {
        't' => out.write_all(consumed.topic.as_bytes()),
        'p' => write!(out, "{}", consumed.partition),
        'o' => write!(out, "{}", record.offset),
        'T' => out.write_all(show_point(record.timestamp).as_bytes()),
        'd' => write!(out, "{}", record.timestamp),
        'k' => out.write_all(&record.key.clone().unwrap_or_else(null)),
        'v' => out.write_all(&record.value.clone().unwrap_or_else(null)),
        _ => {
            for (at, (name, value)) in record.headers.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                write!(out, "{comma}")?;
                out.write_all(name)?;
                out.write_all(b"=")?;
                out.write_all(&value.clone().unwrap_or_else(null))?;
            }
            Ok(())
        }
    }
}

fn to_json(consumed: &Consumed) -> serde_json::Value {
    let record = &consumed.record;
    let headers = record.headers.iter();
    let headers = headers.map(
        |(name, value)| json!({ "key": bytes_to_json(Some(name)), "value": bytes_to_json(value.as_deref()) }),
    );
    json!({
        "topic": consumed.topic,
        "partition": consumed.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": bytes_to_json(record.key.as_deref()),
        "value": bytes_to_json(record.value.as_deref()),
        "headers": headers.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_taken_apart() {
        let text = |t: &str| Piece::Text(t.to_owned());
        assert_eq!(
            parse_template("%t:%o\\t100%% %x\\n"),
            [Piece::Field('t'), text(":"), Piece::Field('o'), text("\t100% %x\n")]
        );
    }
}
