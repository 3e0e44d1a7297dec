//! What nodes say to one another, as it travels: to and from the frames of `protocol/internal/v1/peer.proto`.
use crate::api::{InstallSaid, PeerOut};
use crate::leaders::{LeaderBatch, LeaderRow};
use crate::liveness::Heartbeat;
use crate::load::{LoadReport, MOST_TOLD};
use crate::recovery_wire;
use crate::sleep::Sleeping;
use crate::txn_wire;
use bytes::Bytes;
use consensus::{PeerCodecError, PeerMessage};
use model::{ErrorCode, GroupKey, LeaderEpoch, TopicId};
use proto::peer as pb;
use proto::peer::install::Body as InstallBody;
use proto::peer::node_message::Body as NodeBody;
use proto::peer::peer_frame::Body;
use std::sync::Arc;

/// A frame that is none of what nodes say, or that says it wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A message between replicas.
    #[error("raft message: {0}")]
    Raft(#[from] PeerCodecError),
    /// A field has a value that it cannot have.
    #[error("{0}")]
    Field(&'static str),
}

impl PeerOut {
    /// Its frame's message, and the payloads that follow it. Errors: a message of raft that must not leave.
    pub fn into_wire(self) -> Result<(Body, Vec<Bytes>), BadMessage> {
        let bare = |body| Ok((body, Vec::new()));
        match self {
            PeerOut::Raft { key, message } => {
                let (message, payloads) = message.into_wire(key)?;
                Ok((Body::Raft(message), payloads))
            }
            PeerOut::Heartbeat(beat) => bare(Body::Heartbeat(heartbeat(&beat))),
            PeerOut::Leaders(batch) => {
                let rows = batch.rows.iter().map(row).collect();
                bare(Body::LeaderRows(pb::LeaderRows { whole: batch.whole, rows }))
            }
            PeerOut::Propose { token, command } => {
                let body = Some(NodeBody::Propose(pb::Propose { token, command }));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::Proposed { token, code } => {
                let error_code = i32::from(code.code());
                let body = Some(NodeBody::Proposed(pb::Proposed { token, error_code }));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::Install { key, said } => {
                let (body, payloads) = install(said);
                let (topic_id, partition) = (topic(key), key.partition);
                Ok((Body::Install(pb::Install { topic_id, partition, body: Some(body) }), payloads))
            }
            PeerOut::AskReplica { key, inquiry } => {
                let body = Some(NodeBody::AskReplica(recovery_wire::asked(key, inquiry)));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::ReplicaState { key, inquiry, state } => {
                let body = Some(NodeBody::ReplicaState(recovery_wire::told(key, inquiry, *state)));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::TxnAsk { number, ask } => {
                let body = Some(NodeBody::TxnAsk(txn_wire::ask(number, *ask)));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::TxnAnswer { number, code } => {
                let error_code = i32::from(code.code());
                let body = Some(NodeBody::TxnAnswer(pb::TxnAnswer { number, error_code }));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::Markers { number, markers } => {
                let body = Some(NodeBody::Markers(txn_wire::markers(number, *markers)));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::Marked { number, partitions } => {
                let body = Some(NodeBody::Marked(txn_wire::marked(number, &partitions)));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::HandOver { key, to } => {
                let (topic_id, partition) = (topic(key), key.partition);
                let body = Some(NodeBody::HandOver(pb::HandOver { topic_id, partition, to }));
                bare(Body::Node(pb::NodeMessage { body }))
            }
            PeerOut::Chain { key, index, value, asks } => {
                let said =
                    pb::ChainValue { topic_id: topic(key), partition: key.partition, index, value, asks };
                bare(Body::Node(pb::NodeMessage { body: Some(NodeBody::ChainValue(said)) }))
            }
        }
    }

    /// What a frame says to this node; `Ok(None)` where it is not for the node but for its shell. Errors: the
    /// frame is to be dropped and counted.
    pub fn from_wire(body: Body, payloads: Vec<Bytes>) -> Result<Option<PeerOut>, BadMessage> {
        let said = match body {
            Body::Raft(message) => {
                let (key, message) = PeerMessage::from_wire(message, payloads)?;
                PeerOut::Raft { key, message }
            }
            Body::Heartbeat(beat) => PeerOut::Heartbeat(heard(beat)?),
            Body::LeaderRows(rows) => {
                let (whole, rows) =
                    (rows.whole, rows.rows.into_iter().map(row_of).collect::<Result<_, _>>()?);
                PeerOut::Leaders(LeaderBatch { whole, rows })
            }
            Body::Node(message) => match message.body.ok_or(BadMessage::Field("an empty message"))? {
                NodeBody::Propose(p) => PeerOut::Propose { token: p.token, command: p.command },
                NodeBody::Proposed(p) => {
                    let code = i16::try_from(p.error_code).ok().and_then(ErrorCode::from_code);
                    PeerOut::Proposed { token: p.token, code: code.unwrap_or(ErrorCode::UnknownServerError) }
                }
                NodeBody::AskReplica(asked) => {
                    let key = key_of(&asked.topic_id, asked.partition)?;
                    PeerOut::AskReplica { key, inquiry: asked.inquiry }
                }
                NodeBody::ReplicaState(said) => {
                    let inquiry = said.inquiry;
                    let (key, state) = recovery_wire::heard(said)?;
                    PeerOut::ReplicaState { key, inquiry, state: Box::new(state) }
                }
                NodeBody::HandOver(h) => {
                    PeerOut::HandOver { key: key_of(&h.topic_id, h.partition)?, to: h.to }
                }
                NodeBody::TxnAsk(ask) => txn_wire::asked(ask)?,
                NodeBody::TxnAnswer(a) => {
                    PeerOut::TxnAnswer { number: a.number, code: txn_wire::code(a.error_code) }
                }
                NodeBody::Markers(markers) => txn_wire::markers_asked(markers)?,
                NodeBody::Marked(marked) => txn_wire::was_marked(marked),
                NodeBody::ChainValue(said) => {
                    let key = key_of(&said.topic_id, said.partition)?;
                    PeerOut::Chain { key, index: said.index, value: said.value, asks: said.asks }
                }
            },
            Body::Install(message) => {
                let key = key_of(&message.topic_id, message.partition)?;
                let body = message.body.ok_or(BadMessage::Field("an empty message"))?;
                PeerOut::Install { key, said: install_said(body, payloads) }
            }
            Body::Hello(_)
            | Body::Proof(_)
            | Body::Refuse(_)
            | Body::Forward(_)
            | Body::Forwarded(_)
            | Body::Find(_)
            | Body::Found(_) => return Ok(None),
        };
        Ok(Some(said))
    }
}

pub(crate) fn key_of(topic: &[u8], partition: i32) -> Result<GroupKey, BadMessage> {
    let topic = topic.try_into().map_err(|_| BadMessage::Field("a topic id has 16 bytes"))?;
    if partition < 0 {
        return Err(BadMessage::Field("a partition is not negative"));
    }
    Ok(GroupKey { topic: TopicId(topic), partition })
}

pub(crate) fn topic(key: GroupKey) -> Bytes {
    Bytes::copy_from_slice(&key.topic.0)
}

fn install(said: InstallSaid) -> (InstallBody, Vec<Bytes>) {
    match said {
        InstallSaid::Offer { term, index, index_term, last_index, repair } => {
            let offer = pb::InstallOffer { term, index, index_term, last_index, repair };
            (InstallBody::Offer(offer), Vec::new())
        }
        InstallSaid::Ask { term } => (InstallBody::Ask(pb::InstallAsk { term }), Vec::new()),
        InstallSaid::Bad => (InstallBody::Bad(pb::InstallBad {}), Vec::new()),
        InstallSaid::Pull { index, file, pos, length } => {
            (InstallBody::Pull(pb::InstallPull { index, file, pos, length }), Vec::new())
        }
        InstallSaid::Piece { index, file, pos, bytes } => {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            (InstallBody::Piece(pb::InstallPiece { index, file, pos, length }), vec![bytes])
        }
        InstallSaid::Done { last_index } => (InstallBody::Done(pb::InstallDone { last_index }), Vec::new()),
    }
}

fn install_said(body: InstallBody, mut payloads: Vec<Bytes>) -> InstallSaid {
    match body {
        InstallBody::Offer(o) => InstallSaid::Offer {
            term: o.term,
            index: o.index,
            index_term: o.index_term,
            last_index: o.last_index,
            repair: o.repair,
        },
        InstallBody::Ask(ask) => InstallSaid::Ask { term: ask.term },
        InstallBody::Bad(_) => InstallSaid::Bad,
        InstallBody::Pull(p) => {
            InstallSaid::Pull { index: p.index, file: p.file, pos: p.pos, length: p.length }
        }
        InstallBody::Piece(p) => {
            let bytes = payloads.pop().unwrap_or_default();
            InstallSaid::Piece { index: p.index, file: p.file, pos: p.pos, bytes }
        }
        InstallBody::Done(d) => InstallSaid::Done { last_index: d.last_index },
    }
}

fn heartbeat(beat: &Heartbeat) -> pb::Heartbeat {
    let sleeping = beat.sleeping.iter().map(|group| pb::SleepingGroup {
        topic_id: topic(group.key),
        partition: group.key.partition,
        term: u64::try_from(group.epoch).unwrap_or_default(),
        last_index: group.last_index,
        last_term: group.last_term,
    });
    pb::Heartbeat {
        process_start: beat.from_start,
        receiver_start: beat.to_start,
        oldest_io_ms: beat.oldest_io_ms,
        sequence: beat.number,
        echo: beat.echo,
        sleeping: sleeping.collect(),
        full: beat.full,
        load: beat.load.as_deref().map(load),
    }
}

fn load(load: &LoadReport) -> pb::Load {
    let most = load.most.iter().map(|(key, rate)| pb::LedGroup {
        topic_id: topic(*key),
        partition: key.partition,
        rate: *rate,
    });
    pb::Load { led: load.led, followed: load.followed, stored: load.stored, most: most.collect() }
}

fn load_of(load: pb::Load) -> Result<Arc<LoadReport>, BadMessage> {
    let row = |group: pb::LedGroup| Ok((key_of(&group.topic_id, group.partition)?, group.rate));
    let most = load.most.into_iter().take(MOST_TOLD).map(row).collect::<Result<_, BadMessage>>()?;
    Ok(Arc::new(LoadReport { led: load.led, followed: load.followed, stored: load.stored, most }))
}

fn heard(beat: pb::Heartbeat) -> Result<Heartbeat, BadMessage> {
    let sleeping = beat.sleeping.into_iter().map(|group| {
        let key = key_of(&group.topic_id, group.partition)?;
        let epoch = LeaderEpoch::try_from(group.term).map_err(|_| BadMessage::Field("a term fits an i32"))?;
        let pb::SleepingGroup { last_index, last_term, .. } = group;
        Ok::<_, BadMessage>(Sleeping { key, epoch, last_index, last_term })
    });
    Ok(Heartbeat {
        from_start: beat.process_start,
        to_start: beat.receiver_start,
        number: beat.sequence,
        echo: beat.echo,
        oldest_io_ms: beat.oldest_io_ms,
        sleeping: sleeping.collect::<Result<_, _>>()?,
        full: beat.full,
        load: beat.load.map(load_of).transpose()?,
    })
}

fn row(row: &LeaderRow) -> pb::LeaderRow {
    pb::LeaderRow {
        topic_id: topic(row.key),
        partition: row.key.partition,
        epoch: row.epoch,
        leader: row.leader.unwrap_or(-1),
        number: row.number,
        in_sync: row.in_sync.to_vec(),
    }
}

fn row_of(row: pb::LeaderRow) -> Result<LeaderRow, BadMessage> {
    let key = key_of(&row.topic_id, row.partition)?;
    let leader = Some(row.leader).filter(|leader| *leader >= 0);
    Ok(LeaderRow { key, epoch: row.epoch, leader, number: row.number, in_sync: row.in_sync.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn_host::TxnAsk;
    use crate::txn_markers::MarkersFor;
    use coordinator::txn::TopicPartition;

    fn there_and_back(said: PeerOut) {
        let (body, payloads) = said.clone().into_wire().unwrap();
        assert_eq!(PeerOut::from_wire(body, payloads), Ok(Some(said)));
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let key = GroupKey { topic: TopicId([5; 16]), partition: 7 };
        let sleeping = vec![Sleeping { key, epoch: 9, last_index: 12, last_term: 8 }];
        let load = LoadReport { led: 9, followed: 8, stored: 7, most: vec![(key, 6)] };
        for (full, load) in [(false, None), (true, Some(Arc::new(load)))] {
            let sleeping = sleeping.clone();
            let (from_start, to_start, number, echo, oldest_io_ms) = (1, 2, 3, 4, 5);
            let beat = Heartbeat { from_start, to_start, number, echo, oldest_io_ms, sleeping, full, load };
            there_and_back(PeerOut::Heartbeat(beat));
        }
        for leader in [None, Some(0), Some(3)] {
            let row = LeaderRow { key, epoch: 4, leader, number: 8, in_sync: [1, 2].into() };
            there_and_back(PeerOut::Leaders(LeaderBatch { whole: leader.is_none(), rows: [row].into() }));
        }
        there_and_back(PeerOut::Propose { token: 6, command: Bytes::from_static(b"command") });
        for said in [
            InstallSaid::Offer { term: 3, index: 4, index_term: 2, last_index: 9, repair: true },
            InstallSaid::Ask { term: 3 },
            InstallSaid::Bad,
            InstallSaid::Pull { index: 4, file: 2, pos: 7, length: 9 },
            InstallSaid::Piece { index: 4, file: 2, pos: 7, bytes: Bytes::from_static(b"frames") },
            InstallSaid::Done { last_index: 5 },
        ] {
            there_and_back(PeerOut::Install { key, said });
        }
        there_and_back(PeerOut::HandOver { key, to: 3 });
        let ask = TxnAsk {
            transactional_id: "t".into(),
            producer: (9, 3),
            topic: "orders".into(),
            partition: 4,
            verify: true,
            known: true,
        };
        there_and_back(PeerOut::TxnAsk { number: 8, ask: Box::new(ask) });
        there_and_back(PeerOut::TxnAnswer { number: 8, code: ErrorCode::InvalidTxnState });
        let marker = partition::Marker {
            producer_id: 9,
            producer_epoch: 4,
            commit: true,
            coordinator_epoch: 2,
            txn_version: 2,
        };
        let orders = TopicPartition::new("orders", 4);
        let markers = MarkersFor { marker, partitions: vec![orders.clone()] };
        there_and_back(PeerOut::Markers { number: 8, markers: Box::new(markers) });
        let partitions = vec![(orders, ErrorCode::NotLeaderOrFollower)];
        there_and_back(PeerOut::Marked { number: 8, partitions });
        there_and_back(PeerOut::Chain { key, index: 9, value: u32::MAX, asks: true });
        there_and_back(PeerOut::Proposed { token: 6, code: ErrorCode::NotController });
    }

    #[test]
    fn a_group_that_cannot_be_is_refused() {
        let mut row = pb::LeaderRow { topic_id: Bytes::from_static(b"short"), ..Default::default() };
        let rows =
            |row: &pb::LeaderRow| Body::LeaderRows(pb::LeaderRows { whole: false, rows: vec![row.clone()] });
        assert!(PeerOut::from_wire(rows(&row), Vec::new()).is_err());
        row.topic_id = Bytes::from(vec![1; 16]);
        assert!(PeerOut::from_wire(rows(&row), Vec::new()).is_ok());
        row.partition = -1;
        assert!(PeerOut::from_wire(rows(&row), Vec::new()).is_err());
        let term = pb::SleepingGroup { topic_id: row.topic_id, term: 1 << 40, ..Default::default() };
        let beat = pb::Heartbeat { sleeping: vec![term], ..Default::default() };
        assert!(PeerOut::from_wire(Body::Heartbeat(beat), Vec::new()).is_err());
        assert!(PeerOut::from_wire(Body::Node(pb::NodeMessage { body: None }), Vec::new()).is_err());
    }
}
