//! Configs: described, set, set one by one.
use super::some;
use crate::leaves::Leaves;
use crate::script::Script;
use wire::describe_configs_request::DescribeConfigsResource;
use wire::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    Str, alter_configs_request, incremental_alter_configs_request,
};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

fn describe(kind: i8, name: Str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let configuration_keys = keys.map(|keys| keys.iter().map(|key| Str::from(*key)).collect());
    DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name,
            configuration_keys,
        }],
        include_synonyms: true,
        include_documentation: false,
    }
}

fn alter(kind: i8, name: Str, configs: &[(&str, Option<&str>)]) -> AlterConfigsRequest {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = |(name, value): &(&str, Option<&str>)| AlterableConfig {
        name: Str::from(*name),
        value: value.map(Str::from),
    };
    let configs = configs.iter().map(config).collect();
    AlterConfigsRequest {
        resources: vec![AlterConfigsResource { resource_type: kind, resource_name: name, configs }],
        validate_only: false,
    }
}

pub(super) fn change(
    kind: i8,
    name: Str,
    ops: &[(&str, i8, Option<&str>)],
) -> IncrementalAlterConfigsRequest {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let op = |(name, config_operation, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: Str::from(*name),
        config_operation: *config_operation,
        value: value.map(Str::from),
    };
    let configs = ops.iter().map(op).collect();
    IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource { resource_type: kind, resource_name: name, configs }],
        validate_only: false,
    }
}

pub(super) fn steps(script: &mut Script) {
    descriptions(script);
    changes(script);
    bad_changes(script);
    bad_requests(script);
    for kinds in [&[][..], &[TOPIC], &[GROUP, TOPIC], &[BROKER], &[77]] {
        let name = format!("kinds {kinds:?}");
        let resource_types = kinds.to_vec();
        script.over(&name, 1..=1, move |_, _| ListConfigResourcesRequest {
            resource_types: resource_types.clone(),
        });
    }
    script.over("version 0", 0..=0, |_, _| ListConfigResourcesRequest::default());
}

fn descriptions(script: &mut Script) {
    script.each("a topic", |side, _| describe(TOPIC, side.name("main"), None));
    script.each("a topic with a config", |side, _| describe(TOPIC, side.name("stamped"), None));
    script.each("some keys", |side, _| {
        describe(TOPIC, side.name("main"), Some(&["retention.ms", "no.such.config", "cleanup.policy"]))
    });
    script.each("no keys", |side, _| describe(TOPIC, side.name("main"), Some(&[])));
    script.each("an unknown topic", |side, _| describe(TOPIC, side.name("nowhere"), None));
    script.each("a bad topic name", |_, _| describe(TOPIC, Str::from("a b"), None));
    script.each("this broker", |_, _| describe(BROKER, Str::from("1"), None));
    script.each("all brokers", |_, _| describe(BROKER, Str::default(), None));
    script.each("another broker", |_, _| describe(BROKER, Str::from("77"), None));
    script.each("several", |side, _| {
        let mut request = describe(TOPIC, side.name("main"), Some(&["retention.ms"]));
        request.resources.extend(describe(TOPIC, side.name("nowhere"), None).resources);
        request
            .resources
            .extend(describe(BROKER, Str::from("1"), Some(&["log.retention.ms", "x"])).resources);
        request
    });
    script.each("one twice", |side, _| {
        let mut request = describe(TOPIC, side.name("main"), Some(&["retention.ms"]));
        request.resources.extend(describe(TOPIC, side.name("main"), Some(&["segment.ms"])).resources);
        request
    });
    script.each("a key twice", |side, _| {
        describe(TOPIC, side.name("main"), Some(&["retention.ms", "retention.ms"]))
    });
    script.each("without synonyms", |side, _| DescribeConfigsRequest {
        include_synonyms: false,
        ..describe(TOPIC, side.name("stamped"), None)
    });
    script.over("with documentation", 3..=4, |side, _| DescribeConfigsRequest {
        include_documentation: true,
        ..describe(TOPIC, side.name("stamped"), None)
    });
    script.over("a broker with documentation", 3..=4, |_, _| DescribeConfigsRequest {
        include_documentation: true,
        ..describe(BROKER, Str::from("1"), None)
    });
    script.each("nothing", |_, _| DescribeConfigsRequest { include_synonyms: true, ..Default::default() });
    script.each("client metrics", |_, _| describe(METRICS, Str::from("m"), None));
    script.each("client metrics without a name", |_, _| describe(METRICS, Str::default(), None));
    script.each("a topic without a name", |_, _| describe(TOPIC, Str::default(), None));
    script.each("loggers without a broker", |_, _| describe(LOGGER, Str::default(), None));
    script.each("loggers of no broker", |_, _| describe(LOGGER, Str::from("one"), None));
    script.each("no broker", |_, _| describe(BROKER, Str::from("one"), None));
    script.each("no kind", |_, _| describe(99, Str::from("x"), None));
    script.each("kind 0", |_, _| describe(0, Str::from("x"), None));
    script.each("a group", |side, _| describe(GROUP, side.name("g"), None));
    script.each("a group without a name", |_, _| describe(GROUP, Str::default(), None));
    script.each("loggers of another broker", |_, _| describe(LOGGER, Str::from("77"), None));
}

