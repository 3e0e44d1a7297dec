//! The state log: two files in turn, each begun by a snapshot of everything known.
use crate::disk_op::{DiskOp, DiskRead, FileId, FileSource};
use crate::error::{Damage, OpenError};
use crate::fx::{StorageFx, WriteRun};
use crate::state_record::{ALIGN, GroupRow, Item, ReadRecord, Record, RecordKind, decode};
use bytes::Bytes;
use model::GroupKey;
use std::collections::BTreeMap;

/// The two files.
pub(crate) const FILES: [&str; 2] = ["state-0.log", "state-1.log"];

/// What a state log says.
#[derive(Debug, Default)]
pub(crate) struct StateImage {
    pub(crate) groups: BTreeMap<GroupKey, GroupRow>,
    pub(crate) directory_id: [u8; 16],
    pub(crate) boot_id: [u8; 16],
    pub(crate) clean: bool,
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct StateLog {
    /// Which file is written.
    current: usize,
    files: [Option<FileId>; 2],
    exists: [bool; 2],
    pos: u64,
    chain: u32,
    /// Number of the last record written.
    number: u64,
    /// Bytes of the snapshot that began the file.
    snapshot: u64,
    ahead: u64,
    begin: bool,
    run: WriteRun,
}

impl StateLog {
    /// Writes on into a file that does not hold what counts now, from a fresh snapshot on.
    pub(crate) fn resume(last: usize, number: u64, exists: [bool; 2], ahead: u64) -> StateLog {
        StateLog {
            current: last,
            files: [None; 2],
            exists,
            pos: 0,
            chain: 0,
            number,
            snapshot: 0,
            ahead,
            begin: true,
            run: WriteRun::default(),
        }
    }

    /// A new directory: the bytes of its first file (to be put in place durably, and as many zeros as the
    /// other one), and the log after it.
    pub(crate) fn create(items: Vec<Item>, ahead: u64) -> (Bytes, StateLog) {
        let record = Record { kind: RecordKind::Snapshot, number: 1, claim: 0, items };
        let (bytes, crc) = record.encode(0);
        let len = bytes.len();
        let mut whole = bytes.to_vec();
        whole.resize(len.max(usize::try_from(ahead).unwrap_or(0)), 0);
        let mut log = StateLog::resume(0, 1, [true, true], ahead);
        (log.begin, log.pos, log.chain, log.snapshot) = (false, len as u64, crc, len as u64);
        (Bytes::from(whole), log)
    }

    /// Number of the last record.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the next record must be a snapshot.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.begin || self.pos > self.ahead.max(4 * self.snapshot)
    }

    /// Writes one record (a snapshot begins the other file) and returns the file to sync.
    pub(crate) fn write(
        &mut self,
        kind: RecordKind,
        claim: u64,
        items: Vec<Item>,
        fx: &mut StorageFx,
    ) -> FileId {
        self.number += 1;
        let snapshot = kind == RecordKind::Snapshot;
        if snapshot {
            self.current = 1 - self.current;
            (self.pos, self.chain, self.begin) = (0, 0, false);
        }
        let record = Record { kind, number: self.number, claim, items };
        let (bytes, crc) = record.encode(self.chain);
        let len = bytes.len() as u64;
        let fresh = snapshot && self.files[self.current].is_none() && !self.exists[self.current];
        let file = self.open(fx);
        fx.write(&mut self.run, None, file, self.pos, [bytes, Bytes::new()]);
        self.pos += len;
        self.chain = crc;
        if snapshot {
            self.snapshot = len;
        }
        if fresh && self.pos < self.ahead {
            let zeros = Bytes::from(vec![0u8; usize::try_from(self.ahead - self.pos).unwrap_or(0)]);
            fx.write(&mut self.run, None, file, self.pos, [zeros, Bytes::new()]);
            self.run = WriteRun::default();
        }
        file
    }

    fn open(&mut self, fx: &mut StorageFx) -> FileId {
        if let Some(file) = self.files[self.current] {
            return file;
        }
        let file = fx.file();
        let path = FILES[self.current].to_string();
        self.files[self.current] = Some(file);
        fx.ops.push(if self.exists[self.current] {
            DiskOp::Open { file, path }
        } else {
            DiskOp::Create { file, path, source: FileSource::New }
        });
        self.exists[self.current] = true;
        file
    }
}

/// What reading gave.
#[derive(Debug)]
pub(crate) struct ReadState {
    pub(crate) image: StateImage,
    /// Index of the file that counts.
    pub(crate) file: usize,
    /// Highest record number seen anywhere.
    pub(crate) number: u64,
    pub(crate) exists: [bool; 2],
}

