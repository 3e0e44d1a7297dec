//! Membership in a classic consumer group: join, sync, heartbeat, leave.
use crate::assignor::{Subscriber, assign_range};
use crate::client::{Client, Retry};
use crate::error::{ClientError, check};
use crate::offsets::{Committer, Place};
use bytes::BytesMut;
use model::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use wire::consumer_protocol_assignment::TopicPartition;
use wire::join_group_request::JoinGroupRequestProtocol;
use wire::leave_group_request::MemberIdentity;
use wire::sync_group_request::SyncGroupRequestAssignment;
use wire::{
    ApiKey, ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, Message, Str, SyncGroupRequest,
};

/// What a member tells its group.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// The group.
    pub group: String,
    /// The topics to read.
    pub topics: Vec<String>,
    /// A static member's id.
    pub instance: Option<String>,
    /// Without a heartbeat for so long the member is out.
    pub session_timeout: Duration,
    /// How long a rebalance waits for the member.
    pub rebalance_timeout: Duration,
}

impl MemberOptions {
    /// A dynamic member with Kafka's default timeouts.
    pub fn new(group: &str, topics: &[&str]) -> MemberOptions {
        MemberOptions {
            group: group.to_owned(),
            topics: topics.iter().map(ToString::to_string).collect(),
            instance: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
        }
    }
}

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
const SUBSCRIPTION_VERSION: i16 = 1;
const ASSIGNMENT_VERSION: i16 = 1;
/// A join may be answered this much later than the rebalance timeout.
const JOIN_SLACK: Duration = Duration::from_secs(15);
/// Rejoins in one call before its caller learns of them.
const JOINS_MAX: usize = 20;

/// What a heartbeat found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// All is well.
    Steady,
    /// The member must join again.
    Rejoin,
}

/// One member of one group.
#[derive(Debug)]
pub struct GroupMember {
    client: Arc<Client>,
    options: MemberOptions,
    id: String,
    generation: i32,
    leading: bool,
    assignment: Vec<Place>,
    joins: u64,
}

impl GroupMember {
    /// A member that has not joined yet.
    pub fn new(client: Arc<Client>, options: MemberOptions) -> GroupMember {
        let (id, assignment) = (String::new(), Vec::new());
        GroupMember { client, options, id, generation: -1, leading: false, assignment, joins: 0 }
    }

    /// What it was created with.
    pub fn options(&self) -> &MemberOptions {
        &self.options
    }

    /// The member id that the coordinator gave.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The generation last joined.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// How often it was told its partitions. It may be in the same generation again: where a coordinator is lost before a
    /// rebalance has ended, the next one knows nothing of that, and who joins is told what it had.
    pub fn joins(&self) -> u64 {
        self.joins
    }

    /// Whether this member assigns the partitions.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// The partitions of this generation.
    pub fn assignment(&self) -> &[Place] {
        &self.assignment
    }

