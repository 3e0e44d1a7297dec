//! Plays the script against both brokers and collects what differs.
use crate::allowed::Allowed;
use crate::cases;
use crate::leaves::{Leaves, leaves, now};
use crate::script::{Action, Again, Script, Step};
use crate::side::{Answer, Begun, Side};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::{ApiKey, ApiVersionsRequest, Request, ResponseBody};

const SETTLE_TRIES: u32 = 200;
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// A field whose values differ.
pub(crate) struct Difference {
    /// Step, version and path in one, as patterns see it.
    place: String,
    ours: String,
    theirs: String,
}

impl Difference {
    /// What patterns are held against.
    fn text(&self) -> String {
        format!("{} = {} / {}", self.place, self.ours, self.theirs)
    }
}

/// What a run found.
#[derive(Default)]
pub(crate) struct Outcome {
    differences: Vec<Difference>,
    compared: usize,
    skipped: BTreeSet<String>,
    /// APIs and versions of which both sides gave an answer that was compared.
    answered: BTreeSet<(ApiKey, i16)>,
    /// Those that both serve and the script never asked.
    unasked: Vec<String>,
    /// Steps that compare nothing, because our codec cannot say or read them.
    pointless: Vec<String>,
}

/// A step that takes longer is named, because it waited for something.
const SLOW: Duration = Duration::from_secs(5);

type Served = BTreeMap<i16, (i16, i16)>;

struct Replay {
    ours: Side,
    theirs: Side,
    served: Served,
    begun: BTreeMap<String, (ApiKey, i16, Option<Begun>, Option<Begun>)>,
    outcome: Outcome,
}

/// Plays the whole script.
pub(crate) async fn run(ours: &str, theirs: &str) -> Result<Outcome> {
    let mut script = Script::default();
    cases::all(&mut script);
    let run = format!("{:x}", now() % 0xff_ffff_ffff);
    let (mut ours, mut theirs) = (Side::new(ours, &run), Side::new(theirs, &run));
    let served = both(&served(&mut ours).await?, &served(&mut theirs).await?);
    let mut replay = Replay { ours, theirs, served, begun: BTreeMap::new(), outcome: Outcome::default() };
    for step in &script.steps {
        let start = Instant::now();
        replay.step(step).await;
        if start.elapsed() > SLOW {
            println!("took {} s: {} {}", start.elapsed().as_secs(), step.api.name(), step.name);
        }
    }
    replay.find_unasked();
    Ok(replay.outcome)
}

async fn served(side: &mut Side) -> Result<Served> {
    let request = Request::ApiVersions(ApiVersionsRequest::default());
    let answer = side.ask(&request, 0).await;
    let Answer::Body(body) = answer else { bail!("{}: {answer:?}", side.address) };
    let ResponseBody::ApiVersions(answer) = *body else { bail!("{}: no ApiVersions", side.address) };
    let port = side.address.rsplit(':').next().context("an address without a port")?.to_owned();
    side.call_field("port", port, "port");
    side.call(format!("\"PLAINTEXT://{}\"", side.address), "listeners");
    Ok(answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect())
}

fn both(ours: &Served, theirs: &Served) -> Served {
    let common = ours.iter().filter_map(|(key, a)| Some((*key, *a, *theirs.get(key)?)));
    common.map(|(key, a, b)| (key, (a.0.max(b.0), a.1.min(b.1)))).collect()
}

impl Replay {
    async fn step(&mut self, step: &Step) {
        if let Action::Raw { bytes } = &step.action {
            let (a, b) = (bytes(&self.ours), bytes(&self.theirs));
            let (a, b) = tokio::join!(self.ours.exchange(&a), self.theirs.exchange(&b));
            return self.compare_plain(&step.name, &format!("{a:?}"), &format!("{b:?}"));
        }
        let (min, max) = self.served.get(&step.api.code()).copied().unwrap_or((i16::MAX, i16::MIN));
        for version in step.versions.clone() {
            let place = format!("{} v{version}: {}", step.api.name(), step.name);
            // A step made for the newest version of ours takes the newest that both speak.
            let newest = step.versions.clone().count() == 1 && version == step.api.api().max;
            let version = if newest { version.min(max) } else { version };
            if !(min..=max).contains(&version) {
                self.outcome.skipped.insert(format!("{} v{version}", step.api.name()));
                continue;
            }
            self.version(step, version, &place).await;
        }
    }

