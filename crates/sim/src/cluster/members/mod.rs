//! Members of consumer groups: clients that join, are given partitions, commit offsets of what they have and read them
//! back, leave, vanish and sleep; some of the classic protocol, some of KIP-848, some static.
//!
//! `client.rs` is one member; `embedded.rs` what classic members tell each other; `steps.rs` carries requests and answers;
//! `model.rs` what must hold of what coordinators acknowledge; `verify.rs` what must be so when everything is healed.
mod client;
mod embedded;
mod model;
#[cfg(test)]
mod model_tests;
mod steps;
mod verify;

use super::events::{MS, Micros};
use crate::rng::Rng;
use ::model::TopicId;
pub(crate) use client::LATEST;
use client::Member;
use model::Model;
use std::collections::BTreeMap;

/// Names of the checkers of members.
pub const CHECKERS: &[&str] =
    &["group-two-owners", "group-offset-back", "group-fenced-stays-fenced", "group-liveness"];

/// How groups are configured where members are simulated.
pub(crate) const CONFIGS: &[(&str, &str)] = &[
    ("group.min.session.timeout.ms", "100"),
    ("group.consumer.session.timeout.ms", "1500"),
    ("group.consumer.min.session.timeout.ms", "1500"),
    ("group.consumer.heartbeat.interval.ms", "250"),
    ("group.consumer.min.heartbeat.interval.ms", "250"),
    ("group.consumer.assignment.interval.ms", "100"),
];

/// A partition by the name of its topic: offsets are kept by name, and no name is used twice in a run.
type Part = (String, i32);

/// Which protocol the members of a group speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
}

#[derive(Debug)]
struct Group {
    name: &'static str,
    kind: Kind,
}

/// Clients of one group.
const CLIENTS: usize = 3;

/// All of them, and what is known of their groups.
#[derive(Debug)]
pub(crate) struct Members {
    /// By number of the client.
    clients: BTreeMap<usize, Member>,
    groups: Vec<Group>,
    pub(crate) model: Model,
    /// Chance that is theirs alone: what others draw does not depend on them.
    rng: Rng,
    /// Topics that were ever seen.
    names: BTreeMap<TopicId, String>,
    /// Nobody asks for anything.
    pub(crate) quiet: bool,
}

impl Default for Members {
    fn default() -> Members {
        Members {
            clients: BTreeMap::new(),
            groups: Vec::new(),
            model: Model::default(),
            rng: Rng::new(0, 0),
            names: BTreeMap::new(),
            quiet: false,
        }
    }
}

impl Members {
    /// Client numbers `from..` of a seed with members; how many there are.
    pub(crate) fn new(from: usize, seed: u64) -> (Members, usize) {
        let mut all = Members { rng: Rng::new(seed, 7), ..Members::default() };
        let kinds = match all.rng.below(4) {
            0 => vec![Kind::Classic],
            1 => vec![Kind::Consumer],
            _ => vec![Kind::Classic, Kind::Consumer],
        };
        for (number, kind) in kinds.into_iter().enumerate() {
            let name = if kind == Kind::Classic { "classic-members" } else { "new-members" };
            all.groups.push(Group { name, kind });
            let statics = all.rng.below(3) as usize;
            for client in 0..CLIENTS {
                let begins = client as Micros * all.rng.below(800) * MS;
                let member = Member::new((number, kind), client, client < statics, begins);
                all.clients.insert(from + all.clients.len(), member);
            }
        }
        let count = all.clients.len();
        (all, count)
    }

    /// Everything is to be well soon: who sleeps wakes up, and has yet to show that it can read its offsets.
    pub(crate) fn settle(&mut self, now: Micros) {
        self.quiet = false;
        self.clients.values_mut().for_each(|member| member.settle(now));
    }
}

/// The name of a member id, as a group with static members knows the seat.
fn seat<'a>(id: &'a str, instance: Option<&'a str>) -> &'a str {
    instance.unwrap_or(id)
}
