//! Three processes, one of them dead: what Metadata says of its replicas, and leaders that go back.
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::wait_for;
use client_lite::NewTopic;
use model::ErrorCode;
use wire::elect_leaders_request::TopicPartitions;
use wire::{ApiKey, DescribeTopicPartitionsRequest, ElectLeadersRequest, MetadataRequest, ResponseBody};

fn create(nodes: &Nodes, name: &str, partitions: i32, replicas: i16) {
    create_through(&nodes.addresses(), name, partitions, replicas);
    wait_in_sync(nodes, 1, name);
}

fn create_through(addresses: &str, name: &str, partitions: i32, replicas: i16) {
    run(async {
        let client = client(addresses).await;
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(replicas),
            ..NewTopic::default()
        };
        client.create_topic(&topic, false).await.unwrap();
    });
}

/// A partition as a node tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    error: i16,
    leader: i32,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
    offline: Vec<i32>,
}

/// What a node says by Metadata and by DescribeTopicPartitions: the same, unless something changes between the two.
fn told(nodes: &Nodes, through: usize, topic: &str) -> Vec<Told> {
    wait_for("Metadata and DescribeTopicPartitions to say the same", || {
        let (rows, described) = both(nodes, through, topic);
        (rows == described).then_some(rows)
    })
}

fn both(nodes: &Nodes, through: usize, topic: &str) -> (Vec<Told>, Vec<Told>) {
    let mut client = nodes.node(through).client();
    let named =
        wire::metadata_request::MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![named]), ..Default::default() };
    let ResponseBody::Metadata(mut answer) = client.ask(ApiKey::Metadata, 12, request) else { panic!() };
    let rows = answer.topics.remove(0).partitions.into_iter().map(|p| Told {
        error: p.error_code,
        leader: p.leader_id,
        replicas: p.replica_nodes,
        in_sync: p.isr_nodes,
        offline: p.offline_replicas,
    });
    let rows: Vec<Told> = rows.collect();
    let named = wire::describe_topic_partitions_request::TopicRequest { name: topic.into() };
    let request = DescribeTopicPartitionsRequest {
        topics: vec![named],
        response_partition_limit: 2_000,
        ..Default::default()
    };
    let ResponseBody::DescribeTopicPartitions(mut answer) =
        client.ask(ApiKey::DescribeTopicPartitions, 0, request)
    else {
        panic!()
    };
    let described = answer.topics.remove(0).partitions.into_iter().map(|p| Told {
        error: p.error_code,
        leader: p.leader_id,
        replicas: p.replica_nodes,
        in_sync: p.isr_nodes,
        offline: p.offline_replicas,
    });
    (rows, described.collect())
}

