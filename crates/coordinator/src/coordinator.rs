//! The coordinator of one partition of `__consumer_offsets`: its groups, its clock and its log.
use crate::config::GroupConfig;
use crate::consumer::{ConsumerGroup, TopicImage};
use crate::context::{Core, Cx};
use crate::events::{BatchId, Effects};
use crate::group::{Group, GroupState};
use crate::member_ids::MemberIds;
use crate::records::OffsetValue;
use crate::store::Store;
use model::{ErrorCode, Mono, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whether requests are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The log is being replayed to serve: COORDINATOR_LOAD_IN_PROGRESS.
    Loading,
    /// Requests are served.
    Serving,
    /// Another node leads; records may be replayed as they commit: NOT_COORDINATOR.
    Standby,
}

/// All groups of one partition of `__consumer_offsets`.
///
/// A caller, in this order: [`replay`](Self::replay) for every committed record, [`loaded`](Self::loaded)
/// once this node leads, then requests, [`tick`](Self::tick) and append outcomes. It performs the effects
/// in their order, appends batches in the order given, and reports outcomes in that order. Records that
/// this instance appended come back through [`on_committed`](Self::on_committed), never through `replay`.
/// [`unload`](Self::unload) ends the lead; after it, records come through `replay` again.
#[derive(Debug)]
pub struct GroupCoordinator {
    pub(crate) core: Core,
    pub(crate) phase: Phase,
    pub(crate) groups: BTreeMap<Arc<str>, Group>,
    /// Groups of the new protocol; an id is in one of both maps.
    pub(crate) consumers: BTreeMap<Arc<str>, ConsumerGroup>,
    pub(crate) topics: Arc<TopicImage>,
    pub(crate) timers: BTreeSet<(Mono, Arc<str>)>,
    pub(crate) next_retention: Mono,
}

impl GroupCoordinator {
    /// A coordinator that is loading. `seed` makes its member ids: use another one for each instance.
    pub fn new(config: GroupConfig, seed: u64) -> GroupCoordinator {
        GroupCoordinator {
            core: Core {
                config,
                ids: MemberIds::new(seed),
                store: Store::default(),
                batches: BTreeMap::new(),
                last_batch: 0,
                last_incarnation: 0,
            },
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            consumers: BTreeMap::new(),
            topics: Arc::default(),
            timers: BTreeSet::new(),
            next_retention: Mono(u64::MAX),
        }
    }

    /// Takes new settings; they count from the next decision on.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.core.config = config;
    }

    /// The settings in use.
    pub fn config(&self) -> &GroupConfig {
        &self.core.config
    }

    /// Whether requests are served.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn serving(&self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Serving => Ok(()),
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Standby => Err(ErrorCode::NotCoordinator),
        }
    }

    pub(crate) fn serving_group(&self, group_id: &str) -> Result<(), ErrorCode> {
        if group_id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { self.serving() }
    }

    pub(crate) fn create_group(&mut self, group_id: &str) {
        let id: Arc<str> = Arc::from(group_id);
        let group = Group::new(id.clone(), self.core.next_incarnation());
        self.groups.insert(id, group);
    }

    pub(crate) fn remove_group(&mut self, group_id: &str) -> Option<Group> {
        let mut group = self.groups.remove(group_id)?;
        if let Some(at) = group.armed {
            group.armed = None;
            self.timers.remove(&(at, group.id.clone()));
        }
        Some(group)
    }

    /// Runs one decision on a group, then arms its earliest deadline.
    pub(crate) fn step(
        &mut self,
        group_id: &str,
        now: Now,
        fx: &mut Effects,
        decide: impl FnOnce(&mut Group, &mut Cx<'_>),
    ) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        decide(group, &mut cx);
        arm(&mut self.timers, group);
    }

    /// Whether a group waits for its members: sessions, rebalances, ids that were given out.
    pub fn expects_members(&self) -> bool {
        !self.timers.is_empty()
    }

    /// The earliest moment at which [`tick`](Self::tick) has work.
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let retention = (self.phase == Phase::Serving).then_some(self.next_retention);
        timer.into_iter().chain(retention).min()
    }

    /// Does what is due: session and rebalance timeouts, unused member ids, expired offsets.
    pub fn tick(&mut self, now: Now, fx: &mut Effects) {
        if self.phase != Phase::Serving {
            return;
        }
        let mut due = Vec::new();
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono
        {
            due.extend(self.timers.pop_first().map(|(_, id)| id));
        }
        for id in due {
            if let Some(group) = self.groups.get_mut(&id) {
                group.armed = None;
            }
            self.step(&id, now, fx, |group, cx| group.fire(cx));
            self.fire_consumer(&id, now, fx);
        }
        if self.next_retention <= now.mono {
            self.next_retention = now.mono.after_ms(self.core.config.retention_check_interval_ms.max(1));
            self.expire_offsets(now, fx);
        }
    }

    /// Every committed offset: group, topic, partition, value.
    pub fn committed_offsets(&self) -> impl Iterator<Item = (&str, &str, i32, OffsetValue)> {
        self.core.store.groups.iter().flat_map(|(group, store)| {
            store.offsets.iter().map(move |(topic, p, value)| (group.as_ref(), topic.as_ref(), p, value))
        })
    }

    /// One committed offset.
    pub fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<OffsetValue> {
        self.core.store.get(group)?.offsets.get(topic, partition)
    }

    /// How many groups are in each state, in the order of [`GroupState::ALL`].
    pub fn state_counts(&self) -> [(GroupState, usize); 4] {
        let mut counts = GroupState::ALL.map(|state| (state, 0));
        for group in self.groups.values() {
            counts.iter_mut().filter(|(of, _)| *of == group.state).for_each(|(_, n)| *n += 1);
        }
        counts
    }

    /// How many members all groups have: classic ones, and consumer groups.
    pub fn member_counts(&self) -> (usize, usize) {
        let classic = self.groups.values().map(|g| g.members.len()).sum();
        (classic, self.consumers.values().map(|g| g.members.len()).sum())
    }

    /// Whether it has consumer groups of the new protocol: only these need to know of topics.
    pub fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// How many appends are under way.
    pub fn open_batches(&self) -> usize {
        self.core.batches.len()
    }

    /// The newest append under way, for assertions of callers.
    pub fn newest_batch(&self) -> Option<BatchId> {
        self.core.batches.keys().next_back().copied()
    }
}

/// Moves a group's entry in the timer set to an earlier deadline. A later one is found when the entry fires.
pub(crate) fn arm(timers: &mut BTreeSet<(Mono, Arc<str>)>, group: &mut Group) {
    let Some(wanted) = group.wanted else { return };
    if group.armed.is_some_and(|armed| armed <= wanted) {
        return;
    }
    if let Some(armed) = group.armed.replace(wanted) {
        timers.remove(&(armed, group.id.clone()));
    }
    timers.insert((wanted, group.id.clone()));
}
