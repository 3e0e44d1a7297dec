//! Leases of two nodes: single facts, and a random history of a channel that loses, delays, reorders and
//! doubles, of processes that pause and start anew, of disks that hang.
use crate::liveness::{Heartbeat, LEASE, LeaseEvent, Liveness};
use crate::sleep::Sleeping;
use model::{GroupKey, Mono, NodeId, TopicId};
use proptest::prelude::*;
use std::time::Duration;

const LEASE_MS: i64 = LEASE.as_millis() as i64;

fn at(ms: i64) -> Mono {
    Mono(0).after_ms(ms)
}

fn heartbeats(machine: &mut Liveness, ms: i64, oldest_io_ms: u64) -> Vec<Heartbeat> {
    let mut out = Vec::new();
    machine.heartbeats(at(ms), oldest_io_ms, &mut out);
    out.into_iter().map(|(_, beat)| beat).collect()
}

/// Node 1, whose process start is 10, with a connection to node 2, whose process start is 20; at 0 ms.
struct One {
    machine: Liveness,
    said: Vec<LeaseEvent>,
    /// The last number of node 2.
    number: u64,
}

impl One {
    fn connected() -> One {
        let mut one = One { machine: Liveness::new(1, 10), said: Vec::new(), number: 0 };
        one.machine.on_connected(at(0), 2, 20, &mut one.said);
        one
    }

    /// Node 1 sends; the number that it gave its heartbeat.
    fn sends(&mut self, ms: i64) -> u64 {
        let beats = heartbeats(&mut self.machine, ms, 0);
        assert_eq!(beats.len(), 1, "one is due at {ms}");
        beats[0].number
    }

    fn beat(&mut self, echo: u64) -> Heartbeat {
        self.number += 1;
        let number = self.number;
        Heartbeat {
            from_start: 20,
            to_start: 10,
            number,
            echo,
            oldest_io_ms: 0,
            sleeping: Vec::new(),
            full: false,
            load: None,
        }
    }

    fn hears(&mut self, ms: i64, beat: &Heartbeat) -> bool {
        self.machine.on_heartbeat(at(ms), 2, beat, &mut self.said)
    }

    fn events(&mut self) -> Vec<LeaseEvent> {
        std::mem::take(&mut self.said)
    }

    /// With the lease granted at `ms` by an echo of a heartbeat that left then.
    fn granted(ms: i64) -> One {
        let mut one = One::connected();
        let echo = one.sends(ms);
        let beat = one.beat(echo);
        assert!(one.hears(ms, &beat));
        assert_eq!(one.events(), [LeaseEvent::Gained(2)]);
        one
    }
}

#[test]
fn a_lease_ends_400_ms_after_the_last_heartbeat_that_granted_it() {
    let mut one = One::granted(0);
    let echo = one.sends(100);
    let beat = one.beat(echo);
    one.hears(150, &beat);
    one.machine.advance(at(549), &mut one.said);
    assert!(one.events().is_empty() && one.machine.holds(at(549), 2));
    assert!(!one.machine.holds(at(550), 2), "whether or not somebody has called advance");
    one.machine.advance(at(560), &mut one.said);
    assert_eq!(one.events(), [LeaseEvent::Lost(2)]);
    assert_eq!(one.machine.lost_since(2), Some(at(550)));
    one.machine.advance(at(900), &mut one.said);
    assert!(one.events().is_empty(), "it is lost once");
}

#[test]
fn a_reset_connection_ends_the_lease_at_once_and_what_still_comes_over_it_is_not_heard() {
    let mut one = One::granted(0);
    one.machine.on_disconnected(at(20), 2, &mut one.said);
    assert_eq!(one.events(), [LeaseEvent::Lost(2)]);
    let beat = one.beat(1);
    assert!(!one.hears(30, &beat));
    assert!(one.events().is_empty());
    assert_eq!(one.machine.next_deadline(), None, "nothing is sent without a connection");
}

#[test]
fn echoes_of_an_earlier_connection_grant_nothing() {
    let mut one = One::granted(0);
    one.machine.on_disconnected(at(20), 2, &mut one.said);
    one.machine.on_connected(at(30), 2, 20, &mut one.said);
    one.events();
    let beat = one.beat(1);
    assert!(one.hears(40, &beat));
    assert!(one.events().is_empty());
    let echo = one.sends(40);
    let beat = one.beat(echo);
    assert!(one.hears(50, &beat));
    assert_eq!(one.events(), [LeaseEvent::Gained(2)]);
}

