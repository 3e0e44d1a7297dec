//! `plimsoll cluster drain`: everything leaves a broker.
use super::quorum::QuorumState;
use crate::moves::args::MoveArgs;
use crate::moves::plan::{drain, ids};
use crate::moves::view::View;
use anyhow::{anyhow, bail};
use clap::Args;
use client_lite::Client;
use std::time::Duration;

/// Looks at the cluster, a second apart, before brokers that would be needed count as missing.
const MORE_LOOKS: u32 = 3;

/// Move every replica off a broker, so that it can be taken away.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster drain 3 --dry-run                   which replicas would go where, how much, how long
  plimsoll cluster drain 3                             do it and show how far it is
  plimsoll cluster drain 3 --no-wait                   begin; `plimsoll cluster status` shows the rest

The broker should run: a partition that has its only copy there cannot move without it. What it leads goes to other replicas at once, then each partition gets a copy elsewhere before the
one here is given up, so that it never has fewer replicas than before. Interrupted, the moves go on by themselves; to take one
back: `plimsoll partition move TOPIC PARTITION --cancel`. A broker whose disk is lost cannot be drained: see
`plimsoll cluster replace-node`.")]
pub(crate) struct DrainArgs {
    /// Id of the broker.
    node: i32,
    #[command(flatten)]
    how: MoveArgs,
}

/// Runs the command.
pub(crate) async fn run(args: DrainArgs) -> anyhow::Result<()> {
    let client = args.how.connect.client().await?;
    known(&client, args.node).await?;
    let mut looks = 0;
    let plan = loop {
        match drain(&View::ask(&client).await?, args.node) {
            Ok(plan) => break plan,
            Err(why) if looks >= MORE_LOOKS => return Err(anyhow!(why)),
            // A broker that is busy for a moment is not listed for as long.
            Err(_) => looks += 1,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    args.how.carry_out(&client, &plan).await
}

/// Errors: there is no such broker. One that is down is known by what it is to hold, or by its registration.
async fn known(client: &Client, node: i32) -> anyhow::Result<()> {
    let view = View::ask(client).await?;
    if view.brokers.contains_key(&node) || view.held.iter().any(|h| h.replicas.contains(&node)) {
        return Ok(());
    }
    let quorum = QuorumState::ask(client).await?;
    if !quorum.members.contains_key(&node) {
        bail!("there is no broker {node}: registered are {}", ids(&quorum.registered()));
    }
    Ok(())
}
