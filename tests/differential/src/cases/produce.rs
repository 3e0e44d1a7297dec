//! Produce: batches that are taken, and those that are refused.
use super::batches::{at, batch, built, changed, damaged, keyless, sized, time};
use crate::script::Script;
use crate::side::Side;
use bytes::BytesMut;
use model::TopicId;
use records::{BatchBuilder, Codec};
use wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{ListOffsetsRequest, ProduceRequest, Str};

/// A request for one partition of a topic of the script.
fn produce(side: &Side, topic: &str, index: i32, records: Option<BytesMut>) -> ProduceRequest {
    let name = if topic.starts_with("__") { Str::from(topic) } else { side.name(topic) };
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name,
            topic_id: side.id(topic),
            partition_data: vec![PartitionProduceData { index, records }],
        }],
    }
}

pub(super) fn steps(script: &mut Script) {
    good(script);
    unacknowledged(script);
    twice(script);
    odd_inside(script);
    refused(script);
    damaged_batches(script);
    rules_of_topics(script);
    idempotent(script);
}

fn good(script: &mut Script) {
    script.each("good", |side, _| produce(side, "main", 0, Some(batch(3, Codec::None)))).settled();
    script.each("acks 1", |side, _| ProduceRequest { acks: 1, ..produce(side, "main", 0, Some(at(time()))) });
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        script.each(codec.name(), move |side, _| produce(side, "main", 1, Some(batch(3, codec))));
    }
    script.each("recompressed", |side, _| produce(side, "packed", 0, Some(batch(9, Codec::Gzip))));
    script.each("stamped", |side, _| produce(side, "stamped", 0, Some(batch(2, Codec::None))));
    script.each("without timestamps", |side, _| produce(side, "main", 2, Some(at(-1))));
    script.each("a topic without partitions", |side, _| {
        let mut request = produce(side, "main", 0, None);
        request.topic_data[0].partition_data.clear();
        request
    });
    script.each("two partitions", |side, _| {
        let mut request = produce(side, "main", 0, Some(at(time())));
        request.topic_data[0]
            .partition_data
            .push(PartitionProduceData { index: 2, records: Some(at(time())) });
        request
    });
    script.each("two topics", |side, _| {
        let mut request = produce(side, "main", 0, Some(at(time())));
        request.topic_data.extend(produce(side, "grown", 0, Some(at(time()))).topic_data);
        request
    });
    script.each("a timeout of 0, acks 1", |side, _| ProduceRequest {
        acks: 1,
        timeout_ms: 0,
        ..produce(side, "main", 0, Some(at(time())))
    });
    script.once("no topics", |_, _| ProduceRequest { acks: -1, timeout_ms: 1000, ..Default::default() });
}

/// Without acknowledgement: nothing comes back, and an error closes the connection.
fn unacknowledged(script: &mut Script) {
    let send = |side: &Side, topic: &str, index: i32, records| ProduceRequest {
        acks: 0,
        ..produce(side, topic, index, Some(records))
    };
    script.begin("acks 0", move |side, _| send(side, "unasked", 0, batch(3, Codec::None)));
    script
        .once("after acks 0", |side, _| ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: side.name("unasked"),
                partitions: vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }],
            }],
            ..Default::default()
        })
        .again(|leaves| !leaves.iter().any(|(path, offset)| path.ends_with(".offset") && offset == "3"));
    script.begin("acks 0 and an unknown partition", move |side, _| {
        send(side, "main", 99, batch(1, Codec::None))
    });
    script.finish::<ProduceRequest>("acks 0 and an unknown partition");
    script.begin("acks 0 and a damaged batch", move |side, _| send(side, "main", 0, damaged(70)));
    script.finish::<ProduceRequest>("acks 0 and a damaged batch");
}

/// What is named twice in one request.
fn twice(script: &mut Script) {
    script.each("a partition twice", |side, _| {
        let mut request = produce(side, "double", 0, Some(batch(1, Codec::None)));
        let second = PartitionProduceData { index: 0, records: Some(batch(2, Codec::None)) };
        request.topic_data[0].partition_data.push(second);
        request
    });
    script.each("a topic twice", |side, _| {
        let mut request = produce(side, "double", 8, Some(batch(1, Codec::None)));
        request.topic_data.extend(produce(side, "double", 7, Some(batch(2, Codec::None))).topic_data);
        request
    });
}

