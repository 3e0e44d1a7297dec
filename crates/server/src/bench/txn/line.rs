//! A partition as its producer sees it: which sequences are outstanding, and which are to be sent again.
use model::ErrorCode;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Again,
    Refused,
}

/// The sequences of one partition.
#[derive(Debug)]
pub(super) struct Line {
    /// The connection to its leader.
    pub(super) pipe: usize,
    next: i32,
    /// First sequences of batches that are not acknowledged.
    open: BTreeSet<i32>,
    /// Those of them that were refused and have not been sent again.
    again: BTreeSet<i32>,
    refused_since: Option<Instant>,
}

impl Line {
    pub(super) fn new(pipe: usize) -> Line {
        Line { pipe, next: 0, open: BTreeSet::new(), again: BTreeSet::new(), refused_since: None }
    }

    /// The sequence of the next new batch.
    pub(super) fn next(&self) -> i32 {
        self.next
    }

    /// A new batch went out; `following` is the sequence behind it. Returns its own.
    pub(super) fn sent(&mut self, following: i32) -> i32 {
        let sequence = std::mem::replace(&mut self.next, following);
        self.open.insert(sequence);
        sequence
    }

    /// The earliest batch that is to be sent again; nothing new overtakes it.
    pub(super) fn first_again(&self) -> Option<i32> {
        self.again.first().copied()
    }

    pub(super) fn sent_again(&mut self, sequence: i32) {
        self.again.remove(&sequence);
    }

    /// What the answer to a batch means. Behind a batch that was refused, being out of order is no fault; after
    /// `patience` of refusals it is.
    pub(super) fn answered(&mut self, sequence: i32, code: i16, now: Instant, patience: Duration) -> Verdict {
        let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
        if matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
            self.open.remove(&sequence);
            self.refused_since = None;
            return Verdict::Done;
        }
        let behind = self.open.first().is_some_and(|first| *first < sequence);
        let out_of_order = code == ErrorCode::OutOfOrderSequenceNumber && behind;
        let since = *self.refused_since.get_or_insert(now);
        if !(code.is_retriable() || out_of_order) || now.duration_since(since) > patience {
            return Verdict::Refused;
        }
        self.again.insert(sequence);
        Verdict::Again
    }

    /// Sequences begin at 0 again, under another epoch.
    pub(super) fn begin_anew(&mut self) {
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const CONCURRENT: i16 = 51;
    const OUT_OF_ORDER: i16 = 45;

    #[test]
    fn refused_batches_are_sent_again_in_order_and_nothing_overtakes_them() {
        let (mut line, now) = (Line::new(0), Instant::now());
        assert_eq!([line.sent(10), line.sent(20)], [0, 10]);
        assert_eq!(line.answered(0, CONCURRENT, now, LONG), Verdict::Again);
        assert_eq!(line.answered(10, OUT_OF_ORDER, now, LONG), Verdict::Again);
        assert_eq!(line.first_again(), Some(0));
        line.sent_again(0);
        assert_eq!(line.first_again(), Some(10), "the second one is still to be sent");
        line.sent_again(10);
        assert_eq!(line.answered(0, 0, now, LONG), Verdict::Done);
        assert_eq!(line.answered(10, 0, now, LONG), Verdict::Done);
        assert_eq!((line.first_again(), line.next()), (None, 20));
    }

    #[test]
    fn out_of_order_without_a_reason_is_a_fault() {
        let mut line = Line::new(0);
        line.sent(10);
        assert_eq!(line.answered(0, OUT_OF_ORDER, Instant::now(), LONG), Verdict::Refused);
    }

    #[test]
    fn a_batch_that_is_refused_for_too_long_is_given_up() {
        let (mut line, now) = (Line::new(0), Instant::now());
        line.sent(10);
        assert_eq!(line.answered(0, CONCURRENT, now, LONG), Verdict::Again);
        assert_eq!(line.answered(0, CONCURRENT, now + LONG * 2, LONG), Verdict::Refused);
    }

    #[test]
    fn a_definite_refusal_and_a_repeat_are_what_they_are() {
        let (mut line, now) = (Line::new(0), Instant::now());
        line.sent(10);
        assert_eq!(line.answered(0, 46, now, LONG), Verdict::Done);
        line.sent(20);
        assert_eq!(line.answered(10, 47, now, LONG), Verdict::Refused);
        line.begin_anew();
        assert_eq!(line.next(), 0);
    }
}
