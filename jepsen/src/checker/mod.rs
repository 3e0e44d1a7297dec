//! Judges a history. Pure: the same history gives the same verdict.
//!
//! The anomalies are those of Jepsen's workload for Kafka (`jepsen.tests.kafka`), and some that a log without
//! compaction must not show either. What became of transactions is settled first (`txn.rs`): the other parts see sends
//! that happened and sends that did not.
mod bounds;
mod cycles;
mod groups;
mod log;
mod order;
mod power;
mod reads;
mod txn;

use crate::history::{History, Line, Outcome};
use std::collections::BTreeMap;
use std::fmt;

pub use log::Logs;
pub use power::spared;

/// What is wrong with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One offset of a key has two values.
    InconsistentOffsets,
    /// One value stands at two offsets of a key, though its producer was idempotent and did not count anew.
    Duplicate,
    /// A value was read whose send had failed for good, or whose transaction was aborted (G1a).
    AbortedRead,
    /// A value was read before the commit of its transaction was asked for.
    PrecommittedRead,
    /// Of a transaction that was committed some values were read, and one that was acknowledged never.
    TornTransaction,
    /// A value was read that nobody sent to this key.
    Phantom,
    /// A value was acknowledged, something behind it was read, and nobody ever read it.
    LostWrite,
    /// A value was acknowledged and nobody read it, up to the end.
    Unseen,
    /// Successive polls of one client left something out.
    PollSkip,
    /// A poll of a client began at or before the last one's end.
    NonmonotonicPoll,
    /// As [`Kind::PollSkip`], within one poll.
    IntPollSkip,
    /// As [`Kind::NonmonotonicPoll`], within one poll.
    IntNonmonotonicPoll,
    /// Of one client's sends to a key the later one landed before the earlier one.
    NonmonotonicSend,
    /// As [`Kind::NonmonotonicSend`], within one transaction.
    IntNonmonotonicSend,
    /// Transactions read one another's values in a circle (G1c without write edges).
    ReadCycle,
    /// Two committed transactions of a group have read one record.
    ConsumedTwice,
    /// The group of the transactions is past a record that none of them has read.
    ConsumedNever,
    /// A record was consumed, and what it stands for was not passed on.
    MoneyLost,
    /// What a record stands for was passed on twice, or though the record was not consumed.
    MoneyMade,
    /// An acknowledged offset is not above all that were acknowledged before its send began.
    StaleAppend,
    /// One offset was acknowledged to two sends.
    OffsetAckedTwice,
    /// There is an offset between others that nobody ever saw, in a log that has no markers.
    OffsetGap,
    /// One client saw a high watermark go back.
    HighWatermarkRegressed,
    /// One client saw a last stable offset go back.
    LastStableRegressed,
    /// One client saw a log's start go back.
    LogStartRegressed,
    /// An answer held records at or above the high watermark that it named.
    BeyondHighWatermark,
    /// An answer for a reader of what is committed held records at or above the last stable offset that it named.
    BeyondLastStable,
    /// A group's offset is below what had been acknowledged.
    CommittedOffsetRegressed,
    /// After all was healed, a partition could not be read to its end.
    FinalReadIncomplete,
    /// After all was healed, two nodes have different entries.
    ReplicasDiffer,
    /// An idempotent producer that did nothing wrong was told that it had.
    IdempotenceBroken,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 31] = [
        Kind::InconsistentOffsets,
        Kind::Duplicate,
        Kind::AbortedRead,
        Kind::PrecommittedRead,
        Kind::TornTransaction,
        Kind::Phantom,
        Kind::LostWrite,
        Kind::Unseen,
        Kind::PollSkip,
        Kind::NonmonotonicPoll,
        Kind::IntPollSkip,
        Kind::IntNonmonotonicPoll,
        Kind::NonmonotonicSend,
        Kind::IntNonmonotonicSend,
        Kind::ReadCycle,
        Kind::ConsumedTwice,
        Kind::ConsumedNever,
        Kind::MoneyLost,
        Kind::MoneyMade,
        Kind::StaleAppend,
        Kind::OffsetAckedTwice,
        Kind::OffsetGap,
        Kind::HighWatermarkRegressed,
        Kind::LastStableRegressed,
        Kind::LogStartRegressed,
        Kind::BeyondHighWatermark,
        Kind::BeyondLastStable,
        Kind::CommittedOffsetRegressed,
        Kind::FinalReadIncomplete,
        Kind::ReplicasDiffer,
        Kind::IdempotenceBroken,
    ];

    /// Its name in reports, fixtures and the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Kind::InconsistentOffsets => "inconsistent-offsets",
            Kind::Duplicate => "duplicate",
            Kind::AbortedRead => "aborted-read",
            Kind::PrecommittedRead => "precommitted-read",
            Kind::TornTransaction => "torn-transaction",
            Kind::Phantom => "phantom",
            Kind::LostWrite => "lost-write",
            Kind::Unseen => "unseen",
            Kind::PollSkip => "poll-skip",
            Kind::NonmonotonicPoll => "nonmonotonic-poll",
            Kind::IntPollSkip => "int-poll-skip",
            Kind::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Kind::NonmonotonicSend => "nonmonotonic-send",
            Kind::IntNonmonotonicSend => "int-nonmonotonic-send",
            Kind::ReadCycle => "read-cycle",
            Kind::ConsumedTwice => "consumed-twice",
            Kind::ConsumedNever => "consumed-never",
            Kind::MoneyLost => "money-lost",
            Kind::MoneyMade => "money-made",
            Kind::StaleAppend => "stale-append",
            Kind::OffsetAckedTwice => "offset-acked-twice",
            Kind::OffsetGap => "offset-gap",
            Kind::HighWatermarkRegressed => "high-watermark-regressed",
            Kind::LastStableRegressed => "last-stable-regressed",
            Kind::LogStartRegressed => "log-start-regressed",
            Kind::BeyondHighWatermark => "beyond-high-watermark",
            Kind::BeyondLastStable => "beyond-last-stable",
            Kind::CommittedOffsetRegressed => "committed-offset-regressed",
            Kind::FinalReadIncomplete => "final-read-incomplete",
            Kind::ReplicasDiffer => "replicas-differ",
            Kind::IdempotenceBroken => "idempotence-broken",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Examples that are kept of each kind; all are counted.
