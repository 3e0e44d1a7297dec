//! The real clocks, read once per input and handed down.
use model::{Mono, Now};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Turns the system's clocks into [`Now`].
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic zero is a little in the past, so that no deadline is zero.
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Both clocks now.
    pub(crate) fn now(&self) -> Now {
        Now { mono: Mono(self.start.elapsed().as_nanos() as u64), wall: wall_ms() }
    }

    /// Time since the clock was made.
    pub(crate) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// The instant of a moment given by the core.
    pub(crate) fn instant(&self, at: Mono) -> Instant {
        // Deadlines centuries ahead mean "never"; a day is as good and cannot overflow.
        let ahead = at.since(Mono(self.start.elapsed().as_nanos() as u64)).min(Duration::from_secs(86_400));
        Instant::now() + ahead
    }
}

/// Milliseconds since 1970 by the system's clock.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
