//! Transactional ids that did nothing for long are removed by tombstones, a bounded batch at a time.
use super::coordinator::TxnCoordinator;
use super::effects::Effects;
use super::entry::{Entry, Pending};
use super::records::encode_key;
use crate::events::Record;
use model::Now;
use std::ops::Bound;
use std::sync::Arc;

impl TxnCoordinator {
    /// Removes a batch of ids that are due. Where more may be, the next tick goes on behind them.
    pub(crate) fn expire(&mut self, now: Now, fx: &mut Effects) {
        let before = now.wall.saturating_sub(self.config.id_expiration_ms);
        let from = match self.expiry_cursor.take() {
            Some(cursor) => Bound::Excluded(cursor),
            None => Bound::Unbounded,
        };
        let due = |entry: &Entry| {
            let value = entry.committed.as_ref().filter(|v| !v.state.is_open());
            entry.pending.is_none() && value.is_some_and(|v| v.last_update <= before)
        };
        let max = self.config.expiration_batch.max(1);
        let found = self.entries.range((from, Bound::Unbounded)).filter(|(_, entry)| due(entry));
        let ids: Vec<Arc<str>> = found.take(max).map(|(id, _)| id.clone()).collect();
        self.next_expiry = if ids.len() < max {
            now.mono.after_ms(self.config.expiration_interval_ms.max(1))
        } else {
            self.expiry_cursor = ids.last().cloned();
            now.mono.after_ms(self.config.backoff_ms.max(1))
        };
        if ids.is_empty() {
            return;
        }
        let records = ids.iter().map(|id| Record { key: encode_key(id), value: None }).collect();
        let batch = self.append_batch(ids.clone(), records, fx);
        for id in ids {
            if let Some(entry) = self.entries.get_mut(&id) {
                let last_epoch = entry.last_epoch;
                let (value, after, also) = (None, None, Vec::new());
                entry.pending = Some(Pending { batch, at: now.mono, value, last_epoch, after, also });
            }
        }
    }
}
