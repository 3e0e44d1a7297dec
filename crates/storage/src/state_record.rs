//! Records of the state log: one group commit's marks and promises.
use crate::checkpoint::MAX_POSITION;
use crate::directory::{HardState, Mark};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{GroupKey, TopicId};

const MAGIC: u32 = u32::from_le_bytes(*b"PLST");
const VERSION: u8 = 1;
/// Bytes of a record's header.
pub(crate) const RECORD_HEADER: usize = 40;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// Everything known: begins a file.
    Snapshot = 1,
    /// What changed.
    Update = 2,
    /// What changed, and the process stopped cleanly after it.
    CleanStop = 3,
}

/// What is known about a group; a later one replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupRow {
    pub(crate) hard: HardState,
    pub(crate) mark: Option<Mark>,
    pub(crate) failed: Option<String>,
    /// Counts the lives of the replica on this disk: names its directory.
    pub(crate) generation: u32,
    /// The replica neither votes nor campaigns before it holds this entry; 0: it may.
    pub(crate) floor: u64,
    /// Which replica of the group this is; 0 where that was never told.
    pub(crate) replica: u64,
    /// Entries may have counted as persisted before they were synced: a loss of power may have taken them.
    pub(crate) relaxed: bool,
}

/// One item of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Group(GroupKey, GroupRow),
    Forget(GroupKey),
    /// Directory id and boot id of the process that wrote the snapshot.
    Identity([u8; 16], [u8; 16]),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    /// Counts up by one from record to record, over both files.
    pub(crate) number: u64,
    /// Highest number that was known to be synced when this was written; 0 for none.
    pub(crate) claim: u64,
    pub(crate) items: Vec<Item>,
}

/// A record read back, with its place in the chain of its file.
#[derive(Clone, Debug)]
pub(crate) struct ReadRecord {
    pub(crate) record: Record,
    pub(crate) prev_crc: u32,
    pub(crate) crc: u32,
    /// Bytes to the next record.
    pub(crate) size: usize,
}

