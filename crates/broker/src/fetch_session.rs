//! Incremental fetch sessions (KIP-227): pure, bounded, no clock of its own.
//!
//! A session remembers which partitions a consumer fetches and what it was told last, so that a
//! request names only changes and an answer only news. Partitions that returned data go to the end
//! of the session's order: nobody starves behind a busy neighbour.
use indexmap::IndexMap;
use model::{Mono, TopicId};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

/// The epoch of a request that starts a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request outside any session.
pub(crate) const FINAL_EPOCH: i32 = -1;
/// The session id of "no session".
pub(crate) const NO_SESSION: i32 = 0;
/// A session used or made within this time is not evicted for a mere equal.
const MIN_EVICTION: Duration = Duration::from_secs(120);

/// How a request names a topic: by id from version 13 on, else by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicRef {
    /// Versions up to 12.
    Name(Rc<str>),
    /// Versions from 13 on.
    Id(TopicId),
}

/// A partition as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartitionRef {
    /// Its number; first, as it differs more often.
    pub(crate) partition: i32,
    /// Its topic.
    pub(crate) topic: TopicRef,
}

/// What a consumer wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    /// First offset wanted.
    pub(crate) offset: i64,
    /// At most so many bytes of this partition.
    pub(crate) max_bytes: i32,
    /// The leader epoch that the consumer knows, or -1.
    pub(crate) current_leader_epoch: i32,
    /// The epoch of the last record it has, or -1.
    pub(crate) last_fetched_epoch: i32,
}

/// What decides whether a partition is news in an incremental answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The high watermark of the answer.
    pub(crate) high_watermark: i64,
    /// The log start of the answer.
    pub(crate) log_start: i64,
    /// Whether there are records, an error or a diverging epoch.
    pub(crate) must_tell: bool,
    /// Whether there are records.
    pub(crate) has_records: bool,
    /// Whether there is an error.
    pub(crate) is_error: bool,
}

struct Partition {
    key: PartitionRef,
    want: Want,
    told_high_watermark: i64,
    told_log_start: i64,
}

struct Session {
    epoch: i32,
    by_id: bool,
    created: Mono,
    last_used: Mono,
    /// Partitions in fetch order; the keys only grow.
    order: BTreeMap<u64, Partition>,
    places: HashMap<PartitionRef, u64>,
    next_place: u64,
}

/// Why a session request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// No such session (any more): the client starts anew.
    NotFound,
    /// Not the epoch that follows the last one.
    WrongEpoch,
    /// The session was made with names and the request uses ids, or the reverse.
    TopicIdMismatch,
}

/// What to fetch, and how to answer.
pub(crate) struct Plan {
    /// The session of the answer, or [`NO_SESSION`].
    pub(crate) session: i32,
    /// Only news goes into the answer.
    pub(crate) incremental: bool,
    /// A session shall be made from the answer.
    pub(crate) create: bool,
    /// The partitions in the order to fetch them.
    pub(crate) partitions: Vec<(PartitionRef, Want)>,
}

/// The session fields of a request.
pub(crate) struct SessionRequest {
    /// Session id, 0 for none.
    pub(crate) id: i32,
    /// Session epoch.
    pub(crate) epoch: i32,
    /// Whether topics are named by id.
    pub(crate) by_id: bool,
    /// Partitions to add or change.
    pub(crate) wants: Vec<(PartitionRef, Want)>,
    /// Partitions to drop from the session.
    pub(crate) forget: Vec<PartitionRef>,
}

/// All sessions of a broker, at most `slots`.
pub(crate) struct SessionCache {
    slots: usize,
    sessions: IndexMap<i32, Session>,
    partitions: usize,
    evictions: u64,
    random: u64,
}

impl SessionCache {
    /// A cache of `slots` sessions; `seed` makes the ids hard to guess.
    pub(crate) fn new(slots: usize, seed: u64) -> SessionCache {
        SessionCache { slots, sessions: IndexMap::new(), partitions: 0, evictions: 0, random: seed | 1 }
    }

    /// Changes how many sessions may be held; those over it go as others are made.
    pub(crate) fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// Sessions held.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Partitions in all sessions together.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    /// Sessions evicted to make room.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Takes a request in: what is to be fetched, in which order.
    pub(crate) fn begin(&mut self, now: Mono, request: SessionRequest) -> Result<Plan, SessionError> {
        if request.epoch == INITIAL_EPOCH || request.epoch == FINAL_EPOCH {
            if request.id != NO_SESSION {
                self.remove(request.id);
            }
            return Ok(Plan {
                session: NO_SESSION,
                incremental: false,
                create: request.epoch == INITIAL_EPOCH,
                partitions: dedupe(request.wants),
            });
        }
        let session = self.sessions.get_mut(&request.id).ok_or(SessionError::NotFound)?;
        if session.epoch != request.epoch {
            return Err(SessionError::WrongEpoch);
        }
        if session.by_id != request.by_id {
            return Err(SessionError::TopicIdMismatch);
        }
        let before = session.order.len();
        let wants = if request.forget.is_empty() { Vec::new() } else { request.wants.clone() };
        session.update(request.wants, &request.forget);
        self.partitions = self.partitions + session.order.len() - before;
        if session.order.is_empty() {
            self.remove(request.id);
            return Ok(Plan {
                session: NO_SESSION,
                incremental: false,
                create: false,
                // What was asked and forgotten at once is answered as outside any session.
                partitions: dedupe(wants),
            });
        }
        session.last_used = now;
        session.epoch = next_epoch(session.epoch);
        let partitions = session.order.values().map(|p| (p.key.clone(), p.want)).collect();
        Ok(Plan { session: request.id, incremental: true, create: false, partitions })
    }

