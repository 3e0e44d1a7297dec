//! Kafka's records of consumer groups: key types 3 to 8 and 16, value version 0.
//!
//! Written as Kafka 4.4 does, with the tagged fields of KIP-1101, KIP-1251, KIP-1263 and KIP-1282. Type 4, the topics as
//! they were at the last rebalance, was given up in 4.1: it is read, and deleted with the group's next epoch.
use super::assignor::Partitions;
use crate::codec::{Reader, RecordError, put_compact_opt_string, put_compact_string, put_string, put_varint};
use crate::requests::Protocol;
use bytes::{BufMut, Bytes, BytesMut};
use model::TopicId;
use std::collections::{BTreeMap, BTreeSet};

/// Partitions with the epoch at which each was assigned.
pub type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// What a record says of its consumer group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConsumerKey {
    /// Type 3: its epoch.
    Epoch,
    /// Type 4: topics as they were, up to Kafka 4.0.
    Topics,
    /// Type 5: a member's subscription.
    Member(String),
    /// Type 6: the epoch of the target assignment.
    TargetEpoch,
    /// Type 7: what a member is to have.
    Target(String),
    /// Type 8: what a member has.
    Current(String),
    /// Type 16: the topics of a regular expression.
    Regex(String),
}

impl ConsumerKey {
    fn parts(&self) -> (i16, Option<&str>) {
        match self {
            ConsumerKey::Epoch => (3, None),
            ConsumerKey::Topics => (4, None),
            ConsumerKey::Member(id) => (5, Some(id)),
            ConsumerKey::TargetEpoch => (6, None),
            ConsumerKey::Target(id) => (7, Some(id)),
            ConsumerKey::Current(id) => (8, Some(id)),
            ConsumerKey::Regex(regex) => (16, Some(regex)),
        }
    }

    /// The key's bytes in the log.
    pub fn encode(&self, group: &str) -> Bytes {
        let (kind, second) = self.parts();
        let mut out = BytesMut::with_capacity(6 + group.len() + second.map_or(0, str::len));
        out.put_i16(kind);
        put_string(&mut out, group);
        if let Some(second) = second {
            put_string(&mut out, second);
        }
        out.freeze()
    }

    pub(crate) fn is_kind(kind: i16) -> bool {
        matches!(kind, 3..=8 | 16)
    }

    /// The rest of a key after its type.
    pub(crate) fn decode(kind: i16, r: &mut Reader<'_>) -> Result<(String, ConsumerKey), RecordError> {
        let group = r.string(false, "group")?;
        let mut second = || r.string(false, "member");
        let key = match kind {
            3 => ConsumerKey::Epoch,
            4 => ConsumerKey::Topics,
            5 => ConsumerKey::Member(second()?),
            6 => ConsumerKey::TargetEpoch,
            7 => ConsumerKey::Target(second()?),
            8 => ConsumerKey::Current(second()?),
            16 => ConsumerKey::Regex(second()?),
            other => return Err(RecordError::UnknownVersion(other)),
        };
        Ok((group, key))
    }
}

fn begin(bytes: &[u8]) -> Result<Reader<'_>, RecordError> {
    let mut r = Reader::new(bytes);
    match r.i16("value version")? {
        0 => Ok(r),
        other => Err(RecordError::UnknownVersion(other)),
    }
}

fn start(capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(capacity);
    out.put_i16(0);
    out
}

fn put_len(out: &mut BytesMut, len: usize) {
    put_varint(out, u32::try_from(len + 1).expect("a record is far below 4 GiB"));
}

fn put_tag(out: &mut BytesMut, tag: u32, content: &[u8]) {
    put_varint(out, tag);
    put_varint(out, u32::try_from(content.len()).expect("a record is far below 4 GiB"));
    out.put_slice(content);
}

fn strings(r: &mut Reader<'_>, what: &'static str) -> Result<Vec<String>, RecordError> {
    let mut out = Vec::new();
    for _ in 0..r.length(true, what)? {
        out.push(r.string(true, what)?);
    }
    Ok(out)
}

