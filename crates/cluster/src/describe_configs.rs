//! Answering DescribeConfigs and ListConfigResources.
use crate::broker_config_rules::check_broker_name;
use crate::command::ResourceKind;
use crate::config_def::{ConfigDef, Dynamic};
use crate::config_defs::{broker_defs, client_metrics_defs, group_defs, topic_defs};
use crate::config_value::parse_value;
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use crate::resolve::{ConfigSource, Layered};
use crate::topic_name::validate_topic_name;
use model::{ErrorCode, NodeId};

/// One resource of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeResource {
    /// Kafka's number of the resource type.
    pub kind: i8,
    /// Its name.
    pub name: String,
    /// Configs to tell; `None` or empty: all.
    pub keys: Option<Vec<String>>,
}

/// The answer for one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedResource {
    /// Kafka's number of the resource type.
    pub kind: i8,
    /// Its name.
    pub name: String,
    /// Its configs in order of their names, or why not.
    pub result: ItemResult<Vec<DescribedConfig>>,
}

/// One config as DescribeConfigs tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedConfig {
    /// Its name.
    pub name: String,
    /// Its value; `None` for null and for secrets.
    pub value: Option<String>,
    /// Cannot change while the broker runs.
    pub read_only: bool,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// A secret.
    pub is_sensitive: bool,
    /// Every layer that has a value, the one that holds first.
    pub synonyms: Vec<DescribedSynonym>,
    /// Kafka's number of the type; 0 where there is none.
    pub kind: i8,
    /// What it does; `None` unless asked for.
    pub documentation: Option<String>,
}

/// A layer's value.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedSynonym {
    /// Name of the config that gives it.
    pub name: String,
    /// Its value; `None` for secrets.
    pub value: Option<String>,
    /// The layer.
    pub source: ConfigSource,
}

/// Answers each resource. `loggers` are this node's loggers with their levels.
pub fn describe_configs(
    image: &Image,
    resources: &[DescribeResource],
    with_synonyms: bool,
    with_documentation: bool,
    loggers: &[(String, String)],
) -> Vec<DescribedResource> {
    let answer = |r: &DescribeResource| {
        let all = describe(image, r, with_synonyms, with_documentation, loggers);
        let result = all.map(|mut configs| {
            if let Some(keys) = r.keys.as_ref().filter(|k| !k.is_empty()) {
                configs.retain(|c| keys.contains(&c.name));
            }
            configs
        });
        DescribedResource { kind: r.kind, name: r.name.clone(), result }
    };
    resources.iter().map(answer).collect()
}

fn describe(
    image: &Image,
    resource: &DescribeResource,
    synonyms: bool,
    documentation: bool,
    loggers: &[(String, String)],
) -> ItemResult<Vec<DescribedConfig>> {
    let name = resource.name.as_str();
    match ResourceKind::from_wire(resource.kind) {
        Some(ResourceKind::Topic) => {
            validate_topic_name(name)?;
            let Some(topic) = image.topic(name) else {
                return Err(ItemError::bare(ErrorCode::UnknownTopicOrPartition));
            };
            let shown = topic_defs().iter().filter(|d| !d.internal || topic.configs.get(d.name).is_some());
            Ok(shown
                .map(|d| topic_config(image, topic.internal, &topic.configs, d, synonyms, documentation))
                .collect())
        }
        Some(ResourceKind::Broker) if name.is_empty() => {
            let set =
                image.layers.cluster.iter().filter_map(|(name, _)| crate::config_defs::broker_def(name));
            Ok(set.map(|d| broker_config(image, d, false, synonyms, documentation)).collect())
        }
        Some(ResourceKind::Broker) => {
            check_this_node(image, name)?;
            let shown = broker_defs().iter().filter(|d| !d.internal || image.layers.is_set(d.name));
            Ok(shown.map(|d| broker_config(image, d, true, synonyms, documentation)).collect())
        }
        Some(ResourceKind::BrokerLogger) if name.is_empty() => {
            Err(ItemError::invalid_request("Broker id must not be empty"))
        }
        Some(ResourceKind::BrokerLogger) => {
            check_this_node(image, name)?;
            Ok(loggers.iter().map(|(name, level)| logger(name, level)).collect())
        }
        Some(ResourceKind::ClientMetrics) if name.is_empty() => {
            Err(ItemError::invalid_request("Client metrics subscription name must not be empty"))
        }
        Some(ResourceKind::ClientMetrics) => {
            let own = image.resource(ResourceKind::ClientMetrics, name).cloned().unwrap_or_default();
            let describe = |d: &&'static ConfigDef| client_metrics_config(&own, d, synonyms, documentation);
            Ok(client_metrics_defs().iter().map(describe).collect())
        }
        Some(ResourceKind::Group) if name.is_empty() => {
            Err(ItemError::invalid_request("Group name must not be empty"))
        }
        Some(ResourceKind::Group) => {
            let own = image.resource(ResourceKind::Group, name).cloned().unwrap_or_default();
            let shown = group_defs().iter().filter(|d| !d.internal || own.get(d.name).is_some());
            Ok(shown.map(|d| group_config(image, &own, d, synonyms, documentation)).collect())
        }
        None => Err(ItemError::invalid_request(format!("Unsupported resource type: {}", resource.kind))),
    }
}

