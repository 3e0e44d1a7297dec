//! Processes that find their cluster by addresses: founders, brokers that join, voters that come and go.
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{Server, wait_for};
use bytes::Bytes;
use client_lite::NewTopic;
use records::{BatchBuilder, NewRecord};
use wire::describe_quorum_request::{PartitionData, TopicData};
use wire::update_features_request::FeatureUpdateKey;
use wire::{
    AddRaftVoterRequest, ApiKey, ApiVersionsRequest, DescribeQuorumRequest, DescribeQuorumResponse,
    RemoveRaftVoterRequest, ResponseBody, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

fn topic(name: &str, partitions: i32, replicas: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(replicas),
        ..NewTopic::default()
    }
}

fn batch(value: &str) -> Bytes {
    let mut batch = BatchBuilder::new();
    batch.push(NewRecord::new(-1, None, Some(value.as_bytes())));
    batch.finish().unwrap().freeze()
}

pub(crate) fn quorum(node: &Server) -> DescribeQuorumResponse {
    let partitions = vec![PartitionData { partition_index: 0 }];
    let topics = vec![TopicData { topic_name: "__cluster_metadata".into(), partitions }];
    let request = DescribeQuorumRequest { topics };
    let ResponseBody::DescribeQuorum(answer) = node.client().ask(ApiKey::DescribeQuorum, 2, request) else {
        panic!()
    };
    answer
}

/// Voters and observers, by node.
fn members(node: &Server) -> (Vec<i32>, Vec<i32>) {
    let answer = quorum(node);
    let partition = &answer.topics[0].partitions[0];
    let ids = |rows: &[wire::describe_quorum_response::ReplicaState]| {
        rows.iter().map(|row| row.replica_id).collect()
    };
    (ids(&partition.current_voters), ids(&partition.observers))
}

pub(crate) fn wait_for_members(node: &Server, voters: &[i32], observers: &[i32]) {
    wait_for("the metadata's members", || {
        (members(node) == (voters.to_vec(), observers.to_vec())).then_some(())
    });
}

pub(crate) fn directory(node: &Server, id: i32) -> [u8; 16] {
    let answer = quorum(node);
    let partition = &answer.topics[0].partitions[0];
    let mut rows = partition.current_voters.iter().chain(&partition.observers);
    rows.find(|row| row.replica_id == id).unwrap().replica_directory_id
}

pub(crate) fn add_voter(through: &Server, id: i32, directory: [u8; 16]) -> i16 {
    let listener = wire::add_raft_voter_request::Listener {
        name: "CONTROLLER".into(),
        host: "localhost".into(),
        port: 1,
    };
    let request = AddRaftVoterRequest {
        cluster_id: None,
        timeout_ms: 20_000,
        voter_id: id,
        voter_directory_id: directory,
        listeners: vec![listener],
        ack_when_committed: true,
    };
    let ResponseBody::AddRaftVoter(answer) = through.client().ask(ApiKey::AddRaftVoter, 1, request) else {
        panic!()
    };
    answer.error_code
}

fn remove_voter(through: &Server, id: i32, directory: [u8; 16]) -> i16 {
    let request = RemoveRaftVoterRequest { cluster_id: None, voter_id: id, voter_directory_id: directory };
    let ResponseBody::RemoveRaftVoter(answer) = through.client().ask(ApiKey::RemoveRaftVoter, 0, request)
    else {
        panic!()
    };
    answer.error_code
}

pub(crate) fn update_feature(through: &Server, name: &str, level: i16) -> UpdateFeaturesResponse {
    let update = FeatureUpdateKey {
        feature: name.into(),
        max_version_level: level,
        allow_downgrade: false,
        upgrade_type: 1,
    };
    let request =
        UpdateFeaturesRequest { timeout_ms: 10_000, feature_updates: vec![update], validate_only: false };
    let ResponseBody::UpdateFeatures(answer) = through.client().ask(ApiKey::UpdateFeatures, 2, request)
    else {
        panic!()
    };
    answer
}

#[test]
#[ignore = "needs a broker"]
fn three_nodes_that_know_only_addresses_found_a_cluster_and_a_fourth_joins_it() {
    let mut nodes = Nodes::new(4);
    nodes.finds = Some(3);
    nodes.start_these(1..=3);
    wait_for_members(nodes.node(2), &[1, 2, 3], &[]);
    nodes.start_these(4..=4);
    wait_for_members(nodes.node(1), &[1, 2, 3], &[4]);
    assert!(nodes.log(4).contains("this node joins a cluster"), "{}", nodes.log(4));
    run(async {
        let through = client(&nodes.address(4)).await;
        through.create_topic(&topic("wide", 4, 4), false).await.unwrap();
        // A node that has just joined hears of the others' lives one after the other.
        while through.refresh(&["wide"]).await.unwrap().brokers.len() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        for partition in &through.topic_created("wide").await.unwrap().partitions {
            assert_eq!(partition.replicas.len(), 4);
            let sent = batch("wide");
            through.produce("wide", partition.index, sent, client_lite::Acks::All).await.unwrap();
        }
    });
    wait_in_sync(&nodes, 4, "wide");
    // It comes back from its own directory, whatever it is told to look for.
    nodes.running[3] = None;
    nodes.start_these(4..=4);
    wait_in_sync(&nodes, 1, "wide");
    assert_eq!(members(nodes.node(4)), (vec![1, 2, 3], vec![4]));
}

