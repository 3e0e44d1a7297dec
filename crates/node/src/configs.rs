//! From a topic's and the broker's configs to what a partition and a coordinator need.
use cluster::{BrokerConfig, CompressionType, Image, TimestampType, Topic};
use coordinator::GroupConfig;
use partition::PartitionConfig;
use records::{Codec, CompressionTarget, TimestampBounds};
use storage::{FileSource, LogConfig};

/// A batch of a coordinator may hold a whole large group; clients are bound by their topic's limit.
const MACHINE_BATCH_BYTES: usize = 64 << 20;

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// The settings of a topic's partitions.
pub(crate) fn partition_config(image: &Image, topic: &Topic) -> PartitionConfig {
    let (config, broker) = (image.topic_config(topic), image.broker_config());
    let machine = topic.name.as_ref() == cluster::CONSUMER_OFFSETS;
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
    PartitionConfig {
        log: LogConfig {
            segment_bytes: positive(i64::from(config.segment_bytes)),
            segment_ms: config.segment_ms,
            index_interval_bytes: u32::try_from(config.index_interval_bytes).unwrap_or_default(),
            window_bytes: positive(broker.log_window_bytes),
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

/// The settings of the group coordinators.
pub(crate) fn group_config(broker: &BrokerConfig) -> GroupConfig {
    GroupConfig {
        min_session_timeout_ms: broker.group_min_session_timeout_ms,
        max_session_timeout_ms: broker.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: broker.group_initial_rebalance_delay_ms,
        max_size: broker.group_max_size,
        offset_metadata_max: usize::try_from(broker.offset_metadata_max_bytes).unwrap_or_default(),
        offsets_retention_minutes: broker.offsets_retention_minutes,
        retention_check_interval_ms: broker.offsets_retention_check_interval_ms,
        ..GroupConfig::default()
    }
}
