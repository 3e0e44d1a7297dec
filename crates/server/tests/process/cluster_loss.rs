//! Two of three directories are lost for good, and an operator accepts what went with them.
use crate::cluster::{Acked, all_values, leader, produce, topic};
use crate::install;
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::wait_for;
use bytes::Bytes;
use client_lite::{Acks, NewTopic};
use model::ErrorCode;
use records::{BatchBuilder, NewRecord};
use std::process::{Command, Output};
use std::rc::Rc;
use std::time::{Duration, Instant};

fn recover(nodes: &Nodes, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.args(["partition", "recover", "kept", "0", "-b", &nodes.address(1)]).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn signal(nodes: &Nodes, id: usize, name: &str) {
    let pid = nodes.node(id).pid().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

fn batch(number: u64) -> Bytes {
    let mut batch = BatchBuilder::new();
    batch.push(NewRecord::new(-1, None, Some(&number.to_be_bytes())));
    batch.finish().unwrap().freeze()
}

/// Numbers in their order, none left out.
async fn numbers(nodes: &Nodes) -> u64 {
    let values = all_values(&*client(&nodes.address(1)).await, "kept", 0).await;
    let found: Vec<u64> = values.iter().map(|v| u64::from_be_bytes(v[..8].try_into().unwrap())).collect();
    assert!(found.iter().copied().eq(0..found.len() as u64), "doubled or out of order");
    found.len() as u64
}

/// Node 1 alone votes on the metadata: it is what is left.
#[test]
#[ignore = "needs a broker"]
fn cluster_of_three_with_two_directories_lost_goes_on_with_what_the_third_has_when_told_so() {
    let mut nodes = Nodes::new(3);
    nodes.finds = Some(1);
    nodes.start_these(1..=1);
    nodes.start_these(2..=3);
    run(async {
        client(&nodes.address(1)).await.create_topic(&topic("kept", 1, 3), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    let refused = recover(&nodes, &["--accept-loss"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("leads it"), "there is a leader: {said}");

    let acked = Rc::new(Acked::default());
    run(async {
        let producing = tokio::task::spawn_local(produce(nodes.addresses(), 0, acked.clone()));
        acked.more(200).await;
        acked.stop.set(true);
        producing.await.unwrap();
    });
    let here = run(numbers(&nodes));
    // The others go on without node 1, and what they take is lost with them.
    signal(&nodes, 1, "-STOP");
    let others = format!("{},{}", nodes.address(2), nodes.address(3));
    run(async {
        let client = client(&others).await;
        let (mut taken, begun) = (0, Instant::now());
        while taken < 50 {
            let sent = client.produce("kept", 0, batch(1 << 40), Acks::All).await;
            taken += usize::from(sent.is_ok());
            assert!(begun.elapsed() < Duration::from_secs(120), "{taken} were taken; the last: {sent:?}");
        }
    });
    for id in [2, 3] {
        nodes.running[id - 1].as_mut().unwrap().kill();
        nodes.running[id - 1] = None;
        std::fs::remove_dir_all(nodes.data(id)).unwrap();
    }
    signal(&nodes, 1, "-CONT");

    let plan = wait_for("the leader to be missed", || {
        let plan = recover(&nodes, &[]);
        plan.status.success().then(|| text(&plan.stdout))
    });
    assert!(plan.contains("missing are brokers 2, 3") && plan.contains("broker 1 would lead"), "{plan}");
    assert!(plan.contains("not reached, or lost") && plan.contains("--accept-loss does so"), "{plan}");
    assert_eq!(nodes.node(1).metric("plimsoll_losses_accepted_total"), 0, "nothing has been done");
    let done = recover(&nodes, &["--accept-loss"]);
    assert!(done.status.success(), "{} {}", text(&done.stdout), text(&done.stderr));
    assert_eq!(nodes.node(1).metric("plimsoll_losses_accepted_total"), 1);
    assert!(nodes.log(1).contains("loss was accepted: this replica goes on alone"), "{}", nodes.log(1));
    assert_eq!(run(numbers(&nodes)), here, "what it had is there, and nothing else");
    let again = recover(&nodes, &["--accept-loss"]);
    assert!(!again.status.success() && text(&again.stderr).contains("leads it"), "{}", text(&again.stderr));

    // It is written and read, and two new directories get copies.
    run(async {
        let client = client(&nodes.address(1)).await;
        assert_eq!(leader(&client, "kept", 0).await, 1);
        for value in [here, here + 1] {
            client.produce("kept", 0, batch(value), Acks::All).await.unwrap();
        }
    });
    for id in [2, 3] {
        wait_for("the node to be known as lost", || {
            let gone = run(async { client(&nodes.address(1)).await.unregister_broker(id).await });
            match gone.as_ref().map_err(|error| error.code()) {
                Ok(()) => Some(()),
                Err(Some(ErrorCode::InvalidRequest)) => None,
                Err(code) => panic!("{code:?}"),
            }
        });
    }
    nodes.start_these(2..=3);
    wait_in_sync(&nodes, 1, "kept");
    assert_eq!(run(numbers(&nodes)), here + 2);
    let end = "plimsoll_partition_log_end_offset{topic=\"kept\",partition=\"0\"}";
    wait_for("all to have the same", || {
        (1..=3).all(|id| nodes.node(id).metric(end) == here + 2).then_some(())
    });
    // A majority decides again, once the new copies vote: the one that was left is not needed any more.
    wait_for("the new copies to vote", || {
        (nodes.node(1).metric("plimsoll_partitions_moving") == 0).then_some(())
    });
    signal(&nodes, 1, "-STOP");
    run(async {
        let client = client(&others).await;
        assert_ne!(leader(&client, "kept", 0).await, 0);
    });
    wait_for("one of the copies to lead", || {
        run(async { leader(&*client(&others).await, "kept", 0).await != 1 }).then_some(())
    });
    signal(&nodes, 1, "-CONT");
}

/// The same records are unreadable everywhere: nobody can bring anybody up.
#[test]
#[ignore = "needs a broker"]
fn what_is_damaged_on_every_replica_is_given_up_by_a_command_and_a_trim() {
    let mut nodes = Nodes::new(3);
    nodes.set("log.window.bytes=1048576");
    nodes.start_all();
    let addresses = nodes.addresses();
    run(async {
        let client = client(&addresses).await;
        let configs = vec![("segment.bytes".to_owned(), "1048576".to_owned())];
        client.create_topic(&NewTopic { configs, ..install::small() }, false).await.unwrap();
        install::produce(&client, 0..90).await;
    });
    wait_in_sync(&nodes, 1, "kept");
    for id in 1..=3 {
        nodes.node(id).ask_to_stop();
    }
    for id in 1..=3 {
        assert!(nodes.running[id - 1].take().unwrap().ended().success());
        let file = install::first_file(&nodes, id);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    }
    nodes.start_all();
    let plan = wait_for("all to find out that nobody can help them", || {
        let plan = recover(&nodes, &[]);
        plan.status.success().then(|| text(&plan.stdout))
    });
    assert!(plan.contains("damaged (") && plan.contains("past what cannot be read"), "{plan}");
    let done = recover(&nodes, &["--accept-loss"]);
    assert!(done.status.success(), "{} {}", text(&done.stdout), text(&done.stderr));
    run(async {
        let client = client(&addresses).await;
        install::produce(&client, 90..92).await;
        let found = crate::cluster::values(&client, "kept", 0, 60..92).await;
        assert_eq!(found.len(), 32, "what is not damaged is there");
    });
    let mut trim = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    let trim = trim.args(["topic", "trim", "kept", "--before", "40", "-b", &addresses]).output().unwrap();
    assert!(trim.status.success(), "{}", text(&trim.stderr));
    wait_in_sync(&nodes, 1, "kept");
    assert!((1..=3).all(|id| nodes.node(id).metric("plimsoll_suspect_replicas") == 0));
    let accepted: u64 = (1..=3).map(|id| nodes.node(id).metric("plimsoll_losses_accepted_total")).sum();
    assert_eq!(accepted, 1);
}
