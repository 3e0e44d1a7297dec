//! Judges a history. Pure: the same history gives the same verdict.
//!
//! The anomalies are those of Jepsen's workload for Kafka (`jepsen.tests.kafka`), as far as they can occur without
//! transactions, and some that a log without transactions and without compaction must not show either.
mod bounds;
mod log;
mod order;
mod power;
mod reads;

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
    /// A value was read whose send had failed for good.
    AbortedRead,
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
    /// An acknowledged offset is not above all that were acknowledged before its send began.
    StaleAppend,
    /// One offset was acknowledged to two sends.
    OffsetAckedTwice,
    /// There is an offset between others that nobody ever saw, in a log that has no markers.
    OffsetGap,
    /// One client saw a high watermark go back.
    HighWatermarkRegressed,
    /// One client saw a log's start go back.
    LogStartRegressed,
    /// An answer held records at or above the high watermark that it named.
    BeyondHighWatermark,
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
    pub const ALL: [Kind; 21] = [
        Kind::InconsistentOffsets,
        Kind::Duplicate,
        Kind::AbortedRead,
        Kind::Phantom,
        Kind::LostWrite,
        Kind::Unseen,
        Kind::PollSkip,
        Kind::NonmonotonicPoll,
        Kind::IntPollSkip,
        Kind::IntNonmonotonicPoll,
        Kind::NonmonotonicSend,
        Kind::StaleAppend,
        Kind::OffsetAckedTwice,
        Kind::OffsetGap,
        Kind::HighWatermarkRegressed,
        Kind::LogStartRegressed,
        Kind::BeyondHighWatermark,
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
            Kind::Phantom => "phantom",
            Kind::LostWrite => "lost-write",
            Kind::Unseen => "unseen",
            Kind::PollSkip => "poll-skip",
            Kind::NonmonotonicPoll => "nonmonotonic-poll",
            Kind::IntPollSkip => "int-poll-skip",
            Kind::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Kind::NonmonotonicSend => "nonmonotonic-send",
            Kind::StaleAppend => "stale-append",
            Kind::OffsetAckedTwice => "offset-acked-twice",
            Kind::OffsetGap => "offset-gap",
            Kind::HighWatermarkRegressed => "high-watermark-regressed",
            Kind::LogStartRegressed => "log-start-regressed",
            Kind::BeyondHighWatermark => "beyond-high-watermark",
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
    let logs = Logs::of(history);
    log::check(history, &logs, &mut verdict);
    reads::check(history, &logs, &mut verdict);
    order::check(history, &logs, &mut verdict);
    bounds::check(history, &mut verdict);
    for line in &history.rest {
        if let Line::Broken { process, error, .. } = line {
            verdict.found(Kind::IdempotenceBroken, || format!("process {process}: {error}"));
        }
    }
    figures(history, &logs, &mut verdict);
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
