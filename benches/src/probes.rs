//! What the machine itself does in the same hour: figures are only comparable beside these.
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// More than a row's runs free together; a hole takes no room.
const BALLAST_BYTES: u64 = 4 << 40;

/// Costs of the machine's own primitives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Probes {
    /// Appending to a new file, CPU-seconds per GB, once for each run; above 0.35 the guest's memory was cold.
    pub(crate) append_cpu_s_per_gb: Vec<f64>,
    /// 64 KiB append and fdatasync, median ms.
    pub(crate) sync_64k_ms: f64,
    /// Copying 64 MB in memory, GB/s.
    pub(crate) memcpy_gb_s: f64,
    /// Filling files of the pool as the broker does, CPU-seconds per GB and GB/s.
    #[serde(default)]
    pub(crate) pool_fill_cpu_s_per_gb: f64,
    #[serde(default)]
    pub(crate) pool_fill_gb_s: f64,
}

fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let field = |n: usize| after.split(' ').nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (field(11) + field(12)) / 100.0
}

/// What a file of the pool costs once, before it is recycled for ever: (CPU-seconds per GB, GB/s).
fn pool_fill(dir: &Path) -> Result<(f64, f64)> {
    let (cpu, start) = (own_cpu(), Instant::now());
    let zeros = vec![0u8; 1 << 20];
    let (files, file_bytes) = (16, 32 << 20);
    for n in 0..files {
        let path = dir.join(format!("probe-{n}"));
        let mut file = std::fs::File::create(&path)?;
        for _ in 0..file_bytes / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_data()?;
    }
    let gb = f64::from(files) * file_bytes as f64 / 1e9;
    let figures = ((own_cpu() - cpu) / gb, gb / start.elapsed().as_secs_f64());
    (0..files).try_for_each(|n| std::fs::remove_file(dir.join(format!("probe-{n}"))))?;
    Ok(figures)
}

/// CPU-seconds per GB of appending to a new file in `dir`.
pub(crate) fn append(dir: &Path) -> Result<f64> {
    let block = vec![7u8; 1 << 20];
    let path = dir.join("probe");
    let before = own_cpu();
    let mut file = std::fs::File::create(&path)?;
    for _ in 0..1000 {
        file.write_all(&block)?;
    }
    let spent = own_cpu() - before;
    std::fs::remove_file(&path)?;
    Ok(spent / 1.048_576)
}

/// Runs all probes in `dir`.
pub(crate) fn probe(dir: &Path) -> Result<Probes> {
    let append = append(dir)?;
    let block = vec![7u8; 64 << 10];
    let path = dir.join("probe");
    let mut file = std::fs::File::create(&path)?;
    let mut syncs = Vec::new();
    for _ in 0..100 {
        file.write_all(&block)?;
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
    let (pool_fill_cpu_s_per_gb, pool_fill_gb_s) = pool_fill(dir)?;
    Ok(Probes {
        append_cpu_s_per_gb: vec![append],
        sync_64k_ms: syncs[50],
        memcpy_gb_s: memcpy,
        pool_fill_cpu_s_per_gb,
        pool_fill_gb_s,
    })
}

/// A file that fills the page cache, so that no memory is free for long enough to go cold; removed when dropped.
///
/// Memory that the guest did not touch lately costs seconds per GB, and whoever runs first would pay. The file
/// is one hole: its pages are clean, cost no disk, and are given up as soon as the brokers want them.
pub(crate) struct Ballast {
    path: PathBuf,
    hole: std::fs::File,
}

impl Ballast {
    /// A ballast in `dir` that holds nothing yet.
    pub(crate) fn new(dir: &Path) -> Result<Ballast> {
        let path = dir.join("ballast");
        std::fs::File::create(&path)?.set_len(BALLAST_BYTES)?;
        let hole = std::fs::File::open(&path)?;
        Ok(Ballast { path, hole })
    }

    /// Takes what is free by now, what a run's deleted files left too: until 400 MB are left, or until reading
    /// more leaves as much free as before, because the rest is not for us (a limit of the control group).
    pub(crate) fn refill(&mut self) -> Result<()> {
        let mut block = vec![0u8; 4 << 20];
        let mut free = free_mb();
        loop {
            for _ in 0..64 {
                if free_mb() < 400.0 || self.hole.read(&mut block)? == 0 {
                    return Ok(());
                }
            }
            let left = free_mb();
            if left > free - 64.0 {
                return Ok(());
            }
            free = left;
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn free_mb() -> f64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("MemFree:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}
