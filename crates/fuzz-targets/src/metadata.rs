//! Commands and snapshots of the metadata machine, and texts that a client may set.
use bytes::Bytes;
use cluster::config_defs::{broker_defs, group_defs, topic_defs};
use cluster::{Metadata, NewTopic, create_topics, decode_command, encode_command, parse_value};
use model::{NodeId, TopicId};
use std::collections::BTreeMap;

const NODE: NodeId = 1;

/// A sequence of commands behind lengths of two bytes, applied in order; a refused one changes nothing. All
/// of the input is also tried as a snapshot, as a topic name and as a config value.
pub fn metadata(data: &[u8]) {
    let mut machine = Metadata::new(NODE, BTreeMap::new());
    let mut index = 1;
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let (one, tail) = tail.split_at(usize::from(u16::from_be_bytes(*len)).min(tail.len()));
        rest = tail;
        let Ok(command) = decode_command(index, Bytes::copy_from_slice(one)) else { continue };
        let again = decode_command(index, encode_command(&command));
        assert!(again.is_ok_and(|again| again == command), "what we encode, we decode");
        let before = machine.snapshot();
        match machine.apply(index, &command) {
            Ok(_) => index += 1,
            Err(_) => assert!(machine.snapshot() == before, "a refused command changed the state"),
        }
    }
    restores(&machine.snapshot(), true);
    restores(data, false);
    if let Ok(text) = std::str::from_utf8(data) {
        texts(text, &mut machine);
    }
}

fn restores(snapshot: &[u8], ours: bool) {
    let mut machine = Metadata::new(NODE, BTreeMap::new());
    match machine.restore(Bytes::copy_from_slice(snapshot)) {
        Ok(()) => {
            let first = machine.snapshot();
            machine.restore(first.clone()).expect("our own snapshot");
            assert!(machine.snapshot() == first, "the same state gives the same bytes");
        }
        Err(error) => assert!(!ours, "our own snapshot: {error}"),
    }
}

fn texts(text: &str, machine: &mut Metadata) {
    let (name, value) = text.split_once('\n').unwrap_or((text, text));
    let _ = cluster::validate_topic_name(name);
    for def in topic_defs().iter().chain(broker_defs()).chain(group_defs()) {
        if let Ok(parsed) = parse_value(def, value) {
            let shown = parsed.to_text();
            assert!(parse_value(def, &shown).is_ok(), "{}: {shown:?} was shown for {value:?}", def.name);
        }
    }
    let topic = NewTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        configs: topic_defs().iter().take(4).map(|d| (d.name.to_owned(), Some(value.to_owned()))).collect(),
        ..NewTopic::default()
    };
    let outcomes = create_topics(&machine.image(), &[topic], &[NODE], &mut || TopicId([9; 16]));
    let created = outcomes.into_iter().filter_map(|outcome| outcome.result.ok());
    created.for_each(|created| drop(machine.stage(&created.command).expect("what was admitted applies")));
}
