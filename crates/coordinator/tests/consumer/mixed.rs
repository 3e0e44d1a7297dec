//! Random histories of groups whose members speak both protocols: the group changes its kind back and forth, appends
//! fail, coordinators are read again. Classic members are eager: they give everything up before they join again.
use crate::common::{self, Bench};
use crate::group::*;
use crate::migration::{assigned, assignment, classic_join};
use coordinator::*;
use model::ErrorCode;
use proptest::prelude::*;
use std::collections::BTreeSet;

const PARTITIONS: i32 = 4;

#[derive(Clone, Debug, Default)]
struct Client {
    classic: bool,
    id: String,
    epoch: i32,
    joined: bool,
    owned: BTreeSet<i32>,
    told: BTreeSet<i32>,
    waiting: Option<Token>,
    /// A classic member that has joined and not synced: whom it is to assign to, if it leads.
    to_sync: Option<Vec<String>>,
    must_say_all: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Act(usize),
    Leave(usize),
    /// Its process ends without a word.
    Die(usize),
    Commit,
    Fail,
    Pass(i64),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0usize..4;
    prop_oneof![
        20 => client.clone().prop_map(Step::Act),
        2 => client.clone().prop_map(Step::Leave),
        1 => client.prop_map(Step::Die),
        16 => Just(Step::Commit),
        1 => Just(Step::Fail),
        3 => prop_oneof![Just(500i64), Just(3_000), Just(11_000), Just(61_000)].prop_map(Step::Pass),
        1 => Just(Step::Reload),
    ]
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    lives: usize,
}

impl World {
    fn new() -> World {
        let mut bench = bench(PARTITIONS);
        bench.auto = false;
        let mut world = World { bench, clients: vec![Client::default(); 4], lives: 0 };
        (0..4).for_each(|at| world.start_over(at));
        world
    }

    fn start_over(&mut self, at: usize) {
        self.lives += 1;
        let classic = at.is_multiple_of(2);
        let id = if classic { String::new() } else { format!("n{at}-{}", self.lives) };
        self.clients[at] = Client { classic, id, ..Client::default() };
    }

    fn act(&mut self, at: usize) {
        if self.clients[at].waiting.is_some() {
            return;
        }
        let token = if self.clients[at].classic { self.act_classic(at) } else { self.act_new(at) };
        self.clients[at].waiting = Some(token);
        self.deliver();
    }

    fn act_new(&mut self, at: usize) -> Token {
        let client = &mut self.clients[at];
        client.owned = client.told.clone();
        let all = client.must_say_all || !client.joined;
        let owned: Vec<i32> = client.owned.iter().copied().collect();
        let owned = if owned.is_empty() { Vec::new() } else { vec![(topic(1), owned)] };
        let request = ConsumerHeartbeatRequest {
            member_epoch: if client.joined { client.epoch } else { 0 },
            rebalance_timeout_ms: if all { 30_000 } else { -1 },
            topics: all.then(|| vec!["t1".into()]),
            owned: Some(owned),
            ..join(&client.id)
        };
        self.bench.send_beat(request)
    }

    fn act_classic(&mut self, at: usize) -> Token {
        let client = self.clients[at].clone();
        if !client.joined {
            let request = JoinRequest { require_known_member_id: true, ..classic_join(&client.id, &[]) };
            return self.bench.send_join(request);
        }
        let Some(members) = client.to_sync else {
            let (token, mut fx) = (self.bench.token(), Vec::new());
            let request = HeartbeatRequest {
                group_id: "g".into(),
                generation_id: client.epoch,
                member_id: client.id,
                instance_id: None,
            };
            self.bench.c.heartbeat(self.bench.now(), token, request, &mut fx);
            self.bench.take(fx);
            return token;
        };
        let share =
            |n: usize| (0..PARTITIONS).filter(|p| *p as usize % members.len() == n).collect::<Vec<_>>();
        let each = members.iter().enumerate().map(|(n, id)| (id.clone(), assignment(1, &share(n))));
        let assignments = each.collect();
        self.bench.send_sync(SyncRequest { assignments, ..common::sync(&client.id, client.epoch, &[]) })
    }

    fn deliver(&mut self) {
        for at in 0..self.clients.len() {
            let Some(reply) = self.clients[at].waiting.and_then(|token| self.bench.reply(token)) else {
                continue;
            };
            self.clients[at].waiting = None;
            match reply {
                Reply::ConsumerHeartbeat(reply) => self.hear_new(at, reply),
                Reply::Join(reply) => self.hear_join(at, reply),
                Reply::Sync(reply) => self.hear_sync(at, reply),
                Reply::Heartbeat(error) => self.hear_error(at, error),
                other => panic!("{other:?}"),
            }
        }
    }

