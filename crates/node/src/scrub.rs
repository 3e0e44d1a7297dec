//! Reads every file again and again, at a capped rate: damage is found while there are peers that can heal it. Of one
//! that is still written it reads what is committed and synced.
//!
//! One file at a time, of one open group after the other; the next one waits for as long as the bytes of the last take
//! at `log.scrub.rate.bytes`. A round begins no sooner than `log.scrub.interval.ms` after the one before. What is found
//! makes the replica suspect (`suspect.rs`).
use crate::api::{Effect, Event};
use crate::node::Node;
use model::{GroupKey, Mono, Now};
use std::ops::Bound;
use storage::{Aside, AsideDone, AsideJob, DiskErrorKind, OpToken, RecoverError, birth, generation_dir};

/// Before the first round, ms, or the interval where that is less: a start has better things to do.
const FIRST_MS: i64 = 600_000;
/// Between two looks for something to read, ms.
const LEAST_MS: i64 = 20;
/// Groups that one look passes over.
const MOST_GROUPS: usize = 1_000;

/// Where the reading is.
#[derive(Debug)]
pub(crate) struct Scrub {
    /// The last file: its group, and its first index or 0. `None` between two rounds.
    at: Option<(GroupKey, u64)>,
    reading: Option<Reading>,
    next: Option<Mono>,
    round_begun: Mono,
    counts: ScrubCounts,
}

/// A file that is being read.
#[derive(Debug)]
struct Reading {
    token: OpToken,
    key: GroupKey,
    path: String,
    /// Its last entry, and the chain value after it.
    end: (u64, u32),
}

/// Numbers since the node was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounts {
    /// Bytes read.
    pub bytes: u64,
    /// Files that are not what was written.
    pub damaged: u64,
    /// Rounds over everything.
    pub rounds: u64,
}

impl Scrub {
    pub(crate) fn new(now: Mono) -> Scrub {
        Scrub { at: None, reading: None, next: None, round_begun: now, counts: ScrubCounts::default() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.next.filter(|_| self.reading.is_none())
    }
}

impl Node {
    /// Reads the next file when it is time.
    pub(crate) fn tick_scrub(&mut self, now: Now) {
        let image = self.metadata.image();
        let config = image.broker_config();
        let (rate, interval) = (config.log_scrub_rate_bytes, config.log_scrub_interval_ms.max(1));
        if rate <= 0 || self.stopping() || self.dir.fenced().is_some() {
            self.scrub.next = None;
            return;
        }
        let due = *self.scrub.next.get_or_insert(now.mono.after_ms(interval.min(FIRST_MS)));
        if self.scrub.reading.is_some() || due > now.mono {
            return;
        }
        if self.scrub.at.is_none() {
            self.scrub.round_begun = now.mono;
        }
        match self.next_file() {
            Next::File(key, row, link) => {
                let dir = generation_dir(key, self.dir.life(key).0);
                let (size, first, end) = (row.size, row.first_index, (row.end_index, row.end_chain));
                let path = format!("{dir}/{}", row.name);
                let only = Some((row, link));
                let job = AsideJob {
                    key,
                    dir,
                    index: 0,
                    birth: birth(key, Vec::new()),
                    check: true,
                    bare: false,
                    only,
                };
                let token = self.dir.look_aside(job);
                self.scrub.reading = Some(Reading { token, key, path, end });
                self.scrub.at = Some((key, first));
                self.scrub.counts.bytes += size;
                let wait = size.saturating_mul(1_000) / rate.unsigned_abs();
                let wait = i64::try_from(wait).unwrap_or(i64::MAX).max(LEAST_MS);
                self.scrub.next = Some(now.mono.after_ms(wait));
            }
            Next::Rest(key) => {
                self.compare_end(now, key);
                self.scrub.at = Some((key, u64::MAX));
                self.scrub.next = Some(now.mono.after_ms(LEAST_MS));
            }
            Next::Later(key) => {
                self.scrub.at = Some((key, u64::MAX));
                self.scrub.next = Some(now.mono.after_ms(LEAST_MS));
            }
            Next::End => {
                self.scrub.at = None;
                self.scrub.counts.rounds += 1;
                let next = self.scrub.round_begun.after_ms(interval);
                self.scrub.next = Some(next.max(now.mono.after_ms(LEAST_MS)));
            }
        }
    }

    fn next_file(&self) -> Next {
        let (from, mut after) = self.scrub.at.unwrap_or((GroupKey::METADATA, 0));
        let groups = self.groups.range((Bound::Included(from), Bound::Unbounded));
        for (key, _) in groups.clone().take(MOST_GROUPS) {
            let after = if *key == from { std::mem::take(&mut after) } else { 0 };
            let file = self
                .open_group(*key)
                .and_then(|open| open.partition.log().next_settled(after, self.dir.durable_index(*key)));
            if let Some((row, link)) = file {
                return Next::File(*key, row, link);
            }
            if after < u64::MAX && self.open_group(*key).is_some() {
                return Next::Rest(*key);
            }
        }
        groups.take(MOST_GROUPS + 1).nth(MOST_GROUPS).map_or(Next::End, |(key, _)| Next::Later(*key))
    }

    /// A file was read; whether it was one of these.
    pub(crate) fn scrubbed(&mut self, now: Now, token: OpToken, done: &AsideDone) -> bool {
        let reading = self.scrub.reading.take_if(|reading| reading.token == token);
        let Some(Reading { key, path, end, .. }) = reading else { return false };
        let AsideDone::Looked(result) = done else { return true };
        let why = match &**result {
            Ok(Aside::Missing(parts)) => {
                let at = parts.first().map_or(0, |part| part.good);
                format!("{path} at byte {at}: not what was written")
            }
            Err(RecoverError::Disk(error)) if error.kind == DiskErrorKind::Io => error.to_string(),
            Ok(Aside::Good) => String::new(),
            _ => return true,
        };
        // A file that was let go while it was read is no damage, nor one of an earlier life.
        let present =
            |open: &crate::groups::Open| open.partition.log().files().iter().any(|f| f.path == path);
        if !self.open_group(key).is_some_and(present) {
            return true;
        }
        if why.is_empty() {
            // Good in itself: is it what the others hold?
            self.compare(now, key, end.0, end.1);
            return true;
        }
        self.scrub.counts.damaged += 1;
        if self.has_peers(key) {
            self.on_damage(now, key, why);
        } else {
            let detail = format!("fetches of the damaged range fail: {why}");
            self.fx.push(Effect::Event(Event::GroupFailed { key, detail }));
        }
        true
    }

    /// What was read again of what lies at rest.
    pub fn scrub_counts(&self) -> ScrubCounts {
        self.scrub.counts
    }
}

enum Next {
    File(GroupKey, storage::BaseFile, Option<u32>),
    /// All files of this group were read.
    Rest(GroupKey),
    /// From this group on, at another time.
    Later(GroupKey),
    End,
}