impl Record {
    /// Its bytes, padded, and its checksum for the next one's chain.
    pub(crate) fn encode(&self, prev_crc: u32) -> (Bytes, u32) {
        let mut out = BytesMut::with_capacity(RECORD_HEADER + self.items.len() * 96);
        out.put_u32_le(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u16_le(0);
        out.put_u32_le(0);
        out.put_u32_le(prev_crc);
        out.put_u64_le(self.number);
        out.put_u64_le(self.claim);
        out.put_u32_le(0);
        out.put_u32_le(0);
        self.items.iter().for_each(|item| put_item(&mut out, item));
        let length = u32::try_from(out.len() - RECORD_HEADER).expect("a snapshot of all groups fits 4 GiB");
        out[8..12].copy_from_slice(&length.to_le_bytes());
        let crc = records::crc32c(&out);
        out[36..40].copy_from_slice(&crc.to_le_bytes());
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        (out.freeze(), crc)
    }
}

fn put_key(out: &mut BytesMut, key: GroupKey) {
    out.put_slice(&key.topic.0);
    out.put_i32_le(key.partition);
}

fn put_item(out: &mut BytesMut, item: &Item) {
    match item {
        Item::Group(key, row) => {
            out.put_u8(1);
            put_key(out, *key);
            out.put_u64_le(row.hard.term);
            out.put_u64_le(row.hard.vote);
            out.put_u64_le(row.replica);
            let flags =
                [row.mark.is_some(), row.failed.is_some(), row.generation > 0, row.floor > 0, row.relaxed];
            out.put_u8(flags.iter().rev().fold(0, |bits, set| (bits << 1) | u8::from(*set)));
            if let Some(mark) = row.mark {
                out.put_u64_le(mark.durable_index);
                out.put_u32_le(mark.chain);
                out.put_u64_le(mark.segment);
                out.put_u64_le(mark.pos);
                out.put_u64_le(mark.commit);
            }
            if let Some(why) = &row.failed {
                let why = &why.as_bytes()[..why.floor_char_boundary(1000)];
                out.put_u16_le(why.len() as u16);
                out.put_slice(why);
            }
            if row.generation > 0 {
                out.put_u32_le(row.generation);
            }
            if row.floor > 0 {
                out.put_u64_le(row.floor);
            }
        }
        Item::Forget(key) => {
            out.put_u8(2);
            put_key(out, *key);
        }
        Item::Identity(directory, boot) => {
            out.put_u8(3);
            out.put_slice(directory);
            out.put_slice(boot);
        }
    }
}

/// The record at the start of `bytes`; `None` unless it is whole.
pub(crate) fn decode(bytes: &[u8]) -> Option<ReadRecord> {
    let mut at = bytes.get(..RECORD_HEADER)?;
    let (magic, version, kind) = (at.get_u32_le(), at.get_u8(), at.get_u8());
    at.advance(2);
    let length = at.get_u32_le() as usize;
    let prev_crc = at.get_u32_le();
    let (number, claim) = (at.get_u64_le(), at.get_u64_le());
    at.advance(4);
    let crc = at.get_u32_le();
    let kind = match kind {
        1 => RecordKind::Snapshot,
        2 => RecordKind::Update,
        3 => RecordKind::CleanStop,
        _ => return None,
    };
    let payload = bytes.get(RECORD_HEADER..RECORD_HEADER.checked_add(length)?)?;
    if magic != MAGIC || version != VERSION || number.max(claim) >= MAX_POSITION {
        return None;
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[..36]);
    digest.update(&[0; 4]);
    digest.update(payload);
    if digest.finalize() != u64::from(crc) {
        return None;
    }
    let record = Record { kind, number, claim, items: items(payload)? };
    Some(ReadRecord { record, prev_crc, crc, size: (RECORD_HEADER + length).next_multiple_of(ALIGN) })
}

fn items(mut at: &[u8]) -> Option<Vec<Item>> {
    let mut out = Vec::new();
    while !at.is_empty() {
        out.push(match at.get_u8() {
            1 => {
                let key = key(&mut at)?;
                Item::Group(key, group_row(&mut at)?)
            }
            2 => Item::Forget(key(&mut at)?),
            3 => Item::Identity(array(&mut at)?, array(&mut at)?),
            _ => return None,
        });
    }
    Some(out)
}

fn array<const N: usize>(at: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = at.split_first_chunk::<N>()?;
    *at = rest;
    Some(*head)
}

fn key(at: &mut &[u8]) -> Option<GroupKey> {
    let topic = TopicId(array(at)?);
    Some(GroupKey { topic, partition: i32::from_le_bytes(array(at)?) })
}

fn group_row(at: &mut &[u8]) -> Option<GroupRow> {
    let number = |at: &mut &[u8]| array(at).map(u64::from_le_bytes);
    let hard = HardState { term: number(at)?, vote: number(at)? };
    let replica = number(at)?;
    let [flags] = array(at)?;
    let mut row = GroupRow { hard, replica, ..GroupRow::default() };
    if flags & 1 != 0 {
        row.mark = Some(Mark {
            durable_index: number(at)?,
            chain: u32::from_le_bytes(array(at)?),
            segment: number(at)?,
            pos: number(at)?,
            commit: number(at)?,
        });
    }
    if flags & 2 != 0 {
        let len = usize::from(u16::from_le_bytes(array(at)?));
        let (why, rest) = at.split_at_checked(len)?;
        *at = rest;
        row.failed = Some(String::from_utf8(why.to_vec()).ok()?);
    }
    if flags & 4 != 0 {
        row.generation = u32::from_le_bytes(array(at)?);
    }
    if flags & 8 != 0 {
        row.floor = number(at)?;
    }
    row.relaxed = flags & 16 != 0;
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        let key = GroupKey { topic: TopicId([9; 16]), partition: 4 };
        let mark = Mark { durable_index: 5, chain: 6, segment: 2, pos: 700, commit: 4 };
        let hard = HardState { term: 3, vote: 1 };
        let failed = Some("panicked".into());
        let row =
            GroupRow { hard, mark: Some(mark), failed, generation: 3, floor: 9, replica: 4, relaxed: true };
        let items = vec![Item::Identity([1; 16], [2; 16]), Item::Group(key, row), Item::Forget(key)];
        Record { kind: RecordKind::Snapshot, number: 8, claim: 7, items }
    }

    #[test]
    fn a_record_round_trips_and_every_flip_is_seen() {
        let (bytes, crc) = record().encode(77);
        let read = decode(&bytes).unwrap();
        assert_eq!((read.record, read.prev_crc, read.crc, read.size), (record(), 77, crc, bytes.len()));
        let covered = RECORD_HEADER + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        for i in 0..covered {
            let mut bad = bytes.to_vec();
            bad[i] ^= 0x20;
            assert!(decode(&bad).is_none(), "byte {i}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_items_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (items(&bytes), decode(&bytes));
        }
    }
}
