//! What a producer asks its coordinator: one request at a time, nothing else is in flight then.
use super::frames::{Identity, frame};
use crate::bench::report::name_of;
use crate::bench::socket::FrameSocket;
use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use model::ErrorCode;
use std::time::{Duration, Instant};
use wire::add_partitions_to_txn_request::AddPartitionsToTxnTopicV3;
use wire::{
    AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    RequestMessage, ResponseBody, Str, decode_response,
};

/// The type that FindCoordinator calls a transaction.
const TRANSACTION: i8 = 1;
const FIND_VERSION: i16 = 4;
const INIT_VERSION: i16 = 4;
/// Later ones are for brokers.
const ADD_VERSION: i16 = 3;
/// The last of TV1, and that of TV2.
const END_VERSIONS: [i16; 2] = [4, 5];
const AGAIN: Duration = Duration::from_millis(50);

/// A code that is none of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(i16);

impl Refusal {
    pub(super) fn code(self) -> i16 {
        self.0
    }

    fn known(self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.0)
    }

    /// Whether it is useless to ask again.
    pub(super) fn is_final(self) -> bool {
        !self.known().is_some_and(ErrorCode::is_retriable)
    }

    pub(super) fn is_concurrent(self) -> bool {
        self.known() == Some(ErrorCode::ConcurrentTransactions)
    }

    pub(super) fn coordinator_moved(self) -> bool {
        matches!(self.known(), Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&name_of(self.0))
    }
}

fn checked<T>(code: i16, value: T) -> Result<T, Refusal> {
    if code == 0 { Ok(value) } else { Err(Refusal(code)) }
}

fn ask<R: RequestMessage>(socket: &mut FrameSocket, request: R, version: i16) -> Result<ResponseBody> {
    let key: ApiKey = R::KEY;
    socket.send(&frame(request, version)?)?;
    let mut answer = BytesMut::new();
    socket.receive(&mut answer)?;
    Ok(decode_response(key, version, answer)?.1)
}

/// The address of the coordinator of a transactional id; asked again until there is one.
pub(super) fn find(socket: &mut FrameSocket, id: &str, patience: Duration) -> Result<String> {
    let until = Instant::now() + patience;
    loop {
        let request = FindCoordinatorRequest {
            key_type: TRANSACTION,
            coordinator_keys: vec![Str::from(id)],
            ..Default::default()
        };
        let ResponseBody::FindCoordinator(answer) = ask(socket, request, FIND_VERSION)? else {
            bail!("the answer is none to FindCoordinator");
        };
        let row = answer.coordinators.first().context("a coordinator in the answer")?;
        let refusal = Refusal(row.error_code);
        match row.error_code {
            0 if row.host.contains(':') => return Ok(format!("[{}]:{}", &*row.host, row.port)),
            0 => return Ok(format!("{}:{}", &*row.host, row.port)),
            _ if refusal.is_final() || Instant::now() > until => {
                bail!("the coordinator of '{id}' is not found: {refusal}");
            }
            _ => std::thread::sleep(AGAIN),
        }
    }
}

/// A producer id and epoch: for a transactional id, or for nobody.
pub(super) fn initialise(
    socket: &mut FrameSocket,
    id: Option<&str>,
    timeout_ms: i32,
) -> Result<Result<Identity, Refusal>> {
    let request = InitProducerIdRequest {
        transactional_id: id.map(Str::from),
        transaction_timeout_ms: timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
    };
    let ResponseBody::InitProducerId(answer) = ask(socket, request, INIT_VERSION)? else {
        bail!("the answer is none to InitProducerId");
    };
    let who = Identity { id: answer.producer_id, epoch: answer.producer_epoch };
    Ok(checked(answer.error_code, who))
}

/// Adds partitions of one topic; of several refusals the first.
pub(super) fn add_partitions(
    socket: &mut FrameSocket,
    id: &str,
    who: Identity,
    topic: &str,
    partitions: &[i32],
) -> Result<Result<(), Refusal>> {
    let topic = AddPartitionsToTxnTopicV3 { name: Str::from(topic), partitions: partitions.to_vec() };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: Str::from(id),
        v3_and_below_producer_id: who.id,
        v3_and_below_producer_epoch: who.epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    };
    let ResponseBody::AddPartitionsToTxn(answer) = ask(socket, request, ADD_VERSION)? else {
        bail!("the answer is none to AddPartitionsToTxn");
    };
    let rows = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
    let mut codes = rows.map(|row| row.partition_error_code);
    Ok(checked(codes.find(|code| *code != 0).unwrap_or_default(), ()))
}

/// Ends a transaction; returns who the producer is from then on.
pub(super) fn end(
    socket: &mut FrameSocket,
    id: &str,
    who: Identity,
    committed: bool,
    transaction_version: u8,
) -> Result<Result<Identity, Refusal>> {
    let version = END_VERSIONS[usize::from(transaction_version >= 2)];
    let request = EndTxnRequest {
        transactional_id: Str::from(id),
        producer_id: who.id,
        producer_epoch: who.epoch,
        committed,
    };
    let ResponseBody::EndTxn(answer) = ask(socket, request, version)? else {
        bail!("the answer is none to EndTxn");
    };
    let raised = Identity { id: answer.producer_id, epoch: answer.producer_epoch };
    let next = if transaction_version >= 2 && raised.id >= 0 { raised } else { who };
    Ok(checked(answer.error_code, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_know_what_helps() {
        let of = |code: ErrorCode| Refusal(code.code());
        assert!(!of(ErrorCode::ConcurrentTransactions).is_final());
        assert!(of(ErrorCode::ConcurrentTransactions).is_concurrent());
        assert!(of(ErrorCode::NotCoordinator).coordinator_moved());
        assert!(!of(ErrorCode::CoordinatorLoadInProgress).coordinator_moved());
        assert!(of(ErrorCode::ProducerFenced).is_final());
        assert!(Refusal(9999).is_final());
        assert_eq!(of(ErrorCode::ProducerFenced).to_string(), "PRODUCER_FENCED");
    }
}
