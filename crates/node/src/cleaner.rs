//! Compaction: the partition with the largest share of new data first, `log.cleaner.threads` at a time.
//!
//! A pass goes on in steps (`storage::CleanRun`); the next one waits for as long as the bytes of the last take at
//! `log.cleaner.io.max.bytes.per.second`. Where there is nothing to do the next look comes after
//! `log.cleaner.backoff.ms`. docs/compaction.md.
use crate::api::{Effect, Event};
use crate::node::Node;
use model::{GroupKey, Mono, Now};
use std::collections::BTreeMap;
use storage::{AsideDone, CleanEnd, CleanJob, CleanProgress, CleanRun, OpToken};

/// Between two looks at least, ms: one looks at every group that is open.
const LEAST_MS: i64 = 100;

/// A pass that goes on.
#[derive(Debug)]
struct Running {
    run: CleanRun,
    /// When the next step is due; `None` while one is carried out.
    next: Option<Mono>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    running: Vec<Running>,
    next: Option<Mono>,
    /// Groups whose last pass was void: they wait for the next look but one, so that others come first.
    void: BTreeMap<GroupKey, Mono>,
    counts: CleanerCounts,
}

/// Numbers since the node was opened, and what the last look found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CleanerCounts {
    /// Passes that came to their end.
    pub passes: u64,
    /// Passes that were void: a file was damaged or gone, or there was no room.
    pub void: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes of files that others took the place of.
    pub bytes_replaced: u64,
    /// Bytes of these.
    pub bytes_written: u64,
    /// Records that went.
    pub records_dropped: u64,
    /// Partitions with files that cannot be cleaned.
    pub uncleanable: usize,
    /// The largest share of new data in a partition.
    pub max_dirty_ratio: f64,
    /// Passes that go on.
    pub running: usize,
    /// When the last pass ended.
    pub last_end: Option<Mono>,
}

impl Cleaner {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.running.iter().filter_map(|r| r.next).chain(self.next).min()
    }
}

impl Node {
    /// The next steps of passes, and the next pass, when it is time.
    pub(crate) fn tick_cleaner(&mut self, now: Now) {
        if self.stopping() || self.dir.fenced().is_some() {
            self.cleaner.next = None;
            return;
        }
        for one in &mut self.cleaner.running {
            if one.next.take_if(|at| *at <= now.mono).is_some() {
                one.run.go_on(&mut self.dir);
            }
        }
        let image = self.metadata.image();
        let config = image.broker_config().log_cleaner;
        let backoff = config.backoff_ms.max(LEAST_MS);
        let (enabled, threads) = (config.enable, config.threads.max(0).unsigned_abs() as usize);
        if !enabled || threads == 0 {
            self.cleaner.next = None;
            return;
        }
        let due = *self.cleaner.next.get_or_insert(now.mono.after_ms(backoff));
        if due > now.mono {
            return;
        }
        self.cleaner.next = Some(now.mono.after_ms(backoff));
        let map_bytes = config.dedupe_bytes.max(0).unsigned_abs() / threads as u64;
        let mut wanted = self.look_for_dirty(now);
        while self.cleaner.running.len() < threads && !self.dir.full() {
            let Some((_, key)) = wanted.pop() else { break };
            self.begin_cleaning(now, key, map_bytes);
        }
        self.cleaner.counts.running = self.cleaner.running.len();
    }

    /// Groups that want a pass and have none, those with the largest share of new data last.
    fn look_for_dirty(&mut self, now: Now) -> Vec<(f64, GroupKey)> {
        let (mut wanted, mut most, mut uncleanable) = (Vec::new(), 0.0, 0);
        self.cleaner.void.retain(|_, until| *until > now.mono);
        for key in self.groups.keys() {
            let Some(partition) = self.open_group(*key).map(|open| &open.partition) else { continue };
            let Some((found, wants)) = partition.dirtiness(now.wall) else { continue };
            uncleanable += usize::from(partition.log().uncleanable().next().is_some());
            most = f64::max(most, found.ratio());
            let busy = self.cleaner.running.iter().any(|r| r.run.key() == *key);
            if wants && !busy && !self.cleaner.void.contains_key(key) {
                wanted.push((if found.overdue { 1.0 } else { found.ratio() }, *key));
            }
        }
        self.cleaner.counts.max_dirty_ratio = most;
        self.cleaner.counts.uncleanable = uncleanable;
        wanted.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        wanted
    }

