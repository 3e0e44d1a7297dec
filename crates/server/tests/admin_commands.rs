//! The admin commands as a user runs them, against Plimsoll or Apache Kafka:
//! `ADMIN_BOOTSTRAP=127.0.0.1:9092 cargo test -p plimsoll-server --test admin_commands -- --ignored`.
#![allow(clippy::unwrap_used, missing_docs)]
use client_lite::{Client, ClientOptions};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Runs `plimsoll` with these arguments and this standard input.
fn plimsoll(args: &[&str], input: &str) -> Output {
    let bootstrap = std::env::var("ADMIN_BOOTSTRAP").expect("ADMIN_BOOTSTRAP names the broker");
    let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(args)
        .env("PLIMSOLL_BOOTSTRAP_SERVER", bootstrap)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // A command that does not read its input may have ended before all of it was written.
    let _ = feeding.join().unwrap();
    output
}

fn text(args: &[&str], input: &str) -> String {
    let output = plimsoll(args, input);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "plimsoll {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn document(args: &[&str]) -> Value {
    let args = [args, &["--format", "json"]].concat();
    serde_json::from_str(&text(&args, "")).unwrap()
}

fn refusal(args: &[&str], input: &str) -> String {
    let output = plimsoll(args, input);
    assert!(!output.status.success(), "plimsoll {args:?} should fail");
    String::from_utf8(output.stderr).unwrap()
}

/// A name that no earlier run has used.
fn fresh(what: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("admin-{what}-{nanos}")
}

#[test]
#[ignore = "needs a broker"]
fn topics_are_created_changed_listed_and_deleted() {
    let topic = fresh("topic");
    let made = document(&["topic", "create", &topic, "-p", "2", "-c", "retention.ms=86400000"]);
    assert_eq!((&made[0]["result"], &made[0]["partitions"]), (&json!("created"), &json!(2)));
    assert!(refusal(&["topic", "create", &topic], "").contains("TOPIC_ALREADY_EXISTS"));
    assert_eq!(document(&["topic", "create", &topic, "--if-not-exists"])[0]["result"], "exists");
    let listed = document(&["topic", "list"]);
    assert!(listed.as_array().unwrap().iter().any(|row| row["topic"] == topic.as_str()));

    let described = document(&["topic", "describe", &topic]);
    assert_eq!(described[0]["configs"][0]["key"], "retention.ms");
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 2);
    let all = document(&["topic", "describe", &topic, "--configs"]);
    assert!(all[0]["configs"].as_array().unwrap().len() > 20);

    // Both spellings go with both commands.
    let set = document(&[
        "topic",
        "alter-config",
        &topic,
        "--config",
        "segment.ms=3600000",
        "-c",
        "segment.bytes=2097152",
    ]);
    assert_eq!((set.as_array().unwrap().len(), &set[0]["source"]), (2, &json!("DYNAMIC_TOPIC_CONFIG")));
    let dry =
        ["topic", "create", &fresh("dry"), "--set", "retention.ms=1", "-s", "segment.ms=1", "--dry-run"];
    assert_eq!(document(&dry)[0]["result"], "would be created");
    let changed = document(&["topic", "alter-config", &topic, "--delete", "retention.ms"]);
    assert_eq!(changed[0]["source"], "DEFAULT_CONFIG");
    let unknown = refusal(&["topic", "alter-config", &topic, "--set", "no.such.key=1"], "");
    assert!(unknown.contains("INVALID_CONFIG") && unknown.contains("--configs"), "{unknown}");

    assert_eq!(document(&["topic", "add-partitions", &topic, "--num", "1"])["partitions"], 3);
    let fewer = refusal(&["topic", "add-partitions", &topic, "--to", "1"], "");
    assert!(fewer.contains("only be raised: 1 is not more") && fewer.contains("--num N"), "{fewer}");
    assert_eq!(document(&["topic", "delete", &topic])["deleted"], json!([topic]));
    assert!(refusal(&["topic", "delete", &topic], "").contains("UNKNOWN_TOPIC_OR_PARTITION"));
    assert_eq!(document(&["topic", "delete", &topic, "--if-exists"])["deleted"], json!([]));
}

