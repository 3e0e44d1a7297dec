//! The window of a log as raft sees it: indexes and terms from memory; payloads only of entries that a
//! follower is behind by, and only while they are being sent.
use bytes::Bytes;
use model::Offset;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::RefCell;
use std::collections::VecDeque;
use storage::EntryKind;

/// What is kept of an entry until it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Payload bytes; what the budget of uncommitted bytes counts.
    pub len: u32,
    /// The offset after it.
    pub next_offset: Offset,
    /// The payload of commands and configuration changes; empty for data.
    pub payload: Bytes,
}

/// Indexes, terms and unapplied entries of one group's window.
#[derive(Debug)]
pub struct LogView {
    first_index: u64,
    last_index: u64,
    /// (first index, term) of each run; the first run covers `first_index - 1`.
    terms: Vec<(u64, u64)>,
    unapplied: VecDeque<EntryMeta>,
    unapplied_bytes: u64,
    /// The offset after the last applied entry.
    applied_offset: Offset,
    pub(crate) start: RaftState,
    sending: RefCell<Sending>,
}

/// Entries on their way to followers that are behind.
#[derive(Debug, Default)]
struct Sending {
    /// Read back from the log, dense; there for the length of one call.
    loaded: Vec<Entry>,
    /// What raft asked for and the log is to read.
    asked: Vec<Asked>,
    /// Replicas that need entries from before the window.
    lagging: Vec<u64>,
}

/// Entries that raft wants in order to send them.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) max_bytes: u64,
    pub(crate) context: GetEntriesContext,
}

impl LogView {
    /// A window that holds nothing yet and begins after entry `index` of `term` at `next_offset`.
    pub fn after(index: u64, term: u64, next_offset: Offset) -> LogView {
        LogView {
            first_index: index + 1,
            last_index: index,
            terms: vec![(index, term)],
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
            applied_offset: next_offset,
            start: RaftState::default(),
            sending: RefCell::default(),
        }
    }

    /// A window from `first_index` whose entries up to `applied` are applied and are all that it holds yet.
    /// `terms` has (first index, term) of each run, from `first_index - 1` on; later runs are ignored.
    /// `next_offset` is the offset after `applied`.
    pub fn applied(first_index: u64, applied: u64, terms: &[(u64, u64)], next_offset: Offset) -> LogView {
        let terms: Vec<_> = terms.iter().copied().filter(|(first, _)| *first <= applied).collect();
        assert!(terms.first().is_some_and(|(first, _)| *first < first_index), "terms cover the window");
        LogView { first_index, last_index: applied, terms, ..LogView::after(applied, 0, next_offset) }
    }

    /// Records that entry `index` has `term`, ends before `next_offset` and is applied; indexes must follow
    /// one another.
    pub fn push_applied(&mut self, index: u64, term: u64, next_offset: Offset) {
        assert!(self.unapplied.is_empty(), "applied entries come before unapplied ones");
        self.push_term(index, term);
        self.applied_offset = next_offset;
    }

    /// Records an entry that is appended and not applied; indexes must follow one another.
    pub fn push_unapplied(&mut self, meta: EntryMeta) {
        self.push_term(meta.index, meta.term);
        self.unapplied_bytes += u64::from(meta.len);
        self.unapplied.push_back(meta);
    }

    fn push_term(&mut self, index: u64, term: u64) {
        assert_eq!(index, self.last_index + 1, "entries are dense");
        self.last_index = index;
        if self.terms.last().is_none_or(|(_, last)| *last != term) {
            self.terms.push((index, term));
        }
    }

    /// Removes the entries from `index` on: a new leader's log differs from there.
    pub(crate) fn truncate_from(&mut self, index: u64) {
        self.unapplied.retain(|e| e.index < index);
        self.unapplied_bytes = self.unapplied.iter().map(|e| u64::from(e.len)).sum();
        while self.terms.last().is_some_and(|(first, _)| *first >= index) {
            self.terms.pop();
        }
        self.last_index = self.last_index.min(index - 1);
    }

    /// Forgets what left the window; the entry before `first_index` keeps its term.
    pub(crate) fn compact_to(&mut self, first_index: u64) {
        if first_index <= self.first_index || first_index > self.last_index + 1 {
            return;
        }
        let Some(term) = self.term_of(first_index - 1) else { return };
        self.terms.retain(|(first, _)| *first > first_index - 1);
        self.terms.insert(0, (first_index - 1, term));
        self.first_index = first_index;
    }

    /// Takes the oldest unapplied entry, which must be `index`.
    pub(crate) fn pop_applied(&mut self, index: u64) -> EntryMeta {
        let meta = self.unapplied.pop_front().expect("committed entries were appended");
        assert_eq!(meta.index, index, "entries are applied in order");
        self.unapplied_bytes -= u64::from(meta.len);
        self.applied_offset = meta.next_offset;
        meta
    }

    /// Configuration changes that are not applied, before entry `index`.
    pub(crate) fn changes_before(&self, index: u64) -> impl Iterator<Item = &Bytes> {
        let changes = self.unapplied.iter().filter(|e| e.kind == EntryKind::ConfChange);
        changes.take_while(move |e| e.index < index).map(|e| &e.payload)
    }

    /// The offset after the last entry.
    pub(crate) fn next_offset(&self) -> Offset {
        self.unapplied.back().map_or(self.applied_offset, |e| e.next_offset)
    }

    /// The offset after entry `index`; `None` where it is older than the last applied one, or unknown.
    pub(crate) fn offset_after(&self, index: u64) -> Option<Offset> {
        let applied = self.last_index - self.unapplied.len() as u64;
        if index == applied {
            return Some(self.applied_offset);
        }
        self.unapplied_entry(index).map(|e| e.next_offset)
    }