fn ints(r: &mut Reader<'_>, what: &'static str) -> Result<Vec<i32>, RecordError> {
    let mut out = Vec::new();
    for _ in 0..r.length(true, what)? {
        out.push(r.i32(what)?);
    }
    Ok(out)
}

fn put_ints(out: &mut BytesMut, count: usize, all: impl Iterator<Item = i32>) {
    put_len(out, count);
    all.for_each(|p| out.put_i32(p));
}

/// Type 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EpochValue {
    /// The group's epoch.
    pub epoch: i32,
    /// A value of the subscribed topics, 0 for none (KIP-1101).
    pub metadata_hash: i64,
    /// When the group was created, or -1 (KIP-1282).
    pub created_ms: i64,
}

impl EpochValue {
    /// The bytes that Kafka 4.4 would write.
    pub fn encode(&self) -> Bytes {
        let mut out = start(32);
        out.put_i32(self.epoch);
        let count = u32::from(self.metadata_hash != 0) + u32::from(self.created_ms != -1);
        put_varint(&mut out, count);
        if self.metadata_hash != 0 {
            put_tag(&mut out, 0, &self.metadata_hash.to_be_bytes());
        }
        if self.created_ms != -1 {
            put_tag(&mut out, 1, &self.created_ms.to_be_bytes());
        }
        out.freeze()
    }

    /// Reads version 0.
    pub fn decode(bytes: &[u8]) -> Result<EpochValue, RecordError> {
        let mut r = begin(bytes)?;
        let mut value = EpochValue { epoch: r.i32("epoch")?, metadata_hash: 0, created_ms: -1 };
        r.tags(|tag, content| {
            match tag {
                0 => value.metadata_hash = Reader::new(content).i64("metadata hash")?,
                1 => value.created_ms = Reader::new(content).i64("creation time")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value)
    }
}

/// Type 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TargetEpochValue {
    /// The group epoch that the assignment is for.
    pub epoch: i32,
    /// When it was computed, 0 if unknown (KIP-1263).
    pub at_ms: i64,
}

impl TargetEpochValue {
    /// The bytes that Kafka 4.4 would write.
    pub fn encode(&self) -> Bytes {
        let mut out = start(20);
        out.put_i32(self.epoch);
        put_varint(&mut out, u32::from(self.at_ms != 0));
        if self.at_ms != 0 {
            put_tag(&mut out, 0, &self.at_ms.to_be_bytes());
        }
        out.freeze()
    }

    /// Reads version 0.
    pub fn decode(bytes: &[u8]) -> Result<TargetEpochValue, RecordError> {
        let mut r = begin(bytes)?;
        let mut value = TargetEpochValue { epoch: r.i32("assignment epoch")?, at_ms: 0 };
        r.tags(|tag, content| {
            if tag == 0 {
                value.at_ms = Reader::new(content).i64("assignment timestamp")?;
            }
            Ok(())
        })?;
        Ok(value)
    }
}

/// What a record keeps of a member that speaks the classic protocol in a consumer group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClassicMemberValue {
    /// Its own session timeout.
    pub session_timeout_ms: i32,
    /// The assignors that it supports, with its metadata.
    pub protocols: Vec<Protocol>,
}

/// Type 5.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionValue {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.rack`.
    pub rack_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Topics that it names.
    pub topics: Vec<String>,
    /// Topics that match this, too.
    pub regex: Option<String>,
    /// Milliseconds that it has to give partitions up.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it asks for.
    pub assignor: Option<String>,
    /// For a member that speaks the classic protocol.
    pub classic: Option<ClassicMemberValue>,
}

