//! Time as the pure crates see it: handed in, never asked for.
use std::time::Duration;

/// Nanoseconds of a monotonic clock with an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// This moment plus `d`; saturates.
    pub fn after(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This moment plus `ms` milliseconds; saturates, negative counts as 0.
    pub fn after_ms(self, ms: i64) -> Mono {
        Mono(self.0.saturating_add((ms.max(0) as u64).saturating_mul(1_000_000)))
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks at one moment: every `step` takes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For timeouts: never goes back.
    pub mono: Mono,
    /// For timestamps: milliseconds since 1970, may jump.
    pub wall: crate::WallMs,
}
