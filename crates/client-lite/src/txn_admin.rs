//! Looking at transactions and ending those that hang (KIP-664, KIP-994, KIP-1152).
use crate::client::{Client, Retry};
use crate::error::{ClientError, check};
use crate::offsets::Place;
use crate::txn::TXN_COORDINATOR;
use model::ErrorCode;
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::describe_producers_request::TopicRequest;
use wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use wire::{
    ApiKey, DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest, Str,
    WriteTxnMarkersRequest,
};

/// First versions of ListTransactions that know these filters.
const DURATION_FROM: i16 = 1;
const PATTERN_FROM: i16 = 2;

/// Which transactions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnFilter {
    /// Kafka's names of states; empty for all.
    pub states: Vec<String>,
    /// Producer ids; empty for all.
    pub producer_ids: Vec<i64>,
    /// Open for longer than so many milliseconds.
    pub running_longer_than_ms: Option<i64>,
    /// A regular expression for the whole transactional id.
    pub pattern: Option<String>,
}

/// A transactional id as its coordinator lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub transactional_id: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// The producer's id.
    pub producer_id: i64,
    /// Kafka's name of the state.
    pub state: String,
}

/// A transactional id as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedTransaction {
    /// The transactional id.
    pub transactional_id: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// Kafka's name of the state.
    pub state: String,
    /// The producer's id.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// `transaction.timeout.ms` of the client.
    pub timeout_ms: i32,
    /// When the transaction began, ms since 1970; -1 where none did.
    pub started: i64,
    /// The partitions of the open transaction, those without a marker of one that ends.
    pub partitions: Vec<Place>,
}

impl DescribedTransaction {
    /// Whether it is open or ending.
    pub fn is_open(&self) -> bool {
        ["Ongoing", "PrepareCommit", "PrepareAbort"].contains(&self.state.as_str())
    }
}

/// A producer of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i32,
    /// The sequence of its last record, or -1.
    pub last_sequence: i32,
    /// The timestamp of its last batch, or -1.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that wrote its last marker, or -1.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, or -1.
    pub open_since_offset: i64,
    /// Whose transaction that is, as far as a Plimsoll broker tells.
    pub owner: Option<TxnOwner>,
}

/// Who opened a transaction, as the begin mark in a Plimsoll partition's log has it.
///
/// Kafka has no field for it. A successful DescribeProducers answer has no use for its error text, so a Plimsoll broker
/// puts the owners there for clients that call themselves `plimsoll`: a line for each open transaction, PRODUCER ID, BEGAN
/// (ms since 1970), TRANSACTIONAL ID, PRINCIPAL and CLIENT ID with tabs between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnOwner {
    /// When the transaction began at this partition, ms since 1970, by its leader's clock.
    pub began: i64,
    /// Its transactional id, the first 256 bytes of it.
    pub transactional_id: String,
    /// Who authenticated.
    pub principal: String,
    /// As the client called itself.
    pub client_id: String,
}

fn owners(text: &str) -> BTreeMap<i64, TxnOwner> {
    let owner = |line: &str| {
        let mut words = line.split('\t');
        let producer_id = words.next()?.parse().ok()?;
        let owner = TxnOwner {
            began: words.next()?.parse().ok()?,
            transactional_id: words.next()?.to_owned(),
            principal: words.next()?.to_owned(),
            client_id: words.next()?.to_owned(),
        };
        Some((producer_id, owner))
    };
    text.lines().filter_map(owner).collect()
}

/// What ends a transaction at one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortMarker {
    /// The producer's id.
    pub producer_id: i64,
    /// The epoch of its transaction.
    pub producer_epoch: i16,
    /// The marker's coordinator epoch: not below that of the producer's last marker.
    pub coordinator_epoch: i32,
}

impl Client {
    /// The transactional ids of all brokers that pass `filter`, by id. Errors: a state that nobody knows; a filter that a
    /// broker is too old for.
    pub async fn list_transactions(&self, filter: &TxnFilter) -> Result<Vec<ListedTransaction>, ClientError> {
        let mut found = Vec::new();
        for broker in &self.refresh(&[]).await?.brokers {
            let mut retry = Retry::new(&self.options);
            loop {
                match self.list_transactions_of(broker.id, filter).await {
                    Ok(rows) => {
                        found.extend(rows);
                        break;
                    }
                    Err(error) => retry.after(error).await?,
                }
            }
        }
        found.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Ok(found)
    }

    async fn list_transactions_of(
        &self,
        broker: i32,
        filter: &TxnFilter,
    ) -> Result<Vec<ListedTransaction>, ClientError> {
        let conn = self.node(broker).await?;
        let version = conn.version(ApiKey::ListTransactions)?;
        let wanted = match filter {
            TxnFilter { pattern: Some(_), .. } => PATTERN_FROM,
            TxnFilter { running_longer_than_ms: Some(_), .. } => DURATION_FROM,
            _ => 0,
        };
        let what = || format!("transactions of broker {broker}");
        if version < wanted {
            // Without its filter the answer would be another one than was asked for.
            let why = "it is too old for a filter by duration or by pattern".to_owned();
            return Err(ClientError::broker(what(), ErrorCode::UnsupportedVersion.code(), Some(why)));
        }
        let request = ListTransactionsRequest {
            state_filters: filter.states.iter().map(Str::from).collect(),
            producer_id_filters: filter.producer_ids.clone(),
            duration_filter: filter.running_longer_than_ms.unwrap_or(-1),
            transactional_id_pattern: filter.pattern.as_ref().map(Str::from),
        };
        let answer = conn.request_at(request, version).await?;
        check(what, answer.error_code, None)?;
        if let Some(unknown) = answer.unknown_state_filters.first() {
            return Err(ClientError::Missing { what: format!("transaction state {unknown}") });
        }
        let row = |row: wire::list_transactions_response::TransactionState| ListedTransaction {
            transactional_id: row.transactional_id.to_string(),
            coordinator: broker,
            producer_id: row.producer_id,
            state: row.transaction_state.to_string(),
        };
        Ok(answer.transaction_states.into_iter().map(row).collect())
    }

