//! Nodes of two versions side by side: this build, and that of the previous commit, which `cargo xtask test --only upgrade`
//! builds and names in `PLIMSOLL_PREVIOUS`.
use crate::cluster::leader;
use crate::cluster_admin::elect;
use crate::joining::update_feature;
use crate::load::{Load, TOPIC, replicas_are_equal};
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{Server, THIS, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use wire::{ApiKey, ApiVersionsRequest, ResponseBody};

const PARTITIONS: i32 = 3;

/// The program of the previous commit, and this one.
fn programs() -> (PathBuf, PathBuf) {
    let previous = std::env::var_os("PLIMSOLL_PREVIOUS").expect("PLIMSOLL_PREVIOUS names another build");
    (previous.into(), THIS.into())
}

/// The highest level of each feature that a node's program supports, and the level that the cluster is at.
fn features(node: &Server) -> (BTreeMap<String, i16>, BTreeMap<String, i16>) {
    let request = ApiVersionsRequest {
        client_software_name: "upgrade".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let ResponseBody::ApiVersions(answer) = node.client().ask(ApiKey::ApiVersions, 4, request) else {
        panic!()
    };
    let supported = answer.supported_features.iter().map(|f| (f.name.to_string(), f.max_version));
    let finalized = answer.finalized_features.iter().map(|f| (f.name.to_string(), f.max_version_level));
    (supported.collect(), finalized.collect())
}

/// Stops a node in good order, which hands over what it leads, and starts another program on its directory.
fn replace(nodes: &mut Nodes, load: &Load, id: usize, program: &Path) {
    nodes.stop(id);
    load.more(20);
    nodes.set_program(id, program);
    nodes.running[id - 1] = Some(nodes.start_node(id));
    for topic in [TOPIC, "__consumer_offsets"] {
        wait_in_sync(nodes, id, topic);
    }
    load.more(20);
}

/// Gives all partitions to one node to lead.
fn lead(nodes: &Nodes, to: usize) {
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let order: Vec<i32> =
        [to].into_iter().chain((1..=3).filter(|id| *id != to)).map(|id| id as i32).collect();
    let targets = all.iter().map(|at| ((TOPIC.to_owned(), *at), Some(order.clone()))).collect();
    run(async {
        let client = client(&nodes.address(to)).await;
        let refused = client.alter_reassignments(&targets).await.unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    });
    wait_for("its lead", || {
        elect(nodes, to, false, Some((TOPIC, &all)));
        let leaders: BTreeSet<usize> = run(async {
            let client = client(&nodes.addresses()).await;
            let mut leaders = BTreeSet::new();
            for at in &all {
                leaders.insert(leader(&client, TOPIC, *at).await);
            }
            leaders
        });
        (leaders == BTreeSet::from([to])).then_some(())
    });
}

/// Nodes `1` and `2` run different programs: each leads for a while, and the other one follows.
fn side_by_side(nodes: &Nodes, load: &Load) {
    assert_ne!(nodes.program(1), nodes.program(2));
    for leader in [1, 2, 1] {
        lead(nodes, leader);
        load.more(100);
        wait_in_sync(nodes, leader, TOPIC);
    }
}

/// Every node gets this program, one after the other.
fn roll(nodes: &mut Nodes, load: &Load, program: &Path) {
    for id in 1..=3 {
        replace(nodes, load, id, program);
        if id == 1 {
            side_by_side(nodes, load);
        }
    }
}

#[test]
#[ignore = "needs a broker"]
fn nodes_of_the_previous_commit_are_upgraded_and_taken_back_and_no_application_notices() {
    let rounds: u32 = std::env::var("PLIMSOLL_ROUNDS").map_or(1, |text| text.parse().unwrap());
    let (previous, this) = programs();
    let mut nodes = Nodes::new(3);
    nodes.set("min.insync.replicas=2");
    (1..=3).for_each(|id| nodes.set_program(id, &previous));
    nodes.start_all();
    let load = Load::start(&nodes, PARTITIONS, 3);
    let (_, before) = features(nodes.node(1));
    load.gap();
    for _ in 0..rounds {
        for (program, name) in [(&this, "upgrade"), (&previous, "downgrade")] {
            roll(&mut nodes, &load, program);
            println!("{name}: no acknowledgement for {:?} at most", load.gap());
            assert_eq!(features(nodes.node(2)).1, before, "a level rises when it is told to");
        }
    }
    roll(&mut nodes, &load, &this);
    let (newest, _) = features(nodes.node(1));
    // Others may rest on formats of our own.
    let (ours, others): (Vec<_>, Vec<_>) =
        newest.iter().partition(|(name, _)| name.as_str() == "plimsoll.version");
    for (name, level) in ours.into_iter().chain(others) {
        let answer = update_feature(nodes.node(2), name, *level);
        assert_eq!(answer.error_code, 0, "{name} to {level}: {answer:?}");
    }
    for id in 1..=3 {
        wait_for("the new levels", || (features(nodes.node(id)).1 == newest).then_some(()));
    }
    load.more(100);
    println!("no acknowledgement for {:?} at most; levels {before:?}, now {newest:?}", load.gap());
    let acked = load.finish();
    replicas_are_equal(&mut nodes, &acked);
}

#[test]
#[ignore = "needs a broker"]
fn a_cluster_of_two_versions_outlives_the_death_of_either() {
    let (previous, this) = programs();
    let mut nodes = Nodes::new(3);
    nodes.set("min.insync.replicas=2");
    (1..=3).for_each(|id| nodes.set_program(id, &previous));
    nodes.start_all();
    let load = Load::start(&nodes, PARTITIONS, 3);
    replace(&mut nodes, &load, 1, &this);
    for dead in [1, 2] {
        lead(&nodes, dead);
        load.gap();
        nodes.running[dead - 1].as_mut().unwrap().kill();
        load.more(50);
        println!("{} killed: no acknowledgement for {:?}", nodes.program(dead).display(), load.gap());
        nodes.running[dead - 1] = Some(nodes.start_node(dead));
        for topic in [TOPIC, "__consumer_offsets"] {
            wait_in_sync(&nodes, dead, topic);
        }
    }
    let acked = load.finish();
    replicas_are_equal(&mut nodes, &acked);
}
