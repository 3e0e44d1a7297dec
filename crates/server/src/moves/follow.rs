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
            for node in &ongoing.adding {
                progress.left += held.bytes.saturating_sub(view.size_on(*node, &held.place));
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

fn line(progress: &Progress, rate: Option<u64>, stuck: bool) -> String {
    let mut line = format!("{} partition(s), {} left", progress.partitions, human(progress.left));
    match rate {
        Some(rate) if rate > 0 && progress.left > 0 => {
            let rest = duration(progress.left.div_ceil(rate));
            line.push_str(&format!(", {}/s, {rest} to go", human(rate)));
        }
        _ if progress.left == 0 => line.push_str(", the new replicas take over"),
        _ => {}
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

/// Waits until every partition that is to be on `node` is in sync there.
pub(crate) async fn follow_node(client: &Client, node: i32) -> anyhow::Result<()> {
    let mut told = None::<Instant>;
    loop {
        let cluster = client.all_topics().await.map_err(advise)?;
        let all = cluster.topics.iter().flat_map(|t| &t.partitions).filter(|p| p.replicas.contains(&node));
        let behind = all.clone().filter(|p| !p.in_sync.contains(&node)).count();
        let up = cluster.broker(node).is_some();
        if up && behind == 0 {
            return Ok(());
        }
        let now = Instant::now();
        if told.is_none_or(|at| now.duration_since(at) >= LINE) {
            let waits = if up { "" } else { "; blocked: the broker is not running: start it" };
            eprintln!("broker {node}: {behind} of {} replicas are not in sync{waits}", all.count());
            told = Some(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::Held;
    use super::*;
    use client_lite::Ongoing;
    use std::collections::BTreeMap;

    fn view(leader: i32, copied: u64, up: bool) -> View {
        let place: Place = ("t".to_owned(), 0);
        let held = Held { place: place.clone(), replicas: vec![2, 3], leader, bytes: 4_096 };
        let ongoing = Ongoing { replicas: vec![2, 3, 1], adding: vec![3], removing: vec![1] };
        let brokers = [(1, None), (2, None)].into_iter().chain(up.then_some((3, None))).collect();
        let sizes = BTreeMap::from([(3, BTreeMap::from([(place.clone(), copied)]))]);
        View { brokers, held: vec![held], ongoing: BTreeMap::from([(place, ongoing)]), sizes }
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
    fn other_partitions_do_not_count() {
        assert_eq!(Progress::of(&view(2, 0, true), &BTreeSet::new()).partitions, 0);
    }
}
