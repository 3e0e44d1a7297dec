//! Apache Kafka's own tools against three processes, of which some are dead at times.
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::wait_for;
use client_lite::NewTopic;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One of Kafka's tools, to be given its arguments.
fn tool(class: &str) -> Command {
    let jars = std::env::var("KAFKA_TOOLS_JARS").expect("KAFKA_TOOLS_JARS names the jars of Kafka's tools");
    let log4j = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/java/log4j2.properties");
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    command.arg(format!("-Dlog4j2.configurationFile={log4j}")).arg("-cp").arg(format!("{jars}/*"));
    command.arg(format!("org.apache.kafka.tools.{class}"));
    command
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Runs a tool to its good end.
pub(crate) fn run_tool(class: &str, address: &str, args: &[&str]) -> String {
    // One tool wants its subcommand first.
    let (first, rest) = if class == "ClusterTool" { args.split_at(1) } else { args.split_at(0) };
    let output = tool(class).args(first).args(["--bootstrap-server", address]).args(rest).output().unwrap();
    assert!(output.status.success(), "{class} {args:?}: {}", said(&output));
    said(&output)
}

fn create(nodes: &Nodes, name: &str, partitions: i32, replicas: i16, configs: &[(&str, &str)]) {
    run(async {
        let client = client(&nodes.addresses()).await;
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(replicas),
            configs: configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..NewTopic::default()
        };
        client.create_topic(&topic, false).await.unwrap();
    });
    wait_in_sync(nodes, 1, name);
}

/// The partitions that kafka-topics shows with this option: (topic, partition) to its line.
fn shown(nodes: &Nodes, option: &[&str]) -> BTreeMap<(String, i32), String> {
    let args: Vec<&str> = ["--describe"].iter().chain(option).copied().collect();
    let text = run_tool("TopicCommand", &nodes.address(1), &args);
    let row = |line: &str| {
        let after = |name: &str| line.split_once(name)?.1.split_whitespace().next().map(str::to_owned);
        Some(((after("Topic: ")?, after("Partition: ")?.parse().ok()?), line.to_owned()))
    };
    text.lines().filter_map(row).filter(|((topic, _), _)| !topic.starts_with("__")).collect()
}

/// The node after `Leader: `, and the first after `Replicas: `.
fn leader_and_preferred(line: &str) -> (String, String) {
    let word =
        |name: &str| line.split_once(name).unwrap().1.split([',', '\t', ' ']).next().unwrap().to_owned();
    (word("Leader: "), word("Replicas: "))
}

#[test]
#[ignore = "needs a broker"]
fn topics_leader_election_log_dirs_and_cluster_know_a_dead_node() {
    let mut nodes = Nodes::new(3);
    nodes.set("auto.leader.rebalance.enable=false");
    nodes.start_all();
    create(&nodes, "three", 6, 3, &[("min.insync.replicas", "2")]);
    create(&nodes, "one", 3, 1, &[]);
    let address = nodes.address(1);

    let id = run_tool("ClusterTool", &address, &["cluster-id"]);
    assert!(id.contains("Cluster ID: "), "{id}");
    let endpoints = run_tool("ClusterTool", &address, &["list-endpoints"]);
    for id in 1..=3 {
        let port = nodes.address(id).split_once(':').unwrap().1.to_owned();
        assert!(endpoints.lines().any(|line| line.contains(&port)), "{endpoints}");
    }
    let dirs = run_tool("LogDirsCommand", &address, &["--describe"]);
    let dirs: Value = serde_json::from_str(&dirs[dirs.find('{').unwrap()..]).unwrap();
    for broker in dirs["brokers"].as_array().unwrap() {
        let dir = &broker["logDirs"][0];
        let data = nodes.data(broker["broker"].as_u64().unwrap() as usize);
        assert_eq!((dir["error"].is_null(), dir["logDir"].as_str()), (true, data.to_str()));
        let partitions: Vec<&str> =
            dir["partitions"].as_array().unwrap().iter().filter_map(|p| p["partition"].as_str()).collect();
        let of = |topic: &str| partitions.iter().filter(|p| p.starts_with(topic)).count();
        assert_eq!((of("three-"), of("one-")), (6, 1), "only what is there: {partitions:?}");
    }
    for option in ["--under-replicated-partitions", "--unavailable-partitions", "--at-min-isr-partitions"] {
        let healthy = shown(&nodes, &[option]);
        let expected = if option.starts_with("--at-min") { 3 } else { 0 };
        assert_eq!(healthy.len(), expected, "{option}: {healthy:?}");
    }

    nodes.running[1].as_mut().unwrap().kill();
    wait_for("kafka-topics to show what the dead node had", || {
        (shown(&nodes, &["--under-replicated-partitions", "--topic", "three"]).len() == 6).then_some(())
    });
    let gone = shown(&nodes, &["--unavailable-partitions"]);
    assert!(gone.len() == 1 && gone.keys().all(|(topic, _)| topic == "one"), "{gone:?}");
    assert!(gone.values().all(|line| line.contains("Leader: none")), "{gone:?}");
    let edge = shown(&nodes, &["--at-min-isr-partitions", "--topic", "three"]);
    assert_eq!(edge.len(), 6, "two of three, and two are needed: {edge:?}");
    assert!(shown(&nodes, &["--under-min-isr-partitions", "--topic", "three"]).is_empty());

    nodes.running[1] = Some(nodes.start_node(2));
    wait_in_sync(&nodes, 1, "three");
    let away = |nodes: &Nodes| {
        let rows = shown(nodes, &["--topic", "three"]);
        let away = |line: &&String| {
            let (leader, preferred) = leader_and_preferred(line);
            leader != preferred
        };
        rows.values().filter(away).count()
    };
    assert!(away(&nodes) > 0);
    let args = ["--election-type", "preferred", "--all-topic-partitions"];
    let moved = run_tool("LeaderElectionCommand", &address, &args);
    assert!(moved.contains("Successfully completed leader election (PREFERRED)"), "{moved}");
    assert_eq!(away(&nodes), 0);
    let again = ["--election-type", "preferred", "--topic", "three", "--partition", "0"];
    let again = run_tool("LeaderElectionCommand", &address, &again);
    assert!(again.contains("Valid replica already elected"), "{again}");
}