/// Only a node itself knows its file: clients send this request to the node that they ask about.
fn check_this_node(image: &Image, name: &str) -> ItemResult<()> {
    match name.parse::<NodeId>() {
        Err(_) => Err(ItemError::invalid_request(format!("Broker id must be an integer, but it is: {name}"))),
        Ok(id) if id == image.node_id => check_broker_name(image, name),
        Ok(_) => Err(ItemError::invalid_request(format!(
            "Unexpected broker id, expected {} or empty string, but received {name}",
            image.node_id
        ))),
    }
}

/// Puts together one config from its value and its layers.
fn described(
    def: &'static ConfigDef,
    value: Option<String>,
    layers: Vec<Layered>,
    read_only: bool,
    synonyms: bool,
    documentation: bool,
) -> DescribedConfig {
    let secret = def.is_sensitive();
    let source = layers.first().map_or(ConfigSource::Default, |l| l.source);
    let synonym = |l: Layered| DescribedSynonym {
        name: l.name.to_owned(),
        value: l.value.filter(|_| !secret),
        source: l.source,
    };
    DescribedConfig {
        name: def.name.to_owned(),
        value: value.filter(|_| !secret),
        read_only,
        source,
        is_sensitive: secret,
        synonyms: if synonyms { layers.into_iter().map(synonym).collect() } else { Vec::new() },
        kind: def.kind.to_wire(),
        documentation: documentation.then(|| def.documentation()),
    }
}

/// The text of `own`'s value as its type prints it.
fn own_value(own: &Entries, def: &ConfigDef) -> Option<String> {
    own.get(def.name).map(|text| parse_value(def, text).map_or_else(|_| text.to_owned(), |v| v.to_text()))
}

/// As Kafka tells them: only from the first layer on that sets the first broker config of the family.
fn inherited_layers(image: &Image, def: &'static ConfigDef) -> Vec<Layered> {
    let names: Vec<&'static str> = def.synonyms.iter().map(|s| s.name).collect();
    let mut layers = image.layers.synonyms(&names);
    let skip = layers.iter().position(|l| Some(&l.name) == names.first()).unwrap_or(layers.len());
    layers.drain(..skip);
    layers
}

/// A broker's `write.caching` is for topics of users alone.
fn is_inherited(internal: bool, def: &ConfigDef) -> bool {
    !internal || def.name != "write.caching"
}

pub(crate) fn topic_config(
    image: &Image,
    internal: bool,
    own: &Entries,
    def: &'static ConfigDef,
    synonyms: bool,
    documentation: bool,
) -> DescribedConfig {
    let set = own_value(own, def);
    let (below, mut layers) = match is_inherited(internal, def) {
        true => (image.layers.inherited(def).map(|v| v.to_text()), inherited_layers(image, def)),
        false => (def.default.map(str::to_owned), Vec::new()),
    };
    let value = set.clone().or(below);
    if let Some(value) = set {
        let top = Layered { name: def.name, value: Some(value), source: ConfigSource::DynamicTopic };
        layers.insert(0, top);
    }
    described(def, value, layers, false, synonyms, documentation)
}

