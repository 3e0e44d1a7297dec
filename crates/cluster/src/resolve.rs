//! Which value of a config holds: the layers, from the topic's own down to the default.
use crate::config_def::{ConfigDef, Unit};
use crate::config_defs::broker_def;
use crate::config_value::{Value, parse_value};
use crate::entries::Entries;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a value comes from, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic,
    /// Set for this broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// From this broker's file, flags or environment.
    StaticBroker,
    /// The built-in default.
    Default,
    /// A log level set while it runs.
    DynamicBrokerLogger,
    /// Set on a client metrics subscription.
    ClientMetrics,
    /// Set on a group.
    Group,
}

impl ConfigSource {
    /// Kafka's number.
    pub fn to_wire(self) -> i8 {
        match self {
            ConfigSource::DynamicTopic => 1,
            ConfigSource::DynamicBroker => 2,
            ConfigSource::DynamicDefaultBroker => 3,
            ConfigSource::StaticBroker => 4,
            ConfigSource::Default => 5,
            ConfigSource::DynamicBrokerLogger => 6,
            ConfigSource::ClientMetrics => 7,
            ConfigSource::Group => 8,
        }
    }
}

/// The broker-level layers of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BrokerLayers {
    /// Dynamic configs of this node.
    pub(crate) node: Entries,
    /// Dynamic configs of all nodes.
    pub(crate) cluster: Entries,
    /// This node's file, flags and environment.
    pub(crate) fixed: Arc<BTreeMap<String, String>>,
}

/// A value, its layer and the broker config that gave it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layered {
    pub(crate) name: &'static str,
    pub(crate) value: Option<String>,
    pub(crate) source: ConfigSource,
}

impl BrokerLayers {
    fn explicit(&self, name: &str) -> Option<(&str, ConfigSource)> {
        if let Some(value) = self.node.get(name) {
            return Some((value, ConfigSource::DynamicBroker));
        }
        if let Some(value) = self.cluster.get(name) {
            return Some((value, ConfigSource::DynamicDefaultBroker));
        }
        self.fixed.get(name).map(|v| (v.as_str(), ConfigSource::StaticBroker))
    }

    /// Whether any layer above the default sets the broker config.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.explicit(name).is_some()
    }

    /// What is set for the broker configs that stand in for `def`. What does not parse is
    /// passed over: admission let none in, and a file of another release must not stop a node.
    fn set(&self, def: &ConfigDef) -> Option<Value> {
        let family =
            if def.synonyms.is_empty() { &[crate::config_def::same(def.name)] } else { def.synonyms };
        family.iter().find_map(|synonym| {
            let (text, _) = self.explicit(synonym.name)?;
            let value = parse_value(broker_def(synonym.name)?, text).ok()?;
            // A name of a family reads its own unit: log.retention.hours is in hours, whoever asks.
            Some(convert(value, synonym.unit, def))
        })
    }

    /// The value that holds for a broker config.
    pub(crate) fn broker_value(&self, def: &ConfigDef) -> Option<Value> {
        self.explicit(def.name)
            .and_then(|(text, _)| parse_value(def, text).ok())
            .or_else(|| def.default.and_then(|d| parse_value(def, d).ok()))
    }

    /// The value that a topic or group config has below its own layer.
    pub(crate) fn inherited(&self, def: &ConfigDef) -> Option<Value> {
        let default = || def.default.or_else(|| broker_def(def.synonyms.first()?.name)?.default);
        self.set(def).or_else(|| parse_value(def, default()?).ok())
    }

    /// Every layer's value of the given broker configs, in the order of DescribeConfigs.
    pub(crate) fn synonyms(&self, names: &[&'static str]) -> Vec<Layered> {
        let mut all = Vec::new();
        let mut add = |name: &'static str, value: Option<&str>, source| {
            if let Some(value) = value {
                all.push(Layered { name, value: Some(value.to_owned()), source });
            }
        };
        for name in names {
            add(name, self.node.get(name), ConfigSource::DynamicBroker);
        }
        for name in names {
            add(name, self.cluster.get(name), ConfigSource::DynamicDefaultBroker);
        }
        for name in names {
            add(name, self.fixed.get(*name).map(String::as_str), ConfigSource::StaticBroker);
        }
        for name in names {
            add(name, broker_def(name).and_then(|d| d.default), ConfigSource::Default);
        }
        all
    }
}

fn convert(value: Value, unit: Unit, def: &ConfigDef) -> Value {
    let factor = match unit {
        Unit::Same => 1,
        Unit::Minutes => 60_000,
        Unit::Hours => 3_600_000,
    };
    match value {
        Value::Int(n) if n > 0 && factor > 1 => Value::Int(n.saturating_mul(factor)),
        // Kafka takes any negative log.retention.* for "never".
        Value::Int(n) if n < 0 && def.name == "retention.ms" => Value::Int(-1),
        other => other,
    }
}