struct ReadFile {
    records: Vec<Record>,
    /// Position of the first bad record.
    end: usize,
    /// A later record of this file that proves the bad one was synced.
    proof: Option<u64>,
    highest: u64,
}

/// Reads both files. `None`: neither was ever begun. Damage is refused, unless `accept_damage`.
pub(crate) fn read(disk: &dyn DiskRead, accept_damage: bool) -> Result<Option<ReadState>, OpenError> {
    let mut exists = [false; 2];
    let mut files = Vec::new();
    for (i, name) in FILES.iter().enumerate() {
        let len = disk.len(name)?;
        exists[i] = len.is_some();
        let bytes = match len {
            Some(len) => disk.read(name, 0, usize::try_from(len).unwrap_or(usize::MAX))?,
            None => Bytes::new(),
        };
        files.push(read_file(&bytes));
    }
    let number = files.iter().map(|f| f.highest).max().unwrap_or(0);
    let begun = |f: &ReadFile| f.records.first().map(|r| r.number);
    let newest = if begun(&files[1]) > begun(&files[0]) { 1 } else { 0 };
    for (i, file) in files.iter().enumerate() {
        // An older file is only history once a newer snapshot stands; its damage changes nothing.
        let counts = i == newest || begun(file).is_none();
        if let Some(proof) =
            file.proof.filter(|p| counts && !accept_damage && Some(*p) > begun(&files[newest]))
        {
            return Err(OpenError::Damaged(damage(FILES[i], file.end, proof)));
        }
    }
    let Some(_) = begun(&files[newest]) else {
        return if number == 0 { Ok(None) } else { Err(OpenError::Damaged(no_snapshot(FILES[newest]))) };
    };
    let mut image = StateImage::default();
    files[newest].records.iter().for_each(|r| image.apply(r));
    Ok(Some(ReadState { image, file: newest, number, exists }))
}

fn damage(file: &str, pos: usize, proof: u64) -> Damage {
    let detail = format!(
        "a record here was made durable (record {proof} says so) and is not readable now: votes or marks may be \
         lost. Restore the file from a backup, or start once with `accept.state.log.damage=true`: every group \
         then goes on from what is still readable"
    );
    Damage { file: file.to_string(), pos: pos as u64, detail }
}

fn no_snapshot(file: &str) -> Damage {
    let detail =
        "neither state log file begins with a readable snapshot, but both were written: restore them \
                  from a backup"
            .to_string();
    Damage { file: file.to_string(), pos: 0, detail }
}

fn read_file(bytes: &[u8]) -> ReadFile {
    let mut file = ReadFile { records: Vec::new(), end: 0, proof: None, highest: 0 };
    let mut chain = 0;
    while let Some(read) = bytes.get(file.end..).and_then(decode) {
        let follows = match file.records.last() {
            None => read.record.kind == RecordKind::Snapshot && read.prev_crc == 0,
            Some(last) => read.prev_crc == chain && read.record.number == last.number + 1,
        };
        if !follows {
            break;
        }
        chain = read.crc;
        file.end += read.size;
        file.highest = read.record.number;
        file.records.push(read.record);
    }
    let expected = file.highest + 1;
    let later = later_records(bytes, file.end);
    for read in later {
        // A claim at or above the missing number proves that it was synced. Where the snapshot itself is
        // missing its number is not known: rounds are serial, so a record that claims its predecessor does.
        let proves = match file.records.is_empty() {
            true => read.record.kind != RecordKind::Snapshot && read.record.claim + 1 >= read.record.number,
            false => read.record.number > expected && read.record.claim >= expected,
        };
        if proves {
            file.proof = file.proof.max(Some(read.record.number));
        }
    }
    file
}

/// Whole records anywhere behind a bad one. Old ones of the file's former use are among them: their numbers
/// are lower than what is expected.
fn later_records(bytes: &[u8], from: usize) -> Vec<ReadRecord> {
    let mut out = Vec::new();
    let mut at = from;
    while at < bytes.len() {
        match decode(&bytes[at..]) {
            Some(read) => {
                at += read.size;
                out.push(read);
            }
            None => at += ALIGN,
        }
    }
    out
}

impl StateImage {
    fn apply(&mut self, record: &Record) {
        if record.kind == RecordKind::Snapshot {
            *self = StateImage::default();
        }
        self.clean = record.kind == RecordKind::CleanStop;
        for item in &record.items {
            match item {
                Item::Group(key, row) => _ = self.groups.insert(*key, row.clone()),
                Item::Forget(key) => _ = self.groups.remove(key),
                Item::Identity(directory, boot) => (self.directory_id, self.boot_id) = (*directory, *boot),
            }
        }
    }
}
