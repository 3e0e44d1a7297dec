//! The requests of members on their way to coordinators and back.
use super::super::clients::{Ask, Clients};
use super::super::events::Micros;
use super::super::oracle::Oracle;
use super::super::world::World;
use super::client::{REBALANCE_MS, SESSION_MS, Shared, Step};
use super::model::{Answer, Sent, Teller};
use super::{Kind, Members, Part, embedded};
use ::model::{ErrorCode, GroupKey, TopicId};
use cluster::{CONSUMER_OFFSETS, Image};
use coordinator::{
    CommitPartition, CommitRequest, CommitTopic, ConsumerHeartbeatRequest, FetchRequest, HeartbeatRequest,
    JoinRequest, LeaveRequest, LeavingMember, Protocol, Reply as GroupReply, SyncRequest, TopicPartitions,
    coordinator_partition_for,
};
use node::{AdminRequest, GroupRequest, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What members subscribe to, whether it exists or not.
const TOPICS: usize = 8;

fn topics() -> Vec<String> {
    (0..TOPICS).map(|number| format!("topic-{number}")).collect()
}

/// The newest metadata that any running node has.
fn newest_image(world: &World) -> Option<Arc<Image>> {
    let nodes = world.machines.iter().filter_map(|m| m.node.as_ref());
    Some(nodes.max_by_key(|node| node.metadata_applied())?.image())
}

/// What a group is to read.
pub(super) fn wanted(world: &World) -> BTreeSet<Part> {
    let Some(image) = newest_image(world) else { return BTreeSet::new() };
    let of = |name: String| {
        let count = image.topic(&name).map_or(0, |topic| topic.partitions.len() as i32);
        (0..count).map(move |partition| (name.clone(), partition))
    };
    topics().into_iter().flat_map(of).collect()
}

/// The partition of the coordinator of a group, once there is one.
pub(super) fn coordinator_of(world: &World, group: &str) -> Option<GroupKey> {
    let image = newest_image(world)?;
    let topic = image.topic(CONSUMER_OFFSETS)?;
    let partition = coordinator_partition_for(group, topic.partitions.len() as i32);
    Some(GroupKey { topic: topic.id, partition })
}

impl Members {
    fn learn(&mut self, image: &Image) {
        for topic in image.topics() {
            self.names.entry(topic.id).or_insert_with(|| topic.name.to_string());
        }
    }

    /// The partition is deleted.
    pub(crate) fn forget(&mut self, world: &World, key: GroupKey) {
        if let Some(image) = newest_image(world) {
            self.learn(&image);
        }
        if let Some(name) = self.names.get(&key.topic) {
            self.model.forget(name);
        }
    }

    /// When a client wants to look for something to do.
    pub(crate) fn due(&self, c: usize, now: Micros) -> Micros {
        self.clients.get(&c).map_or(now, |member| member.due(now))
    }

    /// How long its request is on its way, where that is long.
    pub(crate) fn delay(&mut self, c: usize, draining: bool) -> Option<Micros> {
        let member = self.clients.get(&c)?;
        let one_in = match (&member.asked, member.is_in()) {
            // A commit of who is to give partitions up, which comes when that has happened.
            (Some(Step::Commit(_)), false) => 2,
            (Some(Step::Commit(_)), true) => 8,
            _ => 30,
        };
        (!draining && self.rng.chance(1, one_in)).then(|| self.rng.below(super::client::LATEST))
    }

    /// Partitions by id, as requests of KIP-848 name them.
    fn by_id(&self, parts: &BTreeSet<Part>) -> Vec<(TopicId, Vec<i32>)> {
        let mut of: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in parts {
            let id = self.names.iter().find(|(_, name)| *name == topic).map(|(id, _)| *id);
            of.entry(id.unwrap_or(TopicId::ZERO)).or_default().push(*partition);
        }
        of.into_iter().collect()
    }

    fn by_name(&self, assignment: &[(TopicId, Vec<i32>)]) -> BTreeSet<Part> {
        let mut parts = BTreeSet::new();
        for (id, partitions) in assignment {
            let name = self.names.get(id).cloned().unwrap_or_else(|| format!("{id:?}"));
            parts.extend(partitions.iter().map(|partition| (name.clone(), *partition)));
        }
        parts
    }

    /// The request that a step is.
    fn request(&mut self, c: usize, step: &Step) -> Option<GroupRequest> {
        let names_itself = self.rng.chance(1, 2);
        let member = self.clients.get(&c)?;
        let group_id = self.groups.get(member.group)?.name.to_owned();
        let (member_id, instance_id) = (member.id.clone(), member.instance.clone());
        let (generation_id, connection) = (member.epoch, member.connection);
        Some(match step {
            Step::Join => GroupRequest::Join(JoinRequest {
                group_id,
                member_id,
                require_known_member_id: instance_id.is_none() && names_itself,
                instance_id,
                client_id: format!("client-{c}"),
                client_host: "/127.0.0.1".to_owned(),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: REBALANCE_MS,
                protocol_type: "consumer".to_owned(),
                protocols: vec![Protocol {
                    name: "range".to_owned(),
                    metadata: embedded::subscription(&topics()),
                }],
                supports_skip_assignment: true,
                reason: None,
            }),
            Step::Sync(assignments) => GroupRequest::Sync(SyncRequest {
                group_id,
                generation_id,
                member_id,
                instance_id,
                assignments: assignments.clone(),
                ..SyncRequest::default()
            }),
            Step::Beat => {
                GroupRequest::Heartbeat(HeartbeatRequest { group_id, generation_id, member_id, instance_id })
            }
            Step::Leave => {
                let members = vec![LeavingMember { member_id, instance_id, reason: None }];
                GroupRequest::Leave(LeaveRequest { group_id, members })
            }
            Step::Consumer { owned, whole } => {
                GroupRequest::ConsumerHeartbeat(Box::new(ConsumerHeartbeatRequest {
                    topics: whole.then(topics),
                    rebalance_timeout_ms: if *whole { REBALANCE_MS } else { -1 },
                    owned: Some(self.by_id(owned)),
                    ..beat(c, (group_id, member_id, instance_id), generation_id, connection)
                }))
            }
            Step::ConsumerLeave { for_a_while } => {
                let epoch = if *for_a_while { -2 } else { -1 };
                let request = beat(c, (group_id, member_id, instance_id), epoch, connection);
                GroupRequest::ConsumerHeartbeat(Box::new(request))
            }
            Step::Commit(rows) => GroupRequest::Commit(CommitRequest {
                group_id,
                member_id,
                instance_id,
                generation_id,
                knows_group_id_not_found: true,
                topics: rows.iter().map(|(part, offset)| committed(part, *offset)).collect(),
                ..CommitRequest::default()
            }),
            Step::Fetch(parts) => GroupRequest::Fetch(FetchRequest {
                group_id,
                topics: Some(parts.iter().map(asked_for).collect()),
                require_stable: names_itself,
                member_id: (names_itself && member.kind == Kind::Consumer).then_some(member_id),
                member_epoch: generation_id,
            }),
        })
    }

    /// What an answer says.
    fn answer(&self, step: &Step, reply: &Reply) -> Answer {
        let refused = |code| Answer::Refused(code, String::new());
        let done = |code: ErrorCode| if code.is_none() { Answer::Done } else { refused(code) };
        match reply {
            Reply::GroupRefused(code) => refused(*code),
            Reply::Group(GroupReply::Join(r)) if r.error.is_none() => Answer::Joined(r.clone()),
            Reply::Group(GroupReply::Join(r)) => Answer::Refused(r.error, r.member_id.clone()),
            Reply::Group(GroupReply::Sync(r)) if r.error.is_none() => {
                match embedded::decode(r.assignment.clone()) {
                    Some(parts) => Answer::Synced(parts),
                    None => refused(ErrorCode::UnknownServerError),
                }
            }
            Reply::Group(GroupReply::Sync(r)) => refused(r.error),
            Reply::Group(GroupReply::Heartbeat(code)) => done(*code),
            Reply::Group(GroupReply::Leave(r)) => {
                let of_member = r.members.first().map_or(ErrorCode::None, |m| m.error);
                done(if r.error.is_none() { of_member } else { r.error })
            }
            Reply::Group(GroupReply::ConsumerHeartbeat(r)) if !r.error.is_none() => refused(r.error),
            Reply::Group(GroupReply::ConsumerHeartbeat(_)) if matches!(step, Step::ConsumerLeave { .. }) => {
                Answer::Done
            }
            Reply::Group(GroupReply::ConsumerHeartbeat(r)) => {
                Answer::Told(r.clone(), r.assignment.as_ref().map(|a| self.by_name(a)))
            }
            Reply::Group(GroupReply::Commit(r)) => {
                let mut codes = r.topics.iter().flat_map(|t| &t.partitions).map(|(_, code)| *code);
                done(codes.find(|code| !code.is_none()).unwrap_or(ErrorCode::None))
            }
            Reply::Group(GroupReply::Fetch(r)) if !r.error.is_none() => refused(r.error),
            Reply::Group(GroupReply::Fetch(r)) => {
                let rows = r.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p)));
                Answer::Read(rows.map(|(name, p)| ((name.clone(), p.index), p.offset)).collect())
            }
            _ => refused(ErrorCode::RequestTimedOut),
        }
    }
}

