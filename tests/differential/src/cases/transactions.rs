//! Transactions from their first producer id to their end, and what is refused on the way.
use crate::script::Script;
use crate::side::Side;
use model::TopicId;
use wire::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTopicV3, AddPartitionsToTxnTransaction,
};
use wire::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use wire::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ListTransactionsRequest, ResponseBody, Str,
    TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};

/// Last of all: Kafka makes its state topic now, which shows wherever all topics are listed.
pub(super) fn steps(script: &mut Script) {
    script
        .over("of a transaction", 1..=6, |side, v| {
            let key = side.name("t");
            let (key, coordinator_keys) = if v >= 4 { (Str::default(), vec![key]) } else { (key, vec![]) };
            FindCoordinatorRequest { key, key_type: 1, coordinator_keys }
        })
        .settled();
    script.each("a transactional id", |side, _| init(side)).settled().learn(learn_producer);
    script.each("a timeout of fifteen minutes and more", |side, _| InitProducerIdRequest {
        transaction_timeout_ms: 900_001,
        ..init(side)
    });
    joins(script);
    ends(script);
    markers(script);
    shows(script);
}

fn init(side: &Side) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(side.name("t")),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    }
}

fn learn_producer(side: &mut Side, body: &ResponseBody) {
    if let ResponseBody::InitProducerId(answer) = body {
        side.learn_number("the transactional producer", "producer_id", answer.producer_id);
        side.learn_number("its epoch", "producer_epoch", i64::from(answer.producer_epoch));
    }
}

fn producer(side: &Side) -> i64 {
    side.number("the transactional producer", 0)
}

fn epoch(side: &Side) -> i16 {
    i16::try_from(side.number("its epoch", 0)).unwrap_or_default()
}

fn add(side: &Side, epoch: i16, topics: &[(Str, i32)]) -> AddPartitionsToTxnRequest {
    let topic = |(name, partition): &(Str, i32)| AddPartitionsToTxnTopicV3 {
        name: name.clone(),
        partitions: vec![*partition],
    };
    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: side.name("t"),
        v3_and_below_producer_id: producer(side),
        v3_and_below_producer_epoch: epoch,
        v3_and_below_topics: topics.iter().map(topic).collect(),
        ..Default::default()
    }
}

fn ask(side: &Side, id: Str, partition: i32, verify_only: bool) -> AddPartitionsToTxnRequest {
    let topics = vec![AddPartitionsToTxnTopic { name: side.name("main"), partitions: vec![partition] }];
    AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: id,
            producer_id: producer(side),
            producer_epoch: epoch(side),
            verify_only,
            topics,
        }],
        ..Default::default()
    }
}

fn offsets(side: &Side, v: i16, epoch: i16, partition: i32) -> TxnOffsetCommitRequest {
    let (name, topic_id) =
        if v <= 5 { (side.name("main"), TopicId::ZERO) } else { (Str::default(), side.id("main")) };
    TxnOffsetCommitRequest {
        transactional_id: side.name("t"),
        group_id: side.name("of t"),
        producer_id: producer(side),
        producer_epoch: epoch,
        generation_id_or_member_epoch: -1,
        topics: vec![TxnOffsetCommitRequestTopic {
            name,
            topic_id,
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: 1,
                committed_leader_epoch: -1,
                committed_metadata: None,
            }],
        }],
        ..Default::default()
    }
}

fn joins(script: &mut Script) {
    script.over("no transaction is open", 4..=5, |side, _| ask(side, side.name("t"), 0, true));
    script.over("partitions", 0..=3, |side, _| add(side, epoch(side), &[(side.name("main"), 0)])).settled();
    script.over("an unknown one among them", 0..=3, |side, _| {
        add(side, epoch(side), &[(side.name("main"), 1), (side.name("nowhere"), 0)])
    });
    script.over("of an older epoch", 0..=3, |side, _| add(side, epoch(side) - 1, &[(side.name("main"), 0)]));
    script.over("of a producer that is none", 0..=3, |side, _| AddPartitionsToTxnRequest {
        v3_and_below_producer_id: 4_000_000,
        ..add(side, epoch(side), &[(side.name("main"), 0)])
    });
    script.over("of an id that is none", 0..=3, |side, _| AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: side.name("no such"),
        ..add(side, epoch(side), &[(side.name("main"), 0)])
    });
    script.over("it is there", 4..=5, |side, _| ask(side, side.name("t"), 0, true));
    script.over("it is not there", 4..=5, |side, _| ask(side, side.name("t"), 2, true));
    script.over("from a broker", 4..=5, |side, _| ask(side, side.name("t"), 1, false)).settled();
    script.over("of an unknown id, from a broker", 4..=5, |side, _| ask(side, side.name("no such"), 0, true));
    script
        .each("offsets of a group", |side, _| AddOffsetsToTxnRequest {
            transactional_id: side.name("t"),
            producer_id: producer(side),
            producer_epoch: epoch(side),
            group_id: side.name("of t"),
        })
        .settled();
    script.each("offsets of an older epoch", |side, _| AddOffsetsToTxnRequest {
        transactional_id: side.name("t"),
        producer_id: producer(side),
        producer_epoch: epoch(side) - 1,
        group_id: side.name("of t"),
    });
    script.each("inside the transaction", |side, v| offsets(side, v, epoch(side), 0)).settled();
    script.each("of an unknown partition", |side, v| offsets(side, v, epoch(side), 99));
}