impl SubscriptionValue {
    /// The bytes that Kafka 4.4 would write.
    pub fn encode(&self) -> Bytes {
        let mut out = start(128);
        put_compact_opt_string(&mut out, self.instance_id.as_deref());
        put_compact_opt_string(&mut out, self.rack_id.as_deref());
        put_compact_string(&mut out, &self.client_id);
        put_compact_string(&mut out, &self.client_host);
        put_len(&mut out, self.topics.len());
        self.topics.iter().for_each(|topic| put_compact_string(&mut out, topic));
        put_compact_opt_string(&mut out, self.regex.as_deref());
        out.put_i32(self.rebalance_timeout_ms);
        put_compact_opt_string(&mut out, self.assignor.as_deref());
        put_varint(&mut out, u32::from(self.classic.is_some()));
        if let Some(classic) = &self.classic {
            // A struct that may be null begins with a byte that says that it is not.
            let mut inner = BytesMut::new();
            inner.put_u8(1);
            inner.put_i32(classic.session_timeout_ms);
            put_len(&mut inner, classic.protocols.len());
            for protocol in &classic.protocols {
                put_compact_string(&mut inner, &protocol.name);
                put_len(&mut inner, protocol.metadata.len());
                inner.put_slice(&protocol.metadata);
                put_varint(&mut inner, 0);
            }
            put_varint(&mut inner, 0);
            put_tag(&mut out, 0, &inner);
        }
        out.freeze()
    }

