//! Changes of the metadata: decided on the pending image, answered when they are applied.
use crate::api::{AdminReply, AdminRequest, Effect, PeerOut, Reply, Token};
use crate::node::Node;
use crate::strong::StrongRead;
use crate::txn_host::TxnAsk;
use crate::txn_markers::MarkerFor;
use cluster::{Candidates, Command, Image, ItemError, ItemResult, TopicOutcome};
use coordinator::BatchId;
use model::{ErrorCode, GroupKey, NodeId, Now, TopicId};
use partition::{AppendError, Appended};
use std::time::Duration;

/// Who waits for a proposal of this node.
#[derive(Debug)]
pub(crate) enum Internal {
    /// Nobody: another command of the same request follows.
    Part,
    /// A client.
    Admin(Token, AdminReply),
    /// This node's registration.
    Register,
    /// A block of producer ids.
    ProducerIds,
    /// Another node, under its own token.
    Peer(NodeId, u64),
    /// A coordinator's batch.
    Batch { key: GroupKey, batch: BatchId },
    /// A partition's question to a coordinator of transactions here.
    TxnAsk(u64),
    /// The same of a partition that another node leads, under that node's number.
    TxnPeer(NodeId, u64),
    /// Whether a coordinator here knows of an open transaction: this node's own question, or another's.
    TxnKnown { from: Option<NodeId>, number: u64, ask: Box<TxnAsk> },
    /// A marker.
    Marker(Box<MarkerFor>),
}

/// For how long a node whose lease was lost still counts where there are too few others: Kafka's
/// `broker.session.timeout.ms`. A machine that is busy for a moment must not make a creation fail that no client
/// repeats, nor be struck off the list of brokers that clients go by.
pub(crate) const SESSION: Duration = Duration::from_secs(9);

/// Tokens of this node have the highest bit set, those of the shell do not.
pub(crate) const INTERNAL_BIT: u64 = 1 << 63;

impl Node {
    pub(crate) fn new_internal(&mut self, who: Internal) -> u64 {
        self.next_internal += 1;
        let token = self.next_internal | INTERNAL_BIT;
        self.internal.insert(token, who);
        token
    }

    /// Changes the metadata. Ends with [`Reply::Admin`].
    pub fn admin(&mut self, now: Now, token: Token, request: AdminRequest) {
        if !self.leads_metadata() {
            let code = if self.dir.fenced().is_some() {
                ErrorCode::KafkaStorageError
            } else {
                ErrorCode::NotController
            };
            return self.fx.push(Effect::Reply(token, Reply::Admin(AdminReply::Refused(code))));
        }
        if let AdminRequest::Recover(ask) = &request {
            return self.inquire(now, token, ask);
        }
        let (reply, mut commands) = self.admit(now, &request);
        let last = commands.pop();
        // What is asked for is answered as done only where the log takes all of it.
        if !commands.iter().all(|command| self.propose(now, command, Internal::Part)) {
            let refused = Reply::Admin(AdminReply::Refused(ErrorCode::NotController));
            self.fx.push(Effect::Reply(token, refused));
            return self.settle(now);
        }
        match last {
            Some(command) => {
                self.propose(now, &command, Internal::Admin(token, reply));
            }
            // What was judged by proposals that are on their way is told when they are committed.
            None if self.metadata.has_staged() => self.unproven.push((token, reply)),
            // A leader of the past knows of no topic that its successor made: it is told once a majority has said that
            // this one leads still.
            None => {
                let reply = Box::new(reply);
                self.read_strongly(now, GroupKey::METADATA, StrongRead::Admin { token, reply });
            }
        }
        self.settle(now);
    }

    /// What was judged by proposals of others, a topic that is being deleted for example, is told when these are
    /// committed: they may yet come to nothing.
    pub(crate) fn answer_proven(&mut self) {
        if !self.metadata.has_staged() {
            for (token, reply) in std::mem::take(&mut self.unproven) {
                self.fx.push(Effect::Reply(token, Reply::Admin(reply)));
            }
        }
    }

    /// What is staged comes to nothing, as far as is known here, and so does what was judged by it.
    pub(crate) fn drop_pending(&mut self) {
        self.metadata.drop_pending();
        self.drop_inquiries();
        for (token, _) in std::mem::take(&mut self.unproven) {
            let refused = AdminReply::Refused(ErrorCode::NotController);
            self.fx.push(Effect::Reply(token, Reply::Admin(refused)));
        }
    }

