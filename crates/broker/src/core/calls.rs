//! One function a call of the node, typed as the handlers want it.
use super::{Call, Core, FetchInput, Isolation, Reply};
use crate::handlers::fetch::Planned;
use bytes::BytesMut;
use coordinator::txn::{DescribedTxn, ListFilter, ListedTxn};
use coordinator::{DescribedConsumerGroup, DescribedGroup, InTransaction, ListRequest, ListedGroup};
use model::{ErrorCode, GroupKey, NodeId, Now};
use node::{
    AdminReply, AdminRequest, FetchResult, GroupRequest, Node, PartitionInfo, ReplicaTrouble, TxnRequest,
};
use partition::{FetchOk, ListOffsetAsk, ListOffsetOutcome, Marker, ProducerInfo};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long whoever asks for a marker waits for it.
const MARKER_PATIENCE: Duration = Duration::from_secs(30);

/// What a fetch may read of one partition.
pub(crate) type FetchPlan = FetchOk;
/// An offset found by ListOffsets.
pub(crate) type Offset = ListOffsetOutcome;

/// A client's address as Java prints it.
pub(crate) fn java_host(peer: IpAddr) -> String {
    format!("/{peer}")
}

impl Core {
    /// Appends record sets; answer n is that of append n. `of`: their transaction.
    pub(crate) fn produce(
        self: &Rc<Self>,
        appends: Vec<(GroupKey, BytesMut)>,
        acks: i16,
        of: Option<&InTransaction>,
    ) -> Call {
        let call = self.call(appends.len());
        self.with_node(|node, now| {
            for (item, (key, records)) in appends.into_iter().enumerate() {
                let token = call.token(item);
                match of {
                    None => node.produce(now, token, key, records, acks),
                    Some(of) => {
                        // Whose it is, is in the batch.
                        let of = of.clone();
                        node.produce_in_transaction(now, token, key, records, acks, of);
                    }
                }
            }
        });
        call
    }

    /// Plans the read of one partition.
    pub(crate) fn plan_fetch(node: &mut Node, now: Now, key: GroupKey, input: &FetchInput) -> Planned {
        match node.fetch(now, key, input) {
            FetchResult::Ok(plan) => Planned::Read(plan),
            FetchResult::Err(error) => Planned::Failed(error),
            FetchResult::NotReady => Planned::Opening,
        }
    }

    /// Resolves when one of `keys` moves.
    pub(crate) fn watch(self: &Rc<Self>, keys: &[GroupKey]) -> Call {
        let mut call = self.call(1);
        if !call.is_nobodys() {
            call.watching = true;
            let token = call.token(0);
            self.with_node_if(|node, _| (node.watch(token, keys), false));
        }
        call
    }

    /// Asks for offsets; answer n is that of ask n.
    pub(crate) fn list_offsets(self: &Rc<Self>, asks: &[(GroupKey, ListOffsetAsk)]) -> Call {
        let call = self.call(asks.len());
        self.with_node(|node, now| {
            for (item, (key, ask)) in asks.iter().enumerate() {
                node.list_offset(now, call.token(item), *key, *ask);
            }
        });
        call
    }

    /// Asks where epochs end: (key, current leader epoch, epoch).
    pub(crate) fn epoch_ends(self: &Rc<Self>, asks: &[(GroupKey, i32, i32)]) -> Call {
        let call = self.call(asks.len());
        self.with_node(|node, now| {
            for (item, (key, current, epoch)) in asks.iter().enumerate() {
                node.epoch_end(now, call.token(item), *key, *current, *epoch);
            }
        });
        call
    }

    /// Has leaders hand over: (partition, the node that is to lead).
    pub(crate) fn hand_over(&self, moves: &[(GroupKey, NodeId)]) {
        self.with_node(|node, now| moves.iter().for_each(|(key, to)| node.ask_hand_over(now, *key, *to)));
    }

    /// Moves log starts.
    pub(crate) fn delete_records(self: &Rc<Self>, moves: &[(GroupKey, i64)]) -> Call {
        let call = self.call(moves.len());
        self.with_node(|node, now| {
            for (item, (key, offset)) in moves.iter().enumerate() {
                node.delete_records(now, call.token(item), *key, *offset);
            }
        });
        call
    }

    /// A producer id.
    pub(crate) async fn init_producer_id(self: &Rc<Self>) -> Option<Reply> {
        let call = self.call(1);
        self.with_node(|node, now| node.init_producer_id(now, call.token(0)));
        call.one().await
    }

