//! Transactions at one partition (KIP-98, KIP-890): what is open, by whose word, and how a marker ends it.
use crate::api::AppendError;
use crate::summary::EndSummary;
use model::{ErrorCode, Offset, ProducerEpoch, ProducerId, WallMs};
use proto::partition::{self as pb, command};

/// Bytes that are kept of each name in a begin mark: they are there for people.
pub const NAME_BYTES: usize = 256;
/// From this transaction version on every transaction has an epoch of its own (KIP-890, part 2).
pub const OWN_EPOCHS: i16 = 2;

/// A begin mark: whose transaction it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BeginMark {
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) transactional_id: String,
    pub(crate) principal: String,
    pub(crate) client_id: String,
    pub(crate) version: i16,
}

impl BeginMark {
    pub(crate) fn encode(&self) -> pb::BeginTransaction {
        pb::BeginTransaction {
            producer_id: self.producer_id,
            producer_epoch: i32::from(self.epoch),
            transactional_id: self.transactional_id.clone(),
            principal: self.principal.clone(),
            client_id: self.client_id.clone(),
            transaction_version: u32::try_from(self.version).unwrap_or_default(),
        }
    }

    /// Errors: an epoch that is none.
    pub(crate) fn decode(begin: pb::BeginTransaction) -> Result<BeginMark, String> {
        let epoch = epoch_of(begin.producer_id, begin.producer_epoch)?;
        Ok(BeginMark {
            producer_id: begin.producer_id,
            epoch,
            transactional_id: begin.transactional_id,
            principal: begin.principal,
            client_id: begin.client_id,
            version: i16::try_from(begin.transaction_version).unwrap_or(i16::MAX),
        })
    }

    pub(crate) fn command(&self) -> command::Kind {
        command::Kind::BeginTransaction(self.encode())
    }
}

/// An epoch as it stands in a message.
pub(crate) fn epoch_of(producer_id: ProducerId, epoch: i32) -> Result<ProducerEpoch, String> {
    let known = ProducerEpoch::try_from(epoch).ok().filter(|epoch| *epoch >= 0);
    known.ok_or_else(|| format!("a begin mark of producer {producer_id} has epoch {epoch}"))
}

/// The first bytes of a name, up to [`NAME_BYTES`], cut between characters.
pub(crate) fn cut_name(name: &str) -> String {
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// A transaction without a committed marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) mark: BeginMark,
    pub(crate) first: Offset,
    pub(crate) begun_at: WallMs,
}

/// The newest marker of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastMarker {
    pub(crate) epoch: ProducerEpoch,
    pub(crate) coordinator_epoch: i32,
    pub(crate) commit: bool,
    pub(crate) offset: Offset,
    pub(crate) timestamp: WallMs,
    /// Nothing of the producer follows it.
    pub(crate) is_last: bool,
}

/// The end of a transaction, as WriteTxnMarkers tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The epoch of the marker; from transaction version 2 on above that of the transaction's records.
    pub producer_epoch: ProducerEpoch,
    /// Its records count; else they are void.
    pub commit: bool,
    /// The confirmed term of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// Transaction version: below 2 a marker may have its records' epoch (KIP-1228).
    pub txn_version: i16,
}

impl Marker {
    /// What its batch says at `offset`.
    pub(crate) fn at(&self, offset: Offset, timestamp: WallMs) -> EndSummary {
        EndSummary {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            commit: self.commit,
            coordinator_epoch: self.coordinator_epoch,
            offset,
            timestamp,
        }
    }
}

/// What is known of a producer when a marker comes: what is appended counts, committed or not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Its newest epoch; `None`: it is not known.
    pub(crate) epoch: Option<ProducerEpoch>,
    pub(crate) is_open: bool,
    /// Its newest marker, and the index of that where it is not committed yet.
    pub(crate) marker: Option<(LastMarker, Option<u64>)>,
}

/// What to do with a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MarkerDecision {
    /// It ends a transaction, or keeps off what comes late.
    Append,
    /// It was appended; `pending` is its entry where that is not committed yet.
    Done { offset: Offset, pending: Option<u64> },
    /// Its epoch is too low, which a leader says only when it is confirmed.
    OldEpoch(AppendError),
    /// INVALID_TXN_STATE, TRANSACTION_COORDINATOR_FENCED.
    Refused(AppendError),
}