const EXAMPLES: usize = 20;

/// One kind's findings.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// How many there are.
    pub count: u64,
    /// The first of them, in words.
    pub examples: Vec<String>,
}

/// Figures that are no verdict.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Sends by outcome.
    pub ok: u64,
    /// Those that never happened.
    pub fail: u64,
    /// Those of unknown outcome.
    pub info: u64,
    /// Of these, how many were read after all.
    pub info_seen: u64,
    /// Records in all polls together.
    pub read: u64,
    /// Different records among them.
    pub read_once: u64,
    /// Records that stand twice because their producer began a new epoch and sent them again under new numbers.
    pub renumbered: u64,
    /// Transactions that were committed, those of unknown outcome of which a value was read among them.
    pub committed: u64,
    /// Transactions that were aborted.
    pub aborted: u64,
    /// Those of unknown outcome.
    pub unknown: u64,
    /// Transactions whose offsets were committed with records that they read.
    pub consuming: u64,
    /// Circles of transactions that wrote to keys between one another's records (G0): Kafka allows them.
    pub write_cycles: u64,
    /// Circles of transactions by writes and reads (G1c with write edges): Kafka allows them.
    pub mixed_cycles: u64,
    /// What was paid in, where records are passed on.
    pub money_paid_in: u64,
    /// What there is of it at the end.
    pub money: u64,
}

/// What the checker says.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is wrong; empty when all is well.
    pub findings: BTreeMap<Kind, Finding>,
    /// What is worth knowing.
    pub figures: Figures,
}

impl Verdict {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The kinds that were found.
    pub fn kinds(&self) -> Vec<Kind> {
        self.findings.keys().copied().collect()
    }

    pub(crate) fn found(&mut self, kind: Kind, told: impl FnOnce() -> String) {
        let finding = self.findings.entry(kind).or_default();
        finding.count += 1;
        if finding.examples.len() < EXAMPLES {
            finding.examples.push(told());
        }
    }
}

/// Judges a whole history.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let settled = txn::settled(history);
    let logs = Logs::of(&settled);
    log::check(&settled, &logs, &mut verdict);
    reads::check(&settled, &logs, &mut verdict);
    // Acknowledged offsets follow time whatever becomes of a transaction.
    order::check(history, &logs, &mut verdict);
    txn::check(history, &mut verdict);
    cycles::check(&settled, &logs, &mut verdict);
    groups::check(&settled, &logs, &mut verdict);
    bounds::check(history, &mut verdict);
    for line in &history.rest {
        if let Line::Broken { process, error, .. } = line {
            verdict.found(Kind::IdempotenceBroken, || format!("process {process}: {error}"));
        }
    }
    figures(history, &logs, &mut verdict);
    txn_figures(&settled, &mut verdict.figures);
    verdict
}

fn figures(history: &History, logs: &Logs, verdict: &mut Verdict) {
    let figures = &mut verdict.figures;
    for send in &history.sends {
        match send.outcome {
            Outcome::Ok(_) => figures.ok += 1,
            Outcome::Fail => figures.fail += 1,
            Outcome::Info => {
                figures.info += 1;
                figures.info_seen += u64::from(logs.was_read(send.key, send.value));
            }
        }
    }
    figures.read = history.polls.iter().map(|poll| poll.records.len() as u64).sum();
    figures.read_once = logs.read_values();
}

fn txn_figures(history: &History, figures: &mut Figures) {
    for txn in history.txns.values() {
        match txn.outcome {
            Outcome::Ok(_) => figures.committed += 1,
            Outcome::Fail => figures.aborted += 1,
            Outcome::Info => figures.unknown += 1,
        }
    }
    let reading: std::collections::BTreeSet<u64> = history.polls.iter().filter_map(|poll| poll.txn).collect();
    let committed = |id: &&u64| history.txns.get(id).is_some_and(|txn| matches!(txn.outcome, Outcome::Ok(_)));
    figures.consuming = reading.iter().filter(committed).count() as u64;
}
