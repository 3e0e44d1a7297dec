//! The run: load, faults, recovery times, and the checker at the end.
use crate::broker::Broker;
use crate::check;
use crate::history::{History, Shared};
use crate::load::{self, PARTITIONS, Stop, TOPIC};
use anyhow::{Context, Result, bail};
use client_lite::{Client, NewTopic};
use jepsen::machine::Machine;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PRODUCERS: u32 = 12;
const RESTART_LIMIT: Duration = Duration::from_secs(60);

/// What to do.
pub(crate) struct Plan {
    pub(crate) broker: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) kills: u32,
    pub(crate) power_cuts: u32,
    pub(crate) seed: u64,
}

fn next(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below.max(1)
}

async fn create_topic(address: &str, stop: &Stop) -> Result<()> {
    let client = load::connect(address, stop).await.context("no connection")?;
    let topic = NewTopic { name: TOPIC.to_owned(), partitions: Some(PARTITIONS), ..NewTopic::default() };
    client.create_topic(&topic, false).await?;
    Ok(())
}

/// Waits until something new is acknowledged; how long it took since `since`.
async fn recovered(broker: &mut Broker, history: &Shared, since: Instant) -> Result<Duration> {
    let before = history.borrow().acked.len();
    loop {
        broker.check_alive()?;
        if history.borrow().acked.len() > before {
            return Ok(since.elapsed());
        }
        if since.elapsed() > RESTART_LIMIT {
            bail!("nothing was acknowledged within {RESTART_LIMIT:?} after the restart");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn faults(
    plan: &Plan,
    machine: &Machine,
    broker: &mut Broker,
    history: &Shared,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let mut seed = plan.seed;
    let (mut kills, mut cuts) = (plan.kills, plan.power_cuts);
    let (mut after_kill, mut after_cut) = (Vec::new(), Vec::new());
    while kills + cuts > 0 {
        let pause = Duration::from_millis(100 + next(&mut seed, 900));
        tokio::time::sleep(pause).await;
        broker.check_alive()?;
        broker.kill()?;
        let power = next(&mut seed, u64::from(kills + cuts)) < u64::from(cuts);
        if power {
            machine.cut_power()?;
            cuts -= 1;
        } else {
            kills -= 1;
        }
        let restarted = Instant::now();
        broker.start()?;
        let taken = recovered(broker, history, restarted).await?;
        if power { after_cut.push(taken) } else { after_kill.push(taken) }
    }
    Ok((after_kill, after_cut))
}

fn print_times(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len().max(1) - 1) as f64 * share) as usize).copied();
    if let (Some(median), Some(max)) = (at(0.5), at(1.0)) {
        println!("{what}: {} times, first acknowledgement after {median:?} median, {max:?} max", times.len());
    }
}

/// Runs the plan; an error if anything acknowledged was lost, doubled or went back.
pub(crate) async fn run(plan: Plan) -> Result<()> {
    std::fs::create_dir_all(&plan.dir)?;
    let machine =
        Machine::new(&plan.dir).context("a file system of its own (needs root and loop devices)")?;
    let log = plan.dir.join("broker.log");
    let _ = std::fs::remove_file(&log);
    let mut broker = Broker::new(&plan.broker, machine.data(), log)?;
    broker.start()?;
    let (history, stop) = (Shared::default(), Stop::default());
    let address = broker.address();
    tokio::time::timeout(Duration::from_secs(20), create_topic(&address, &stop)).await??;
    let tasks = tokio::task::LocalSet::new();
    for producer in 0..PRODUCERS {
        tasks.spawn_local(load::produce(address.clone(), producer, history.clone(), stop.clone()));
    }
    tasks.spawn_local(load::commit(address.clone(), history.clone(), stop.clone()));
    let (mut kills, mut cuts) = tasks.run_until(faults(&plan, &machine, &mut broker, &history)).await?;
    stop.set(true);
    tokio::time::timeout(RESTART_LIMIT, tasks).await.context("the load did not end")?;
    let client = Client::connect(&address, Default::default()).await?;
    load::check_committed(&client, &history).await;
    let logs = check::read_all(&client).await?;
    broker.kill()?;
    let found = check::violations(&history.borrow(), &logs);
    print_times("kill -9", &mut kills);
    print_times("power cut", &mut cuts);
    report(&history.borrow(), &found)
}

fn report(history: &History, found: &[String]) -> Result<()> {
    let records: u64 = history.acked.iter().map(|a| a.count).sum();
    println!(
        "{} batches with {records} records acknowledged, {} client retries, {} violations",
        history.acked.len(),
        history.retries,
        found.len()
    );
    for violation in found.iter().take(20) {
        println!("  {violation}");
    }
    if found.is_empty() { Ok(()) } else { bail!("{} violations", found.len()) }
}
