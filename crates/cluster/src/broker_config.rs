//! A node's configs as the broker needs them, with what was changed while it runs.
use crate::config_defs::{RACK_AWARE_SELECTOR, broker_def};
use crate::config_value::Value;
use crate::consumer_configs::ConsumerGroupsConfig;
use crate::resolve::BrokerLayers;
use std::collections::BTreeMap;

/// Resolved configs of this node. Units are those of the Kafka config of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// `accept.state.log.damage`.
    pub accept_state_log_damage: bool,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `auto.leader.rebalance.enable`.
    pub auto_leader_rebalance_enable: bool,
    /// `broker.rack`.
    pub broker_rack: Option<String>,
    /// `connection.max.request.bytes`.
    pub connection_max_request_bytes: i64,
    /// `connections.max.idle.ms`.
    pub connections_max_idle_ms: i64,
    /// `default.replication.factor`.
    pub default_replication_factor: i32,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `follower.replication.throttled.rate`; 0 for none.
    pub follower_throttled_rate: i64,
    /// `group.consumer.*`.
    pub consumer_groups: ConsumerGroupsConfig,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub group_max_size: i32,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout_ms: i32,
    /// `install.piece.bytes`.
    pub install_piece_bytes: i64,
    /// `leader.imbalance.check.interval.seconds`.
    pub leader_imbalance_check_interval_seconds: i64,
    /// `internal.leader.imbalance.margin.bytes`.
    pub leader_imbalance_margin_bytes: i64,
    /// `leader.replication.throttled.rate`; 0 for none.
    pub leader_throttled_rate: i64,
    /// `log.cleaner.*`.
    pub log_cleaner: CleanerConfig,
    /// `log.disk.min.free.bytes`.
    pub log_disk_min_free_bytes: i64,
    /// `log.pool.bytes`.
    pub log_pool_bytes: i64,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval_ms: i64,
    /// `log.scrub.interval.ms`.
    pub log_scrub_interval_ms: i64,
    /// `log.scrub.rate.bytes`; 0 for none.
    pub log_scrub_rate_bytes: i64,
    /// `log.tail.cache.bytes`.
    pub log_tail_cache_bytes: i64,
    /// `log.window.bytes`.
    pub log_window_bytes: i64,
    /// `max.connection.creation.rate`.
    pub max_connection_creation_rate: i32,
    /// `max.connections`.
    pub max_connections: i32,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: i32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub max_fetch_sessions: i32,
    /// `plimsoll.max.partitions`.
    pub max_partitions_per_broker: i32,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: i32,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub metadata_log_bytes_between_snapshots: i64,
    /// `metadata.log.segment.bytes`, or `internal.metadata.log.segment.bytes` where that is set.
    pub metadata_log_segment_bytes: i64,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: i32,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout_ms: i32,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: i32,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_num_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_topic_replication_factor: i32,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: i32,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval_ms: i32,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i32,
    /// `queued.max.request.bytes`.
    pub queued_max_request_bytes: i64,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max_ms: i64,
    /// `replica.selector.class` is Kafka's RackAwareReplicaSelector.
    pub replica_selector_rack_aware: bool,
    /// `request.timeout.ms`.
    pub request_timeout_ms: i32,
    /// `socket.first.request.max.bytes`.
    pub socket_first_request_max_bytes: i32,
    /// `socket.listen.backlog.size`.
    pub socket_listen_backlog_size: i32,
    /// `socket.receive.buffer.bytes`.
    pub socket_receive_buffer_bytes: i32,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: i32,
    /// `socket.send.buffer.bytes`.
    pub socket_send_buffer_bytes: i32,
    /// Whether `plimsoll.transaction.hanging.policy` is `abort`.
    pub aborts_hanging_transactions: bool,
    /// `transaction.max.timeout.ms`.
    pub transaction_max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub transactional_id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub transactional_id_check_interval_ms: i32,
    /// `max.connections.per.ip.overrides`: limits by address.
    pub max_connections_per_ip_overrides: BTreeMap<String, i32>,
}

pub(crate) struct Reader<'a>(pub(crate) &'a BrokerLayers);

