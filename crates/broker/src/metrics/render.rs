//! The Prometheus text format.
use super::names::{self, Kind, Metric};
use super::recorder::{MAX_SERIES, Registry};
use std::fmt::Write;

/// What the broker thread contributes to one scrape.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Plain values: metric, rendered labels, value.
    pub values: Vec<(&'static str, String, f64)>,
    /// One row a partition.
    pub partitions: Vec<PartitionRow>,
    /// One row a committed offset.
    pub groups: Vec<GroupRow>,
}

/// A partition's gauges.
#[derive(Debug)]
pub struct PartitionRow {
    /// Topic name.
    pub topic: std::sync::Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// First readable offset.
    pub log_start: i64,
    /// Offset of the next record.
    pub log_end: i64,
    /// High watermark.
    pub high_watermark: i64,
    /// Last stable offset.
    pub last_stable_offset: i64,
    /// Bytes.
    pub size: u64,
    /// Whether this node leads it.
    pub leads: bool,
    /// What is known where it is led.
    pub led: Option<LedRow>,
}

/// What only a partition's leader knows.
#[derive(Debug)]
pub struct LedRow {
    /// Bytes a second that it takes in.
    pub rate: u64,
    /// Nodes of its other replicas, and by how many entries of the log each is behind.
    pub lags: Vec<(model::NodeId, u64)>,
}

/// A group's committed offset.
#[derive(Debug)]
pub struct GroupRow {
    /// Group id.
    pub group: String,
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Committed offset.
    pub offset: i64,
    /// Records behind the high watermark; `None` when the partition is unknown or untouched.
    pub lag: Option<i64>,
}

/// One whole scrape.
pub fn scrape(registry: &Registry, snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(16 * 1024 + snapshot.partitions.len() * 400);
    let mut dropped = registry.dropped();
    for metric in names::ALL {
        if metric.name == names::SERIES_DROPPED || registry.write_family(metric, &mut out) {
            continue;
        }
        dropped += write_rows(metric, snapshot, &mut out);
    }
    if let Some(metric) = names::ALL.iter().find(|m| m.name == names::SERIES_DROPPED) {
        head(metric, &mut out);
        sample(metric.name, "", dropped as f64, &mut out);
    }
    out
}

/// These are in each row of a partition; others that have its labels are plain values.
const OF_EVERY_PARTITION: [&str; 6] = [
    names::PARTITION_LOG_START,
    names::PARTITION_LOG_END,
    names::PARTITION_HIGH_WATERMARK,
    names::PARTITION_LAST_STABLE,
    names::PARTITION_SIZE,
    names::PARTITION_LEADER,
];

/// A value of each partition that is in every row.
fn of_every(name: &str, row: &PartitionRow) -> f64 {
    match name {
        names::PARTITION_LOG_START => row.log_start as f64,
        names::PARTITION_LOG_END => row.log_end as f64,
        names::PARTITION_HIGH_WATERMARK => row.high_watermark as f64,
        names::PARTITION_LAST_STABLE => row.last_stable_offset as f64,
        names::PARTITION_LEADER => f64::from(u8::from(row.leads)),
        _ => row.size as f64,
    }
}

/// Topic and partition of a row, and what else tells its series apart.
fn of_partition(row: &PartitionRow, more: Option<(&str, &str)>) -> String {
    let number = row.partition.to_string();
    labels([("topic", &*row.topic), ("partition", number.as_str())].into_iter().chain(more))
}

/// Rows of partitions that this node leads.
fn led(snapshot: &Snapshot) -> impl Iterator<Item = (&PartitionRow, &LedRow)> {
    snapshot.partitions.iter().filter_map(|row| Some((row, row.led.as_ref()?)))
}

fn write_rows(metric: &Metric, snapshot: &Snapshot, out: &mut String) -> u64 {
    let mut written = 0usize;
    let mut put = |labels: &dyn Fn() -> String, value: f64, out: &mut String| {
        if written == 0 {
            head(metric, out);
        }
        if written < MAX_SERIES {
            sample(metric.name, &labels(), value, out);
        }
        written += 1;
    };
    if OF_EVERY_PARTITION.contains(&metric.name) {
        for row in &snapshot.partitions {
            put(&|| of_partition(row, None), of_every(metric.name, row), out);
        }
    } else if metric.name == names::PARTITION_RATE {
        for (row, led) in led(snapshot) {
            put(&|| of_partition(row, Some(("direction", "in"))), led.rate as f64, out);
        }
    } else if metric.name == names::PARTITION_LAG {
        for (row, (node, lag)) in
            led(snapshot).flat_map(|(row, led)| led.lags.iter().map(move |lag| (row, lag)))
        {
            put(&|| of_partition(row, Some(("replica", &node.to_string()))), *lag as f64, out);
        }
    } else if metric.labels == ["group", "topic", "partition"] {
        for row in &snapshot.groups {
            let value = if metric.name == names::GROUP_OFFSET { Some(row.offset) } else { row.lag };
            let Some(value) = value else { continue };
            let number = row.partition.to_string();
            let text = || {
                labels([("group", &*row.group), ("topic", &*row.topic), ("partition", &number)].into_iter())
            };
            put(&text, value as f64, out);
        }
    } else {
        for (_, text, value) in snapshot.values.iter().filter(|(name, ..)| *name == metric.name) {
            put(&|| text.clone(), *value, out);
        }
    }
    written.saturating_sub(MAX_SERIES) as u64
}

