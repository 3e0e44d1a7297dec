//! Judging the configs of a group and of a client metrics subscription.
use crate::config_defs::{broker_def, client_metrics_def, group_def};
use crate::config_value::{Value, parse_value, split_list};
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;

const MATCH_FIELDS: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// What a group config has: its own value, or what the broker says.
fn number(image: &Image, after: &Entries, name: &str) -> Option<i64> {
    let def = group_def(name)?;
    let own = after.get(name).and_then(|t| parse_value(def, t).ok());
    match own.or_else(|| image.layers.inherited(def))? {
        Value::Int(n) => Some(n),
        _ => None,
    }
}

fn broker_number(image: &Image, name: &str) -> Option<i64> {
    match image.layers.broker_value(broker_def(name)?)? {
        Value::Int(n) => Some(n),
        _ => None,
    }
}

/// Checks what a group would have set.
pub(crate) fn check_group_configs(image: &Image, after: &Entries) -> ItemResult<()> {
    for (name, entry) in after.iter() {
        let Some(def) = group_def(name) else {
            return Err(ItemError::invalid_config(format!("Unknown group config name: {name}")));
        };
        let value = parse_value(def, &entry.value).map_err(|e| ItemError::invalid_config(e.0))?;
        if let (Value::Int(n), Some((family, rest))) = (value, name.split_once('.')) {
            check_bounds(image, name, family, rest, n)?;
        }
    }
    if after.get("errors.deadletterqueue.topic.name").is_some_and(|t| t.starts_with("__")) {
        return Err(ItemError::invalid_config(
            "errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'",
        ));
    }
    for family in ["consumer", "share", "streams"] {
        let session_name = format!("{family}.session.timeout.ms");
        let heartbeat_name = format!("{family}.heartbeat.interval.ms");
        let set = after.get(&session_name).is_some() || after.get(&heartbeat_name).is_some();
        let session = number(image, after, &session_name).unwrap_or(i64::MAX);
        let heartbeat = number(image, after, &heartbeat_name).unwrap_or(0);
        if set && session <= heartbeat {
            return Err(ItemError::invalid_config(format!(
                "{session_name} must be greater than {heartbeat_name}"
            )));
        }
    }
    Ok(())
}

/// A group may move only between the broker's `group.FAMILY.min.*` and `group.FAMILY.max.*`.
fn check_bounds(image: &Image, name: &str, family: &str, rest: &str, n: i64) -> ItemResult<()> {
    let most = match rest {
        "num.standby.replicas" => "group.streams.max.standby.replicas".to_owned(),
        "num.warmup.replicas" => "group.streams.max.warmup.replicas".to_owned(),
        _ => format!("group.{family}.max.{rest}"),
    };
    let max = broker_number(image, &most);
    let min = broker_number(image, &format!("group.{family}.min.{rest}"));
    let message = match (min, max) {
        (Some(min), Some(max)) if n < min || n > max => {
            format!("{name} must be in the range {min} to {max} inclusive.")
        }
        (None, Some(max)) if n > max => format!("{name} must be less than or equal to {max}"),
        (Some(min), None) if n < min => format!("{name} must be greater than or equal to {min}"),
        _ => return Ok(()),
    };
    Err(ItemError::invalid_config(message))
}

/// Checks what a client metrics subscription would have set.
pub(crate) fn check_client_metrics(after: &Entries) -> ItemResult<()> {
    for (name, entry) in after.iter() {
        let Some(def) = client_metrics_def(name) else {
            return Err(ItemError::invalid_request(format!("Unknown client metrics configuration: {name}")));
        };
        match parse_value(def, &entry.value).map_err(|e| ItemError::invalid_config(e.0))? {
            Value::Int(n) if !(100..=3_600_000).contains(&n) => {
                return Err(ItemError::invalid_request(format!(
                    "Invalid value {n} for {name}, interval must be between 100 and 3600000 (1 hour)"
                )));
            }
            _ => {}
        }
    }
    for pattern in after.get("match").map(split_list).unwrap_or_default() {
        let field = pattern.split_once('=').filter(|(_, v)| !v.is_empty() && !v.contains('='));
        if !field.is_some_and(|(name, _)| MATCH_FIELDS.contains(&name.trim())) {
            return Err(ItemError::invalid_config(format!("Illegal client matching pattern: {pattern}")));
        }
    }
    Ok(())
}
