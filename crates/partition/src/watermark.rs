//! What readers may see. High watermark, last stable offset and log start move only forward, together
//! with one applied position.
use model::Offset;

/// The three offsets that a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermarks {
    high: Offset,
    log_start: Offset,
}

impl Watermarks {
    /// At the applied position `high` with the committed log start.
    pub(crate) fn new(high: Offset, log_start: Offset) -> Watermarks {
        assert!(log_start <= high, "log start {log_start} is above the high watermark {high}");
        Watermarks { high, log_start }
    }

    pub(crate) fn high(&self) -> Offset {
        self.high
    }

    /// max(log start, min(first open transaction, high watermark)). No transaction is ever open yet:
    /// transactional batches are refused.
    pub(crate) fn last_stable(&self) -> Offset {
        self.high.max(self.log_start)
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Moves the high watermark; whether it moved. Panics if it would go back.
    pub(crate) fn advance(&mut self, high: Offset) -> bool {
        assert!(high >= self.high, "the high watermark would fall from {} to {high}", self.high);
        let moved = high > self.high;
        self.high = high;
        moved
    }

    /// Moves the log start to a committed one; whether it moved. Older commands change nothing.
    pub(crate) fn move_log_start(&mut self, offset: Offset) -> bool {
        let offset = offset.min(self.high);
        let moved = offset > self.log_start;
        self.log_start = self.log_start.max(offset);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_start_moves_forward_up_to_the_high_watermark() {
        let mut marks = Watermarks::new(10, 0);
        assert!(marks.move_log_start(4));
        assert!(!marks.move_log_start(3));
        assert!(marks.move_log_start(50));
        assert_eq!((marks.log_start(), marks.high(), marks.last_stable()), (10, 10, 10));
        assert!(!marks.advance(10));
        assert!(marks.advance(11));
    }

    #[test]
    #[should_panic(expected = "would fall")]
    fn the_high_watermark_never_falls() {
        Watermarks::new(10, 0).advance(9);
    }
}
