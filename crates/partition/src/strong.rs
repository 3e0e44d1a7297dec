//! What only a leader of the present may say: strong reads, and refusals that rest on what the log holds.
//!
//! A leader that was cut off does not know that another one leads. Before it answers these it asks the others
//! whether it still leads (ReadIndex, raft-thesis 6.4). One round is under way at a time; whoever comes
//! meanwhile shares the next.
use crate::api::{AppendError, PartitionFx};
use crate::partition::{Partition, Phase};
use model::planted::{Bug, planted};
use model::{ErrorCode, Now};
use storage::Directory;

/// What waits for a confirmation.
#[derive(Debug)]
enum Waiting {
    /// See [`Partition::confirm`].
    Read(u64),
    /// An append that is refused for good, if this is the log that decides.
    Refusal(u64, AppendError),
}

impl Waiting {
    fn confirmed(self) -> PartitionFx {
        match self {
            Waiting::Read(token) => PartitionFx::Confirmed { token, result: Ok(()) },
            Waiting::Refusal(token, error) => PartitionFx::AppendDone { token, result: Err(error) },
        }
    }

    /// Another node may know better.
    fn refused(self, code: ErrorCode) -> PartitionFx {
        match self {
            Waiting::Read(token) => PartitionFx::Confirmed { token, result: Err(code) },
            Waiting::Refusal(token, error) => {
                let error = AppendError { log_start: error.log_start, ..AppendError::bare(code) };
                PartitionFx::AppendDone { token, result: Err(error) }
            }
        }
    }
}

/// What waits on one partition.
#[derive(Debug, Default)]
pub(crate) struct Strong {
    /// Came since the last round began.
    gathering: Vec<Waiting>,
    /// The round under way.
    round: Option<(u64, Vec<Waiting>)>,
    /// Confirmed; answered when entries up to this index are applied.
    confirmed: Vec<(u64, Vec<Waiting>)>,
    rounds: u64,
    /// A round of this reign was confirmed.
    was_confirmed: bool,
}

impl Strong {
    fn gather(&mut self, waiting: Waiting, fx: &mut Vec<PartitionFx>) {
        if self.gathering.is_empty() {
            fx.push(PartitionFx::WantsRound);
        }
        self.gathering.push(waiting);
    }

    /// The majority followed this leader after `round` had begun; `index` was committed when it did.
    pub(crate) fn on_confirmed(&mut self, round: u64, index: u64) {
        if let Some((_, waiting)) = self.round.take_if(|(number, _)| *number == round) {
            self.confirmed.push((index, waiting));
            self.was_confirmed = true;
        }
    }

    /// Entries up to `applied` are.
    pub(crate) fn answer(&mut self, applied: u64, fx: &mut Vec<PartitionFx>) {
        for (_, waiting) in self.confirmed.extract_if(.., |(index, _)| *index <= applied) {
            fx.extend(waiting.into_iter().map(Waiting::confirmed));
        }
    }

    /// Whatever waits is not confirmed.
    pub(crate) fn refuse(&mut self, code: ErrorCode, fx: &mut Vec<PartitionFx>) {
        let waiting = self.confirmed.drain(..).chain(self.round.take()).flat_map(|(_, waiting)| waiting);
        fx.extend(waiting.chain(self.gathering.drain(..)).map(|w| w.refused(code)));
        self.was_confirmed = false;
    }
}

impl Partition {
    /// Asks whether this replica leads at present; the answer is `PartitionFx::Confirmed` with `token`, and
    /// everything that was committed when it was asked is applied then. A replica that is all of its group
    /// need not ask. What waits for others waits for [`Partition::begin_round`].
    pub fn confirm(&mut self, token: u64, fx: &mut Vec<PartitionFx>) {
        if self.leader_epoch().is_none() {
            let code =
                if let Phase::Failed(code) = self.phase { code } else { ErrorCode::NotLeaderOrFollower };
            return fx.push(PartitionFx::Confirmed { token, result: Err(code) });
        }
        let kept = planted(Bug::StaleLeaseKept) && self.strong.was_confirmed;
        if self.is_alone() || kept {
            return fx.push(PartitionFx::Confirmed { token, result: Ok(()) });
        }
        self.strong.gather(Waiting::Read(token), fx);
    }

    /// Refuses an append for good, as soon as it is sure that no other leader took it.
    pub(crate) fn refuse_append(&mut self, token: u64, error: AppendError, fx: &mut Vec<PartitionFx>) {
        let of_the_log = matches!(
            error.code,
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidTxnState
                | ErrorCode::TransactionCoordinatorFenced
        );
        if of_the_log && !self.is_alone() {
            self.strong.gather(Waiting::Refusal(token, error), fx);
        } else {
            fx.push(PartitionFx::AppendDone { token, result: Err(error) });
        }
    }

    /// Asks the others on behalf of all that wait, unless they are being asked. `true`: call it again after the
    /// next input, something waits still.
    pub fn begin_round(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) -> bool {
        if self.strong.gathering.is_empty() {
            return false;
        }
        // A new leader asks when its own no-op is committed.
        if self.strong.round.is_some() || self.leader_epoch().is_none() {
            return true;
        }
        self.strong.rounds += 1;
        let round = self.strong.rounds;
        if !self.group.read_index(round) {
            return true;
        }
        self.strong.round = Some((round, std::mem::take(&mut self.strong.gathering)));
        self.pump(now, dir, fx);
        false
    }

    /// Whether a round is under way that a majority has not confirmed.
    pub fn is_confirming(&self) -> bool {
        self.strong.round.is_some()
    }

    /// What waits for a confirmation is refused: none can come.
    pub fn refuse_strong(&mut self, fx: &mut Vec<PartitionFx>) {
        self.strong.refuse(ErrorCode::NotLeaderOrFollower, fx);
    }

    /// Rounds that were begun since the partition was opened.
    pub fn rounds(&self) -> u64 {
        self.strong.rounds
    }
}
