//! What commands that move replicas have in common.
use super::follow::follow;
use super::plan::{Move, Plan};
use crate::admin::connect::{ConnectArgs, advise};
use crate::admin::format::FormatArgs;
use anyhow::bail;
use clap::Args;
use client_lite::{Client, Place};
use std::collections::BTreeMap;

/// How a plan is shown and carried out.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Only show the plan: which replicas go where, how many bytes are copied, how long that takes, and what
    /// stands in the way.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until everything is done: the cluster goes on by itself.
    #[arg(long)]
    no_wait: bool,
    /// MiB a second that a broker is taken to receive, for the plan's estimate; the progress shows what it is.
    #[arg(long, default_value_t = 100, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    assume_rate: u64,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

impl MoveArgs {
    /// Shows the plan, and unless it was only to be shown carries it out.
    pub(crate) async fn carry_out(&self, client: &Client, plan: &Plan) -> anyhow::Result<()> {
        let rate = self.assume_rate << 20;
        if self.dry_run || plan.moves.is_empty() {
            return self.format.print_or(&plan.as_text(rate), &plan.as_json(rate));
        }
        let target = |m: &Move| (m.place.clone(), Some(m.to.clone()));
        let targets: BTreeMap<Place, Option<Vec<i32>>> = plan.moves.iter().map(target).collect();
        let refused = client.alter_reassignments(&targets).await.map_err(advise)?;
        if let Some((_, error)) = refused.into_iter().next() {
            bail!(advise(error));
        }
        if !self.no_wait {
            eprint!("{}", plan.as_text(rate));
            follow(client, targets.keys().cloned().collect()).await?;
        }
        let verb = if self.no_wait { "are moving" } else { "have moved" };
        let sentence = format!("{} partition(s) {verb}, {} bytes.", plan.moves.len(), plan.bytes());
        self.format.say(&sentence, &plan.as_json(rate))
    }
}
