//! From a topic's and the broker's configs to what a partition and a coordinator need.
use cluster::{BrokerConfig, CompressionType, ConsumerGroupsConfig, Image, TimestampType, Topic};
use coordinator::GroupConfig;
use coordinator::consumer::assignor::Assignor;
use coordinator::consumer::{ConsumerConfig, GroupOverrides, MigrationPolicy};
use coordinator::txn::{TxnConfig, TxnVersion};
use model::ProducerEpoch;
use partition::{CleaningConfig, PartitionConfig};
use records::{Codec, CompressionTarget, TimestampBounds};
use std::sync::Arc;
use storage::{FileSource, LogConfig};

/// A batch of a coordinator may hold a whole large group; clients are bound by their topic's limit.
const MACHINE_BATCH_BYTES: usize = 64 << 20;

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// The settings of a topic's partitions.
pub(crate) fn partition_config(image: &Image, topic: &Topic) -> PartitionConfig {
    let (config, broker) = (image.topic_config(topic), image.broker_config());
    let machine = matches!(topic.name.as_ref(), cluster::CONSUMER_OFFSETS | cluster::TRANSACTION_STATE);
    let compression = match config.compression_type {
        CompressionType::Producer => CompressionTarget::Producer,
        CompressionType::Uncompressed => CompressionTarget::Codec(Codec::None, None),
        CompressionType::Gzip(level) => CompressionTarget::Codec(Codec::Gzip, Some(level)),
        CompressionType::Snappy => CompressionTarget::Codec(Codec::Snappy, None),
        CompressionType::Lz4(level) => CompressionTarget::Codec(Codec::Lz4, Some(level)),
        CompressionType::Zstd(level) => CompressionTarget::Codec(Codec::Zstd, Some(level)),
    };
    let timestamp_type = match config.message_timestamp_type {
        TimestampType::CreateTime => records::TimestampType::CreateTime,
        TimestampType::LogAppendTime => records::TimestampType::LogAppendTime,
    };
    let max_message_bytes = usize::try_from(config.max_message_bytes).unwrap_or_default();
    let cleaning = (config.cleanup_policy.compact && cluster::compacts(image)).then(|| CleaningConfig {
        min_dirty_ratio: config.min_cleanable_dirty_ratio,
        min_lag_ms: config.min_compaction_lag_ms,
        max_lag_ms: config.max_compaction_lag_ms,
        delete_retention_ms: config.delete_retention_ms,
    });
    let (segment_bytes, window) =
        (positive(i64::from(config.segment_bytes)), positive(broker.log_window_bytes));
    PartitionConfig {
        log: LogConfig {
            segment_bytes,
            // A record must be in a sealed file by the time it is to be compacted.
            segment_ms: cleaning.map_or(config.segment_ms, |c| config.segment_ms.min(c.max_lag_ms)),
            cleaned: cleaning.is_some(),
            index_interval_bytes: u32::try_from(config.index_interval_bytes).unwrap_or_default(),
            // What is in the window is not compacted; of Kafka's log the last segment is not.
            window_bytes: if cleaning.is_some() { window.min(segment_bytes) } else { window },
            files: if config.write_caching { FileSource::Used } else { FileSource::Pool },
            ..LogConfig::default()
        },
        max_message_bytes: if machine { MACHINE_BATCH_BYTES } else { max_message_bytes },
        timestamp_type,
        timestamp_bounds: TimestampBounds {
            before_max_ms: config.message_timestamp_before_max_ms,
            after_max_ms: config.message_timestamp_after_max_ms,
        },
        compression,
        compact: config.cleanup_policy.compact,
        cleaning,
        delete: config.cleanup_policy.delete,
        validate_records: config.validate_records,
        walk_cap: usize::try_from(config.max_decompressed_message_bytes).unwrap_or_default(),
        replica_lag_ms: broker.replica_lag_time_max_ms,
        min_insync_replicas: image.min_insync_replicas(topic),
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        producer_expiration_ms: i64::from(broker.producer_id_expiration_ms),
        write_caching: config.write_caching,
        machine,
        transactions: cluster::takes_transactions(image),
        ..PartitionConfig::default()
    }
}

