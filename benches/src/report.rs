//! The page, from what is kept of each row.
use crate::coordination_rows;
use crate::rows::{self, Figure, Goal, ROWS, Row};
use crate::run::Place;
use crate::summary::{FigureSummary, Summary};
use crate::systems::Durability;
use crate::three_rows;
use anyhow::Result;
use std::fmt::Write as _;

/// The goal as the table says it, and whether it is met.
fn judge(figure: Figure, goal: Goal, kept: &FigureSummary) -> (String, &'static str) {
    let sign = if figure.higher_is_better() { "≥" } else { "≤" };
    let met = |value: f64, goal: f64| {
        let met = if figure.higher_is_better() { value >= goal } else { value <= goal };
        if met { "met" } else { "**missed**" }
    };
    let ratio = kept.ratio.map_or(f64::NAN, |ratio| ratio[0]);
    match goal {
        Goal::Ratio(goal) => (format!("{sign} {goal} of Kafka's"), met(ratio, goal)),
        Goal::Ours(goal) => (format!("{sign} {goal}"), met(kept.ours, goal)),
        Goal::OursAbove { caches, goal } => {
            (format!("{sign} {goal} + {caches} of caches"), met(kept.ours, goal + caches))
        }
        Goal::None => (String::new(), ""),
    }
}

fn line(table: &mut String, row: &Row, kept: &Summary, figure: Figure, goal: Goal) -> Result<()> {
    let Some(value) = kept.figures.iter().find(|kept| kept.figure == figure.name()) else { return Ok(()) };
    let (goal, met) = judge(figure, goal, value);
    let kafka = value.kafka.map_or_else(String::new, |kafka| format!("{kafka:.3}"));
    let ratio = value
        .ratio
        .map_or_else(String::new, |[middle, least, most]| format!("{middle:.3} ({least:.3} to {most:.3})"));
    writeln!(
        table,
        "| {} | {} | {:.3} | {kafka} | {ratio} | {goal} | {met} | {} | {} |",
        row.name, value.figure, value.ours, kept.pairs, kept.commit,
    )?;
    Ok(())
}

fn table<'a>(place: &Place, rows: impl Iterator<Item = &'a Row>) -> Result<String> {
    let mut out = String::from(
        "| row | figure | Plimsoll | Apache Kafka | ratio, median (min to max) | goal | | pairs | commit |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        match Summary::read(place, row)? {
            Some(kept) => {
                for (figure, goal) in row.goals {
                    line(&mut out, row, &kept, *figure, *goal)?;
                }
            }
            None => writeln!(out, "| {} | not measured yet | | | | | | | |", row.name)?,
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
    for row in rows::all() {
        let Some(cpu) = Summary::read(place, row)?.and_then(|kept| kept.cpu) else { continue };
        writeln!(
            out,
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            row.name, cpu.user, cpu.kernel, cpu.pool, cpu.kafka_user, cpu.kafka_kernel
        )?;
    }
    Ok(out)
}

fn probes(place: &Place) -> Result<String> {
    let mut out = String::from(
        "| row | seconds a run | append CPU-s/GB | 64 KiB sync ms | memcpy GB/s | pool fill CPU-s/GB | GB/s | \
         file system of its own |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows::all() {
        let Some(kept) = Summary::read(place, row)? else { continue };
        let p = &kept.probes;
        writeln!(
            out,
            "| {} | {} | {:.2} | {:.2} | {:.1} | {:.2} | {:.2} | {} |",
            row.name,
            kept.seconds,
            p.append_cpu_s_per_gb.first().copied().unwrap_or(f64::NAN),
            p.sync_64k_ms,
            p.memcpy_gb_s,
            p.pool_fill_cpu_s_per_gb,
            p.pool_fill_gb_s,
            if kept.own_file_systems { "yes" } else { "no" },
        )?;
    }
    Ok(out)
}

const HEAD: &str = "# Benchmarks\n\nWritten by `cargo xtask bench` from `benches/results`, where each row is kept as it was \
    measured last, at the commit of `crates/` beside it; beside Apache Kafka 4.4.0 with a heap of 1 GB. Both on one \
    machine, runs in alternating pairs on fresh topics after one run each to warm up, each broker on an ext4 image of \
    its own, the page cache filled before each run; ratio = ours / Apache Kafka's, median of the per-pair ratios. CPU is \
    that of the brokers' processes; the load generator's is not in it.\n\n";

const THREE: &str = "\n## Three nodes\n\nThree brokers of each kind on this machine of two cores, a topic's replicas on \
    all of them, acks=all, `min.insync.replicas=2`; `cargo xtask bench --nodes 3`. Apache Kafka is warmed by at least 90 s \
    of load, and until a GB costs it no less than before. Six brokers, though only three are loaded at a time, and a client share two cores: figures per GB say what work is done, MB/s is bounded by the \
    same work, and gaps include waiting for a core. In rows of the page cache both \
    acknowledge what a majority has in its page cache, ours with `write.caching=true`.\n\n";

const TXN: &str = "\n## Transactions\n\n`cargo xtask bench txn`: one broker of each kind, transactional ids with coordinators of \
    50 partitions, the protocol of Kafka 4 (TV2). A producer sends nothing between EndTxn and its answer, waits for what \
    is in flight before it, and 100 ms after a refusal, as Kafka's own does. Kafka answers EndTxn, too, from the page \
    cache; ours syncs the coordinator's log first unless somebody sets `write.caching=true` on `__transaction_state`, which \
    rows of the page cache do, so that both promise the same. Those named `-synced` are as both come.\n\n";

const GROUPS: &str = "\n## Groups\n\n`cargo xtask bench groups`: one broker of each kind but where three are named. Ours syncs what it \
    commits for a group, Kafka does not; in `commits-10k` neither does (`write.caching=true` on `__consumer_offsets`).\n\n";

/// Prints the page and writes it to docs/benchmarks.md, unless this is a trial.
pub(crate) fn write(place: &Place) -> Result<()> {
    let mut out = String::from(HEAD);
    let of = |durability| ROWS.iter().filter(move |row| row.durability == durability);
    writeln!(out, "## Page cache (`write.caching=true` against Kafka's default)\n")?;
    out.push_str(&table(place, of(Durability::PageCache))?);
    writeln!(out, "\n## Fsync (our default against `flush.messages=1`)\n")?;
    out.push_str(&table(place, of(Durability::Fsync))?);
    writeln!(out, "\n## At rest, starts, many partitions (defaults of each: ours syncs, Kafka does not)\n")?;
    out.push_str(&table(place, of(Durability::Defaults))?);
    out.push_str(THREE);
    out.push_str(&table(place, three_rows::ROWS.iter())?);
    out.push_str(TXN);
    out.push_str(&table(place, coordination_rows::TXN.iter())?);
    out.push_str(GROUPS);
    out.push_str(&table(place, coordination_rows::GROUPS.iter())?);
    writeln!(out, "\n## Broker CPU-seconds per GB, user space and kernel apart\n")?;
    out.push_str(&cpu_apart(place)?);
    writeln!(out, "\n## Rows\n")?;
    for row in rows::all() {
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
