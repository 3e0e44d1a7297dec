//! A member of the new protocol (KIP-848): it takes and gives up what the coordinator says, and confirms it at once, as
//! Kafka's consumers do.
use super::join::{BACKOFF, CONSUMER_GROUP_HEARTBEAT, Member};
use crate::bench::report::name_of;
use anyhow::{Context, Result, bail};
use model::ErrorCode;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use wire::consumer_group_heartbeat_request::TopicPartitions;
use wire::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, Str};

/// The version whose members name themselves.
const VERSION: i16 = 1;
const REBALANCE_MS: i32 = 300_000;

/// What a member has, and what it has told.
#[derive(Debug, Default, PartialEq)]
struct Share {
    epoch: i32,
    owned: BTreeSet<i32>,
    /// Whether the coordinator has heard of `owned`.
    told: bool,
}

impl Share {
    /// Takes an answer; whether there is something to confirm at once.
    fn take(&mut self, epoch: i32, assigned: Option<BTreeSet<i32>>) -> bool {
        self.epoch = epoch;
        if let Some(assigned) = assigned.filter(|assigned| *assigned != self.owned) {
            self.owned = assigned;
            self.told = false;
        }
        !self.told
    }
}

fn request(member: &Member, id: &str, share: &Share) -> ConsumerGroupHeartbeatRequest {
    let plan = &member.plan;
    let joins = share.epoch == 0;
    let owned =
        || TopicPartitions { topic_id: plan.topic_id, partitions: share.owned.iter().copied().collect() };
    let rows = if share.owned.is_empty() { Vec::new() } else { vec![owned()] };
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from(&plan.group),
        member_id: Str::from(id),
        member_epoch: share.epoch,
        // Only what has changed is sent again.
        rebalance_timeout_ms: if joins { REBALANCE_MS } else { -1 },
        subscribed_topic_names: joins.then(|| vec![Str::from(&plan.topic)]),
        topic_partitions: (joins || !share.told).then_some(rows),
        ..Default::default()
    }
}

/// Runs the member for as long as its task.
pub(super) async fn live(mut member: Member) -> Result<()> {
    let id = format!("{}-{}", member.plan.group, member.number);
    let mut share = Share::default();
    loop {
        let request = request(&member, &id, &share);
        member.seen.borrow_mut().requests += 1;
        let asked = member.conn.ask(CONSUMER_GROUP_HEARTBEAT, VERSION, &request).await;
        let answer: ConsumerGroupHeartbeatResponse = asked.context("ConsumerGroupHeartbeat")?;
        if answer.error_code != 0 {
            refused(&member, &mut share, &answer).await?;
            continue;
        }
        share.told = true;
        let assigned = answer.assignment.map(|assignment| {
            assignment.topic_partitions.into_iter().flat_map(|row| row.partitions).collect()
        });
        let confirms = share.take(answer.member_epoch, assigned);
        {
            let board = &mut member.seen.borrow_mut().board;
            if confirms {
                board.unsettle(member.number);
            } else {
                board.settle(member.number, share.epoch, share.owned.len(), Instant::now());
            }
        }
        if !confirms {
            let pause = u64::try_from(answer.heartbeat_interval_ms).unwrap_or_default().max(1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

/// Counts a refusal; a member that is out begins anew with nothing.
async fn refused(member: &Member, share: &mut Share, answer: &ConsumerGroupHeartbeatResponse) -> Result<()> {
    let code = answer.error_code;
    member.seen.borrow_mut().refused.count(code);
    match ErrorCode::from_code(code) {
        Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => {
            member.seen.borrow_mut().board.unsettle(member.number);
            *share = Share::default();
        }
        Some(code) if code.is_retriable() => tokio::time::sleep(BACKOFF).await,
        _ => {
            let words = answer.error_message.as_deref().unwrap_or_default();
            bail!("ConsumerGroupHeartbeat answers {} {words}", name_of(code));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_changes_is_confirmed_at_once_and_only_that() {
        let mut share = Share { told: true, ..Share::default() };
        assert!(share.take(1, Some(BTreeSet::from([1, 2]))), "new partitions");
        share.told = true;
        assert!(!share.take(1, None), "nothing new");
        assert!(!share.take(2, Some(BTreeSet::from([2, 1]))), "the same again");
        assert!(share.take(2, Some(BTreeSet::from([2]))), "one is taken away");
        assert_eq!(share, Share { epoch: 2, owned: BTreeSet::from([2]), told: false });
    }
}
