//! Strong reads: what must be current is answered only by a leader of the present (design: ReadIndex).
//!
//! ListOffsets, OffsetFetch, descriptions and lists of groups wait until a majority has said that this node
//! leads still. All of one turn that concern one partition share a round. A sleeping group is asked without
//! being woken; if no answer comes, ticks show whether there is a majority at all.
use crate::api::{AdminReply, Effect, GroupRequest, Reply, Token};
use crate::groups::{Slot, Touch};
use crate::node::Node;
use coordinator::ListRequest;
use coordinator::txn::ListFilter;
use model::{ErrorCode, GroupKey, Mono, Now};
use partition::ListOffsetAsk;
use std::collections::{BTreeMap, BTreeSet};

/// A round that a majority has not answered is looked at again after this, ms.
const LOOK_AFTER_MS: i64 = 150;
/// Reads that wait on this node at most; more are told to try again.
const MOST: usize = 100_000;

/// What waits for the confirmation of its group.
#[derive(Debug)]
pub(crate) enum StrongRead {
    ListOffset {
        token: Token,
        ask: ListOffsetAsk,
    },
    /// OffsetFetch or DescribeGroups.
    Group {
        token: Token,
        request: GroupRequest,
    },
    /// The answer of a coordinator of transactions that must lead still.
    Transaction {
        token: Token,
        reply: Box<coordinator::txn::Reply>,
    },
    /// DescribeTransactions of one id.
    Described {
        token: Token,
        transactional_id: String,
    },
    /// A change of the metadata that came to nothing: a refusal, or nothing to do.
    Admin {
        token: Token,
        reply: Box<AdminReply>,
    },
    /// One partition of a ListGroups or ListTransactions.
    Listed {
        list: u64,
    },
}

/// A ListGroups or ListTransactions that waits for its partitions.
#[derive(Debug)]
struct Listing {
    token: Token,
    what: ListWhat,
    left: usize,
}

/// What is listed.
#[derive(Debug)]
pub(crate) enum ListWhat {
    /// ListGroups.
    Groups(ListRequest),
    /// ListTransactions.
    Transactions(Box<ListFilter>),
}

/// Counted since the start, and what waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrongStats {
    /// Reads that had to be confirmed by others.
    pub reads: u64,
    /// Rounds that were begun for them.
    pub rounds: u64,
    /// Reads that no majority confirmed.
    pub unconfirmed: u64,
    /// Reads that wait.
    pub waiting: usize,
}

/// All strong reads of a node.
#[derive(Debug, Default)]
pub(crate) struct Strong {
    waiting: BTreeMap<u64, (GroupKey, StrongRead)>,
    lists: BTreeMap<u64, Listing>,
    next: u64,
    /// Groups on which something waits for a round to begin.
    asking: BTreeSet<GroupKey>,
    /// Groups whose round is under way, and when it is looked at.
    asked: BTreeMap<GroupKey, Mono>,
    stats: StrongStats,
}

impl Strong {
    pub(crate) fn wants_round(&mut self, key: GroupKey) {
        self.asking.insert(key);
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.asked.values().min().copied()
    }
}

impl Node {
    /// Answers `read` once it is sure that `key` is led here.
    pub(crate) fn read_strongly(&mut self, now: Now, key: GroupKey, read: StrongRead) {
        let Some(open) = self.open_group(key) else {
            return self.strong_done(now, key, read, Err(ErrorCode::NotLeaderOrFollower));
        };
        if open.partition.is_alone() && open.partition.leader_epoch().is_some() {
            return self.strong_done(now, key, read, Ok(()));
        }
        if self.strong.waiting.len() >= MOST {
            return self.strong_done(now, key, read, Err(ErrorCode::NotLeaderOrFollower));
        }
        self.strong.next += 1;
        self.strong.stats.reads += 1;
        let number = self.strong.next;
        self.strong.waiting.insert(number, (key, read));
        self.with(key, |p, _, fx| p.confirm(number, fx));
    }

    /// A partition says whether it leads.
    pub(crate) fn confirmed(&mut self, now: Now, number: u64, result: Result<(), ErrorCode>) {
        let Some((key, read)) = self.strong.waiting.remove(&number) else { return };
        self.strong.stats.unconfirmed += u64::from(result.is_err());
        self.strong_done(now, key, read, result);
    }

