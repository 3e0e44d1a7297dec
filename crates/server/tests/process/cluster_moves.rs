//! Replicas that move while records are written: by hand, off a node, and back.
use crate::cluster::{leader, topic};
use crate::load::{self, Load, TOPIC, replicas_are_equal};
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{THIS, wait_for};
use client_lite::{Client, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

fn command(nodes: &Nodes, args: &[&str]) -> Command {
    let mut command = Command::new(THIS);
    command.args(args).args(["-b", &nodes.addresses()]);
    command
}

fn cli(nodes: &Nodes, args: &[&str]) -> Output {
    command(nodes, args).output().unwrap()
}

/// Runs a command to its good end; answers what it printed, and what it told on its way.
pub(crate) fn told(nodes: &Nodes, args: &[&str]) -> (String, String) {
    let output = cli(nodes, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

async fn replicas(client: &Client, topic: &str) -> Vec<Vec<i32>> {
    let cluster = client.refresh(&[topic]).await.unwrap();
    cluster.topic(topic).unwrap().partitions.iter().map(|p| p.replicas.clone()).collect()
}

/// Replicas on each node, of the load's topic and of the group's offsets.
fn held(nodes: &Nodes) -> BTreeMap<i32, usize> {
    let mut held: BTreeMap<i32, usize> = BTreeMap::new();
    for topic in [TOPIC, "__consumer_offsets"] {
        for id in run(async { replicas(&*client(&nodes.addresses()).await, topic).await }).concat() {
            *held.entry(id).or_default() += 1;
        }
    }
    held
}

/// Directories of groups that a node holds, but for the metadata.
fn groups_on(nodes: &Nodes, id: usize) -> BTreeSet<String> {
    let entries = std::fs::read_dir(nodes.data(id).join("groups")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("AAAAAAAAAAAAAAAAAAAAAQ")).collect()
}

#[test]
#[ignore = "needs a broker"]
fn a_partition_moves_under_load_and_loses_nothing() {
    let mut nodes = Nodes::start(3);
    let load = Load::start(&nodes, 1, 2);
    load.more(150);
    load.gap();
    let look = || run(async { replicas(&*client(&nodes.addresses()).await, TOPIC).await[0].clone() });
    let leads = || run(async { leader(&*client(&nodes.addresses()).await, TOPIC, 0).await as i32 });
    for round in 0..6 {
        let (before, leader) = (look(), leads());
        // Off its leader, off the other one, to all three, to one, and from there to others.
        let to: Vec<i32> = match round {
            0 | 1 => {
                let new = (1..=3).find(|id| !before.contains(id)).unwrap();
                let goes = |id: &i32| (*id == leader) == (round == 0);
                before.iter().map(|id| if goes(id) { new } else { *id }).collect()
            }
            2 => vec![1, 2, 3],
            3 => vec![2],
            4 => vec![3, 1],
            _ => vec![1, 2],
        };
        let list = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let (said, progress) = told(&nodes, &["partition", "move", TOPIC, "0", "--to", &list]);
        assert!(said.contains("1 partition(s) have moved") && progress.contains("left"), "{said}{progress}");
        assert_eq!(look(), to, "round {round}");
        assert!(
            run(async { client(&nodes.addresses()).await.list_reassignments().await.unwrap() }).is_empty()
        );
        load.more(50);
        assert!(to.contains(&leads()));
    }
    println!("no acknowledgement for {:?} at most", load.gap());
    let acked = load.finish();
    let id = run(async { client(&nodes.addresses()).await.topic(TOPIC).await.unwrap().id.to_string() });
    // A witness takes the place of the replica that left.
    let witnesses = || nodes.node(3).metric("plimsoll_witness_replicas");
    wait_for("the third node to hold a witness alone", || {
        let groups = groups_on(&nodes, 3).into_iter().filter(|name| name.starts_with(&id));
        (groups.count() == 1 && witnesses() == 1).then_some(())
    });
    assert!((1..=3).map(|id| nodes.node(id).metric("plimsoll_partitions_moved_total")).sum::<u64>() >= 6);
    replicas_are_equal(&mut nodes, &acked);
}

#[test]
#[ignore = "needs a broker"]
fn a_node_is_drained_under_load_and_gets_its_share_again() {
    let mut nodes = Nodes::new(3);
    // All are to be moved, those of the group's offsets as well.
    nodes.set("offsets.topic.replication.factor=2");
    nodes.start_all();
    let load = Load::start(&nodes, 6, 2);
    let dry = cli(&nodes, &["cluster", "drain", "2", "--dry-run"]);
    let plan = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.status.success() && plan.contains("kept-") && plan.contains("to copy"), "{plan}");
    load.more(50);
    let (said, progress) = told(&nodes, &["cluster", "drain", "2"]);
    assert!(said.contains("have moved") && progress.contains("left"), "{said} {progress}");
    let after = run(async { replicas(&*client(&nodes.addresses()).await, TOPIC).await });
    assert!(after.iter().all(|r| r.len() == 2 && !r.contains(&2)), "{after:?}");
    load.more(50);
    let (said, progress) = told(&nodes, &["cluster", "rebalance"]);
    assert!(said.contains("have moved") && progress.contains("left"), "{said} {progress}");
    // Six partitions and the four of the offsets, two replicas each.
    let held = held(&nodes);
    assert_eq!(held.values().sum::<usize>(), 20);
    assert!(held.len() == 3 && held.values().all(|count| (6..=7).contains(count)), "{held:?}");
    load.more(50);
    load::end(load, &mut nodes);
}

#[test]
#[ignore = "needs a broker"]
fn a_node_is_added_under_load_takes_its_share_and_another_one_leaves() {
    let mut nodes = Nodes::new(4);
    nodes.finds = Some(3);
    nodes.set("min.insync.replicas=2");
    nodes.start_these(1..=3);
    let load = Load::start(&nodes, 6, 3);
    let config = nodes.path("node-4.properties");
    let (said, _) = told(&nodes, &["cluster", "add", "--dry-run"]);
    assert!(said.contains("node.id=4\n") && said.contains("controller.quorum.bootstrap.servers="), "{said}");
    let mut adding = command(&nodes, &["cluster", "add", "4", "--output", config.to_str().unwrap()]);
    let adding = adding.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the new node's configuration", || {
        std::fs::read_to_string(&config).is_ok_and(|text| text.contains("http.listener")).then_some(())
    });
    nodes.start_configured(4, &config);
    let output = adding.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, progress) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains("Node 4 has joined the cluster."), "{said}{progress}");
    assert!(progress.contains("node 4: waiting for it to register"), "{progress}");
    assert!(progress.contains(&format!("node 4: serves at {}", nodes.address(4))), "{progress}");
    load.more(50);
    let (plan, _) = told(&nodes, &["cluster", "rebalance", "--dry-run"]);
    assert!(plan.contains("to copy") && plan.contains("to broker 4"), "{plan}");
    let (said, progress) = told(&nodes, &["cluster", "rebalance"]);
    assert!(said.contains("have moved") && progress.contains("left"), "{said}{progress}");
    // Six partitions and the four of the offsets, three replicas each.
    let on = |id: i32| held(&nodes).get(&id).copied().unwrap_or(0);
    assert!((1..=4).all(|id| (7..=8).contains(&on(id))), "30 replicas on four nodes: {:?}", held(&nodes));
    load.more(50);
    // Another one goes: what it had is on the new one and the two others.
    let (said, progress) = told(&nodes, &["cluster", "drain", "1"]);
    assert!(said.contains("have moved") && progress.contains("left"), "{said}{progress}");
    assert_eq!(held(&nodes), BTreeMap::from([(2, 10), (3, 10), (4, 10)]));
    wait_for("what it had to be removed", || groups_on(&nodes, 1).is_empty().then_some(()));
    nodes.stop(1);
    load.more(50);
    load::end(load, &mut nodes);
}

