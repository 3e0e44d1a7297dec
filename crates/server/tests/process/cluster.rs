//! Three processes that are one cluster: formed, written and read through any node, killed, restarted.
use crate::load::{self, Load};
use crate::nodes::{Nodes, client, client_within, run, wait_in_sync};
use crate::server::{PATIENCE, Server, wait_for};
use crate::wire_client::value_batch;
use bytes::Bytes;
use client_lite::{Client, FetchFrom, FetchOptions, IdempotentProducer, NewTopic, OffsetAt};
use records::{BatchBuilder, NewRecord};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::create_topics_request::CreatableTopic;
use wire::metadata_request::MetadataRequestTopic;
use wire::{ApiKey, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, ResponseBody};

/// What a killed leader may cost the producers of its partitions.
const GOAL: Duration = Duration::from_millis(500);

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

fn batch_of(value: u64) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    batch.push(NewRecord::new(-1, None, Some(&value.to_be_bytes())));
    batch
}

pub(crate) fn topic(name: &str, partitions: i32, replicas: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(replicas),
        ..NewTopic::default()
    }
}

/// Every value of a partition, in order.
pub(crate) async fn all_values(client: &Client, topic: &str, partition: i32) -> Vec<Bytes> {
    let place = (topic.to_owned(), partition);
    let end = client.list_offsets(std::slice::from_ref(&place), client_lite::LATEST, false).await.unwrap();
    let end: &OffsetAt = &end[&place];
    values(client, topic, partition, 0..end.offset).await
}

/// The values of a partition from an offset to another, in order.
pub(crate) async fn values(client: &Client, topic: &str, partition: i32, range: Range<i64>) -> Vec<Bytes> {
    let (mut values, mut offset) = (Vec::new(), range.start);
    while offset < range.end {
        let from = FetchFrom { topic: topic.to_owned(), partition, offset };
        let fetched = match client.fetch(&[from], &FetchOptions::default()).await {
            Ok(fetched) => fetched,
            Err(error) if error.is_retriable() => continue,
            Err(error) => panic!("{error}"),
        };
        let Some(answer) = fetched.first().filter(|answer| answer.error_code == 0) else { continue };
        let (records, next) = answer.decode().unwrap();
        values.extend(records.into_iter().map(|record| record.value.unwrap()));
        offset = next;
    }
    values
}

#[test]
#[ignore = "needs a broker"]
fn three_processes_on_empty_directories_form_a_cluster_that_any_of_them_serves() {
    let nodes = Nodes::start(3);
    run(async {
        let first = client(&nodes.address(1)).await;
        first.create_topic(&topic("kept", 3, 3), false).await.unwrap();
        let mut ids = Vec::new();
        for id in 1..=3 {
            let client = client(&nodes.address(id)).await;
            let topic = client.topic_created("kept").await.unwrap();
            assert_eq!(topic.partitions.len(), 3);
            for partition in 0..3 {
                let value = format!("{id} to {partition}").into_bytes();
                let mut batch = BatchBuilder::new();
                batch.push(NewRecord::new(-1, None, Some(&value)));
                let batch = batch.finish().unwrap().freeze();
                client.produce("kept", partition, batch, client_lite::Acks::All).await.unwrap();
            }
            let cluster = client.refresh(&[]).await.unwrap();
            assert_eq!(cluster.brokers.len(), 3, "node {id}");
            ids.push(cluster.id.unwrap());
        }
        assert!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        for id in 1..=3 {
            let client = client(&nodes.address(id)).await;
            for partition in 0..3 {
                let values = all_values(&client, "kept", partition).await;
                let want: Vec<String> = (1..=3).map(|id| format!("{id} to {partition}")).collect();
                assert_eq!(values, want, "through node {id}");
            }
        }
    });
    wait_in_sync(&nodes, 2, "kept");
    for id in 1..=3 {
        let node = nodes.node(id);
        assert_eq!(node.metric("plimsoll_leases"), 2);
        for other in (1..=3).filter(|other| *other != id) {
            for connection in ["data", "liveness"] {
                let series =
                    format!("plimsoll_peer_connections{{node=\"{other}\",connection=\"{connection}\"}}");
                assert_eq!(node.metric(&series), 1, "{series}");
            }
        }
        assert!(node.metric("plimsoll_peer_received_bytes_total{kind=\"raft\"}") > 0);
    }
}

