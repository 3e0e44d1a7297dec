//! Starting twice, stopping in good order.
use crate::server::{PATIENCE, Server, command, wait_for};
use crate::wire_client::value_batch;
use client_lite::{Client, ClientOptions, FetchFrom, FetchOptions, IdempotentProducer};
use records::{BatchBuilder, NewRecord};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
#[ignore = "needs a broker"]
fn a_second_process_is_told_who_holds_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = Server::start(&data, &[]);
    let mut client = first.client();
    client.create("kept", 1, &[]);
    let log = dir.path().join("second.log");
    let status = command(&data, &log, &[]).status().unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
    let said = std::fs::read_to_string(&log).unwrap();
    let holder = format!("is in use by process {}", first.pid());
    assert!(said.contains(&holder) && said.contains(data.to_str().unwrap()), "{said}");
    assert_eq!(client.produce("kept", 0, value_batch(b"undisturbed")).unwrap().code, 0);
    drop(first);
    Server::start(&data, &[]);
}

#[test]
#[ignore = "needs a broker"]
fn a_stop_answers_what_it_took_and_ends_soon() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"), &[]);
    let mut idle: Vec<_> = (0..20).map(|_| server.client()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.metadata().0, 1));
    let topic = idle[0].create("kept", 1, &[]);
    let mut waiting = server.client();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // A consumer at the end of the log waits as long as it can.
        let fetched = scope.spawn(move || waiting.fetch_waiting(topic, 0, 0, 60_000));
        let connections = "plimsoll_connections{listener=\"PLAINTEXT\"}";
        wait_for("the fetch to wait", || (server.metric(connections) > 20).then_some(()));
        server.ask_to_stop();
        let status = server.ended();
        assert!(status.success(), "{status}");
        drop(fetched.join().unwrap());
    });
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(server.log().lines().last().unwrap().contains("stopped"), "{}", server.log());
}

#[test]
#[ignore = "needs a broker"]
fn a_broker_whose_data_directory_is_removed_acknowledges_no_more_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &[]);
    let mut client = server.client();
    client.create("kept", 1, &[]);
    assert_eq!(client.produce("kept", 0, value_batch(b"held")).unwrap().code, 0);
    // The pool that is being filled may put a file into what is being removed.
    wait_for("the directory to go", || {
        let _ = std::fs::remove_dir_all(&data);
        (!data.exists()).then_some(())
    });
    let status = server.ended();
    assert_eq!(status.code(), Some(1), "{status}");
    let log = server.log();
    assert!(log.contains("was removed or moved under the running broker"), "{log}");
    assert!(log.contains("nothing is acknowledged any more"), "{log}");
}

const PRODUCERS: i32 = 4;

#[derive(Default)]
struct Seen {
    acked: RefCell<Vec<Vec<u64>>>,
    consumed: RefCell<Vec<Vec<u64>>>,
    stop: Cell<bool>,
    /// Producers that have ended.
    ended: Cell<i32>,
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

async fn connected(address: &str) -> Arc<Client> {
    loop {
        if let Ok(client) = Client::connect(address, ClientOptions::default()).await {
            return Arc::new(client);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends numbers to a partition of its own, each until it is acknowledged.
async fn produce(address: String, partition: i32, seen: Rc<Seen>) {
    let client = connected(&address).await;
    let mut producer = IdempotentProducer::start(client).await.unwrap();
    for next in 0u64.. {
        let mut batch = BatchBuilder::new();
        batch.push(NewRecord::new(-1, None, Some(&next.to_be_bytes())));
        while let Err(error) = producer.send("kept", partition, batch.clone()).await {
            assert!(error.is_retriable(), "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        seen.acked.borrow_mut()[partition as usize].push(next);
        if seen.stop.get() {
            return seen.ended.set(seen.ended.get() + 1);
        }
    }
}

/// Reads on, whatever happens to its connection, until it has what was acknowledged.
async fn consume(address: String, partition: i32, seen: Rc<Seen>) {
    let client = connected(&address).await;
    let mut offset = 0;
    loop {
        let acked = seen.acked.borrow()[partition as usize].len();
        if seen.ended.get() == PRODUCERS && seen.consumed.borrow()[partition as usize].len() >= acked {
            return;
        }
        let from = FetchFrom { topic: "kept".to_owned(), partition, offset };
        match client.fetch(&[from], &FetchOptions::default()).await {
            Ok(fetched) => {
                let Some(answer) = fetched.first() else { continue };
                answer.check().unwrap();
                let (records, next) = answer.decode().unwrap();
                let numbers = records.iter().map(|record| number(record.value.as_deref().unwrap()));
                seen.consumed.borrow_mut()[partition as usize].extend(numbers);
                offset = next;
            }
            Err(error) => {
                assert!(error.is_retriable(), "{error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Stops and starts the broker three times while the clients go on.
async fn restart(mut server: Server, data: &std::path::Path, sets: &[&str], seen: &Seen) -> Server {
    let total = || seen.acked.borrow().iter().map(Vec::len).sum::<usize>();
    for _ in 0..3 {
        let before = total();
        while total() < before + 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.ask_to_stop();
        let ended = tokio::task::spawn_blocking(move || (server.ended(), server));
        let (status, stopped) = ended.await.unwrap();
        assert!(status.success(), "{status}\n{}", stopped.log());
        server = Server::start(data, sets);
    }
    server
}

#[test]
#[ignore = "needs a broker"]
fn clients_see_a_restart_as_no_more_than_a_reconnect() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    server.client().create("kept", PRODUCERS, &[]);
    let address = server.kafka.to_string();
    let listeners = format!("listeners=PLAINTEXT://{address}");
    let seen = Rc::new(Seen::default());
    seen.acked.borrow_mut().resize(PRODUCERS as usize, Vec::new());
    seen.consumed.borrow_mut().resize(PRODUCERS as usize, Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    for partition in 0..PRODUCERS {
        tasks.spawn_local(produce(address.clone(), partition, seen.clone()));
        tasks.spawn_local(consume(address.clone(), partition, seen.clone()));
    }
    let server = tasks.block_on(&runtime, restart(server, &data, &[&listeners], &seen));
    seen.stop.set(true);
    runtime.block_on(async { tokio::time::timeout(PATIENCE, tasks).await }).unwrap();
    for (acked, consumed) in seen.acked.borrow().iter().zip(seen.consumed.borrow().iter()) {
        assert!(acked.len() > 50, "{}", acked.len());
        assert!(consumed.iter().copied().eq(0..consumed.len() as u64), "lost, doubled or out of order");
        assert!(consumed.len() >= acked.len());
    }
    assert!(!server.log().contains("panicked"));
}
