//! Messages between replicas as they travel: raft's structs to and from our own protobuf message.
//!
//! Payloads pass through as they are, uncopied. No byte of a peer reaches raft's own protobuf code, which
//! overflows the stack on hostile nesting, and no message reaches raft that only a node itself may make or
//! that makes raft panic, as far as the message alone can tell.
use crate::context::EntryContext;
use crate::members::MOST_REPLICAS;
use crate::peer_fault::{PeerCodecError, PeerFault};
use crate::peer_message::PeerMessage;
use bytes::Bytes;
use model::{GroupKey, TopicId};
use prost::Message as _;
use proto::peer as pb;
use proto::peer::{EntryHead, EntryType as PbEntryType, RaftMessage, RaftType};
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use std::collections::BTreeSet;
use storage::EntryKind;

/// Entries that one message may have.
pub const MOST_ENTRIES: usize = 1 << 20;
/// Bytes of what a snapshot carries beside position and membership.
pub const SNAPSHOT_BYTES: usize = 64 << 20;
/// Terms are leader epochs, i32 for Kafka.
const LAST_TERM: u64 = i32::MAX as u64;
/// At a million entries a second a log gets here in 146,000 years; sums of two indexes do not overflow.
const LAST_INDEX: u64 = 1 << 62;
/// What raft puts into a context is a word or a read's id.
const CONTEXT_BYTES: usize = 1 << 10;
/// Bytes of a membership change.
const CONF_CHANGE_BYTES: usize = 64 << 10;

type Checked<T> = Result<T, PeerCodecError>;

impl PeerMessage {
    /// The message's wire form, and the payloads of its entries, or of its snapshot. Errors: a message that
    /// must not leave its node, or entries that no replica could append; it is to be dropped, raft sends
    /// again.
    pub fn into_wire(self, key: GroupKey) -> Checked<(RaftMessage, Vec<Bytes>)> {
        let mut raft = self.0;
        let kind = wire_type(raft.get_msg_type()).ok_or_else(|| PeerFault::Local.of("type"))?;
        let mut message = RaftMessage {
            topic_id: Bytes::copy_from_slice(&key.topic.0),
            partition: key.partition,
            r#type: kind as i32,
            from: raft.from,
            to: raft.to,
            term: raft.term,
            log_term: raft.log_term,
            index: raft.index,
            commit: raft.commit,
            commit_term: raft.commit_term,
            reject: raft.reject,
            reject_hint: raft.reject_hint,
            request_snapshot: raft.request_snapshot,
            context: raft.take_context(),
            priority: raft.priority,
            ..RaftMessage::default()
        };
        let entries: Vec<Entry> = raft.take_entries().into();
        let mut payloads = Vec::with_capacity(entries.len());
        match kind {
            RaftType::Append => take_entries(entries, &mut message, &mut payloads)?,
            RaftType::ReadIndex | RaftType::ReadIndexResponse => {
                message.read_context = read_context(entries)?
            }
            _ if !entries.is_empty() => return Err(PeerFault::Misplaced.of("entries")),
            _ => {}
        }
        match (kind, raft.snapshot.take()) {
            (RaftType::Snapshot, Some(snapshot)) => {
                message.snapshot = Some(take_snapshot(snapshot, &mut payloads)?)
            }
            (RaftType::Snapshot, None) => return Err(PeerFault::Missing.of("snapshot")),
            (_, Some(_)) => return Err(PeerFault::Misplaced.of("snapshot")),
            (_, None) => {}
        }
        Ok((message, payloads))
    }

