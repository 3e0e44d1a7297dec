//! The configs of consumer groups of the new protocol (KIP-848): `group.consumer.*` of a broker, `consumer.*` of one
//! group.
use crate::broker_config::Reader;
use crate::command::ResourceKind;
use crate::config_defs::group_def;
use crate::config_value::{Value, parse_value};
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use crate::resolve::BrokerLayers;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `group.consumer.*`. Units are those of the Kafka config of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupsConfig {
    /// `group.consumer.session.timeout.ms`, the least and the most that a group may set.
    pub session_timeout_ms: Bounded,
    /// `group.consumer.heartbeat.interval.ms`, the least and the most that a group may set.
    pub heartbeat_interval_ms: Bounded,
    /// `group.consumer.assignment.interval.ms`, the least and the most that a group may set.
    pub assignment_interval_ms: Bounded,
    /// `group.consumer.max.size`.
    pub max_size: i32,
    /// `group.consumer.assignors`: the first one is the default.
    pub assignors: Vec<String>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: String,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: i32,
}

/// A time of all groups, and within which bounds one group may have another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// For groups that set nothing, milliseconds.
    pub value: i32,
    /// The least, milliseconds.
    pub min: i32,
    /// The most, milliseconds.
    pub max: i32,
}

/// What was set on one group; `None` is the broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ConsumerGroupOverrides {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`.
    pub assignment_interval_ms: Option<i32>,
}

const SESSION: [&str; 3] = [
    "group.consumer.session.timeout.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.max.session.timeout.ms",
];
const HEARTBEAT: [&str; 3] = [
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.max.heartbeat.interval.ms",
];
const ASSIGNMENT: [&str; 3] = [
    "group.consumer.assignment.interval.ms",
    "group.consumer.min.assignment.interval.ms",
    "group.consumer.max.assignment.interval.ms",
];
const ASSIGNORS: &str = "group.consumer.assignors";
/// The assignors that are built in, by Kafka's names and classes.
const BUILT_IN: [(&str, &str); 2] = [
    ("uniform", "org.apache.kafka.coordinator.group.assignor.UniformAssignor"),
    ("range", "org.apache.kafka.coordinator.group.assignor.RangeAssignor"),
];

/// The name of a built-in assignor that is named by name or class.
fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(short, class)| *short == name || *class == name).map(|(short, _)| *short)
}

impl Bounded {
    fn resolve(r: &Reader<'_>, [value, min, max]: [&'static str; 3]) -> Bounded {
        Bounded { value: r.int(value), min: r.int(min), max: r.int(max) }
    }

    fn check(self, [value, min, max]: [&str; 3]) -> Result<(), String> {
        let wrong = if self.max < self.min {
            Some(format!("{max} must be greater than or equal to {min}"))
        } else if self.value < self.min {
            Some(format!("{value} must be greater than or equal to {min}"))
        } else if self.value > self.max {
            Some(format!("{value} must be less than or equal to {max}"))
        } else {
            None
        };
        wrong.map_or(Ok(()), Err)
    }
}

impl ConsumerGroupsConfig {
    pub(crate) fn resolve(r: &Reader<'_>) -> ConsumerGroupsConfig {
        ConsumerGroupsConfig {
            session_timeout_ms: Bounded::resolve(r, SESSION),
            heartbeat_interval_ms: Bounded::resolve(r, HEARTBEAT),
            assignment_interval_ms: Bounded::resolve(r, ASSIGNMENT),
            max_size: r.int("group.consumer.max.size"),
            assignors: r.list(ASSIGNORS),
            migration_policy: r.text("group.consumer.migration.policy").unwrap_or_default(),
            regex_refresh_interval_ms: r.int("group.consumer.regex.refresh.interval.ms"),
        }
    }