fn end(side: &Side, epoch: i16, committed: bool) -> EndTxnRequest {
    EndTxnRequest {
        transactional_id: side.name("t"),
        producer_id: producer(side),
        producer_epoch: epoch,
        committed,
    }
}

fn is_concurrent(leaves: &crate::leaves::Leaves) -> bool {
    leaves.iter().any(|(path, value)| path.ends_with("error_code") && value == "51")
}

fn ends(script: &mut Script) {
    script.over("of an older epoch", 0..=4, |side, _| end(side, epoch(side) - 1, true));
    script.over("commit", 0..=4, |side, _| end(side, epoch(side), true)).again(is_concurrent);
    script.over("abort after it", 0..=4, |side, _| end(side, epoch(side), false));
    script.over("of a producer that is none", 0..=5, |side, _| EndTxnRequest {
        producer_id: 4_000_000,
        ..end(side, epoch(side), true)
    });
    script
        .over("with the transactional id again", 5..=5, |side, _| init(side))
        .settled()
        .learn(learn_producer);
    script.over("commit of nothing", 5..=5, |side, _| end(side, epoch(side), true));
    script
        .over("partitions of the next", 3..=3, |side, _| add(side, epoch(side), &[(side.name("main"), 0)]))
        .settled();
    script.over("abort, and the next epoch", 5..=5, |side, _| end(side, epoch(side), false)).settled();
    script.over("the same again", 5..=5, |side, _| end(side, epoch(side), false)).again(is_concurrent);
    script.over("the other result", 5..=5, |side, _| end(side, epoch(side), true));
}

fn markers(script: &mut Script) {
    let marker = |topic: Str, producer_epoch: i16| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: 5_000_000,
            producer_epoch,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic { name: topic, partition_indexes: vec![0] }],
            coordinator_epoch: 3,
            transaction_version: 0,
        }],
    };
    script.each("of a producer that nobody knows", move |side, _| marker(side.name("main"), 7)).settled();
    script.each("an older one", move |side, _| marker(side.name("main"), 6));
    script.each("to a topic that is none", move |side, _| marker(side.name("nowhere"), 7));
}

fn shows(script: &mut Script) {
    let describe = |id: Str| DescribeTransactionsRequest { transactional_ids: vec![id] };
    script.each("an id", move |side, _| describe(side.name("t")));
    script.each("an id that is none", move |side, _| describe(side.name("no such")));
    script.each("an empty id", move |_, _| describe(Str::default()));
    script.each("all", |_, _| list());
    script.each("ongoing ones", |_, _| ListTransactionsRequest {
        state_filters: vec![Str::from("Ongoing"), Str::from("Nonsense")],
        ..list()
    });
    script.each("of no producer", |_, _| ListTransactionsRequest { producer_id_filters: vec![77], ..list() });
    script
        .over("lasting long", 1..=2, |_, _| ListTransactionsRequest { duration_filter: 3_600_000, ..list() });
    script.over("by a pattern", 2..=2, |_, _| ListTransactionsRequest {
        transactional_id_pattern: super::some("t-.*"),
        ..list()
    });
    script.over("by a pattern that is none", 2..=2, |_, _| ListTransactionsRequest {
        transactional_id_pattern: super::some("("),
        ..list()
    });
}

fn list() -> ListTransactionsRequest {
    ListTransactionsRequest { duration_filter: -1, ..Default::default() }
}
