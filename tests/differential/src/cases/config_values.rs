//! Values of configs, good and bad: each key of topics and brokers with the same list of values, only validated.
use super::configs::{BROKER, TOPIC, change};
use super::topic_steps::{create, topic};
use crate::script::Script;
use wire::{CreateTopicsRequest, IncrementalAlterConfigsRequest, Str};

/// What is tried for each key: for numbers of every width, switches, words and lists.
const VALUES: [&str; 28] = [
    "",
    " ",
    "0",
    "1",
    " 2 ",
    "+3",
    "007",
    "-1",
    "-2",
    "-3",
    "1.5",
    "0.5",
    "1e3",
    "NaN",
    "0x10",
    "5000",
    "2000000",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "true",
    "FALSE",
    "delete",
    "compact,delete",
    "delete,delete",
    "x",
    "a,,b",
];

/// The keys of a topic in Kafka 4.4, and words that only one of them knows.
const TOPIC_KEYS: [(&str, &[&str]); 33] = [
    ("cleanup.policy", &["Compact", "delete, compact", "delete,x", "none", ","]),
    ("compression.type", &["producer", "uncompressed", "zstd", "GZIP", "lz4 "]),
    ("compression.gzip.level", &["9", "10"]),
    ("compression.lz4.level", &["17", "18"]),
    ("compression.zstd.level", &["22", "23", "-131072", "-131073"]),
    ("delete.retention.ms", &[]),
    ("errors.deadletterqueue.topic.name", &[]),
    ("file.delete.delay.ms", &[]),
    ("flush.messages", &[]),
    ("flush.ms", &[]),
    ("follower.replication.throttled.replicas", &["*", "0:1", "0:1,1:1", "0:1:2", "a:b", "*:1", "none"]),
    ("index.interval.bytes", &[]),
    ("leader.replication.throttled.replicas", &["*", "0:1", "0:1,1:1", "0:1:2", "a:b", "*:1", "none"]),
    ("local.retention.bytes", &["-2"]),
    ("local.retention.ms", &["-2"]),
    ("max.compaction.lag.ms", &[]),
    ("max.message.bytes", &[]),
    ("message.downconversion.enable", &[]),
    ("message.format.version", &["3.0", "4.4"]),
    ("message.timestamp.after.max.ms", &[]),
    ("message.timestamp.before.max.ms", &[]),
    ("message.timestamp.difference.max.ms", &[]),
    ("message.timestamp.type", &["CreateTime", "LogAppendTime", "createtime"]),
    ("min.cleanable.dirty.ratio", &["1.0", "1.0001", "-0.1"]),
    ("min.compaction.lag.ms", &[]),
    ("min.insync.replicas", &[]),
    ("preallocate", &["True", "yes"]),
    ("remote.storage.enable", &[]),
    ("retention.bytes", &[]),
    ("retention.ms", &[]),
    ("segment.bytes", &["1048575", "1048576", "1048577"]),
    ("segment.ms", &[]),
    ("unclean.leader.election.enable", &["True", "yes"]),
];

/// Two that are one only in what they say: the same rules, one key more each.
const MORE_TOPIC_KEYS: [&str; 5] = [
    "segment.index.bytes",
    "segment.jitter.ms",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "x.y",
];