/// Whether an answer tells this value: the broker that is asked may not have heard of a change yet.
fn holds(leaves: &Leaves, config: &str, value: &str) -> bool {
    let (end, value) = (format!("configs[name={config:?}].value"), format!("{value:?}"));
    leaves.iter().any(|(path, text)| path.ends_with(&end) && *text == value)
}

fn changes(script: &mut Script) {
    script.each("set, whole", |side, _| {
        alter(
            TOPIC,
            side.name("grown"),
            &[("retention.ms", Some("5000")), ("segment.bytes", Some("1048576"))],
        )
    });
    script
        .each("after it was set", |side, _| {
            describe(TOPIC, side.name("grown"), Some(&["retention.ms", "segment.bytes"]))
        })
        .again(|leaves| !holds(leaves, "retention.ms", "5000"));
    script.each("only validated", |side, _| AlterConfigsRequest {
        validate_only: true,
        ..alter(TOPIC, side.name("grown"), &[("retention.ms", Some("7"))])
    });
    script.each("set one", |side, _| {
        change(TOPIC, side.name("grown"), &[("max.message.bytes", 0, Some("2000000"))])
    });
    script.each("delete one", |side, _| change(TOPIC, side.name("grown"), &[("retention.ms", 1, None)]));
    script.each("delete what is not set", |side, _| {
        change(TOPIC, side.name("grown"), &[("retention.ms", 1, None)])
    });
    script.each("append", |side, _| {
        change(TOPIC, side.name("grown"), &[("cleanup.policy", 2, Some("compact"))])
    });
    script.each("append again", |side, _| {
        change(TOPIC, side.name("grown"), &[("cleanup.policy", 2, Some("compact"))])
    });
    script.each("subtract", |side, _| {
        change(TOPIC, side.name("grown"), &[("cleanup.policy", 3, Some("compact"))])
    });
    script
        .each("after all changes", |side, _| describe(TOPIC, side.name("grown"), None))
        .again(|leaves| !holds(leaves, "cleanup.policy", "delete"));
    script.each("a broker's", |_, _| {
        change(BROKER, Str::from("1"), &[("log.retention.ms", 0, Some("700000000"))])
    });
    script.each("all brokers'", |_, _| {
        change(BROKER, Str::default(), &[("log.cleaner.threads", 0, Some("2"))])
    });
    script
        .each("brokers after changes", |_, _| {
            describe(BROKER, Str::from("1"), Some(&["log.retention.ms", "log.cleaner.threads", "node.id"]))
        })
        .again(|leaves| !holds(leaves, "log.cleaner.threads", "2"));
    script.each("a broker's, back", |_, _| change(BROKER, Str::from("1"), &[("log.retention.ms", 1, None)]));
    script.each("all brokers', back", |_, _| {
        change(BROKER, Str::default(), &[("log.cleaner.threads", 1, None)])
    });
    script.each("values with blanks", |side, _| {
        change(
            TOPIC,
            side.name("grown"),
            &[
                ("retention.ms", 0, Some(" +7 ")),
                ("preallocate", 0, Some("TRUE")),
                ("cleanup.policy", 0, Some("delete, compact")),
                ("min.cleanable.dirty.ratio", 0, Some("00.25")),
                ("compression.type", 0, Some(" gzip")),
            ],
        )
    });
    script
        .each("after values with blanks", |side, _| describe(TOPIC, side.name("grown"), None))
        .again(|leaves| !holds(leaves, "compression.type", "gzip"));
    script.each("append and subtract blanks", |side, _| {
        change(
            TOPIC,
            side.name("grown"),
            &[
                ("cleanup.policy", 3, Some("delete , x")),
                ("leader.replication.throttled.replicas", 2, Some("0:1, 1:1")),
            ],
        )
    });
    script
        .each("after blanks", |side, _| describe(TOPIC, side.name("grown"), None))
        .again(|leaves| holds(leaves, "leader.replication.throttled.replicas", ""));
    script.each("subtract all", |side, _| {
        change(
            TOPIC,
            side.name("grown"),
            &[
                ("cleanup.policy", 3, Some("compact,delete")),
                ("leader.replication.throttled.replicas", 3, Some("0:1,1:1")),
            ],
        )
    });
    script
        .each("after all were subtracted", |side, _| describe(TOPIC, side.name("grown"), None))
        .again(|leaves| holds(leaves, "leader.replication.throttled.replicas", "0:1,1:1"));
    script.each("delete all", |side, _| {
        let keys = [
            "cleanup.policy",
            "leader.replication.throttled.replicas",
            "preallocate",
            "min.cleanable.dirty.ratio",
            "compression.type",
            "retention.ms",
        ];
        change(TOPIC, side.name("grown"), &keys.map(|key| (key, 1, None)))
    });
    script.each("delete with a value", |side, _| {
        change(TOPIC, side.name("grown"), &[("max.message.bytes", 1, Some("7"))])
    });
    script.each("nothing of a topic", |side, _| change(TOPIC, side.name("grown"), &[]));
    script.each("a broker's values with blanks", |_, _| {
        change(BROKER, Str::from("1"), &[("log.retention.bytes", 0, Some(" +9 "))])
    });
    script
        .each("a broker after blanks", |_, _| {
            describe(BROKER, Str::from("1"), Some(&["log.retention.bytes"]))
        })
        .again(|leaves| holds(leaves, "log.retention.bytes", "-1"));
    script.each("a topic of that broker", |side, _| {
        describe(TOPIC, side.name("main"), Some(&["retention.bytes"]))
    });
    script.each("a broker's values, back", |_, _| {
        change(BROKER, Str::from("1"), &[("log.retention.bytes", 1, None)])
    });
    script.each("a group's", |side, _| {
        change(GROUP, side.name("g"), &[("consumer.session.timeout.ms", 0, Some("46000"))])
    });
    // The broker that answers may not have heard yet.
    script
        .each("a group after changes", |side, _| describe(GROUP, side.name("g"), None))
        .again(|leaves| !leaves.iter().any(|(path, from)| path.ends_with("config_source") && from == "8"));
}

