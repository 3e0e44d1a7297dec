//! Creating, growing and deleting topics: what Kafka answers, word for word.
#![allow(clippy::unwrap_used)]
mod common;

use cluster::{
    Change, CreatedTopic, ItemResult, Metadata, NewPartitions, NewTopic, TopicRef, auto_create,
    create_partitions, create_topics, delete_topics,
};
use common::{One, register, topic, with_configs};
use model::{ErrorCode, TopicId};

fn refusal<T: std::fmt::Debug>(result: ItemResult<T>) -> (ErrorCode, String) {
    let error = result.unwrap_err();
    (error.code, error.message.unwrap_or_default())
}

fn ids() -> impl FnMut() -> TopicId {
    let mut next = 100;
    move || {
        next += 1;
        TopicId([next; 16])
    }
}

#[test]
fn defaults_come_from_the_broker() {
    let mut one = One::new(&[("num.partitions", "3")]);
    let CreatedTopic { num_partitions, replication_factor, configs, .. } =
        one.create(topic("a", -1, -1)).unwrap();
    assert_eq!((num_partitions, replication_factor), (3, 1));
    let retention = configs.iter().find(|c| c.name == "retention.ms").unwrap();
    assert_eq!(retention.value.as_deref(), Some("604800000"));
    let image = one.metadata.image();
    let stored = image.topic("a").unwrap();
    assert_eq!(image.topic_by_id(stored.id), Some(stored));
    let replicas: Vec<u64> = stored.partitions.iter().map(|p| p.replicas[0].id).collect();
    assert_eq!(replicas, vec![1, 2, 3]);
}

type Row = (NewTopic, ErrorCode, &'static str);

/// Each topic is refused with this code and text, and none comes to be.
fn all_refused(table: Vec<Row>) {
    let mut one = One::new(&[]);
    one.create(topic("have.it", 1, 1)).unwrap();
    for (request, code, message) in table {
        let name = format!("{request:?}");
        assert_eq!(refusal(one.create(request)), (code, message.to_owned()), "{name}");
    }
    assert_eq!(one.metadata.image().topic_count(), 1);
}

fn assigned(sets: &[(i32, &[i32])], partitions: i32, factor: i16) -> NewTopic {
    let assignments = sets.iter().map(|(p, n)| (*p, n.to_vec())).collect();
    NewTopic { assignments, ..topic("new", partitions, factor) }
}

#[test]
fn names_and_numbers_are_judged_in_kafkas_words() {
    all_refused(vec![
        (topic("have.it", 1, 1), ErrorCode::TopicAlreadyExists, "Topic 'have.it' already exists."),
        (
            topic("have_it", 1, 1),
            ErrorCode::InvalidTopicException,
            "Topic 'have_it' collides with existing topic: have.it",
        ),
        (
            topic("", 1, 1),
            ErrorCode::InvalidTopicException,
            "Topic name is invalid: the empty string is not allowed",
        ),
        (
            topic("__cluster_metadata", 1, 1),
            ErrorCode::InvalidRequest,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (
            topic("new", 0, 1),
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            topic("new", 1, 0),
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            topic("new", 1, 2),
            ErrorCode::InvalidReplicationFactor,
            "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached \
             because only 1 broker(s) are registered or some brokers have all their log directories cordoned.",
        ),
        (
            topic("new", 10_001, 1),
            ErrorCode::PolicyViolation,
            "Excessively large number of partitions per request.",
        ),
    ]);
}

#[test]
fn assignments_are_judged_in_kafkas_words() {
    all_refused(vec![
        (
            assigned(&[(0, &[1])], 1, -1),
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            assigned(&[(0, &[1])], -1, 1),
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        ),
        (
            assigned(&[(0, &[1]), (2, &[1])], -1, -1),
            ErrorCode::InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            assigned(&[(0, &[1]), (0, &[1])], -1, -1),
            ErrorCode::InvalidReplicaAssignment,
            "Found multiple manual partition assignments for partition 0",
        ),
        (
            assigned(&[(0, &[7])], -1, -1),
            ErrorCode::InvalidReplicaAssignment,
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (
            assigned(&[(0, &[1, 1])], -1, -1),
            ErrorCode::InvalidReplicaAssignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            assigned(&[(0, &[])], -1, -1),
            ErrorCode::InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
    ]);
}

#[test]
fn configs_of_new_topics_are_judged_in_kafkas_words() {
    all_refused(vec![
        (
            with_configs("new", &[("no.such", "1")]),
            ErrorCode::InvalidConfig,
            "Unknown topic config name: no.such",
        ),
        (
            with_configs("new", &[("retention.ms", "soon")]),
            ErrorCode::InvalidConfig,
            "Invalid value soon for configuration retention.ms: Not a number of type LONG",
        ),
        (
            with_configs("new", &[("segment.bytes", "100")]),
            ErrorCode::InvalidConfig,
            "Invalid value 100 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            with_configs("new", &[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")]),
            ErrorCode::InvalidConfig,
            "conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (8)",
        ),
        (
            with_configs("new", &[("remote.storage.enable", "true")]),
            ErrorCode::InvalidConfig,
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
        ),
    ]);
}

#[test]
fn topics_of_one_request_stand_alone_but_may_not_collide() {
    let one = One::new(&[]);
    let asked =
        [topic("a.b", 1, 1), topic("a_b", 1, 1), topic("x", 1, 1), topic("x", 2, 1), topic("y", 1, 1)];
    let outcomes = create_topics(&one.metadata.image(), &asked, &[1], &mut ids());
    let codes: Vec<_> = outcomes.iter().map(|o| (o.name.as_str(), o.result.is_ok())).collect();
    assert_eq!(codes, vec![("a.b", true), ("a_b", false), ("x", false), ("y", true)]);
    assert_eq!(
        refusal(outcomes[2].result.clone()),
        (ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned())
    );
}

#[test]
fn the_limit_of_partitions_is_named_when_it_binds() {
    let one = One::new(&[("plimsoll.max.partitions", "5")]);
    let asked = [topic("a", 4, 1), topic("b", 2, 1), topic("c", 1, 1)];
    let outcomes = create_topics(&one.metadata.image(), &asked, &[1], &mut ids());
    assert!(outcomes[0].result.is_ok() && outcomes[2].result.is_ok());
    let (code, message) = refusal(outcomes[1].result.clone());
    assert_eq!(code, ErrorCode::PolicyViolation);
    assert!(message.contains("plimsoll.max.partitions: 4 exist, 5 are allowed"), "{message}");
}

#[test]
fn internal_topics_take_what_nodes_there_are() {
    let mut one = One::new(&[("offsets.topic.num.partitions", "7")]);
    let image = one.metadata.image();
    let created = auto_create(&image, "__consumer_offsets", &[1], &mut ids()).unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (7, 1));
    one.apply(&created.command);
    let image = one.metadata.image();
    let offsets = image.topic("__consumer_offsets").unwrap();
    let config = image.topic_config(offsets);
    assert!(offsets.internal && config.cleanup_policy.compact && !config.cleanup_policy.delete);
    assert_eq!(config.segment_bytes, 104_857_600);
    let txn = auto_create(&image, "__transaction_state", &[1], &mut ids()).unwrap();
    one.apply(&txn.command);
    let image = one.metadata.image();
    let txn = image.topic("__transaction_state").unwrap();
    assert_eq!((image.topic_config(txn).min_insync_replicas, image.min_insync_replicas(txn)), (2, 1));
}

