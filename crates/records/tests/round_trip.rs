//! What is built is read back, under every codec, and what is damaged is told, never a panic.
#![allow(clippy::unwrap_used, missing_docs)]
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use records::{
    BatchBuilder, BatchError, BatchHeader, BatchLimits, Codec, CodecError, CompressionTarget, ControlKind,
    EndMarker, HEADER_LEN, NewRecord, Record, TimestampBounds, TimestampType, WalkRules,
};

const CAP: usize = 1 << 20;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

fn bytes_up_to(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..max),
        (any::<u8>(), 0..max).prop_map(|(b, n)| vec![b; n]),
    ]
}

fn record() -> impl Strategy<Value = Owned> {
    let header = ("[a-c]{0,3}", proptest::option::of(bytes_up_to(20)));
    let headers = proptest::collection::vec(header.prop_map(|(n, v)| (n.into_bytes(), v)), 0..4);
    (
        0i64..4_000_000_000_000,
        proptest::option::of(bytes_up_to(30)),
        proptest::option::of(bytes_up_to(3000)),
        headers,
    )
        .prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers })
}

fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(Codec::ALL.to_vec())
}

fn build(builder: BatchBuilder, rows: &[Owned]) -> Bytes {
    let mut builder = builder;
    for row in rows {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            row.headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
        builder.push(NewRecord {
            timestamp: row.timestamp,
            key: row.key.as_deref(),
            value: row.value.as_deref(),
            headers: &headers,
        });
    }
    builder.finish().unwrap().freeze()
}

fn expected(rows: &[Owned], base: i64) -> Vec<Record> {
    rows.iter()
        .enumerate()
        .map(|(i, row)| Record {
            offset: base + i as i64,
            timestamp: row.timestamp,
            key: row.key.clone().map(Bytes::from),
            value: row.value.clone().map(Bytes::from),
            headers: row
                .headers
                .iter()
                .map(|(n, v)| (Bytes::from(n.clone()), v.clone().map(Bytes::from)))
                .collect(),
        })
        .collect()
}

fn read(batch: &Bytes) -> Result<Vec<Record>, BatchError> {
    records::records(batch, CAP)?.collect()
}

fn open_limits() -> BatchLimits {
    BatchLimits {
        max_bytes: CAP,
        timestamp_type: TimestampType::CreateTime,
        bounds: TimestampBounds::UNBOUNDED,
        now: 1_700_000_000_000,
    }
}

