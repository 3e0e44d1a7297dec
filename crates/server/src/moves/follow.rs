//! Progress of what was begun: bytes left, rate, estimate, and what it waits for.
use super::plan::{duration, human};
use super::view::View;
use crate::admin::connect::advise;
use client_lite::{Client, Place};
use std::collections::{BTreeSet, VecDeque};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Between two lines where nobody watches.
const LINE: Duration = Duration::from_secs(5);
/// The rate is that of the last so many looks.
const LOOKS: usize = 20;
/// Without progress for so long, the reason is shown.
const STUCK: Duration = Duration::from_secs(5);

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Partitions that are not done.
    pub(crate) partitions: usize,
    /// Bytes that are not copied.
    pub(crate) left: u64,
    /// What it waits for that will not pass by itself.
    pub(crate) blocked: Vec<String>,
}

impl Progress {
    /// Of these partitions.
    pub(crate) fn of(view: &View, places: &BTreeSet<Place>) -> Progress {
        let mut progress = Progress { partitions: 0, left: 0, blocked: Vec::new() };
        for held in view.held.iter().filter(|h| places.contains(&h.place)) {
            let Some(ongoing) = view.ongoing.get(&held.place) else { continue };
            progress.partitions += 1;
            let name = format!("{}-{}", held.place.0, held.place.1);
            if held.leader < 0 {
                progress.blocked.push(format!("{name} has no leader: too few of its replicas are running"));
            }
            let troubled = |node: i32| view.on(node, &held.place).and_then(|on| on.trouble.clone());
            if let Some(why) = troubled(held.leader) {
                progress
                    .blocked
                    .push(format!("{name}: its leader's replica, on broker {}, is {why}", held.leader));
            }
            for node in &ongoing.adding {
                let missing = held.bytes.saturating_sub(view.size_on(*node, &held.place));
                // What is put aside for a replica that is being brought up is no part of its size yet.
                progress.left += view.on(*node, &held.place).and_then(|on| on.bytes_left).unwrap_or(missing);
                if let Some(why) = troubled(*node) {
                    progress.blocked.push(format!("{name}: the replica on broker {node} is {why}"));
                }
                if !view.brokers.contains_key(node) {
                    progress.blocked.push(format!("{name} waits for broker {node}, which is not running"));
                }
            }
        }
        progress
    }
}

/// Bytes left at the last looks.
#[derive(Debug, Default)]
struct Rate {
    looks: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Bytes a second, once that can be said.
    fn note(&mut self, now: Instant, left: u64) -> Option<u64> {
        self.looks.push_back((now, left));
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let (since, before) = self.looks.front()?;
        let seconds = now.duration_since(*since).as_secs_f64();
        (seconds > 0.4).then(|| (before.saturating_sub(left) as f64 / seconds) as u64)
    }
}

/// Bytes left, and how long that takes, where it can be said.
fn to_go(left: u64, rate: Option<u64>) -> String {
    let mut text = format!(", {} left", human(left));
    if let Some(rate) = rate.filter(|rate| *rate > 0 && left > 0) {
        text.push_str(&format!(", {}/s, {} to go", human(rate), duration(left.div_ceil(rate))));
    }
    text
}

fn line(progress: &Progress, rate: Option<u64>, stuck: bool) -> String {
    let mut line = format!("{} partition(s){}", progress.partitions, to_go(progress.left, rate));
    if progress.left == 0 {
        line.push_str(", the new replicas take over");
    }
    if let Some(first) = progress.blocked.first() {
        line.push_str(&format!("; blocked: {first}"));
        if progress.blocked.len() > 1 {
            line.push_str(&format!(" (and {} more)", progress.blocked.len() - 1));
        }
    } else if stuck {
        line.push_str("; no progress: the logs of the partition's leader and of the new broker say why");
    }
    line
}

