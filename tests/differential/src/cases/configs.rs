//! Configs: described, set, set one by one.
use super::some;
use crate::script::Script;
use wire::describe_configs_request::DescribeConfigsResource;
use wire::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    Str, alter_configs_request, incremental_alter_configs_request,
};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const LOGGER: i8 = 8;
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

pub(super) fn change(kind: i8, name: Str, ops: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
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
    script.each("no broker", |_, _| describe(BROKER, Str::from("one"), None));
    script.each("no kind", |_, _| describe(99, Str::from("x"), None));
    script.each("kind 0", |_, _| describe(0, Str::from("x"), None));
    script.each("a group", |side, _| describe(GROUP, side.name("g"), None));
    script.each("a group without a name", |_, _| describe(GROUP, Str::default(), None));
    script.each("loggers of another broker", |_, _| describe(LOGGER, Str::from("77"), None));
}

fn changes(script: &mut Script) {
    script.each("set, whole", |side, _| {
        alter(
            TOPIC,
            side.name("grown"),
            &[("retention.ms", Some("5000")), ("segment.bytes", Some("1048576"))],
        )
    });
    script.each("after it was set", |side, _| {
        describe(TOPIC, side.name("grown"), Some(&["retention.ms", "segment.bytes"]))
    });
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
    script.each("after all changes", |side, _| describe(TOPIC, side.name("grown"), None));
    script.each("a broker's", |_, _| {
        change(BROKER, Str::from("1"), &[("log.retention.ms", 0, Some("700000000"))])
    });
    script.each("all brokers'", |_, _| {
        change(BROKER, Str::default(), &[("log.cleaner.threads", 0, Some("2"))])
    });
    script.each("brokers after changes", |_, _| {
        describe(BROKER, Str::from("1"), Some(&["log.retention.ms", "log.cleaner.threads", "node.id"]))
    });
    script.each("a broker's, back", |_, _| change(BROKER, Str::from("1"), &[("log.retention.ms", 1, None)]));
    script.each("all brokers', back", |_, _| {
        change(BROKER, Str::default(), &[("log.cleaner.threads", 1, None)])
    });
    script.each("a group's", |side, _| {
        change(GROUP, side.name("g"), &[("consumer.session.timeout.ms", 0, Some("46000"))])
    });
    // The broker that answers may not have heard yet.
    script
        .each("a group after changes", |side, _| describe(GROUP, side.name("g"), None))
        .again(|leaves| !leaves.iter().any(|(path, from)| path.ends_with("config_source") && from == "8"));
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
