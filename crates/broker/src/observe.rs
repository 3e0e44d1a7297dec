//! What the broker thread tells the HTTP thread: numbers and state.
use crate::core;
use crate::http::Ask;
use crate::metrics::names;
use crate::metrics::render::{GroupRow, Snapshot, labels};
use crate::observe_partitions::partitions;
use crate::observe_txn::{on_hanging, on_txn_event, transactions};
use crate::peers;
use crate::shared::{Complaint, Shared};
use coordinator::{ConsumerState, GroupEvent, GroupState};
use model::{ErrorCode, GroupKey, NodeId};
use node::{CompareCounts, Event, InstallEvent};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A disk that had no room for so long is not about to have some.
const STALLED: Duration = Duration::from_secs(3);
/// Partitions and groups of one scrape; the cap of series is below.
pub(crate) const MOST_ROWS: usize = 25_000;

/// Answers the HTTP thread until it goes.
pub(crate) async fn answer(shared: Rc<Shared>, mut asks: mpsc::Receiver<Ask>) {
    while let Some(ask) = asks.recv().await {
        // A scrape that was given up has no receiver any more.
        match ask {
            Ask::Metrics(to) => drop(to.send(snapshot(&shared))),
            Ask::Ready(to) => drop(to.send(not_ready(&shared))),
            Ask::Healthy(to) => drop(to.send(shared.core.fenced())),
        }
    }
}

/// Logs and counts what the node says.
pub(crate) fn on_event(shared: &Shared, event: Event) {
    match event {
        Event::Fenced(why) => {
            tracing::error!(why, "data directory fenced: nothing is acknowledged any more, the broker stops");
        }
        event @ (Event::DiskFull(_) | Event::GivenUp(_) | Event::LeftFullDisk(_)) => {
            on_full_disk(shared, event)
        }
        Event::Moved { key } => {
            shared.metrics.moved.increment(1);
            tracing::info!(partition = %Named(shared, key), "the move is done: its replicas are those that were wanted");
        }
        Event::ReplicaGone { key } => {
            shared.metrics.replicas_removed.increment(1);
            tracing::info!(partition = %Named(shared, key), "its replica here is wanted no more: its files are being removed");
        }
        Event::GroupFailed { key, detail } => {
            tracing::error!(partition = %Named(shared, key), detail, "partition offline")
        }
        Event::Synced { micros, files, .. } => {
            shared.metrics.sync_seconds.record(micros as f64 / 1e6);
            shared.metrics.sync_files.record(f64::from(files));
            shared.metrics.sync_bytes.record(shared.core.written_since_sync() as f64);
        }
        Event::PeerRefused { node, key, why } => {
            let count = &shared.links.refused_messages;
            count.set(count.get() + 1);
            shared.complain(Complaint::Replica, || {
                tracing::error!(node, partition = %Named(shared, key), why, "a message of a replica was refused");
            });
        }
        Event::NoWitness { topic } => tracing::warn!(
            topic,
            "partitions with two replicas and no third broker for a witness: the loss of one broker or disk stops them"
        ),
        Event::Suspect { key, why } => {
            tracing::error!(partition = %Named(shared, key), why, "replica is damaged: its peers are asked to bring it up anew");
        }
        Event::Uncleanable { key, why } => {
            tracing::warn!(partition = %Named(shared, key), why, "a file cannot be compacted: the others of the partition are");
        }
        Event::LossAccepted { key, recovery } => on_loss_accepted(shared, key, &recovery),
        event @ (Event::ChainsDiffer { .. } | Event::ChainsUndecided { .. }) => on_difference(shared, event),
        Event::Install { key, node, what } => on_install(shared, key, node, what),
        Event::Freed { key, lost } => on_freed(shared, key, lost),
        Event::LeadsTooMuch { node, key, rate, to } => on_leads_too_much(shared, node, key, rate, to),
        event @ (Event::NodeLost { .. } | Event::NodeHeard { .. }) => on_node(shared, event),
        Event::Leads { key, epoch } => tracing::debug!(partition = %Named(shared, key), epoch, "leads"),
        Event::NotRegistered(code) => on_not_registered(shared, code),
        Event::Group(event) => on_group_event(event),
        Event::Transaction(event) => on_txn_event(shared, event),
        Event::Hanging(hanging, what) => on_hanging(shared, &hanging, what),
    }
}

/// A partition as people know it, for the log: its topic and number.
pub(crate) struct Named<'a>(pub(crate) &'a Shared, pub(crate) GroupKey);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(shared, key) = self;
        match shared.core.image().topic_by_id(key.topic) {
            Some(topic) => write!(f, "{}-{}", topic.name, key.partition),
            None if *key == GroupKey::METADATA => f.write_str("__cluster_metadata-0"),
            // Deleted, or not known here yet.
            None => write!(f, "{key}"),
        }
    }
}