/// Three nodes, each in a rack of its own, with a hundred lines in a partition; its leader.
fn racks() -> (Nodes, usize) {
    let mut nodes = Nodes::new(3);
    nodes.set("broker.rack=rack-{id}");
    nodes.set("replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector");
    nodes.start_all();
    create(&nodes, "near", 1, 3, &[]);
    let leader = run(async {
        let client = client(&nodes.addresses()).await;
        let leader = client.topic_created("near").await.unwrap().partitions[0].leader;
        let mut batch = records::BatchBuilder::new();
        for value in 0..100 {
            let text = format!("line {value}");
            batch.push(records::NewRecord::new(-1, None, Some(text.as_bytes())));
        }
        let batch = batch.finish().unwrap().freeze();
        client.produce("near", 0, batch, client_lite::Acks::All).await.unwrap();
        usize::try_from(leader).unwrap()
    });
    (nodes, leader)
}

/// A consumer that names the rack of `follower` has read all lines there, and nothing at the third node.
fn judge_racks(nodes: &Nodes, leader: usize, follower: usize, read: &str) {
    let there = |id: usize| nodes.node(id).metric("plimsoll_fetched_at_follower_bytes_total");
    assert_eq!(read.lines().filter(|line| line.starts_with("line ")).count(), 100, "{read}");
    assert!(there(follower) > 0, "it read at the leader");
    assert_eq!(there(6 - leader - follower), 0);
}

#[test]
#[ignore = "needs a broker"]
fn a_console_consumer_with_a_rack_reads_at_the_follower_that_stands_there() {
    let (nodes, leader) = racks();
    let follower = leader % 3 + 1;
    let args = ["--topic", "near", "--from-beginning", "--max-messages", "100", "--timeout-ms", "30000"];
    let rack = format!("client.rack=rack-{follower}");
    let args: Vec<&str> = args.into_iter().chain(["--command-property", &rack]).collect();
    let read = run_tool("consumer.ConsoleConsumer", &nodes.addresses(), &args);
    judge_racks(&nodes, leader, follower, &read);
}

#[test]
#[ignore = "needs a broker"]
fn librdkafka_with_a_rack_reads_at_the_follower_that_stands_there() {
    let (nodes, leader) = racks();
    let follower = leader % 3 + 1;
    let rack = format!("client.rack=rack-{follower}");
    let mut kcat = Command::new("kcat");
    kcat.args([
        "-C",
        "-q",
        "-b",
        &nodes.addresses(),
        "-t",
        "near",
        "-o",
        "beginning",
        "-c",
        "100",
        "-X",
        &rack,
    ]);
    let output = kcat.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    judge_racks(&nodes, leader, follower, &said(&output));
}

#[test]
#[ignore = "needs a broker"]
fn kafkas_quorum_tool_adds_a_voter_and_removes_it() {
    let mut nodes = Nodes::new(2);
    nodes.finds = Some(1);
    nodes.start_these(1..=1);
    nodes.start_these(2..=2);
    let config = nodes.path("controller.properties");
    let text = format!(
        "process.roles=broker,controller\nnode.id=2\nlog.dirs={}\nlisteners=CONTROLLER://{}\n\
         controller.listener.names=CONTROLLER\n",
        nodes.data(2).display(),
        nodes.controller(2)
    );
    std::fs::write(&config, text).unwrap();
    let (class, address) = ("MetadataQuorumCommand", nodes.address(1));
    let voters = || {
        let status = run_tool(class, &address, &["describe", "--replication"]);
        status.lines().filter(|line| line.contains("Leader") || line.contains("Follower")).count()
    };
    assert_eq!(voters(), 1);
    run_tool(class, &address, &["--command-config", config.to_str().unwrap(), "add-controller"]);
    assert_eq!(voters(), 2);
    let meta = std::fs::read_to_string(nodes.data(2).join("meta.properties")).unwrap();
    let directory = meta.lines().find_map(|line| line.strip_prefix("directory.id=")).unwrap();
    let args = ["remove-controller", "--controller-id", "2", "--controller-directory-id", directory];
    run_tool(class, &address, &args);
    assert_eq!(voters(), 1);
}

