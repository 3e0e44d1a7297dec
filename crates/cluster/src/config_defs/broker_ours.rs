//! Broker configs that Kafka does not have, and retired ones that its older files name.
use super::why::{RAFT, RETIRED};
use super::{INT_MAX, LONG_MAX};
use crate::config_def::{ConfigDef, ConfigType, Valid};

#[rustfmt::skip]
pub(super) const DEFS: &[ConfigDef] = &[
    ConfigDef::new("accept.state.log.damage", ConfigType::Boolean, "false", Valid::Any, "For one start after it was refused for damage in the state log: every partition is recovered from all of its files that are readable, without the proof of how far they were synced; a log line names those that the state log does not know. Keep a copy of the data directory.").ours(),
    ConfigDef::null("cluster.id", ConfigType::String, Valid::NonEmpty, "Identity of a new cluster; drawn at random where it is not set. A cluster keeps its first one.").ours(),
    ConfigDef::null("cluster.secret.file", ConfigType::String, Valid::NonEmpty, "File with the secret that the nodes of a cluster share, 16 bytes at least. Needed where any controller listener can be reached from other machines; without it nodes talk on loopback only.").ours(),
    ConfigDef::new("connection.max.request.bytes", ConfigType::Long, "33554432", Valid::Range(1, LONG_MAX), "Bytes of requests of one connection that are read but not answered; beyond it reading pauses. One larger request is taken alone.").ours(),
    ConfigDef::new("http.listener", ConfigType::String, "127.0.0.1:9644", Valid::Any, "Address of metrics and health over HTTP; empty for none. Where it is not set and the default is in use, none is served, and the log says so.").ours(),
    ConfigDef::new("log.disk.min.free.bytes", ConfigType::Long, "67108864", Valid::Range(0, LONG_MAX), "With less free space than this, or than a twentieth of the file system where that is less, a data directory refuses produce; fetch, commit and delete go on.").ours(),
    ConfigDef::new("log.pool.bytes", ConfigType::Long, "268435456", Valid::Range(0, LONG_MAX), "Bytes of files that a data directory makes ahead for segments that are synced: overwriting a file halves the time of a sync. Files that were used before are kept beyond it, for ten minutes and as many as there is free space besides. 0: neither.").ours(),
    ConfigDef::new("log.scrub.interval.ms", ConfigType::Long, "604800000", Valid::Range(1, LONG_MAX), "From the beginning of one round over all files to that of the next; the first begins ten minutes after the start.").ours(),
    ConfigDef::new("log.scrub.rate.bytes", ConfigType::Long, "8388608", Valid::Range(0, LONG_MAX), "Bytes a second at which files are read again and checked, one file after the other; 0: never. A replica that is found damaged is brought up anew by its peers.").ours(),
    ConfigDef::new("log.tail.cache.bytes", ConfigType::Long, "67108864", Valid::Range(0, LONG_MAX), "Memory for the newest batches of all partitions, from which consumers at the tail are served.").ours(),
    ConfigDef::new("log.window.bytes", ConfigType::Long, "1073741824", Valid::Range(4096, LONG_MAX), "Bytes of a partition that stay in the raft log before its segments become base: a replica that is behind by more is brought up from a checkpoint.").ours(),
    ConfigDef::new("plimsoll.max.partitions", ConfigType::Int, "100000", Valid::Range(1, INT_MAX), "Most partitions of the cluster for each of its brokers; creating more is refused.").ours().cluster_wide(),
    ConfigDef::new("plimsoll.transaction.hanging.policy", ConfigType::String, "report", Valid::OneOf(&["report", "abort"]), "What becomes of a transaction that a partition has had open for longer than transaction.max.timeout.ms and that its coordinator, asked, does not know: report names it in the log and in plimsoll_transactions_hanging, abort also ends it by an abort marker.").ours().cluster_wide(),
    ConfigDef::new("plimsoll.validate.records", ConfigType::Boolean, "false", Valid::Any, "Whether each record of a batch is walked and checked before it is appended.").ours().cluster_wide(),
    ConfigDef::new("socket.first.request.max.bytes", ConfigType::Int, "524288", Valid::Range(1024, INT_MAX), "Largest first request of a connection; socket.request.max.bytes holds after it.").ours(),
    ConfigDef::new("write.caching", ConfigType::Boolean, "false", Valid::Any, "Default of the topic config write.caching for topics of users; never for internal ones.").ours().cluster_wide(),
    ConfigDef::null("follower.replication.throttled.rate", ConfigType::Long, Valid::Range(0, LONG_MAX), "Bytes a second that this broker pulls for replicas that are brought up from a checkpoint, all together, and that it reads for throttled replicas that are behind; unset or 0 for no limit.").cluster_wide().hidden(),
    ConfigDef::new("install.piece.bytes", ConfigType::Int, "262144", Valid::Range(256, 1_048_576), "Bytes that a replica which is brought up from a checkpoint asks for at once.").ours().hidden(),
    ConfigDef::new("internal.leader.imbalance.margin.bytes", ConfigType::Long, "1048576", Valid::Range(1, LONG_MAX), "For tests: bytes a second that a node may lead above the mean before leads are moved off it.").ours().hidden(),
    ConfigDef::null("leader.replication.throttled.rate", ConfigType::Long, Valid::Range(0, LONG_MAX), "Bytes a second that this broker sends to replicas that are brought up from a checkpoint, all together, and to throttled replicas that are behind; unset or 0 for no limit.").cluster_wide().hidden(),
    ConfigDef::null("replica.alter.log.dirs.io.max.bytes.per.second", ConfigType::Long, Valid::Range(0, LONG_MAX), "Bytes a second for moves between data directories.").idle(RAFT).cluster_wide().hidden(),
    ConfigDef::new("inter.broker.protocol.version", ConfigType::String, "4.4-IV2", Valid::Any, "Kafka 3's protocol level; some tools ask for it.").idle(RETIRED).hidden(),
    ConfigDef::new("log.message.downconversion.enable", ConfigType::Boolean, "true", Valid::Any, "").idle(RETIRED).hidden(),
    ConfigDef::new("log.message.format.version", ConfigType::String, "3.0-IV1", Valid::Any, "").idle(RETIRED).hidden(),
    ConfigDef::new("log.message.timestamp.difference.max.ms", ConfigType::Long, "9223372036854775807", Valid::Range(0, LONG_MAX), "").idle(RETIRED).hidden(),
    ConfigDef::null("zookeeper.connect", ConfigType::String, Valid::Any, "").idle(RETIRED).hidden(),
    ConfigDef::null("zookeeper.connection.timeout.ms", ConfigType::Int, Valid::Any, "").idle(RETIRED).hidden(),
];