#[test]
#[ignore = "needs a broker"]
fn a_dead_nodes_replicas_are_offline_and_out_of_sync_until_it_is_back() {
    let mut nodes = Nodes::start(3);
    create(&nodes, "three", 6, 3);
    create(&nodes, "one", 6, 1);
    let whole = told(&nodes, 1, "three");
    assert!(
        whole.iter().all(|p| p.error == 0 && p.in_sync == p.replicas && p.offline.is_empty()),
        "{whole:?}"
    );
    let dead = 2;
    nodes.running[dead - 1].as_mut().unwrap().kill();
    let others = [1, 3];
    let shown = |p: &Told| {
        let lives = others.contains(&p.leader) && p.error == 0;
        lives && p.offline == [2] && p.in_sync.len() == 2 && !p.in_sync.contains(&2) && p.replicas.len() == 3
    };
    for through in others {
        wait_for("the dead node's replicas to be offline", || {
            told(&nodes, through as usize, "three").iter().all(shown).then_some(())
        });
        for p in told(&nodes, through as usize, "one") {
            if p.replicas == [2] {
                let gone = Told {
                    error: ErrorCode::LeaderNotAvailable.code(),
                    leader: -1,
                    replicas: vec![2],
                    in_sync: vec![],
                    offline: vec![2],
                };
                assert_eq!(p, gone);
            } else {
                assert_eq!((p.error, vec![p.leader], p.offline.len()), (0, p.replicas.clone(), 0));
            }
        }
    }
    nodes.running[dead - 1] = Some(nodes.start_node(dead));
    for id in 1..=3 {
        wait_in_sync(&nodes, id, "three");
        wait_in_sync(&nodes, id, "one");
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_topic_of_three_replicas_is_made_while_one_of_three_nodes_is_away() {
    let mut nodes = Nodes::start(3);
    nodes.running[1].as_mut().unwrap().kill();
    wait_for("the node to be away", || {
        let known = |id| run(async { client(&nodes.address(id)).await.refresh(&[]).await });
        [1, 3].iter().all(|id| known(*id).is_ok_and(|cluster| cluster.brokers.len() == 2)).then_some(())
    });
    create_through(&nodes.address(1), "early", 3, 3);
    wait_for("its leaders", || {
        let led = |p: &Told| p.error == 0 && p.replicas[2] == 2 && p.offline == [2] && p.in_sync.len() == 2;
        told(&nodes, 3, "early").iter().all(led).then_some(())
    });
    nodes.running[1] = Some(nodes.start_node(2));
    for id in 1..=3 {
        wait_in_sync(&nodes, id, "early");
    }
}

/// Code and text of each partition of a topic that the answer names.
pub(crate) fn elect(
    nodes: &Nodes,
    through: usize,
    unclean: bool,
    asked: Option<(&str, &[i32])>,
) -> Vec<(i32, i16, String)> {
    let named = |(topic, partitions): (&str, &[i32])| {
        vec![TopicPartitions { topic: topic.into(), partitions: partitions.to_vec() }]
    };
    let request = ElectLeadersRequest {
        election_type: i8::from(unclean),
        topic_partitions: asked.map(named),
        timeout_ms: 20_000,
    };
    let ResponseBody::ElectLeaders(answer) =
        nodes.node(through).client().ask(ApiKey::ElectLeaders, 2, request)
    else {
        panic!()
    };
    assert_eq!(answer.error_code, 0);
    let rows = answer.replica_election_results.into_iter().flat_map(|t| t.partition_result);
    rows.map(|p| (p.partition_id, p.error_code, p.error_message.map(String::from).unwrap_or_default()))
        .collect()
}

#[test]
#[ignore = "needs a broker"]
fn leaders_go_back_to_preferred_replicas_when_they_are_told_to() {
    let mut nodes = Nodes::new(3);
    nodes.set("auto.leader.rebalance.enable=false");
    nodes.start_all();
    create(&nodes, "led", 6, 3);
    let code = |code: ErrorCode| code.code();
    for (partition, error, _) in elect(&nodes, 1, false, Some(("led", &[0, 5]))) {
        assert_eq!(error, code(ErrorCode::ElectionNotNeeded), "{partition}");
    }
    let unknown = elect(&nodes, 3, false, Some(("led", &[6])));
    assert_eq!(
        unknown,
        [(6, code(ErrorCode::UnknownTopicOrPartition), "No such partition as led-6".to_owned())]
    );
    nodes.running[1].as_mut().unwrap().kill();
    let away = |nodes: &Nodes| told(nodes, 1, "led").iter().filter(|p| p.leader != p.replicas[0]).count();
    let preferred = told(&nodes, 1, "led").iter().filter(|p| p.replicas[0] == 2).count();
    assert!(preferred > 0);
    wait_for("others to lead", || {
        (told(&nodes, 1, "led").iter().all(|p| [1, 3].contains(&p.leader))).then_some(())
    });
    let at = told(&nodes, 1, "led").iter().position(|p| p.replicas[0] == 2).unwrap() as i32;
    let refused = elect(&nodes, 3, false, Some(("led", &[at])));
    assert_eq!(refused[0].1, code(ErrorCode::PreferredLeaderNotAvailable), "{refused:?}");
    let unclean = elect(&nodes, 1, true, Some(("led", &[at])));
    assert_eq!(unclean[0].1, code(ErrorCode::ElectionNotNeeded), "it has a leader");
    nodes.running[1] = Some(nodes.start_node(2));
    wait_in_sync(&nodes, 1, "led");
    wait_in_sync(&nodes, 3, "led");
    assert_eq!(away(&nodes), preferred, "nobody moves them unasked");
    // Through a node that leads none of what is to move, or some of it.
    let moved = elect(&nodes, 2, false, None);
    assert_eq!(moved.iter().filter(|(_, error, _)| *error == 0).count(), preferred, "{moved:?}");
    assert!(moved.iter().all(|(_, error, _)| *error == 0), "{moved:?}");
    for id in 1..=3 {
        wait_for("every node to hear of it", || {
            told(&nodes, id, "led").iter().all(|p| p.leader == p.replicas[0]).then_some(())
        });
    }
}

#[test]
#[ignore = "needs a broker"]
fn an_unclean_election_of_what_nobody_has_or_of_everything_is_refused_and_says_why() {
    let mut nodes = Nodes::start(3);
    create(&nodes, "single", 3, 1);
    nodes.running[2].as_mut().unwrap().kill();
    let at = told(&nodes, 1, "single").iter().position(|p| p.replicas == [3]).unwrap() as i32;
    wait_for("its leader to be gone", || (told(&nodes, 1, "single")[at as usize].leader == -1).then_some(()));
    let refused = elect(&nodes, 1, true, Some(("single", &[at])));
    assert_eq!(refused[0].1, ErrorCode::EligibleLeadersNotAvailable.code(), "{refused:?}");
    assert!(refused[0].2.contains("no replica of it runs"), "{refused:?}");
    let all = elect(&nodes, 2, true, None);
    assert_eq!(all.len(), 1, "what has a leader is not named: {all:?}");
    assert!(all[0].1 == refused[0].1 && all[0].2.contains("partitions that are named"), "{all:?}");
}
