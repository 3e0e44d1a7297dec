//! What `plimsoll log export --kafka` writes, read by Kafka's own kafka-dump-log.
use crate::server::Server;
use crate::wire_client::{Client, now_ms};
use bytes::BytesMut;
use records::{BatchBuilder, Codec, NewRecord};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A record as the tool shows it; sizes are -1 for null.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    timestamp: i64,
    key: i64,
    value: i64,
    sequence: i64,
    headers: String,
}

/// Offset to record, of one partition.
type Rows = BTreeMap<i64, Row>;

type Headers = &'static [(&'static [u8], Option<&'static [u8]>)];

const HEADERS: [Headers; 4] = [
    &[],
    &[(b"trace", Some(b"1")), (b"trace", Some(b"2"))],
    &[(b"empty", Some(b"")), (b"null", None)],
    &[(b"", Some(b"nameless"))],
];

fn size(part: Option<&[u8]>) -> i64 {
    part.map_or(-1, |part| part.len() as i64)
}

fn names(headers: Headers) -> String {
    let names: Vec<_> = headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
    format!("[{}]", names.join(","))
}

/// Batch number `at`: its bytes, and its records as they must be shown.
fn batch(at: usize, first: i64, append_time: bool) -> (BytesMut, Codec, Vec<Row>) {
    let codec = Codec::ALL[at % Codec::ALL.len()];
    let mut batch = BatchBuilder::new().codec(codec, None);
    let idempotent = !append_time && at.is_multiple_of(3);
    if idempotent {
        batch = batch.producer(4_000 + at as i64, 2, 100);
    }
    let value = b"a value that compresses, a value that compresses".repeat(1 + at % 40);
    let mut rows = Vec::new();
    for i in 0..=at % 7 {
        let key: Option<&[u8]> = if i % 2 == 0 { Some(&b"key-of-it"[..i]) } else { None };
        let value = if i == 3 { None } else { Some(&value[i..]) };
        // Timestamps go up and down.
        let timestamp = first + [0, 5_000, -7_000, 2][i % 4] + at as i64;
        let headers = HEADERS[(at + i) % HEADERS.len()];
        batch.push(NewRecord { timestamp, key, value, headers });
        let sequence = if idempotent { 100 + i as i64 } else { -1 };
        let headers = names(headers);
        rows.push(Row { timestamp, key: size(key), value: size(value), sequence, headers });
    }
    (batch.finish().unwrap(), codec, rows)
}

/// Fills a topic; what must be shown of it, and how many batches of each codec.
fn fill(client: &mut Client, topic: &str, append_time: bool) -> (Rows, BTreeMap<String, usize>) {
    let (mut rows, mut batches) = (Rows::new(), BTreeMap::new());
    let now = now_ms();
    for at in 0..120 {
        let (bytes, codec, sent) = batch(at, now, append_time);
        let produced = client.produce(topic, 0, bytes).unwrap();
        assert_eq!(produced.code, 0, "{produced:?}");
        *batches.entry(codec.to_string()).or_default() += 1;
        rows.extend((produced.base_offset..).zip(sent));
    }
    (rows, batches)
}

fn export(data: &Path, out: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    let done = command.args(["log", "export", "--kafka"]).args([data, out]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Kafka's tool over every segment of a partition.
fn dump(partition: &Path) -> String {
    let jars = std::env::var("KAFKA_TOOLS_JARS").expect("KAFKA_TOOLS_JARS names the jars of Kafka's tools");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let files: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
    command.arg(format!("{jars}/*")).arg("org.apache.kafka.tools.DumpLogSegments");
    let done = command.args(["--deep-iteration", "--files", &files.join(",")]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

/// The word after `name: `.
fn after<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}: ")).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split(' ').next().unwrap()
}

fn number(line: &str, name: &str) -> i64 {
    after(line, name).parse().unwrap()
}

/// Reads the tool's output; every line of it is understood, and nothing is amiss.
fn read(said: &str, time: &str) -> (Rows, BTreeMap<String, usize>) {
    let (mut rows, mut batches) = (Rows::new(), BTreeMap::new());
    for line in said.lines() {
        if line.starts_with("baseOffset: ") {
            assert_eq!(after(line, "isvalid"), "true", "{line}");
            assert_eq!((after(line, "isControl"), after(line, "isTransactional")), ("false", "false"));
            let next = rows.keys().next_back().map_or(0, |last| last + 1);
            assert_eq!(number(line, "baseOffset"), next, "offsets have no gap: {line}");
            assert_eq!(number(line, "lastOffset"), next + number(line, "count") - 1, "{line}");
            *batches.entry(after(line, "compresscodec").to_owned()).or_default() += 1;
        } else if line.starts_with("| offset: ") {
            let row = Row {
                timestamp: number(line, time),
                key: number(line, "keySize"),
                value: number(line, "valueSize"),
                sequence: number(line, "sequence"),
                headers: after(line, "headerKeys").to_owned(),
            };
            assert!(rows.insert(number(line, "| offset"), row).is_none(), "twice: {line}");
        } else {
            // Mismatches in timestamps and gaps in offsets would be listed at the end.
            let known = line.starts_with("Dumping ") || line.starts_with("Log starting offset: ");
            assert!(known || line.is_empty(), "{line}");
        }
    }
    (rows, batches)
}

#[test]
#[ignore = "needs a broker"]
fn exported_segments_are_what_kafka_dump_log_expects() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    let mut server = Server::start(&data, &[]);
    let mut client = server.client();
    client.create("created", 1, &[]);
    client.create("appended", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let (created, created_batches) = fill(&mut client, "created", false);
    let begun = now_ms() - 1;
    let (appended, appended_batches) = fill(&mut client, "appended", true);
    drop(client);
    server.ask_to_stop();
    assert!(server.ended().success());
    export(&data, &out);

    let (rows, batches) = read(&dump(&out.join("created-0")), "CreateTime");
    assert_eq!(batches, created_batches);
    assert_eq!(rows, created);

    let (rows, batches) = read(&dump(&out.join("appended-0")), "LogAppendTime");
    assert_eq!(batches, appended_batches);
    assert_eq!(rows.len(), appended.len());
    for ((offset, row), (wanted_offset, wanted)) in rows.iter().zip(&appended) {
        assert_eq!(offset, wanted_offset);
        assert!((begun..=now_ms()).contains(&row.timestamp), "{offset}: {row:?}");
        assert_eq!(row, &Row { timestamp: row.timestamp, ..wanted.clone() });
    }
}