    fn strong_done(&mut self, now: Now, key: GroupKey, read: StrongRead, result: Result<(), ErrorCode>) {
        match (read, result) {
            (StrongRead::ListOffset { token, ask }, Ok(())) => self.list_offset_now(token, key, ask),
            (StrongRead::ListOffset { token, ask }, Err(code)) => {
                self.refuse(key, Touch::ListOffset { token, ask }, code);
            }
            (StrongRead::Group { token, request }, Ok(())) => self.ask_confirmed(now, key, token, request),
            (StrongRead::Group { token, .. }, Err(_)) => {
                self.fx.push(Effect::Reply(token, Reply::GroupRefused(ErrorCode::NotCoordinator)));
            }
            (StrongRead::Transaction { token, reply }, Ok(())) => {
                self.transaction_answered(now, token, *reply)
            }
            (StrongRead::Described { token, transactional_id }, Ok(())) => {
                self.describe_now(now, key, token, &transactional_id);
            }
            (StrongRead::Transaction { token, .. } | StrongRead::Described { token, .. }, Err(_)) => {
                self.refuse_transaction(now, token, ErrorCode::NotCoordinator);
            }
            (StrongRead::Admin { token, reply }, Ok(())) => {
                self.fx.push(Effect::Reply(token, Reply::Admin(*reply)));
            }
            (StrongRead::Admin { token, .. }, Err(_)) => {
                let refused = AdminReply::Refused(ErrorCode::NotController);
                self.fx.push(Effect::Reply(token, Reply::Admin(refused)));
            }
            (StrongRead::Listed { list }, Ok(())) => {
                let Some(listing) = self.strong.lists.get_mut(&list) else { return };
                listing.left -= 1;
                if listing.left == 0
                    && let Some(Listing { token, what, .. }) = self.strong.lists.remove(&list)
                {
                    self.list_now(now, token, &what);
                }
            }
            (StrongRead::Listed { list }, Err(_)) => {
                if let Some(listing) = self.strong.lists.remove(&list) {
                    self.refuse_list(listing.token, &listing.what, ErrorCode::CoordinatorNotAvailable);
                }
            }
        }
    }

    /// Lists what all of `keys` have once each is sure to be led here.
    pub(crate) fn list_strongly(&mut self, now: Now, token: Token, what: ListWhat, keys: Vec<GroupKey>) {
        if keys.is_empty() {
            return self.list_now(now, token, &what);
        }
        self.strong.next += 1;
        let list = self.strong.next;
        self.strong.lists.insert(list, Listing { token, what, left: keys.len() });
        for key in keys {
            self.read_strongly(now, key, StrongRead::Listed { list });
        }
    }

    /// The end of a turn: what was asked in it is asked of the others.
    pub(crate) fn begin_rounds(&mut self, now: Now) {
        if self.strong.asking.is_empty() {
            return;
        }
        let stopping = self.stopping();
        for key in std::mem::take(&mut self.strong.asking) {
            if stopping {
                self.with(key, |p, _, fx| p.refuse_strong(fx));
                continue;
            }
            let before = self.open_group(key).map_or(0, |open| open.partition.rounds());
            let later = self.with(key, |p, dir, fx| p.begin_round(now, dir, fx)).unwrap_or(false);
            if later {
                self.strong.asking.insert(key);
            }
            if self.open_group(key).is_some_and(|open| open.partition.rounds() > before) {
                self.strong.stats.rounds += 1;
                self.strong.asked.insert(key, now.mono.after_ms(LOOK_AFTER_MS));
            }
        }
        self.settle(now);
    }

    /// Rounds that nobody answered: without a live majority nobody will; else ticks ask again.
    pub(crate) fn look_at_rounds(&mut self, now: Now) {
        let due = self.strong.asked.iter().filter(|(_, at)| **at <= now.mono).map(|(key, _)| *key);
        for key in due.collect::<Vec<_>>() {
            self.strong.asked.remove(&key);
            let Some(Slot::Open(open)) = self.groups.get(&key) else { continue };
            if !open.partition.is_confirming() {
                continue;
            }
            if self.majority_lives(now, open) {
                self.strong.asked.insert(key, now.mono.after_ms(LOOK_AFTER_MS));
            } else {
                self.with(key, |p, _, fx| p.refuse_strong(fx));
            }
            self.stir(now, key);
        }
    }

    /// How strong reads fared.
    pub fn strong_stats(&self) -> StrongStats {
        StrongStats { waiting: self.strong.waiting.len(), ..self.strong.stats }
    }
}