    fn admit(&mut self, now: Now, request: &AdminRequest) -> (AdminReply, Vec<Command>) {
        let image = self.metadata.pending();
        let [live, recent] = [Duration::ZERO, SESSION].map(|patience| {
            let mut nodes = self.peers.liveness.recent(now.mono, patience);
            nodes.retain(|node| image.nodes.contains_key(node));
            nodes
        });
        let loads = self.loads(now);
        match request {
            AdminRequest::CreateTopics { topics, validate_only } => {
                let (seed, count) = (self.cfg.seed, &mut self.next_internal);
                let outcomes = placed(&live, &recent, |nodes| {
                    let nodes = Candidates::new(nodes, &loads);
                    cluster::create_topics(&image, topics, nodes, &mut || new_topic_id(seed, count))
                });
                created(outcomes, *validate_only)
            }
            AdminRequest::AutoCreate(names) => {
                let (seed, count) = (self.cfg.seed, &mut self.next_internal);
                let outcomes = placed(&live, &recent, |nodes| {
                    let nodes = Candidates::new(nodes, &loads);
                    let make = |name: &String| TopicOutcome {
                        name: name.clone(),
                        result: cluster::auto_create(&image, name, nodes, &mut || new_topic_id(seed, count)),
                    };
                    names.iter().map(make).collect()
                });
                created(outcomes, false)
            }
            AdminRequest::DeleteTopics(topics) => {
                let deleted = cluster::delete_topics(&image, topics);
                let commands = deleted.iter().filter_map(|d| d.result.as_ref().ok().cloned()).collect();
                (AdminReply::Deleted(deleted), commands)
            }
            AdminRequest::CreatePartitions { topics, validate_only } => {
                let results = placed(&live, &recent, |nodes| {
                    let nodes = Candidates::new(nodes, &loads);
                    let results = cluster::create_partitions(&image, topics, nodes);
                    results.into_iter().map(|(_, r)| r.map(Some)).collect::<Vec<_>>()
                });
                done(results, *validate_only)
            }
            AdminRequest::Reassign { targets, keep_factor } => {
                done(cluster::alter_reassignments(&image, targets, *keep_factor), false)
            }
            // Its replicas are asked first.
            AdminRequest::Recover(_) => (AdminReply::Refused(ErrorCode::InvalidRequest), Vec::new()),
            AdminRequest::Unregister(node) => {
                done(vec![cluster::unregister_node(&image, *node, &live).map(Some)], false)
            }
            AdminRequest::Register { node, registration } => {
                done(vec![self.judge_registration(*node, registration.clone())], false)
            }
            AdminRequest::UpdateFeatures { updates, validate_only } => {
                let results = cluster::update_features(&image, self.cfg.node_id, updates);
                let none = *validate_only || results.iter().any(Result::is_err);
                done(results, none)
            }
            AdminRequest::SetVoter { cluster_id, node, directory, voter } => {
                let set = set_voter(&image, &live, cluster_id.as_deref(), *node, *directory, *voter);
                done(vec![set.map(Some)], false)
            }
            AdminRequest::AlterConfigs { resources, validate_only } => {
                done(cluster::alter_configs(&image, resources), *validate_only)
            }
            AdminRequest::IncrementalAlterConfigs { resources, validate_only } => {
                done(cluster::incremental_alter_configs(&image, resources), *validate_only)
            }
        }
    }

    /// A command of this node is applied.
    pub(crate) fn command_done(&mut self, token: u64) {
        match self.internal.remove(&token) {
            Some(Internal::Admin(token, mut reply)) => {
                take_back_what_lost(&self.metadata.image(), &mut reply);
                self.fx.push(Effect::Reply(token, Reply::Admin(reply)));
            }
            Some(Internal::Peer(node, token)) => {
                let code = ErrorCode::None;
                self.fx.push(Effect::Peer(node, PeerOut::Proposed { token, code }));
            }
            _ => {}
        }
    }

