//! Every metric: name, kind, labels, help. `docs/metrics.md` is generated from this table.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Fixed buckets, sum and count; the bounds follow.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with unit and `_total` where it applies.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// Bounds in seconds of request latencies and of syncs: 0.1 ms to 30 s.
pub const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
/// Bounds in bytes: 1 KiB to 64 MiB.
pub const BYTES: &[f64] =
    &[1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];
/// Bounds in pieces: 1 to 4096.
pub const PIECES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0, 1024.0, 4096.0];

macro_rules! metrics {
    ($($konst:ident = $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $konst: &str = $name;)*
        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

metrics! {
    BUILD_INFO = "plimsoll_build_info", Kind::Gauge, ["version"], "Always 1; the label is the version that runs.";
    READY = "plimsoll_ready", Kind::Gauge, [], "1 when the broker serves, else 0.";
    REQUESTS = "plimsoll_requests_total", Kind::Counter, ["api"], "Requests answered (or taken in, where no answer is due), by API.";
    REQUEST_ERRORS = "plimsoll_request_errors_total", Kind::Counter, ["api", "error"], "Error codes sent, by API and Kafka's name of the error; a request may send many.";
    REQUEST_SECONDS = "plimsoll_request_seconds", Kind::Histogram(SECONDS), ["api"], "From the request's last byte read to its answer ready, waiting included.";
    REQUEST_BYTES = "plimsoll_request_bytes_total", Kind::Counter, ["api"], "Bytes of requests, headers included.";
    RESPONSE_BYTES = "plimsoll_response_bytes_total", Kind::Counter, ["api"], "Bytes of responses, headers included.";
    PRODUCED_BYTES = "plimsoll_produced_bytes_total", Kind::Counter, [], "Bytes of record batches handed to partitions by Produce.";
    PRODUCED_BATCHES = "plimsoll_produced_appends_total", Kind::Counter, [], "Partition appends asked for by Produce.";
    PRODUCED_RECORDS = "plimsoll_produced_records_total", Kind::Counter, [], "Records acknowledged to producers.";
    FETCHED_BYTES = "plimsoll_fetched_bytes_total", Kind::Counter, ["source"], "Bytes of record batches sent by Fetch, from memory or from a file.";
    FETCHED_AT_FOLLOWER = "plimsoll_fetched_at_follower_bytes_total", Kind::Counter, [], "Of these, bytes of partitions that another node leads: consumers with a client.rack read here (KIP-392).";
    CONNECTIONS = "plimsoll_connections", Kind::Gauge, ["listener"], "Connections open now.";
    CONNECTIONS_OPENED = "plimsoll_connections_opened_total", Kind::Counter, ["listener"], "Connections accepted.";
    CONNECTIONS_CLOSED = "plimsoll_connections_closed_total", Kind::Counter, ["reason"], "Connections ended: peer, idle, slow_reader, malformed, too_large, unknown_api, acks0_error, io, shutdown, internal, starting.";
    CONNECTIONS_REFUSED = "plimsoll_connections_refused_total", Kind::Counter, ["reason"], "Connections refused at once: total, per_ip, rate, accept_error.";
    REQUEST_MEMORY = "plimsoll_request_memory_bytes", Kind::Gauge, [], "Bytes of requests read and not yet answered.";
    REQUEST_MEMORY_LIMIT = "plimsoll_request_memory_limit_bytes", Kind::Gauge, [], "What plimsoll_request_memory_bytes may reach before reading pauses.";
    REQUEST_MEMORY_WAITS = "plimsoll_request_memory_waits_total", Kind::Counter, [], "Times that a connection paused because request memory was used up.";
    RESPONSE_MEMORY = "plimsoll_response_memory_bytes", Kind::Gauge, [], "Bytes read from files for answers that are not sent yet.";
    RESPONSE_MEMORY_LIMIT = "plimsoll_response_memory_limit_bytes", Kind::Gauge, [], "What plimsoll_response_memory_bytes may reach before file reads pause.";
    RESPONSE_MEMORY_WAITS = "plimsoll_response_memory_waits_total", Kind::Counter, [], "Times that a fetch paused because response memory was used up.";
    PIPELINE_FULL = "plimsoll_pipeline_full_total", Kind::Counter, [], "Times that a connection paused because too many of its own requests were unanswered.";
    WAITING_REQUESTS = "plimsoll_waiting_requests", Kind::Gauge, [], "Requests that wait for the node: appends for their commit, fetches for data, group members for each other.";
    FETCH_SESSIONS = "plimsoll_fetch_sessions", Kind::Gauge, [], "Incremental fetch sessions.";
    FETCH_SESSION_PARTITIONS = "plimsoll_fetch_session_partitions", Kind::Gauge, [], "Partitions in all fetch sessions together.";
    FETCH_SESSION_EVICTIONS = "plimsoll_fetch_session_evictions_total", Kind::Counter, [], "Fetch sessions evicted to make room.";
    READ_QUEUE = "plimsoll_file_reads_queued", Kind::Gauge, [], "File reads that wait for a reader thread.";
    READS = "plimsoll_file_reads_total", Kind::Counter, ["result"], "File reads for fetches and time look-ups: ok, damaged, error.";
    READ_SECONDS = "plimsoll_file_read_seconds", Kind::Histogram(SECONDS), [], "Time of a file read, without waiting for a reader.";
    SYNC_SECONDS = "plimsoll_sync_seconds", Kind::Histogram(SECONDS), [], "Time of one sync round: all data that it makes durable waits for it.";
    SYNC_FILES = "plimsoll_sync_files", Kind::Histogram(PIECES), [], "Files in one sync round.";
    SYNC_BYTES = "plimsoll_sync_bytes", Kind::Histogram(BYTES), [], "Bytes written since the round before.";
    DISK_WRITES = "plimsoll_disk_writes_total", Kind::Counter, [], "Writes handed to the writer thread.";
    DISK_WRITE_BYTES = "plimsoll_disk_write_bytes_total", Kind::Counter, [], "Bytes handed to the writer thread, frames and state log included.";
    DISK_FULL = "plimsoll_disk_full", Kind::Gauge, [], "1 while produce is refused because the disk is full.";
    DISK_STALLED = "plimsoll_disk_stalled_seconds", Kind::Gauge, [], "For how long nothing at all could be written because the disk is full; 0 while something can.";
    GIVEN_UP = "plimsoll_partitions_given_up_total", Kind::Counter, [], "Times that a partition's unacknowledged appends were given up because the disk was full: it was read back from disk, and its producers send them again.";
    LEFT_FULL_DISK = "plimsoll_leads_left_full_disk_total", Kind::Counter, [], "Leads that were handed to other nodes because the disk here was full for a second or more.";
    POOL_BYTES = "plimsoll_log_pool_bytes", Kind::Gauge, [], "Bytes of files that were made ahead or used before and wait for new segments; beyond log.pool.bytes they are given back after ten minutes, or when space is short.";
    DISK_FENCED = "plimsoll_directory_fenced", Kind::Gauge, [], "1 after a write or sync failed, or the directory was removed: nothing is acknowledged any more.";
    PARTITION_LOG_START = "plimsoll_partition_log_start_offset", Kind::Gauge, ["topic", "partition"], "First offset that can be read.";
    PARTITION_LOG_END = "plimsoll_partition_log_end_offset", Kind::Gauge, ["topic", "partition"], "Offset of the next record.";
    PARTITION_HIGH_WATERMARK = "plimsoll_partition_high_watermark", Kind::Gauge, ["topic", "partition"], "Everything below is committed and can be read.";
    PARTITION_LAST_STABLE = "plimsoll_partition_last_stable_offset", Kind::Gauge, ["topic", "partition"], "Every transaction below has ended; readers of committed ones see up to here. Far below the high watermark for long: a transaction hangs.";
    TRANSACTIONS_OPEN = "plimsoll_transactions_open", Kind::Gauge, [], "Transactions open in partitions led here; one that writes to several counts in each.";
    TRANSACTION_AGE = "plimsoll_transaction_oldest_seconds", Kind::Gauge, [], "For how long the oldest of these has been open; 0 without any. Above transaction.max.timeout.ms: it hangs.";
    TRANSACTIONS_HANGING = "plimsoll_transactions_hanging", Kind::Gauge, [], "Transactions that partitions led here have had open for longer than transaction.max.timeout.ms and that their coordinators, asked, do not know: readers of committed records wait until an operator or plimsoll.transaction.hanging.policy ends them.";
    HANGING_AGE = "plimsoll_hanging_transaction_seconds", Kind::Gauge, ["topic", "partition", "producer_id", "transactional_id", "principal", "client_id"], "For how long each of these has been open, and whose it is; the first hundred.";
    HANGING_ABORTED = "plimsoll_hanging_transactions_aborted_total", Kind::Counter, [], "Of these, transactions that were ended because plimsoll.transaction.hanging.policy is abort.";
    LATE_ENDS = "plimsoll_transaction_late_ends_total", Kind::Counter, [], "EndTxn requests of clients without TV2 that came by an older connection than the one by which the same producer has ended a transaction since: refused, for they would end another one.";
    TRANSACTIONS_REFUSED = "plimsoll_transactions_refused", Kind::Gauge, [], "Appends that partitions refused since they were opened because too many transactions are open there, or too many wait for their coordinators.";
    ABORTED_BYTES = "plimsoll_aborted_transactions_bytes", Kind::Gauge, [], "Memory of the lists of aborted transactions of all replicas here: 32 bytes for each that can be read still.";
    PARTITION_STABLE_LAG = "plimsoll_partition_last_stable_lag_records", Kind::Gauge, ["topic", "partition"], "High watermark minus last stable offset of a partition led here; absent where no transaction is open.";
    PARTITION_TRANSACTION_AGE = "plimsoll_partition_transaction_oldest_seconds", Kind::Gauge, ["topic", "partition", "transactional_id", "principal", "client_id"], "For how long the oldest open transaction of a partition led here has been open, and whose it is; absent without any.";
    TRANSACTIONAL_IDS = "plimsoll_transactional_ids", Kind::Gauge, ["state"], "Transactional ids that this node coordinates, by Kafka's name of their state.";
    COORDINATED_OPEN = "plimsoll_coordinated_transactions_open", Kind::Gauge, ["partition"], "Transactions that are open or ending, by the coordinator's partition of __transaction_state.";
    COORDINATED_AGE = "plimsoll_coordinated_transaction_oldest_seconds", Kind::Gauge, [], "For how long the oldest of these has been open; 0 without any.";
    TRANSACTIONS_ENDED = "plimsoll_transactions_ended_total", Kind::Counter, ["result"], "Transactions that ended here with all their markers: committed, aborted.";
    TRANSACTIONS_CUT = "plimsoll_transactions_cut_short_total", Kind::Counter, ["reason"], "Of the aborted, those that the coordinator ended: timeout (transaction.timeout.ms passed), fenced (another producer began under the transactional id).";
    MARKERS_WAITING = "plimsoll_transaction_markers_waiting", Kind::Gauge, [], "Partitions whose marker is decided here and not known to be committed there.";
    MARKERS_AGE = "plimsoll_transaction_markers_oldest_seconds", Kind::Gauge, [], "For how long the oldest of these has been decided; 0 without any. Long: its partition has no leader, or too few replicas in sync.";
    MARKERS_AGAIN = "plimsoll_transaction_markers_again_total", Kind::Counter, [], "Markers that were asked for again.";
    MARKERS_LEFT_OUT = "plimsoll_transaction_markers_left_out_total", Kind::Counter, ["reason"], "Partitions that an end of a transaction left out: gone (deleted), superseded (an operator ended it there).";
    TRANSACTION_BOUNDS = "plimsoll_transaction_bounds_reached_total", Kind::Counter, ["bound", "principal"], "Requests refused because a bound of a coordinator is reached: ids, ids-per-principal, partitions, waiting; with who asked, where that is known.";
    QUESTIONS = "plimsoll_transaction_questions_total", Kind::Counter, ["result"], "Questions of partitions here to coordinators of transactions (asked), and appends that were refused because too many waited for an answer (full) or none came in time (late).";
    QUESTIONS_WAITING = "plimsoll_transaction_questions_waiting", Kind::Gauge, [], "Appends that wait for the answer to such a question.";
    PARTITION_SIZE = "plimsoll_partition_size_bytes", Kind::Gauge, ["topic", "partition"], "Bytes of the partition's log.";
    PARTITION_LEADER = "plimsoll_partition_leader", Kind::Gauge, ["topic", "partition"], "1 where this node leads the partition, else 0. Each replica has rows of plimsoll_partition_*: times this one, by topic, partition and instance, a sum over all nodes counts each partition once.";
    PARTITION_RATE = "plimsoll_partition_bytes_per_second", Kind::Gauge, ["topic", "partition", "direction"], "Bytes a second that a partition led here takes in (direction in), averaged over about a minute; what is read is not counted.";
    PARTITION_LAG = "plimsoll_partition_replica_lag_entries", Kind::Gauge, ["topic", "partition", "replica"], "By how many entries of its log the replica on another node is behind a partition led here; replica is the node. An entry is what one append was, often many records: the leader knows no offsets of its followers. A replica that it has not heard of since it leads counts as having nothing. Witnesses have no row.";
    GROUPS = "plimsoll_groups", Kind::Gauge, ["type", "state"], "Groups that this node coordinates, by protocol (classic, consumer) and state as ListGroups names it.";
    GROUP_MEMBERS = "plimsoll_group_members", Kind::Gauge, ["type"], "Members of these groups. A member of a consumer group that still speaks the classic protocol counts with its group.";
    GROUP_OFFSET = "plimsoll_group_committed_offset", Kind::Gauge, ["group", "topic", "partition"], "Offset that the group committed.";
    GROUP_LAG = "plimsoll_group_lag_records", Kind::Gauge, ["group", "topic", "partition"], "High watermark minus committed offset, never below 0.";
    TOPICS = "plimsoll_topics", Kind::Gauge, [], "Topics, internal ones included.";
    PARTITIONS = "plimsoll_partitions", Kind::Gauge, ["state"], "Partitions: all, and those open in memory.";
    OFFLINE_PARTITIONS = "plimsoll_offline_partitions", Kind::Gauge, [], "Partitions that cannot be used: their files are damaged, or the data directory failed. The log says why; one that was not used since the start is found within minutes.";
    LEADERLESS = "plimsoll_leaderless_partitions", Kind::Gauge, [], "Partitions with a replica on this node, or the witness, of which it knows no leader now: clients that ask it for Metadata are told of none. Each node counts its own, so one that lives shows what its lost peers cannot; a partition without a live node is counted nowhere.";
    UNDER_REPLICATED = "plimsoll_under_replicated_partitions", Kind::Gauge, [], "Partitions led by this node of which not every replica is in sync; those that are being added do not count.";
    UNDER_MIN_ISR = "plimsoll_under_min_isr_partitions", Kind::Gauge, [], "Partitions led by this node with fewer replicas in sync than min.insync.replicas, or than their replicas where that is less: writes with acks=all are refused.";
    RESTRAINED = "plimsoll_restrained_replicas", Kind::Gauge, [], "Replicas here that may have lost what they acknowledged, by a loss of power under write.caching or by damage: they do not vote before they have caught up with a leader.";
    INSTALLS_RUNNING = "plimsoll_installs_running", Kind::Gauge, [], "Replicas of this node that are being brought up from a checkpoint of their leader now.";
    INSTALLS = "plimsoll_installs_total", Kind::Counter, ["result"], "Replicas of this node that were to be brought up from a checkpoint: begun, resumed (after an interruption), finished, failed.";
    INSTALL_PACE = "plimsoll_install_pace_bytes", Kind::Gauge, [], "Bytes a second to which replicas that are brought up here are held while partitions here are synced: more while syncs take what they usually do, less as soon as they take longer. Where nothing is synced there is no limit.";
    INSTALL_LEFT = "plimsoll_install_bytes_left", Kind::Gauge, ["topic", "partition"], "Bytes that a replica which is being brought up has still to pull; 0 until its checkpoint is here.";
    INSTALL_BYTES = "plimsoll_install_bytes_total", Kind::Counter, ["direction"], "Bytes of files of checkpoints: in for replicas here, out to those of other nodes.";
    METADATA_MEMBERS = "plimsoll_metadata_members", Kind::Gauge, ["role"], "Nodes that vote on the metadata (voter) and nodes that only follow it (observer), as this node knows them.";
    JOIN_QUESTIONS = "plimsoll_join_questions_total", Kind::Counter, ["result"], "Questions of nodes that look for their cluster: those that only asked (told), and those that were let in (registered).";
    SUSPECT_REPLICAS = "plimsoll_suspect_replicas", Kind::Gauge, [], "Replicas of this node that are damaged and wait for a peer to bring them up anew.";
    DAMAGED_REPLICAS = "plimsoll_damaged_replicas_total", Kind::Counter, ["result"], "Replicas of this node with peers that were found damaged, and those that were brought up anew: found, healed.";
    WITNESSES = "plimsoll_witness_replicas", Kind::Gauge, [], "Replicas of this node that are witnesses: they vote and hold no data.";
    WITNESS_HELD = "plimsoll_witness_messages_held", Kind::Gauge, [], "Messages to witnesses that leaders here hold back until both copies are durable; many for long: the other copy is slow.";
    LOSSES_ACCEPTED = "plimsoll_losses_accepted_total", Kind::Counter, [], "Partitions whose replica here went on alone because an operator accepted that acknowledged records are lost.";
    SCRUBBED_BYTES = "plimsoll_scrubbed_bytes_total", Kind::Counter, [], "Bytes of files that were read again and checked.";
    SCRUB_ROUNDS = "plimsoll_scrub_rounds_total", Kind::Counter, [], "Rounds over all files of open partitions.";
    SCRUB_DAMAGED = "plimsoll_scrub_damaged_files_total", Kind::Counter, [], "Files that were found not to be what was written, by such a reading.";
    CLEANER_PASSES = "plimsoll_cleaner_passes_total", Kind::Counter, ["result"], "Passes of compaction over a partition: done; void (a file was damaged or gone, or there was no room: nothing of it counts).";
    CLEANER_RUNNING = "plimsoll_cleaner_running", Kind::Gauge, [], "Partitions that are being compacted now.";
    CLEANER_BYTES = "plimsoll_cleaner_bytes_total", Kind::Counter, ["kind"], "Bytes of compaction: read; replaced, the size of files that others took the place of; written, the size of those.";
    CLEANER_RECORDS = "plimsoll_cleaner_records_dropped_total", Kind::Counter, [], "Records that compaction let go: superseded, deleted, aborted, or without a key.";
    CLEANER_UNCLEANABLE = "plimsoll_cleaner_uncleanable_partitions", Kind::Gauge, [], "Partitions with files that cannot be compacted; a log line named each.";
    CLEANER_DIRTY = "plimsoll_cleaner_max_dirty_ratio", Kind::Gauge, [], "The largest share of new data in a compacted partition here, at the last look.";
    CLEANER_IDLE = "plimsoll_cleaner_last_pass_seconds", Kind::Gauge, [], "Seconds since the last pass of compaction ended; absent before the first.";
    CHAINS_COMPARED = "plimsoll_chains_compared_total", Kind::Counter, ["result"], "Comparisons of a replica here with others of its group, after a file was read again: equal; different (an error line names both values); undecided (of these, where no value is that of most voters); skipped (no leader answered, or too many were under way: the next round compares again).";
    METADATA_LEADER_KNOWN = "plimsoll_metadata_leader_known", Kind::Gauge, [], "1 while this node knows a leader of the metadata, which may be itself, else 0.";
    LEASES = "plimsoll_leases", Kind::Gauge, [], "Other nodes that this one takes for alive.";
    TOMBSTONES = "plimsoll_deletions_unconfirmed", Kind::Gauge, [], "Deleted topics of which some node has not confirmed yet that their files are gone.";
    MOVED = "plimsoll_partitions_moved_total", Kind::Counter, [], "Partitions led here that have got the replicas that were wanted instead of others.";
    MOVING = "plimsoll_partitions_moving", Kind::Gauge, [], "Partitions led here whose replicas are being changed.";
    REPLICAS_REMOVED = "plimsoll_replicas_removed_total", Kind::Counter, [], "Replicas here that were wanted no more and were removed.";
    GROUPS_AWAKE = "plimsoll_replica_groups_awake", Kind::Gauge, [], "Groups with replicas on other nodes that are not asleep here.";
    STRONG_READS = "plimsoll_strong_reads_total", Kind::Counter, ["result"], "Reads for which other replicas had to confirm that this node leads (ListOffsets, OffsetFetch, descriptions of groups): asked, and of these unconfirmed, which were answered with an error that clients try again.";
    STRONG_READS_WAITING = "plimsoll_strong_reads_waiting", Kind::Gauge, [], "Of these, reads that wait.";
    STRONG_READ_ROUNDS = "plimsoll_strong_read_rounds_total", Kind::Counter, [], "Rounds of messages for them; reads of one turn and partition share one.";
    READ_AT_FOLLOWERS = "plimsoll_partitions_read_at_followers", Kind::Gauge, [], "Partitions led here whose consumers were sent to a follower in the last ten minutes: followers hear of their commits at once.";
    NODE_LED_RATE = "plimsoll_node_led_bytes_per_second", Kind::Gauge, [], "Bytes a second that partitions led here take in, averaged over about a minute.";
    NODE_FOLLOWED_RATE = "plimsoll_node_followed_bytes_per_second", Kind::Gauge, [], "The same of replicas here that follow.";
    NODE_STORED = "plimsoll_node_stored_bytes", Kind::Gauge, [], "Bytes of all replicas here that were opened since the start.";
    NODE_LED_SHARE = "plimsoll_node_led_share", Kind::Gauge, [], "Which part of all that is led in the cluster, in bytes a second, is led here: 0 to 1.";
    LOAD_MOVES = "plimsoll_leaders_moved_for_load_total", Kind::Counter, [], "Partitions of which this node, as the leader of the metadata, has made another replica the preferred leader because a node led too much.";
    PEER_CONNECTIONS = "plimsoll_peer_connections", Kind::Gauge, ["node", "connection"], "1 while the connection to the other node stands, else 0; connection is data or liveness.";
    PEER_QUEUED = "plimsoll_peer_queued_bytes", Kind::Gauge, ["node"], "Bytes that wait to be sent to the other node.";
    PEER_SENT = "plimsoll_peer_sent_messages_total", Kind::Counter, ["kind"], "Messages sent to other nodes: raft, heartbeat, leader_rows, forward, forwarded, node, install, find.";
    PEER_SENT_BYTES = "plimsoll_peer_sent_bytes_total", Kind::Counter, ["kind"], "Bytes of them.";
    PEER_RECEIVED = "plimsoll_peer_received_messages_total", Kind::Counter, ["kind"], "Messages that came from other nodes.";
    PEER_RECEIVED_BYTES = "plimsoll_peer_received_bytes_total", Kind::Counter, ["kind"], "Bytes of them.";
    PEER_DROPPED = "plimsoll_peer_dropped_messages_total", Kind::Counter, ["kind"], "Messages to other nodes that were dropped, for lack of room or of a connection, and messages from them that made no sense. What matters of it is sent again.";
    PEER_REFUSED = "plimsoll_peer_handshakes_refused_total", Kind::Counter, ["reason", "by"], "Connections between nodes that came to nothing, and whether this node said so or the other one.";
    REPLICA_REFUSED = "plimsoll_replica_messages_refused_total", Kind::Counter, [], "Messages between replicas that were refused because they contradict what is here.";
    FORWARDED = "plimsoll_forwarded_requests_total", Kind::Counter, ["result"], "Admin requests of this node's clients for the leader of the metadata: answered, no_leader, lost, full, late, refused.";
    FORWARDED_WAITING = "plimsoll_forwarded_requests_waiting", Kind::Gauge, [], "Of these, requests that are on their way.";
    RESIDENT_MEMORY = "plimsoll_process_resident_bytes", Kind::Gauge, [], "Resident memory of the process.";
    CPU_SECONDS = "plimsoll_process_cpu_seconds_total", Kind::Counter, ["mode"], "CPU time of the process, in user and kernel mode.";
    OPEN_FILES = "plimsoll_process_open_files", Kind::Gauge, [], "File descriptors in use.";
    START_TIME = "plimsoll_process_start_time_seconds", Kind::Gauge, [], "When the process started, seconds since 1970.";
    SERIES_DROPPED = "plimsoll_metrics_series_dropped_total", Kind::Counter, [], "Series not shown because their metric reached its cap of series.";
}

/// The page of all metrics, as `docs/metrics.md` holds it.
pub fn page() -> String {
    let mut out = String::from(
        "# Metrics\n\n`/metrics` on `http.listener` (127.0.0.1:9644), Prometheus text format. This page is generated from\n\
         `crates/broker/src/metrics/names.rs`; a test compares them. A metric shows at most 20,000 series;\n\
         `plimsoll_metrics_series_dropped_total` counts what the cap hides.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for m in ALL {
        let kind = match m.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels = if m.labels.is_empty() { "-".to_string() } else { m.labels.join(", ") };
        out.push_str(&format!("| `{}` | {kind} | {labels} | {} |\n", m.name, m.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_prefix_and_counters_end_in_total() {
        for m in ALL {
            assert!(m.name.starts_with("plimsoll_"), "{}", m.name);
            assert_eq!(m.kind == Kind::Counter, m.name.ends_with("_total"), "{}", m.name);
        }
    }

    #[test]
    fn documentation_holds_the_generated_page() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("PLIMSOLL_WRITE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == page(), "docs/metrics.md is stale: run this test with PLIMSOLL_WRITE_DOCS=1");
    }
}
