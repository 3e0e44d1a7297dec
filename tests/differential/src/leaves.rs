//! An answer as named fields: `topics[name="t"].partitions[partition_index=0].error_code` and its value.
use crate::debug_tree::{Tree, parse};
use crate::side::Side;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Paths and values.
pub(crate) type Leaves = BTreeMap<String, String>;

/// Fields that name an item of a list; its place in the list then does not count, because Kafka's own
/// lists often come out of hash maps.
const KEYS: [&str; 14] = [
    "api_key",
    "name",
    "topic",
    "topic_id",
    "partition_index",
    "index",
    "partition",
    "group_id",
    "member_id",
    "resource_name",
    "broker_id",
    "node_id",
    "producer_id",
    "key",
];
/// Fields whose text may differ; only whether there is one is compared.
const FREE_TEXT: [&str; 3] = ["error_message", "batch_index_error_message", "documentation"];
/// Fields that count something of the broker's own.
const FREE_NUMBER: [&str; 4] = ["finalized_features_epoch", "total_bytes", "usable_bytes", "partition_size"];
/// Configs whose values name this machine's addresses and directories.
const LOCAL: [&str; 6] = [
    "listeners",
    "advertised.listeners",
    "log.dir",
    "log.dirs",
    "controller.quorum.bootstrap.servers",
    "http.listener",
];
/// A time this close to now, in ms, is now.
const NOW_WITHIN: i64 = 600_000;

/// Every field of a message, with what differs from broker to broker by its nature replaced by its name.
pub(crate) fn leaves(message: &impl Debug, side: &Side) -> Leaves {
    let mut walk = Walk { side, leaves: Leaves::new() };
    walk.visit("", "", parse(&format!("{message:?}")));
    walk.leaves
}

struct Walk<'a> {
    side: &'a Side,
    leaves: Leaves,
}

impl Walk<'_> {
    fn put(&mut self, path: &str, value: String) {
        self.leaves.insert(path.trim_start_matches('.').to_owned(), value);
    }

    fn visit(&mut self, path: &str, field: &str, tree: Tree) {
        match tree {
            Tree::Word(word) => {
                let symbol = self.side.symbol(field, &word).or_else(|| local(path, field, &word));
                let word = symbol.unwrap_or_else(|| plain(field, word));
                self.put(path, word);
            }
            Tree::List(items) if field == "records" => {
                let bytes = items.into_iter().filter_map(|item| match item {
                    Tree::Bytes(bytes) => Some(bytes),
                    _ => None,
                });
                self.records(path, bytes.flatten().collect());
            }
            Tree::Bytes(bytes) if field == "records" => self.records(path, bytes),
            Tree::Bytes(bytes) => self.put(path, format!("{:?}", Bytes::from(bytes))),
            Tree::List(items) => self.list(path, field, items),
            Tree::Struct(fields) => {
                for (name, value) in fields {
                    self.visit(&format!("{path}.{name}"), &name, value);
                }
            }
        }
    }

    fn list(&mut self, path: &str, field: &str, mut items: Vec<Tree>) {
        if items.is_empty() {
            return self.put(path, "[]".into());
        }
        if items.iter().all(|item| matches!(item, Tree::Word(_))) {
            items.sort_by_key(|item| format!("{item:?}"));
        }
        for (at, item) in items.into_iter().enumerate() {
            let mut name = format!("{path}[{}]", self.key(&item).unwrap_or_else(|| at.to_string()));
            // The same item twice in one answer is told apart by its place.
            let taken = format!("{}.", name.trim_start_matches('.'));
            if self.leaves.range(taken.clone()..).next().is_some_and(|(path, _)| path.starts_with(&taken)) {
                name.push_str(&format!("#{at}"));
            }
            self.visit(&name, field, item);
        }
    }

    fn key(&self, item: &Tree) -> Option<String> {
        let Tree::Struct(fields) = item else { return None };
        let named = |key: &&str| fields.iter().find(|(name, _)| name == *key);
        let words: Vec<(&String, &String)> = KEYS
            .iter()
            .filter_map(named)
            .filter_map(|(name, value)| match value {
                Tree::Word(word) => Some((name, word)),
                _ => None,
            })
            .collect();
        let empty = ["AAAAAAAAAAAAAAAAAAAAAA", "\"\"", "None"];
        let telling = words.iter().find(|(_, word)| !empty.contains(&word.as_str()));
        let (name, word) = telling.or(words.first())?;
        Some(format!("{name}={}", self.side.symbol(name, word).unwrap_or_else(|| (*word).clone())))
    }

    /// The batches of a record set, header by header and record by record.
    fn records(&mut self, path: &str, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return self.put(path, "[]".into());
        }
        for (at, found) in records::fetched_batches(Bytes::from(bytes)).enumerate() {
            let path = format!("{path}[{at}]");
            let Ok((header, batch)) = found else {
                self.put(&path, "damaged".into());
                continue;
            };
            let Tree::Struct(mut fields) = parse(&format!("{header:?}")) else { continue };
            fields.retain(|(name, _)| name != "crc");
            self.visit(&path, "batch", Tree::Struct(fields));
            self.put(&format!("{path}.crc_fits"), records::check_crc(&batch).is_ok().to_string());
            let content = records::records(&batch, 1 << 20).map(|all| all.collect::<Vec<_>>());
            self.visit(&format!("{path}.content"), "content", parse(&format!("{content:?}")));
        }
    }
}

fn local(path: &str, field: &str, word: &str) -> Option<String> {
    let named = |config: &&str| path.contains(&format!("configs[name=\"{config}\"]"));
    let set = field == "value" && word != "None" && word != "\"\"";
    (set && LOCAL.iter().any(named)).then(|| "<of this machine>".to_owned())
}

fn plain(field: &str, word: String) -> String {
    if FREE_TEXT.contains(&field) && word != "None" && word != "\"\"" {
        return "<text>".into();
    }
    if FREE_NUMBER.contains(&field) && word.parse().is_ok_and(|number: i64| number >= 0) {
        return "<number>".into();
    }
    if field == "log_dir" && word != "\"\"" {
        return "<directory>".into();
    }
    let near_now = |time: i64| (time - now()).abs() < NOW_WITHIN;
    if word.len() >= 13 && word.parse().is_ok_and(near_now) {
        return "<now>".into();
    }
    word
}

/// The wall clock, ms.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
