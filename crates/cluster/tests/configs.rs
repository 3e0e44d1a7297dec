//! Changing and describing configs.
#![allow(clippy::unwrap_used)]
mod common;

use cluster::{
    AlterEntry, AlterResource, ConfigSource, DescribeResource, DescribedConfig, IncrementalEntry,
    IncrementalResource, ResourceKind, alter_configs, describe_configs, incremental_alter_configs,
    list_config_resources,
};
use common::{One, topic, with_configs};
use model::ErrorCode;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const CLIENT_METRICS: i8 = 16;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn ops(kind: i8, name: &str, entries: &[(&str, i8, Option<&str>)]) -> IncrementalResource {
    let entry = |(name, operation, value): &(&str, i8, Option<&str>)| IncrementalEntry {
        name: name.to_string(),
        operation: *operation,
        value: value.map(str::to_owned),
    };
    IncrementalResource { kind, name: name.into(), entries: entries.iter().map(entry).collect() }
}

fn change(one: &mut One, resource: IncrementalResource) -> Result<(), (ErrorCode, String)> {
    match incremental_alter_configs(&one.metadata.image(), &[resource]).remove(0) {
        Ok(Some(command)) => {
            one.apply(&command);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(e) => Err((e.code, e.message.unwrap_or_default())),
    }
}

fn describe(one: &One, kind: i8, name: &str) -> Vec<DescribedConfig> {
    let resource = DescribeResource { kind, name: name.into(), keys: None };
    describe_configs(&one.metadata.image(), &[resource], true, true, &[]).remove(0).result.unwrap()
}

fn find<'a>(configs: &'a [DescribedConfig], name: &str) -> &'a DescribedConfig {
    configs.iter().find(|c| c.name == name).unwrap()
}

#[test]
fn incremental_changes_set_delete_append_and_subtract() {
    let mut one = One::new(&[]);
    one.create(topic("a", 1, 1)).unwrap();
    change(
        &mut one,
        ops(TOPIC, "a", &[("cleanup.policy", APPEND, Some("compact")), ("retention.ms", SET, Some("5"))]),
    )
    .unwrap();
    let configs = describe(&one, TOPIC, "a");
    assert_eq!(find(&configs, "cleanup.policy").value.as_deref(), Some("delete,compact"));
    assert_eq!(find(&configs, "retention.ms").source, ConfigSource::DynamicTopic);
    let image = one.metadata.image();
    assert_eq!(image.topic_config(image.topic("a").unwrap()).retention_ms, 5);
    assert_eq!(image.topic("a").unwrap().configs.entry("retention.ms").unwrap().version, image.version);
    change(
        &mut one,
        ops(TOPIC, "a", &[("cleanup.policy", SUBTRACT, Some("delete")), ("retention.ms", DELETE, None)]),
    )
    .unwrap();
    let configs = describe(&one, TOPIC, "a");
    assert_eq!(find(&configs, "cleanup.policy").value.as_deref(), Some("compact"));
    assert_eq!(find(&configs, "retention.ms").source, ConfigSource::Default);
    change(&mut one, ops(TOPIC, "a", &[("unclean.leader.election.enable", DELETE, None)])).unwrap();
    // A blank is part of what is added and taken away.
    for (operation, value, left) in [
        (APPEND, " delete", "compact,delete"),
        (SUBTRACT, "delete", "compact,delete"),
        (SUBTRACT, "compact", "delete"),
    ] {
        change(&mut one, ops(TOPIC, "a", &[("cleanup.policy", operation, Some(value))])).unwrap();
        assert_eq!(find(&describe(&one, TOPIC, "a"), "cleanup.policy").value.as_deref(), Some(left));
    }
}

