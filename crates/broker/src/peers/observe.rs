//! The numbers of the peer link for the metrics page.
use super::forward::RESULTS;
use super::queues::name;
use crate::metrics::names;
use crate::metrics::render::{Snapshot, labels};
use crate::shared::Shared;
use peer::Kind;

/// Adds what there is to say of the other nodes.
pub(crate) fn observe(shared: &Shared, snapshot: &mut Snapshot) {
    let mut put = |name, value: f64| snapshot.values.push((name, String::new(), value));
    put(names::LEASES, shared.core.live_nodes().len().saturating_sub(1) as f64);
    put(names::TOMBSTONES, shared.core.image().tombstones.len() as f64);
    put(names::MOVING, shared.core.look(node::Node::groups_moving) as f64);
    put(names::RESTRAINED, shared.core.look(node::Node::restrained_replicas) as f64);
    put(names::GROUPS_AWAKE, shared.core.look(node::Node::groups_awake) as f64);
    put(names::REPLICA_REFUSED, shared.links.refused_messages.get() as f64);
    let strong = shared.core.look(node::Node::strong_stats);
    put(names::STRONG_READS_WAITING, strong.waiting as f64);
    put(names::STRONG_READ_ROUNDS, strong.rounds as f64);
    put(names::READ_AT_FOLLOWERS, shared.core.look(node::Node::read_at_followers) as f64);
    let load = shared.core.load_view();
    put(names::NODE_LED_RATE, load.own.led as f64);
    put(names::NODE_FOLLOWED_RATE, load.own.followed as f64);
    put(names::NODE_STORED, load.own.stored as f64);
    put(names::NODE_LED_SHARE, load.own.led as f64 / load.led_by_all.max(1) as f64);
    put(names::LOAD_MOVES, load.moves as f64);
    put(names::FORWARDED_WAITING, shared.forwarding.waiting() as f64);
    for (result, count) in [("asked", strong.reads), ("unconfirmed", strong.unconfirmed)] {
        let label = labels([("result", result)].into_iter());
        snapshot.values.push((names::STRONG_READS, label, count as f64));
    }
    let (voters, observers) = shared.core.look(node::Node::quorum_sizes);
    let (asked, registered) = shared.finding.counted();
    for (name, key, value, count) in [
        (names::METADATA_MEMBERS, "role", "voter", voters as u64),
        (names::METADATA_MEMBERS, "role", "observer", observers as u64),
        (names::JOIN_QUESTIONS, "result", "told", asked - registered),
        (names::JOIN_QUESTIONS, "result", "registered", registered),
    ] {
        snapshot.values.push((name, labels([(key, value)].into_iter()), count as f64));
    }
    for (at, result) in RESULTS.iter().enumerate() {
        let label = labels([("result", *result)].into_iter());
        snapshot.values.push((names::FORWARDED, label, shared.forwarding.counted(at) as f64));
    }
    for (reason, by, count) in shared.links.refusals() {
        let label = labels([("reason", reason), ("by", by)].into_iter());
        snapshot.values.push((names::PEER_REFUSED, label, count as f64));
    }
    installs(shared, snapshot);
    connections(shared, snapshot);
    kinds(shared, snapshot);
}

fn installs(shared: &Shared, snapshot: &mut Snapshot) {
    let (stats, rows) = shared.core.look(|node| (node.install_stats(), node.installs()));
    snapshot.values.push((names::INSTALLS_RUNNING, String::new(), stats.running as f64));
    for (result, count) in [
        ("begun", stats.begun),
        ("resumed", stats.resumed),
        ("finished", stats.finished),
        ("failed", stats.failed),
    ] {
        snapshot.values.push((names::INSTALLS, labels([("result", result)].into_iter()), count as f64));
    }
    for (direction, bytes) in [("in", stats.bytes_pulled), ("out", stats.bytes_sent)] {
        let label = labels([("direction", direction)].into_iter());
        snapshot.values.push((names::INSTALL_BYTES, label, bytes as f64));
    }
    snapshot.values.push((names::INSTALL_PACE, String::new(), stats.pace as f64));
    let (suspect, found, healed) = shared.core.look(node::Node::suspect_counts);
    snapshot.values.push((names::SUSPECT_REPLICAS, String::new(), suspect as f64));
    for (result, count) in [("found", found), ("healed", healed)] {
        let label = labels([("result", result)].into_iter());
        snapshot.values.push((names::DAMAGED_REPLICAS, label, count as f64));
    }
    let (witnesses, held) = shared.core.look(node::Node::witness_counts);
    snapshot.values.push((names::WITNESSES, String::new(), witnesses as f64));
    snapshot.values.push((names::WITNESS_HELD, String::new(), held as f64));
    let accepted = shared.core.look(node::Node::losses_accepted);
    snapshot.values.push((names::LOSSES_ACCEPTED, String::new(), accepted as f64));
    let image = shared.core.image();
    for (key, left) in rows {
        let topic = image.topic_by_id(key.topic).map_or("__cluster_metadata", |topic| &*topic.name);
        let partition = key.partition.to_string();
        let label = labels([("topic", topic), ("partition", partition.as_str())].into_iter());
        snapshot.values.push((names::INSTALL_LEFT, label, left as f64));
    }
}

fn connections(shared: &Shared, snapshot: &mut Snapshot) {
    let image = shared.core.image();
    // Before the metadata is loaded nobody knows who belongs to the cluster.
    let known =
        |node| image.nodes.is_empty() || image.nodes.contains_key(&node) || image.quorum.contains_key(&node);
    // The addresses of the nodes name this one too: it has a link to itself, which never has a connection.
    for link in shared.links.all().into_iter().filter(|link| link.node != image.node_id) {
        let up = link.channels().iter().any(|(_, channel)| channel.is_up());
        if !up && !known(link.node) {
            continue;
        }
        let node = link.node.to_string();
        for (purpose, channel) in link.channels() {
            let label = labels([("node", node.as_str()), ("connection", name(purpose))].into_iter());
            snapshot.values.push((names::PEER_CONNECTIONS, label, f64::from(u8::from(channel.is_up()))));
        }
        let queued = link.data.queued_bytes() + link.liveness.queued_bytes();
        let label = labels([("node", node.as_str())].into_iter());
        snapshot.values.push((names::PEER_QUEUED, label, queued as f64));
    }
}

fn kinds(shared: &Shared, snapshot: &mut Snapshot) {
    let links = shared.links.all();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Handshake) {
        let mut dropped = shared.links.dropped.of(kind).0;
        let (mut messages, mut bytes) = (0, 0);
        for (_, channel) in links.iter().flat_map(|link| link.channels()) {
            let (sent, full) = channel.counted(kind);
            (messages, bytes, dropped) = (messages + sent.0, bytes + sent.1, dropped + full);
        }
        let received = shared.links.received.of(kind);
        for (metric, value) in [
            (names::PEER_SENT, messages),
            (names::PEER_SENT_BYTES, bytes),
            (names::PEER_RECEIVED, received.0),
            (names::PEER_RECEIVED_BYTES, received.1),
            (names::PEER_DROPPED, dropped),
        ] {
            let label = labels([("kind", kind.name())].into_iter());
            snapshot.values.push((metric, label, value as f64));
        }
    }
}
