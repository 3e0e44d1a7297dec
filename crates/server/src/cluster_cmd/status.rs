//! `plimsoll cluster status`: who is there, and what is not as it should be. Speaks only the Kafka protocol.
use super::quorum;
use crate::admin::connect::{ConnectArgs, advise, patience, within};
use crate::admin::format::FormatArgs;
use crate::admin::table::Table;
use crate::moves::follow::Progress;
use crate::moves::plan::{human, ids};
use crate::moves::view::{View, on_disks};
use clap::Args;
use client_lite::{Broker, Cluster, OnDisk, Ongoing, Partition};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use wire::DescribeClusterRequest;

/// Show the nodes of a cluster, and partitions that lack a leader or a replica.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster status
  plimsoll cluster status -b 127.0.0.1:9093 --format json | jq .underReplicated
  watch -n 1 plimsoll cluster status                   while nodes are stopped and started

A partition lacks a leader while fewer than half of its replicas are up, and for a moment after its leader
was lost. It is under-replicated while a replica is down or has not caught up yet. Two replicas have a witness on a
third broker, which votes and holds no records; without it both of them must be up. LED and FOLLOWED are bytes a
second that a node's replicas take in as leaders and as followers, averaged over about a minute.

The metadata has no leader while a majority of its voters is not reached: then all else is shown, and that.

Replicas that are not what they are to be, as their brokers tell:
  installing   brought up from a checkpoint of the leader's, so many bytes are left
  suspect      its files are damaged: it is brought up anew from its peers, and does not vote before
  restrained   a loss of power under write.caching: it votes when it has caught up
  failed       closed: it needs what the reason says")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<()> {
    let limit = args.connect.limit();
    let look = async {
        let client = args.connect.client().await?;
        let cluster = client.all_topics().await.map_err(advise)?;
        let described =
            client.ask_any(DescribeClusterRequest { endpoint_type: 1, ..Default::default() }).await;
        let controller = described.map_err(advise)?.controller_id;
        let on_disk = on_disks(&client, &cluster).await;
        // Last what only the leader of the metadata knows: without one nothing is answered behind it.
        let leaderless = quorum::leaderless(&client, &cluster, patience(limit)).await;
        let told = async { (client.list_reassignments().await, quorum::QuorumState::ask(&client).await) };
        let (ongoing, members) = match &leaderless {
            None => tokio::time::timeout(patience(limit), told).await.ok().unzip(),
            Some(_) => (None, None),
        };
        let ongoing = ongoing.and_then(Result::ok);
        let registered = members.and_then(Result::ok).map_or_else(Vec::new, |members| members.registered());
        let metadata = Metadata { controller, leaderless, knows_moves: ongoing.is_some(), registered };
        Ok((cluster, metadata, ongoing, on_disk))
    };
    let (cluster, metadata, ongoing, on_disk) = within(limit, look).await?;
    let view = View::of(&cluster, ongoing.unwrap_or_default(), on_disk);
    let state = State::of(&cluster, metadata, &view);
    args.format.print_or(&state.as_text(), &state.as_json())
}

/// A partition's topic and itself.
type Place<'a> = (&'a str, &'a Partition);

/// What the leader of the metadata tells.
struct Metadata {
    /// Who is told to lead it.
    controller: i32,
    /// Why there is no leader.
    leaderless: Option<String>,
    /// Whether it told what moves.
    knows_moves: bool,
    /// The brokers that are registered, as far as it told.
    registered: Vec<i32>,
}

struct State<'a> {
    cluster: &'a Cluster,
    metadata: Metadata,
    /// What brokers tell of their replicas, and what moves.
    view: &'a View,
    partitions: Vec<Place<'a>>,
    leaders: BTreeMap<(&'a str, i32), i32>,
    leaderless: Vec<Place<'a>>,
    under_replicated: Vec<Place<'a>>,
    /// Partitions of two replicas without a witness.
    without_witness: Vec<Place<'a>>,
    /// By broker: how many witnesses it has.
    witnesses: BTreeMap<i32, usize>,
}

