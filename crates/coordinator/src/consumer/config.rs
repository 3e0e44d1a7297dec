//! The settings of consumer groups: `group.consumer.*` of the broker, `consumer.*` of one group (KIP-848).
use super::assignor::Assignor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Milliseconds between the heartbeats of members of a small group for which there may be news.
const HURRIED_MS: i32 = 200;

/// `group.consumer.migration.policy`: which groups may change their protocol while members are in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MigrationPolicy {
    /// None.
    Disabled,
    /// Classic groups become consumer groups.
    Upgrade,
    /// Consumer groups become classic groups.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// Kafka's name, in any case.
    pub fn parse(name: &str) -> Option<MigrationPolicy> {
        let all = [
            ("disabled", MigrationPolicy::Disabled),
            ("upgrade", MigrationPolicy::Upgrade),
            ("downgrade", MigrationPolicy::Downgrade),
            ("bidirectional", MigrationPolicy::Bidirectional),
        ];
        all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, policy)| policy)
    }

    /// Whether a classic group with members may become a consumer group.
    pub fn may_upgrade(self) -> bool {
        matches!(self, MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional)
    }

    /// Whether a consumer group with classic members may become a classic group.
    pub fn may_downgrade(self) -> bool {
        matches!(self, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
    }
}

/// The dynamic configuration of one group (a GROUP resource); `None` is the broker's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupOverrides {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`.
    pub assignment_interval_ms: Option<i32>,
}

/// Limits and times of consumer groups, named after Kafka's keys where Kafka has one. Who sets them has checked that they
/// do not contradict each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerConfig {
    /// `group.consumer.session.timeout.ms`: a member silent for so long is fenced.
    pub session_timeout_ms: i32,
    /// `group.consumer.min.session.timeout.ms`: least that a group may set.
    pub min_session_timeout_ms: i32,
    /// `group.consumer.max.session.timeout.ms`: most that a group may set.
    pub max_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`: told to members.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.min.heartbeat.interval.ms`: least that a group may set.
    pub min_heartbeat_interval_ms: i32,
    /// `group.consumer.max.heartbeat.interval.ms`: most that a group may set.
    pub max_heartbeat_interval_ms: i32,
    /// `group.consumer.assignment.interval.ms`: least time between two assignments of a group (KIP-1263).
    pub assignment_interval_ms: i32,
    /// `group.consumer.min.assignment.interval.ms`: least that a group may set.
    pub min_assignment_interval_ms: i32,
    /// `group.consumer.max.assignment.interval.ms`: most that a group may set.
    pub max_assignment_interval_ms: i32,
    /// `group.consumer.max.size`: members of one group.
    pub max_size: i32,
    /// `group.consumer.assignors`: the first one is the default.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`: regular expressions are resolved anew after so long.
    pub regex_refresh_interval_ms: i32,
    /// Least time between two resolutions because topics changed; Kafka's fixed ten seconds.
    pub regex_min_refresh_ms: i64,
    /// Bytes of a regular expression; a longer one is refused.
    pub max_regex_bytes: usize,
    /// Topics that one member may name; more are refused.
    pub max_subscribed_topics: usize,
    /// Requests of one group that wait for its append under way; a further one is told to try again.
    pub max_queued: usize,
    /// Groups with settings of their own.
    pub overrides: Arc<BTreeMap<String, GroupOverrides>>,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            session_timeout_ms: 45_000,
            min_session_timeout_ms: 45_000,
            max_session_timeout_ms: 60_000,
            heartbeat_interval_ms: 5_000,
            min_heartbeat_interval_ms: 5_000,
            max_heartbeat_interval_ms: 15_000,
            assignment_interval_ms: 1_000,
            min_assignment_interval_ms: 0,
            max_assignment_interval_ms: 15_000,
            max_size: i32::MAX,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration_policy: MigrationPolicy::default(),
            regex_refresh_interval_ms: 600_000,
            regex_min_refresh_ms: 10_000,
            max_regex_bytes: 8 << 10,
            max_subscribed_topics: 100_000,
            max_queued: 20_000,
            overrides: Arc::default(),
        }
    }
}

impl ConsumerConfig {
    fn own(&self, group: &str, of: impl Fn(&GroupOverrides) -> Option<i32>) -> Option<i32> {
        self.overrides.get(group).and_then(of)
    }

    /// The session timeout of a group's members; the broker's limits, which may be newer, bound what the group set.
    pub fn session_timeout(&self, group: &str) -> i32 {
        let own = self.own(group, |o| o.session_timeout_ms);
        let bound = |ms: i32| ms.min(self.max_session_timeout_ms).max(self.min_session_timeout_ms);
        own.map_or(self.session_timeout_ms, bound)
    }

    /// How often a group's members send heartbeats.
    pub fn heartbeat_interval(&self, group: &str) -> i32 {
        let own = self.own(group, |o| o.heartbeat_interval_ms);
        let bound = |ms: i32| ms.min(self.max_heartbeat_interval_ms).max(self.min_heartbeat_interval_ms);
        // Limits that came later may contradict one another: nobody is fenced for what it was told to do.
        own.map_or(self.heartbeat_interval_ms, bound).min(self.session_timeout(group) - 1).max(1)
    }

    /// How often a group's members send heartbeats while it is on its way to a new assignment, or has just been: each step
    /// of that waits for a heartbeat. However many members it has, there are about a thousand of them a second at most.
    pub fn hurried_interval(&self, group: &str, members: usize) -> i32 {
        let least = i32::try_from(members).unwrap_or(i32::MAX).max(HURRIED_MS);
        self.heartbeat_interval(group).min(least)
    }

    /// The least time between two assignments of a group.
    pub fn assignment_interval(&self, group: &str) -> i32 {
        let own = self.own(group, |o| o.assignment_interval_ms);
        let bound = |ms: i32| ms.min(self.max_assignment_interval_ms).max(self.min_assignment_interval_ms);
        own.map_or(self.assignment_interval_ms, bound)
    }

    /// The assignor of groups whose members name none.
    pub fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or(Assignor::Uniform)
    }
}

#[cfg(test)]
mod tests;
