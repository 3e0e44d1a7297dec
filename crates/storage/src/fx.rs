//! What logs of one directory share: the list of operations, names for files, buffers, the cache budget.
use crate::disk_op::{DiskOp, FileId, OpToken};
use crate::frame::FRAME_HEADER;
use crate::tail_cache::TailCache;
use bytes::{Bytes, BytesMut};
use model::GroupKey;
use std::collections::BTreeMap;

const SLAB: usize = 64 << 10;
/// A small entry counts as much towards a flush: what a start does for an entry is not only reading it.
const LEAST: u64 = 8 << 10;

/// What a [`DiskOp::Put`] was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutKind {
    Checkpoint(GroupKey, u64),
    /// An index: nobody waits for it, and it is rebuilt when it is lost or torn.
    Index,
}

/// A write that has not passed its barrier: written again when the disk was full.
#[derive(Clone, Debug)]
pub(crate) struct Retained {
    /// Whose; `None` for the state log.
    pub(crate) key: Option<GroupKey>,
    /// The entry, or the last one before the end; 0 for everything else.
    pub(crate) index: u64,
    pub(crate) file: FileId,
    pub(crate) pos: u64,
    pub(crate) content: Content,
}

/// What a write writes.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// These bytes.
    New([Bytes; 2]),
    /// So many bytes that the file holds there already.
    Again(u64),
    /// Zeros in place of a header: no frame follows here.
    End,
}

static END: [u8; FRAME_HEADER] = [0; FRAME_HEADER];

/// Where the last write of a log stands in `ops`, so that the next one can join it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WriteRun {
    op: usize,
    generation: u64,
    next_pos: u64,
}

/// Effects and allocators of one data directory.
#[derive(Debug)]
pub struct StorageFx {
    /// What the disk is to do, in this order.
    pub ops: Vec<DiskOp>,
    pub(crate) cache: TailCache,
    pub(crate) puts: BTreeMap<OpToken, PutKind>,
    /// Written files that no sync covers yet.
    pub(crate) dirty: BTreeMap<GroupKey, Vec<FileId>>,
    /// Files that the running sync covers.
    pub(crate) syncing: Vec<FileId>,
    /// Files that the running flush covers.
    pub(crate) flushing: Vec<FileId>,
    /// Bytes written since the last flush began.
    pub(crate) unflushed: u64,
    /// Files to close as soon as they are not dirty, with their first index (0 when nobody is to write them).
    pub(crate) retired: Vec<(GroupKey, u64, FileId)>,
    pub(crate) unwritten: Vec<Retained>,
    slab: BytesMut,
    generation: u64,
    next_file: u64,
    next_token: u64,
}

impl StorageFx {
    /// An empty one with `tail_cache_bytes` of cache; for tests and tools (a [`crate::Directory`] has one).
    pub fn new(tail_cache_bytes: usize) -> StorageFx {
        StorageFx {
            ops: Vec::new(),
            cache: TailCache::new(tail_cache_bytes),
            puts: BTreeMap::new(),
            dirty: BTreeMap::new(),
            syncing: Vec::new(),
            flushing: Vec::new(),
            unflushed: 0,
            retired: Vec::new(),
            unwritten: Vec::new(),
            slab: BytesMut::new(),
            generation: 1,
            next_file: 0,
            next_token: 0,
        }
    }

    /// Bytes of batches held for readers at the tail.
    pub fn cached_bytes(&self) -> usize {
        self.cache.used()
    }

    pub(crate) fn file(&mut self) -> FileId {
        self.next_file += 1;
        FileId(self.next_file)
    }

    pub(crate) fn token(&mut self) -> OpToken {
        self.next_token += 1;
        OpToken(self.next_token)
    }

    /// A header as `Bytes` without an allocation of its own.
    pub(crate) fn header(&mut self, header: &[u8; FRAME_HEADER]) -> Bytes {
        if self.slab.capacity() < FRAME_HEADER {
            self.slab = BytesMut::with_capacity(SLAB);
        }
        self.slab.extend_from_slice(header);
        self.slab.split().freeze()
    }

    /// Emits a write of `bufs`, joined to the log's last one where nothing came between. `entry`: the group and
    /// index; `None` for the state log.
    pub(crate) fn write(
        &mut self,
        run: &mut WriteRun,
        entry: Option<(GroupKey, u64)>,
        file: FileId,
        pos: u64,
        bufs: [Bytes; 2],
    ) {
        let end = pos + (bufs[0].len() + bufs[1].len()) as u64;
        self.unflushed += (end - pos).max(LEAST);
        let (key, index) = entry.unzip();
        let (index, content) = (index.unwrap_or(0), Content::New(bufs.clone()));
        self.unwritten.push(Retained { key, index, file, pos, content });
        let bufs = bufs.into_iter().filter(|b| !b.is_empty());
        if run.generation == self.generation
            && run.next_pos == pos
            && let Some(DiskOp::Write { file: last, bufs: joined, .. }) = self.ops.get_mut(run.op)
            && *last == file
        {
            joined.extend(bufs);
            run.next_pos = end;
            return;
        }
        *run = WriteRun { op: self.ops.len(), generation: self.generation, next_pos: end };
        self.ops.push(DiskOp::Write { file, pos, bufs: bufs.collect() });
    }

