//! `plimsoll cluster replace-node`: a broker comes back with an empty directory.
use crate::admin::connect::{ConnectArgs, advise};
use crate::admin::format::FormatArgs;
use crate::moves::follow::follow_node;
use crate::moves::plan::human;
use crate::moves::view::View;
use anyhow::bail;
use clap::Args;
use serde_json::json;

/// Let a broker whose disk is lost come back with an empty data directory, under its old id.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster replace-node 2 --dry-run            what would have to be copied
  plimsoll cluster replace-node 2                      say that the old directory is lost; then start the broker

1. Stop the broker, if it still runs.
2. Run this command: the cluster gives up what the old directory held and lets a new one take its place.
3. Start the broker with its old node.id and an empty data directory. It gets a copy of all that it is to hold.

Until then the partitions that it held have one replica less, and a broker that comes with another directory than it had
is refused. Should the old directory come back after all, what is in it is removed and copied anew: it does not count any more.")]
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
    let held: Vec<_> = view.held.iter().filter(|h| h.replicas.contains(&args.node)).collect();
    let bytes: u64 = held.iter().map(|h| h.bytes).sum();
    let alone = held.iter().filter(|h| h.replicas.len() == 1).count();
    let document = json!({ "broker": args.node, "partitions": held.len(), "bytes": bytes, "lost": alone });
    let what = format!("{} partition(s), {} to copy", held.len(), human(bytes));
    if alone > 0 {
        bail!(
            "{alone} partition(s) had no other replica than the one on broker {}: their records are only in its \
             directory\n  Bring that directory back, or delete these topics first.",
            args.node
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
        eprintln!("{what}. Now start broker {} with an empty data directory.", args.node);
        follow_node(&client, args.node).await?;
    }
    args.format.say(&format!("Broker {}: {what}.", args.node), &document)
}
