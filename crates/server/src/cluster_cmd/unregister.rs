//! `plimsoll cluster unregister`: a broker that was drained and stopped is forgotten.
use super::quorum::QuorumState;
use crate::admin::connect::{ConnectArgs, advise};
use crate::admin::format::FormatArgs;
use crate::moves::plan::ids;
use crate::moves::view::View;
use anyhow::bail;
use clap::Args;
use serde_json::json;

/// Have the cluster forget a broker that was taken away for good.
#[derive(Debug, Args)]
#[command(after_help = "Taking broker 4 away for good:
  plimsoll cluster drain 4                             every copy goes elsewhere
  plimsoll cluster voters --remove 4                   if it votes on the metadata
  kill PID                                             stop it
  plimsoll cluster unregister 4                        this command: its witnesses go to other brokers

A broker that is to come back with an empty directory is not unregistered by this but by `plimsoll cluster replace-node`.")]
pub(crate) struct UnregisterArgs {
    /// Id of the broker.
    node: i32,
    /// Only say whether it could be unregistered.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: UnregisterArgs) -> anyhow::Result<()> {
    let look = async {
        let client = args.connect.client().await?;
        let quorum = QuorumState::ask(&client).await?;
        Ok((View::ask(&client).await?, quorum, client))
    };
    let (view, quorum, client) = args.connect.within_leader(look).await?;
    may_go(&view, &quorum, args.node)?;
    let document = json!({ "broker": args.node, "unregistered": !args.dry_run });
    if args.dry_run {
        return args.format.say(&format!("Broker {} can be unregistered.", args.node), &document);
    }
    client.unregister_broker(args.node).await.map_err(advise)?;
    args.format.say(&format!("Broker {} is not registered any more.", args.node), &document)
}

/// Errors: it is needed, and what to do first.
fn may_go(view: &View, quorum: &QuorumState, node: i32) -> anyhow::Result<()> {
    if !quorum.is_registered(node) {
        bail!("there is no broker {node}: registered are {}", ids(&quorum.registered()));
    }
    if view.brokers.contains_key(&node) {
        bail!("broker {node} is running: `plimsoll cluster drain {node}`, then stop it");
    }
    let held = view.held.iter().filter(|h| h.replicas.contains(&node)).count();
    if held > 0 {
        bail!(
            "broker {node} is to hold replicas of {held} partition(s)\n  Start it and `plimsoll cluster drain {node}`; \
             if its disk is lost: `plimsoll cluster replace-node {node}`."
        );
    }
    if quorum.members.get(&node).is_some_and(|member| member.votes) {
        bail!("broker {node} votes on the metadata\n  `plimsoll cluster voters --remove {node}` first.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::quorum::Member;
    use super::*;
    use crate::moves::view::Held;

    fn member(votes: bool) -> Member {
        Member { votes, directory: [7; 16], end: 5, address: None }
    }

    #[test]
    fn a_broker_that_is_needed_is_kept_and_the_way_to_do_without_it_is_told() {
        let members = [(1, member(true)), (2, member(true)), (3, member(false))].into();
        let quorum = QuorumState { leader: 1, end: 5, members };
        let mut view = View::default();
        view.brokers.insert(1, None);
        let refused = |view: &View, node| may_go(view, &quorum, node).unwrap_err().to_string();
        assert!(refused(&view, 9).contains("registered are 1,2,3"));
        assert!(refused(&view, 1).contains("is running"));
        assert!(refused(&view, 2).contains("voters --remove 2"));
        may_go(&view, &quorum, 3).unwrap();
        let place = ("t".to_owned(), 0);
        view.held.push(Held { place, replicas: vec![1, 3], leader: 1, bytes: 0, rate: 0 });
        assert!(refused(&view, 3).contains("replace-node 3"));
    }
}
