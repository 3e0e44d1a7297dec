//! Finds frames in a byte stream; decides before anything is allocated.

/// Bytes of the length in front of every frame.
pub const LENGTH_BYTES: usize = 4;
/// Largest frame before the first valid request of a connection, in bytes.
pub const FIRST_FRAME_LIMIT: usize = 512 << 10;

/// What the bytes at the start of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The frame is not there yet: this many more bytes complete it, or its length.
    NeedMore(usize),
    /// A whole frame: its length field, then this many bytes.
    Frame(usize),
    /// The frame states this many bytes, more than the limit: close the connection.
    TooLarge(usize),
    /// The frame states a negative length: close the connection.
    Negative(i32),
}

/// Looks at the start of `buffered` for a frame of at most `limit` bytes.
pub fn split(buffered: &[u8], limit: usize) -> Split {
    let Some(length) = buffered.first_chunk::<LENGTH_BYTES>() else {
        return Split::NeedMore(LENGTH_BYTES - buffered.len());
    };
    let length = i32::from_be_bytes(*length);
    let Ok(length) = usize::try_from(length) else { return Split::Negative(length) };
    if length > limit {
        return Split::TooLarge(length);
    }
    match (LENGTH_BYTES + length).checked_sub(buffered.len()) {
        None | Some(0) => Split::Frame(length),
        Some(missing) => Split::NeedMore(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_judged_before_the_body_arrives() {
        assert_eq!(split(&[], 10), Split::NeedMore(4));
        assert_eq!(split(&[0, 0, 0], 10), Split::NeedMore(1));
        assert_eq!(split(&[0, 0, 0, 3], 10), Split::NeedMore(3));
        assert_eq!(split(&[0, 0, 0, 3, 1, 2], 10), Split::NeedMore(1));
        assert_eq!(split(&[0, 0, 0, 3, 1, 2, 3], 10), Split::Frame(3));
        assert_eq!(split(&[0, 0, 0, 3, 1, 2, 3, 9], 10), Split::Frame(3));
        assert_eq!(split(&[0, 0, 0, 0], 10), Split::Frame(0));
        assert_eq!(split(&[0, 0, 0, 11], 10), Split::TooLarge(11));
        assert_eq!(split(&[0x7f, 0xff, 0xff, 0xff], 10), Split::TooLarge(i32::MAX as usize));
        assert_eq!(split(&[0xff, 0xff, 0xff, 0xff], 10), Split::Negative(-1));
    }
}
