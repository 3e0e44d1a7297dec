//! Judging AlterConfigs and IncrementalAlterConfigs.
use crate::broker_config_rules::{broker_def_of, check_broker_configs, check_broker_name};
use crate::command::{Command, ResourceKind};
use crate::config_def::{ConfigDef, ConfigType};
use crate::config_defs::{client_metrics_def, group_def, topic_def};
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::group_config_rules::{check_client_metrics, check_group_configs};
use crate::image::Image;
use crate::topic_config_rules::check_topic_configs;
use crate::topic_name::validate_topic_name;
use model::ErrorCode;
use proto::cluster::{ConfigEntry, SetConfigs};
use std::collections::{BTreeMap, BTreeSet};

/// One config of an AlterConfigs request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterEntry {
    /// Its name.
    pub name: String,
    /// Its new value.
    pub value: Option<String>,
}

/// One resource of an AlterConfigs request: what is not listed is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterResource {
    /// Kafka's number of the resource type.
    pub kind: i8,
    /// Its name.
    pub name: String,
    /// All that it is to have.
    pub entries: Vec<AlterEntry>,
}

/// One config of an IncrementalAlterConfigs request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncrementalEntry {
    /// Its name.
    pub name: String,
    /// 0 SET, 1 DELETE, 2 APPEND, 3 SUBTRACT.
    pub operation: i8,
    /// The value, or what is added or taken away.
    pub value: Option<String>,
}

/// One resource of an IncrementalAlterConfigs request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncrementalResource {
    /// Kafka's number of the resource type.
    pub kind: i8,
    /// Its name.
    pub name: String,
    /// What changes.
    pub entries: Vec<IncrementalEntry>,
}

/// Judges each resource of an AlterConfigs request, in order: what to propose, `None` where nothing changes.
pub fn alter_configs(image: &Image, resources: &[AlterResource]) -> Vec<ItemResult<Option<Command>>> {
    let twice = repeated(resources.iter().map(|r| (r.kind, r.name.as_str())));
    let judge = |r: &AlterResource| {
        check_once(&twice, r.kind, &r.name)?;
        let kind = storable(r.kind)?;
        check_names(r.entries.iter().map(|e| e.name.as_str()))?;
        check_nulls(r.entries.iter().filter(|e| e.value.is_none()).map(|e| e.name.as_str()))?;
        let before = current(image, kind, &r.name);
        let pairs = r.entries.iter().filter_map(|e| Some((e.name.as_str(), e.value.as_deref()?)));
        let after = Entries::from_pairs(pairs);
        propose(image, kind, &r.name, &before, &after)
    };
    resources.iter().map(judge).collect()
}

/// Judges each resource of an IncrementalAlterConfigs request, in order: what to propose, `None` where
/// nothing changes.
pub fn incremental_alter_configs(
    image: &Image,
    resources: &[IncrementalResource],
) -> Vec<ItemResult<Option<Command>>> {
    let twice = repeated(resources.iter().map(|r| (r.kind, r.name.as_str())));
    let judge = |r: &IncrementalResource| {
        check_once(&twice, r.kind, &r.name)?;
        let kind = storable(r.kind)?;
        check_names(r.entries.iter().map(|e| e.name.as_str()))?;
        let nulls = r.entries.iter().filter(|e| e.operation != 1 && e.value.is_none());
        check_nulls(nulls.map(|e| e.name.as_str()))?;
        let before = current(image, kind, &r.name);
        let mut values: BTreeMap<String, String> =
            before.iter().map(|(k, e)| (k.to_owned(), e.value.to_string())).collect();
        for entry in &r.entries {
            change(kind, &mut values, entry)?;
        }
        let after = Entries::from_pairs(values.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        propose(image, kind, &r.name, &before, &after)
    };
    resources.iter().map(judge).collect()
}

fn repeated<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> BTreeSet<(i8, &'a str)> {
    let mut seen = BTreeSet::new();
    resources.filter(|r| !seen.insert(*r)).collect()
}

fn check_once(twice: &BTreeSet<(i8, &str)>, kind: i8, name: &str) -> ItemResult<()> {
    match twice.contains(&(kind, name)) {
        true => Err(ItemError::invalid_request("Each resource must appear at most once.")),
        false => Ok(()),
    }
}

fn storable(kind: i8) -> ItemResult<ResourceKind> {
    match ResourceKind::from_wire(kind) {
        Some(ResourceKind::BrokerLogger) => Err(ItemError::invalid_request(
            "Log levels of this broker cannot be changed while it runs; set them with --log when it starts.",
        )),
        Some(kind) => Ok(kind),
        None => Err(ItemError::invalid_request(format!("Unknown resource type {kind}"))),
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> ItemResult<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ItemError::invalid_request("Error due to duplicate config keys"));
        }
    }
    Ok(())
}

