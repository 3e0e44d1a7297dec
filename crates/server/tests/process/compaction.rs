//! Compaction in a real process.
use crate::server::{Server, wait_for};
use crate::wire_client::{Client, value_batch};
use bytes::BytesMut;
use model::{ErrorCode, TopicId};
use records::{BatchBuilder, Codec, NewRecord};
use std::collections::BTreeMap;

const SETS: [&str; 1] = ["log.cleaner.backoff.ms=100"];

fn put(key: &str, value: Option<&[u8]>, codec: Codec) -> BytesMut {
    let mut batch = BatchBuilder::new().codec(codec, None);
    batch.push(NewRecord::new(crate::wire_client::now_ms(), Some(key.as_bytes()), value));
    batch.finish().unwrap()
}

/// The last value of each key, and how many records there are.
fn table(client: &mut Client, topic: TopicId) -> (BTreeMap<String, Vec<u8>>, usize) {
    let (mut table, mut count, mut next) = (BTreeMap::new(), 0, 0);
    loop {
        let (code, end, records) = client.fetch(topic, 0, next);
        assert_eq!(code, 0);
        if next >= end {
            return (table, count);
        }
        for (header, batch) in records::fetched_batches(records).map(Result::unwrap) {
            assert!(header.next_offset() > next, "offsets rise");
            next = header.next_offset();
            for record in records::records(&batch, 1 << 20).unwrap().map(Result::unwrap) {
                count += 1;
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                match record.value {
                    Some(value) => _ = table.insert(key, value.to_vec()),
                    None => _ = table.remove(&key),
                }
            }
        }
    }
}

#[test]
#[ignore = "needs a broker"]
fn a_compacted_topic_stays_small_and_reads_as_its_last_values_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &SETS);
    let mut client = server.client();
    let configs =
        [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.2")];
    let topic = client.create("table", 1, &configs);
    let keyless = client.produce("table", 0, value_batch(b"v")).unwrap();
    assert_eq!(keyless.code, ErrorCode::InvalidRecord.code(), "{}", keyless.message);
    let mut model = BTreeMap::new();
    for n in 0..500u32 {
        let key = format!("k{}", n % 17);
        let value: Vec<u8> = n.to_be_bytes().into_iter().cycle().take(20_000).collect();
        let value = (n % 13 > 0).then_some(value);
        let codec = if n % 2 == 0 { Codec::None } else { Codec::Lz4 };
        assert_eq!(client.produce("table", 0, put(&key, value.as_deref(), codec)).unwrap().code, 0);
        match value {
            Some(value) => _ = model.insert(key, value),
            None => _ = model.remove(&key),
        }
    }
    wait_for("compaction", || (server.metric("plimsoll_cleaner_records_dropped_total") > 200).then_some(()));
    wait_for("the next look", || (server.metric("plimsoll_cleaner_running") == 0).then_some(()));
    server.kill();
    let server = Server::start(&data, &SETS);
    let (found, count) = table(&mut server.client(), topic);
    assert!(found == model, "{:?} {:?}", found.keys(), model.keys());
    assert!(count < 300, "{count} of 500 records are left");
}