/// Creates a topic by a request to this node, whoever leads the metadata.
fn create_through(node: &Server, name: &str) -> i16 {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 3,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    let ResponseBody::CreateTopics(answer) = node.client().ask(ApiKey::CreateTopics, 7, request) else {
        panic!()
    };
    answer.topics[0].error_code
}

#[test]
#[ignore = "needs a broker"]
fn any_node_takes_admin_requests_and_shows_what_they_did() {
    let nodes = Nodes::start(3);
    for id in 1..=3 {
        let (node, name) = (nodes.node(id), format!("through-{id}"));
        assert_eq!(create_through(node, &name), 0);
        assert_eq!(node.client().metadata(), (3, id), "the node that was asked knows of it at once");
        assert_eq!(create_through(node, &name), 36, "TOPIC_ALREADY_EXISTS is the leader's own answer");
    }
    let answered = "plimsoll_forwarded_requests_total{result=\"answered\"}";
    let forwarded: u64 = (1..=3).map(|id| nodes.node(id).metric(answered)).sum();
    assert_eq!(forwarded, 4, "one node leads, the two others forward");
    // Auto-creation and the topic of the groups are the node's own requests.
    run(async {
        for id in 1..=3 {
            let client = client(&nodes.address(id)).await;
            assert_eq!(
                client.topic_created(&format!("auto-{id}")).await.unwrap().partitions[0].replicas.len(),
                3
            );
            client.coordinator("group").await.unwrap();
        }
    });
    for id in 1..=3 {
        let topics = vec![wire::delete_topics_request::DeleteTopicState {
            name: Some(format!("through-{id}").as_str().into()),
            ..Default::default()
        }];
        let request = DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
        let asked = nodes.node(id % 3 + 1);
        let ResponseBody::DeleteTopics(answer) = asked.client().ask(ApiKey::DeleteTopics, 6, request) else {
            panic!()
        };
        assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
    }
}

