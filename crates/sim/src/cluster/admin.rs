//! The client that creates and deletes topics, at the node that leads the metadata group.
use super::faults::Swarm;
use super::oracle::Oracle;
use super::world::World;
use cluster::{NewTopic, PartitionTarget, TopicRef};
use model::{ErrorCode, GroupKey, NodeId, TopicId};
use node::{AdminReply, AdminRequest};

/// Topics that live at once, at most.
const MOST_TOPICS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for; nobody knows.
    Wanted,
    /// There.
    Live,
    /// To be deleted; asked for again until it is answered.
    Doomed,
    /// Gone.
    Deleted,
}

#[derive(Debug)]
struct Topic {
    name: String,
    partitions: i32,
    factor: i16,
    min_in_sync: i32,
    id: Option<TopicId>,
    state: State,
    /// Its creation was answered.
    acked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Create(usize),
    Delete(usize),
    /// Whether it was taken back.
    Move(bool),
    Voter,
}

#[derive(Debug)]
pub(crate) struct Admin {
    nodes: usize,
    /// One of so many requests moves replicas; 0: none does.
    moves: u64,
    /// Moves that were taken back, so far.
    pub(crate) cancelled: u64,
    voters_change: bool,
    /// Every topic has all the replicas that it can have, always.
    all_replicas: bool,
    /// Most topics have two replicas.
    pairs: bool,
    topics: Vec<Topic>,
    asked: Option<Asked>,
    doomed: Vec<GroupKey>,
}

fn keys_of(topic: &Topic) -> Vec<GroupKey> {
    let key = |id| (0..topic.partitions).map(move |partition| GroupKey { topic: id, partition });
    topic.id.into_iter().flat_map(key).collect()
}

impl Admin {
    pub(crate) fn new(nodes: usize, swarm: &Swarm) -> Admin {
        let all_replicas = swarm.write_caching;
        let moves = if all_replicas { 0 } else { swarm.moves };
        let (voters_change, topics, asked, doomed) = (swarm.voters_change, Vec::new(), None, Vec::new());
        let pairs = swarm.pairs;
        Admin { nodes, moves, cancelled: 0, voters_change, all_replicas, pairs, topics, asked, doomed }
    }

    /// Finds ids of topics of whose creation no answer came; all partitions that are there.
    pub(crate) fn look(&mut self, world: &World, oracle: &mut Oracle) -> Vec<GroupKey> {
        let nodes = world.machines.iter().filter_map(|m| m.node.as_ref());
        let newest = nodes.max_by_key(|node| node.metadata_applied()).map(|node| node.image());
        for topic in self.topics.iter_mut().filter(|t| t.state == State::Wanted) {
            if let Some(found) = newest.as_ref().and_then(|image| image.topic(&topic.name)) {
                topic.id = Some(found.id);
                topic.state = State::Live;
            }
        }
        let _ = oracle;
        let live = self.topics.iter().filter(|t| t.state == State::Live);
        live.flat_map(keys_of).collect()
    }

    pub(crate) fn next(&mut self, world: &mut World) -> Option<AdminRequest> {
        if let Some(at) = self.topics.iter().position(|t| t.state == State::Doomed) {
            return Some(self.delete(at));
        }
        if let Some(at) = self.topics.iter().position(|t| t.state == State::Wanted) {
            return Some(self.create(at));
        }
        if self.voters_change && world.rng.chance(1, 15) {
            return Some(self.set_voter(world));
        }
        let live: Vec<usize> =
            (0..self.topics.len()).filter(|t| self.topics[*t].state == State::Live).collect();
        if live.len() < MOST_TOPICS && (live.is_empty() || world.rng.chance(1, 20)) {
            let most = self.nodes as u64;
            // Most topics have all the replicas that they can have.
            let all = self.all_replicas || live.is_empty() || world.rng.chance(2, 3);
            let pair = self.pairs && most > 2 && world.rng.chance(3, 4);
            let factor = if all { most } else { 1 + world.rng.below(most) };
            let factor = if pair { 2 } else { factor };
            let min_in_sync = if world.rng.chance(1, 3) { 1 + world.rng.below(factor) as i32 } else { 1 };
            self.topics.push(Topic {
                name: format!("topic-{}", self.topics.len()),
                partitions: 1 + world.rng.below(3) as i32,
                factor: factor as i16,
                min_in_sync,
                id: None,
                state: State::Wanted,
                acked: false,
            });
            return Some(self.create(self.topics.len() - 1));
        }
        if live.len() > 1 && world.rng.chance(1, 60) {
            let at = *world.rng.pick(&live)?;
            self.topics[at].state = State::Doomed;
            self.doomed.extend(keys_of(&self.topics[at]));
            return Some(self.delete(at));
        }
        if self.moves > 0 && !live.is_empty() && world.rng.chance(1, self.moves) {
            return Some(self.reassign(world, &live));
        }
        None
    }

