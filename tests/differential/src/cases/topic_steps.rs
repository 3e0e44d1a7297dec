//! Topics: made, grown, looked at, deleted.
use crate::leaves::Leaves;
use crate::script::Script;
use crate::side::Side;
use model::TopicId;
use wire::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use wire::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use wire::delete_topics_request::DeleteTopicState;
use wire::metadata_request::MetadataRequestTopic;
use wire::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, ResponseBody, Str,
};

/// A topic with so many partitions and these configs.
pub(super) fn topic(name: Str, partitions: i32, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let config = |(name, value): &(&str, Option<&str>)| CreatableTopicConfig {
        name: Str::from(*name),
        value: value.map(Str::from),
    };
    CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    }
}

pub(super) fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only: false }
}

pub(super) fn steps(script: &mut Script) {
    main_topics(script);
    creations(script);
    bad_creations(script);
    metadata(script);
    partitions(script);
}

/// The topics of later steps, and their ids.
fn main_topics(script: &mut Script) {
    script.once("main topics", |side, _| {
        create(vec![
            topic(side.name("main"), 3, &[]),
            topic(side.name("compact"), 1, &[("cleanup.policy", Some("compact"))]),
            topic(side.name("stamped"), 1, &[("message.timestamp.type", Some("LogAppendTime"))]),
            topic(side.name("small"), 1, &[("max.message.bytes", Some("500"))]),
            topic(side.name("strict"), 1, &[("message.timestamp.before.max.ms", Some("1000"))]),
            topic(side.name("packed"), 1, &[("compression.type", Some("lz4"))]),
            topic(side.name("grown"), 1, &[]),
            topic(side.name("doomed"), 1, &[]),
            topic(side.name("broken"), 1, &[]),
            topic(side.name("unasked"), 1, &[]),
            topic(side.name("inside"), 1, &[]),
            topic(side.name("double"), 1, &[]),
            topic(side.name("repacked"), 1, &[("compression.type", Some("lz4"))]),
        ])
    });
    script
        .once("ids", |side, _| MetadataRequest {
            topics: Some(
                [
                    "main", "compact", "stamped", "small", "strict", "packed", "grown", "doomed", "broken",
                    "unasked", "inside", "double", "repacked",
                ]
                .map(|name| by_name(side.name(name)))
                .into(),
            ),
            ..Default::default()
        })
        .settled()
        .silent()
        .learn(learn_topics);
}

fn learn_topics(side: &mut Side, body: &ResponseBody) {
    let ResponseBody::Metadata(answer) = body else { return };
    let cluster = answer.cluster_id.clone().unwrap_or_default();
    side.learn_text("cluster id", &cluster);
    for topic in &answer.topics {
        let is_main = topic.name.as_ref().is_some_and(|name| name.starts_with("main-"));
        for partition in topic.partitions.iter().take(1).filter(|_| is_main) {
            let epoch = i64::from(partition.leader_epoch);
            for field in ["leader_epoch", "partition_leader_epoch", "epoch", "committed_leader_epoch"] {
                side.learn_number("epoch", field, epoch);
            }
        }
    }
}