fn on_full_disk(shared: &Shared, event: Event) {
    match event {
        Event::DiskFull(full) => {
            shared.disk_full.set(full);
            if full {
                tracing::error!("disk full: produce is refused until there is room, fetch and delete go on");
            } else {
                tracing::info!("disk has room again");
            }
        }
        Event::GivenUp(partitions) => {
            shared.metrics.given_up.increment(partitions as u64);
            tracing::warn!(
                partitions,
                "disk full: appends without room were given up, their producers send them again"
            );
        }
        Event::LeftFullDisk(partitions) => {
            shared.metrics.left_full_disk.increment(partitions as u64);
            tracing::warn!(partitions, "disk full: their leads are handed to nodes whose disks have room");
        }
        _ => {}
    }
}

fn on_not_registered(shared: &Shared, code: ErrorCode) {
    let why = match code {
        ErrorCode::UnsupportedVersion => {
            "the cluster is at a feature level that this program does not support"
        }
        ErrorCode::InvalidRegistration => "this node is known with another data directory",
        _ => "a later start of this node is known: two processes run as one node",
    };
    let log = |more: &str| {
        tracing::error!(%code, why, "the leader of the metadata does not register this node{more}");
    };
    shared.links.complain((None, "registration", code.name()), shared.core.uptime(), log);
}

fn on_node(shared: &Shared, event: Event) {
    match event {
        // It is this node that goes.
        Event::NodeLost { .. } if shared.stopping() => {}
        Event::NodeLost { node, led: 0 } => tracing::warn!("node {node} is not heard of any more"),
        Event::NodeLost { node, led } => tracing::warn!(
            partitions = led,
            "node {node} is not heard of any more: partitions with a replica here that it led elect other leaders"
        ),
        Event::NodeHeard { node, again: true } => tracing::info!("node {node} is heard again"),
        Event::NodeHeard { node, again: false } => tracing::debug!("node {node} is heard"),
        _ => {}
    }
}

fn on_loss_accepted(shared: &Shared, key: GroupKey, recovery: &cluster::Recovery) {
    tracing::error!(
        partition = %Named(shared, key),
        replica = recovery.replica,
        was = recovery.was,
        last_index = recovery.last.0,
        last_term = recovery.last.1,
        from_offset = recovery.offsets.0,
        end_offset = recovery.offsets.1,
        principal = recovery.principal,
        given_up = ?recovery.given_up.iter().map(|r| (r.id, r.node)).collect::<Vec<_>>(),
        "loss was accepted: this replica goes on alone; acknowledged records from from_offset on may be missing, \
         from end_offset on they are"
    );
}

fn on_freed(shared: &Shared, key: GroupKey, lost: bool) {
    if lost {
        tracing::error!(
            partition = %Named(shared, key),
            "a majority of the replicas lost power, or failed to sync, under write.caching: the longest log leads, and what \
             was acknowledged and is not in it is gone"
        );
    } else {
        tracing::info!(partition = %Named(shared, key), "this replica may have lost what it acknowledged: it has caught up, and votes again");
    }
}

fn on_leads_too_much(shared: &Shared, node: NodeId, key: GroupKey, rate: u64, to: NodeId) {
    tracing::info!(
        node,
        partition = %Named(shared, key),
        bytes_per_second = rate,
        to,
        "a node leads too much: another replica of a partition becomes its preferred leader"
    );
}

fn on_difference(shared: &Shared, event: Event) {
    match event {
        Event::ChainsDiffer { key, index, file, ours, node, theirs } => tracing::error!(
            partition = %Named(shared, key),
            file,
            index,
            ours = format!("{ours:08x}"),
            node,
            theirs = format!("{theirs:08x}"),
            "replicas differ: the chain value after this entry is another one there; all replicas are asked"
        ),
        Event::ChainsUndecided { key, index, file } => tracing::error!(
            partition = %Named(shared, key),
            file,
            index,
            "replicas differ, and none of their chain values is that of most voters: nothing is repaired"
        ),
        _ => {}
    }
}

fn on_install(shared: &Shared, key: GroupKey, node: NodeId, what: InstallEvent) {
    match what {
        InstallEvent::Begun { index, resumes } => tracing::info!(
            partition = %Named(shared, key),
            node,
            index,
            resumes,
            "replica is behind what its leader keeps: it is brought up from a checkpoint"
        ),
        InstallEvent::Resumed { index } => {
            tracing::debug!(partition = %Named(shared, key), node, index, "install goes on")
        }
        InstallEvent::Finished { index, bytes, ms } => {
            tracing::info!(partition = %Named(shared, key), node, index, bytes, ms, "replica is brought up from a checkpoint");
        }
        InstallEvent::Failed { why } => {
            tracing::error!(partition = %Named(shared, key), node, why, "replica could not be brought up, the next offer begins anew");
        }
    }
}