#[test]
fn partitions_only_grow() {
    let mut one = One::new(&[]);
    one.create(topic("a", 2, 1)).unwrap();
    let ask = |one: &One, name: &str, count, assignments: Option<Vec<Vec<i32>>>| {
        let request = NewPartitions { name: name.into(), count, assignments };
        create_partitions(&one.metadata.image(), &[request], &[1]).remove(0).1
    };
    assert_eq!(
        refusal(ask(&one, "a", 2, None)),
        (ErrorCode::InvalidPartitions, "Topic already has 2 partition(s).".into())
    );
    assert_eq!(
        refusal(ask(&one, "a", 1, None)),
        (
            ErrorCode::InvalidPartitions,
            "The topic a currently has 2 partition(s); 1 would not be an increase.".into()
        )
    );
    assert_eq!(refusal(ask(&one, "b", 3, None)), (ErrorCode::UnknownTopicOrPartition, String::new()));
    assert_eq!(
        refusal(ask(&one, "a", 4, Some(vec![vec![1]]))),
        (
            ErrorCode::InvalidReplicaAssignment,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.".into()
        )
    );
    let command = ask(&one, "a", 4, None).unwrap();
    let changes = one.apply(&command);
    assert!(
        matches!(&changes[0], Change::PartitionsAdded { first: 2, topic } if topic.partitions.len() == 4)
    );
    assert_eq!(one.metadata.image().partition_count(), 4);
}

#[test]
fn one_request_adds_ten_thousand_partitions_at_most() {
    let mut one = One::new(&[("plimsoll.max.partitions", "100000")]);
    one.create(topic("a", 2, 1)).unwrap();
    one.create(topic("b", 2, 1)).unwrap();
    let ask = |name: &str, count| NewPartitions { name: name.into(), count, assignments: None };
    let image = one.metadata.image();
    let outcomes = create_partitions(&image, &[ask("a", 9_000), ask("b", 1_004)], &[1]);
    assert!(outcomes.iter().all(|(_, result)| result.is_ok()));
    for (_, result) in create_partitions(&image, &[ask("a", 9_000), ask("b", 1_005)], &[1]) {
        assert_eq!(refusal(result).0, ErrorCode::PolicyViolation);
    }
}