type Row = (IncrementalResource, ErrorCode, &'static str);

fn all_refused(table: Vec<Row>) {
    let mut one = One::new(&[]);
    one.create(topic("a", 1, 1)).unwrap();
    for (resource, code, message) in table {
        let name = format!("{resource:?}");
        assert_eq!(change(&mut one, resource), Err((code, message.to_owned())), "{name}");
    }
}

#[test]
fn a_resource_may_be_in_a_request_once() {
    let mut one = One::new(&[]);
    one.create(topic("a", 1, 1)).unwrap();
    let twice = vec![ops(TOPIC, "a", &[]), ops(TOPIC, "a", &[])];
    for verdict in incremental_alter_configs(&one.metadata.image(), &twice) {
        assert_eq!(verdict.unwrap_err().message.unwrap(), "Each resource must appear at most once.");
    }
}

#[test]
fn bad_topic_changes_are_refused_in_kafkas_words() {
    all_refused(vec![
        (
            ops(TOPIC, "a", &[("no.such", SET, Some("1"))]),
            ErrorCode::InvalidConfig,
            "Unknown topic config name: no.such",
        ),
        (
            ops(TOPIC, "a", &[("retention.ms", APPEND, Some("1"))]),
            ErrorCode::InvalidConfig,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            ops(TOPIC, "a", &[("retention.ms", SET, None)]),
            ErrorCode::InvalidRequest,
            "Null value not supported for : retention.ms",
        ),
        (
            ops(TOPIC, "a", &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)]),
            ErrorCode::InvalidRequest,
            "Error due to duplicate config keys",
        ),
        (
            ops(TOPIC, "b", &[("retention.ms", SET, Some("1"))]),
            ErrorCode::UnknownTopicOrPartition,
            "The topic 'b' does not exist.",
        ),
        (ops(TOPIC, "", &[]), ErrorCode::InvalidRequest, "Default topic resources are not allowed."),
        (
            ops(TOPIC, "a", &[("retention.ms", 9, Some("1"))]),
            ErrorCode::InvalidRequest,
            "Unknown operations type 9",
        ),
        (ops(3, "a", &[]), ErrorCode::InvalidRequest, "Unknown resource type 3"),
    ]);
}

#[test]
fn bad_broker_changes_are_refused_in_kafkas_words() {
    all_refused(vec![
        (
            ops(BROKER, "1", &[("node.id", SET, Some("4"))]),
            ErrorCode::InvalidRequest,
            "Cannot update these configs dynamically: [node.id]",
        ),
        (
            ops(BROKER, "1", &[("listeners", SET, Some("PLAINTEXT://:1"))]),
            ErrorCode::InvalidRequest,
            "Cannot update these configs dynamically: [listeners]",
        ),
        (
            ops(BROKER, "", &[("listener.name.x.ssl.keystore.type", SET, Some("PKCS12"))]),
            ErrorCode::InvalidRequest,
            "Cannot update these configs at default cluster level, broker id must be specified: \
             [listener.name.x.ssl.keystore.type]",
        ),
        (
            ops(BROKER, "1", &[("ssl.keystore.location", SET, Some("k"))]),
            ErrorCode::InvalidRequest,
            "These security configs can be dynamically updated only per-listener using the listener prefix: \
             [ssl.keystore.location]",
        ),
        (
            ops(BROKER, "7", &[("log.retention.ms", SET, Some("4"))]),
            ErrorCode::InvalidRequest,
            "Unexpected broker id, expected 1, but received 7",
        ),
        (
            ops(BROKER, "1", &[("no.such", SET, Some("4"))]),
            ErrorCode::InvalidConfig,
            "Unknown broker config name: no.such",
        ),
    ]);
}

#[test]
fn a_broker_change_that_would_lock_out_or_contradict_is_refused() {
    let mut one = One::new(&[]);
    let refused = |one: &mut One, name, value| {
        ["", "1"].map(|broker| change(one, ops(BROKER, broker, &[(name, SET, Some(value))])).unwrap_err().0)
    };
    for (name, value) in [
        ("max.connections", "0"),
        ("max.connections.per.ip", "0"),
        ("max.connection.creation.rate", "0"),
        ("log.cleaner.dedupe.buffer.size", "1048576"),
        ("log.cleanup.policy", "delete,delete"),
        ("log.local.retention.ms", "-1"),
        ("log.local.retention.ms", "604800001"),
        ("log.retention.ms", "0"),
        ("log.roll.ms", "0"),
        ("log.roll.jitter.ms", "-1"),
    ] {
        assert_eq!(refused(&mut one, name, value), [ErrorCode::InvalidRequest; 2], "{name}={value}");
    }
    for (name, value) in [
        ("log.local.retention.ms", "604800000"),
        ("log.local.retention.bytes", "-1"),
        ("log.retention.ms", "-2"),
        ("log.local.retention.ms", "604800001"),
        ("max.connections.per.ip.overrides", "127.0.0.1:5"),
        ("max.connections.per.ip", "0"),
    ] {
        change(&mut one, ops(BROKER, "1", &[(name, SET, Some(value))])).unwrap();
    }
    one.create(topic("a", 1, 1)).unwrap();
    let image = one.metadata.image();
    assert_eq!(image.topic_config(image.topic("a").unwrap()).retention_ms, -1);
}

