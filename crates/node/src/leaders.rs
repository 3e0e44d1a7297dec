//! The table of leaders: which node leads which group, as the leaders themselves say (docs/design/cluster.md,
//! section 3).
//!
//! Leadership is soft state. Each leader announces its groups to every node; a node answers Metadata from its
//! image and this table. Nothing of it is stored: a node that was started anew learns it from its peers.
//!
//! A row is ordered by epoch first, then, at one sender, by the sender's running number. Numbers begin anew
//! with each process; that is why the first batch of each connection is the whole table of its sender and
//! replaces all that was heard of it before.
//!
//! Must not know: connections, replicas, how the image is made.
use model::{GroupKey, LeaderEpoch, Mono, NodeId, PartitionIndex, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Own rows that change within so many ms leave together.
const GATHER_MS: i64 = 10;
/// Kafka's "no leader", and its "no epoch".
const NONE: i32 = -1;
/// In-sync sets that are kept before those are looked for that no row names any more.
const FEW_SETS: usize = 64;

/// A row as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderRow {
    /// Which group.
    pub key: GroupKey,
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// Who leads; `None`: the sender led in this epoch and leads no more.
    pub leader: Option<NodeId>,
    /// The sender's running number; rises with each change of a row.
    pub number: u64,
    /// Nodes whose replicas are in sync, in the order of the wanted set.
    pub in_sync: Arc<[NodeId]>,
}

/// Rows for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderBatch {
    /// Whether these are all rows of the sender: others of it that the receiver has are gone.
    pub whole: bool,
    /// In the order of their numbers. Shared among peers that are due the same.
    pub rows: Arc<[LeaderRow]>,
}

/// What Metadata says of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaderView<'a> {
    /// The epoch of its last leader; -1 where none is known.
    pub(crate) epoch: LeaderEpoch,
    /// Its leader, if that is live.
    pub(crate) leader: Option<NodeId>,
    /// Nodes whose replicas are in sync, as the last leader said.
    pub(crate) in_sync: &'a [NodeId],
}

/// A row as it is kept: 40 bytes, and an in-sync set that is shared with all rows that name the same nodes.
#[derive(Clone, Debug)]
struct Row {
    number: u64,
    in_sync: Arc<[NodeId]>,
    epoch: LeaderEpoch,
    /// -1 for none.
    leader: NodeId,
    sender: NodeId,
}

impl Row {
    /// Whether this row takes the place of `old`. Raft has one leader an epoch, so two senders that claim the
    /// same one are impossible; the order is total all the same, so that all nodes choose alike.
    fn supersedes(&self, old: &Row) -> bool {
        if self.sender == old.sender {
            return (self.epoch, self.number) > (old.epoch, old.number);
        }
        let claims = |row: &Row| row.leader == row.sender;
        (self.epoch, claims(self), self.sender) > (old.epoch, claims(old), old.sender)
    }
}

/// What a connected peer was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// All own rows up to this number.
    up_to: u64,
    /// Whether it is due the whole table.
    whole: bool,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Leaders {
    node: NodeId,
    rows: BTreeMap<GroupKey, Row>,
    /// In-sync sets of all rows.
    sets: BTreeSet<Arc<[NodeId]>>,
    /// When there are so many, those that no row names are dropped.
    sets_full: usize,
    /// Rows of this node by their numbers: what a peer lacks are those above what it was sent.
    own: BTreeMap<u64, GroupKey>,
    last_number: u64,
    live: BTreeSet<NodeId>,
    /// Connected peers.
    peers: BTreeMap<NodeId, Sent>,
    due: Option<Mono>,
}

impl Leaders {
    /// An empty table of the node `node`, which is live to itself.
    pub(crate) fn new(node: NodeId) -> Leaders {
        Leaders {
            node,
            rows: BTreeMap::new(),
            sets: BTreeSet::new(),
            sets_full: FEW_SETS,
            own: BTreeMap::new(),
            last_number: 0,
            live: BTreeSet::from([node]),
            peers: BTreeMap::new(),
            due: None,
        }
    }