/// Bytes behind a good header and a right checksum that are no good records; first what Kafka takes, too.
fn odd_inside(script: &mut Script) {
    // Of the first record: its length, attributes, timestamp and offset deltas, key length, key, value length.
    let takes = [
        ("attributes of a record", 62, &[0xff][..]),
        ("a time before the batch's", 63, &[0x01]),
        ("a last time before the first", 35, &[0, 0, 0, 0, 0, 0, 0, 1]),
        ("no last time", 35, &[0xff; 8]),
        ("no first time", 27, &[0xff; 8]),
    ];
    let refuses = [
        ("a record too long", 61, &[0x40][..]),
        ("a record too short", 61, &[0x02]),
        ("a negative record length", 61, &[0x01]),
        ("a key longer than its record", 65, &[0x7e]),
        ("a negative key length", 65, &[0x05]),
        ("a value longer than its record", 69, &[0x7e]),
    ];
    for (name, place, bytes) in takes.into_iter().chain(refuses) {
        for topic in ["compact", "inside", "repacked"] {
            script.once(&format!("{name}, {topic}"), move |side, _| {
                produce(side, topic, 0, Some(changed(place, bytes)))
            });
        }
    }
}

fn refused(script: &mut Script) {
    // The last one of its topic: offsets differ from here on.
    script.once("an offset out of turn", |side, _| produce(side, "repacked", 0, Some(changed(64, &[0x08]))));
    script.once("one known and one unknown topic", |side, _| {
        let mut request = produce(side, "main", 0, Some(batch(1, Codec::None)));
        request.topic_data.extend(produce(side, "nowhere", 0, Some(batch(1, Codec::None))).topic_data);
        request.topic_data[1].topic_id = TopicId([7; 16]);
        request
    });
    for acks in [2, -2, 100] {
        script.each(&format!("acks {acks}"), move |side, _| ProduceRequest {
            acks,
            ..produce(side, "main", 0, Some(batch(1, Codec::None)))
        });
    }
    script.each("an unknown partition", |side, _| produce(side, "main", 99, Some(batch(1, Codec::None))));
    script.each("a negative partition", |side, _| produce(side, "main", -1, Some(batch(1, Codec::None))));
    script.each("an unknown topic", |side, v| {
        let mut request = produce(side, "nowhere", 0, Some(batch(1, Codec::None)));
        request.topic_data[0].topic_id = TopicId(if v >= 13 { [7; 16] } else { [0; 16] });
        request
    });
    script.over("a bad name", 3..=12, |side, _| {
        let mut request = produce(side, "main", 0, Some(batch(1, Codec::None)));
        request.topic_data[0].name = Str::from("a b");
        request
    });
    script.over("a zero id", 13..=13, |side, _| produce(side, "nowhere", 0, Some(batch(1, Codec::None))));
    script.once("one good and one bad partition", |side, _| {
        let mut request = produce(side, "main", 0, Some(batch(1, Codec::None)));
        let bad = PartitionProduceData { index: 1, records: Some(damaged(70)) };
        request.topic_data[0].partition_data.push(bad);
        request
    });
    script.over("a transactional batch without a transaction", 3..=11, |side, _| ProduceRequest {
        transactional_id: super::some("txn"),
        ..produce(side, "broken", 0, Some(batch(1, Codec::None)))
    });
}

fn damaged_batches(script: &mut Script) {
    // Kafka 4.4 never answers it: nothing may wait behind it.
    script.begin("null records", |side, _| produce(side, "broken", 0, None));
    script.each("empty records", |side, _| produce(side, "broken", 0, Some(BytesMut::new())));
    script.each("two batches", |side, _| {
        let two = [&batch(1, Codec::None)[..], &batch(1, Codec::None)[..]].concat();
        produce(side, "broken", 0, Some(BytesMut::from(&two[..])))
    });
    script.each("a batch cut short", |side, _| {
        let mut cut = batch(3, Codec::None);
        cut.truncate(cut.len() - 4);
        produce(side, "broken", 0, Some(cut))
    });
    script.each("a header cut short", |side, _| {
        let mut cut = batch(3, Codec::None);
        cut.truncate(30);
        produce(side, "broken", 0, Some(cut))
    });
    for (name, place, bytes) in [
        ("magic 0", 16, &[0][..]),
        ("magic 1", 16, &[1]),
        ("magic 3", 16, &[3]),
        ("a base offset", 7, &[5]),
        ("no records counted", 57, &[0, 0, 0, 0]),
        ("one record too many counted", 57, &[0, 0, 0, 3]),
        ("a negative count", 57, &[0xff, 0xff, 0xff, 0xff]),
        ("a last offset too high", 23, &[0, 0, 0, 9]),
        ("a negative last offset", 23, &[0xff, 0xff, 0xff, 0xff]),
        ("an unknown codec", 22, &[7]),
        ("a control batch", 22, &[0x20]),
        ("log append time", 22, &[8]),
        ("a length too small", 8, &[0, 0, 0, 20]),
        ("a negative length", 8, &[0xff, 0xff, 0xff, 0xff]),
        ("a transactional flag", 22, &[0x10]),
    ] {
        // What the length covers is the checksum's too: only the first bytes can be damaged and still fit.
        let bytes = bytes.to_vec();
        script.each(name, move |side, _| {
            let records = if place < 16 && place != 7 { raw_length(&bytes) } else { changed(place, &bytes) };
            produce(side, "broken", 0, Some(records))
        });
    }
    script.each("a wrong checksum", |side, _| produce(side, "broken", 0, Some(damaged(70))));
}

