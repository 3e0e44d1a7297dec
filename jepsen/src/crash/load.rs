//! Idempotent producers and a committing consumer, which go on whatever happens to the broker.
use crate::history::{Acked, Shared, value};
use anyhow::Result;
use client_lite::{Client, ClientOptions, Committer, IdempotentProducer, Place};
use records::{BatchBuilder, NewRecord};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const TOPIC: &str = "crash";
pub(crate) const GROUP: &str = "crash-group";
pub(crate) const PARTITIONS: i32 = 6;
const MAX_RECORDS: u64 = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Set when the load is to end.
pub(crate) type Stop = Rc<Cell<bool>>;

pub(crate) async fn connect(address: &str, stop: &Stop) -> Option<Arc<Client>> {
    while !stop.get() {
        if let Ok(client) = Client::connect(address, ClientOptions::default()).await {
            return Some(Arc::new(client));
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

fn batch(producer: u32, first: u64, count: u64) -> BatchBuilder {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map(|d| d.as_millis() as i64).unwrap_or_default();
    let mut builder = BatchBuilder::new();
    for number in first..first + count {
        builder.push(NewRecord::new(now, None, Some(value(producer, number).as_bytes())));
    }
    builder
}

/// Sends batches one after the other to one partition; a batch is sent again until it is acknowledged.
pub(crate) async fn produce(address: String, producer: u32, history: Shared, stop: Stop) -> Result<()> {
    let Some(client) = connect(&address, &stop).await else { return Ok(()) };
    let partition = producer as i32 % PARTITIONS;
    let mut sender = loop {
        match IdempotentProducer::start(client.clone()).await {
            Ok(sender) => break sender,
            Err(_) if stop.get() => return Ok(()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    let mut first = 0;
    while !stop.get() {
        let count = 1 + (first * 7 + u64::from(producer)) % MAX_RECORDS;
        match sender.send(TOPIC, partition, batch(producer, first, count)).await {
            Ok(produced) => {
                let base_offset = produced.base_offset;
                history.borrow_mut().acked.push(Acked { producer, partition, base_offset, first, count });
                first += count;
            }
            Err(error) if error.is_retriable() => {
                history.borrow_mut().retries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                let text = format!("producer {producer} got a fatal error: {error}");
                history.borrow_mut().violations.push(text);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Commits ever higher offsets and reads them back: they never go below what was acknowledged.
pub(crate) async fn commit(address: String, history: Shared, stop: Stop) -> Result<()> {
    let Some(client) = connect(&address, &stop).await else { return Ok(()) };
    let mut next = 1;
    while !stop.get() {
        let offsets: BTreeMap<Place, i64> = (0..PARTITIONS).map(|p| ((TOPIC.to_owned(), p), next)).collect();
        if client.commit(GROUP, Committer::NOBODY, &offsets).await.is_ok() {
            let mut history = history.borrow_mut();
            for partition in 0..PARTITIONS {
                history.committed.insert(partition, next);
            }
            next += 1;
        } else {
            history.borrow_mut().retries += 1;
        }
        check_committed(&client, &history).await;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Reads the committed offsets once; a violation where one is below what was acknowledged.
pub(crate) async fn check_committed(client: &Client, history: &Shared) -> bool {
    let expected = history.borrow().committed.clone();
    let Ok(found) = client.committed(GROUP, None).await else { return false };
    let mut history = history.borrow_mut();
    for (partition, offset) in expected {
        let seen = found.get(&(TOPIC.to_owned(), partition)).map_or(-1, |c| c.offset);
        if seen < offset {
            let text = format!("committed offset of partition {partition} went back from {offset} to {seen}");
            history.violations.push(text);
        }
    }
    true
}
