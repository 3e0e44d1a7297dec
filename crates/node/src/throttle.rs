//! Reads for replicas that are behind, at the rate that `leader.replication.throttled.rate` and
//! `follower.replication.throttled.rate` allow for the replicas that topics name (Kafka's replication quotas).
//!
//! Only what is read back from files is throttled: a replica that keeps up is sent what is appended, as it comes.
use crate::api::Effect;
use crate::data::ReadFor;
use crate::node::Node;
use cluster::{Image, ResourceKind};
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::VecDeque;
use std::time::Duration;
use storage::{FileRange, ReplicaKind};

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";
/// A read waits no longer than this however low the rate: its group would be taken for stuck.
const LONGEST: Duration = Duration::from_secs(10);

/// Reads that wait for their turn. raft has one wish for each place in a group's log that a follower is at, so there
/// are no more than members of groups that are led here.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When the bytes that were read so far are paid for.
    free_at: Option<Mono>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    key: GroupKey,
    number: u64,
    term: u64,
    range: Box<FileRange>,
    since: Mono,
}

impl Throttle {
    /// When the first that waits may be read.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let first = self.waiting.front()?;
        Some(self.free_at.unwrap_or(first.since).min(first.since.after(LONGEST)))
    }

    /// Whether something of `bytes` may be read at `rate` bytes a second now; it is paid for then.
    fn take(&mut self, now: Mono, bytes: u64, rate: u64) -> bool {
        let free = self.free_at.is_none_or(|at| at <= now);
        if free {
            self.pay(now, bytes, rate);
        }
        free
    }

    fn pay(&mut self, now: Mono, bytes: u64, rate: u64) {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(LONGEST);
        let from = self.free_at.map_or(now, |at| at.max(now));
        self.free_at = Some(from.after(cost));
    }
}

/// Whether a list of `partition:node` pairs, or `*`, names this replica.
fn names(list: &str, partition: i32, node: NodeId) -> bool {
    let pair = format!("{partition}:{node}");
    list.split(',').map(str::trim).any(|one| one == "*" || one == pair)
}

/// A rate of a broker: its own, or that of all.
fn rate(image: &Image, node: NodeId, key: &str) -> Option<u64> {
    let of = |name: &str| image.resource(ResourceKind::Broker, name)?.get(key)?.trim().parse::<u64>().ok();
    of(&node.to_string()).or_else(|| of(""))
}

impl Node {
    /// Reads entries for a replica that is behind, now or later.
    pub(crate) fn read_entries(&mut self, now: Now, key: GroupKey, number: u64, range: Box<FileRange>) {
        let limit = self.limit(key);
        let term = self.open_group(key).map_or(0, |open| open.partition.term());
        let bytes = u64::from(range.len);
        let now = now.mono;
        if limit.is_none_or(|rate| {
            self.peers.throttle.waiting.is_empty() && self.peers.throttle.take(now, bytes, rate)
        }) {
            return self.read_now(key, number, term, *range);
        }
        self.peers.throttle.waiting.push_back(Waiting { key, number, term, range, since: now });
    }

    /// Reads whose turn has come.
    pub(crate) fn read_throttled(&mut self, now: Now) {
        while self.peers.throttle.next_deadline().is_some_and(|at| at <= now.mono) {
            let Some(next) = self.peers.throttle.waiting.pop_front() else { return };
            if let Some(rate) = self.limit(next.key) {
                self.peers.throttle.pay(now.mono, u64::from(next.range.len), rate);
            }
            if self.open_group(next.key).is_some() {
                self.read_now(next.key, next.number, next.term, *next.range);
            }
        }
    }

    fn read_now(&mut self, key: GroupKey, number: u64, term: u64, range: FileRange) {
        let read = self.new_read(ReadFor::Entries { key, number, term });
        self.fx.push(Effect::Read(read, range));
    }

    /// Bytes a second at which entries of this group may be read for others; `None` for no limit.
    fn limit(&self, key: GroupKey) -> Option<u64> {
        let image = self.metadata.image();
        let configs = &image.topic_by_id(key.topic)?.configs;
        let me = self.cfg.node_id;
        let leader = configs.get(LEADER_REPLICAS).filter(|list| names(list, key.partition, me));
        let ours = leader.and_then(|_| rate(&image, me, LEADER_RATE));
        let list = configs.get(FOLLOWER_REPLICAS).unwrap_or_default();
        let members = self.open_group(key).map(|open| open.partition.members()).unwrap_or_default();
        let learners = members.iter().filter(|m| m.kind() == ReplicaKind::Learner);
        let named = learners.filter(|m| names(list, key.partition, m.node_id));
        named.filter_map(|m| rate(&image, m.node_id, FOLLOWER_RATE)).chain(ours).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_paid_for_at_the_rate_and_none_waits_for_ever() {
        let mut throttle = Throttle::default();
        let at = |ms: u64| Mono(1_000_000_000 + ms * 1_000_000);
        assert!(throttle.take(at(0), 1_000_000, 1_000_000), "the first is read at once");
        assert!(!throttle.take(at(999), 1, 1_000_000), "and takes a second");
        assert!(throttle.take(at(1_000), 500_000, 1_000_000));
        throttle.pay(at(1_000), 500_000, 1_000_000);
        assert!(!throttle.take(at(1_999), 1, 1_000_000));
        assert!(throttle.take(at(2_000), 1 << 40, 1), "the lowest of rates");
        assert!(throttle.take(at(2_000 + 10_000), 1, 1));
    }

    #[test]
    fn replicas_are_named_by_pairs_or_all_at_once() {
        assert!(names("0:1,3:2", 3, 2) && names("*", 7, 7) && names(" 0:1 , 3:2", 3, 2));
        assert!(!names("0:1,3:2", 3, 1) && !names("", 0, 1) && !names("13:2", 3, 2));
    }
}
