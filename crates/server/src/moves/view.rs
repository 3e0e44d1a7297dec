//! What a plan is made from: who is there, who holds what, and how large it is.
use crate::admin::connect::advise;
use crate::cluster_cmd::quorum::QuorumState;
use client_lite::{Client, Cluster, OnDisk, Ongoing, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A broker that has not said by then what it holds is passed over.
const PATIENCE: Duration = Duration::from_secs(2);

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Its topic and number.
    pub(crate) place: Place,
    /// The brokers that are to hold it when all that goes on is done, the preferred leader first.
    pub(crate) replicas: Vec<i32>,
    /// The broker that leads it, or -1.
    pub(crate) leader: i32,
    /// Bytes of its largest replica.
    pub(crate) bytes: u64,
    /// Bytes a second that it takes in; 0 where its broker does not tell.
    pub(crate) rate: u64,
}

/// The cluster at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Live brokers and their racks.
    pub(crate) brokers: BTreeMap<i32, Option<String>>,
    /// All partitions, in order.
    pub(crate) held: Vec<Held>,
    /// What is being changed.
    pub(crate) ongoing: BTreeMap<Place, Ongoing>,
    /// Each replica as its broker tells of it, by broker.
    pub(crate) on_disk: OnDisks,
    /// Brokers that are registered, live or not; `None` where that was not asked.
    pub(crate) registered: Option<BTreeSet<i32>>,
}

/// What each broker says of its replicas.
pub(crate) type OnDisks = BTreeMap<i32, BTreeMap<Place, OnDisk>>;

/// Asks all brokers. One that does not answer in time has no row.
pub(crate) async fn on_disks(client: &Client, cluster: &Cluster) -> OnDisks {
    let mut on_disk = OnDisks::new();
    for broker in &cluster.brokers {
        if let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, client.replicas_on(broker.id)).await {
            on_disk.insert(broker.id, found);
        }
    }
    on_disk
}

impl View {
    /// Asks the cluster. A broker that does not say what it holds counts as one that holds nothing yet.
    pub(crate) async fn ask(client: &Client) -> anyhow::Result<View> {
        let cluster = client.all_topics().await.map_err(advise)?;
        View::ask_more(client, &cluster).await
    }

    /// The same, where the topics are known already.
    pub(crate) async fn ask_more(client: &Client, cluster: &Cluster) -> anyhow::Result<View> {
        let ongoing = client.list_reassignments().await.map_err(advise)?;
        Ok(View::of(cluster, ongoing, on_disks(client, cluster).await))
    }

    /// Asks which brokers are registered, if one of `nodes` does not run. A cluster that does not tell is not asked
    /// again: it judges what it is sent.
    pub(crate) async fn ask_registered(&mut self, client: &Client, nodes: &[i32]) {
        if nodes.iter().any(|node| !self.brokers.contains_key(node)) {
            let asked = tokio::time::timeout(PATIENCE, QuorumState::ask(client)).await;
            let known = asked.ok().and_then(Result::ok).map(|quorum| quorum.registered());
            self.registered =
                known.filter(|known| !known.is_empty()).map(|known| known.into_iter().collect());
        }
    }

    /// From what was asked.
    pub(crate) fn of(cluster: &Cluster, ongoing: BTreeMap<Place, Ongoing>, on_disk: OnDisks) -> View {
        let brokers = cluster.brokers.iter().map(|b| (b.id, b.rack.clone())).collect();
        let mut held = Vec::new();
        for topic in &cluster.topics {
            for partition in &topic.partitions {
                let place: Place = (topic.name.clone(), partition.index);
                let goes = |node: &i32| ongoing.get(&place).is_some_and(|o| o.removing.contains(node));
                let replicas = partition.replicas.iter().copied().filter(|node| !goes(node)).collect();
                let of = |found: &BTreeMap<Place, OnDisk>| found.get(&place).cloned();
                let bytes = on_disk.values().filter_map(of).map(|replica| replica.bytes).max().unwrap_or(0);
                let leader = partition.leader;
                let rate = on_disk.get(&leader).and_then(of).and_then(|replica| replica.rate).unwrap_or(0);
                held.push(Held { place, replicas, leader, bytes, rate });
            }
        }
        View { brokers, held, ongoing, on_disk, registered: None }
    }

    /// The broker that has the witness of a partition of two replicas, which are `replicas`: clients are not told of it,
    /// but its directory names the partition. `None` also where that broker does not say what it holds.
    pub(crate) fn witness_of(&self, place: &Place, replicas: &[i32]) -> Option<i32> {
        let moves = self.ongoing.contains_key(place);
        let holds = |(broker, found): (&i32, &BTreeMap<Place, OnDisk>)| {
            (!replicas.contains(broker) && found.contains_key(place)).then_some(*broker)
        };
        if replicas.len() == 2 && !moves { self.on_disk.iter().find_map(holds) } else { None }
    }

    /// Partitions of two replicas that have no witness, as far as all brokers say what they hold.
    pub(crate) fn without_witness(&self) -> Vec<&Place> {
        let pairs =
            self.held.iter().filter(|h| h.replicas.len() == 2 && !self.ongoing.contains_key(&h.place));
        pairs.filter(|h| self.witness_of(&h.place, &h.replicas).is_none()).map(|h| &h.place).collect()
    }

    /// Bytes that a broker has of a replica.
    pub(crate) fn size_on(&self, broker: i32, place: &Place) -> u64 {
        self.on(broker, place).map_or(0, |replica| replica.bytes)
    }

    /// A replica as its broker tells of it.
    pub(crate) fn on(&self, broker: i32, place: &Place) -> Option<&OnDisk> {
        self.on_disk.get(&broker)?.get(place)
    }

    /// Replicas that are being brought up or that something is wrong with.
    pub(crate) fn troubled(&self) -> impl Iterator<Item = (&Place, i32, &OnDisk)> {
        self.on_disk.iter().flat_map(|(broker, found)| {
            let troubled = found.iter().filter(|(_, replica)| replica.is_troubled());
            troubled.map(|(place, replica)| (place, *broker, replica))
        })
    }
}
