//! Files that compaction wrote, sent to another replica, read again at rest, and compared.
use super::compact::{clean, compacted, input, put, read, relist, seal};
use super::install::{job, missing, pull};
use super::rig::*;
use crate::install::look;
use crate::test_disk::TestDisk;
use crate::*;
use model::planted::{Bug, plant};
use std::collections::BTreeMap;

/// A log of which some files were compacted, one of them to nothing, and named by both its checkpoints.
fn source() -> Rig {
    let mut rig = Rig::with(TestDisk::default(), LogConfig { segment_bytes: 900, ..compacted() });
    for n in 0..50 {
        put(&mut rig, &format!("k{}", n % 11), Some(&format!("v{n}")));
    }
    seal(&mut rig);
    let i = input(&mut rig);
    assert!(clean(&mut rig, i).is_some());
    rig.settle();
    relist(&mut rig);
    for n in 0..6 {
        put(&mut rig, "k0", Some(&format!("later {n}")));
    }
    rig.settle();
    assert!(rig.checkpoint());
    rig.settle();
    assert!(rig.log().files().iter().any(|f| f.bytes == 0), "{:?}", rig.log().files());
    rig
}

fn installed(source: &Rig) -> Rig {
    let mut to = Rig::with(TestDisk::default(), compacted());
    let job = job(source, &generation_dir(KEY, 1));
    assert!(pull(source, &mut to, &job, 100, usize::MAX));
    let Ok(Aside::Whole(recovered)) = look(&job, &to.disk) else { panic!("nothing is missing") };
    assert!(recovered.base_damage.is_empty(), "{:?}", recovered.base_damage);
    to.log = Some(Log::from_recovered(*recovered, compacted(), to.dir.fx()));
    to.settle();
    to
}

#[test]
fn a_replica_that_is_brought_up_from_cleaned_files_holds_the_same() {
    let mut source = source();
    let mut to = installed(&source);
    assert_eq!(read(&mut to), read(&mut source));
    assert_eq!(to.log().clean_offset(), source.log().clean_offset());
    assert_eq!((to.log().last_index(), to.log().chain()), (source.log().last_index(), source.log().chain()));
}

#[test]
fn every_flip_in_a_cleaned_file_is_found_and_pulled_again() {
    let source = source();
    let mut to = Rig::with(TestDisk::default(), compacted());
    let job = job(&source, &generation_dir(KEY, 1));
    assert!(pull(&source, &mut to, &job, 200, usize::MAX));
    let whole = to.disk.clone();
    for name in whole.names().into_iter().filter(|n| n.starts_with(&job.dir)) {
        for at in (0..whole.get(&name).unwrap().len()).step_by(31) {
            to.disk = whole.clone();
            to.disk.flip(&name, at);
            assert!(missing(&job, &to.disk).iter().all(|p| p.good <= at as u64), "{name} byte {at}");
            assert!(pull(&source, &mut to, &job, 300, usize::MAX), "{name} byte {at} heals");
        }
    }
}

#[test]
fn cleaned_files_are_read_again_at_rest_and_compared_where_they_end() {
    let mut source = source();
    let (mut after, mut files) = (0, 0);
    while let Some((row, link)) = source.log().next_settled(after, u64::MAX) {
        let (dir, only) = (group_dir(KEY), Some((row.clone(), link)));
        let birth = birth(KEY, Vec::new());
        let job = AsideJob { key: KEY, dir: dir.clone(), index: 0, birth, check: true, bare: false, only };
        assert!(matches!(look(&job, &source.disk), Ok(Aside::Good)), "{row:?}");
        if row.size > 0 {
            let whole = source.disk.clone();
            source.disk.flip(&format!("{dir}/{}", row.name), row.size as usize / 2);
            assert!(matches!(look(&job, &source.disk), Ok(Aside::Missing(_))), "{row:?}");
            source.disk = whole;
        }
        let log = source.log.as_ref().unwrap();
        let ChainPlan::Known(chain) = log.chain_plan(row.end_index, &source.dir) else { panic!("{row:?}") };
        assert_eq!(chain, row.end_chain, "that of the log as it was appended");
        if row.clean_generation > 0 && row.first_index < row.end_index {
            assert_eq!(log.chain_plan(row.first_index, &source.dir), ChainPlan::Unknown);
        }
        (after, files) = (row.first_index, files + usize::from(row.clean_generation > 0));
    }
    assert!(files > 1);
    let report = inspect::verify_group(&source.disk, &group_dir(KEY), KEY, None).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// A consumer reads the old log of a follower up to a value, and goes on when that was brought up from another's
/// files; what its table holds at the end.
fn read_across_an_install() -> BTreeMap<String, String> {
    let mut old = Rig::with(TestDisk::default(), compacted());
    put(&mut old, "k", Some("deleted later"));
    put(&mut old, "other", Some("1"));
    old.settle();
    let mut other = Rig::with(TestDisk::default(), compacted());
    put(&mut other, "k", Some("deleted later"));
    put(&mut other, "other", Some("1"));
    put(&mut other, "k", None);
    for pass in 0..3 {
        put(&mut other, "other", Some(&pass.to_string()));
        seal(&mut other);
        other.now.wall += 5_000;
        let i = input(&mut other);
        assert!(clean(&mut other, i).is_some());
        other.settle();
        relist(&mut other);
    }
    let mut to = installed(&other);
    let mut table = BTreeMap::new();
    let records = read(&mut old).0.into_iter().chain(read(&mut to).0.into_iter().filter(|r| r.offset >= 2));
    for record in records {
        let text = |b: bytes::Bytes| String::from_utf8(b.to_vec()).unwrap();
        let key = text(record.key.unwrap());
        match record.value {
            Some(value) => _ = table.insert(key, text(value)),
            None => _ = table.remove(&key),
        }
    }
    table
}

#[test]
fn a_deleted_key_does_not_live_again_on_a_follower_that_is_installed_across_its_tombstone() {
    assert_eq!(read_across_an_install().into_keys().collect::<Vec<_>>(), ["other"]);
    plant(Some(Bug::DeletedKeyRevived));
    let table = read_across_an_install();
    plant(None);
    assert!(table.contains_key("k"), "the planted bug is seen");
}
