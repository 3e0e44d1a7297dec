//! Handles resolved once; nothing is looked up by name on the request path.
use super::names::*;
use super::recorder::{MAX_SERIES, Registry};
use metrics::{Counter, Gauge, Histogram};
use model::ErrorCode;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What is counted per API.
pub struct ApiMetrics {
    /// Kafka's name of the API.
    pub name: &'static str,
    /// Requests.
    pub requests: Counter,
    /// Latency.
    pub seconds: Histogram,
    /// Bytes in.
    pub request_bytes: Counter,
    /// Bytes out.
    pub response_bytes: Counter,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The other end closed.
    Peer,
    /// Nothing came for too long.
    Idle,
    /// The other end did not read its answers.
    SlowReader,
    /// A frame that is no request.
    Malformed,
    /// A frame over the limit.
    TooLarge,
    /// An API or version that is not served.
    UnknownApi,
    /// An error where no answer is due.
    Acks0Error,
    /// The socket failed.
    Io,
    /// The broker stops.
    Shutdown,
    /// An answer could not be encoded.
    Internal,
    /// The broker waits for the rest of its cluster.
    Starting,
}

const CLOSED: [(Closed, &str); 11] = [
    (Closed::Peer, "peer"),
    (Closed::Idle, "idle"),
    (Closed::SlowReader, "slow_reader"),
    (Closed::Malformed, "malformed"),
    (Closed::TooLarge, "too_large"),
    (Closed::UnknownApi, "unknown_api"),
    (Closed::Acks0Error, "acks0_error"),
    (Closed::Io, "io"),
    (Closed::Shutdown, "shutdown"),
    (Closed::Internal, "internal"),
    (Closed::Starting, "starting"),
];

/// Why a connection was refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `max.connections`.
    Total,
    /// `max.connections.per.ip`.
    PerIp,
    /// `max.connection.creation.rate`.
    Rate,
    /// `accept` itself failed.
    AcceptError,
}

impl Refused {
    /// The config that refused it, if one did.
    pub fn config(self) -> Option<&'static str> {
        match self {
            Refused::Total => Some("max.connections"),
            Refused::PerIp => Some("max.connections.per.ip"),
            Refused::Rate => Some("max.connection.creation.rate"),
            Refused::AcceptError => None,
        }
    }
}

const REFUSED: [(Refused, &str); 4] = [
    (Refused::Total, "total"),
    (Refused::PerIp, "per_ip"),
    (Refused::Rate, "rate"),
    (Refused::AcceptError, "accept_error"),
];

/// All handles of the broker thread.
pub struct BrokerMetrics {
    registry: Registry,
    apis: Vec<Option<ApiMetrics>>,
    errors: RefCell<BTreeMap<(i16, i16), Counter>>,
    closed: Vec<Counter>,
    refused: Vec<Counter>,
    /// `plimsoll_produced_bytes_total`.
    pub produced_bytes: Counter,
    /// `plimsoll_produced_appends_total`.
    pub produced_appends: Counter,
    /// `plimsoll_produced_records_total`.
    pub produced_records: Counter,
    /// `plimsoll_fetched_bytes_total`, from memory.
    pub fetched_memory: Counter,
    /// `plimsoll_fetched_bytes_total`, from files.
    pub fetched_file: Counter,
    /// `plimsoll_fetched_at_follower_bytes_total`.
    pub fetched_at_follower: Counter,
    /// `plimsoll_pipeline_full_total`.
    pub pipeline_full: Counter,
    /// `plimsoll_file_reads_queued`.
    pub read_queue: Gauge,
    /// `plimsoll_file_reads_total`: ok, damaged, error.
    pub reads: [Counter; 3],
    /// `plimsoll_file_read_seconds`.
    pub read_seconds: Histogram,
    /// `plimsoll_sync_seconds`.
    pub sync_seconds: Histogram,
    /// `plimsoll_sync_files`.
    pub sync_files: Histogram,
    /// `plimsoll_sync_bytes`.
    pub sync_bytes: Histogram,
    /// `plimsoll_disk_writes_total`.
    pub disk_writes: Counter,
    /// `plimsoll_disk_write_bytes_total`.
    pub disk_write_bytes: Counter,
    /// `plimsoll_partitions_moved_total`.
    pub moved: Counter,
    /// `plimsoll_replicas_removed_total`.
    pub replicas_removed: Counter,
    /// `plimsoll_partitions_given_up_total`.
    pub given_up: Counter,
    /// `plimsoll_leads_left_full_disk_total`.
    pub left_full_disk: Counter,
    /// Ends of transactions.
    pub transactions: TransactionMetrics,
}

