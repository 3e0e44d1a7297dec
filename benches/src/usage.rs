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
    /// Of the process's CPU, what our thread took that fills and recycles the file pool and unlinks.
    #[serde(default)]
    pub(crate) background_s: f64,
    pub(crate) rss_mb: f64,
    pub(crate) anonymous_mb: f64,
    pub(crate) peak_mb: f64,
    /// Resident memory in which what several processes share counts once.
    #[serde(default)]
    pub(crate) pss_mb: f64,
}

const TICKS: f64 = 100.0;

/// User and system seconds of a `stat` file.
fn seconds(stat: &str) -> (f64, f64) {
    // The second field is the command in parentheses and may hold anything.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = |n: usize| after.split(' ').nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) / TICKS, ticks(12) / TICKS)
}

fn background(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats
        .filter(|stat| stat.contains("(disk-background)"))
        .map(|stat| seconds(&stat).0 + seconds(&stat).1)
        .sum()
}

/// Reads the counters of process `pid`.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the broker is gone")?;
    let (user_s, system_s) = seconds(&stat);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mb_of = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default() * 1024.0 / 1e6
    };
    let shares = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let machine = fs::read_to_string("/proc/stat")?;
    let mb = |name: &str| mb_of(&status, name);
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
        user_s,
        system_s,
        machine_s: busy / TICKS,
        background_s: background(pid),
        rss_mb: mb("VmRSS:"),
        anonymous_mb: mb("RssAnon:"),
        peak_mb: mb("VmHWM:"),
        pss_mb: mb_of(&shares, "Pss:"),
    })
}

impl Usage {
    /// CPU between two readings; memory of the later one.
    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
            machine_s: self.machine_s - before.machine_s,
            background_s: self.background_s - before.background_s,
            ..self
        }
    }

    /// Two processes together.
    pub(crate) fn and(self, other: Usage) -> Usage {
        Usage {
            user_s: self.user_s + other.user_s,
            system_s: self.system_s + other.system_s,
            machine_s: other.machine_s,
            background_s: self.background_s + other.background_s,
            rss_mb: self.rss_mb + other.rss_mb,
            anonymous_mb: self.anonymous_mb + other.anonymous_mb,
            peak_mb: self.peak_mb + other.peak_mb,
            pss_mb: self.pss_mb + other.pss_mb,
        }
    }

    /// The CPU of an earlier span and of this one; memory of the later.
    pub(crate) fn after(self, later: Usage) -> Usage {
        Usage {
            user_s: self.user_s + later.user_s,
            system_s: self.system_s + later.system_s,
            machine_s: self.machine_s + later.machine_s,
            background_s: self.background_s + later.background_s,
            ..later
        }
    }

    /// User and system seconds together.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}
