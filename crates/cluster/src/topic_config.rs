//! A topic's configs as the log and the partitions need them: numbers and enums.
use crate::config_defs::topic_def;
use crate::config_value::{Value, parse_value};
use crate::entries::Entries;
use crate::resolve::BrokerLayers;

/// What `cleanup.policy` says. Both may hold, or neither: keep for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments go by age and size.
    pub delete: bool,
    /// Only the newest record of a key stays.
    pub compact: bool,
}

/// What `compression.type` says, with the level of that codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent it.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip; 1 to 9, or -1 for its own default.
    Gzip(i32),
    /// snappy.
    Snappy,
    /// lz4; 1 to 17.
    Lz4(i32),
    /// zstd; -131072 to 22.
    Zstd(i32),
}

/// Whose time records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// That of the append.
    LogAppendTime,
}

/// A topic's resolved configs. Milliseconds and bytes; `i64::MAX` and -1 as Kafka uses them.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` with the level.
    pub compression_type: CompressionType,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`; echoed only.
    pub flush_messages: i64,
    /// `flush.ms`; echoed only.
    pub flush_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: i32,
    /// `local.retention.bytes`; -2: as `retention_bytes`.
    pub local_retention_bytes: i64,
    /// `local.retention.ms`; -2: as `retention_ms`.
    pub local_retention_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `max.decompressed.message.bytes`.
    pub max_decompressed_message_bytes: i32,
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: i32,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`, not capped by the replication factor.
    pub min_insync_replicas: i32,
    /// `preallocate`; echoed only.
    pub preallocate: bool,
    /// `remote.storage.enable`.
    pub remote_storage_enable: bool,
    /// `retention.bytes`; -1: no limit.
    pub retention_bytes: i64,
    /// `retention.ms`; -1: no limit.
    pub retention_ms: i64,
    /// `segment.bytes`, or `internal.segment.bytes` where that is set.
    pub segment_bytes: i32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: i32,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election_enable: bool,
    /// `plimsoll.validate.records`.
    pub validate_records: bool,
    /// `write.caching`: acknowledge from the page cache.
    pub write_caching: bool,
}

/// Reads the layers of one topic.
struct Reader<'a> {
    own: &'a Entries,
    layers: &'a BrokerLayers,
}

impl Reader<'_> {
    fn value(&self, name: &'static str) -> Value {
        let def = topic_def(name).expect("every name asked for here is in the table");
        self.own
            .get(name)
            .and_then(|text| parse_value(def, text).ok())
            .or_else(|| self.layers.inherited(def))
            .unwrap_or(Value::Text(String::new()))
    }

    fn long(&self, name: &'static str) -> i64 {
        match self.value(name) {
            Value::Int(n) => n,
            _ => 0,
        }
    }

    fn int(&self, name: &'static str) -> i32 {
        i32::try_from(self.long(name)).unwrap_or(i32::MAX)
    }

    fn flag(&self, name: &'static str) -> bool {
        self.value(name) == Value::Bool(true)
    }

    fn compression(&self) -> CompressionType {
        let Value::Text(word) = self.value("compression.type") else { return CompressionType::Producer };
        match word.as_str() {
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip(self.int("compression.gzip.level")),
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4(self.int("compression.lz4.level")),
            "zstd" => CompressionType::Zstd(self.int("compression.zstd.level")),
            _ => CompressionType::Producer,
        }
    }

    fn cleanup(&self) -> CleanupPolicy {
        let Value::List(words) = self.value("cleanup.policy") else {
            return CleanupPolicy { delete: true, compact: false };
        };
        let has = |word: &str| words.iter().any(|w| w == word);
        CleanupPolicy { delete: has("delete"), compact: has("compact") }
    }
}