fn strict(cap: usize) -> WalkRules {
    WalkRules { cap, require_keys: false, dense_offsets: true, timestamps: None }
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(rows in proptest::collection::vec(record(), 1..12), codec in codec(), base in 0i64..1 << 40) {
        let batch = build(BatchBuilder::new().base_offset(base).codec(codec, None).producer(7, 2, 40), &rows);
        let header = records::check_crc(&batch).unwrap();
        prop_assert_eq!(header.codec(), Ok(codec));
        prop_assert_eq!(header.size_in_bytes(), batch.len());
        prop_assert_eq!(header.last_sequence(), 39 + rows.len() as i32);
        prop_assert_eq!(read(&batch).unwrap(), expected(&rows, base));
        let walked = records::walk(&batch, &strict(CAP)).unwrap();
        prop_assert_eq!(walked.records as usize, rows.len());
        prop_assert_eq!(walked.max_timestamp, rows.iter().map(|r| r.timestamp).max().unwrap());
        prop_assert_eq!(walked.max_timestamp, header.max_timestamp);
    }

    #[test]
    fn a_batch_whose_records_are_known_takes_no_more_memory_than_its_bytes(
        rows in proptest::collection::vec((0i64..1 << 50, bytes_up_to(300), proptest::option::of(bytes_up_to(3000))), 1..80),
    ) {
        let record = |i: usize| NewRecord::new(rows[i].0, Some(&rows[i].1), rows[i].2.as_deref());
        let mut builder = BatchBuilder::new();
        builder.reserve_for((0..rows.len()).map(record));
        (0..rows.len()).for_each(|i| { builder.push(record(i)); });
        let batch = builder.finish().unwrap();
        // A vector at least doubles when it grows.
        prop_assert!(batch.capacity() == batch.len() || batch.len() < 2 * HEADER_LEN, "{} of {}", batch.len(), batch.capacity());
    }

    #[test]
    fn recompressing_keeps_every_record(rows in proptest::collection::vec(record(), 1..8), from in codec(), to in codec()) {
        let batch = build(BatchBuilder::new().codec(from, None), &rows);
        let (out, walked) = records::recompress(&batch, to, None, &strict(CAP), 2 * CAP).unwrap();
        let out = out.freeze();
        let header = records::check_client_batch(&out, &open_limits()).unwrap();
        prop_assert_eq!(header.codec(), Ok(to));
        prop_assert_eq!(walked.records as usize, rows.len());
        prop_assert_eq!(read(&out).unwrap(), expected(&rows, 0));
    }

    #[test]
    fn one_flipped_bit_never_passes_the_checksum(rows in proptest::collection::vec(record(), 1..4), codec in codec(), at: prop::sample::Index, bit in 0u32..8) {
        let mut batch = BytesMut::from(&build(BatchBuilder::new().codec(codec, None), &rows)[..]);
        let at = 21 + at.index(batch.len() - 21);
        batch[at] ^= 1 << bit;
        let refused = matches!(records::check_crc(&batch), Err(BatchError::Crc { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn damage_that_the_checksum_blesses_never_panics(rows in proptest::collection::vec(record(), 1..4), codec in codec(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index) {
        let mut batch = BytesMut::from(&build(BatchBuilder::new().codec(codec, None), &rows)[..]);
        for (at, byte) in &hits {
            let at = 21 + at.index(batch.len() - 21);
            batch[at] = *byte;
        }
        records::set_log_append_time(&mut batch, 5);
        look_at_everything(&batch.clone().freeze());
        batch.truncate(cut.index(batch.len() + 1));
        look_at_everything(&batch.freeze());
    }

    #[test]
    fn any_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), magic: bool) {
        if magic && bytes.len() > 16 {
            bytes[16] = 2;
            bytes[8..12].copy_from_slice(&[0, 0, 0, 60]);
        }
        look_at_everything(&Bytes::from(bytes.clone()));
        for codec in Codec::ALL {
            if let Ok(out) = records::decompress(codec, &bytes, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }
    }

    #[test]
    fn codecs_undo_themselves(bytes in bytes_up_to(200_000), codec in codec(), level in proptest::option::of(1i32..9)) {
        let packed = records::compress(codec, level, &bytes).unwrap();
        prop_assert_eq!(&records::decompress(codec, &packed, bytes.len()).unwrap()[..], &bytes[..]);
        if !bytes.is_empty() {
            let capped = records::decompress(codec, &packed, bytes.len() - 1);
            prop_assert_eq!(capped, Err(CodecError::OverCap { cap: bytes.len() - 1 }));
        }
    }
}

fn look_at_everything(bytes: &Bytes) {
    let _ = BatchHeader::parse(bytes);
    let _ = records::check_client_batch(bytes, &open_limits());
    let _ = records::walk(bytes, &strict(CAP));
    let _ = records::walk(bytes, &WalkRules::stored(100));
    let _ = read(bytes);
    let _ = records::recompress(bytes, Codec::Zstd, None, &strict(CAP), CAP);
    let _ = records::parse_end_marker(bytes);
    let _ = records::batches(bytes).count();
    let _ = records::split_batches(BytesMut::from(&bytes[..])).count();
    let _ = records::fetched_batches(bytes.clone()).count();
    let _ = records::only_batch_of(9, BytesMut::from(&bytes[..]));
}

#[test]
fn a_bomb_is_met_at_the_cap() {
    let zeros = vec![0u8; 12 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new().codec(codec, None);
        builder.push(NewRecord::new(0, None, Some(&zeros)));
        let batch = builder.finish().unwrap().freeze();
        assert!(batch.len() < 1 << 20, "{codec} is a bomb");
        let over = Err(BatchError::Codec { codec, error: CodecError::OverCap { cap: CAP } });
        assert_eq!(records::walk(&batch, &strict(CAP)).map(|_| ()), over);
        assert_eq!(read(&batch).map(|_| ()), over);
    }
}

#[test]
fn a_snappy_block_that_claims_gigabytes_is_refused_before_it_is_allocated() {
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    assert_eq!(records::decompress(Codec::Snappy, &claim, CAP), Err(CodecError::OverCap { cap: CAP }));
    assert!(matches!(records::decompress(Codec::Snappy, &claim, usize::MAX), Err(CodecError::Damaged(_))));
}

#[test]
fn raw_snappy_of_librdkafka_is_read_too() {
    // "hello hello hello hello" as one raw block: a literal and a copy.
    let raw = [23, 20, b'h', b'e', b'l', b'l', b'o', b' ', 0x42, 6, 0];
    assert_eq!(&records::decompress(Codec::Snappy, &raw, CAP).unwrap()[..], b"hello hello hello hello");
}

#[test]
fn compacted_topics_name_every_record_without_a_key() {
    let mut builder = BatchBuilder::new().codec(Codec::Lz4, None);
    builder.push(NewRecord::new(5, Some(b"k"), Some(b"v")));
    builder.push(NewRecord::new(6, None, Some(b"v")));
    builder.push(NewRecord::new(7, None, None));
    let batch = builder.finish().unwrap();
    let rules = WalkRules { require_keys: true, ..strict(CAP) };
    let error = records::walk(&batch, &rules).unwrap_err();
    assert_eq!(error.code().name(), "INVALID_RECORD");
    assert_eq!(error.issues().iter().map(|i| i.index).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_walk_names_records_beyond_the_timestamp_bounds() {
    let mut builder = BatchBuilder::new();
    for timestamp in [1000, 10, 2000, -1] {
        builder.push(NewRecord::new(timestamp, None, None));
    }
    let batch = builder.finish().unwrap();
    let bounds = TimestampBounds { before_max_ms: 100, after_max_ms: 900 };
    let error =
        records::walk(&batch, &WalkRules { timestamps: Some((bounds, 1050)), ..strict(CAP) }).unwrap_err();
    assert_eq!(error.code().name(), "INVALID_TIMESTAMP");
    assert_eq!(error.issues().iter().map(|i| i.index).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_wrong_count_is_found_by_the_walk() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new().codec(codec, None);
        builder.push(NewRecord::new(0, None, Some(b"a"))).push(NewRecord::new(0, None, Some(b"b")));
        let batch = builder.finish().unwrap();
        for count in [1i32, 3] {
            let mut wrong = batch.clone();
            wrong[57..61].copy_from_slice(&count.to_be_bytes());
            wrong[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            records::set_log_append_time(&mut wrong, 0);
            records::check_crc(&wrong).unwrap();
            assert!(records::walk(&wrong, &strict(CAP)).is_err(), "{codec} {count}");
            assert!(read(&wrong.freeze()).is_err(), "{codec} {count}");
        }
    }
}

#[test]
fn a_count_that_an_uncompressed_batch_cannot_hold_is_refused_by_its_header() {
    let mut builder = BatchBuilder::new();
    (0..10).for_each(|_| _ = builder.push(NewRecord::new(0, None, None)));
    let batch = builder.finish().unwrap();
    assert!(records::check_client_batch(&batch, &open_limits()).is_ok(), "records of nothing, 7 bytes each");
    for count in [11, i32::MAX] {
        let mut wrong = batch.clone();
        wrong[57..61].copy_from_slice(&count.to_be_bytes());
        wrong[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &wrong[21..]) as u32;
        wrong[17..21].copy_from_slice(&crc.to_be_bytes());
        let error = records::check_client_batch(&wrong, &open_limits()).unwrap_err();
        assert_eq!(error.code().name(), "INVALID_RECORD", "{count}");
    }
}

fn small(edit: impl FnOnce(BatchBuilder) -> BatchBuilder) -> BytesMut {
    let mut builder = edit(BatchBuilder::new());
    builder.push(NewRecord::new(1_700_000_000_000, Some(b"k"), Some(b"v")));
    builder.finish().unwrap()
}

#[test]
fn each_fault_of_a_clients_batch_has_kafkas_code() {
    let code = |batch: &[u8], limits: &BatchLimits| {
        records::check_client_batch(batch, limits).map_err(|e| e.code().name())
    };
    let limits = open_limits();
    assert!(code(&small(|b| b), &limits).is_ok());
    assert_eq!(code(&small(|b| b.control()), &limits).unwrap_err(), "INVALID_RECORD");
    assert_eq!(code(&small(|b| b.base_offset(3)), &limits).unwrap_err(), "INVALID_RECORD");
    assert_eq!(code(&small(|b| b.producer(1, 0, -1)), &limits).unwrap_err(), "INVALID_RECORD");
    assert_eq!(code(&small(|b| b.log_append_time(1)), &limits).unwrap_err(), "INVALID_TIMESTAMP");
    let tiny = BatchLimits { max_bytes: 20, ..limits };
    assert_eq!(code(&small(|b| b), &tiny).unwrap_err(), "MESSAGE_TOO_LARGE");
    let early = BatchLimits {
        bounds: TimestampBounds { before_max_ms: i64::MAX, after_max_ms: 10 },
        now: 0,
        ..limits
    };
    assert_eq!(code(&small(|b| b), &early).unwrap_err(), "INVALID_TIMESTAMP");
    assert!(
        code(&small(|b| b), &BatchLimits { timestamp_type: TimestampType::LogAppendTime, ..early }).is_ok()
    );
    let mut count = small(|b| b);
    count[57..61].copy_from_slice(&2i32.to_be_bytes());
    let crc = records::batch_crc(&count);
    count[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(code(&count, &limits).unwrap_err(), "INVALID_RECORD");
    count[30] ^= 1;
    assert_eq!(code(&count, &limits).unwrap_err(), "CORRUPT_MESSAGE");
    let mut codec = small(|b| b);
    codec[22] = 5;
    let crc = records::batch_crc(&codec);
    codec[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(code(&codec, &limits).unwrap_err(), "UNSUPPORTED_COMPRESSION_TYPE");
}

#[test]
fn a_produce_partition_carries_exactly_one_batch_of_format_two() {
    let batch = small(|b| b);
    assert_eq!(records::only_batch_of(9, batch.clone()).unwrap(), batch);
    let mut twice = batch.clone();
    twice.extend_from_slice(&batch);
    assert_eq!(records::only_batch_of(9, twice.clone()), Err(BatchError::MoreThanOne));
    twice.truncate(batch.len() + 30);
    assert_eq!(records::only_batch_of(9, twice).unwrap(), batch);
    assert_eq!(records::only_batch_of(9, BytesMut::new()), Err(BatchError::Empty));
    assert_eq!(records::only_batch_of(9, BytesMut::from(&batch[..batch.len() - 1])), Err(BatchError::Empty));
    let mut old = batch.clone();
    old[16] = 1;
    let error = records::only_batch_of(9, old.clone()).unwrap_err();
    assert_eq!(error.code().name(), "INVALID_RECORD");
    old[16] = 3;
    assert_eq!(records::only_batch_of(9, old).unwrap_err().code().name(), "CORRUPT_MESSAGE");
    let mut garbage = batch.clone();
    garbage.extend_from_slice(&[0; 40]);
    assert_eq!(records::only_batch_of(9, garbage).unwrap_err().code().name(), "CORRUPT_MESSAGE");
    assert_eq!(records::only_batch_of(9, BytesMut::zeroed(70)), Err(BatchError::BadLength { length: 0 }));
    let zstd = small(|b| b.codec(Codec::Zstd, None));
    assert_eq!(records::only_batch_of(6, zstd.clone()), Err(BatchError::ZstdTooOld { version: 6 }));
    assert!(records::only_batch_of(7, zstd).is_ok());
}

#[test]
fn a_timestamp_out_of_bounds_names_the_record_that_the_header_tells() {
    let bounds = TimestampBounds { before_max_ms: i64::MAX, after_max_ms: 10 };
    let limits = BatchLimits { bounds, now: 0, ..open_limits() };
    let issues = |timestamps: &[i64]| {
        let mut builder = BatchBuilder::new();
        for timestamp in timestamps {
            builder.push(NewRecord::new(*timestamp, None, Some(b"v")));
        }
        let error = records::check_client_batch(&builder.finish().unwrap(), &limits).unwrap_err();
        assert_eq!(error.code().name(), "INVALID_TIMESTAMP");
        error.issues().iter().map(|issue| issue.index).collect::<Vec<_>>()
    };
    assert_eq!(issues(&[99]), [0]);
    assert_eq!(issues(&[99, 1]), [0]);
    assert_eq!(issues(&[1, 99]), [0; 0], "any record behind the first can be at fault");
}

#[test]
fn patches_keep_or_renew_the_checksum() {
    let mut batch = small(|b| b.codec(Codec::Gzip, None));
    records::set_base_offset(&mut batch, 1 << 40);
    records::set_partition_leader_epoch(&mut batch, 9);
    let header = records::check_crc(&batch).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (1 << 40, 9));
    records::set_log_append_time(&mut batch, 77);
    let header = records::check_crc(&batch).unwrap();
    assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::LogAppendTime, 77));
    let record = read(&batch.freeze()).unwrap().remove(0);
    assert_eq!((record.offset, record.timestamp), (1 << 40, 77));
}

#[test]
fn a_batch_gets_another_producer_and_sequence() {
    let mut batch = small(|b| b.transactional().producer(1, 2, 3).codec(Codec::Lz4, None));
    let records = read(&batch.clone().freeze()).unwrap();
    records::set_producer(&mut batch, 1 << 40, 7, 1_000_000);
    let header = records::check_crc(&batch).unwrap();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (1 << 40, 7, 1_000_000));
    assert!(header.is_transactional());
    assert_eq!(read(&batch.freeze()).unwrap(), records);
}

#[test]
fn a_record_set_is_walked_batch_by_batch() {
    let one = small(|b| b);
    let two = small(|b| b.base_offset(1).codec(Codec::Snappy, None));
    let mut set = one.clone();
    set.extend_from_slice(&two);
    let ranges: Vec<_> = records::batches(&set).map(|b| b.unwrap().0).collect();
    assert_eq!(ranges, [0..one.len(), one.len()..set.len()]);
    let split: Vec<_> = records::split_batches(set.clone()).map(|b| b.unwrap().1).collect();
    assert_eq!(split, [one.clone(), two.clone()]);
    set.truncate(set.len() - 1);
    let fetched: Vec<_> = records::fetched_batches(set.clone().freeze()).map(|b| b.unwrap().1).collect();
    assert_eq!(fetched, [one.freeze()]);
    let cut = Err(BatchError::Truncated { declared: two.len(), have: two.len() - 1 });
    assert_eq!(records::batches(&set).last().unwrap().map(|_| ()), cut);
}

#[test]
fn end_markers_read_back() {
    for kind in [ControlKind::Commit, ControlKind::Abort] {
        let marker =
            EndMarker { kind, producer_id: 70, producer_epoch: 3, coordinator_epoch: 12, timestamp: 99 };
        let batch = records::end_marker_batch(&marker, 500, 4).freeze();
        let header = records::check_crc(&batch).unwrap();
        assert!(header.is_control() && header.is_transactional() && header.has_producer());
        assert_eq!((header.base_offset, header.last_offset(), header.base_sequence), (500, 500, -1));
        assert_eq!(records::parse_end_marker(&batch), Ok(Some(marker)));
    }
    assert_eq!(records::parse_end_marker(&small(|b| b).freeze()), Ok(None));
}

#[test]
fn only_a_batch_of_another_codec_is_rewritten() {
    let header = |b: &BytesMut| BatchHeader::parse(b).unwrap();
    let zstd = CompressionTarget::Codec(Codec::Zstd, Some(9));
    assert!(zstd.differs_from(&header(&small(|b| b))));
    assert!(!zstd.differs_from(&header(&small(|b| b.codec(Codec::Zstd, Some(1))))));
    assert!(!zstd.differs_from(&header(&small(|b| b.control()))));
    assert!(!CompressionTarget::Producer.differs_from(&header(&small(|b| b))));
    assert!(
        CompressionTarget::Codec(Codec::None, None)
            .differs_from(&header(&small(|b| b.codec(Codec::Lz4, None))))
    );
}

/// One batch written out by hand from Kafka's description of format 2.
#[test]
fn the_bytes_of_a_batch_are_kafkas() {
    let mut builder = BatchBuilder::new().base_offset(5).leader_epoch(1).producer(1000, 2, 10);
    builder.push(NewRecord {
        timestamp: 1_600_000_000_000,
        key: Some(b"key"),
        value: Some(b"value"),
        headers: &[(b"h", Some(b"1")), (b"h", None)],
    });
    builder.push(NewRecord::new(1_600_000_000_100, None, None));
    let batch = builder.finish().unwrap();
    #[rustfmt::skip]
    let body: &[u8] = &[
        42, 0, 0, 0, 6, b'k', b'e', b'y', 10, b'v', b'a', b'l', b'u', b'e', 4, 2, b'h', 2, b'1', 2, b'h', 1,
        14, 0, 0xc8, 0x01, 2, 1, 1, 0,
    ];
    #[rustfmt::skip]
    let mut whole = vec![
        0, 0, 0, 0, 0, 0, 0, 5,  0, 0, 0, 49 + body.len() as u8,  0, 0, 0, 1,  2,  0, 0, 0, 0,  0, 0,
        0, 0, 0, 1,  0, 0, 1, 0x74, 0x87, 0x6e, 0x80, 0x00,  0, 0, 1, 0x74, 0x87, 0x6e, 0x80, 0x64,
        0, 0, 0, 0, 0, 0, 3, 0xe8,  0, 2,  0, 0, 0, 10,  0, 0, 0, 2,
    ];
    assert_eq!(whole.len(), HEADER_LEN);
    whole.extend_from_slice(body);
    let crc = crc32c::crc32c(&whole[21..]);
    whole[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(batch, whole);
}