/// KIP-1228 and docs/transactions.md: whether a marker may end what is open.
pub(crate) fn judge_marker(known: &Known, marker: &Marker, check_epoch: bool) -> MarkerDecision {
    let Marker { producer_id, producer_epoch, coordinator_epoch, .. } = *marker;
    if producer_id < 0 || producer_epoch < 0 || coordinator_epoch < 0 {
        let message =
            format!("a marker of producer {producer_id}, epoch {producer_epoch} and {coordinator_epoch}");
        return MarkerDecision::Refused(AppendError::new(ErrorCode::InvalidRequest, message));
    }
    let fenced =
        known.marker.map(|(last, _)| last.coordinator_epoch).filter(|last| *last > coordinator_epoch);
    if let Some(newest) = fenced {
        let message = format!("coordinator epoch {coordinator_epoch} is older than {newest}");
        return MarkerDecision::Refused(AppendError::new(ErrorCode::TransactionCoordinatorFenced, message));
    }
    let Some(epoch) = known.epoch else { return MarkerDecision::Append };
    let last =
        known.marker.filter(|(last, _)| last.is_last && last.epoch == producer_epoch && !known.is_open);
    if let Some((last, pending)) = last {
        let otherwise = last.commit != marker.commit;
        // Before TV2 it may be the end of the next transaction, which wrote nothing here. An abort does no harm then.
        let wrote_nothing = otherwise && !marker.commit && marker.txn_version < OWN_EPOCHS;
        if otherwise && !wrote_nothing {
            let message =
                format!("producer {producer_id} ended its transaction of epoch {producer_epoch} otherwise");
            return MarkerDecision::Refused(AppendError::new(ErrorCode::InvalidTxnState, message));
        }
        // A newer coordinator that says the same shuts out the older one, where epochs alone do not.
        let repeated = last.coordinator_epoch == coordinator_epoch || marker.txn_version >= OWN_EPOCHS;
        if !otherwise && repeated {
            return MarkerDecision::Done { offset: last.offset, pending };
        }
    }
    let follows =
        if marker.txn_version >= OWN_EPOCHS { producer_epoch > epoch } else { producer_epoch >= epoch };
    if !follows && check_epoch {
        let message = format!(
            "a marker of epoch {producer_epoch}, version {}, of producer {producer_id} does not follow epoch {epoch}",
            marker.txn_version
        );
        return MarkerDecision::OldEpoch(AppendError::new(ErrorCode::InvalidProducerEpoch, message));
    }
    MarkerDecision::Append
}

/// An open transaction, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Producer id.
    pub producer_id: ProducerId,
    /// The epoch of its records.
    pub epoch: ProducerEpoch,
    /// Transactional id, its first [`NAME_BYTES`] bytes.
    pub transactional_id: String,
    /// Who authenticated, as above.
    pub principal: String,
    /// As it called itself, as above.
    pub client_id: String,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// The leader's clock when it began here, ms.
    pub begun_at: WallMs,
}

impl From<&Open> for OpenTransaction {
    fn from(open: &Open) -> OpenTransaction {
        OpenTransaction {
            producer_id: open.mark.producer_id,
            epoch: open.mark.epoch,
            transactional_id: open.mark.transactional_id.clone(),
            principal: open.mark.principal.clone(),
            client_id: open.mark.client_id.clone(),
            first_offset: open.first,
            begun_at: open.begun_at,
        }
    }
}

/// An aborted transaction whose marker can be read still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Producer id.
    pub producer_id: ProducerId,
    /// Of its first record.
    pub first_offset: Offset,
    /// Of its marker.
    pub last_offset: Offset,
}

