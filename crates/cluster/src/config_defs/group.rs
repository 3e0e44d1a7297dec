//! Configs of groups and of client metrics subscriptions.
use super::why::{OFFLOAD, SHARE, STREAMS, TELEMETRY};
use super::{INT_MAX, LONG_MAX};
use crate::config_def::{ConfigDef, ConfigType, Valid, same};

#[rustfmt::skip]
pub(super) const GROUP_DEFS: &[ConfigDef] = &[
    ConfigDef::new("consumer.assignment.interval.ms", ConfigType::Int, "1000", Valid::Range(0, INT_MAX), "Shortest time between two assignments of the group.").synonyms(&[same("group.consumer.assignment.interval.ms")]),
    ConfigDef::new("consumer.assignor.offload.enable", ConfigType::Boolean, "true", Valid::Any, "").idle(OFFLOAD).synonyms(&[same("group.consumer.assignor.offload.enable")]).hidden(),
    ConfigDef::new("consumer.heartbeat.interval.ms", ConfigType::Int, "5000", Valid::Range(1, INT_MAX), "How often members send a heartbeat.").synonyms(&[same("group.consumer.heartbeat.interval.ms")]),
    ConfigDef::new("consumer.session.timeout.ms", ConfigType::Int, "45000", Valid::Range(1, INT_MAX), "A member silent for so long is removed.").synonyms(&[same("group.consumer.session.timeout.ms")]),
    ConfigDef::new("errors.deadletterqueue.copy.record.enable", ConfigType::Boolean, "false", Valid::Any, "").idle(SHARE),
    ConfigDef::new("errors.deadletterqueue.topic.name", ConfigType::String, "", Valid::Any, "Topic for records that the group gives up.").idle(SHARE),
    ConfigDef::new("share.assignment.interval.ms", ConfigType::Int, "1000", Valid::Range(0, INT_MAX), "").idle(SHARE).synonyms(&[same("group.share.assignment.interval.ms")]),
    ConfigDef::new("share.assignor.offload.enable", ConfigType::Boolean, "true", Valid::Any, "").idle(SHARE).synonyms(&[same("group.share.assignor.offload.enable")]).hidden(),
    ConfigDef::new("share.auto.offset.reset", ConfigType::String, "latest", Valid::OffsetReset, "Where a share group without offsets begins: latest, earliest or by_duration:.").idle(SHARE),
    ConfigDef::new("share.delivery.count.limit", ConfigType::Int, "5", Valid::Range(2, INT_MAX), "Deliveries after which a record is given up.").idle(SHARE).synonyms(&[same("group.share.delivery.count.limit")]),
    ConfigDef::new("share.heartbeat.interval.ms", ConfigType::Int, "5000", Valid::Range(1, INT_MAX), "How often members send a heartbeat.").idle(SHARE).synonyms(&[same("group.share.heartbeat.interval.ms")]),
    ConfigDef::new("share.isolation.level", ConfigType::String, "read_uncommitted", Valid::OneOf(&["read_committed", "read_uncommitted"]), "Whether a share group sees records of open transactions.").idle(SHARE),
    ConfigDef::new("share.partition.max.record.locks", ConfigType::Int, "2000", Valid::Range(100, INT_MAX), "Most records of a partition that are locked at once.").idle(SHARE).synonyms(&[same("group.share.partition.max.record.locks")]),
    ConfigDef::new("share.record.lock.duration.ms", ConfigType::Int, "30000", Valid::Range(1_000, INT_MAX), "How long a record stays locked for the member that fetched it.").idle(SHARE).synonyms(&[same("group.share.record.lock.duration.ms")]),
    ConfigDef::new("share.renew.acknowledge.enable", ConfigType::Boolean, "true", Valid::Any, "").idle(SHARE),
    ConfigDef::new("share.session.timeout.ms", ConfigType::Int, "45000", Valid::Range(1, INT_MAX), "A member silent for so long is removed.").idle(SHARE).synonyms(&[same("group.share.session.timeout.ms")]),
    ConfigDef::new("streams.acceptable.recovery.lag", ConfigType::Long, "10000", Valid::Range(0, LONG_MAX), "").idle(STREAMS).synonyms(&[same("group.streams.acceptable.recovery.lag")]).hidden(),
    ConfigDef::new("streams.assignment.interval.ms", ConfigType::Int, "1000", Valid::Range(0, INT_MAX), "").idle(STREAMS).synonyms(&[same("group.streams.assignment.interval.ms")]),
    ConfigDef::null("streams.assignor.name", ConfigType::String, Valid::Any, "").idle(STREAMS).synonyms(&[same("group.streams.assignors")]),
    ConfigDef::new("streams.assignor.offload.enable", ConfigType::Boolean, "true", Valid::Any, "").idle(STREAMS).synonyms(&[same("group.streams.assignor.offload.enable")]).hidden(),
    ConfigDef::new("streams.heartbeat.interval.ms", ConfigType::Int, "5000", Valid::Range(1, INT_MAX), "How often members send a heartbeat.").idle(STREAMS).synonyms(&[same("group.streams.heartbeat.interval.ms")]),
    ConfigDef::new("streams.initial.rebalance.delay.ms", ConfigType::Int, "3000", Valid::Range(0, INT_MAX), "").idle(STREAMS).synonyms(&[same("group.streams.initial.rebalance.delay.ms")]),
    ConfigDef::new("streams.num.standby.replicas", ConfigType::Int, "0", Valid::Range(0, INT_MAX), "Standby copies of each task.").idle(STREAMS).synonyms(&[same("group.streams.num.standby.replicas")]),
    ConfigDef::new("streams.num.warmup.replicas", ConfigType::Int, "2", Valid::Range(0, INT_MAX), "").idle(STREAMS).synonyms(&[same("group.streams.num.warmup.replicas")]).hidden(),
    ConfigDef::new("streams.rack.aware.assignment.tags", ConfigType::List, "", Valid::Any, "").idle(STREAMS).synonyms(&[same("group.streams.rack.aware.assignment.tags")]),
    ConfigDef::new("streams.session.timeout.ms", ConfigType::Int, "45000", Valid::Range(1, INT_MAX), "A member silent for so long is removed.").idle(STREAMS).synonyms(&[same("group.streams.session.timeout.ms")]),
    ConfigDef::new("streams.task.offset.interval.ms", ConfigType::Int, "60000", Valid::Range(1, INT_MAX), "").idle(STREAMS).synonyms(&[same("group.streams.task.offset.interval.ms")]).hidden(),
];

#[rustfmt::skip]
pub(super) const CLIENT_METRICS_DEFS: &[ConfigDef] = &[
    ConfigDef::new("interval.ms", ConfigType::Int, "300000", Valid::Any, "How often clients push their metrics.").idle(TELEMETRY),
    ConfigDef::new("match", ConfigType::List, "", Valid::Any, "Which clients push: name=pattern pairs.").idle(TELEMETRY),
    ConfigDef::new("metrics", ConfigType::List, "", Valid::Any, "Prefixes of the metrics to push; * for all.").idle(TELEMETRY),
];
