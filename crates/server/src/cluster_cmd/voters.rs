//! `plimsoll cluster voters`: who votes on the metadata.
use super::quorum::QuorumState;
use crate::admin::connect::{ConnectArgs, advise};
use crate::admin::format::FormatArgs;
use crate::admin::table::Table;
use anyhow::bail;
use clap::Args;
use client_lite::Client;
use model::{ErrorCode, TopicId};
use serde_json::json;
use wire::add_raft_voter_request::Listener;
use wire::{AddRaftVoterRequest, RemoveRaftVoterRequest};

/// Show who votes on the metadata of the cluster, and change it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster voters                              who votes, who follows, how far each is
  plimsoll cluster voters --add 2                      node 2 votes from now on
  plimsoll cluster voters --add 4 --remove 1           node 4 in the place of node 1

Without a majority of the voters no topic can be made and no node can come or go. One voter survives nothing, three
survive the loss of one, five of two. A voter is added when it has caught up, and before another one is removed.")]
pub(crate) struct VotersArgs {
    /// Node that is to vote; it must be registered.
    #[arg(long, value_name = "NODE")]
    add: Option<i32>,
    /// Node that is to vote no more; it follows then.
    #[arg(long, value_name = "NODE")]
    remove: Option<i32>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: VotersArgs) -> anyhow::Result<()> {
    let limit = args.connect.limit();
    let done = async {
        let client = args.connect.client().await?;
        let before = QuorumState::ask(&client).await?;
        if let Some(node) = args.add {
            let timeout_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
            add(&client, &before, node, timeout_ms).await?;
        }
        if let Some(node) = args.remove {
            remove(&client, &before, node).await?;
        }
        QuorumState::ask(&client).await
    };
    let state = args.connect.within_leader(done).await?;
    let mut table = Table::new(&["#NODE", "ROLE", "#ENTRIES", "#BEHIND", "ADDRESS", "DIRECTORY"]);
    let mut rows = Vec::new();
    for (node, member) in &state.members {
        let role = match (member.votes, *node == state.leader) {
            (_, true) => "leader",
            (true, false) => "voter",
            (false, false) => "observer",
        };
        let behind = (state.end - member.end).max(0);
        let known = member.end >= 0;
        let address = member.address.as_ref().map(|(host, port)| format!("{host}:{port}"));
        let directory = TopicId(member.directory).to_string();
        table.push([
            node.to_string(),
            role.to_owned(),
            if known { member.end.to_string() } else { "?".to_owned() },
            if known { behind.to_string() } else { "?".to_owned() },
            address.clone().unwrap_or_else(|| "-".to_owned()),
            directory.clone(),
        ]);
        rows.push(json!({
            "node": node, "role": role, "votes": member.votes, "end": member.end, "address": address,
            "directory": directory,
        }));
    }
    args.format.print(&table, &json!({ "leader": state.leader, "end": state.end, "members": rows }))
}

async fn add(client: &Client, before: &QuorumState, node: i32, timeout_ms: i32) -> anyhow::Result<()> {
    let Some(member) = before.members.get(&node) else {
        bail!("node {node} is not registered\n  Start it first: `plimsoll cluster add` shows how.");
    };
    let Some((host, port)) = member.address.clone() else {
        bail!("node {node} has no address for other nodes\n  Give it a controller listener.");
    };
    let request = AddRaftVoterRequest {
        cluster_id: None,
        timeout_ms,
        voter_id: node,
        voter_directory_id: member.directory,
        listeners: vec![Listener { name: "CONTROLLER".into(), host: host.into(), port }],
        ack_when_committed: true,
    };
    let answer = client.ask_any(request).await.map_err(advise)?;
    refused(node, answer.error_code, answer.error_message.as_deref())
}

async fn remove(client: &Client, before: &QuorumState, node: i32) -> anyhow::Result<()> {
    // Of one that was unregistered no directory is known; the cluster takes any then.
    let directory = before.members.get(&node).map(|m| m.directory).unwrap_or_default();
    let request = RemoveRaftVoterRequest { cluster_id: None, voter_id: node, voter_directory_id: directory };
    let answer = client.ask_any(request).await.map_err(advise)?;
    refused(node, answer.error_code, answer.error_message.as_deref())
}

fn refused(node: i32, code: i16, message: Option<&str>) -> anyhow::Result<()> {
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    if code == ErrorCode::None {
        return Ok(());
    }
    bail!("node {node}: {}", message.map_or_else(|| code.to_string(), str::to_owned))
}
