//! Random histories: every request is answered once, and the log alone gives the committed state again.
#![allow(clippy::unwrap_used)]
mod common;
use common::*;
use coordinator::*;
use model::ErrorCode;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    JoinNew { known: bool },
    JoinStatic { instance: u8 },
    Rejoin { member: u8, changed: bool },
    Sync { member: u8 },
    Heartbeat { member: u8 },
    Leave { member: u8 },
    Commit { member: u8, partition: u8, offset: u16 },
    SimpleCommit { partition: u8, offset: u16, lifetime: bool },
    Fetch { stable: bool },
    DeleteOffset { partition: u8 },
    DeleteGroup,
    DeleteTopic,
    Pass { ms: u32 },
    Settle,
    Fail { code: u8 },
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any::<bool>().prop_map(|known| Op::JoinNew { known }),
        2 => (0u8..3).prop_map(|instance| Op::JoinStatic { instance }),
        8 => (any::<u8>(), any::<bool>()).prop_map(|(member, changed)| Op::Rejoin { member, changed }),
        10 => any::<u8>().prop_map(|member| Op::Sync { member }),
        4 => any::<u8>().prop_map(|member| Op::Heartbeat { member }),
        2 => any::<u8>().prop_map(|member| Op::Leave { member }),
        6 => (any::<u8>(), 0u8..4, any::<u16>())
            .prop_map(|(member, partition, offset)| Op::Commit { member, partition, offset }),
        3 => (0u8..4, any::<u16>(), any::<bool>())
            .prop_map(|(partition, offset, lifetime)| Op::SimpleCommit { partition, offset, lifetime }),
        2 => any::<bool>().prop_map(|stable| Op::Fetch { stable }),
        1 => (0u8..4).prop_map(|partition| Op::DeleteOffset { partition }),
        1 => Just(Op::DeleteGroup),
        1 => Just(Op::DeleteTopic),
        8 => (0u32..8_000).prop_map(|ms| Op::Pass { ms }),
        1 => Just(Op::Pass { ms: 8 * 24 * 3_600_000 }),
        12 => Just(Op::Settle),
        2 => (0u8..4).prop_map(|code| Op::Fail { code }),
        1 => Just(Op::Reload),
    ]
}

/// What clients know: member id, instance id, last generation.
#[derive(Default)]
struct Clients {
    seats: Vec<(String, Option<String>, i32)>,
    joins: Vec<(Token, Option<String>)>,
}

impl Clients {
    fn learn(&mut self, b: &mut Bench) {
        let joins = std::mem::take(&mut self.joins);
        for (token, instance) in joins {
            match b.replies.get(&token) {
                Some(Reply::Join(reply)) if !reply.member_id.is_empty() => {
                    let seat = (reply.member_id.clone(), instance, reply.generation_id);
                    self.seats.retain(|s| s.0 != seat.0);
                    self.seats.push(seat);
                }
                Some(_) => {}
                None => self.joins.push((token, instance)),
            }
        }
        if self.seats.len() > 12 {
            self.seats.remove(0);
        }
    }

    fn pick(&self, n: u8) -> (String, Option<String>, i32) {
        match self.seats.len() {
            0 => ("nobody".into(), None, 1),
            len => self.seats[usize::from(n) % len].clone(),
        }
    }
}

fn invariants(b: &Bench) {
    let described = b.describe();
    if described.error.is_none() {
        let mut ids: Vec<&str> = described.members.iter().map(|m| m.member_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), described.members.len());
        assert_eq!(
            described.state == "Empty",
            described.members.is_empty() && described.state != "PreparingRebalance"
        );
    }
    if let Some(at) = b.c.next_deadline() {
        assert!(at.0 > 0);
    }
}

