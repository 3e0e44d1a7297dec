//! `plimsoll group list`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use clap::Args;
use serde_json::json;

/// List groups.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group list
  plimsoll group list --state empty
  plimsoll group list --format json | jq -r '.[].group'")]
pub(crate) struct ListArgs {
    /// Only groups in this state: stable, empty, preparingrebalance, completingrebalance, dead.
    #[arg(short, long)]
    state: Option<String>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let groups = args.connect.client().await?.list_groups().await.map_err(advise)?;
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL"]);
    let mut rows = Vec::new();
    for group in &groups {
        if args.state.as_ref().is_some_and(|state| !group.group_state.eq_ignore_ascii_case(state)) {
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
    if table.len() == 0 {
        return args.format.say("No groups.", &json!(rows));
    }
    args.format.print(&table, &json!(rows))
}
