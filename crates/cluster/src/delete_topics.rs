//! Judging DeleteTopics.
use crate::command::Command;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use model::{ErrorCode, TopicId};
use proto::cluster::DeleteTopic;
use std::collections::BTreeMap;

/// A topic as a client names it: by name or by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRef {
    /// Its name.
    pub name: Option<String>,
    /// Its id; zero where it is named.
    pub id: TopicId,
}

/// The verdict on one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct DeletedTopic {
    /// Its name, where it is known.
    pub name: Option<String>,
    /// Its id, where it is known.
    pub id: TopicId,
    /// What to propose, or why not.
    pub result: ItemResult<Command>,
}

/// Judges each topic of a request.
pub fn delete_topics(image: &Image, topics: &[TopicRef]) -> Vec<DeletedTopic> {
    let (mut by_name, mut by_id): (BTreeMap<&str, usize>, BTreeMap<TopicId, usize>) = Default::default();
    for topic in topics {
        match &topic.name {
            Some(name) if topic.id.is_zero() => *by_name.entry(name).or_default() += 1,
            None if !topic.id.is_zero() => *by_id.entry(topic.id).or_default() += 1,
            _ => {}
        }
    }
    // Named by its id and by its name, too: the name is refused and speaks for both.
    for id in by_name.keys().filter_map(|name| Some(image.topic(name)?.id)) {
        by_id.entry(id).and_modify(|times| *times = if *times == 1 { 0 } else { *times });
    }
    let mut outcomes = Vec::new();
    for topic in topics {
        let outcome = match (&topic.name, topic.id.is_zero()) {
            (None, true) => refuse(None, topic.id, "Neither topic name nor id were specified."),
            (Some(name), false) => {
                refuse(Some(name), topic.id, "You may not specify both topic name and topic id.")
            }
            (Some(name), true) => match by_name.remove(name.as_str()) {
                Some(1) => delete_by_name(image, name, &by_id),
                Some(_) => refuse(Some(name), topic.id, "Duplicate topic name."),
                None => continue,
            },
            (None, false) => match by_id.get_mut(&topic.id).map(std::mem::take) {
                Some(1) => delete_by_id(image, topic.id),
                Some(n) if n > 1 => refuse(None, topic.id, "Duplicate topic id."),
                _ => continue,
            },
        };
        outcomes.push(outcome);
    }
    outcomes
}

fn refuse(name: Option<&String>, id: TopicId, why: &str) -> DeletedTopic {
    DeletedTopic { name: name.cloned(), id, result: Err(ItemError::invalid_request(why)) }
}

fn allowed(image: &Image, id: TopicId) -> ItemResult<Command> {
    if !image.broker_config().delete_topic_enable {
        return Err(ItemError::new(ErrorCode::TopicDeletionDisabled, "Topic deletion is disabled."));
    }
    Ok(Command::DeleteTopic(DeleteTopic { topic_id: bytes::Bytes::copy_from_slice(&id.0) }))
}

fn delete_by_name(image: &Image, name: &str, by_id: &BTreeMap<TopicId, usize>) -> DeletedTopic {
    let owned = Some(name.to_owned());
    match image.topic(name) {
        Some(topic) if by_id.contains_key(&topic.id) => {
            let why = "The provided topic name maps to an ID that was already supplied.";
            DeletedTopic { name: owned, id: topic.id, result: Err(ItemError::invalid_request(why)) }
        }
        Some(topic) => DeletedTopic { name: owned, id: topic.id, result: allowed(image, topic.id) },
        None => {
            let message = "This server does not host this topic-partition.";
            let error = ItemError::new(ErrorCode::UnknownTopicOrPartition, message);
            DeletedTopic { name: owned, id: TopicId::ZERO, result: Err(error) }
        }
    }
}

fn delete_by_id(image: &Image, id: TopicId) -> DeletedTopic {
    match image.topic_by_id(id) {
        Some(topic) => DeletedTopic { name: Some(topic.name.to_string()), id, result: allowed(image, id) },
        None => {
            let error = ItemError::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.");
            DeletedTopic { name: None, id, result: Err(error) }
        }
    }
}
