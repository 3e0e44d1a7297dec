//! Bugs that are planted in the broker on purpose: the rig must find each, by a checker that is known by name.
use crate::faults::Fault;
use crate::nemesis::Nemesis;
use crate::probe::Abilities;
use crate::recorder::now;
use crate::run::{Bench, Load};
use crate::txn_load::Workload;
use crate::{Args, settings, setup};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::time::Duration;

/// One bug, and what brings it to light.
struct Bug {
    /// As `model::planted` calls it.
    name: &'static str,
    faults: &'static [Fault],
    /// How much is sent at a time.
    batch: u64,
    workload: Workload,
}

const fn bug(name: &'static str, faults: &'static [Fault], batch: u64) -> Bug {
    Bug { name, faults, batch, workload: Workload::Queue }
}

/// One that only transactions bring to light.
const fn of_txn(name: &'static str, faults: &'static [Fault]) -> Bug {
    Bug { name, faults, batch: 1, workload: Workload::Txn }
}

const BUGS: [Bug; 12] = [
    bug("AckBeforeSync", &[Fault::PowerAllSlow], 20),
    bug("FollowerAckBeforeSync", &[Fault::SlowSyncAll, Fault::PowerAll], 20),
    bug("ApplyBeforeCommit", &[Fault::Isolate, Fault::Kill], 5),
    bug("NoDedupeAfterRestart", &[Fault::KillAll, Fault::Reset, Fault::ClientCut], 1),
    bug("NewLeaderForgetsProducers", &[Fault::Kill, Fault::Isolate], 1),
    bug("ServeUnconfirmed", &[Fault::Isolate, Fault::Pause, Fault::Kill], 1),
    bug("LostLeadIsRefusal", &[Fault::Isolate, Fault::Pause, Fault::OneWay], 1),
    bug("HighWatermarkTooHigh", &[Fault::PowerAllSlow], 5),
    of_txn("LsoTooHigh", &[Fault::Delay]),
    of_txn("MarkerWithoutEpochCheck", &[Fault::Pause, Fault::Isolate]),
    of_txn("LateEndTxnAccepted", &[Fault::Delay]),
    of_txn("CompleteBeforeMarkers", &[Fault::Kill, Fault::Isolate, Fault::KillAll]),
];

/// How often a bug may escape before it counts as not caught.
const TRIES: u64 = 4;

/// Runs each bug that is wanted; whether all were caught.
pub(crate) fn run(args: &Args, abilities: &Abilities, seed: u64) -> Result<bool> {
    let all = args.planted.iter().any(|name| name == "all");
    let mut escaped = 0;
    for bug in BUGS.iter().filter(|bug| all || args.planted.iter().any(|name| name == bug.name)) {
        let begun = now();
        let mut caught = BTreeSet::new();
        for at in 0..TRIES {
            caught = once(args, abilities, bug, seed + at).with_context(|| bug.name)?;
            if !caught.is_empty() {
                break;
            }
        }
        let seconds = (now() - begun) / 1_000_000_000;
        let by: Vec<_> = caught.into_iter().collect();
        let verdict =
            if by.is_empty() { "PROBLEM escaped".to_owned() } else { format!("caught by {}", by.join(", ")) };
        println!("planted {}: {verdict} ({seconds} s)", bug.name);
        escaped += u32::from(by.is_empty());
    }
    Ok(escaped == 0)
}

/// The checkers that found something in one run.
fn once(args: &Args, abilities: &Abilities, bug: &Bug, seed: u64) -> Result<BTreeSet<String>> {
    let mut setup = setup(args, abilities)?;
    setup.make.dir = args.dir.join(bug.name);
    setup.make.environment.push(("PLANTED_BUG".to_owned(), bug.name.to_owned()));
    setup.load = Load {
        pause: Duration::from_millis(3),
        batch: bug.batch,
        producers: 3,
        readers: 3,
        transactions: 4,
        ..Load::default()
    }
    .of(bug.workload);
    let mut bench = match Bench::start(setup) {
        Ok(bench) => bench,
        // Without the bug it does form: every other run of the rig says so.
        Err(error) if error.to_string().contains("did not form") => {
            return Ok(BTreeSet::from(["forming".to_owned()]));
        }
        Err(error) => return Err(error),
    };
    let mut nemesis = Nemesis::new(seed, settings(args, bug.faults.to_vec()));
    nemesis.run(&mut bench.lab, Duration::from_secs_f64(args.minutes * 60.0))?;
    let outcome = bench.finish()?;
    let mut found: BTreeSet<String> =
        outcome.verdict.kinds().iter().map(|kind| kind.name().to_owned()).collect();
    found.extend(outcome.problems.iter().map(|problem| {
        let name =
            ["liveness", "panicked", "ended by itself"].into_iter().find(|name| problem.contains(name));
        name.unwrap_or("problem").to_owned()
    }));
    Ok(found)
}
