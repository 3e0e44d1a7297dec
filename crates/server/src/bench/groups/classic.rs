//! A member of the classic protocol, as Kafka's consumers are: it joins, syncs, and beats until it is told to join again.
//! While it waits for JoinGroup it does not beat.
use super::join::{BACKOFF, Member};
use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use client_lite::{Subscriber, assign_range, decode_assignment, decode_subscription};
use model::ErrorCode;
use std::collections::BTreeMap;
use std::time::Instant;
use wire::consumer_protocol_assignment::TopicPartition;
use wire::join_group_request::JoinGroupRequestProtocol;
use wire::sync_group_request::SyncGroupRequestAssignment;
use wire::{
    ApiKey, ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, Message, Str, SyncGroupRequest, SyncGroupResponse,
};

const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const METADATA_VERSION: i16 = 1;
/// Kafka's defaults.
const SESSION_MS: i32 = 45_000;
const REBALANCE_MS: i32 = 300_000;
const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";

/// What a member does after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    /// The same again, after a pause.
    Later,
    JoinAgain,
    /// The coordinator does not know the member.
    JoinAnew,
}

/// `None` for a refusal that ends the run.
fn next(code: i16) -> Option<Next> {
    let code = ErrorCode::from_code(code)?;
    match code {
        ErrorCode::None => Some(Next::GoOn),
        ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration | ErrorCode::MemberIdRequired => {
            Some(Next::JoinAgain)
        }
        ErrorCode::UnknownMemberId => Some(Next::JoinAnew),
        code => code.is_retriable().then_some(Next::Later),
    }
}

struct Classic {
    member: Member,
    id: String,
    generation: i32,
}

/// Runs the member for as long as its task.
pub(super) async fn live(member: Member) -> Result<()> {
    let mut classic = Classic { member, id: String::new(), generation: -1 };
    loop {
        let joined = classic.join().await?;
        if !classic.sync(joined).await? {
            continue;
        }
        while classic.beat().await? {}
        let member = &classic.member;
        member.seen.borrow_mut().board.unsettle(member.number);
    }
}

impl Classic {
    /// Counts a refusal, and does what it asks for.
    async fn after(&mut self, what: &str, code: i16) -> Result<Next> {
        if code != 0 {
            self.member.seen.borrow_mut().refused.count(code);
        }
        let Some(next) = next(code) else { bail!("{what} answers {}", crate::bench::report::name_of(code)) };
        match next {
            Next::JoinAnew => self.id.clear(),
            Next::Later => tokio::time::sleep(BACKOFF).await,
            Next::GoOn | Next::JoinAgain => {}
        }
        Ok(next)
    }

    async fn ask<Q: Message, A: Message>(&mut self, api: ApiKey, version: i16, request: &Q) -> Result<A> {
        self.member.seen.borrow_mut().requests += 1;
        self.member.conn.ask(api.code(), version, request).await.context(api.name())
    }

    async fn join(&mut self) -> Result<JoinGroupResponse> {
        let plan = self.member.plan.clone();
        let subscription =
            ConsumerProtocolSubscription { topics: vec![Str::from(&plan.topic)], ..Default::default() };
        let metadata = subscription.encode_versioned(METADATA_VERSION)?;
        loop {
            let request = JoinGroupRequest {
                group_id: Str::from(&plan.group),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: REBALANCE_MS,
                member_id: Str::from(&self.id),
                protocol_type: Str::from_static(PROTOCOL_TYPE),
                protocols: vec![JoinGroupRequestProtocol {
                    name: Str::from_static(ASSIGNOR),
                    metadata: metadata.clone(),
                }],
                ..Default::default()
            };
            let answer: JoinGroupResponse = self.ask(ApiKey::JoinGroup, JOIN_VERSION, &request).await?;
            if answer.error_code == ErrorCode::MemberIdRequired.code() {
                self.id = answer.member_id.to_string();
                continue;
            }
            if self.after("JoinGroup", answer.error_code).await? == Next::GoOn {
                self.id = answer.member_id.to_string();
                self.generation = answer.generation_id;
                return Ok(answer);
            }
        }
    }