impl TopicConfig {
    /// Resolves the configs of a topic. An internal topic takes `write.caching` from itself alone.
    pub(crate) fn resolve(own: &Entries, layers: &BrokerLayers, internal: bool) -> TopicConfig {
        let r = Reader { own, layers };
        let small = own.get("internal.segment.bytes").is_some();
        TopicConfig {
            cleanup_policy: r.cleanup(),
            compression_type: r.compression(),
            delete_retention_ms: r.long("delete.retention.ms"),
            file_delete_delay_ms: r.long("file.delete.delay.ms"),
            flush_messages: r.long("flush.messages"),
            flush_ms: r.long("flush.ms"),
            index_interval_bytes: r.int("index.interval.bytes"),
            local_retention_bytes: r.long("local.retention.bytes"),
            local_retention_ms: r.long("local.retention.ms"),
            max_compaction_lag_ms: r.long("max.compaction.lag.ms"),
            max_decompressed_message_bytes: r.int("max.decompressed.message.bytes"),
            max_message_bytes: r.int("max.message.bytes"),
            message_timestamp_after_max_ms: r.long("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: r.long("message.timestamp.before.max.ms"),
            message_timestamp_type: match r.value("message.timestamp.type") {
                Value::Text(t) if t == "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: match r.value("min.cleanable.dirty.ratio") {
                Value::Double(d) => d,
                _ => 0.5,
            },
            min_compaction_lag_ms: r.long("min.compaction.lag.ms"),
            min_insync_replicas: r.int("min.insync.replicas"),
            preallocate: r.flag("preallocate"),
            remote_storage_enable: r.flag("remote.storage.enable"),
            retention_bytes: r.long("retention.bytes"),
            retention_ms: r.long("retention.ms"),
            segment_bytes: r.int(if small { "internal.segment.bytes" } else { "segment.bytes" }),
            segment_index_bytes: r.int("segment.index.bytes"),
            segment_jitter_ms: r.long("segment.jitter.ms"),
            segment_ms: r.long("segment.ms"),
            unclean_leader_election_enable: r.flag("unclean.leader.election.enable"),
            validate_records: r.flag("plimsoll.validate.records"),
            write_caching: r.flag("write.caching") && (!internal || own.get("write.caching").is_some()),
        }
    }
}

impl Default for TopicConfig {
    /// What a topic has when nobody sets anything.
    fn default() -> Self {
        TopicConfig::resolve(&Entries::default(), &BrokerLayers::default(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn fixed(pairs: &[(&str, &str)]) -> BrokerLayers {
        let map: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        BrokerLayers { fixed: Arc::new(map), ..BrokerLayers::default() }
    }

    #[test]
    fn defaults_are_kafkas() {
        let c = TopicConfig::default();
        assert_eq!((c.segment_bytes, c.segment_ms, c.retention_ms), (1 << 30, 604_800_000, 604_800_000));
        assert_eq!((c.retention_bytes, c.max_message_bytes, c.min_insync_replicas), (-1, 1_048_588, 1));
        assert_eq!(c.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!((c.compression_type, c.write_caching), (CompressionType::Producer, false));
    }

    #[test]
    fn the_first_synonym_that_is_set_wins_and_units_are_converted() {
        let none = Entries::default();
        let resolve = |pairs: &[(&str, &str)]| TopicConfig::resolve(&none, &fixed(pairs), false);
        assert_eq!(resolve(&[("log.retention.hours", "2")]).retention_ms, 7_200_000);
        assert_eq!(
            resolve(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]).retention_ms,
            180_000
        );
        assert_eq!(resolve(&[("log.retention.minutes", "3"), ("log.retention.ms", "4")]).retention_ms, 4);
        assert_eq!(resolve(&[("log.retention.hours", "-1")]).retention_ms, -1);
        assert_eq!(resolve(&[("log.roll.hours", "1")]).segment_ms, 3_600_000);
        assert_eq!(resolve(&[("log.flush.scheduler.interval.ms", "9")]).flush_ms, 9);
        let own = Entries::from_pairs([("retention.ms", "77"), ("cleanup.policy", "")]);
        let c = TopicConfig::resolve(&own, &fixed(&[("log.retention.ms", "4")]), false);
        assert_eq!(c.retention_ms, 77);
        assert_eq!(c.cleanup_policy, CleanupPolicy { delete: false, compact: false });
    }

    #[test]
    fn dynamic_layers_go_above_the_file() {
        let mut layers = fixed(&[("message.max.bytes", "1"), ("min.insync.replicas", "1")]);
        layers.cluster = Entries::from_pairs([("message.max.bytes", "2"), ("min.insync.replicas", "2")]);
        layers.node = Entries::from_pairs([("message.max.bytes", "3")]);
        let c = TopicConfig::resolve(&Entries::default(), &layers, false);
        assert_eq!((c.max_message_bytes, c.min_insync_replicas), (3, 2));
    }

    #[test]
    fn write_caching_of_the_broker_is_not_for_internal_topics() {
        let layers = fixed(&[("write.caching", "true")]);
        let none = Entries::default();
        assert!(TopicConfig::resolve(&none, &layers, false).write_caching);
        assert!(!TopicConfig::resolve(&none, &layers, true).write_caching);
        let own = Entries::from_pairs([("write.caching", "true")]);
        assert!(TopicConfig::resolve(&own, &BrokerLayers::default(), true).write_caching);
    }
}