fn on_group_event(event: GroupEvent) {
    match event {
        GroupEvent::RebalanceStarted { group_id, cause } => tracing::info!(
            group = group_id,
            cause = cause.kind.name(),
            member = cause.member_id,
            reason = cause.reason,
            "rebalance started"
        ),
        GroupEvent::GenerationStarted { group_id, generation_id, members } => {
            tracing::debug!(group = group_id, generation_id, members, "generation started");
        }
        GroupEvent::RebalanceCompleted { group_id, generation_id, members } => {
            tracing::info!(group = group_id, generation_id, members, "rebalance completed");
        }
        GroupEvent::MemberExpired { group_id, member_id } => {
            tracing::info!(group = group_id, member = member_id, "member expired");
        }
        GroupEvent::MemberFenced { group_id, member_id } => {
            tracing::info!(group = group_id, member = member_id, "member fenced");
        }
        GroupEvent::OffsetsExpired { group_id, count } => {
            tracing::info!(group = group_id, count, "offsets expired");
        }
        GroupEvent::GroupDeleted { group_id } => tracing::info!(group = group_id, "group deleted"),
    }
}

/// Why the broker does not serve, if it does not.
fn not_ready(shared: &Shared) -> Option<String> {
    if shared.stopping() {
        return Some("stopping".to_owned());
    }
    if let Some(why) = shared.core.fenced() {
        return Some(why);
    }
    if !shared.core.ready() {
        return Some("starting: the metadata is not loaded yet".to_owned());
    }
    if shared.core.metadata_leader().is_none() {
        let why = "no leader of the metadata is heard: do a majority of its voters run, and does this node reach them?";
        return Some(why.to_owned());
    }
    let seconds = stalled(shared)?.as_secs();
    Some(format!("the disk is full: nothing could be written for {seconds} s; fetches go on, all else waits"))
}

/// For how long nothing could be written for lack of space, when that is worth a word.
pub(crate) fn stalled(shared: &Shared) -> Option<Duration> {
    shared.core.stalled().filter(|time| *time > STALLED)
}

fn snapshot(shared: &Shared) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut put = |name, value: f64| snapshot.values.push((name, String::new(), value));
    put(names::READY, f64::from(u8::from(not_ready(shared).is_none())));
    put(names::METADATA_LEADER_KNOWN, f64::from(u8::from(shared.core.metadata_leader().is_some())));
    put(names::REQUEST_MEMORY, shared.request_memory.used() as f64);
    put(names::REQUEST_MEMORY_LIMIT, shared.request_memory.limit() as f64);
    put(names::REQUEST_MEMORY_WAITS, shared.request_memory.waits() as f64);
    put(names::RESPONSE_MEMORY, shared.response_memory.used() as f64);
    put(names::RESPONSE_MEMORY_LIMIT, shared.response_memory.limit() as f64);
    put(names::RESPONSE_MEMORY_WAITS, shared.response_memory.waits() as f64);
    put(names::WAITING_REQUESTS, shared.core.waiting() as f64);
    {
        let sessions = shared.sessions.borrow();
        put(names::FETCH_SESSIONS, sessions.len() as f64);
        put(names::FETCH_SESSION_PARTITIONS, sessions.partitions() as f64);
        put(names::FETCH_SESSION_EVICTIONS, sessions.evictions() as f64);
    }
    put(names::DISK_FENCED, f64::from(u8::from(shared.core.fenced().is_some())));
    put(names::DISK_FULL, f64::from(u8::from(shared.disk_full.get())));
    let scrub = shared.core.look(node::Node::scrub_counts);
    put(names::SCRUBBED_BYTES, scrub.bytes as f64);
    put(names::SCRUB_ROUNDS, scrub.rounds as f64);
    put(names::SCRUB_DAMAGED, scrub.damaged as f64);
    let compared = shared.core.look(node::Node::compare_counts);
    put(names::POOL_BYTES, shared.pool_bytes() as f64);
    put(names::DISK_STALLED, shared.core.stalled().map_or(0.0, |time| time.as_secs_f64()));
    shared.metrics.read_queue.set(shared.readers.queued() as f64);
    let version = labels([("version", env!("CARGO_PKG_VERSION"))].into_iter());
    snapshot.values.push((names::BUILD_INFO, version, 1.0));
    for (listener, count) in shared.connections.by_listener() {
        snapshot.values.push((
            names::CONNECTIONS,
            labels([("listener", &*listener)].into_iter()),
            count as f64,
        ));
    }
    let CompareCounts { equal, different, undecided, skipped } = compared;
    let compared =
        [("equal", equal), ("different", different), ("undecided", undecided), ("skipped", skipped)];
    for (result, count) in compared {
        let result = labels([("result", result)].into_iter());
        snapshot.values.push((names::CHAINS_COMPARED, result, count as f64));
    }
    if shared.clustered {
        peers::observe(shared, &mut snapshot);
    }
    cleaner(shared, &mut snapshot);
    partitions(shared, &mut snapshot);
    transactions(shared, &mut snapshot);
    groups(shared, &mut snapshot);
    process(shared, &mut snapshot);
    snapshot
}