    /// Reads version 0.
    pub fn decode(bytes: &[u8]) -> Result<SubscriptionValue, RecordError> {
        let mut r = begin(bytes)?;
        let mut value = SubscriptionValue {
            instance_id: r.opt_string(true, "instance id")?,
            rack_id: r.opt_string(true, "rack id")?,
            client_id: r.string(true, "client id")?,
            client_host: r.string(true, "client host")?,
            topics: strings(&mut r, "subscribed topics")?,
            regex: r.opt_string(true, "subscribed regex")?,
            rebalance_timeout_ms: r.i32("rebalance timeout")?,
            assignor: r.opt_string(true, "server assignor")?,
            classic: None,
        };
        r.tags(|tag, content| {
            if tag == 0 {
                value.classic = ClassicMemberValue::decode(content)?;
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl ClassicMemberValue {
    fn decode(bytes: &[u8]) -> Result<Option<ClassicMemberValue>, RecordError> {
        let mut r = Reader::new(bytes);
        if r.u8("classic metadata")? as i8 == -1 {
            return Ok(None);
        }
        let session_timeout_ms = r.i32("session timeout")?;
        let mut protocols = Vec::new();
        for _ in 0..r.length(true, "protocols")? {
            let name = r.string(true, "protocol")?;
            let metadata = r.bytes(true, "metadata")?;
            r.tags(|_, _| Ok(()))?;
            protocols.push(Protocol { name, metadata });
        }
        r.tags(|_, _| Ok(()))?;
        Ok(Some(ClassicMemberValue { session_timeout_ms, protocols }))
    }
}

/// Type 7's value: what a member is to have.
pub fn encode_target(partitions: &Partitions) -> Bytes {
    let mut out = start(16 + partitions.len() * 32);
    put_len(&mut out, partitions.len());
    for (topic, set) in partitions {
        out.put_slice(&topic.0);
        put_ints(&mut out, set.len(), set.iter().copied());
        put_varint(&mut out, 0);
    }
    put_varint(&mut out, 0);
    out.freeze()
}

/// Reads version 0 of type 7's value.
pub fn decode_target(bytes: &[u8]) -> Result<Partitions, RecordError> {
    let mut r = begin(bytes)?;
    let mut out = Partitions::new();
    for _ in 0..r.length(true, "topic partitions")? {
        let topic = TopicId(r.uuid("topic id")?);
        let set: BTreeSet<i32> = ints(&mut r, "partitions")?.into_iter().collect();
        r.tags(|_, _| Ok(()))?;
        out.insert(topic, set);
    }
    r.tags(|_, _| Ok(()))?;
    Ok(out)
}

/// Type 8: what a member has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CurrentValue {
    /// The epoch that its heartbeats are to name.
    pub epoch: i32,
    /// The one before, for a member that did not get the answer.
    pub previous_epoch: i32,
    /// 0 stable, 1 partitions to be revoked, 2 partitions not yet released by others.
    pub state: i8,
    /// What it has.
    pub assigned: Owned,
    /// What it is to give up.
    pub revoking: Owned,
}

fn put_owned(out: &mut BytesMut, owned: &Owned) {
    put_len(out, owned.len());
    for (topic, partitions) in owned {
        out.put_slice(&topic.0);
        put_ints(out, partitions.len(), partitions.keys().copied());
        let mut epochs = BytesMut::new();
        put_ints(&mut epochs, partitions.len(), partitions.values().copied());
        put_varint(out, 1);
        put_tag(out, 0, &epochs);
    }
}

fn owned(r: &mut Reader<'_>, default_epoch: i32) -> Result<Owned, RecordError> {
    let mut out = Owned::new();
    for _ in 0..r.length(true, "owned partitions")? {
        let topic = TopicId(r.uuid("topic id")?);
        let partitions = ints(r, "partitions")?;
        let mut epochs = Vec::new();
        r.tags(|tag, content| {
            if tag == 0 && content.first() != Some(&0) {
                epochs = ints(&mut Reader::new(content), "assignment epochs")?;
            }
            Ok(())
        })?;
        let epoch = |at: usize| epochs.get(at).copied().unwrap_or(default_epoch);
        out.insert(topic, partitions.into_iter().enumerate().map(|(at, p)| (p, epoch(at))).collect());
    }
    Ok(out)
}

impl CurrentValue {
    /// The bytes that Kafka 4.4 would write.
    pub fn encode(&self) -> Bytes {
        let mut out = start(64);
        out.put_i32(self.epoch);
        out.put_i32(self.previous_epoch);
        out.put_i8(self.state);
        put_owned(&mut out, &self.assigned);
        put_owned(&mut out, &self.revoking);
        put_varint(&mut out, 0);
        out.freeze()
    }

    /// Reads version 0. Partitions without an assignment epoch, of before Kafka 4.3, have the member's.
    pub fn decode(bytes: &[u8]) -> Result<CurrentValue, RecordError> {
        let mut r = begin(bytes)?;
        let epoch = r.i32("member epoch")?;
        let value = CurrentValue {
            epoch,
            previous_epoch: r.i32("previous epoch")?,
            state: r.u8("state")? as i8,
            assigned: owned(&mut r, epoch)?,
            revoking: owned(&mut r, epoch)?,
        };
        r.tags(|_, _| Ok(()))?;
        Ok(value)
    }
}

/// Type 16: the topics of a regular expression.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegexValue {
    /// Topics that match, in order.
    pub topics: Vec<String>,
    /// The version of the metadata that they are of.
    pub version: i64,
    /// When they were found.
    pub at_ms: i64,
}

impl RegexValue {
    /// The bytes that Kafka 4.4 would write.
    pub fn encode(&self) -> Bytes {
        let mut out = start(32);
        put_len(&mut out, self.topics.len());
        self.topics.iter().for_each(|topic| put_compact_string(&mut out, topic));
        out.put_i64(self.version);
        out.put_i64(self.at_ms);
        put_varint(&mut out, 0);
        out.freeze()
    }

    /// Reads version 0.
    pub fn decode(bytes: &[u8]) -> Result<RegexValue, RecordError> {
        let mut r = begin(bytes)?;
        let value = RegexValue {
            topics: strings(&mut r, "topics")?,
            version: r.i64("version")?,
            at_ms: r.i64("timestamp")?,
        };
        r.tags(|_, _| Ok(()))?;
        Ok(value)
    }
}

/// Whether a value can be read, for replay: what cannot must not be served from.
pub(crate) fn check(key: &ConsumerKey, value: &[u8]) -> Result<(), RecordError> {
    match key {
        ConsumerKey::Epoch => EpochValue::decode(value).map(drop),
        // Nothing depends on it.
        ConsumerKey::Topics => Ok(()),
        ConsumerKey::Member(_) => SubscriptionValue::decode(value).map(drop),
        ConsumerKey::TargetEpoch => TargetEpochValue::decode(value).map(drop),
        ConsumerKey::Target(_) => decode_target(value).map(drop),
        ConsumerKey::Current(_) => CurrentValue::decode(value).map(drop),
        ConsumerKey::Regex(_) => RegexValue::decode(value).map(drop),
    }
}
