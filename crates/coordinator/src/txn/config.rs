//! The settings of a transaction coordinator.
use super::value::TxnVersion;
use model::ProducerEpoch;

/// Limits and times, named after Kafka's keys where Kafka has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnConfig {
    /// `transaction.max.timeout.ms`: an InitProducerId that asks for more is refused.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: how long an id that does nothing is kept.
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: how often expiry looks.
    pub expiration_interval_ms: i64,
    /// `transaction.version`, the finalised feature: what the coordinator's own aborts speak.
    pub version: TxnVersion,
    /// `plimsoll.transaction.max.ids`: transactional ids of this coordinator; a further one is refused.
    pub max_ids: usize,
    /// `plimsoll.transaction.max.ids.per.principal`: ids of one principal that this coordinator has seen
    /// since it was loaded; a further one is refused.
    pub max_ids_per_principal: usize,
    /// `plimsoll.transaction.max.partitions`: partitions of one transaction; a further one is refused.
    pub max_partitions: usize,
    /// The epoch that a new transactional id begins with: 0, but where tests want to see the epochs used up.
    pub first_epoch: ProducerEpoch,
    /// Requests that wait for a producer id; a further one is told to come back.
    pub max_waiting: usize,
    /// Tombstones in one batch.
    pub expiration_batch: usize,
    /// Timers that one tick works off; the others follow in the next.
    pub timers_per_tick: usize,
    /// How long a marker's answer may take before it is asked for again (`request.timeout.ms`).
    pub marker_timeout_ms: i64,
    /// The wait before a marker is asked for the second time, or a failed append tried again; it doubles.
    pub backoff_ms: i64,
    /// The longest such wait.
    pub max_backoff_ms: i64,
}

impl Default for TxnConfig {
    fn default() -> TxnConfig {
        TxnConfig {
            max_timeout_ms: 900_000,
            id_expiration_ms: 604_800_000,
            expiration_interval_ms: 3_600_000,
            version: TxnVersion::V2,
            max_ids: 100_000,
            max_ids_per_principal: 50_000,
            max_partitions: 10_000,
            first_epoch: 0,
            max_waiting: 10_000,
            expiration_batch: 1_000,
            timers_per_tick: 1_000,
            marker_timeout_ms: 30_000,
            backoff_ms: 50,
            max_backoff_ms: 5_000,
        }
    }
}

impl TxnConfig {
    /// How long to wait, in milliseconds, after this many failures in a row.
    pub(crate) fn backoff_after(&self, failures: u32) -> i64 {
        let factor = 1i64 << failures.saturating_sub(1).min(20);
        self.backoff_ms.max(1).saturating_mul(factor).min(self.max_backoff_ms.max(1))
    }
}
