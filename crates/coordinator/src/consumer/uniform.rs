//! The `uniform` assignor: numbers of partitions as equal as the subscriptions allow, with few moves.
use super::assignor::{GroupSpec, Kept, Partition, Partitions, to_partitions};
use model::TopicId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Steps of the search for a better balance where subscriptions differ. A group that would need more is left as
/// balanced as it is by then.
const SEARCH_BUDGET: usize = 20_000_000;

pub(crate) fn assign(spec: &GroupSpec) -> BTreeMap<String, Partitions> {
    if spec.members.is_empty() {
        return BTreeMap::new();
    }
    let sets = if spec.is_homogeneous() { homogeneous(spec) } else { heterogeneous(spec) };
    sets.into_iter().map(|(id, own)| (id.to_owned(), to_partitions(own))).collect()
}

/// Partitions of subscribed topics that nobody keeps.
fn unassigned(spec: &GroupSpec, taken: &BTreeSet<Partition>) -> Vec<Partition> {
    let wanted: BTreeSet<TopicId> =
        spec.members.values().flat_map(|m| m.subscribed.iter().copied()).collect();
    let all = spec.topics.iter().filter(|(topic, _)| wanted.contains(topic));
    all.flat_map(|(topic, n)| (0..*n).map(|p| (*topic, p))).filter(|p| !taken.contains(p)).collect()
}

/// All subscribe to the same: everybody has the same number, or one more. Who has that many already keeps the extra
/// one, so that nothing moves that need not.
fn homogeneous(spec: &GroupSpec) -> Kept<'_> {
    let (mut members, taken) = spec.kept();
    let mut free: VecDeque<Partition> = unassigned(spec, &taken).into();
    let total = taken.len() + free.len();
    let (least, mut extras) = (total / members.len(), total % members.len());
    for (_, own) in &mut members {
        let mut quota = least;
        if own.len() > least && extras > 0 {
            extras -= 1;
            quota += 1;
        }
        free.extend(own.drain(quota.min(own.len())..));
    }
    // One partition for each in turn, so that a topic is spread over many members. Each extra is counted, so the
    // numbers come out whoever is first.
    let mut open: VecDeque<usize> = (0..members.len()).collect();
    while let Some(at) = open.pop_front() {
        let own = &mut members[at].1;
        let room = own.len() < least || (own.len() == least && extras > 0);
        if !room {
            continue;
        }
        let Some(partition) = free.pop_front() else { break };
        if own.len() == least {
            extras -= 1;
        }
        own.push(partition);
        open.push_back(at);
    }
    members
}

struct Search<'a> {
    ids: Vec<&'a str>,
    /// What each member has, by topic.
    own: Vec<BTreeMap<TopicId, BTreeSet<i32>>>,
    load: Vec<usize>,
    /// Who subscribes to each topic.
    subscribers: BTreeMap<TopicId, Vec<usize>>,
    budget: usize,
}

impl Search<'_> {
    fn give(&mut self, to: usize, (topic, p): Partition) {
        self.own[to].entry(topic).or_default().insert(p);
        self.load[to] += 1;
    }

    fn take_one(&mut self, from: usize, topic: TopicId) -> Option<Partition> {
        let set = self.own[from].get_mut(&topic)?;
        let p = set.pop_last()?;
        if set.is_empty() {
            self.own[from].remove(&topic);
        }
        self.load[from] -= 1;
        Some((topic, p))
    }

    /// A chain of moves that ends at a member with at least two partitions less than `start`: topics and receivers.
    fn path(&mut self, start: usize) -> Option<Vec<(usize, TopicId, usize)>> {
        let mut came: BTreeMap<usize, (usize, TopicId)> = BTreeMap::new();
        let mut topics_seen: BTreeSet<TopicId> = BTreeSet::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for topic in self.own[at].keys() {
                if !topics_seen.insert(*topic) {
                    continue;
                }
                for next in self.subscribers.get(topic).into_iter().flatten().copied() {
                    self.budget = self.budget.checked_sub(1)?;
                    if next == start || came.contains_key(&next) {
                        continue;
                    }
                    came.insert(next, (at, *topic));
                    if self.load[next] + 2 <= self.load[start] {
                        return Some(trace(&came, start, next));
                    }
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Moves along such chains until none is left. Each lowers the sum of squares of the loads, so it ends.
    fn balance(&mut self) {
        let mut settled = vec![false; self.ids.len()];
        loop {
            let heaviest = (0..self.ids.len()).filter(|m| !settled[*m]).max_by_key(|m| self.load[*m]);
            let Some(from) = heaviest else { return };
            let Some(path) = self.path(from) else {
                if self.budget == 0 {
                    return;
                }
                settled[from] = true;
                continue;
            };
            // From the far end, so that nobody gives on what it has just been given.
            for (giver, topic, receiver) in path {
                if let Some(partition) = self.take_one(giver, topic) {
                    self.give(receiver, partition);
                }
            }
            settled.fill(false);
        }
    }
}

fn trace(came: &BTreeMap<usize, (usize, TopicId)>, start: usize, end: usize) -> Vec<(usize, TopicId, usize)> {
    let (mut path, mut at) = (Vec::new(), end);
    while at != start {
        let Some((from, topic)) = came.get(&at) else { break };
        path.push((*from, *topic, at));
        at = *from;
    }
    path
}

/// Subscriptions differ: what is kept stays, what is free goes to the subscriber with the least, topics with few
/// subscribers first; then partitions move as long as a move makes two loads more equal.
fn heterogeneous(spec: &GroupSpec) -> Kept<'_> {
    let (kept, taken) = spec.kept();
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (at, member) in spec.members.values().enumerate() {
        for topic in member.subscribed.iter().filter(|t| spec.topics.contains_key(t)) {
            subscribers.entry(*topic).or_default().push(at);
        }
    }
    let mut search = Search {
        ids: kept.iter().map(|(id, _)| *id).collect(),
        own: vec![BTreeMap::new(); kept.len()],
        load: vec![0; kept.len()],
        subscribers,
        budget: SEARCH_BUDGET,
    };
    for (at, (_, own)) in kept.into_iter().enumerate() {
        own.into_iter().for_each(|partition| search.give(at, partition));
    }
    let mut free = unassigned(spec, &taken);
    free.sort_by_key(|(topic, p)| (search.subscribers.get(topic).map_or(0, Vec::len), *topic, *p));
    for partition in free {
        let candidates = search.subscribers.get(&partition.0).into_iter().flatten().copied();
        if let Some(to) = candidates.min_by_key(|m| search.load[*m]) {
            search.give(to, partition);
        }
    }
    search.balance();
    let flat = |own: BTreeMap<TopicId, BTreeSet<i32>>| {
        own.into_iter().flat_map(|(topic, set)| set.into_iter().map(move |p| (topic, p))).collect()
    };
    search.ids.into_iter().zip(search.own).map(|(id, own)| (id, flat(own))).collect()
}
