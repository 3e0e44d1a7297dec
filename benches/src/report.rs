//! The tables.
use crate::rows::{Figure, ROWS, Row};
use crate::run::{Measured, Place};
use crate::systems::Durability;
use anyhow::Result;
use std::fmt::Write as _;

fn median(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    match values {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        all => (all[all.len() / 2], all[0], all[all.len() - 1]),
    }
}

fn name(figure: Figure) -> &'static str {
    match figure {
        Figure::CpuPerGb => "CPU-s/GB",
        Figure::UserCpuPerGb => "user CPU-s/GB",
        Figure::Throughput => "MB/s",
        Figure::RequestsPerCpu => "requests/CPU-s",
        Figure::P99 => "p99 ms",
        Figure::P999 => "p99.9 ms",
        Figure::Rss => "RSS MB",
    }
}

fn line(table: &mut String, row: &Row, measured: &Measured, figure: Figure, goal: f64) -> Result<()> {
    let of = |pick: fn(&(crate::run::Sample, crate::run::Sample)) -> &crate::run::Sample| {
        let mut all: Vec<f64> = measured.pairs.iter().map(|p| pick(p).figure(figure)).collect();
        median(&mut all).0
    };
    let mut ratios: Vec<f64> =
        measured.pairs.iter().map(|(a, b)| a.figure(figure) / b.figure(figure)).collect();
    let (middle, low, high) = median(&mut ratios);
    let higher = matches!(figure, Figure::Throughput | Figure::RequestsPerCpu);
    let met = if higher { middle >= goal } else { middle <= goal };
    writeln!(
        table,
        "| {} | {} | {:.3} | {:.3} | {middle:.2} ({low:.2} to {high:.2}) | {} {goal} | {} |",
        row.name,
        name(figure),
        of(|p| &p.0),
        of(|p| &p.1),
        if higher { ">=" } else { "<=" },
        if met { "yes" } else { "no" },
    )?;
    Ok(())
}

fn table(place: &Place, durability: Durability) -> Result<String> {
    let mut out = String::from(
        "| row | figure | Plimsoll | Apache Kafka | ratio, median (min to max) | goal | met |\n|---|---|---|---|---|---|---|\n",
    );
    for row in ROWS.iter().filter(|r| r.durability == durability) {
        let Ok(bytes) = std::fs::read(place.results().join(format!("{}.json", row.name))) else { continue };
        let measured: Measured = serde_json::from_slice(&bytes)?;
        for (figure, goal) in row.goals {
            line(&mut out, row, &measured, *figure, *goal)?;
        }
    }
    Ok(out)
}

/// Writes docs/benchmarks.md from the rows measured on this commit.
pub(crate) fn write(place: &Place) -> Result<()> {
    let mut out = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench` at commit {} of `crates/`. Both brokers on one machine, runs \
         in alternating pairs on fresh topics, each broker on a file system of its own; ratio = ours / Apache \
         Kafka's, median of the per-pair ratios. CPU is the broker's process, the load generator's is not in it.\n\n",
        place.commit
    );
    writeln!(out, "## Page cache (`write.caching=true` against Kafka's default)\n")?;
    out.push_str(&table(place, Durability::PageCache)?);
    writeln!(out, "\n## Fsync (our default against `flush.messages=1`)\n")?;
    out.push_str(&table(place, Durability::Fsync)?);
    writeln!(out, "\n## Rows\n")?;
    for row in ROWS {
        writeln!(out, "- `{}`: {}", row.name, row.what)?;
    }
    writeln!(
        out,
        "\n## Probes of the same hour\n\n| row | append CPU-s/GB | 64 KiB sync ms | memcpy GB/s |\n|---|---|---|---|"
    )?;
    for row in ROWS {
        let Ok(bytes) = std::fs::read(place.results().join(format!("{}.json", row.name))) else { continue };
        let p = serde_json::from_slice::<Measured>(&bytes)?.probes;
        writeln!(
            out,
            "| {} | {:.2} | {:.2} | {:.1} |",
            row.name, p.append_cpu_s_per_gb, p.sync_64k_ms, p.memcpy_gb_s
        )?;
    }
    std::fs::write(place.root.join("docs/benchmarks.md"), &out)?;
    print!("{out}");
    Ok(())
}
