//! Kafka's record formats of `__consumer_offsets`: OffsetCommit (keys 0 and 1) and GroupMetadata (key 2);
//! those of consumer groups are in `consumer/records.rs`.
//!
//! Written as Kafka 4.4 does: offsets in value version 4 with the topic id as tag 0 (version 1 where a
//! commit names its own lifetime), group metadata in value version 3. All older versions are read.
use crate::codec::{Reader, RecordError, put_bytes, put_opt_string, put_string, put_varint};
pub use crate::consumer::records::*;
use bytes::{BufMut, Bytes, BytesMut};
use model::TopicId;

/// What a record's key names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordKey {
    /// A committed offset.
    Offset {
        /// The group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A group's generation, members and assignment.
    Group {
        /// The group.
        group: String,
    },
    /// A record of a consumer group (KIP-848).
    Consumer {
        /// The group.
        group: String,
        /// What it says.
        key: ConsumerKey,
    },
    /// A record type of another protocol or a newer version.
    Unknown(i16),
}

/// A committed offset as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetValue {
    /// The next offset to read.
    pub offset: i64,
    /// Epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: Box<str>,
    /// When it was committed.
    pub commit_timestamp: i64,
    /// When it expires, where the client said so (OffsetCommit v2 to v4).
    pub expire_timestamp: Option<i64>,
    /// The topic's id, zero if unknown.
    pub topic_id: TopicId,
}

/// A group as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupValue {
    /// The protocol type, or empty.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The chosen assignor.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// When the group came into its state, or -1.
    pub state_timestamp: i64,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberValue {
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Milliseconds, or -1 in version 0.
    pub rebalance_timeout: i32,
    /// Milliseconds.
    pub session_timeout: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// The key of a committed offset.
pub fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + group.len() + topic.len());
    out.put_i16(1);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.put_i32(partition);
    out.freeze()
}

/// The key of a group.
pub fn group_key(group: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(2);
    put_string(&mut out, group);
    out.freeze()
}

impl RecordKey {
    /// Reads a key; a type that is not ours is [`RecordKey::Unknown`], not an error.
    pub fn decode(bytes: &[u8]) -> Result<RecordKey, RecordError> {
        let mut r = Reader::new(bytes);
        match r.i16("key version")? {
            0 | 1 => Ok(RecordKey::Offset {
                group: r.string(false, "group")?,
                topic: r.string(false, "topic")?,
                partition: r.i32("partition")?,
            }),
            2 => Ok(RecordKey::Group { group: r.string(false, "group")? }),
            kind if ConsumerKey::is_kind(kind) => {
                let (group, key) = ConsumerKey::decode(kind, &mut r)?;
                Ok(RecordKey::Consumer { group, key })
            }
            other => Ok(RecordKey::Unknown(other)),
        }
    }
}

impl OffsetValue {
    /// The bytes that Kafka 4.4 would write.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(48 + self.metadata.len());
        if let Some(expire) = self.expire_timestamp {
            out.put_i16(1);
            out.put_i64(self.offset);
            put_string(&mut out, &self.metadata);
            out.put_i64(self.commit_timestamp);
            out.put_i64(expire);
            return out.freeze();
        }
        out.put_i16(4);
        out.put_i64(self.offset);
        out.put_i32(self.leader_epoch);
        put_varint(&mut out, self.metadata.len() as u32 + 1);
        out.put_slice(self.metadata.as_bytes());
        out.put_i64(self.commit_timestamp);
        if self.topic_id.is_zero() {
            put_varint(&mut out, 0);
        } else {
            put_varint(&mut out, 1);
            put_varint(&mut out, 0);
            put_varint(&mut out, 16);
            out.put_slice(&self.topic_id.0);
        }
        out.freeze()
    }

    /// Reads versions 0 to 4.
    pub fn decode(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
        let mut r = Reader::new(bytes);
        let version = r.i16("value version")?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::UnknownVersion(version));
        }
        let compact = version >= 4;
        let mut value = OffsetValue {
            offset: r.i64("offset")?,
            leader_epoch: if version >= 3 { r.i32("leader epoch")? } else { -1 },
            metadata: r.string(compact, "metadata")?.into(),
            commit_timestamp: r.i64("commit timestamp")?,
            expire_timestamp: None,
            topic_id: TopicId::ZERO,
        };
        if version == 1 {
            value.expire_timestamp = Some(r.i64("expire timestamp")?).filter(|at| *at != -1);
        }
        if compact {
            r.tags(|tag, content| {
                if tag == 0 {
                    value.topic_id = TopicId(Reader::new(content).uuid("topic id")?);
                }
                Ok(())
            })?;
        }
        Ok(value)
    }
}

impl GroupValue {
    /// The bytes that Kafka 4.4 would write.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128 + self.members.len() * 192);
        out.put_i16(3);
        put_string(&mut out, &self.protocol_type);
        out.put_i32(self.generation);
        put_opt_string(&mut out, self.protocol.as_deref());
        put_opt_string(&mut out, self.leader.as_deref());
        out.put_i64(self.state_timestamp);
        out.put_i32(self.members.len() as i32);
        for member in &self.members {
            put_string(&mut out, &member.member_id);
            put_opt_string(&mut out, member.instance_id.as_deref());
            put_string(&mut out, &member.client_id);
            put_string(&mut out, &member.client_host);
            out.put_i32(member.rebalance_timeout);
            out.put_i32(member.session_timeout);
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out.freeze()
    }

    /// Reads versions 0 to 4.
    pub fn decode(bytes: &[u8]) -> Result<GroupValue, RecordError> {
        let mut r = Reader::new(bytes);
        let version = r.i16("value version")?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::UnknownVersion(version));
        }
        let compact = version >= 4;
        let mut value = GroupValue {
            protocol_type: r.string(compact, "protocol type")?,
            generation: r.i32("generation")?,
            protocol: r.opt_string(compact, "protocol")?,
            leader: r.opt_string(compact, "leader")?,
            state_timestamp: if version >= 2 { r.i64("state timestamp")? } else { -1 },
            members: Vec::new(),
        };
        for _ in 0..r.length(compact, "members")? {
            if r.is_empty() {
                return Err(RecordError::Short("members"));
            }
            value.members.push(MemberValue::decode(&mut r, version)?);
        }
        if compact {
            r.tags(|_, _| Ok(()))?;
        }
        Ok(value)
    }
}

impl MemberValue {
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<MemberValue, RecordError> {
        let compact = version >= 4;
        let member = MemberValue {
            member_id: r.string(compact, "member id")?,
            instance_id: if version >= 3 { r.opt_string(compact, "instance id")? } else { None },
            client_id: r.string(compact, "client id")?,
            client_host: r.string(compact, "client host")?,
            rebalance_timeout: if version >= 1 { r.i32("rebalance timeout")? } else { -1 },
            session_timeout: r.i32("session timeout")?,
            subscription: r.bytes(compact, "subscription")?,
            assignment: r.bytes(compact, "assignment")?,
        };
        if compact {
            r.tags(|_, _| Ok(()))?;
        }
        Ok(member)
    }
}

/// The topics of a `consumer` subscription. Every version of that format begins with them.
pub(crate) fn subscribed_topics(subscription: &[u8]) -> Result<Vec<String>, RecordError> {
    let mut r = Reader::new(subscription);
    r.i16("subscription version")?;
    let mut topics = Vec::new();
    for _ in 0..r.length(false, "topics")? {
        topics.push(r.string(false, "topic")?);
    }
    Ok(topics)
}
