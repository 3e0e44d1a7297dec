//! Brokers that were unregistered and come back: with the directory that they had, or with an empty one.
use crate::cluster::{all_values, topic};
use crate::joining::{add_voter, directory, wait_for_members};
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{Server, wait_for};
use bytes::Bytes;
use client_lite::Acks;
use model::ErrorCode;
use records::{BatchBuilder, NewRecord};
use std::path::Path;
use std::process::Command;

/// Three founders, and a fourth node that joins them.
fn four() -> Nodes {
    let mut nodes = Nodes::new(4);
    nodes.finds = Some(3);
    nodes.start_these(1..=3);
    nodes.start_these(4..=4);
    nodes
}

fn create(nodes: &Nodes, name: &str, partitions: i32, replicas: i16) {
    wait_for("all nodes to be live", || {
        // Any of them may lead the metadata, and place replicas.
        let known = |id| run(async { client(&nodes.address(id)).await.refresh(&[]).await });
        (1..=4).all(|id| known(id).is_ok_and(|cluster| cluster.brokers.len() == 4)).then_some(())
    });
    run(async {
        client(&nodes.address(1))
            .await
            .create_topic(&topic(name, partitions, replicas), false)
            .await
            .unwrap();
    });
}

fn produce(nodes: &Nodes, name: &str, partition: i32, value: &str) {
    let mut batch = BatchBuilder::new();
    batch.push(NewRecord::new(-1, None, Some(value.as_bytes())));
    let batch: Bytes = batch.finish().unwrap().freeze();
    let through = nodes.address(1);
    run(async { client(&through).await.produce(name, partition, batch, Acks::All).await.unwrap() });
}

fn kill(nodes: &mut Nodes, id: usize) {
    nodes.running[id - 1].as_mut().unwrap().kill();
    nodes.running[id - 1] = None;
}

fn unregister(nodes: &Nodes, id: i32) {
    wait_for("the broker to be known as gone", || {
        let gone = run(async { client(&nodes.address(1)).await.unregister_broker(id).await });
        match gone.as_ref().map_err(|error| error.code()) {
            Ok(()) => Some(()),
            Err(Some(ErrorCode::InvalidRequest)) => None,
            Err(code) => panic!("{code:?}"),
        }
    });
}

fn values(nodes: &Nodes, name: &str) -> Vec<String> {
    let found = run(async { all_values(&*client(&nodes.address(1)).await, name, 0).await });
    found.iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect()
}

/// The partitions whose only replica this broker is to have.
fn only_on(nodes: &Nodes, name: &str, id: i32) -> Vec<i32> {
    let cluster = run(async { client(&nodes.address(1)).await.refresh(&[name]).await.unwrap() });
    let rows = &cluster.topic(name).unwrap().partitions;
    rows.iter().filter(|p| p.replicas == [id]).map(|p| p.index).collect()
}

/// Whether every node says of these partitions that they have no leader, and their replica is offline.
fn without_leader(nodes: &Nodes, name: &str, partitions: &[i32], id: i32) -> bool {
    (1..=4).all(|through| {
        let cluster = run(async { client(&nodes.address(through)).await.refresh(&[name]).await.unwrap() });
        cluster.topic(name).is_some_and(|topic| {
            topic.partitions.iter().filter(|p| partitions.contains(&p.index)).all(|p| {
                let code = ErrorCode::LeaderNotAvailable.code();
                (p.leader, p.error_code) == (-1, code) && p.in_sync.is_empty() && p.offline == [id]
            })
        })
    })
}

#[test]
#[ignore = "needs a broker"]
fn an_old_directory_that_returns_after_its_broker_was_unregistered_joins_as_a_new_one() {
    let mut nodes = four();
    create(&nodes, "kept", 1, 4);
    let mut sent = 0;
    let mut send = |nodes: &Nodes| {
        produce(nodes, "kept", 0, &sent.to_string());
        sent += 1;
    };
    // A node that only follows the metadata; then as a voter that founded nothing; then a founder.
    wait_for_members(nodes.node(1), &[1, 2, 3], &[4]);
    for (id, voters, observers) in
        [(4, vec![1, 2, 3], vec![4]), (4, vec![1, 2, 3, 4], vec![]), (3, vec![1, 2, 3, 4], vec![])]
    {
        if voters.contains(&4) && id == 4 {
            assert_eq!(add_voter(nodes.node(1), 4, directory(nodes.node(1), 4)), 0);
            wait_for_members(nodes.node(1), &voters, &observers);
        }
        wait_in_sync(&nodes, 1, "kept");
        send(&nodes);
        kill(&mut nodes, id);
        unregister(&nodes, id as i32);
        send(&nodes);
        let before = nodes.log(id).len();
        nodes.start_these(id..=id);
        wait_in_sync(&nodes, 1, "kept");
        wait_for_members(nodes.node(1), &voters, &observers);
        let said = nodes.log(id)[before..].to_owned();
        assert!(said.contains("was unregistered while it was down"), "{said}");
        // And once more, as ever.
        kill(&mut nodes, id);
        let before = nodes.log(id).len();
        nodes.start_these(id..=id);
        wait_in_sync(&nodes, id, "kept");
        assert!(!nodes.log(id)[before..].contains("was unregistered while"), "it has its place");
    }
    send(&nodes);
    let all: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
    assert_eq!(values(&nodes, "kept"), all);
    let end = "plimsoll_partition_log_end_offset{topic=\"kept\",partition=\"0\"}";
    wait_for("all to have the same", || {
        (1..=4).all(|id| nodes.node(id).metric(end) == all.len() as u64).then_some(())
    });
}

