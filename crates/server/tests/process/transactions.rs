//! Transactions of a real broker: what `plimsoll txn` shows and ends, what hangs, what comes late.
use crate::commands::{plimsoll, said};
use crate::server::{Server, wait_for};
use crate::txn_client::{INVALID_TXN_STATE, NOT_COORDINATOR, PRODUCER_FENCED, Speaks, TxnClient};
use serde_json::{Value, json};
use std::process::Command;
use wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::{ApiKey, IncrementalAlterConfigsRequest, ResponseBody};

/// Runs `plimsoll txn` and reads what it prints for scripts.
pub(crate) fn txn(server: &Server, args: &[&str]) -> Value {
    let output = plimsoll(server, &[&["txn"][..], args, &["--format", "json"]].concat(), "");
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same for people.
fn text(server: &Server, args: &[&str]) -> String {
    let output = plimsoll(server, &[&["txn"][..], args].concat(), "");
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(server: &Server, args: &[&str]) -> String {
    let output = plimsoll(server, &[&["txn"][..], args].concat(), "");
    assert!(!output.status.success(), "{args:?} should fail");
    said(&output)
}

fn state(server: &Server, id: &str) -> Value {
    txn(server, &["describe", id])[0]["state"].clone()
}

#[test]
#[ignore = "needs a broker"]
fn transactions_are_listed_described_and_ended_at_one_partition() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    server.client().create("t", 2, &[]);
    let mut p = TxnClient::new(server.client(), "pay-1", Speaks::Tv2);
    let who = p.init(60_000);
    assert_eq!([0, 1].map(|partition| p.produce(who, "t", partition, 0)), [0, 0]);

    let row =
        json!([{ "transactionalId": "pay-1", "coordinator": 0, "producerId": who.0, "state": "Ongoing" }]);
    let producer = who.0.to_string();
    for filters in [&[] as &[&str], &["--state", "ongoing", "--longer-than", "0ms"], &["--pattern", "pay-."]]
    {
        let mut listed = txn(&server, &[&["list"][..], filters].concat());
        listed[0]["coordinator"] = json!(0);
        assert_eq!(listed, row, "{filters:?}");
    }
    for filters in [&["--state", "empty"][..], &["--pattern", "pay"], &["--longer-than", "1h"]] {
        assert_eq!(txn(&server, &[&["list", "--producer-id", &producer][..], filters].concat()), json!([]));
    }
    assert!(refusal(&server, &["list", "--pattern", "("]).contains("INVALID_REGULAR_EXPRESSION"));

    let described = txn(&server, &["describe", "pay-1"]);
    let places = json!([{ "topic": "t", "partition": 0 }, { "topic": "t", "partition": 1 }]);
    assert_eq!((&described[0]["partitions"], &described[0]["timeoutMs"]), (&places, &json!(60_000)));
    assert!(text(&server, &["describe", "pay-1"]).starts_with("pay-1  Ongoing\n"));
    let nobody = plimsoll(&server, &["txn", "describe", "nobody", "pay-1"], "");
    assert!(!nobody.status.success() && nobody.stdout.starts_with(b"pay-1  Ongoing\n"));
    assert!(said(&nobody).contains("TRANSACTIONAL_ID_NOT_FOUND"), "{}", said(&nobody));

    let producers = txn(&server, &["producers", "t", "0"]);
    let named = ["transactionalId", "principal", "clientId"].map(|key| producers[0][key].clone());
    assert_eq!(named, ["pay-1", "User:ANONYMOUS", "process-test"].map(|name| json!(name)));
    let start = producers[0]["openSinceOffset"].as_i64().unwrap().to_string();

    // Its coordinator has it open too.
    let any_age = ["find-hanging", "--max-transaction-timeout", "0s"];
    assert_eq!(txn(&server, &any_age), json!([]));
    let abort = ["abort", "t", "0", "--start-offset", &start];
    let refused = refusal(&server, &[&abort[..], &["--execute"]].concat());
    assert!(
        refused.contains("has this transaction open too (Ongoing)") && refused.contains("--force"),
        "{refused}"
    );
    assert!(refusal(&server, &["abort", "t", "0", "--start-offset", "77"]).contains("begin at"));
    let which = refusal(&server, &["abort", "t", "0"]);
    assert!(which.contains("--start-offset OFFSET, or --producer-id N --producer-epoch N"), "{which}");
    // Shown, not done.
    let dry = plimsoll(&server, &[&["txn"][..], &abort, &["--force"]].concat(), "");
    assert!(said(&dry).contains("Nothing was changed") && said(&dry).contains("torn"), "{}", said(&dry));
    assert_eq!(txn(&server, &[&abort[..], &["--force"]].concat())["executed"], false);
    assert_eq!(txn(&server, &["producers", "t", "0"]), producers);
    let by_producer = ["abort", "t", "0", "--producer-id", &producer, "--producer-epoch", "0"];
    assert_eq!(txn(&server, &[&by_producer[..], &["--force", "--execute"]].concat())["executed"], true);
    assert_eq!(txn(&server, &["producers", "t", "0"])[0]["openSinceOffset"], Value::Null);

    assert_eq!(server.metric("plimsoll_transactional_ids{state=\"Ongoing\"}"), 1);
    let (code, next) = p.end(who, true);
    assert_eq!((code, next), (0, (who.0, who.1 + 1)));
    wait_for("the end of it", || (state(&server, "pay-1") == "CompleteCommit").then_some(()));
    assert_eq!(server.metric("plimsoll_transactions_ended_total{result=\"committed\"}"), 1);
    assert_eq!(server.metric("plimsoll_transaction_markers_waiting"), 0);
}

/// Nobody is left who would wait for what it held.
#[test]
#[ignore = "needs a broker"]
fn a_deleted_topic_of_transactions_takes_its_coordinators_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    server.client().create("t", 1, &[]);
    let mut gone = TxnClient::new(server.client(), "pay-1", Speaks::Tv2);
    let who = gone.init(60_000);
    assert_eq!(gone.produce(who, "t", 0, 0), 0);
    assert_eq!(server.client().delete_topic("__transaction_state"), 0);
    TxnClient::new(server.client(), "pay-2", Speaks::Tv2).init(60_000);
    let listed = txn(&server, &["list"]);
    let ids: Vec<&Value> = listed.as_array().unwrap().iter().map(|row| &row["transactionalId"]).collect();
    assert_eq!(ids, [&json!("pay-2")]);
}

