//! Zigzag varints, as records use them.
use bytes::BufMut;

/// Reads a 32-bit varint at `*at` and moves `*at` past it; `None` if it is cut short or over 5 bytes.
pub(crate) fn read_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let mut raw = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        raw |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(((raw >> 1) as i32) ^ -((raw & 1) as i32));
        }
    }
    None
}

/// Reads a 64-bit varint at `*at` and moves `*at` past it; `None` if it is cut short or over 10 bytes.
pub(crate) fn read_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut raw = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(((raw >> 1) as i64) ^ -((raw & 1) as i64));
        }
    }
    None
}

/// Appends `value` as a varint. A 32-bit varint is the same bytes.
pub(crate) fn put(out: &mut impl BufMut, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.put_u8(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw as u8);
}

/// Bytes that `value` takes as a varint.
pub(crate) fn len(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips_and_its_length_is_foretold(value: i64, small: i32) {
            for v in [value, i64::from(small)] {
                let mut out = Vec::new();
                put(&mut out, v);
                prop_assert_eq!(out.len(), len(v));
                let mut at = 0;
                prop_assert_eq!(read_i64(&out, &mut at), Some(v));
                prop_assert_eq!(at, out.len());
            }
            let mut out = Vec::new();
            put(&mut out, i64::from(small));
            let mut at = 0;
            prop_assert_eq!(read_i32(&out, &mut at), Some(small));
        }
    }

    #[test]
    fn an_endless_or_cut_varint_is_refused() {
        assert_eq!(read_i32(&[0xff; 6], &mut 0), None);
        assert_eq!(read_i64(&[0xff; 11], &mut 0), None);
        assert_eq!(read_i32(&[0x80], &mut 0), None);
        assert_eq!(read_i64(&[], &mut 0), None);
    }
}
