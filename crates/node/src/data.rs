//! Produce, fetch and offsets.
use crate::api::{Effect, PartitionInfo, ReadToken, Reply, Token};
use crate::compare::LookUp;
use crate::groups::{Slot, Touch};
use crate::install_send::Wanted;
use crate::node::Node;
use crate::strong::StrongRead;
use bytes::BytesMut;
use model::{ErrorCode, GroupKey, LeaderEpoch, Now, Offset};
use partition::{
    FetchError, FetchInput, FetchOk, ListOffsetAsk, ListOffsetSearch, ListOffsetStep, ProducerInfo,
};
use storage::{ExtractError, Extracted, FileInfo};

/// A fetch of one partition.
#[derive(Debug)]
pub enum FetchResult {
    /// Read this.
    Ok(Box<FetchOk>),
    /// Refused.
    Err(FetchError),
    /// It is being opened: watch it and ask again.
    NotReady,
}

/// Who waits for a read.
#[derive(Debug)]
pub(crate) enum ReadFor {
    ListOffset {
        token: Token,
        key: GroupKey,
        search: ListOffsetSearch,
    },
    Load {
        key: GroupKey,
    },
    /// `term`: in which this replica led when it was planned.
    Entries {
        key: GroupKey,
        number: u64,
        term: u64,
    },
    Piece(Wanted),
    Chain(LookUp),
}

/// What metadata names where the epoch is not known, as Kafka's does.
const UNKNOWN_EPOCH: LeaderEpoch = -1;

impl Node {
    /// Appends the record set of one partition. Ends with [`Reply::Produce`]; with acks 0, too.
    pub fn produce(&mut self, now: Now, token: Token, key: GroupKey, records: BytesMut, acks: i16) {
        self.touch(now, key, Touch::Produce { token, records, acks });
        self.settle(now);
    }

    /// What a fetch may read now. Touches the partition.
    pub fn fetch(&mut self, now: Now, key: GroupKey, input: &FetchInput) -> FetchResult {
        let refused = |code| FetchResult::Err(FetchError { code, high_watermark: -1, log_start: -1 });
        match self.groups.get(&key) {
            Some(Slot::Open(open))
                if open.partition.leader_epoch().is_some() || (open.follows() && input.at_follower) =>
            {
                return match self.look(key, |p| p.fetch(input)) {
                    Some(Ok(ok)) => FetchResult::Ok(Box::new(ok)),
                    Some(Err(error)) => FetchResult::Err(error),
                    None => {
                        self.settle(now);
                        refused(ErrorCode::KafkaStorageError)
                    }
                };
            }
            Some(Slot::Open(open)) if open.follows() => return refused(ErrorCode::NotLeaderOrFollower),
            Some(Slot::Failed(_)) => return refused(ErrorCode::KafkaStorageError),
            _ => {}
        }
        if self.dir.fenced().is_some() {
            return refused(ErrorCode::KafkaStorageError);
        }
        if !self.holds(key) {
            return refused(self.not_held(key));
        }
        self.touch(now, key, Touch::Open);
        self.settle(now);
        FetchResult::NotReady
    }

    pub(crate) fn holds(&self, key: GroupKey) -> bool {
        let image = self.metadata.image();
        let topic = image.topic_by_id(key.topic);
        topic
            .and_then(|t| t.partition(key.partition))
            .is_some_and(|p| p.holders().any(|r| r.node == self.cfg.node_id))
    }