/// Everything that is coordinated is lost; what partitions have open stays.
pub(crate) fn lose_coordinators(server: &Server, clients: &mut [&mut TxnClient]) {
    assert_eq!(server.client().delete_topic("__transaction_state"), 0);
    clients.iter_mut().for_each(|client| client.find_coordinator());
}

fn set_policy(server: &Server, policy: &str) {
    let config = AlterableConfig {
        name: "plimsoll.transaction.hanging.policy".into(),
        config_operation: 0,
        value: Some(policy.into()),
    };
    let resource = AlterConfigsResource { resource_type: 4, resource_name: "".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = server.client().ask(ApiKey::IncrementalAlterConfigs, 1, request);
    let ResponseBody::IncrementalAlterConfigs(answer) = answer else { panic!() };
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

#[test]
#[ignore = "needs a broker"]
fn what_hangs_is_named_with_its_owner_and_ended_by_an_operator_or_by_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["transaction.max.timeout.ms=20000"]);
    let mut client = server.client();
    let topics = ["t", "u"].map(|topic| (topic, client.create(topic, 1, &[])));
    let mut p = TxnClient::new(server.client(), "pay-1", Speaks::Tv2);
    let mut q = TxnClient::new(server.client(), "pay-2", Speaks::Tv2);
    let (of_p, of_q) = (p.init(20_000), q.init(20_000));
    assert_eq!((p.produce(of_p, "t", 0, 0), q.produce(of_q, "u", 0, 0)), (0, 0));
    lose_coordinators(&server, &mut [&mut p, &mut q]);
    for (_, id) in topics {
        assert_eq!(server.client().read_all(id, 0), [b"v"], "readers of what is not committed see it");
    }
    let stable = |topic: &str| {
        server.metric(&format!("plimsoll_partition_last_stable_offset{{topic=\"{topic}\",partition=\"0\"}}"))
    };
    let high = |topic: &str| {
        server.metric(&format!("plimsoll_partition_high_watermark{{topic=\"{topic}\",partition=\"0\"}}"))
    };

    let found = txn(&server, &["find-hanging", "--max-transaction-timeout", "0s"]);
    let row =
        |at: usize| ["topic", "transactionalId", "principal", "clientId"].map(|key| found[at][key].clone());
    assert_eq!(row(0), ["t", "pay-1", "User:ANONYMOUS", "process-test"].map(|name| json!(name)));
    assert_eq!(row(1), ["u", "pay-2", "User:ANONYMOUS", "process-test"].map(|name| json!(name)));
    assert_eq!(txn(&server, &["find-hanging", "--max-transaction-timeout", "1h"]), json!([]));
    let of_u = txn(&server, &["find-hanging", "-t", "u:0", "--max-transaction-timeout", "0s"]);
    assert_eq!((&of_u[0]["transactionalId"], of_u.as_array().unwrap().len()), (&json!("pay-2"), 1));
    assert!(stable("t") < high("t"));
    let start = found[0]["startOffset"].as_i64().unwrap().to_string();
    let address = server.kafka.to_string();
    let mut elsewhere = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    elsewhere.args(["txn", "find-hanging", "--max-transaction-timeout", "0s", "-b", &address]);
    let hint = said(&elsewhere.output().unwrap());
    let next = format!("plimsoll txn abort t 0 --start-offset {start} -b {address} --execute");
    assert!(hint.contains(&next), "{hint}");
    let ended = plimsoll(&server, &["txn", "abort", "t", "0", "--start-offset", &start, "--execute"], "");
    assert!(said(&ended).starts_with("Aborted at t-0: the transaction of producer"), "{}", said(&ended));
    assert_eq!(stable("t"), high("t"));

    // The broker finds the other one by itself, and names it.
    wait_for("what hangs", || (server.metric("plimsoll_transactions_hanging") == 1).then_some(()));
    let named = format!(
        "plimsoll_hanging_transaction_seconds{{topic=\"u\",partition=\"0\",producer_id=\"{}\",transactional_id=\"pay-2\",\
         principal=\"User:ANONYMOUS\",client_id=\"process-test\"}}",
        of_q.0
    );
    assert!(server.metric(&named) >= 20);
    assert!(server.log().contains("a transaction hangs"), "{}", server.log());
    assert!(stable("u") < high("u"), "to report is not to end");
    set_policy(&server, "abort");
    wait_for("the end of it", || (server.metric("plimsoll_transactions_hanging") == 0).then_some(()));
    assert_eq!(server.metric("plimsoll_hanging_transactions_aborted_total"), 1);
    assert_eq!(stable("u"), high("u"));
}

