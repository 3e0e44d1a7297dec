//! Replicas that move while records are written: by hand, off a node, and back.
use crate::cluster::{Acked, check, leader, produce, topic};
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::wait_for;
use client_lite::{Client, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::rc::Rc;

fn cli(nodes: &Nodes, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.args(args).args(["-b", &nodes.addresses()]).output().unwrap()
}

/// Runs a command beside the producers of this thread; answers what it printed, and what it told on its way.
async fn cli_beside(nodes: &Nodes, args: &[&str]) -> (String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    let output = command.args(args).args(["-b", &nodes.addresses()]).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

async fn replicas(client: &Client, topic: &str) -> Vec<Vec<i32>> {
    let cluster = client.refresh(&[topic]).await.unwrap();
    cluster.topic(topic).unwrap().partitions.iter().map(|p| p.replicas.clone()).collect()
}

/// Directories of groups that a node holds, but for the metadata.
fn groups_on(nodes: &Nodes, id: usize) -> BTreeSet<String> {
    let entries = std::fs::read_dir(nodes.data(id).join("groups")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("AAAAAAAAAAAAAAAAAAAAAQ")).collect()
}

/// The tokio of these tests drives no child processes while a thread sleeps: only `await` is used.
#[test]
#[ignore = "needs a broker"]
fn a_partition_moves_under_load_and_loses_nothing() {
    let nodes = Nodes::start(3);
    let addresses = nodes.addresses();
    run(async {
        client(&addresses).await.create_topic(&topic("kept", 1, 2), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    let acked = Rc::new(Acked::default());
    run(async {
        let producing = tokio::task::spawn_local(produce(addresses.clone(), 0, acked.clone()));
        acked.more(200).await;
        let look = client(&addresses).await;
        acked.gap.take();
        for round in 0..6 {
            let before = replicas(&look, "kept").await[0].clone();
            let leads = leader(&look, "kept", 0).await as i32;
            // Off its leader, off the other one, to all three, to one, and from there to others.
            let to: Vec<i32> = match round {
                0 | 1 => {
                    let new = (1..=3).find(|id| !before.contains(id)).unwrap();
                    let goes = |id: &i32| (*id == leads) == (round == 0);
                    before.iter().map(|id| if goes(id) { new } else { *id }).collect()
                }
                2 => vec![1, 2, 3],
                3 => vec![2],
                4 => vec![3, 1],
                _ => vec![1, 2],
            };
            let list = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            cli_beside(&nodes, &["partition", "move", "kept", "0", "--to", &list]).await;
            assert_eq!(replicas(&look, "kept").await, std::slice::from_ref(&to), "round {round}");
            assert!(look.list_reassignments().await.unwrap().is_empty());
            acked.more(50).await;
            assert!(to.contains(&(leader(&look, "kept", 0).await as i32)));
        }
        println!("no acknowledgement for {:?} at most", acked.gap.get());
        acked.stop.set(true);
        producing.await.unwrap();
        check(&look, 0, &acked).await;
    });
    wait_for("the replica that left to be removed", || groups_on(&nodes, 3).is_empty().then_some(()));
    assert!((1..=3).map(|id| nodes.node(id).metric("plimsoll_partitions_moved_total")).sum::<u64>() >= 6);
}

#[test]
#[ignore = "needs a broker"]
fn a_node_is_drained_under_load_and_gets_its_share_again() {
    let nodes = Nodes::start(3);
    let addresses = nodes.addresses();
    run(async {
        client(&addresses).await.create_topic(&topic("kept", 6, 2), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    let dry = cli(&nodes, &["cluster", "drain", "2", "--dry-run"]);
    let plan = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.status.success() && plan.contains("kept-") && plan.contains("to copy"), "{plan}");
    let acked: Vec<Rc<Acked>> = (0..3).map(|_| Rc::new(Acked::default())).collect();
    run(async {
        let all: Vec<_> = (0..3)
            .map(|p| tokio::task::spawn_local(produce(addresses.clone(), p, acked[p as usize].clone())))
            .collect();
        for one in &acked {
            one.more(100).await;
        }
        let look = client(&addresses).await;
        let (said, told) = cli_beside(&nodes, &["cluster", "drain", "2"]).await;
        assert!(said.contains("have moved") && told.contains("left"), "{said} {told}");
        let after = replicas(&look, "kept").await;
        assert!(after.iter().all(|r| r.len() == 2 && !r.contains(&2)), "{after:?}");
        for one in &acked {
            one.more(50).await;
        }
        cli_beside(&nodes, &["cluster", "rebalance"]).await;
        let mut held: BTreeMap<i32, usize> = BTreeMap::new();
        for id in replicas(&look, "kept").await.into_iter().flatten() {
            *held.entry(id).or_default() += 1;
        }
        assert_eq!(held, BTreeMap::from([(1, 4), (2, 4), (3, 4)]));
        for (partition, one) in (0..).zip(&acked) {
            one.stop.set(true);
            one.more(1).await;
            println!("partition {partition}: no acknowledgement for {:?} at most", one.gap.get());
        }
        for one in all {
            one.await.unwrap();
        }
        for (partition, one) in (0..).zip(&acked) {
            check(&look, partition, one).await;
        }
    });
}

#[test]
#[ignore = "needs a broker"]
fn a_move_waits_for_a_node_that_is_down_says_so_and_is_taken_back() {
    let mut nodes = Nodes::start(3);
    run(async {
        let client = client(&nodes.addresses()).await;
        client.create_topic(&topic("kept", 1, 2), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    let before = run(async { replicas(&*client(&nodes.addresses()).await, "kept").await[0].clone() });
    let spare = (1..=3).find(|id| !before.contains(id)).unwrap();
    let up = usize::try_from(before[0]).unwrap();
    nodes.running[spare as usize - 1].as_mut().unwrap().kill();
    let place: Place = ("kept".to_owned(), 0);
    wait_for("the node to be missed", || {
        run(async { client(&nodes.address(up)).await.refresh(&[]).await.unwrap().broker(spare).is_none() })
            .then_some(())
    });
    let move_it = |target: Option<Vec<i32>>| {
        run(async {
            let targets = BTreeMap::from([(place.clone(), target)]);
            client(&nodes.address(up)).await.alter_reassignments(&targets).await.unwrap()
        })
    };
    assert!(move_it(Some(vec![before[0], spare])).is_empty());
    let described = cli(&nodes, &["partition", "describe", "kept"]);
    let described = String::from_utf8_lossy(&described.stdout).into_owned();
    assert!(described.contains("offline") && described.contains("being removed"), "{described}");
    run(async {
        let ongoing = client(&nodes.address(up)).await.list_reassignments().await.unwrap();
        assert_eq!(ongoing[&place].adding, [spare]);
    });
    assert!(move_it(None).is_empty());
    wait_for("the move to be taken back", || {
        run(async {
            let client = client(&nodes.address(up)).await;
            let same = replicas(&client, "kept").await[0].iter().collect::<BTreeSet<_>>()
                == before.iter().collect::<BTreeSet<_>>();
            (same && client.list_reassignments().await.unwrap().is_empty()).then_some(())
        })
    });
    let again = move_it(None);
    assert_eq!(again[&place].code(), Some(model::ErrorCode::NoReassignmentInProgress));
}

#[test]
#[ignore = "needs a broker"]
fn what_is_confirmed_to_be_deleted_is_forgotten_by_the_metadata() {
    let nodes = Nodes::start(3);
    run(async {
        let client = client(&nodes.addresses()).await;
        client.create_topic(&topic("kept", 3, 3), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    run(async { client(&nodes.addresses()).await.delete_topic("kept").await.unwrap() });
    wait_for("its files to go", || (1..=3).all(|id| groups_on(&nodes, id).is_empty()).then_some(()));
    wait_for("every node to confirm", || {
        (1..=3).all(|id| nodes.node(id).metric("plimsoll_deletions_unconfirmed") == 0).then_some(())
    });
}
