#![allow(clippy::print_stderr)]
//! The trace of a run: everything that could differ between two runs of one seed, hashed as it happens.
use std::fmt::Write;

/// A rolling hash, and the last lines for the report.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: u64,
    /// Every line goes to standard error: `PLIMSOLL_SIM_TRACE=1`.
    loud: bool,
    recent: std::collections::VecDeque<String>,
    scratch: String,
    time: u64,
}

const RECENT: usize = 40;

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            loud: std::env::var_os("PLIMSOLL_SIM_TRACE").is_some(),
            recent: std::collections::VecDeque::new(),
            scratch: String::new(),
            time: 0,
        }
    }

    /// The simulated time, for readers of the trace.
    pub(crate) fn at(&mut self, micros: u64) {
        self.time = micros;
    }

    pub(crate) fn add(&mut self, line: std::fmt::Arguments<'_>) {
        self.scratch.clear();
        // Writing to a String cannot fail.
        let _ = self.scratch.write_fmt(line);
        for byte in self.scratch.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.lines += 1;
        if self.loud {
            eprintln!(
                "{:>6} {:>9} {}",
                self.lines,
                self.time,
                self.scratch.chars().take(200).collect::<String>()
            );
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(self.scratch.clone());
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn recent(&self) -> Vec<String> {
        self.recent.iter().cloned().collect()
    }
}
