//! What the command line says while nodes of a cluster are dead, silent or unknown.
use crate::cluster::topic;
use crate::cluster_moves::told;
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{THIS, wait_for};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn at(address: &str, args: &[&str]) -> Output {
    Command::new(THIS).args(args).args(["-b", address]).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command that fails says.
fn refused(address: &str, args: &[&str]) -> String {
    let output = at(address, args);
    assert!(!output.status.success(), "{}", out(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn create(nodes: &Nodes, name: &str, partitions: i32, replicas: i16) {
    run(async {
        let client = client(&nodes.addresses()).await;
        client.create_topic(&topic(name, partitions, replicas), false).await.unwrap();
    });
    wait_in_sync(nodes, 1, name);
}

fn kill(nodes: &mut Nodes, id: usize) {
    nodes.running[id - 1].as_mut().unwrap().kill();
    nodes.running[id - 1] = None;
}

fn wait_until_missed(nodes: &Nodes, through: usize, id: i32) {
    let address = nodes.address(through);
    wait_for("the node to be missed", || {
        run(async { client(&address).await.refresh(&[]).await.unwrap().broker(id).is_none() }).then_some(())
    });
}

#[test]
#[ignore = "needs a broker"]
fn without_a_majority_of_the_metadata_the_status_is_shown_and_commands_say_why_they_fail() {
    let mut nodes = Nodes::start(3);
    create(&nodes, "kept", 2, 3);
    kill(&mut nodes, 2);
    kill(&mut nodes, 3);
    wait_until_missed(&nodes, 1, 2);
    wait_until_missed(&nodes, 1, 3);
    let address = nodes.address(1);
    let why = "the metadata has no leader that answers: a majority of its voters is not reached (not running: \
               node 2, 3)";
    // One that led may take a second to see that nobody follows.
    let text = wait_for("the status to tell of it", || {
        let begun = Instant::now();
        let status = at(&address, &["cluster", "status"]);
        assert!(
            status.status.success() && begun.elapsed() < Duration::from_secs(15),
            "{:?}",
            begun.elapsed()
        );
        Some(out(&status)).filter(|text| text.contains(why))
    });
    assert!(!text.contains(" controller "), "{text}");
    assert!(text.contains("1 topics, 2 partitions: ") && text.contains("kept"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&out(&at(&address, &["cluster", "status", "--format", "json"]))).unwrap();
    assert_eq!((&json["metadataTrouble"], &json["controller"]), (&why.into(), &(-1).into()));
    for command in [
        &["topic", "create", "more", "--timeout", "5"][..],
        &["partition", "recover", "kept", "0", "--timeout", "5"],
        &["cluster", "voters", "--timeout", "5"],
    ] {
        let said = refused(&address, command);
        assert!(said.contains("not done within 5 s: ") && said.contains(why), "{command:?}: {said}");
    }
}

#[test]
#[ignore = "needs a broker"]
fn what_could_not_be_looked_at_is_counted_and_a_look_that_fails_has_changed_nothing() {
    let mut nodes = Nodes::start(3);
    create(&nodes, "single", 3, 1);
    run(async {
        let client = client(&nodes.addresses()).await;
        let offsets = [(("single".to_owned(), 0), 0)].into();
        client.commit("g", client_lite::Committer::NOBODY, &offsets).await.unwrap();
    });
    let all = at(&nodes.addresses(), &["txn", "find-hanging"]);
    assert!(out(&all).starts_with("No transaction hangs; "), "{}", out(&all));
    kill(&mut nodes, 2);
    kill(&mut nodes, 3);
    wait_until_missed(&nodes, 1, 2);
    wait_until_missed(&nodes, 1, 3);
    let address = nodes.address(1);
    let partly = at(&address, &["txn", "find-hanging", "--topic", "single", "--timeout", "8"]);
    let said = String::from_utf8_lossy(&partly.stderr).into_owned();
    assert_eq!(partly.status.code(), Some(1), "{said}");
    assert!(said.contains("2 of 3 partitions of single have no leader and were not looked at\n"), "{said}");
    assert!(said.contains("error: transactions may hang that are not shown: 2 of 3"), "{said}");
    assert_eq!(out(&partly), "No transaction hangs in the 1 partitions that were looked at.\n");
    for command in [&["group", "describe", "g"][..], &["group", "members", "g"]] {
        let said = refused(&address, &[command, &["--timeout", "6"]].concat());
        assert!(said.contains("no leader") && said.contains("plimsoll cluster status"), "{said}");
        assert!(!said.contains("carried out") && !said.contains("overloaded"), "{said}");
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_silent_first_address_holds_nothing_up() {
    let nodes = Nodes::start(3);
    create(&nodes, "kept", 3, 3);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = format!("{},{}", silent.local_addr().unwrap(), nodes.addresses());
    for command in [&["cluster", "status"][..], &["topic", "describe", "kept"]] {
        let output = at(&addresses, command);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{why}");
    }
    // One that is listed still, and leads.
    let pid = nodes.node(2).pid().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let addresses = format!("{},{},{}", nodes.address(2), nodes.address(1), nodes.address(3));
    let outputs =
        [&["cluster", "status"][..], &["topic", "describe", "kept"]].map(|command| at(&addresses, command));
    signal("-CONT");
    for output in outputs {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{why}");
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_broker_that_is_unknown_unregistered_or_has_the_only_copy_is_named_for_what_it_is() {
    let mut nodes = Nodes::start(3);
    create(&nodes, "kept", 2, 3);
    create(&nodes, "single", 3, 1);
    let all = nodes.addresses();
    for command in [["cluster", "drain", "9"], ["cluster", "replace-node", "9"]] {
        let said = refused(&all, &command);
        assert!(said.contains("there is no broker 9: registered are 1,2,3"), "{said}");
    }
    for how in ["--dry-run", "--no-wait"] {
        let said = refused(&all, &["partition", "move", "kept", "0", "--to", "1,2,9", how]);
        assert!(said.contains("broker 9 is not registered: registered are 1,2,3"), "{how}: {said}");
    }
    let single = run(async { client(&all).await.refresh(&["single"]).await.unwrap() });
    let alone = single.topics[0].partitions.iter().find(|p| p.replicas == [3]).unwrap().index;
    let place = format!("single-{alone}");
    kill(&mut nodes, 3);
    wait_until_missed(&nodes, 1, 3);
    wait_until_missed(&nodes, 2, 3);
    let rest = format!("{},{}", nodes.address(1), nodes.address(2));
    let other = single.topics[0].partitions.iter().find(|p| p.replicas != [3]).unwrap().index.to_string();
    let plan = out(&at(&rest, &["partition", "move", "single", &other, "--to", "3", "--dry-run"]));
    assert!(plan.contains("broker 3 is not running: the move waits for it"), "it is registered: {plan}");
    let said = refused(&rest, &["cluster", "replace-node", "3"]);
    assert!(said.contains(&place) && said.contains("--accept-loss"), "{said}");
    // Nowhere to go for what has three replicas.
    run(async { client(&rest).await.delete_topic("kept").await.unwrap() });
    let waits = "1 partition(s) cannot move until broker 3 runs";
    let plan = out(&at(&rest, &["cluster", "drain", "3", "--dry-run"]));
    assert!(plan.contains(waits) && plan.contains(&place), "{plan}");
    let said = refused(&rest, &["cluster", "drain", "3"]);
    assert!(said.contains("1 partition(s) have not moved") && said.contains(&place), "{said}");
    nodes.running[2] = Some(nodes.start_node(3));
    wait_for("what waited to move", || {
        run(async {
            let cluster = client(&rest).await.refresh(&["single"]).await.unwrap();
            let all = cluster.topics[0].partitions.iter();
            (all.clone().all(|p| !p.replicas.contains(&3)) && all.clone().all(|p| p.leader >= 0))
                .then_some(())
        })
    });
    kill(&mut nodes, 3);
    wait_until_missed(&nodes, 1, 3);
    wait_until_missed(&nodes, 2, 3);
    let first = out(&at(&rest, &["cluster", "replace-node", "3", "--no-wait"]));
    assert!(first.contains("Broker 3: "), "{first}");
    for more in ["--no-wait", "--dry-run"] {
        let again = at(&rest, &["cluster", "replace-node", "3", more]);
        let said = out(&again);
        assert!(again.status.success() && said.contains("was unregistered already"), "{said}");
    }
}

#[test]
#[ignore = "needs a broker"]
fn leaders_follow_a_rebalance_at_once() {
    let mut nodes = Nodes::new(3);
    nodes.set("auto.leader.rebalance.enable=false");
    nodes.start_all();
    run(async {
        let client = client(&nodes.addresses()).await;
        let assignment = vec![vec![1, 2], vec![1, 2], vec![1, 2], vec![1, 2], vec![1, 2], vec![1, 2]];
        let topic = client_lite::NewTopic { name: "led".to_owned(), assignment, ..Default::default() };
        client.create_topic(&topic, false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "led");
    let (said, _) = told(&nodes, &["cluster", "rebalance"]);
    assert!(said.contains("have moved") && said.contains("Their preferred replicas lead."), "{said}");
    let cluster = run(async { client(&nodes.addresses()).await.refresh(&["led"]).await.unwrap() });
    for p in &cluster.topics[0].partitions {
        assert_eq!(p.leader, p.replicas[0], "{p:?}");
    }
}

fn up(dir: &Path, port: u16) -> Command {
    let mut command = Command::new(THIS);
    command.args(["cluster", "up", "--nodes", "1", "--base-port", &port.to_string(), "--dir"]).arg(dir);
    command.stdin(Stdio::null());
    command
}

#[test]
#[ignore = "needs a broker"]
fn a_cluster_that_runs_keeps_its_configuration_and_a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes");
    // Three in a row a hundred apart, as one node takes them.
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let begin = 10_000 + (std::process::id() % 15_000) as u16;
    let mut ports = (begin..begin + 4_000).step_by(3).filter(|port| free(*port) && free(port + 200));
    let (port, other) = (ports.next().unwrap(), ports.next().unwrap());
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&mut up(&path, port));
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("--base-port"), "{said}");
    assert!(!path.exists(), "nothing was written");
    drop(taken);
    let mut running = up(&path, port).stdout(Stdio::piped()).spawn().unwrap();
    let config = path.join("node-1/server.properties");
    let ready = || {
        let address = format!("127.0.0.1:{port}");
        at(&address, &["cluster", "status", "--timeout", "5"]).status.success().then_some(())
    };
    wait_for("the node to serve", ready);
    let before = std::fs::read_to_string(&config).unwrap();
    let said = refused(&mut up(&path, other));
    assert!(said.contains("is in use by process") && said.contains("--dir"), "{said}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
    assert!(Command::new("kill").arg(running.id().to_string()).status().unwrap().success());
    assert!(running.wait().unwrap().success());
    // What stands in its way is in its own words.
    std::fs::remove_file(path.join("node-1/data/lock")).unwrap();
    std::fs::create_dir(path.join("node-1/data/lock")).unwrap();
    let said = refused(&mut up(&path, port));
    assert!(said.contains("node 1 did not start") && said.contains("lock"), "{said}");
}

#[test]
#[ignore = "needs a broker"]
fn what_had_its_only_copy_on_a_lost_disk_goes_on_empty_as_the_refusal_says() {
    let mut nodes = Nodes::start(3);
    create(&nodes, "single", 3, 1);
    let single = run(async { client(&nodes.addresses()).await.refresh(&["single"]).await.unwrap() });
    let alone = single.topics[0].partitions.iter().find(|p| p.replicas == [3]).unwrap().index;
    kill(&mut nodes, 3);
    std::fs::remove_dir_all(nodes.data(3)).unwrap();
    wait_until_missed(&nodes, 1, 3);
    wait_until_missed(&nodes, 2, 3);
    let rest = format!("{},{}", nodes.address(1), nodes.address(2));
    assert!(refused(&rest, &["cluster", "replace-node", "3"]).contains(&format!("single-{alone}")));
    run(async { client(&rest).await.unregister_broker(3).await.unwrap() });
    let said = out(&at(&rest, &["cluster", "replace-node", "3"]));
    assert!(said.contains("was unregistered already") && said.contains("partition recover"), "{said}");
    nodes.running[2] = Some(nodes.start_node(3));
    let recover = ["partition", "recover", "single", &alone.to_string(), "--accept-loss"];
    wait_for("the loss to be accepted", || {
        let output = at(&rest, &recover);
        println!("{}{}", out(&output), String::from_utf8_lossy(&output.stderr));
        output.status.success().then_some(())
    });
    wait_in_sync(&nodes, 1, "single");
}