fn group_config(
    image: &Image,
    own: &Entries,
    def: &'static ConfigDef,
    synonyms: bool,
    documentation: bool,
) -> DescribedConfig {
    let set = own_value(own, def);
    let value = set.clone().or_else(|| image.layers.inherited(def).map(|v| v.to_text()));
    let mut layers = inherited_layers(image, def);
    if def.synonyms.is_empty() {
        let default = def.default.map(str::to_owned);
        layers.extend(default.map(|v| Layered {
            name: def.name,
            value: Some(v),
            source: ConfigSource::Default,
        }));
    }
    if let Some(value) = set {
        layers.insert(0, Layered { name: def.name, value: Some(value), source: ConfigSource::Group });
    }
    described(def, value, layers, false, synonyms, documentation)
}

fn client_metrics_config(
    own: &Entries,
    def: &'static ConfigDef,
    synonyms: bool,
    documentation: bool,
) -> DescribedConfig {
    let set = own_value(own, def);
    let layer = |v: String| Layered { name: def.name, value: Some(v), source: ConfigSource::ClientMetrics };
    let layers = set.clone().map(layer).into_iter().collect();
    let value = set.or_else(|| def.default.map(str::to_owned));
    described(def, value, layers, false, synonyms, documentation)
}

fn broker_config(
    image: &Image,
    def: &'static ConfigDef,
    this_node: bool,
    synonyms: bool,
    documentation: bool,
) -> DescribedConfig {
    let names: Vec<&'static str> =
        if def.synonyms.is_empty() { vec![def.name] } else { def.synonyms.iter().map(|s| s.name).collect() };
    let mut layers = image.layers.synonyms(&names);
    if !this_node {
        layers.retain(|l| l.source == ConfigSource::DynamicDefaultBroker);
    }
    let skip = layers.iter().position(|l| l.name == def.name).unwrap_or(layers.len());
    layers.drain(..skip);
    let value = if this_node {
        image.layers.broker_value(def).map(|v| v.to_text())
    } else {
        image.layers.cluster.get(def.name).map(str::to_owned)
    };
    described(def, value, layers, def.dynamic == Dynamic::ReadOnly, synonyms, documentation)
}

fn logger(name: &str, level: &str) -> DescribedConfig {
    DescribedConfig {
        name: name.to_owned(),
        value: Some(level.to_owned()),
        read_only: true,
        source: ConfigSource::DynamicBrokerLogger,
        is_sensitive: false,
        synonyms: Vec::new(),
        kind: 0,
        documentation: None,
    }
}

/// Answers ListConfigResources: number of the type and name of each resource. `kinds` empty: all.
/// UNSUPPORTED_VERSION for a type that there is not.
pub fn list_config_resources(image: &Image, kinds: &[i8]) -> Result<Vec<(i8, String)>, ErrorCode> {
    let all = [
        ResourceKind::Group,
        ResourceKind::ClientMetrics,
        ResourceKind::BrokerLogger,
        ResourceKind::Broker,
        ResourceKind::Topic,
    ];
    if kinds.iter().any(|k| ResourceKind::from_wire(*k).is_none()) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let mut found = Vec::new();
    for kind in all.into_iter().filter(|k| kinds.is_empty() || kinds.contains(&k.to_wire())) {
        let code = kind.to_wire();
        match kind {
            ResourceKind::Topic => found.extend(image.topics().map(|t| (code, t.name.to_string()))),
            ResourceKind::Broker | ResourceKind::BrokerLogger => {
                found.extend(image.nodes.keys().map(|id| (code, id.to_string())));
            }
            ResourceKind::Group | ResourceKind::ClientMetrics => {
                let names = image.resources.keys().filter(|(k, _)| *k == kind);
                found.extend(names.map(|(_, name)| (code, name.to_string())));
            }
        }
    }
    Ok(found)
}