fn check_nulls<'a>(names: impl Iterator<Item = &'a str>) -> ItemResult<()> {
    let names: Vec<&str> = names.collect();
    match names.is_empty() {
        true => Ok(()),
        false => {
            Err(ItemError::invalid_request(format!("Null value not supported for : {}", names.join(", "))))
        }
    }
}

fn current(image: &Image, kind: ResourceKind, name: &str) -> Entries {
    match kind {
        ResourceKind::Topic => image.topic(name).map(|t| t.configs.clone()),
        _ => image.resource(kind, name).cloned(),
    }
    .unwrap_or_default()
}

fn definition(kind: ResourceKind, name: &str) -> Option<&'static ConfigDef> {
    match kind {
        ResourceKind::Topic => topic_def(name),
        ResourceKind::Group => group_def(name),
        ResourceKind::ClientMetrics => client_metrics_def(name),
        ResourceKind::Broker | ResourceKind::BrokerLogger => broker_def_of(name),
    }
}

fn change(
    kind: ResourceKind,
    values: &mut BTreeMap<String, String>,
    entry: &IncrementalEntry,
) -> ItemResult<()> {
    let name = entry.name.as_str();
    let value = entry.value.as_deref().unwrap_or_default();
    match entry.operation {
        0 => {
            values.insert(name.to_owned(), value.to_owned());
        }
        1 => {
            values.remove(name);
        }
        2 | 3 => {
            let append = entry.operation == 2;
            let def = definition(kind, name);
            if kind == ResourceKind::Broker && def.is_none() {
                return Err(ItemError::invalid_config(format!("Unknown config name: {name}")));
            }
            let Some(def) = def.filter(|d| d.kind == ConfigType::List) else {
                return Err(ItemError::invalid_config(not_a_list(kind, name, append)));
            };
            let old = values.get(name).map(String::as_str).or(def.default).unwrap_or_default();
            // Blanks are part of what they stand beside, as in Kafka.
            let mut parts: Vec<&str> = old.split(',').filter(|part| !part.is_empty()).collect();
            for part in value.split(',') {
                let found = parts.iter().position(|there| *there == part);
                match found {
                    None if append => parts.push(part),
                    Some(at) if !append => drop(parts.remove(at)),
                    _ => {}
                }
            }
            let joined = parts.join(",");
            values.insert(name.to_owned(), joined);
        }
        other => return Err(ItemError::invalid_request(format!("Unknown operations type {other}"))),
    }
    Ok(())
}

fn not_a_list(kind: ResourceKind, name: &str, append: bool) -> String {
    if kind == ResourceKind::Broker {
        let what = if append { "append" } else { "subtract" };
        return format!("Config value {what} is not allowed for config key: {name}");
    }
    let what = if append { "APPEND" } else { "SUBTRACT" };
    format!("Can't {what} to key {name} because its type is not LIST.")
}

fn propose(
    image: &Image,
    kind: ResourceKind,
    name: &str,
    before: &Entries,
    after: &Entries,
) -> ItemResult<Option<Command>> {
    match kind {
        ResourceKind::Topic => {
            if name.is_empty() {
                return Err(ItemError::invalid_request("Default topic resources are not allowed."));
            }
            validate_topic_name(name)?;
            check_topic_configs(image, before, after)?;
            if image.topic(name).is_none() {
                return Err(ItemError::new(
                    ErrorCode::UnknownTopicOrPartition,
                    format!("The topic '{name}' does not exist."),
                ));
            }
        }
        ResourceKind::Broker => {
            check_broker_name(image, name)?;
            check_broker_configs(&image.layers, after, !name.is_empty())?;
        }
        ResourceKind::Group if name.is_empty() => {
            return Err(ItemError::invalid_request("Default group resources are not allowed."));
        }
        ResourceKind::Group => check_group_configs(image, after)?,
        ResourceKind::ClientMetrics if name.is_empty() => {
            return Err(ItemError::invalid_request("Subscription name can't be empty"));
        }
        ResourceKind::ClientMetrics => check_client_metrics(after)?,
        ResourceKind::BrokerLogger => {}
    }
    let entries = difference(before, after);
    let Some(resource) = kind.to_proto().filter(|_| !entries.is_empty()) else { return Ok(None) };
    Ok(Some(Command::SetConfigs(SetConfigs { resource: resource.into(), name: name.to_owned(), entries })))
}

fn difference(before: &Entries, after: &Entries) -> Vec<ConfigEntry> {
    let entry = |name: &str, value: Option<&str>| ConfigEntry {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        version: 0,
    };
    let set =
        after.iter().filter(|(k, e)| before.get(k) != Some(&*e.value)).map(|(k, e)| entry(k, Some(&e.value)));
    let gone = before.iter().filter(|(k, _)| after.get(k).is_none()).map(|(k, _)| entry(k, None));
    set.chain(gone).collect()
}