    /// What is known of a group's leader. A leader whose lease is lost is none; its epoch stays.
    pub(crate) fn leader(&self, key: GroupKey) -> LeaderView<'_> {
        let Some(row) = self.rows.get(&key) else {
            return LeaderView { epoch: NONE, leader: None, in_sync: &[] };
        };
        let leader = Some(row.leader).filter(|leader| self.live.contains(leader));
        LeaderView { epoch: row.epoch, leader, in_sync: &row.in_sync }
    }

    /// The lease on a node was gained or lost.
    pub(crate) fn set_live(&mut self, node: NodeId, live: bool) {
        match live || node == self.node {
            true => self.live.insert(node),
            false => self.live.remove(&node),
        };
    }

    /// The connection to a peer stands, or something that it was sent is lost: it is due the whole table.
    pub(crate) fn on_connected(&mut self, now: Mono, node: NodeId) {
        if node != self.node {
            self.peers.insert(node, Sent { up_to: 0, whole: true });
            self.due = Some(now);
        }
    }

    /// The connection to a peer is gone: nothing is due to it. Its rows stay, without a leader while its
    /// lease is lost, until it comes back with its whole table.
    pub(crate) fn on_disconnected(&mut self, node: NodeId) {
        self.peers.remove(&node);
        if self.peers.is_empty() {
            self.due = None;
        }
    }

    /// A replica on this node says who leads its group: itself, from the commit of its no-op on, or nobody,
    /// when it leads no more. `in_sync` counts only from a leader. What has not changed is not announced
    /// again; what is older than the table is dropped.
    pub(crate) fn announce(
        &mut self,
        now: Mono,
        key: GroupKey,
        epoch: LeaderEpoch,
        leader: Option<NodeId>,
        in_sync: &[NodeId],
    ) {
        let leader = leader.unwrap_or(NONE);
        let old = self.rows.get(&key);
        if old.is_some_and(|old| {
            (old.sender, old.epoch, old.leader) == (self.node, epoch, leader) && *old.in_sync == *in_sync
        }) {
            return;
        }
        let row =
            Row { number: self.last_number + 1, in_sync: Arc::default(), epoch, leader, sender: self.node };
        if old.is_some_and(|old| !row.supersedes(old)) {
            return;
        }
        self.last_number = row.number;
        self.own.insert(row.number, key);
        let in_sync = self.shared(in_sync);
        self.put(key, Row { in_sync, ..row });
        if !self.peers.is_empty() {
            self.due.get_or_insert(now.after_ms(GATHER_MS));
        }
    }

    /// Rows of a peer; with `whole` all that it has. Rows of topics that are deleted are passed over. Names
    /// the groups whose epoch rose or is new: a replica of such a group here that knows an older one must
    /// wake. A replica that is opened later finds the epoch with [`leader`](Self::leader).
    pub(crate) fn on_rows(
        &mut self,
        sender: NodeId,
        whole: bool,
        rows: &[LeaderRow],
        is_deleted: &dyn Fn(TopicId) -> bool,
    ) -> Vec<GroupKey> {
        let mut rose = Vec::new();
        if sender == self.node {
            return rose;
        }
        if whole {
            let named: BTreeSet<GroupKey> = rows.iter().map(|row| row.key).collect();
            self.rows.retain(|key, row| row.sender != sender || named.contains(key));
        }
        for row in rows {
            let leader = row.leader.unwrap_or(NONE);
            if row.epoch < 0 || leader < NONE || row.key.partition < 0 || is_deleted(row.key.topic) {
                continue;
            }
            let old = self.rows.get(&row.key);
            let fresh = Row { number: row.number, in_sync: Arc::default(), epoch: row.epoch, leader, sender };
            let replaces = old.is_none_or(|old| (whole && old.sender == sender) || fresh.supersedes(old));
            if !replaces {
                continue;
            }
            if old.is_none_or(|old| old.epoch < row.epoch) {
                rose.push(row.key);
            }
            let in_sync = self.shared(&row.in_sync);
            self.put(row.key, Row { in_sync, ..fresh });
        }
        rose
    }

    /// Pushes what is due to each connected peer. Whoever cannot send it must reset the connection, or say
    /// [`on_connected`](Self::on_connected) again: a lost batch is made up for only by a whole table.
    pub(crate) fn batches(&mut self, now: Mono, out: &mut Vec<(NodeId, LeaderBatch)>) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        let mut made: BTreeMap<u64, Arc<[LeaderRow]>> = BTreeMap::new();
        for (node, sent) in &mut self.peers {
            if sent.whole || sent.up_to < self.last_number {
                let rows = made.entry(sent.up_to).or_insert_with_key(|from| {
                    let keys = self.own.range(from + 1..).map(|(_, key)| key);
                    keys.filter_map(|key| travelling(&self.rows, *key)).collect()
                });
                // What changed may have been taken over by another leader since.
                if sent.whole || !rows.is_empty() {
                    out.push((*node, LeaderBatch { whole: sent.whole, rows: rows.clone() }));
                }
                *sent = Sent { up_to: self.last_number, whole: false };
            }
        }
    }

    /// When [`batches`](Self::batches) has something.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.due
    }

    /// A topic was deleted: so are its rows. Peers do the same when they learn of it.
    pub(crate) fn drop_topic(&mut self, topic: TopicId) {
        let key = |partition| GroupKey { topic, partition };
        let range = key(PartitionIndex::MIN)..=key(PartitionIndex::MAX);
        let keys: Vec<GroupKey> = self.rows.range(range).map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(key);
        }
    }

    fn put(&mut self, key: GroupKey, row: Row) {
        if let Some(old) = self.rows.insert(key, row)
            && old.sender == self.node
        {
            self.own.remove(&old.number);
        }
    }

    fn remove(&mut self, key: GroupKey) {
        if let Some(old) = self.rows.remove(&key)
            && old.sender == self.node
        {
            self.own.remove(&old.number);
        }
    }

    /// The one copy of a set that all rows share.
    fn shared(&mut self, set: &[NodeId]) -> Arc<[NodeId]> {
        if let Some(known) = self.sets.get(set) {
            return known.clone();
        }
        if self.sets.len() >= self.sets_full {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.sets_full = (2 * self.sets.len()).max(FEW_SETS);
        }
        let fresh: Arc<[NodeId]> = set.into();
        self.sets.insert(fresh.clone());
        fresh
    }
}

fn travelling(rows: &BTreeMap<GroupKey, Row>, key: GroupKey) -> Option<LeaderRow> {
    let row = rows.get(&key)?;
    let leader = Some(row.leader).filter(|leader| *leader != NONE);
    Some(LeaderRow { key, epoch: row.epoch, leader, number: row.number, in_sync: row.in_sync.clone() })
}

#[cfg(test)]
mod tests;
