//! `plimsoll cluster status`: who is there, and what is not as it should be. Speaks only the Kafka protocol.
use crate::admin::connect::{ConnectArgs, advise, within};
use crate::admin::format::FormatArgs;
use crate::admin::table::Table;
use clap::Args;
use client_lite::{Broker, Cluster, Partition};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use wire::DescribeClusterRequest;

/// Show the nodes of a cluster, and partitions that lack a leader or a replica.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster status
  plimsoll cluster status -b 127.0.0.1:9093 --format json | jq .underReplicated
  watch -n 1 plimsoll cluster status                   while nodes are stopped and started

A partition lacks a leader while fewer than half of its replicas are up, and for a moment after its leader
was lost. It is under-replicated while a replica is down or has not caught up yet.")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<()> {
    let look = async {
        let client = args.connect.client().await?;
        let cluster = client.all_topics().await.map_err(advise)?;
        let described =
            client.ask_any(DescribeClusterRequest { endpoint_type: 1, ..Default::default() }).await;
        Ok((cluster, described.map_err(advise)?.controller_id))
    };
    let (cluster, controller) = within(args.connect.limit(), look).await?;
    let state = State::of(&cluster, controller);
    args.format.print_or(&state.as_text(), &state.as_json())
}

/// A partition's topic and itself.
type Place<'a> = (&'a str, &'a Partition);

struct State<'a> {
    cluster: &'a Cluster,
    controller: i32,
    partitions: Vec<Place<'a>>,
    leaderless: Vec<Place<'a>>,
    under_replicated: Vec<Place<'a>>,
}

impl<'a> State<'a> {
    fn of(cluster: &'a Cluster, controller: i32) -> State<'a> {
        let of_topic =
            |topic: &'a client_lite::Topic| topic.partitions.iter().map(|p| (topic.name.as_str(), p));
        let partitions: Vec<Place<'a>> = cluster.topics.iter().flat_map(of_topic).collect();
        let pick = |test: &dyn Fn(&Partition) -> bool| -> Vec<Place<'a>> {
            partitions.iter().copied().filter(|(_, p)| test(p)).collect()
        };
        let leaderless = pick(&|p| p.leader < 0);
        let under_replicated = pick(&|p| p.leader >= 0 && p.in_sync.len() < p.replicas.len());
        State { cluster, controller, partitions, leaderless, under_replicated }
    }

    /// Every broker that is there or that holds a replica, and its address if it is there.
    fn brokers(&self) -> Vec<(i32, Option<&Broker>)> {
        let up = self.cluster.brokers.iter().map(|b| b.id);
        let holding = self.partitions.iter().flat_map(|(_, p)| p.replicas.iter().copied());
        let ids: BTreeSet<i32> = up.chain(holding).collect();
        ids.into_iter().map(|id| (id, self.cluster.broker(id))).collect()
    }

    /// How many partitions a broker leads, and of how many it holds a replica.
    fn load(&self, id: i32) -> (usize, usize) {
        let count =
            |test: &dyn Fn(&Partition) -> bool| self.partitions.iter().filter(|(_, p)| test(p)).count();
        (count(&|p| p.leader == id), count(&|p| p.replicas.contains(&id)))
    }

    fn as_text(&self) -> String {
        let mut table = Table::new(&["#NODE", "ADDRESS", "RACK", "ROLE", "#LEADS", "#REPLICAS"]);
        for (id, broker) in self.brokers() {
            let (leads, replicas) = self.load(id);
            table.push([
                id.to_string(),
                broker.map_or_else(|| "down".to_owned(), Broker::address),
                broker.and_then(|b| b.rack.clone()).unwrap_or_else(|| "-".to_owned()),
                if id == self.controller { "controller" } else { "-" }.to_owned(),
                leads.to_string(),
                replicas.to_string(),
            ]);
        }
        let id = self.cluster.id.as_deref().unwrap_or("-");
        let mut text = format!("cluster {id}\n\n{table}\n");
        let (all, none, few) = (self.partitions.len(), self.leaderless.len(), self.under_replicated.len());
        let topics = self.cluster.topics.len();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{topics} topics, {all} partitions: {none} without a leader, {few} under-replicated"
        );
        if none + few > 0 {
            let mut table = Table::new(&["TOPIC", "#PARTITION", "LEADER", "REPLICAS", "IN SYNC"]);
            for (topic, p) in self.leaderless.iter().chain(&self.under_replicated) {
                let leader = if p.leader < 0 { "none".to_owned() } else { p.leader.to_string() };
                let (replicas, in_sync) = (ids(&p.replicas), ids(&p.in_sync));
                table.push([(*topic).to_owned(), p.index.to_string(), leader, replicas, in_sync]);
            }
            let _ = write!(text, "\n{table}");
        }
        text
    }

    fn as_json(&self) -> Value {
        let brokers = self.brokers().into_iter().map(|(id, broker)| {
            let (leads, replicas) = self.load(id);
            json!({
                "node": id,
                "up": broker.is_some(),
                "address": broker.map(Broker::address),
                "rack": broker.and_then(|b| b.rack.clone()),
                "leads": leads,
                "replicas": replicas,
            })
        });
        let place = |(topic, p): &Place<'_>| {
            json!({
                "topic": topic,
                "partition": p.index,
                "leader": p.leader,
                "replicas": p.replicas,
                "inSync": p.in_sync,
            })
        };
        json!({
            "clusterId": self.cluster.id,
            "controller": self.controller,
            "brokers": brokers.collect::<Vec<_>>(),
            "topics": self.cluster.topics.len(),
            "partitions": self.partitions.len(),
            "withoutLeader": self.leaderless.iter().map(place).collect::<Vec<_>>(),
            "underReplicated": self.under_replicated.iter().map(place).collect::<Vec<_>>(),
        })
    }
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use client_lite::Topic;

    fn partition(index: i32, leader: i32, replicas: &[i32], in_sync: &[i32]) -> Partition {
        Partition {
            index,
            leader,
            epoch: 1,
            replicas: replicas.to_vec(),
            in_sync: in_sync.to_vec(),
            offline: Vec::new(),
            error_code: 0,
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_listed() {
        let partitions = vec![
            partition(0, 1, &[1, 2, 3], &[1, 2, 3]),
            partition(1, 2, &[1, 2, 3], &[1, 2]),
            partition(2, -1, &[3], &[]),
        ];
        let topic = Topic {
            name: "t".to_owned(),
            id: model::TopicId::ZERO,
            internal: false,
            error_code: 0,
            partitions,
        };
        let broker = |id| Broker { id, host: "h".to_owned(), port: 9092, rack: None };
        let cluster = Cluster {
            id: Some("c".to_owned()),
            controller: 2,
            brokers: vec![broker(1), broker(2)],
            topics: vec![topic],
        };
        let state = State::of(&cluster, 2);
        let text = state.as_text();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for line in [
            "cluster c",
            "1 h:9092 - - 1 2",
            "2 h:9092 - controller 1 2",
            "3 down - - 0 3",
            "1 topics, 3 partitions: 1 without a leader, 1 under-replicated",
            "t 2 none 3",
            "t 1 2 1,2,3 1,2",
        ] {
            assert!(text.lines().any(|there| words(there) == words(line)), "{line:?} in\n{text}");
        }
        let json = state.as_json();
        assert_eq!(json["withoutLeader"][0]["partition"], 2);
        assert_eq!(json["underReplicated"][0]["inSync"], json!([1, 2]));
        assert_eq!(json["brokers"][2]["up"], false);
    }
}
