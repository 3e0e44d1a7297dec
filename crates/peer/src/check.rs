//! What every message must keep to, whoever sent it: sizes of ids, ranges of numbers.
//!
//! What a raft message's own fields may be is `consensus`' to judge.
use crate::error::FrameFault;
use proto::peer::peer_frame::Body;
use proto::peer::{Found, Heartbeat, Hello, LeaderRow, LeaderRows, NodeMessage, Purpose, node_message};

/// Entries that one message may have.
pub(crate) const MOST_ENTRIES: usize = 1 << 20;
/// Bytes of a cluster id; Kafka's own have 22.
const CLUSTER_ID_BYTES: usize = 255;
/// Bytes of a host's name.
const HOST_BYTES: usize = 255;
/// Bytes of a topic or directory id.
const ID_BYTES: usize = 16;
/// Bytes of an HMAC-SHA-256.
const MAC_BYTES: usize = 32;

type Checked = Result<(), (&'static str, FrameFault)>;

/// Judges one message. Errors: the field and what is wrong with it.
pub(crate) fn check(body: &Body) -> Checked {
    match body {
        Body::Hello(hello) => check_hello(hello),
        Body::Proof(proof) => sized("Proof.mac", &proof.mac, MAC_BYTES),
        Body::Refuse(refuse) => {
            cluster_id("Refuse.cluster_id", &refuse.cluster_id)?;
            not_negative("Refuse.node_id", refuse.node_id)
        }
        Body::Raft(message) => {
            let (count, limit) = (message.entries.len(), MOST_ENTRIES);
            need(count <= limit, "RaftMessage.entries", FrameFault::TooMany { count, limit })
        }
        Body::Heartbeat(heartbeat) => check_heartbeat(heartbeat),
        Body::LeaderRows(LeaderRows { rows, .. }) => rows.iter().try_for_each(check_row),
        Body::Forward(_) => Ok(()),
        Body::Forwarded(forwarded) => kafka_code("Forwarded.error_code", forwarded.error_code),
        Body::Install(install) => {
            sized("Install.topic_id", &install.topic_id, ID_BYTES)?;
            not_negative("Install.partition", install.partition)?;
            need(install.body.is_some(), "Install", FrameFault::NoMessage)
        }
        Body::Find(_) => Ok(()),
        Body::Found(found) => check_found(found),
        Body::Node(NodeMessage { body }) => match body {
            None => Err(("NodeMessage", FrameFault::NoMessage)),
            Some(node_message::Body::Propose(_)) => Ok(()),
            Some(node_message::Body::Proposed(proposed)) => {
                kafka_code("Proposed.error_code", proposed.error_code)
            }
            Some(node_message::Body::TxnAsk(ask)) => not_negative("TxnAsk.partition", ask.partition),
            Some(node_message::Body::TxnAnswer(answer)) => {
                kafka_code("TxnAnswer.error_code", answer.error_code)
            }
            Some(node_message::Body::Markers(markers)) => {
                let mut partitions = markers.partitions.iter();
                partitions.try_for_each(|p| not_negative("Markers.partitions", p.partition))
            }
            Some(node_message::Body::Marked(marked)) => marked.partitions.iter().try_for_each(|p| {
                not_negative("Marked.partitions", p.partition)?;
                kafka_code("Marked.partitions", p.error_code)
            }),
            Some(node_message::Body::AskReplica(ask)) => {
                sized("AskReplica.topic_id", &ask.topic_id, ID_BYTES)?;
                not_negative("AskReplica.partition", ask.partition)
            }
            Some(node_message::Body::ReplicaState(state)) => {
                sized("ReplicaState.topic_id", &state.topic_id, ID_BYTES)?;
                not_negative("ReplicaState.partition", state.partition)
            }
            Some(node_message::Body::HandOver(hand_over)) => {
                sized("HandOver.topic_id", &hand_over.topic_id, ID_BYTES)?;
                not_negative("HandOver.partition", hand_over.partition)?;
                not_negative("HandOver.to", hand_over.to)
            }
            Some(node_message::Body::ChainValue(said)) => {
                sized("ChainValue.topic_id", &said.topic_id, ID_BYTES)?;
                not_negative("ChainValue.partition", said.partition)
            }
        },
    }
}

fn check_hello(hello: &Hello) -> Checked {
    let Hello { lowest_version, highest_version, node_id, process_start, .. } = hello;
    let versions = FrameFault::Range(i64::from(*highest_version));
    need(lowest_version <= highest_version, "Hello.highest_version", versions)?;
    cluster_id("Hello.cluster_id", &hello.cluster_id)?;
    not_negative("Hello.node_id", *node_id)?;
    need(*process_start != 0, "Hello.process_start", FrameFault::Range(0))?;
    sized("Hello.directory_id", &hello.directory_id, ID_BYTES)?;
    sized("Hello.nonce", &hello.nonce, crate::NONCE_BYTES)?;
    let purpose = FrameFault::Range(i64::from(hello.purpose));
    need(
        matches!(hello.purpose(), Purpose::Data | Purpose::Liveness | Purpose::Find),
        "Hello.purpose",
        purpose,
    )?;
    not_negative("Hello.to", hello.to.unwrap_or_default())
}

fn check_found(found: &Found) -> Checked {
    cluster_id("Found.cluster_id", &found.cluster_id)?;
    kafka_code("Found.error_code", found.error_code)?;
    need(found.leader >= -1, "Found.leader", FrameFault::Range(i64::from(found.leader)))?;
    found.voters.iter().try_for_each(|node| not_negative("Found.voters", *node))?;
    found.founders.iter().chain(&found.members).try_for_each(|replica| {
        need(replica.id != 0, "Replica.id", FrameFault::Range(0))?;
        not_negative("Replica.node_id", replica.node_id)
    })?;
    found.nodes.iter().try_for_each(|node| {
        let (length, limit) = (node.host.len(), HOST_BYTES);
        need(length <= limit, "NodeAddress.host", FrameFault::TooLong { length, limit })?;
        let port = u16::try_from(node.port).is_ok_and(|port| port != 0);
        need(port, "NodeAddress.port", FrameFault::Range(i64::from(node.port)))?;
        not_negative("NodeAddress.node_id", node.node_id)
    })
}

fn check_heartbeat(heartbeat: &Heartbeat) -> Checked {
    need(heartbeat.process_start != 0, "Heartbeat.process_start", FrameFault::Range(0))?;
    heartbeat.sleeping.iter().try_for_each(|group| {
        sized("SleepingGroup.topic_id", &group.topic_id, ID_BYTES)?;
        not_negative("SleepingGroup.partition", group.partition)
    })?;
    heartbeat.load.iter().flat_map(|load| &load.most).try_for_each(|group| {
        sized("LedGroup.topic_id", &group.topic_id, ID_BYTES)?;
        not_negative("LedGroup.partition", group.partition)
    })
}

fn check_row(row: &LeaderRow) -> Checked {
    sized("LeaderRow.topic_id", &row.topic_id, ID_BYTES)?;
    not_negative("LeaderRow.partition", row.partition)?;
    not_negative("LeaderRow.epoch", row.epoch)?;
    need(row.leader >= -1, "LeaderRow.leader", FrameFault::Range(i64::from(row.leader)))?;
    row.in_sync.iter().try_for_each(|node| not_negative("LeaderRow.in_sync", *node))
}

fn need(holds: bool, field: &'static str, fault: FrameFault) -> Checked {
    if holds { Ok(()) } else { Err((field, fault)) }
}

fn cluster_id(field: &'static str, id: &str) -> Checked {
    let (length, limit) = (id.len(), CLUSTER_ID_BYTES);
    need(length <= limit, field, FrameFault::TooLong { length, limit })
}

fn sized(field: &'static str, bytes: &[u8], expected: usize) -> Checked {
    need(bytes.len() == expected, field, FrameFault::Size { size: bytes.len(), expected })
}

fn not_negative(field: &'static str, number: i32) -> Checked {
    need(number >= 0, field, FrameFault::Range(i64::from(number)))
}

/// Kafka's error codes are of 16 bits.
fn kafka_code(field: &'static str, code: i32) -> Checked {
    need(i16::try_from(code).is_ok(), field, FrameFault::Range(i64::from(code)))
}