/// The keys of brokers that can be changed while they run, or are near to those.
const BROKER_KEYS: [(&str, &[&str]); 50] = [
    ("background.threads", &["2", "5", "20", "21"]),
    ("compression.type", &["producer", "zstd", "GZIP"]),
    ("compression.gzip.level", &["9", "10"]),
    ("follower.replication.throttled.rate", &[]),
    ("leader.replication.throttled.rate", &[]),
    ("replica.alter.log.dirs.io.max.bytes.per.second", &[]),
    ("log.cleaner.backoff.ms", &[]),
    ("log.cleaner.dedupe.buffer.size", &["1048576", "134217728"]),
    ("log.cleaner.delete.retention.ms", &[]),
    ("log.cleaner.io.buffer.load.factor", &["0.9"]),
    ("log.cleaner.io.buffer.size", &["524288"]),
    ("log.cleaner.io.max.bytes.per.second", &[]),
    ("log.cleaner.max.compaction.lag.ms", &[]),
    ("log.cleaner.min.cleanable.ratio", &[]),
    ("log.cleaner.min.compaction.lag.ms", &[]),
    ("log.cleaner.threads", &["2", "3"]),
    ("log.cleanup.policy", &["delete", "compact", "delete,compact"]),
    ("log.flush.interval.messages", &[]),
    ("log.flush.interval.ms", &[]),
    ("log.index.interval.bytes", &[]),
    ("log.index.size.max.bytes", &[]),
    ("log.local.retention.bytes", &[]),
    ("log.local.retention.ms", &[]),
    ("log.message.timestamp.after.max.ms", &[]),
    ("log.message.timestamp.before.max.ms", &[]),
    ("log.message.timestamp.type", &["CreateTime", "createtime"]),
    ("log.preallocate", &[]),
    ("log.retention.bytes", &[]),
    ("log.retention.ms", &[]),
    ("log.roll.jitter.ms", &[]),
    ("log.roll.ms", &[]),
    ("log.segment.bytes", &["1048576"]),
    ("log.segment.delete.delay.ms", &[]),
    ("max.connection.creation.rate", &[]),
    ("max.connections", &[]),
    ("max.connections.per.ip", &[]),
    ("max.connections.per.ip.overrides", &["127.0.0.1:5", "127.0.0.1:x", "nohost"]),
    ("message.max.bytes", &[]),
    ("metric.reporters", &[]),
    ("min.insync.replicas", &[]),
    ("num.io.threads", &["4", "8", "16", "17"]),
    ("num.network.threads", &["2", "3", "6", "7"]),
    ("num.recovery.threads.per.data.dir", &["2", "4", "5"]),
    ("num.replica.fetchers", &["2", "3"]),
    ("producer.id.expiration.ms", &[]),
    ("remote.fetch.max.wait.ms", &[]),
    ("transaction.partition.verification.enable", &[]),
    ("unclean.leader.election.enable", &[]),
    ("remote.log.manager.copier.thread.pool.size", &[]),
    ("remote.list.offsets.request.timeout.ms", &[]),
];

/// Keys that need a restart, and those that do not go by this way.
const FIXED_BROKER_KEYS: [&str; 23] = [
    "advertised.listeners",
    "auto.create.topics.enable",
    "broker.rack",
    "connections.max.idle.ms",
    "controller.quorum.bootstrap.servers",
    "default.replication.factor",
    "delete.topic.enable",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "log.retention.hours",
    "log.retention.minutes",
    "log.roll.hours",
    "num.partitions",
    "offsets.topic.replication.factor",
    "process.roles",
    "queued.max.requests",
    "replica.fetch.max.bytes",
    "socket.request.max.bytes",
    "ssl.keystore.location",
];

pub(super) fn steps(script: &mut Script) {
    let more = MORE_TOPIC_KEYS.map(|key| (key, &[][..]));
    for (key, own) in TOPIC_KEYS.into_iter().chain(more) {
        let values: Vec<&str> = VALUES.into_iter().chain(own.iter().copied()).collect();
        let all = values.clone();
        script.once(&format!("values of {key}"), move |side, _| {
            let one =
                |(at, value): (usize, &&str)| topic(side.name(&format!("v{at}")), 1, &[(key, Some(*value))]);
            CreateTopicsRequest { validate_only: true, ..create(all.iter().enumerate().map(one).collect()) }
        });
        for value in values {
            script.once(&format!("{key}={value:?}"), move |side, _| {
                tried(TOPIC, side.name("grown"), key, value)
            });
        }
    }
    for (key, own) in BROKER_KEYS {
        for value in VALUES.into_iter().chain(own.iter().copied()) {
            script.once(&format!("a broker's {key}={value:?}"), move |_, _| {
                tried(BROKER, Str::from("1"), key, value)
            });
            script.once(&format!("all brokers' {key}={value:?}"), move |_, _| {
                tried(BROKER, Str::default(), key, value)
            });
        }
    }
    for key in FIXED_BROKER_KEYS {
        for value in ["1", "x"] {
            script.once(&format!("a broker's {key}={value:?}"), move |_, _| {
                tried(BROKER, Str::from("1"), key, value)
            });
            script.once(&format!("all brokers' {key}={value:?}"), move |_, _| {
                tried(BROKER, Str::default(), key, value)
            });
        }
    }
}

/// One value, only validated.
fn tried(kind: i8, name: Str, key: &str, value: &str) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest { validate_only: true, ..change(kind, name, &[(key, 0, Some(value))]) }
}
