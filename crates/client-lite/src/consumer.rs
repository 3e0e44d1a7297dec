//! A consumer that reads its share of a group, or partitions of its own choice, in order.
use crate::client::{Client, Retry};
use crate::error::ClientError;
use crate::fetch::{FetchFrom, FetchOptions};
use crate::group_member::{Beat, GroupMember};
use crate::offsets::{EARLIEST, LATEST, Place};
use model::ErrorCode;
use records::Record;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where to begin in a partition without a committed offset, or with one that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reset {
    /// At the first record of the log.
    Earliest,
    /// At the next record to come.
    #[default]
    Latest,
    /// Nowhere: an error.
    Refuse,
}

/// A record and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record.
    pub record: Record,
}

/// Heartbeats go out at this part of the session timeout.
const BEATS_PER_SESSION: u32 = 6;

/// Reads partitions in order and knows how far it has come.
#[derive(Debug)]
pub struct Consumer {
    client: Arc<Client>,
    member: Option<GroupMember>,
    positions: BTreeMap<Place, i64>,
    reset: Reset,
    fetch: FetchOptions,
    joined: bool,
    beat_at: Instant,
    /// Where the next fetch begins in the list of partitions, so that none is starved.
    turn: usize,
    /// Partitions that cannot be read, and since when.
    troubled: BTreeMap<Place, Instant>,
    /// What ends reading, once the records that came with it are handed out.
    refused: Option<ClientError>,
}

impl Consumer {
    /// Reads the given partitions from the given offsets, in no group.
    pub fn assigned(client: Arc<Client>, positions: BTreeMap<Place, i64>, fetch: FetchOptions) -> Consumer {
        Consumer { positions, joined: true, ..Consumer::new(client, None, Reset::Refuse, fetch) }
    }

    /// Reads as `member` of its group; joins with the first poll.
    pub fn in_group(client: Arc<Client>, member: GroupMember, reset: Reset, fetch: FetchOptions) -> Consumer {
        Consumer::new(client, Some(member), reset, fetch)
    }

    fn new(client: Arc<Client>, member: Option<GroupMember>, reset: Reset, fetch: FetchOptions) -> Consumer {
        Consumer {
            client,
            member,
            positions: BTreeMap::new(),
            reset,
            fetch,
            joined: false,
            beat_at: Instant::now(),
            turn: 0,
            troubled: BTreeMap::new(),
            refused: None,
        }
    }

    /// The next offset to be read, for each partition.
    pub fn positions(&self) -> &BTreeMap<Place, i64> {
        &self.positions
    }

    /// Reads on from `offset` in a partition that is its own; elsewhere this does nothing.
    pub fn seek(&mut self, place: &Place, offset: i64) {
        if let Some(position) = self.positions.get_mut(place) {
            *position = offset;
        }
    }

    /// The membership, if it reads in a group.
    pub fn member(&self) -> Option<&GroupMember> {
        self.member.as_ref()
    }