fn raw_length(bytes: &[u8]) -> BytesMut {
    let mut whole = batch(2, Codec::None);
    whole[8..12].copy_from_slice(bytes);
    whole
}

fn rules_of_topics(script: &mut Script) {
    script.each("no key in a compacted topic", |side, _| produce(side, "compact", 0, Some(keyless())));
    script.each("a key in a compacted topic", |side, _| produce(side, "compact", 0, Some(at(time()))));
    script.each("too large", |side, _| produce(side, "small", 0, Some(sized(600))));
    script.each("just small enough", |side, _| produce(side, "small", 0, Some(sized(300))));
    script.each("too old", |side, _| produce(side, "strict", 0, Some(at(time()))));
    script.each("from the future", |side, _| produce(side, "main", 2, Some(at(time() + 10 * 3_600_000))));
}

fn idempotent(script: &mut Script) {
    let sent = |side: &Side, partition: i32, epoch: i16, sequence: i32| {
        let id = side.number("producer", 0);
        let records = built(BatchBuilder::new().producer(id, epoch, sequence), 2);
        produce(side, "main", partition, Some(records))
    };
    script.once("a first sequence", move |side, _| sent(side, 2, 0, 0));
    script.once("the same again", move |side, _| sent(side, 2, 0, 0));
    script.once("the next", move |side, _| sent(side, 2, 0, 2));
    script.once("a gap", move |side, _| sent(side, 2, 0, 9));
    script.once("half of the last", move |side, _| sent(side, 2, 0, 3));
    script.once("a new epoch", move |side, _| sent(side, 2, 1, 0));
    script.once("an old epoch", move |side, _| sent(side, 2, 0, 4));
    script.once("a new epoch, not from its start", move |side, _| sent(side, 2, 2, 7));
    script.once("a sequence without a producer before", move |side, _| sent(side, 1, 0, 5));
    script.once("a negative sequence", |side, _| {
        let id = side.number("producer", 0);
        produce(side, "main", 2, Some(built(BatchBuilder::new().producer(id, 1, -1), 1)))
    });
    for back in (0..6).rev() {
        script.once(&format!("six in a row, {back} to go"), move |side, _| sent(side, 1, 5, (5 - back) * 2));
    }
    script.once("a last sequence beyond all", |side, _| {
        let id = side.number("producer", 0);
        produce(side, "main", 2, Some(built(BatchBuilder::new().producer(id, 1, i32::MAX), 2)))
    });
    script.once("an id without an epoch", |side, _| {
        let id = side.number("producer", 0);
        produce(side, "main", 2, Some(built(BatchBuilder::new().producer(id, -1, 0), 1)))
    });
    script.once("an id that nobody has", |side, _| {
        produce(side, "main", 0, Some(built(BatchBuilder::new().producer(1 << 40, 0, 0), 1)))
    });
    script.once("an id that nobody has, not from its start", |side, _| {
        produce(side, "main", 2, Some(built(BatchBuilder::new().producer(1 << 40, 3, 8), 1)))
    });
    script.once("the first of the six again", move |side, _| sent(side, 1, 5, 0));
    script.once("the second of the six again", move |side, _| sent(side, 1, 5, 2));
}

/// After groups have made the topic that this is about.
pub(super) fn internal(script: &mut Script) {
    script.finish::<ProduceRequest>("null records");
    script.over("an internal topic", 3..=12, |side, _| {
        produce(side, "__consumer_offsets", 0, Some(batch(1, Codec::None)))
    });
}
