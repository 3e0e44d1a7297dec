//! What a start reads: the files of a group, and the state log.
use bytes::Bytes;
use model::{GroupKey, Mono, Now};
use records::{batch_crc, batches};
use std::collections::BTreeMap;
use storage::frame::{FRAME_HEADER, encode_header, parse_header};
use storage::recovery::{RecoverJob, Recovered, recover};
use storage::{
    Directory, DirectoryConfig, DiskError, DiskRead, EntryKind, Log, LogConfig, Mark, StorageFx, birth,
    group_dir,
};

const KEY: GroupKey = GroupKey::METADATA;
const FIRST_INDEX: u64 = 2;

/// Files in memory that are only read.
#[derive(Default)]
struct Files(BTreeMap<String, Bytes>);

impl DiskRead for Files {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let below = |path: &String| path.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned);
        Ok(self.0.keys().filter_map(below).filter(|name| !name.contains('/')).collect())
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        Ok(self.0.get(path).map(|bytes| bytes.len() as u64))
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let bytes = self.0.get(path).cloned().unwrap_or_default();
        let start = usize::try_from(pos).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.slice(start..start.saturating_add(len).min(bytes.len())))
    }
}

/// A segment, and a checkpoint before it: six bytes that choose (is there a mark and at which index, are the
/// checksums made right, how many bytes are the checkpoint's), then the two files.
pub fn recovery(data: &[u8]) {
    let Some(([marked, fix, len, ..], _)) = data.split_first_chunk::<6>() else { return };
    let rest = &data[6..];
    let cut = usize::from(*len).min(rest.len());
    let (checkpoint, log) = rest.split_at(cut);
    let (mut checkpoint, mut log) = (checkpoint.to_vec(), log.to_vec());
    let mut ends = Vec::new();
    if fix & 1 == 1 {
        crate::files::fix_checksum(&mut checkpoint, 36);
        ends = link(&mut log);
    }
    let dir = group_dir(KEY);
    let at = storage::checkpoint::decode(KEY, &checkpoint).map_or(5, |c| c.index);
    let mut files = Files::default();
    files.0.insert(format!("{dir}/{FIRST_INDEX:020}.log"), log.into());
    if !checkpoint.is_empty() {
        files.0.insert(format!("{dir}/{at:020}.ckpt"), checkpoint.into());
    }
    let mark = ends.get(usize::from(*marked)).map(|(index, chain, pos)| Mark {
        durable_index: *index,
        chain: *chain,
        segment: FIRST_INDEX,
        pos: *pos,
        commit: *index,
    });
    let job = RecoverJob { key: KEY, dir, mark, birth: birth(KEY, Vec::new()) };
    let Ok(found) = recover(&job, &files) else { return };
    let again = recover(&job, &files).expect("reading changes nothing");
    assert_eq!(found.last_index, again.last_index, "the same files give the same log");
    if let Some(mark) = mark {
        assert!(found.last_index >= mark.durable_index, "what was marked is there, or recovery refuses");
    }
    opens(found);
}

fn opens(found: Recovered) {
    let (last, next) = (found.last_index, found.next_offset);
    let mut fx = StorageFx::new(1 << 20);
    let log = Log::from_recovered(found, LogConfig::default(), &mut fx);
    assert_eq!((log.last_index(), log.next_offset()), (last, next));
}

/// Makes chain and checksums of the frames right; returns (index, chain value, end) of each.
fn link(log: &mut [u8]) -> Vec<(u64, u32, u64)> {
    let mut chain = birth(KEY, Vec::new()).chain;
    let (mut at, mut ends) = (0, Vec::new());
    while let Ok(header) = parse_header(&log[at..]) {
        let size = FRAME_HEADER + header.length as usize;
        let Some(frame) = log.get_mut(at..).and_then(|rest| rest.get_mut(..size)) else { break };
        let (head, payload) = frame.split_at_mut(FRAME_HEADER);
        if header.head.kind == EntryKind::Data && !whole_batches(payload) {
            break;
        }
        let (bytes, crc) = encode_header(&header.head, payload, chain);
        head.copy_from_slice(&bytes);
        (chain, at) = (crc, at + size);
        ends.push((header.head.index, crc, at as u64));
    }
    ends
}

/// Makes the batches' checksums right; `false` when the payload is not made of batches.
fn whole_batches(payload: &mut [u8]) -> bool {
    let found: Result<Vec<_>, _> = batches(payload).map(|one| one.map(|(range, _)| range)).collect();
    let Ok(ranges) = found else { return false };
    for range in ranges {
        let one = &mut payload[range];
        let crc = batch_crc(one);
        one[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    !payload.is_empty()
}

/// Both files of the state log: one byte that cuts the input in two (in 256ths), then the files; read as they
/// are and with their checksums made right.
pub fn state_log(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let (first, second) = rest.split_at(rest.len() * usize::from(*cut) / 256);
    open_directory(first, second);
    let (mut first, mut second) = (first.to_vec(), second.to_vec());
    chain_records(&mut first);
    chain_records(&mut second);
    open_directory(&first, &second);
}

fn open_directory(first: &[u8], second: &[u8]) {
    // A directory id of 16 zeros, field 1 of `DirectoryMeta`.
    let body = [&[0x0a, 16][..], &[0; 16]].concat();
    let meta = [&b"PLMETA01"[..], &records::crc32c(&body).to_le_bytes(), &body].concat();
    let mut files = Files::default();
    files.0.insert("meta".into(), meta.into());
    files.0.insert("state-0.log".into(), Bytes::copy_from_slice(first));
    files.0.insert("state-1.log".into(), Bytes::copy_from_slice(second));
    let now = Now { mono: Mono(0), wall: 1_700_000_000_000 };
    for accept_state_log_damage in [false, true] {
        let cfg = DirectoryConfig { accept_state_log_damage, ..DirectoryConfig::default() };
        let Ok((mut directory, _)) = Directory::open(&files, cfg, now) else { continue };
        directory.pump(now);
        directory.ops().for_each(drop);
    }
    let _ = storage::inspect::group_states(&files);
}

/// Makes chain and checksums of the records right.
fn chain_records(file: &mut [u8]) {
    let (mut at, mut chain) = (0, [0; 4]);
    while let Some(header) = file.get(at..at + 40) {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some(record) = file.get_mut(at..).and_then(|rest| rest.get_mut(..40 + length)) else { return };
        record[12..16].copy_from_slice(&chain);
        record[36..40].fill(0);
        chain = records::crc32c(record).to_le_bytes();
        record[36..40].copy_from_slice(&chain);
        at += (40 + length).next_multiple_of(8);
    }
}
