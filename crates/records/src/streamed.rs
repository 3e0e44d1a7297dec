//! A record that passes by in a stream: its outline, whatever its size, in constant memory.
use crate::varint;
use std::io::{self, BufRead};

/// What the rules ask of a record.
pub(crate) struct Outline {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) has_key: bool,
}

/// Why there is no record.
pub(crate) enum Ending {
    /// The bytes are no record.
    Damage(&'static str),
    /// The stream failed.
    Io(io::Error),
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Ending {
        Ending::Io(error)
    }
}

const CUT: Ending = Ending::Damage("runs past the batch's end");

/// The length in front of a record, and the bytes that it took.
pub(crate) fn length(reader: &mut impl BufRead) -> Result<(usize, usize), Ending> {
    let mut left = 5;
    let len = varint(reader, &mut left, 5).map_err(|ending| match ending {
        Ending::Damage(_) => Ending::Damage("bad length"),
        failed => failed,
    })?;
    Ok((usize::try_from(len).map_err(|_| Ending::Damage("negative length"))?, 5 - left))
}

/// Reads a record of `len` bytes and keeps nothing of its content.
pub(crate) fn outline(reader: &mut impl BufRead, len: usize) -> Result<Outline, Ending> {
    let mut left = len;
    skip(reader, &mut left, 1, "empty record")?;
    let timestamp_delta = varint(reader, &mut left, 10)?;
    let offset_delta = small(reader, &mut left)?;
    let has_key = part(reader, &mut left, "key runs past the record's end")?;
    part(reader, &mut left, "value runs past the record's end")?;
    let headers = small(reader, &mut left)?;
    let headers = usize::try_from(headers).map_err(|_| Ending::Damage("negative header count"))?;
    if headers > left {
        return Err(Ending::Damage("more headers than bytes"));
    }
    for _ in 0..headers {
        if !part(reader, &mut left, "header name runs past the record's end")? {
            return Err(Ending::Damage("header without a name"));
        }
        part(reader, &mut left, "header value runs past the record's end")?;
    }
    if left > 0 {
        return Err(Ending::Damage("bytes left over in the record"));
    }
    Ok(Outline { timestamp_delta, offset_delta, has_key })
}

/// A length and that many bytes; whether they are there, which a negative length denies.
fn part(reader: &mut impl BufRead, left: &mut usize, damage: &'static str) -> Result<bool, Ending> {
    let len = small(reader, left)?;
    let Ok(len) = usize::try_from(len) else { return Ok(false) };
    skip(reader, left, len, damage)?;
    Ok(true)
}

fn skip(reader: &mut impl BufRead, left: &mut usize, len: usize, damage: &'static str) -> Result<(), Ending> {
    *left = left.checked_sub(len).ok_or(Ending::Damage(damage))?;
    let mut len = len;
    while len > 0 {
        let passed = reader.fill_buf()?.len().min(len);
        if passed == 0 {
            return Err(CUT);
        }
        reader.consume(passed);
        len -= passed;
    }
    Ok(())
}

fn small(reader: &mut impl BufRead, left: &mut usize) -> Result<i32, Ending> {
    varint(reader, left, 5).map(|value| value as i32)
}

/// A varint of at most `width` bytes; of 5, it fits 32 bits.
fn varint(reader: &mut impl BufRead, left: &mut usize, width: usize) -> Result<i64, Ending> {
    let mut bytes = [0u8; 10];
    for at in 0..width {
        *left = left.checked_sub(1).ok_or(Ending::Damage("bad varint"))?;
        bytes[at] = *reader.fill_buf()?.first().ok_or(CUT)?;
        reader.consume(1);
        if bytes[at] & 0x80 == 0 {
            let whole = &bytes[..=at];
            // Five bytes hold 35 bits; the upper three are dropped, as everywhere.
            let value = if width == 5 {
                varint::read_i32(whole, &mut 0).map(i64::from)
            } else {
                varint::read_i64(whole, &mut 0)
            };
            return value.ok_or(Ending::Damage("bad varint"));
        }
    }
    Err(Ending::Damage("bad varint"))
}