fn cleaner(shared: &Shared, snapshot: &mut Snapshot) {
    let counts = shared.core.look(node::Node::cleaner_counts);
    let mut put = |name, value: f64| snapshot.values.push((name, String::new(), value));
    put(names::CLEANER_RUNNING, counts.running as f64);
    put(names::CLEANER_RECORDS, counts.records_dropped as f64);
    put(names::CLEANER_UNCLEANABLE, counts.uncleanable as f64);
    put(names::CLEANER_DIRTY, counts.max_dirty_ratio);
    if let Some(end) = counts.last_end {
        put(names::CLEANER_IDLE, shared.core.now().mono.since(end).as_secs_f64());
    }
    for (result, count) in [("done", counts.passes), ("void", counts.void)] {
        let result = labels([("result", result)].into_iter());
        snapshot.values.push((names::CLEANER_PASSES, result, count as f64));
    }
    let bytes =
        [("read", counts.bytes_read), ("replaced", counts.bytes_replaced), ("written", counts.bytes_written)];
    for (kind, count) in bytes {
        let kind = labels([("kind", kind)].into_iter());
        snapshot.values.push((names::CLEANER_BYTES, kind, count as f64));
    }
}

fn groups(shared: &Shared, snapshot: &mut Snapshot) {
    let (classic, consumer, members) = shared.core.look(|node| {
        let mut classic = GroupState::ALL.map(|state| (state.name(), 0));
        let mut consumer = ConsumerState::ALL.map(|state| (state.name(), 0));
        let mut members = (0, 0);
        for c in node.coordinators() {
            for (row, (_, n)) in classic.iter_mut().zip(c.state_counts()) {
                row.1 += n;
            }
            for (row, (_, n)) in consumer.iter_mut().zip(c.consumer_state_counts()) {
                row.1 += n;
            }
            let (of_classic, of_consumer) = c.member_counts();
            members = (members.0 + of_classic, members.1 + of_consumer);
        }
        (classic, consumer, members)
    });
    for (kind, states, count) in [("classic", classic, members.0), ("consumer", consumer, members.1)] {
        for (state, count) in states {
            let labels = labels([("type", kind), ("state", state)].into_iter());
            snapshot.values.push((names::GROUPS, labels, count as f64));
        }
        let labels = labels([("type", kind)].into_iter());
        snapshot.values.push((names::GROUP_MEMBERS, labels, count as f64));
    }
    for (group, topic, partition, offset) in shared.core.committed_offsets(MOST_ROWS) {
        let key = shared.core.topic_by_name(&topic).and_then(|t| core::group_key(&t, partition));
        let info = key.and_then(|key| shared.core.partition_info(key));
        let lag = info.map(|i| (i.high_watermark - offset).max(0));
        snapshot.groups.push(GroupRow { group, topic, partition, offset, lag });
    }
}

fn process(shared: &Shared, snapshot: &mut Snapshot) {
    let ticks = 100.0;
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        // The second field is the command in parentheses and may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        for (mode, at) in [("user", 11), ("system", 12)] {
            if let Some(value) = fields.get(at).and_then(|f| f.parse::<f64>().ok()) {
                let mode = labels([("mode", mode)].into_iter());
                snapshot.values.push((names::CPU_SECONDS, mode, value / ticks));
            }
        }
    }
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    if let Some(resident) = pages.split_whitespace().nth(1).and_then(|f| f.parse::<f64>().ok()) {
        let page = rustix::param::page_size() as f64;
        snapshot.values.push((names::RESIDENT_MEMORY, String::new(), resident * page));
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        snapshot.values.push((names::OPEN_FILES, String::new(), files.count() as f64));
    }
    snapshot.values.push((names::START_TIME, String::new(), shared.started_wall_ms as f64 / 1000.0));
}
