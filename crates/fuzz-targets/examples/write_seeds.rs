//! Writes `fuzz/corpus-seed`: a few valid inputs for each target, from the schemas and our own encoders.
#![allow(clippy::unwrap_used)]
#[path = "../../wire/tests/wire/arbitrary.rs"]
mod arbitrary;
#[path = "../../xtask/src/codegen_wire_schema.rs"]
mod schema;

use arbitrary::{Entropy, PROTOCOL, body};
use bytes::Bytes;
use cluster::Command;
use coordinator::records::{GroupValue, MemberValue, OffsetValue, group_key, offset_key};
use model::{GroupKey, TopicId};
use prost::Message;
use proto::cluster as pb;
use proto::peer as pb_peer;
use records::{BatchBuilder, Codec, ControlKind, EndMarker, NewRecord, end_marker_batch};
use std::fs;
use std::path::PathBuf;
use storage::{EntryHead, EntryKind, Replica, ReplicaKind};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn main() {
    wire_frames();
    batches();
    groups();
    metadata();
    config_text();
    files();
    peer_link();
}

fn seed(target: &str, name: &str, bytes: &[u8]) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus-seed").join(target);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name), bytes).unwrap();
}

fn wire_frames() {
    for (at, api) in wire::served().iter().enumerate() {
        for version in [api.min, api.max] {
            let full = |kind: &str| {
                let message = PROTOCOL.message(&format!("{}{kind}", api.name)).unwrap();
                body(message, version, &mut Entropy(&[2; 400]))
            };
            let name = format!("{}-{version}", api.name);
            let mut request = Vec::new();
            request.extend(api.key.code().to_be_bytes());
            request.extend(version.to_be_bytes());
            request.extend([0, 0, 0, 9, 0, 1, b'c']);
            request.extend((api.key.request_header_version(version) >= 2).then_some(0));
            request.extend(full("Request"));
            seed("request", &name, &request);
            let mut response = vec![at as u8, (version - api.min) as u8, 0, 0, 0, 9];
            response.extend((api.key.response_header_version(version) >= 1).then_some(0));
            response.extend(full("Response"));
            seed("response", &name, &response);
        }
    }
}

fn one_batch(codec: Codec, base: i64, count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new().codec(codec, None).base_offset(base).leader_epoch(3);
    for n in 0..count {
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"1")), (b"h", None)];
        let record = NewRecord { headers: &headers, ..NewRecord::new(1_700_000_000_000 + n, None, None) };
        builder.push(NewRecord { key: Some(b"key"), value: Some(b"value value value"), ..record });
    }
    builder.finish().unwrap().to_vec()
}

fn batches() {
    for codec in CODECS {
        let name = codec.name();
        seed("batch", name, &one_batch(codec, 0, 3));
        let packed = records::compress(codec, None, &b"some bytes, some more bytes, ".repeat(8)).unwrap();
        let mut input = vec![codec.id()];
        input.extend_from_slice(&packed);
        seed("codecs", name, &input);
    }
    seed("batch", "two", &[one_batch(Codec::None, 0, 1), one_batch(Codec::Lz4, 1, 2)].concat());
    let mut idempotent = BatchBuilder::new().producer(77, 4, 5).transactional();
    idempotent.push(NewRecord::new(1_700_000_000_000, None, Some(b"v")));
    seed("batch", "producer", &idempotent.finish().unwrap());
    let marker = EndMarker {
        kind: ControlKind::Commit,
        producer_id: 77,
        producer_epoch: 4,
        coordinator_epoch: 1,
        timestamp: 1_700_000_000_000,
    };
    seed("batch", "marker", &end_marker_batch(&marker, 9, 3));
}

fn pieces<'a>(all: impl IntoIterator<Item = Option<&'a [u8]>>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in all {
        out.extend(piece.map_or(u16::MAX, |p| p.len() as u16).to_be_bytes());
        out.extend_from_slice(piece.unwrap_or_default());
    }
    out
}