    /// `false` where the group has moved on.
    async fn sync(&mut self, joined: JoinGroupResponse) -> Result<bool> {
        let plan = self.member.plan.clone();
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let assignments = if leads { assign(&joined, &plan.topic, plan.partitions)? } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: Str::from(&plan.group),
            generation_id: self.generation,
            member_id: Str::from(&self.id),
            group_instance_id: None,
            protocol_type: Some(Str::from_static(PROTOCOL_TYPE)),
            protocol_name: Some(Str::from_static(ASSIGNOR)),
            assignments,
        };
        loop {
            let answer: SyncGroupResponse = self.ask(ApiKey::SyncGroup, SYNC_VERSION, &request).await?;
            match self.after("SyncGroup", answer.error_code).await? {
                Next::Later => {}
                Next::JoinAgain | Next::JoinAnew => return Ok(false),
                Next::GoOn => {
                    let owned = decode_assignment(&answer.assignment)?.len();
                    let (number, generation) = (self.member.number, self.generation);
                    let board = &mut self.member.seen.borrow_mut().board;
                    board.settle(number, generation, owned, Instant::now());
                    return Ok(true);
                }
            }
        }
    }

    /// Waits, and asks whether all is well; `false` where the member is to join again.
    async fn beat(&mut self) -> Result<bool> {
        tokio::time::sleep(self.member.plan.heartbeat).await;
        let request = HeartbeatRequest {
            group_id: Str::from(&self.member.plan.group),
            generation_id: self.generation,
            member_id: Str::from(&self.id),
            group_instance_id: None,
        };
        let answer: HeartbeatResponse = self.ask(ApiKey::Heartbeat, HEARTBEAT_VERSION, &request).await?;
        let next = self.after("Heartbeat", answer.error_code).await?;
        Ok(matches!(next, Next::GoOn | Next::Later))
    }
}

/// The leader's part: everybody's share, by the range assignor.
fn assign(
    joined: &JoinGroupResponse,
    topic: &str,
    partitions: i32,
) -> Result<Vec<SyncGroupRequestAssignment>> {
    let mut members = Vec::with_capacity(joined.members.len());
    for row in &joined.members {
        let topics = decode_subscription(&row.metadata)?;
        members.push(Subscriber { member: row.member_id.to_string(), instance: None, topics });
    }
    let shares = assign_range(&members, &BTreeMap::from([(topic.to_owned(), partitions)]));
    let each = shares.into_iter().map(|(member, share)| {
        let partitions = share.into_iter().map(|(_, partition)| partition).collect();
        Ok(SyncGroupRequestAssignment {
            member_id: Str::from(member),
            assignment: encode_assignment(topic, partitions)?,
        })
    });
    each.collect()
}

fn encode_assignment(topic: &str, partitions: Vec<i32>) -> Result<Bytes> {
    let row = TopicPartition { topic: Str::from(topic), partitions };
    let message = ConsumerProtocolAssignment { assigned_partitions: vec![row], user_data: None };
    Ok(BytesMut::from(&message.encode_versioned(METADATA_VERSION)?[..]).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::join_group_response::JoinGroupResponseMember;

    #[test]
    fn a_leader_gives_every_partition_to_somebody() {
        let subscription =
            ConsumerProtocolSubscription { topics: vec![Str::from_static("t")], ..Default::default() };
        let metadata = subscription.encode_versioned(METADATA_VERSION).unwrap();
        let members = ["b", "a", "c"].map(|id| JoinGroupResponseMember {
            member_id: Str::from(id),
            metadata: metadata.clone(),
            ..Default::default()
        });
        let joined = JoinGroupResponse { members: members.to_vec(), ..Default::default() };
        let shares = assign(&joined, "t", 7).unwrap();
        let mut all: Vec<i32> = Vec::new();
        for share in &shares {
            all.extend(decode_assignment(&share.assignment).unwrap().iter().map(|(_, partition)| partition));
        }
        all.sort_unstable();
        assert_eq!((shares.len(), all), (3, (0..7).collect()));
    }

    #[test]
    fn answers_say_what_a_member_does_next() {
        let of = |code: ErrorCode| next(code.code());
        assert_eq!(of(ErrorCode::RebalanceInProgress), Some(Next::JoinAgain));
        assert_eq!(of(ErrorCode::UnknownMemberId), Some(Next::JoinAnew));
        assert_eq!(of(ErrorCode::CoordinatorLoadInProgress), Some(Next::Later));
        assert_eq!(of(ErrorCode::GroupMaxSizeReached), None);
        assert_eq!(next(9999), None);
    }
}
