//! Plays a named test: its steps again and again, each after all is well, and its figures.
use crate::lab::Lab;
use crate::recorder::now;
use crate::report::ms;
use crate::rng::Rng;
use crate::run::{Bench, Outcome, Setup, longest_gap, windows};
use crate::scenarios::{Also, At, Scenario, Step};
use anyhow::Result;
use jepsen::history::{History, Line, Outcome as Ended};
use std::time::Duration;

/// How long one fault may go on being felt.
const SETTLED: Duration = Duration::from_secs(60);
/// What one gap may be where none is expected: two election timeouts of a loaded machine.
const SERVED: Duration = Duration::from_secs(1);

/// What a test has shown besides its history.
#[derive(Debug, Default)]
struct Seen {
    /// From the end of each fault until every key had an acknowledgement.
    served: Vec<Duration>,
    problems: Vec<String>,
    elections: i64,
}

fn target(lab: &Lab, step: &Step, turn: u32, rng: &mut Rng) -> u32 {
    let count = lab.make.nodes;
    let leader = lab.recorder.leader(0).filter(|id| (1..=count).contains(id)).unwrap_or(1);
    match step.at {
        At::Leader => leader,
        At::Follower => (leader - 1 + 1 + rng.below(u64::from(count) - 1) as u32) % count + 1,
        At::InTurn => turn % count + 1,
        At::Coordinator => lab.recorder.coordinator().filter(|id| (1..=count).contains(id)).unwrap_or(leader),
    }
}

fn steps(bench: &mut Bench, scenario: &Scenario, times: u32, rng: &mut Rng) -> Result<Seen> {
    let mut seen = Seen::default();
    let before = bench.lab.recorder.epochs();
    let mut turn = 0;
    for _ in 0..times {
        for step in scenario.steps {
            std::thread::sleep(scenario.calm);
            let node = target(&bench.lab, step, turn, rng);
            turn += 1;
            bench.lab.wrong = step.fault.name().to_owned();
            let active = step.fault.begin_at(&mut bench.lab, step.level, node)?;
            bench.lab.recorder.fault(&active.what, true);
            std::thread::sleep(step.hold);
            active.end(&mut bench.lab)?;
            let ended = now();
            bench.lab.recorder.fault(&active.what, false);
            match bench.wait_until_served(ended, SETTLED) {
                Ok(after) => seen.served.push(after),
                Err(error) => {
                    seen.problems.push(format!("liveness: after {}: {error}", active.what));
                    return Ok(seen);
                }
            }
            // The leaders that are known are older than the fault until they are asked for again.
            std::thread::sleep(Duration::from_millis(500));
            if !bench.wait_until_in_sync(SETTLED) {
                seen.problems
                    .push(format!("liveness: replicas not in sync {SETTLED:?} after {}", active.what));
                return Ok(seen);
            }
            bench.lab.start_all()?;
            std::thread::sleep(rng.between(Duration::from_millis(300), Duration::from_millis(900)));
        }
    }
    let keys = i64::from(scenario.keys);
    seen.elections = (bench.lab.recorder.epochs() - before) / keys;
    Ok(seen)
}

/// Plays it in a cluster of its own.
pub(crate) fn play(scenario: &Scenario, setup: Setup, times: u32, seed: u64) -> Result<Outcome> {
    let mut bench = Bench::start(setup)?;
    std::thread::sleep(Duration::from_secs(3));
    let seen = steps(&mut bench, scenario, times, &mut Rng::new(seed))?;
    let told = bench.lab.recorder.told();
    let mut outcome = bench.finish()?;
    outcome.problems.extend(seen.problems.iter().cloned());
    outcome.problems.extend(also(scenario, times, &seen, &told, &outcome.history));
    figures(scenario, seen, &mut outcome);
    Ok(outcome)
}

fn also(scenario: &Scenario, times: u32, seen: &Seen, told: &[String], history: &History) -> Vec<String> {
    match scenario.also {
        Also::Nothing => Vec::new(),
        Also::NoErrors => told.iter().map(|error| format!("an application was told {error}")).collect(),
        Also::Served => windows(history)
            .iter()
            .map(|(what, began, ended)| (what, longest_gap(history, *began, *ended).0))
            .filter(|(_, gap)| *gap > SERVED)
            .map(|(what, gap)| {
                format!("{what}: {} without an acknowledgement, and the leader lived", ms(gap))
            })
            .collect(),
        Also::FewElections(each) => {
            let most = each * i64::from(times) * scenario.steps.len() as i64;
            let told = format!("{} elections of each key, more than {most}", seen.elections);
            (seen.elections > most).then_some(told).into_iter().collect()
        }
        Also::NothingDeleted => {
            let begins = |line: &Line| matches!(line, Line::Bounds { log_start, .. } if *log_start > 0);
            let deleted = history.rest.iter().any(begins);
            deleted.then(|| "records were deleted early".to_owned()).into_iter().collect()
        }
    }
}

fn at_share(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Lines of figures, for the documentation.
fn figures(scenario: &Scenario, mut seen: Seen, outcome: &mut Outcome) {
    seen.served.sort_unstable();
    let faults = windows(&outcome.history);
    let (mut within, mut outside) = (Vec::new(), Vec::new());
    for send in &outcome.history.sends {
        if matches!(send.outcome, Ended::Ok(_)) {
            let took = Duration::from_nanos(send.end - send.start);
            let struck = faults.iter().any(|(_, began, ended)| send.start < *ended && send.end > *began);
            if struck { within.push(took) } else { outside.push(took) }
        }
    }
    within.sort_unstable();
    outside.sort_unstable();
    let (middle, longest) = (at_share(&seen.served, 0.5), at_share(&seen.served, 1.0));
    outcome.figures.push(format!(
        "{} faults; all keys served again {} median, {} at most after they ended",
        seen.served.len(),
        ms(middle),
        ms(longest)
    ));
    let (good, bad) = (at_share(&outside, 0.99), at_share(&within, 0.99));
    outcome.figures.push(format!("p99 of a send {} between faults, {} during them", ms(good), ms(bad)));
    if let Also::FewElections(_) = scenario.also {
        outcome.figures.push(format!("{} elections of each key", seen.elections));
    }
}
