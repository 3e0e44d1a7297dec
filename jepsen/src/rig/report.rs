//! What a run has shown: a summary in words, and a page with a timeline.
use crate::run::{Outcome, longest_gap, windows};
use jepsen::checker::Figures;
use jepsen::history::{History, Outcome as Ended};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// A gap ends with the first acknowledgement after the fault; it may be this much later.
const AFTER_NS: u64 = 500_000_000;
const SECOND: u64 = 1_000_000_000;

/// What a page tells beside the outcome.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) title: String,
    pub(crate) clients: Vec<String>,
    pub(crate) skipped: Vec<String>,
}

/// Unavailability by fault: how often it struck, the median and the longest gap of any key.
pub(crate) fn gaps_by_fault(history: &History) -> BTreeMap<String, Vec<Duration>> {
    let mut found: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for (what, began, ended) in windows(history) {
        let name = what.split(' ').next().unwrap_or_default().to_owned();
        found.entry(name).or_default().push(longest_gap(history, began, ended + AFTER_NS).0);
    }
    found.values_mut().for_each(|gaps| gaps.sort_unstable());
    found
}

/// A length of time, in milliseconds.
pub(crate) fn ms(length: Duration) -> String {
    format!("{} ms", length.as_millis())
}

pub(crate) fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

fn by_client(history: &History) -> BTreeMap<&'static str, [u64; 3]> {
    let mut found: BTreeMap<&'static str, [u64; 3]> = BTreeMap::new();
    for send in &history.sends {
        let name = match send.process {
            0..1_000_000 => "client-lite",
            1_000_000..2_000_000 => "Java",
            _ => "librdkafka",
        };
        let at = match send.outcome {
            Ended::Ok(_) => 0,
            Ended::Fail => 1,
            Ended::Info => 2,
        };
        found.entry(name).or_default()[at] += 1;
    }
    found
}

fn transactions(figures: &Figures, out: &mut String) {
    if figures.committed + figures.aborted > 0 {
        let _ = writeln!(
            out,
            "  transactions: {} committed ({} of them with offsets), {} aborted, {} of unknown outcome; circles of writes \
             {}, of writes and reads {}, which Kafka allows",
            figures.committed,
            figures.consuming,
            figures.aborted,
            figures.unknown,
            figures.write_cycles,
            figures.mixed_cycles
        );
    }
    if figures.money_paid_in > 0 {
        let _ =
            writeln!(out, "  money: {} paid in, {} there at the end", figures.money_paid_in, figures.money);
    }
}