fn beat(
    c: usize,
    (group_id, member_id, instance_id): (String, String, Option<String>),
    member_epoch: i32,
    connection: u64,
) -> ConsumerHeartbeatRequest {
    ConsumerHeartbeatRequest {
        group_id,
        member_id,
        member_epoch,
        instance_id,
        rebalance_timeout_ms: -1,
        client_id: format!("client-{c}"),
        client_host: "/127.0.0.1".to_owned(),
        connection,
        must_have_id: true,
        ..ConsumerHeartbeatRequest::default()
    }
}

fn committed((name, index): &Part, offset: i64) -> CommitTopic {
    let row = CommitPartition { index: *index, offset, leader_epoch: -1, metadata: None };
    CommitTopic { name: name.clone(), partitions: vec![row], ..CommitTopic::default() }
}

fn asked_for((name, index): &Part) -> TopicPartitions {
    TopicPartitions { name: name.clone(), partitions: vec![*index], ..TopicPartitions::default() }
}

/// The epoch in which `m` leads the log of the coordinator, and whether any node knows of a later one.
fn teller(world: &World, m: usize, key: Option<GroupKey>) -> Teller {
    let view = |m: usize| world.machines[m].node.as_ref()?.replica_view(key?);
    let own = view(m);
    let newest = (0..world.machines.len()).filter_map(|m| view(m).map(|view| view.term)).max();
    let reign = own.and_then(|view| view.epoch).unwrap_or(-1);
    Teller { reign, is_newest: reign >= 0 && own.map(|view| view.term) == newest }
}

