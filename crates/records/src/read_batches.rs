//! Walking a record set batch by batch.
use crate::batch::{BatchHeader, LENGTH_AT, LENGTH_PREFIX, MAGIC, MAGIC_AT, MIN_BATCH_LENGTH, field};
use crate::error::BatchError;
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// The smallest length field of any format: below it the bytes are no batch at all, whatever the magic.
const LEGACY_MIN_LENGTH: i32 = 14;

/// Bytes of the batch at the start of `bytes`, all of them present.
fn measure(bytes: &[u8]) -> Result<(usize, BatchHeader), BatchError> {
    if bytes.len() >= LENGTH_PREFIX {
        let length = i32::from_be_bytes(field(bytes, LENGTH_AT));
        if length < LEGACY_MIN_LENGTH {
            return Err(BatchError::BadLength { length });
        }
    }
    if bytes.len() > MAGIC_AT {
        let magic = bytes[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
    }
    if bytes.len() >= LENGTH_PREFIX {
        let length = i32::from_be_bytes(field(bytes, LENGTH_AT));
        if length < MIN_BATCH_LENGTH {
            return Err(BatchError::BadLength { length });
        }
        let declared = length as usize + LENGTH_PREFIX;
        if declared > bytes.len() {
            return Err(BatchError::Truncated { declared, have: bytes.len() });
        }
    }
    let header = BatchHeader::parse(bytes)?;
    Ok((header.size_in_bytes(), header))
}

/// Iterator of [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Walks a record set: each batch's range in `bytes` and its header; ends at the end or after one error.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, at: 0 }
}

impl Iterator for Batches<'_> {
    type Item = Result<(Range<usize>, BatchHeader), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        match measure(&self.bytes[self.at..]) {
            Ok((size, header)) => {
                let start = self.at;
                self.at += size;
                Some(Ok((start..self.at, header)))
            }
            Err(error) => {
                self.at = self.bytes.len();
                Some(Err(error))
            }
        }
    }
}

/// Iterator of [`split_batches`].
#[derive(Debug)]
pub struct SplitBatches {
    rest: BytesMut,
}

/// Splits a record set into disjoint batches that may be patched; ends at the end or after one error.
pub fn split_batches(records: BytesMut) -> SplitBatches {
    SplitBatches { rest: records }
}

impl Iterator for SplitBatches {
    type Item = Result<(BatchHeader, BytesMut), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match measure(&self.rest) {
            Ok((size, header)) => Some(Ok((header, self.rest.split_to(size)))),
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

/// Iterator of [`fetched_batches`].
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    rest: Bytes,
}

/// The batches of a Fetch answer. A last batch that the broker cut short ends the walk without an error.
pub fn fetched_batches(records: Bytes) -> FetchedBatches {
    FetchedBatches { rest: records }
}

impl Iterator for FetchedBatches {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match measure(&self.rest) {
            Ok((size, header)) => Some(Ok((header, self.rest.split_to(size)))),
            Err(error) => {
                self.rest.clear();
                match error {
                    BatchError::Truncated { .. } | BatchError::ShortHeader { .. } => None,
                    error => Some(Err(error)),
                }
            }
        }
    }
}
