//! GB/s of CRC-32C by buffer size: the crate in use against the crate `crc32c`.
//! Run: `cargo bench -p plimsoll-records --bench crc`.
// A bench reads the clock; the crate must not.
#![allow(clippy::disallowed_methods)]
use std::hint::black_box;
use std::time::{Duration, Instant};

const SIZES: [usize; 4] = [100, 1024, 16 * 1024, 128 * 1024];
const ROUND: Duration = Duration::from_millis(150);
const ROUNDS: usize = 5;

/// Best of some rounds, GB/s: the best is the one that neighbours disturbed least.
fn gigabytes_per_second(bytes: &[u8], crc: impl Fn(&[u8]) -> u32) -> f64 {
    let mut best = 0f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut done = 0usize;
        while start.elapsed() < ROUND {
            for _ in 0..64 {
                black_box(crc(black_box(bytes)));
            }
            done += 64 * bytes.len();
        }
        best = best.max(done as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

fn main() {
    println!("{:>10}  {:>14}  {:>14}", "bytes", "crc-fast GB/s", "crc32c GB/s");
    for size in SIZES {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 31) as u8).collect();
        assert_eq!(records::crc32c(&bytes), crc32c::crc32c(&bytes));
        let ours = gigabytes_per_second(&bytes, records::crc32c);
        let other = gigabytes_per_second(&bytes, crc32c::crc32c);
        println!("{size:>10}  {ours:>14.1}  {other:>14.1}");
    }
}
