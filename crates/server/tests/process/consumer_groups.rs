//! A consumer group of the new protocol (KIP-848) over three processes.
use crate::cluster::topic;
use crate::nodes::{Nodes, client, run, wait_in_sync};
use client_lite::{Client, ConsumerMember};
use model::TopicId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 6;
/// What members may need to agree, with a leader that is killed in between.
const PATIENCE: Duration = Duration::from_secs(20);

/// A heartbeat of each. After each one no partition has two owners.
async fn beat(client: &Client, members: &mut [ConsumerMember]) {
    for at in 0..members.len() {
        members[at].beat(client).await.unwrap();
        let mut owners: BTreeMap<(TopicId, i32), usize> = BTreeMap::new();
        for (member, m) in members.iter().enumerate() {
            for (topic, partitions) in m.owned() {
                for partition in partitions {
                    let other = owners.insert((*topic, *partition), member);
                    assert!(other.is_none(), "{other:?} and {member} have partition {partition}");
                }
            }
        }
    }
}

fn counts(members: &[ConsumerMember]) -> Vec<usize> {
    let mut counts: Vec<usize> =
        members.iter().map(|m| m.owned().values().map(std::collections::BTreeSet::len).sum()).collect();
    counts.sort_unstable();
    counts
}

/// Beats until everybody has its share at one epoch.
async fn settle(client: &Client, members: &mut [ConsumerMember], shares: &[usize]) {
    let end = Instant::now() + PATIENCE;
    loop {
        beat(client, members).await;
        let epochs: Vec<i32> = members.iter().map(ConsumerMember::epoch).collect();
        if counts(members) == shares && epochs.iter().all(|epoch| *epoch == epochs[0]) {
            let group = client.describe_consumer_group("g").await.unwrap().unwrap();
            if group.group_state == "Stable" {
                assert_eq!((group.group_epoch, group.assignment_epoch), (epochs[0], epochs[0]));
                return;
            }
        }
        assert!(Instant::now() < end, "{:?} instead of {shares:?}, epochs {epochs:?}", counts(members));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn member(id: &str) -> ConsumerMember {
    ConsumerMember::new("g", id, None, &["orders"])
}

#[test]
#[ignore = "needs a broker"]
fn a_group_whose_coordinator_is_killed_keeps_its_assignment_and_no_partition_has_two_owners() {
    let mut nodes = Nodes::start(3);
    let coordinator = run(async {
        let client = client(&nodes.addresses()).await;
        client.create_topic(&topic("orders", PARTITIONS, 3), false).await.unwrap();
        client.topic_created("orders").await.unwrap();
        client.coordinator("g").await.unwrap().address().to_owned()
    });
    wait_in_sync(&nodes, 1, "orders");
    wait_in_sync(&nodes, 1, "__consumer_offsets");
    let coordinator = (1..=3).find(|id| nodes.address(*id) == coordinator).unwrap();
    run(async {
        let client = client(&nodes.addresses()).await;
        let mut members: Vec<ConsumerMember> = ["a", "b", "c"].map(member).into();
        settle(&client, &mut members, &[2, 2, 2]).await;
        let counted = nodes.node(coordinator).metric("plimsoll_groups{type=\"consumer\",state=\"Stable\"}");
        assert_eq!(counted, 1);
        let before: Vec<_> = members.iter().map(|m| (m.epoch(), m.owned().clone())).collect();

        nodes.running[coordinator - 1].take().unwrap().kill();
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            beat(&client, &mut members).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let after: Vec<_> = members.iter().map(|m| (m.epoch(), m.owned().clone())).collect();
        assert_eq!(before, after, "a new coordinator changes nothing");

        members.push(member("d"));
        settle(&client, &mut members, &[1, 1, 2, 2]).await;
        members.remove(0).leave(&client).await.unwrap();
        settle(&client, &mut members, &[2, 2, 2]).await;
    });
}