/// Values of groups, and what is wrong with requests of any kind.
fn bad_requests(script: &mut Script) {
    for (name, values) in [
        ("consumer.session.timeout.ms", &["0", "44999", "60001", "x"][..]),
        ("consumer.heartbeat.interval.ms", &["0", "4999", "15001", "46000"]),
        ("share.record.lock.duration.ms", &["0", "x", "60001", "30000"]),
        ("share.auto.offset.reset", &["never", "latest", "by_duration:PT1H", "by_duration:x", ""]),
        ("share.isolation.level", &["read_committed", "READ_COMMITTED", "none"]),
        ("streams.num.standby.replicas", &["-1", "3", "x"]),
        ("no.such.config", &["1"]),
    ] {
        for value in values {
            script.once(&format!("a group's {name}={value:?}"), move |side, _| {
                IncrementalAlterConfigsRequest {
                    validate_only: true,
                    ..change(GROUP, side.name("g"), &[(name, 0, Some(*value))])
                }
            });
        }
    }
    for (name, value) in [
        ("interval.ms", "99"),
        ("interval.ms", "x"),
        ("metrics", "org.apache"),
        ("match", "client_id=a"),
        ("match", "client_id"),
        ("match", "nothing=a"),
        ("x", "1"),
    ] {
        script.once(&format!("client metrics' {name}={value:?}"), move |_, _| {
            IncrementalAlterConfigsRequest {
                validate_only: true,
                ..change(METRICS, Str::from("m"), &[(name, 0, Some(value))])
            }
        });
    }
    script.each("a group without a name", |_, _| {
        change(GROUP, Str::default(), &[("consumer.session.timeout.ms", 0, Some("46000"))])
    });
    script.each("client metrics without a name", |_, _| change(METRICS, Str::default(), &[]));
    script.each("a topic without a name", |_, _| change(TOPIC, Str::default(), &[]));
    script.each("a topic with a bad name", |_, _| change(TOPIC, Str::from("a b"), &[]));
    script.each("a broker that is no number", |_, _| change(BROKER, Str::from("one"), &[]));
    script.each("kind 0", |_, _| change(0, Str::from("x"), &[]));
    script.each("nothing", |_, _| IncrementalAlterConfigsRequest::default());
    script.each("whole, nothing", |_, _| AlterConfigsRequest::default());
    script.each("whole, a key twice", |side, _| {
        alter(TOPIC, side.name("grown"), &[("retention.ms", Some("1")), ("retention.ms", Some("2"))])
    });
    // Kafka 4.4 never answers it: nothing may wait behind it.
    script.begin("whole, a resource twice", |side, _| {
        let mut request = alter(TOPIC, side.name("grown"), &[("retention.ms", Some("1"))]);
        request.resources.push(request.resources[0].clone());
        request
    });
    script.each("whole, one good and one unknown", |side, _| {
        let mut request = alter(TOPIC, side.name("grown"), &[("retention.ms", Some("6000"))]);
        request.resources.extend(alter(TOPIC, side.name("nowhere"), &[]).resources);
        request
    });
    script.each("whole, of a bad name", |_, _| alter(TOPIC, Str::from("a b"), &[]));
    script
        .each("whole, a broker's fixed key", |_, _| alter(BROKER, Str::from("1"), &[("node.id", Some("2"))]));
    script.each("one good and one unknown", |side, _| {
        let mut request = change(TOPIC, side.name("grown"), &[("retention.ms", 0, Some("6000"))]);
        request.resources.extend(change(TOPIC, side.name("nowhere"), &[]).resources);
        request.resources.extend(change(TOPIC, side.name("main"), &[("x", 0, Some("1"))]).resources);
        request
    });
    script.each("set and delete of one key", |side, _| {
        change(TOPIC, side.name("grown"), &[("retention.ms", 0, Some("1")), ("retention.ms", 1, None)])
    });
    script.each("append null", |side, _| change(TOPIC, side.name("grown"), &[("cleanup.policy", 2, None)]));
    script.each("append what may not be", |side, _| {
        change(TOPIC, side.name("grown"), &[("cleanup.policy", 2, Some("tidy"))])
    });
    script.each("a negative operation", |side, _| {
        change(TOPIC, side.name("grown"), &[("retention.ms", -1, Some("1"))])
    });
    script
        .each("what requests left", |side, _| describe(TOPIC, side.name("grown"), None))
        .again(|leaves| !holds(leaves, "retention.ms", "6000"));
}

