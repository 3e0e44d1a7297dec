//! What a start found in the data directory, told in one line.
use bytes::Bytes;
use node::{LastStop, Node};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::{DiskError, DiskRead};

/// Counts what is read through it.
pub(crate) struct Counted<'a> {
    disk: &'a dyn DiskRead,
    bytes: AtomicU64,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(disk: &'a dyn DiskRead) -> Counted<'a> {
        Counted { disk, bytes: AtomicU64::new(0) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl DiskRead for Counted<'_> {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        self.disk.len(path)
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let read = self.disk.read(path, pos, len)?;
        self.bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn index(&self, path: &str) -> Option<Bytes> {
        self.disk.index(path)
    }

    fn offer_index(&self, path: &str, bytes: Bytes) {
        self.disk.offer_index(path, bytes);
    }
}

/// Partitions that one line names at most.
const NAMED: usize = 50;

/// Logs which partitions a damaged state log does not know, though they have files.
fn tell_adopted(node: &Node) {
    let image = node.image();
    let name = |key: &model::GroupKey| match image.topic_by_id(key.topic) {
        Some(topic) => format!("{}-{}", topic.name, key.partition),
        None => key.to_string(),
    };
    let adopted = node.adopted();
    if !adopted.is_empty() {
        let partitions = adopted.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
        tracing::warn!(
            count = adopted.len(),
            partitions,
            "the damaged state log does not name these, they are recovered from their files: \
             what was acknowledged last may be missing only if it was not synced"
        );
    }
}

/// Logs how the last life ended and what was read again since.
pub(crate) fn tell(node: &Node, read_bytes: u64, taken: Duration) {
    tell_adopted(node);
    let last_stop = match node.last_stop() {
        LastStop::None => return tracing::info!("data directory is new"),
        LastStop::Clean => "clean",
        LastStop::Killed => "unclean: the process ended without a clean stop",
        LastStop::Disk => "unclean: the disk failed, what was not synced may be lost",
        LastStop::Machine => "unclean: the machine went down",
    };
    tracing::info!(
        last_stop,
        read_bytes,
        ms = taken.as_millis() as u64,
        partitions_to_come = node.unrecovered(),
        "metadata recovered; partitions are recovered when they are first used, all of them within minutes"
    );
}