#[test]
#[ignore = "needs a broker"]
fn topics_have_leaders_when_their_creator_is_answered() {
    let nodes = Nodes::start(3);
    let controller = run(async { client(&nodes.address(1)).await.refresh(&[]).await.unwrap().controller });
    let mut asked = nodes.node(usize::try_from(controller).unwrap()).client();
    let new = |name: &str| CreatableTopic {
        name: name.into(),
        num_partitions: 8,
        replication_factor: 3,
        ..CreatableTopic::default()
    };
    for round in 0..5 {
        let names = [format!("created-{round}"), format!("on-demand-{round}")];
        let topics = vec![new(&names[0])];
        let request = CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only: false };
        let ResponseBody::CreateTopics(_) = asked.ask(ApiKey::CreateTopics, 7, request) else { panic!() };
        let name =
            |name: &String| MetadataRequestTopic { name: Some(name.as_str().into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(names.iter().map(name).collect()),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let ResponseBody::Metadata(answer) = asked.ask(ApiKey::Metadata, 12, request) else { panic!() };
        for topic in answer.topics {
            assert!(topic.partitions.iter().all(|p| p.error_code == 0 && p.leader_id > 0), "{topic:?}");
            assert_eq!((topic.error_code, topic.partitions.is_empty()), (0, false), "{topic:?}");
        }
    }
}

/// What producers were told, and the longest time that none of them was told anything.
#[derive(Default)]
pub(crate) struct Acked {
    numbers: RefCell<Vec<u64>>,
    last: Cell<Option<Instant>>,
    pub(crate) gap: Cell<Duration>,
    pub(crate) stop: Cell<bool>,
}

impl Acked {
    fn add(&self, number: u64) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(Some(now)) {
            self.gap.set(self.gap.get().max(now - last));
        }
        self.numbers.borrow_mut().push(number);
    }

    fn len(&self) -> usize {
        self.numbers.borrow().len()
    }

    /// Waits for so many more.
    pub(crate) async fn more(&self, count: usize) {
        let begun = (self.len(), Instant::now());
        while self.len() < begun.0 + count {
            assert!(begun.1.elapsed() < PATIENCE, "{} of {count}", self.len() - begun.0);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Sends numbers to a partition, each until it is acknowledged, and only what a client tries again may fail.
pub(crate) async fn produce(addresses: String, partition: i32, acked: Rc<Acked>) {
    produce_with(client(&addresses).await, partition, acked).await;
}

async fn produce_with(client: Arc<Client>, partition: i32, acked: Rc<Acked>) {
    let mut producer = IdempotentProducer::start(client).await.unwrap();
    for next in 0.. {
        while let Err(error) = producer.send("kept", partition, batch_of(next)).await {
            assert!(error.is_retriable(), "{error}");
        }
        acked.add(next);
        if acked.stop.get() {
            return;
        }
    }
}

/// Each number is there once and in its place, the acknowledged ones at least.
pub(crate) async fn check(client: &Client, partition: i32, acked: &Acked) {
    let values = all_values(client, "kept", partition).await;
    let found: Vec<u64> = values.iter().map(|value| number(value)).collect();
    assert!(found.iter().copied().eq(0..found.len() as u64), "lost, doubled or out of order");
    assert!(found.len() >= acked.len(), "{} of {} are there", found.len(), acked.len());
}

pub(crate) async fn leader(client: &Client, topic: &str, partition: i32) -> usize {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody leads {topic}-{partition}");
        let cluster = client.refresh(&[topic]).await.unwrap();
        let leader = cluster.topic(topic).map_or(-1, |t| t.partitions[partition as usize].leader);
        if let Ok(leader) = usize::try_from(leader) {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_killed_leader_costs_half_a_second_and_no_acknowledged_record() {
    let mut nodes = Nodes::start(3);
    let addresses = nodes.addresses();
    run(async {
        client(&addresses).await.create_topic(&topic("kept", 1, 3), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    let acked = Rc::new(Acked::default());
    let lost = run(async {
        let producing = tokio::task::spawn_local(produce(addresses.clone(), 0, acked.clone()));
        acked.more(200).await;
        let look = client(&addresses).await;
        let lost = leader(&look, "kept", 0).await;
        let quiet = acked.gap.take();
        nodes.running[lost - 1].as_mut().unwrap().kill();
        acked.more(200).await;
        println!(
            "node {lost} led and was killed: no acknowledgement for {:?}, for {quiet:?} before",
            acked.gap.get()
        );
        assert!(acked.gap.get() < 4 * GOAL, "{:?}", acked.gap.get());
        acked.stop.set(true);
        producing.await.unwrap();
        let now = leader(&look, "kept", 0).await;
        assert_ne!(now, lost);
        check(&*client(&nodes.address(now)).await, 0, &acked).await;
        lost
    });
    nodes.running[lost - 1] = Some(nodes.start_node(lost));
    wait_in_sync(&nodes, lost, "kept");
    let end = "plimsoll_partition_log_end_offset{topic=\"kept\",partition=\"0\"}";
    wait_for("the killed node to have it all", || {
        let ends: Vec<u64> = (1..=3).map(|id| nodes.node(id).metric(end)).collect();
        (ends.iter().all(|end| *end == ends[0] && *end >= acked.len() as u64)).then_some(())
    });
    // Whoever leads now goes as well: what is left, the killed node among it, has everything.
    let leads = run(async { leader(&*client(&nodes.address(lost)).await, "kept", 0).await });
    let mut server = nodes.running[leads - 1].take().unwrap();
    server.ask_to_stop();
    assert!(server.ended().success());
    let mut rest = (1..=3).filter(|id| *id != leads);
    let (left, other) = (rest.next().unwrap(), rest.next().unwrap());
    run(async { check(&*client(&nodes.address(left)).await, 0, &acked).await });
    // One of three is no majority, and says so until it is one again.
    nodes.running[other - 1].take().unwrap().kill();
    let says = |status: &str, what: &str| {
        let said = nodes.node(left).http("/readyz");
        (said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains(what)).then_some(())
    };
    wait_for("word of the lost majority", || says("503", "no leader of the metadata is heard"));
    let _again = nodes.start_node(other);
    wait_for("a majority", || says("200", "ok"));
}

#[test]
#[ignore = "needs a broker"]
fn a_leader_that_is_paused_loses_the_lead_and_what_it_wakes_with_harms_nothing() {
    let nodes = Nodes::start(3);
    let addresses = nodes.addresses();
    run(async {
        client(&addresses).await.create_topic(&topic("kept", 1, 3), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "kept");
    let acked = Rc::new(Acked::default());
    let signal = |id: usize, name: &str| {
        let pid = nodes.node(id).pid().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    run(async {
        let look = client(&addresses).await;
        let paused = leader(&look, "kept", 0).await;
        // What is on its way to a paused node has no answer: this producer does not wait for it for long.
        let others: Vec<String> = (1..=3).filter(|id| *id != paused).map(|id| nodes.address(id)).collect();
        let impatient = client_within(&others.join(","), Duration::from_millis(100)).await;
        let producing = tokio::task::spawn_local(produce_with(impatient, 0, acked.clone()));
        acked.more(200).await;
        acked.gap.take();
        signal(paused, "-STOP");
        acked.more(200).await;
        println!("node {paused} led and was paused: no acknowledgement for {:?}", acked.gap.get());
        assert!(acked.gap.get() < 4 * GOAL, "{:?}", acked.gap.get());
        signal(paused, "-CONT");
        acked.more(200).await;
        acked.stop.set(true);
        producing.await.unwrap();
        check(&look, 0, &acked).await;
    });
    for id in 1..=3 {
        wait_in_sync(&nodes, id, "kept");
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_rolling_restart_is_nothing_that_a_client_must_know_of() {
    let mut nodes = Nodes::new(3);
    nodes.set("min.insync.replicas=2");
    nodes.start_all();
    let load = Load::start(&nodes, 3, 3);
    for id in 1..=3 {
        load.gap();
        nodes.stop(id);
        load.more(50);
        println!("node {id} was stopped: no acknowledgement for {:?} at most", load.gap());
        nodes.running[id - 1] = Some(nodes.start_node(id));
        wait_in_sync(&nodes, id, "kept");
        load.more(50);
    }
    load::end(load, &mut nodes);
}

fn secret(nodes: &Nodes, name: &str, text: &str) -> String {
    let path = nodes.path(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("cluster.secret.file={}", path.display())
}

#[test]
#[ignore = "needs a broker"]
fn a_node_with_another_secret_is_refused_and_both_sides_say_so() {
    let mut nodes = Nodes::new(3);
    let (right, wrong) =
        (secret(&nodes, "right", "0123456789abcdef"), secret(&nodes, "wrong", "fedcba9876543210"));
    let mut children: Vec<_> =
        [(1, &right), (2, &right), (3, &wrong)].map(|(id, set)| nodes.spawn(id, set)).into();
    let say = "their secrets differ; the file that cluster.secret.file names must hold the same bytes";
    wait_for("both sides to say so", || (1..=3).all(|id| nodes.log(id).contains(say)).then_some(()));
    // The two others are a majority: they serve.
    run(async {
        let client = client(&nodes.address(1)).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let brokers = client.refresh(&[]).await.map_or(0, |cluster| cluster.brokers.len());
            if brokers == 2 {
                break;
            }
            assert!(Instant::now() < deadline, "{brokers} brokers");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for id in 1..=3 {
        assert!(!nodes.log(id).contains("0123456789abcdef"), "a secret is not logged");
    }
    // With the right one it is let in.
    nodes.set(&right);
    nodes.start_all();
    assert_eq!(nodes.node(3).client().metadata().0, 3);
}

#[test]
#[ignore = "needs a broker"]
fn a_node_that_comes_back_with_an_empty_directory_is_not_let_in() {
    let mut nodes = Nodes::start(3);
    let mut lost = nodes.running[2].take().unwrap();
    lost.ask_to_stop();
    assert!(lost.ended().success());
    assert_eq!(nodes.node(1).client().metadata().0, 3, "clients are told of it for a while still");
    // It has forgotten what it voted for and what it acknowledged.
    std::fs::remove_dir_all(nodes.data(3)).unwrap();
    let mut child = nodes.spawn(3, "num.partitions=1");
    let say = "node 3 is known with another data directory";
    wait_for("every side to say so", || (1..=3).all(|id| nodes.log(id).contains(say)).then_some(()));
    let named = || nodes.node(1).client().metadata().0;
    wait_for("it to be struck off the list", || (named() == 2).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "needs a broker"]
fn what_is_no_node_is_closed_at_the_controller_listener() {
    let nodes = Nodes::start(3);
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0, 0, 20, 0, 18, 0, 3, 0, 0, 0, 1],
        &[0xd0, b'L', b'I', b'M', 0xff],
    ] {
        let mut socket = TcpStream::connect(nodes.controller(1)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        // A reset is a close as well.
        let _ = socket.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }
    let refused = "plimsoll_peer_handshakes_refused_total{reason=\"no_peer\",by=\"this\"}";
    assert_eq!(nodes.node(1).metric(refused), 2);
    assert!(nodes.log(1).contains("no node of a cluster speaks there"), "{}", nodes.log(1));
    assert_eq!(create_through(nodes.node(1), "undisturbed"), 0);
    let mut client = nodes.node(1).client();
    wait_for("a leader", || {
        let leads = |id| nodes.node(id).client().produce("undisturbed", 0, value_batch(b"x"));
        (1..=3).any(|id| leads(id).is_ok_and(|produced| produced.code == 0)).then_some(())
    });
    assert_eq!(client.metadata().0, 3);
}

#[test]
#[ignore = "needs a broker"]
fn a_node_that_waits_for_a_majority_says_so_and_keeps_no_client_waiting() {
    let nodes = Nodes::new(3);
    let mut child = nodes.spawn(1, "num.partitions=1");
    wait_for("the listener", || TcpStream::connect(nodes.address(1)).ok().map(drop));
    let mut asking = crate::wire_client::Client::connect(nodes.address(1).parse().unwrap());
    let topics =
        vec![wire::metadata_request::MetadataRequestTopic { name: Some("any".into()), ..Default::default() }];
    let request = wire::MetadataRequest { topics: Some(topics), ..Default::default() };
    let ResponseBody::Metadata(answer) = asking.ask(ApiKey::Metadata, 12, request) else { panic!() };
    assert_eq!((answer.brokers.len(), answer.topics[0].error_code), (0, 5), "LEADER_NOT_AVAILABLE");
    let all = wire::MetadataRequest { topics: None, ..Default::default() };
    assert!(asking.try_ask(ApiKey::Metadata, 12, all).is_err(), "an empty cluster is no answer");
    wait_for("what it waits for", || {
        nodes.log(1).contains("waiting for a cluster: 1 more of the voters (1, 2, 3)").then_some(())
    });
    assert!(nodes.log(1).contains(&format!("2@{} is not reached", nodes.controller(2))), "{}", nodes.log(1));
    // SIGTERM ends it as well as one that serves.
    let asked = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    let status = wait_for("its end", || child.try_wait().unwrap());
    assert!(status.success(), "{status}\n{}", nodes.log(1));
}
