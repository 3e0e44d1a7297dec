//! ConsumerGroupHeartbeat: joining, leaving, confirming.
use super::assignor::Assignor;
use super::reconcile::{Report, Reported, is_subset};
use super::records::{CurrentValue, SubscriptionValue, encode_target};
use super::{
    ConsumerGroup, JOIN_EPOCH, LEAVE_EPOCH, Member, MemberState, STATIC_LEAVE_EPOCH, TopicFilter, Work,
    listed, regex,
};
use crate::events::{CauseKind, GroupEvent};
use crate::records::ConsumerKey;
use model::{ErrorCode, TopicId};

/// For how long after an assignment members come more often.
const HURRIES_FOR_MS: i64 = 3_000;

/// Texts of a record have 16-bit lengths.
pub(crate) const MAX_ID: usize = 32_000;

/// ConsumerGroupHeartbeat. `None` says that a field is as it was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConsumerHeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The member's id, which it makes itself from version 1 on.
    pub member_id: String,
    /// Its epoch; 0 joins, -1 leaves, -2 leaves for a while (static members).
    pub member_epoch: i32,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.rack`.
    pub rack_id: Option<String>,
    /// Milliseconds that it needs to give partitions up; -1 for no change.
    pub rebalance_timeout_ms: i32,
    /// Topics that it subscribes to by name.
    pub topics: Option<Vec<String>>,
    /// Topics that it subscribes to by a regular expression (version 1).
    pub regex: Option<String>,
    /// The assignor that it asks for.
    pub assignor: Option<String>,
    /// What it has.
    pub owned: Option<Vec<(TopicId, Vec<i32>)>>,
    /// The request header's client id.
    pub client_id: String,
    /// The peer's address as Kafka prints it, `/127.0.0.1`.
    pub client_host: String,
    /// By which connection to this node it came; no other has the same number.
    pub connection: u64,
    /// Version 1 and above: a member comes with an id.
    pub must_have_id: bool,
    /// Which topics the client may see.
    pub visible: TopicFilter,
}

/// The answer to ConsumerGroupHeartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerHeartbeatReply {
    /// The outcome.
    pub error: ErrorCode,
    /// Text for the error.
    pub error_message: Option<String>,
    /// The member's id.
    pub member_id: Option<String>,
    /// The epoch that its next heartbeat is to name.
    pub member_epoch: i32,
    /// When that is expected.
    pub heartbeat_interval_ms: i32,
    /// What it is to have; `None` for no change.
    pub assignment: Option<Vec<(TopicId, Vec<i32>)>>,
}

impl ConsumerHeartbeatReply {
    /// A refusal.
    pub fn refused(error: ErrorCode, message: Option<String>) -> ConsumerHeartbeatReply {
        ConsumerHeartbeatReply {
            error,
            error_message: message,
            member_id: None,
            member_epoch: 0,
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }
}

pub(crate) type Refused = (ErrorCode, String);

fn invalid(text: &str) -> Refused {
    (ErrorCode::InvalidRequest, text.to_owned())
}

fn fenced(text: &str) -> Refused {
    (ErrorCode::FencedMemberEpoch, format!("{text} The member must abandon all its partitions and rejoin."))
}

impl ConsumerHeartbeatRequest {
    pub(crate) fn joins(&self) -> bool {
        self.member_epoch == JOIN_EPOCH
    }

    /// What can be refused without looking at the group.
    pub(crate) fn check(&self, config: &super::ConsumerConfig) -> Result<(), Refused> {
        let blank = |text: &Option<String>| text.as_ref().is_some_and(|t| t.trim().is_empty());
        if self.group_id.trim().is_empty() {
            return Err(invalid("GroupId can't be empty."));
        }
        if blank(&self.instance_id) {
            return Err(invalid("InstanceId can't be empty."));
        }
        if blank(&self.rack_id) {
            return Err(invalid("RackId can't be empty."));
        }
        if self.member_id.trim().is_empty() && (self.must_have_id || !self.joins()) {
            return Err(invalid("MemberId can't be empty."));
        }
        match self.member_epoch {
            JOIN_EPOCH if self.rebalance_timeout_ms == -1 => {
                return Err(invalid("RebalanceTimeoutMs must be provided in first request."));
            }
            JOIN_EPOCH if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                return Err(invalid("TopicPartitions must be empty when (re-)joining."));
            }
            JOIN_EPOCH if self.topics.is_none() && self.regex.is_none() => {
                return Err(invalid(
                    "SubscribedTopicNames or SubscribedTopicRegex must be set when joining.",
                ));
            }
            STATIC_LEAVE_EPOCH if self.instance_id.is_none() => {
                return Err(invalid("InstanceId can't be null."));
            }
            epoch if epoch < STATIC_LEAVE_EPOCH => return Err(invalid("MemberEpoch is invalid.")),
            _ => {}
        }
        let texts = [Some(&self.group_id), Some(&self.member_id), self.instance_id.as_ref()];
        let more = [self.rack_id.as_ref(), Some(&self.client_id), Some(&self.client_host)];
        let names = self.topics.iter().flatten().map(Some);
        if texts.into_iter().chain(more).chain(names).flatten().any(|text| text.len() > MAX_ID)
            || self.topics.as_ref().is_some_and(|t| t.len() > config.max_subscribed_topics)
            || self.rebalance_timeout_ms < -1
        {
            return Err(invalid("A field is too long or below its smallest value."));
        }
        self.check_choices(config)
    }

    fn check_choices(&self, config: &super::ConsumerConfig) -> Result<(), Refused> {
        if let Some(name) = &self.assignor
            && !Assignor::parse(name).is_some_and(|a| a.name() == name && config.assignors.contains(&a))
        {
            let known: Vec<&str> = config.assignors.iter().map(|a| a.name()).collect();
            let text =
                format!("ServerAssignor {name} is not supported. Supported assignors: {}.", known.join(", "));
            return Err((ErrorCode::UnsupportedAssignor, text));
        }
        match self.regex.as_deref() {
            Some(regex) if !regex.is_empty() => regex::check(regex, config),
            _ => Ok(()),
        }
    }

    /// A member that names everything wants to hear everything: it joins, or it has missed an answer.
    fn is_full(&self) -> bool {
        self.joins() || (self.rebalance_timeout_ms != -1 && self.topics.is_some() && self.owned.is_some())
    }

    /// The subscription with what the request changes.
    fn updated(&self, old: &SubscriptionValue) -> SubscriptionValue {
        let or = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
        let mut topics = self.topics.clone().unwrap_or_else(|| old.topics.clone());
        topics.sort_unstable();
        topics.dedup();
        let timeout = self.rebalance_timeout_ms;
        SubscriptionValue {
            instance_id: or(&self.instance_id, &old.instance_id),
            rack_id: or(&self.rack_id, &old.rack_id),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topics,
            // An empty one ends the subscription by expression.
            regex: or(&self.regex, &old.regex).filter(|regex| !regex.is_empty()),
            rebalance_timeout_ms: if timeout == -1 { old.rebalance_timeout_ms } else { timeout },
            assignor: or(&self.assignor, &old.assignor),
            classic: None,
        }
    }
}

/// Which member a heartbeat is of.
enum Seat {
    /// A member of the group, under its id.
    Taken,
    /// Nobody has it.
    New,
    /// A static member that left for a while had it under this id.
    Left(String),
}

impl ConsumerGroup {
    /// One heartbeat. Nothing changes where it is refused.
    pub(crate) fn heartbeat(
        &mut self,
        w: &mut Work<'_>,
        mut request: ConsumerHeartbeatRequest,
    ) -> Result<ConsumerHeartbeatReply, Refused> {
        if matches!(request.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH) {
            return self.leave(w, &request);
        }
        if request.member_id.is_empty() {
            request.member_id = w.ids.generate("consumer");
        }
        let id = request.member_id.clone();
        let seat = self.seat(&request, w.config.max_size)?;
        let report =
            Report { owned: request.owned.as_ref(), epoch: request.member_epoch, is_whole: request.joins() };
        if matches!(seat, Seat::Taken) {
            self.check_epoch(&id, request.member_epoch, request.owned.as_ref())?;
            // Nothing is changed for one whose state cannot be told.
            if let Some(member) = self.members.get(&id) {
                self.reconciled(&id, member, report).map_err(|_| fenced("The member's state is unknown."))?;
            }
        }
        let is_new = matches!(seat, Seat::New);
        match seat {
            Seat::Taken => {}
            Seat::New => drop(self.members.insert(id.clone(), Member::default())),
            Seat::Left(old) => self.replace(w, &old, &id),
        }
        let before = self.members.get(&id).map(|m| m.current.assigned.clone()).unwrap_or_default();
        let changed = self.update(w, &id, &request, is_new);
        self.refresh_epoch(w, changed, &id, Some(&request.visible));
        self.refresh_target(w);
        self.reconcile(w, &id, report).map_err(|error| (error, String::new()))?;
        self.restart_session(w.config, w.now, &id);
        let is_new_way = self.members.get_mut(&id).is_some_and(|m| m.comes_by(request.connection));
        let current = self.members.get(&id).map(|m| m.current.clone()).unwrap_or_default();
        let same = listed(&before) == listed(&current.assigned);
        Ok(ConsumerHeartbeatReply {
            error: ErrorCode::None,
            error_message: None,
            member_id: Some(id),
            member_epoch: current.epoch,
            heartbeat_interval_ms: self.interval(w, &current),
            assignment: (request.is_full() || is_new_way || !same).then(|| listed(&current.assigned)),
        })
    }

    /// When this member is to come again: soon where there may be news for it. Members come and go together, so that others
    /// are likely to follow a change.
    fn interval(&self, w: &Work<'_>, current: &CurrentValue) -> i32 {
        let assigning = self.epoch.epoch > self.target_epoch.epoch;
        let waits = MemberState::of(current.state) == MemberState::Unreleased;
        let age = w.now.wall.saturating_sub(self.target_epoch.at_ms);
        if assigning || waits || (0..HURRIES_FOR_MS).contains(&age) {
            return w.config.hurried_interval(&self.id, self.members.len());
        }
        w.config.heartbeat_interval(&self.id)
    }

    fn seat(&self, request: &ConsumerHeartbeatRequest, max: i32) -> Result<Seat, Refused> {
        let id = &request.member_id;
        let unknown = |what: String| (ErrorCode::UnknownMemberId, what);
        let holder = request.instance_id.as_ref().and_then(|instance| self.static_ids.get(instance));
        let full = self.members.len() >= usize::try_from(max).unwrap_or(0);
        let none =
            if request.instance_id.is_some() { holder.is_none() } else { !self.members.contains_key(id) };
        if none && !request.joins() {
            return Err(unknown(format!("Member {id} is not a member of group {}.", self.id)));
        }
        if none && full && !self.members.contains_key(id) {
            let text = format!("The consumer group has reached its maximum capacity of {max} members.");
            return Err((ErrorCode::GroupMaxSizeReached, text));
        }
        match holder {
            None if self.members.contains_key(id) => Ok(Seat::Taken),
            None => Ok(Seat::New),
            Some(holder) if holder == id => Ok(Seat::Taken),
            Some(_) if !request.joins() => {
                let text = "The instance id belongs to a newer member.".to_owned();
                Err((ErrorCode::FencedInstanceId, text))
            }
            Some(_) if self.members.contains_key(id) => {
                Err(invalid("The member id belongs to another member of the group."))
            }
            Some(holder) => {
                let member = self.members.get(holder);
                let left = member.is_some_and(|m| m.current.epoch == STATIC_LEAVE_EPOCH || m.is_classic());
                let text = "The instance id is in use by another member.".to_owned();
                if left {
                    Ok(Seat::Left(holder.clone()))
                } else {
                    Err((ErrorCode::UnreleasedInstanceId, text))
                }
            }
        }
    }

    /// A member with the previous epoch that has no more than it is to have has only missed an answer.
    fn check_epoch(&self, id: &str, epoch: i32, owned: Option<&Reported>) -> Result<(), Refused> {
        let Some(member) = self.members.get(id) else { return Ok(()) };
        let known = member.current.epoch;
        if epoch > known {
            return Err(fenced(&format!("The member's epoch {epoch} is above the known one {known}.")));
        }
        let missed = epoch == member.current.previous_epoch && is_subset(owned, &member.current);
        if epoch < known && !missed {
            return Err(fenced(&format!("The member's epoch {epoch} is below the known one {known}.")));
        }
        Ok(())
    }

    /// Gives a static member's seat, with all that it has, to a new id.
    pub(crate) fn replace(&mut self, w: &mut Work<'_>, old: &str, new: &str) {
        let Some(mut member) = self.members.remove(old) else { return };
        self.disown(old, &member.current);
        for key in [ConsumerKey::Current, ConsumerKey::Target, ConsumerKey::Member] {
            w.put(key(old.to_owned()), None);
        }
        (member.revoke_by, member.join_by, member.sync_by) = (None, None, None);
        let current = CurrentValue { epoch: 0, previous_epoch: 0, ..member.current.clone() };
        if let Some(instance) = &member.value.instance_id {
            self.static_ids.insert(instance.clone(), new.to_owned());
        }
        w.put(ConsumerKey::Member(new.to_owned()), Some(member.value.encode()));
        member.current = CurrentValue::default();
        self.members.insert(new.to_owned(), member);
        let target = self.target.remove(old).unwrap_or_default();
        w.put(ConsumerKey::Target(new.to_owned()), Some(encode_target(&target)));
        self.target.insert(new.to_owned(), target);
        self.put_current(w, new, current);
        w.events.push(GroupEvent::MemberFenced { group_id: self.id.to_string(), member_id: old.to_owned() });
    }

    /// Takes over what the heartbeat says of the member, and tells whether that needs a new assignment.
    fn update(
        &mut self,
        w: &mut Work<'_>,
        id: &str,
        request: &ConsumerHeartbeatRequest,
        is_new: bool,
    ) -> Option<CauseKind> {
        let member = self.members.get_mut(id)?;
        let value = request.updated(&member.value);
        let subscribes_anew = value.topics != member.value.topics || value.regex != member.value.regex;
        let was_classic = member.is_classic();
        if is_new || value != member.value {
            w.put(ConsumerKey::Member(id.to_owned()), Some(value.encode()));
            (member.join_by, member.sync_by) = (None, None);
            self.put_value(id, value);
        }
        match (is_new, subscribes_anew || was_classic) {
            (true, _) => Some(CauseKind::MemberJoined),
            (false, true) => Some(CauseKind::MemberRejoined),
            (false, false) => None,
        }
    }
}
