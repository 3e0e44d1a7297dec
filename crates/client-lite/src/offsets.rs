//! Offsets: where partitions begin and end, and what groups have committed.
use crate::client::{Client, ClientOptions, Retry};
use crate::error::{ClientError, check};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use wire::{
    ApiKey, ListOffsetsRequest, ListOffsetsResponse, OffsetCommitRequest, OffsetFetchRequest,
    OffsetFetchResponse, Str,
};

/// A topic's name and a partition.
pub type Place = (String, i32);

/// The sentinel timestamp of the next offset to be written.
pub const LATEST: i64 = -1;
/// The sentinel timestamp of the first offset of the log.
pub const EARLIEST: i64 = -2;
/// The sentinel timestamp of the record with the largest timestamp.
pub const MAX_TIMESTAMP: i64 = -3;

/// The last versions that name topics; later ones carry ids only.
const NAMED_OFFSET_COMMIT: i16 = 9;
const NAMED_OFFSET_FETCH: i16 = 9;

/// An offset found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    /// The offset; -1 if no record is that new.
    pub offset: i64,
    /// The timestamp of the record there, ms; -1 for earliest and latest.
    pub timestamp: i64,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to be read.
    pub offset: i64,
    /// The leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The consumer's own words.
    pub metadata: String,
}

/// Who commits: a member in a generation, or nobody for an empty group.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    /// The member id.
    pub member: &'a str,
    /// The generation.
    pub generation: i32,
    /// The static member's id.
    pub instance: Option<&'a str>,
}

impl Committer<'_> {
    /// For groups without members: an operator's reset.
    pub const NOBODY: Committer<'static> = Committer { member: "", generation: -1, instance: None };
}

