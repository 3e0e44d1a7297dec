//! Judging a topic's configs as a whole.
use crate::config_defs::{broker_def, topic_def};
use crate::config_value::{Value, parse_value};
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use crate::topic_config::TopicConfig;

/// Checks names, values and what must hold between them. `before` is what the topic had.
pub(crate) fn check_topic_configs(image: &Image, before: &Entries, after: &Entries) -> ItemResult<()> {
    for (name, _) in after.iter() {
        if topic_def(name).is_none() {
            return Err(ItemError::invalid_config(format!("Unknown topic config name: {name}")));
        }
    }
    for (name, entry) in after.iter() {
        let def = topic_def(name).expect("checked above");
        parse_value(def, &entry.value).map_err(|e| ItemError::invalid_config(e.0))?;
    }
    let resolved = TopicConfig::resolve(after, &image.layers, false);
    let (min, max) = (resolved.min_compaction_lag_ms, resolved.max_compaction_lag_ms);
    if min > max {
        return Err(ItemError::invalid_config(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )));
    }
    if resolved.remote_storage_enable {
        check_remote(image, &resolved, after)
    } else {
        check_remote_off(before, after)
    }
}

fn flag(entries: &Entries, name: &str) -> bool {
    entries.get(name).is_some_and(|v| v.trim().eq_ignore_ascii_case("true"))
}

fn check_remote(image: &Image, resolved: &TopicConfig, after: &Entries) -> ItemResult<()> {
    let system = broker_def("remote.log.storage.system.enable").and_then(|d| image.layers.broker_value(d));
    if system != Some(Value::Bool(true)) {
        return Err(ItemError::invalid_config(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
        ));
    }
    if resolved.cleanup_policy.compact {
        return Err(ItemError::invalid_config("Remote log storage is unsupported for the compacted topics"));
    }
    let copy_off = flag(after, "remote.log.copy.disable");
    for (total_name, total, local_name, local) in [
        (
            "retention.bytes",
            resolved.retention_bytes,
            "local.retention.bytes",
            resolved.local_retention_bytes,
        ),
        ("retention.ms", resolved.retention_ms, "local.retention.ms", resolved.local_retention_ms),
    ] {
        check_local(total_name, total, local_name, local)?;
        if copy_off && local != -2 && local != total {
            return Err(ItemError::invalid_config(format!(
                "When `remote.log.copy.disable` is set to true, the `{local_name}` and `{total_name}` must be set \
                 to the identical value because there will be no more logs copied to the remote storage."
            )));
        }
    }
    Ok(())
}

pub(crate) fn check_local(total_name: &str, total: i64, local_name: &str, local: i64) -> ItemResult<()> {
    if total < 0 || local == -2 {
        return Ok(());
    }
    let why = if local == -1 {
        format!("Value must not be -1 as {total_name} value is set as {total}.")
    } else if local > total {
        format!("Value must not be more than {total_name} property value: {total}")
    } else {
        return Ok(());
    };
    Err(ItemError::invalid_config(format!("Invalid value {local} for configuration {local_name}: {why}")))
}

fn check_remote_off(before: &Entries, after: &Entries) -> ItemResult<()> {
    if flag(before, "remote.storage.enable") && !flag(after, "remote.log.delete.on.disable") {
        return Err(ItemError::invalid_config(
            "It is invalid to disable remote storage without deleting remote data. If you want to keep the remote \
             data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. If you \
             want to disable remote storage and delete all remote data, please set \
             `remote.storage.enable=false,remote.log.delete.on.disable=true`.",
        ));
    }
    Ok(())
}