impl Clients {
    /// What a member asks for next, and whom.
    pub(crate) fn next_of_member(&mut self, world: &mut World, c: usize) -> Option<(usize, Ask)> {
        if self.draining && self.members.quiet {
            return None;
        }
        let image = newest_image(world)?;
        self.members.learn(&image);
        let (group, kind) = self.members.clients.get(&c).map(|member| (member.group, member.kind))?;
        let name = self.members.groups.get(group)?.name;
        let Some(key) = coordinator_of(world, name) else {
            // When everything is to be healed the metadata stays as it is.
            let controller = world.ask_controller().filter(|_| !self.draining)?;
            let create = AdminRequest::AutoCreate(vec![CONSUMER_OFFSETS.to_owned()]);
            return Some((controller, Ask::Admin(create)));
        };
        let machine = self.leader(world, c, key)?;
        let wanted = wanted(world);
        let members = &mut self.members;
        let mut shared = Shared {
            rng: &mut members.rng,
            now: world.t,
            draining: self.draining,
            wanted: &wanted,
            tried: members.model.tried.entry(group).or_default(),
        };
        let member = members.clients.get_mut(&c)?;
        let step = member.next(&mut shared)?;
        member.asked = Some(step.clone());
        let sent = Sent {
            group,
            kind,
            member: member.id.clone(),
            instance: member.instance.clone(),
            epoch: member.epoch,
            step: step.clone(),
        };
        let request = members.request(c, &step)?;
        // The number that the request gets when it is sent.
        members.model.sent(self.calls + 1, sent);
        Some((machine, Ask::Group(name.to_owned(), request)))
    }

    /// A node answered a member; whether that is heard or not.
    pub(crate) fn answered_member(
        &mut self,
        world: &World,
        oracle: &mut Oracle,
        (c, m, call): (usize, usize, u64),
        reply: &Reply,
    ) {
        let Some(member) = self.members.clients.get(&c) else { return };
        let Some(name) = self.members.groups.get(member.group).map(|group| group.name) else { return };
        if let Some(node) = &world.machines[m].node {
            self.members.learn(&node.image());
        }
        let Some(step) = self.members.model.step_of(call) else { return };
        let answer = self.members.answer(&step, reply);
        let by = teller(world, m, coordinator_of(world, name));
        self.members.model.answered(oracle, call, by, &answer);
    }

    /// A member hears an answer.
    pub(crate) fn hear_as_member(&mut self, world: &mut World, c: usize, reply: &Reply) {
        let wanted = wanted(world);
        let Some(step) = self.members.clients.get_mut(&c).and_then(|member| member.asked.take()) else {
            return;
        };
        let answer = self.members.answer(&step, reply);
        let (now, rng) = (world.t, &mut self.members.rng);
        let Some(member) = self.members.clients.get_mut(&c) else { return };
        match answer {
            Answer::Refused(code, given) => {
                world.trace.add(format_args!("member {} ({c}) hears {code:?} to {step:?}", member.id));
                member.refused(&step, code, &given, now, rng);
            }
            Answer::Joined(reply) => member.joined(&reply, &wanted),
            Answer::Synced(parts) => member.synced(parts, now),
            Answer::Told(reply, parts) => member.told(&reply, parts, now, rng),
            Answer::Done | Answer::Read(_) => member.went_well(&step, now, rng),
        }
        world
            .trace
            .add(format_args!("member {} ({c}) at {} has {:?}", member.id, member.epoch, member.owned));
    }

    /// No answer came to a member.
    pub(crate) fn member_gave_up(&mut self, world: &World, c: usize) {
        let rng = &mut self.members.rng;
        if let Some(member) = self.members.clients.get_mut(&c) {
            member.gave_up(world.t, rng);
        }
    }
}
