//! Records that are too large to be gathered: judged alike, rewritten in pieces.
#![allow(clippy::unwrap_used, missing_docs)]
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use records::{BatchBuilder, BatchError, Codec, HEADER_LEN, NewRecord, WalkRules};

const CAP: usize = 64 << 20;

fn rules() -> WalkRules {
    WalkRules { cap: CAP, require_keys: true, dense_offsets: true, timestamps: None }
}

/// A small record, one with `size` bytes of value and two headers, another small one.
fn plain(size: usize) -> Bytes {
    let value: Vec<u8> = (0..size).map(|i| (i / 5 + i * i / 77) as u8).collect();
    let headers: [(&[u8], Option<&[u8]>); 2] = [(b"name", Some(b"value")), (b"", None)];
    let mut batch = BatchBuilder::new();
    batch.push(NewRecord::new(1_000, Some(b"first"), None));
    batch.push(NewRecord { timestamp: 3_000, key: Some(b"key"), value: Some(&value), headers: &headers });
    batch.push(NewRecord::new(2_000, Some(b"last"), Some(b"")));
    batch.finish().unwrap().freeze()
}

/// The same header over this payload, under a codec.
fn rewrap(batch: &[u8], codec: Codec, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::from(&batch[..HEADER_LEN]);
    out.put_slice(&records::compress(codec, None, payload).unwrap());
    let length = (out.len() - records::LENGTH_PREFIX) as u32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[22] = codec.id();
    let crc = records::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

#[test]
fn a_large_record_is_rewritten_from_any_codec_to_any() {
    let plain = plain(5 << 20);
    let expected: Vec<_> = records::records(&plain, CAP).unwrap().map(Result::unwrap).collect();
    for from in Codec::ALL {
        let batch = rewrap(&plain, from, &plain[HEADER_LEN..]);
        for to in Codec::ALL {
            let (out, walked) = records::recompress(&batch, to, None, &rules(), CAP).unwrap();
            assert_eq!((walked.records, walked.max_timestamp, walked.max_timestamp_delta), (3, 3_000, 1));
            assert_eq!(records::check_crc(&out).unwrap().codec(), Ok(to));
            let found = records::records(&out.freeze(), CAP).unwrap().map(Result::unwrap);
            assert!(found.eq(expected.iter().cloned()), "{from} to {to}");
        }
    }
}

#[test]
fn what_grows_beyond_the_limit_is_refused_before_it_is_there() {
    let plain = plain(5 << 20);
    let batch = rewrap(&plain, Codec::Zstd, &plain[HEADER_LEN..]);
    for to in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4] {
        let refused = records::recompress(&batch, to, None, &rules(), 20_000).unwrap_err();
        let BatchError::TooLarge { size, max: 20_000 } = refused else { panic!("{to}: {refused:?}") };
        assert!(to == Codec::None || size < 1 << 20, "{to} wrote {size} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_named_alike_in_the_stream_and_in_the_plain_bytes(
        place in 0usize..60, byte: u8, cut in proptest::option::of(0usize..70_000), large in 65_500usize..65_600,
    ) {
        let plain = plain(large);
        let mut payload = plain[HEADER_LEN..].to_vec();
        let at = if place < 40 { place } else { payload.len() - 1 - (place - 40) };
        payload[at] = byte;
        payload.truncate(payload.len() - cut.unwrap_or(0).min(payload.len()));
        let whole = records::walk(&rewrap(&plain, Codec::None, &payload), &rules());
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let streamed = records::walk(&rewrap(&plain, codec, &payload), &rules());
            match (&whole, &streamed) {
                // A stream learns of its end only there: a fault before it comes first.
                (Err(BatchError::Record { reason: "runs past the batch's end", .. }), Err(_)) => {}
                _ => prop_assert_eq!(&whole, &streamed),
            }
        }
    }
}
