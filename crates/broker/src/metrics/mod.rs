//! What the broker counts: names and texts in one table, a recorder for the `metrics` facade whose
//! histograms are fixed buckets, and handles that are resolved once.
pub mod handles;
pub mod names;
pub mod recorder;
pub mod render;

pub use handles::BrokerMetrics;
pub use recorder::{Registry, install};