#[test]
fn a_new_topics_configs_are_told_as_they_were_sent() {
    let mut one = One::new(&[]);
    let sent = [("retention.ms", " +5 "), ("cleanup.policy", "delete, delete")];
    let told = one.create(with_configs("a", &sent)).unwrap().configs;
    for (name, value) in sent {
        assert_eq!(told.iter().find(|c| c.name == name).unwrap().value.as_deref(), Some(value));
    }
    let configs = describe(&one, TOPIC, "a");
    assert_eq!(find(&configs, "retention.ms").value.as_deref(), Some("5"));
    assert_eq!(find(&configs, "cleanup.policy").value.as_deref(), Some("delete"));
}

#[test]
fn bad_group_and_client_metrics_changes_are_refused_in_kafkas_words() {
    all_refused(vec![
        (
            ops(GROUP, "g", &[("no.such", SET, Some("4"))]),
            ErrorCode::InvalidConfig,
            "Unknown group config name: no.such",
        ),
        (
            ops(GROUP, "g", &[("consumer.session.timeout.ms", SET, Some("1"))]),
            ErrorCode::InvalidConfig,
            "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive.",
        ),
        (ops(GROUP, "", &[]), ErrorCode::InvalidRequest, "Default group resources are not allowed."),
        (
            ops(CLIENT_METRICS, "m", &[("interval.ms", SET, Some("5"))]),
            ErrorCode::InvalidRequest,
            "Invalid value 5 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        ),
        (
            ops(CLIENT_METRICS, "m", &[("match", SET, Some("x=y"))]),
            ErrorCode::InvalidConfig,
            "Illegal client matching pattern: x=y",
        ),
    ]);
}

#[test]
fn the_legacy_request_replaces_everything() {
    let mut one = One::new(&[]);
    one.create(with_configs("a", &[("retention.ms", "5"), ("segment.ms", "6")])).unwrap();
    let entries = vec![AlterEntry { name: "segment.ms".into(), value: Some("7".into()) }];
    let resource = AlterResource { kind: TOPIC, name: "a".into(), entries };
    let command = alter_configs(&one.metadata.image(), &[resource]).remove(0).unwrap().unwrap();
    one.apply(&command);
    let image = one.metadata.image();
    let own: Vec<_> =
        image.topic("a").unwrap().configs.iter().map(|(k, e)| (k.to_owned(), e.value.to_string())).collect();
    assert_eq!(own, vec![("segment.ms".to_owned(), "7".to_owned())]);
}

#[test]
fn broker_changes_reach_topics_and_the_broker_at_once() {
    let mut one = One::new(&[("log.retention.hours", "1"), ("message.max.bytes", "9999")]);
    one.create(topic("a", 1, 1)).unwrap();
    one.create(with_configs("b", &[("segment.ms", "6")])).unwrap();
    let retention = |one: &One, name: &str| {
        let image = one.metadata.image();
        image.topic_config(image.topic(name).unwrap()).retention_ms
    };
    assert_eq!((retention(&one, "a"), retention(&one, "b")), (3_600_000, 3_600_000));
    change(
        &mut one,
        ops(BROKER, "", &[("log.retention.ms", SET, Some("77")), ("max.connections", SET, Some("5"))]),
    )
    .unwrap();
    assert_eq!((retention(&one, "a"), retention(&one, "b")), (77, 77));
    assert_eq!(one.metadata.image().broker_config().max_connections, 5);
    change(&mut one, ops(BROKER, "1", &[("max.connections", SET, Some("6"))])).unwrap();
    assert_eq!(one.metadata.image().broker_config().max_connections, 6);
    let synonyms: Vec<_> = find(&describe(&one, TOPIC, "a"), "retention.ms")
        .synonyms
        .iter()
        .map(|s| (s.name.clone(), s.value.clone().unwrap(), s.source))
        .collect();
    let row = |name: &str, value: &str, source| (name.to_owned(), value.to_owned(), source);
    assert_eq!(
        synonyms,
        vec![
            row("log.retention.ms", "77", ConfigSource::DynamicDefaultBroker),
            row("log.retention.hours", "1", ConfigSource::StaticBroker),
            row("log.retention.hours", "168", ConfigSource::Default),
        ]
    );
    let defaults = describe(&one, BROKER, "");
    let names: Vec<&str> = defaults.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, vec!["log.retention.ms", "max.connections"]);
}

