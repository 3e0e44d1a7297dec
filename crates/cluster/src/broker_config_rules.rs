//! Judging changes to a broker's configs.
use crate::broker_config::parse_ip_limits;
use crate::config_def::{ConfigDef, Dynamic, Valid};
use crate::config_defs::{broker_def, topic_def};
use crate::config_value::{Value, parse_value, split_list};
use crate::consumer_configs::{ASSIGNMENT_INTERVAL, check_assignment_interval};
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use crate::resolve::BrokerLayers;
use crate::topic_config_rules::check_local;
use model::{ErrorCode, NodeId};
use std::collections::BTreeSet;

/// The definition behind a name, with or without the prefix of a listener.
pub(crate) fn broker_def_of(name: &str) -> Option<&'static ConfigDef> {
    broker_def(name).or_else(|| {
        let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
        broker_def(base).or_else(|| base.split_once('.').and_then(|(_mechanism, rest)| broker_def(rest)))
    })
}

/// Checks a BROKER resource's name: empty for all nodes, or a registered node.
pub(crate) fn check_broker_name(image: &Image, name: &str) -> ItemResult<()> {
    if name.is_empty() {
        return Ok(());
    }
    match name.parse::<NodeId>() {
        Err(_) => Err(ItemError::invalid_request(format!("Node id must be an integer, but it is: {name}"))),
        Ok(id) if id == image.node_id || image.nodes.contains_key(&id) => Ok(()),
        Ok(_) => Err(ItemError::invalid_request(format!(
            "Unexpected broker id, expected {}, but received {name}",
            image.node_id
        ))),
    }
}

fn is_static_security(def: &ConfigDef, name: &str) -> bool {
    name == def.name && def.name.starts_with("ssl.") && def.dynamic != Dynamic::ReadOnly
}

/// Checks what a BROKER resource would have set over what holds now. `per_broker` is false for the resource of all
/// nodes.
pub(crate) fn check_broker_configs(
    layers: &BrokerLayers,
    after: &Entries,
    per_broker: bool,
) -> ItemResult<()> {
    let names = |pick: &dyn Fn(&str, &ConfigDef) -> bool| -> Vec<&str> {
        let set = after.iter().filter_map(|(name, _)| Some((name, broker_def_of(name)?)));
        set.filter(|(name, def)| pick(name, def)).map(|(name, _)| name).collect()
    };
    if let Some((name, _)) = after.iter().find(|(name, _)| broker_def_of(name).is_none()) {
        return Err(ItemError::invalid_config(format!("Unknown broker config name: {name}")));
    }
    let refuse = |found: Vec<&str>, why: &str| match found.is_empty() {
        true => Ok(()),
        false => Err(ItemError::invalid_request(format!("{why}: [{}]", found.join(", ")))),
    };
    refuse(names(&|_, d| d.dynamic == Dynamic::ReadOnly), "Cannot update these configs dynamically")?;
    refuse(
        names(&|n, d| is_static_security(d, n)),
        "These security configs can be dynamically updated only per-listener using the listener prefix",
    )?;
    for (name, entry) in after.iter() {
        let def = broker_def_of(name).expect("checked above");
        parse_value(def, &entry.value).map_err(|e| ItemError::invalid_request(e.0))?;
        check_no_twins(def, name, &entry.value)?;
        if def.name == "max.connections.per.ip.overrides" && parse_ip_limits(&entry.value).is_none() {
            return Err(ItemError::invalid_request(format!(
                "Invalid value {} for configuration {name}: expected address:limit pairs",
                entry.value
            )));
        }
    }
    if !per_broker {
        let why = "Cannot update these configs at default cluster level, broker id must be specified";
        refuse(names(&|_, d| d.dynamic == Dynamic::PerBroker), why)?;
    }
    let mut layers = layers.clone();
    *(if per_broker { &mut layers.node } else { &mut layers.cluster }) = after.clone();
    check_together(&layers, after)
}

/// Topics drop repeated words of a list; brokers refuse them.
fn check_no_twins(def: &ConfigDef, name: &str, value: &str) -> ItemResult<()> {
    let parts = split_list(value);
    let distinct: BTreeSet<&String> = parts.iter().collect();
    if matches!(def.valid, Valid::ListOf(_)) && distinct.len() < parts.len() {
        let why = format!("Configuration '{name}' values must not be duplicated.");
        return Err(ItemError::invalid_request(why));
    }
    Ok(())
}

/// What must hold between values and may not come about by a change, although a file may have it.
fn check_together(layers: &BrokerLayers, after: &Entries) -> ItemResult<()> {
    let number = |name: &str| match broker_def(name).and_then(|def| layers.broker_value(def)) {
        Some(Value::Int(n)) => Some(n),
        _ => None,
    };
    let touched = |names: &[&str]| names.iter().any(|name| after.get(name).is_some());
    let refuse = |name: &str, value: i64, why: &str| {
        Err(ItemError::invalid_request(format!("Invalid value {value} for configuration {name}: {why}")))
    };
    for name in ["max.connections", "max.connection.creation.rate"] {
        if touched(&[name]) && number(name) == Some(0) {
            return refuse(name, 0, "nobody could connect");
        }
    }
    let (per_ip, overrides) = ("max.connections.per.ip", "max.connections.per.ip.overrides");
    let spared = broker_def(overrides).and_then(|def| layers.broker_value(def));
    let nobody = spared.is_none_or(|value| value.to_text().is_empty());
    if touched(&[per_ip, overrides]) && number(per_ip) == Some(0) && nobody {
        return refuse(per_ip, 0, "it can be 0 only if max.connections.per.ip.overrides is set");
    }
    let (buffer, threads) = ("log.cleaner.dedupe.buffer.size", "log.cleaner.threads");
    let bytes = number(buffer).unwrap_or(i64::MAX);
    if touched(&[buffer, threads]) && bytes / number(threads).unwrap_or(1).max(1) <= 1 << 20 {
        return refuse(buffer, bytes, "it must be more than 1 MiB for each of log.cleaner.threads");
    }
    if touched(&[ASSIGNMENT_INTERVAL]) {
        check_assignment_interval(layers)?;
    }
    let defined = |name| broker_def(name).expect("the retention configs are in the table");
    let retention = layers.inherited(topic_def("retention.ms").expect("it is in the table"));
    for (total_name, total, local_name) in [
        ("log.retention.ms", retention, "log.local.retention.ms"),
        (
            "log.retention.bytes",
            layers.broker_value(defined("log.retention.bytes")),
            "log.local.retention.bytes",
        ),
    ] {
        if let (true, Some(Value::Int(total))) = (touched(&[total_name, local_name]), total) {
            let local = number(local_name).unwrap_or(-2);
            check_local(total_name, total, local_name, local)
                .map_err(|e| ItemError { code: ErrorCode::InvalidRequest, ..e })?;
        }
    }
    Ok(())
}
