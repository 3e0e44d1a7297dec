//! Messages that travel are equal to those that were sent, and what raft must not see is refused.
use crate::{DataHead, Group, GroupFx, GroupParams, LogView, PeerCodecError, PeerFault, PeerMessage};
use bytes::Bytes;
use model::{GroupKey, TopicId};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use proto::peer::{EntryHead, EntryType, RaftMessage, RaftType, Snapshot};
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry, Message, MessageType,
};

const KEY: GroupKey = GroupKey { topic: TopicId([7; 16]), partition: 3 };

/// A message and its payloads, as a peer sends them.
type Sent = (RaftMessage, Vec<Bytes>);

fn message(kind: RaftType) -> RaftMessage {
    RaftMessage {
        topic_id: Bytes::copy_from_slice(&KEY.topic.0),
        partition: KEY.partition,
        r#type: kind as i32,
        from: 1,
        to: 2,
        term: if kind == RaftType::ReadIndex { 0 } else { 9 },
        ..RaftMessage::default()
    }
}

fn head(kind: EntryType, term: u64, payload: &[u8]) -> EntryHead {
    EntryHead { term, r#type: kind as i32, length: payload.len() as u32, ..EntryHead::default() }
}

/// No-op, data, command, configuration change, data: entries 11 to 15.
fn append() -> Sent {
    let payloads: Vec<Bytes> =
        [&b""[..], b"first batch", b"command", &conf_change(&[(ConfChangeType::AddNode, 4)]), b"second"]
            .map(Bytes::copy_from_slice)
            .to_vec();
    let placed = |kind, payload: &Bytes, offset_count, base_offset| EntryHead {
        flags: 5,
        offset_count,
        base_offset,
        append_time: 1_700_000_000_000,
        ..head(kind, 9, payload)
    };
    let entries = vec![
        head(EntryType::NoOp, 8, &payloads[0]),
        placed(EntryType::Data, &payloads[1], 10, 100),
        placed(EntryType::Command, &payloads[2], 0, 110),
        head(EntryType::ConfChange, 9, &payloads[3]),
        placed(EntryType::Data, &payloads[4], 1, 110),
    ];
    let base = message(RaftType::Append);
    (RaftMessage { index: 10, log_term: 8, commit: 9, entries, ..base }, payloads)
}

fn snapshot(members: Snapshot) -> Sent {
    let data = Bytes::from_static(b"a checkpoint");
    let snapshot = Snapshot { index: 50, term: 8, length: data.len() as u32, ..members };
    (RaftMessage { snapshot: Some(snapshot), ..message(RaftType::Snapshot) }, vec![data])
}

fn voters(ids: &[u64]) -> Snapshot {
    Snapshot { voters: ids.to_vec(), ..Snapshot::default() }
}

fn conf_change(changes: &[(ConfChangeType, u64)]) -> Bytes {
    let single = |(kind, node_id): &(ConfChangeType, u64)| {
        let mut single = ConfChangeSingle { node_id: *node_id, ..ConfChangeSingle::default() };
        single.set_change_type(*kind);
        single
    };
    let changes: Vec<_> = changes.iter().map(single).collect();
    let change = ConfChangeV2 { changes: changes.into(), ..ConfChangeV2::default() };
    change.write_to_bytes().unwrap().into()
}

fn decoded((message, payloads): Sent) -> Result<(GroupKey, PeerMessage), PeerCodecError> {
    PeerMessage::from_wire(message, payloads)
}

/// Where and why `sent` is refused.
fn refusal(sent: Sent) -> (Option<usize>, &'static str, PeerFault) {
    let error = decoded(sent).expect_err("it is impossible");
    (error.entry, error.field, error.fault)
}

/// Through the bytes of a frame's head.
fn travel(message: PeerMessage) -> PeerMessage {
    let (wire, payloads) = message.into_wire(KEY).unwrap();
    let wire = RaftMessage::decode(Bytes::from(wire.encode_to_vec())).unwrap();
    let (key, message) = PeerMessage::from_wire(wire, payloads).unwrap();
    assert_eq!(key, KEY);
    message
}

#[test]
fn entries_of_every_kind_arrive_in_place_and_their_payloads_uncopied() {
    let sent = append();
    let (key, message) = decoded(sent.clone()).unwrap();
    assert_eq!((key, message.from(), message.to()), (KEY, 1, 2));
    let indexes: Vec<_> = message.0.entries.iter().map(|e| (e.index, e.term)).collect();
    assert_eq!(indexes, [(11, 8), (12, 9), (13, 9), (14, 9), (15, 9)]);
    for (entry, payload) in message.0.entries.iter().zip(&sent.1) {
        assert!(payload.is_empty() || entry.data.as_ptr() == payload.as_ptr());
    }
    let (wire, payloads) = message.into_wire(KEY).unwrap();
    assert_eq!((&wire, &payloads), (&sent.0, &sent.1));
    for (after, before) in payloads.iter().zip(&sent.1) {
        assert!(before.is_empty() || after.as_ptr() == before.as_ptr());
    }
}

#[test]
fn what_never_leaves_a_node_is_neither_sent_nor_taken() {
    for local in [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
    ] {
        let mut raft = Message { from: 1, to: 2, term: 9, ..Message::default() };
        raft.set_msg_type(local);
        let error = PeerMessage(raft).into_wire(KEY).unwrap_err();
        assert_eq!((error.field, error.fault), ("type", PeerFault::Local));
    }
    // Types that are none: what is not sent has no number.
    for unknown in [0, 14, 99, -1] {
        let sent = RaftMessage { r#type: unknown, ..message(RaftType::Append) };
        assert_eq!(refusal((sent, vec![])), (None, "type", PeerFault::Unknown(unknown)));
    }
}

#[test]
fn impossible_fields_are_refused_by_name() {
    let refused = |kind: RaftType, field: &str, change: fn(&mut RaftMessage)| {
        let mut sent = match kind {
            RaftType::Append => append(),
            RaftType::Snapshot => snapshot(voters(&[1, 2])),
            kind => (message(kind), vec![]),
        };
        assert!(decoded(sent.clone()).is_ok(), "{field}: it is fine before");
        change(&mut sent.0);
        assert_eq!(decoded(sent).expect_err(field).field, field);
    };
    refused(RaftType::Append, "topic_id", |m| m.topic_id = Bytes::from_static(b"short"));
    refused(RaftType::Append, "partition", |m| m.partition = -1);
    refused(RaftType::Vote, "from", |m| m.from = 0);
    refused(RaftType::Vote, "to", |m| m.to = 0);
    refused(RaftType::Vote, "to", |m| m.to = m.from);
    refused(RaftType::Heartbeat, "term", |m| m.term = 0);
    refused(RaftType::Heartbeat, "term", |m| m.term = 1 << 31);
    refused(RaftType::ReadIndex, "term", |m| m.term = 9);
    refused(RaftType::Append, "log_term", |m| m.log_term = 10);
    refused(RaftType::AppendResponse, "log_term", |m| m.log_term = 1 << 31);
    refused(RaftType::VoteResponse, "commit_term", |m| m.commit_term = 1 << 31);
    refused(RaftType::Heartbeat, "index", |m| m.index = (1 << 62) + 1);
    refused(RaftType::Append, "index", |m| m.index = (1 << 62) - 4);
    refused(RaftType::Heartbeat, "commit", |m| m.commit = u64::MAX);
    refused(RaftType::AppendResponse, "reject_hint", |m| m.reject_hint = u64::MAX);
    refused(RaftType::AppendResponse, "request_snapshot", |m| m.request_snapshot = u64::MAX);
    refused(RaftType::Vote, "context", |m| m.context = Bytes::from(vec![0; 1025]));
    refused(RaftType::ReadIndex, "read_context", |m| m.read_context = Bytes::from(vec![0; 1025]));
    refused(RaftType::Heartbeat, "read_context", |m| m.read_context = Bytes::from_static(b"r"));
    refused(RaftType::Heartbeat, "entries", |m| m.entries = append().0.entries);
    refused(RaftType::ReadIndexResponse, "entries", |m| m.entries = append().0.entries);
    refused(RaftType::Append, "snapshot", |m| m.snapshot = Some(voters(&[1])));
    refused(RaftType::Snapshot, "snapshot", |m| m.snapshot = None);
    refused(RaftType::Append, "payloads", |m| m.entries.truncate(4));
    refused(RaftType::Snapshot, "snapshot.index", |m| m.snapshot.as_mut().unwrap().index = 0);
    refused(RaftType::Snapshot, "snapshot.term", |m| m.snapshot.as_mut().unwrap().term = 0);
    refused(RaftType::Snapshot, "snapshot.term", |m| m.snapshot.as_mut().unwrap().term = 10);
    refused(RaftType::Snapshot, "snapshot.length", |m| m.snapshot.as_mut().unwrap().length = 1);
    refused(RaftType::Snapshot, "snapshot.voters", |m| {
        m.snapshot.as_mut().unwrap().voters = (1..=1025).collect();
    });
}

#[test]
fn entries_that_no_log_could_hold_are_refused_by_number_and_field() {
    let refused = |at: usize, field: &str, change: fn(&mut EntryHead)| {
        let mut sent = append();
        change(&mut sent.0.entries[at]);
        let error = decoded(sent).expect_err(field);
        assert_eq!((error.entry, error.field), (Some(at), field), "{error}");
    };
    refused(0, "term", |e| e.term = 0);
    refused(0, "term", |e| e.term = 7);
    refused(2, "term", |e| e.term = 8);
    refused(4, "term", |e| e.term = 10);
    refused(1, "type", |e| e.r#type = 0);
    refused(1, "type", |e| e.r#type = 6);
    refused(1, "type", |e| e.r#type = EntryType::ConfChange as i32);
    refused(0, "type", |e| e.base_offset = 100);
    refused(0, "type", |e| e.append_time = 1);
    refused(3, "type", |e| e.flags = 1);
    refused(3, "type", |e| e.r#type = EntryType::NoOp as i32);
    refused(1, "flags", |e| e.flags = 1 << 16);
    refused(1, "offset_count", |e| e.offset_count = 0);
    refused(2, "offset_count", |e| e.offset_count = 1);
    refused(1, "base_offset", |e| e.base_offset = -1);
    refused(1, "base_offset", |e| e.base_offset = i64::MAX - 9);
    refused(2, "base_offset", |e| e.base_offset = 111);
    refused(4, "base_offset", |e| e.base_offset = 109);
    refused(1, "length", |e| e.length += 1);
    let mut sent = append();
    (sent.0.entries[1].length, sent.1[1]) = (0, Bytes::new());
    assert_eq!(refusal(sent), (Some(1), "payload", PeerFault::Missing));
    let text = decoded({
        let mut sent = append();
        sent.0.entries[4].base_offset = 109;
        sent
    });
    assert_eq!(text.unwrap_err().to_string(), "raft message, entry 4, base_offset: 109 where 110 is due");
}

#[test]
fn more_entries_than_any_message_may_have_are_refused() {
    let limit = crate::MOST_ENTRIES;
    let entries = vec![head(EntryType::NoOp, 9, b""); limit + 1];
    let sent = RaftMessage { entries, ..message(RaftType::Append) };
    let payloads = vec![Bytes::new(); limit + 1];
    assert_eq!(refusal((sent, payloads)), (None, "entries", PeerFault::Count { count: limit + 1, limit }));
}

/// Entry 3 of `append` with another payload.
fn with_conf_change(payload: Bytes) -> Sent {
    let mut sent = append();
    sent.0.entries[3].length = payload.len() as u32;
    sent.1[3] = payload;
    sent
}

#[test]
fn a_configuration_change_is_taken_as_raft_writes_it() {
    use ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
    let leave = Bytes::new();
    let several = conf_change(&[(AddNode, 1 << 40), (RemoveNode, 2), (AddLearnerNode, 3)]);
    let mut explicit = ConfChangeV2 { context: Bytes::from_static(b"why"), ..ConfChangeV2::default() };
    explicit.set_transition(ConfChangeTransition::Explicit);
    for payload in [leave, several, explicit.write_to_bytes().unwrap().into()] {
        let (_, message) = decoded(with_conf_change(payload.clone())).unwrap();
        assert_eq!(message.0.entries[3].data, payload);
    }
}

#[test]
fn what_is_no_configuration_change_never_reaches_rafts_decoder() {
    let good = conf_change(&[(ConfChangeType::AddNode, 4)]);
    let unknown_field = [&good[..], &[0x20, 1]].concat();
    let unknown_type = vec![0x12, 4, 0x08, 9, 0x10, 4];
    let replica_zero = conf_change(&[(ConfChangeType::AddNode, 0)]).to_vec();
    // An unknown group in a group in a group: what recurses without end in raft's decoder.
    let nested = vec![0x23; 50_000];
    let long_form = vec![0x12, 0x82, 0x00, 0x10, 0x04];
    let cut = good[..good.len() - 1].to_vec();
    let huge = vec![0; 65_537];
    for bad in [unknown_field, unknown_type, replica_zero, nested, long_form, cut, b"garbage".to_vec()] {
        let refused = refusal(with_conf_change(bad.clone().into()));
        assert_eq!(refused, (Some(3), "payload", PeerFault::NoConfChange), "{:02x?}", &bad[..4]);
    }
    assert!(matches!(refusal(with_conf_change(huge.into())).2, PeerFault::Count { .. }));
}

#[test]
fn an_append_whose_entries_do_not_follow_its_index_is_not_sent() {
    // raft 0.7 with `batch_append`: an append without entries that waits takes entries from further back.
    let entry = |index| Entry { index, term: 9, ..Entry::default() };
    for (indexes, at, found, due) in [(vec![8, 9], 0, 8, 11), (vec![11, 13], 1, 13, 12)] {
        let mut raft = Message { from: 1, to: 2, term: 9, index: 10, log_term: 9, ..Message::default() };
        raft.set_msg_type(MessageType::MsgAppend);
        raft.set_entries(indexes.into_iter().map(entry).collect::<Vec<_>>().into());
        let error = PeerMessage(raft).into_wire(KEY).unwrap_err();
        assert_eq!((error.entry, error.field), (Some(at), "index"));
        assert_eq!(error.fault, PeerFault::Order { found, due });
    }
}

#[test]
fn a_read_without_its_id_is_not_sent() {
    // raft looks at the first entry of a forwarded read without asking whether there is one.
    let mut raft = Message { from: 1, to: 2, ..Message::default() };
    raft.set_msg_type(MessageType::MsgReadIndex);
    let error = PeerMessage(raft).into_wire(KEY).unwrap_err();
    assert_eq!((error.field, error.fault), ("entries", PeerFault::Count { count: 0, limit: 1 }));
    let (_, read) = decoded((message(RaftType::ReadIndex), vec![])).unwrap();
    assert_eq!(read.0.entries.len(), 1, "even one with an empty id has its entry");
}

fn params(replica_id: u64, voters: &[u64]) -> GroupParams {
    GroupParams {
        key: KEY,
        replica_id,
        members: crate::Membership::voters(voters),
        term: 1,
        vote: 0,
        commit: 1,
        max_uncommitted_bytes: 1 << 20,
        prompt_commit: false,
        changes_from: 0,
        seed: 11,
    }
}

/// Delivers what the groups say, through the codec, until they are silent; returns the types that were seen.
fn settle(groups: &mut [Group], ends: &mut [i64], seen: &mut std::collections::BTreeSet<i32>) {
    loop {
        let mut inbox = Vec::new();
        for (group, end) in groups.iter_mut().zip(ends.iter_mut()) {
            for _ in 0..2 {
                let mut fx = GroupFx::default();
                group.ready(&mut fx);
                if fx.hard_state.is_some() {
                    group.hard_state_rides(1);
                }
                *end = fx.appends.last().map_or(*end, |e| e.head.next_offset());
                inbox.extend(fx.messages);
                group.on_persisted(u64::MAX, 1);
            }
        }
        if inbox.is_empty() {
            return;
        }
        for message in inbox {
            seen.insert(message.clone().into_wire(KEY).unwrap().0.r#type);
            let arrived = travel(message.clone());
            assert_eq!(arrived, message);
            groups[arrived.to() as usize - 1].step(arrived).unwrap();
        }
    }
}

#[test]
fn three_replicas_elect_and_replicate_through_the_codec() {
    let ids = [1, 2, 3];
    let mut groups: Vec<Group> =
        ids.iter().map(|id| Group::new(params(*id, &ids), LogView::after(1, 1, 0))).collect();
    let (mut ends, mut seen) = ([0i64; 3], std::collections::BTreeSet::new());
    groups[0].campaign();
    settle(&mut groups, &mut ends, &mut seen);
    assert!(groups[0].is_leader());
    // Followers learn of the last commit from a heartbeat, every third tick.
    for round in 0..5 {
        let head = DataHead { flags: 1, offset_count: 3, base_offset: ends[0], append_time: 1000 + round };
        groups[0].propose_data(head, Bytes::from(vec![round as u8; 100])).unwrap();
        groups[0].propose_command(ends[0] + 3, 1000, Bytes::from_static(b"command")).unwrap();
        settle(&mut groups, &mut ends, &mut seen);
        for _ in 0..3 {
            groups.iter_mut().for_each(Group::tick);
            settle(&mut groups, &mut ends, &mut seen);
        }
    }
    for group in &groups {
        assert_eq!((group.last_index(), group.applied()), (12, 12), "{group:?}");
    }
    assert_eq!(ends, [15; 3]);
    let expected = [
        RaftType::Append,
        RaftType::AppendResponse,
        RaftType::Vote,
        RaftType::VoteResponse,
        RaftType::PreVote,
        RaftType::PreVoteResponse,
        RaftType::Heartbeat,
        RaftType::HeartbeatResponse,
    ];
    assert!(expected.iter().all(|kind| seen.contains(&(*kind as i32))), "{seen:?}");
}

fn kinds() -> impl Strategy<Value = RaftType> {
    (1..=13i32).prop_map(|number| RaftType::try_from(number).unwrap())
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..40).prop_map(Bytes::from)
}

/// Terms that rise, kinds in any order, offsets that follow one another.
fn entries() -> impl Strategy<Value = (Vec<EntryHead>, Vec<Bytes>)> {
    let one = (1..=4i32, 0..3u64, payload(), any::<u16>(), 1..100u32, any::<i64>());
    (vec(one, 0..12), 1..1000u64, 0..i64::MAX / 2).prop_map(|(rows, first, base)| {
        let (mut term, mut offset) = (first, base);
        let made = rows.into_iter().map(|(kind, step, payload, flags, count, append_time)| {
            term += step;
            let kind = EntryType::try_from(kind).unwrap();
            let payload = match kind {
                EntryType::NoOp => Bytes::new(),
                EntryType::ConfChange => conf_change(&[(ConfChangeType::AddLearnerNode, term)]),
                _ => payload,
            };
            let bare = head(kind, term, &payload);
            let placed = match kind {
                EntryType::Data | EntryType::Command => {
                    let offset_count = if kind == EntryType::Data { count } else { 0 };
                    let base_offset = offset;
                    offset += i64::from(offset_count);
                    EntryHead { flags: u32::from(flags), offset_count, base_offset, append_time, ..bare }
                }
                _ => bare,
            };
            (placed, payload)
        });
        made.unzip()
    })
}

prop_compose! {
    fn any_message()(
        kind in kinds(),
        ids in (1..u64::MAX / 2, 1..1000u64),
        numbers in [0..=1u64 << 61, 0..=1u64 << 62, 0..=1u64 << 62, 0..=1u64 << 62],
        terms in (2000..=i32::MAX as u64, 0..=i32::MAX as u64),
        flags in (any::<bool>(), any::<i64>()),
        contexts in (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..20)),
        (entries, payloads) in entries(),
        members in proptest::collection::btree_set(1..1000u64, 1..6),
        data in vec(any::<u8>(), 0..50),
    ) -> Sent {
        let mut sent = message(kind);
        (sent.from, sent.to) = (ids.0, ids.0 + ids.1);
        [sent.index, sent.commit, sent.reject_hint, sent.request_snapshot] = numbers;
        sent.term = if kind == RaftType::ReadIndex { 0 } else { terms.0 };
        (sent.reject, sent.priority) = flags;
        (sent.log_term, sent.commit_term) = (terms.1, terms.1);
        sent.context = contexts.0.into();
        match kind {
            RaftType::Append => {
                sent.log_term = entries.first().map_or(0, |e| e.term);
                sent.entries = entries;
                return (sent, payloads);
            }
            RaftType::Snapshot => {
                let members = voters(&members.into_iter().collect::<Vec<_>>());
                let term = terms.0 - 7;
                sent.snapshot = Some(Snapshot { index: 1, term, length: data.len() as u32, ..members });
                return (sent, vec![data.into()]);
            }
            RaftType::ReadIndex | RaftType::ReadIndexResponse => sent.read_context = contexts.1.into(),
            _ => {}
        }
        (sent, vec![])
    }
}

/// For each replica the lists that it is in, as bits: voter, learner, outgoing voter, next learner.
fn membership(masks: &[u8], auto_leave: bool) -> Snapshot {
    let list = |bit: u8| (1..).zip(masks).filter(|(_, mask)| **mask & bit != 0).map(|(id, _)| id).collect();
    Snapshot {
        voters: list(1),
        learners: list(2),
        voters_outgoing: list(4),
        learners_next: list(8),
        auto_leave,
        ..Snapshot::default()
    }
}

proptest! {
    #[test]
    fn every_message_arrives_as_it_was_sent(sent in any_message()) {
        let (key, raft) = decoded(sent.clone()).unwrap();
        prop_assert_eq!(key, KEY);
        prop_assert_eq!(travel(raft.clone()), raft.clone());
        prop_assert_eq!(raft.into_wire(KEY).unwrap(), sent);
    }

    #[test]
    fn a_message_with_one_number_changed_is_refused_or_survives(
        sent in any_message(), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let mut bytes = sent.0.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(message) = RaftMessage::decode(Bytes::from(bytes))
            && let Ok((key, raft)) = decoded((message.clone(), sent.1.clone()))
        {
            prop_assert_eq!(raft.into_wire(key).unwrap(), (message, sent.1));
        }
    }

    #[test]
    fn what_passes_as_a_configuration_change_rafts_decoder_reads(
        changes in vec((0..4u8, 0..4u64), 0..4), flip in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let kinds = [ConfChangeType::AddNode, ConfChangeType::RemoveNode, ConfChangeType::AddLearnerNode];
        let changes: Vec<_> = changes.into_iter().map(|(k, id)| (kinds[k as usize % 3], id)).collect();
        let mut payload = conf_change(&changes).to_vec();
        if !payload.is_empty() {
            let at = flip.index(payload.len());
            payload[at] = with;
        }
        if decoded(with_conf_change(payload.clone().into())).is_ok() {
            let mut change = ConfChangeV2::default();
            prop_assert!(change.merge_from_bytes(&payload).is_ok());
            prop_assert!(change.get_unknown_fields().fields.is_none());
        }
    }

    #[test]
    fn a_membership_is_refused_exactly_where_raft_would_panic(
        masks in vec(prop_oneof![Just(0u8), Just(1), Just(1), Just(2), Just(4), Just(5), Just(12), 0..16u8], 5),
        auto_leave in any::<bool>(),
    ) {
        let members = membership(&masks, auto_leave);
        // raft ignores what does not name the receiver, so the receiver is one that is named.
        let named = masks.iter().position(|mask| mask & 7 != 0);
        prop_assume!(named.is_some());
        let id = named.unwrap() as u64 + 1;
        let passes = decoded(snapshot(members.clone())).is_ok();
        let mut sent = snapshot(voters(&[id]));
        (sent.0.from, sent.0.to) = (99, id);
        let (_, mut message) = decoded(sent).unwrap();
        let state = message.0.mut_snapshot().mut_metadata().mut_conf_state();
        state.voters = members.voters;
        state.learners = members.learners;
        state.voters_outgoing = members.voters_outgoing;
        state.learners_next = members.learners_next;
        state.auto_leave = members.auto_leave;
        let stepped = std::panic::catch_unwind(move || {
            // Past our own judgement, which takes no snapshot.
            let _ = Group::new(params(id, &[id, 99]), LogView::after(1, 1, 0)).node.step(message.0);
        });
        prop_assert_eq!(passes, stepped.is_ok());
    }
}
