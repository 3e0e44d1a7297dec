//! What every step works with: the clock, the effects, the store and the appends under way.
use crate::config::GroupConfig;
use crate::events::{BatchId, Effect, Effects, GroupEvent, Record};
use crate::group::{Group, GroupState};
use crate::member_ids::MemberIds;
use crate::replies::Reply;
use crate::requests::{FetchRequest, InTransaction, Token};
use crate::store::{Place, Store, Write};
use bytes::Bytes;
use model::{ErrorCode, Now};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happens when an append is decided.
#[derive(Debug)]
pub(crate) enum After {
    /// The answer, or its refusal if the append failed.
    Answer { token: Token, reply: Reply },
    /// An OffsetFetch that waited for this append reads the committed layer either way.
    Fetch { token: Token, request: FetchRequest },
    /// The assignment of a generation: hand out, or rebalance again.
    Assigned(Box<Assigned>),
    /// A static member under its new id without a rebalance: answer, or take the old id back.
    Replaced(Box<Replaced>),
    /// A new group's first record: nothing, or the group goes.
    Created { group: Arc<str>, incarnation: u64 },
    /// A deleted group: gone for good, or back.
    Deleted { group: Box<Group> },
    /// Records of a consumer group: what waited is decided, or the records are undone.
    Stored(Box<crate::consumer::Stored>),
}

#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) group: Arc<str>,
    pub(crate) incarnation: u64,
    pub(crate) generation: i32,
    pub(crate) member_id: String,
    pub(crate) assignment: BTreeMap<String, Bytes>,
}

#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) group: Arc<str>,
    pub(crate) incarnation: u64,
    pub(crate) instance_id: String,
    pub(crate) old_id: String,
    pub(crate) new_id: String,
    pub(crate) old_leader: String,
    pub(crate) old_protocols: Vec<crate::requests::Protocol>,
    pub(crate) old_rebalance_timeout_ms: i32,
    pub(crate) old_session_timeout_ms: i32,
    pub(crate) supports_skip_assignment: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) places: Vec<(Arc<str>, Vec<Place>)>,
    pub(crate) after: Vec<After>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: GroupConfig,
    pub(crate) ids: MemberIds,
    pub(crate) store: Store,
    pub(crate) batches: BTreeMap<BatchId, Batch>,
    pub(crate) last_batch: u64,
    pub(crate) last_incarnation: u64,
}

impl Core {
    pub(crate) fn next_incarnation(&mut self) -> u64 {
        self.last_incarnation += 1;
        self.last_incarnation
    }
}

pub(crate) struct Cx<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) now: Now,
    pub(crate) fx: &'a mut Effects,
    /// The newest append of this step.
    pub(crate) appended: Option<BatchId>,
}

impl Cx<'_> {
    pub(crate) fn reply(&mut self, token: Token, reply: Reply) {
        self.fx.push(Effect::Reply { token, reply });
    }

    pub(crate) fn event(&mut self, event: GroupEvent) {
        self.fx.push(Effect::Event(event));
    }

    /// Appends records of several groups as one batch.
    pub(crate) fn append(&mut self, writes: Vec<(Arc<str>, Vec<Write>)>, after: Vec<After>) -> BatchId {
        let (batch, records) = self.stage(writes, after);
        self.fx.push(Effect::Append { batch, records });
        batch
    }

    /// Appends records of one group as a batch of a producer's transaction.
    pub(crate) fn append_in_transaction(
        &mut self,
        transaction: InTransaction,
        group: Arc<str>,
        writes: Vec<Write>,
        after: Vec<After>,
    ) {
        let (batch, records) = self.stage(vec![(group, writes)], after);
        self.fx.push(Effect::AppendInTransaction { batch, records, transaction: Box::new(transaction) });
    }

    fn stage(&mut self, writes: Vec<(Arc<str>, Vec<Write>)>, after: Vec<After>) -> (BatchId, Vec<Record>) {
        self.core.last_batch += 1;
        let batch = BatchId(self.core.last_batch);
        let (mut records, mut places) = (Vec::new(), Vec::new());
        for (group, writes) in writes {
            records.extend(writes.iter().map(|w| w.record(&group)));
            let staged = writes.into_iter().map(|w| self.core.store.stage(batch, &group, w)).collect();
            places.push((group, staged));
        }
        self.core.batches.insert(batch, Batch { places, after });
        self.appended = Some(batch);
        (batch, records)
    }

    /// Appends the group's own record.
    pub(crate) fn append_group(
        &mut self,
        group: &Group,
        assignment: impl Fn(&str, &crate::group::Member) -> Bytes,
        after: Vec<After>,
    ) -> BatchId {
        let value = Some(group.to_value(assignment).encode());
        self.append(vec![(group.id.clone(), vec![Write::Group { value }])], after)
    }

    /// Answers now, or with the newest append under way if one touches the group: what was decided by
    /// pending state is told only when that state is committed.
    pub(crate) fn answer_after(&mut self, group: &str, after: After) {
        let open = self.appended.or_else(|| self.core.store.newest_open(group));
        match open.and_then(|batch| self.core.batches.get_mut(&batch)) {
            Some(batch) => batch.after.push(after),
            None => match after {
                After::Answer { token, reply } => self.reply(token, reply),
                After::Fetch { token, request } => {
                    let reply = Reply::Fetch(crate::offsets::read(&self.core.store, &request));
                    self.reply(token, reply);
                }
                After::Assigned(_)
                | After::Replaced(_)
                | After::Created { .. }
                | After::Deleted { .. }
                | After::Stored(_) => {}
            },
        }
    }
}

/// Kafka's answer to a client for an append's failure.
pub(crate) fn client_error(append: ErrorCode) -> ErrorCode {
    match append {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}

impl Group {
    /// Nobody is in it or on the way in.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending_join.is_empty()
    }
}
