//! `plimsoll group members`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use super::found::{Member, find};
use clap::Args;
use client_lite::Place;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Show members and what each reads. Of a group of the new protocol also epochs, and what members are on their way to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group members billing")]
pub(crate) struct MembersArgs {
    /// Name.
    name: String,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: MembersArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let group = find(&client, &args.name).await.map_err(advise)?;
    let members = group.members()?;
    let rows: Vec<Value> = members.iter().map(document).collect();
    if members.is_empty() {
        let sentence = format!("Group {} has no members (state {}).", args.name, group.state());
        return args.format.say(&sentence, &json!(rows));
    }
    let table = if group.epochs().is_some() { consumer_table(members) } else { classic_table(members) };
    args.format.print(&table, &json!(rows))
}

fn classic_table(members: Vec<Member>) -> Table {
    let mut table = Table::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "READS"]);
    for m in members {
        let instance = m.instance.unwrap_or_else(|| "-".to_owned());
        table.push([m.id, instance, m.client, m.host, brief(&m.partitions)]);
    }
    table
}

fn consumer_table(members: Vec<Member>) -> Table {
    let mut table =
        Table::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "PROTOCOL", "#EPOCH", "READS", "IS TO READ"]);
    for m in members {
        let instance = m.instance.unwrap_or_else(|| "-".to_owned());
        let (reads, more) = (brief(&m.partitions), m.more);
        let protocol = more.as_ref().map_or("-", |more| more.protocol).to_owned();
        let epoch = more.as_ref().map_or_else(|| "-".to_owned(), |more| more.epoch.to_string());
        let target = more.map_or_else(|| "-".to_owned(), |more| brief(&more.target));
        let target = if target == reads { "the same".to_owned() } else { target };
        table.push([m.id, instance, m.client, m.host, protocol, epoch, reads, target]);
    }
    table
}

fn document(member: &Member) -> Value {
    let list = |places: &[Place]| -> Value {
        places.iter().map(|(t, p)| json!({ "topic": t, "partition": p })).collect()
    };
    let mut row = json!({
        "member": member.id,
        "instance": member.instance,
        "client": member.client,
        "host": member.host,
        "partitions": list(&member.partitions),
    });
    if let Some(more) = &member.more {
        row["epoch"] = json!(more.epoch);
        row["protocol"] = json!(more.protocol);
        row["target"] = list(&more.target);
        row["subscribes"] = json!(more.subscribes);
        row["regex"] = json!(more.regex);
    }
    row
}

/// `orders(0,1) payments(3)`.
fn brief(places: &[Place]) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    places.iter().for_each(|(topic, p)| topics.entry(topic).or_default().push(p.to_string()));
    let one = |(topic, partitions): (&str, Vec<String>)| format!("{topic}({})", partitions.join(","));
    if topics.is_empty() { "-".to_owned() } else { topics.into_iter().map(one).collect::<Vec<_>>().join(" ") }
}
