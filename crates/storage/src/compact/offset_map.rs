//! The last offset of each key, in memory that is bounded: a hash of the key and an offset, 24 bytes for each.
//!
//! As in Kafka the hash stands for the key, so it must be one for which nobody finds two keys of the same value: the
//! first half of SHA-256.
use model::Offset;
use sha2::{Digest, Sha256};
use std::fmt;

/// Bytes that one key takes.
const SLOT_BYTES: u64 = 24;
/// So many slots there are at least, whatever the memory: a pass must come to something.
const LEAST_SLOTS: u64 = 64;

type Hash = [u8; 16];

/// A key and the offset after its last record; 0: nothing is here.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: Hash,
    next: i64,
}

/// Keys and the offsets of their last records.
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    /// With more a search would be long.
    most: usize,
}

impl fmt::Debug for OffsetMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffsetMap")
            .field("used", &self.used)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

fn hash_of(key: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(&Sha256::digest(key)[..16]);
    hash
}

impl OffsetMap {
    /// One that takes no more than `bytes` of memory, and no more than `keys` keys need.
    pub(crate) fn new(bytes: u64, keys: u64) -> OffsetMap {
        let wanted = keys.saturating_mul(10) / 9 + 2;
        let slots = (bytes / SLOT_BYTES).max(LEAST_SLOTS).min(wanted);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        // A tenth stays free, as Kafka's `log.cleaner.io.buffer.load.factor` has it.
        OffsetMap { slots: vec![Slot::default(); slots], used: 0, most: (slots - slots.div_ceil(10)).max(1) }
    }

    /// Where the key is, or would be.
    fn find(&self, hash: &Hash) -> usize {
        let mut start = [0; 8];
        start.copy_from_slice(&hash[..8]);
        let count = self.slots.len();
        let mut at = (u64::from_le_bytes(start) % count as u64) as usize;
        while self.slots[at].next != 0 && self.slots[at].hash != *hash {
            at = (at + 1) % count;
        }
        at
    }

    /// Takes in that `key` has a record at `offset`; `false` where that is a key too many.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = hash_of(key);
        let at = self.find(&hash);
        if self.slots[at].next == 0 {
            if self.used == self.most {
                return false;
            }
            self.used += 1;
        }
        self.slots[at] = Slot { hash, next: offset + 1 };
        true
    }

    /// The last offset of `key` that was taken in.
    pub(crate) fn last(&self, key: &[u8]) -> Option<Offset> {
        let slot = &self.slots[self.find(&hash_of(key))];
        (slot.next != 0).then(|| slot.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_the_last_offset_of_every_key_until_it_is_full() {
        let mut map = OffsetMap::new(SLOT_BYTES * 100, 1_000_000);
        let key = |n: u32| n.to_be_bytes();
        for n in 0..90 {
            assert!(map.put(&key(n), i64::from(n)));
        }
        assert!(!map.put(&key(90), 90), "a tenth stays free");
        assert!(map.put(&key(7), 1_000), "a key that is there takes no room");
        for n in 0..90 {
            assert_eq!(map.last(&key(n)), Some(if n == 7 { 1_000 } else { i64::from(n) }));
        }
        assert_eq!((map.last(&key(90)), map.last(b"")), (None, None));
    }

    #[test]
    fn memory_is_what_the_keys_need_and_never_more_than_allowed() {
        assert!(OffsetMap::new(1 << 30, 9).slots.len() <= 12);
        assert_eq!(OffsetMap::new(SLOT_BYTES * 1000, u64::MAX).slots.len(), 1000);
        let mut few = OffsetMap::new(1 << 20, 1);
        assert!(few.put(b"a", 0) && few.last(b"b").is_none());
    }
}
