//! One partition.
use crate::api::*;
use bytes::{Bytes, BytesMut};
use model::{ErrorCode, GroupKey, LeaderEpoch, Now, Offset};
use std::sync::Arc;
use storage::{Directory, Extracted, HardState, Log, ReadError};

/// One replica of one partition.
#[derive(Debug)]
pub struct Partition {
    key: GroupKey,
    log: Log,
}

#[allow(unused_variables, missing_docs)]
impl Partition {
    /// `hard`: the state log's term and vote (default when it has none). `replica_id`: this replica's id
    /// among the checkpoint's members. Nothing is campaigned yet; see `touch`.
    pub fn open(
        key: GroupKey,
        start: Start,
        hard: HardState,
        replica_id: u64,
        cfg: Arc<PartitionConfig>,
        dir: &mut Directory,
        seed: u64,
    ) -> (Partition, Opened) {
        panic!("signature only")
    }
    pub fn set_config(&mut self, cfg: Arc<PartitionConfig>) {
        panic!("signature only")
    }
    /// First touch: campaigns (once its rewritten tail is durable). `PartitionFx::Became` follows when it serves.
    pub fn touch(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        panic!("signature only")
    }
    /// Whether it serves: its own no-op is applied.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        panic!("signature only")
    }
    /// The term of the next election's winner, for metadata of an untouched partition: term + 1; else the epoch.
    pub fn announced_epoch(&self) -> LeaderEpoch {
        panic!("signature only")
    }
    pub fn append(
        &mut self,
        now: Now,
        token: u64,
        records: BytesMut,
        acks: i16,
        origin: Origin,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        panic!("signature only")
    }
    pub fn propose_command(
        &mut self,
        now: Now,
        token: u64,
        payload: Bytes,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        panic!("signature only")
    }
    /// DirEvent::Written.
    pub fn on_written(&mut self, index: u64, fx: &mut Vec<PartitionFx>) {
        panic!("signature only")
    }
    /// DirEvent::Persisted.
    pub fn on_persisted(
        &mut self,
        now: Now,
        index: u64,
        round: u64,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        panic!("signature only")
    }
    /// DirEvent::CheckpointDone.
    pub fn on_checkpoint_done(&mut self, index: u64, ok: bool, dir: &mut Directory) {
        panic!("signature only")
    }
    /// Answers everything that waits with `code`; every later call is refused with it.
    pub fn fail(&mut self, code: ErrorCode, fx: &mut Vec<PartitionFx>) {
        panic!("signature only")
    }
    pub fn fetch(&self, input: &FetchInput) -> Result<FetchOk, FetchError> {
        panic!("signature only")
    }
    /// A plan for replaying the log itself (coordinators): committed batches from `from` on, no epochs checked.
    pub fn replay_plan(&self, from: Offset, max_bytes: usize) -> Result<storage::ReadPlan, ReadError> {
        panic!("signature only")
    }
    pub fn list_offset(&self, ask: ListOffsetAsk) -> Result<ListOffsetStep, ErrorCode> {
        panic!("signature only")
    }
    pub fn list_offset_read(
        &self,
        search: ListOffsetSearch,
        found: &Extracted,
    ) -> Result<ListOffsetStep, ErrorCode> {
        panic!("signature only")
    }
    /// (epoch, end offset); (-1, -1) when unknown.
    pub fn offset_for_leader_epoch(
        &self,
        current_leader_epoch: LeaderEpoch,
        epoch: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), ErrorCode> {
        panic!("signature only")
    }
    /// -1 stands for the high watermark. Ends with `LogStartDone`.
    pub fn delete_records(
        &mut self,
        now: Now,
        token: u64,
        offset: Offset,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        panic!("signature only")
    }
    pub fn describe_producers(&self) -> Vec<ProducerInfo> {
        panic!("signature only")
    }
    /// Retention, segment.ms, producer expiry, checkpoints (where no machine lives on the log). Call every few seconds.
    pub fn tick(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        panic!("signature only")
    }
    /// For partitions with a machine: whether `checkpoint` is wanted; its bytes must stand for exactly the entries that came as `Committed`.
    pub fn wants_checkpoint(&self) -> bool {
        panic!("signature only")
    }
    /// Takes a checkpoint now (`stop`: even if only stale); true when one is being written.
    pub fn checkpoint(&mut self, machine: Bytes, stop: bool, dir: &mut Directory) -> bool {
        panic!("signature only")
    }
    pub fn count_out(&mut self, bytes: u64, records: u64) {
        panic!("signature only")
    }
    pub fn counters(&self) -> Counters {
        panic!("signature only")
    }
    pub fn high_watermark(&self) -> Offset {
        panic!("signature only")
    }
    pub fn last_stable_offset(&self) -> Offset {
        panic!("signature only")
    }
    pub fn log_start(&self) -> Offset {
        panic!("signature only")
    }
    pub fn log_end(&self) -> Offset {
        panic!("signature only")
    }
    pub fn log(&self) -> &Log {
        &self.log
    }
    /// Removes the partition's files and state (deleted topic).
    pub fn delete(self, dir: &mut Directory) {
        panic!("signature only")
    }
    /// Closes its files; the caller has answered its waiters (`fail`).
    pub fn close(self, dir: &mut Directory) {
        panic!("signature only")
    }
    pub fn key(&self) -> GroupKey {
        self.key
    }
}