#[test]
fn a_broker_tells_what_tools_ask_for() {
    let one = One::new(&[("num.partitions", "4"), ("ssl.key.password", "secret")]);
    let configs = describe(&one, BROKER, "1");
    for name in [
        "advertised.listeners",
        "auto.create.topics.enable",
        "broker.rack",
        "default.replication.factor",
        "delete.topic.enable",
        "listeners",
        "log.cleanup.policy",
        "log.dirs",
        "log.retention.bytes",
        "log.retention.ms",
        "log.segment.bytes",
        "message.max.bytes",
        "min.insync.replicas",
        "node.id",
        "broker.id",
        "offsets.topic.num.partitions",
        "transaction.max.timeout.ms",
    ] {
        assert!(find(&configs, name).documentation.is_some(), "{name}");
    }
    let partitions = find(&configs, "num.partitions");
    assert_eq!((partitions.value.as_deref(), partitions.source), (Some("4"), ConfigSource::StaticBroker));
    assert!(partitions.read_only && !find(&configs, "log.retention.ms").read_only);
    let secret = find(&configs, "ssl.key.password");
    assert!(
        secret.is_sensitive && secret.value.is_none() && secret.synonyms.iter().all(|s| s.value.is_none())
    );
    assert_eq!(
        find(&configs, "log.cleaner.io.max.bytes.per.second").value.as_deref(),
        Some("1.7976931348623157E308")
    );
    let all = DescribeResource {
        kind: BROKER,
        name: "1".into(),
        keys: Some(vec!["node.id".into(), "nope".into()]),
    };
    let picked = describe_configs(&one.metadata.image(), &[all], false, false, &[]).remove(0).result.unwrap();
    assert_eq!(picked.len(), 1);
    assert!(picked[0].documentation.is_none() && picked[0].synonyms.is_empty());
}

#[test]
fn all_topic_configs_of_kafka_are_told() {
    let mut one = One::new(&[]);
    one.create(with_configs("a", &[("message.format.version", "2.8"), ("write.caching", "TRUE")])).unwrap();
    let configs = describe(&one, TOPIC, "a");
    assert!(configs.len() >= 39, "{}", configs.len());
    assert_eq!(find(&configs, "message.format.version").value.as_deref(), Some("2.8"));
    assert_eq!(find(&configs, "write.caching").value.as_deref(), Some("true"));
    assert_eq!(find(&configs, "min.cleanable.dirty.ratio").value.as_deref(), Some("0.5"));
    let names: Vec<_> = find(&configs, "segment.ms").synonyms.iter().map(|s| s.name.as_str()).collect();
    assert!(names.is_empty(), "Kafka tells a family only from its first name on: {names:?}");
}

#[test]
fn groups_inherit_from_the_broker_and_resources_are_listed() {
    let mut one = One::new(&[]);
    one.create(topic("a", 1, 1)).unwrap();
    change(&mut one, ops(GROUP, "g", &[("consumer.session.timeout.ms", SET, Some("50000"))])).unwrap();
    change(&mut one, ops(CLIENT_METRICS, "m", &[("match", SET, Some("client_id=x.*"))])).unwrap();
    let configs = describe(&one, GROUP, "g");
    let session = find(&configs, "consumer.session.timeout.ms");
    assert_eq!((session.value.as_deref(), session.source), (Some("50000"), ConfigSource::Group));
    let heartbeat = find(&configs, "consumer.heartbeat.interval.ms");
    assert_eq!((heartbeat.value.as_deref(), heartbeat.source), (Some("5000"), ConfigSource::Default));
    assert_eq!(heartbeat.synonyms[0].name, "group.consumer.heartbeat.interval.ms");
    let image = one.metadata.image();
    let kinds: Vec<_> = list_config_resources(&image, &[]).unwrap();
    assert_eq!(
        kinds,
        vec![(32, "g".into()), (16, "m".into()), (8, "1".into()), (4, "1".into()), (2, "a".into())]
    );
    assert_eq!(list_config_resources(&image, &[3]), Err(ErrorCode::UnsupportedVersion));
    assert_eq!(image.resource(ResourceKind::Group, "g").unwrap().len(), 1);
    change(&mut one, ops(GROUP, "g", &[("consumer.session.timeout.ms", DELETE, None)])).unwrap();
    assert!(one.metadata.image().resource(ResourceKind::Group, "g").is_none());
}

#[test]
fn repeated_list_entries_count_once_as_in_kafka() {
    let mut one = One::new(&[("write.caching", "true")]);
    one.create(with_configs("a", &[("cleanup.policy", "delete,delete")])).unwrap();
    let configs = describe(&one, TOPIC, "a");
    assert_eq!(find(&configs, "cleanup.policy").value.as_deref(), Some("delete"));
    assert_eq!(find(&configs, "write.caching").value.as_deref(), Some("true"));
    one.create(topic("__consumer_offsets", 1, 1)).unwrap();
    let configs = describe(&one, TOPIC, "__consumer_offsets");
    assert_eq!(find(&configs, "write.caching").value.as_deref(), Some("false"));
    let message = one.create(with_configs("b", &[("min.cleanable.dirty.ratio", "2")])).unwrap_err().message;
    let expected =
        "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1";
    assert_eq!(message.as_deref(), Some(expected));
}
