//! From the log to a serving coordinator and back.
use super::coordinator::TxnCoordinator;
use super::effects::{Effect, Effects};
use super::entry::Pending;
use super::records::{decode_key, decode_value, encode_key, encode_value};
use super::value::{TxnState, TxnVersion};
use crate::codec::{Reader, RecordError, put_bytes};
use crate::coordinator::Phase;
use crate::events::Record;
use bytes::{BufMut, Bytes, BytesMut};
use model::{ErrorCode, Mono, Now, Offset};
use std::sync::Arc;

const SNAPSHOT_VERSION: i16 = 0;

impl TxnCoordinator {
    /// Applies one committed record, in log order, while loading or on standby.
    ///
    /// An error says that a record is damaged, of another type or of a newer version: the caller must not serve.
    pub fn replay(&mut self, _offset: Offset, key: Bytes, value: Option<Bytes>) -> Result<(), RecordError> {
        debug_assert!(self.phase != Phase::Serving, "a leader's own records come through on_committed");
        let id: Arc<str> = decode_key(&key)?.into();
        let value = value.as_deref().map(decode_value).transpose()?;
        self.set_committed(&id, value);
        Ok(())
    }

    /// This node leads in term `coordinator_epoch`, which is confirmed, and all committed records are replayed:
    /// serve. Timeouts run from the start that the log has; every end without Complete goes on with the next
    /// ticks.
    pub fn loaded(&mut self, now: Now, coordinator_epoch: i32) {
        self.phase = Phase::Serving;
        self.coordinator_epoch = coordinator_epoch;
        self.next_expiry = now.mono.after_ms(self.config.expiration_interval_ms.max(1));
        self.expiry_cursor = None;
        let ids: Vec<Arc<str>> = self.open.iter().map(|(_, id)| id.clone()).collect();
        for id in ids {
            if let Some(entry) = self.entries.get_mut(&id) {
                let value = entry.committed.as_ref().filter(|v| v.state == TxnState::Ongoing);
                entry.deadline = value.map(|v| {
                    let timeout = i64::from(v.timeout_ms);
                    let left = v.start.saturating_add(timeout).saturating_sub(now.wall);
                    now.mono.after_ms(left.clamp(0, timeout.max(0)))
                });
            }
            self.arm(&id);
        }
    }

    /// This node does not lead any more: every waiting request is answered NOT_COORDINATOR, and what was not
    /// committed is forgotten. Committed state stays, and `replay` may go on from there.
    pub fn unload(&mut self, _now: Now, fx: &mut Effects) {
        self.phase = Phase::Standby;
        self.timers.clear();
        self.next_expiry = Mono(u64::MAX);
        self.drop_ids(ErrorCode::NotCoordinator, fx);
        self.send_away(ErrorCode::NotCoordinator, fx);
        let mut unknown = Vec::new();
        for ids in std::mem::take(&mut self.batches).into_values() {
            for id in ids {
                let Some(entry) = self.entries.get_mut(&id) else { continue };
                let waiting = entry.pending.take().into_iter().flat_map(Pending::answers);
                for (token, reply) in waiting {
                    let reply = reply.failed(ErrorCode::NotCoordinator);
                    fx.push(Effect::Reply { token, reply, confirm: false });
                }
                if entry.committed.is_none() {
                    unknown.push(id);
                }
            }
        }
        unknown.iter().for_each(|id| self.forget(id));
        for entry in self.entries.values_mut() {
            (entry.round, entry.deadline, entry.retry_at, entry.armed) = (None, None, None, None);
            (entry.failures, entry.last_epoch, entry.principal) = (0, -1, None);
        }
        self.principals.clear();
    }

    /// A standby begins to load: requests wait by COORDINATOR_LOAD_IN_PROGRESS instead of going elsewhere.
    pub fn begin_loading(&mut self) {
        if self.phase == Phase::Standby {
            self.phase = Phase::Loading;
        }
    }

    /// Forgets all state, to be loaded from the start of the log or from a checkpoint. Call `unload` first.
    pub fn reset(&mut self) {
        debug_assert!(self.phase != Phase::Serving, "waiting requests would go unanswered");
        self.entries.clear();
        self.timers.clear();
        self.open.clear();
        self.counts = [0; 6];
        self.phase = Phase::Loading;
    }

    /// The committed state as records: replaying them gives the same state.
    pub fn live_records(&self) -> impl Iterator<Item = Record> + '_ {
        self.entries.iter().filter_map(|(id, entry)| {
            // Version 1 whatever is finalised: version 0 would lose what its tagged fields say.
            let value = encode_value(entry.committed.as_ref()?, TxnVersion::V1);
            Some(Record { key: encode_key(id), value: Some(value) })
        })
    }

    /// The committed state in one piece, for a checkpoint.
    pub fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(SNAPSHOT_VERSION);
        for record in self.live_records() {
            put_bytes(&mut out, &record.key);
            put_bytes(&mut out, record.value.as_deref().unwrap_or(&[]));
        }
        out.freeze()
    }

    /// Replaces all state by a snapshot's; loading goes on with the records after it.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), RecordError> {
        self.reset();
        let mut r = Reader::new(snapshot);
        match r.i16("snapshot version")? {
            SNAPSHOT_VERSION => {}
            other => return Err(RecordError::UnknownVersion(other)),
        }
        while !r.is_empty() {
            let key = r.bytes(false, "key")?;
            let value = r.bytes(false, "value")?;
            self.replay(0, key, Some(value))?;
        }
        Ok(())
    }
}
