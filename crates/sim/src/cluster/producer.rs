//! Producers: what they promise, what they send, and what an answer means to them.
use super::oracle::{Oracle, Reign};
use crate::oracle::Value;
use bytes::BytesMut;
use model::{ErrorCode, GroupKey};
use partition::{AppendError, Appended};
use std::collections::BTreeMap;

/// What a producer promises and asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// acks=all; sends a batch until it is acknowledged.
    Idempotent,
    /// acks=all; sends a batch once.
    Plain,
    /// acks=1; sends a batch once.
    Hasty,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) key: GroupKey,
    pub(super) values: Vec<Value>,
    pub(super) bytes: BytesMut,
}

#[derive(Debug)]
pub(super) struct Producer {
    pub(super) style: Style,
    pub(super) id: Option<i64>,
    /// By partition: the next sequence number.
    pub(super) sequences: BTreeMap<GroupKey, i32>,
    pub(super) batch: Option<Batch>,
}

/// An append ended.
pub(super) fn produced(
    p: &mut Producer,
    oracle: &mut Oracle,
    c: usize,
    reign: Reign,
    result: Result<Appended, AppendError>,
) {
    let Some(batch) = &p.batch else { return };
    match result {
        Ok(done) => {
            if p.style == Style::Hasty {
                oracle.acked_by_one(batch.key, reign, done.base_offset, &batch.values);
            } else {
                oracle.acked(batch.key, reign.0, done.base_offset, &batch.values);
            }
            if p.style == Style::Idempotent {
                let next = p.sequences.entry(batch.key).or_default();
                *next = records::next_sequence(*next, batch.values.len() as i32);
            }
            p.batch = None;
        }
        Err(error) if p.style == Style::Idempotent => {
            if !error.code.is_retriable() {
                let why = error.message.unwrap_or_default();
                let detail =
                    format!("producer {c} at {} values {:?}: {} {why}", batch.key, batch.values, error.code);
                oracle.violate("idempotence-broken", detail);
                p.batch = None;
            }
        }
        Err(error) => {
            if never_appended(error.code) {
                oracle.refused(&batch.values, &format!("{}", error.code));
            }
            p.batch = None;
        }
    }
}

/// Whether the answer says that the batch is in no log. REQUEST_TIMED_OUT and a disk that fails say nothing.
fn never_appended(code: ErrorCode) -> bool {
    match code {
        ErrorCode::NotLeaderOrFollower | ErrorCode::NotEnoughReplicas => true,
        code => !code.is_retriable(),
    }
}