/// `HELP` and `TYPE`.
pub(crate) fn head(metric: &Metric, out: &mut String) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
}

/// One line.
pub(crate) fn sample(name: &str, labels: &str, value: f64, out: &mut String) {
    let _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

/// The lines of one histogram series.
pub(crate) fn histogram(
    name: &str,
    labels: &str,
    bounds: &[f64],
    buckets: &[u64],
    sum: f64,
    out: &mut String,
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut total = 0;
    for (at, count) in buckets.iter().enumerate() {
        total += count;
        let _ = match bounds.get(at) {
            Some(bound) => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}"),
            None => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}"),
        };
    }
    sample(&format!("{name}_sum"), labels, sum, out);
    sample(&format!("{name}_count"), labels, total as f64, out);
}

/// `a="x",b="y"`, escaped.
pub(crate) fn labels<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(key);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_cannot_break_out_of_their_quotes() {
        assert_eq!(labels([("group", "a\"} 1\n\\")].into_iter()), "group=\"a\\\"} 1\\n\\\\\"");
    }

    fn row(partition: i32, led: Option<LedRow>) -> PartitionRow {
        PartitionRow {
            topic: "t".into(),
            partition,
            log_start: 1,
            log_end: 9,
            high_watermark: 8,
            last_stable_offset: 6,
            size: 77,
            leads: led.is_some(),
            led,
        }
    }

    #[test]
    fn a_scrape_shows_partitions_and_groups() {
        let snapshot = Snapshot {
            values: vec![
                (names::READY, String::new(), 1.0),
                (names::INSTALL_LEFT, "topic=\"t\",partition=\"4\"".to_owned(), 55.0),
            ],
            partitions: vec![row(3, Some(LedRow { rate: 500, lags: vec![(2, 0), (4, 17)] })), row(5, None)],
            groups: vec![GroupRow {
                group: "g".into(),
                topic: "t".into(),
                partition: 3,
                offset: 5,
                lag: Some(3),
            }],
        };
        let text = scrape(&Registry::default(), &snapshot);
        assert!(text.contains("plimsoll_ready 1\n"));
        let left: Vec<&str> =
            text.lines().filter(|line| line.starts_with("plimsoll_install_bytes_left{")).collect();
        assert_eq!(left, ["plimsoll_install_bytes_left{topic=\"t\",partition=\"4\"} 55"]);
        assert!(text.contains("plimsoll_partition_size_bytes{topic=\"t\",partition=\"3\"} 77\n"));
        assert!(text.contains("plimsoll_partition_high_watermark{topic=\"t\",partition=\"3\"} 8\n"));
        assert!(text.contains("plimsoll_partition_last_stable_offset{topic=\"t\",partition=\"3\"} 6\n"));
        assert!(text.contains("plimsoll_group_lag_records{group=\"g\",topic=\"t\",partition=\"3\"} 3\n"));
        let rows = |name: &str| -> Vec<&str> {
            text.lines().filter_map(|line| line.strip_prefix(name)).filter(|l| l.starts_with('{')).collect()
        };
        assert_eq!(
            rows("plimsoll_partition_leader"),
            ["{topic=\"t\",partition=\"3\"} 1", "{topic=\"t\",partition=\"5\"} 0"]
        );
        assert_eq!(
            rows("plimsoll_partition_bytes_per_second"),
            ["{topic=\"t\",partition=\"3\",direction=\"in\"} 500"]
        );
        assert_eq!(
            rows("plimsoll_partition_replica_lag_entries"),
            [
                "{topic=\"t\",partition=\"3\",replica=\"2\"} 0",
                "{topic=\"t\",partition=\"3\",replica=\"4\"} 17"
            ]
        );
        assert!(text.contains("plimsoll_metrics_series_dropped_total 0\n"));
    }

    #[test]
    fn rows_of_replicas_are_capped_and_what_is_hidden_is_counted() {
        let led = || Some(LedRow { rate: 1, lags: vec![(2, 0), (3, 0)] });
        let partitions = (0..MAX_SERIES as i32).map(|at| row(at, led())).collect();
        let snapshot = Snapshot { partitions, ..Snapshot::default() };
        let text = scrape(&Registry::default(), &snapshot);
        let rows = text.lines().filter(|line| line.starts_with("plimsoll_partition_replica_lag_entries{"));
        assert_eq!(rows.count(), MAX_SERIES);
        assert!(text.contains(&format!("plimsoll_metrics_series_dropped_total {MAX_SERIES}\n")));
    }
}
