//! A node that was away while its leaders gave up what it needs: it is brought up from their checkpoints.
use crate::cluster::values;
use crate::cluster_moves::told;
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::wait_for;
use client_lite::{Acks, Client, NewTopic};
use records::{BatchBuilder, NewRecord};

const VALUE: usize = 60_000;

fn value(number: u64) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(VALUE).collect()
}

pub(crate) async fn produce(client: &Client, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let mut batch = BatchBuilder::new();
        batch.push(NewRecord::new(-1, None, Some(&value(number))));
        let batch = batch.finish().unwrap().freeze();
        while let Err(error) = client.produce("kept", 0, batch.clone(), Acks::All).await {
            assert!(error.is_retriable(), "{error}");
        }
    }
}

pub(crate) fn small() -> NewTopic {
    NewTopic {
        name: "kept".to_owned(),
        partitions: Some(1),
        replication_factor: Some(3),
        configs: [("segment.bytes", "1048576"), ("retention.bytes", "4194304")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..NewTopic::default()
    }
}

fn metric(nodes: &Nodes, id: usize, result: &str) -> u64 {
    nodes.node(id).metric(&format!("plimsoll_installs_total{{result=\"{result}\"}}"))
}

#[test]
#[ignore = "needs a broker"]
fn a_node_that_was_away_for_longer_than_its_leader_keeps_entries_comes_back_in_sync() {
    let mut nodes = Nodes::new(3);
    nodes.set("log.window.bytes=1048576");
    nodes.set("log.retention.check.interval.ms=500");
    // So that it takes long enough to be killed in the middle.
    nodes.set("follower.replication.throttled.rate=1500000");
    nodes.start_all();
    let addresses = nodes.addresses();
    let away = run(async {
        let client = client(&addresses).await;
        client.create_topic(&small(), false).await.unwrap();
        let topic = client.topic_created("kept").await.unwrap();
        produce(&client, 0..5).await;
        let leader = topic.partitions[0].leader as usize;
        (1..=3).find(|id| *id != leader).unwrap()
    });
    wait_in_sync(&nodes, away, "kept");
    nodes.running[away - 1].as_mut().unwrap().kill();
    run(async { produce(&*client(&addresses).await, 5..200).await });
    let others: Vec<usize> = (1..=3).filter(|id| *id != away).collect();
    let start = "plimsoll_partition_log_start_offset{topic=\"kept\",partition=\"0\"}";
    wait_for("retention", || (others.iter().all(|id| nodes.node(*id).metric(start) > 5)).then_some(()));
    nodes.running[away - 1] = Some(nodes.start_node(away));
    wait_for("an install that has pulled something", || {
        let pulled = nodes.node(away).metric("plimsoll_install_bytes_total{direction=\"in\"}");
        (pulled > 300_000).then_some(())
    });
    let (status, _) = told(&nodes, &["cluster", "status"]);
    assert_eq!(metric(&nodes, away, "finished"), 0, "in the middle");
    let row: Vec<&str> = status
        .lines()
        .map(str::trim)
        .find(|line| line.contains("installing"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(row[..4], ["kept", "0", &away.to_string(), "installing,"], "{status}");
    assert!(row[4].parse::<f64>().unwrap() > 0.0 && row.last() == Some(&"left"), "{status}");
    nodes.running[away - 1].as_mut().unwrap().kill();
    nodes.running[away - 1] = Some(nodes.start_node(away));
    wait_for("the install to end", || (metric(&nodes, away, "finished") == 1).then_some(()));
    wait_in_sync(&nodes, away, "kept");
    assert_eq!(metric(&nodes, away, "resumed"), 1);
    assert_eq!(metric(&nodes, away, "failed"), 0);
    assert!(nodes.log(away).contains("replica is brought up from a checkpoint"), "{}", nodes.log(away));
    // Without one of the others everything rests on what was pulled.
    let mut gone = nodes.running[others[0] - 1].take().unwrap();
    gone.ask_to_stop();
    assert!(gone.ended().success());
    run(async {
        let client = client(&nodes.address(away)).await;
        produce(&client, 200..203).await;
        let place = ("kept".to_owned(), 0);
        let ask = std::slice::from_ref(&place);
        let first = client.list_offsets(ask, client_lite::EARLIEST, false).await.unwrap()[&place].offset;
        let found = values(&client, "kept", 0, first..203).await;
        let due: Vec<Vec<u8>> = (first as u64..203).map(value).collect();
        assert!(first > 5 && found.iter().zip(&due).all(|(a, b)| a == b), "from {first} on");
        assert_eq!(found.len(), due.len());
    });
    // A start finds the new life where the old one was.
    let mut server = nodes.running[away - 1].take().unwrap();
    server.ask_to_stop();
    assert!(server.ended().success());
    let lives = std::fs::read_dir(nodes.data(away).join("groups")).unwrap();
    let lives: Vec<String> = lives.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(lives.iter().any(|name| name.ends_with(".1")), "{lives:?}");
    nodes.running[others[0] - 1] = Some(nodes.start_node(others[0]));
    nodes.running[away - 1] = Some(nodes.start_node(away));
    wait_in_sync(&nodes, away, "kept");
    assert_eq!(metric(&nodes, away, "begun"), 0, "nothing is pulled twice");
}

/// The first data file of the topic's partition on a node, in whichever life.
pub(crate) fn first_file(nodes: &Nodes, id: usize) -> std::path::PathBuf {
    let groups = std::fs::read_dir(nodes.data(id).join("groups")).unwrap();
    let files = groups.flat_map(|group| std::fs::read_dir(group.unwrap().path()).unwrap());
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    // The metadata's own topic id is all zeros but for its last byte.
    files.retain(|path| {
        path.extension().is_some_and(|e| e == "log") && !path.to_string_lossy().contains("AAAAAAAA")
    });
    files.sort();
    files.remove(0)
}

#[test]
#[ignore = "needs a broker"]
fn a_replica_with_a_flipped_bit_is_brought_up_anew_by_its_peers() {
    let mut nodes = Nodes::start(3);
    let addresses = nodes.addresses();
    run(async {
        let client = client(&addresses).await;
        let topic = NewTopic { partitions: Some(1), replication_factor: Some(3), ..small() };
        client.create_topic(&NewTopic { configs: Vec::new(), ..topic }, false).await.unwrap();
        client.topic_created("kept").await.unwrap();
        produce(&client, 0..20).await;
    });
    wait_in_sync(&nodes, 1, "kept");
    let mut server = nodes.running[1].take().unwrap();
    server.ask_to_stop();
    assert!(server.ended().success());
    let file = first_file(&nodes, 2);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[VALUE * 3] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    // What a checkpoint stands for is not read at a start.
    for entry in std::fs::read_dir(file.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "ckpt") {
            std::fs::remove_file(path).unwrap();
        }
    }
    nodes.running[1] = Some(nodes.start_node(2));
    let healed = "plimsoll_damaged_replicas_total{result=\"healed\"}";
    wait_for("the replica to heal", || (nodes.node(2).metric(healed) == 1).then_some(()));
    assert!(nodes.log(2).contains("replica is damaged"), "{}", nodes.log(2));
    wait_in_sync(&nodes, 2, "kept");
    assert_eq!(nodes.node(2).metric("plimsoll_suspect_replicas"), 0);
    // Its vote counts again: with one of the others it is a majority.
    let mut gone = nodes.running[0].take().unwrap();
    gone.ask_to_stop();
    assert!(gone.ended().success());
    run(async {
        let client = client(&nodes.address(2)).await;
        produce(&client, 20..23).await;
        let found = values(&client, "kept", 0, 0..23).await;
        assert!(found.iter().zip(0..).all(|(a, b)| *a == value(b)) && found.len() == 23);
    });
}
