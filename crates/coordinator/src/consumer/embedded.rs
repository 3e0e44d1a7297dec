//! The consumer protocol embedded in classic groups: what members tell the leader, and what it gives them.
use super::TopicImage;
use super::reconcile::Reported;
use super::records::Owned;
use crate::codec::{Reader, RecordError, put_string};
use bytes::{BufMut, Bytes, BytesMut};

/// The newest version of both formats.
const NEWEST: i16 = 3;

/// A subscription; newer versions only add fields at the end.
pub(crate) struct Subscription {
    pub(crate) topics: Vec<String>,
    /// What the member says that it has. Version 0 has no such field, and its members have given up everything.
    owned: Vec<(String, Vec<i32>)>,
    pub(crate) rack: Option<String>,
}

fn partitions(r: &mut Reader<'_>) -> Result<Vec<(String, Vec<i32>)>, RecordError> {
    let mut out = Vec::new();
    for _ in 0..r.length(false, "topics")? {
        let topic = r.string(false, "topic")?;
        let mut list = Vec::new();
        for _ in 0..r.length(false, "partitions")? {
            list.push(r.i32("partition")?);
        }
        out.push((topic, list));
    }
    Ok(out)
}

impl Subscription {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Subscription, RecordError> {
        let mut r = Reader::new(bytes);
        let version = r.i16("subscription version")?;
        let mut topics = Vec::new();
        for _ in 0..r.length(false, "topics")? {
            topics.push(r.string(false, "topic")?);
        }
        r.opt_bytes("user data")?;
        let owned = if version >= 1 { partitions(&mut r)? } else { Vec::new() };
        if version >= 2 {
            r.i32("generation")?;
        }
        let rack = if version >= 3 { r.opt_string(false, "rack")? } else { None };
        Ok(Subscription { topics, owned, rack })
    }

    /// What the member has, by topic id. Topics that are gone cannot be given to anybody else.
    pub(crate) fn owned(&self, topics: &TopicImage) -> Reported {
        let id = |name: &str| topics.get(name).map(|t| t.id);
        self.owned.iter().filter_map(|(name, list)| Some((id(name)?, list.clone()))).collect()
    }
}

/// A leader's assignment for one member, by topic id. No bytes are no partitions.
pub(crate) fn decode_assignment(bytes: &[u8], topics: &TopicImage) -> Result<Reported, RecordError> {
    if bytes.is_empty() {
        return Ok(Reported::new());
    }
    let mut r = Reader::new(bytes);
    r.i16("assignment version")?;
    let all = partitions(&mut r)?;
    Ok(all.into_iter().filter_map(|(name, list)| Some((topics.get(&name)?.id, list))).collect())
}

/// An assignment in the version of the member's subscription.
pub(crate) fn encode_assignment(owned: &Owned, topics: &TopicImage, subscription: &[u8]) -> Bytes {
    let version = Reader::new(subscription).i16("subscription version").unwrap_or(0);
    let named: Vec<_> = owned.iter().filter_map(|(id, ps)| Some((topics.name(id)?, ps))).collect();
    let mut out = BytesMut::new();
    out.put_i16(version.clamp(0, NEWEST));
    out.put_i32(named.len() as i32);
    for (name, partitions) in named {
        put_string(&mut out, name);
        out.put_i32(partitions.len() as i32);
        partitions.keys().for_each(|p| out.put_i32(*p));
    }
    // No user data.
    out.put_i32(-1);
    out.freeze()
}
