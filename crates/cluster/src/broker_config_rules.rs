//! Judging changes to a broker's configs.
use crate::broker_config::parse_ip_limits;
use crate::config_def::{ConfigDef, Dynamic};
use crate::config_defs::broker_def;
use crate::config_value::parse_value;
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use model::NodeId;

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

/// Checks what a BROKER resource would have set. `per_broker` is false for the resource of all nodes.
pub(crate) fn check_broker_configs(after: &Entries, per_broker: bool) -> ItemResult<()> {
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
    Ok(())
}
