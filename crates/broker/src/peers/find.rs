//! Which cluster: a node without a place asks other nodes, and every node answers (docs/cluster.md).
//!
//! What follows from the answers is `node::decide`'s; here are the sockets, and who is asked when.
use super::local;
use super::shake::{Failed, PATIENCE, Shaking, nonce};
use crate::settings::PeerSettings;
use crate::shared::Shared;
use bytes::Bytes;
use model::{ErrorCode, NodeId};
use node::{AdminReply, AdminRequest, At, Decision, Heard, Membership, Node, Plan, decide, seen};
use peer::{Body, Established, Frame, Handshake, Identity, Kind, PREFIX_BYTES, Purpose, Reason};
use proto::peer::{Find, Found, NodeAddress};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// Between two rounds of questions: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A node that knows its cluster and is not registered asks for members that its log does not name after this.
const LOST: Duration = Duration::from_secs(2);
/// How long a registration may take.
const REGISTRATION: Duration = Duration::from_secs(5);
/// A connection on which nothing is asked ends.
const IDLE: Duration = Duration::from_secs(30);
/// Connections of others that ask.
const MOST_ASKING: usize = 64;

/// What the search of this node has come to.
#[derive(Default)]
pub(crate) struct Finding {
    /// The voters as this node sees them while it looks.
    seen: RefCell<Vec<NodeId>>,
    /// What is missing.
    why: RefCell<String>,
    asking: Cell<usize>,
    /// Questions of others that were answered, and registrations among them.
    counted: Cell<(u64, u64)>,
}

impl Finding {
    /// What is missing, in words.
    pub(crate) fn why(&self) -> String {
        self.why.borrow().clone()
    }

    fn say(&self, why: String) {
        *self.why.borrow_mut() = why;
    }

    /// Questions of others that were answered, and nodes that were let in.
    pub(crate) fn counted(&self) -> (u64, u64) {
        self.counted.get()
    }
}

