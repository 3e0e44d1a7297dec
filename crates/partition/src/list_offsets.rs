//! ListOffsets: sentinels from memory, times by reading. A step that has to read says what; the caller
//! reads, and the next step goes on from what was found.
use crate::api::{ListOffsetAsk, ListOffsetOutcome, ListOffsetSearch, ListOffsetStep};
use crate::partition::Partition;
use crate::read::code_of;
use model::{ErrorCode, Offset};
use records::batches;
use storage::{Extracted, ReadPlan, TimestampPlan, find_timestamp};

/// The next offset a reader will see.
const LATEST: i64 = -1;
/// The log start.
const EARLIEST: i64 = -2;
/// The first record with the largest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The log start on this disk (KIP-405); without tiering the log start.
const EARLIEST_LOCAL: i64 = -4;
/// The last tiered offset (KIP-1005); none without tiering.
const LATEST_TIERED: i64 = -5;
/// The first offset not tiered yet (KIP-1023); none without tiering.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Bytes that are read at a time where every batch is looked at.
const SCAN_BYTES: usize = 1 << 20;

const NOTHING: ListOffsetOutcome = ListOffsetOutcome { offset: -1, timestamp: -1, leader_epoch: -1 };

impl Partition {
    /// The first step. Errors: those of the epoch check, UNSUPPORTED_VERSION for an unknown sentinel,
    /// CORRUPT_MESSAGE.
    pub fn list_offset(&self, ask: ListOffsetAsk) -> Result<ListOffsetStep, ErrorCode> {
        self.check_epoch(ask.current_leader_epoch)?;
        let upto = self.bound(ask.isolation);
        let outcome = match ask.timestamp {
            LATEST => ListOffsetOutcome {
                offset: upto,
                timestamp: -1,
                leader_epoch: self.leader_epoch().unwrap_or(-1),
            },
            EARLIEST | EARLIEST_LOCAL => ListOffsetOutcome {
                offset: self.log_start(),
                timestamp: -1,
                leader_epoch: self.log.epochs().epoch_at(self.log_start()).unwrap_or(-1),
            },
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => NOTHING,
            MAX_TIMESTAMP => return self.find_max_timestamp(ask, upto),
            timestamp if timestamp >= 0 => {
                let search = ListOffsetSearch { ask, timestamp, from: -1, upto, largest: None };
                return self.search(search, self.log_start());
            }
            _ => return Err(ErrorCode::UnsupportedVersion),
        };
        Ok(ListOffsetStep::Done(outcome))
    }

    fn find_max_timestamp(&self, ask: ListOffsetAsk, upto: Offset) -> Result<ListOffsetStep, ErrorCode> {
        if let Some(from) = self.unstable_file(upto) {
            let search = ListOffsetSearch { ask, timestamp: -1, from, upto, largest: Some(NOTHING) };
            return self.scan(search);
        }
        self.find_max_of_files(ask, upto)
    }

    /// Where the file begins in which an open transaction does: its latest record may lie behind that, and what is
    /// known of the file says nothing about the records before it.
    fn unstable_file(&self, upto: Offset) -> Option<Offset> {
        let from = self.log.file_start(upto).filter(|_| upto < self.high_watermark())?.max(self.log_start());
        (from < upto).then_some(from)
    }

    /// Reads on from where the search is.
    fn scan(&self, search: ListOffsetSearch) -> Result<ListOffsetStep, ErrorCode> {
        let from = search.from.max(self.log_start());
        if from < search.upto {
            match self.log.read_plan(from, search.upto, SCAN_BYTES).map_err(code_of)? {
                ReadPlan::Empty => {}
                ReadPlan::Memory(batches) => {
                    let found = Extracted { batches, ..Extracted::default() };
                    return self.scanned(search, &found);
                }
                ReadPlan::File(range) => return Ok(ListOffsetStep::Read { range, search }),
            }
        }
        // The files before it.
        let largest = search.largest.unwrap_or(NOTHING);
        match self.log.max_timestamp(search.upto) {
            Some((timestamp, _)) if timestamp >= largest.timestamp => {
                self.find_max_of_files(search.ask, search.upto)
            }
            _ => Ok(ListOffsetStep::Done(largest)),
        }
    }

    fn scanned(&self, search: ListOffsetSearch, found: &Extracted) -> Result<ListOffsetStep, ErrorCode> {
        let mut largest = search.largest.unwrap_or(NOTHING);
        let headers = found.batches.iter().flat_map(|bytes| batches(bytes).filter_map(Result::ok));
        let headers = headers.map(|(_, header)| header).filter(|header| header.base_offset < search.upto);
        let (mut next, mut latest) = (found.next_offset, largest.timestamp);
        for header in headers {
            next = next.max(header.next_offset());
            latest = latest.max(header.max_timestamp);
        }
        if latest > largest.timestamp
            && let Some((timestamp, offset, leader_epoch)) = find_timestamp(&found.batches, latest)
        {
            largest = ListOffsetOutcome { offset: offset.max(self.log_start()), timestamp, leader_epoch };
        }
        // A read that got nowhere would be asked for again for ever.
        let from = if next <= search.from { search.upto } else { next };
        self.scan(ListOffsetSearch { from, largest: Some(largest), ..search })
    }

    fn find_max_of_files(&self, ask: ListOffsetAsk, upto: Offset) -> Result<ListOffsetStep, ErrorCode> {
        let Some((timestamp, base)) = self.log.max_timestamp(upto) else {
            return Ok(ListOffsetStep::Done(NOTHING));
        };
        let search = ListOffsetSearch { ask, timestamp, from: -1, upto, largest: None };
        match self.log.read_plan(base.max(self.log_start()), upto, 1).map_err(code_of)? {
            ReadPlan::Empty => Ok(ListOffsetStep::Done(NOTHING)),
            ReadPlan::Memory(batches) => {
                let found = Extracted { batches, next_offset: upto, ..Extracted::default() };
                self.list_offset_read(search, &found)
            }
            ReadPlan::File(range) => Ok(ListOffsetStep::Read { range, search }),
        }
    }

    /// Looks for the first record at or above `from` that is late enough.
    fn search(&self, search: ListOffsetSearch, from: Offset) -> Result<ListOffsetStep, ErrorCode> {
        if from >= search.upto {
            return Ok(ListOffsetStep::Done(NOTHING));
        }
        match self.log.offset_for_timestamp(search.timestamp, from, search.upto) {
            TimestampPlan::None => Ok(ListOffsetStep::Done(NOTHING)),
            TimestampPlan::File(range) => {
                Ok(ListOffsetStep::Read { range, search: ListOffsetSearch { from, ..search } })
            }
        }
    }

    /// The next step, with what a `Read` step found.
    pub fn list_offset_read(
        &self,
        search: ListOffsetSearch,
        found: &Extracted,
    ) -> Result<ListOffsetStep, ErrorCode> {
        self.check_epoch(search.ask.current_leader_epoch)?;
        if search.largest.is_some() {
            return self.scanned(search, found);
        }
        match find_timestamp(&found.batches, search.timestamp) {
            Some((timestamp, offset, leader_epoch)) if offset < search.upto => {
                // A batch may begin below the log start; what a reader sees first is the log start.
                let offset = offset.max(self.log_start());
                Ok(ListOffsetStep::Done(ListOffsetOutcome { offset, timestamp, leader_epoch }))
            }
            Some(_) => Ok(ListOffsetStep::Done(NOTHING)),
            // A read that got nowhere would be asked for again for ever.
            None if found.next_offset <= search.from => Ok(ListOffsetStep::Done(NOTHING)),
            None => self.search(search, found.next_offset),
        }
    }
}