impl Client {
    /// The offsets at `timestamp` (ms, or one of the sentinels) of several partitions; moved leaders are
    /// tried again. Errors: the first refusal that is final.
    pub async fn list_offsets(
        &self,
        places: &[Place],
        timestamp: i64,
        read_committed: bool,
    ) -> Result<BTreeMap<Place, OffsetAt>, ClientError> {
        match self.list_offsets_found(places, timestamp, read_committed, self.options.retry_for).await {
            (found, None) => Ok(found),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same within `retry_for`, which is also the longest wait for a leader's answer: those that were found, and
    /// where some were not, the last refusal.
    pub async fn list_offsets_found(
        &self,
        places: &[Place],
        timestamp: i64,
        read_committed: bool,
        retry_for: Duration,
    ) -> (BTreeMap<Place, OffsetAt>, Option<ClientError>) {
        let mut found = BTreeMap::new();
        let mut retry = Retry::new(&ClientOptions { retry_for, ..self.options.clone() });
        loop {
            let missing: Vec<&Place> = places.iter().filter(|p| !found.contains_key(*p)).collect();
            if missing.is_empty() {
                return (found, None);
            }
            let wanted = (timestamp, read_committed);
            if let Err(error) = self.list_offsets_once(&missing, wanted, retry_for, &mut found).await {
                missing.iter().for_each(|(topic, _)| self.forget_topic(topic));
                if let Err(error) = retry.after(error).await {
                    return (found, Some(error));
                }
            }
        }
    }

    async fn list_offsets_once(
        &self,
        places: &[&Place],
        (timestamp, read_committed): (i64, bool),
        limit: Duration,
        found: &mut BTreeMap<Place, OffsetAt>,
    ) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        // One that is refused does not keep the others from being asked; what is final counts most.
        let mut refused: Option<ClientError> = None;
        let mut note = |error: ClientError| {
            if refused.as_ref().is_none_or(ClientError::is_retriable) {
                refused = Some(error);
            }
        };
        for (topic, partition) in places {
            let row = self.topic(topic).await?;
            let row = row.partitions.iter().find(|p| p.index == *partition);
            let row = row.ok_or_else(|| ClientError::Missing { what: format!("{topic}-{partition}") })?;
            match row.led_by(topic) {
                Ok(leader) => {
                    by_leader.entry(leader).or_default().entry(topic).or_default().push(*partition);
                }
                Err(error) => note(error),
            }
        }
        for (leader, topics) in by_leader {
            let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
                name: Str::from(name),
                partitions: partitions.into_iter().map(|p| wanted(p, timestamp)).collect(),
            });
            let request = ListOffsetsRequest {
                replica_id: -1,
                isolation_level: i8::from(read_committed),
                topics: topics.collect(),
                timeout_ms: 30_000,
            };
            let answer = match self.list_offsets_of(leader, request, limit).await {
                Ok(answer) => answer,
                Err(error) => {
                    note(error);
                    continue;
                }
            };
            for topic in &answer.topics {
                for row in &topic.partitions {
                    let what = || format!("offsets of {}-{}", topic.name, row.partition_index);
                    if let Err(error) = check(what, row.error_code, None) {
                        note(error);
                        continue;
                    }
                    let offset = row.old_style_offsets.first().copied().unwrap_or(row.offset);
                    let at = OffsetAt { offset, timestamp: row.timestamp };
                    found.insert((topic.name.to_string(), row.partition_index), at);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn list_offsets_of(
        &self,
        leader: i32,
        request: ListOffsetsRequest,
        limit: Duration,
    ) -> Result<ListOffsetsResponse, ClientError> {
        let conn = self.named(leader).await?;
        let version = conn.version(ApiKey::ListOffsets)?;
        let limit = limit.min(self.options.conn.request_timeout);
        conn.begin_at(request, version).await?.within(limit).wait().await
    }

    /// What `group` has committed: for `places`, or for everything it has. Partitions without a commit
    /// are left out.
    pub async fn committed(
        &self,
        group: &str,
        places: Option<&[Place]>,
    ) -> Result<BTreeMap<Place, Committed>, ClientError> {
        self.committed_with(group, places, false).await
    }

    /// As [`Client::committed`]; waits for the end of transactions that are committing offsets (KIP-447): whoever
    /// reads on from here would else read what one of them has read already. As in Kafka only what is named is waited for.
    pub async fn committed_stable(
        &self,
        group: &str,
        places: Option<&[Place]>,
    ) -> Result<BTreeMap<Place, Committed>, ClientError> {
        self.committed_with(group, places, true).await
    }

    async fn committed_with(
        &self,
        group: &str,
        places: Option<&[Place]>,
        stable: bool,
    ) -> Result<BTreeMap<Place, Committed>, ClientError> {
        let mut topics: Option<BTreeMap<&str, Vec<i32>>> = None;
        if let Some(places) = places {
            let named = topics.insert(BTreeMap::new());
            places.iter().for_each(|(topic, p)| named.entry(topic).or_default().push(*p));
        }
        let mut retry = Retry::new(&self.options);
        loop {
            let answer = self.committed_once(group, topics.as_ref(), stable).await;
            match answer.and_then(|answer| committed_rows(group, answer)) {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    self.forget_coordinator(group);
                    retry.after(error).await?;
                }
            }
        }
    }

    async fn committed_once(
        &self,
        group: &str,
        topics: Option<&BTreeMap<&str, Vec<i32>>>,
        stable: bool,
    ) -> Result<OffsetFetchResponse, ClientError> {
        let conn = self.coordinator(group).await?;
        let version = conn.version_up_to(ApiKey::OffsetFetch, NAMED_OFFSET_FETCH)?;
        let mut request = OffsetFetchRequest { require_stable: stable, ..Default::default() };
        if version < 8 {
            let one = |(name, partitions): (&&str, &Vec<i32>)| OffsetFetchRequestTopic {
                name: Str::from(*name),
                partition_indexes: partitions.clone(),
            };
            request.group_id = Str::from(group);
            request.topics = topics.map(|topics| topics.iter().map(one).collect());
        } else {
            let one = |(name, partitions): (&&str, &Vec<i32>)| OffsetFetchRequestTopics {
                name: Str::from(*name),
                partition_indexes: partitions.clone(),
                ..Default::default()
            };
            request.groups = vec![OffsetFetchRequestGroup {
                group_id: Str::from(group),
                member_epoch: -1,
                topics: topics.map(|topics| topics.iter().map(one).collect()),
                ..Default::default()
            }];
        }
        conn.request_at(request, version).await
    }

    /// Commits offsets for a group. Errors: the first refusal that is final.
    pub async fn commit(
        &self,
        group: &str,
        who: Committer<'_>,
        offsets: &BTreeMap<Place, i64>,
    ) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_leader_epoch: -1,
                committed_metadata: Some(Str::default()),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: Str::from(name),
            partitions,
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: Str::from(group),
            generation_id_or_member_epoch: who.generation,
            member_id: Str::from(who.member),
            group_instance_id: who.instance.map(Str::from),
            retention_time_ms: -1,
            topics: topics.collect(),
        };
        let mut retry = Retry::new(&self.options);
        loop {
            match self.commit_once(group, request.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.forget_coordinator(group);
                    retry.after(error).await?;
                }
            }
        }
    }

    async fn commit_once(&self, group: &str, request: OffsetCommitRequest) -> Result<(), ClientError> {
        let conn = self.coordinator(group).await?;
        let version = conn.version_up_to(ApiKey::OffsetCommit, NAMED_OFFSET_COMMIT)?;
        let answer = conn.request_at(request, version).await?;
        for topic in &answer.topics {
            for row in &topic.partitions {
                let what = || format!("commit of {group} for {}-{}", topic.name, row.partition_index);
                check(what, row.error_code, None)?;
            }
        }
        Ok(())
    }
}

fn wanted(partition: i32, timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition {
        partition_index: partition,
        current_leader_epoch: -1,
        timestamp,
        max_num_offsets: 1,
    }
}

/// Both shapes of the answer: one group, and from version 8 a list of groups.
fn committed_rows(
    group: &str,
    answer: OffsetFetchResponse,
) -> Result<BTreeMap<Place, Committed>, ClientError> {
    let what = || format!("offsets of group {group}");
    check(what, answer.error_code, None)?;
    let mut rows = BTreeMap::new();
    let mut add = |topic: &str, partition: i32, code: i16, committed: Committed| {
        check(|| format!("offset of group {group} for {topic}-{partition}"), code, None)?;
        if committed.offset >= 0 {
            rows.insert((topic.to_owned(), partition), committed);
        }
        Ok::<(), ClientError>(())
    };
    for topic in &answer.topics {
        for p in &topic.partitions {
            let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
            let (offset, leader_epoch) = (p.committed_offset, p.committed_leader_epoch);
            add(&topic.name, p.partition_index, p.error_code, Committed { offset, leader_epoch, metadata })?;
        }
    }
    for one in answer.groups.iter().filter(|g| g.group_id == group) {
        check(what, one.error_code, None)?;
        for topic in &one.topics {
            for p in &topic.partitions {
                let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
                let (offset, leader_epoch) = (p.committed_offset, p.committed_leader_epoch);
                add(
                    &topic.name,
                    p.partition_index,
                    p.error_code,
                    Committed { offset, leader_epoch, metadata },
                )?;
            }
        }
    }
    Ok(rows)
}