    /// Changes the metadata; REQUEST_TIMED_OUT when it takes longer than `patience`, though it may
    /// still happen.
    pub(crate) async fn admin(
        self: &Rc<Self>,
        request: AdminRequest,
        patience: Duration,
    ) -> Result<AdminReply, ErrorCode> {
        let call = self.call(1);
        self.with_node(|node, now| node.admin(now, call.token(0), request));
        match call.one_within(patience).await {
            Some(Reply::Admin(AdminReply::Refused(code))) => Err(code),
            Some(Reply::Admin(reply)) => Ok(reply),
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::RequestTimedOut),
        }
    }

    /// Asks a group's coordinator and waits for its answer.
    pub(crate) async fn group(
        self: &Rc<Self>,
        group: &str,
        request: GroupRequest,
    ) -> Result<coordinator::Reply, ErrorCode> {
        match self.ask_group(group, request).await {
            Some(Reply::Group(reply)) => Ok(reply),
            Some(Reply::GroupRefused(code)) => Err(code),
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// `None`: too many requests wait; nothing was done.
    async fn ask_group(self: &Rc<Self>, group: &str, request: GroupRequest) -> Option<Reply> {
        let call = self.call(1);
        if call.is_nobodys() {
            return None;
        }
        self.with_node(|node, now| node.group(now, call.token(0), group, request));
        call.one().await
    }

    /// Asks the coordinator of a transactional id and waits for its answer.
    pub(crate) async fn transaction(
        self: &Rc<Self>,
        id: &str,
        request: TxnRequest,
    ) -> Result<coordinator::txn::Reply, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        match self.ask_transaction(id, request).await {
            Some(Reply::Transaction(reply)) => Ok(reply),
            Some(Reply::TransactionRefused(code)) => Err(code),
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// `None`: too many requests wait; nothing was done.
    async fn ask_transaction(self: &Rc<Self>, id: &str, request: TxnRequest) -> Option<Reply> {
        let call = self.call(1);
        if call.is_nobodys() {
            return None;
        }
        self.with_node(|node, now| node.transaction(now, call.token(0), id, request));
        call.one().await
    }

    /// What the coordinator knows of a transactional id.
    pub(crate) async fn describe_transaction(self: &Rc<Self>, id: &str) -> Result<DescribedTxn, ErrorCode> {
        match self.ask_transaction(id, TxnRequest::Describe(id.to_owned())).await {
            Some(Reply::TransactionDescribed(described)) => Ok(*described),
            Some(Reply::TransactionRefused(code)) => Err(code),
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Every transactional id that fits.
    pub(crate) async fn list_transactions(
        self: &Rc<Self>,
        filter: ListFilter,
    ) -> Result<Vec<ListedTxn>, ErrorCode> {
        let call = self.call(1);
        if call.is_nobodys() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.with_node(|node, now| node.list_transactions(now, call.token(0), filter));
        match call.one().await {
            Some(Reply::TransactionsListed(listed)) => listed,
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Writes markers; answer n is that of marker n, `None` where none came in time.
    pub(crate) async fn write_markers(
        self: &Rc<Self>,
        markers: Vec<(GroupKey, Marker)>,
    ) -> Vec<Option<Reply>> {
        let mut answers = Vec::with_capacity(markers.len());
        let asked = markers.into_iter().map(|(key, marker)| {
            let call = self.call(1);
            self.with_node(|node, now| node.write_marker(now, call.token(0), key, marker));
            call
        });
        let calls: Vec<Call> = asked.collect();
        for call in calls {
            answers.push(call.one_within(MARKER_PATIENCE).await);
        }
        answers
    }

    /// A group's state.
    pub(crate) async fn describe_group(self: &Rc<Self>, group: &str) -> Result<DescribedGroup, ErrorCode> {
        match self.ask_group(group, GroupRequest::Describe(vec![group.to_owned()])).await {
            Some(Reply::GroupsDescribed(mut groups)) => groups.pop().ok_or(ErrorCode::UnknownServerError),
            Some(Reply::GroupRefused(code)) => Err(code),
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// The state of a consumer group of the new protocol.
    pub(crate) async fn describe_consumer_group(
        self: &Rc<Self>,
        group: &str,
    ) -> Result<DescribedConsumerGroup, ErrorCode> {
        match self.ask_group(group, GroupRequest::DescribeConsumers(vec![group.to_owned()])).await {
            Some(Reply::ConsumersDescribed(mut groups)) => groups.pop().ok_or(ErrorCode::UnknownServerError),
            Some(Reply::GroupRefused(code)) => Err(code),
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Every group that fits.
    pub(crate) async fn list_groups(
        self: &Rc<Self>,
        request: ListRequest,
    ) -> Result<Vec<ListedGroup>, ErrorCode> {
        let call = self.call(1);
        if call.is_nobodys() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.with_node(|node, now| node.list_groups(now, call.token(0), request));
        match call.one().await {
            Some(Reply::GroupsListed(listed)) => listed,
            Some(_) => Err(ErrorCode::UnknownServerError),
            None => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Producers of a partition.
    pub(crate) fn describe_producers(&self, key: GroupKey) -> Option<Vec<ProducerInfo>> {
        self.look(|node| node.describe_producers(key))
    }

    /// What is known of a partition without touching it.
    pub(crate) fn partition_info(&self, key: GroupKey) -> Option<PartitionInfo> {
        self.look(|node| node.partition_info(key))
    }

    /// What is wrong with a replica here.
    pub(crate) fn replica_trouble(&self, key: GroupKey) -> ReplicaTrouble {
        self.look(|node| node.replica_trouble(key))
    }

    /// Whether there is such an isolation level.
    pub(crate) fn is_isolation(level: i8) -> bool {
        (0..=1).contains(&level)
    }

    /// Which records a reader may see, by the request's isolation level.
    pub(crate) fn isolation(level: i8) -> Isolation {
        if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
    }
}