    /// Lays out what was read back, for the next calls of `entries`; an empty list takes it away.
    pub(crate) fn lay_out(&mut self, entries: Vec<Entry>) {
        self.sending.get_mut().loaded = entries;
    }

    /// What raft asked for since the last call.
    pub(crate) fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.sending.get_mut().asked)
    }

    /// Replicas that were found to need what left the window since the last call.
    pub(crate) fn take_lagging(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.sending.get_mut().lagging)
    }

    /// Entries from `low` on that are laid out; otherwise notes the wish.
    fn entries_to_send(
        &self,
        low: u64,
        high: u64,
        max_bytes: u64,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let mut sending = self.sending.borrow_mut();
        let first = sending.loaded.first().map_or(u64::MAX, |e| e.index);
        let from = usize::try_from(low.saturating_sub(first)).unwrap_or(usize::MAX);
        let end = usize::try_from(high.saturating_sub(first)).unwrap_or(usize::MAX);
        let end = end.min(sending.loaded.len());
        if low >= first && from < end {
            return Ok(sending.loaded[from..end].to_vec());
        }
        sending.asked.push(Asked { low, high, max_bytes, context });
        Err(StorageError::LogTemporarilyUnavailable.into())
    }

    pub(crate) fn last(&self) -> u64 {
        self.last_index
    }

    /// The term of entry `index`; `None` outside the window and the entry before it.
    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index + 1 < self.first_index || index > self.last_index {
            return None;
        }
        let at = self.terms.partition_point(|(first, _)| *first <= index);
        at.checked_sub(1).map(|i| self.terms[i].1)
    }

    /// Payload bytes of the entries that are not applied.
    pub(crate) fn unapplied_bytes(&self) -> u64 {
        self.unapplied_bytes
    }

    pub(crate) fn shrink(&mut self) {
        self.unapplied.shrink_to_fit();
        self.terms.shrink_to_fit();
    }

    pub(crate) fn set_start(&mut self, hard: HardState, conf: ConfState) {
        self.start = RaftState::new(hard, conf);
    }

    fn unapplied_entry(&self, index: u64) -> Option<&EntryMeta> {
        let front = self.unapplied.front()?.index;
        self.unapplied.get(usize::try_from(index.checked_sub(front)?).ok()?)
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.start.clone())
    }

    /// Committed entries without payload. Entries for a follower that is behind are whole, and are read back
    /// first: see [`crate::Group::on_entries`].
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        assert!(high <= self.last_index + 1, "raft asks only for entries that exist");
        if low < self.first_index {
            return Err(StorageError::Compacted.into());
        }
        if context.can_async() {
            let max_bytes = max_size.into().unwrap_or(u64::MAX);
            return self.entries_to_send(low, high, max_bytes, context);
        }
        let mut out = Vec::with_capacity((high - low) as usize);
        for index in low..high {
            let Some(meta) = self.unapplied_entry(index) else {
                return Err(StorageError::Unavailable.into());
            };
            let mut entry = Entry { term: meta.term, index, ..Entry::default() };
            if meta.kind == EntryKind::ConfChange {
                entry.set_entry_type(EntryType::EntryConfChangeV2);
                entry.data = meta.payload.clone();
            }
            out.push(entry);
        }
        Ok(out)
    }

    fn term(&self, idx: u64) -> raft::Result<u64> {
        self.term_of(idx).ok_or_else(|| {
            if idx < self.first_index { StorageError::Compacted } else { StorageError::Unavailable }.into()
        })
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first_index)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    /// What a replica needs that is behind the window goes beside raft, which hears of it when it is there:
    /// see [`crate::Group::on_installed`].
    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let lagging = &mut self.sending.borrow_mut().lagging;
        if !lagging.contains(&to) {
            lagging.push(to);
        }
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_answer_for_the_window_and_the_entry_before_it() {
        let mut view = LogView::after(1, 1, 0);
        view.push_applied(2, 1, 0);
        view.push_applied(3, 4, 0);
        view.push_applied(4, 4, 0);
        view.push_applied(5, 6, 0);
        let terms = |v: &LogView| (0..=6).map(|i| v.term_of(i)).collect::<Vec<_>>();
        assert_eq!(terms(&view), [None, Some(1), Some(1), Some(4), Some(4), Some(6), None]);
        view.compact_to(5);
        assert_eq!(terms(&view), [None, None, None, None, Some(4), Some(6), None]);
        view.compact_to(6);
        assert_eq!(terms(&view), [None, None, None, None, None, Some(6), None]);
        view.push_applied(6, 6, 0);
        assert_eq!(view.term_of(6), Some(6));
    }

    #[test]
    fn a_truncated_tail_takes_its_terms_along() {
        let mut view = LogView::after(1, 1, 0);
        view.push_applied(2, 1, 0);
        for (index, term) in [(3, 2), (4, 3)] {
            view.push_unapplied(EntryMeta {
                index,
                term,
                kind: EntryKind::Data,
                len: 7,
                next_offset: index as i64 * 2,
                payload: Bytes::new(),
            });
        }
        assert_eq!(view.unapplied_bytes(), 14);
        view.truncate_from(4);
        assert_eq!((view.last(), view.term_of(4), view.unapplied_bytes()), (3, None, 7));
        assert_eq!((view.next_offset(), view.offset_after(2), view.offset_after(1)), (6, Some(0), None));
        view.push_applied_after_truncation();
    }

    impl LogView {
        fn push_applied_after_truncation(&mut self) {
            self.push_unapplied(EntryMeta {
                index: 4,
                term: 5,
                kind: EntryKind::NoOp,
                len: 0,
                next_offset: 6,
                payload: Bytes::new(),
            });
            assert_eq!((self.term_of(4), self.offset_after(4)), (Some(5), Some(6)));
        }
    }
}
