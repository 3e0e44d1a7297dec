//! What requests cost in allocations, held against `tests/costs.txt`. The client's own are not counted.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]
#[allow(dead_code)]
#[path = "../shell/rig.rs"]
mod rig;

use rig::{Client, batch, fetch, produce, start};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use wire::{ApiKey, ResponseBody};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
/// One measurement at a time: the counters belong to the process.
static ALONE: Mutex<()> = Mutex::new(());

thread_local! {
    /// This thread plays a client.
    static CLIENT: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count(bytes: usize) {
    if !CLIENT.get() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it is; counting touches no memory of its own
// but atomics and a thread-local without a destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The limit of a name in `tests/costs.txt`.
fn limit(name: &str) -> f64 {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/costs.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("tests/costs.txt has no {name}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn judge(name: &str, cost: f64) {
    println!("{name}: {cost:.3}");
    assert!(cost <= limit(name), "{name} costs {cost:.3}, allowed are {}", limit(name));
}

const ROUNDS: u32 = 1_000;

/// Allocations and bytes of one call of `ask`, on average, once everything is warm.
fn cost(mut ask: impl FnMut()) -> (f64, f64) {
    (0..ROUNDS / 4).for_each(|_| ask());
    let read = || (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let before = read();
    (0..ROUNDS).for_each(|_| ask());
    let after = read();
    let each = |before: u64, after: u64| (after - before) as f64 / f64::from(ROUNDS);
    (each(before.0, after.0), each(before.1, after.1))
}

/// Runs `measure` against a broker without HTTP, on a thread whose allocations do not count.
fn measured(measure: impl FnOnce(&mut Client)) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let broker = start(dir.path(), |settings| settings.http = None);
    CLIENT.set(true);
    measure(&mut broker.client());
    CLIENT.set(false);
}

fn produced(client: &mut Client, value: &str) {
    let request = produce("t", -1, vec![(0, batch(&[value]))]);
    let ResponseBody::Produce(answer) = client.ask(ApiKey::Produce, 9, request) else { panic!() };
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn a_small_produce_allocates_no_more_than_it_did() {
    measured(|client| {
        client.create("t", 1);
        let (allocations, _) = cost(|| produced(client, "value"));
        judge("allocations-per-produce", allocations);
    });
}

#[test]
fn a_produced_byte_is_allocated_once() {
    measured(|client| {
        client.create("t", 1);
        let value = "x".repeat(128 << 10);
        let (_, bytes) = cost(|| produced(client, &value));
        judge("allocated-bytes-per-produced-byte", bytes / value.len() as f64);
    });
}

#[test]
fn a_small_fetch_allocates_no_more_than_it_did() {
    measured(|client| {
        let topic = client.create("t", 1);
        produced(client, "value");
        let (allocations, _) = cost(|| {
            let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 13, fetch(topic, &[(0, 0)], 0))
            else {
                panic!()
            };
            assert!(!answer.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
        });
        judge("allocations-per-fetch", allocations);
    });
}

#[test]
fn a_fetched_byte_at_the_tail_is_not_copied() {
    measured(|client| {
        let topic = client.create("t", 1);
        let value = "x".repeat(128 << 10);
        produced(client, &value);
        let (_, bytes) = cost(|| {
            let id = client.send(ApiKey::Fetch, 13, fetch(topic, &[(0, 0)], 0));
            assert!(client.receive(ApiKey::Fetch, 13, id) != ResponseBody::Fetch(Default::default()));
        });
        judge("allocated-bytes-per-fetched-byte", bytes / value.len() as f64);
    });
}
