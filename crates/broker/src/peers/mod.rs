//! The shell around the peer link: sockets to the other nodes, handshakes, what travels on them.
//!
//! Of two nodes the one with the lower id connects, twice: for data, and for what leases and elections need.
//! The bytes are `crates/peer`'s, what is said is the node's; here is who is let in, and what waits.
mod complaints;
mod find;
mod forward;
mod link;
mod observe;
mod queues;
mod shake;

pub(crate) use find::Finding;
pub(crate) use forward::{Ask, CATCH_UP, Carried, Forwarding, carry_out, keep};
pub(crate) use link::on_client_listener;
pub(crate) use observe::observe;
pub(crate) use queues::Links;

use crate::listener;
use crate::settings::PeerSettings;
use crate::shared::Shared;
use peer::{Limits, Local, Purpose, VERSIONS};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

/// How large frames between nodes may be: a batch of the largest request fits.
pub(crate) fn limits(request_max_bytes: usize) -> Limits {
    Limits { payload: Limits::DEFAULT.payload.max(request_max_bytes), ..Limits::DEFAULT }
}

/// Begins to accept other nodes and to connect to them.
pub(crate) fn start(shared: &Rc<Shared>, peers: &Rc<PeerSettings>, listeners: Vec<TcpListener>) {
    for listener in listeners {
        spawn_local(link::accept(shared.clone(), peers.clone(), listener));
    }
    for voter in &peers.voters {
        shared.links.tell_address(voter.node, &voter.host, voter.port);
    }
    spawn_local(keep_connected(shared.clone(), peers.clone()));
    spawn_local(find::look(shared.clone(), peers.clone()));
}

/// How often the nodes are looked at that the metadata names, at least.
const LOOK: Duration = Duration::from_millis(500);

/// Connects to every node that is known: by its registration, by the configuration, or because others named it
/// when this one looked for its cluster. What a node registered counts.
async fn keep_connected(shared: Rc<Shared>, peers: Rc<PeerSettings>) {
    let own = shared.core.node_id();
    while !shared.links.stopped() {
        let image = shared.core.image();
        let (version, told) = (image.version, shared.links.addresses_told());
        for node in image.nodes.values() {
            if let Some(peer) = &node.peer {
                shared.links.tell_address(node.id, &peer.host, peer.port);
            }
            if shared.links.find(node.id).is_some_and(|link| link.superseded(node.incarnation)) {
                tracing::warn!(
                    node = node.id,
                    "a later start of this node is registered: connections to the earlier process are closed"
                );
            }
        }
        for (node, _) in shared.links.addresses() {
            let link = shared.links.link(node);
            if node <= own || link.connects.replace(true) {
                continue;
            }
            for purpose in [Purpose::Data, Purpose::Liveness] {
                let (shared, peers, link) = (shared.clone(), peers.clone(), link.clone());
                spawn_local(link::connect(shared, peers, link, purpose));
            }
        }
        let news = async {
            while shared.core.image().version == version && shared.links.addresses_told() == told {
                shared.core.turned().await;
            }
        };
        let _ = tokio::time::timeout(LOOK, news).await;
    }
}

/// Nodes that are asked one after the other, at most.
const MOST_ASKED: usize = 16;

/// Whether other nodes connect where clients do.
pub(crate) fn on_client_listeners(shared: &Shared) -> bool {
    shared.settings().peers.as_ref().is_some_and(|peers| peers.listeners.is_empty())
}

/// Binds where other nodes connect.
pub(crate) async fn bind(
    settings: &crate::settings::Settings,
    peers: &PeerSettings,
) -> Result<Vec<TcpListener>, (String, std::io::Error)> {
    let mut bound = Vec::with_capacity(peers.listeners.len());
    for (host, port) in &peers.listeners {
        let socket = listener::bind(settings, host, *port).await;
        bound.push(socket.map_err(|error| (format!("{host}:{port}"), error))?);
    }
    Ok(bound)
}

/// What this node says of itself in a handshake.
fn local(shared: &Shared, peers: &PeerSettings) -> Local {
    let image = shared.core.image();
    let cluster_id =
        if image.cluster_id.is_empty() { known_cluster(shared, peers) } else { image.cluster_id.to_string() };
    let (process_start, directory_id) = shared.core.look(|node| (node.process_start(), node.directory_id()));
    Local {
        versions: VERSIONS,
        cluster_id,
        node_id: image.node_id,
        process_start,
        directory_id,
        secret: peers.secret.clone(),
    }
}

/// The cluster's id before the metadata is there: what the directory was made for, or the configuration's.
fn known_cluster(shared: &Shared, peers: &PeerSettings) -> String {
    let known = shared.core.look(|node| node.directory_cluster_id().to_owned());
    if known.is_empty() { peers.cluster_id.clone() } else { known }
}

/// What a start without a leader of the metadata waits for, for the log.
pub(crate) fn waits_for(shared: &Shared) -> String {
    let own = shared.core.node_id();
    let one = |(node, (host, port)): (model::NodeId, (String, u16))| {
        let link = shared.links.link(node);
        if link.liveness.is_up() {
            return format!("{node}@{host}:{port} is reached");
        }
        match link.trouble.borrow().as_str() {
            "" => format!("{node}@{host}:{port} has not been heard of"),
            trouble => format!("{node}@{host}:{port} is not reached ({trouble})"),
        }
    };
    let others = shared.links.addresses().into_iter().filter(|(node, _)| *node != own);
    others.map(one).collect::<Vec<_>>().join(", ")
}

/// How often a start that waits says so.
pub(crate) const SAY_EVERY: Duration = Duration::from_secs(10);