    /// One transactional id. Errors: TRANSACTIONAL_ID_NOT_FOUND for one that its coordinator does not know.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<DescribedTransaction, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            match self.describe_transaction_once(transactional_id).await {
                Ok(described) => return Ok(described),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    async fn describe_transaction_once(
        &self,
        transactional_id: &str,
    ) -> Result<DescribedTransaction, ClientError> {
        let coordinator = self.find_coordinator_once(TXN_COORDINATOR, transactional_id).await?;
        let conn = self.named(coordinator).await?;
        let request = DescribeTransactionsRequest { transactional_ids: vec![Str::from(transactional_id)] };
        let answer = conn.request(request).await?;
        let what = || format!("transactional id {transactional_id}");
        let row = answer.transaction_states.into_iter().next();
        let row = row.ok_or_else(|| ClientError::Missing { what: what() })?;
        check(what, row.error_code, None)?;
        let partitions = row.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(move |partition| (topic.topic.to_string(), *partition))
        });
        Ok(DescribedTransaction {
            transactional_id: transactional_id.to_owned(),
            coordinator,
            state: row.transaction_state.to_string(),
            producer_id: row.producer_id,
            producer_epoch: row.producer_epoch,
            timeout_ms: row.transaction_timeout_ms,
            started: row.transaction_start_time_ms,
            partitions: partitions.collect(),
        })
    }

    /// The producers that a partition remembers, as its leader knows them, or the replica on `broker`.
    pub async fn describe_producers(
        &self,
        place: &Place,
        broker: Option<i32>,
    ) -> Result<Vec<ActiveProducer>, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            match self.describe_producers_once(place, broker).await {
                Ok(producers) => return Ok(producers),
                Err(error) => {
                    self.forget_topic(&place.0);
                    retry.after(error).await?;
                }
            }
        }
    }

    async fn describe_producers_once(
        &self,
        (topic, partition): &Place,
        broker: Option<i32>,
    ) -> Result<Vec<ActiveProducer>, ClientError> {
        let conn = match broker {
            Some(broker) => self.node(broker).await?,
            None => self.leader(topic, *partition).await?.0,
        };
        let row = TopicRequest { name: Str::from(topic), partition_indexes: vec![*partition] };
        let answer = conn.request(DescribeProducersRequest { topics: vec![row] }).await?;
        let what = || format!("producers of {topic}-{partition}");
        let row = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let row = row.ok_or_else(|| ClientError::Missing { what: what() })?;
        check(what, row.error_code, row.error_message.as_deref())?;
        let mut owners = owners(row.error_message.as_deref().unwrap_or_default());
        let producer = |p: wire::describe_producers_response::ProducerState| ActiveProducer {
            producer_id: p.producer_id,
            epoch: p.producer_epoch,
            last_sequence: p.last_sequence,
            last_timestamp: p.last_timestamp,
            coordinator_epoch: p.coordinator_epoch,
            open_since_offset: p.current_txn_start_offset,
            owner: owners.remove(&p.producer_id),
        };
        Ok(row.active_producers.into_iter().map(producer).collect())
    }

    /// Ends an open transaction at one partition by an abort marker, past its coordinator.
    pub async fn abort_transaction(&self, place: &Place, marker: AbortMarker) -> Result<(), ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            match self.abort_transaction_once(place, marker).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.forget_topic(&place.0);
                    retry.after(error).await?;
                }
            }
        }
    }

    async fn abort_transaction_once(
        &self,
        (topic, partition): &Place,
        marker: AbortMarker,
    ) -> Result<(), ClientError> {
        let conn: Arc<crate::Conn> = self.leader(topic, *partition).await?.0;
        let row = WritableTxnMarkerTopic { name: Str::from(topic), partition_indexes: vec![*partition] };
        let row = WritableTxnMarker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            transaction_result: false,
            topics: vec![row],
            coordinator_epoch: marker.coordinator_epoch,
            // The rules of before KIP-890: the marker has the epoch of the records.
            transaction_version: 0,
        };
        let answer = conn.request(WriteTxnMarkersRequest { markers: vec![row] }).await?;
        let what =
            || format!("abort the transaction of producer {} at {topic}-{partition}", marker.producer_id);
        let rows = answer.markers.iter().flat_map(|marker| &marker.topics).flat_map(|t| &t.partitions);
        let row = rows.into_iter().next().ok_or_else(|| ClientError::Missing { what: what() })?;
        check(what, row.error_code, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_and_other_text_is_left_out() {
        let text =
            "7\t1700\tpay ments\tUser:alice\tapp-1\n\nAll is well.\n9\t-\tx\ty\tz\n8\t1800\tt\tUser:b\t\n";
        let found = owners(text);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [7, 8]);
        assert_eq!((found[&7].began, found[&7].transactional_id.as_str()), (1700, "pay ments"));
        assert_eq!((found[&8].principal.as_str(), found[&8].client_id.as_str()), ("User:b", ""));
    }
}