/// Answers a node that looks for its cluster, until it asks no more.
pub(super) async fn answer(shared: &Rc<Shared>, mut shaking: Shaking, established: Established) {
    let finding = &shared.finding;
    if finding.asking.get() >= MOST_ASKING {
        return shared.links.count_refused("too_many", "this");
    }
    finding.asking.set(finding.asking.get() + 1);
    shaking.decoder.establish(shared.links.limits());
    while let Ok(Ok(find)) = tokio::time::timeout(IDLE, question(shared, &mut shaking)).await {
        let found = told(shared, &established.peer, find).await;
        let Ok(pieces) = Frame::bare(Body::Found(found)).encode(shared.links.limits()) else { break };
        let written = tokio::time::timeout(PATIENCE, shaking.stream.write_all(&pieces.concat())).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    finding.asking.set(finding.asking.get() - 1);
}

async fn question(shared: &Shared, shaking: &mut Shaking) -> Result<Find, Failed> {
    let received = shaking.frame().await?;
    shared.links.received.add(Kind::Find, (PREFIX_BYTES + received.head.len()) as u64);
    match received.frame.body {
        Body::Find(find) => Ok(find),
        _ => Err(Failed::NoPeer),
    }
}

/// What another node is told; one that asks to be let in is registered first, where this node leads the metadata.
async fn told(shared: &Rc<Shared>, asker: &Identity, find: Find) -> Found {
    let (asked, registered) = shared.finding.counted.get();
    shared.finding.counted.set((asked + 1, registered));
    let mut code = ErrorCode::None;
    if !find.registration.is_empty() {
        code = register(shared, asker, find.registration).await;
        if code == ErrorCode::None {
            shared.finding.counted.set((asked + 1, registered + 1));
        }
    }
    let known = shared.core.look(|node| node.whereabouts(asker.node_id));
    let address =
        |(node_id, host, port): (NodeId, String, u16)| NodeAddress { node_id, host, port: port.into() };
    Found {
        cluster_id: known.cluster_id,
        founders: known.founders,
        replica: known.replica,
        leader: known.leader.unwrap_or(-1),
        nodes: known.nodes.into_iter().map(address).collect(),
        voters: shared.finding.seen.borrow().clone(),
        error_code: code.code().into(),
        members: known.members,
    }
}

async fn register(shared: &Rc<Shared>, asker: &Identity, registration: Bytes) -> ErrorCode {
    let node = asker.node_id;
    match shared.core.admin(AdminRequest::Register { node, registration }, REGISTRATION).await {
        Ok(AdminReply::Done(items)) => match items.into_iter().next() {
            Some(Err(error)) => {
                let why = error.message.unwrap_or_default();
                let log = |more: &str| {
                    tracing::warn!(node, %why, "a node that asks to be let in is refused{more}");
                };
                shared.links.complain((Some(node), "registration", "this"), shared.core.uptime(), log);
                error.code
            }
            _ => {
                tracing::info!(node, "node joins the cluster");
                ErrorCode::None
            }
        },
        Ok(_) => ErrorCode::UnknownServerError,
        Err(code) => code,
    }
}

/// What a question came to.
enum Asked {
    Told(Identity, Box<Found>),
    Not(At),
}

/// Asks one address. `to`: the node that must be there, where that is known.
async fn ask(
    shared: Rc<Shared>,
    peers: Rc<PeerSettings>,
    address: (String, u16),
    to: Option<NodeId>,
    registration: Bytes,
) -> Asked {
    let patience = PATIENCE + if registration.is_empty() { Duration::ZERO } else { REGISTRATION };
    let asked = tokio::time::timeout(patience, ask_once(&shared, &peers, &address, to, registration)).await;
    match asked.unwrap_or(Err(Failed::Late)) {
        Ok((identity, found)) => Asked::Told(identity, Box::new(found)),
        Err(Failed::Refused(error)) => Asked::Not(match error.reason() {
            Some(Reason::Itself) => At::Itself,
            Some(
                Reason::WrongDirectory
                | Reason::OlderProcess
                | Reason::WrongCluster
                | Reason::DuplicateNodeId,
            ) => At::Refused(error.to_string()),
            _ => At::Silent(error.to_string()),
        }),
        Err(failed) => Asked::Not(At::Silent(failed.to_string())),
    }
}

async fn ask_once(
    shared: &Shared,
    peers: &PeerSettings,
    (host, port): &(String, u16),
    to: Option<NodeId>,
    registration: Bytes,
) -> Result<(Identity, Found), Failed> {
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    let mut shaking = Shaking::new(stream);
    shaking.stream.set_nodelay(true)?;
    let (handshake, hello) = Handshake::connect(local(shared, peers), Purpose::Find, to, nonce()?);
    shaking.stream.write_all(&hello).await?;
    let established = shaking.shake(shared, peers, handshake).await?;
    shaking.decoder.establish(shared.links.limits());
    let frame = Frame::bare(Body::Find(Find { registration })).encode(shared.links.limits());
    let pieces = frame.map_err(|e| Failed::Io(std::io::Error::other(e.to_string())))?;
    shaking.stream.write_all(&pieces.concat()).await?;
    match shaking.frame().await?.frame.body {
        Body::Found(found) => Ok((established.peer, found)),
        _ => Err(Failed::NoPeer),
    }
}

/// Looks for the cluster until the node is registered.
pub(super) async fn look(shared: Rc<Shared>, peers: Rc<PeerSettings>) {
    let mut wait = AGAIN.0;
    while !shared.links.stopped() && !shared.core.ready() {
        if shared.core.look(Node::knows_cluster) {
            tokio::time::sleep(LOST).await;
            if !shared.core.ready() {
                meet(&shared, &peers).await;
            }
            continue;
        }
        // What is told of this directory must be on its disk.
        if shared.core.look(Node::is_founded) {
            round(&shared, &peers).await;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN.1);
    }
}

/// Where this node looks: the voters but itself, or the addresses.
fn places(peers: &PeerSettings) -> Vec<((String, u16), Option<NodeId>)> {
    let voters = peers.voters.iter().map(|voter| ((voter.host.clone(), voter.port), Some(voter.node)));
    if peers.voters.is_empty() {
        peers.servers.iter().map(|address| (address.clone(), None)).collect()
    } else {
        voters.collect()
    }
}

fn plan(shared: &Shared, peers: &PeerSettings) -> Plan {
    if !peers.votes {
        return Plan::Joins;
    }
    if peers.voters.is_empty() {
        return Plan::Servers;
    }
    let others = peers.voters.iter().map(|voter| voter.node);
    let mut voters: Vec<NodeId> = others.chain([shared.core.node_id()]).collect();
    voters.sort_unstable();
    Plan::Voters(voters)
}

/// One round of questions, and what follows.
async fn round(shared: &Rc<Shared>, peers: &Rc<PeerSettings>) {
    let (own, plan) = (shared.core.node_id(), plan(shared, peers));
    let asked = ask_all(shared, peers).await;
    let mut addresses = Vec::with_capacity(asked.len());
    let names = places(peers).into_iter().map(|(_, to)| to.map_or(String::new(), |to| format!("{to}@")));
    for (((host, port), asked), to) in asked.iter().zip(names) {
        let (name, at) = match asked {
            Asked::Told(who, found) => {
                let heard = Heard {
                    node: who.node_id,
                    cluster_id: found.cluster_id.clone(),
                    founders: found.founders.clone(),
                    replica: found.replica,
                    voters: found.voters.clone(),
                };
                (format!("node {} at {host}:{port}", who.node_id), At::Node(heard))
            }
            Asked::Not(at) => (format!("{to}{host}:{port}"), at.clone()),
        };
        addresses.push((name, at));
    }
    *shared.finding.seen.borrow_mut() = seen(own, &plan, &addresses);
    match decide(own, &plan, &addresses) {
        Decision::Wait(why) => *shared.finding.why.borrow_mut() = why,
        Decision::Found(place) => {
            for ((host, port), asked) in &asked {
                if let Asked::Told(who, _) = asked {
                    shared.links.tell_address(who.node_id, host, *port);
                }
            }
            let founders: Vec<NodeId> = place.founders.iter().map(|r| r.node_id).collect();
            tracing::info!(?founders, "this node is one of the founders of its cluster");
            shared.core.with_node(|node, now| node.join(now, place));
        }
        Decision::Join(at) => {
            if let Some(((host, port), Asked::Told(who, found))) = asked.into_iter().nth(at) {
                join(shared, peers, who, (host, port), *found).await;
            }
        }
    }
}

async fn ask_all(shared: &Rc<Shared>, peers: &Rc<PeerSettings>) -> Vec<((String, u16), Asked)> {
    let begin = |(address, to): ((String, u16), Option<NodeId>)| {
        let question = ask(shared.clone(), peers.clone(), address.clone(), to, Bytes::new());
        (address, spawn_local(question))
    };
    let begun: Vec<_> = places(peers).into_iter().map(begin).collect();
    let mut asked = Vec::with_capacity(begun.len());
    for (address, question) in begun {
        let lost = || Asked::Not(At::Silent("the question was lost".to_owned()));
        asked.push((address, question.await.unwrap_or_else(|_| lost())));
    }
    asked
}

/// There is a cluster: its leader is asked to let this node in.
async fn join(
    shared: &Rc<Shared>,
    peers: &Rc<PeerSettings>,
    who: Identity,
    address: (String, u16),
    found: Found,
) {
    let leader = found.leader;
    match let_in(shared, peers, who, address, found).await {
        Ok(told) => {
            let Found { cluster_id, founders, replica, members, .. } = told;
            tracing::info!(cluster = %cluster_id, leader, "this node joins a cluster");
            shared.finding.say(String::new());
            let place = Membership { cluster_id, founders, replica, members };
            shared.core.with_node(|node, now| node.join(now, place));
        }
        Err(why) => shared.finding.say(why),
    }
}

/// Asks the leader of the metadata, of which `who` told, to register this node. What that one tells then, or why not.
async fn let_in(
    shared: &Rc<Shared>,
    peers: &Rc<PeerSettings>,
    who: Identity,
    address: (String, u16),
    found: Found,
) -> Result<Found, String> {
    let at = |node: &NodeAddress| (node.host.clone(), u16::try_from(node.port).unwrap_or(0));
    let leader = match found.leader {
        -1 => return Err(format!("cluster {} has no leader of its metadata", found.cluster_id)),
        leader if leader == who.node_id => address,
        leader => match found.nodes.iter().find(|node| node.node_id == leader) {
            Some(node) => at(node),
            None => return Err(format!("node {} does not say where node {leader} is reached", who.node_id)),
        },
    };
    let registration = shared.core.look(Node::registration_bytes);
    let (host, port) = leader.clone();
    let asked = ask(shared.clone(), peers.clone(), leader, Some(found.leader), registration).await;
    let told = match asked {
        Asked::Told(_, told) => told,
        Asked::Not(At::Refused(why) | At::Silent(why)) => {
            return Err(format!("the leader of the metadata at {host}:{port}: {why}"));
        }
        Asked::Not(_) => return Err(format!("the leader of the metadata at {host}:{port} is this node")),
    };
    let code = i16::try_from(told.error_code).ok().and_then(ErrorCode::from_code);
    if code != Some(ErrorCode::None) || told.replica == 0 || told.cluster_id.is_empty() {
        let code = code.unwrap_or(ErrorCode::UnknownServerError);
        return Err(format!("the leader of the metadata, node {}, refuses this one: {code}", found.leader));
    }
    for node in &told.nodes {
        let (host, port) = at(node);
        shared.links.tell_address(node.node_id, &host, port);
    }
    Ok(*told)
}

/// The cluster may have changed while this node was down, so that its log names nobody who is left: others say
/// who is there now.
async fn meet(shared: &Rc<Shared>, peers: &Rc<PeerSettings>) {
    let image = shared.core.image();
    let known = image.nodes.values().filter(|n| n.id != image.node_id);
    let known = known.filter_map(|n| n.peer.as_ref().map(|p| ((p.host.clone(), p.port), Some(n.id))));
    for (address, to) in places(peers).into_iter().chain(known.take(super::MOST_ASKED)) {
        let asked = ask(shared.clone(), peers.clone(), address.clone(), to, Bytes::new()).await;
        let (who, found) = match asked {
            Asked::Told(who, found) => (who, found),
            Asked::Not(At::Refused(why)) => {
                shared.finding.say(why);
                continue;
            }
            Asked::Not(_) => continue,
        };
        if found.members.is_empty() || shared.core.ready() {
            continue;
        }
        let own = shared.core.look(Node::metadata_replica);
        // Its leader may not find this node either: where it is reached now is in the registration.
        let placed = found.replica == own;
        if !found.cluster_id.is_empty() && (!placed || found.leader >= 0) {
            match let_in(shared, peers, who, address, (*found).clone()).await {
                Ok(told) if told.replica != own => return placed_anew(shared, &told),
                Ok(_) => {}
                Err(_) if placed => {}
                Err(why) => {
                    shared.finding.say(format!("it is not registered any more, and cannot be now: {why}"));
                    continue;
                }
            }
        }
        shared.finding.say(String::new());
        for node in &found.nodes {
            shared.links.tell_address(node.node_id, &node.host, u16::try_from(node.port).unwrap_or(0));
        }
        shared.core.with_node(|node, now| node.meet(now, &found.members));
        return;
    }
}

/// The node was unregistered while it was down, and is registered again: under another replica of the metadata.
fn placed_anew(shared: &Shared, told: &Found) {
    let taken = shared.core.with_node(|node, now| node.take_place(now, told.replica, &told.members));
    shared.finding.say(if taken {
        String::new()
    } else {
        "it was unregistered and has registered again; the replica of the metadata in its directory does not count any \
         more, and is given up when a majority of the voters runs without it"
            .to_owned()
    });
}
