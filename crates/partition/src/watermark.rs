//! What readers may see. High watermark, last stable offset and log start move only forward, together
//! with one applied position.
use model::Offset;
use model::planted::{Bug, planted};

/// The three offsets that a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermarks {
    high: Offset,
    stable: Offset,
    log_start: Offset,
}

/// max(log start, min(first open transaction, high watermark)).
fn stable(log_start: Offset, high: Offset, first_open: Option<Offset>) -> Offset {
    let stable = first_open.map_or(high, |first| if planted(Bug::LsoTooHigh) { first + 1 } else { first });
    stable.min(high).max(log_start)
}

impl Watermarks {
    /// At the applied position `high` with the committed log start, and the first of the transactions that are open
    /// there.
    pub(crate) fn new(high: Offset, log_start: Offset, first_open: Option<Offset>) -> Watermarks {
        assert!(log_start <= high, "log start {log_start} is above the high watermark {high}");
        Watermarks { high, log_start, stable: stable(log_start, high, first_open) }
    }

    pub(crate) fn high(&self) -> Offset {
        self.high
    }

    /// Below it every transaction has ended (KIP-98).
    pub(crate) fn last_stable(&self) -> Offset {
        self.stable
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Moves to an applied position; whether the high watermark moved. Panics if that or the last stable offset would
    /// go back.
    pub(crate) fn advance(&mut self, high: Offset, first_open: Option<Offset>) -> bool {
        assert!(high >= self.high, "the high watermark would fall from {} to {high}", self.high);
        let stable = stable(self.log_start, high, first_open);
        assert!(stable >= self.stable, "the last stable offset would fall from {} to {stable}", self.stable);
        let moved = high > self.high;
        (self.high, self.stable) = (high, stable);
        moved
    }

    /// Moves the log start to a committed one; whether it moved. Older commands change nothing.
    pub(crate) fn move_log_start(&mut self, offset: Offset) -> bool {
        let offset = offset.min(self.high);
        let moved = offset > self.log_start;
        self.log_start = self.log_start.max(offset);
        self.stable = self.stable.max(self.log_start);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_start_moves_forward_up_to_the_high_watermark() {
        let mut marks = Watermarks::new(10, 0, None);
        assert!(marks.move_log_start(4));
        assert!(!marks.move_log_start(3));
        assert!(marks.move_log_start(50));
        assert_eq!((marks.log_start(), marks.high(), marks.last_stable()), (10, 10, 10));
        assert!(!marks.advance(10, None));
        assert!(marks.advance(11, None));
    }

    #[test]
    fn the_last_stable_offset_stays_at_the_first_open_transaction_and_above_the_log_start() {
        let mut marks = Watermarks::new(10, 0, Some(4));
        assert_eq!(marks.last_stable(), 4);
        assert!(marks.advance(20, Some(4)));
        assert_eq!((marks.last_stable(), marks.high()), (4, 20));
        assert!(marks.move_log_start(7));
        assert_eq!(marks.last_stable(), 7);
        assert!(!marks.advance(20, Some(12)));
        assert_eq!(marks.last_stable(), 12);
        marks.advance(21, Some(21));
        assert_eq!(marks.last_stable(), 21, "one that has just begun");
        marks.advance(30, None);
        assert_eq!(marks.last_stable(), 30);
    }

    #[test]
    #[should_panic(expected = "watermark would fall")]
    fn the_high_watermark_never_falls() {
        Watermarks::new(10, 0, None).advance(9, None);
    }

    #[test]
    #[should_panic(expected = "stable offset would fall")]
    fn the_last_stable_offset_never_falls() {
        Watermarks::new(10, 0, None).advance(11, Some(9));
    }
}
