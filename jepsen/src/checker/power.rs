//! What a loss of the power of all nodes may take where topics are acknowledged from the page cache.
use crate::history::{History, Line, Outcome};
use std::time::Duration;

/// Beginnings of the faults that take the power of every node at once.
fn cuts(history: &History) -> Vec<u64> {
    let cut = |line: &Line| match line {
        Line::Fault { time, what, begins: true } if what.starts_with("power-all") => Some(*time),
        _ => None,
    };
    history.rest.iter().filter_map(cut).collect()
}

/// The history as it is to be judged where each loss of the power of all may take what was acknowledged within `takes`
/// before it, and no more. Such a send is of unknown outcome then; and what clients saw before the last of them says
/// nothing of the log after it. Returns the number of sends that were acknowledged earlier, too: they must be there.
pub fn spared(mut history: History, takes: Duration) -> (History, u64) {
    let cuts = cuts(&history);
    let Some(last) = cuts.last().copied() else { return (history, 0) };
    let takes = u64::try_from(takes.as_nanos()).unwrap_or(u64::MAX);
    let mut kept = 0;
    for send in &mut history.sends {
        if !matches!(send.outcome, Outcome::Ok(_)) || send.end > last {
            continue;
        }
        if cuts.iter().any(|cut| send.end <= *cut && cut - send.end < takes) {
            (send.outcome, send.end) = (Outcome::Info, u64::MAX);
        } else {
            kept += 1;
        }
    }
    history.polls.retain(|poll| poll.start > last);
    let before: Vec<u32> =
        history.sends.iter().filter(|send| send.start < last).map(|send| send.process).collect();
    history.rest.retain(|line| match line {
        Line::Bounds { start, .. } => *start > last,
        // Its earlier batches are gone, and the broker says so.
        Line::Broken { process, .. } => !before.contains(process),
        _ => true,
    });
    (history, kept)
}