fn creations(script: &mut Script) {
    script.each("good", |side, v| {
        create(vec![topic(side.name(&format!("made{v}")), 2, &[("retention.ms", Some("1000"))])])
    });
    script.each("there already", |side, _| create(vec![topic(side.name("main"), 1, &[])]));
    script.each("only validated", |side, _| CreateTopicsRequest {
        validate_only: true,
        ..create(vec![topic(side.name("never"), 4, &[])])
    });
    script.over("defaults", 4..=7, |side, v| {
        let of_cluster =
            CreatableTopic { replication_factor: -1, ..topic(side.name(&format!("default{v}")), -1, &[]) };
        CreateTopicsRequest { validate_only: true, ..create(vec![of_cluster]) }
    });
    script.each("assigned by hand", |side, v| {
        let by_hand = |partition_index| CreatableReplicaAssignment { partition_index, broker_ids: vec![1] };
        create(vec![CreatableTopic {
            replication_factor: -1,
            assignments: vec![by_hand(0), by_hand(1)],
            ..topic(side.name(&format!("hand{v}")), -1, &[])
        }])
    });
    script.once("none", |_, _| create(vec![]));
    script.each("only validated, there already", |side, _| CreateTopicsRequest {
        validate_only: true,
        ..create(vec![topic(side.name("main"), 1, &[]), topic(side.name("new"), 1, &[])])
    });
    script.once("internal names", |_, _| CreateTopicsRequest {
        validate_only: true,
        ..create(
            ["__transaction_state", "__share_group_state", "_x"].map(|n| topic(Str::from(n), 1, &[])).into(),
        )
    });
}

fn bad_creations(script: &mut Script) {
    script.each("bad names", |side, _| {
        let long = "x".repeat(250);
        let names = [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "\u{e4}",
            long.as_str(),
            "__consumer_offsets2",
            "__cluster_metadata",
        ];
        let mut topics: Vec<_> = names.iter().map(|name| topic(Str::from(*name), 1, &[])).collect();
        topics.retain(|t| !t.name.starts_with("__consumer"));
        topics.push(topic(side.name("good"), 0, &[]));
        CreateTopicsRequest { validate_only: true, ..create(topics) }
    });
    script.each("bad numbers", |side, _| {
        let with = |name: &str, partitions, replicas| CreatableTopic {
            replication_factor: replicas,
            ..topic(side.name(name), partitions, &[])
        };
        create(vec![
            with("zero", 0, 1),
            with("negative", -2, 1),
            with("no-replicas", 1, 0),
            with("many-replicas", 1, 5),
            with("negative-replicas", 1, -2),
        ])
    });
    script.once("too many partitions", |side, _| create(vec![topic(side.name("huge"), 10_001, &[])]));
    script.each("bad assignments", |side, _| {
        let with = |name: &str, partitions, rows: &[(i32, &[i32])]| CreatableTopic {
            num_partitions: partitions,
            replication_factor: -1,
            assignments: rows
                .iter()
                .map(|(at, ids)| CreatableReplicaAssignment {
                    partition_index: *at,
                    broker_ids: ids.to_vec(),
                })
                .collect(),
            ..topic(side.name(name), 1, &[])
        };
        create(vec![
            with("stranger", -1, &[(0, &[9])]),
            with("gap", -1, &[(0, &[1]), (2, &[1])]),
            with("twice", -1, &[(0, &[1]), (0, &[1])]),
            with("same-broker", -1, &[(0, &[1, 1])]),
            with("nobody", -1, &[(0, &[])]),
            with("both", 1, &[(0, &[1])]),
        ])
    });
    script.each("bad configs", |side, _| {
        let with = |name: &str, configs: &[(&str, Option<&str>)]| topic(side.name(name), 1, configs);
        create(vec![
            with("unknown-key", &[("no.such.config", Some("1"))]),
            with("null-value", &[("retention.ms", None)]),
            with("no-number", &[("retention.ms", Some("soon"))]),
            with("out-of-range", &[("segment.bytes", Some("1"))]),
            with("bad-word", &[("cleanup.policy", Some("tidy"))]),
            with("bad-bool", &[("preallocate", Some("perhaps"))]),
            with("twice-set", &[("retention.ms", Some("1")), ("retention.ms", Some("2"))]),
        ])
    });
    script.each("a name twice", |side, _| {
        create(vec![topic(side.name("dup"), 1, &[]), topic(side.name("dup"), 1, &[])])
    });
    script.each("no good numbers", |side, _| {
        let with = |name: &str, partitions, replicas| CreatableTopic {
            replication_factor: replicas,
            ..topic(side.name(name), partitions, &[])
        };
        let all = vec![
            with("least", i32::MIN, 1),
            with("most", 1, i16::MAX),
            with("least-replicas", 1, i16::MIN),
            with("both-bad", 0, 0),
        ];
        CreateTopicsRequest { validate_only: true, ..create(all) }
    });
    script.each("configs at odds", |side, _| {
        let with = |name: &str, configs: &[(&str, Option<&str>)]| topic(side.name(name), 1, configs);
        let all = vec![
            with("lags", &[("min.compaction.lag.ms", Some("9")), ("max.compaction.lag.ms", Some("8"))]),
            with("remote", &[("remote.storage.enable", Some("true"))]),
            with("local", &[("local.retention.ms", Some("9")), ("retention.ms", Some("8"))]),
            with("empty-name", &[("", Some("1"))]),
            with("blank-name", &[(" retention.ms", Some("1"))]),
            with("case", &[("Retention.ms", Some("1"))]),
            with("two-bad", &[("segment.bytes", Some("1")), ("retention.ms", Some("x"))]),
            with("broker-key", &[("log.retention.ms", Some("1"))]),
        ];
        CreateTopicsRequest { validate_only: true, ..create(all) }
    });
    script.once("a name that collides", |side, _| {
        create(vec![topic(Str::from(format!("c.d{}", side.name(""))), 1, &[])])
    });
    script.once("a colliding name", |side, _| {
        create(vec![topic(Str::from(format!("c_d{}", side.name(""))), 1, &[])])
    });
}

