//! The consumer protocol embedded in classic groups: what members tell their leader, and what it gives them. Written apart
//! from the coordinator's, so that a mistake of one side shows.
use super::Part;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// A subscription of version 0.
pub(super) fn subscription(topics: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    topics.iter().for_each(|topic| put_text(&mut out, topic));
    out.put_i32(-1);
    out.freeze()
}

/// An assignment of version 0.
fn assignment(parts: &[Part]) -> Bytes {
    let mut of: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    parts.iter().for_each(|(topic, partition)| of.entry(topic).or_default().push(*partition));
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(of.len() as i32);
    for (topic, partitions) in of {
        put_text(&mut out, topic);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    out.put_i32(-1);
    out.freeze()
}

/// What a leader gives to each member: the partitions in turn.
pub(super) fn shares(members: &[String], parts: &BTreeSet<Part>) -> Vec<(String, Bytes)> {
    let of = |at: usize| parts.iter().skip(at).step_by(members.len().max(1)).cloned().collect::<Vec<_>>();
    members.iter().enumerate().map(|(at, id)| (id.clone(), assignment(&of(at)))).collect()
}

/// The partitions of an assignment; no bytes are none. `None`: these bytes are no assignment of ours.
pub(super) fn decode(mut bytes: Bytes) -> Option<BTreeSet<Part>> {
    let mut parts = BTreeSet::new();
    if bytes.is_empty() {
        return Some(parts);
    }
    bytes.try_get_i16().ok()?;
    for _ in 0..bytes.try_get_i32().ok()? {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if bytes.len() < length {
            return None;
        }
        let topic = String::from_utf8(bytes.split_to(length).to_vec()).ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            parts.insert((topic.clone(), bytes.try_get_i32().ok()?));
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_a_share_and_each_partition_is_in_one() {
        let parts: BTreeSet<Part> =
            (0..5).map(|p| ("t".to_owned(), p)).chain([("u".to_owned(), 0)]).collect();
        let shares = shares(&["a".to_owned(), "b".to_owned()], &parts);
        let mut all = BTreeSet::new();
        for (_, bytes) in shares {
            let share = decode(bytes).unwrap();
            assert_eq!(share.len(), 3);
            share.into_iter().for_each(|part| assert!(all.insert(part)));
        }
        assert_eq!(all, parts);
        assert_eq!(decode(Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 9, b'x'])), None);
    }
}
