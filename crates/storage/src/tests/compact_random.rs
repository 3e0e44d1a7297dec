//! Random logs through passes of compaction, crashes and starts, compared with what was appended.
use super::compact::{append, clean, compacted, input, marker, read, seal};
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;
use bytes::Bytes;
use model::planted::{Bug, plant};
use records::{BatchBuilder, Codec, ControlKind, NewRecord};
use std::collections::{BTreeMap, BTreeSet};

/// A random log, and everything that was appended to it.
struct Model {
    rng: u64,
    rig: Rig,
    /// Every data record that was appended: key, value, and the producer whose transaction it was part of.
    all: BTreeMap<i64, (String, Option<String>, Option<i64>)>,
    open: BTreeMap<i64, i64>,
    aborted: Vec<AbortedRange>,
    horizon: i64,
    log_start: i64,
}

impl Model {
    fn new(seed: u64) -> Model {
        Model {
            rng: seed * 2 + 1,
            rig: Rig::with(TestDisk::default(), compacted()),
            all: BTreeMap::new(),
            open: BTreeMap::new(),
            aborted: Vec::new(),
            horizon: 0,
            log_start: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.rng >> 33) % n
    }

    fn append(&mut self) {
        let producer = (self.below(3) == 0).then(|| 100 + self.below(3) as i64);
        let codec = [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Gzip][self.below(4) as usize];
        let mut builder = BatchBuilder::new().codec(codec, None);
        if let Some(id) = producer {
            builder = builder.producer(id, 0, 0).transactional();
        }
        let base = self.rig.log().next_offset();
        for n in 0..=self.below(5) {
            let key = format!("k{}", self.below(12));
            let value = (self.below(4) > 0).then(|| format!("value {}", base + n as i64));
            let time = self.rig.now.wall;
            builder.push(NewRecord::new(time, Some(key.as_bytes()), value.as_deref().map(str::as_bytes)));
            self.all.insert(base + n as i64, (key, value, producer));
        }
        append(&mut self.rig, builder);
        if let Some(id) = producer {
            self.open.entry(id).or_insert(base);
        }
    }

    fn end_transaction(&mut self) {
        let Some((producer_id, first_offset)) = self.open.pop_first() else { return };
        let abort = self.below(2) == 0;
        let kind = if abort { ControlKind::Abort } else { ControlKind::Commit };
        let last_offset = marker(&mut self.rig, producer_id, kind);
        if abort {
            self.aborted.push(AbortedRange { producer_id, first_offset, last_offset });
        }
    }

    fn clean(&mut self) {
        let mut i = input(&mut self.rig);
        i.bounds.upto = self.open.values().copied().min().unwrap_or(i.bounds.upto);
        i.aborted.clone_from(&self.aborted);
        i.map_bytes = 1 + self.below(2) * 100_000;
        i.delete_retention_ms = 300;
        if self.below(3) == 0 {
            self.rig.dies_at = self.rig.disk.done + 1 + self.below(30);
        }
        let cleaned = clean(&mut self.rig, i);
        if let Some(Cleaned { horizon: Some(horizon), .. }) = cleaned {
            self.rig.log().apply_clean_horizon(horizon);
            self.horizon = self.horizon.max(horizon);
        }
        // Others than the pass may be what it dies at.
        for _ in 0..self.below(3) {
            self.rig.append_command(1, b"x");
            self.rig.settle();
            self.rig.checkpoint();
            self.rig.settle();
        }
        if self.rig.dies_at < u64::MAX {
            self.crash();
        }
    }

    fn crash(&mut self) {
        self.rig.dies_at = u64::MAX;
        if self.below(2) == 0 {
            let keep = self.below(2) == 0;
            self.rig.disk.power_off(|(_, _, bytes)| keep.then(|| bytes.clone()));
        }
        self.rig.reopen().unwrap();
        assert!(self.rig.log().base_damage().is_empty(), "{:?}", self.rig.log().base_damage());
        let next = self.rig.log().next_offset();
        drop(self.all.split_off(&next));
        self.aborted.retain(|range| range.last_offset < next);
        self.open.retain(|_, first| *first < next);
        // A marker that was lost leaves its transaction open; nothing that a pass saw is lost.
    }

    fn retain(&mut self) {
        let files = self.rig.log().files();
        if files.len() > 4 {
            let start = files[0].next_offset;
            let Rig { log, dir, .. } = &mut self.rig;
            log.as_mut().unwrap().apply_log_start(start, dir.fx());
            self.log_start = self.log_start.max(start);
        }
    }

    fn is_aborted(&self, offset: i64, producer: Option<i64>) -> bool {
        let of = |r: &&AbortedRange| Some(r.producer_id) == producer;
        self.aborted.iter().filter(of).any(|r| (r.first_offset..r.last_offset).contains(&offset))
    }

    /// Reads everything back and compares it with what was appended.
    fn check(&mut self) {
        self.rig.settle();
        let start = self.rig.log().log_start();
        let (found, markers) = read(&mut self.rig);
        assert!(found.is_sorted_by(|a, b| a.offset < b.offset));
        let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
        let present: BTreeSet<i64> = found.iter().map(|r| r.offset).collect();
        let mut table: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
        for record in &found {
            let (key, value, producer) = &self.all[&record.offset];
            let read = (text(record.key.as_ref().unwrap()), record.value.as_ref().map(text));
            assert_eq!(read, (key.clone(), value.clone()), "offset {}", record.offset);
            if self.is_aborted(record.offset, *producer) {
                let of =
                    |r: &&AbortedRange| Some(r.producer_id) == *producer && r.last_offset > record.offset;
                let end = self.aborted.iter().find(of).unwrap().last_offset;
                assert!(markers.contains(&end), "data at {} without its marker {end}", record.offset);
            } else if record.offset >= start {
                table.insert(key.clone(), (record.offset, value.clone()));
            }
        }
        let mut model: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
        for (offset, (key, value, producer)) in self.all.range(start..) {
            if !self.is_aborted(*offset, *producer) {
                model.insert(key.clone(), (*offset, value.clone()));
            }
        }
        for (key, (offset, value)) in &model {
            match table.get(key) {
                Some(found) => assert_eq!(found, &(*offset, value.clone()), "{key}"),
                None => {
                    assert_eq!(value, &None, "{key} at {offset} is gone");
                    assert!(*offset < self.horizon, "its tombstone went before the horizon");
                }
            }
        }
        let clean = self.rig.log().clean_offset();
        for (offset, (_, _, producer)) in self.all.range(clean.max(start)..) {
            assert!(present.contains(offset) || self.is_aborted(*offset, *producer), "{offset} is new");
        }
    }

    fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            match self.below(20) {
                0..12 => self.append(),
                12..14 => self.end_transaction(),
                14 => seal(&mut self.rig),
                15 => self.rig.now.wall += 100,
                16 => self.crash(),
                17 if self.below(4) == 0 => self.retain(),
                _ => {
                    seal(&mut self.rig);
                    self.clean();
                }
            }
            self.check();
        }
    }
}

#[test]
fn random_logs_read_as_the_last_value_of_each_key_through_passes_and_crashes() {
    for seed in 0..60 {
        Model::new(seed).run(70);
    }
}

#[test]
fn a_tombstone_that_goes_before_its_horizon_is_seen() {
    plant(Some(Bug::DeletedKeyRevived));
    let caught = (0..20).any(|seed| std::panic::catch_unwind(|| Model::new(seed).run(70)).is_err());
    plant(None);
    assert!(caught);
}