#[test]
#[ignore = "needs a broker"]
fn lines_are_produced_and_consumed_in_every_codec() {
    let topic = fresh("lines");
    text(&["topic", "create", &topic, "-p", "1"], "");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: String = (0..500).map(|i| format!("k{i}:{codec} {i}\n")).collect();
        let said = text(&["produce", &topic, "-k", ":", "-z", codec, "-H", "h=1", "-H", "h=2"], &lines);
        assert_eq!(said, format!("500 records to {topic}\n"));
    }
    let expected: String = ["none", "gzip", "snappy", "lz4", "zstd"]
        .iter()
        .flat_map(|codec| (0..500).map(move |i| format!("k{i}={codec} {i} h=1,h=2\n")))
        .collect();
    assert_eq!(text(&["consume", &topic, "-e", "-f", "%k=%v %h\\n"], ""), expected);
    assert_eq!(text(&["consume", &topic, "-o", "-1", "-e"], ""), "zstd 499\n");
    assert_eq!(text(&["consume", &topic, "-o", "@-1h", "-n", "1"], ""), "none 0\n");
    assert_eq!(text(&["consume", &topic, "-o", "latest", "-e"], ""), "");

    text(&["produce", &topic, "-k", ":", "-Z", "--acks", "1"], "gone:\n");
    // Seen once it is synced, which acks=1 does not wait for: so the offset is named and the reader waits.
    let last: Value =
        serde_json::from_str(&text(&["consume", &topic, "-o", "2500", "-n", "1", "--format", "json"], ""))
            .unwrap();
    assert_eq!((&last["key"], &last["value"], &last["offset"]), (&json!("gone"), &Value::Null, &json!(2500)));

    text(&["produce", &topic, "--acks", "0"], "unheard\n");
    assert_eq!(text(&["consume", &topic, "-o", "2501", "-n", "1"], ""), "unheard\n");
    let refused = refusal(&["produce", &topic, "-k", ":"], "a:1\nb:2\nno key here\nc:3\n");
    assert!(
        refused.contains("2 records acknowledged, then: line 3") && refused.contains("has no key"),
        "{refused}"
    );
    assert_eq!(text(&["consume", &topic, "-o", "2502", "-n", "2"], ""), "1\n2\n");

    let beyond = plimsoll(&["consume", &topic, "-o", "9999", "-e"], "");
    assert!(beyond.status.success() && beyond.stdout.is_empty());
    let said = String::from_utf8(beyond.stderr).unwrap();
    let wanted = "holds offsets 0 to 2503: 9999 is outside, reading begins at 2504, with what comes next.";
    assert!(said.contains(wanted), "{said}");
    assert!(plimsoll(&["consume", &topic, "-o", "9999", "-e", "-q"], "").stderr.is_empty());
    assert!(plimsoll(&["consume", &topic, "-o", "2504", "-e"], "").stderr.is_empty());

    let trimmed = document(&["topic", "trim", &topic, "--before", "2000"]);
    assert_eq!((&trimmed[0]["before"], &trimmed[0]["now"]), (&json!(0), &json!(2000)));
    assert_eq!(text(&["consume", &topic, "-n", "1"], ""), "zstd 0\n");
    let gone = plimsoll(&["consume", &topic, "-o", "7", "-n", "1"], "");
    assert_eq!(gone.stdout, b"zstd 0\n");
    assert!(String::from_utf8_lossy(&gone.stderr).contains("7 is outside, reading begins at 2000."));
    text(&["topic", "delete", &topic], "");
}

#[test]
#[ignore = "needs a broker"]
fn a_group_reads_on_and_is_moved_back() {
    let (topic, group) = (fresh("grouped"), fresh("group"));
    text(&["topic", "create", &topic, "-p", "1"], "");
    text(&["produce", &topic], "a\nb\nc\nd\n");
    assert_eq!(text(&["consume", &topic, "-g", &group, "-n", "3"], ""), "a\nb\nc\n");
    let described = document(&["group", "describe", &group]);
    assert_eq!((&described[0]["state"], &described[0]["totalLag"]), (&json!("Empty"), &json!(1)));
    assert_eq!(text(&["consume", &topic, "-g", &group, "-n", "1"], ""), "d\n");
    assert!(text(&["group", "list"], "").contains(&group));
    assert_eq!(document(&["group", "members", &group]), json!([]));

    let planned = document(&["group", "reset-offsets", &group, "--shift", "-2"]);
    assert_eq!((&planned[0]["before"], &planned[0]["new"]), (&json!(4), &json!(2)));
    assert_eq!(document(&["group", "describe", &group])[0]["totalLag"], 0);
    document(&["group", "reset-offsets", &group, "--shift", "-2", "--execute"]);
    assert_eq!(text(&["consume", &topic, "-g", &group, "-e"], ""), "c\nd\n");
    document(&["group", "reset-offsets", &group, "--to", "earliest", "-t", &topic, "--execute"]);
    assert_eq!(document(&["group", "describe", &group])[0]["totalLag"], 4);

    document(&["group", "delete", &group, "-t", &topic]);
    assert_eq!(document(&["group", "describe", &group])[0]["partitions"], json!([]));
    text(&["group", "delete", &group], "");
    assert!(refusal(&["group", "describe", &group], "").contains("GROUP_ID_NOT_FOUND"));
    text(&["topic", "delete", &topic], "");
}

