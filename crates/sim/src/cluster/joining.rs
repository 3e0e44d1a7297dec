//! Nodes that are no founders find their cluster: they ask others, as the shell does, and join.
use super::events::{Event, MS};
use super::world::World;
use model::NodeId;
use node::{AdminRequest, At, Decision, Heard, Membership, Node, Plan, Token, decide};

/// Tokens of requests to be let in, which belong to no client.
const JOINS: u64 = 1 << 61;

impl World {
    /// The process on machine `m` looks for its cluster, or for members that its log does not name.
    pub(crate) fn find(&mut self, m: usize) {
        let returning = self.machines[m].returning;
        if self.machines[m].node.as_ref().is_none_or(|node| node.ready() && returning.is_none()) {
            return;
        }
        if returning.is_some_and(|held| self.take_new_place(m, held)) {
            return;
        }
        let after = 100 * MS + self.some(300 * MS);
        self.later(after, Event::Find { machine: m });
        let other = self.rng.below(self.machines.len() as u64) as usize;
        let silent = self.machines[m].is_paused(self.t) || self.machines[other].is_paused(self.t);
        if other == m || silent || !self.net.is_whole(m, other) {
            return;
        }
        let own = self.machines[m].id;
        let Some(asked) = self.machines[other].node.as_ref() else { return };
        let (told, image, leads) = (asked.whereabouts(own), asked.image(), asked.leads_metadata());
        // As the handshake does: who has not heard yet that the earlier directory is given up answers nothing.
        let known = image.nodes.get(&own).map(|node| &node.directories[..]).unwrap_or_default();
        let refused = !known.is_empty() && !known.contains(&self.machines[m].directory_id());
        if refused || told.founders.is_empty() {
            return;
        }
        if returning.is_some() {
            return self.place_anew(m, other, &told);
        }
        if self.machines[m].node.as_ref().is_some_and(Node::knows_cluster) {
            self.call(m, |node, now| node.meet(now, &told.members));
            return;
        }
        let heard = Heard {
            node: self.machines[other].id,
            cluster_id: told.cluster_id.clone(),
            founders: told.founders.clone(),
            replica: told.replica,
            voters: Vec::new(),
        };
        let founders: Vec<NodeId> = told.founders.iter().map(|r| r.node_id).collect();
        let address = (format!("node {}", other + 1), At::Node(heard));
        match decide(own, &Plan::Voters(founders), &[address]) {
            // As the shell does: where it is to be is what the leader answers that has registered this very directory.
            Decision::Join(_) if leads && told.replica != 0 && !known.is_empty() => {
                self.trace.add(format_args!("{m} joins as {}", told.replica));
                self.sometimes.joined += 1;
                let place = Membership {
                    cluster_id: told.cluster_id,
                    founders: told.founders,
                    replica: told.replica,
                    members: told.members,
                };
                self.call(m, |node, now| node.join(now, place));
            }
            Decision::Join(_) => {
                let leader = told.leader.and_then(|id| self.machines.iter().position(|m| m.id == id));
                if let Some(leader) = leader.filter(|leader| self.net.is_whole(m, *leader)) {
                    self.ask_to_join(m, leader);
                }
            }
            Decision::Found(_) | Decision::Wait(_) => {}
        }
    }

    pub(super) fn ask_to_join(&mut self, m: usize, leader: usize) {
        let asker = self.machines[m].node.as_ref().filter(|node| node.is_founded());
        let Some(registration) = asker.map(Node::registration_bytes) else { return };
        let node = self.machines[m].id;
        self.trace.add(format_args!("{m} asks {leader} to be let in"));
        let request = AdminRequest::Register { node, registration };
        let token = Token(JOINS + m as u64);
        self.call(leader, |node, now| node.admin(now, token, request));
    }

    /// Whether a token is of a node that asks to be let in: its answer shows in the metadata.
    pub(crate) fn is_join(token: Token) -> bool {
        token.0 & JOINS != 0
    }
}
