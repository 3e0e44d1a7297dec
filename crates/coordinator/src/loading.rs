//! From the log to a serving coordinator and back.
use crate::codec::{Reader, RecordError};
use crate::context::{After, Cx};
use crate::coordinator::{GroupCoordinator, Phase};
use crate::events::{CauseKind, Effects, Record};
use crate::group::Group;
use crate::rebalance::Why;
use crate::records::{GroupValue, OffsetValue, RecordKey};
use crate::replies::{FetchReply, Reply};
use bytes::{BufMut, Bytes, BytesMut};
use model::{ErrorCode, Now, Offset};
use std::sync::Arc;

impl GroupCoordinator {
    /// Applies one committed record, in log order, while loading or on standby. Types that are not ours are
    /// kept for checkpoints and mean nothing here.
    ///
    /// An error says that a record of ours is damaged or newer than this program: the caller must not serve.
    pub fn replay(&mut self, _offset: Offset, key: Bytes, value: Option<Bytes>) -> Result<(), RecordError> {
        debug_assert!(self.phase != Phase::Serving, "a leader's own records come through on_committed");
        match RecordKey::decode(&key)? {
            RecordKey::Offset { group, topic, partition } => {
                let value = value.as_deref().map(OffsetValue::decode).transpose()?;
                self.core.store.replay_offset(&group, &topic, partition, value);
            }
            RecordKey::Group { group } => {
                if let Some(value) = &value {
                    GroupValue::decode(value)?;
                }
                // A slice would keep the whole batch alive.
                let value = value.map(|v| Bytes::copy_from_slice(&v));
                self.core.store.replay_group(&group, value);
            }
            RecordKey::Consumer { group, key } => {
                if let Some(value) = &value {
                    crate::consumer::records::check(&key, value)?;
                }
                let value = value.map(|v| Bytes::copy_from_slice(&v));
                self.core.store.replay_consumer(&group, key, value);
            }
            RecordKey::Unknown(_) => match value {
                Some(value) => {
                    let (key, value) = (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
                    self.core.store.foreign.insert(key, value);
                }
                None => {
                    self.core.store.foreign.remove(&key);
                }
            },
        }
        Ok(())
    }

    /// This node leads and all committed records are replayed: serve. Every member's session runs anew.
    pub fn loaded(&mut self, now: Now, fx: &mut Effects) {
        self.groups.clear();
        self.consumers.clear();
        self.timers.clear();
        self.phase = Phase::Serving;
        self.next_retention = now.mono.after_ms(self.core.config.retention_check_interval_ms.max(1));
        let ids: Vec<Arc<str>> = self.core.store.groups.keys().cloned().collect();
        for id in ids {
            if self.core.store.get(&id).is_some_and(|s| s.is_consumer()) {
                self.load_consumer(&id, now);
                continue;
            }
            let incarnation = self.core.next_incarnation();
            let value = self.core.store.get(&id).and_then(|s| s.meta.as_ref()).map(|v| GroupValue::decode(v));
            let group = match value {
                Some(Ok(value)) => Group::from_value(id.clone(), incarnation, value, now.mono),
                // Replay refuses what does not decode, so this is a group that only has offsets.
                Some(Err(_)) | None => Group::new(id.clone(), incarnation),
            };
            self.groups.insert(id.clone(), group);
            self.step(&id, now, fx, |group, cx| {
                let max = usize::try_from(cx.core.config.max_size).unwrap_or(0);
                if group.members.len() > max {
                    let reason = format!("{} members exceed group.max.size {max}", group.members.len());
                    let why = Why { kind: CauseKind::OverCapacity, member_id: "", reason: &reason };
                    group.prepare_rebalance(cx, why);
                }
            });
        }
    }

    /// This node does not lead any more: every waiting request is answered NOT_COORDINATOR, and what was not
    /// committed is forgotten. Committed state stays, and `replay` may go on from there.
    pub fn unload(&mut self, now: Now, fx: &mut Effects) {
        self.phase = Phase::Standby;
        self.timers.clear();
        self.core.store.drop_pending();
        let batches = std::mem::take(&mut self.core.batches);
        let groups = std::mem::take(&mut self.groups);
        self.unload_consumers(fx);
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        let error = ErrorCode::NotCoordinator;
        for after in batches.into_values().flat_map(|batch| batch.after) {
            match after {
                After::Answer { token, reply } => cx.reply(token, reply.failed(error)),
                After::Fetch { token, .. } => {
                    cx.reply(token, Reply::Fetch(FetchReply { error, topics: Vec::new() }));
                }
                After::Assigned(_)
                | After::Replaced(_)
                | After::Created { .. }
                | After::Deleted { .. }
                | After::Stored(_) => {}
            }
        }
        for mut group in groups.into_values() {
            group.dismiss(&mut cx, error);
        }
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
        self.core.store = crate::store::Store::default();
        self.phase = Phase::Loading;
    }

    /// The committed state as records: replaying them gives the same state.
    pub fn live_records(&self) -> impl Iterator<Item = Record> + '_ {
        self.core.store.records()
    }

    /// The committed state in one piece, for a checkpoint.
    pub fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut waiting = self.core.store.txn_records().peekable();
        if waiting.peek().is_none() {
            out.put_i16(SNAPSHOT_VERSION);
            self.live_records().for_each(|record| put_record(&mut out, &record));
            return out.freeze();
        }
        out.put_i16(SNAPSHOT_WITH_TRANSACTIONS);
        let plain = self.live_records().count();
        out.put_u32(u32::try_from(plain).expect("bounded by the offsets of all groups"));
        self.live_records().for_each(|record| put_record(&mut out, &record));
        for (producer, record) in waiting {
            out.put_i64(producer);
            put_record(&mut out, &record);
        }
        out.freeze()
    }

    /// Replaces all state by a snapshot's; loading goes on with the records after it.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), RecordError> {
        self.reset();
        let mut r = Reader::new(snapshot);
        let plain = match r.i16("snapshot version")? {
            SNAPSHOT_VERSION => u32::MAX,
            SNAPSHOT_WITH_TRANSACTIONS => r.i32("records")?.unsigned_abs(),
            other => return Err(RecordError::UnknownVersion(other)),
        };
        let mut at = 0;
        while !r.is_empty() {
            let producer = if at < plain { None } else { Some(r.i64("producer id")?) };
            let key = r.bytes(false, "key")?;
            let value = r.bytes(false, "value")?;
            match producer {
                None => self.replay(0, key, Some(value))?,
                Some(producer) => self.replay_in_transaction(producer, key, Some(value))?,
            }
            at += 1;
        }
        Ok(())
    }
}

fn put_record(out: &mut BytesMut, record: &Record) {
    crate::codec::put_bytes(out, &record.key);
    crate::codec::put_bytes(out, record.value.as_deref().unwrap_or(&[]));
}

const SNAPSHOT_VERSION: i16 = 0;
/// The number of plain records, these, then those that wait for their transactions, each after its producer id.
const SNAPSHOT_WITH_TRANSACTIONS: i16 = 1;