#[test]
fn a_new_process_of_the_peer_is_a_lost_lease_though_it_was_never_silent() {
    let mut one = One::granted(0);
    let echo = one.sends(100);
    let old = one.beat(echo);
    let new = Heartbeat { from_start: 21, number: 1, ..old.clone() };
    assert!(one.hears(110, &new));
    assert_eq!(one.events(), [LeaseEvent::Lost(2)], "the echo is of what its predecessor heard");
    let told = heartbeats(&mut one.machine, 110, 0);
    assert_eq!((told.len(), told[0].to_start, told[0].echo), (1, 21, 1), "the new process hears at once");
    assert!(!one.hears(120, &old), "what its predecessor left behind is not heard");
    let new = Heartbeat { number: 2, echo: told[0].number, ..new };
    assert!(one.hears(130, &new));
    assert_eq!(one.events(), [LeaseEvent::Gained(2)]);
}

#[test]
fn a_heartbeat_to_an_earlier_process_of_ours_grants_nothing() {
    let mut one = One::connected();
    let echo = one.sends(0);
    let beat = Heartbeat { to_start: 9, ..one.beat(echo) };
    assert!(!one.hears(10, &beat));
    assert!(one.events().is_empty());
    assert_eq!(heartbeats(&mut one.machine, 100, 0)[0].echo, 0, "nor is it echoed");
}

#[test]
fn a_node_whose_disk_hangs_for_more_than_a_second_is_granted_nothing() {
    let mut one = One::connected();
    let echo = one.sends(0);
    let slow = Heartbeat { oldest_io_ms: 1_001, ..one.beat(echo) };
    assert!(one.hears(10, &slow));
    assert!(one.events().is_empty());
    let slow = Heartbeat { oldest_io_ms: 1_000, ..one.beat(echo) };
    assert!(one.hears(20, &slow));
    assert_eq!(one.events(), [LeaseEvent::Gained(2)]);
    assert_eq!(heartbeats(&mut one.machine, 100, 77)[0].oldest_io_ms, 77);
}

#[test]
fn after_a_pause_of_our_own_heartbeats_that_waited_grant_nothing() {
    let mut one = One::granted(0);
    let echo = one.sends(100);
    let waited: Vec<Heartbeat> = (0..50).map(|_| one.beat(echo)).collect();
    for beat in &waited {
        assert!(one.hears(5_100, beat));
    }
    assert_eq!(
        one.events(),
        [LeaseEvent::Lost(2)],
        "the first call after the pause ends it, and none grants"
    );
    assert_eq!(one.machine.lost_since(2), Some(at(400)), "since it ran out, not since we woke");
    let echo = one.sends(5_100);
    let fresh = one.beat(echo);
    assert!(one.hears(5_101, &fresh));
    assert_eq!(one.events(), [LeaseEvent::Gained(2)]);
}

#[test]
fn an_echo_is_good_for_as_long_as_a_lease() {
    for (ms, grants) in [(400, true), (401, false)] {
        let mut one = One::connected();
        let echo = one.sends(0);
        let beat = one.beat(echo);
        assert!(one.hears(ms, &beat));
        assert_eq!(one.events().len(), usize::from(grants), "{ms}");
    }
}

#[test]
fn heartbeats_that_come_late_or_twice_are_not_heard() {
    let mut one = One::connected();
    let echo = one.sends(0);
    let (first, second) = (one.beat(echo), one.beat(echo));
    assert!(one.hears(10, &second));
    assert!(!one.hears(300, &first) && !one.hears(300, &second));
    assert!(!one.machine.holds(at(410), 2), "and prolong nothing");
}

#[test]
fn heartbeats_are_due_every_100_ms_and_pauses_are_not_made_up_for() {
    let mut one = One::connected();
    assert_eq!(one.machine.next_deadline(), Some(at(0)));
    one.sends(0);
    assert_eq!(one.machine.next_deadline(), Some(at(100)));
    assert!(heartbeats(&mut one.machine, 99, 0).is_empty());
    one.sends(100);
    one.sends(5_000);
    assert_eq!(one.machine.next_deadline(), Some(at(5_100)));
    let echo = one.sends(5_100);
    let beat = one.beat(echo);
    one.hears(5_101, &beat);
    let mut last = 5_101;
    while one.machine.holds(at(last), 2) {
        let next = one.machine.next_deadline().unwrap();
        assert!(next > at(last), "{last}");
        last = (next.0 / 1_000_000) as i64;
        heartbeats(&mut one.machine, last, 0);
        one.machine.advance(at(last), &mut one.said);
    }
    assert_eq!(last, 5_501, "the end of a lease is a deadline of its own");
}

