//! The tables.
use crate::rows::{Figure, Goal, ROWS, Row};
use crate::run::{Measured, Place, Sample};
use crate::systems::Durability;
use anyhow::Result;
use std::fmt::Write as _;

/// Median, least, most.
fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        all => (all[all.len() / 2], all[0], all[all.len() - 1]),
    }
}

/// Medians of a figure: ours, Kafka's.
fn both(measured: &Measured, figure: impl Fn(&Sample) -> f64) -> (f64, f64) {
    let ours = measured.pairs.iter().map(|(own, _)| figure(own)).collect();
    let theirs = measured.pairs.iter().map(|(_, other)| figure(other)).collect();
    (median(ours).0, median(theirs).0)
}

/// The goal as the table says it, and whether it is met.
fn judge(figure: Figure, goal: Goal, ours: f64, ratio: f64) -> (String, &'static str) {
    let sign = if figure.higher_is_better() { "≥" } else { "≤" };
    let met = |value: f64, goal: f64| {
        let met = if figure.higher_is_better() { value >= goal } else { value <= goal };
        if met { "met" } else { "**missed**" }
    };
    match goal {
        Goal::Ratio(goal) => (format!("{sign} {goal} of Kafka's"), met(ratio, goal)),
        Goal::Ours(goal) => (format!("{sign} {goal}"), met(ours, goal)),
        Goal::OursAbove { caches, goal } => {
            (format!("{sign} {goal} + {caches} of caches"), met(ours, goal + caches))
        }
        Goal::None => (String::new(), ""),
    }
}

fn line(table: &mut String, row: &Row, measured: &Measured, figure: Figure, goal: Goal) -> Result<()> {
    let (ours, theirs) = both(measured, |sample| sample.figure(figure));
    let ratios =
        measured.pairs.iter().map(|(own, other)| own.figure(figure) / other.figure(figure)).collect();
    let (middle, low, high) = median(ratios);
    let (goal, met) = judge(figure, goal, ours, middle);
    writeln!(
        table,
        "| {} | {} | {ours:.3} | {theirs:.3} | {middle:.3} ({low:.3} to {high:.3}) | {goal} | {met} | {} |",
        row.name,
        figure.name(),
        measured.pairs.len(),
    )?;
    Ok(())
}

fn kept(place: &Place, row: &Row) -> Result<Option<Measured>> {
    match std::fs::read(place.results().join(format!("{}.json", row.name))) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(_) => Ok(None),
    }
}

fn table(place: &Place, durability: Durability) -> Result<String> {
    let mut out = String::from(
        "| row | figure | Plimsoll | Apache Kafka | ratio, median (min to max) | goal | | pairs |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in ROWS.iter().filter(|r| r.durability == durability) {
        match kept(place, row)? {
            Some(measured) => {
                for (figure, goal) in row.goals {
                    line(&mut out, row, &measured, *figure, *goal)?;
                }
            }
            None => writeln!(out, "| {} | not measured on this commit | | | | | | |", row.name)?,
        }
    }
    Ok(out)
}

/// User-space and kernel seconds: the kernel's socket and page-cache cost is the same for both.
fn cpu_apart(place: &Place) -> Result<String> {
    let mut out = String::from(
        "| row | Plimsoll user | kernel | of it file pool and unlinking | Apache Kafka user | kernel |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in ROWS.iter().filter(|r| !r.load.starts_anew()) {
        let Some(measured) = kept(place, row)? else { continue };
        let user = both(&measured, |s| s.broker.user_s / s.gb());
        let system = both(&measured, |s| s.broker.system_s / s.gb());
        let pool = both(&measured, |s| s.broker.background_s / s.gb());
        writeln!(
            out,
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            row.name, user.0, system.0, pool.0, user.1, system.1
        )?;
    }
    Ok(out)
}

fn probes(place: &Place) -> Result<String> {
    let mut out = String::from(
        "| row | seconds a run | append CPU-s/GB | 64 KiB sync ms | memcpy GB/s | pool fill CPU-s/GB | GB/s | \
         file system of its own |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let Some(measured) = kept(place, row)? else { continue };
        let p = &measured.probes;
        writeln!(
            out,
            "| {} | {} | {:.2} | {:.2} | {:.1} | {:.2} | {:.2} | {} |",
            row.name,
            measured.seconds,
            median(p.append_cpu_s_per_gb.clone()).0,
            p.sync_64k_ms,
            p.memcpy_gb_s,
            p.pool_fill_cpu_s_per_gb,
            p.pool_fill_gb_s,
            if measured.own_file_systems { "yes" } else { "no" },
        )?;
    }
    Ok(out)
}

/// Prints the rows measured on this commit and writes them to docs/benchmarks.md, unless this is a trial.
pub(crate) fn write(place: &Place) -> Result<()> {
    let mut out = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench` at commit {} of `crates/`, beside Apache Kafka 4.4.0 with a \
         heap of 1 GB. Both brokers on one machine, runs in alternating pairs on fresh topics after one run each \
         to warm up, each broker on an ext4 image of its own, the page cache filled before each run; ratio = ours / \
         Apache Kafka's, median of the per-pair ratios. CPU is that of the broker's process; the load generator's is not \
         in it.\n\n",
        place.commit
    );
    writeln!(out, "## Page cache (`write.caching=true` against Kafka's default)\n")?;
    out.push_str(&table(place, Durability::PageCache)?);
    writeln!(out, "\n## Fsync (our default against `flush.messages=1`)\n")?;
    out.push_str(&table(place, Durability::Fsync)?);
    writeln!(out, "\n## At rest, starts, many partitions (defaults of each: ours syncs, Kafka does not)\n")?;
    out.push_str(&table(place, Durability::Defaults)?);
    writeln!(out, "\n## Broker CPU-seconds per GB, user space and kernel apart\n")?;
    out.push_str(&cpu_apart(place)?);
    writeln!(out, "\n## Rows\n")?;
    for row in ROWS {
        writeln!(out, "- `{}`: {}", row.name, row.what)?;
    }
    writeln!(
        out,
        "\n## The machine in the same hour\n\nAn append is measured before each run: the median. Above \
         0.35 CPU-s/GB the guest's memory was cold, or the machine slower by half, and the row does not count. Filling the pool is paid once per file and is within the CPU of the rows.\n"
    )?;
    out.push_str(&probes(place)?);
    if !place.trial {
        std::fs::write(place.root.join("docs/benchmarks.md"), &out)?;
    }
    print!("{out}");
    Ok(())
}
