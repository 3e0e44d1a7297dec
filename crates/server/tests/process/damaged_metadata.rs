//! A node whose metadata log is damaged.
use crate::commands::{plimsoll, said};
use crate::joining::quorum;
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{Server, command, wait_for};
use client_lite::NewTopic;
use std::path::{Path, PathBuf};

/// The file of the metadata log, whose topic id is all zeros but for its last byte, and its checkpoints.
fn metadata_files(data: &Path) -> (PathBuf, Vec<PathBuf>) {
    let groups = std::fs::read_dir(data.join("groups")).unwrap().map(|entry| entry.unwrap().path());
    let group = groups.filter(|path| path.to_string_lossy().contains("AAAAAAAAAAAA")).max().unwrap();
    let files: Vec<PathBuf> = std::fs::read_dir(group).unwrap().map(|entry| entry.unwrap().path()).collect();
    let of = |extension: &str| {
        let is = |path: &&PathBuf| path.extension().is_some_and(|e| e == extension);
        let mut found: Vec<PathBuf> = files.iter().filter(is).cloned().collect();
        found.sort();
        found
    };
    (of("log").remove(0), of("ckpt"))
}

/// Flips bytes of the metadata log. What a checkpoint stands for is not read at a start, so they go.
fn damage(data: &Path) {
    let (log, checkpoints) = metadata_files(data);
    let mut bytes = std::fs::read(&log).unwrap();
    for at in [200, 300, 400] {
        bytes[at] ^= 1;
    }
    std::fs::write(&log, bytes).unwrap();
    checkpoints.iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: Some(2),
        replication_factor: Some(3),
        ..NewTopic::default()
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_node_with_a_damaged_metadata_log_is_brought_up_by_the_other_voters_and_votes_again() {
    let mut nodes = Nodes::start(3);
    let addresses = nodes.addresses();
    run(async { client(&addresses).await.create_topic(&topic("before"), false).await.unwrap() });
    wait_in_sync(&nodes, 1, "before");
    let mut server = nodes.running[1].take().unwrap();
    server.ask_to_stop();
    assert!(server.ended().success());
    damage(&nodes.data(2));
    run(async { client(&nodes.address(1)).await.create_topic(&topic("meanwhile"), false).await.unwrap() });
    nodes.running[1] = Some(nodes.start_node(2));
    let healed = "plimsoll_damaged_replicas_total{result=\"healed\"}";
    wait_for("the metadata to heal", || (nodes.node(2).metric(healed) == 1).then_some(()));
    assert!(nodes.log(2).contains("replica is damaged"), "{}", nodes.log(2));
    wait_for("the quorum to have it again", || {
        let answer = quorum(nodes.node(2));
        let partition = &answer.topics[0].partitions[0];
        let voters = &partition.current_voters;
        let last = voters.iter().map(|row| row.log_end_offset).max()?;
        (voters.len() == 3 && voters.iter().all(|row| row.log_end_offset == last)).then_some(())
    });
    let shown = plimsoll(nodes.node(2), &["cluster", "voters"], "");
    assert!(shown.status.success(), "{}", said(&shown));
    wait_in_sync(&nodes, 2, "before");
    wait_in_sync(&nodes, 2, "meanwhile");
    // With one of the others it is a majority.
    let mut gone = nodes.running[0].take().unwrap();
    gone.ask_to_stop();
    assert!(gone.ended().success());
    run(async { client(&nodes.address(2)).await.create_topic(&topic("after"), false).await.unwrap() });
    // And after another start nothing is amiss.
    let mut server = nodes.running[1].take().unwrap();
    nodes.running[0] = Some(nodes.start_node(1));
    server.ask_to_stop();
    assert!(server.ended().success());
    nodes.running[1] = Some(nodes.start_node(2));
    wait_in_sync(&nodes, 2, "after");
    assert_eq!(nodes.node(2).metric("plimsoll_damaged_replicas_total{result=\"found\"}"), 0);
}

#[test]
#[ignore = "needs a broker"]
fn a_node_that_votes_alone_refuses_to_start_on_a_damaged_metadata_log() {
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let mut server = Server::start_with(&data, &log, &[]);
    server.ask_to_stop();
    assert!(server.ended().success());
    damage(&data);
    let ended = command(&data, &log, &[]).spawn().unwrap().wait().unwrap();
    assert!(!ended.success());
    let said = std::fs::read_to_string(&log).unwrap();
    for part in ["the metadata log: ", "restore them from a replica or a backup"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
