//! Chooses what goes wrong, by seed, period after period.
use crate::faults::{Active, Fault};
use crate::lab::Lab;
use crate::recorder::now;
use crate::rng::Rng;
use anyhow::Result;
use std::time::{Duration, Instant};

/// The most faults of one period.
const AT_ONCE: usize = 3;

/// What a period does.
struct Planned {
    fault: Fault,
    begins: Duration,
    ends: Duration,
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) faults: Vec<Fault>,
    /// How long a period lasts.
    pub(crate) period: Duration,
    /// How long all is well after it.
    pub(crate) calm: Duration,
}

/// Chooses by seed. Each fault has its turn before any has its second.
#[derive(Debug)]
pub(crate) struct Nemesis {
    rng: Rng,
    settings: Settings,
    turns: Vec<Fault>,
}

impl Nemesis {
    pub(crate) fn new(seed: u64, settings: Settings) -> Nemesis {
        Nemesis { rng: Rng::new(seed), settings, turns: Vec::new() }
    }

    fn next_fault(&mut self) -> Option<Fault> {
        if self.turns.is_empty() {
            self.turns = self.settings.faults.clone();
            self.rng.shuffle(&mut self.turns);
        }
        self.turns.pop()
    }

    fn plan(&mut self) -> Vec<Planned> {
        let period = self.settings.period;
        let count = 1 + self.rng.below(AT_ONCE as u64) as usize;
        let mut planned: Vec<Planned> = Vec::new();
        for _ in 0..count.min(self.settings.faults.len()) {
            let Some(fault) = self.next_fault() else { break };
            if planned.iter().any(|other| other.fault == fault) {
                continue;
            }
            let begins = self.rng.between(Duration::ZERO, period / 4);
            let ends = begins + self.rng.between(period / 8, period * 5 / 8);
            planned.push(Planned { fault, begins, ends });
        }
        planned
    }

    /// One period: faults begin and end, then everything is healed and calm for a while.
    pub(crate) fn period(&mut self, lab: &mut Lab) -> Result<()> {
        let planned = self.plan();
        let names: Vec<_> = planned.iter().map(|planned| planned.fault.name()).collect();
        lab.wrong = names.join(", ");
        let begun = Instant::now();
        let mut waiting: Vec<&Planned> = planned.iter().collect();
        let mut active: Vec<(Duration, Active)> = Vec::new();
        while !waiting.is_empty() || !active.is_empty() {
            let elapsed = begun.elapsed();
            while let Some(at) = waiting.iter().position(|planned| planned.begins <= elapsed) {
                let planned = waiting.swap_remove(at);
                let active_now = planned.fault.begin(lab, &mut self.rng)?;
                lab.recorder.fault(&active_now.what, true);
                active.push((planned.ends, active_now));
            }
            while let Some(at) = active.iter().position(|(ends, _)| *ends <= elapsed) {
                let (_, ended) = active.swap_remove(at);
                ended.end(lab)?;
                lab.recorder.fault(&ended.what, false);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        lab.heal()?;
        std::thread::sleep(self.settings.calm);
        Ok(())
    }

    /// Periods until the time is over.
    pub(crate) fn run(&mut self, lab: &mut Lab, until: Duration) -> Result<u32> {
        let (end, mut periods) = (now() + until.as_nanos() as u64, 0);
        while now() < end {
            self.period(lab)?;
            periods += 1;
        }
        Ok(periods)
    }
}
