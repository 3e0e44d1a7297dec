//! Text made from the tables: docs/configuration.md and the sample files in config/.
use crate::config_def::{ConfigDef, Dynamic, Effect, Valid};
use crate::config_defs::{broker_def, broker_defs, client_metrics_defs, group_defs, topic_defs};

/// Keys of the sample files by headline, in the order of a reader's questions.
const SAMPLE: &[(&str, &[&str])] = &[
    (
        "The node and where it listens",
        &["node.id", "listeners", "advertised.listeners", "http.listener", "broker.rack"],
    ),
    ("Where data lives", &["log.dirs", "log.pool.bytes", "log.tail.cache.bytes", "log.disk.min.free.bytes"]),
    (
        "New topics",
        &["auto.create.topics.enable", "num.partitions", "default.replication.factor", "delete.topic.enable"],
    ),
    (
        "What topics have unless they say otherwise",
        &[
            "write.caching",
            "min.insync.replicas",
            "log.cleanup.policy",
            "log.retention.hours",
            "log.retention.bytes",
            "log.segment.bytes",
            "log.roll.hours",
            "message.max.bytes",
            "compression.type",
            "log.message.timestamp.type",
        ],
    ),
    (
        "Groups and their offsets",
        &[
            "group.initial.rebalance.delay.ms",
            "group.min.session.timeout.ms",
            "group.max.session.timeout.ms",
            "offsets.retention.minutes",
            "offsets.topic.num.partitions",
            "offsets.topic.replication.factor",
        ],
    ),
    (
        "Limits",
        &[
            "max.connections",
            "max.connections.per.ip",
            "connections.max.idle.ms",
            "socket.request.max.bytes",
            "queued.max.request.bytes",
            "connection.max.request.bytes",
            "plimsoll.max.partitions",
        ],
    ),
];

const HEAD: &str = "\
# Configuration

Generated from the tables of `crates/cluster/src/config_defs`; do not edit.

`plimsoll serve` needs no configuration. `--config FILE` reads a Kafka `server.properties`, or TOML with the same \
keys when the name ends in `.toml`. Above the file stand environment variables (`PLIMSOLL_NUM_PARTITIONS` is \
`num.partitions`), above these the flags (`--set num.partitions=3`, and a few with a name of their own: \
`--listen`, `--advertise`, `--http`, `--data`, `--node-id`), and above all what is set while the broker runs \
(`plimsoll topic alter-config`, `kafka-configs`).

- In TOML an unknown key is an error. In `.properties` it is a warning with the nearest known name, and keys of \
Kafka's that do nothing here are listed once. `--strict` makes errors of both.
- Keys of TOML may be written in one piece in quotes (`\"log.retention.ms\" = 1`) or as tables (`[log.retention]`). \
Where one key begins another (`max.connections`, `max.connections.per.ip`) only the quoted form works.
- A node that finds only itself in `controller.quorum.bootstrap.servers` or `controller.quorum.voters` opens no \
controller listener. Several nodes: the same `controller.quorum.voters` and `cluster.secret.file` on each, and a listener \
of its own that `controller.listener.names` names; `config/cluster/` has three, `plimsoll cluster up` tries it out on one \
machine.
- *Changes*: **no** = at start only; **one** = for one broker while it runs; **all** = for one or for all.
- Rows marked *(ours)* are not Kafka's. Defaults that differ from Kafka's: `listeners`, `log.dir`, \
`max.connections`, `max.connections.per.ip`, `queued.max.request.bytes`, and Kafka has none for `node.id` and \
`process.roles`.
";

fn range(def: &ConfigDef) -> String {
    let number = |n: i64| match n {
        i64::MAX => String::new(),
        n if n == i64::from(i32::MAX) => String::new(),
        n => n.to_string(),
    };
    match def.valid {
        Valid::Any => String::new(),
        Valid::Range(min, max) if number(max).is_empty() => format!("from {min}"),
        Valid::Range(min, max) => format!("{min} to {max}"),
        Valid::NotZero => "at least 1, or -1".to_owned(),
        Valid::Decimal(min, max) => format!("{min} to {max}"),
        Valid::OneOf(words) | Valid::OneOfAnyCase(words) => words.join(", "),
        Valid::ListOf(words) => format!("any of {}", words.join(", ")),
        Valid::GzipLevel => "1 to 9, or -1".to_owned(),
        Valid::NonEmpty => "not empty".to_owned(),
        Valid::ThrottledReplicas => "`*` or partition:broker, ...".to_owned(),
        Valid::OffsetReset => "latest, earliest, by_duration:...".to_owned(),
    }
}