    /// Has `len` bytes from `pos` on written once more, in place.
    pub(crate) fn rewrite(&mut self, key: Option<GroupKey>, file: FileId, pos: u64, len: u64) {
        self.unwritten.push(Retained { key, index: 0, file, pos, content: Content::Again(len) });
        self.ops.push(DiskOp::Rewrite { file, pos, len });
    }

    /// Ends the frames of `file` at `pos`, after entry `index`, whatever stands there.
    pub(crate) fn end_frames(&mut self, key: Option<GroupKey>, index: u64, file: FileId, pos: u64) {
        self.unwritten.push(Retained { key, index, file, pos, content: Content::End });
        self.ops.push(DiskOp::Write { file, pos, bufs: vec![Bytes::from_static(&END)] });
    }

    /// Emits a write once more that found no space.
    pub(crate) fn write_again(&mut self, Retained { key, index, file, pos, content }: Retained) {
        match content {
            Content::New(bufs) => {
                self.write(&mut WriteRun::default(), key.map(|key| (key, index)), file, pos, bufs);
            }
            Content::Again(len) => self.rewrite(key, file, pos, len),
            Content::End => self.end_frames(key, index, file, pos),
        }
    }

    /// Notes that `file` holds bytes of `key` that no sync covers.
    pub(crate) fn note_dirty(&mut self, key: GroupKey, file: FileId) {
        let files = self.dirty.entry(key).or_default();
        if !files.contains(&file) {
            files.push(file);
        }
    }

    /// Closes `file`, named `segment`, now or after the sync that covers it.
    pub(crate) fn retire(&mut self, key: GroupKey, segment: u64, file: FileId) {
        let dirty = self.dirty.get(&key).is_some_and(|files| files.contains(&file));
        if dirty || self.syncing.contains(&file) || self.flushing.contains(&file) {
            self.retired.push((key, segment, file));
        } else {
            self.ops.push(DiskOp::Close { file });
        }
    }

    /// The file `segment` for writing on. One that was retired and is still open is the one that creates it, where
    /// it was not there yet for lack of space.
    pub(crate) fn open_again(&mut self, key: GroupKey, segment: u64, path: String) -> FileId {
        if let Some(at) = self.retired.iter().position(|(k, s, _)| (*k, *s) == (key, segment)) {
            return self.retired.remove(at).2;
        }
        let file = self.file();
        self.ops.push(DiskOp::Open { file, path });
        file
    }

    /// Closes a file that is to be removed, `open` among others: no sync needs to cover it, and another may get
    /// its name.
    pub(crate) fn abandon(&mut self, key: GroupKey, segment: u64, open: Option<FileId>) {
        let is = |(k, s, _): &(GroupKey, u64, FileId)| (*k, *s) == (key, segment);
        let (gone, kept) = std::mem::take(&mut self.retired).into_iter().partition(is);
        self.retired = kept;
        let gone: Vec<(GroupKey, u64, FileId)> = gone;
        for file in gone.into_iter().map(|(_, _, file)| file).chain(open) {
            if let Some(files) = self.dirty.get_mut(&key) {
                files.retain(|dirty| *dirty != file);
            }
            self.retire(key, 0, file);
        }
    }

    pub(crate) fn put(&mut self, path: String, bytes: Bytes, kind: PutKind) -> OpToken {
        let token = self.token();
        self.puts.insert(token, kind);
        self.ops.push(DiskOp::Put { path, bytes, token, durable: kind != PutKind::Index });
        token
    }

    /// A barrier after all writes so far, with what it covers.
    pub(crate) fn barrier(&mut self) -> (OpToken, Vec<Retained>) {
        let token = self.token();
        self.generation += 1;
        self.ops.push(DiskOp::Barrier { token });
        (token, std::mem::take(&mut self.unwritten))
    }

    /// Closes what was retired and is not dirty any more.
    pub(crate) fn close_retired(&mut self) {
        for (key, segment, file) in std::mem::take(&mut self.retired) {
            self.retire(key, segment, file);
        }
    }

    /// Forgets what a group had in hand: it is deleted, failed or given up. What it has in `ops` is still
    /// carried out, before anything that comes later.
    pub(crate) fn drop_group(&mut self, key: GroupKey) {
        self.dirty.remove(&key);
        self.unwritten.retain(|write| write.key != Some(key));
        // The end of a checkpoint that is on its way concerns nobody any more.
        self.puts.retain(|_, kind| !matches!(kind, PutKind::Checkpoint(whose, _) if *whose == key));
        let (gone, kept) = std::mem::take(&mut self.retired).into_iter().partition(|(k, ..)| *k == key);
        self.retired = kept;
        let gone: Vec<(GroupKey, u64, FileId)> = gone;
        self.ops.extend(gone.into_iter().map(|(_, _, file)| DiskOp::Close { file }));
    }
}
