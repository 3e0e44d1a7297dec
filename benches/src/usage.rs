//! CPU and memory of a process, as the kernel counts them.
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;

/// CPU seconds so far, and memory now.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
    /// Busy seconds of the whole machine.
    pub(crate) machine_s: f64,
    pub(crate) rss_mb: f64,
    pub(crate) anonymous_mb: f64,
    pub(crate) peak_mb: f64,
}

const TICKS: f64 = 100.0;

/// Reads the counters of process `pid`.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the broker is gone")?;
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = |n: usize| after.split(' ').nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    let machine = fs::read_to_string("/proc/stat")?;
    let cpu: Vec<f64> = machine
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|f| f.parse().ok())
        .collect();
    let idle: f64 = cpu.iter().skip(3).take(2).sum();
    let busy = cpu.iter().take(8).sum::<f64>() - idle;
    Ok(Usage {
        user_s: ticks(11) / TICKS,
        system_s: ticks(12) / TICKS,
        machine_s: busy / TICKS,
        rss_mb: kib("VmRSS:"),
        anonymous_mb: kib("RssAnon:"),
        peak_mb: kib("VmHWM:"),
    })
}

impl Usage {
    /// CPU between two readings; memory of the later one.
    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
            machine_s: self.machine_s - before.machine_s,
            ..self
        }
    }
}