#[test]
fn live_nodes_come_in_order_and_this_one_is_among_them() {
    let mut one = One::granted(0);
    one.machine.add(at(7), 0);
    one.machine.add(at(7), 1);
    one.machine.add(at(9), 2);
    assert_eq!(one.machine.live(at(10)), [1, 2]);
    assert_eq!(
        one.machine.lost_since(0),
        Some(at(7)),
        "a node that was never heard is lost since it is known"
    );
    assert_eq!((one.machine.lost_since(2), one.machine.lost_since(1)), (None, None));
    let recent = |ms| one.machine.recent(at(ms), Duration::from_secs(9));
    assert_eq!((recent(10), recent(9_100), recent(9_500)), (vec![0, 1, 2], vec![1, 2], vec![1]));
    assert_eq!(one.machine.recent(at(10), Duration::ZERO), one.machine.live(at(10)));
    assert!(one.machine.holds(at(10), 1));
}

fn asleep(partition: i32) -> Sleeping {
    Sleeping { key: GroupKey { topic: TopicId([1; 16]), partition }, epoch: 3, last_index: 5, last_term: 3 }
}

#[test]
fn sleeping_groups_are_told_once_a_thousand_at_a_time() {
    let mut one = One::connected();
    assert!(!one.machine.sleeps(3, asleep(0)), "nobody is there to be told");
    for partition in 0..10_000 {
        assert!(one.machine.sleeps(2, asleep(partition)));
    }
    assert!(!one.machine.sleeps(2, asleep(10_000)), "what waits is bounded");
    assert!(one.machine.sleeps(2, asleep(4)), "one that waits already takes no room");
    one.machine.wakes(asleep(5).key);
    let mut told = Vec::new();
    for round in 0..10 {
        let beats = heartbeats(&mut one.machine, 100 * round, 0);
        assert!(beats[0].sleeping.len() <= 1_000);
        told.extend(beats[0].sleeping.iter().map(|group| group.key.partition));
    }
    assert_eq!(told.len(), 9_999);
    assert!(!told.contains(&5), "it woke before it was told");
    assert!(heartbeats(&mut one.machine, 1_000, 0)[0].sleeping.is_empty());
    one.machine.sleeps(2, asleep(1));
    one.machine.on_connected(at(1_010), 2, 20, &mut one.said);
    assert!(heartbeats(&mut one.machine, 1_010, 0)[0].sleeping.is_empty(), "a lost lease wakes it anyway");
}

/// A stretch of time in which the weather does not change.
#[derive(Clone, Debug)]
struct Phase {
    ms: i64,
    /// Percent of heartbeats that are lost, from node 1 and from node 2.
    loss: [u64; 2],
    /// The longest delay of a heartbeat, ms.
    delay: u64,
    /// Whether heartbeats come twice.
    doubles: bool,
    /// Which nodes stand still.
    paused: [bool; 2],
    /// Which node's disk hangs.
    hangs: Option<usize>,
    /// Which node is started anew at the beginning; the other's connection is reset only with `reset`.
    restarts: Option<usize>,
    reset: bool,
}

fn phase() -> impl Strategy<Value = Phase> {
    let node = || proptest::option::weighted(0.3, 0..2usize);
    let loss = || prop_oneof![2 => Just(0u64), 1 => 0..100u64, 1 => Just(100u64)];
    let delay = prop_oneof![2 => 0..20u64, 1 => 0..1_000u64];
    let paused = [proptest::bool::weighted(0.3), proptest::bool::weighted(0.3)];
    (50..1_500i64, loss(), loss(), delay, any::<bool>(), paused, node(), node(), any::<bool>()).prop_map(
        |(ms, a, b, delay, doubles, paused, hangs, restarts, reset)| {
            let hangs = hangs.filter(|_| ms < 700);
            let restarts = restarts.filter(|_| ms < 700);
            Phase { ms, loss: [a, b], delay, doubles, paused, hangs, restarts, reset }
        },
    )
}

const HEALED: Phase = Phase {
    ms: 1_500,
    loss: [0, 0],
    delay: 5,
    doubles: false,
    paused: [false; 2],
    hangs: None,
    restarts: None,
    reset: false,
};

struct World {
    now: i64,
    random: u64,
    machines: [Liveness; 2],
    starts: [u64; 2],
    /// What is on its way to each node: when it arrives, and a running number among equals.
    on_the_way: [Vec<(i64, Heartbeat)>; 2],
    last_delivery: [i64; 2],
    /// When some process of each node last wrote a heartbeat.
    last_sent: [i64; 2],
    held: [bool; 2],
}

const IDS: [NodeId; 2] = [1, 2];

