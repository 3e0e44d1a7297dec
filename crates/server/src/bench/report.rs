//! Figures and how they are printed.
#![allow(clippy::print_stdout)]
use model::ErrorCode;
use serde::Serialize;
use std::collections::BTreeMap;
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

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn quantiles(mut self) -> Quantiles {
        self.0.sort_unstable();
        Quantiles { p50: self.at(0.5), p99: self.at(0.99), p999: self.at(0.999), max: self.at(1.0) }
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

/// Of latencies, ms.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ms p50, {:.2} p99, {:.2} p99.9, {:.2} max", self.p50, self.p99, self.p999, self.max)
    }
}

/// How often which error code came, by Kafka's name of it.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Codes(BTreeMap<String, u64>);

impl Codes {
    pub(super) fn count(&mut self, code: i16) {
        self.count_as(&name_of(code));
    }

    /// For what is no code of the protocol: a connection that broke.
    pub(super) fn count_as(&mut self, name: &str) {
        *self.0.entry(name.to_owned()).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Codes) {
        for (name, count) in other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl std::fmt::Display for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each: Vec<String> = self.0.iter().map(|(name, count)| format!("{count} {name}")).collect();
        if each.is_empty() { f.write_str("none") } else { f.write_str(&each.join(", ")) }
    }
}

/// Kafka's name of a code, or its number.
pub(super) fn name_of(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| code.to_string(), |known| known.name().to_owned())
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
    /// Counts what another connection of the same run saw.
    pub(super) fn add(&mut self, other: &Figures) {
        self.bytes += other.bytes;
        self.uncompressed_bytes += other.uncompressed_bytes;
        self.records += other.records;
        self.requests += other.requests;
        self.errors += other.errors;
        self.first_error = self.first_error.or(other.first_error);
    }

    /// Completes the derived figures.
    pub(super) fn complete(&mut self, taken: Duration, latencies: Latencies) {
        let of = latencies.quantiles();
        self.seconds = taken.as_secs_f64();
        self.mb_per_s = self.bytes as f64 / 1e6 / self.seconds;
        self.requests_per_s = self.requests as f64 / self.seconds;
        (self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms) = (of.p50, of.p99, of.p999, of.max);
        (self.client_user_s, self.client_system_s) = own_cpu();
    }

    /// Completes the derived figures and prints all.
    pub(super) fn print(mut self, taken: Duration, latencies: Latencies, json: bool) -> anyhow::Result<()> {
        self.complete(taken, latencies);
        if json {
            println!("{}", serde_json::to_string(&self)?);
            return Ok(());
        }
        self.print_lines();
        Ok(())
    }

    /// Of the latencies, once they are complete.
    pub(super) fn quantiles(&self) -> Quantiles {
        Quantiles { p50: self.p50_ms, p99: self.p99_ms, p999: self.p999_ms, max: self.max_ms }
    }

    /// For people, once they are complete.
    pub(super) fn print_lines(&self) {
        println!("{:>12.1} MB/s", self.mb_per_s);
        println!("{:>12.0} requests/s", self.requests_per_s);
        println!("{:>12} records, {} requests, {} errors", self.records, self.requests, self.errors);
        println!("{:>12} {}", "", self.quantiles());
        println!("{:>12.2} s user, {:.2} s system in this client", self.client_user_s, self.client_system_s);
    }
}

fn own_cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let field =
        |n: usize| after.split(' ').nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default() / 100.0;
    (field(11), field(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_pushed_in_any_order() {
        let mut latencies = Latencies::default();
        (1..=1000).rev().for_each(|ms| latencies.push(Duration::from_millis(ms)));
        let of = latencies.quantiles();
        assert_eq!((of.p50, of.p99, of.p999, of.max), (501.0, 990.0, 999.0, 1000.0));
        assert_eq!(Latencies::default().quantiles(), Quantiles::default());
    }

    #[test]
    fn codes_are_counted_by_their_names() {
        let mut codes = Codes::default();
        assert_eq!(codes.to_string(), "none");
        codes.count(51);
        let mut more = Codes::default();
        more.count(51);
        more.count(9999);
        codes.merge(more);
        assert_eq!((codes.total(), codes.to_string()), (3, "1 9999, 2 CONCURRENT_TRANSACTIONS".to_owned()));
    }
}
