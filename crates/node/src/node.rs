//! The node: what it owns, how it starts, and how completions and time reach it.
use crate::admin::Internal;
use crate::api::{AdminReply, Effect, Event, NodeConfig, ReadToken, Token};
use crate::cleaner::Cleaner;
use crate::compare::Compares;
use crate::data::ReadFor;
use crate::groups::{Open, Slot};
use crate::hosts::Host;
use crate::install::Installs;
use crate::joining::{Opening, founders_of, open_metadata, settle_founders};
use crate::peers::Peers;
use crate::recovery::Inquiries;
use crate::scrub::Scrub;
use crate::strong::Strong;
use crate::suspect::Suspects;
use crate::txn_host::Transacting;
use crate::visits::Visits;
use crate::watches::Watches;
use cluster::{Image, Metadata};
use coordinator::TopicImage;
use model::{ErrorCode, GroupKey, Mono, Now, ProducerId, TopicId};
use partition::{Opened, PartitionConfig, PartitionFx};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use storage::{
    Completion, DirEvent, Directory, DiskRead, GroupState, RecoverError, Replica, ReplicaKind,
    parse_group_dir,
};

/// How often partitions that were appended to are looked at (segment.ms, checkpoints).
const ACTIVE_TICK_MS: i64 = 1_000;
/// Partitions that are looked at in one turn, for this or for retention; the others follow after [`PAUSE_MS`].
const LOOKS_AT_ONCE: usize = 500;
const PAUSE_MS: i64 = 20;
/// The first look at retention after a start, as in Apache Kafka.
const FIRST_SWEEP_MS: i64 = 30_000;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] storage::OpenError),
    /// The metadata log is damaged or cannot be read.
    #[error("the metadata log: {0}")]
    Metadata(#[from] RecoverError),
    /// The metadata log's checkpoint or an entry is of a version that this build cannot read.
    #[error("the metadata log: {0}")]
    Unreadable(String),
    /// The directory belongs to another cluster than the configuration says.
    #[error("the data directory belongs to cluster '{theirs}', this is cluster '{ours}'")]
    OtherCluster {
        /// As its metadata says.
        theirs: String,
        /// As configured.
        ours: String,
    },
    /// The metadata log holds what this build cannot apply.
    #[error("the metadata log: {0}")]
    Apply(#[from] cluster::ApplyError),
}

/// How the broker ended that used the directory before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// There was none: the directory is new.
    None,
    /// As it was asked to.
    Clean,
    /// The process ended without a stop; the machine went on.
    Killed,
    /// The machine was started anew: a power cut, or a reboot that did not wait.
    Machine,
    /// A write or sync failed, and the process ended itself.
    Disk,
}

/// One broker, as far as it can be simulated.
#[derive(Debug)]
pub struct Node {
    pub(crate) cfg: NodeConfig,
    pub(crate) dir: Directory,
    pub(crate) metadata: Metadata,
    /// Rows of the state log for groups that are not open yet.
    pub(crate) states: BTreeMap<GroupKey, GroupState>,
    /// Groups whose files are being removed; `false` where that did not work, and the next start tries again.
    pub(crate) removals: BTreeMap<GroupKey, bool>,
    /// Groups that had files at the start, until it is known which of them were deleted.
    pub(crate) found: Vec<(GroupKey, u32)>,
    /// Those of them that the state log does not name, for a kill came first; they go with their topics.
    pub(crate) unnamed: BTreeSet<GroupKey>,
    /// Replicas that gave up what a full disk had no room for, in this life.
    pub(crate) given_up: BTreeSet<GroupKey>,
    pub(crate) groups: BTreeMap<GroupKey, Slot>,
    pub(crate) topic_configs: BTreeMap<TopicId, Arc<PartitionConfig>>,
    pub(crate) hosts: BTreeMap<GroupKey, Host>,
    pub(crate) watches: Watches,
    pub(crate) internal: BTreeMap<u64, Internal>,
    pub(crate) next_internal: u64,
    /// Answers to clients that rest on proposals which are not committed yet.
    pub(crate) unproven: Vec<(Token, AdminReply)>,
    pub(crate) reads: BTreeMap<ReadToken, ReadFor>,
    pub(crate) next_read: u64,
    /// Producer ids of this node that were not handed out yet: next, and how many are left.
    pub(crate) producer_ids: (ProducerId, i32),
    pub(crate) waiting_for_ids: VecDeque<Token>,
    pub(crate) txn: Transacting,
    /// The topics as coordinators of groups know them; `None` until one of them needs them.
    pub(crate) topics: Option<Arc<TopicImage>>,
    /// What partitions said and nobody has heard yet.
    pub(crate) said: VecDeque<(GroupKey, PartitionFx)>,
    pub(crate) scratch: Vec<PartitionFx>,
    /// Partitions appended to since the last tick.
    pub(crate) active: BTreeSet<GroupKey>,
    /// Those of them that are being looked at.
    looked_at: BTreeSet<GroupKey>,
    next_active_tick: Mono,
    next_sweep: Mono,
    /// The last partition that a sweep which is not over has come to.
    swept: Option<GroupKey>,
    pub(crate) visits: Visits,
    pub(crate) registered: bool,
    pub(crate) peers: Peers,
    pub(crate) installs: Installs,
    pub(crate) strong: Strong,
    pub(crate) suspects: Suspects,
    pub(crate) scrub: Scrub,
    pub(crate) cleaner: Cleaner,
    pub(crate) inquiries: Inquiries,
    pub(crate) compares: Compares,
    /// What was led here and goes to others, once the node is about to stop.
    pub(crate) handing_over: Option<BTreeSet<GroupKey>>,
    stop: Stop,
    pub(crate) fx: Vec<Effect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Checkpoints are being written.
    Begun,
    /// The directory syncs for the last time.
    Directory,
    Done,
}

