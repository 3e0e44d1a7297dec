//! How fast a replica is brought up while others are written: as fast as their syncs allow.
//!
//! What is pulled goes to the disk that every acknowledgement waits for, and there may be terabytes of it. While
//! groups here are synced, installs begin slowly, go faster as long as syncs take what they usually do, and slower as
//! soon as they take longer: additive increase, multiplicative decrease. Only what was held back by the pace makes it
//! faster: a pull that waits for something else says nothing about what the disk bears. Where nobody waits for syncs
//! there is no limit.
use model::Mono;

/// Bytes a second at the beginning, and at the least: a terabyte in 17 hours.
const FLOOR: u64 = 16 << 20;
/// Added where no sync was slow for so long, ms.
const STEP: u64 = 4 << 20;
const STEP_MS: i64 = 50;
/// Beyond this there is nothing to win.
const CEILING: u64 = 2 << 30;
/// Without a sync for so long nobody waits for one, ms.
const QUIET_MS: i64 = 1_000;
/// Syncs that are slow together count once, ms.
const SLOWER_EVERY_MS: i64 = 100;
/// A sync is slow that takes half as long again as usual and so much more, microseconds.
const MARGIN_MICROS: u64 = 1_000;

/// The pace of all installs of a node.
#[derive(Debug, Default)]
pub(crate) struct InstallPace {
    /// What a sync takes while nothing is pulled, microseconds.
    usual: u64,
    rate: u64,
    last_sync: Option<Mono>,
    /// When the rate changed last.
    slower_at: Option<Mono>,
    faster_at: Option<Mono>,
    /// Whether the pace held a pull back since it changed.
    held: bool,
}

impl InstallPace {
    /// Groups were synced, in `micros`; `pulls`: while replicas were brought up here.
    pub(crate) fn on_sync(&mut self, now: Mono, micros: u64, pulls: bool) {
        let began = self.last_sync.replace(now).is_none_or(|last| last.after_ms(QUIET_MS) < now);
        if !pulls {
            self.usual = if self.usual == 0 { micros } else { (self.usual * 15 + micros) / 16 };
            self.rate = FLOOR;
            self.held = false;
            return;
        }
        if began {
            self.rate = FLOOR;
        }
        let lately = |at: Option<Mono>, ms| at.is_some_and(|at| at.after_ms(ms) > now);
        if micros > self.usual + self.usual / 2 + MARGIN_MICROS {
            if !lately(self.slower_at, SLOWER_EVERY_MS) {
                self.slower_at = Some(now);
                self.rate = (self.rate / 4 * 3).max(FLOOR);
            }
            self.faster_at = Some(now);
        } else if self.held && !lately(self.faster_at, STEP_MS) {
            self.held = false;
            self.faster_at = Some(now);
            self.rate = (self.rate + STEP).min(CEILING);
        }
    }

    /// A pull waits for its share of the rate.
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    /// Bytes a second while groups are synced.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.max(FLOOR)
    }

    /// Bytes a second that may be pulled now; 0 for no limit. `configured`: the operator's, likewise.
    pub(crate) fn limit(&self, now: Mono, configured: i64) -> i64 {
        if self.last_sync.is_none_or(|last| last.after_ms(QUIET_MS) < now) {
            return configured;
        }
        let rate = i64::try_from(self.rate()).unwrap_or(i64::MAX);
        if configured > 0 { rate.min(configured) } else { rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Mono {
        Mono(0).after_ms(ms)
    }

    /// Syncs of `micros` every 10 ms for a second from `from` on, while there is more to pull than the pace lets.
    fn second(pace: &mut InstallPace, from: i64, micros: u64, pulls: bool) {
        for n in 0..100 {
            pace.hold();
            pace.on_sync(at(from + n * 10), micros, pulls);
        }
    }

    #[test]
    fn without_syncs_there_is_no_limit_but_the_operators() {
        let mut pace = InstallPace::default();
        assert_eq!((pace.limit(at(0), 0), pace.limit(at(0), 5)), (0, 5));
        second(&mut pace, 0, 1_000, false);
        assert_eq!(pace.limit(at(1_000), 0), FLOOR as i64);
        assert_eq!(pace.limit(at(1_000), 5), 5);
        assert_eq!(pace.limit(at(3_000), 0), 0);
    }

    #[test]
    fn it_goes_faster_while_syncs_are_as_usual_and_slower_when_they_are_not() {
        let mut pace = InstallPace::default();
        second(&mut pace, 0, 1_000, false);
        second(&mut pace, 1_000, 2_000, true);
        let fast = pace.limit(at(2_000), 0);
        assert_eq!(fast as u64, FLOOR + 20 * STEP);
        pace.on_sync(at(2_010), 5_000, true);
        pace.on_sync(at(2_020), 5_000, true);
        assert_eq!(pace.limit(at(2_020), 0), fast / 4 * 3);
        second(&mut pace, 2_030, 50_000, true);
        assert_eq!(pace.limit(at(3_030), 0), FLOOR as i64);
    }

    #[test]
    fn a_pull_that_the_pace_does_not_hold_back_does_not_make_it_faster() {
        let mut pace = InstallPace::default();
        second(&mut pace, 0, 1_000, false);
        (0..500).for_each(|n| pace.on_sync(at(1_000 + n * 10), 1_000, true));
        assert_eq!(pace.rate(), FLOOR);
    }

    #[test]
    fn who_begins_to_write_meanwhile_is_given_room_at_once() {
        let mut pace = InstallPace::default();
        pace.on_sync(at(0), 1_000, false);
        assert_eq!(pace.limit(at(5_000), 0), 0);
        pace.hold();
        pace.on_sync(at(5_000), 1_000, true);
        assert_eq!(pace.limit(at(5_000), 0) as u64, FLOOR + STEP);
    }
}