    /// Records that are there, or come within the fetch's wait; empty if none came. Joins, beats and
    /// rejoins on the way; positions that were not committed before a rebalance are read again. Errors: what
    /// was refused for good, or for as long as the client tries again; what was read before it comes first.
    pub async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        let mut retry = Retry::new(&self.client.options);
        while self.refused.is_none() {
            match self.poll_once().await {
                Ok(seen) if seen.is_empty() && self.refused.is_some() => {}
                Ok(seen) => return Ok(seen),
                Err(error) => retry.after(error).await?,
            }
        }
        self.refused.take().map_or(Ok(Vec::new()), Err)
    }

    async fn poll_once(&mut self) -> Result<Vec<Consumed>, ClientError> {
        self.keep_membership().await?;
        if self.positions.is_empty() {
            tokio::time::sleep(self.fetch.max_wait).await;
            return Ok(Vec::new());
        }
        let mut from: Vec<FetchFrom> = self
            .positions
            .iter()
            .map(|((topic, partition), offset)| FetchFrom {
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect();
        let turn = self.turn % from.len();
        from.rotate_left(turn);
        self.turn = turn + 1;
        let (mut seen, mut trouble) = (Vec::new(), None);
        for row in self.client.fetch(&from, &self.fetch).await? {
            let place = (row.topic.clone(), row.partition);
            if row.error_code == ErrorCode::OffsetOutOfRange.code() && self.reset != Reset::Refuse {
                let offset = self.reset_offset(&place).await?;
                self.positions.insert(place, offset);
                continue;
            }
            if let Err(error) = row.check() {
                let since = *self.troubled.entry(place).or_insert_with(Instant::now);
                if row.is_final() || since.elapsed() >= self.client.options.retry_for {
                    self.refused = Some(error);
                } else {
                    trouble = Some(error);
                }
                continue;
            }
            self.troubled.remove(&place);
            let (records, next) = row.decode()?;
            let (topic, partition) = place.clone();
            self.positions.insert(place, next);
            seen.extend(records.into_iter().map(|record| Consumed {
                topic: topic.clone(),
                partition,
                record,
            }));
        }
        // Where others gave records nobody waits for this one.
        match trouble {
            Some(error) if seen.is_empty() && self.refused.is_none() => Err(error),
            _ => Ok(seen),
        }
    }

    async fn keep_membership(&mut self) -> Result<(), ClientError> {
        let Some(member) = &mut self.member else { return Ok(()) };
        if self.joined && Instant::now() >= self.beat_at {
            let due = Instant::now() + member.options().session_timeout / BEATS_PER_SESSION;
            self.joined = member.heartbeat().await? == Beat::Steady;
            self.beat_at = due;
        }
        if self.joined {
            return Ok(());
        }
        let places = member.join().await?.to_vec();
        let group = &member.options().group;
        let committed = if self.fetch.read_committed {
            self.client.committed_stable(group, Some(&places)).await?
        } else {
            self.client.committed(group, Some(&places)).await?
        };
        self.beat_at = Instant::now() + member.options().session_timeout / BEATS_PER_SESSION;
        self.positions.clear();
        self.troubled.clear();
        for place in places {
            let offset = match committed.get(&place) {
                Some(committed) => committed.offset,
                None => self.reset_offset(&place).await?,
            };
            self.positions.insert(place, offset);
        }
        self.joined = true;
        Ok(())
    }

    async fn reset_offset(&self, place: &Place) -> Result<i64, ClientError> {
        let timestamp = match self.reset {
            Reset::Earliest => EARLIEST,
            Reset::Latest => LATEST,
            Reset::Refuse => {
                let what = format!("an offset to begin at in {}-{}", place.0, place.1);
                return Err(ClientError::Missing { what });
            }
        };
        let at = self.client.list_offsets(std::slice::from_ref(place), timestamp, false).await?;
        at.get(place)
            .map(|at| at.offset)
            .ok_or_else(|| ClientError::Missing { what: format!("{}-{}", place.0, place.1) })
    }

    /// Commits the positions of all partitions; nothing without a group. A rebalance in between is no
    /// error: the records are read again by whoever owns the partition then.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let positions = self.positions.clone();
        self.commit_at(&positions).await
    }

    /// Commits the given next offsets, as [`Consumer::commit`].
    pub async fn commit_at(&mut self, offsets: &BTreeMap<Place, i64>) -> Result<(), ClientError> {
        let Some(member) = &self.member else { return Ok(()) };
        if !self.joined || offsets.is_empty() {
            return Ok(());
        }
        let done = self.client.commit(&member.options().group, member.committer(), offsets).await;
        match done.as_ref().err().and_then(ClientError::code) {
            Some(
                ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId,
            ) => {
                self.beat_at = Instant::now();
                Ok(())
            }
            _ => done,
        }
    }

    /// Leaves the group, if there is one.
    pub async fn close(mut self) -> Result<(), ClientError> {
        match &mut self.member {
            Some(member) => member.leave().await,
            None => Ok(()),
        }
    }

    /// Changes how long a poll waits.
    pub fn set_max_wait(&mut self, wait: Duration) {
        self.fetch.max_wait = wait;
    }
}
