//! Markers of transactions: from their coordinator to the leaders of the partitions, and what came of them (Kafka's
//! WriteTxnMarkers). All that are bound for one node travel in one message, and are committed there together.
use crate::admin::Internal;
use crate::api::{Effect, PeerOut, Reply, Token};
use crate::groups::Touch;
use crate::machines::{HostFx, Machine};
use crate::node::Node;
use coordinator::txn::{MarkerOutcome, Markers, MarkersId, TopicPartition, marker_outcome};
use model::{ErrorCode, GroupKey, Mono, NodeId, Now, ProducerId};
use partition::Marker;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages whose answers are waited for. A coordinator asks again for what has no answer, so that the oldest may go.
const MOST_SENT: usize = 10_000;
/// A partition that is not known for so long is deleted, ms.
const GONE_AFTER_MS: i64 = 10_000;
/// Partitions in one message.
const MOST_PARTITIONS: usize = 10_000;

/// Who wants a marker written.
#[derive(Debug)]
pub(crate) enum MarkerFor {
    /// A coordinator here.
    Host { host: GroupKey, id: MarkersId, transactional_id: Arc<str>, partition: TopicPartition },
    /// A coordinator on another node.
    Peer { node: NodeId, number: u64, partition: TopicPartition },
    /// A client: an operator, or another broker.
    Client(Token),
    /// This node: nobody else ends that transaction.
    Hanging { key: GroupKey, producer_id: ProducerId },
}

#[derive(Debug)]
struct Sent {
    host: GroupKey,
    id: MarkersId,
    transactional_id: Arc<str>,
}

/// Markers between nodes.
#[derive(Debug, Default)]
pub(crate) struct MarkerMail {
    sent: BTreeMap<u64, Sent>,
    last: u64,
    /// Partitions that were not known when markers of a transactional id were due, and since when.
    unknown: BTreeMap<(Arc<str>, TopicPartition), Mono>,
    /// Outcomes to tell, by node and message.
    outcomes: BTreeMap<(NodeId, u64), Vec<(TopicPartition, ErrorCode)>>,
}

/// What a message between nodes says of markers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkersFor {
    /// What to write.
    pub marker: Marker,
    /// Where.
    pub partitions: Vec<TopicPartition>,
}

impl MarkerMail {
    /// With messages numbered from `first` on.
    pub(crate) fn new(first: u64) -> MarkerMail {
        MarkerMail { last: first, ..MarkerMail::default() }
    }

    /// Whether a partition that this node does not know has been unknown for so long that it is not only late here.
    /// Each id waits for itself: by another's time a topic that was made anew would seem gone.
    fn is_gone(&mut self, now: Mono, transactional_id: &Arc<str>, partition: &TopicPartition) -> bool {
        if self.unknown.len() >= MOST_PARTITIONS {
            self.unknown.clear();
        }
        let place = (transactional_id.clone(), partition.clone());
        let since = *self.unknown.entry(place.clone()).or_insert(now);
        let gone = since.after_ms(GONE_AFTER_MS) <= now;
        if gone {
            self.unknown.remove(&place);
        }
        gone
    }

    /// The partition is known: it was only late.
    fn is_there(&mut self, transactional_id: &Arc<str>, partition: &TopicPartition) {
        if !self.unknown.is_empty() {
            self.unknown.remove(&(transactional_id.clone(), partition.clone()));
        }
    }
}

impl Node {
    /// Writes a marker. Ends with [`Reply::Marker`].
    pub fn write_marker(&mut self, now: Now, token: Token, key: GroupKey, marker: Marker) {
        self.mark(now, key, marker, MarkerFor::Client(token));
        self.settle(now);
    }

