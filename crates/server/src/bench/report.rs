//! Figures and how they are printed.
#![allow(clippy::print_stdout)]
use serde::Serialize;
use std::time::Duration;

/// Latencies of one thread, in microseconds.
#[derive(Default, Debug)]
pub(super) struct Latencies(Vec<u32>);

impl Latencies {
    pub(super) fn push(&mut self, taken: Duration) {
        self.0.push(u32::try_from(taken.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn merge(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    fn at(&self, share: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        let last = self.0.len() - 1;
        let rank = ((last as f64) * share).round() as usize;
        f64::from(self.0[rank.min(last)]) / 1000.0
    }
}

/// What a run saw.
#[derive(Default, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    /// As records before compression.
    pub(super) uncompressed_bytes: u64,
    pub(super) records: u64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    /// The code of the first of them.
    pub(super) first_error: Option<i16>,
    pub(super) mb_per_s: f64,
    pub(super) requests_per_s: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
    /// User and system seconds of this process.
    pub(super) client_user_s: f64,
    pub(super) client_system_s: f64,
}

impl Figures {
    /// Completes the derived figures and prints all.
    pub(super) fn print(
        mut self,
        taken: Duration,
        mut latencies: Latencies,
        json: bool,
    ) -> anyhow::Result<()> {
        latencies.0.sort_unstable();
        self.seconds = taken.as_secs_f64();
        self.mb_per_s = self.bytes as f64 / 1e6 / self.seconds;
        self.requests_per_s = self.requests as f64 / self.seconds;
        self.p50_ms = latencies.at(0.5);
        self.p99_ms = latencies.at(0.99);
        self.p999_ms = latencies.at(0.999);
        self.max_ms = latencies.at(1.0);
        (self.client_user_s, self.client_system_s) = own_cpu();
        if json {
            println!("{}", serde_json::to_string(&self)?);
            return Ok(());
        }
        println!("{:>12.1} MB/s", self.mb_per_s);
        println!("{:>12.0} requests/s", self.requests_per_s);
        println!("{:>12} records, {} requests, {} errors", self.records, self.requests, self.errors);
        println!(
            "{:>12.2} ms p50, {:.2} p99, {:.2} p99.9, {:.2} max",
            self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms
        );
        println!("{:>12.2} s user, {:.2} s system in this client", self.client_user_s, self.client_system_s);
        Ok(())
    }
}

fn own_cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let field =
        |n: usize| after.split(' ').nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default() / 100.0;
    (field(11), field(12))
}
