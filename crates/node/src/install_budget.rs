//! Bytes a second that installs may take.
use model::Mono;

/// A burst: what a second's share is spent in.
const BURST_MS: u64 = 250;

/// A bucket that fills with time. It may be overdrawn by one piece.
#[derive(Debug)]
pub(crate) struct Budget {
    level: i64,
    at: Mono,
}

impl Budget {
    pub(crate) fn new(now: Mono) -> Budget {
        Budget { level: 0, at: now }
    }

    /// Whether a piece may go now, at `rate` bytes a second; 0 for no limit.
    pub(crate) fn allows(&mut self, now: Mono, rate: i64) -> bool {
        if rate <= 0 {
            // What goes without a limit is not to be paid for when there is one again.
            (self.level, self.at) = (0, now);
            return true;
        }
        let passed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let more = u128::from(rate.unsigned_abs()) * u128::from(passed) / 1_000_000;
        if more > 0 {
            self.at = now;
            let burst = (u128::from(rate.unsigned_abs()) * u128::from(BURST_MS) / 1_000).max(1);
            let burst = i64::try_from(burst).unwrap_or(i64::MAX);
            let more = i64::try_from(more).unwrap_or(i64::MAX);
            self.level = self.level.saturating_add(more).min(burst);
        }
        self.level > 0
    }

    /// So many bytes go.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.level = self.level.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time_and_none_is_no_limit() {
        let (mut budget, mut now) = (Budget::new(Mono(0)), Mono(0));
        let mut sent = 0;
        for _ in 0..1_000 {
            now = now.after_ms(10);
            while budget.allows(now, 1_000_000) {
                budget.take(64_000);
                sent += 64_000;
            }
        }
        assert!((9_900_000..=10_400_000).contains(&sent), "{sent} bytes in ten seconds");
        budget.take(1 << 40);
        assert!(budget.allows(now, 0));
    }

    #[test]
    fn what_went_without_a_limit_is_not_paid_for_later() {
        let (mut budget, mut now) = (Budget::new(Mono(0)), Mono(0));
        for _ in 0..1_000 {
            assert!(budget.allows(now, 0));
            budget.take(1 << 20);
        }
        now = now.after_ms(100);
        assert!(!budget.allows(now, 1_000_000), "the last piece is");
        assert!(budget.allows(now.after_ms(1_000), 1_100_000));
    }
}
