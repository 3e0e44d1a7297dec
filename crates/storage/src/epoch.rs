//! Where each leader epoch begins (KIP-101).

/// Rows of (epoch, start offset), both increasing; epochs without data are recorded too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochTable {
    rows: Vec<(i32, i64)>,
}

impl EpochTable {
    /// Records that `epoch` begins at `start_offset`; ignored unless it is above the last.
    pub fn record_epoch(&mut self, epoch: i32, start_offset: i64) {
        if self.rows.last().is_none_or(|(last, _)| *last < epoch) {
            self.rows.push((epoch, start_offset));
        }
    }

    /// Forgets epochs above `epoch`: their entries are given up.
    pub(crate) fn cut(&mut self, epoch: i32) {
        let keep = self.rows.partition_point(|(e, _)| *e <= epoch);
        self.rows.truncate(keep);
    }

    /// The rows, oldest first.
    pub fn rows(&self) -> &[(i32, i64)] {
        &self.rows
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<i32> {
        self.rows.last().map(|(epoch, _)| *epoch)
    }

    /// The epoch of the record at `offset`; `None` below the first row.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let upto = self.rows.partition_point(|(_, start)| *start <= offset);
        upto.checked_sub(1).map(|i| self.rows[i].0)
    }

    /// End of `epoch` as Kafka answers OffsetForLeaderEpoch: (the largest epoch not above it, the offset
    /// where the next one begins); `log_end` for the newest; `None` for an epoch above all.
    pub fn end_offset_for(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if self.latest() == Some(epoch) {
            return Some((epoch, log_end));
        }
        let above = self.rows.partition_point(|(e, _)| *e <= epoch);
        let (_, end) = *self.rows.get(above)?;
        let floor = above.checked_sub(1).map_or(epoch, |i| self.rows[i].0);
        Some((floor, end))
    }

    /// Forgets what lies wholly below the log start; the row that covers it begins there.
    pub fn trim(&mut self, log_start: i64) {
        let keep = self.rows.partition_point(|(_, start)| *start <= log_start).saturating_sub(1);
        self.rows.drain(..keep);
        if let Some(first) = self.rows.first_mut() {
            first.1 = first.1.max(log_start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> EpochTable {
        let mut t = EpochTable::default();
        for (epoch, start) in [(2, 0), (4, 10), (5, 10), (9, 30)] {
            t.record_epoch(epoch, start);
        }
        t
    }

    #[test]
    fn answers_as_kafka_does() {
        let t = table();
        assert_eq!(t.end_offset_for(9, 44), Some((9, 44)));
        assert_eq!(t.end_offset_for(10, 44), None);
        assert_eq!(t.end_offset_for(1, 44), Some((1, 0)));
        assert_eq!(t.end_offset_for(2, 44), Some((2, 10)));
        assert_eq!(t.end_offset_for(3, 44), Some((2, 10)));
        assert_eq!(t.end_offset_for(4, 44), Some((4, 10)), "an epoch without records ends where it begins");
        assert_eq!(t.end_offset_for(7, 44), Some((5, 30)));
        assert_eq!(EpochTable::default().end_offset_for(0, 44), None);
    }

    #[test]
    fn epochs_without_entries_left_are_forgotten() {
        let mut t = table();
        t.cut(5);
        assert_eq!(t.rows(), &[(2, 0), (4, 10), (5, 10)]);
        t.cut(1);
        assert_eq!(t.rows(), &[]);
    }

    #[test]
    fn trimming_keeps_the_row_that_covers_the_start() {
        let mut t = table();
        t.trim(12);
        assert_eq!(t.rows(), &[(5, 12), (9, 30)]);
        assert_eq!(t.epoch_at(11), None);
        assert_eq!(t.epoch_at(29), Some(5));
    }
}
