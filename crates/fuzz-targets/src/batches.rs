//! Record batches and their codecs.
use bytes::{Bytes, BytesMut};
use records::{
    BatchHeader, BatchLimits, Codec, HEADER_LEN, NewRecord, TimestampBounds, TimestampType, WalkRules,
    batch_crc, batches, check_client_batch, check_crc, compress, decompress, fetched_batches, only_batch_of,
    parse_end_marker, recompress, set_base_offset, set_log_append_time, set_partition_leader_epoch,
    split_batches, walk,
};

const CAP: usize = 1 << 20;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// A record set as it comes from a producer; read once as it is and once with its checksums made right, so
/// that the code behind the checksum is reached.
pub fn batch(data: &[u8]) {
    walk_set(data);
    let mut fixed = data.to_vec();
    let ranges: Vec<_> = batches(data).map_while(|found| found.ok().map(|(range, _)| range)).collect();
    for range in ranges {
        let one = &mut fixed[range];
        let crc = batch_crc(one);
        one[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    walk_set(&fixed);
}

fn walk_set(data: &[u8]) {
    let _ = BatchHeader::parse(data);
    let ranges: usize = batches(data).map_while(|found| found.ok().map(|(range, _)| range.len())).sum();
    assert!(ranges <= data.len());
    let split = split_batches(BytesMut::from(data)).filter_map(Result::ok);
    assert_eq!(split.map(|(_, one)| one.len()).sum::<usize>(), ranges);
    for (_, one) in fetched_batches(Bytes::copy_from_slice(data)).filter_map(Result::ok) {
        one_batch(&one);
    }
    for version in [3, 7] {
        if let Ok(one) = only_batch_of(version, BytesMut::from(data)) {
            client_batch(one);
        }
    }
}

/// One whole batch, whatever is in it.
fn one_batch(one: &Bytes) {
    let _ = check_crc(one);
    let _ = parse_end_marker(one);
    let rules = WalkRules::stored(CAP);
    let walked = walk(one, &rules);
    if let Ok(walked) = &walked {
        assert!(walked.uncompressed_bytes <= CAP as u64);
        let found = records::records(one, CAP).expect("a batch that can be walked can be read");
        let read = found.filter(Result::is_ok).count();
        assert_eq!(read, walked.records as usize, "walk and reader count alike");
    } else if let Ok(found) = records::records(one, CAP) {
        found.for_each(drop);
    }
    if walked.is_ok() {
        let (rewritten, _) =
            recompress(one, Codec::Lz4, None, &rules, usize::MAX).expect("what can be walked");
        let again = walk(&rewritten, &rules).expect("what we rewrite is well-formed");
        assert_eq!(Ok(again.records), walked.map(|w| w.records));
    }
}

/// What a partition does with a batch that it accepts.
fn client_batch(mut one: BytesMut) {
    let limits = BatchLimits {
        max_bytes: CAP,
        timestamp_type: TimestampType::CreateTime,
        bounds: TimestampBounds { before_max_ms: i64::MAX, after_max_ms: 3_600_000 },
        now: 1_700_000_000_000,
    };
    let Ok(header) = check_client_batch(&one, &limits) else { return };
    assert!(header.record_count > 0 && header.last_offset_delta == header.record_count - 1);
    set_base_offset(&mut one, 1 << 40);
    set_partition_leader_epoch(&mut one, 7);
    let patched = check_crc(&one).expect("offset and epoch are outside the checksum");
    assert_eq!(patched.next_offset(), (1 << 40) + i64::from(header.record_count));
    set_log_append_time(&mut one, limits.now);
    assert_eq!(check_crc(&one).map(|h| h.max_timestamp), Ok(limits.now));
    one_batch(&one.freeze());
}

/// A first byte that picks the codec, then bytes to decompress, and to compress and get back.
pub fn codecs(data: &[u8]) {
    let [pick, input @ ..] = data else { return };
    let codec = CODECS[usize::from(*pick) % CODECS.len()];
    for cap in [input.len() / 2, 64 << 10, CAP] {
        if let Ok(out) = decompress(codec, input, cap) {
            assert!(out.len() <= cap);
        }
    }
    let packed = compress(codec, None, input).expect("any bytes can be compressed");
    assert_eq!(decompress(codec, &packed, input.len()).as_deref(), Ok(input));
    if !input.is_empty() {
        assert!(decompress(codec, &packed, input.len() - 1).is_err(), "the cap holds");
    }
    compressed_records(codec, input);
}

/// The same bytes as the payload of a batch: the streaming reader sees what the one-shot reader sees.
fn compressed_records(codec: Codec, input: &[u8]) {
    let mut builder = records::BatchBuilder::new().codec(codec, None);
    builder.push(NewRecord::new(1_700_000_000_000, None, Some(input)));
    let mut one = builder.finish().expect("any value makes a batch");
    assert_eq!(walk(&one, &WalkRules::stored(2 * CAP)).map(|w| w.records), Ok(1));
    one.truncate(HEADER_LEN);
    one.extend_from_slice(input);
    let length = (one.len() - records::LENGTH_PREFIX) as i32;
    one[8..12].copy_from_slice(&length.to_be_bytes());
    one_batch(&one.freeze());
}