/// The summary, as lines of text.
pub(crate) fn text(about: &About, outcome: &Outcome) -> String {
    let mut out = String::new();
    let figures = outcome.verdict.figures;
    let _ = writeln!(
        out,
        "{}: {:.0} s, {} sends ok, {} failed, {} of unknown outcome ({} of them were read); {} records read, {} different",
        about.title,
        (outcome.ended - outcome.began) as f64 / SECOND as f64,
        figures.ok,
        figures.fail,
        figures.info,
        figures.info_seen,
        figures.read,
        figures.read_once
    );
    if figures.renumbered > 0 {
        let _ = writeln!(
            out,
            "  {} records stand twice: their producer began a new epoch and sent them again under new numbers",
            figures.renumbered
        );
    }
    transactions(&figures, &mut out);
    for (name, [ok, fail, info]) in by_client(&outcome.history) {
        let _ = writeln!(out, "  {name}: {ok} ok, {fail} failed, {info} unknown");
    }
    for (fault, gaps) in gaps_by_fault(&outcome.history) {
        let longest = gaps.last().copied().unwrap_or_default();
        let (count, middle) = (gaps.len(), median(&gaps));
        let _ = writeln!(
            out,
            "  {fault}: {count} times, longest gap of a key {} median, {} max",
            ms(middle),
            ms(longest)
        );
    }
    if let Some(after) = outcome.healed_after {
        let _ = writeln!(out, "  all keys served {} after healing", ms(after));
    }
    for figure in &outcome.figures {
        let _ = writeln!(out, "  {figure}");
    }
    for note in &outcome.notes {
        let _ = writeln!(out, "  {note}");
    }
    for skipped in &about.skipped {
        let _ = writeln!(out, "  skipped: {skipped}");
    }
    for (kind, finding) in &outcome.verdict.findings {
        let _ = writeln!(out, "  ANOMALY {kind}: {} times", finding.count);
        for example in finding.examples.iter().take(5) {
            let _ = writeln!(out, "    {example}");
        }
    }
    for problem in &outcome.problems {
        let _ = writeln!(out, "  PROBLEM {problem}");
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The page: verdict, figures, and a timeline of throughput, faults and gaps.
pub(crate) fn page(about: &About, outcome: &Outcome) -> String {
    let verdict =
        if outcome.is_clean() { "nothing was lost, nothing is wrong" } else { "SOMETHING IS WRONG" };
    let mut out = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\nbody {{ font: 14px/1.5 \
         system-ui, sans-serif; max-width: 62em; margin: 2em auto; color: #222 }}\npre {{ white-space: pre-wrap }}\n\
         svg {{ width: 100%; height: auto }}\n</style>\n<h1>{title}</h1>\n<p><b>{verdict}</b>. Clients: {clients}.</p>\n",
        title = escaped(&about.title),
        clients = escaped(&about.clients.join(", "))
    );
    out.push_str(&timeline(outcome));
    let _ = write!(out, "<h2>Figures</h2>\n<pre>{}</pre>\n", escaped(&text(about, outcome)));
    out.push_str(
        "<p>A gap is the longest time without an acknowledgement of any one key that a fault touches. Nodes, clients \
         and the nemesis share the cores of one machine: gaps and throughput say as much of it as of the broker.</p>\n",
    );
    out
}

const WIDTH: f64 = 1000.0;
const CHART: f64 = 140.0;
const ROW: f64 = 14.0;

struct Scale {
    began: u64,
    span: f64,
}

impl Scale {
    fn x(&self, time: u64) -> f64 {
        time.saturating_sub(self.began) as f64 / self.span * WIDTH
    }
}

fn timeline(outcome: &Outcome) -> String {
    let history = &outcome.history;
    let scale = Scale { began: outcome.began, span: (outcome.ended - outcome.began).max(1) as f64 };
    let faults = windows(history);
    let mut rows: Vec<String> = Vec::new();
    for (what, ..) in &faults {
        let name = what.split(' ').next().unwrap_or_default().to_owned();
        if !rows.contains(&name) {
            rows.push(name);
        }
    }
    let height = CHART + 20.0 + (rows.len() + 1) as f64 * ROW;
    let mut out =
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" font-size=\"10\" font-family=\"sans-serif\">\n");
    throughput(history, &scale, outcome.ended, &mut out);
    for (row, name) in rows.iter().enumerate() {
        let y = CHART + 20.0 + row as f64 * ROW;
        let _ = writeln!(out, "<text x=\"2\" y=\"{}\" fill=\"#666\">{}</text>", y + 10.0, escaped(name));
        for (what, began, ended) in faults.iter().filter(|(what, ..)| what.split(' ').next() == Some(name)) {
            let (x, width) = (scale.x(*began), (scale.x(*ended) - scale.x(*began)).max(1.5));
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"#d55e00\" opacity=\"0.75\">\
                 <title>{}</title></rect>",
                y + 1.0,
                ROW - 3.0,
                escaped(what)
            );
        }
    }
    gaps(history, &scale, CHART + 20.0 + rows.len() as f64 * ROW, &mut out);
    out.push_str("</svg>\n");
    out
}

/// Acknowledgements of each second.
fn throughput(history: &History, scale: &Scale, ended: u64, out: &mut String) {
    let seconds = ((ended - scale.began) / SECOND + 1) as usize;
    let mut acked = vec![0u64; seconds];
    for send in &history.sends {
        if matches!(send.outcome, Ended::Ok(_)) {
            let at = (send.end.saturating_sub(scale.began) / SECOND) as usize;
            acked.get_mut(at).into_iter().for_each(|count| *count += 1);
        }
    }
    let most = acked.iter().copied().max().unwrap_or_default().max(1);
    let point = |(second, count): (usize, &u64)| {
        let x = scale.x(scale.began + second as u64 * SECOND);
        format!("{x:.1},{:.1}", CHART - *count as f64 / most as f64 * (CHART - 15.0))
    };
    let points: Vec<String> = acked.iter().enumerate().map(point).collect();
    let _ = writeln!(
        out,
        "<text x=\"2\" y=\"10\" fill=\"#666\">acknowledged records a second, at most {most}; {seconds} s in all</text>\n\
         <line x1=\"0\" y1=\"{CHART}\" x2=\"{WIDTH}\" y2=\"{CHART}\" stroke=\"#aaa\"/>\n\
         <polyline fill=\"none\" stroke=\"#0072b2\" points=\"{}\"/>",
        points.join(" ")
    );
}

/// Times without an acknowledgement of some key, from half a second on.
fn gaps(history: &History, scale: &Scale, y: f64, out: &mut String) {
    let _ = writeln!(
        out,
        "<text x=\"2\" y=\"{}\" fill=\"#666\">gaps of 0.5 s and more, any key</text>",
        y + 10.0
    );
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    let mut ends: Vec<(u64, u32)> = history
        .sends
        .iter()
        .filter(|send| matches!(send.outcome, Ended::Ok(_)))
        .map(|send| (send.end, send.key))
        .collect();
    ends.sort_unstable();
    for (time, key) in ends {
        let Some(before) = last.insert(key, time) else { continue };
        if time - before >= SECOND / 2 {
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"#222\" opacity=\"0.35\">\
                 <title>key {key}: {:.1} s</title></rect>",
                scale.x(before),
                y + 1.0,
                scale.x(time) - scale.x(before),
                ROW - 3.0,
                (time - before) as f64 / SECOND as f64
            );
        }
    }
}