fn apply(b: &mut Bench, clients: &mut Clients, op: Op) {
    match op {
        Op::JoinNew { known } => {
            let token = b.send_join(JoinRequest { require_known_member_id: known, ..join("") });
            clients.joins.push((token, None));
        }
        Op::JoinStatic { instance } => {
            let name = format!("i{instance}");
            let token = b.send_join(static_join("", &name));
            clients.joins.push((token, Some(name)));
        }
        Op::Rejoin { member, changed } => {
            let (id, instance, _) = clients.pick(member);
            let topics: &[&str] = if changed { &["t", "u"] } else { &["t"] };
            let protocols = vec![Protocol { name: "range".into(), metadata: subscription(topics) }];
            let token = b.send_join(JoinRequest { protocols, instance_id: instance.clone(), ..join(&id) });
            clients.joins.push((token, instance));
        }
        Op::Sync { member } => {
            let (id, instance_id, generation) = clients.pick(member);
            let all: Vec<String> = clients.seats.iter().map(|s| s.0.clone()).collect();
            b.send_sync(SyncRequest { instance_id, ..sync(&id, generation, &all) });
        }
        Op::Heartbeat { member } => {
            let (id, instance, generation) = clients.pick(member);
            b.heartbeat_as(&id, instance.as_deref(), generation);
        }
        Op::Leave { member } => {
            let (id, instance, _) = clients.pick(member);
            b.send_leave(&[(&id, instance.as_deref())]);
        }
        Op::Commit { member, partition, offset } => {
            let (id, instance_id, generation) = clients.pick(member);
            let request = commit(&id, generation, i32::from(partition), i64::from(offset));
            b.send_commit(CommitRequest { instance_id, ..request });
        }
        Op::SimpleCommit { partition, offset, lifetime } => {
            let retention_ms = lifetime.then_some(60_000);
            b.send_commit(CommitRequest {
                retention_ms,
                ..simple_commit(i32::from(partition), i64::from(offset))
            });
        }
        Op::Fetch { stable } => {
            b.send_fetch(None, stable);
        }
        Op::DeleteOffset { partition } => {
            b.send_delete_offsets("t", &[i32::from(partition)]);
        }
        Op::DeleteGroup => {
            b.send_delete_groups(&["g"]);
        }
        Op::DeleteTopic => {
            let mut fx = Vec::new();
            b.c.topics_deleted(b.now(), &["t".into()], &mut fx);
            b.take(fx);
        }
        Op::Pass { ms } => b.pass(i64::from(ms)),
        Op::Settle => {
            if !b.open.is_empty() {
                b.commit_one();
            }
        }
        Op::Fail { code } => {
            if !b.open.is_empty() {
                let codes = [
                    ErrorCode::NotEnoughReplicas,
                    ErrorCode::KafkaStorageError,
                    ErrorCode::MessageTooLarge,
                    ErrorCode::CoordinatorNotAvailable,
                ];
                b.fail_one(codes[usize::from(code)]);
            }
        }
        Op::Reload => reload(b),
    }
}

/// The lead is lost and won again; of the appends under way the first half had reached the log.
fn reload(b: &mut Bench) {
    let mut fx = Vec::new();
    b.c.unload(b.now(), &mut fx);
    b.take(fx);
    let keep = b.open.len() / 2;
    for (_, records) in b.open.drain(..).take(keep).collect::<Vec<_>>() {
        for record in records {
            b.c.replay(b.log.len() as i64, record.key.clone(), record.value.clone()).unwrap();
            b.history.push(Entry::Plain(record.clone()));
            b.log.push(record);
        }
    }
    let mut fx = Vec::new();
    b.c.loaded(b.now(), &mut fx);
    b.take(fx);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_log_alone_gives_the_committed_state(ops in proptest::collection::vec(op(), 1..120)) {
        let mut b = Bench::new();
        b.auto = false;
        let mut clients = Clients::default();
        for op in ops {
            apply(&mut b, &mut clients, op);
            clients.learn(&mut b);
            invariants(&b);
            let replayed = b.reloaded();
            prop_assert!(b.c.live_records().eq(replayed.c.live_records()));
            prop_assert!(b.c.committed_offsets().eq(replayed.c.committed_offsets()));
        }
        b.commit_all();
        b.auto = true;
        b.pass(400_000);
        prop_assert_eq!(b.c.open_batches(), 0);
        let all: Vec<Token> = (1..=b.next_token).map(Token).collect();
        prop_assert!(b.answered.iter().eq(all.iter()), "each request is answered by its timers at the latest");
        let mut fx = Vec::new();
        b.c.unload(b.now(), &mut fx);
        prop_assert!(fx.is_empty(), "still waiting after every timeout: {:?}", fx);
        let replayed = b.reloaded();
        prop_assert!(b.c.live_records().eq(replayed.c.live_records()));
    }

    #[test]
    fn the_same_history_twice_is_the_same_to_the_byte(ops in proptest::collection::vec(op(), 1..80)) {
        let run = |ops: &[Op]| {
            let mut b = Bench::new();
            b.auto = false;
            let mut clients = Clients::default();
            for op in ops {
                apply(&mut b, &mut clients, *op);
                clients.learn(&mut b);
            }
            (b.log, b.replies, b.events)
        };
        prop_assert_eq!(run(&ops), run(&ops));
    }
}
