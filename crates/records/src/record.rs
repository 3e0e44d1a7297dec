//! The records inside a batch.
use crate::batch::{BatchHeader, HEADER_LEN, TimestampType};
use crate::codec::{Codec, decompress};
use crate::error::BatchError;
use crate::varint;
use bytes::Bytes;
use std::ops::Range;

/// A record header: name and value. Names may repeat; their order is kept.
pub type Header = (Bytes, Option<Bytes>);

/// One record. Its parts are slices of the (decompressed) batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp, ms; the append time when the broker sets timestamps.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null, a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers, in order, repeats included.
    pub headers: Vec<Header>,
}

/// One record's layout within its body; header positions are found by [`HeaderWalk`].
#[derive(Debug)]
pub(crate) struct RawRecord {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Option<Range<usize>>,
    header_count: usize,
    headers_at: usize,
}

type Damage = &'static str;

fn varint_at(body: &[u8], at: &mut usize) -> Result<i32, Damage> {
    varint::read_i32(body, at).ok_or("bad varint")
}

/// A length and that many bytes; a negative length is null.
fn nullable(body: &[u8], at: &mut usize, damage: Damage) -> Result<Option<Range<usize>>, Damage> {
    let len = varint_at(body, at)?;
    if len < 0 {
        return Ok(None);
    }
    let start = *at;
    let end = start.checked_add(len as usize).filter(|end| *end <= body.len()).ok_or(damage)?;
    *at = end;
    Ok(Some(start..end))
}

impl RawRecord {
    /// Finds the parts of a record in `body`, the bytes after its length, all of which must be used.
    pub(crate) fn parse(body: &[u8]) -> Result<RawRecord, Damage> {
        let mut at = 1;
        if body.is_empty() {
            return Err("empty record");
        }
        let timestamp_delta = varint::read_i64(body, &mut at).ok_or("bad timestamp")?;
        let offset_delta = varint_at(body, &mut at)?;
        let key = nullable(body, &mut at, "key runs past the record's end")?;
        let value = nullable(body, &mut at, "value runs past the record's end")?;
        let header_count = usize::try_from(varint_at(body, &mut at)?).map_err(|_| "negative header count")?;
        if header_count > body.len() - at {
            return Err("more headers than bytes");
        }
        let headers_at = at;
        let raw = RawRecord { timestamp_delta, offset_delta, key, value, header_count, headers_at };
        let mut walk = raw.headers(body);
        for header in walk.by_ref() {
            header?;
        }
        if walk.at != body.len() {
            return Err("bytes left over in the record");
        }
        Ok(raw)
    }

    fn headers<'a>(&self, body: &'a [u8]) -> HeaderWalk<'a> {
        HeaderWalk { body, at: self.headers_at, left: self.header_count }
    }
}

struct HeaderWalk<'a> {
    body: &'a [u8],
    at: usize,
    left: usize,
}

impl HeaderWalk<'_> {
    fn one(&mut self) -> Result<(Range<usize>, Option<Range<usize>>), Damage> {
        let name = nullable(self.body, &mut self.at, "header name runs past the record's end")?
            .ok_or("header without a name")?;
        let value = nullable(self.body, &mut self.at, "header value runs past the record's end")?;
        Ok((name, value))
    }
}

impl Iterator for HeaderWalk<'_> {
    type Item = Result<(Range<usize>, Option<Range<usize>>), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let header = self.one();
        if header.is_err() {
            self.left = 0;
        }
        Some(header)
    }
}

/// Iterator of [`records`].
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
    at: usize,
    index: i32,
    failed: bool,
}

/// The records of `batch`, one whole batch. A compressed payload is decompressed at once, to at most
/// `cap` bytes. Errors: as [`BatchHeader::parse`], `Truncated`, `UnknownCodec`, `Codec`. The iterator
/// yields one error and ends where a record is damaged or the count is not the declared one.
pub fn records(batch: &Bytes, cap: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let size = header.size_in_bytes();
    if size > batch.len() {
        return Err(BatchError::Truncated { declared: size, have: batch.len() });
    }
    let packed = batch.slice(HEADER_LEN..size);
    let payload = match header.codec()? {
        Codec::None => packed,
        codec => decompress(codec, &packed, cap).map_err(|error| BatchError::Codec { codec, error })?,
    };
    Ok(Records { header, payload, at: 0, index: 0, failed: false })
}

impl Records {
    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn one(&mut self) -> Result<Record, BatchError> {
        let damage = |reason| BatchError::Record { index: self.index, reason };
        let len = varint::read_i32(&self.payload, &mut self.at).ok_or_else(|| damage("bad length"))?;
        let len = usize::try_from(len).map_err(|_| damage("negative length"))?;
        let start = self.at;
        let end = start + len;
        let body = self.payload.get(start..end).ok_or_else(|| damage("runs past the batch's end"))?;
        let raw = RawRecord::parse(body).map_err(damage)?;
        let part = |r: Range<usize>| self.payload.slice(start + r.start..start + r.end);
        let mut headers = Vec::with_capacity(raw.header_count.min(64));
        for header in raw.headers(body) {
            let (name, value) = header.map_err(damage)?;
            headers.push((part(name), value.map(part)));
        }
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(raw.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let record = Record {
            offset: self.header.base_offset.wrapping_add(i64::from(raw.offset_delta)),
            timestamp,
            key: raw.key.map(part),
            value: raw.value.map(part),
            headers,
        };
        self.at = end;
        self.index += 1;
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let declared = self.header.record_count.max(0);
        let done = self.index >= declared;
        if done && self.at == self.payload.len() {
            return None;
        }
        let item = if done || self.at == self.payload.len() {
            Err(BatchError::RecordCount { declared })
        } else {
            self.one()
        };
        self.failed = item.is_err();
        Some(item)
    }
}