#[test]
#[ignore = "needs a broker"]
fn a_cluster_grows_from_one_node_and_outlives_it() {
    let mut nodes = Nodes::new(3);
    nodes.finds = Some(1);
    nodes.start_these(1..=1);
    let one = |factor| topic(&format!("rf-{factor}"), 1, factor);
    run(async {
        let client = client(&nodes.address(1)).await;
        client.create_topic(&one(1), false).await.unwrap();
        client.produce("rf-1", 0, batch("alone"), client_lite::Acks::All).await.unwrap();
    });
    nodes.start_these(2..=3);
    wait_for_members(nodes.node(1), &[1], &[2, 3]);
    for id in 2..=3 {
        let directory = directory(nodes.node(1), id);
        assert_eq!(add_voter(nodes.node(2), id, [9; 16]), 125, "INVALID_VOTER_KEY");
        assert_eq!(add_voter(nodes.node(2), id, directory), 0);
        assert_eq!(add_voter(nodes.node(3), id, directory), 126, "DUPLICATE_VOTER");
    }
    wait_for_members(nodes.node(3), &[1, 2, 3], &[]);
    run(async {
        let client = client(&nodes.address(2)).await;
        client.create_topic(&one(3), false).await.unwrap();
        client.produce("rf-3", 0, batch("together"), client_lite::Acks::All).await.unwrap();
    });
    wait_in_sync(&nodes, 3, "rf-3");
    // Without the first node, which held all there was.
    assert_eq!(remove_voter(nodes.node(1), 1, directory(nodes.node(1), 1)), 0);
    wait_for_members(nodes.node(2), &[2, 3], &[1]);
    nodes.running[0] = None;
    run(async {
        let client = client(&nodes.address(3)).await;
        client.create_topic(&topic("after", 1, 2), false).await.unwrap();
        client.produce("after", 0, batch("later"), client_lite::Acks::All).await.unwrap();
        client.produce("rf-3", 0, batch("later"), client_lite::Acks::All).await.unwrap();
    });
    nodes.start_these(1..=1);
    wait_for_members(nodes.node(1), &[2, 3], &[1]);
}

#[test]
#[ignore = "needs a broker"]
fn the_last_voter_and_strangers_are_left_alone() {
    let mut nodes = Nodes::new(1);
    nodes.finds = Some(1);
    nodes.start_these(1..=1);
    let node = nodes.node(1);
    assert_eq!(remove_voter(node, 1, directory(node, 1)), 42, "INVALID_REQUEST: nobody would be left");
    assert_eq!(remove_voter(node, 7, [0; 16]), 127, "VOTER_NOT_FOUND");
    assert_eq!(add_voter(node, 7, [1; 16]), 125, "INVALID_VOTER_KEY");
}