#[test]
#[ignore = "needs a broker"]
fn a_directory_whose_broker_has_another_one_by_now_is_told_so() {
    let mut nodes = four();
    kill(&mut nodes, 4);
    unregister(&nodes, 4);
    let (data, old) = (nodes.data(4), nodes.path("old"));
    std::fs::rename(&data, &old).unwrap();
    nodes.start_these(4..=4);
    kill(&mut nodes, 4);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&old, &data).unwrap();
    let mut refused = nodes.spawn(4, "log.retention.ms=-1");
    wait_for("it to say why it waits", || nodes.log(4).contains("this node is not let in: ").then_some(()));
    refused.kill().unwrap();
    refused.wait().unwrap();
    let log = nodes.log(4);
    assert!(log.contains("known with another data directory"), "{log}");
    assert!(!log.contains("waiting for a majority"), "{log}");
}

#[test]
#[ignore = "needs a broker"]
fn a_partition_whose_only_replica_is_lost_has_no_leader() {
    let mut nodes = four();
    create(&nodes, "two", 4, 1);
    (0..4).for_each(|partition| produce(&nodes, "two", partition, "v"));
    let lost = only_on(&nodes, "two", 4);
    assert_eq!(lost.len(), 1);
    kill(&mut nodes, 4);
    std::fs::remove_dir_all(nodes.data(4)).unwrap();
    unregister(&nodes, 4);
    nodes.start_these(4..=4);
    wait_for("all to know that it is lost", || without_leader(&nodes, "two", &lost, 4).then_some(()));
    let rest: Vec<i32> = (0..4).filter(|p| !lost.contains(p)).collect();
    rest.iter().for_each(|partition| produce(&nodes, "two", *partition, "w"));
    let mut status = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    let status = status.args(["cluster", "status", "-b", &nodes.address(2)]).output().unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("two"), "it is named: {said}");
}

#[test]
#[ignore = "needs a broker"]
fn files_of_an_only_replica_stay_until_the_topic_is_deleted() {
    let mut nodes = four();
    create(&nodes, "one", 4, 1);
    (0..4).for_each(|partition| produce(&nodes, "one", partition, "v"));
    let lost = only_on(&nodes, "one", 4);
    let groups = nodes.data(4).join("groups");
    let here = || std::fs::read_dir(&groups).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let before = here();
    kill(&mut nodes, 4);
    unregister(&nodes, 4);
    nodes.start_these(4..=4);
    wait_for("all to know that it is lost", || without_leader(&nodes, "one", &lost, 4).then_some(()));
    assert!(before.iter().all(|name| here().contains(name)), "{before:?} {:?}", here());
    run(async { client(&nodes.address(1)).await.delete_topic("one").await.unwrap() });
    wait_for("its files to be gone", || (here().len() < before.len()).then_some(()));
}

/// Copies what a stopped process has.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_node_that_comes_back_at_another_address_is_found_there() {
    let mut nodes = Nodes::new(4);
    nodes.finds = Some(3);
    nodes.start_these(1..=3);
    run(async { client(&nodes.address(1)).await.create_topic(&topic("kept", 1, 3), false).await.unwrap() });
    wait_in_sync(&nodes, 1, "kept");
    // The others connect to it, for its id is the highest.
    kill(&mut nodes, 3);
    std::fs::rename(nodes.data(3), nodes.data(4)).unwrap();
    let mut moved = nodes.spawn(4, "node.id=3");
    wait_in_sync(&nodes, 1, "kept");
    moved.kill().unwrap();
    moved.wait().unwrap();
}

#[test]
#[ignore = "needs a broker"]
fn of_two_processes_that_are_one_node_the_first_has_no_connections_when_the_second_is_registered() {
    let mut nodes = Nodes::new(4);
    // Node 3 follows the metadata: where the first process leads it, nobody else can let the second in.
    nodes.finds = Some(2);
    nodes.start_these(1..=2);
    nodes.start_these(3..=3);
    wait_for_members(nodes.node(1), &[1, 2], &[3]);
    run(async { client(&nodes.address(1)).await.create_topic(&topic("kept", 1, 2), false).await.unwrap() });
    wait_in_sync(&nodes, 1, "kept");
    let first = nodes.node(3).pid().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &first]).status().unwrap().success());
    signal("-STOP");
    copy(&nodes.data(3), &nodes.data(4));
    signal("-CONT");
    let mut second = nodes.spawn(4, "node.id=3");
    let connected = |node: &Server, to: u32| {
        ["data", "liveness"].iter().any(|connection| {
            let series = format!("plimsoll_peer_connections{{node=\"{to}\",connection=\"{connection}\"}}");
            node.metric(&series) > 0
        })
    };
    let known = || run(async { client(&nodes.address(1)).await.refresh(&[]).await.unwrap() });
    let port = nodes.address(4).rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    wait_for("the second to be registered", || {
        known().brokers.iter().any(|broker| (broker.id, broker.port) == (3, port.into())).then_some(())
    });
    wait_for("the first to be left", || (1..=2).all(|to| !connected(nodes.node(3), to)).then_some(()));
    wait_for("both others to be connected to the second", || {
        (1..=2).all(|of| connected(nodes.node(of), 3)).then_some(())
    });
    assert!((1..=2).all(|to| !connected(nodes.node(3), to)), "it stays so");
    second.kill().unwrap();
    second.wait().unwrap();
}
