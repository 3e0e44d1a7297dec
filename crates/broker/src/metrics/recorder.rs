//! The recorder behind the `metrics` facade: atomics for counters and gauges, fixed buckets for
//! histograms, a cap on series. Registration locks; a resolved handle never does.
use super::names::{self, Kind, Metric};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Series that one metric may show.
pub const MAX_SERIES: usize = 20_000;

struct CounterCell(AtomicU64);

impl CounterFn for CounterCell {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

struct GaugeCell(AtomicU64);

impl GaugeCell {
    fn update(&self, f: impl Fn(f64) -> f64) {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let next = f(f64::from_bits(bits)).to_bits();
            match self.0.compare_exchange_weak(bits, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => bits = now,
            }
        }
    }
}

impl GaugeFn for GaugeCell {
    fn increment(&self, value: f64) {
        self.update(|v| v + value);
    }

    fn decrement(&self, value: f64) {
        self.update(|v| v - value);
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

struct HistogramCell {
    bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    /// Millionths, so that one addition keeps it exact enough.
    sum_micros: AtomicU64,
}

impl HistogramFn for HistogramCell {
    fn record(&self, value: f64) {
        let at = self.bounds.iter().position(|b| value <= *b).unwrap_or(self.bounds.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }
}

enum Series {
    Counter(Arc<CounterCell>),
    Gauge(Arc<GaugeCell>),
    Histogram(Arc<HistogramCell>),
}

/// All series by metric and labels. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<Mutex<BTreeMap<String, BTreeMap<String, Series>>>>,
    dropped: Arc<AtomicU64>,
}

/// Installs a registry as the process's recorder and returns it; a second call returns a registry of
/// its own that the facade does not feed (tests start several brokers in one process).
pub fn install() -> Registry {
    let registry = Registry::default();
    // Only the first recorder of a process can be installed; later ones still work by handle.
    let _ = metrics::set_global_recorder(registry.clone());
    registry
}

impl Registry {
    /// A counter by name and labels.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.register_counter(&key(name, labels), &METADATA)
    }

    /// A gauge by name and labels.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.register_gauge(&key(name, labels), &METADATA)
    }

    /// A histogram by name and labels, with the buckets of its table row.
    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.register_histogram(&key(name, labels), &METADATA)
    }

    /// Series hidden by the cap so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes every registered series of `metric`.
    pub(crate) fn write_family(&self, metric: &Metric, out: &mut String) -> bool {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(family) = families.get(metric.name).filter(|f| !f.is_empty()) else { return false };
        super::render::head(metric, out);
        for (labels, series) in family {
            match series {
                Series::Counter(c) => {
                    super::render::sample(metric.name, labels, c.0.load(Ordering::Relaxed) as f64, out);
                }
                Series::Gauge(g) => {
                    super::render::sample(
                        metric.name,
                        labels,
                        f64::from_bits(g.0.load(Ordering::Relaxed)),
                        out,
                    );
                }
                Series::Histogram(h) => {
                    let buckets: Vec<u64> = h.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
                    let sum = h.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
                    super::render::histogram(metric.name, labels, h.bounds, &buckets, sum, out);
                }
            }
        }
        true
    }

    fn series<T>(
        &self,
        key: &Key,
        make: impl FnOnce() -> Series,
        pick: impl Fn(&Series) -> Option<T>,
    ) -> Option<T> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if !families.contains_key(key.name()) {
            families.insert(key.name().to_string(), BTreeMap::new());
        }
        let family = families.get_mut(key.name())?;
        let labels = super::render::labels(key.labels().map(|l| (l.key(), l.value())));
        if !family.contains_key(&labels) && family.len() >= MAX_SERIES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        pick(family.entry(labels).or_insert_with(make))
    }
}

const METADATA: Metadata<'static> = Metadata::new("broker", metrics::Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<metrics::Label> =
        labels.iter().map(|(k, v)| metrics::Label::new(*k, v.to_string())).collect();
    Key::from_parts(name, labels)
}

fn bounds_of(name: &str) -> &'static [f64] {
    match names::ALL.iter().find(|m| m.name == name).map(|m| m.kind) {
        Some(Kind::Histogram(bounds)) => bounds,
        _ => names::SECONDS,
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let make = || Series::Counter(Arc::new(CounterCell(AtomicU64::new(0))));
        let pick = |s: &Series| if let Series::Counter(c) = s { Some(c.clone()) } else { None };
        self.series(key, make, pick).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let make = || Series::Gauge(Arc::new(GaugeCell(AtomicU64::new(0f64.to_bits()))));
        let pick = |s: &Series| if let Series::Gauge(g) = s { Some(g.clone()) } else { None };
        self.series(key, make, pick).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let bounds = bounds_of(key.name());
        let make = || {
            Series::Histogram(Arc::new(HistogramCell {
                bounds,
                buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
                sum_micros: AtomicU64::new(0),
            }))
        };
        let pick = |s: &Series| if let Series::Histogram(h) = s { Some(h.clone()) } else { None };
        self.series(key, make, pick).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_render_cumulative_buckets() {
        let registry = Registry::default();
        let h = registry.histogram(names::REQUEST_SECONDS, &[("api", "Fetch")]);
        h.record(0.0001);
        h.record(0.3);
        h.record(99.0);
        let metric = names::ALL.iter().find(|m| m.name == names::REQUEST_SECONDS).unwrap();
        let mut out = String::new();
        assert!(registry.write_family(metric, &mut out));
        assert!(out.contains("plimsoll_request_seconds_bucket{api=\"Fetch\",le=\"0.0001\"} 1\n"), "{out}");
        assert!(out.contains("plimsoll_request_seconds_bucket{api=\"Fetch\",le=\"30\"} 2\n"), "{out}");
        assert!(out.contains("plimsoll_request_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 3\n"), "{out}");
        assert!(out.contains("plimsoll_request_seconds_count{api=\"Fetch\"} 3\n"), "{out}");
        assert!(out.contains("plimsoll_request_seconds_sum{api=\"Fetch\"} 99.3001\n"), "{out}");
    }

    #[test]
    fn series_above_the_cap_are_dropped_and_counted() {
        let registry = Registry::default();
        for i in 0..MAX_SERIES + 3 {
            registry.counter(names::REQUESTS, &[("api", &i.to_string())]).increment(1);
        }
        assert_eq!(registry.dropped(), 3);
    }
}
