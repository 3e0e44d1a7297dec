//! The shell around the peer link: sockets to the other nodes, handshakes, what travels on them.
//!
//! Of two nodes the one with the lower id connects, twice: for data, and for what leases and elections need.
//! The bytes are `crates/peer`'s, what is said is the node's; here is who is let in, and what waits.
mod forward;
mod link;
mod observe;
mod queues;
mod shake;

pub(crate) use forward::{Ask, CATCH_UP, Carried, Forwarding, carry_out, keep};
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
    let own = shared.core.node_id();
    for voter in &peers.voters {
        let link = shared.links.link(voter.node);
        if voter.node > own {
            for purpose in [Purpose::Data, Purpose::Liveness] {
                let (shared, peers, link) = (shared.clone(), peers.clone(), link.clone());
                spawn_local(link::connect(shared, peers, link, purpose, voter.clone()));
            }
        }
    }
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
        if image.cluster_id.is_empty() { peers.cluster_id.clone() } else { image.cluster_id.to_string() };
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

/// What a start without a leader of the metadata waits for, for the log.
pub(crate) fn waits_for(shared: &Shared, peers: &PeerSettings) -> String {
    let one = |voter: &crate::settings::PeerAddress| {
        let link = shared.links.link(voter.node);
        let (node, host, port) = (voter.node, &voter.host, voter.port);
        if link.liveness.is_up() {
            return format!("{node}@{host}:{port} is reached");
        }
        match link.trouble.borrow().as_str() {
            "" => format!("{node}@{host}:{port} has not been heard of"),
            trouble => format!("{node}@{host}:{port} is not reached ({trouble})"),
        }
    };
    peers.voters.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// How often a start that waits says so.
pub(crate) const SAY_EVERY: Duration = Duration::from_secs(10);
