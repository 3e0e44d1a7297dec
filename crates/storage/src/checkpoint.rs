//! The state of a group at one index, and the file that holds it.
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::GroupKey;
use prost::Message;
pub use proto::storage::{BaseFile, Checkpoint, EpochStart, Replica, ReplicaKind};

const MAGIC: u32 = u32::from_le_bytes(*b"PLCK");
const VERSION: u32 = 1;
const HEADER: usize = 40;

/// Where the machines on a log stand when a checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedPoint {
    /// Applied index: the commit index last told to the log, or above; at or below the durable index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The next offset after it.
    pub next_offset: i64,
    /// The committed log start.
    pub log_start: i64,
}

/// The checkpoint with which a group is born: index 1, term 1, offset 0.
pub fn birth(key: GroupKey, members: Vec<Replica>) -> Checkpoint {
    let chain = crate::log::chain_seed(key);
    Checkpoint {
        index: 1,
        term: 1,
        chain,
        members,
        first_index: 2,
        prev_term: 1,
        prev_chain: chain,
        ..Checkpoint::default()
    }
}

/// Name of the file with the checkpoint at `index`.
pub(crate) fn checkpoint_name(index: u64) -> String {
    format!("{index:020}.ckpt")
}

/// The bytes of a checkpoint file.
pub(crate) fn encode(key: GroupKey, checkpoint: &Checkpoint) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + checkpoint.encoded_len());
    out.put_u32_le(MAGIC);
    out.put_u32_le(VERSION);
    out.put_slice(&key.topic.0);
    out.put_i32_le(key.partition);
    out.put_u32_le(0);
    out.put_u32_le(u32::try_from(checkpoint.encoded_len()).unwrap_or(u32::MAX));
    out.put_u32_le(0);
    out.put_slice(&checkpoint.encode_to_vec());
    let crc = records::crc32c(&out);
    out[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    out.freeze()
}

/// Reads a checkpoint file. `Err` says in words what is wrong with it.
pub fn decode(key: GroupKey, bytes: &[u8]) -> Result<Checkpoint, &'static str> {
    let mut at = bytes.get(..HEADER).ok_or("shorter than its header")?;
    if at.get_u32_le() != MAGIC {
        return Err("not a checkpoint file");
    }
    if at.get_u32_le() != VERSION {
        return Err("of a version this program does not know");
    }
    let mut topic = [0u8; 16];
    at.copy_to_slice(&mut topic);
    let partition = at.get_i32_le();
    at.advance(4);
    let length = at.get_u32_le() as usize;
    let crc = at.get_u32_le();
    if bytes.len() - HEADER != length {
        return Err("not as long as it says");
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[..HEADER - 4]);
    digest.update(&[0; 4]);
    digest.update(&bytes[HEADER..]);
    if digest.finalize() != u64::from(crc) {
        return Err("checksum mismatch");
    }
    if topic != key.topic.0 || partition != key.partition {
        return Err("of another group");
    }
    let checkpoint = Checkpoint::decode(&bytes[HEADER..]).map_err(|_| "not decodable")?;
    if consistent(&checkpoint) { Ok(checkpoint) } else { Err("contradicts itself") }
}

/// Indexes, offsets and records of the state log count up one by one: none comes near this, so arithmetic on those that are read cannot
/// overflow.
pub(crate) const MAX_POSITION: u64 = 1 << 62;

fn consistent(c: &Checkpoint) -> bool {
    (1..MAX_POSITION).contains(&c.index)
        && c.first_index >= 2
        && c.first_index <= c.index.saturating_add(1)
        && c.next_offset >= 0
        && c.log_start >= 0
        && c.log_start <= c.next_offset
        && c.next_offset.unsigned_abs() < MAX_POSITION
        && c.terms.iter().all(|t| t.index < MAX_POSITION)
        && c.terms.is_sorted_by_key(|t| t.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_round_trips_and_every_flip_is_seen() {
        let key = GroupKey::METADATA;
        let members = vec![Replica { id: 7, node_id: 1, kind: ReplicaKind::Voter as i32, witness: false }];
        let bytes = encode(key, &birth(key, members.clone()));
        assert_eq!(decode(key, &bytes), Ok(birth(key, members)));
        for i in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[i] ^= 1;
            assert!(decode(key, &bad).is_err(), "byte {i}");
        }
        assert_eq!(decode(GroupKey { partition: 3, ..key }, &bytes), Err("of another group"));
    }
}