    async fn version(&mut self, step: &Step, version: i16, place: &str) {
        let (a, b) = match &step.action {
            Action::Raw { .. } => return,
            Action::Begin { make } => {
                let (a, b) = (make(&self.ours, version), make(&self.theirs, version));
                let begun = tokio::join!(self.ours.begin(&a, version), self.theirs.begin(&b, version));
                self.begun.insert(step.name.clone(), (step.api, version, begun.0, begun.1));
                return;
            }
            Action::Finish { begun } => {
                let Some((api, version, a, b)) = self.begun.remove(*begun) else { return };
                tokio::join!(Side::finish(a, api, version), Side::finish(b, api, version))
            }
            Action::Body { bytes } => {
                let (a, b) = (&mut self.ours, &mut self.theirs);
                tokio::join!(a.ask_with(step.api, version, bytes), b.ask_with(step.api, version, bytes))
            }
            Action::Ask { make, again } => {
                let (a, b) = (make(&self.ours, version), make(&self.theirs, version));
                let a = ask(&mut self.ours, &a, version, *again);
                tokio::join!(a, ask(&mut self.theirs, &b, version, *again))
            }
        };
        for (side, answer) in [(&mut self.ours, &a), (&mut self.theirs, &b)] {
            let Answer::Body(body) = answer else { continue };
            side.observe(body);
            step.learn.iter().for_each(|learn| learn(side, body));
        }
        if !step.silent {
            let both = matches!((&a, &b), (Answer::Body(_), Answer::Body(_)));
            if both && !matches!(step.action, Action::Body { .. }) {
                self.outcome.answered.insert((step.api, version));
            }
            self.compare(place, &a, &b);
        }
    }

    fn find_unasked(&mut self) {
        for (key, (min, max)) in &self.served {
            let Some(api) = ApiKey::from_code(*key) else { continue };
            // What is advertised without being served (Produce 0 to 2) has its own steps.
            let unasked = (*min.max(&api.api().min)..=*max)
                .filter(|version| !self.outcome.answered.contains(&(api, *version)));
            self.outcome.unasked.extend(unasked.map(|version| format!("{} v{version}", api.name())));
        }
    }

    fn compare(&mut self, place: &str, ours: &Answer, theirs: &Answer) {
        let (Answer::Body(ours), Answer::Body(theirs)) = (ours, theirs) else {
            self.unanswered(place, ours, theirs);
            return self.compare_plain(place, &brief(ours), &brief(theirs));
        };
        self.outcome.compared += 1;
        let (ours, theirs) = (leaves(ours, &self.ours), leaves(theirs, &self.theirs));
        let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for path in paths {
            let of = |leaves: &Leaves| leaves.get(path).map_or("-", String::as_str).to_owned();
            self.differ(format!("{place}: {path}"), of(&ours), of(&theirs));
        }
    }

    /// A request that neither side got or that is no answer to either tells nothing, although it is the same.
    fn unanswered(&mut self, place: &str, ours: &Answer, theirs: &Answer) {
        use Answer::{Undecodable, Unsendable};
        let one = |answer: &Answer| matches!(answer, Unsendable | Undecodable(_));
        if one(ours) && one(theirs) {
            self.outcome.pointless.push(format!("{place}: {ours:?}"));
        }
    }

    fn compare_plain(&mut self, place: &str, ours: &str, theirs: &str) {
        self.outcome.compared += 1;
        self.differ(place.to_owned(), ours.to_owned(), theirs.to_owned());
    }

    fn differ(&mut self, place: String, ours: String, theirs: String) {
        if ours != theirs {
            self.outcome.differences.push(Difference { place, ours, theirs });
        }
    }
}

fn brief(answer: &Answer) -> String {
    match answer {
        Answer::Body(body) => format!("answered {body:?}"),
        other => format!("{other:?}"),
    }
}

async fn ask(side: &mut Side, request: &Request, version: i16, again: Option<Again>) -> Answer {
    let mut answer = side.ask(request, version).await;
    for _ in 0..SETTLE_TRIES {
        let Answer::Body(body) = &answer else { break };
        if !again.is_some_and(|again| again(&leaves(body, side))) {
            break;
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
        answer = side.ask(request, version).await;
    }
    answer
}

impl Outcome {
    /// Prints what is not allowed, what is allowed and did not happen, and what was not really asked; false if
    /// there is any of it.
    pub(crate) fn print(&self, allowed: &Allowed, only: Option<&str>, report: Option<&Path>) -> Result<bool> {
        let line =
            |d: &Difference| format!("{}\n    ours:   {}\n    theirs: {}\n", d.place, d.ours, d.theirs);
        if let Some(path) = report {
            let all: String = self.differences.iter().map(line).collect();
            std::fs::write(path, all)?;
        }
        let shown = |d: &&Difference| only.is_none_or(|only| d.place.contains(only));
        let unexpected: Vec<&Difference> =
            self.differences.iter().filter(|d| !allowed.allows(&d.text())).filter(shown).collect();
        unexpected.iter().for_each(|d| print!("{}", line(d)));
        let texts: Vec<String> = self.differences.iter().map(Difference::text).collect();
        let idle = allowed.unused(&texts);
        idle.iter().for_each(|pattern| println!("allowed, but did not happen: {pattern}"));
        self.pointless.iter().for_each(|step| println!("compares nothing: {step}"));
        self.unasked.iter().for_each(|version| println!("served by both, but never asked: {version}"));
        let skipped: Vec<&str> = self.skipped.iter().map(String::as_str).collect();
        println!("not served by both: {}", skipped.join(", "));
        println!(
            "{} answers compared, {} differences, {} of them not allowed; {} idle permissions, {} versions unasked, \
             {} steps that compare nothing",
            self.compared,
            self.differences.len(),
            unexpected.len(),
            idle.len(),
            self.unasked.len(),
            self.pointless.len()
        );
        let whole = self.unasked.is_empty() && self.pointless.is_empty();
        Ok(unexpected.is_empty() && idle.is_empty() && whole)
    }
}
