//! Two replicas and a witness on the third node: what is lost stops nothing and takes nothing along.
use crate::cluster::{Acked, check, leader, produce, topic};
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::wait_for;
use std::process::{Command, Output};
use std::rc::Rc;

fn cli(nodes: &Nodes, through: usize, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.args(args).args(["-b", &nodes.address(through)]).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

/// The nodes of the two copies, and that of the witness.
fn places(nodes: &Nodes, through: usize) -> (Vec<usize>, usize) {
    let address = nodes.address(through);
    let copies: Vec<usize> = run(async {
        let cluster = client(&address).await.refresh(&["kept"]).await.unwrap();
        let partition = &cluster.topic("kept").unwrap().partitions[0];
        partition.replicas.iter().map(|id| usize::try_from(*id).unwrap()).collect()
    });
    assert_eq!(copies.len(), 2, "clients are told of the copies alone");
    let third = (1..=3).find(|id| !copies.contains(id)).unwrap();
    (copies, third)
}

#[test]
#[ignore = "needs a broker"]
fn a_rolling_restart_and_the_loss_of_one_of_two_disks_lose_nothing_and_stop_nothing() {
    let mut nodes = Nodes::start(3);
    let addresses = nodes.addresses();
    run(async {
        client(&addresses).await.create_topic(&topic("kept", 1, 2), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    let (copies, third) = places(&nodes, 1);
    wait_for("the witness", || (nodes.node(third).metric("plimsoll_witness_replicas") == 1).then_some(()));
    let shown = said(&cli(&nodes, 1, &["partition", "describe", "kept"]));
    assert!(shown.contains("witness"), "{shown}");
    let acked = Rc::new(Acked::default());
    let (mut nodes, lost) = run(async {
        let producing = tokio::task::spawn_local(produce(addresses.clone(), 0, acked.clone()));
        acked.more(200).await;
        for id in 1..=3 {
            let mut server = nodes.running[id - 1].take().unwrap();
            server.ask_to_stop();
            let ended = tokio::task::spawn_blocking(move || (server.ended(), server));
            let (status, stopped) = ended.await.unwrap();
            assert!(status.success(), "{status}\n{}", stopped.log());
            drop(stopped);
            acked.more(100).await;
            nodes = tokio::task::spawn_blocking(move || {
                nodes.running[id - 1] = Some(nodes.start_node(id));
                wait_in_sync(&nodes, id, "kept");
                nodes
            })
            .await
            .unwrap();
            acked.more(50).await;
        }
        println!("rolling restart: no acknowledgement for {:?} at most", acked.gap.get());
        let look = client(&addresses).await;
        let lost = leader(&look, "kept", 0).await;
        acked.gap.take();
        nodes.running[lost - 1].as_mut().unwrap().kill();
        std::fs::remove_dir_all(nodes.data(lost)).unwrap();
        acked.more(200).await;
        println!(
            "node {lost} led, was killed and lost its disk: no acknowledgement for {:?}",
            acked.gap.get()
        );
        let left = copies.iter().copied().find(|id| *id != lost).unwrap();
        assert_eq!(leader(&look, "kept", 0).await, left);
        acked.stop.set(true);
        producing.await.unwrap();
        check(&*client(&nodes.address(left)).await, 0, &acked).await;
        (nodes, lost)
    });
    // Its place is taken by the same node with an empty disk.
    let left = copies.iter().copied().find(|id| *id != lost).unwrap();
    said(&cli(&nodes, left, &["cluster", "replace-node", &lost.to_string(), "--no-wait"]));
    nodes.running[lost - 1] = Some(nodes.start_node(lost));
    wait_in_sync(&nodes, left, "kept");
    let moving = || nodes.node(left).metric("plimsoll_partitions_moving");
    wait_for("the new replica to have taken the place of the old", || (moving() == 0).then_some(()));
    assert_eq!(places(&nodes, left), (copies, third));
    // And it holds all of it: the other copy goes, with its disk.
    nodes.running[left - 1].as_mut().unwrap().kill();
    std::fs::remove_dir_all(nodes.data(left)).unwrap();
    run(async {
        let look = client(&nodes.address(lost)).await;
        while leader(&look, "kept", 0).await != lost {}
        check(&look, 0, &acked).await;
    });
}

#[test]
#[ignore = "needs a broker"]
fn on_two_brokers_a_topic_of_two_replicas_is_made_and_said_to_tolerate_no_loss_until_a_third_joins() {
    let mut nodes = Nodes::new(3);
    nodes.finds = Some(2);
    nodes.set("offsets.topic.replication.factor=2");
    nodes.start_these(1..=2);
    let create = ["topic", "create", "kept", "-p", "1", "-r", "2"];
    let told = said(&cli(&nodes, 1, &create));
    assert!(told.contains("created") && told.contains("no third broker for a witness"), "{told}");
    let logs = nodes.log(1) + &nodes.log(2);
    assert!(logs.contains("no third broker for a witness"), "{logs}");
    let status = said(&cli(&nodes, 1, &["cluster", "status"]));
    assert!(status.contains("have no witness"), "{status}");
    nodes.running[2] = Some(nodes.start_node(3));
    wait_for("a witness on the third broker", || {
        (nodes.node(3).metric("plimsoll_witness_replicas") >= 1).then_some(())
    });
    wait_for("the status to say so", || {
        let status = said(&cli(&nodes, 3, &["cluster", "status"]));
        (status.contains("on 3") && !status.contains("have no witness")).then_some(())
    });
}