#[test]
#[ignore = "needs a broker"]
fn features_are_shown_with_their_levels_and_do_not_fall() {
    let mut nodes = Nodes::new(1);
    nodes.finds = Some(1);
    nodes.start_these(1..=1);
    let node = nodes.node(1);
    let request = ApiVersionsRequest {
        client_software_name: "a".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let ResponseBody::ApiVersions(answer) = node.client().ask(ApiKey::ApiVersions, 4, request) else {
        panic!()
    };
    let supported: Vec<_> =
        answer.supported_features.iter().map(|f| (f.name.as_str(), f.min_version, f.max_version)).collect();
    assert_eq!(
        supported,
        [
            ("kraft.version", 1, 1),
            ("metadata.version", 33, 33),
            ("plimsoll.version", 1, 4),
            ("transaction.version", 0, 2),
            ("group.version", 0, 1)
        ]
    );
    let finalized: Vec<_> =
        answer.finalized_features.iter().map(|f| (f.name.as_str(), f.max_version_level)).collect();
    let levels = [
        ("group.version", 1),
        ("kraft.version", 1),
        ("metadata.version", 33),
        ("plimsoll.version", 4),
        ("transaction.version", 2),
    ];
    assert_eq!(finalized, levels);
    assert!(answer.finalized_features_epoch > 0);
    for (name, level) in [("plimsoll.version", 1), ("plimsoll.version", 5), ("share.version", 1)] {
        let answer = update_feature(node, name, level);
        assert_eq!(answer.error_code, 95, "INVALID_UPDATE_VERSION");
        assert!(answer.error_message.unwrap().as_str().starts_with("The update failed for all features"));
    }
    assert_eq!(update_feature(node, "plimsoll.version", 4).error_code, 0, "it is there already");
}

#[test]
#[ignore = "needs a broker"]
fn nodes_that_name_different_addresses_wait_and_say_why() {
    let mut nodes = Nodes::new(2);
    nodes.finds = Some(2);
    let alone = format!("controller.quorum.bootstrap.servers={},127.0.0.1:1", nodes.controller(1));
    let mut one = nodes.spawn(1, "controller.quorum.voters=");
    let mut two = nodes.spawn(2, &alone);
    wait_for("both to say what they wait for", || {
        let says = |id: usize, part: &str| nodes.log(id).contains(part);
        (says(1, "has not reached all of its own addresses")
            && says(2, "waiting for a cluster: 127.0.0.1:1 is not reached"))
        .then_some(())
    });
    for process in [&mut one, &mut two] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

/// Apache Kafka's own file for one node of both roles, as it stands but for what an operator edits: `node.id`,
/// ports, `log.dirs`, the voters.
fn stock_properties(id: usize, kafka: u16, controller: u16, voters: &str, data: &str) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://:{kafka},CONTROLLER://:{controller}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         advertised.listeners=PLAINTEXT://localhost:{kafka},CONTROLLER://localhost:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
         SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
         num.network.threads=3\n\
         num.io.threads=8\n\
         socket.send.buffer.bytes=102400\n\
         socket.receive.buffer.bytes=102400\n\
         socket.request.max.bytes=104857600\n\
         log.dirs={data}\n\
         num.partitions=1\n\
         num.recovery.threads.per.data.dir=1\n\
         offsets.topic.replication.factor=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         log.retention.hours=168\n\
         log.segment.bytes=1073741824\n\
         log.retention.check.interval.ms=300000\n"
    )
}

#[test]
#[ignore = "needs a broker"]
fn kafkas_own_properties_with_ids_ports_and_voters_edited_start_three_nodes() {
    let nodes = Nodes::new(3);
    let port = |address: String| address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let controller = |id: usize| port(nodes.controller(id));
    let voters: Vec<String> = (1..=3).map(|id| format!("{id}@localhost:{}", controller(id))).collect();
    let mut running = Vec::new();
    for id in 1..=3 {
        let data = nodes.data(id).display().to_string();
        let text = stock_properties(id, port(nodes.address(id)), controller(id), &voters.join(","), &data);
        let path = nodes.path(&format!("server-{id}.properties"));
        std::fs::write(&path, text).unwrap();
        running.push(Process::of(&path, &nodes.log_path(id)));
    }
    wait_for("the first node", || std::net::TcpStream::connect(nodes.address(1)).ok());
    wait_for("all nodes", || {
        let known = run(async { client(&nodes.address(1)).await.refresh(&[]).await });
        known.is_ok_and(|cluster| cluster.brokers.len() == 3).then_some(())
    });
    run(async {
        let client = client(&nodes.address(1)).await;
        client.create_topic(&topic("stock", 3, 3), false).await.unwrap();
        for partition in 0..3 {
            client.produce("stock", partition, batch("v"), client_lite::Acks::All).await.unwrap();
        }
    });
    wait_in_sync(&nodes, 3, "stock");
    assert!(nodes.log(1).contains("opened on loopback only"), "{}", nodes.log(1));
    // The files say nothing of it, and one process of the machine at most has the default address.
    let without = |id: &usize| nodes.log(*id).contains("in use and http.listener is not set");
    assert!((1..=3).filter(without).count() >= 2, "{}", nodes.log(3));
}

/// A broker that is started by its file alone; it ends with the test.
struct Process(std::process::Child);

impl Process {
    fn of(config: &std::path::Path, log: &std::path::Path) -> Process {
        let log = std::fs::File::create(log).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command.arg("serve").arg("--config").arg(config);
        let child = command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap();
        Process(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_broker_without_a_controller_listener_takes_other_nodes_where_clients_connect() {
    let mut nodes = Nodes::new(2);
    nodes.finds = Some(1);
    nodes.start_these(1..=1);
    let (address, at) = (nodes.address(2), nodes.controller(1));
    let sets = [
        "node.id=2".to_owned(),
        "process.roles=broker".to_owned(),
        format!("listeners=PLAINTEXT://{address}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters=1@{at}"),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let server = Server::start_with(&nodes.data(2), &nodes.log_path(2), &sets);
    wait_for_members(&server, &[1], &[2]);
    run(async {
        let client = client(&address).await;
        client.create_topic(&topic("both", 2, 2), false).await.unwrap();
        for partition in 0..2 {
            client.produce("both", partition, batch("v"), client_lite::Acks::All).await.unwrap();
        }
    });
    wait_in_sync(&nodes, 2, "both");
}
