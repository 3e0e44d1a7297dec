//! Bytes that were durable and are not what they were.
use super::rig::*;
use crate::*;
use model::planted::{Bug, plant};

fn marked() -> Rig {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.append(1);
        rig.settle();
    }
    rig
}

#[test]
fn a_bad_frame_below_the_mark_is_reported_and_nothing_is_cut() {
    for at in [10, 60, 200, 400] {
        let mut rig = marked();
        let file = rig.path("00000000000000000002.log");
        rig.disk.flip(&file, at);
        let before = rig.disk.get(&file).unwrap().to_vec();
        let error = rig.try_recover().unwrap_err();
        assert!(error.contains(&file) && error.contains("made durable"), "{error}");
        rig.settle();
        assert_eq!(rig.disk.get(&file).unwrap(), before);
    }
}

#[test]
fn the_planted_truncation_would_lose_entries() {
    let mut rig = marked();
    let file = rig.path("00000000000000000002.log");
    rig.disk.flip(&file, 200);
    plant(Some(Bug::TruncateBelowMark));
    let recovered = rig.try_recover();
    plant(None);
    assert!(recovered.unwrap().unwrap().last_index < 6);
}

#[test]
fn the_planted_acknowledgement_comes_before_the_sync() {
    let mut rig = Rig::new();
    plant(Some(Bug::AckBeforeSync));
    rig.append(1);
    rig.dir.pump(rig.now);
    for op in rig.dir.ops().collect::<Vec<_>>() {
        if let Some(c) = rig.disk.apply(op).filter(|c| matches!(c, Completion::Written { .. })) {
            rig.dir.on_completion(rig.now, c, &mut rig.events);
        }
    }
    plant(None);
    assert!(rig.events.iter().any(|e| matches!(e, DirEvent::Persisted { index: 2, .. })));
}

#[test]
fn a_missing_or_short_file_below_the_mark_is_damage() {
    let mut rig = marked();
    let file = rig.path("00000000000000000002.log");
    let bytes = rig.disk.take(&file).unwrap();
    let error = rig.try_recover().unwrap_err();
    assert!(error.contains(&file) && error.contains("missing"), "{error}");
    rig.disk.set(&file, bytes[..bytes.len() - 1].to_vec());
    assert!(rig.try_recover().unwrap_err().contains("made durable"));
    rig.disk.set(&file, bytes);
    assert!(rig.try_recover().is_ok());
}

#[test]
fn another_history_of_the_same_length_is_damage() {
    let mut rig = marked();
    let file = rig.path("00000000000000000002.log");
    let mut other = Rig::new();
    for _ in 0..5 {
        other.now.wall += 7;
        other.append(1);
        other.settle();
    }
    rig.disk.set(&file, other.disk.get(&file).unwrap().to_vec());
    assert!(rig.try_recover().unwrap_err().contains("not those that were marked"));
}

#[test]
fn a_damaged_checkpoint_is_rebuilt_from_an_older_one_or_from_the_log() {
    let mut rig = marked();
    assert!(rig.checkpoint());
    rig.settle();
    rig.append(1);
    rig.settle();
    assert!(rig.checkpoint());
    rig.settle();
    let second = rig.path("00000000000000000007.ckpt");
    rig.disk.flip(&second, 50);
    let recovered = rig.try_recover().unwrap().unwrap();
    assert_eq!((recovered.checkpoint.index, recovered.last_index), (6, 7));
    let first = rig.path("00000000000000000006.ckpt");
    rig.disk.flip(&first, 50);
    let recovered = rig.try_recover().unwrap().unwrap();
    assert_eq!((recovered.checkpoint.index, recovered.last_index), (1, 7));
    rig.reopen().unwrap();
    assert_eq!(records::batches(&rig.read_all(0).unwrap()).count(), 6);
}

#[test]
fn damage_in_the_base_fails_reads_of_that_range_alone() {
    let mut rig = Rig::with(Default::default(), LogConfig { window_bytes: 500, ..small() });
    for _ in 0..30 {
        rig.append(1);
        rig.settle();
    }
    assert!(rig.log().wants_checkpoint());
    assert!(rig.checkpoint());
    rig.settle();
    assert!(rig.log().first_index() > 2);
    let files = rig.log().files();
    rig.disk.flip(&files[1].path, 70);
    rig.disk.take(&files[2].path);
    rig.reopen().unwrap();
    assert_eq!(rig.log().base_damage().len(), 1);
    let from_first = rig.read_all(0).unwrap_err();
    assert!(from_first.contains(&files[1].path), "{from_first}");
    let second = rig.read_all(files[2].first_offset).unwrap_err();
    assert!(second.contains(&files[2].path), "{second}");
    let rest = rig.read_all(files[3].first_offset).unwrap();
    assert_eq!(records::batches(&rest).count() as i64, 30 - files[3].first_offset);
}

