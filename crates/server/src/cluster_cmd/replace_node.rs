//! `plimsoll cluster replace-node`: a broker comes back with an empty directory.
use super::quorum::QuorumState;
use crate::admin::connect::{ConnectArgs, advise};
use crate::admin::format::FormatArgs;
use crate::moves::follow::follow_node;
use crate::moves::plan::{human, ids, named};
use crate::moves::view::View;
use anyhow::bail;
use clap::Args;
use client_lite::{Client, Place};
use serde_json::{Value, json};

/// Let a broker whose disk is lost come back with an empty data directory, under its old id.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster replace-node 2 --dry-run            what would have to be copied
  plimsoll cluster replace-node 2                      say that the old directory is lost; then start the broker

1. Stop the broker, if it still runs.
2. Run this command: the cluster gives up what the old directory held and lets a new one take its place.
3. Start the broker with its old node.id and an empty data directory. It gets a copy of all that it is to hold. Its configuration
   names other nodes (controller.quorum.voters or controller.quorum.bootstrap.servers): one that names none, as of the first
   node of a cluster that has grown, would begin a cluster of its own with an empty directory.

Until then the partitions that it held have one replica less. Run again, it says what is left to do. Should the broker come
back with its old directory after all, it registers as a new one: what is in it does not count any more, is removed and
copied anew. Once it has come with another directory, the old one is refused.")]
pub(crate) struct ReplaceNodeArgs {
    /// Id of the broker.
    node: i32,
    /// Only show what would have to be copied.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until the broker is back and has its copies.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ReplaceNodeArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let view = View::ask(&client).await?;
    if view.brokers.contains_key(&args.node) {
        bail!("broker {} is running: stop it first, or use `plimsoll cluster drain {0}`", args.node);
    }
    let quorum = QuorumState::ask(&client).await?;
    let held: Vec<_> = view.held.iter().filter(|h| h.replicas.contains(&args.node)).collect();
    if held.is_empty() && !quorum.members.contains_key(&args.node) {
        bail!("there is no broker {}: registered are {}", args.node, ids(&quorum.registered()));
    }
    let bytes: u64 = held.iter().map(|h| h.bytes).sum();
    let alone: Vec<&Place> = held.iter().filter(|h| h.replicas.len() == 1).map(|h| &h.place).collect();
    let known = quorum.is_registered(args.node);
    let document = json!({
        "broker": args.node, "partitions": held.len(), "bytes": bytes, "lost": alone.len(), "unregistered": !known,
    });
    let what = format!("{} partition(s), {} to copy", held.len(), human(bytes));
    if !known {
        return go_on(&args, &client, &what, &alone, &document).await;
    }
    if !alone.is_empty() {
        bail!(
            "{} partition(s) had no other replica than the one on broker {node}, their records are only in its \
             directory: {}\n  Bring that directory back, or delete these topics first.\n  If it is lost for good and \
             they are to go on empty: unregister the broker (`kafka-cluster unregister --id {node}`), start it with an \
             empty data directory, and for each of them `plimsoll partition recover TOPIC PARTITION --accept-loss`.",
            alone.len(),
            named(alone),
            node = args.node
        );
    }
    let stuck = held.iter().filter(|h| h.leader < 0).count();
    if stuck > 0 {
        bail!(
            "{stuck} partition(s) that broker {} held have no leader: too few of their other replicas run, and \
             without a majority nobody can take the lost one out\n  Start the other brokers first; of two replicas \
             neither decides alone.",
            args.node
        );
    }
    if args.dry_run {
        return args.format.say(&what, &document);
    }
    client.unregister_broker(args.node).await.map_err(advise)?;
    if !args.no_wait {
        eprintln!(
            "{what}. Now start broker {} with an empty data directory; its configuration must name other nodes \
             (controller.quorum.bootstrap.servers).",
            args.node
        );
        follow_node(&client, args.node).await?;
    }
    args.format.say(&format!("Broker {}: {what}.", args.node), &document)
}

/// The broker is not registered any more: this command, or another one, has said already that its directory is lost.
async fn go_on(
    args: &ReplaceNodeArgs,
    client: &Client,
    what: &str,
    alone: &[&Place],
    document: &Value,
) -> anyhow::Result<()> {
    let mut next = format!(
        "Broker {} was unregistered already ({what}). Start it with its old node.id and an empty data directory.",
        args.node
    );
    if !alone.is_empty() {
        next.push_str(&format!(
            " Then `plimsoll partition recover TOPIC PARTITION --accept-loss` for what had no other replica: {}.",
            named(alone.iter().copied())
        ));
    }
    // What has no other replica is in sync again only when somebody accepts its loss.
    if !args.dry_run && !args.no_wait && alone.is_empty() {
        eprintln!("{next}");
        follow_node(client, args.node).await?;
        return args.format.say(&format!("Broker {}: {what}.", args.node), document);
    }
    args.format.say(&next, document)
}