/// The transactions of a partition at the applied position, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionStatus {
    /// How many are open.
    pub open: usize,
    /// The one that holds the last stable offset back.
    pub oldest: Option<OpenTransaction>,
    /// High watermark minus last stable offset, records.
    pub lag: i64,
    /// Aborted ones that can be read still.
    pub aborted: usize,
    /// Bytes of memory that their list takes.
    pub aborted_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(epoch: i16, coordinator_epoch: i32, txn_version: i16) -> Marker {
        Marker { producer_id: 1, producer_epoch: epoch, commit: true, coordinator_epoch, txn_version }
    }

    fn known(epoch: i16, is_open: bool, marker: Option<(i16, i32, bool)>) -> Known {
        let marker = marker.map(|(epoch, coordinator_epoch, is_last)| {
            (LastMarker { epoch, coordinator_epoch, commit: true, offset: 9, timestamp: 0, is_last }, None)
        });
        Known { epoch: Some(epoch), is_open, marker }
    }

    fn code(known: &Known, marker: &Marker) -> Result<MarkerDecision, ErrorCode> {
        match judge_marker(known, marker, true) {
            MarkerDecision::Refused(e) | MarkerDecision::OldEpoch(e) => Err(e.code),
            decision => Ok(decision),
        }
    }

    const DONE: MarkerDecision = MarkerDecision::Done { offset: 9, pending: None };

    #[test]
    fn a_marker_of_version_two_has_an_epoch_above_its_records() {
        let open = known(5, true, None);
        assert_eq!(code(&open, &marker(6, 0, 2)), Ok(MarkerDecision::Append));
        assert_eq!(code(&open, &marker(5, 0, 2)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(code(&open, &marker(4, 0, 2)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(judge_marker(&open, &marker(4, 0, 2), false), MarkerDecision::Append, "planted");
        assert_eq!(
            code(&Known::default(), &marker(0, 0, 2)),
            Ok(MarkerDecision::Append),
            "it raises the epoch"
        );
    }

    #[test]
    fn a_marker_of_version_one_may_have_the_epoch_of_its_records() {
        let open = known(5, true, Some((5, 3, false)));
        assert_eq!(code(&open, &marker(5, 3, 1)), Ok(MarkerDecision::Append));
        assert_eq!(code(&open, &marker(6, 3, 1)), Ok(MarkerDecision::Append));
        assert_eq!(code(&open, &marker(4, 3, 1)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn a_repeat_is_done_and_anything_else_at_the_same_epoch_is_not() {
        let ended = known(6, false, Some((6, 3, true)));
        assert_eq!(code(&ended, &marker(6, 3, 2)), Ok(DONE));
        assert_eq!(code(&ended, &marker(6, 4, 2)), Ok(DONE), "the epoch shuts the older coordinator out");
        assert_eq!(code(&ended, &marker(6, 3, 1)), Ok(DONE));
        assert_eq!(
            code(&ended, &marker(6, 4, 1)),
            Ok(MarkerDecision::Append),
            "fences the older coordinator"
        );
        let abort = Marker { commit: false, ..marker(6, 3, 2) };
        assert_eq!(code(&ended, &abort), Err(ErrorCode::InvalidTxnState));
        let aborted_before_tv2 = Marker { commit: false, ..marker(6, 3, 1) };
        assert_eq!(code(&ended, &aborted_before_tv2), Ok(MarkerDecision::Append), "it wrote nothing here");
        let another = known(6, true, Some((6, 3, false)));
        assert_eq!(code(&another, &marker(6, 3, 2)), Err(ErrorCode::InvalidProducerEpoch));
        let followed = known(6, false, Some((6, 3, false)));
        assert_eq!(code(&followed, &marker(6, 3, 2)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn an_older_coordinator_is_fenced_before_anything_else() {
        let open = known(5, true, Some((5, 3, false)));
        assert_eq!(code(&open, &marker(6, 2, 2)), Err(ErrorCode::TransactionCoordinatorFenced));
        assert_eq!(code(&open, &marker(1, 2, 1)), Err(ErrorCode::TransactionCoordinatorFenced));
        for bad in [marker(-1, 3, 2), marker(6, -1, 2)] {
            assert_eq!(code(&open, &bad), Err(ErrorCode::InvalidRequest));
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(cut_name("abc"), "abc");
        let long = "\u{e9}".repeat(200);
        assert_eq!(cut_name(&long).len(), NAME_BYTES);
        let odd = format!("a{long}");
        assert_eq!(cut_name(&odd).len(), NAME_BYTES - 1);
    }
}
