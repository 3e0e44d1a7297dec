//! Why a config of Kafka's has no effect here; the rest of a sentence.
pub(super) const AUTH: &str = "authentication and authorization are not served, every client is allowed";
pub(super) const COMPACT: &str = "compaction sizes its buffers by itself";
pub(super) const JVM: &str = "the threads and caches that it sizes do not exist here";
pub(super) const OFFLOAD: &str = "assignments are computed where heartbeats are answered";
pub(super) const PLUGIN: &str = "Java plug-ins cannot be loaded";
pub(super) const POOL: &str = "files come pre-written from a pool";
pub(super) const PROTOCOLS: &str =
    "Kafka deprecated it: group.version says whether consumer groups are served";
pub(super) const QUOTA: &str = "quotas are not served";
pub(super) const RAFT: &str = "replication, elections and metadata follow the built-in raft";
pub(super) const RETIRED: &str = "Kafka 4 dropped it";
pub(super) const SHARE: &str = "share groups are not served";
pub(super) const STREAMS: &str = "streams groups are not served";
pub(super) const SYNC: &str =
    "every acknowledged batch is synced already, unless write.caching says otherwise";
pub(super) const TELEMETRY: &str = "client metrics are not collected";
pub(super) const TIER: &str = "remote storage is not served";
pub(super) const TLS: &str = "TLS listeners are not served";
pub(super) const TXN: &str = "the coordinator of transactions has no such knob: verification is always on, what waits is asked again by its own clock, and two-phase commit is not served";