#[test]
fn what_is_good_before_damage_is_read_and_the_damage_fails_alone() {
    let mut rig = Rig::new();
    let mut ends = Vec::new();
    for _ in 0..5 {
        rig.append(1);
        rig.settle();
        ends.push(rig.log().end().pos as usize);
    }
    let file = rig.path("00000000000000000002.log");
    rig.disk.flip(&file, ends[2] + 60);
    rig.cool();
    let ReadPlan::File(range) = rig.log().read_plan(0, 99, 1 << 20).unwrap() else {
        panic!("nothing is in memory")
    };
    let found = read_range(&rig.disk, &range).unwrap();
    assert_eq!((found.batches.len(), found.next_offset), (3, 3));
    let ReadPlan::File(range) = rig.log().read_plan(3, 99, 1 << 20).unwrap() else {
        panic!("nothing is in memory")
    };
    assert!(
        matches!(read_range(&rig.disk, &range), Err(ExtractError::Damaged(d)) if d.pos as usize == ends[2])
    );
    let ReadPlan::File(range) = rig.log().read_plan(4, 99, 1 << 20).unwrap() else {
        panic!("nothing is in memory")
    };
    assert_eq!(read_range(&rig.disk, &range).unwrap().batches.len(), 1);
}

#[test]
fn no_flipped_bit_makes_a_read_come_back_empty_or_different() {
    let mut rig = marked();
    rig.append_command(1, b"between");
    rig.append(3);
    rig.settle();
    rig.cool();
    let end = rig.log().next_offset();
    let reads: Vec<(FileRange, Extracted)> = (0..end)
        .flat_map(|from| (from + 1..=end).map(move |upto| (from, upto)))
        .map(|(from, upto)| {
            let ReadPlan::File(mut range) = rig.log().read_plan(from, upto, 150).unwrap() else {
                panic!("cold")
            };
            // From the beginning of the file, as when the index is sparse.
            range.seek(0);
            range.index = None;
            let good = read_range(&rig.disk, &range).unwrap();
            assert!(!good.batches.is_empty(), "{range:?}");
            (range, good)
        })
        .collect();
    let file = rig.path("00000000000000000002.log");
    let whole = rig.disk.get(&file).unwrap().to_vec();
    let mut refused = 0;
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        rig.disk.set(&file, bytes);
        for (range, good) in &reads {
            match read_range(&rig.disk, range) {
                Ok(read) => {
                    let (got, want) = (read.batches.concat(), good.batches.concat());
                    assert!(!got.is_empty() && want.starts_with(&got), "bit {bit}: {range:?}");
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_frame_of_a_later_version_stops_the_replica_even_above_the_mark() {
    let mut rig = marked();
    let file = rig.path("00000000000000000002.log");
    let h = test_data::head(7, EntryKind::Command, 0, 5);
    let (mut header, _) = frame::encode_header(&h, b"later", rig.log().chain());
    header[5] = 77;
    let crc = crc_fast::crc32_iso_hdlc(&[&header[..44], b"later"].concat());
    header[44..].copy_from_slice(&crc.to_le_bytes());
    let mut bytes = rig.disk.get(&file).unwrap().to_vec();
    bytes.extend(header);
    bytes.extend(b"later");
    rig.disk.set(&file, bytes);
    let error = rig.try_recover().unwrap_err();
    assert!(error.contains("unknown to this program"), "{error}");
}

#[test]
fn verify_finds_every_flipped_bit_of_what_is_relied_on() {
    let mut rig = Rig::new();
    for _ in 0..12 {
        rig.append(1);
        rig.settle();
    }
    assert!(rig.checkpoint());
    rig.settle();
    let state = inspect::group_states(&rig.disk).unwrap().remove(0);
    let good = rig.disk.clone();
    let report = inspect::verify_group(&good, &group_dir(KEY), KEY, Some(&state)).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.last_index, report.checkpoint), (Some(13), Some(13)));
    for file in report.files.iter().filter(|f| f.frames > 0) {
        for at in (0..file.bytes as usize).step_by(13) {
            rig.disk = good.clone();
            rig.disk.flip(&file.path, at);
            let found = inspect::verify_group(&rig.disk, &group_dir(KEY), KEY, Some(&state)).unwrap();
            assert!(!found.is_clean(), "{} byte {at}", file.path);
        }
    }
    assert_eq!(inspect::group_of(&KEY.to_string()), Some(KEY));
}