    /// A coordinator here ends a transaction.
    pub(crate) fn send_markers(&mut self, now: Now, host: GroupKey, markers: Markers) {
        let Markers { id, transactional_id, partitions, .. } = markers;
        let marker = Marker {
            producer_id: markers.producer_id,
            producer_epoch: markers.producer_epoch,
            commit: markers.commit,
            coordinator_epoch: markers.coordinator_epoch,
            txn_version: markers.version.level(),
        };
        let mut elsewhere: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            let tell = |outcome| (transactional_id.clone(), partition.clone(), outcome);
            let Some(key) = self.key_of(&partition) else {
                // This node may be late: to leave a partition out is to leave its transaction open.
                let gone = self.txn.mail.is_gone(now.mono, &transactional_id, &partition);
                let outcome = if gone { MarkerOutcome::Gone } else { MarkerOutcome::AskAgain };
                self.marker_outcome(now, host, id, tell(outcome));
                continue;
            };
            self.txn.mail.is_there(&transactional_id, &partition);
            match self.leader_of(key).1 {
                Some(node) if node == self.cfg.node_id => {
                    let transactional_id = transactional_id.clone();
                    self.mark(now, key, marker, MarkerFor::Host { host, id, transactional_id, partition });
                }
                Some(node) => elsewhere.entry(node).or_default().push(partition),
                None => self.marker_outcome(now, host, id, tell(MarkerOutcome::AskAgain)),
            }
        }
        for (node, partitions) in elsewhere {
            for partitions in partitions.chunks(MOST_PARTITIONS) {
                let mail = &mut self.txn.mail;
                mail.last += 1;
                let sent = Sent { host, id, transactional_id: transactional_id.clone() };
                mail.sent.insert(mail.last, sent);
                if mail.sent.len() > MOST_SENT {
                    mail.sent.pop_first();
                }
                let markers = Box::new(MarkersFor { marker, partitions: partitions.to_vec() });
                self.fx.push(Effect::Peer(node, PeerOut::Markers { number: mail.last, markers }));
            }
        }
    }

    /// The partition of that name; `None` once it is deleted.
    pub(crate) fn key_of(&self, partition: &TopicPartition) -> Option<GroupKey> {
        let image = self.metadata.image();
        let topic = image.topic(&partition.topic)?;
        topic.partition(partition.partition)?;
        Some(GroupKey { topic: topic.id, partition: partition.partition })
    }

    /// A coordinator on another node ends a transaction.
    pub(crate) fn on_markers(&mut self, now: Now, node: NodeId, number: u64, markers: MarkersFor) {
        let MarkersFor { marker, partitions } = markers;
        for partition in partitions {
            match self.key_of(&partition) {
                Some(key) => self.mark(now, key, marker, MarkerFor::Peer { node, number, partition }),
                // It may only be late here.
                None => self.marked(
                    now,
                    MarkerFor::Peer { node, number, partition },
                    ErrorCode::UnknownTopicOrPartition,
                ),
            }
        }
    }

    pub(crate) fn mark(&mut self, now: Now, key: GroupKey, marker: Marker, who: MarkerFor) {
        let token = self.new_internal(Internal::Marker(Box::new(who)));
        self.touch(now, key, Touch::Marker { token, marker });
    }

    /// A marker is committed, or is not.
    pub(crate) fn marked(&mut self, now: Now, who: MarkerFor, code: ErrorCode) {
        match who {
            MarkerFor::Client(token) => self.fx.push(Effect::Reply(token, Reply::Marker(code))),
            MarkerFor::Hanging { key, producer_id } => self.hanging_aborted(key, producer_id, code),
            MarkerFor::Host { host, id, transactional_id, partition } => {
                self.marker_outcome(now, host, id, (transactional_id, partition, marker_outcome(code)));
            }
            MarkerFor::Peer { node, number, partition } => {
                self.txn.mail.outcomes.entry((node, number)).or_default().push((partition, code));
            }
        }
    }

    fn marker_outcome(
        &mut self,
        now: Now,
        host: GroupKey,
        id: MarkersId,
        (transactional_id, partition, outcome): (Arc<str>, TopicPartition, MarkerOutcome),
    ) {
        let there = self.hosts.get_mut(&host);
        let Some(Machine::Transactions(c)) = there.map(|host| &mut host.machine) else { return };
        let mut fx = Vec::new();
        c.on_marker_result(now, id, &transactional_id, &partition, outcome, &mut fx);
        self.perform(now, host, HostFx::Transactions(fx));
    }

    /// Tells other nodes what became of their markers: all of one turn together.
    pub(crate) fn tell_marked(&mut self) {
        for ((node, number), partitions) in std::mem::take(&mut self.txn.mail.outcomes) {
            self.fx.push(Effect::Peer(node, PeerOut::Marked { number, partitions }));
        }
    }

    /// Another node says what became of markers.
    pub(crate) fn on_marked(&mut self, now: Now, number: u64, partitions: Vec<(TopicPartition, ErrorCode)>) {
        let Some(Sent { host, id, transactional_id }) = self.txn.mail.sent.get(&number) else { return };
        let (host, id, transactional_id) = (*host, *id, transactional_id.clone());
        for (partition, code) in partitions {
            let told = (transactional_id.clone(), partition, marker_outcome(code));
            self.marker_outcome(now, host, id, told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transactional_id_waits_for_itself_until_a_partition_is_gone() {
        let mut mail = MarkerMail::new(0);
        let (first, second): (Arc<str>, Arc<str>) = ("first".into(), "second".into());
        let place = TopicPartition { topic: "deleted".into(), partition: 0 };
        let at = |ms| Mono(0).after_ms(ms);
        assert!(!mail.is_gone(at(0), &first, &place));
        assert!(!mail.is_gone(at(0), &second, &place));
        assert!(!mail.is_gone(at(GONE_AFTER_MS - 1), &first, &place));
        assert!(mail.is_gone(at(GONE_AFTER_MS), &first, &place));
        assert!(
            mail.is_gone(at(GONE_AFTER_MS), &second, &place),
            "what the first was told takes nothing from it"
        );
        assert!(!mail.is_gone(at(GONE_AFTER_MS), &second, &place), "the next transaction waits anew");
        mail.is_there(&second, &place);
        assert!(!mail.is_gone(at(3 * GONE_AFTER_MS), &second, &place), "it was there meanwhile");
    }
}
