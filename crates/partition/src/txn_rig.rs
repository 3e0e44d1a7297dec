//! What the tests of transactions share: producers, markers, and a reader of committed records as Kafka's clients are.
use crate::test_rig::{Rig, built};
use crate::{
    AppendError, Appended, FetchInput, Isolation, Marker, Origin, PartitionConfig, PartitionFx, Ticket,
    Verified,
};
use bytes::BytesMut;
use records::{BatchBuilder, BatchHeader, ControlKind, parse_end_marker};
use std::collections::{BTreeSet, VecDeque};
use storage::{ReadPlan, read_range};

pub(crate) fn with_transactions() -> PartitionConfig {
    PartitionConfig { transactions: true, ..PartitionConfig::default() }
}

/// A transactional batch.
pub(crate) fn within(producer: i64, epoch: i16, sequence: i32, values: &[&str]) -> BytesMut {
    built(BatchBuilder::new().producer(producer, epoch, sequence).transactional(), values)
}

pub(crate) fn ends(producer_id: i64, producer_epoch: i16, commit: bool) -> Marker {
    Marker { producer_id, producer_epoch, commit, coordinator_epoch: 1, txn_version: 2 }
}

pub(crate) fn verified(ticket: Ticket) -> Verified<'static> {
    Verified { ticket, transactional_id: "payments", principal: "User:ada", client_id: "till-3" }
}

impl Rig {
    /// A ticket for the batch, where it needs one.
    pub(crate) fn ask(&mut self, batch: &BytesMut, version: i16) -> Result<Option<Ticket>, AppendError> {
        self.part.verification(self.now, &BatchHeader::parse(batch).unwrap(), version)
    }

    /// Hands in a batch with the coordinator's yes; whether the yes still counted.
    pub(crate) fn submit_verified(
        &mut self,
        token: u64,
        batch: BytesMut,
        ticket: Ticket,
        origin: Origin,
    ) -> bool {
        let (yes, dir, fx) = (verified(ticket), &mut self.dir, &mut self.fx);
        self.part.append_verified(self.now, token, batch, -1, origin, &yes, dir, fx).is_none()
    }

    /// What a node does with a transactional batch whose coordinator says yes.
    pub(crate) fn submit_within(&mut self, token: u64, batch: BytesMut, version: i16) {
        match self.ask(&batch, version) {
            Ok(None) => self.submit(token, batch, -1, Origin::Client),
            Ok(Some(ticket)) => assert!(self.submit_verified(token, batch, ticket, Origin::Client)),
            Err(error) => self.fx.push(PartitionFx::AppendDone { token, result: Err(error) }),
        }
    }

    pub(crate) fn append_within(&mut self, token: u64, batch: BytesMut) -> Result<Appended, AppendError> {
        self.submit_within(token, batch, 2);
        self.settle();
        self.answer(token).expect("answered")
    }

    pub(crate) fn submit_marker(&mut self, token: u64, marker: Marker) {
        self.part.append_marker(self.now, token, marker, &mut self.dir, &mut self.fx);
    }

    pub(crate) fn end(&mut self, token: u64, marker: Marker) -> Result<Appended, AppendError> {
        self.submit_marker(token, marker);
        self.settle();
        self.answer(token).expect("answered")
    }

    /// What a consumer with isolation.level=read_committed gets: (offset, value). `at_follower` where this replica is one.
    pub(crate) fn read_committed(&self, at_follower: bool) -> Vec<(i64, String)> {
        let mut out = Vec::new();
        let mut at = self.part.log_start();
        while at < self.part.last_stable_offset() {
            let input = FetchInput {
                offset: at,
                max_bytes: 300,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                isolation: Isolation::ReadCommitted,
                at_follower,
            };
            let ok = self.part.fetch(&input).unwrap();
            assert!(ok.aborted.is_sorted_by_key(|(_, first)| *first), "{:?}", ok.aborted);
            let batches = match ok.plan {
                ReadPlan::Memory(batches) => batches,
                ReadPlan::File(range) => read_range(&self.disk, &range).unwrap().batches,
                ReadPlan::Empty => panic!("records up to the last stable offset"),
            };
            let mut aborted: VecDeque<(i64, i64)> = ok.aborted.into();
            let mut void = BTreeSet::new();
            for bytes in batches {
                for batch in records::batches(&bytes) {
                    let (range, header) = batch.unwrap();
                    assert!(header.base_offset < ok.last_stable_offset, "above the last stable offset");
                    at = header.next_offset();
                    while let Some((id, _)) =
                        aborted.pop_front_if(|(_, first)| *first <= header.last_offset())
                    {
                        void.insert(id);
                    }
                    let batch = bytes.slice(range);
                    if header.is_control() {
                        let marker = parse_end_marker(&batch).unwrap().unwrap();
                        if marker.kind == ControlKind::Abort {
                            void.remove(&header.producer_id);
                        }
                    } else if !(header.is_transactional() && void.contains(&header.producer_id)) {
                        let records = records::records(&batch, 1 << 20).unwrap().map(Result::unwrap);
                        let seen = records.filter(|r| r.offset >= self.part.log_start());
                        out.extend(seen.map(|r| (r.offset, text(&r.value.unwrap_or_default()))));
                    }
                }
            }
        }
        out
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn values(read: &[(i64, String)]) -> Vec<&str> {
    read.iter().map(|(_, value)| value.as_str()).collect()
}
