//! A node that knows no cluster yet decides whether it founds one, belongs to one, or asks to be let in
//! (docs/cluster.md, "Which cluster").
//!
//! It asks the addresses of its configuration again and again, and answers others that ask. What it decides is a
//! pure function of what the addresses said last, so that all founders come to one list of voters:
//!
//! - Somebody knows a cluster: that one counts. Whoever is among its founders starts as such, anybody else joins.
//! - Nobody does, and the configuration lists the voters: those found it, as soon as a majority of them was
//!   heard and says the same list. Without a majority they could do nothing anyway.
//! - Nobody does, and there are only addresses: who answers there found it, when every address answered and every
//!   one of them sees the same nodes. An address that is silent may be the one that knows a cluster.
//!
//! Must not know: sockets, time, what comes after the decision.
use model::NodeId;
use storage::{Replica, ReplicaKind};

/// What the configuration says of the voters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// `controller.quorum.voters`: all of them by id, in order. The addresses are theirs, but for this node's own.
    Voters(Vec<NodeId>),
    /// `controller.quorum.bootstrap.servers`: the addresses alone.
    Servers,
    /// The node is no controller: it founds nothing.
    Joins,
}

/// What was last heard at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Nobody, and why.
    Silent(String),
    /// This node is known there and not wanted, and why: with another data directory, for example.
    Refused(String),
    /// The address is this process's own.
    Itself,
    /// A node that has proven to know the secret.
    Node(Heard),
}

/// What a node told of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its id.
    pub node: NodeId,
    /// Its cluster; empty while that is not committed.
    pub cluster_id: String,
    /// The first members of its metadata group; empty while it looks itself.
    pub founders: Vec<Replica>,
    /// This node's replica of that group, as it knows it; 0 for none.
    pub replica: u64,
    /// The voters as it sees them, while it looks itself; empty while it has not heard of all.
    pub voters: Vec<NodeId>,
}

/// The place of a node in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Which cluster; empty while that is not committed.
    pub cluster_id: String,
    /// The first members of its metadata group.
    pub founders: Vec<Replica>,
    /// This node's replica of it.
    pub replica: u64,
    /// Members as they are now, where those may differ from the founders.
    pub members: Vec<Replica>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask again later; the text says what is missing.
    Wait(String),
    /// This node is a founder.
    Found(Membership),
    /// The node at this place of the addresses knows a cluster: ask to be let in.
    Join(usize),
}

/// The founders of a cluster: replicas numbered from 1 in the order of their nodes' ids, on every node alike.
pub fn founders(nodes: &[NodeId]) -> Vec<Replica> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    let voter = |(id, node_id)| Replica { id, node_id, kind: ReplicaKind::Voter.into(), witness: false };
    (1..).zip(nodes).map(voter).collect()
}

