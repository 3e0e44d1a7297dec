//! Topic names by id, from the metadata group's own log; what cannot be read is left out.
use anyhow::bail;
use bytes::Bytes;
use cluster::{Command, Metadata, decode_command};
use model::{GroupKey, TopicId};
use prost::Message;
use proto::cluster::CreateTopic;
use proto::partition::command::Kind;
use std::collections::BTreeMap;
use storage::GroupState;
use storage::recovery::{EntryBody, RecoverJob, recover};
use storage::{DiskRead, EntryKind, birth, generation_dir, parse_group_dir};

/// How many names an error lists.
const LISTED: usize = 10;

/// The partitions of a data directory whose name contains `only`, with their names.
pub(super) fn partitions(
    disk: &dyn DiskRead,
    states: &[GroupState],
    only: Option<&str>,
) -> anyhow::Result<Vec<(GroupKey, String)>> {
    let names = topic_names(disk, states);
    let mut found: Vec<(GroupKey, String)> = Vec::new();
    for (key, generation) in disk.list("groups")?.iter().filter_map(|name| parse_group_dir(name)) {
        // What is being pulled for a next life, or is left of the last one, is no partition's.
        if generation == generation_of(states, key) {
            found.push((key, partition_name(&names, key)));
        }
    }
    let Some(only) = only else { return Ok(found) };
    let wanted: Vec<_> = found.iter().filter(|(_, name)| name.contains(only)).cloned().collect();
    if wanted.is_empty() {
        let some: Vec<&str> = found.iter().take(LISTED).map(|(_, name)| name.as_str()).collect();
        let more = if found.len() > LISTED { ", ..." } else { "" };
        bail!("--only {only}: no partition's name contains that; there are: {}{more}", some.join(", "));
    }
    Ok(wanted)
}

fn generation_of(states: &[GroupState], key: GroupKey) -> u32 {
    states.iter().find(|state| state.key == key).map_or(0, |state| state.generation)
}

/// The directory of a partition's files.
pub(super) fn dir_of(states: &[GroupState], key: GroupKey) -> String {
    generation_dir(key, generation_of(states, key))
}

/// Names of topics by their ids, deleted ones included where the log still tells of them.
fn topic_names(disk: &dyn DiskRead, states: &[GroupState]) -> BTreeMap<TopicId, String> {
    let key = GroupKey::METADATA;
    let mut names = BTreeMap::from([(TopicId::METADATA, "metadata".to_owned())]);
    let mark = states.iter().find(|state| state.key == key).and_then(|state| state.mark);
    let job = RecoverJob { key, dir: dir_of(states, key), mark, birth: birth(key, Vec::new()) };
    let Ok(found) = recover(&job, disk) else { return names };
    let mut machine = Metadata::new(0, BTreeMap::new());
    if machine.restore(found.checkpoint.machine.clone()).is_ok() {
        names.extend(machine.image().topics().map(|topic| (topic.id, topic.name.to_string())));
    }
    for entry in found.entries.iter().filter(|entry| entry.head.kind == EntryKind::Command) {
        let EntryBody::Whole(payload) = &entry.body else { continue };
        let Some(made) = created(entry.head.index, payload.clone()) else { continue };
        if let Ok(id) = <[u8; 16]>::try_from(&made.topic_id[..]) {
            names.insert(TopicId(id), made.name);
        }
    }
    names
}

/// The topic that an entry of the metadata log makes, if that is what it does.
fn created(index: u64, payload: Bytes) -> Option<CreateTopic> {
    let Kind::Machine(command) = proto::partition::Command::decode(payload).ok()?.kind? else { return None };
    match decode_command(index, command).ok()? {
        Command::CreateTopic(made) => Some(made),
        _ => None,
    }
}

/// `topic-partition`, with the topic's id where its name is not known.
fn partition_name(names: &BTreeMap<TopicId, String>, key: GroupKey) -> String {
    let name = names.get(&key.topic).cloned().unwrap_or_else(|| key.topic.to_string());
    format!("{name}-{}", key.partition)
}