fn groups() {
    let member = MemberValue {
        member_id: "c-1".into(),
        instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout: 60_000,
        session_timeout: 10_000,
        subscription: Bytes::from_static(b"\x00\x01"),
        assignment: Bytes::from_static(b"\x00\x02"),
    };
    let group = GroupValue {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol: Some("range".into()),
        leader: Some("c-1".into()),
        state_timestamp: 1_700_000_000_000,
        members: vec![member],
    };
    let offset = OffsetValue {
        offset: 42,
        leader_epoch: 1,
        metadata: "note".into(),
        commit_timestamp: 1_700_000_000_000,
        expire_timestamp: None,
        topic_id: TopicId([5; 16]),
    };
    let old = OffsetValue { expire_timestamp: Some(1_700_000_100_000), ..offset.clone() };
    let (of_group, of_offset) = (group_key("g"), offset_key("g", "t", 1));
    let (group, offset, old) = (group.encode(), offset.encode(), old.encode());
    seed("group_records", "group", &pieces([Some(&of_group[..]), Some(&group)]));
    let all =
        [Some(&of_offset[..]), Some(&offset), Some(&of_group), Some(&group), Some(&of_offset), Some(&old)];
    seed("group_records", "all", &pieces(all));
    let mut removed = all.to_vec();
    removed.extend([Some(&of_offset[..]), None, Some(&of_group), None]);
    seed("group_records", "removed", &pieces(removed));
}

fn metadata() {
    let id = Bytes::from_static(&[7; 16]);
    let set = pb::ReplicaSet { nodes: vec![1], witness: None };
    let entry = pb::ConfigEntry { name: "retention.ms".into(), value: Some("1000".into()), version: 0 };
    let endpoint = pb::Endpoint {
        listener: "PLAINTEXT".into(),
        host: "localhost".into(),
        port: 9092,
        ..Default::default()
    };
    let commands = [
        Command::SetClusterId(pb::SetClusterId {
            cluster_id: "abcdefghijklmnopqrstug".into(),
            ..Default::default()
        }),
        Command::RegisterNode(pb::RegisterNode {
            node_id: 1,
            incarnation: 1,
            endpoints: vec![endpoint],
            ..Default::default()
        }),
        Command::CreateTopic(pb::CreateTopic {
            name: "t".into(),
            topic_id: id.clone(),
            partitions: vec![set.clone()],
            ..Default::default()
        }),
        Command::CreatePartitions(pb::CreatePartitions {
            topic_id: id.clone(),
            first: 1,
            partitions: vec![set],
        }),
        Command::SetConfigs(pb::SetConfigs {
            resource: pb::ResourceKind::ResourceTopic as i32,
            name: "t".into(),
            entries: vec![entry],
        }),
        Command::AllocateProducerIds(pb::AllocateProducerIds { node_id: 1, first: 0, count: 1000 }),
        Command::DeleteTopic(pb::DeleteTopic { topic_id: id.clone() }),
        Command::ConfirmDeletion(pb::ConfirmDeletion { topic_id: id, node_id: 1 }),
    ];
    let encoded: Vec<Bytes> = commands.iter().map(cluster::encode_command).collect();
    seed("metadata", "commands", &pieces(encoded.iter().map(|one| Some(&one[..]))));
    let mut machine = cluster::Metadata::new(1, Default::default());
    for (at, command) in commands.iter().take(6).enumerate() {
        machine.apply(at as u64 + 1, command).unwrap();
    }
    seed("metadata", "snapshot", &machine.snapshot());
    seed("metadata", "texts", b"a.topic_name\ncompact,delete");
    seed("metadata", "number", b"t\n9223372036854775807");
}

fn config_text() {
    let properties = include_bytes!("../../../config/server.properties");
    seed("config_text", "stock", &properties[..properties.len().min(2048)]);
    seed("config_text", "escapes", b"node.id = 1\n! note\nlog.dirs:/a\\\n  ,/b\na\\u0020b=c\\tq\\\\\n");
    seed(
        "config_text",
        "toml",
        b"\"node.id\" = 1\nlisteners = [\"PLAINTEXT://:9092\"]\n[log]\ndirs = \"/a\"\n",
    );
}

