//! `plimsoll topic alter-config`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use super::key_value;
use anyhow::bail;
use clap::Args;
use client_lite::{ConfigOp, ResourceKind};
use serde_json::json;

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
        let keys: Vec<&str> = changes.iter().map(key_of).collect();
        let entries = client.describe_configs(ResourceKind::Topic, name, Some(&keys), false).await;
        for entry in entries.map_err(advise)? {
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