#[test]
#[ignore = "needs a broker"]
fn a_node_that_lost_its_disk_is_replaced_under_load() {
    let mut nodes = Nodes::new(3);
    nodes.set("min.insync.replicas=2");
    nodes.start_all();
    let load = Load::start(&nodes, 3, 3);
    let refused = cli(&nodes, &["cluster", "replace-node", "2"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("broker 2 is running"), "{why}");
    nodes.running[1].as_mut().unwrap().kill();
    nodes.running[1] = None;
    std::fs::remove_dir_all(nodes.data(2)).unwrap();
    load.more(50);
    wait_for("the node to be missed", || {
        let status = told(&nodes, &["cluster", "status"]).0;
        status.lines().any(|line| line.split_whitespace().take(2).eq(["2", "down"])).then_some(())
    });
    let (plan, _) = told(&nodes, &["cluster", "replace-node", "2", "--dry-run"]);
    assert!(plan.contains("7 partition(s), ") && plan.contains("to copy"), "{plan}");
    let mut replacing = command(&nodes, &["cluster", "replace-node", "2"]);
    let mut replacing = replacing.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut lines, mut progress) = (BufReader::new(replacing.stderr.take().unwrap()), String::new());
    while !progress.contains("Now start broker 2 with an empty data directory") {
        assert!(lines.read_line(&mut progress).unwrap() > 0, "{progress}");
    }
    nodes.running[1] = Some(nodes.start_node(2));
    lines.read_to_string(&mut progress).unwrap();
    let output = replacing.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("Broker 2: 7 partition(s), "), "{said}{progress}");
    let first = progress.lines().find(|line| line.contains("of 7 replicas are not in sync, ")).unwrap();
    assert!(first.contains(" left"), "{progress}");
    wait_in_sync(&nodes, 2, TOPIC);
    load.more(50);
    // It counts again: with it the first node is a majority.
    nodes.stop(3);
    load.more(50);
    nodes.running[2] = Some(nodes.start_node(3));
    wait_in_sync(&nodes, 3, TOPIC);
    load::end(load, &mut nodes);
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
    let (status, _) = told(&nodes, &["cluster", "status"]);
    assert!(status.contains(&format!("kept-0 waits for broker {spare}, which is not running")), "{status}");
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
