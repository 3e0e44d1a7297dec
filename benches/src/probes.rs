//! What the machine itself does in the same hour: figures are only comparable beside these.
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Costs of the machine's own primitives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Probes {
    /// Appending to a new file, CPU-seconds per GB; above 0.35 the guest's memory was cold.
    pub(crate) append_cpu_s_per_gb: f64,
    /// 64 KiB append and fdatasync, median ms.
    pub(crate) sync_64k_ms: f64,
    /// Copying 64 MB in memory, GB/s.
    pub(crate) memcpy_gb_s: f64,
}

fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let field = |n: usize| after.split(' ').nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (field(11) + field(12)) / 100.0
}

/// Runs all probes in `dir`.
pub(crate) fn probe(dir: &Path) -> Result<Probes> {
    let block = vec![7u8; 1 << 20];
    let path = dir.join("probe");
    let before = own_cpu();
    let mut file = std::fs::File::create(&path)?;
    for _ in 0..1000 {
        file.write_all(&block)?;
    }
    let append = (own_cpu() - before) / 1.048_576;
    drop(file);
    let mut file = std::fs::File::create(&path)?;
    let mut syncs = Vec::new();
    for _ in 0..100 {
        file.write_all(&block[..64 << 10])?;
        let start = Instant::now();
        file.sync_data()?;
        syncs.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(&path)?;
    syncs.sort_by(f64::total_cmp);
    let (from, mut to) = (vec![1u8; 64 << 20], vec![0u8; 64 << 20]);
    let start = Instant::now();
    for _ in 0..8 {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    }
    let memcpy = 8.0 * from.len() as f64 / 1e9 / start.elapsed().as_secs_f64();
    Ok(Probes { append_cpu_s_per_gb: append, sync_64k_ms: syncs[50], memcpy_gb_s: memcpy })
}

/// Fills the page cache with a ballast file until little memory is free: memory that the guest did not
/// touch lately costs seconds per GB, and whoever runs first would pay.
pub(crate) fn warm_memory(dir: &Path) -> Result<()> {
    let path = dir.join("ballast");
    let block = vec![3u8; 4 << 20];
    let mut file = std::fs::File::create(&path)?;
    while free_mb() > 400.0 && file.metadata()?.len() < (32 << 30) {
        file.write_all(&block)?;
    }
    Ok(())
}

fn free_mb() -> f64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("MemFree:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}