    /// One partition gets other replicas, or one node is to be left by all; some are taken back.
    fn reassign(&mut self, world: &mut World, live: &[usize]) -> AdminRequest {
        let back = world.rng.chance(1, 5);
        self.asked = Some(Asked::Move(back));
        let drained = world.rng.chance(1, 6).then(|| 1 + world.rng.below(self.nodes as u64) as NodeId);
        let all: Vec<(usize, i32)> =
            live.iter().flat_map(|t| (0..self.topics[*t].partitions).map(|p| (*t, p))).collect();
        let some = world.rng.pick(&all).copied();
        let chosen: Vec<(usize, i32)> = if drained.is_some() { all } else { some.into_iter().collect() };
        let mut targets = Vec::new();
        for (topic, partition) in chosen {
            let topic = &self.topics[topic];
            let mut nodes: Vec<NodeId> = (1..=self.nodes as NodeId).collect();
            nodes.sort_by_key(|_| world.rng.below(1 << 30));
            // Produce must go on: no fewer than must be in sync.
            let least = topic.min_in_sync.max(1) as u64;
            let spread = self.nodes as u64 - least + 1;
            let keep = topic.factor as usize;
            let count =
                if world.rng.chance(2, 3) { keep } else { (least + world.rng.below(spread)) as usize };
            nodes.retain(|node| Some(*node) != drained || count == self.nodes);
            nodes.truncate(count.min(self.nodes));
            let nodes = (!back && !nodes.is_empty()).then_some(nodes);
            targets.push(PartitionTarget { topic: topic.name.clone(), partition, nodes });
        }
        AdminRequest::Reassign { targets, keep_factor: false }
    }

    fn set_voter(&mut self, world: &mut World) -> AdminRequest {
        self.asked = Some(Asked::Voter);
        let node = 1 + world.rng.below(self.nodes as u64) as i32;
        let voter = world.rng.chance(1, 2);
        AdminRequest::SetVoter { cluster_id: None, node, directory: [0; 16], voter }
    }

    fn create(&mut self, at: usize) -> AdminRequest {
        self.asked = Some(Asked::Create(at));
        let topic = &self.topics[at];
        let topic = NewTopic {
            name: topic.name.clone(),
            num_partitions: topic.partitions,
            replication_factor: topic.factor,
            assignments: Vec::new(),
            configs: vec![("min.insync.replicas".to_owned(), Some(topic.min_in_sync.to_string()))],
        };
        AdminRequest::CreateTopics { topics: vec![topic], validate_only: false }
    }

    fn delete(&mut self, at: usize) -> AdminRequest {
        self.asked = Some(Asked::Delete(at));
        let name = self.topics[at].name.clone();
        AdminRequest::DeleteTopics(vec![TopicRef { name: Some(name), id: TopicId([0; 16]) }])
    }

    /// Partitions that are deleted from now on, each once.
    pub(crate) fn doomed(&mut self) -> Vec<GroupKey> {
        std::mem::take(&mut self.doomed)
    }

    pub(crate) fn gave_up(&mut self) {
        self.asked = None;
    }

    pub(crate) fn hear(&mut self, reply: AdminReply) {
        match (self.asked.take(), reply) {
            (Some(Asked::Create(at)), AdminReply::Topics(outcomes)) => {
                let created = outcomes.into_iter().next().and_then(|o| o.result.ok());
                if let Some(created) = created {
                    let topic = &mut self.topics[at];
                    topic.id = Some(created.id);
                    topic.state = State::Live;
                    topic.acked = true;
                }
            }
            (Some(Asked::Delete(at)), AdminReply::Deleted(deleted)) => {
                let outcome = deleted.into_iter().next().map(|d| d.result.map_err(|e| e.code));
                if let Some(Ok(_) | Err(ErrorCode::UnknownTopicOrPartition)) = outcome {
                    self.topics[at].state = State::Deleted;
                }
            }
            (Some(Asked::Move(back)), AdminReply::Done(done)) if back => {
                self.cancelled += done.iter().filter(|d| d.is_ok()).count() as u64;
            }
            _ => {}
        }
    }

    /// Topics that must be there, with their ids.
    pub(crate) fn promised(&self) -> Vec<(String, TopicId)> {
        let acked = self.topics.iter().filter(|t| t.acked && t.state == State::Live);
        acked.filter_map(|t| t.id.map(|id| (t.name.clone(), id))).collect()
    }

    /// Topics of which nothing must be left.
    pub(crate) fn deleted(&self) -> Vec<TopicId> {
        self.topics.iter().filter(|t| t.state == State::Deleted).filter_map(|t| t.id).collect()
    }
}
