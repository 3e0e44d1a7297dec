//! `plimsoll group members`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use clap::Args;
use client_lite::{Place, decode_assignment};
use serde_json::json;
use std::collections::BTreeMap;
use wire::describe_groups_response::DescribedGroup;

/// Show members and what each reads.
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

/// One member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its id in this group.
    pub(crate) id: String,
    /// Its static id.
    pub(crate) instance: Option<String>,
    /// What its client calls itself.
    pub(crate) client: String,
    /// Where it connects from.
    pub(crate) host: String,
    /// What it reads; empty if the group does not use the consumer protocol.
    pub(crate) partitions: Vec<Place>,
}

/// The members of a group that was described.
pub(crate) fn members_of(group: &DescribedGroup) -> anyhow::Result<Vec<Member>> {
    let consumer = group.protocol_type == "consumer";
    let one = |row: &wire::describe_groups_response::DescribedGroupMember| {
        let mut partitions =
            if consumer { decode_assignment(&row.member_assignment).map_err(advise)? } else { Vec::new() };
        partitions.sort();
        Ok(Member {
            id: row.member_id.to_string(),
            instance: row.group_instance_id.as_ref().map(ToString::to_string),
            client: row.client_id.to_string(),
            host: row.client_host.to_string(),
            partitions,
        })
    };
    group.members.iter().map(one).collect()
}

/// Runs the command.
pub(crate) async fn run(args: MembersArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let group = client.describe_group(&args.name).await.map_err(advise)?;
    let mut table = Table::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "READS"]);
    let mut rows = Vec::new();
    for member in members_of(&group)? {
        rows.push(json!({
            "member": member.id,
            "instance": member.instance,
            "client": member.client,
            "host": member.host,
            "partitions": member.partitions.iter().map(|(t, p)| json!({ "topic": t, "partition": p })).collect::<Vec<_>>(),
        }));
        let instance = member.instance.unwrap_or_else(|| "-".to_owned());
        table.push([member.id, instance, member.client, member.host, brief(&member.partitions)]);
    }
    if table.len() == 0 {
        let sentence = format!("Group {} has no members (state {}).", args.name, group.group_state);
        return args.format.say(&sentence, &json!(rows));
    }
    args.format.print(&table, &json!(rows))
}

/// `orders(0,1) payments(3)`.
fn brief(places: &[Place]) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    places.iter().for_each(|(topic, p)| topics.entry(topic).or_default().push(p.to_string()));
    let one = |(topic, partitions): (&str, Vec<String>)| format!("{topic}({})", partitions.join(","));
    if topics.is_empty() { "-".to_owned() } else { topics.into_iter().map(one).collect::<Vec<_>>().join(" ") }
}