impl Reader<'_> {
    fn value(&self, name: &'static str) -> Option<Value> {
        self.0.broker_value(broker_def(name).expect("every name asked for here is in the table"))
    }

    fn long(&self, name: &'static str) -> i64 {
        match self.value(name) {
            Some(Value::Int(n)) => n,
            _ => 0,
        }
    }

    pub(crate) fn int(&self, name: &'static str) -> i32 {
        i32::try_from(self.long(name)).unwrap_or(i32::MAX)
    }

    fn flag(&self, name: &'static str) -> bool {
        self.value(name) == Some(Value::Bool(true))
    }

    pub(crate) fn text(&self, name: &'static str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(crate) fn list(&self, name: &'static str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(parts)) => parts,
            _ => Vec::new(),
        }
    }
}

/// `address:limit` pairs; `None` when one of them is none.
pub(crate) fn parse_ip_limits(text: &str) -> Option<BTreeMap<String, i32>> {
    text.split(',')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let (address, limit) = pair.rsplit_once(':')?;
            let limit: i32 = limit.trim().parse().ok().filter(|n| *n >= 0)?;
            Some((address.trim().trim_matches(['[', ']']).to_owned(), limit))
        })
        .collect()
}

/// How topics are compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerConfig {
    /// `log.cleaner.enable`.
    pub enable: bool,
    /// `log.cleaner.backoff.ms`.
    pub backoff_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`, of all threads together.
    pub dedupe_bytes: i64,
    /// `log.cleaner.io.max.bytes.per.second`.
    pub max_rate: f64,
    /// `log.cleaner.threads`.
    pub threads: i32,
}

impl CleanerConfig {
    fn resolve(r: &Reader<'_>) -> CleanerConfig {
        CleanerConfig {
            enable: r.flag("log.cleaner.enable"),
            backoff_ms: r.long("log.cleaner.backoff.ms"),
            dedupe_bytes: r.long("log.cleaner.dedupe.buffer.size"),
            max_rate: match r.value("log.cleaner.io.max.bytes.per.second") {
                Some(Value::Double(rate)) => rate,
                _ => f64::MAX,
            },
            threads: r.int("log.cleaner.threads"),
        }
    }
}

fn metadata_segment_bytes(r: &Reader<'_>) -> i64 {
    match r.long("internal.metadata.log.segment.bytes") {
        0 => r.long("metadata.log.segment.bytes"),
        bytes => bytes,
    }
}

const HANGING_POLICY: &str = "plimsoll.transaction.hanging.policy";
const TRANSACTIONAL_ID_CHECK: &str = "transaction.remove.expired.transaction.cleanup.interval.ms";

impl BrokerConfig {
    pub(crate) fn resolve(layers: &BrokerLayers) -> BrokerConfig {
        let r = Reader(layers);
        BrokerConfig {
            accept_state_log_damage: r.flag("accept.state.log.damage"),
            auto_create_topics_enable: r.flag("auto.create.topics.enable"),
            auto_leader_rebalance_enable: r.flag("auto.leader.rebalance.enable"),
            broker_rack: r.text("broker.rack"),
            connection_max_request_bytes: r.long("connection.max.request.bytes"),
            connections_max_idle_ms: r.long("connections.max.idle.ms"),
            default_replication_factor: r.int("default.replication.factor"),
            delete_topic_enable: r.flag("delete.topic.enable"),
            fetch_max_bytes: r.int("fetch.max.bytes"),
            consumer_groups: ConsumerGroupsConfig::resolve(&r),
            group_initial_rebalance_delay_ms: r.int("group.initial.rebalance.delay.ms"),
            group_max_session_timeout_ms: r.int("group.max.session.timeout.ms"),
            group_max_size: r.int("group.max.size"),
            group_min_session_timeout_ms: r.int("group.min.session.timeout.ms"),
            leader_imbalance_check_interval_seconds: r.long("leader.imbalance.check.interval.seconds"),
            leader_imbalance_margin_bytes: r.long("internal.leader.imbalance.margin.bytes"),
            log_cleaner: CleanerConfig::resolve(&r),
            log_disk_min_free_bytes: r.long("log.disk.min.free.bytes"),
            log_pool_bytes: r.long("log.pool.bytes"),
            log_retention_check_interval_ms: r.long("log.retention.check.interval.ms"),
            log_tail_cache_bytes: r.long("log.tail.cache.bytes"),
            log_window_bytes: r.long("log.window.bytes"),
            log_scrub_interval_ms: r.long("log.scrub.interval.ms"),
            log_scrub_rate_bytes: r.long("log.scrub.rate.bytes"),
            metadata_log_bytes_between_snapshots: r.long("metadata.log.max.record.bytes.between.snapshots"),
            metadata_log_segment_bytes: metadata_segment_bytes(&r),
            follower_throttled_rate: r.long("follower.replication.throttled.rate"),
            leader_throttled_rate: r.long("leader.replication.throttled.rate"),
            install_piece_bytes: r.long("install.piece.bytes"),
            max_connection_creation_rate: r.int("max.connection.creation.rate"),
            max_connections: r.int("max.connections"),
            max_connections_per_ip: r.int("max.connections.per.ip"),
            max_fetch_sessions: r.int("max.incremental.fetch.session.cache.slots"),
            max_partitions_per_broker: r.int("plimsoll.max.partitions"),
            max_request_partition_size_limit: r.int("max.request.partition.size.limit"),
            num_partitions: r.int("num.partitions"),
            offset_metadata_max_bytes: r.int("offset.metadata.max.bytes"),
            offsets_commit_timeout_ms: r.int("offsets.commit.timeout.ms"),
            offsets_retention_check_interval_ms: r.long("offsets.retention.check.interval.ms"),
            offsets_retention_minutes: r.int("offsets.retention.minutes"),
            offsets_topic_num_partitions: r.int("offsets.topic.num.partitions"),
            offsets_topic_replication_factor: r.int("offsets.topic.replication.factor"),
            offsets_topic_segment_bytes: r.int("offsets.topic.segment.bytes"),
            producer_id_expiration_check_interval_ms: r.int("producer.id.expiration.check.interval.ms"),
            producer_id_expiration_ms: r.int("producer.id.expiration.ms"),
            queued_max_request_bytes: r.long("queued.max.request.bytes"),
            replica_lag_time_max_ms: r.long("replica.lag.time.max.ms"),
            replica_selector_rack_aware: r.text("replica.selector.class").as_deref()
                == Some(RACK_AWARE_SELECTOR),
            request_timeout_ms: r.int("request.timeout.ms"),
            socket_first_request_max_bytes: r.int("socket.first.request.max.bytes"),
            socket_listen_backlog_size: r.int("socket.listen.backlog.size"),
            socket_receive_buffer_bytes: r.int("socket.receive.buffer.bytes"),
            socket_request_max_bytes: r.int("socket.request.max.bytes"),
            socket_send_buffer_bytes: r.int("socket.send.buffer.bytes"),
            aborts_hanging_transactions: r.text(HANGING_POLICY).as_deref() == Some("abort"),
            transaction_max_timeout_ms: r.int("transaction.max.timeout.ms"),
            transactional_id_expiration_ms: i64::from(r.int("transactional.id.expiration.ms")),
            transactional_id_check_interval_ms: r.int(TRANSACTIONAL_ID_CHECK),
            max_connections_per_ip_overrides: r
                .text("max.connections.per.ip.overrides")
                .and_then(|t| parse_ip_limits(&t))
                .unwrap_or_default(),
        }
    }
}

impl Default for BrokerConfig {
    /// What a node has when nobody sets anything.
    fn default() -> Self {
        BrokerConfig::resolve(&BrokerLayers::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_bound_what_kafka_leaves_open() {
        let c = BrokerConfig::default();
        assert_eq!((c.max_connections, c.max_connections_per_ip), (50_000, 1_000));
        assert_eq!((c.socket_request_max_bytes, c.socket_first_request_max_bytes), (104_857_600, 524_288));
        assert!(c.queued_max_request_bytes > i64::from(c.socket_request_max_bytes));
        assert!(c.auto_create_topics_enable && c.delete_topic_enable && c.broker_rack.is_none());
    }

    #[test]
    fn limits_by_address_are_read_with_ipv6_too() {
        let limits = parse_ip_limits("127.0.0.1:7, [::1]:8,").unwrap();
        assert_eq!((limits["127.0.0.1"], limits["::1"], limits.len()), (7, 8, 2));
        assert_eq!(parse_ip_limits("host"), None);
        assert_eq!(parse_ip_limits("host:-3"), None);
    }
}