/// KAFKA-17754, a client of TV2: the epoch of the late request is that of the transaction before.
#[test]
#[ignore = "needs a broker"]
fn an_end_that_comes_during_the_next_transaction_is_fenced_for_new_clients() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    server.client().create("t", 1, &[]);
    let mut p = TxnClient::new(server.client(), "id", Speaks::Tv2);
    let first = p.init(60_000);
    assert_eq!(p.produce(first, "t", 0, 0), 0);
    let (code, second) = p.end(first, true);
    assert_eq!((code, second), (0, (first.0, first.1 + 1)));
    // Before the next one begins it is the retry that it is.
    assert_eq!(p.end(first, true), (0, second));
    assert_eq!(p.produce(second, "t", 0, 0), 0);
    for commit in [true, false] {
        assert_eq!(p.end(first, commit).0, PRODUCER_FENCED);
    }
    assert_eq!(state(&server, "id"), "Ongoing");
    assert_eq!(p.produce(second, "t", 0, 1), 0, "the next one goes on");
    assert_eq!(p.end(second, false).0, 0);
    assert_eq!(p.end(first, true).0, PRODUCER_FENCED, "and its abort stays one");
    wait_for("the abort", || (state(&server, "id") == "CompleteAbort").then_some(()));
}

/// KAFKA-17754, a client of TV1: one epoch is for all its transactions, but the late end comes by the connection that the
/// client gave up before it asked again.
#[test]
#[ignore = "needs a broker"]
fn an_end_by_a_connection_that_was_given_up_is_refused_for_old_clients() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    server.client().create("t", 1, &[]);
    let mut given_up = TxnClient::new(server.client(), "id", Speaks::Tv1);
    let who = given_up.init(60_000);
    let mut p = TxnClient::new(server.client(), "id", Speaks::Tv1);
    assert_eq!((p.add(who, "t", 0), p.produce(who, "t", 0, 0)), (0, 0));
    assert_eq!(p.end(who, true).0, 0);
    assert_eq!((p.add(who, "t", 0), p.produce(who, "t", 0, 1)), (0, 0));
    for commit in [true, false] {
        assert_eq!(given_up.end_once(who, commit).0, NOT_COORDINATOR);
    }
    assert_eq!(server.metric("plimsoll_transaction_late_ends_total"), 2);
    assert_eq!(state(&server, "id"), "Ongoing");
    assert_eq!(p.produce(who, "t", 0, 2), 0, "it goes on");
    assert_eq!(p.end(who, false).0, 0);
    wait_for("the abort", || (state(&server, "id") == "CompleteAbort").then_some(()));
}

/// The same by one connection: nothing tells a late end from one that is meant, but no request overtakes another there.
#[test]
#[ignore = "needs a broker"]
fn an_end_by_the_same_connection_ends_what_is_open_for_old_clients() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    server.client().create("t", 1, &[]);
    let mut p = TxnClient::new(server.client(), "id", Speaks::Tv1);
    let who = p.init(60_000);
    assert_eq!((p.add(who, "t", 0), p.produce(who, "t", 0, 0)), (0, 0));
    assert_eq!(p.end(who, true).0, 0);
    assert_eq!(p.end(who, false).0, INVALID_TXN_STATE, "what is over is not ended otherwise");
    assert_eq!((p.add(who, "t", 0), p.produce(who, "t", 0, 1)), (0, 0));
    assert_eq!(state(&server, "id"), "Ongoing");
    // The first commit once more.
    assert_eq!(p.end(who, true).0, 0);
    wait_for("the end", || (state(&server, "id") == "CompleteCommit").then_some(()));
    // What the client still writes has no transaction: it is refused, not taken for a part of the next one.
    let refused = p.produce(who, "t", 0, 2);
    assert!(
        refused == INVALID_TXN_STATE || refused == 120,
        "INVALID_TXN_STATE or TRANSACTION_ABORTABLE: {refused}"
    );
}
