//! Replays the committed corpora on the stable toolchain, each input as it is, cut short and with bytes changed.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::PathBuf;

/// Changed copies of each input.
const CHANGED: u64 = 200;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus-seed").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let named = |path: PathBuf| (path.display().to_string(), fs::read(&path).unwrap());
    files.into_iter().map(named).collect()
}

/// A step of xorshift: the same changes in every run.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

fn change(bytes: &mut Vec<u8>, state: &mut u64) {
    const TELLING: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, 0x10, 0x40];
    for _ in 0..=next(state) % 3 {
        if bytes.is_empty() {
            return;
        }
        let at = next(state) % bytes.len();
        match next(state) % 5 {
            0 => bytes[at] ^= 1 << (next(state) % 8),
            1 => bytes[at] = TELLING[next(state) % TELLING.len()],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, TELLING[next(state) % TELLING.len()]),
            _ => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill(TELLING[next(state) % TELLING.len()]);
            }
        }
    }
}

#[test]
fn every_target_holds_for_its_corpus_and_for_what_is_near_it() {
    for (name, target) in fuzz_targets::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        target(&[]);
        for (path, input) in inputs {
            let run = |bytes: &[u8]| {
                let outcome = std::panic::catch_unwind(|| target(bytes));
                assert!(outcome.is_ok(), "{name} fails near {path} on {bytes:02x?}");
            };
            run(&input);
            let mut state = 0x9e37_79b9_7f4a_7c15;
            for _ in 0..CHANGED {
                let mut changed = input.clone();
                change(&mut changed, &mut state);
                run(&changed);
            }
        }
    }
}

#[test]
fn every_target_has_a_program_and_is_listed_in_the_manifest() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    for (name, _) in fuzz_targets::TARGETS {
        assert!(dir.join("fuzz_targets").join(format!("{name}.rs")).exists(), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), fuzz_targets::TARGETS.len());
}