/// What a replica does that is not what it is to be.
fn trouble(replica: &OnDisk) -> String {
    let left = replica.bytes_left.map(|left| format!("installing, {} left", human(left)));
    [left, replica.trouble.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// One partition that moves: bytes left, what it waits for, and its row.
fn moving_row(view: &View, place: &client_lite::Place, ongoing: &Ongoing) -> (u64, Vec<String>, [String; 6]) {
    let progress = Progress::of(view, &BTreeSet::from([place.clone()]));
    let (adding, removing) = (ids(&ongoing.adding), ids(&ongoing.removing));
    let waits = progress.blocked.join("; ");
    let row = [place.0.clone(), place.1.to_string(), adding, removing, human(progress.left), waits];
    (progress.left, progress.blocked, row)
}

impl<'a> State<'a> {
    fn of(cluster: &'a Cluster, metadata: Metadata, view: &'a View) -> State<'a> {
        let of_topic =
            |topic: &'a client_lite::Topic| topic.partitions.iter().map(|p| (topic.name.as_str(), p));
        let partitions: Vec<Place<'a>> = cluster.topics.iter().flat_map(of_topic).collect();
        let pick = |test: &dyn Fn(&Partition) -> bool| -> Vec<Place<'a>> {
            partitions.iter().copied().filter(|(_, p)| test(p)).collect()
        };
        let leaders = partitions.iter().map(|(topic, p)| ((*topic, p.index), p.leader)).collect();
        let leaderless = pick(&|p| p.leader < 0);
        let adding = |(topic, p): &Place<'_>| {
            let ongoing = view.ongoing.get(&((*topic).to_owned(), p.index));
            ongoing.map_or(0, |ongoing| ongoing.adding.len())
        };
        // While a replica is being copied for the first time nothing is wrong.
        let behind = |place: &Place<'_>| place.1.in_sync.len() + adding(place) < place.1.replicas.len();
        let under_replicated =
            partitions.iter().copied().filter(|place| place.1.leader >= 0 && behind(place)).collect();
        let lacking: BTreeSet<_> = view.without_witness().into_iter().cloned().collect();
        let lacks = |(topic, p): &Place<'_>| lacking.contains(&((*topic).to_owned(), p.index));
        let without_witness = partitions.iter().copied().filter(lacks).collect();
        let mut witnesses = BTreeMap::new();
        for held in &view.held {
            if let Some(broker) = view.witness_of(&held.place, &held.replicas) {
                *witnesses.entry(broker).or_default() += 1;
            }
        }
        State {
            cluster,
            metadata,
            view,
            partitions,
            leaders,
            leaderless,
            under_replicated,
            without_witness,
            witnesses,
        }
    }

    /// The node that leads the metadata; each node names itself where there is none.
    fn controller(&self) -> i32 {
        if self.metadata.leaderless.is_some() { -1 } else { self.metadata.controller }
    }

    /// Every broker that is there, that holds a replica or that is registered, and its address if it is there.
    fn brokers(&self) -> Vec<(i32, Option<&Broker>)> {
        let up = self.cluster.brokers.iter().map(|b| b.id);
        let holding = self.partitions.iter().flat_map(|(_, p)| p.replicas.iter().copied());
        let registered = self.metadata.registered.iter().copied();
        let ids: BTreeSet<i32> = up.chain(holding).chain(registered).collect();
        ids.into_iter().map(|id| (id, self.cluster.broker(id))).collect()
    }

    /// How many partitions a broker leads, and of how many it holds a replica.
    fn load(&self, id: i32) -> (usize, usize) {
        let count =
            |test: &dyn Fn(&Partition) -> bool| self.partitions.iter().filter(|(_, p)| test(p)).count();
        (count(&|p| p.leader == id), count(&|p| p.replicas.contains(&id)))
    }

    /// Bytes a second that a broker leads and follows, as far as it tells, and bytes that it stores; `None` where it
    /// does not answer.
    fn takes_in(&self, id: i32) -> Option<(Option<[u64; 2]>, u64)> {
        let replicas = self.view.on_disk.get(&id)?;
        let (mut rates, mut stored) = (replicas.is_empty().then_some([0u64; 2]), 0u64);
        for (place, load) in replicas {
            stored = stored.saturating_add(load.bytes);
            let leads = self.leaders.get(&(place.0.as_str(), place.1)) == Some(&id);
            if let Some(rate) = load.rate {
                let sum = &mut rates.get_or_insert([0u64; 2])[usize::from(!leads)];
                *sum = sum.saturating_add(rate);
            }
        }
        Some((rates, stored))
    }

    fn as_text(&self) -> String {
        let columns =
            ["#NODE", "ADDRESS", "RACK", "ROLE", "#LEADS", "#REPLICAS", "#LED", "#FOLLOWED", "#STORED"];
        let mut table = Table::new(&columns);
        for (id, broker) in self.brokers() {
            let (leads, replicas) = self.load(id);
            let (rates, stored) =
                self.takes_in(id).map_or((None, None), |(rates, stored)| (rates, Some(stored)));
            let rate =
                |at: usize| rates.map_or_else(|| "-".to_owned(), |rates| format!("{}/s", human(rates[at])));
            table.push([
                id.to_string(),
                broker.map_or_else(|| "down".to_owned(), Broker::address),
                broker.and_then(|b| b.rack.clone()).unwrap_or_else(|| "-".to_owned()),
                if id == self.controller() { "controller" } else { "-" }.to_owned(),
                leads.to_string(),
                replicas.to_string(),
                rate(0),
                rate(1),
                stored.map_or_else(|| "-".to_owned(), human),
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
        match &self.metadata.leaderless {
            Some(why) => {
                let _ = writeln!(
                    text,
                    "{why}\nUntil it has one no topic, node or replica can be changed, and what moves is not known."
                );
            }
            None if !self.metadata.knows_moves => {
                let _ = writeln!(
                    text,
                    "what moves is not known: the leader of the metadata did not say it in time"
                );
            }
            None => {}
        }
        if !self.witnesses.is_empty() {
            let rows = self.witnesses.iter().map(|(broker, count)| format!("{count} on {broker}"));
            let _ = writeln!(text, "witnesses: {}", rows.collect::<Vec<_>>().join(", "));
        }
        if !self.without_witness.is_empty() {
            let _ = writeln!(
                text,
                "{} partitions of two replicas have no witness: the loss of one broker or disk stops them",
                self.without_witness.len()
            );
        }
        if none + few > 0 {
            let mut table = Table::new(&["TOPIC", "#PARTITION", "LEADER", "REPLICAS", "IN SYNC"]);
            for (topic, p) in self.leaderless.iter().chain(&self.under_replicated) {
                let leader = if p.leader < 0 { "none".to_owned() } else { p.leader.to_string() };
                let (replicas, in_sync) = (ids(&p.replicas), ids(&p.in_sync));
                table.push([(*topic).to_owned(), p.index.to_string(), leader, replicas, in_sync]);
            }
            let _ = write!(text, "\n{table}");
        }
        write_view(self.view, &mut text);
        text
    }

    fn as_json(&self) -> Value {
        let brokers = self.brokers().into_iter().map(|(id, broker)| {
            let (leads, replicas) = self.load(id);
            let (rates, stored) =
                self.takes_in(id).map_or((None, None), |(rates, stored)| (rates, Some(stored)));
            json!({
                "node": id,
                "up": broker.is_some(),
                "address": broker.map(Broker::address),
                "rack": broker.and_then(|b| b.rack.clone()),
                "leads": leads,
                "replicas": replicas,
                "witnesses": self.witnesses.get(&id).copied().unwrap_or(0),
                "ledBytesPerSecond": rates.map(|rates| rates[0]),
                "followedBytesPerSecond": rates.map(|rates| rates[1]),
                "storedBytes": stored,
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
        let (troubled, moving) = view_as_json(self.view);
        json!({
            "clusterId": self.cluster.id,
            "controller": self.controller(),
            "metadataTrouble": self.metadata.leaderless,
            "brokers": brokers.collect::<Vec<_>>(),
            "topics": self.cluster.topics.len(),
            "partitions": self.partitions.len(),
            "withoutLeader": self.leaderless.iter().map(place).collect::<Vec<_>>(),
            "withoutWitness": self.without_witness.iter().map(place).collect::<Vec<_>>(),
            "underReplicated": self.under_replicated.iter().map(place).collect::<Vec<_>>(),
            "troubled": troubled,
            "moving": if self.metadata.knows_moves { moving } else { Value::Null },
        })
    }
}

/// Tables of replicas that are in trouble, and of partitions that move.
fn write_view(view: &View, text: &mut String) {
    let mut table = Table::new(&["TOPIC", "#PARTITION", "#NODE", "REPLICA"]);
    let mut any = false;
    for (place, node, replica) in view.troubled() {
        table.push([place.0.clone(), place.1.to_string(), node.to_string(), trouble(replica)]);
        any = true;
    }
    if any {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{table}");
    }
    let mut table = Table::new(&["MOVING", "#PARTITION", "TO", "OFF", "#LEFT", "WAITS FOR"]);
    for (place, ongoing) in &view.ongoing {
        table.push(moving_row(view, place, ongoing).2);
    }
    if !view.ongoing.is_empty() {
        let _ = write!(text, "\n{table}");
    }
}

fn view_as_json(view: &View) -> (Value, Value) {
    let troubled = view.troubled().map(|((topic, partition), node, replica)| {
        json!({
            "topic": topic, "partition": partition, "node": node,
            "bytesLeft": replica.bytes_left, "trouble": replica.trouble,
        })
    });
    let moving = view.ongoing.iter().map(|(place, ongoing)| {
        let (left, blocked, _) = moving_row(view, place, ongoing);
        json!({
            "topic": place.0, "partition": place.1, "adding": ongoing.adding, "removing": ongoing.removing,
            "bytesLeft": left, "blocked": blocked,
        })
    });
    (troubled.collect(), moving.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moves::view::OnDisks;
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
            partition(1, 2, &[1, 2, 3], &[2]),
            partition(2, -1, &[3], &[]),
            partition(3, 1, &[1, 3], &[1, 3]),
            partition(4, 1, &[1, 2], &[1, 2]),
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
        let replica = |rate| OnDisk { bytes: 1 << 20, rate, ..OnDisk::default() };
        let place = |partition| ("t".to_owned(), partition);
        let installing = OnDisk {
            bytes_left: Some(1_024),
            trouble: Some("suspect: file 0".to_owned()),
            ..replica(Some(512))
        };
        let one = BTreeMap::from([(place(0), replica(Some(2_048))), (place(1), installing)]);
        // Of a partition of two others it has the witness.
        let witness = OnDisk { bytes: 96, ..OnDisk::default() };
        let two = BTreeMap::from([(place(1), replica(None)), (place(3), witness)]);
        let on_disk = OnDisks::from([(1, one), (2, two)]);
        let ongoing = Ongoing { replicas: vec![1, 2, 3], adding: vec![3], removing: vec![1] };
        let view = View::of(&cluster, BTreeMap::from([(place(1), ongoing)]), on_disk);
        let led = |knows_moves| Metadata {
            controller: 2,
            leaderless: None,
            knows_moves,
            registered: vec![1, 2, 7],
        };
        let state = State::of(&cluster, led(true), &view);
        let text = state.as_text();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for line in [
            "cluster c",
            "1 h:9092 - - 3 4 2.0 KiB/s 512 B/s 2.0 MiB",
            "2 h:9092 - controller 1 3 - - 1.0 MiB",
            "3 down - - 0 4 - - -",
            "7 down - - 0 0 - - -",
            "1 topics, 5 partitions: 1 without a leader, 1 under-replicated",
            "witnesses: 1 on 2",
            "1 partitions of two replicas have no witness: the loss of one broker or disk stops them",
            "t 2 none 3",
            "t 1 2 1,2,3 2",
            "t 1 1 installing, 1.0 KiB left; suspect: file 0",
            "t 1 3 1 1.0 MiB t-1 waits for broker 3, which is not running",
        ] {
            assert!(text.lines().any(|there| words(there) == words(line)), "{line:?} in\n{text}");
        }
        let mut whole = cluster.clone();
        whole.topics[0].partitions[1].in_sync = vec![1, 2];
        let whole = State::of(&whole, led(true), &view).as_text();
        assert!(
            whole.contains(" 0 under-replicated"),
            "the third is being copied for the first time: {whole}"
        );
        let json = state.as_json();
        assert_eq!(json["withoutLeader"][0]["partition"], 2);
        assert_eq!(json["underReplicated"][0]["inSync"], json!([2]));
        assert_eq!(json["brokers"][2]["up"], false);
        assert_eq!(json["brokers"][0]["followedBytesPerSecond"], 512);
        assert_eq!(json["brokers"][1]["ledBytesPerSecond"], Value::Null);
        assert_eq!(json["troubled"][0]["bytesLeft"], 1_024);
        assert_eq!(json["moving"][0]["blocked"].as_array().unwrap().len(), 1);
        let silent = State::of(&cluster, led(false), &view);
        assert_eq!(silent.as_json()["moving"], Value::Null);
        assert!(silent.as_text().contains("what moves is not known"));
        let lost = Metadata { leaderless: Some("no leader".to_owned()), ..led(false) };
        let lost = State::of(&cluster, lost, &view);
        assert_eq!(
            (&lost.as_json()["controller"], &lost.as_json()["metadataTrouble"]),
            (&json!(-1), &json!("no leader"))
        );
        assert!(lost.as_text().contains("no leader\n") && !lost.as_text().contains(" controller "));
        assert_eq!(
            (&json["brokers"][1]["witnesses"], json["withoutWitness"][0]["partition"].as_i64()),
            (&json!(1), Some(4))
        );
    }
}
