//! `plimsoll topic alter-config`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use super::key_value;
use anyhow::bail;
use clap::Args;
use client_lite::{Client, ConfigEntry, ConfigOp, ResourceKind};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a change may take to be described; longer is not waited.
const SETTLE: Duration = Duration::from_secs(1);

/// Change configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic alter-config orders --set retention.ms=86400000
  plimsoll topic alter-config orders --set cleanup.policy=compact --delete retention.ms
  plimsoll topic alter-config orders --append cleanup.policy=delete
  plimsoll topic alter-config orders --set retention.ms=soon --dry-run")]
pub(crate) struct AlterConfigArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// Set a key, KEY=VALUE; may be repeated.
    #[arg(
        short,
        long,
        visible_alias = "config",
        visible_short_alias = 'c',
        value_parser = key_value,
        value_name = "KEY=VALUE"
    )]
    set: Vec<(String, String)>,
    /// Put a key back to its default; may be repeated.
    #[arg(short, long, value_name = "KEY")]
    delete: Vec<String>,
    /// Add a value to a key that is a list; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "KEY=VALUE")]
    append: Vec<(String, String)>,
    /// Take a value from a key that is a list; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "KEY=VALUE")]
    subtract: Vec<(String, String)>,
    /// Only say whether it could be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: AlterConfigArgs) -> anyhow::Result<()> {
    let changes = changes(&args);
    if changes.is_empty() {
        bail!("nothing to change: give --set KEY=VALUE, --delete KEY, --append or --subtract");
    }
    let client = args.connect.client().await?;
    let mut table = Table::new(&["TOPIC", "KEY", "VALUE", "FROM"]);
    let mut rows = Vec::new();
    for name in &args.names {
        client.alter_configs(ResourceKind::Topic, name, &changes, args.dry_run).await.map_err(advise)?;
        let wait = if args.dry_run { Duration::ZERO } else { SETTLE };
        for entry in described(&client, name, &changes, wait).await? {
            let value = entry.value.clone().unwrap_or_default();
            rows.push(json!({
                "topic": name, "key": entry.name, "value": entry.value, "source": entry.source,
            }));
            table.push([name.clone(), entry.name, value, entry.source.to_owned()]);
        }
    }
    if args.dry_run {
        return args.format.say("It could be done; nothing was changed.", &json!(rows));
    }
    args.format.print(&table, &json!(rows))
}

/// The changed keys as the broker describes them. A broker of Apache Kafka learns of a change that it accepted
/// a moment later from its controller: until it shows it, or `wait` is over, it is asked again.
async fn described(
    client: &Client,
    name: &str,
    changes: &[ConfigOp],
    wait: Duration,
) -> anyhow::Result<Vec<ConfigEntry>> {
    let keys: Vec<&str> = changes.iter().map(key_of).collect();
    let until = Instant::now() + wait;
    loop {
        let entries = client.describe_configs(ResourceKind::Topic, name, Some(&keys), false).await;
        let entries = entries.map_err(advise)?;
        let shown = changes.iter().all(|change| entries.iter().any(|entry| shows(entry, change)));
        if shown || Instant::now() >= until {
            return Ok(entries);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a description of its key is one from after the change.
fn shows(entry: &ConfigEntry, change: &ConfigOp) -> bool {
    let lists = |value: &str| {
        let list = entry.value.as_deref().unwrap_or_default();
        value.split(',').all(|wanted| list.split(',').any(|one| one.trim() == wanted.trim()))
    };
    let own = entry.source == "DYNAMIC_TOPIC_CONFIG";
    entry.name == key_of(change)
        && match change {
            ConfigOp::Set(_, value) => own && entry.value.as_deref() == Some(value),
            ConfigOp::Delete(_) => !own,
            ConfigOp::Append(_, value) => own && lists(value),
            ConfigOp::Subtract(_, value) => !lists(value),
        }
}

fn changes(args: &AlterConfigArgs) -> Vec<ConfigOp> {
    let mut changes = Vec::new();
    changes.extend(args.set.iter().cloned().map(|(key, value)| ConfigOp::Set(key, value)));
    changes.extend(args.delete.iter().cloned().map(ConfigOp::Delete));
    changes.extend(args.append.iter().cloned().map(|(key, value)| ConfigOp::Append(key, value)));
    changes.extend(args.subtract.iter().cloned().map(|(key, value)| ConfigOp::Subtract(key, value)));
    changes
}

fn key_of(change: &ConfigOp) -> &str {
    match change {
        ConfigOp::Set(key, _)
        | ConfigOp::Delete(key)
        | ConfigOp::Append(key, _)
        | ConfigOp::Subtract(key, _) => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_from_before_the_change_is_known_as_such() {
        let entry = |value: &str, source| ConfigEntry {
            name: "cleanup.policy".to_owned(),
            value: Some(value.to_owned()),
            source,
            read_only: false,
            sensitive: false,
            documentation: None,
        };
        let (own, default) = ("DYNAMIC_TOPIC_CONFIG", "DEFAULT_CONFIG");
        let key = || "cleanup.policy".to_owned();
        let set = ConfigOp::Set(key(), "compact".to_owned());
        assert!(shows(&entry("compact", own), &set) && !shows(&entry("delete", own), &set));
        assert!(!shows(&entry("compact", default), &set));
        let delete = ConfigOp::Delete(key());
        assert!(shows(&entry("delete", default), &delete) && !shows(&entry("delete", own), &delete));
        let append = ConfigOp::Append(key(), "compact".to_owned());
        assert!(shows(&entry("delete,compact", own), &append) && !shows(&entry("delete", own), &append));
        let subtract = ConfigOp::Subtract(key(), "compact".to_owned());
        assert!(shows(&entry("delete", own), &subtract) && !shows(&entry("delete,compact", own), &subtract));
        assert!(!shows(
            &entry("compact", own),
            &ConfigOp::Set("retention.ms".to_owned(), "compact".to_owned())
        ));
    }
}
