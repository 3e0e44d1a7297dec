//! What the coordinators of groups are asked: one for each partition of `__consumer_offsets` that leads here, hosted by
//! `hosts.rs`.
use crate::api::{Effect, Event, GroupRequest, Reply, Token};
use crate::hosts::{offsets_topic, transactions_topic};
use crate::machines::{HostFx, HostKind, HostRequest, Machine};
use crate::node::Node;
use crate::panics::guarded;
use crate::strong::{ListWhat, StrongRead};
use cluster::Topic;
use coordinator::txn::ListFilter;
use coordinator::{Effect as GroupEffect, GroupCoordinator, ListRequest, coordinator_partition_for};
use model::planted::{Bug, planted};
use model::{ErrorCode, GroupKey, Now};
use std::sync::Arc;

impl Node {
    /// Hands a request to the coordinator of `group_id`. Ends with [`Reply::Group`],
    /// [`Reply::GroupsDescribed`], [`Reply::ConsumersDescribed`] or [`Reply::GroupRefused`].
    pub fn group(&mut self, now: Now, token: Token, group_id: &str, request: GroupRequest) {
        match self.group_key(group_id) {
            Some(key) => self.ask_host(now, key, token, HostRequest::Group(request)),
            None => self.refuse_asker(now, HostKind::Groups, token, ErrorCode::CoordinatorNotAvailable),
        }
        self.settle(now);
    }

    /// The partition that holds a group, once there is one.
    fn group_key(&self, group_id: &str) -> Option<GroupKey> {
        let image = self.metadata.image();
        let topic = offsets_topic(&image)?;
        let partition = coordinator_partition_for(group_id, topic.partitions.len() as i32);
        Some(GroupKey { topic: topic.id, partition })
    }

    /// Asks a coordinator that is loaded; what must be current only once this node is sure to lead.
    pub(crate) fn ask_group(&mut self, now: Now, key: GroupKey, token: Token, request: GroupRequest) {
        let reads = |request: &GroupRequest| {
            use GroupRequest::{Describe, DescribeConsumers, Fetch};
            matches!(request, Fetch(_) | Describe(_) | DescribeConsumers(_))
        };
        if reads(&request) {
            return self.read_strongly(now, key, StrongRead::Group { token, request });
        }
        self.ask_now(now, key, token, request);
    }

    /// The log of the coordinator is sure to be led here.
    pub(crate) fn ask_confirmed(&mut self, now: Now, key: GroupKey, token: Token, request: GroupRequest) {
        let early = planted(Bug::OffsetsBeforeLoaded);
        if self.hosts.get(&key).is_some_and(|host| host.loading.is_none() || early) {
            return self.ask_now(now, key, token, request);
        }
        let code = ErrorCode::CoordinatorLoadInProgress;
        self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
    }

    fn ask_now(&mut self, now: Now, key: GroupKey, token: Token, request: GroupRequest) {
        self.tell_topics(key, matches!(request, GroupRequest::ConsumerHeartbeat(_)));
        let host = self.hosts.get_mut(&key);
        let Some(Machine::Groups(c)) = host.map(|host| &mut host.machine) else {
            return self.refuse_asker(now, HostKind::Groups, token, ErrorCode::CoordinatorNotAvailable);
        };
        if let GroupRequest::Describe(ids) = request {
            let described = c.describe(&ids);
            return self.fx.push(Effect::Reply(token, Reply::GroupsDescribed(described)));
        }
        if let GroupRequest::DescribeConsumers(ids) = request {
            let described = c.describe_consumers(&ids);
            return self.fx.push(Effect::Reply(token, Reply::ConsumersDescribed(described)));
        }
        let (t, mut fx) = (coordinator::Token(token.0), Vec::new());
        let asked = guarded(|| match request {
            GroupRequest::Join(r) => c.join(now, t, r, &mut fx),
            GroupRequest::Sync(r) => c.sync(now, t, r, &mut fx),
            GroupRequest::Heartbeat(r) => c.heartbeat(now, t, r, &mut fx),
            GroupRequest::Leave(r) => c.leave(now, t, r, &mut fx),
            GroupRequest::Commit(r) => c.commit_offsets(now, t, r, &mut fx),
            GroupRequest::CommitInTransaction(r) => c.commit_in_transaction(now, t, r, &mut fx),
            GroupRequest::Fetch(r) => c.fetch_offsets(now, t, r, &mut fx),
            GroupRequest::DeleteOffsets(r) => c.delete_offsets(now, t, r, &mut fx),
            GroupRequest::DeleteGroups(ids) => c.delete_groups(now, t, ids, &mut fx),
            GroupRequest::ConsumerHeartbeat(r) => c.consumer_heartbeat(now, t, *r, &mut fx),
            GroupRequest::Describe(_) | GroupRequest::DescribeConsumers(_) => {}
        });
        match asked {
            Ok(()) => self.perform(now, key, HostFx::Groups(fx)),
            Err(panic) => {
                self.host_panicked(now, key, &panic);
                let code = ErrorCode::CoordinatorNotAvailable;
                self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
            }
        }
    }