    /// Why a request cannot be served here for a group without a replica here.
    pub(crate) fn not_held(&self, key: GroupKey) -> ErrorCode {
        let image = self.metadata.image();
        match image.partition(key) {
            Some(_) => ErrorCode::NotLeaderOrFollower,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    }

    /// Bytes and records of a fetch that were handed to a reader.
    pub fn count_out(&mut self, key: GroupKey, bytes: u64, records: u64) {
        self.with(key, |p, _, _| p.count_out(bytes, records));
    }

    /// [`Reply::Watched`] when one of `keys` moves: one shot.
    pub fn watch(&mut self, token: Token, keys: &[GroupKey]) {
        self.watches.watch(token, keys);
    }

    /// `token` watches no more.
    pub fn unwatch(&mut self, token: Token) {
        self.watches.unwatch(token);
    }

    /// Fetches that wait.
    pub fn watching(&self) -> usize {
        self.watches.len()
    }

    /// ListOffsets of one partition; ends with [`Reply::ListOffset`].
    pub fn list_offset(&mut self, now: Now, token: Token, key: GroupKey, ask: ListOffsetAsk) {
        self.touch(now, key, Touch::ListOffset { token, ask });
        self.settle(now);
    }

    /// OffsetForLeaderEpoch of one partition; ends with [`Reply::EpochEnd`].
    pub fn epoch_end(
        &mut self,
        now: Now,
        token: Token,
        key: GroupKey,
        current_leader_epoch: LeaderEpoch,
        leader_epoch: LeaderEpoch,
    ) {
        self.touch(now, key, Touch::EpochEnd { token, current_leader_epoch, leader_epoch });
        self.settle(now);
    }

    /// Moves the log start; ends with [`Reply::DeleteRecords`]. -1 stands for the high watermark.
    pub fn delete_records(&mut self, now: Now, token: Token, key: GroupKey, offset: Offset) {
        self.touch(now, key, Touch::DeleteRecords { token, offset });
        self.settle(now);
    }

    /// Serves a request on a group that leads.
    pub(crate) fn serve(&mut self, now: Now, key: GroupKey, touch: Touch) {
        match touch {
            Touch::Produce { token, records, acks } => {
                self.touch(now, key, Touch::Produce { token, records, acks });
            }
            Touch::ListOffset { token, ask } => {
                self.read_strongly(now, key, StrongRead::ListOffset { token, ask });
            }
            Touch::EpochEnd { token, current_leader_epoch, leader_epoch } => {
                let end = match self.open_group(key) {
                    Some(open) => open.partition.offset_for_leader_epoch(current_leader_epoch, leader_epoch),
                    None => Err(ErrorCode::NotLeaderOrFollower),
                };
                self.fx.push(Effect::Reply(token, Reply::EpochEnd(end)));
            }
            Touch::DeleteRecords { token, offset } => {
                self.with(key, |p, dir, fx| p.delete_records(now, token.0, offset, dir, fx));
            }
            Touch::InTransaction(held) => self.append_held(now, key, *held),
            Touch::Marker { token, marker } => {
                self.active.insert(key);
                self.stir(now, key);
                self.with(key, |p, dir, fx| p.append_marker(now, token, marker, dir, fx));
            }
            Touch::Open => {}
        }
    }

    /// Answers it: this replica leads at present.
    pub(crate) fn list_offset_now(&mut self, token: Token, key: GroupKey, ask: ListOffsetAsk) {
        let step = self.look(key, |p| p.list_offset(ask)).unwrap_or(Err(ErrorCode::NotLeaderOrFollower));
        self.list_offset_step(token, key, step);
    }

    fn list_offset_step(&mut self, token: Token, key: GroupKey, step: Result<ListOffsetStep, ErrorCode>) {
        let reply = match step {
            Ok(ListOffsetStep::Read { range, search }) => {
                let read = self.new_read(ReadFor::ListOffset { token, key, search });
                self.fx.push(Effect::Read(read, range));
                return;
            }
            Ok(ListOffsetStep::Done(outcome)) => Ok(outcome),
            Err(code) => Err(code),
        };
        self.fx.push(Effect::Reply(token, Reply::ListOffset(reply)));
    }

    pub(crate) fn new_read(&mut self, who: ReadFor) -> ReadToken {
        self.next_read += 1;
        let token = ReadToken(self.next_read);
        self.reads.insert(token, who);
        token
    }

    /// A range that the node asked for was read.
    pub fn on_read(&mut self, now: Now, token: ReadToken, result: Result<Extracted, ExtractError>) {
        match self.reads.remove(&token) {
            Some(ReadFor::ListOffset { token, key, search }) => {
                let step = match result {
                    Ok(found) => self
                        .look(key, |p| p.list_offset_read(search, &found))
                        .unwrap_or(Err(ErrorCode::NotLeaderOrFollower)),
                    Err(_) if self.open_group(key).is_none() => Err(ErrorCode::NotLeaderOrFollower),
                    Err(ExtractError::Damaged(damage)) => {
                        self.on_damage(now, key, damage.to_string());
                        Err(ErrorCode::CorruptMessage)
                    }
                    Err(ExtractError::Disk(_) | ExtractError::Unsettled(_)) => {
                        Err(ErrorCode::KafkaStorageError)
                    }
                };
                self.list_offset_step(token, key, step);
            }
            Some(ReadFor::Load { key }) => self.load_read(now, key, token, result),
            Some(ReadFor::Entries { key, number, term }) => {
                self.entries_read(now, key, number, term, result);
            }
            Some(ReadFor::Piece(wanted)) => self.piece_read(wanted, result),
            Some(ReadFor::Chain(look)) => self.chain_read(now, look, result),
            None => {}
        }
        self.settle(now);
    }

    /// Idempotent producers of a partition; `None` where it is not open.
    pub fn describe_producers(&self, key: GroupKey) -> Option<Vec<ProducerInfo>> {
        self.open_group(key).map(|open| open.partition.describe_producers())
    }

    /// The leader epoch to tell in metadata. Touches nothing: an untouched group will have its stored term
    /// and one when it elects. -1, not known, for one that gave up what a full disk had no room for, until it leads: its term
    /// may be in memory alone, and clients do not go back to an epoch below one that they were told.
    pub fn leader_epoch(&self, key: GroupKey) -> LeaderEpoch {
        match self.groups.get(&key) {
            Some(Slot::Open(open)) if self.given_up.contains(&key) => {
                open.partition.leader_epoch().unwrap_or(UNKNOWN_EPOCH)
            }
            _ if self.given_up.contains(&key) => UNKNOWN_EPOCH,
            Some(Slot::Open(open)) => open.partition.announced_epoch(),
            _ => {
                let term = self.states.get(&key).map_or(1, |s| s.hard.term.max(1));
                i32::try_from(term + 1).unwrap_or(i32::MAX)
            }
        }
    }

    /// Whether the partition is offline: damaged, or its directory is fenced.
    pub fn is_offline(&self, key: GroupKey) -> bool {
        self.dir.fenced().is_some() || matches!(self.groups.get(&key), Some(Slot::Failed(_)))
    }

    /// Why the partition is offline by damage: file, position, what to do.
    pub fn failure(&self, key: GroupKey) -> Option<&str> {
        match self.groups.get(&key) {
            Some(Slot::Failed(why)) => Some(why),
            _ => None,
        }
    }

    /// Facts of an open partition, without touching it.
    pub fn partition_info(&self, key: GroupKey) -> Option<PartitionInfo> {
        let partition = &self.open_group(key)?.partition;
        Some(PartitionInfo {
            leader_epoch: self.leader_epoch(key),
            high_watermark: partition.high_watermark(),
            last_stable_offset: partition.last_stable_offset(),
            log_start: partition.log_start(),
            log_end: partition.log_end(),
            size_bytes: partition.log().size_bytes(),
            counters: partition.counters(),
        })
    }

    /// Data files of an open partition.
    pub fn files(&self, key: GroupKey) -> Option<Vec<FileInfo>> {
        self.open_group(key).map(|open| open.partition.log().files())
    }

    /// Groups that are open.
    pub fn open_keys(&self) -> impl Iterator<Item = GroupKey> + '_ {
        self.groups.iter().filter(|(_, slot)| matches!(slot, Slot::Open(_))).map(|(key, _)| *key)
    }
}
