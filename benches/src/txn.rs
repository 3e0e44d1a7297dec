//! Transactional producers against the same producers without transactions.
use crate::rows::Row;
use crate::run::{AFTER_DELETION, ClientFigures, Place, Sample, bench, delete_topic, figures, strings};
use crate::systems::System;
use anyhow::Result;

/// Without, with, with, without: what drifts meanwhile counts for both alike.
const ORDER: [bool; 4] = [false, true, true, false];

/// MB/s of several runs, each as long as the others.
fn together(runs: &[ClientFigures]) -> f64 {
    runs.iter().map(|run| run.mb_per_s).sum::<f64>() / runs.len().max(1) as f64
}

pub(crate) fn to_idempotent(
    place: &Place,
    row: &Row,
    system: &System,
    topic: &str,
    args: &[&str],
    seconds: f64,
) -> Result<Sample> {
    let (mut idempotent, mut transactional) = (Vec::new(), Vec::new());
    let mut sample = Sample::default();
    for (number, transactions) in ORDER.into_iter().enumerate() {
        let topic = format!("{topic}-{number}");
        let mut args = strings(args, Some(seconds / 2.0));
        if !transactions {
            args.push("--idempotent".to_owned());
        }
        let before = system.usage()?;
        let ran = figures(bench(place, system, "txn", &topic, row.partitions, &args))?;
        let used = system.usage()?.since(before);
        delete_topic(place, system, &topic);
        std::thread::sleep(AFTER_DELETION);
        println!(
            "    {} {:.1} MB/s",
            if transactions { "transactional" } else { "idempotent" },
            ran.mb_per_s
        );
        if !transactions {
            idempotent.push(ran);
            continue;
        }
        sample.broker = if transactional.is_empty() { used } else { sample.broker.after(used) };
        sample.client.add(&ran);
        transactional.push(ran);
    }
    sample.client.mb_per_s = together(&transactional);
    sample.to_idempotent = together(&transactional) / together(&idempotent).max(1e-9);
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_between_the_runs_counts_for_both_alike() {
        // Each run is slower by 10 MB/s than the one before.
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for (number, transactions) in ORDER.into_iter().enumerate() {
            let run = ClientFigures { mb_per_s: 100.0 - 10.0 * number as f64, ..Default::default() };
            if transactions { with.push(run) } else { without.push(run) }
        }
        assert_eq!(together(&with), together(&without));
    }
}
