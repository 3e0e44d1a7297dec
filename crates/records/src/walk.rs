//! The full walk over a batch's records, for topics whose rules need it and for offline checks.
use crate::batch::{BatchHeader, HEADER_LEN, NO_TIMESTAMP, TimestampType};
use crate::check::TimestampBounds;
use crate::codec::{Codec, Decoder, explain};
use crate::error::{BatchError, RecordIssue};
use crate::record::RawRecord;
use crate::streamed::{self, Ending, Outline};
use crate::varint;
use model::{ErrorCode, WallMs};
use std::io::{BufRead, BufReader, Read};

/// The most refused records that one answer names.
pub const MAX_ISSUES: usize = 100;
const STREAM_BUFFER: usize = 16 * 1024;
/// Records up to here are gathered to be looked at; of larger ones the content passes by.
const GATHER_UP_TO: usize = 64 * 1024;

/// What is asked of every record.
#[derive(Clone, Copy, Debug)]
pub struct WalkRules {
    /// The most bytes that the records may take decompressed.
    pub cap: usize,
    /// Compacted topics: every record has a key.
    pub require_keys: bool,
    /// Freshly produced: offsets have no gaps. A compacted batch may have gaps.
    pub dense_offsets: bool,
    /// Bounds on each timestamp and the clock they refer to; `None` when the broker sets timestamps.
    pub timestamps: Option<(TimestampBounds, WallMs)>,
}

impl WalkRules {
    /// Damage only: what any stored batch must satisfy.
    pub fn stored(cap: usize) -> WalkRules {
        WalkRules { cap, require_keys: false, dense_offsets: false, timestamps: None }
    }
}

/// What a walk saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Number of records.
    pub records: i32,
    /// Bytes of all records, decompressed.
    pub uncompressed_bytes: u64,
    /// The largest timestamp, ms, or -1.
    pub max_timestamp: i64,
    /// Offset delta of the first record that has it.
    pub max_timestamp_delta: i32,
}

struct Judge<'a> {
    header: &'a BatchHeader,
    rules: &'a WalkRules,
    seen: Walked,
    last_delta: i32,
    code: ErrorCode,
    issues: Vec<RecordIssue>,
}

/// Reads every record of `batch`, one whole batch, in constant memory whatever its records claim or hold.
/// Errors: damage of any kind as `Record`, `RecordCount` or `Codec` (`OverCap` is a bomb); records that
/// break the rules as `Rejected`, each with its index and message.
pub fn walk(batch: &[u8], rules: &WalkRules) -> Result<Walked, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let size = header.size_in_bytes();
    if size > batch.len() {
        return Err(BatchError::Truncated { declared: size, have: batch.len() });
    }
    let seen =
        Walked { records: 0, uncompressed_bytes: 0, max_timestamp: NO_TIMESTAMP, max_timestamp_delta: 0 };
    let mut judge =
        Judge { header: &header, rules, seen, last_delta: -1, code: ErrorCode::None, issues: Vec::new() };
    let payload = &batch[HEADER_LEN..size];
    match header.codec()? {
        Codec::None => judge.walk_plain(payload)?,
        codec => judge.walk_packed(codec, payload)?,
    }
    judge.finish()
}

