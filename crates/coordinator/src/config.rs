//! The settings of a group coordinator.

/// Limits and times, named after Kafka's keys where Kafka has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`: a join that asks for less is refused.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: a join that asks for more is refused.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first member of an empty group waits for company.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of one group.
    pub max_size: i32,
    /// `offset.metadata.max.bytes`: length of one commit's metadata, in UTF-16 units as Kafka counts.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`: how long an unused offset lives.
    pub offsets_retention_minutes: i32,
    /// `offsets.retention.check.interval.ms`: how often expiry looks.
    pub retention_check_interval_ms: i64,
    /// How long a parked join of a new member may stay unanswered; Kafka's fixed five minutes.
    pub new_member_join_timeout_ms: i64,
    /// Groups of this coordinator; a further one is refused.
    pub max_groups: usize,
    /// Members of one group that were given an id and have not come back with it.
    pub max_pending_members: usize,
    /// Bytes of one member's protocol names and metadata.
    pub max_member_metadata: usize,
    /// Committed offsets of one group; a further partition is refused.
    pub max_offsets_per_group: usize,
    /// Rebalance causes that each group remembers.
    pub causes_kept: usize,
    /// Consumer groups of the new protocol.
    pub consumer: crate::consumer::ConsumerConfig,
}

impl Default for GroupConfig {
    fn default() -> GroupConfig {
        GroupConfig {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX,
            offset_metadata_max: 4_096,
            offsets_retention_minutes: 10_080,
            retention_check_interval_ms: 600_000,
            new_member_join_timeout_ms: 300_000,
            max_groups: 100_000,
            max_pending_members: 10_000,
            max_member_metadata: 4 << 20,
            max_offsets_per_group: 1_000_000,
            causes_kept: 16,
            consumer: crate::consumer::ConsumerConfig::default(),
        }
    }
}

impl GroupConfig {
    /// `offsets.retention.minutes` in milliseconds.
    pub fn offsets_retention_ms(&self) -> i64 {
        i64::from(self.offsets_retention_minutes).saturating_mul(60_000)
    }
}
