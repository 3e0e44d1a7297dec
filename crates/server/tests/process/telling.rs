//! What the logs and the metrics of the others say of a node that is killed, refused, or unregistered.
use crate::cluster::topic;
use crate::joining::quorum;
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{Server, wait_for};
use client_lite::NewTopic;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{ApiKey, ResponseBody, UnregisterBrokerRequest};

fn wait_for_log(nodes: &Nodes, id: usize, text: &str) {
    wait_for(text, || nodes.log(id).contains(text).then_some(()));
}

#[test]
#[ignore = "needs a broker"]
fn the_logs_tell_of_nodes_that_are_lost_and_heard_again_and_of_leaders_of_the_metadata() {
    let mut nodes = Nodes::start(3);
    for id in 1..=3 {
        wait_for_log(&nodes, id, "leads the metadata");
        assert_eq!(nodes.node(id).metric("plimsoll_metadata_leader_known"), 1);
    }
    nodes.running[2] = None;
    for id in 1..=2 {
        wait_for_log(&nodes, id, "node 3 is not heard of any more");
    }
    nodes.start_these(3..=3);
    for id in 1..=2 {
        wait_for_log(&nodes, id, "node 3 is heard again");
        let count = |text: &str| nodes.log(id).matches(text).count();
        // Whatever else happened on a busy machine: who is heard for the first time is not heard again.
        let (lost, again) = (count("is not heard of any more"), count("is heard again"));
        assert!(again <= lost, "{again} of {lost}");
    }
    (nodes.running[1], nodes.running[2]) = (None, None);
    wait_for_log(&nodes, 1, "the metadata has no leader since");
    assert_eq!(nodes.node(1).metric("plimsoll_metadata_leader_known"), 0);
    nodes.start_these(2..=3);
    wait_for_log(&nodes, 1, "leads the metadata, which had no leader for");
    assert_eq!(nodes.log(1).matches("the metadata has no leader since").count(), 1, "once a minute");
}

fn sum(nodes: &Nodes, ids: &[usize], series: &str) -> u64 {
    ids.iter().map(|id| nodes.node(*id).metric(series)).sum()
}

/// When each follower of the metadata's leader had all that it has, by node.
fn caught_up(nodes: &Nodes) -> BTreeMap<i32, i64> {
    let answer = (1..=3)
        .map(|id| quorum(nodes.node(id)))
        .find(|answer| answer.topics[0].partitions[0].error_code == 0);
    let partition = &answer.expect("a leader").topics[0].partitions[0];
    let followers = partition.current_voters.iter().filter(|row| row.replica_id != partition.leader_id);
    followers.map(|row| (row.replica_id, row.last_caught_up_timestamp)).collect()
}

#[test]
#[ignore = "needs a broker"]
fn the_metrics_of_those_that_are_left_tell_of_too_few_in_sync_and_of_no_leader() {
    let mut nodes = Nodes::start(3);
    run(async {
        let client = client(&nodes.addresses()).await;
        let configs = vec![("min.insync.replicas".to_owned(), "3".to_owned())];
        client.create_topic(&NewTopic { configs, ..topic("strict", 4, 3) }, false).await.unwrap();
        client.create_topic(&topic("kept", 2, 3), false).await.unwrap();
    });
    wait_in_sync(&nodes, 3, "strict");
    wait_in_sync(&nodes, 3, "kept");
    let (under_min, leaderless) = ("plimsoll_under_min_isr_partitions", "plimsoll_leaderless_partitions");
    wait_for("all to be well", || {
        (sum(&nodes, &[1, 2, 3], under_min) + sum(&nodes, &[1, 2, 3], leaderless) == 0).then_some(())
    });
    // Nothing is appended to the metadata, and who follows it keeps up all the same.
    let before = caught_up(&nodes);
    assert!(before.len() == 2 && before.values().all(|at| *at > 0), "{before:?}");
    std::thread::sleep(Duration::from_secs(5));
    let after = caught_up(&nodes);
    assert!(before.iter().all(|(node, at)| after[node] >= at + 4_000), "{before:?} {after:?}");

    nodes.running[2] = None;
    wait_for("too few in sync", || (sum(&nodes, &[1, 2], under_min) == 4).then_some(()));
    wait_for("other leaders", || (sum(&nodes, &[1, 2], leaderless) == 0).then_some(()));
    nodes.running[1] = None;
    wait_for("no leaders", || (nodes.node(1).metric(leaderless) == 6).then_some(()));
    let node = nodes.node(1);
    assert_eq!((node.metric(under_min), node.metric("plimsoll_offline_partitions")), (0, 0));
    nodes.start_these(2..=3);
    wait_for("leaders", || {
        (sum(&nodes, &[1, 2, 3], under_min) + sum(&nodes, &[1, 2, 3], leaderless) == 0).then_some(())
    });
}

/// Handshakes that came to nothing because of the cluster's id.
fn refused(node: &Server) -> u64 {
    let text = node.http("/metrics");
    let rows = text.lines().filter(|line| {
        line.starts_with("plimsoll_peer_handshakes_refused_total{") && line.contains("wrong_cluster")
    });
    rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
}

fn unregister(through: &Server, node: i32) -> i16 {
    let request = UnregisterBrokerRequest { broker_id: node };
    let ResponseBody::UnregisterBroker(answer) = through.client().ask(ApiKey::UnregisterBroker, 0, request)
    else {
        panic!()
    };
    answer.error_code
}

#[test]
#[ignore = "needs a broker"]
fn a_node_with_a_wrong_cluster_id_is_refused_in_one_line_and_joins_without_it() {
    let mut nodes = Nodes::new(4);
    nodes.finds = Some(3);
    nodes.start_these(1..=3);
    let mut stranger = nodes.spawn(4, "cluster.id=another-cluster");
    wait_for("refusals", || (refused(nodes.node(1)) >= 4).then_some(()));
    let log = nodes.log(1);
    let said = log.lines().filter(|line| line.contains("WARN") && line.contains("node 4"));
    assert_eq!(said.count(), 1, "{log}");
    assert!(!log.contains("to itself"), "a founder that finds its own address is no matter: {log}");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    nodes.start_these(4..=4);
    assert!(nodes.log(4).contains("this node joins a cluster"), "{}", nodes.log(4));

    let series = "plimsoll_peer_connections{node=\"4\"";
    wait_for("a series of node 4", || nodes.node(1).http("/metrics").contains(series).then_some(()));
    // It is killed, and forgotten.
    nodes.running[3] = None;
    wait_for("node 4 to be unregistered", || (unregister(nodes.node(1), 4) == 0).then_some(()));
    wait_for("the end of its series", || (!nodes.node(1).http("/metrics").contains(series)).then_some(()));
}