/// A tool that goes on, and what it has said by now, a line of JSON each.
struct Running {
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Running {
    fn start(class: &str, address: &str, args: &[&str]) -> Running {
        let mut command = tool(class);
        command.args(["--bootstrap-server", address]).args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (events, out) = (Arc::new(Mutex::new(Vec::new())), child.stdout.take().unwrap());
        let heard = events.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    heard.lock().unwrap().push(event);
                }
            }
        });
        Running { child, events }
    }

    fn named(&self, name: &str) -> Vec<Value> {
        self.events.lock().unwrap().iter().filter(|event| event["name"] == name).cloned().collect()
    }

    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left behind when a test fails; a tool that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills each node in turn, so many rounds, while `producing` goes on.
fn kill_in_turn(nodes: &mut Nodes, producing: &Running, rounds: usize) {
    for round in 0..rounds {
        let id = round % 3 + 1;
        let acked = producing.named("producer_send_success").len();
        nodes.running[id - 1].as_mut().unwrap().kill();
        let begun = Instant::now();
        wait_for("the producer to go on", || {
            (producing.named("producer_send_success").len() > acked + 100).then_some(())
        });
        println!("round {round}: node {id} killed, 100 more were acknowledged within {:?}", begun.elapsed());
        nodes.running[id - 1] = Some(nodes.start_node(id));
        wait_in_sync(nodes, id, "verified");
        // A node whose offsets are behind would take a group's commits with it.
        wait_in_sync(nodes, id, "__consumer_offsets");
    }
}

#[test]
#[ignore = "needs a broker"]
fn verifiable_producer_and_consumer_agree_while_nodes_are_killed() {
    let rounds = std::env::var("PLIMSOLL_KILLS").map_or(6, |text| text.parse().unwrap());
    let mut nodes = Nodes::new(3);
    nodes.set("min.insync.replicas=2");
    nodes.start_all();
    create(&nodes, "verified", 4, 3, &[]);
    let config = nodes.path("producer.properties");
    std::fs::write(&config, "enable.idempotence=true\nretries=2147483647\ndelivery.timeout.ms=120000\n")
        .unwrap();
    let addresses = nodes.addresses();
    let group = ["--topic", "verified", "--group-id", "readers", "--verbose", "--session-timeout", "10000"];
    let mut consuming = Running::start("VerifiableConsumer", &addresses, &group);
    wait_for("the consumer to own all partitions", || {
        let owned = consuming
            .named("partitions_assigned")
            .iter()
            .map(|e| e["partitions"].as_array().unwrap().len())
            .max();
        (owned == Some(4)).then_some(())
    });
    let args = ["--topic", "verified", "--throughput", "200", "--acks", "-1", "--command-config"];
    let args: Vec<&str> = args.into_iter().chain([config.to_str().unwrap()]).collect();
    let mut producing = Running::start("VerifiableProducer", &addresses, &args);
    wait_for("the first acknowledgements", || {
        (producing.named("producer_send_success").len() > 200).then_some(())
    });
    kill_in_turn(&mut nodes, &producing, rounds);
    producing.stop();

    let errors = producing.named("producer_send_error");
    assert!(errors.is_empty(), "{:?}", &errors[..errors.len().min(3)]);
    let place = |e: &Value| (e["partition"].as_i64().unwrap(), e["offset"].as_i64().unwrap());
    let value = |e: &Value| e["value"].as_str().unwrap().to_owned();
    let acked = producing.named("producer_send_success");
    let acked: BTreeMap<(i64, i64), String> = acked.iter().map(|e| (place(e), value(e))).collect();
    assert!(acked.len() > 100 * rounds);
    let all_read = || -> BTreeMap<(i64, i64), BTreeSet<String>> {
        let mut read: BTreeMap<(i64, i64), BTreeSet<String>> = BTreeMap::new();
        consuming
            .named("record_data")
            .iter()
            .for_each(|e| _ = read.entry(place(e)).or_default().insert(value(e)));
        read
    };
    let end = Instant::now() + Duration::from_secs(60);
    let mut read = all_read();
    while acked.keys().any(|at| !read.contains_key(at)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(500));
        read = all_read();
    }
    consuming.stop();
    let missing: Vec<_> = acked.iter().filter(|(at, _)| !read.contains_key(at)).take(5).collect();
    assert!(missing.is_empty(), "acknowledged and not read: {missing:?}");
    for (at, values) in &read {
        assert_eq!(values.len(), 1, "{at:?} was read as {values:?}");
        assert!(
            acked.get(at).is_none_or(|value| values.contains(value)),
            "{at:?}: {:?}, {values:?}",
            acked.get(at)
        );
    }
    let each: BTreeSet<&String> = read.values().flatten().collect();
    assert_eq!(each.len(), read.len(), "a value stands twice");
    println!("{} acknowledged, {} read, {rounds} kills", acked.len(), read.len());
}
