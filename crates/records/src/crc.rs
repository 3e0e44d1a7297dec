//! CRC-32C, the checksum of Kafka's batches.
use crate::batch::{ATTRIBUTES_AT, HEADER_LEN};

/// CRC-32C (Castagnoli) of `bytes`. The implementation is picked at run time for the processor.
///
/// Measured against the crate `crc32c` by `benches/crc.rs`: with AVX-512, 87 GB/s at 16 KiB against 19 to
/// 23; with SSE only (an EPYC without AVX-512), 16 to 18 GB/s against 20 to 24. `crc-fast` gains four
/// times where it wins and loses a quarter of a small cost where it does not.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum that belongs into the header of `batch`: everything from the attributes on.
/// `batch` is one whole batch; a shorter slice gives 0.
pub fn batch_crc(batch: &[u8]) -> u32 {
    if batch.len() < HEADER_LEN { 0 } else { crc32c(&batch[ATTRIBUTES_AT..]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn agrees_with_another_implementation_at_every_length() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in (0..600).chain([1023, 1024, 1025, 4096, 5000]) {
            assert_eq!(crc32c(&bytes[..len]), ::crc32c::crc32c(&bytes[..len]), "length {len}");
        }
    }
}