    /// A command of this node is lost, or may be.
    pub(crate) fn command_failed(&mut self, now: Now, token: u64, code: ErrorCode) {
        // One that the log did not take leaves the others as they are.
        if !self.leads_metadata() {
            self.drop_pending();
        }
        match self.internal.remove(&token) {
            Some(Internal::Admin(token, _)) => {
                self.fx.push(Effect::Reply(token, Reply::Admin(AdminReply::Refused(code))));
            }
            Some(Internal::ProducerIds) => self.refuse_ids(),
            Some(Internal::Peer(node, token)) => {
                self.fx.push(Effect::Peer(node, PeerOut::Proposed { token, code }));
            }
            Some(Internal::Batch { key, batch }) => {
                self.batch_done(now, key, batch, Err(code));
            }
            Some(
                Internal::Part
                | Internal::Register
                | Internal::TxnAsk(_)
                | Internal::TxnPeer(..)
                | Internal::TxnKnown { .. }
                | Internal::Marker(_),
            )
            | None => {}
        }
    }

    /// An append ended: a client's or a coordinator's.
    pub(crate) fn append_done(&mut self, now: Now, token: u64, result: Result<Appended, AppendError>) {
        if token & INTERNAL_BIT == 0 {
            return self.fx.push(Effect::Reply(Token(token), Reply::Produce(result)));
        }
        let result = result.map(|_| ()).map_err(|error| error.code);
        match self.internal.remove(&token) {
            Some(Internal::Batch { key, batch }) => self.batch_done(now, key, batch, result),
            Some(Internal::Marker(who)) => self.marked(now, *who, result.err().unwrap_or_default()),
            _ => {}
        }
    }

    /// A producer id for an idempotent producer, epoch 0. Ends with [`Reply::ProducerId`].
    pub fn init_producer_id(&mut self, now: Now, token: Token) {
        self.waiting_for_ids.push_back(token);
        self.hand_out_ids(now);
        self.settle(now);
    }

    pub(crate) fn hand_out_ids(&mut self, now: Now) {
        while self.producer_ids.1 > 0
            && let Some(token) = self.waiting_for_ids.pop_front()
        {
            let id = self.producer_ids.0;
            self.producer_ids = (id + 1, self.producer_ids.1 - 1);
            self.fx.push(Effect::Reply(token, Reply::ProducerId(Ok((id, 0)))));
        }
        self.supply_hosts(now);
        let asked = self.internal.values().any(|i| matches!(i, Internal::ProducerIds));
        if self.waiting_for_ids.is_empty() && self.txn.without_ids.is_empty() || asked {
            return;
        }
        if !self.leads_metadata() {
            return self.ask_for_ids(now);
        }
        match cluster::allocate_producer_ids(&self.metadata.pending(), self.cfg.node_id) {
            Ok(command) => {
                self.propose(now, &command, Internal::ProducerIds);
            }
            Err(_) => self.refuse_ids(),
        }
    }

    /// Configs of resources as DescribeConfigs shows them.
    pub fn describe_image(&self) -> std::sync::Arc<Image> {
        self.metadata.image()
    }
}

/// What an item of a request came to.
trait Placed {
    /// Whether there were fewer nodes than replicas.
    fn lacks_nodes(&self) -> bool;
}

impl<T> Placed for ItemResult<T> {
    fn lacks_nodes(&self) -> bool {
        self.as_ref().is_err_and(|error| error.code == ErrorCode::InvalidReplicationFactor)
    }
}

impl Placed for TopicOutcome {
    fn lacks_nodes(&self) -> bool {
        self.result.lacks_nodes()
    }
}

/// Topics of a reply that are not there although they were to be made: another command for the same name came first in the
/// log, or theirs was not taken into it.
fn take_back_what_lost(image: &Image, reply: &mut AdminReply) {
    let AdminReply::Topics(outcomes) = reply else { return };
    for outcome in outcomes {
        if outcome.result.as_ref().is_ok_and(|made| image.topic_by_id(made.id).is_none()) {
            let exists = image.topic(&outcome.name).is_some();
            let code = if exists { ErrorCode::TopicAlreadyExists } else { ErrorCode::NotController };
            outcome.result = Err(ItemError::bare(code));
        }
    }
}

