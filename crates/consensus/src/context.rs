//! What a raft entry itself lacks of a frame's header, carried in the entry's context.
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{Offset, WallMs};
use storage::EntryKind;

/// The rest of a frame's header: equal on every replica, or their chains would differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryContext {
    pub(crate) kind: EntryKind,
    pub(crate) flags: u16,
    pub(crate) offset_count: u32,
    pub(crate) base_offset: Offset,
    pub(crate) append_time: WallMs,
}

const LEN: usize = 1 + 2 + 4 + 8 + 8;

impl EntryContext {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(LEN);
        out.put_u8(self.kind as u8);
        out.put_u16(self.flags);
        out.put_u32(self.offset_count);
        out.put_i64(self.base_offset);
        out.put_i64(self.append_time);
        out.freeze()
    }

    /// `None` unless these are exactly the bytes that `encode` makes.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<EntryContext> {
        if bytes.len() != LEN {
            return None;
        }
        let kind = match bytes.get_u8() {
            k if k == EntryKind::Data as u8 => EntryKind::Data,
            k if k == EntryKind::Command as u8 => EntryKind::Command,
            k if k == EntryKind::Bare as u8 => EntryKind::Bare,
            _ => return None,
        };
        Some(EntryContext {
            kind,
            flags: bytes.get_u16(),
            offset_count: bytes.get_u32(),
            base_offset: bytes.get_i64(),
            append_time: bytes.get_i64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_encoding_and_nothing_else_decodes() {
        let context = EntryContext {
            kind: EntryKind::Data,
            flags: 3,
            offset_count: u32::MAX,
            base_offset: i64::MAX - 5,
            append_time: 1_700_000_000_000,
        };
        let bytes = context.encode();
        assert_eq!(EntryContext::decode(&bytes), Some(context));
        assert_eq!(EntryContext::decode(&bytes[1..]), None);
        assert_eq!(EntryContext::decode(&[9; LEN]), None);
    }
}