    /// Itself, as commits name it.
    pub fn committer(&self) -> Committer<'_> {
        let instance = self.options.instance.as_deref();
        Committer { member: &self.id, generation: self.generation, instance }
    }

    /// Joins and takes its share; again if the group moves on meanwhile.
    pub async fn join(&mut self) -> Result<&[Place], ClientError> {
        let mut retry = Retry::new(&self.client.options);
        for _ in 0..JOINS_MAX {
            match self.join_once().await {
                Ok(true) => return Ok(&self.assignment),
                Ok(false) => {}
                Err(error) => {
                    self.client.forget_coordinator(&self.options.group);
                    retry.after(error).await?;
                }
            }
        }
        let code = ErrorCode::RebalanceInProgress.code();
        Err(ClientError::broker(format!("join of group {}", self.options.group), code, None))
    }

    /// One JoinGroup and SyncGroup; `false` if the coordinator wants both again.
    async fn join_once(&mut self) -> Result<bool, ClientError> {
        let conn = self.client.coordinator(&self.options.group).await?;
        let version = conn.version(ApiKey::JoinGroup)?;
        let patience = self.options.rebalance_timeout + JOIN_SLACK;
        let joining = conn.begin_at(self.join_request()?, version).await?.within(patience);
        let answer = joining.wait().await?;
        if !self.take_identity(&answer)? {
            return Ok(false);
        }
        let assignments = if self.leading { self.assign(&answer).await? } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: Str::from(&self.options.group),
            generation_id: self.generation,
            member_id: Str::from(&self.id),
            group_instance_id: self.options.instance.as_ref().map(Str::from),
            protocol_type: Some(Str::from_static(PROTOCOL_TYPE)),
            protocol_name: Some(Str::from_static(ASSIGNOR)),
            assignments,
        };
        let version = conn.version(ApiKey::SyncGroup)?;
        let answer = conn.begin_at(request, version).await?.within(patience).wait().await?;
        if self.must_rejoin(answer.error_code) {
            return Ok(false);
        }
        check(|| format!("sync of group {}", self.options.group), answer.error_code, None)?;
        self.assignment = decode_assignment(&answer.assignment)?;
        self.joins += 1;
        Ok(true)
    }

    fn join_request(&self) -> Result<JoinGroupRequest, ClientError> {
        let owned = by_topic(&self.assignment).into_iter().map(|(topic, partitions)| {
            wire::consumer_protocol_subscription::TopicPartition { topic: Str::from(topic), partitions }
        });
        let subscription = ConsumerProtocolSubscription {
            topics: self.options.topics.iter().map(Str::from).collect(),
            owned_partitions: owned.collect(),
            ..Default::default()
        };
        let metadata = subscription.encode_versioned(SUBSCRIPTION_VERSION)?;
        Ok(JoinGroupRequest {
            group_id: Str::from(&self.options.group),
            session_timeout_ms: millis(self.options.session_timeout),
            rebalance_timeout_ms: millis(self.options.rebalance_timeout),
            member_id: Str::from(&self.id),
            group_instance_id: self.options.instance.as_ref().map(Str::from),
            protocol_type: Str::from_static(PROTOCOL_TYPE),
            protocols: vec![JoinGroupRequestProtocol { name: Str::from_static(ASSIGNOR), metadata }],
            reason: None,
        })
    }

    fn take_identity(&mut self, answer: &JoinGroupResponse) -> Result<bool, ClientError> {
        if answer.error_code == ErrorCode::MemberIdRequired.code() {
            self.id = answer.member_id.to_string();
            return Ok(false);
        }
        if self.must_rejoin(answer.error_code) {
            return Ok(false);
        }
        check(|| format!("join of group {}", self.options.group), answer.error_code, None)?;
        self.id = answer.member_id.to_string();
        self.generation = answer.generation_id;
        self.leading = answer.leader == answer.member_id && !answer.skip_assignment;
        Ok(true)
    }

    /// Whether a code means "join again"; forgets an identity that the coordinator does not know.
    fn must_rejoin(&mut self, code: i16) -> bool {
        let Some(code) = ErrorCode::from_code(code) else { return false };
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                if code == ErrorCode::UnknownMemberId {
                    self.id.clear();
                }
                self.generation = -1;
                self.assignment.clear();
                true
            }
            ErrorCode::RebalanceInProgress => true,
            _ => false,
        }
    }

    async fn assign(
        &self,
        answer: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut members = Vec::new();
        for row in &answer.members {
            members.push(Subscriber {
                member: row.member_id.to_string(),
                instance: row.group_instance_id.as_ref().map(ToString::to_string),
                topics: decode_subscription(&row.metadata)?,
            });
        }
        let names: BTreeSet<&str> = members.iter().flat_map(|m| &m.topics).map(String::as_str).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let cluster = self.client.refresh(&names).await?;
        let known = cluster.topics.iter().filter(|t| t.error_code == 0);
        let partitions = known.map(|t| (t.name.clone(), t.partitions.len() as i32)).collect();
        let mut out = Vec::new();
        for (member, share) in assign_range(&members, &partitions) {
            let assignment = encode_assignment(&share)?;
            out.push(SyncGroupRequestAssignment { member_id: Str::from(member), assignment });
        }
        Ok(out)
    }

    /// Tells the coordinator that the member lives.
    pub async fn heartbeat(&mut self) -> Result<Beat, ClientError> {
        let request = HeartbeatRequest {
            group_id: Str::from(&self.options.group),
            generation_id: self.generation,
            member_id: Str::from(&self.id),
            group_instance_id: self.options.instance.as_ref().map(Str::from),
        };
        let group = self.options.group.clone();
        let answer = self.client.ask_coordinator(&group, request, |a| a.error_code).await?;
        if self.must_rejoin(answer.error_code) {
            return Ok(Beat::Rejoin);
        }
        check(|| format!("heartbeat of group {group}"), answer.error_code, None)?;
        Ok(Beat::Steady)
    }

    /// Leaves the group, so that its partitions go to others at once. Static members stay, as in Kafka.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        if self.id.is_empty() || self.options.instance.is_some() {
            return Ok(());
        }
        let member_id = Str::from(&self.id);
        let group = self.options.group.clone();
        let conn = self.client.coordinator(&group).await?;
        let version = conn.version(ApiKey::LeaveGroup)?;
        let mut request = LeaveGroupRequest { group_id: Str::from(&group), ..Default::default() };
        if version < 3 {
            request.member_id = member_id;
        } else {
            request.members = vec![MemberIdentity { member_id, ..Default::default() }];
        }
        let answer = conn.request_at(request, version).await?;
        check(|| format!("leave of group {group}"), answer.error_code, None)?;
        self.id.clear();
        self.generation = -1;
        self.assignment.clear();
        Ok(())
    }
}

fn millis(duration: Duration) -> i32 {
    duration.as_millis().min(i32::MAX as u128) as i32
}

fn by_topic(places: &[Place]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    places.iter().for_each(|(topic, p)| topics.entry(topic).or_default().push(*p));
    topics
}

fn encode_assignment(share: &[Place]) -> Result<bytes::Bytes, ClientError> {
    let rows = by_topic(share).into_iter();
    let rows = rows.map(|(topic, partitions)| TopicPartition { topic: Str::from(topic), partitions });
    let message = ConsumerProtocolAssignment { assigned_partitions: rows.collect(), user_data: None };
    Ok(message.encode_versioned(ASSIGNMENT_VERSION)?)
}

fn undecodable(error: wire::DecodeError) -> ClientError {
    ClientError::Decode { address: "a member of the group".to_owned(), error }
}

/// The partitions in an assignment's bytes; none at all means none.
pub fn decode_assignment(bytes: &[u8]) -> Result<Vec<Place>, ClientError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let (_, message) =
        ConsumerProtocolAssignment::decode_versioned(BytesMut::from(bytes)).map_err(undecodable)?;
    let rows = message.assigned_partitions.iter();
    Ok(rows.flat_map(|row| row.partitions.iter().map(|p| (row.topic.to_string(), *p))).collect())
}

/// The topics in a subscription's bytes.
pub fn decode_subscription(bytes: &[u8]) -> Result<Vec<String>, ClientError> {
    let (_, message) =
        ConsumerProtocolSubscription::decode_versioned(BytesMut::from(bytes)).map_err(undecodable)?;
    Ok(message.topics.iter().map(ToString::to_string).collect())
}