/// Opens a transaction that holds partition 0 of `topic`, and leaves it open; its producer id.
async fn open_transaction(id: &str, topic: &str) -> i64 {
    use wire::add_partitions_to_txn_request::AddPartitionsToTxnTopicV3;
    let bootstrap = std::env::var("ADMIN_BOOTSTRAP").unwrap();
    let client = Client::connect(&bootstrap, ClientOptions::default()).await.unwrap();
    let any = client.any().await.unwrap();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let find = wire::FindCoordinatorRequest { key: id.into(), key_type: 1, ..Default::default() };
        let found = any.request_at(find, 3).await.unwrap();
        if found.error_code != 0 {
            continue;
        }
        let conn = client.node(found.node_id).await.unwrap();
        let init = wire::InitProducerIdRequest {
            transactional_id: Some(id.into()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let who = conn.request_at(init, 5).await.unwrap();
        if who.error_code != 0 {
            continue;
        }
        let add = wire::AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.into(),
            v3_and_below_producer_id: who.producer_id,
            v3_and_below_producer_epoch: who.producer_epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopicV3 { name: topic.into(), partitions: vec![0] }],
            ..Default::default()
        };
        let added = conn.request_at(add, 3).await.unwrap();
        assert_eq!(added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
        return who.producer_id;
    }
}

#[test]
#[ignore = "needs a broker"]
fn an_open_transaction_is_listed_and_described_and_does_not_hang() {
    let (topic, id) = (fresh("written"), fresh("txn"));
    text(&["topic", "create", &topic, "-p", "1"], "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let producer = runtime.block_on(open_transaction(&id, &topic));
    let listed = document(&["txn", "list", "--state", "ongoing", "--producer-id", &producer.to_string()]);
    assert_eq!((&listed[0]["transactionalId"], &listed[0]["state"]), (&json!(id), &json!("Ongoing")));
    assert_eq!(document(&["txn", "list", "--pattern", &format!("{id}x")]), json!([]));
    let described = document(&["txn", "describe", &id]);
    assert_eq!(described[0]["partitions"], json!([{ "topic": topic, "partition": 0 }]));
    assert_eq!((&described[0]["producerId"], &described[0]["producerEpoch"]), (&json!(producer), &json!(0)));
    // It has written nothing there.
    assert_eq!(document(&["txn", "producers", &topic, "0"]), json!([]));
    let hanging = ["txn", "find-hanging", "-t", &topic, "--max-transaction-timeout", "0s"];
    assert_eq!(document(&hanging), json!([]));
    let refused = refusal(&["txn", "abort", &topic, "0", "--start-offset", "0", "--execute"], "");
    assert!(refused.contains("has no such open transaction: none is open there"), "{refused}");
    let nobody = refusal(&["txn", "describe", &fresh("nobody")], "");
    assert!(
        nobody.contains("TRANSACTIONAL_ID_NOT_FOUND") && nobody.contains("plimsoll txn list"),
        "{nobody}"
    );
    text(&["topic", "delete", &topic], "");
}

#[test]
#[ignore = "needs a broker"]
fn a_record_for_an_internal_topic_is_refused_as_such() {
    let (topic, group) = (fresh("source"), fresh("group"));
    text(&["produce", &topic], "a\n");
    // The first group makes the topic.
    text(&["consume", &topic, "-g", &group, "-n", "1"], "");
    let said = refusal(&["produce", "__consumer_offsets"], "a\n");
    assert!(said.contains("INVALID_TOPIC_EXCEPTION") && said.contains("an internal topic"), "{said}");
    text(&["group", "delete", &group], "");
    text(&["topic", "delete", &topic], "");
}

#[test]
#[ignore = "needs a broker"]
fn a_wrong_address_says_what_to_do() {
    let said = refusal(&["topic", "list", "-b", "127.0.0.1:1", "--timeout", "1"], "");
    assert!(said.contains("127.0.0.1:1") && said.contains("plimsoll serve"), "{said}");
}
