//! Which open transactions hang: what partitions have open is held against what coordinators know.
use super::super::connect::advise;
use super::super::point::now_ms;
use client_lite::{ActiveProducer, Client, DescribedTransaction, Place, TxnFilter};
use model::ErrorCode;

/// Bytes of a transactional id that a begin mark keeps: one as long may be cut, and is looked for by its producer.
const NAME_BYTES: usize = 256;

/// A transaction that is open at a partition.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) place: Place,
    pub(super) producer: ActiveProducer,
}

impl Open {
    /// For how long, ms: since it began where the broker tells that, else since its producer last wrote.
    pub(super) fn age(&self, now: i64) -> Option<i64> {
        let since = self.producer.owner.as_ref().map_or(self.producer.last_timestamp, |owner| owner.began);
        (since >= 0).then(|| (now - since).max(0))
    }

    pub(super) fn transactional_id(&self) -> Option<&str> {
        self.producer.owner.as_ref().map(|owner| owner.transactional_id.as_str())
    }
}

/// What is open at a partition, by first offset.
pub(super) async fn open_at(
    client: &Client,
    place: &Place,
    broker: Option<i32>,
) -> anyhow::Result<Vec<Open>> {
    let producers = client.describe_producers(place, broker).await.map_err(advise)?;
    let open = producers.into_iter().filter(|p| p.open_since_offset >= 0);
    let mut open: Vec<Open> = open.map(|producer| Open { place: place.clone(), producer }).collect();
    open.sort_by_key(|open| open.producer.open_since_offset);
    Ok(open)
}

/// What is open at a partition for `older_than` ms and more, or for a time that is not known.
pub(super) async fn old_at(
    client: &Client,
    place: &Place,
    broker: Option<i32>,
    older_than: i64,
) -> anyhow::Result<Vec<Open>> {
    let now = now_ms();
    let mut open = open_at(client, place, broker).await?;
    open.retain(|open| open.age(now).is_none_or(|age| age >= older_than));
    Ok(open)
}

/// The coordinator's transaction, if it knows that this one is open, or ends, at its partition: then it does not hang.
pub(super) async fn known_to_coordinator(
    client: &Client,
    open: &Open,
) -> anyhow::Result<Option<DescribedTransaction>> {
    let ids = match open.transactional_id().filter(|id| !id.is_empty() && id.len() + 4 < NAME_BYTES) {
        Some(id) => vec![id.to_owned()],
        None => {
            let producer_ids = vec![open.producer.producer_id];
            let filter = TxnFilter { producer_ids, ..TxnFilter::default() };
            let listed = client.list_transactions(&filter).await.map_err(advise)?;
            listed.into_iter().map(|txn| txn.transactional_id).collect()
        }
    };
    for id in ids {
        match client.describe_transaction(&id).await {
            Ok(txn) => {
                let same = txn.producer_id == open.producer.producer_id;
                if same && txn.is_open() && txn.partitions.contains(&open.place) {
                    return Ok(Some(txn));
                }
            }
            Err(error) if error.code() == Some(ErrorCode::TransactionalIdNotFound) => {}
            Err(error) => return Err(advise(error)),
        }
    }
    Ok(None)
}

/// Whether a transaction hangs: its coordinator knows nothing of it, and it was open all the while that was asked.
pub(super) async fn hangs(client: &Client, open: &Open, broker: Option<i32>) -> anyhow::Result<bool> {
    if known_to_coordinator(client, open).await?.is_some() {
        return Ok(false);
    }
    // It may have ended in between.
    let now = open_at(client, &open.place, broker).await?;
    Ok(now.iter().any(|other| {
        other.producer.producer_id == open.producer.producer_id
            && other.producer.open_since_offset == open.producer.open_since_offset
    }))
}