/// Judges AddRaftVoter or RemoveRaftVoter.
fn set_voter(
    image: &cluster::Image,
    live: &[NodeId],
    cluster_id: Option<&str>,
    node: NodeId,
    directory: [u8; 16],
    voter: bool,
) -> cluster::ItemResult<Command> {
    if voter {
        cluster::add_voter(image, cluster_id, node, directory)
    } else {
        cluster::remove_voter(image, live, cluster_id, node, directory)
    }
}

/// Places replicas on the `live` nodes; where these are too few, also on those that were live `recent`ly.
fn placed<T: Placed>(
    live: &[NodeId],
    recent: &[NodeId],
    mut place: impl FnMut(&[NodeId]) -> Vec<T>,
) -> Vec<T> {
    let done = place(live);
    if recent.len() > live.len() && done.iter().any(Placed::lacks_nodes) { place(recent) } else { done }
}

/// Never zero, never Kafka's reserved ids; the same seed gives the same ids.
fn new_topic_id(seed: u64, count: &mut u64) -> TopicId {
    *count += 1;
    let mut id = [0u8; 16];
    let mut state = seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for half in id.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        half.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes());
    }
    // The version bits of a random UUID, as Kafka's own ids have them.
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    TopicId(id)
}

fn created(outcomes: Vec<TopicOutcome>, validate_only: bool) -> (AdminReply, Vec<Command>) {
    let commands = outcomes.iter().filter_map(|o| o.result.as_ref().ok().map(|c| c.command.clone()));
    let commands = if validate_only { Vec::new() } else { commands.collect() };
    (AdminReply::Topics(outcomes), commands)
}

fn done(results: Vec<ItemResult<Option<Command>>>, validate_only: bool) -> (AdminReply, Vec<Command>) {
    let commands = results.iter().filter_map(|r| r.as_ref().ok().cloned().flatten());
    let commands = if validate_only { Vec::new() } else { commands.collect() };
    let items: Vec<Result<(), ItemError>> = results.into_iter().map(|r| r.map(|_| ())).collect();
    (AdminReply::Done(items), commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_another_command_made_first_is_not_answered_as_made() {
        let mut metadata = cluster::Metadata::new(1, Default::default());
        let create = |name: &str, id: u8| {
            let partitions = vec![proto::cluster::ReplicaSet { nodes: vec![1], ..Default::default() }];
            let (name, topic_id) = (name.to_owned(), vec![id; 16].into());
            proto::cluster::CreateTopic { name, topic_id, partitions, configs: vec![] }
        };
        metadata.apply(1, &Command::CreateTopic(create("a", 1))).unwrap();
        metadata.apply(2, &Command::CreateTopic(create("a", 2))).unwrap();
        let made = |name: &str, id| TopicOutcome {
            name: name.to_owned(),
            result: Ok(cluster::CreatedTopic {
                id: model::TopicId([id; 16]),
                num_partitions: 1,
                replication_factor: 1,
                configs: Vec::new(),
                command: Command::CreateTopic(create(name, id)),
            }),
        };
        let mut reply = AdminReply::Topics(vec![made("a", 1), made("a", 2), made("b", 3)]);
        take_back_what_lost(&metadata.image(), &mut reply);
        let AdminReply::Topics(outcomes) = reply else { panic!() };
        let codes: Vec<_> = outcomes.iter().map(|o| o.result.as_ref().err().map(|e| e.code)).collect();
        assert_eq!(codes, [None, Some(ErrorCode::TopicAlreadyExists), Some(ErrorCode::NotController)]);
    }

    #[test]
    fn nodes_that_were_lost_lately_get_replicas_only_where_the_others_are_too_few() {
        let place = |replicas: usize| {
            move |nodes: &[NodeId]| -> Vec<ItemResult<Vec<NodeId>>> {
                let lack = || ItemError::bare(ErrorCode::InvalidReplicationFactor);
                vec![nodes.get(..replicas).map(<[NodeId]>::to_vec).ok_or_else(lack)]
            }
        };
        assert_eq!(placed(&[1, 3], &[1, 2, 3], place(2)), [Ok(vec![1, 3])]);
        assert_eq!(placed(&[1, 3], &[1, 2, 3], place(3)), [Ok(vec![1, 2, 3])]);
        assert!(placed(&[1, 3], &[1, 3], place(3))[0].lacks_nodes(), "the third is gone for good");
    }
}
