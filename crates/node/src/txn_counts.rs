//! Transactions of the partitions that are open here, for metrics and for who looks for one that hangs.
use crate::groups::Slot;
use crate::machines::Machine;
use crate::node::Node;
use coordinator::txn::{MarkersWaiting, TxnState};
use model::{GroupKey, Now, WallMs};
use partition::{OpenTransaction, TransactionStatus};

/// Sums over open partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionCounts {
    /// Open in partitions led here.
    pub open: usize,
    /// When the oldest of these began, by its leader's clock, ms.
    pub oldest_begun_at: Option<WallMs>,
    /// See [`partition::Counters::transactions_refused`].
    pub refused: u64,
    /// Bytes of memory of the lists of aborted transactions, of all replicas here.
    pub aborted_bytes: u64,
}

/// What a coordinator of transactions that is loaded here knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoordinatorCounts {
    /// Its partition of `__transaction_state`.
    pub partition: i32,
    /// Transactional ids by state.
    pub states: [(TxnState, usize); 6],
    /// Transactions that are open or ending.
    pub open: usize,
    /// For how long the oldest of these is, ms.
    pub oldest_ms: Option<i64>,
    /// Markers on their way.
    pub markers: MarkersWaiting,
}

impl Node {
    /// What the coordinators of transactions here know, those that are loaded.
    pub fn coordinator_counts(&self, now: Now) -> Vec<CoordinatorCounts> {
        let loaded = self.hosts.iter().filter(|(_, host)| host.loading.is_none());
        let counts = loaded.filter_map(|(key, host)| match &host.machine {
            Machine::Transactions(c) => Some(CoordinatorCounts {
                partition: key.partition,
                states: c.state_counts(),
                open: c.open_count(),
                oldest_ms: c.oldest_open(now).map(|(ms, _)| ms),
                markers: c.markers_waiting(now),
            }),
            Machine::Groups(_) => None,
        });
        counts.collect()
    }

    /// The partitions led here with a transaction open, and what is open there.
    pub fn partitions_with_open(&self) -> impl Iterator<Item = (GroupKey, TransactionStatus)> + '_ {
        self.groups.iter().filter_map(|(key, slot)| match slot {
            Slot::Open(open) if open.partition.is_leader() && open.partition.open_count() > 0 => {
                Some((*key, open.partition.transactions()))
            }
            _ => None,
        })
    }

    /// Sums over open partitions.
    pub fn transaction_counts(&self) -> TransactionCounts {
        let mut counts = TransactionCounts::default();
        for slot in self.groups.values() {
            let Slot::Open(open) = slot else { continue };
            let partition = &open.partition;
            counts.refused += partition.counters().transactions_refused;
            counts.aborted_bytes += partition.aborted_bytes();
            if partition.is_leader() {
                counts.open += partition.open_count();
                let begun = partition.oldest_begun_at();
                counts.oldest_begun_at = [counts.oldest_begun_at, begun].into_iter().flatten().min();
            }
        }
        counts
    }

    /// What is open in a partition that is open here, by first offset.
    pub fn open_transactions(&self, key: GroupKey) -> Vec<OpenTransaction> {
        self.open_group(key).map(|open| open.partition.open_transactions().collect()).unwrap_or_default()
    }
}
