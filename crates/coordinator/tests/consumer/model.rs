//! Random histories: members that join, leave, restart, go silent, lose answers and repeat themselves, topics that
//! change, appends that fail, coordinators that are read again from the log at any moment.
use crate::common::Bench;
use crate::group::*;
use coordinator::*;
use model::planted::{Bug, plant};
use model::{ErrorCode, TopicId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A client, as it knows itself.
#[derive(Clone, Debug)]
struct Client {
    id: String,
    instance: Option<String>,
    epoch: i32,
    /// What it reads from: it has given up what it does not name here.
    owned: BTreeSet<(TopicId, i32)>,
    /// What it was last told to have.
    told: BTreeSet<(TopicId, i32)>,
    waiting: Option<Token>,
    joined: bool,
    /// It was told that it is out, or that another has its seat; it is not to be let in again as it is.
    fenced: bool,
    /// The answer to its last request was lost: the next one says all.
    must_say_all: bool,
    /// The answer that it waits for will not arrive.
    loses: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// A client sends its next heartbeat; `repeat` sends it twice.
    Beat {
        client: usize,
        repeat: bool,
    },
    /// It does what it was told: gives up, takes over.
    Obey(usize),
    /// The answer that it waits for never arrives; `at_once` it does not wait for it either, while its request may
    /// still be on its way.
    Lose {
        client: usize,
        at_once: bool,
    },
    Leave(usize),
    /// A static client's process restarts, with or without saying that it will be back.
    Restart {
        client: usize,
        polite: bool,
    },
    Commit,
    Fail,
    Pass(i64),
    Topics(Vec<i32>),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0usize..4;
    prop_oneof![
        14 => (client.clone(), prop::bool::weighted(0.1)).prop_map(|(client, repeat)| Step::Beat { client, repeat }),
        10 => client.clone().prop_map(Step::Obey),
        2 => (client.clone(), any::<bool>()).prop_map(|(client, at_once)| Step::Lose { client, at_once }),
        1 => client.clone().prop_map(Step::Leave),
        1 => (client, any::<bool>()).prop_map(|(client, polite)| Step::Restart { client, polite }),
        10 => Just(Step::Commit),
        1 => Just(Step::Fail),
        3 => prop_oneof![Just(500i64), Just(5_000), Just(31_000), Just(46_000)].prop_map(Step::Pass),
        1 => proptest::collection::vec(0i32..6, 1..3).prop_map(Step::Topics),
        1 => Just(Step::Reload),
    ]
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    topics: Vec<i32>,
    version: u64,
    restarts: usize,
    epoch: i32,
    /// Epoch of each member id that the group was ever seen with.
    epochs: BTreeMap<String, i32>,
    gone: BTreeSet<String>,
    /// Ids of processes that ended before they heard that they are in: their request to join may be on its way still.
    late: BTreeSet<String>,
}

impl World {
    fn new() -> World {
        let client = |n: usize| Client {
            id: format!("m{n}"),
            // Two are static.
            instance: (n < 2).then(|| format!("i{n}")),
            epoch: 0,
            owned: BTreeSet::new(),
            told: BTreeSet::new(),
            waiting: None,
            joined: false,
            fenced: false,
            must_say_all: false,
            loses: false,
        };
        let mut bench = bench(4);
        bench.auto = false;
        World {
            bench,
            clients: (0..4).map(client).collect(),
            topics: vec![4],
            version: 1,
            restarts: 0,
            epoch: 0,
            epochs: BTreeMap::new(),
            gone: BTreeSet::new(),
            late: BTreeSet::new(),
        }
    }

    fn request(&self, at: usize) -> ConsumerHeartbeatRequest {
        let client = &self.clients[at];
        let mut owned: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (topic, p) in &client.owned {
            owned.entry(*topic).or_default().push(*p);
        }
        let all = client.must_say_all || !client.joined;
        ConsumerHeartbeatRequest {
            member_epoch: if client.joined { client.epoch } else { 0 },
            instance_id: client.instance.clone(),
            rebalance_timeout_ms: if all { 30_000 } else { -1 },
            topics: all.then(|| vec!["t1".into(), "t2".into()]),
            owned: Some(owned.into_iter().collect()),
            ..join(&client.id)
        }
    }

    /// A client that is out gives everything up and comes as somebody new.
    fn start_over(&mut self, at: usize) {
        self.restarts += 1;
        let client = &mut self.clients[at];
        if !client.joined {
            self.late.insert(client.id.clone());
        }
        client.id = format!("m{at}-{}", self.restarts);
        client.epoch = 0;
        client.owned.clear();
        client.told.clear();
        client.waiting = None;
        (client.joined, client.fenced, client.must_say_all, client.loses) = (false, false, false, false);
    }

    fn beat(&mut self, at: usize, repeat: bool) {
        if self.clients[at].waiting.is_some() {
            return;
        }
        if self.clients[at].fenced {
            self.start_over(at);
        }
        let request = self.request(at);
        if repeat {
            let lost = self.bench.send_beat(request.clone());
            self.clients[at].must_say_all = true;
            let _ = lost;
        }
        let request = if repeat { self.request(at) } else { request };
        let token = self.bench.send_beat(request);
        self.clients[at].waiting = Some(token);
    }

    /// Gives the clients the answers that are there.
    fn deliver(&mut self) {
        for at in 0..self.clients.len() {
            let Some(token) = self.clients[at].waiting else { continue };
            let Some(Reply::ConsumerHeartbeat(reply)) = self.bench.reply(token) else { continue };
            self.clients[at].waiting = None;
            if std::mem::take(&mut self.clients[at].loses) {
                self.clients[at].must_say_all = true;
            } else {
                self.hear(at, reply);
            }
        }
    }

    fn hear(&mut self, at: usize, reply: ConsumerHeartbeatReply) {
        let client = &mut self.clients[at];
        match reply.error {
            ErrorCode::None => {
                let again = client.joined && self.gone.contains(&client.id);
                assert!(!again, "{} was fenced and is let in again", client.id);
                client.joined = true;
                client.must_say_all = false;
                assert!(reply.member_epoch >= client.epoch, "a member's epoch fell");
                client.epoch = reply.member_epoch;
                if let Some(assignment) = reply.assignment {
                    client.told = assignment
                        .into_iter()
                        .flat_map(|(t, ps)| ps.into_iter().map(move |p| (t, p)))
                        .collect();
                }
                self.check_owners(at);
            }
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupIdNotFound => {
                client.fenced = true;
                client.owned.clear();
                client.told.clear();
            }
            // Its seat is held by its former self: it tries again.
            ErrorCode::UnreleasedInstanceId => client.must_say_all = true,
            ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoadInProgress => client.must_say_all = true,
            other => panic!("{other:?} {:?}", reply.error_message),
        }
    }

    /// Nobody who is still a member has what was just given to `at`.
    fn check_owners(&self, at: usize) {
        let members: BTreeSet<String> =
            self.bench.consumers().members.into_iter().map(|m| m.member_id).collect();
        for (other, client) in self.clients.iter().enumerate() {
            if other == at || !members.contains(&client.id) {
                continue;
            }
            let both: Vec<_> = client.owned.intersection(&self.clients[at].told).collect();
            assert!(both.is_empty(), "{both:?} of {} is given to {}", client.id, self.clients[at].id);
        }
    }

    /// Epochs do not fall, and who is out stays out.
    fn check_group(&mut self) {
        let group = self.bench.consumers();
        if !group.error.is_none() {
            return;
        }
        assert!(group.epoch >= self.epoch, "the group's epoch fell from {} to {}", self.epoch, group.epoch);
        assert!(group.assignment_epoch <= group.epoch);
        self.epoch = group.epoch;
        let now: BTreeMap<String, i32> =
            group.members.iter().map(|m| (m.member_id.clone(), m.member_epoch)).collect();
        for (id, before) in &self.epochs {
            match now.get(id) {
                None => drop(self.gone.insert(id.clone())),
                Some(-2) => {}
                Some(epoch) => assert!(epoch >= before, "{id} fell from {before} to {epoch}"),
            }
        }
        // One that has never heard that it is in may be joining still, under the same id.
        let joining = |id: &String| self.clients.iter().any(|c| c.id == *id && !c.joined);
        self.gone.retain(|id| !joining(id) && !self.late.contains(id));
        assert!(now.keys().all(|id| !self.gone.contains(id)), "a fenced member is back: {now:?}");
        let mut owned = BTreeSet::new();
        for topic in group.members.iter().flat_map(|m| &m.assignment) {
            for p in &topic.partitions {
                assert!(owned.insert((topic.id, *p)), "{}-{p} has two members", topic.name);
            }
        }
        self.epochs = now;
    }

    fn reload(&mut self) {
        let mut next = self.bench.reloaded();
        next.c.topics_changed(image(self.version, &self.topics));
        next.auto = false;
        next.next_token = self.bench.next_token;
        self.bench = next;
        for client in &mut self.clients {
            client.must_say_all |= client.waiting.take().is_some();
            client.loses = false;
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Beat { client, repeat } => self.beat(*client, *repeat),
            Step::Obey(at) => {
                let client = &mut self.clients[*at];
                client.owned = client.told.clone();
            }
            Step::Lose { client, at_once } => {
                let client = &mut self.clients[*client];
                client.loses = client.waiting.is_some() && !*at_once;
                if *at_once {
                    client.must_say_all |= client.waiting.take().is_some();
                }
            }
            Step::Leave(at) => {
                if self.clients[*at].joined && !self.clients[*at].fenced {
                    let request = ConsumerHeartbeatRequest { member_epoch: -1, ..self.request(*at) };
                    self.bench.send_beat(request);
                    self.start_over(*at);
                }
            }
            Step::Restart { client, polite } => {
                if *polite && self.clients[*client].instance.is_some() && self.clients[*client].joined {
                    let request = ConsumerHeartbeatRequest { member_epoch: -2, ..self.request(*client) };
                    self.bench.send_beat(request);
                }
                self.start_over(*client);
            }
            Step::Commit if !self.bench.open.is_empty() => self.bench.commit_one(),
            Step::Fail if !self.bench.open.is_empty() => self.bench.fail_one(ErrorCode::NotEnoughReplicas),
            Step::Commit | Step::Fail => {}
            Step::Pass(ms) => self.bench.pass(*ms),
            Step::Topics(partitions) => {
                self.version += 1;
                self.topics = partitions.clone();
                self.bench.c.topics_changed(image(self.version, partitions));
            }
            Step::Reload => self.reload(),
        }
        self.check_group();
        self.deliver();
    }

    /// Everybody sends heartbeats in peace: then every partition has exactly one owner.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.bench.pass(2_000);
            for at in 0..self.clients.len() {
                self.bench.commit_all();
                self.deliver();
                self.clients[at].owned = self.clients[at].told.clone();
                self.beat(at, false);
            }
            self.bench.commit_all();
            self.check_group();
            self.deliver();
        }
        assert_eq!(self.bench.consumers().state, "Stable");
        let mut all: Vec<(TopicId, i32)> = self.clients.iter().flat_map(|c| c.owned.clone()).collect();
        all.sort_unstable();
        let of = |(at, n): (usize, &i32)| (0..*n).map(move |p| (topic(at as u8 + 1), p)).collect::<Vec<_>>();
        let wanted: Vec<_> = self.topics.iter().enumerate().flat_map(of).collect();
        assert_eq!(all, wanted);
        assert_eq!(self.bench.reloaded().consumers().members.len(), 4);
    }
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    steps.iter().for_each(|step| world.apply(step));
    world.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_has_two_owners_and_all_have_one_when_it_is_quiet(
        steps in proptest::collection::vec(step(), 0..120)
    ) {
        run(&steps);
    }
}

/// A random history's finding: the process ends while it joins for the second time under an id of which it never heard
/// that it had been in.
#[test]
fn a_late_join_of_a_process_that_ended_is_no_fenced_member() {
    let beat = |client| Step::Beat { client, repeat: false };
    run(&[
        beat(0),
        beat(2),
        Step::Commit,
        Step::Lose { client: 2, at_once: false },
        Step::Commit,
        Step::Obey(0),
        Step::Obey(0),
        Step::Pass(46_000),
        beat(2),
        Step::Restart { client: 2, polite: false },
        Step::Commit,
    ]);
}

#[test]
fn a_member_that_is_not_fenced_when_its_time_is_up_is_found() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    plant(Some(Bug::TwoOwners));
    let found = runner.run(&proptest::collection::vec(step(), 60..160), |steps| {
        let outcome = std::panic::catch_unwind(|| run(&steps));
        outcome.map_err(|_| TestCaseError::fail("an invariant is broken"))
    });
    plant(None);
    assert!(found.is_err(), "the planted bug went unnoticed");
}
