//! `plimsoll group list`.
use super::super::connect::{ConnectArgs, advise};
use super::super::coordinated::all_were_asked;
use super::super::format::FormatArgs;
use super::super::table::Table;
use clap::Args;
use serde_json::json;

/// List groups.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group list
  plimsoll group list --state empty
  plimsoll group list --type consumer                  groups of the new protocol
  plimsoll group list --format json | jq -r '.[].group'")]
pub(crate) struct ListArgs {
    /// Only groups in this state: stable, empty, preparingrebalance, completingrebalance, dead; of the new protocol
    /// also assigning, reconciling.
    #[arg(short, long)]
    state: Option<String>,
    /// Only groups of this type: classic, consumer.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let groups = client.list_groups().await.map_err(advise)?;
    let whole = all_were_asked(&client, "__consumer_offsets", "groups").await;
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL"]);
    let mut rows = Vec::new();
    for group in &groups {
        let differs = |wanted: &Option<String>, is: &str| {
            wanted.as_ref().is_some_and(|wanted| !is.eq_ignore_ascii_case(wanted))
        };
        if differs(&args.state, &group.group_state) || differs(&args.kind, &group.group_type) {
            continue;
        }
        table.push([
            group.group_id.to_string(),
            group.group_state.to_string(),
            group.group_type.to_string(),
            group.protocol_type.to_string(),
        ]);
        rows.push(json!({
            "group": group.group_id.as_str(),
            "state": group.group_state.as_str(),
            "type": group.group_type.as_str(),
            "protocolType": group.protocol_type.as_str(),
        }));
    }
    if table.len() == 0 && whole.is_ok() {
        return args.format.say("No groups.", &json!(rows));
    }
    args.format.print(&table, &json!(rows))?;
    whole
}