/// The answer to what must not be waited for.
pub(super) fn late(script: &mut Script) {
    script.finish::<AlterConfigsRequest>("whole, a resource twice");
}

fn bad_changes(script: &mut Script) {
    for (name, value) in [
        ("no.such.config", "1"),
        ("retention.ms", "soon"),
        ("segment.bytes", "1"),
        ("cleanup.policy", "tidy"),
        ("min.insync.replicas", "0"),
        ("compression.type", "best"),
        ("compression.gzip.level", "77"),
        ("message.timestamp.type", "Mine"),
    ] {
        script.once(&format!("set, whole: {name}={value}"), move |side, _| {
            alter(TOPIC, side.name("grown"), &[(name, Some(value))])
        });
        script.once(&format!("set {name}={value}"), move |side, _| {
            change(TOPIC, side.name("grown"), &[(name, 0, Some(value))])
        });
    }
    script.each("whole, null", |side, _| alter(TOPIC, side.name("grown"), &[("retention.ms", None)]));
    script.each("whole, of an unknown topic", |side, _| alter(TOPIC, side.name("nowhere"), &[]));
    script.each("whole, of no kind", |_, _| alter(99, Str::from("x"), &[]));
    script.each("null", |side, _| change(TOPIC, side.name("grown"), &[("retention.ms", 0, None)]));
    script.each("an unknown operation", |side, _| {
        change(TOPIC, side.name("grown"), &[("retention.ms", 9, some("1").as_deref())])
    });
    script.each("append to a number", |side, _| {
        change(TOPIC, side.name("grown"), &[("retention.ms", 2, Some("1"))])
    });
    script.each("the same key twice", |side, _| {
        change(TOPIC, side.name("grown"), &[("retention.ms", 0, Some("1")), ("retention.ms", 0, Some("2"))])
    });
    script.each("of an unknown topic", |side, _| {
        change(TOPIC, side.name("nowhere"), &[("retention.ms", 0, Some("1"))])
    });
    script.each("of another broker", |_, _| {
        change(BROKER, Str::from("77"), &[("log.retention.ms", 0, Some("1"))])
    });
    script.each("a broker's fixed key", |_, _| change(BROKER, Str::from("1"), &[("node.id", 0, Some("2"))]));
    script.each("a broker's unknown key", |_, _| {
        change(BROKER, Str::from("1"), &[("no.such.config", 0, Some("2"))])
    });
    script
        .each("a broker's unknown key, back", |_, _| {
            change(BROKER, Str::from("1"), &[("no.such.config", 1, None)])
        })
        .silent();
    script.each("the same resource twice", |side, _| {
        let mut request = change(TOPIC, side.name("grown"), &[("retention.ms", 0, Some("1"))]);
        request.resources.push(request.resources[0].clone());
        request
    });
}
