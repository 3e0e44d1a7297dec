//! Clients that ask for what must be current: the end of a log, a group's offset. They ask whoever takes itself
//! for the leader, also one that was cut off and does not know better.
use super::clients::Ask;
use super::oracle::Oracle;
use super::world::World;
use cluster::CONSUMER_OFFSETS;
use coordinator::{CommitPartition, CommitRequest, CommitTopic, FetchRequest, coordinator_partition_for};
use model::{ErrorCode, GroupKey};
use node::{AdminRequest, GroupRequest, Reply};
use partition::{Isolation, ListOffsetAsk};

/// What groups commit offsets for; nobody looks whether it exists.
const TOPIC: &str = "progress";
/// Kafka's sentinel for the end of the log.
const LATEST: i64 = -1;

#[derive(Debug)]
enum Asked {
    /// The end of a log, of which so much is known.
    Latest(GroupKey, i64),
    /// To commit this.
    Commit(i64),
    /// What was committed: at least this.
    Committed(i64),
}

/// One such client.
#[derive(Debug)]
pub(crate) struct Strict {
    asked: Option<Asked>,
    /// The number of its group. Of a commit without an answer nobody knows when it happens: then it takes
    /// another group.
    group: u64,
    /// What was acknowledged, and what was tried.
    committed: i64,
    tried: i64,
    /// Answers to strong reads.
    pub(crate) heard: u64,
}

impl Strict {
    pub(crate) fn new() -> Strict {
        Strict { asked: None, group: 0, committed: -1, tried: -1, heard: 0 }
    }

    pub(crate) fn next(
        &mut self,
        world: &mut World,
        oracle: &Oracle,
        c: usize,
        keys: &[GroupKey],
    ) -> Option<(usize, Ask)> {
        let torn: Vec<GroupKey> = keys.iter().copied().filter(|key| leaders(world, *key).len() > 1).collect();
        if !torn.is_empty() || world.rng.chance(1, 2) {
            let key = *world.rng.pick(if torn.is_empty() { keys } else { &torn })?;
            let machine = someone_who_leads(world, key)?;
            self.asked = Some(Asked::Latest(key, oracle.floor(key)));
            return Some((machine, Ask::Latest(key)));
        }
        let group = format!("group-{c}-{}", self.group);
        let any = *world.rng.pick(&world.answering())?;
        let image = world.machines[any].node.as_ref()?.image();
        let Some(topic) = image.topic(CONSUMER_OFFSETS) else {
            let controller = world.ask_controller()?;
            let create = AdminRequest::AutoCreate(vec![CONSUMER_OFFSETS.to_owned()]);
            return Some((controller, Ask::Admin(create)));
        };
        let partition = coordinator_partition_for(&group, topic.partitions.len() as i32);
        let machine = someone_who_leads(world, GroupKey { topic: topic.id, partition })?;
        let request = if world.rng.chance(1, 3) {
            self.tried += 1;
            self.asked = Some(Asked::Commit(self.tried));
            let row = CommitPartition { index: 0, offset: self.tried, leader_epoch: -1, metadata: None };
            let topic = CommitTopic { name: TOPIC.to_owned(), partitions: vec![row], ..Default::default() };
            let group_id = group.clone();
            let topics = vec![topic];
            GroupRequest::Commit(CommitRequest { group_id, generation_id: -1, topics, ..Default::default() })
        } else {
            self.asked = Some(Asked::Committed(self.committed));
            let group_id = group.clone();
            GroupRequest::Fetch(FetchRequest { group_id, ..FetchRequest::default() })
        };
        Some((machine, Ask::Group(group, request)))
    }

    /// No answer came.
    pub(crate) fn gave_up(&mut self) {
        if let Some(Asked::Commit(_)) = self.asked.take() {
            self.another_group();
        }
    }

    fn another_group(&mut self) {
        self.group += 1;
        self.committed = -1;
    }

    pub(crate) fn hear(&mut self, oracle: &mut Oracle, c: usize, reply: Reply) {
        match (self.asked.take(), reply) {
            (Some(Asked::Latest(key, floor)), Reply::ListOffset(Ok(found))) => {
                self.heard += 1;
                if found.offset < floor && !oracle.is_doomed(key) {
                    let detail = format!("{key}: {floor} was known, the end was told as {}", found.offset);
                    oracle.violate("stale-read", detail);
                }
            }
            (Some(Asked::Commit(offset)), Reply::Group(coordinator::Reply::Commit(reply))) => {
                let code = reply.topics.first().and_then(|t| t.partitions.first()).map(|p| p.1);
                match code {
                    Some(ErrorCode::None) => self.committed = offset,
                    _ => self.another_group(),
                }
            }
            (Some(Asked::Committed(floor)), Reply::Group(coordinator::Reply::Fetch(reply)))
                if reply.error.is_none() =>
            {
                self.heard += 1;
                let row = reply.topics.first().and_then(|t| t.partitions.first());
                let offset = row.map_or(-1, |p| p.offset);
                if offset < floor || offset > self.tried {
                    let (group, tried) = (self.group, self.tried);
                    let detail =
                        format!("group-{c}-{group}: {floor} was committed, {tried} tried, told was {offset}");
                    oracle.violate("stale-read", detail);
                }
            }
            // Nothing came of a commit that was refused as a whole.
            _ => {}
        }
    }
}

/// The machines that take themselves for the leader, those of older epochs first.
fn leaders(world: &World, key: GroupKey) -> Vec<usize> {
    let epoch = |m: usize| world.machines[m].node.as_ref()?.replica_view(key)?.epoch;
    let mut leaders: Vec<_> = world.answering().into_iter().filter_map(|m| Some((epoch(m)?, m))).collect();
    leaders.sort_unstable();
    leaders.into_iter().map(|(_, m)| m).collect()
}

/// Mostly the one who has led the longest: it may have been deposed.
fn someone_who_leads(world: &mut World, key: GroupKey) -> Option<usize> {
    let leaders = leaders(world, key);
    let oldest = leaders.first().copied();
    if world.rng.chance(3, 4) { oldest } else { world.rng.pick(&leaders).copied() }
}

/// The question for the end of a log.
pub(crate) fn latest() -> ListOffsetAsk {
    ListOffsetAsk { timestamp: LATEST, current_leader_epoch: -1, isolation: Isolation::ReadUncommitted }
}
