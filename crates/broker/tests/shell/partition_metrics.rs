//! What the metrics tell of partitions and of the other node.
use crate::peers::{Pair, both};
use crate::rig::{Client, batch, produce};
use std::time::{Duration, Instant};
use wire::create_topics_request::CreatableTopic;
use wire::{ApiKey, CreateTopicsRequest, ResponseBody};

/// Waits until `found` finds something.
fn wait_for<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A topic with two replicas of each partition.
fn create(client: &mut Client, name: &str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 2,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    let ResponseBody::CreateTopics(answer) = client.ask(ApiKey::CreateTopics, 7, request) else { panic!() };
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

/// The value of a partition's series with these labels after topic and partition.
fn value(page: &str, name: &str, partition: i32, more: &str) -> Option<f64> {
    let series = format!("{name}{{topic=\"kept\",partition=\"{partition}\"{more}}} ");
    page.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

/// The same on each node that shows it.
fn rows(pair: &Pair, name: &str, partition: i32, more: &str) -> Vec<(usize, f64)> {
    let row = |id: usize| Some((id, value(&pair.metrics(id), name, partition, more)?));
    [1, 2].into_iter().filter_map(row).collect()
}

#[test]
fn a_partition_shows_who_leads_it_and_how_far_its_replicas_are_and_counts_when_nobody_leads() {
    let (dir, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let [one, two] = both(dir.path(), &pair);
    create(&mut one.client(), "kept", 2);
    let leaderless = |id| pair.metric(id, "plimsoll_leaderless_partitions");
    wait_for("leaders", || [1, 2].iter().all(|id| leaderless(*id) == 0).then_some(()));
    for partition in 0..2 {
        let leads = wait_for("a leader that both rows tell of", || {
            let rows = rows(&pair, "plimsoll_partition_leader", partition, "");
            let leader = rows.iter().find(|(_, leads)| *leads == 1.0)?.0;
            (rows.len() == 2 && rows.iter().map(|(_, leads)| leads).sum::<f64>() == 1.0).then_some(leader)
        });
        let leader = if leads == 1 { &one } else { &two };
        let request = produce("kept", -1, vec![(partition, batch(&["a", "b"]))]);
        let ResponseBody::Produce(done) = leader.client().ask(ApiKey::Produce, 9, request) else { panic!() };
        assert_eq!(done.responses[0].partition_responses[0].error_code, 0, "{done:?}");
        // Who follows has no such rows, and nobody has one of its own replica.
        let other = format!(",replica=\"{}\"", 3 - leads);
        wait_for("the other replica", || {
            let lags = rows(&pair, "plimsoll_partition_replica_lag_entries", partition, &other);
            (lags == [(leads, 0.0)]).then_some(())
        });
        let own = format!(",replica=\"{leads}\"");
        assert_eq!(rows(&pair, "plimsoll_partition_replica_lag_entries", partition, &own), []);
        wait_for("a rate", || {
            let rates = rows(&pair, "plimsoll_partition_bytes_per_second", partition, ",direction=\"in\"");
            (rates.len() == 1 && rates[0].0 == leads && rates[0].1 > 0.0).then_some(())
        });
    }
    // Asleep they have leaders all the same.
    wait_for("all to sleep", || (pair.metric(1, "plimsoll_replica_groups_awake") == 0).then_some(()));
    assert_eq!([leaderless(1), leaderless(2)], [0, 0]);
    for id in [1, 2] {
        let page = pair.metrics(id);
        let nodes = page.lines().filter_map(|line| line.strip_prefix("plimsoll_peer_connections{node=\""));
        let nodes: Vec<&str> = nodes.map(|rest| &rest[..1]).collect();
        assert_eq!(nodes, [(3 - id).to_string(), (3 - id).to_string()], "the other node alone");
    }
    two.stop();
    wait_for("nobody to lead", || (leaderless(1) == 2).then_some(()));
    assert_eq!(pair.metric(1, "plimsoll_offline_partitions"), 0, "nothing is damaged");
    let page = pair.metrics(1);
    assert_eq!([0, 1].map(|at| value(&page, "plimsoll_partition_leader", at, "")), [Some(0.0), Some(0.0)]);
}
