//! What the logs and the metrics of the others say of a node that is killed, refused, or unregistered.
use crate::nodes::Nodes;
use crate::server::{Server, wait_for};
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
