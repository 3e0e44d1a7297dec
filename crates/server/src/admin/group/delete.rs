//! `plimsoll group delete`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use clap::Args;
use client_lite::Place;
use serde_json::json;

/// Delete empty groups and their offsets, or only some offsets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group delete billing
  plimsoll group delete billing --topic orders         only the offsets of one topic")]
pub(crate) struct DeleteArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// Delete only the offsets of this topic, and keep the group; may be repeated.
    #[arg(short, long = "topic")]
    topics: Vec<String>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    if args.topics.is_empty() {
        for name in &args.names {
            client.delete_group(name).await.map_err(advise)?;
        }
        let sentence = format!("Deleted {}.", args.names.join(", "));
        return args.format.say(&sentence, &json!({ "deleted": args.names }));
    }
    let mut rows = Vec::new();
    for name in &args.names {
        let committed = client.committed(name, None).await.map_err(advise)?;
        let places: Vec<Place> =
            committed.into_keys().filter(|(topic, _)| args.topics.contains(topic)).collect();
        client.delete_offsets(name, &places).await.map_err(advise)?;
        rows.extend(places.into_iter().map(|(t, p)| json!({ "group": name, "topic": t, "partition": p })));
    }
    let sentence = format!("Deleted {} committed offsets.", rows.len());
    args.format.say(&sentence, &json!({ "deletedOffsets": rows }))
}
