//! What a plan is made from: who is there, who holds what, and how large it is.
use crate::admin::connect::advise;
use client_lite::{Client, Cluster, Ongoing, Place};
use std::collections::BTreeMap;

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
    /// Bytes of each replica, by broker.
    pub(crate) sizes: BTreeMap<i32, BTreeMap<Place, u64>>,
}

impl View {
    /// Asks the cluster. A broker that does not say what it holds counts as one that holds nothing yet.
    pub(crate) async fn ask(client: &Client) -> anyhow::Result<View> {
        let cluster = client.all_topics().await.map_err(advise)?;
        let ongoing = client.list_reassignments().await.map_err(advise)?;
        let mut sizes = BTreeMap::new();
        for broker in &cluster.brokers {
            if let Ok(found) = client.replica_sizes(broker.id).await {
                sizes.insert(broker.id, found);
            }
        }
        Ok(View::of(&cluster, ongoing, sizes))
    }

    /// From what was asked.
    pub(crate) fn of(
        cluster: &Cluster,
        ongoing: BTreeMap<Place, Ongoing>,
        sizes: BTreeMap<i32, BTreeMap<Place, u64>>,
    ) -> View {
        let brokers = cluster.brokers.iter().map(|b| (b.id, b.rack.clone())).collect();
        let mut held = Vec::new();
        for topic in &cluster.topics {
            for partition in &topic.partitions {
                let place: Place = (topic.name.clone(), partition.index);
                let goes = |node: &i32| ongoing.get(&place).is_some_and(|o| o.removing.contains(node));
                let replicas = partition.replicas.iter().copied().filter(|node| !goes(node)).collect();
                let of = |sizes: &BTreeMap<Place, u64>| sizes.get(&place).copied();
                let bytes = sizes.values().filter_map(of).max().unwrap_or(0);
                held.push(Held { place, replicas, leader: partition.leader, bytes });
            }
        }
        View { brokers, held, ongoing, sizes }
    }

    /// Bytes that a broker has of a replica.
    pub(crate) fn size_on(&self, broker: i32, place: &Place) -> u64 {
        self.sizes.get(&broker).and_then(|sizes| sizes.get(place)).copied().unwrap_or(0)
    }
}
