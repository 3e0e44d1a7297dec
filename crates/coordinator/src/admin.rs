//! DescribeGroups, ListGroups, DeleteGroups.
use crate::consumer::ConsumerGroup;
use crate::context::{After, Cx};
use crate::coordinator::GroupCoordinator;
use crate::events::{Effect, Effects};
use crate::group::{Group, GroupState};
use crate::replies::{DescribedGroup, DescribedMember, ListedGroup, Reply};
use crate::requests::{ListRequest, Token};
use crate::store::Write;
use bytes::Bytes;
use model::{ErrorCode, Now};
use std::sync::Arc;

impl GroupCoordinator {
    /// DescribeGroups: the groups in the order asked.
    pub fn describe(&self, group_ids: &[String]) -> Vec<DescribedGroup> {
        let one = |id: &String| match (self.serving(), self.visible(id)) {
            (Err(error), _) => missing(id, error, None, ""),
            (Ok(()), Some(group)) => group.describe(),
            (Ok(()), None) => {
                let consumer = self.is_consumer_group(id);
                let why = if consumer { "is not a classic group." } else { "not found." };
                let text = format!("Group {id} {why}");
                missing(id, ErrorCode::GroupIdNotFound, Some(text), "Dead")
            }
        };
        group_ids.iter().map(one).collect()
    }

    /// The group, also while its deletion is not yet committed.
    fn visible(&self, id: &str) -> Option<&Group> {
        self.groups.get(id).or_else(|| self.deleted_groups().find(|group| group.id.as_ref() == id))
    }

    fn deleted_groups(&self) -> impl Iterator<Item = &Group> {
        let afters = self.core.batches.values().flat_map(|batch| &batch.after);
        afters.filter_map(|after| match after {
            After::Deleted { group } => Some(group.as_ref()),
            // On its way to be a consumer group.
            After::Stored(stored) => stored.replaced.as_deref(),
            _ => None,
        })
    }

    /// ListGroups, or the reason why this partition's groups cannot be listed now.
    pub fn list(&self, request: &ListRequest) -> Result<Vec<ListedGroup>, ErrorCode> {
        self.serving()?;
        let wanted = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(value))
        };
        let mut rows = Vec::new();
        if wanted(&request.types, "consumer") {
            rows.extend(self.list_consumers(|state| wanted(&request.states, state)));
        }
        if !wanted(&request.types, "classic") {
            return Ok(rows);
        }
        let dying = self.deleted_groups().filter(|g| !self.groups.contains_key(&g.id));
        let all = self.groups.values().chain(dying);
        let row = |group: &Group| ListedGroup {
            group_id: group.id.to_string(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
            group_type: "classic",
        };
        rows.extend(all.filter(|g| wanted(&request.states, g.state.name())).map(row));
        Ok(rows)
    }

    /// DeleteGroups. Answered when all tombstones are committed.
    pub fn delete_groups(&mut self, now: Now, token: Token, group_ids: Vec<String>, fx: &mut Effects) {
        if let Err(error) = self.serving() {
            let reply = Reply::DeleteGroups(group_ids.into_iter().map(|id| (id, error)).collect());
            return fx.push(Effect::Reply { token, reply });
        }
        let (mut writes, mut after, mut outcome) = (Vec::new(), Vec::new(), Vec::new());
        for id in group_ids {
            let consumer = self.consumers.get(id.as_str()).map(|g| g.members.is_empty());
            let error = match self.groups.get(id.as_str()).map(|g| g.state) {
                None if consumer == Some(true) => ErrorCode::None,
                None if consumer == Some(false) => ErrorCode::NonEmptyGroup,
                None => ErrorCode::GroupIdNotFound,
                Some(GroupState::Empty) => ErrorCode::None,
                Some(_) => ErrorCode::NonEmptyGroup,
            };
            if error.is_none()
                && let Some(group) = self.remove_group(&id)
            {
                fx.push(Effect::Event(crate::events::GroupEvent::GroupDeleted { group_id: id.clone() }));
                let tombstones = self.all_tombstones(&group.id);
                if !tombstones.is_empty() {
                    writes.push((group.id.clone(), tombstones));
                    after.push(After::Deleted { group: Box::new(group) });
                }
            }
            if error.is_none()
                && let Some(group) = self.end_consumer(&id, fx)
            {
                writes.push((group.id.clone(), self.all_tombstones(&group.id)));
            }
            outcome.push((id, error));
        }
        writes.retain(|(_, tombstones)| !tombstones.is_empty());
        let touched = outcome.iter().find(|(_, e)| e.is_none()).or(outcome.first());
        let first = touched.map(|(id, _)| id.clone()).unwrap_or_default();
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        if !writes.is_empty() {
            cx.append(writes, after);
        }
        cx.answer_after(&first, After::Answer { token, reply: Reply::DeleteGroups(outcome) });
    }

    /// Takes a consumer group out for which tombstones are to be appended. What waits in it is told to ask again.
    pub(crate) fn end_consumer(&mut self, id: &str, fx: &mut Effects) -> Option<ConsumerGroup> {
        let mut group = self.remove_consumer(id)?;
        group.refuse_queue(ErrorCode::CoordinatorLoadInProgress, fx);
        fx.push(Effect::Event(crate::events::GroupEvent::GroupDeleted { group_id: id.to_owned() }));
        Some(group)
    }

    fn all_tombstones(&self, id: &Arc<str>) -> Vec<Write> {
        let Some(store) = self.core.store.get(id) else { return Vec::new() };
        let places = store.latest_places().into_iter();
        let mut writes: Vec<Write> =
            places.map(|(topic, partition)| Write::Offset { topic, partition, value: None }).collect();
        writes.extend(store.consumer_tombstones());
        if store.has_meta() {
            writes.push(Write::Group { value: None });
        }
        writes
    }
}

fn missing(id: &str, error: ErrorCode, text: Option<String>, state: &'static str) -> DescribedGroup {
    DescribedGroup {
        group_id: id.to_owned(),
        error,
        error_message: text,
        state,
        protocol_type: String::new(),
        protocol_data: String::new(),
        members: Vec::new(),
        generation_id: -1,
        causes: Vec::new(),
    }
}

impl Group {
    fn describe(&self) -> DescribedGroup {
        let protocol = self.protocol.as_deref().filter(|_| self.state == GroupState::Stable);
        let members = self.members.iter().map(|(id, m)| DescribedMember {
            member_id: id.clone(),
            instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            metadata: protocol.map_or(Bytes::new(), |p| m.metadata(p)),
            assignment: m.assignment.clone(),
        });
        DescribedGroup {
            group_id: self.id.to_string(),
            error: ErrorCode::None,
            error_message: None,
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: protocol.unwrap_or("").to_owned(),
            members: members.collect(),
            generation_id: self.generation,
            causes: self.causes.iter().cloned().collect(),
        }
    }
}