#[test]
fn deletion_leaves_a_tombstone_until_its_holders_confirm() {
    let mut one = One::new(&[]);
    let id = one.create(topic("a", 2, 1)).unwrap().id;
    let by_name = |name: &str| TopicRef { name: Some(name.into()), id: TopicId::ZERO };
    let verdict = delete_topics(&one.metadata.image(), &[by_name("a")]).remove(0);
    assert_eq!(verdict.id, id);
    assert!(matches!(&one.apply(&verdict.result.unwrap())[0], Change::TopicDeleted(t) if t.id == id));
    let image = one.metadata.image();
    assert_eq!((image.topic_count(), image.partition_count(), image.colliding("a")), (0, 0, None));
    assert_eq!(image.tombstones[&id], vec![1]);
    let confirm = proto::cluster::ConfirmDeletion { topic_id: id.0.to_vec().into(), node_id: 1 };
    let changes = one.apply(&cluster::Command::ConfirmDeletion(confirm));
    assert_eq!(changes, vec![Change::TombstoneCleared(id)]);
    assert!(one.metadata.image().tombstones.is_empty());
}

#[test]
fn deletions_are_judged_one_by_one() {
    let mut one = One::new(&[]);
    let id = one.create(topic("a", 1, 1)).unwrap().id;
    let refs = [
        TopicRef { name: None, id: TopicId::ZERO },
        TopicRef { name: Some("a".into()), id },
        TopicRef { name: Some("b".into()), id: TopicId::ZERO },
        TopicRef { name: None, id: TopicId([9; 16]) },
        TopicRef { name: Some("d".into()), id: TopicId::ZERO },
        TopicRef { name: Some("d".into()), id: TopicId::ZERO },
        TopicRef { name: None, id },
    ];
    let verdicts = delete_topics(&one.metadata.image(), &refs);
    let codes: Vec<_> =
        verdicts.iter().map(|v| v.result.as_ref().map_or_else(|e| e.code, |_| ErrorCode::None)).collect();
    assert_eq!(
        codes,
        vec![
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicId,
            ErrorCode::InvalidRequest,
            ErrorCode::None
        ]
    );
    // The id of a topic and its name: one refusal, and the topic stays.
    let (by_id, by_name) =
        (TopicRef { name: None, id }, TopicRef { name: Some("a".into()), id: TopicId::ZERO });
    for refs in [[by_id.clone(), by_name.clone()], [by_name, by_id]] {
        let verdicts = delete_topics(&one.metadata.image(), &refs);
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].result.as_ref().unwrap_err().code, ErrorCode::InvalidRequest);
    }
    let off = One::new(&[("delete.topic.enable", "false")]);
    let mut off = off;
    off.create(topic("a", 1, 1)).unwrap();
    let refused =
        delete_topics(&off.metadata.image(), &[TopicRef { name: Some("a".into()), id: TopicId::ZERO }]);
    assert_eq!(refused[0].result.as_ref().unwrap_err().code, ErrorCode::TopicDeletionDisabled);
}

#[test]
fn a_leader_judges_what_it_has_staged_already() {
    let mut metadata = Metadata::new(1, Default::default());
    metadata.apply(1, &register(1)).unwrap();
    let mut draw = ids();
    let first =
        create_topics(&metadata.pending(), &[topic("a", 1, 1)], &[1], &mut draw).remove(0).result.unwrap();
    metadata.stage(&first.command).unwrap();
    let again = create_topics(&metadata.pending(), &[topic("a", 1, 1)], &[1], &mut draw).remove(0).result;
    assert_eq!(again.unwrap_err().code, ErrorCode::TopicAlreadyExists);
    assert!(metadata.image().topic("a").is_none());
    metadata.apply(2, &first.command).unwrap();
    assert_eq!(metadata.pending(), metadata.image());
    let lost =
        create_topics(&metadata.pending(), &[topic("b", 1, 1)], &[1], &mut draw).remove(0).result.unwrap();
    metadata.stage(&lost.command).unwrap();
    metadata.drop_pending();
    assert!(metadata.pending().topic("b").is_none());
}

#[test]
fn what_the_log_did_not_take_is_unstaged_and_what_it_took_is_not() {
    let mut metadata = Metadata::new(1, Default::default());
    metadata.apply(1, &register(1)).unwrap();
    let mut draw = ids();
    let mut make = |metadata: &Metadata, name| {
        create_topics(&metadata.pending(), &[topic(name, 1, 1)], &[1], &mut draw).remove(0).result.unwrap()
    };
    let first = make(&metadata, "a");
    metadata.stage(&first.command).unwrap();
    let refused = make(&metadata, "b");
    let before = metadata.stage(&refused.command).unwrap();
    metadata.unstage(before);
    assert!(metadata.pending().topic("a").is_some() && metadata.pending().topic("b").is_none());
    assert!(metadata.has_staged());
    metadata.apply(2, &first.command).unwrap();
    assert!(!metadata.has_staged());
}

#[test]
fn old_images_keep_what_they_had() {
    let mut one = One::new(&[]);
    one.create(topic("a", 1, 1)).unwrap();
    let before = one.metadata.image();
    one.create(topic("b", 1, 1)).unwrap();
    assert!(before.topic("b").is_none());
    let after = one.metadata.image();
    assert!(std::sync::Arc::ptr_eq(before.topic("a").unwrap(), after.topic("a").unwrap()));
}