/// Brings the metadata machine to where its log was opened.
pub(crate) fn load(metadata: &mut Metadata, opened: Opened) -> Result<(), OpenError> {
    if let Some(detail) = opened.failed {
        return Err(OpenError::Unreadable(detail));
    }
    if !opened.machine.is_empty() {
        metadata.restore(opened.machine)?;
    }
    for (index, payload) in opened.commands {
        metadata.apply(index, &cluster::decode_command(index, payload)?)?;
    }
    Ok(())
}

impl Node {
    /// Opens the data directory and recovers the metadata group. The node is [`Node::ready`] when its own
    /// registration is committed, which takes effects and completions.
    pub fn open(mut cfg: NodeConfig, disk: &dyn DiskRead, now: Now) -> Result<Node, OpenError> {
        cfg.directory.founders = founders_of(&cfg);
        let (mut dir, states) = Directory::open(disk, cfg.directory.clone(), now)?;
        let states: BTreeMap<GroupKey, GroupState> = states.into_iter().map(|s| (s.key, s)).collect();
        let found = disk.list("groups").map_err(storage::OpenError::from)?;
        let mut metadata = Metadata::new(cfg.node_id, cfg.static_configs.clone());
        settle_founders(&mut cfg, &mut dir, now);
        let (mut groups, mut suspicions) = (BTreeMap::new(), Vec::new());
        match open_metadata(&cfg, &mut dir, &states, disk, &mut metadata)? {
            Opening::Nowhere => {}
            Opening::Open(partition, damage) => {
                groups.insert(GroupKey::METADATA, Slot::Open(Open::new(*partition)));
                suspicions.extend(damage);
            }
            Opening::Damaged(damage) => {
                groups.insert(GroupKey::METADATA, Slot::Failed(damage.to_string()));
                suspicions.push(damage);
            }
        }
        let image = metadata.image();
        rise_above(&mut cfg, &image);
        let others = cfg.voters.iter().map(|(_, node)| *node).chain(image.nodes.keys().copied());
        let peers = Peers::new(cfg.node_id, cfg.incarnation, now.mono, others);
        let mut node = Node {
            dir,
            metadata,
            states,
            removals: BTreeMap::new(),
            unnamed: BTreeSet::new(),
            given_up: BTreeSet::new(),
            found: found.iter().filter_map(|name| parse_group_dir(name)).collect(),
            groups,
            topic_configs: BTreeMap::new(),
            hosts: BTreeMap::new(),
            watches: Watches::default(),
            internal: BTreeMap::new(),
            next_internal: 0,
            unproven: Vec::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            producer_ids: (0, 0),
            waiting_for_ids: VecDeque::new(),
            txn: Transacting::new(cfg.incarnation),
            topics: None,
            said: VecDeque::new(),
            scratch: Vec::new(),
            active: BTreeSet::new(),
            looked_at: BTreeSet::new(),
            next_active_tick: now.mono.after_ms(ACTIVE_TICK_MS),
            next_sweep: now.mono.after_ms(FIRST_SWEEP_MS),
            swept: None,
            visits: Visits::new(now),
            registered: false,
            peers,
            installs: Installs::new(now.mono),
            strong: Strong::default(),
            suspects: Suspects::default(),
            scrub: Scrub::new(now.mono),
            cleaner: Cleaner::default(),
            inquiries: Inquiries::default(),
            compares: Compares::default(),
            handing_over: None,
            stop: Stop::No,
            fx: Vec::new(),
            cfg,
        };
        suspicions.into_iter().for_each(|why| node.on_damage(now, GroupKey::METADATA, why.to_string()));
        node.begin(now);
        Ok(node)
    }