fn by_name(name: Str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name), ..Default::default() }
}

fn by_id(topic_id: TopicId) -> MetadataRequestTopic {
    MetadataRequestTopic { topic_id, name: None }
}

fn metadata(script: &mut Script) {
    let of =
        |topics: Vec<MetadataRequestTopic>| MetadataRequest { topics: Some(topics), ..Default::default() };
    script.each("known", move |side, _| of(vec![by_name(side.name("main")), by_name(side.name("compact"))]));
    // Before version 4 asking always makes.
    script.over("unknown", 4..=13, move |side, _| MetadataRequest {
        allow_auto_topic_creation: false,
        ..of(vec![by_name(side.name("nowhere"))])
    });
    script.over("bad names", 4..=13, move |_, _| {
        of(["", ".", "a b", "a/b"].map(|name| by_name(Str::from(name))).into())
    });
    script.over("a bad name, to be made", 4..=13, move |_, _| MetadataRequest {
        allow_auto_topic_creation: true,
        ..of(vec![by_name(Str::from("a b"))])
    });
    script.over("none", 1..=13, move |_, _| of(vec![]));
    script.over("the same twice", 1..=13, move |side, _| of(vec![by_name(side.name("main")); 2]));
    script.over("by id", 10..=13, move |side, _| of(vec![by_id(side.id("main"))]));
    script.over("known and unknown", 4..=13, move |side, _| MetadataRequest {
        allow_auto_topic_creation: false,
        ..of(vec![by_name(side.name("main")), by_name(side.name("nowhere"))])
    });
    script.over("by two ids", 10..=13, move |side, _| {
        of(vec![by_id(side.id("main")), by_id(side.id("compact"))])
    });
    script.over("by the same id twice", 10..=13, move |side, _| of(vec![by_id(side.id("main")); 2]));
    script.over("by id and name", 10..=13, move |side, _| {
        of(vec![MetadataRequestTopic { topic_id: side.id("main"), name: Some(side.name("main")) }])
    });
    script.over("by id and another name", 10..=13, move |side, _| {
        of(vec![MetadataRequestTopic { topic_id: side.id("main"), name: Some(side.name("compact")) }])
    });
    script.over("by id and by name", 10..=13, move |side, _| {
        of(vec![by_id(side.id("main")), by_name(side.name("compact"))])
    });
    script.over("the metadata log", 4..=13, move |_, _| MetadataRequest {
        allow_auto_topic_creation: false,
        ..of(vec![by_name(Str::from("__cluster_metadata"))])
    });
    script.over("by an unknown id", 10..=13, move |_, _| of(vec![by_id(TopicId([7; 16]))]));
    script.over("by a zero id and no name", 12..=13, move |_, _| of(vec![by_id(TopicId::ZERO)]));
    script.over("what may be done", 8..=13, move |side, v| MetadataRequest {
        include_cluster_authorized_operations: v <= 10,
        include_topic_authorized_operations: true,
        ..of(vec![by_name(side.name("main"))])
    });
    for v in 0..=3 {
        let asked = format!("asked{v}");
        let make = move |side: &Side, _: i16| of(vec![by_name(side.name(&asked))]);
        script.over("made by asking", v..=v, make.clone()).silent();
        script.over("made by asking, then", v..=v, make).again(refused);
    }
    script
        .once("made by asking", move |side, _| MetadataRequest {
            allow_auto_topic_creation: true,
            ..of(vec![by_name(side.name("asked"))])
        })
        .silent();
    script.once("made by asking, then", move |side, _| of(vec![by_name(side.name("asked"))])).again(refused);
}

