//! The commands for consumer groups, against a broker of their own.
use crate::commands::{plimsoll, said};
use crate::server::Server;
use crate::wire_client::value_batch;
use serde_json::{Value, json};
use std::process::Output;

/// A broker with topics `a` of two partitions and `b` of one, with four records in `a-0` and none elsewhere.
fn started() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut client = server.client();
    client.create("a", 2, &[]);
    client.create("b", 1, &[]);
    for _ in 0..4 {
        assert_eq!(client.produce("a", 0, value_batch(b"v")).unwrap().code, 0);
    }
    (dir, server)
}

fn group(server: &Server, args: &[&str]) -> Output {
    plimsoll(server, &[&["group"], args].concat(), "")
}

/// What a command that ends well prints.
fn text(server: &Server, args: &[&str]) -> String {
    let output = group(server, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn document(server: &Server, args: &[&str]) -> Value {
    serde_json::from_str(&text(server, &[args, &["--format", "json"]].concat())).unwrap()
}

/// What a command that ends with an error prints, and says.
fn refused(server: &Server, args: &[&str]) -> (String, String) {
    let output = group(server, args);
    assert!(!output.status.success(), "{args:?} should fail");
    (String::from_utf8_lossy(&output.stdout).into_owned(), said(&output))
}

#[test]
#[ignore = "needs a broker"]
fn groups_are_listed_by_states_and_types_that_there_are() {
    let (_dir, server) = started();
    assert_eq!(server.client().commit("g", "a", 0, 1), 0);
    for wanted in [&["--state", "stable,EMPTY"][..], &["--type", "Classic,consumer"], &["--state", "Empty"]] {
        assert!(text(&server, &[&["list"], wanted].concat()).contains("\ng "), "{wanted:?}");
    }
    assert_eq!(document(&server, &["list", "--state", "stable,dead"]), json!([]));
    assert_eq!(document(&server, &["list", "--type", "consumer"]), json!([]));
    for (flag, wrong, valid) in
        [("--state", "wibble", "preparingrebalance"), ("--type", "classics", "consumer")]
    {
        let (_, why) = refused(&server, &["list", flag, wrong]);
        assert!(why.contains(wrong) && why.contains(valid), "{why}");
    }
}

#[test]
#[ignore = "needs a broker"]
fn what_exists_is_shown_or_deleted_and_what_does_not_is_an_error() {
    let (_dir, server) = started();
    for name in ["g1", "g2"] {
        assert_eq!(server.client().commit(name, "a", 0, 1), 0);
    }
    let (shown, why) = refused(&server, &["describe", "nope", "g1", "neither", "g2"]);
    assert!(shown.contains("g1  Empty") && shown.contains("g2  Empty"), "{shown}");
    assert!(why.contains("group nope: GROUP_ID_NOT_FOUND") && why.contains("group neither: "), "{why}");
    let (shown, _) = refused(&server, &["describe", "g1", "nope", "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown[0]["group"], &shown[0]["totalLag"]), (&json!("g1"), &json!(3)));

    let (deleted, why) = refused(&server, &["delete", "g1", "g1x", "g2"]);
    assert_eq!(deleted, "Deleted g1, g2.\n");
    assert!(why.contains("g1x") && why.contains("GROUP_ID_NOT_FOUND"), "{why}");
    let (nothing, _) = refused(&server, &["delete", "g1"]);
    assert_eq!(nothing, "");
}

#[test]
#[ignore = "needs a broker"]
fn offsets_of_topics_and_of_partitions_are_deleted_and_those_that_are_missing_are_named() {
    let (_dir, server) = started();
    for (topic, partition) in [("a", 0), ("a", 1), ("b", 0)] {
        assert_eq!(server.client().commit("g", topic, partition, 0), 0);
    }
    assert_eq!(text(&server, &["delete", "g", "--topic", "a:0,0"]), "Deleted 1 committed offsets.\n");
    let (deleted, why) = refused(&server, &["delete", "g", "--topic", "a:0", "--topic", "b", "-t", "c"]);
    assert_eq!(deleted, "Deleted 1 committed offsets.\n");
    for missing in ["nothing for a-0", "nothing for topic c"] {
        assert!(why.contains(missing), "{why}");
    }
    assert_eq!(text(&server, &["delete", "g", "--topic", "a"]), "Deleted 1 committed offsets.\n");
    let (_, why) = refused(&server, &["delete", "nope", "--topic", "a"]);
    assert!(why.contains("group nope: GROUP_ID_NOT_FOUND"), "{why}");
    // Of what has committed nothing no lag is known.
    assert!(text(&server, &["describe", "g"]).contains("total lag    -\n"));
    assert_eq!(document(&server, &["describe", "g"])[0]["totalLag"], Value::Null);
}

#[test]
#[ignore = "needs a broker"]
fn a_partition_that_is_named_twice_is_set_once() {
    let (_dir, server) = started();
    let place = ["--topic", "a", "--topic", "a:0", "-t", "a:0,0", "--to", "latest"];
    let set = document(&server, &[&["reset-offsets", "g"], &place[..], &["--execute"]].concat());
    assert_eq!(set.as_array().unwrap().len(), 2, "{set}");
    assert_eq!(server.client().committed("g", "a", 0), 4);
    let (_, why) = refused(&server, &["reset-offsets", "g"]);
    for way in ["--to PLACE", "--shift N", "--from-file FILE"] {
        assert!(why.contains(way), "{why}");
    }
    refused(&server, &["reset-offsets", "g", "--to", "latest", "--shift", "1"]);
    let (_, why) = refused(&server, &["reset-offsets", "g", "--to", "latest", "-t", "a:2"]);
    assert!(why.contains("topic a has no partition 2: it has 2"), "{why}");
}

#[test]
#[ignore = "needs a broker"]
fn offsets_that_were_exported_are_set_again_from_the_file() {
    let (dir, server) = started();
    for (name, offset) in [("g", 3), ("h", 2)] {
        assert_eq!(server.client().commit(name, "a", 0, offset), 0);
    }
    let path = dir.path().join("offsets.csv");
    let file = path.to_str().unwrap();
    let both = text(&server, &["reset-offsets", "g", "h", "--export"]);
    assert_eq!(both, "g,a,0,3\nh,a,0,2\n");
    assert_eq!(text(&server, &["reset-offsets", "g", "--to", "earliest", "--export"]), "a,0,0\n");
    assert_eq!(server.client().committed("g", "a", 0), 3);

    std::fs::write(&path, "a,0,1\n\"b\",0,7\n").unwrap();
    let set = ["reset-offsets", "g", "--from-file", file];
    let planned = document(&server, &set);
    let row = ["topic", "before", "new", "executed"].map(|key| planned[0][key].clone());
    assert_eq!(row, [json!("a"), json!(3), json!(1), json!(false)]);
    assert_eq!(server.client().committed("g", "a", 0), 3, "it was only shown");
    let output = group(&server, &[&set[..], &["--execute"]].concat());
    assert!(said(&output).contains("b-0: 7 is outside the log, clamped to 0"), "{}", said(&output));
    assert_eq!(server.client().committed("g", "a", 0), 1);

    std::fs::write(&path, both).unwrap();
    text(&server, &["reset-offsets", "g", "h", "--from-file", file, "--execute"]);
    assert_eq!(["g", "h"].map(|name| server.client().committed(name, "a", 0)), [3, 2]);
    let (_, why) = refused(&server, &set);
    assert!(why.contains(file) && why.contains("line 2") && why.contains("group h"), "{why}");
    std::fs::write(&path, "nowhere,0,1\n").unwrap();
    let (_, why) = refused(&server, &set);
    assert!(why.contains("topic nowhere"), "{why}");
}
