//! What is kept of a row: a small file that is committed, from which the page is written.
use crate::probes::Probes;
use crate::rows::{Figure, Row};
use crate::run::{Measured, Place, Sample};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Median, least, most.
pub(crate) fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        all => {
            let middle = f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2]);
            (middle, all[0], all[all.len() - 1])
        }
    }
}

/// Medians of a figure, and of the ratios of its pairs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FigureSummary {
    /// As [`Figure::name`] says.
    pub(crate) figure: String,
    pub(crate) ours: f64,
    pub(crate) kafka: Option<f64>,
    /// Ours / Kafka's: median, least, most.
    pub(crate) ratio: Option<[f64; 3]>,
}

/// Broker CPU-seconds per GB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CpuSummary {
    pub(crate) user: f64,
    pub(crate) kernel: f64,
    /// Within these, what fills the file pool and unlinks.
    pub(crate) pool: f64,
    pub(crate) kafka_user: f64,
    pub(crate) kafka_kernel: f64,
}

/// A row as it was measured last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) commit: String,
    pub(crate) seconds: f64,
    pub(crate) pairs: usize,
    pub(crate) own_file_systems: bool,
    pub(crate) figures: Vec<FigureSummary>,
    pub(crate) cpu: Option<CpuSummary>,
    /// The append's median alone is kept of all.
    pub(crate) probes: Probes,
}

impl Summary {
    pub(crate) fn of(place: &Place, row: &Row, measured: &Measured) -> Summary {
        let ours =
            |of: &dyn Fn(&Sample) -> f64| median(measured.pairs.iter().map(|(own, _)| of(own)).collect()).0;
        let kafka = |of: &dyn Fn(&Sample) -> f64| {
            median(measured.pairs.iter().filter_map(|(_, other)| other.as_ref().map(of)).collect()).0
        };
        let figure = |figure: Figure| {
            let pairs = measured.pairs.iter();
            let ratios: Vec<f64> = pairs
                .filter_map(|(own, other)| Some(own.figure(figure) / other.as_ref()?.figure(figure)))
                .collect();
            let beside = !ratios.is_empty();
            let (middle, least, most) = median(ratios);
            FigureSummary {
                figure: figure.name().to_owned(),
                ours: ours(&|sample| sample.figure(figure)),
                kafka: beside.then(|| kafka(&|sample| sample.figure(figure))),
                ratio: beside
                    .then_some([middle, least, most])
                    .filter(|ratio| ratio.iter().all(|r| r.is_finite())),
            }
        };
        let cpu = row.load.has_bytes().then(|| CpuSummary {
            user: ours(&|s| s.broker.user_s / s.gb()),
            kernel: ours(&|s| s.broker.system_s / s.gb()),
            pool: ours(&|s| s.broker.background_s / s.gb()),
            kafka_user: kafka(&|s| s.broker.user_s / s.gb()),
            kafka_kernel: kafka(&|s| s.broker.system_s / s.gb()),
        });
        let mut probes = measured.probes.clone();
        probes.append_cpu_s_per_gb = vec![median(probes.append_cpu_s_per_gb).0];
        Summary {
            commit: place.commit.clone(),
            seconds: measured.seconds,
            pairs: measured.pairs.len(),
            own_file_systems: measured.own_file_systems,
            figures: row.goals.iter().map(|(of, _)| figure(*of)).collect(),
            cpu,
            probes,
        }
    }

    /// Writes the row's file.
    pub(crate) fn keep(&self, place: &Place, row: &Row) -> Result<()> {
        std::fs::create_dir_all(place.results())?;
        let file = place.results().join(format!("{}.json", row.name));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    /// What is kept of a row, if it was ever measured.
    pub(crate) fn read(place: &Place, row: &Row) -> Result<Option<Summary>> {
        let file = place.results().join(format!("{}.json", row.name));
        match std::fs::read(&file) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).with_context(|| file.display().to_string())?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median(vec![4.0, 1.0]), (2.5, 1.0, 4.0));
        assert_eq!(median(vec![9.0, 1.0, 3.0, 5.0]), (4.0, 1.0, 9.0));
        assert_eq!(median(vec![3.0, 9.0, 1.0]), (3.0, 1.0, 9.0));
    }
}