    /// Makes a session of a full fetch that was answered with `told`; its id, or [`NO_SESSION`]
    /// when there is no room.
    pub(crate) fn create(
        &mut self,
        now: Mono,
        by_id: bool,
        partitions: impl ExactSizeIterator<Item = (PartitionRef, Want, Told)>,
    ) -> i32 {
        let size = partitions.len();
        if size == 0 || !self.make_room(now, size) {
            return NO_SESSION;
        }
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            by_id,
            created: now,
            last_used: now,
            order: BTreeMap::new(),
            places: HashMap::with_capacity(size),
            next_place: 0,
        };
        for (key, want, told) in partitions {
            let place = session.insert(key, want);
            session.tell(place, told, false);
        }
        self.partitions += session.order.len();
        let id = self.fresh_id();
        self.sessions.insert(id, session);
        id
    }

    /// Whether this partition goes into the incremental answer of session `id`; remembers what the
    /// consumer is told and turns the order.
    pub(crate) fn is_news(&mut self, id: i32, key: &PartitionRef, told: Told) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        let Some(place) = session.places.get(key).copied() else { return true };
        session.tell(place, told, told.has_records)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.swap_remove(&id) {
            self.partitions -= session.order.len();
        }
    }

    /// Evicts one session if the cache is full: one unused for two minutes, else the smallest that
    /// is smaller than the new one and two minutes old.
    fn make_room(&mut self, now: Mono, size: usize) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        let stale = self
            .sessions
            .iter()
            .filter(|(_, s)| now.since(s.last_used) > MIN_EVICTION)
            .min_by_key(|(_, s)| s.last_used);
        let victim = stale.or_else(|| {
            self.sessions
                .iter()
                .filter(|(_, s)| s.order.len() < size && now.since(s.created) > MIN_EVICTION)
                .min_by_key(|(_, s)| s.order.len())
        });
        let Some(id) = victim.map(|(id, _)| *id) else { return false };
        self.remove(id);
        self.evictions += 1;
        true
    }

    fn fresh_id(&mut self) -> i32 {
        loop {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let id = (self.random >> 33) as i32;
            if id > 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Session {
    fn insert(&mut self, key: PartitionRef, want: Want) -> u64 {
        if let Some(place) = self.places.get(&key).copied() {
            if let Some(partition) = self.order.get_mut(&place) {
                partition.want = want;
            }
            return place;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(key.clone(), place);
        self.order.insert(place, Partition { key, want, told_high_watermark: -1, told_log_start: -1 });
        place
    }

    fn update(&mut self, wants: Vec<(PartitionRef, Want)>, forget: &[PartitionRef]) {
        for (key, want) in wants {
            self.insert(key, want);
        }
        for key in forget {
            if let Some(place) = self.places.remove(key) {
                self.order.remove(&place);
            }
        }
    }

    fn tell(&mut self, place: u64, told: Told, turn: bool) -> bool {
        let Some(partition) = self.order.get_mut(&place) else { return true };
        let moved = partition.told_high_watermark != told.high_watermark
            || partition.told_log_start != told.log_start;
        partition.told_high_watermark = told.high_watermark;
        partition.told_log_start = told.log_start;
        if told.is_error {
            // The next answer without an error is news even if nothing else changed.
            partition.told_high_watermark = -1;
        }
        if turn && let Some(partition) = self.order.remove(&place) {
            let last = self.next_place;
            self.next_place += 1;
            self.places.insert(partition.key.clone(), last);
            self.order.insert(last, partition);
        }
        moved || told.must_tell
    }
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        e if e < 0 => FINAL_EPOCH,
        i32::MAX => 1,
        e => e + 1,
    }
}

/// Partitions of a request that are compared one by one.
const FEW: usize = 32;

/// A partition named twice counts once, as in a map: the last mention wins.
fn dedupe(wants: Vec<(PartitionRef, Want)>) -> Vec<(PartitionRef, Want)> {
    // Of a few, comparing all with all costs less than a table.
    let twice = |at: usize| wants[..at].iter().any(|(key, _)| *key == wants[at].0);
    if wants.len() <= FEW && !(1..wants.len()).any(twice) {
        return wants;
    }
    let mut seen: IndexMap<PartitionRef, Want> = IndexMap::with_capacity(wants.len());
    for (key, want) in wants {
        seen.insert(key, want);
    }
    seen.into_iter().collect()
}

#[cfg(test)]
mod tests;