    fn hear_new(&mut self, at: usize, reply: ConsumerHeartbeatReply) {
        let client = &mut self.clients[at];
        match reply.error {
            ErrorCode::None => {
                assert!(reply.member_epoch >= client.epoch);
                (client.joined, client.must_say_all, client.epoch) = (true, false, reply.member_epoch);
                if let Some(given) = reply.assignment {
                    client.told = given.into_iter().flat_map(|(_, ps)| ps).collect();
                }
                self.check(at);
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => self.start_over(at),
            // The group went back to the classic protocol, or is gone.
            ErrorCode::GroupIdNotFound => self.start_over(at),
            _ => client.must_say_all = true,
        }
    }

    fn hear_join(&mut self, at: usize, reply: JoinReply) {
        let client = &mut self.clients[at];
        match reply.error {
            ErrorCode::None => {
                (client.joined, client.epoch, client.id) = (true, reply.generation_id, reply.member_id);
                client.to_sync = Some(reply.members.into_iter().map(|m| m.member_id).collect());
            }
            ErrorCode::MemberIdRequired => client.id = reply.member_id,
            ErrorCode::UnknownMemberId => client.id.clear(),
            _ => {}
        }
    }

    fn hear_sync(&mut self, at: usize, reply: SyncReply) {
        if reply.error.is_none() {
            let client = &mut self.clients[at];
            client.to_sync = None;
            client.told = assigned(&reply.assignment);
            client.owned = client.told.clone();
            return self.check(at);
        }
        self.hear_error(at, reply.error);
    }

    fn hear_error(&mut self, at: usize, error: ErrorCode) {
        match error {
            ErrorCode::None | ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress => {}
            ErrorCode::RebalanceInProgress => {
                let id = self.clients[at].id.clone();
                self.start_over(at);
                self.clients[at].id = id;
            }
            _ => self.start_over(at),
        }
    }

    fn members(&self) -> BTreeSet<String> {
        let new = self.bench.consumers().members.into_iter().map(|m| m.member_id);
        new.chain(self.bench.describe().members.into_iter().map(|m| m.member_id)).collect()
    }

    /// Nobody who is still a member has what was just given to `at`.
    fn check(&self, at: usize) {
        let members = self.members();
        for (other, client) in self.clients.iter().enumerate() {
            if other != at && members.contains(&client.id) {
                let both: Vec<_> = client.owned.intersection(&self.clients[at].told).collect();
                assert!(both.is_empty(), "{both:?} of {} is given to {}", client.id, self.clients[at].id);
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Act(at) => self.act(*at),
            Step::Leave(at) => {
                let client = self.clients[*at].clone();
                if client.joined && client.classic {
                    self.bench.send_leave(&[(&client.id, None)]);
                } else if client.joined {
                    self.bench.send_beat(beat(&client.id, -1));
                }
                self.start_over(*at);
            }
            Step::Die(at) => self.start_over(*at),
            Step::Commit if !self.bench.open.is_empty() => self.bench.commit_one(),
            Step::Fail if !self.bench.open.is_empty() => self.bench.fail_one(ErrorCode::NotEnoughReplicas),
            Step::Commit | Step::Fail => {}
            Step::Pass(ms) => self.bench.pass(*ms),
            Step::Reload => {
                let mut next = self.bench.reloaded();
                next.c.topics_changed(image(1, &[PARTITIONS]));
                (next.auto, next.next_token) = (false, self.bench.next_token);
                self.bench = next;
                for client in &mut self.clients {
                    client.must_say_all |= client.waiting.take().is_some();
                }
            }
        }
        self.deliver();
    }

    fn settle(&mut self) {
        for _ in 0..150 {
            self.bench.commit_all();
            self.deliver();
            self.bench.pass(1_500);
            for at in 0..self.clients.len() {
                self.bench.commit_all();
                self.deliver();
                self.act(at);
            }
        }
        self.bench.commit_all();
        self.deliver();
        let mut all: Vec<i32> = self.clients.iter().flat_map(|c| c.owned.clone()).collect();
        all.sort_unstable();
        assert_eq!(
            all,
            (0..PARTITIONS).collect::<Vec<_>>(),
            "{:#?} {:#?}",
            self.bench.consumers(),
            self.clients
        );
        assert_eq!(self.members().len(), 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_of_both_protocols_never_share_a_partition(
        steps in proptest::collection::vec(step(), 0..150)
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.apply(step));
        world.settle();
    }
}