    /// A message as it came from another node, with its payloads, and the group that it is for. Whether that
    /// node holds the replica that it names as sender is the caller's to know. Errors: it is to be dropped.
    pub fn from_wire(message: RaftMessage, payloads: Vec<Bytes>) -> Checked<(GroupKey, PeerMessage)> {
        let key = group_of(&message)?;
        let kind = RaftType::try_from(message.r#type).unwrap_or_default();
        let unknown = || PeerFault::Unknown(message.r#type).of("type");
        let raft_type = raft_type(kind).ok_or_else(unknown)?;
        check_fields(kind, &message)?;
        let expected = message.entries.len() + usize::from(message.snapshot.is_some());
        if payloads.len() != expected {
            return Err(PeerFault::Count { count: payloads.len(), limit: expected }.of("payloads"));
        }
        let entries = match kind {
            RaftType::ReadIndex | RaftType::ReadIndexResponse => {
                vec![Entry { data: message.read_context.clone(), ..Entry::default() }]
            }
            _ => entries_of(&message, &payloads)?,
        };
        let snapshot = match (&message.snapshot, payloads.last()) {
            (Some(snapshot), Some(data)) => Some(snapshot_of(snapshot, message.term, data)?),
            _ => None,
        };
        let mut raft = Message {
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            commit: message.commit,
            commit_term: message.commit_term,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context,
            priority: message.priority,
            entries: entries.into(),
            snapshot: snapshot.into(),
            ..Message::default()
        };
        raft.set_msg_type(raft_type);
        Ok((key, PeerMessage(raft)))
    }
}

/// `None` for what never leaves its node. Proposals are made where the leader is, and forwarded above raft.
fn wire_type(raft: MessageType) -> Option<RaftType> {
    Some(match raft {
        MessageType::MsgAppend => RaftType::Append,
        MessageType::MsgAppendResponse => RaftType::AppendResponse,
        MessageType::MsgRequestVote => RaftType::Vote,
        MessageType::MsgRequestVoteResponse => RaftType::VoteResponse,
        MessageType::MsgRequestPreVote => RaftType::PreVote,
        MessageType::MsgRequestPreVoteResponse => RaftType::PreVoteResponse,
        MessageType::MsgSnapshot => RaftType::Snapshot,
        MessageType::MsgHeartbeat => RaftType::Heartbeat,
        MessageType::MsgHeartbeatResponse => RaftType::HeartbeatResponse,
        MessageType::MsgTransferLeader => RaftType::TransferLeader,
        MessageType::MsgTimeoutNow => RaftType::TimeoutNow,
        MessageType::MsgReadIndex => RaftType::ReadIndex,
        MessageType::MsgReadIndexResp => RaftType::ReadIndexResponse,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => return None,
    })
}

fn raft_type(wire: RaftType) -> Option<MessageType> {
    Some(match wire {
        RaftType::Unknown => return None,
        RaftType::Append => MessageType::MsgAppend,
        RaftType::AppendResponse => MessageType::MsgAppendResponse,
        RaftType::Vote => MessageType::MsgRequestVote,
        RaftType::VoteResponse => MessageType::MsgRequestVoteResponse,
        RaftType::PreVote => MessageType::MsgRequestPreVote,
        RaftType::PreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        RaftType::Snapshot => MessageType::MsgSnapshot,
        RaftType::Heartbeat => MessageType::MsgHeartbeat,
        RaftType::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        RaftType::TransferLeader => MessageType::MsgTransferLeader,
        RaftType::TimeoutNow => MessageType::MsgTimeoutNow,
        RaftType::ReadIndex => MessageType::MsgReadIndex,
        RaftType::ReadIndexResponse => MessageType::MsgReadIndexResp,
    })
}

fn group_of(message: &RaftMessage) -> Checked<GroupKey> {
    let expected = TopicId::ZERO.0.len();
    let length = |_| PeerFault::Length { length: message.topic_id.len(), expected }.of("topic_id");
    let topic = TopicId(message.topic_id[..].try_into().map_err(length)?);
    within(message.partition, 0, i32::MAX as u64, "partition")?;
    Ok(GroupKey { topic, partition: message.partition })
}

/// What can be said against the fields alone.
fn check_fields(kind: RaftType, message: &RaftMessage) -> Checked<()> {
    within(message.from, 1, u64::MAX, "from")?;
    within(message.to, 1, u64::MAX, "to")?;
    if message.to == message.from {
        return Err(PeerFault::Range(message.to.into()).of("to"));
    }
    // raft takes term 0 for a message of its own node; it gives a forwarded read none, and no other message.
    let terms = if kind == RaftType::ReadIndex { (0, 0) } else { (1, LAST_TERM) };
    within(message.term, terms.0, terms.1, "term")?;
    let log_terms = if kind == RaftType::Append { message.term } else { LAST_TERM };
    within(message.log_term, 0, log_terms, "log_term")?;
    within(message.commit_term, 0, LAST_TERM, "commit_term")?;
    within(message.index, 0, LAST_INDEX, "index")?;
    within(message.commit, 0, LAST_INDEX, "commit")?;
    within(message.reject_hint, 0, LAST_INDEX, "reject_hint")?;
    within(message.request_snapshot, 0, LAST_INDEX, "request_snapshot")?;
    at_most(message.context.len(), CONTEXT_BYTES, "context")?;
    at_most(message.read_context.len(), CONTEXT_BYTES, "read_context")?;
    let of_read = matches!(kind, RaftType::ReadIndex | RaftType::ReadIndexResponse);
    let misplaced = [
        ("entries", kind != RaftType::Append && !message.entries.is_empty()),
        ("snapshot", kind != RaftType::Snapshot && message.snapshot.is_some()),
        ("read_context", !of_read && !message.read_context.is_empty()),
    ];
    if let Some((field, _)) = misplaced.into_iter().find(|(_, there)| *there) {
        return Err(PeerFault::Misplaced.of(field));
    }
    if kind == RaftType::Snapshot && message.snapshot.is_none() {
        return Err(PeerFault::Missing.of("snapshot"));
    }
    Ok(())
}

fn within(number: impl Into<i128>, low: u64, high: u64, field: &'static str) -> Checked<()> {
    let number = number.into();
    let fits = (i128::from(low)..=i128::from(high)).contains(&number);
    if fits { Ok(()) } else { Err(PeerFault::Range(number).of(field)) }
}

fn at_most(count: usize, limit: usize, field: &'static str) -> Checked<()> {
    if count <= limit { Ok(()) } else { Err(PeerFault::Count { count, limit }.of(field)) }
}

fn take_entries(entries: Vec<Entry>, message: &mut RaftMessage, payloads: &mut Vec<Bytes>) -> Checked<()> {
    at_most(entries.len(), MOST_ENTRIES, "entries")?;
    message.entries.reserve_exact(entries.len());
    for (at, entry) in entries.into_iter().enumerate() {
        // raft 0.7 appends to a message that waits (`batch_append`), and where that has no entries yet it
        // does not compare the positions: a follower would panic or, worse, append elsewhere.
        let due = message.index + 1 + at as u64;
        if entry.index != due {
            return Err(PeerFault::Order { found: entry.index.into(), due: due.into() }.at(at, "index"));
        }
        message.entries.push(head_of(&entry).map_err(|fault| fault.at(at, "entry"))?);
        payloads.push(entry.data);
    }
    Ok(())
}

fn head_of(entry: &Entry) -> Result<EntryHead, PeerFault> {
    let length = u32::try_from(entry.data.len())
        .map_err(|_| PeerFault::Count { count: entry.data.len(), limit: u32::MAX as usize })?;
    let bare = |kind: PbEntryType| EntryHead {
        term: entry.term,
        r#type: kind as i32,
        length,
        ..EntryHead::default()
    };
    match (EntryContext::decode(&entry.context), entry.get_entry_type()) {
        (Some(context), EntryType::EntryNormal) => {
            let kind = match context.kind {
                EntryKind::Data => PbEntryType::Data,
                EntryKind::Bare => PbEntryType::Bare,
                EntryKind::Command | EntryKind::ConfChange | EntryKind::NoOp => PbEntryType::Command,
            };
            Ok(EntryHead {
                flags: u32::from(context.flags),
                offset_count: context.offset_count,
                base_offset: context.base_offset,
                append_time: context.append_time,
                ..bare(kind)
            })
        }
        (None, _) if !entry.context.is_empty() => Err(PeerFault::Misplaced),
        (None, EntryType::EntryNormal) if length == 0 => Ok(bare(PbEntryType::NoOp)),
        (None, EntryType::EntryConfChangeV2) => Ok(bare(PbEntryType::ConfChange)),
        _ => Err(PeerFault::Misplaced),
    }
}

/// raft keeps what a read is known by in the payload of an only entry.
fn read_context(entries: Vec<Entry>) -> Checked<Bytes> {
    let count = entries.len();
    match <[Entry; 1]>::try_from(entries) {
        Ok([only]) => Ok(only.data),
        Err(_) => Err(PeerFault::Count { count, limit: 1 }.of("entries")),
    }
}

/// The entries of an append, which must follow one another in index, term and offset.
fn entries_of(message: &RaftMessage, payloads: &[Bytes]) -> Checked<Vec<Entry>> {
    at_most(message.entries.len(), MOST_ENTRIES, "entries")?;
    within(message.index + message.entries.len() as u64, 0, LAST_INDEX, "index")?;
    let mut entries = Vec::with_capacity(message.entries.len());
    let (mut term, mut offset) = (message.log_term.max(1), None);
    for (at, (head, payload)) in message.entries.iter().zip(payloads).enumerate() {
        if !(term..=message.term).contains(&head.term) {
            return Err(PeerFault::Range(head.term.into()).at(at, "term"));
        }
        term = head.term;
        let mut entry = entry_of(head, payload, &mut offset).map_err(|(field, fault)| fault.at(at, field))?;
        entry.index = message.index + 1 + at as u64;
        entries.push(entry);
    }
    Ok(entries)
}

/// `offset` is where the entry before it ended, if that is known.
fn entry_of(
    head: &EntryHead,
    payload: &Bytes,
    offset: &mut Option<i64>,
) -> Result<Entry, (&'static str, PeerFault)> {
    if head.length as usize != payload.len() {
        let fault = PeerFault::Length { length: payload.len(), expected: head.length as usize };
        return Err(("length", fault));
    }
    let mut entry = Entry { term: head.term, data: payload.clone(), ..Entry::default() };
    let kind = match PbEntryType::try_from(head.r#type) {
        Ok(PbEntryType::Data) => EntryKind::Data,
        Ok(PbEntryType::Command) => EntryKind::Command,
        Ok(PbEntryType::Bare) => EntryKind::Bare,
        Ok(kind @ (PbEntryType::ConfChange | PbEntryType::NoOp)) => {
            let placed = (head.flags, head.offset_count, head.base_offset, head.append_time) != (0, 0, 0, 0);
            if placed || (kind == PbEntryType::NoOp && !payload.is_empty()) {
                return Err(("type", PeerFault::Misplaced));
            }
            if kind == PbEntryType::ConfChange {
                check_conf_change(payload).map_err(|fault| ("payload", fault))?;
                entry.set_entry_type(EntryType::EntryConfChangeV2);
            }
            return Ok(entry);
        }
        Ok(PbEntryType::Unknown) | Err(_) => return Err(("type", PeerFault::Unknown(head.r#type))),
    };
    let (is_data, is_bare) = (kind == EntryKind::Data, kind == EntryKind::Bare);
    if (is_data || is_bare) != (head.offset_count > 0) {
        return Err(("offset_count", PeerFault::Range(head.offset_count.into())));
    }
    if is_data && payload.is_empty() {
        return Err(("payload", PeerFault::Missing));
    }
    if is_bare && !payload.is_empty() {
        return Err(("payload", PeerFault::Misplaced));
    }
    let flags = u16::try_from(head.flags).map_err(|_| ("flags", PeerFault::Range(head.flags.into())))?;
    let (base, due) = (head.base_offset, offset.unwrap_or(head.base_offset));
    if base != due {
        return Err(("base_offset", PeerFault::Order { found: base.into(), due: due.into() }));
    }
    let end = base.checked_add(i64::from(head.offset_count)).filter(|_| base >= 0);
    *offset = Some(end.ok_or(("base_offset", PeerFault::Range(base.into())))?);
    let context = EntryContext {
        kind,
        flags,
        offset_count: head.offset_count,
        base_offset: base,
        append_time: head.append_time,
    };
    entry.context = context.encode();
    Ok(entry)
}

/// Only what raft's own encoder would write for a change that makes sense by itself: so raft's decoder, when
/// the entry is applied, meets no field that it does not know and nothing nested. Whether it fits the
/// membership is known at its turn alone.
fn check_conf_change(payload: &Bytes) -> Result<(), PeerFault> {
    if payload.len() > CONF_CHANGE_BYTES {
        return Err(PeerFault::Count { count: payload.len(), limit: CONF_CHANGE_BYTES });
    }
    let change = pb::ConfChange::decode(payload.clone()).map_err(|_| PeerFault::NoConfChange)?;
    let known = pb::ConfChangeTransition::try_from(change.transition).is_ok()
        && change.changes.iter().all(|one| pb::ConfChangeType::try_from(one.r#type).is_ok())
        && change.changes.iter().all(|one| one.replica_id != 0);
    let few = change.changes.len() <= MOST_REPLICAS;
    if known && few && change.encode_to_vec() == payload[..] { Ok(()) } else { Err(PeerFault::NoConfChange) }
}

fn take_snapshot(mut snapshot: Snapshot, payloads: &mut Vec<Bytes>) -> Checked<pb::Snapshot> {
    let data = snapshot.take_data();
    at_most(data.len(), SNAPSHOT_BYTES, "snapshot.data")?;
    let length = data.len() as u32;
    payloads.push(data);
    let mut metadata = snapshot.take_metadata();
    let (index, term) = (metadata.index, metadata.term);
    let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave, .. } =
        metadata.take_conf_state();
    Ok(pb::Snapshot { index, term, voters, learners, voters_outgoing, learners_next, auto_leave, length })
}

fn snapshot_of(snapshot: &pb::Snapshot, message_term: u64, data: &Bytes) -> Checked<Snapshot> {
    within(snapshot.index, 1, LAST_INDEX, "snapshot.index")?;
    within(snapshot.term, 1, message_term, "snapshot.term")?;
    at_most(data.len(), SNAPSHOT_BYTES, "snapshot.data")?;
    let expected = snapshot.length as usize;
    if data.len() != expected {
        return Err(PeerFault::Length { length: data.len(), expected }.of("snapshot.length"));
    }
    check_members(snapshot)?;
    let mut raft = Snapshot { data: data.clone(), ..Snapshot::default() };
    let metadata = raft.mut_metadata();
    (metadata.index, metadata.term) = (snapshot.index, snapshot.term);
    let members = metadata.mut_conf_state();
    members.voters.clone_from(&snapshot.voters);
    members.learners.clone_from(&snapshot.learners);
    members.voters_outgoing.clone_from(&snapshot.voters_outgoing);
    members.learners_next.clone_from(&snapshot.learners_next);
    members.auto_leave = snapshot.auto_leave;
    Ok(raft)
}

/// raft restores a membership by changes that lead to it and panics where none do.
fn check_members(snapshot: &pb::Snapshot) -> Checked<()> {
    let pb::Snapshot { voters, learners, voters_outgoing, learners_next, auto_leave, .. } = snapshot;
    let lists = [voters, learners, voters_outgoing, learners_next];
    at_most(lists.iter().map(|list| list.len()).sum(), MOST_REPLICAS, "snapshot.voters")?;
    let sets = lists.map(|list| list.iter().copied().collect::<BTreeSet<u64>>());
    let repeated = lists.iter().zip(&sets).any(|(list, set)| list.len() != set.len() || set.contains(&0));
    let [voters, learners, outgoing, next] = sets;
    let joint = !outgoing.is_empty();
    let possible = !repeated
        && !voters.is_empty()
        && learners.is_disjoint(&voters)
        && learners.is_disjoint(&outgoing)
        && next.is_subset(&outgoing)
        && next.is_disjoint(&voters)
        && (joint || !auto_leave);
    if possible { Ok(()) } else { Err(PeerFault::Members.of("snapshot.voters")) }
}
