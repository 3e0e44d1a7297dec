//! Aborted transactions of a partition: what a reader of committed ones needs to leave out (KIP-98).
//!
//! Kept in memory and in checkpoints, from the log start on. Kafka keeps the same rows in a file beside each segment.
use model::{Offset, ProducerId};
use proto::partition::AbortedTransaction;
use std::collections::VecDeque;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: ProducerId,
    /// Where it began.
    pub(crate) first: Offset,
    /// Of its marker.
    pub(crate) last: Offset,
    /// What is aborted later begins here or above. Never falls from row to row.
    pub(crate) stable: Offset,
}

/// All of them, in the order of their markers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AbortedList {
    rows: VecDeque<Aborted>,
}

impl AbortedList {
    pub(crate) fn push(&mut self, row: Aborted) {
        self.rows.push_back(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        (self.rows.capacity() * size_of::<Aborted>()) as u64
    }

    /// Nothing below `log_start` is read any more.
    pub(crate) fn prune(&mut self, log_start: Offset) {
        let gone = self.rows.partition_point(|row| row.last < log_start);
        if gone > 0 {
            self.rows.drain(..gone);
            if self.rows.len() < self.rows.capacity() / 4 {
                self.rows.shrink_to(self.rows.len() * 2);
            }
        }
    }

    /// Those that overlap `from..upto`, in the order of their first offsets. Of those that begin in it there are the
    /// first `most` (one at least), where there are so many.
    pub(crate) fn overlapping(&self, from: Offset, upto: Offset, most: usize) -> Vec<(ProducerId, Offset)> {
        let mut found: Vec<(Offset, ProducerId)> = Vec::new();
        let most = most.max(1);
        let mut look_at = most;
        let start = self.rows.partition_point(|row| row.last < from);
        for row in self.rows.range(start..) {
            if row.first < upto {
                found.push((row.first, row.producer_id));
            }
            if row.stable >= upto {
                break;
            }
            if found.len() >= look_at {
                // What follows begins at `stable` or above.
                let certain = found.iter().filter(|(first, _)| (from..row.stable).contains(first)).count();
                if certain >= most {
                    break;
                }
                look_at = found.len() * 2;
            }
        }
        found.sort_unstable();
        let before = found.partition_point(|(first, _)| *first < from);
        found.truncate(before.saturating_add(most));
        found.into_iter().map(|(first, id)| (id, first)).collect()
    }

    /// Those that overlap `from..upto`, in the order of their markers.
    pub(crate) fn between(&self, from: Offset, upto: Offset) -> impl Iterator<Item = &Aborted> {
        let start = self.rows.partition_point(|row| row.last < from);
        // What follows a row whose `stable` is `upto` or above begins there.
        let end = self.rows.partition_point(|row| row.stable < upto);
        self.rows.range(start..(end + 1).min(self.rows.len()).max(start)).filter(move |row| row.first < upto)
    }

    #[cfg(test)]
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Aborted> {
        self.rows.iter()
    }

    pub(crate) fn encode(&self) -> Vec<AbortedTransaction> {
        let row = |row: &Aborted| AbortedTransaction {
            producer_id: row.producer_id,
            first_offset: row.first,
            last_offset: row.last,
            stable_offset: row.stable,
        };
        self.rows.iter().map(row).collect()
    }

    /// Errors: rows out of order, in words.
    pub(crate) fn decode(rows: Vec<AbortedTransaction>) -> Result<AbortedList, String> {
        let mut list = AbortedList::default();
        for row in rows {
            let row = Aborted {
                producer_id: row.producer_id,
                first: row.first_offset,
                last: row.last_offset,
                stable: row.stable_offset,
            };
            let before = list.rows.back();
            let follows = before.is_none_or(|b| b.last < row.last && b.stable <= row.stable);
            if !follows || row.first > row.last {
                return Err(format!(
                    "producer table: the aborted transaction {row:?} does not follow {before:?}"
                ));
            }
            list.rows.push_back(row);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(producer_id: i64, first: i64, last: i64, stable: i64) -> Aborted {
        Aborted { producer_id, first, last, stable }
    }

    fn list(rows: &[Aborted]) -> AbortedList {
        AbortedList { rows: rows.iter().copied().collect() }
    }

    #[test]
    fn those_that_overlap_come_in_the_order_of_their_first_offsets() {
        // Producer 1 is open from 0 to 9, producers 2 and 3 inside that.
        let list = list(&[row(2, 2, 4, 0), row(3, 5, 7, 0), row(1, 0, 9, 10), row(2, 12, 13, 14)]);
        assert_eq!(list.overlapping(0, 14, 99), [(1, 0), (2, 2), (3, 5), (2, 12)]);
        assert_eq!(list.overlapping(4, 6, 99), [(1, 0), (2, 2), (3, 5)], "a marker's own offset counts");
        assert_eq!(list.overlapping(5, 6, 99), [(1, 0), (3, 5)]);
        assert_eq!(list.overlapping(10, 12, 99), []);
        assert_eq!(list.overlapping(13, 99, 99), [(2, 12)]);
        assert_eq!(list.overlapping(1, 14, 1), [(1, 0), (2, 2)], "what began before is never left out");
    }

    #[test]
    fn rows_below_the_log_start_go_and_a_checkpoint_keeps_the_rest() {
        let mut all = list(&[row(2, 2, 4, 0), row(3, 5, 7, 0), row(1, 0, 9, 10)]);
        all.prune(7);
        assert_eq!(all.len(), 2, "its marker can be read still");
        assert_eq!(AbortedList::decode(all.encode()), Ok(all.clone()));
        all.prune(10);
        assert!(all.is_empty());
        let reversed =
            vec![list(&[row(1, 5, 7, 8)]).encode().remove(0), list(&[row(1, 0, 3, 4)]).encode().remove(0)];
        assert!(AbortedList::decode(reversed).is_err());
        assert!(AbortedList::decode(list(&[row(1, 5, 4, 8)]).encode()).is_err());
    }

    /// Transactions that begin and end at random.
    fn history(steps: &[(u8, bool)]) -> (AbortedList, i64) {
        let (mut list, mut open) = (AbortedList::default(), std::collections::BTreeMap::new());
        let mut offset = 0;
        for (producer, ends) in steps {
            let id = i64::from(*producer);
            match open.get(&id).copied() {
                Some(first) if *ends => {
                    open.remove(&id);
                    let stable = open.values().copied().min().unwrap_or(offset + 1);
                    list.push(row(id, first, offset, stable));
                }
                Some(_) => {}
                None => {
                    open.insert(id, offset);
                }
            }
            offset += 1;
        }
        (list, offset)
    }

    proptest! {
        #[test]
        fn a_range_gets_what_a_look_at_every_row_gives(
            steps in proptest::collection::vec((0..6u8, any::<bool>()), 0..120),
            from in 0..120i64, len in 0..60i64, most in 1..9usize,
        ) {
            let (list, _) = history(&steps);
            let upto = from + len;
            let mut all: Vec<(i64, i64)> = list.rows.iter()
                .filter(|r| r.last >= from && r.first < upto).map(|r| (r.first, r.producer_id)).collect();
            all.sort_unstable();
            let all: Vec<(i64, i64)> = all.into_iter().map(|(first, id)| (id, first)).collect();
            prop_assert_eq!(list.overlapping(from, upto, usize::MAX), all.clone());
            let mut between: Vec<(i64, i64)> =
                list.between(from, upto).map(|row| (row.producer_id, row.first)).collect();
            between.sort_unstable_by_key(|(id, first)| (*first, *id));
            prop_assert_eq!(&between, &all);
            let before = all.iter().filter(|(_, first)| *first < from).count();
            let least = &all[..all.len().min(before + most)];
            prop_assert_eq!(list.overlapping(from, upto, most), least);
            prop_assert_eq!(AbortedList::decode(list.encode()), Ok(list));
        }
    }
}
