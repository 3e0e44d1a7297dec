//! ConsumerGroupDescribe, and consumer groups in DescribeGroups and ListGroups.
use super::{ConsumerGroup, ConsumerState, Member, Partitions, listed};
use crate::coordinator::GroupCoordinator;
use crate::events::RebalanceCause;
use crate::replies::ListedGroup;
use model::{ErrorCode, Now, TopicId};
use std::borrow::Cow;

/// Partitions of one topic in a description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedTopic {
    /// The topic's id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// A member of a described consumer group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedConsumer {
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.rack`.
    pub rack_id: Option<String>,
    /// Its epoch.
    pub member_epoch: i32,
    /// Its client id.
    pub client_id: String,
    /// Its address as Kafka prints it.
    pub client_host: String,
    /// Topics that it names.
    pub topics: Vec<String>,
    /// Topics that match this, too.
    pub regex: Option<String>,
    /// What it has. Topics that are gone are left out.
    pub assignment: Vec<DescribedTopic>,
    /// What it is to have.
    pub target: Vec<DescribedTopic>,
    /// It speaks the classic protocol: 0 on the wire, else 1.
    pub is_classic: bool,
}

/// One group of a ConsumerGroupDescribe answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedConsumerGroup {
    /// The group.
    pub group_id: String,
    /// GROUP_ID_NOT_FOUND for a missing or classic group.
    pub error: ErrorCode,
    /// Text for the error.
    pub error_message: Option<String>,
    /// Kafka's name of the state, or empty.
    pub state: &'static str,
    /// The epoch.
    pub epoch: i32,
    /// The epoch of the target.
    pub assignment_epoch: i32,
    /// The assignor of the next assignment.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<DescribedConsumer>,
    /// Why its last epochs began, oldest first. Kafka has no field for it.
    pub causes: Vec<RebalanceCause>,
}

impl GroupCoordinator {
    /// A consumer group as its committed records tell it.
    fn committed(&self, id: &str) -> Option<Cow<'_, ConsumerGroup>> {
        match self.consumers.get(id) {
            Some(group) if group.open.is_none() => return Some(Cow::Borrowed(group)),
            None if self.groups.contains_key(id) => return None,
            _ => {}
        }
        let store = self.core.store.get(id).filter(|store| store.is_consumer())?;
        let now = Now::default();
        Some(Cow::Owned(ConsumerGroup::from_store(id.into(), 0, store, now)))
    }

    /// Whether the log has a consumer group of this name.
    pub(crate) fn is_consumer_group(&self, id: &str) -> bool {
        self.committed(id).is_some()
    }

    /// ConsumerGroupDescribe: the groups in the order asked, as committed.
    pub fn describe_consumers(&self, group_ids: &[String]) -> Vec<DescribedConsumerGroup> {
        let missing = |id: &String, error, text: Option<String>| DescribedConsumerGroup {
            group_id: id.clone(),
            error,
            error_message: text,
            state: "",
            epoch: 0,
            assignment_epoch: 0,
            assignor: "",
            members: Vec::new(),
            causes: Vec::new(),
        };
        let one = |id: &String| match (self.serving(), self.committed(id)) {
            (Err(error), _) => missing(id, error, None),
            (Ok(()), Some(group)) => self.describe_consumer(&group),
            (Ok(()), None) => {
                let classic = self.groups.contains_key(id.as_str());
                let text = if classic { "is not a consumer group." } else { "not found." };
                missing(id, ErrorCode::GroupIdNotFound, Some(format!("Group {id} {text}")))
            }
        };
        group_ids.iter().map(one).collect()
    }

    fn describe_consumer(&self, group: &ConsumerGroup) -> DescribedConsumerGroup {
        let none = Partitions::new();
        let member = |(id, m): (&String, &Member)| DescribedConsumer {
            member_id: id.clone(),
            instance_id: m.value.instance_id.clone(),
            rack_id: m.value.rack_id.clone(),
            member_epoch: m.current.epoch,
            client_id: m.value.client_id.clone(),
            client_host: m.value.client_host.clone(),
            topics: m.value.topics.clone(),
            regex: m.value.regex.clone(),
            assignment: self.named(listed(&m.current.assigned)),
            target: {
                let target = group.target.get(id).unwrap_or(&none);
                self.named(target.iter().map(|(t, ps)| (*t, ps.iter().copied().collect())).collect())
            },
            is_classic: m.is_classic(),
        };
        DescribedConsumerGroup {
            group_id: group.id.to_string(),
            error: ErrorCode::None,
            error_message: None,
            state: group.state().name(),
            epoch: group.epoch.epoch,
            assignment_epoch: group.target_epoch.epoch,
            assignor: group.assignor(self.core.config.consumer.default_assignor()).name(),
            members: group.members.iter().map(member).collect(),
            causes: self.causes_of(&group.id),
        }
    }

    /// Also of what is being stored still.
    fn causes_of(&self, id: &str) -> Vec<RebalanceCause> {
        self.consumers.get(id).map(|group| group.causes.iter().cloned().collect()).unwrap_or_default()
    }

    fn named(&self, topics: Vec<(TopicId, Vec<i32>)>) -> Vec<DescribedTopic> {
        let one = |(id, partitions): (TopicId, Vec<i32>)| {
            let name = self.topics.name(&id)?.to_string();
            Some(DescribedTopic { id, name, partitions })
        };
        topics.into_iter().filter_map(one).collect()
    }

    /// Rows of ListGroups.
    pub(crate) fn list_consumers<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = ListedGroup> + 'a {
        let ids = self.core.store.groups.iter().filter(|(_, s)| s.is_consumer()).map(|(id, _)| id);
        let groups = ids.filter_map(|id| self.committed(id));
        groups.filter(move |g| wanted(g.state().name())).map(|g| ListedGroup {
            group_id: g.id.to_string(),
            protocol_type: crate::group::CONSUMER.to_owned(),
            state: g.state().name(),
            group_type: "consumer",
        })
    }

    /// How many consumer groups are in each state, in the order of [`ConsumerState::ALL`].
    pub fn consumer_state_counts(&self) -> [(ConsumerState, usize); 4] {
        let mut counts = ConsumerState::ALL.map(|state| (state, 0));
        for group in self.consumers.values() {
            let state = group.state();
            counts.iter_mut().filter(|(of, _)| *of == state).for_each(|(_, n)| *n += 1);
        }
        counts
    }
}