/// Whether a topic of the answer has an error.
fn refused(leaves: &Leaves) -> bool {
    leaves.iter().any(|(path, code)| path.ends_with("].error_code") && code != "0")
}

fn partitions(script: &mut Script) {
    let grow = |name: Str, count: i32, assignments: Option<&[&[i32]]>| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name,
            count,
            assignments: assignments.map(|rows| {
                rows.iter().map(|ids| CreatePartitionsAssignment { broker_ids: ids.to_vec() }).collect()
            }),
        }],
        timeout_ms: 10_000,
        validate_only: false,
    };
    script.each("one more", move |side, v| grow(side.name("grown"), i32::from(v) + 2, None));
    script.each("as many as there are", move |side, _| grow(side.name("main"), 3, None));
    script.each("fewer", move |side, _| grow(side.name("main"), 2, None));
    script.each("none", move |side, _| grow(side.name("main"), 0, None));
    script.each("of an unknown topic", move |side, _| grow(side.name("nowhere"), 2, None));
    script.each("of a bad name", move |_, _| grow(Str::from("a b"), 2, None));
    script.each("only validated", move |side, _| CreatePartitionsRequest {
        validate_only: true,
        ..grow(side.name("main"), 5, None)
    });
    script
        .each("no topics", move |_, _| CreatePartitionsRequest { timeout_ms: 10_000, ..Default::default() });
    script.each("a negative count", move |side, _| grow(side.name("main"), -1, None));
    script.each("the largest count", move |side, _| grow(side.name("main"), i32::MAX, None));
    script.each("placed by hand", move |side, _| CreatePartitionsRequest {
        validate_only: true,
        ..grow(side.name("main"), 5, Some(&[&[1], &[1]]))
    });
    script.each("placed by an empty list", move |side, _| grow(side.name("main"), 4, Some(&[])));
    script.each("of an internal topic", move |_, _| CreatePartitionsRequest {
        validate_only: true,
        ..grow(Str::from("__cluster_metadata"), 4, None)
    });
    script.each("placed on a stranger", move |side, _| grow(side.name("main"), 4, Some(&[&[9]])));
    script.each("placed too often", move |side, _| grow(side.name("main"), 4, Some(&[&[1], &[1]])));
    script.each("placed twice", move |side, _| grow(side.name("main"), 4, Some(&[&[1, 1]])));
    script.each("placed nowhere", move |side, _| grow(side.name("main"), 4, Some(&[&[]])));
    script.each("the same topic twice", move |side, _| {
        let mut request = grow(side.name("main"), 4, None);
        request.topics.push(request.topics[0].clone());
        request
    });
    script.once("too many", move |side, _| grow(side.name("doomed"), 20_000, None));
}