/// What is counted of the transactions that this node coordinates.
pub struct TransactionMetrics {
    registry: Registry,
    bounds: RefCell<BTreeMap<(&'static str, String), Counter>>,
    /// `plimsoll_transactions_ended_total`: committed, aborted.
    pub ended: [Counter; 2],
    /// `plimsoll_transactions_cut_short_total`: timeout, fenced.
    pub cut_short: [Counter; 2],
    /// `plimsoll_hanging_transactions_aborted_total`.
    pub hanging_aborted: Counter,
    /// EndTxn that came late.
    pub late_ends: Counter,
    /// `plimsoll_transaction_markers_again_total`.
    pub markers_again: Counter,
    /// `plimsoll_transaction_markers_left_out_total`: gone, superseded.
    pub left_out: [Counter; 2],
}

impl TransactionMetrics {
    fn new(registry: &Registry) -> TransactionMetrics {
        let of =
            |name, label, values: [&str; 2]| values.map(|value| registry.counter(name, &[(label, value)]));
        TransactionMetrics {
            bounds: RefCell::new(BTreeMap::new()),
            ended: of(TRANSACTIONS_ENDED, "result", ["committed", "aborted"]),
            cut_short: of(TRANSACTIONS_CUT, "reason", ["timeout", "fenced"]),
            hanging_aborted: registry.counter(HANGING_ABORTED, &[]),
            late_ends: registry.counter(LATE_ENDS, &[]),
            markers_again: registry.counter(MARKERS_AGAIN, &[]),
            left_out: of(MARKERS_LEFT_OUT, "reason", ["gone", "superseded"]),
            registry: registry.clone(),
        }
    }

    /// Counts a refusal; the principals that are told apart are bounded by the cap of series.
    pub fn bound_reached(&self, bound: &'static str, principal: &str) {
        let mut bounds = self.bounds.borrow_mut();
        let known = bounds.len() < MAX_SERIES || bounds.contains_key(&(bound, principal.to_owned()));
        let principal = if known { principal } else { "" };
        let counter = bounds.entry((bound, principal.to_owned())).or_insert_with(|| {
            self.registry.counter(TRANSACTION_BOUNDS, &[("bound", bound), ("principal", principal)])
        });
        counter.increment(1);
    }
}

impl BrokerMetrics {
    /// Resolves every handle; `apis` are the served APIs by key and name.
    pub fn new(registry: Registry, apis: &[(i16, &'static str)]) -> BrokerMetrics {
        let highest = apis.iter().map(|(key, _)| *key).max().unwrap_or(0);
        let mut table: Vec<Option<ApiMetrics>> = (0..=highest).map(|_| None).collect();
        for (key, name) in apis {
            let label = [("api", *name)];
            table[*key as usize] = Some(ApiMetrics {
                name,
                requests: registry.counter(REQUESTS, &label),
                seconds: registry.histogram(REQUEST_SECONDS, &label),
                request_bytes: registry.counter(REQUEST_BYTES, &label),
                response_bytes: registry.counter(RESPONSE_BYTES, &label),
            });
        }
        let reads = ["ok", "damaged", "error"].map(|r| registry.counter(READS, &[("result", r)]));
        BrokerMetrics {
            apis: table,
            errors: RefCell::new(BTreeMap::new()),
            closed: CLOSED
                .iter()
                .map(|(_, r)| registry.counter(CONNECTIONS_CLOSED, &[("reason", r)]))
                .collect(),
            refused: REFUSED
                .iter()
                .map(|(_, r)| registry.counter(CONNECTIONS_REFUSED, &[("reason", r)]))
                .collect(),
            produced_bytes: registry.counter(PRODUCED_BYTES, &[]),
            produced_appends: registry.counter(PRODUCED_BATCHES, &[]),
            produced_records: registry.counter(PRODUCED_RECORDS, &[]),
            fetched_memory: registry.counter(FETCHED_BYTES, &[("source", "memory")]),
            fetched_at_follower: registry.counter(FETCHED_AT_FOLLOWER, &[]),
            fetched_file: registry.counter(FETCHED_BYTES, &[("source", "file")]),
            pipeline_full: registry.counter(PIPELINE_FULL, &[]),
            read_queue: registry.gauge(READ_QUEUE, &[]),
            reads,
            read_seconds: registry.histogram(READ_SECONDS, &[]),
            sync_seconds: registry.histogram(SYNC_SECONDS, &[]),
            sync_files: registry.histogram(SYNC_FILES, &[]),
            sync_bytes: registry.histogram(SYNC_BYTES, &[]),
            disk_writes: registry.counter(DISK_WRITES, &[]),
            disk_write_bytes: registry.counter(DISK_WRITE_BYTES, &[]),
            moved: registry.counter(MOVED, &[]),
            replicas_removed: registry.counter(REPLICAS_REMOVED, &[]),
            given_up: registry.counter(GIVEN_UP, &[]),
            left_full_disk: registry.counter(LEFT_FULL_DISK, &[]),
            transactions: TransactionMetrics::new(&registry),
            registry,
        }
    }

    /// The registry behind the handles.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The handles of an API.
    pub fn api(&self, key: i16) -> Option<&ApiMetrics> {
        self.apis.get(usize::try_from(key).ok()?)?.as_ref()
    }

    /// Counts an error code sent; success is not counted.
    pub fn error(&self, api_key: i16, code: ErrorCode) {
        if code.is_none() {
            return;
        }
        let mut errors = self.errors.borrow_mut();
        let counter = errors.entry((api_key, code.code())).or_insert_with(|| {
            let api = self.api(api_key).map_or("unknown", |a| a.name);
            self.registry.counter(REQUEST_ERRORS, &[("api", api), ("error", code.name())])
        });
        counter.increment(1);
    }

    /// Counts the end of a connection.
    pub fn closed(&self, reason: Closed) {
        if let Some(at) = CLOSED.iter().position(|(r, _)| *r == reason) {
            self.closed[at].increment(1);
        }
    }

    /// Counts a refused connection.
    pub fn refused(&self, reason: Refused) {
        if let Some(at) = REFUSED.iter().position(|(r, _)| *r == reason) {
            self.refused[at].increment(1);
        }
    }
}
