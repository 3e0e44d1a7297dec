//! The coordinators that a node hosts, under one roof: what loading, clocks and outcomes need of each kind.
use crate::api::{GroupRequest, TxnRequest};
use bytes::Bytes;
use coordinator::txn::TxnCoordinator;
use coordinator::{BatchId, GroupCoordinator};
use model::{ErrorCode, LeaderEpoch, Mono, Now, ProducerId};
use records::{BatchHeader, ControlKind, Record};

/// What is coordinated on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    /// `__consumer_offsets`.
    Groups,
    /// `__transaction_state`.
    Transactions,
}

/// A coordinator.
#[derive(Debug)]
pub(crate) enum Machine {
    Groups(GroupCoordinator),
    Transactions(TxnCoordinator),
}

/// What a coordinator wants done.
#[derive(Debug)]
pub(crate) enum HostFx {
    Groups(coordinator::Effects),
    Transactions(coordinator::txn::Effects),
}

/// What waits for a coordinator.
#[derive(Debug)]
pub(crate) enum HostRequest {
    Group(GroupRequest),
    Transaction(TxnRequest),
}

/// Calls both kinds alike, with effects.
macro_rules! both {
    ($machine:expr, |$c:ident, $fx:ident| $call:expr) => {
        match $machine {
            Machine::Groups($c) => {
                let mut effects = Vec::new();
                let $fx = &mut effects;
                $call;
                HostFx::Groups(effects)
            }
            Machine::Transactions($c) => {
                let mut effects = Vec::new();
                let $fx = &mut effects;
                $call;
                HostFx::Transactions(effects)
            }
        }
    };
}

impl Machine {
    pub(crate) fn kind(&self) -> HostKind {
        match self {
            Machine::Groups(_) => HostKind::Groups,
            Machine::Transactions(_) => HostKind::Transactions,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        match self {
            Machine::Groups(c) => c.next_deadline(),
            Machine::Transactions(c) => c.next_deadline(),
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        match self {
            Machine::Groups(c) => c.expects_members(),
            Machine::Transactions(c) => c.has_open(),
        }
    }

    pub(crate) fn open_batches(&self) -> usize {
        match self {
            Machine::Groups(c) => c.open_batches(),
            Machine::Transactions(c) => c.open_batches(),
        }
    }

    pub(crate) fn snapshot(&self) -> Bytes {
        match self {
            Machine::Groups(c) => c.snapshot(),
            Machine::Transactions(c) => c.snapshot(),
        }
    }

    /// Whether the state of a checkpoint was taken over; if not, nothing is left.
    pub(crate) fn restore(&mut self, snapshot: &[u8]) -> bool {
        let restored = match self {
            Machine::Groups(c) => c.restore(snapshot).is_ok(),
            Machine::Transactions(c) => c.restore(snapshot).is_ok(),
        };
        if !restored {
            self.reset();
        }
        restored
    }

    fn reset(&mut self) {
        match self {
            Machine::Groups(c) => c.reset(),
            Machine::Transactions(c) => c.reset(),
        }
    }

    /// Begins anew, from the log.
    pub(crate) fn load_again(&mut self) {
        self.reset();
        match self {
            Machine::Groups(c) => c.begin_loading(),
            Machine::Transactions(c) => c.begin_loading(),
        }
    }

    pub(crate) fn loaded(&mut self, now: Now, epoch: LeaderEpoch) -> HostFx {
        match self {
            Machine::Groups(c) => {
                let mut fx = Vec::new();
                c.loaded(now, &mut fx);
                HostFx::Groups(fx)
            }
            Machine::Transactions(c) => {
                c.loaded(now, epoch);
                HostFx::Transactions(Vec::new())
            }
        }
    }

    pub(crate) fn unload(&mut self, now: Now) -> HostFx {
        both!(self, |c, fx| c.unload(now, fx))
    }

    pub(crate) fn tick(&mut self, now: Now) -> HostFx {
        both!(self, |c, fx| c.tick(now, fx))
    }

    pub(crate) fn on_committed(&mut self, now: Now, batch: BatchId) -> HostFx {
        both!(self, |c, fx| c.on_committed(now, batch, fx))
    }

    pub(crate) fn on_append_failed(&mut self, now: Now, batch: BatchId, code: ErrorCode) -> HostFx {
        both!(self, |c, fx| c.on_append_failed(now, batch, code, fx))
    }

    /// A batch of this coordinator is committed in the log.
    pub(crate) fn on_applied(&mut self, batch: BatchId) {
        if let Machine::Groups(c) = self {
            c.on_applied(batch);
        }
    }

    /// A transaction ended in this partition.
    pub(crate) fn transaction_ended(&mut self, producer: ProducerId, commit: bool) {
        if let Machine::Groups(c) = self {
            c.transaction_ended(producer, commit);
        }
    }

    /// One committed record of the log, read back. `false` where it cannot be read, and must not be skipped.
    pub(crate) fn replay(&mut self, header: &BatchHeader, record: Record) -> bool {
        let Some(key) = record.key else { return true };
        if header.is_control() {
            match ControlKind::of_key(&key) {
                Some(ControlKind::Other(_)) => {}
                Some(kind) => self.transaction_ended(header.producer_id, kind == ControlKind::Commit),
                None => return false,
            }
            return true;
        }
        match self {
            Machine::Groups(c) if header.is_transactional() => {
                c.replay_in_transaction(header.producer_id, key, record.value).is_ok()
            }
            Machine::Groups(c) => c.replay(record.offset, key, record.value).is_ok(),
            Machine::Transactions(c) => c.replay(record.offset, key, record.value).is_ok(),
        }
    }
}
