//! What commands that move replicas have in common.
use super::follow::follow;
use super::plan::{Move, Plan, named};
use crate::admin::connect::{ConnectArgs, advise};
use crate::admin::format::FormatArgs;
use anyhow::bail;
use clap::Args;
use client_lite::{Client, Place};
use std::collections::{BTreeMap, BTreeSet};

/// How a plan is shown and carried out.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Only show the plan: which replicas go where, how many bytes are copied, how long that takes, and what
    /// stands in the way.
    #[arg(long)]
    pub(crate) dry_run: bool,
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
        eprint!("{}", if self.no_wait { plan.notes() } else { plan.as_text(rate) });
        let refused = client.alter_reassignments(&targets).await.map_err(advise)?;
        if let Some((_, error)) = refused.into_iter().next() {
            bail!(advise(error));
        }
        let sum = |moved: usize, verb: &str| format!("{moved} partition(s) {verb}, {} bytes.", plan.bytes());
        if self.no_wait {
            return self.format.say(&sum(plan.moves.len(), "are moving"), &plan.as_json(rate));
        }
        // What waits for a broker that is down would be waited for without end.
        let moving: BTreeSet<Place> =
            targets.into_keys().filter(|place| !plan.waiting.contains(place)).collect();
        follow(client, moving.clone()).await?;
        let mut sentence = sum(moving.len(), "have moved");
        if plan.elects {
            sentence.push_str(&elect(client, &moving).await);
        }
        self.format.say(&sentence, &plan.as_json(rate))?;
        if !plan.waiting.is_empty() {
            bail!(
                "{} partition(s) have not moved: they have no leader before a broker runs that is down: {}\n  \
                 They move by themselves then. To take that back: `plimsoll partition move TOPIC PARTITION --cancel`.",
                plan.waiting.len(),
                named(&plan.waiting)
            );
        }
        Ok(())
    }
}

/// Has the preferred replicas lead; says what is left.
async fn elect(client: &Client, places: &BTreeSet<Place>) -> String {
    let left = match client.elect_preferred(places).await {
        Ok(left) if left.is_empty() => return " Their preferred replicas lead.".to_owned(),
        Ok(left) => left.len(),
        Err(_) => places.len(),
    };
    format!(
        " {left} of them are not led by the preferred replica yet: it is looked after every \
         leader.imbalance.check.interval.seconds (auto.leader.rebalance.enable)."
    )
}