/// Waits until none of these partitions is being changed any more, and tells how it goes on.
pub(crate) async fn follow(client: &Client, places: BTreeSet<Place>) -> anyhow::Result<()> {
    let live = std::io::stderr().is_terminal();
    let (mut rate, mut told) = (Rate::default(), None::<Instant>);
    let (mut best, mut since) = ((usize::MAX, u64::MAX), Instant::now());
    loop {
        let view = View::ask(client).await?;
        let progress = Progress::of(&view, &places);
        if progress.partitions == 0 {
            if live {
                eprintln!();
            }
            return Ok(());
        }
        let now = Instant::now();
        if (progress.partitions, progress.left) < best {
            (best, since) = ((progress.partitions, progress.left), now);
        }
        let speed = rate.note(now, progress.left);
        let text = line(&progress, speed, now.duration_since(since) >= STUCK);
        if live {
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
        } else if told.is_none_or(|at| now.duration_since(at) >= LINE) {
            eprintln!("{text}");
            told = Some(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a broker still lacks of all that it is to hold, bytes, and what is wrong with its replicas.
fn lacks(view: &View, node: i32) -> (u64, Vec<String>) {
    let (mut left, mut wrong) = (0, Vec::new());
    for held in view.held.iter().filter(|h| h.replicas.contains(&node)) {
        let on_disk = view.on(node, &held.place);
        let missing = held.bytes.saturating_sub(on_disk.map_or(0, |on| on.bytes));
        left += on_disk.and_then(|on| on.bytes_left).unwrap_or(missing);
        if let Some(why) = on_disk.and_then(|on| on.trouble.as_ref()) {
            wrong.push(format!("{}-{} is {why}", held.place.0, held.place.1));
        }
    }
    (left, wrong)
}

/// Waits until every partition that is to be on `node` is in sync there.
pub(crate) async fn follow_node(client: &Client, node: i32) -> anyhow::Result<()> {
    let (mut rate, mut told) = (Rate::default(), None::<Instant>);
    loop {
        let cluster = client.all_topics().await.map_err(advise)?;
        let all = cluster.topics.iter().flat_map(|t| &t.partitions).filter(|p| p.replicas.contains(&node));
        let behind = all.clone().filter(|p| !p.in_sync.contains(&node)).count();
        let up = cluster.broker(node).is_some();
        if up && behind == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut text = format!("broker {node}: {behind} of {} replicas are not in sync", all.count());
        if let Ok(view) = View::ask_more(client, &cluster).await {
            let (left, wrong) = lacks(&view, node);
            text.push_str(&to_go(left, rate.note(now, left)));
            wrong.first().into_iter().for_each(|first| text.push_str(&format!("; {first}")));
        }
        if !up {
            text.push_str("; blocked: the broker is not running: start it");
        }
        if told.is_none_or(|at| now.duration_since(at) >= LINE) {
            eprintln!("{text}");
            told = Some(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::Held;
    use super::*;
    use client_lite::{OnDisk, Ongoing};
    use std::collections::BTreeMap;

    fn view(leader: i32, copied: u64, up: bool) -> View {
        let place: Place = ("t".to_owned(), 0);
        let held = Held { place: place.clone(), replicas: vec![2, 3], leader, bytes: 4_096, rate: 0 };
        let ongoing = Ongoing { replicas: vec![2, 3, 1], adding: vec![3], removing: vec![1] };
        let brokers = [(1, None), (2, None)].into_iter().chain(up.then_some((3, None))).collect();
        let replica = OnDisk { bytes: copied, ..OnDisk::default() };
        let on_disk = BTreeMap::from([(3, BTreeMap::from([(place.clone(), replica)]))]);
        View {
            brokers,
            held: vec![held],
            ongoing: BTreeMap::from([(place, ongoing)]),
            on_disk,
            ..View::default()
        }
    }

    fn of(view: &View) -> Progress {
        Progress::of(view, &BTreeSet::from([("t".to_owned(), 0)]))
    }

    #[test]
    fn what_is_left_and_what_it_waits_for_is_told() {
        let progress = of(&view(2, 1_024, true));
        assert_eq!((progress.partitions, progress.left, progress.blocked.len()), (1, 3_072, 0));
        assert_eq!(line(&progress, Some(1_024), false), "1 partition(s), 3.0 KiB left, 1.0 KiB/s, 3 s to go");
        let down = line(&of(&view(2, 0, false)), None, true);
        assert!(down.ends_with("blocked: t-0 waits for broker 3, which is not running"), "{down}");
        assert!(line(&of(&view(-1, 0, true)), None, false).contains("has no leader"));
        assert!(line(&of(&view(2, 4_096, true)), None, false).ends_with("the new replicas take over"));
    }

    #[test]
    fn a_replica_that_something_is_wrong_with_blocks_its_move() {
        let mut view = view(2, 1_024, true);
        let replica = view.on_disk.get_mut(&3).unwrap().values_mut().next().unwrap();
        (replica.bytes_left, replica.trouble) = (Some(2_000), Some("failed: no more room".to_owned()));
        let progress = of(&view);
        assert_eq!(progress.left, 2_000, "what it still has to pull");
        assert_eq!(progress.blocked, ["t-0: the replica on broker 3 is failed: no more room"]);
    }

    #[test]
    fn what_a_broker_that_comes_back_lacks_is_told() {
        let mut view = view(2, 1_024, true);
        assert_eq!(lacks(&view, 3), (3_072, vec![]));
        assert_eq!(lacks(&view, 1), (0, vec![]), "it is to hold nothing");
        let replica = view.on_disk.get_mut(&3).unwrap().values_mut().next().unwrap();
        (replica.bytes_left, replica.trouble) = (Some(2_000), Some("failed: x".to_owned()));
        assert_eq!(lacks(&view, 3), (2_000, vec!["t-0 is failed: x".to_owned()]));
    }

    #[test]
    fn other_partitions_do_not_count() {
        assert_eq!(Progress::of(&view(2, 0, true), &BTreeSet::new()).partitions, 0);
    }
}
