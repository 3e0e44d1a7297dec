//! Every config that is known here: name, type, default, range, meaning.
//!
//! Names, types and ranges are Kafka 4.4's, so that its tools and files fit; the sentences are ours.
mod broker_coordinator;
mod broker_log;
mod broker_network;
mod broker_ours;
mod broker_quorum;
mod broker_security;
mod group;
mod topic;
mod why;

use crate::config_def::ConfigDef;
use std::sync::OnceLock;

/// Words of `compression.type`.
pub(crate) const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
/// The value of `replica.selector.class` that sends consumers to a replica of their rack (KIP-392).
pub(crate) const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
/// Values of `replica.selector.class`; the other one is the default.
pub(crate) const REPLICA_SELECTORS: &[&str] =
    &[RACK_AWARE_SELECTOR, "org.apache.kafka.common.replica.LeaderSelector"];
pub(crate) const INT_MAX: i64 = i32::MAX as i64;
pub(crate) const LONG_MAX: i64 = i64::MAX;

/// Topic configs in order of their names.
pub fn topic_defs() -> &'static [&'static ConfigDef] {
    static SORTED: OnceLock<Vec<&'static ConfigDef>> = OnceLock::new();
    SORTED.get_or_init(|| sorted(&[topic::DEFS]))
}

/// Broker configs in order of their names.
pub fn broker_defs() -> &'static [&'static ConfigDef] {
    static SORTED: OnceLock<Vec<&'static ConfigDef>> = OnceLock::new();
    SORTED.get_or_init(|| {
        sorted(&[
            broker_coordinator::DEFS,
            broker_log::DEFS,
            broker_network::DEFS,
            broker_ours::DEFS,
            broker_quorum::DEFS,
            broker_security::DEFS,
        ])
    })
}

/// Group configs in order of their names.
pub fn group_defs() -> &'static [&'static ConfigDef] {
    static SORTED: OnceLock<Vec<&'static ConfigDef>> = OnceLock::new();
    SORTED.get_or_init(|| sorted(&[group::GROUP_DEFS]))
}

/// Configs of a client metrics subscription in order of their names.
pub fn client_metrics_defs() -> &'static [&'static ConfigDef] {
    static SORTED: OnceLock<Vec<&'static ConfigDef>> = OnceLock::new();
    SORTED.get_or_init(|| sorted(&[group::CLIENT_METRICS_DEFS]))
}

fn sorted(tables: &[&'static [ConfigDef]]) -> Vec<&'static ConfigDef> {
    let mut all: Vec<&'static ConfigDef> = tables.iter().flat_map(|t| t.iter()).collect();
    all.sort_by_key(|d| d.name);
    all
}

fn find(defs: &'static [&'static ConfigDef], name: &str) -> Option<&'static ConfigDef> {
    defs.binary_search_by_key(&name, |d| d.name).ok().map(|i| defs[i])
}

/// The topic config of this name.
pub fn topic_def(name: &str) -> Option<&'static ConfigDef> {
    find(topic_defs(), name)
}

/// The broker config of this name.
pub fn broker_def(name: &str) -> Option<&'static ConfigDef> {
    find(broker_defs(), name)
}

/// The group config of this name.
pub fn group_def(name: &str) -> Option<&'static ConfigDef> {
    find(group_defs(), name)
}

/// The client metrics config of this name.
pub fn client_metrics_def(name: &str) -> Option<&'static ConfigDef> {
    find(client_metrics_defs(), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_value::parse_value;

    #[test]
    fn names_are_unique_and_defaults_fit_their_own_rules() {
        for defs in [topic_defs(), broker_defs(), group_defs(), client_metrics_defs()] {
            for pair in defs.windows(2) {
                assert!(pair[0].name < pair[1].name, "{} twice", pair[0].name);
            }
            for def in defs {
                if let Some(default) = def.default.filter(|d| !d.is_empty()) {
                    parse_value(def, default).unwrap();
                }
                assert!(!def.documentation().is_empty(), "{}", def.name);
            }
        }
    }

    #[test]
    fn synonyms_of_topics_and_groups_are_broker_configs() {
        for def in topic_defs().iter().chain(group_defs()).chain(broker_defs()) {
            for synonym in def.synonyms {
                assert!(broker_def(synonym.name).is_some(), "{} of {}", synonym.name, def.name);
            }
        }
    }
}