fn files() {
    let mut log = Vec::new();
    let mut chain = 9;
    let batch = one_batch(Codec::None, 0, 2);
    let entries: [(EntryKind, u32, i64, &[u8]); 3] =
        [(EntryKind::NoOp, 0, 0, b""), (EntryKind::Data, 2, 0, &batch), (EntryKind::Command, 0, 2, b"cmd")];
    for (at, (kind, offset_count, base_offset, payload)) in entries.into_iter().enumerate() {
        let index = at as u64 + 2;
        let head = EntryHead {
            index,
            term: 2,
            kind,
            flags: 0,
            offset_count,
            base_offset,
            append_time: 1_700_000_000_000,
        };
        let (header, crc) = storage::frame::encode_header(&head, payload, chain);
        log.extend_from_slice(&header);
        log.extend_from_slice(payload);
        chain = crc;
    }
    seed("frames", "log", &log);
    for (name, marked) in [("unmarked", 0xff), ("marked", 1)] {
        seed("recovery", name, &[&[marked, 1, 0, 0, 0, 0][..], &log].concat());
    }
    let members = vec![Replica { id: 1, node_id: 1, kind: ReplicaKind::Voter as i32, witness: false }];
    let content = storage::birth(GroupKey::METADATA, members).encode_to_vec();
    let mut file = b"PLCK\x01\0\0\0".to_vec();
    file.extend(GroupKey::METADATA.topic.0);
    file.extend([0; 8]);
    file.extend((content.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(content);
    let file = checksummed(file, 36);
    seed("side_files", "checkpoint", &file);
    seed("recovery", "checkpoint", &[&[0, 1, file.len() as u8, 0, 0, 0][..], &file, &log].concat());
    state_log();
    let mut file = b"PLIX\x01\0\0\0".to_vec();
    file.extend(2u64.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    for row in 1..=2u32 {
        [row * 10, row, row * 4096].iter().for_each(|number| file.extend(number.to_le_bytes()));
        file.extend(1_700_000_000_000u64.to_le_bytes());
    }
    seed("side_files", "index", &checksummed(file, 28));
}

/// A connection from either side, frames as they come after the handshake, and heads alone.
fn peer_link() {
    let (mut connects, mut accepts) = fuzz_targets::both_sides();
    let mut sent = [Vec::new(), Vec::new()];
    let mut next = connects.1.slice(peer::MAGIC.len()..);
    for turn in 0..3 {
        sent[turn % 2].extend_from_slice(&next);
        let received = peer::Decoder::new().decode(&mut next.into()).unwrap().unwrap();
        let side = if turn % 2 == 0 { &mut accepts } else { &mut connects.0 };
        next = match side.on_frame(received).unwrap() {
            peer::Step::Send(bytes) => bytes,
            peer::Step::Judge(_) => break,
        };
    }
    sent[1].extend_from_slice(&accepts.approve().unwrap().send.unwrap());
    seed("peer_link", "connects", &[&[0, 255][..], &sent[0]].concat());
    seed("peer_link", "accepts", &[&[0, 255][..], &sent[1]].concat());
    let frames = peer_frames();
    let stream: Vec<u8> =
        frames.iter().flat_map(|f| f.clone().encode(peer::Limits::DEFAULT).unwrap()).flatten().collect();
    seed("peer_link", "frames", &[&[1, 255][..], &stream].concat());
    seed("peer_link", "trickle", &[&[1, 3][..], &stream].concat());
    for (at, frame) in frames.into_iter().enumerate() {
        let name = format!("head_{at}_{}", peer::Kind::of(&frame.body).name());
        let head = pb_peer::PeerFrame { payload_crc: 0, body: Some(frame.body) }.encode_to_vec();
        let length = (head.len() as u16).to_be_bytes();
        seed("peer_link", &name, &[&[2][..], &length, &head, &frame.payloads.concat()].concat());
    }
}

fn peer_frames() -> Vec<peer::Frame> {
    let topic_id = Bytes::from_static(&[7; 16]);
    let raft = |kind: pb_peer::RaftType| pb_peer::RaftMessage {
        topic_id: topic_id.clone(),
        r#type: kind as i32,
        from: 1,
        to: 2,
        term: 5,
        ..Default::default()
    };
    let change: &[u8] = &[0x12, 2, 0x10, 4];
    let kinds = [(4, &b""[..], 0, 0), (1, b"batch", 2, 7), (2, b"command", 0, 9), (3, change, 0, 0)];
    let entries = kinds.map(|(kind, payload, offset_count, base_offset)| pb_peer::EntryHead {
        term: 5,
        r#type: kind,
        length: payload.len() as u32,
        offset_count,
        base_offset,
        ..Default::default()
    });
    let payloads = kinds.map(|(_, payload, _, _)| Bytes::from_static(payload)).to_vec();
    let append = raft(pb_peer::RaftType::Append);
    let append = pb_peer::RaftMessage { index: 9, log_term: 4, entries: entries.to_vec(), ..append };
    let members = pb_peer::Snapshot { voters: vec![1, 2], voters_outgoing: vec![1, 3], ..Default::default() };
    let snapshot = pb_peer::Snapshot { index: 8, term: 2, learners_next: vec![3], length: 4, ..members };
    let snapshot = pb_peer::RaftMessage { snapshot: Some(snapshot), ..raft(pb_peer::RaftType::Snapshot) };
    let asleep = pb_peer::SleepingGroup {
        topic_id: topic_id.clone(),
        partition: 1,
        term: 5,
        last_index: 9,
        last_term: 4,
    };
    let heartbeat =
        pb_peer::Heartbeat { process_start: 3, sequence: 1, sleeping: vec![asleep], ..Default::default() };
    let row =
        pb_peer::LeaderRow { topic_id, partition: 1, leader: -1, in_sync: vec![1, 2], ..Default::default() };
    let propose = pb_peer::Propose { token: 1, command: Bytes::from_static(b"command") };
    let propose = pb_peer::node_message::Body::Propose(propose);
    vec![
        peer::Frame::raft(snapshot, vec![Bytes::from_static(b"data")]),
        peer::Frame::raft(append, payloads),
        peer::Frame::bare(peer::Body::Heartbeat(heartbeat)),
        peer::Frame::bare(peer::Body::LeaderRows(pb_peer::LeaderRows { whole: true, rows: vec![row] })),
        peer::Frame::forward(
            pb_peer::Forward { correlation: 1, principal: "User:a".into(), ..Default::default() },
            Bytes::from_static(b"request"),
        ),
        peer::Frame::forwarded(
            pb_peer::Forwarded { correlation: 1, error_code: -1, length: 0, metadata_version: 7 },
            Bytes::from_static(b"response"),
        ),
        peer::Frame::bare(peer::Body::Node(pb_peer::NodeMessage { body: Some(propose) })),
        peer::Frame::bare(peer::Body::Refuse(pb_peer::Refuse::default())),
    ]
}

/// A snapshot with an identity, and an update with a group's row.
fn state_log() {
    let record = |kind: u8, number: u64, items: &[u8]| {
        let mut out = b"PLST\x01".to_vec();
        out.extend([kind, 0, 0]);
        out.extend((items.len() as u32).to_le_bytes());
        out.extend([0; 4]);
        out.extend(number.to_le_bytes());
        out.extend((number - 1).to_le_bytes());
        out.extend([0; 8]);
        out.extend(items);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    };
    let identity = [&[3][..], &[0; 32]].concat();
    let key = [&GroupKey::METADATA.topic.0[..], &0i32.to_le_bytes()].concat();
    let mut row = [&[1][..], &key, &2u64.to_le_bytes(), &1u64.to_le_bytes(), &[1]].concat();
    row.extend(4u64.to_le_bytes());
    row.extend(7u32.to_le_bytes());
    [2u64, 200, 4].iter().for_each(|number| row.extend(number.to_le_bytes()));
    let forget = [&[2][..], &key].concat();
    let file = [record(1, 1, &identity), record(2, 2, &row), record(3, 3, &forget)].concat();
    seed("state_log", "one_file", &[&[255][..], &file].concat());
    let other = record(1, 4, &[&identity[..], &row].concat());
    let cut = (file.len() * 256 / (file.len() + other.len()) + 1) as u8;
    seed("state_log", "two_files", &[&[cut][..], &file, &other].concat());
}

/// With the CRC-32C of everything, taken with zeros in its place, at `at`.
fn checksummed(mut file: Vec<u8>, at: usize) -> Vec<u8> {
    let crc = records::crc32c(&file);
    file[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    file
}
