//! Batches that Kafka's own Java client made are read, and rebuilt byte for byte.
#![allow(clippy::unwrap_used, missing_docs)]
use bytes::Bytes;
use records::{BatchBuilder, Codec, NewRecord, WalkRules};

const CAP: usize = 1 << 20;
const TIMESTAMPS: [i64; 3] = [1_795_240_981_065, 1_795_240_981_129, 1_795_240_981_130];

fn golden() -> Vec<(Codec, Bytes)> {
    let lines = include_str!("golden/java_producer.txt").lines().filter(|line| !line.starts_with('#'));
    let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    lines
        .map(|line| {
            let (codec, hex) = line.split_once(' ').unwrap();
            (Codec::from_name(codec).unwrap(), hex.as_bytes().chunks(2).map(byte).collect())
        })
        .collect()
}

type Headers = &'static [(&'static [u8], Option<&'static [u8]>)];

/// Key, value and headers of a record.
type Row = (Option<&'static [u8]>, Option<&'static [u8]>, Headers);

const ROWS: [Row; 3] = [
    (Some(b"k1"), Some(b"value one value one value one"), &[(b"h", Some(b"1")), (b"h", Some(b""))]),
    (None, Some(b"value two value two"), &[(b"h", Some(b"\xc3\xbc"))]),
    (Some(b"k3"), None, &[(b"x", Some(b"y"))]),
];

#[test]
fn batches_of_the_java_producer_are_read_in_every_codec() {
    let golden = golden();
    assert_eq!(golden.iter().map(|(codec, _)| *codec).collect::<Vec<_>>(), Codec::ALL);
    for (codec, batch) in golden {
        let header = records::check_crc(&batch).unwrap();
        assert_eq!((header.codec(), header.record_count), (Ok(codec), 3));
        let rules = WalkRules { dense_offsets: true, ..WalkRules::stored(CAP) };
        let walked = records::walk(&batch, &rules).unwrap();
        assert_eq!((walked.records, walked.max_timestamp), (3, header.max_timestamp));
        let read: Vec<_> = records::records(&batch, CAP).unwrap().map(Result::unwrap).collect();
        for (record, (key, value, headers)) in read.iter().zip(ROWS) {
            assert_eq!((record.key.as_deref(), record.value.as_deref()), (key, value), "{codec}");
            let seen: Vec<_> = record.headers.iter().map(|(n, v)| (&n[..], v.as_deref())).collect();
            assert_eq!(seen, headers, "{codec}");
        }
    }
}

#[test]
fn the_java_producers_bytes_are_rebuilt() {
    let mut builder = BatchBuilder::new().leader_epoch(0).producer(12, 0, 0);
    for (timestamp, (key, value, headers)) in TIMESTAMPS.into_iter().zip(ROWS) {
        builder.push(NewRecord { timestamp, key, value, headers });
    }
    assert_eq!(builder.finish().unwrap(), golden()[0].1);
}