impl World {
    fn new(random: u64) -> World {
        let machines = [Liveness::new(IDS[0], 1), Liveness::new(IDS[1], 1)];
        let long_ago = -10_000;
        let mut world = World {
            now: 0,
            random,
            machines,
            starts: [1, 1],
            on_the_way: [Vec::new(), Vec::new()],
            last_delivery: [long_ago; 2],
            last_sent: [long_ago; 2],
            held: [false; 2],
        };
        world.connect(0);
        world.connect(1);
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    /// Events must alternate, and say what `holds` says.
    fn note(&mut self, node: usize, said: &[LeaseEvent]) {
        for event in said {
            let gained = LeaseEvent::Gained(IDS[1 - node]);
            assert_eq!(*event == gained, !self.held[node], "{event:?} twice at {}", self.now);
            self.held[node] = *event == gained;
        }
        assert_eq!(
            self.held[node],
            self.machines[node].holds(at(self.now), IDS[1 - node]),
            "at {}",
            self.now
        );
    }

    fn connect(&mut self, node: usize) {
        let mut said = Vec::new();
        let other = 1 - node;
        self.machines[node].on_connected(at(self.now), IDS[other], self.starts[other], &mut said);
        self.note(node, &said);
    }

    fn restart(&mut self, node: usize, reset: bool) {
        self.starts[node] += 1;
        self.machines[node] = Liveness::new(IDS[node], self.starts[node]);
        self.held[node] = false;
        self.connect(node);
        let other = 1 - node;
        if reset {
            let mut said = Vec::new();
            self.machines[other].on_disconnected(at(self.now), IDS[node], &mut said);
            self.note(other, &said);
            assert!(!self.held[other]);
            self.connect(other);
        }
    }

    /// One node's turn: what has arrived, in any order; the time; what is due.
    fn turn(&mut self, node: usize, phase: &Phase) {
        let (now, other) = (at(self.now), 1 - node);
        let mut said = Vec::new();
        let (mut arrived, later) = std::mem::take(&mut self.on_the_way[node])
            .into_iter()
            .partition::<Vec<_>, _>(|(when, _)| *when <= self.now);
        self.on_the_way[node] = later;
        while !arrived.is_empty() {
            let pick = self.below(arrived.len() as u64) as usize;
            let (_, beat) = arrived.swap_remove(pick);
            self.last_delivery[node] = self.now;
            self.machines[node].on_heartbeat(now, IDS[other], &beat, &mut said);
        }
        self.machines[node].advance(now, &mut said);
        self.note(node, &said);
        let oldest_io = if phase.hangs == Some(node) { 1_500 } else { 3 };
        let mut out = Vec::new();
        self.machines[node].heartbeats(now, oldest_io, &mut out);
        for (to, beat) in out {
            assert_eq!(to, IDS[other]);
            self.last_sent[node] = self.now;
            for _ in 0..=u64::from(phase.doubles) {
                let (lost, delay) = (self.below(100) < phase.loss[node], self.below(phase.delay + 1));
                if !lost {
                    self.on_the_way[other].push((self.now + delay as i64, beat.clone()));
                }
            }
        }
    }

    /// A lease is never longer than it may be, also that of a process which stands still.
    fn check(&self) {
        for node in 0..2 {
            if self.machines[node].holds(at(self.now), IDS[1 - node]) {
                let silent = self.now - self.last_delivery[node];
                assert!(silent < LEASE_MS, "held {silent} ms after the last delivery");
                let unseen = self.now - self.last_sent[1 - node];
                assert!(unseen < 2 * LEASE_MS, "held {unseen} ms after the peer last did something");
            }
        }
    }

    fn run(&mut self, phase: &Phase, heals: bool) {
        if let Some(node) = phase.restarts {
            self.restart(node, phase.reset);
        } else if phase.reset {
            self.connect(0);
            self.connect(1);
        }
        let begin = self.now;
        while self.now < begin + phase.ms {
            for node in 0..2 {
                if !phase.paused[node] {
                    self.turn(node, phase);
                }
            }
            self.check();
            if heals && self.now - begin >= 300 {
                assert_eq!(self.held, [true; 2], "{} ms after all is well", self.now - begin);
            }
            self.now += 1 + self.below(9) as i64;
        }
    }
}

proptest! {
    #[test]
    fn no_lease_outlasts_its_time_and_both_ends_gain_theirs_within_300_ms_of_quiet(
        seed in any::<u64>(),
        phases in prop::collection::vec(phase(), 1..8),
    ) {
        let mut world = World::new(seed);
        for phase in &phases {
            world.run(phase, false);
        }
        world.run(&HEALED, true);
    }
}
