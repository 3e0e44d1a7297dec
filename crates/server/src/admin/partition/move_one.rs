//! `plimsoll partition move`.
use super::super::connect::advise;
use crate::moves::args::MoveArgs;
use crate::moves::plan::{ids, one};
use crate::moves::view::View;
use anyhow::{anyhow, bail};
use clap::Args;
use client_lite::Place;
use serde_json::json;
use std::collections::BTreeMap;

/// Give a partition other replicas, or take that back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll partition move orders 0 --to 1,2,4 --dry-run       what would be copied, and how long it takes
  plimsoll partition move orders 0 --to 1,2,4                 do it and show how far it is
  plimsoll partition move orders 0 --to 2,1,4                 another preferred leader, nothing is copied
  plimsoll partition move orders 0 --cancel                   back to where it was

New brokers get a copy first; when they have all, they take the place of those that go, in one step. The partition is
written and read all the time. The first broker of the list is the preferred leader.")]
pub(crate) struct MoveOneArgs {
    /// Topic.
    topic: String,
    /// Number of the partition.
    partition: i32,
    /// Brokers that are to hold it, with commas between them.
    #[arg(long, value_name = "BROKERS", value_delimiter = ',', required_unless_present = "cancel")]
    to: Vec<i32>,
    /// Take back the move that goes on.
    #[arg(long, conflicts_with = "to")]
    cancel: bool,
    #[command(flatten)]
    how: MoveArgs,
}

/// Runs the command.
pub(crate) async fn run(args: MoveOneArgs) -> anyhow::Result<()> {
    let client = args.how.connect.client().await?;
    let place: Place = (args.topic, args.partition);
    if args.cancel && args.how.dry_run {
        let view = View::ask(&client).await?;
        let Some(ongoing) = view.ongoing.get(&place) else {
            bail!("{}-{} is not being moved", place.0, place.1)
        };
        let (adding, removing) = (ids(&ongoing.adding), ids(&ongoing.removing));
        return args.how.format.say(
            &format!(
                "{}-{} would go back to where it was: what brokers {adding} have copied so far is removed.",
                place.0, place.1
            ),
            &json!({ "topic": place.0, "partition": place.1, "adding": adding, "removing": removing }),
        );
    }
    if args.cancel {
        let targets = BTreeMap::from([(place.clone(), None)]);
        let refused = client.alter_reassignments(&targets).await.map_err(advise)?;
        if let Some((_, error)) = refused.into_iter().next() {
            bail!(advise(error));
        }
        return args.how.format.say(
            &format!("{}-{} goes back to where it was.", place.0, place.1),
            &json!({ "topic": place.0, "partition": place.1, "cancelled": true }),
        );
    }
    let mut view = View::ask(&client).await?;
    view.ask_registered(&client, &args.to).await;
    let plan = one(&view, &place, &args.to).map_err(|why| anyhow!(why))?;
    args.how.carry_out(&client, &plan).await
}