fn shown_default(def: &ConfigDef) -> String {
    match def.default {
        None => "-".to_owned(),
        Some("") => "empty".to_owned(),
        Some("9223372036854775807") => "no limit".to_owned(),
        Some(text) => format!("`{text}`"),
    }
}

fn row(def: &ConfigDef, changes: bool) -> String {
    let ours = if def.ours { " *(ours)*" } else { "" };
    let dynamic = match (changes, def.dynamic) {
        (false, _) => "",
        (true, Dynamic::ReadOnly) => " no |",
        (true, Dynamic::PerBroker) => " one |",
        (true, Dynamic::ClusterWide) => " all |",
    };
    let type_name = def.kind.name().to_ascii_lowercase();
    format!(
        "| `{}`{ours} | {type_name} | {} | {} |{dynamic} {} |\n",
        def.name,
        shown_default(def),
        range(def),
        def.doc
    )
}

fn table<'a>(defs: impl Iterator<Item = &'a &'static ConfigDef>, changes: bool) -> String {
    let head = if changes {
        "| key | type | default | range | changes | what it does |\n|---|---|---|---|---|---|\n"
    } else {
        "| key | type | default | range | what it does |\n|---|---|---|---|---|\n"
    };
    defs.filter(|d| !d.internal && d.effect == Effect::Applies)
        .fold(head.to_owned(), |t, d| t + &row(d, changes))
}

/// Keys without effect, gathered by reason.
fn without_effect(defs: &[&'static ConfigDef]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for def in defs {
        if let Effect::Accepted(why) = def.effect {
            match reasons.iter_mut().find(|(r, _)| *r == why) {
                Some((_, names)) => names.push(def.name),
                None => reasons.push((why, vec![def.name])),
            }
        }
    }
    let line = |(why, names): (&str, Vec<&str>)| format!("- {why}: `{}`\n", names.join("`, `"));
    let lines: String = reasons.into_iter().map(line).collect();
    format!("\nChecked, stored and shown, without effect here:\n\n{lines}")
}

/// The page docs/configuration.md.
pub fn configuration_page() -> String {
    let mut page = HEAD.to_owned();
    for (title, intro, defs, changes) in [
        ("Broker", "", broker_defs(), true),
        (
            "Topics",
            "Set with CreateTopics, `plimsoll topic alter-config` or `kafka-configs --entity-type topics`. What a topic does not \
             set comes from the broker's keys in the order of DescribeConfigs' synonyms.\n\n",
            topic_defs(),
            false,
        ),
        ("Groups", "Set with `kafka-configs --entity-type groups`.\n\n", group_defs(), false),
        ("Client metrics", "", client_metrics_defs(), false),
    ] {
        page.push_str(&format!("\n## {title}\n\n{intro}"));
        if defs.iter().any(|d| d.effect == Effect::Applies && !d.internal) {
            page.push_str(&table(defs.iter(), changes));
        }
        page.push_str(&without_effect(defs));
    }
    page
}

/// What a commented line shows: the value that holds when it stays commented.
fn sample_value(def: &ConfigDef) -> &'static str {
    let name = if def.name == "log.dirs" { "log.dir" } else { def.name };
    broker_def(name).and_then(|d| d.default).unwrap_or_default()
}

fn sample(comment: &str, line: &dyn Fn(&ConfigDef) -> String) -> String {
    let mut text = comment.to_owned();
    for (title, keys) in SAMPLE {
        text.push_str(&format!("\n# ---- {title}\n"));
        for def in keys.iter().filter_map(|k| broker_def(k)) {
            text.push_str(&format!("\n# {}\n{}\n", def.doc, line(def)));
        }
    }
    text
}

/// The file config/server.properties.
pub fn sample_properties() -> String {
    let head = "\
# Sample for plimsoll serve --config server.properties. Keys are Kafka's; a Kafka file works as it stands.
# Lines that are commented out show the default. All keys: docs/configuration.md.
";
    sample(head, &|def| format!("#{}={}", def.name, sample_value(def)))
}

/// The file config/plimsoll.toml.
pub fn sample_toml() -> String {
    let head = "\
# Sample for plimsoll serve --config plimsoll.toml. Keys are those of Kafka's server.properties.
# Lines that are commented out show the default. All keys: docs/configuration.md.
";
    sample(head, &|def| {
        let text = sample_value(def);
        let bare = matches!(text, "true" | "false") || text.parse::<i64>().is_ok();
        if bare { format!("#\"{}\" = {text}", def.name) } else { format!("#\"{}\" = \"{text}\"", def.name) }
    })
}