    /// The built-in assignors that are named, by their short names.
    pub fn assignor_names(&self) -> impl Iterator<Item = &'static str> {
        self.assignors.iter().filter_map(|name| built_in(name))
    }

    /// Kafka's rules between these settings. The error is a sentence for whoever wrote the file.
    pub fn check(&self) -> Result<(), String> {
        self.heartbeat_interval_ms.check(HEARTBEAT)?;
        self.session_timeout_ms.check(SESSION)?;
        self.assignment_interval_ms.check(ASSIGNMENT)?;
        if self.heartbeat_interval_ms.value >= self.session_timeout_ms.value {
            return Err(format!("{} must be less than {}", HEARTBEAT[0], SESSION[0]));
        }
        if let Some(name) = self.assignors.iter().find(|name| built_in(name).is_none()) {
            return Err(format!(
                "{ASSIGNORS}: {name} is not one of uniform and range; classes cannot be loaded"
            ));
        }
        if self.assignors.is_empty() {
            return Err(format!("{ASSIGNORS} must name an assignor"));
        }
        Ok(())
    }
}

/// Checks the settings of consumer groups in a node's file, flags and environment.
///
/// # Errors
/// A sentence that names the config and what contradicts it.
pub fn check_consumer_groups(fixed: &BTreeMap<String, String>) -> Result<(), String> {
    let layers = BrokerLayers { fixed: Arc::new(fixed.clone()), ..BrokerLayers::default() };
    ConsumerGroupsConfig::resolve(&Reader(&layers)).check()
}

/// Checks a change of the one of these settings that may change while a broker runs.
pub(crate) fn check_assignment_interval(layers: &BrokerLayers) -> ItemResult<()> {
    let interval = Bounded::resolve(&Reader(layers), ASSIGNMENT);
    interval.check(ASSIGNMENT).map_err(ItemError::invalid_request)
}

/// The name of that setting.
pub(crate) const ASSIGNMENT_INTERVAL: &str = ASSIGNMENT[0];

impl Image {
    /// Groups with settings of their own for consumer groups.
    pub fn consumer_overrides(&self) -> impl Iterator<Item = (&str, ConsumerGroupOverrides)> {
        let groups = self.resources_of(ResourceKind::Group);
        groups.map(|(name, set)| (name, overrides(set))).filter(|(_, own)| *own != Default::default())
    }
}

fn overrides(set: &Entries) -> ConsumerGroupOverrides {
    let number = |name: &str| match parse_value(group_def(name)?, set.get(name)?).ok()? {
        Value::Int(n) => i32::try_from(n).ok(),
        _ => None,
    };
    ConsumerGroupOverrides {
        session_timeout_ms: number("consumer.session.timeout.ms"),
        heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
        assignment_interval_ms: number("consumer.assignment.interval.ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(set: &[(&str, &str)]) -> Result<(), String> {
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check_consumer_groups(&set)
    }

    #[test]
    fn the_defaults_are_valid_and_uniform_is_the_first_assignor() {
        assert_eq!(judge(&[]), Ok(()));
        let layers = BrokerLayers::default();
        let config = ConsumerGroupsConfig::resolve(&Reader(&layers));
        assert_eq!(config.assignor_names().collect::<Vec<_>>(), ["uniform", "range"]);
        assert_eq!(config.session_timeout_ms, Bounded { value: 45_000, min: 45_000, max: 60_000 });
        assert_eq!(config.migration_policy, "bidirectional");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_by_name() {
        for (name, value, said) in [
            (SESSION[0], "44999", SESSION[1]),
            (SESSION[0], "60001", SESSION[2]),
            (SESSION[1], "60001", SESSION[2]),
            (HEARTBEAT[0], "15001", HEARTBEAT[2]),
            (HEARTBEAT[0], "4999", HEARTBEAT[1]),
            (ASSIGNMENT[0], "15001", ASSIGNMENT[2]),
            (ASSIGNORS, "", ASSIGNORS),
            (ASSIGNORS, "uniform,com.example.Mine", "com.example.Mine"),
        ] {
            let why = judge(&[(name, value)]).unwrap_err();
            assert!(why.contains(said), "{name}={value}: {why}");
        }
        let late = [(SESSION[1], "5000"), (SESSION[0], "5000")];
        assert_eq!(judge(&late), Err(format!("{} must be less than {}", HEARTBEAT[0], SESSION[0])));
        assert_eq!(judge(&[(ASSIGNORS, BUILT_IN[1].1)]), Ok(()), "a built-in one by its class");
    }
}
