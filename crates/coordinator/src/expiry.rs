//! Offsets and groups that end by themselves: retention, and topics that were deleted.
use crate::context::{After, Cx};
use crate::coordinator::GroupCoordinator;
use crate::events::{Effects, GroupEvent};
use crate::group::{Group, GroupState};
use crate::records::OffsetValue;
use crate::store::{GroupStore, Write};
use model::Now;
use std::sync::Arc;

/// Records of one append: a batch of tombstones stays far below `max.message.bytes`.
const CHUNK: usize = 1_000;

impl GroupCoordinator {
    /// Appends tombstones for expired offsets, and for empty groups that have no offsets left.
    pub(crate) fn expire_offsets(&mut self, now: Now, fx: &mut Effects) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            let Some(group) = self.groups.get(&id) else { continue };
            let store = self.core.store.get(&id);
            let retention = self.core.config.offsets_retention_ms();
            let expired = store.map(|s| group.expired(s, now, retention)).unwrap_or_default();
            let all = store.is_none_or(|s| s.is_settled() && s.offset_count() == expired.len());
            let count = expired.len();
            let mut writes: Vec<Write> = expired
                .into_iter()
                .map(|(topic, partition)| Write::Offset { topic, partition, value: None })
                .collect();
            let ends = all && group.is_idle();
            if ends && store.is_some_and(GroupStore::has_meta) {
                writes.push(Write::Group { value: None });
            }
            let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
            if count > 0 {
                cx.event(GroupEvent::OffsetsExpired { group_id: id.to_string(), count });
            }
            append_in_chunks(&mut cx, &id, writes);
            if ends {
                self.end_group(&id, now, fx);
            }
        }
        self.expire_consumers(now, fx);
    }

    /// The same for consumer groups: an empty one without offsets ends.
    fn expire_consumers(&mut self, now: Now, fx: &mut Effects) {
        let retention = self.core.config.offsets_retention_ms();
        let ids: Vec<Arc<str>> = self.consumers.keys().cloned().collect();
        for id in ids {
            let Some(group) = self.consumers.get(&id) else { continue };
            let Some(store) = self.core.store.get(&id) else { continue };
            let expired = group.expired(store, now, retention);
            let all = store.is_settled() && store.offset_count() == expired.len();
            let count = expired.len();
            let mut writes: Vec<Write> = expired
                .into_iter()
                .map(|(topic, partition)| Write::Offset { topic, partition, value: None })
                .collect();
            let ends = all && group.members.is_empty() && group.open.is_none();
            if ends {
                writes.extend(store.consumer_tombstones());
                self.end_consumer(&id, fx);
            }
            let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
            if count > 0 {
                cx.event(GroupEvent::OffsetsExpired { group_id: id.to_string(), count });
            }
            append_in_chunks(&mut cx, &id, writes);
        }
    }

    /// Takes a group out whose last records are tombstones under way; a failed append brings it back.
    pub(crate) fn end_group(&mut self, id: &Arc<str>, now: Now, fx: &mut Effects) {
        let Some(group) = self.remove_group(id) else { return };
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        cx.event(GroupEvent::GroupDeleted { group_id: id.to_string() });
        cx.answer_after(id, After::Deleted { group: Box::new(group) });
    }

    /// Topics are gone: their committed offsets go with them.
    pub fn topics_deleted(&mut self, now: Now, topics: &[String], fx: &mut Effects) {
        if self.serving().is_err() {
            return;
        }
        let ids: Vec<Arc<str>> = self.core.store.groups.keys().cloned().collect();
        for id in ids {
            let Some(store) = self.core.store.get(&id) else { continue };
            let gone = |topic: &Arc<str>| topics.iter().any(|t| t.as_str() == topic.as_ref());
            let writes = store
                .latest_places()
                .into_iter()
                .filter(|(topic, _)| gone(topic))
                .map(|(topic, partition)| Write::Offset { topic, partition, value: None })
                .collect();
            let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
            append_in_chunks(&mut cx, &id, writes);
        }
    }
}

fn append_in_chunks(cx: &mut Cx<'_>, group: &Arc<str>, writes: Vec<Write>) {
    let mut left = writes.into_iter().peekable();
    while left.peek().is_some() {
        let chunk: Vec<Write> = left.by_ref().take(CHUNK).collect();
        cx.append(vec![(group.clone(), chunk)], Vec::new());
    }
}

impl Group {
    /// Kafka's rule of what expires: a group in use keeps what it subscribes to, an empty one keeps its
    /// offsets for the retention after it became empty, and a client's own lifetime beats both.
    fn expired(&self, store: &GroupStore, now: Now, retention_ms: i64) -> Vec<(Arc<str>, i32)> {
        let since_empty = match (&self.protocol_type, self.state) {
            (None, _) => None,
            (Some(_), GroupState::Empty) => self.state_since,
            (Some(_), GroupState::Stable) if self.uses_consumer_protocol() && self.subscribed.is_some() => {
                None
            }
            (Some(_), _) => return Vec::new(),
        };
        let is_expired = |value: &OffsetValue| match value.expire_timestamp {
            Some(at) => now.wall >= at,
            None => now.wall.saturating_sub(since_empty.unwrap_or(value.commit_timestamp)) >= retention_ms,
        };
        let mut expired = Vec::new();
        for (topic, partition, value) in store.offsets.iter() {
            if !(self.is_subscribed(topic)) && is_expired(&value) && !store.is_pending(topic, partition) {
                expired.push((topic.clone(), partition));
            }
        }
        expired
    }
}