/// What lists everything that there is.
pub(super) fn all(script: &mut Script) {
    script.each("all topics", |_, v| MetadataRequest {
        topics: (v == 0).then(Vec::new),
        allow_auto_topic_creation: true,
        ..Default::default()
    });
}

pub(super) fn deletions(script: &mut Script) {
    let delete = |side: &Side, v: i16, names: &[&str]| {
        let names: Vec<Str> = names.iter().map(|name| side.name(name)).collect();
        let state = |name: &Str| DeleteTopicState { name: Some(name.clone()), ..Default::default() };
        let topics = if v >= 6 { names.iter().map(state).collect() } else { vec![] };
        let topic_names = if v >= 6 { vec![] } else { names };
        DeleteTopicsRequest { topics, topic_names, timeout_ms: 10_000 }
    };
    let by_ids = |states: Vec<DeleteTopicState>| DeleteTopicsRequest {
        topics: states,
        timeout_ms: 10_000,
        ..Default::default()
    };
    script.each("unknown", move |side, v| delete(side, v, &["nowhere"]));
    script.each("the same twice", move |side, v| delete(side, v, &["main", "main"]));
    script.over("by an unknown id", 6..=6, move |_, _| {
        by_ids(vec![DeleteTopicState { name: None, topic_id: TopicId([7; 16]) }])
    });
    script.each("nothing", move |side, v| delete(side, v, &[]));
    script.each("a bad name", move |_, v| {
        let name = Str::from("a b");
        let state = DeleteTopicState { name: Some(name.clone()), ..Default::default() };
        let (topics, topic_names) = if v >= 6 { (vec![state], vec![]) } else { (vec![], vec![name]) };
        DeleteTopicsRequest { topics, topic_names, timeout_ms: 10_000 }
    });
    script.each("one good and one unknown", move |side, v| {
        delete(side, v, &[&format!("hand{}", v + 2), "nowhere"])
    });
    script.over("by an id twice", 6..=6, move |side, _| {
        by_ids(vec![DeleteTopicState { name: None, topic_id: side.id("compact") }; 2])
    });
    script.over("by a name and an id of the same", 6..=6, move |side, _| {
        let named = DeleteTopicState { name: Some(side.name("compact")), ..Default::default() };
        by_ids(vec![named, DeleteTopicState { name: None, topic_id: side.id("compact") }])
    });
    script.each("the same twice and unknown", move |side, v| delete(side, v, &["main", "main", "nowhere"]));
    script.over("by an unknown id twice", 6..=6, move |_, _| {
        by_ids(vec![DeleteTopicState { name: None, topic_id: TopicId([7; 16]) }; 2])
    });
    script.over("by nothing", 6..=6, move |_, _| by_ids(vec![DeleteTopicState::default()]));
    script.over("by name and id", 6..=6, move |side, _| {
        by_ids(vec![DeleteTopicState { name: Some(side.name("main")), topic_id: side.id("main") }])
    });
    script.each("known", move |side, v| delete(side, v, &[&format!("made{}", v + 1)]));
    script.over("by id", 6..=6, move |side, _| {
        by_ids(vec![DeleteTopicState { name: None, topic_id: side.id("doomed") }])
    });
    let by_name_alone = |side: &Side, _| MetadataRequest {
        allow_auto_topic_creation: false,
        topics: Some(vec![by_name(side.name("made3"))]),
        ..Default::default()
    };
    let by_id_alone = |side: &Side, _| MetadataRequest {
        allow_auto_topic_creation: false,
        topics: Some(vec![by_id(side.id("doomed"))]),
        ..Default::default()
    };
    // The broker that answers may not have heard yet.
    let there =
        |leaves: &Leaves| leaves.iter().any(|(path, code)| path.ends_with("].error_code") && code == "0");
    script.once("deleted, by name", by_name_alone).again(there);
    script.once("deleted, by id", by_id_alone).again(there);
}
