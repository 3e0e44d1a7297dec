//! Every anomaly has a history in `fixtures/` that shows it and nothing else.
#![allow(clippy::unwrap_used)]
use jepsen::checker::{Kind, check};
use jepsen::history::{Builder, History, Line, Type};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::time::Instant;

fn read(name: &str) -> History {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    History::read(BufReader::new(File::open(path).unwrap())).unwrap()
}

#[test]
fn each_anomaly_is_caught_by_name_and_nothing_else_with_it() {
    for kind in Kind::ALL {
        let found = check(&read(&format!("{kind}.jsonl")));
        // Two acknowledgements of one offset also mean that this offset has two values.
        let expected = match kind {
            Kind::OffsetAckedTwice => vec![Kind::InconsistentOffsets, kind],
            kind => vec![kind],
        };
        assert_eq!(found.kinds(), expected, "{kind}: {:#?}", found.findings);
    }
}

#[test]
fn histories_that_are_allowed_are_clean() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut judged = 0;
    for entry in fs::read_dir(fixtures).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("clean-") {
            let found = check(&read(&name));
            assert!(found.is_clean(), "{name}: {:#?}", found.findings);
            judged += 1;
        }
    }
    assert!(judged > 0);
}

/// A history of `sends` values in four keys, each acknowledged and read twice.
fn long(sends: u64) -> History {
    let mut builder = Builder::default();
    let mut time = 0;
    for n in 0..sends {
        let (key, offset, process) = ((n % 4) as u32, (n / 4) as i64, (n % 7) as u32);
        time += 2;
        let send =
            |time, kind, offset| Line::Send { time, process, kind, key, value: n, offset, error: None };
        builder.push(send(time, Type::Invoke, None)).unwrap();
        builder.push(send(time + 1, Type::Ok, Some(offset))).unwrap();
        for process in [100 + key, 200 + key] {
            let records = vec![(key, offset, n)];
            builder.push(Line::Poll { start: time, time: time + 1, process, records }).unwrap();
        }
    }
    builder.finish()
}

#[test]
fn a_million_sends_are_judged_in_seconds_and_one_loss_among_them_is_found() {
    let mut history = long(1_000_000);
    let begun = Instant::now();
    assert!(check(&history).is_clean());
    // Debug builds of a loaded machine take a few seconds; what grows with the square would take hours.
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
    for poll in &mut history.polls {
        poll.records.retain(|(_, _, value)| *value != 500_000);
    }
    let found = check(&history);
    assert_eq!(found.findings[&Kind::LostWrite].count, 1);
}