    /// Moves everything that the shell is to do to `out`.
    pub fn take_effects(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.dir.ops().map(Effect::Disk));
        out.append(&mut self.fx);
    }

    /// What clients are told of the cluster.
    pub fn image(&self) -> Arc<Image> {
        self.metadata.image()
    }

    /// Whether clients can be served: this node's registration is committed.
    pub fn ready(&self) -> bool {
        self.registered && self.dir.fenced().is_none()
    }

    /// Since when nothing can be written at all, because the disk is full.
    pub fn stalled_since(&self) -> Option<Mono> {
        self.dir.stalled_since()
    }

    /// Why the data directory takes no writes any more.
    pub fn fenced(&self) -> Option<&str> {
        self.dir.fenced()
    }

    /// The incarnation of the data directory: another one for each directory that is made.
    pub fn directory_id(&self) -> [u8; 16] {
        self.dir.directory_id()
    }

    /// This start of the node; higher than those before it.
    pub fn process_start(&self) -> u64 {
        self.cfg.incarnation
    }

    /// How the directory's last life ended.
    pub fn last_stop(&self) -> LastStop {
        if self.states.is_empty() {
            LastStop::None
        } else if self.dir.had_failed() {
            LastStop::Disk
        } else if self.dir.was_clean() {
            LastStop::Clean
        } else if self.dir.was_other_boot() {
            LastStop::Machine
        } else {
            LastStop::Killed
        }
    }

    /// Groups that a damaged state log does not name and that have files.
    pub fn adopted(&self) -> &[GroupKey] {
        self.dir.adopted()
    }

    /// Partitions of the last life that are recovered when they are first used; metadata is already.
    pub fn unrecovered(&self) -> usize {
        self.states.keys().filter(|key| !self.groups.contains_key(key)).count()
    }

    /// Ends a turn of the shell's loop: what was appended in it goes to the disk as one round.
    pub fn end_turn(&mut self, now: Now) {
        self.begin_rounds(now);
        self.dir.pump(now);
    }

    /// A disk operation ended.
    pub fn on_disk(&mut self, now: Now, completion: Completion) {
        let mut events = Vec::new();
        self.dir.on_completion(now, completion, &mut events);
        for event in events {
            self.on_directory(now, event);
        }
        self.settle(now);
        self.advance_stop();
    }

    fn on_directory(&mut self, now: Now, event: DirEvent) {
        match event {
            DirEvent::Written { key, index } => {
                self.with(key, |p, dir, fx| p.on_written(now, index, dir, fx));
            }
            DirEvent::Persisted { key, index, round } => {
                self.with(key, |p, dir, fx| p.on_persisted(now, index, round, dir, fx));
                self.life_begun(now, key, round);
            }
            DirEvent::Lowered { key } => {
                self.with(key, |p, dir, fx| p.on_lowered(now, dir, fx));
            }
            // No log of one voter gives anything up.
            DirEvent::Flushed { key } => self.with(key, |p, dir, _| p.on_flushed(dir)).unwrap_or_default(),
            DirEvent::CheckpointDone { key, index, ok } => {
                self.with(key, |p, dir, _| p.on_checkpoint_done(index, ok, dir));
            }
            DirEvent::Aside { key, token, done } => self.on_aside(now, key, token, done),
            DirEvent::Removed { key, ok } => self.removed(now, key, ok),
            DirEvent::Recovered { key, result } => self.on_recovered(now, key, *result),
            DirEvent::Fenced { detail } => self.on_fenced(detail),
            DirEvent::DiskFull(full) => self.fx.push(Effect::Event(Event::DiskFull(full))),
            DirEvent::NoRoom { groups } => self.give_up(groups),
            DirEvent::SyncStats { micros, files, groups, behind } => {
                if groups > 0 && !behind {
                    self.installs.on_sync(now.mono, micros);
                }
                self.fx.push(Effect::Event(Event::Synced { micros, files, groups }));
            }
            DirEvent::Stopped => self.stop = Stop::Done,
        }
    }

    /// Every waiting request gets KAFKA_STORAGE_ERROR; nothing was acknowledged that is not on disk.
    fn on_fenced(&mut self, detail: String) {
        self.fx.push(Effect::Event(Event::Fenced(detail)));
        let keys: Vec<GroupKey> = self.groups.keys().copied().collect();
        for key in keys {
            self.with(key, |p, _, fx| p.fail(ErrorCode::KafkaStorageError, fx));
            self.refuse_touches(key, ErrorCode::KafkaStorageError);
        }
    }

    /// Time passes: call at [`Node::next_deadline`] or later.
    pub fn tick(&mut self, now: Now) {
        if now.mono >= self.next_active_tick {
            if self.looked_at.is_empty() {
                std::mem::swap(&mut self.active, &mut self.looked_at);
            }
            for _ in 0..LOOKS_AT_ONCE {
                let Some(key) = self.looked_at.pop_first() else { break };
                self.with(key, |p, dir, _| p.tick_active(now, dir));
                self.checkpoint_machine(key);
            }
            let pause = if self.looked_at.is_empty() { ACTIVE_TICK_MS } else { PAUSE_MS };
            self.next_active_tick = now.mono.after_ms(pause);
        }
        if now.mono >= self.next_sweep {
            let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
            let rest = self.groups.range((from, Bound::Unbounded));
            let keys: Vec<GroupKey> = rest.map(|(key, _)| *key).take(LOOKS_AT_ONCE).collect();
            self.swept = keys.last().copied().filter(|_| keys.len() == LOOKS_AT_ONCE);
            for key in keys {
                self.with(key, |p, dir, fx| p.tick(now, dir, fx));
                self.checkpoint_machine(key);
            }
            let interval = self.metadata.image().broker_config().log_retention_check_interval_ms;
            let pause = if self.swept.is_some() { PAUSE_MS } else { interval.max(1) };
            self.next_sweep = now.mono.after_ms(pause);
        }
        self.visit(now);
        self.tick_hosts(now);
        self.tick_verifying(now);
        self.tick_ids(now);
        self.tick_hanging(now);
        self.look_at_rounds(now);
        self.settle(now);
        self.tick_peers(now);
        self.tick_installs(now);
        self.tick_suspects(now);
        self.tick_scrub(now);
        self.tick_cleaner(now);
        self.conclude_inquiries(now);
        self.tick_compares(now);
        self.settle(now);
        self.dir.pump(now);
    }

    fn checkpoint_machine(&mut self, key: GroupKey) {
        let wants = self.open_group(key).is_some_and(|open| open.partition.wants_checkpoint());
        if wants && let Some(machine) = self.machine_bytes(key) {
            self.with(key, |p, dir, _| p.checkpoint(machine, false, dir));
        }
    }

    /// When [`Node::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        let mut next = self.next_sweep;
        if !self.active.is_empty() || !self.looked_at.is_empty() {
            next = next.min(self.next_active_tick);
        }
        let hosts = self.hosts.values().filter_map(Host::next_deadline).min();
        let (visits, peers) = (self.visits.next_deadline(), self.peers_deadline());
        let installs = [
            self.installs.next_deadline(),
            self.suspects.next_deadline(),
            self.scrub.next_deadline(),
            self.cleaner.next_deadline(),
            self.compares.next_deadline(),
        ];
        let installs = installs.into_iter().flatten().min().filter(|_| !self.stopping());
        let (strong, disk) = (self.strong.next_deadline(), self.dir.next_deadline());
        let hosts = hosts.into_iter().chain(self.txn.next_deadline()).min();
        [Some(next), visits, hosts, peers, installs, strong, disk].into_iter().flatten().min()
    }

    /// Begins a clean stop: a checkpoint of every open group, then a last sync. [`Node::stopped`] tells when.
    pub fn begin_stop(&mut self, now: Now) {
        if self.stop != Stop::No {
            return;
        }
        self.stop = Stop::Begun;
        let keys: Vec<GroupKey> = self.groups.keys().copied().collect();
        for key in keys {
            if let Some(machine) = self.machine_bytes(key) {
                self.with(key, |p, dir, _| p.checkpoint(machine, true, dir));
            }
        }
        self.settle(now);
        self.advance_stop();
        self.dir.pump(now);
    }

    fn advance_stop(&mut self) {
        if self.stop == Stop::Begun {
            self.stop = Stop::Directory;
            self.dir.clean_stop();
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop != Stop::No
    }

    /// Whether a clean stop is complete.
    pub fn stopped(&self) -> bool {
        self.stop == Stop::Done
    }

    /// Rows of the state log: which groups have something on this disk.
    pub(crate) fn was_touched(&self, key: GroupKey) -> bool {
        self.states.contains_key(&key)
    }
}

/// The wall clock may have gone back: to the others this is a later start all the same.
fn rise_above(cfg: &mut NodeConfig, image: &Image) {
    if let Some(before) = image.nodes.get(&cfg.node_id).filter(|n| n.incarnation >= cfg.incarnation) {
        cfg.incarnation = before.incarnation + 1;
    }
}

/// A voter of this node.
pub(crate) fn replica(id: u64, node_id: i32) -> Replica {
    Replica { id, node_id, kind: ReplicaKind::Voter as i32, witness: false }
}
