//! Kafka's own tool for transactions, kafka-transactions.sh, and `plimsoll txn` see and end the same.
use crate::kafka_tools_cluster::run_tool;
use crate::server::Server;
use crate::transactions::{lose_coordinators, txn};
use crate::txn_client::{Speaks, TxnClient};
use serde_json::json;

/// The words of the line that has `word`.
fn row(text: &str, word: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.split_whitespace().any(|w| w == word));
    let line = line.unwrap_or_else(|| panic!("no {word}: {text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs a broker"]
fn kafkas_transactions_tool_lists_describes_finds_what_hangs_and_aborts_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    server.client().create("t", 1, &[]);
    let mut p = TxnClient::new(server.client(), "pay-1", Speaks::Tv2);
    let who = p.init(600_000);
    assert_eq!(p.produce(who, "t", 0, 0), 0);
    let tool = |args: &[&str]| run_tool("TransactionsCommand", &server.kafka.to_string(), args);
    let producer = who.0.to_string();
    assert_eq!(row(&tool(&["list"]), "pay-1")[2..], [producer.as_str(), "Ongoing"]);
    assert!(
        tool(&["list", "--transactional-id-pattern", "nobody-.*"])
            .lines()
            .all(|line| !line.contains("pay-1"))
    );
    let described = row(&tool(&["describe", "--transactional-id", "pay-1"]), "pay-1");
    assert!(
        described.contains(&"Ongoing".to_owned()) && described.contains(&"t-0".to_owned()),
        "{described:?}"
    );
    let producers = row(&tool(&["describe-producers", "--topic", "t", "--partition", "0"]), &producer);
    let hanging = ["find-hanging", "--topic", "t", "--max-transaction-timeout", "0"];
    assert!(!tool(&hanging).contains(&producer), "its coordinator knows it");

    lose_coordinators(&server, &mut [&mut p]);
    let ours = txn(&server, &["find-hanging", "--max-transaction-timeout", "0s"]);
    let found = row(&tool(&hanging), &producer);
    let start = ours[0]["startOffset"].as_i64().unwrap().to_string();
    assert_eq!((found[0].as_str(), found[1].as_str()), ("t", "0"));
    assert!(found.contains(&start) && producers.contains(&start), "{found:?} {producers:?}");
    tool(&["abort", "--topic", "t", "--partition", "0", "--start-offset", &start]);
    assert_eq!(txn(&server, &["find-hanging", "--max-transaction-timeout", "0s"]), json!([]));
    assert!(!tool(&hanging).contains(&producer));
}