/// The voters as node `own` sees them, for others that ask: in order, or empty while it has not heard of all.
pub fn seen(own: NodeId, plan: &Plan, addresses: &[(String, At)]) -> Vec<NodeId> {
    match plan {
        Plan::Voters(voters) => return voters.clone(),
        Plan::Joins => return Vec::new(),
        Plan::Servers => {}
    }
    let mut nodes = Vec::with_capacity(addresses.len());
    for (_, at) in addresses {
        match at {
            At::Itself => nodes.push(own),
            At::Node(heard) => nodes.push(heard.node),
            At::Silent(_) | At::Refused(_) => return Vec::new(),
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// What node `own` does after it heard `addresses`, each with its name.
pub fn decide(own: NodeId, plan: &Plan, addresses: &[(String, At)]) -> Decision {
    // Known elsewhere with another directory, it may have promised there what it has forgotten here.
    for (_, at) in addresses {
        if let At::Refused(why) = at {
            return Decision::Wait(why.clone());
        }
    }
    let heard = |(place, (name, at)): (usize, &'_ (String, At))| match at {
        At::Node(heard) => Some((place, name.clone(), heard.clone())),
        At::Silent(_) | At::Refused(_) | At::Itself => None,
    };
    let heard: Vec<(usize, String, Heard)> = addresses.iter().enumerate().filter_map(heard).collect();
    if let Some(twin) = heard.iter().find(|(_, _, h)| h.node == own) {
        return Decision::Wait(format!("{} is node {own} too", twin.1));
    }
    let mut knowing = heard.iter().filter(|(_, _, h)| !h.founders.is_empty());
    if let Some(first) = knowing.next() {
        let differs = |other: &&(usize, String, Heard)| {
            let ids = [&first.2.cluster_id, &other.2.cluster_id];
            let named = ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1];
            named || first.2.founders != other.2.founders
        };
        if let Some(other) = knowing.find(differs) {
            return Decision::Wait(format!("{} and {} belong to different clusters", first.1, other.1));
        }
        return enter(own, &heard);
    }
    match plan {
        Plan::Voters(voters) => found_by_list(own, voters, addresses, &heard),
        Plan::Servers => found_by_addresses(own, addresses, &heard),
        Plan::Joins => Decision::Wait(
            "this node is no controller (process.roles) and joins when the controllers have founded a cluster"
                .to_owned(),
        ),
    }
}

/// There is a cluster, or one is being founded.
fn enter(own: NodeId, heard: &[(usize, String, Heard)]) -> Decision {
    let mut knowing: Vec<_> = heard.iter().filter(|(_, _, h)| !h.founders.is_empty()).collect();
    // One that knows the cluster's id knows more.
    knowing.sort_by_key(|(place, _, h)| (h.cluster_id.is_empty(), *place));
    let Some((place, name, known)) = knowing.first() else {
        return Decision::Wait("nobody knows a cluster".to_owned());
    };
    let founder = known.founders.iter().find(|r| r.node_id == own).map(|r| r.id);
    match founder {
        Some(replica) if known.cluster_id.is_empty() || known.replica == replica => {
            Decision::Found(Membership {
                cluster_id: known.cluster_id.clone(),
                founders: known.founders.clone(),
                replica,
                members: Vec::new(),
            })
        }
        _ if known.cluster_id.is_empty() => {
            Decision::Wait(format!("{name} founds a cluster with others; this node may join when it stands"))
        }
        _ => Decision::Join(*place),
    }
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

fn as_founder(own: NodeId, nodes: &[NodeId]) -> Decision {
    let founders = founders(nodes);
    let replica = founders.iter().find(|r| r.node_id == own).map_or(0, |r| r.id);
    Decision::Found(Membership { founders, replica, ..Membership::default() })
}

/// The addresses where nobody was heard.
fn unreached(addresses: &[(String, At)]) -> String {
    let silent = addresses.iter().filter_map(|(name, at)| match at {
        At::Silent(why) => Some(format!("{name} is not reached ({why})")),
        At::Refused(_) | At::Itself | At::Node(_) => None,
    });
    silent.collect::<Vec<_>>().join(", ")
}

fn found_by_list(
    own: NodeId,
    voters: &[NodeId],
    addresses: &[(String, At)],
    heard: &[(usize, String, Heard)],
) -> Decision {
    if !voters.contains(&own) {
        return Decision::Wait(format!(
            "controller.quorum.voters does not name node {own}, which joins when the voters ({}) have founded a \
             cluster",
            names(voters)
        ));
    }
    let others = |(_, name, h): &&(usize, String, Heard)| {
        let differs = h.voters != voters;
        differs.then(|| {
            format!("{name} takes other nodes for the voters ({}, here {})", names(&h.voters), names(voters))
        })
    };
    if let Some(why) = heard.iter().find_map(|h| others(&h)) {
        return Decision::Wait(why);
    }
    let missing = (voters.len() / 2 + 1).saturating_sub(heard.len() + 1);
    match missing {
        0 => as_founder(own, voters),
        _ => Decision::Wait(format!(
            "{missing} more of the voters ({}) must be reached: {}",
            names(voters),
            unreached(addresses)
        )),
    }
}

fn found_by_addresses(own: NodeId, addresses: &[(String, At)], heard: &[(usize, String, Heard)]) -> Decision {
    if addresses.iter().any(|(_, at)| matches!(at, At::Silent(_))) {
        return Decision::Wait(unreached(addresses));
    }
    let seen = seen(own, &Plan::Servers, addresses);
    if !seen.contains(&own) {
        return Decision::Wait(format!(
            "none of controller.quorum.bootstrap.servers is node {own}, which joins when the nodes there ({}) have \
             founded a cluster",
            names(&seen)
        ));
    }
    let other = heard.iter().find(|(_, _, h)| h.voters != seen);
    match other {
        None => as_founder(own, &seen),
        Some((_, name, h)) if h.voters.is_empty() => {
            Decision::Wait(format!("{name} has not reached all of its own addresses"))
        }
        Some((_, name, h)) => Decision::Wait(format!(
            "{name} finds other nodes at its addresses ({}, here {}): controller.quorum.bootstrap.servers must be \
             the same on all that are to vote",
            names(&h.voters),
            names(&seen)
        )),
    }
}