    /// Carries out what a coordinator of groups wants.
    pub(crate) fn perform_group(&mut self, now: Now, key: GroupKey, effect: GroupEffect) {
        match effect {
            GroupEffect::Reply { token, reply } => {
                self.fx.push(Effect::Reply(Token(token.0), Reply::Group(reply)));
            }
            GroupEffect::Append { batch, records } => self.append_records(now, key, batch, &records),
            GroupEffect::AppendInTransaction { batch, records, transaction } => {
                self.append_in_transaction(now, key, batch, &records, *transaction);
            }
            GroupEffect::Event(event) => self.fx.push(Effect::Event(Event::Group(event))),
        }
    }

    /// Offsets of a deleted topic go with it.
    pub(crate) fn topic_gone(&mut self, now: Now, topic: &str) {
        let loaded: Vec<GroupKey> =
            self.hosts.iter().filter(|(_, h)| h.loading.is_none()).map(|(key, _)| *key).collect();
        for key in loaded {
            let host = self.hosts.get_mut(&key);
            let Some(Machine::Groups(c)) = host.map(|host| &mut host.machine) else { continue };
            let mut fx = Vec::new();
            c.topics_deleted(now, &[topic.to_owned()], &mut fx);
            self.perform(now, key, HostFx::Groups(fx));
        }
    }

    /// ListGroups over all coordinators. Ends with [`Reply::GroupsListed`]; LOAD_IN_PROGRESS while one is loading.
    pub fn list_groups(&mut self, now: Now, token: Token, request: ListRequest) {
        let topic = offsets_topic(&self.metadata.image()).cloned();
        self.list(now, token, topic, ListWhat::Groups(request));
    }

    /// ListTransactions over all coordinators. Ends with [`Reply::TransactionsListed`]; LOAD_IN_PROGRESS while one is
    /// loading.
    pub fn list_transactions(&mut self, now: Now, token: Token, filter: ListFilter) {
        let topic = transactions_topic(&self.metadata.image()).cloned();
        self.list(now, token, topic, ListWhat::Transactions(Box::new(filter)));
    }

    fn list(&mut self, now: Now, token: Token, topic: Option<Arc<Topic>>, what: ListWhat) {
        match self.hosts_to_list(now, topic.as_deref()) {
            Ok(keys) => self.list_strongly(now, token, what, keys),
            Err(code) => self.refuse_list(token, &what, code),
        }
        self.settle(now);
    }

    pub(crate) fn refuse_list(&mut self, token: Token, what: &ListWhat, code: ErrorCode) {
        let reply = match what {
            ListWhat::Groups(_) => Reply::GroupsListed(Err(code)),
            ListWhat::Transactions(_) => Reply::TransactionsListed(Err(code)),
        };
        self.fx.push(Effect::Reply(token, reply));
    }

    /// The coordinators of a topic here that may have something.
    fn hosts_to_list(&mut self, now: Now, topic: Option<&Topic>) -> Result<Vec<GroupKey>, ErrorCode> {
        let Some(topic) = topic else { return Ok(Vec::new()) };
        let (mut keys, mut loading) = (Vec::new(), false);
        for partition in 0..topic.partitions.len() as i32 {
            let key = GroupKey { topic: topic.id, partition };
            // What was never touched holds nothing.
            let untouched = !self.hosts.contains_key(&key) && !self.was_touched(key);
            if untouched || self.led_elsewhere(key) {
                continue;
            }
            if self.is_offline(key) {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
            loading |= self.host(now, key).is_none_or(|host| host.loading.is_some());
            keys.push(key);
        }
        if loading { Err(ErrorCode::CoordinatorLoadInProgress) } else { Ok(keys) }
    }

    /// Answers it: every coordinator that is asked is sure to be this node's.
    pub(crate) fn list_now(&mut self, now: Now, token: Token, what: &ListWhat) {
        let hosts = self.hosts.values();
        let loading = Err(ErrorCode::CoordinatorLoadInProgress);
        let reply = match what {
            ListWhat::Groups(request) => {
                let listed = hosts.filter_map(|host| match (&host.machine, host.loading) {
                    (Machine::Groups(c), None) => Some(c.list(request)),
                    (Machine::Groups(_), Some(_)) => Some(loading.clone()),
                    (Machine::Transactions(_), _) => None,
                });
                Reply::GroupsListed(listed.collect::<Result<Vec<_>, _>>().map(|rows| rows.concat()))
            }
            ListWhat::Transactions(filter) => {
                let loading = Err(ErrorCode::CoordinatorLoadInProgress);
                let listed = hosts.filter_map(|host| match (&host.machine, host.loading) {
                    (Machine::Transactions(c), None) => Some(c.list(now, filter)),
                    (Machine::Transactions(_), Some(_)) => Some(loading.clone()),
                    (Machine::Groups(_), _) => None,
                });
                Reply::TransactionsListed(listed.collect::<Result<Vec<_>, _>>().map(|rows| rows.concat()))
            }
        };
        self.fx.push(Effect::Reply(token, reply));
    }

    /// Coordinators of groups that are loaded, for the metrics.
    pub fn coordinators(&self) -> impl Iterator<Item = &GroupCoordinator> {
        self.hosts.values().filter(|host| host.loading.is_none()).filter_map(|host| match &host.machine {
            Machine::Groups(c) => Some(c),
            Machine::Transactions(_) => None,
        })
    }
}
