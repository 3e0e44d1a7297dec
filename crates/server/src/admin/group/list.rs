//! `plimsoll group list`.
use super::super::connect::{ConnectArgs, advise};
use super::super::coordinated::{OF_GROUPS, all_were_asked};
use super::super::format::FormatArgs;
use super::super::table::Table;
use clap::{Args, ValueEnum};
use serde_json::json;

/// List groups.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group list
  plimsoll group list --state stable,empty
  plimsoll group list --type consumer                  groups of the new protocol
  plimsoll group list --format json | jq -r '.[].group'")]
pub(crate) struct ListArgs {
    /// Only groups in these states, with commas between them; may be repeated.
    #[arg(
        short,
        long = "state",
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        value_name = "STATE"
    )]
    states: Vec<State>,
    /// Only groups of these types, with commas between them; may be repeated.
    #[arg(long = "type", value_enum, ignore_case = true, value_delimiter = ',', value_name = "TYPE")]
    kinds: Vec<Kind>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// The states of a group, by the names that the variants have in Kafka too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum State {
    /// Its members are settled.
    Stable,
    /// It has no members.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// Members wait to be told what they read.
    CompletingRebalance,
    /// Of the new protocol: it is being found out who is to read what.
    Assigning,
    /// Of the new protocol: members are on their way to what they are to read.
    Reconciling,
    /// Of streams groups: something is missing that they need.
    NotReady,
    /// It is gone.
    Dead,
}

/// The types of groups, by the names that the variants have in Kafka too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Kind {
    /// The first protocol.
    Classic,
    /// The new protocol.
    Consumer,
    /// Members share partitions.
    Share,
    /// Of Kafka Streams.
    Streams,
}

/// Whether `is` is among the wanted; nothing wanted is all.
fn among<T: std::fmt::Debug>(wanted: &[T], is: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| is.eq_ignore_ascii_case(&format!("{one:?}")))
}

/// Runs the command.
pub(crate) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let groups = client.list_groups().await.map_err(advise)?;
    let whole = all_were_asked(&client, OF_GROUPS, "groups").await;
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL"]);
    let mut rows = Vec::new();
    for group in &groups {
        if !among(&args.states, &group.group_state) || !among(&args.kinds, &group.group_type) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_wanted_by_any_of_the_names() {
        assert!(among::<State>(&[], "Stable"));
        let wanted = [State::Empty, State::PreparingRebalance];
        assert!(among(&wanted, "PreparingRebalance") && among(&wanted, "Empty"));
        assert!(!among(&wanted, "Stable"));
        assert!(among(&[Kind::Consumer], "consumer") && !among(&[Kind::Consumer], "classic"));
    }
}