    fn begin_cleaning(&mut self, now: Now, key: GroupKey, map_bytes: u64) {
        let job = self.with(key, |p, dir, _| p.begin_clean(now, map_bytes, dir)).flatten();
        if let Some(job) = job {
            let run = CleanRun::begin(job, &mut self.dir);
            self.cleaner.running.push(Running { run, next: None });
        }
    }

    /// Something beside the files of groups ended; what is left of it where no pass waits for it.
    pub(crate) fn cleaned_aside(&mut self, now: Now, token: OpToken, done: AsideDone) -> Option<AsideDone> {
        let Some(at) = self.cleaner.running.iter().position(|r| r.run.awaits(token)) else {
            return Some(done);
        };
        let (key, id) = (self.cleaner.running[at].run.key(), self.cleaner.running[at].run.id());
        // The replica went, or was opened anew: its pass is void, and must not write any more.
        if !self.open_group(key).is_some_and(|open| open.partition.is_cleaning(id)) {
            self.cleaner.running.swap_remove(at);
            self.cleaner.counts.void += 1;
            return None;
        }
        let rate = self.metadata.image().broker_config().log_cleaner.max_rate;
        let Running { run, next } = &mut self.cleaner.running[at];
        match run.on_aside(token, done, &mut self.dir) {
            CleanProgress::Waits => {}
            CleanProgress::Rests(bytes) => *next = Some(now.mono.after_ms(pause(bytes, rate))),
            CleanProgress::Over(job, end) => {
                self.cleaner.running.swap_remove(at);
                self.end_cleaning(now, key, *job, end);
            }
        }
        None
    }

    fn end_cleaning(&mut self, now: Now, key: GroupKey, job: CleanJob, end: CleanEnd) {
        let cleaned = self.with(key, |p, dir, fx| p.cleaned(now, job, &end, dir, fx)).flatten();
        let counts = &mut self.cleaner.counts;
        counts.last_end = Some(now.mono);
        match cleaned {
            Some(stats) => {
                counts.passes += 1;
                counts.bytes_read += stats.bytes_read;
                counts.bytes_replaced += stats.bytes_replaced;
                counts.bytes_written += stats.bytes_written;
                counts.records_dropped += stats.records.dropped;
                self.checkpoint_cleaned(key);
            }
            None => {
                counts.void += 1;
                let image = self.metadata.image();
                let backoff = image.broker_config().log_cleaner.backoff_ms.max(LEAST_MS);
                self.cleaner.void.insert(key, now.mono.after_ms(backoff));
            }
        }
        if let CleanEnd::Damaged(_, damage) = end {
            self.fx.push(Effect::Event(Event::Uncleanable { key, why: damage.to_string() }));
            // It goes on without that file.
            self.cleaner.void.remove(&key);
        }
        self.cleaner.next = Some(now.mono.after_ms(LEAST_MS));
        self.cleaner.counts.running = self.cleaner.running.len();
    }

    /// The checkpoint that names the new files.
    fn checkpoint_cleaned(&mut self, key: GroupKey) {
        if self.open_group(key).is_some_and(|open| open.partition.wants_checkpoint()) {
            self.take_checkpoint(key);
        }
    }

    /// What compaction did.
    pub fn cleaner_counts(&self) -> CleanerCounts {
        self.cleaner.counts
    }
}

/// How long so many bytes take at `rate` a second, ms.
fn pause(bytes: u64, rate: f64) -> i64 {
    if rate <= 0.0 {
        return 1_000;
    }
    // A rate without a limit comes out as no pause at all.
    (bytes as f64 * 1_000.0 / rate).min(60_000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::pause;

    #[test]
    fn bytes_take_as_long_as_the_rate_says_and_a_minute_at_most() {
        assert_eq!(pause(1 << 20, f64::MAX), 0);
        assert_eq!(pause(2_000_000, 1_000_000.0), 2_000);
        assert_eq!((pause(1 << 30, 1.0), pause(1, 0.0)), (60_000, 1_000));
    }
}
