//! Every anomaly has a history in `fixtures/` that shows it and nothing else.
#![allow(clippy::unwrap_used)]
use jepsen::checker::{Kind, check, spared};
use jepsen::history::{Builder, History, Line, Type};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::time::{Duration, Instant};

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

/// Histories that show an anomaly in another way than the one that has its name.
#[test]
fn anomalies_of_transactions_are_caught_in_whatever_shape_they_come() {
    let shapes = [
        ("aborted-read-txn", Kind::AbortedRead),
        ("aborted-read-open", Kind::AbortedRead),
        ("precommitted-read-own", Kind::PrecommittedRead),
        ("torn-transaction-unknown", Kind::TornTransaction),
        ("committed-offset-regressed-txn", Kind::CommittedOffsetRegressed),
    ];
    for (name, kind) in shapes {
        let found = check(&read(&format!("{name}.jsonl")));
        assert_eq!(found.kinds(), [kind], "{name}: {:#?}", found.findings);
    }
}

#[test]
fn what_kafka_allows_between_transactions_is_counted_and_no_anomaly() {
    let figures = check(&read("clean-transactions.jsonl")).figures;
    assert_eq!((figures.write_cycles, figures.mixed_cycles), (1, 1));
    assert_eq!((figures.committed, figures.aborted, figures.unknown), (3, 2, 0));
    let figures = check(&read("clean-money.jsonl")).figures;
    assert_eq!((figures.money_paid_in, figures.money, figures.consuming), (2, 2, 2));
}

#[test]
fn a_value_of_a_transaction_that_stands_twice_is_never_a_renumbered_one() {
    let mut history = read("duplicate.jsonl");
    let twice = history.sends[0].value;
    let places: Vec<i64> =
        history.polls.iter().flat_map(|poll| &poll.records).filter(|r| r.2 == twice).map(|r| r.1).collect();
    let second = places.iter().copied().max().unwrap();
    history.rest.push(Line::Renumbered { key: 0, offset: second, count: 1, producer: 7, epoch: 1 });
    let of_none = check(&history);
    assert!(!of_none.findings.contains_key(&Kind::Duplicate), "{:#?}", of_none.findings);
    history.sends[0].txn = Some(1);
    let txn = jepsen::history::Txn {
        process: 1,
        start: 0,
        asked: Some(1),
        outcome: jepsen::history::Outcome::Ok(None),
    };
    history.txns.insert(1, txn);
    assert!(check(&history).findings.contains_key(&Kind::Duplicate));
}

#[test]
fn a_record_that_stands_twice_in_one_epoch_of_its_producer_is_no_renumbered_one() {
    let clean = read("clean-renumbered.jsonl");
    assert_eq!(check(&clean).figures.renumbered, 1);
    let with = |offset, count, epoch| {
        let mut history = clean.clone();
        history.rest = vec![Line::Renumbered { key: 0, offset, count, producer: 7, epoch }];
        check(&history).kinds()
    };
    assert_eq!(with(0, 2, 1), [Kind::Duplicate], "both in epoch 1");
    assert_eq!(with(2, 1, 1), [Kind::Duplicate], "another record");
    assert_eq!(with(0, 1, 1), [Kind::Duplicate], "the first one only");
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
        let send = |time, kind, offset| Line::Send {
            time,
            process,
            kind,
            key,
            value: n,
            offset,
            error: None,
            txn: None,
            from: None,
        };
        builder.push(send(time, Type::Invoke, None)).unwrap();
        builder.push(send(time + 1, Type::Ok, Some(offset))).unwrap();
        for process in [100 + key, 200 + key] {
            let records = vec![(key, offset, n)];
            builder.push(Line::Poll { start: time, time: time + 1, process, records, txn: None }).unwrap();
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

/// Value 1 was acknowledged `before` the power of all was lost; what stands at its offset afterwards is value 2.
fn taken(before: u64) -> History {
    let mut builder = Builder::default();
    let send = |time, kind, value, offset| Line::Send {
        time,
        process: value as u32,
        kind,
        key: 0,
        value,
        offset,
        error: None,
        txn: None,
        from: None,
    };
    let cut = 100_000_000_000;
    let acked = cut - before;
    let mut lines = vec![send(acked - 1, Type::Invoke, 1, None), send(acked, Type::Ok, 1, Some(0))];
    lines.push(Line::Fault { time: cut, what: "power-all".to_owned(), begins: true });
    lines.extend([send(cut + 5, Type::Invoke, 2, None), send(cut + 6, Type::Ok, 2, Some(0))]);
    lines.push(Line::Poll { start: cut + 7, time: cut + 8, process: 9, records: vec![(0, 0, 2)], txn: None });
    lines.into_iter().for_each(|line| builder.push(line).unwrap());
    builder.finish()
}

#[test]
fn a_loss_of_all_power_may_take_what_was_not_flushed_yet_and_nothing_older() {
    let window = Duration::from_secs(40);
    let (recent, kept) = spared(taken(39_000_000_000), window);
    assert_eq!((check(&recent).kinds(), kept), (vec![], 0));
    let (old, kept) = spared(taken(41_000_000_000), window);
    assert_eq!(kept, 1);
    assert!(check(&old).kinds().contains(&Kind::InconsistentOffsets), "{:?}", check(&old).kinds());
    assert!(!check(&taken(39_000_000_000)).is_clean(), "without the window it is a loss");
}
