//! Which partition of `__consumer_offsets` holds a group.

/// `abs(hashCode(group_id)) % partitions`, with Java's hash of the UTF-16 form and Kafka's `Utils.abs`
/// (the one value without a positive counterpart maps to 0).
///
/// `partitions` below 1 counts as 1.
pub fn coordinator_partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash =
        group_id.encode_utf16().fold(0i32, |acc, unit| acc.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_java() {
        assert_eq!(coordinator_partition_for("", 50), 0);
        assert_eq!(coordinator_partition_for("a", 50), 97 % 50);
        assert_eq!(coordinator_partition_for("hello", 1_000_000_000), 99_162_322);
        // hashCode is Integer.MIN_VALUE.
        assert_eq!(coordinator_partition_for("polygenelubricants", 50), 0);
        // A surrogate pair counts as two units: 0xD83D * 31 + 0xDE00.
        assert_eq!(coordinator_partition_for("\u{1F600}", i32::MAX), 0xD83D * 31 + 0xDE00);
    }
}