impl Judge<'_> {
    fn walk_plain(&mut self, payload: &[u8]) -> Result<(), BatchError> {
        if payload.len() > self.rules.cap {
            let error = crate::codec::CodecError::OverCap { cap: self.rules.cap };
            return Err(BatchError::Codec { codec: Codec::None, error });
        }
        let mut at = 0;
        while at < payload.len() {
            let len = varint::read_i32(payload, &mut at).ok_or_else(|| self.damage("bad length"))?;
            let len = usize::try_from(len).map_err(|_| self.damage("negative length"))?;
            let body = payload.get(at..at + len).ok_or_else(|| self.damage("runs past the batch's end"))?;
            self.whole_record(body)?;
            at += len;
        }
        self.seen.uncompressed_bytes = payload.len() as u64;
        Ok(())
    }

    fn walk_packed(&mut self, codec: Codec, payload: &[u8]) -> Result<(), BatchError> {
        let cap = self.rules.cap;
        let broken = |e: std::io::Error| BatchError::Codec { codec, error: explain(&e, cap) };
        let decoder = Decoder::new(codec, payload, cap).map_err(broken)?;
        let mut reader = BufReader::with_capacity(STREAM_BUFFER, decoder);
        let ending = |ending| match ending {
            Ending::Damage(reason) => Err(reason),
            Ending::Io(error) => Ok(broken(error)),
        };
        let mut body = Vec::new();
        while !reader.fill_buf().map_err(broken)?.is_empty() {
            let (len, width) = streamed::length(&mut reader)
                .map_err(|e| ending(e).unwrap_or_else(|reason| self.damage(reason)))?;
            if len > GATHER_UP_TO {
                self.one_more()?;
                let outline = streamed::outline(&mut reader, len)
                    .map_err(|e| ending(e).unwrap_or_else(|reason| self.damage(reason)))?;
                self.record(&outline)?;
            } else {
                body.clear();
                let got = reader.by_ref().take(len as u64).read_to_end(&mut body).map_err(broken)?;
                if got < len {
                    return Err(self.damage("runs past the batch's end"));
                }
                self.whole_record(&body)?;
            }
            self.seen.uncompressed_bytes += (width + len) as u64;
        }
        Ok(())
    }

    fn damage(&self, reason: &'static str) -> BatchError {
        BatchError::Record { index: self.seen.records, reason }
    }

    fn whole_record(&mut self, body: &[u8]) -> Result<(), BatchError> {
        self.one_more()?;
        let raw = RawRecord::parse(body).map_err(|reason| self.damage(reason))?;
        let has_key = raw.key.is_some();
        self.record(&Outline {
            timestamp_delta: raw.timestamp_delta,
            offset_delta: raw.offset_delta,
            has_key,
        })
    }

    /// Whether the header left room for one more.
    fn one_more(&self) -> Result<(), BatchError> {
        if self.seen.records < self.header.record_count {
            return Ok(());
        }
        Err(BatchError::RecordCount { declared: self.header.record_count })
    }

    fn record(&mut self, raw: &Outline) -> Result<(), BatchError> {
        if raw.offset_delta <= self.last_delta || raw.offset_delta > self.header.last_offset_delta {
            return Err(self.damage("offsets do not increase within the batch's range"));
        }
        if self.rules.dense_offsets && raw.offset_delta != self.seen.records {
            return Err(self.damage("offsets have a gap"));
        }
        self.last_delta = raw.offset_delta;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(raw.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        self.apply_rules(raw, timestamp);
        if timestamp > self.seen.max_timestamp {
            self.seen.max_timestamp = timestamp;
            self.seen.max_timestamp_delta = raw.offset_delta;
        }
        self.seen.records += 1;
        Ok(())
    }

    fn apply_rules(&mut self, raw: &Outline, timestamp: i64) {
        if self.rules.require_keys && !raw.has_key {
            let message = "Compacted topic cannot accept message without key".to_owned();
            self.reject(ErrorCode::InvalidRecord, message);
        } else if let Some((bounds, now)) = self.rules.timestamps
            && !bounds.allows(timestamp, now)
        {
            let (earliest, latest) = (bounds.earliest(now), bounds.latest(now));
            let message = format!(
                "Timestamp {timestamp} is out of range. The timestamp should be within [{earliest}, {latest}]"
            );
            self.reject(ErrorCode::InvalidTimestamp, message);
        }
    }

    /// The code of the first refused record is the batch's.
    fn reject(&mut self, code: ErrorCode, message: String) {
        if self.issues.is_empty() {
            self.code = code;
        }
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(RecordIssue { index: self.seen.records, message });
        }
    }

    fn finish(self) -> Result<Walked, BatchError> {
        if self.seen.records != self.header.record_count {
            return Err(BatchError::RecordCount { declared: self.header.record_count });
        }
        if self.issues.is_empty() {
            Ok(self.seen)
        } else {
            Err(BatchError::Rejected { code: self.code, issues: self.issues })
        }
    }
}