/// The settings of the metadata group.
pub(crate) fn metadata_config(broker: &BrokerConfig) -> PartitionConfig {
    let log = LogConfig {
        segment_bytes: positive(broker.metadata_log_segment_bytes),
        checkpoint_bytes: positive(broker.metadata_log_bytes_between_snapshots),
        ..LogConfig::default()
    };
    PartitionConfig { log, machine: true, delete: false, ..PartitionConfig::default() }
}

/// So long a coordinator waits for what another node says of markers, ms. A message is lost with its connection, and nobody
/// tells; until it is sent again its transaction holds readers of what is committed back. A repeated one changes nothing.
const MARKER_TIMEOUT_MS: i64 = 3_000;

/// The settings of the coordinators of transactions.
pub(crate) fn txn_config(image: &Image, first_epoch: ProducerEpoch) -> TxnConfig {
    let broker = image.broker_config();
    TxnConfig {
        max_timeout_ms: broker.transaction_max_timeout_ms,
        id_expiration_ms: broker.transactional_id_expiration_ms,
        expiration_interval_ms: i64::from(broker.transactional_id_check_interval_ms),
        version: TxnVersion::from_level(cluster::transaction_version(image)).unwrap_or_default(),
        marker_timeout_ms: MARKER_TIMEOUT_MS,
        first_epoch,
        ..TxnConfig::default()
    }
}

/// The settings of the group coordinators.
pub(crate) fn group_config(image: &Image) -> GroupConfig {
    let broker = image.broker_config();
    GroupConfig {
        min_session_timeout_ms: broker.group_min_session_timeout_ms,
        max_session_timeout_ms: broker.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: broker.group_initial_rebalance_delay_ms,
        max_size: broker.group_max_size,
        offset_metadata_max: usize::try_from(broker.offset_metadata_max_bytes).unwrap_or_default(),
        offsets_retention_minutes: broker.offsets_retention_minutes,
        retention_check_interval_ms: broker.offsets_retention_check_interval_ms,
        consumer: consumer_config(image, &broker.consumer_groups),
        ..GroupConfig::default()
    }
}

/// The settings of consumer groups, with those of single groups.
fn consumer_config(image: &Image, broker: &ConsumerGroupsConfig) -> ConsumerConfig {
    let (session, heartbeat) = (broker.session_timeout_ms, broker.heartbeat_interval_ms);
    let assignment = broker.assignment_interval_ms;
    let own = |set: cluster::ConsumerGroupOverrides| GroupOverrides {
        session_timeout_ms: set.session_timeout_ms,
        heartbeat_interval_ms: set.heartbeat_interval_ms,
        assignment_interval_ms: set.assignment_interval_ms,
    };
    let overrides = image.consumer_overrides().map(|(group, set)| (group.to_owned(), own(set))).collect();
    ConsumerConfig {
        session_timeout_ms: session.value,
        min_session_timeout_ms: session.min,
        max_session_timeout_ms: session.max,
        heartbeat_interval_ms: heartbeat.value,
        min_heartbeat_interval_ms: heartbeat.min,
        max_heartbeat_interval_ms: heartbeat.max,
        assignment_interval_ms: assignment.value,
        min_assignment_interval_ms: assignment.min,
        max_assignment_interval_ms: assignment.max,
        max_size: broker.max_size,
        assignors: broker.assignor_names().filter_map(Assignor::parse).collect(),
        migration_policy: MigrationPolicy::parse(&broker.migration_policy).unwrap_or_default(),
        regex_refresh_interval_ms: broker.regex_refresh_interval_ms,
        overrides: Arc::new(overrides),
        ..ConsumerConfig::default()
    }
}
