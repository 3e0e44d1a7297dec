use super::*;
use proptest::prelude::*;

fn key(partition: i32) -> GroupKey {
    GroupKey { topic: TopicId([3; 16]), partition }
}

fn row(partition: i32, epoch: i32, leader: impl Into<Option<NodeId>>, number: u64) -> LeaderRow {
    let in_sync = Arc::from([1, 2, 3]);
    LeaderRow { key: key(partition), epoch, leader: leader.into(), number, in_sync }
}

/// The table of node 1, to which nodes 2 and 3 are live.
fn table() -> Leaders {
    let mut table = Leaders::new(1);
    table.set_live(2, true);
    table.set_live(3, true);
    table
}

fn hear(table: &mut Leaders, sender: NodeId, rows: &[LeaderRow]) -> Vec<i32> {
    let rose = table.on_rows(sender, false, rows, &|_| false);
    rose.into_iter().map(|key| key.partition).collect()
}

fn known(table: &Leaders, partition: i32) -> (i32, Option<NodeId>) {
    let view = table.leader(key(partition));
    (view.epoch, view.leader)
}

fn at(ms: i64) -> Mono {
    Mono(0).after_ms(ms)
}

fn batches(table: &mut Leaders, ms: i64) -> Vec<(NodeId, LeaderBatch)> {
    let mut out = Vec::new();
    table.batches(at(ms), &mut out);
    out
}

fn partitions(batch: &LeaderBatch) -> Vec<i32> {
    batch.rows.iter().map(|row| row.key.partition).collect()
}

#[test]
fn an_older_row_never_replaces_a_newer_one() {
    let mut table = table();
    assert_eq!(known(&table, 0), (-1, None));
    assert_eq!(hear(&mut table, 2, &[row(0, 5, 2, 7)]), [0]);
    for (sender, old) in [
        (2, row(0, 4, 2, 8)),
        (2, row(0, 5, None, 7)),
        (2, row(0, 5, None, 6)),
        (3, row(0, 4, 3, 900)),
        (3, row(0, 5, None, 900)),
    ] {
        assert!(hear(&mut table, sender, std::slice::from_ref(&old)).is_empty());
        assert_eq!(known(&table, 0), (5, Some(2)), "{old:?} of {sender}");
    }
    assert!(hear(&mut table, 2, &[row(0, 5, None, 8)]).is_empty());
    assert_eq!(known(&table, 0), (5, None), "it leads no more");
    assert!(hear(&mut table, 3, &[row(0, 5, 3, 1)]).is_empty());
    assert_eq!(known(&table, 0), (5, Some(3)), "in one epoch the one that claims to lead wins");
    assert_eq!(hear(&mut table, 2, &[row(0, 6, 2, 9)]), [0]);
    assert_eq!(known(&table, 0), (6, Some(2)));
}

#[test]
fn two_that_claim_one_epoch_are_settled_alike_in_any_order() {
    let rows = [(2, row(0, 5, 2, 1)), (3, row(0, 5, 3, 1))];
    let (mut one, mut other) = (table(), table());
    rows.iter().for_each(|(sender, row)| _ = hear(&mut one, *sender, std::slice::from_ref(row)));
    rows.iter().rev().for_each(|(sender, row)| _ = hear(&mut other, *sender, std::slice::from_ref(row)));
    assert_eq!(known(&one, 0), known(&other, 0));
}

#[test]
fn a_leader_whose_lease_is_lost_is_none_and_its_epoch_stays() {
    let mut table = table();
    hear(&mut table, 2, &[row(0, 5, 2, 1)]);
    table.set_live(2, false);
    let view = table.leader(key(0));
    assert_eq!((view.epoch, view.leader, view.in_sync), (5, None, &[1, 2, 3][..]));
    table.set_live(2, true);
    assert_eq!(known(&table, 0), (5, Some(2)));
    table.announce(at(0), key(1), 1, Some(1), &[1]);
    table.set_live(1, false);
    assert_eq!(known(&table, 1), (1, Some(1)), "a node is live to itself");
}

#[test]
fn a_whole_table_replaces_all_rows_of_its_sender_and_no_others() {
    let mut table = table();
    hear(&mut table, 2, &[row(0, 5, 2, 90), row(1, 5, 2, 91), row(2, 5, 2, 92)]);
    hear(&mut table, 3, &[row(3, 5, 3, 1), row(4, 5, 3, 2)]);
    table.announce(at(0), key(5), 2, Some(1), &[1]);
    let whole = [row(0, 5, 2, 1), row(1, 6, 2, 2), row(3, 4, 2, 3), row(4, 6, 2, 4), row(6, 1, 2, 5)];
    let rose: Vec<i32> = table.on_rows(2, true, &whole, &|_| false).iter().map(|key| key.partition).collect();
    assert_eq!(rose, [1, 4, 6]);
    let all: Vec<_> = (0..7).map(|partition| known(&table, partition)).collect();
    let two = Some(2);
    assert_eq!(
        all,
        [(5, two), (6, two), (-1, None), (5, Some(3)), (6, two), (2, Some(1)), (1, two)],
        "partition 2 was not named, and node 3's newer row of partition 3 stays"
    );
    assert!(hear(&mut table, 2, &[row(0, 5, None, 2)]).is_empty());
    assert_eq!(known(&table, 0), (5, None), "numbers of the table before count no more");
    table.on_rows(2, true, &[], &|_| false);
    assert_eq!(table.rows.len(), 2, "those of node 3 and of this one are left");
}

#[test]
fn changed_rows_leave_together_after_ten_ms_and_each_once() {
    let mut table = table();
    table.on_connected(at(0), 2);
    table.on_connected(at(0), 3);
    let first = batches(&mut table, 0);
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|(_, batch)| batch.whole && batch.rows.is_empty()), "empty ones too");
    table.announce(at(100), key(0), 1, Some(1), &[1]);
    table.announce(at(105), key(1), 1, Some(1), &[1, 2]);
    table.announce(at(106), key(0), 1, Some(1), &[1, 2]);
    assert_eq!(table.next_deadline(), Some(at(110)));
    assert!(batches(&mut table, 109).is_empty());
    let due = batches(&mut table, 110);
    assert_eq!(due.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [2, 3]);
    for (_, batch) in &due {
        assert!(!batch.whole && Arc::ptr_eq(&batch.rows, &due[0].1.rows));
        let rows: Vec<_> = batch.rows.iter().map(|row| (row.key.partition, row.number)).collect();
        assert_eq!(rows, [(1, 2), (0, 3)]);
        assert_eq!(*batch.rows[1].in_sync, [1, 2]);
    }
    table.announce(at(120), key(0), 1, Some(1), &[1, 2]);
    table.announce(at(120), key(0), 0, Some(1), &[1]);
    assert_eq!(table.next_deadline(), None, "nothing has changed");
    table.announce(at(120), key(0), 1, None, &[]);
    let due = batches(&mut table, 130);
    assert_eq!((due[0].1.rows[0].leader, due[0].1.rows[0].number), (None, 4));
}

#[test]
fn a_peer_that_comes_back_is_due_the_whole_table_at_once() {
    let mut table = table();
    table.announce(at(0), key(0), 1, Some(1), &[1]);
    assert_eq!(table.next_deadline(), None, "nobody is there");
    table.on_connected(at(5), 2);
    assert_eq!(table.next_deadline(), Some(at(5)));
    let due = batches(&mut table, 5);
    assert!(due[0].1.whole);
    assert_eq!(partitions(&due[0].1), [0]);
    table.announce(at(6), key(1), 1, Some(1), &[1]);
    hear(&mut table, 3, &[row(0, 2, 3, 1)]);
    table.on_disconnected(2);
    assert_eq!(table.next_deadline(), None);
    table.on_connected(at(7), 2);
    table.on_connected(at(7), 3);
    let due = batches(&mut table, 7);
    assert_eq!(due.len(), 2);
    assert!(due.iter().all(|(_, batch)| batch.whole && partitions(batch) == [1]), "node 3 leads 0 now");
}

#[test]
fn a_change_that_another_leader_took_over_is_not_sent() {
    let mut table = table();
    table.on_connected(at(0), 2);
    batches(&mut table, 0);
    table.announce(at(1), key(0), 1, Some(1), &[1]);
    hear(&mut table, 3, &[row(0, 2, 3, 1)]);
    assert!(batches(&mut table, 11).is_empty());
    table.announce(at(12), key(0), 1, None, &[]);
    assert_eq!(known(&table, 0), (2, Some(3)), "the old leader's last word comes too late");
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn rows_of_deleted_topics_are_gone() {
    let mut table = table();
    let other = TopicId([4; 16]);
    table.announce(at(0), key(0), 1, Some(1), &[1]);
    hear(
        &mut table,
        2,
        &[row(1, 1, 2, 1), LeaderRow { key: GroupKey { topic: other, ..key(0) }, ..row(0, 1, 2, 2) }],
    );
    table.drop_topic(key(0).topic);
    assert_eq!(table.rows.len(), 1);
    let rows = [row(2, 1, 2, 3)];
    assert!(table.on_rows(2, false, &rows, &|topic| topic == key(0).topic).is_empty());
    assert_eq!(table.rows.len(), 1, "a late row does not bring a deleted topic back");
    table.on_connected(at(0), 2);
    assert!(batches(&mut table, 0)[0].1.rows.is_empty());
}

#[test]
fn rows_that_make_no_sense_are_passed_over() {
    let mut table = table();
    for bad in [row(0, -1, 2, 1), row(0, 1, -7, 1), row(-1, 1, 2, 1)] {
        assert!(hear(&mut table, 2, &[bad]).is_empty());
    }
    assert!(hear(&mut table, 1, &[row(0, 1, 1, 1)]).is_empty(), "nobody else speaks for this node");
    assert_eq!(table.rows.len(), 0);
}

#[test]
fn ten_thousand_partitions_cost_forty_bytes_each_and_share_their_in_sync_sets() {
    assert!(size_of::<Row>() <= 40);
    let mut table = table();
    let rows: Vec<LeaderRow> = (0..10_000).map(|p| row(p, 1, 2, p as u64 + 1)).collect();
    assert_eq!(table.on_rows(2, true, &rows, &|_| false).len(), 10_000);
    assert_eq!(table.sets.len(), 1);
    assert!(table.rows.values().all(|row| Arc::ptr_eq(&row.in_sync, &table.rows[&key(0)].in_sync)));
    assert!(table.on_rows(2, true, &rows, &|_| false).is_empty(), "the same table again raises nothing");
    for change in 0..10_000 {
        table.announce(at(0), key(20_000), 1, Some(1), &[1, change]);
    }
    assert!(table.sets.len() <= FEW_SETS, "{} sets are kept", table.sets.len());
    assert_eq!((table.own.len(), table.rows.len()), (1, 10_001));
}

const NODES: [NodeId; 3] = [1, 2, 3];
const GROUPS: i32 = 4;

#[derive(Clone, Debug)]
enum Act {
    /// A node wins the next epoch of a group.
    Elect(usize, i32),
    /// The leader of a group's last epoch gives up the lead.
    StepDown(i32),
    /// Its in-sync set changes.
    Shrink(i32),
    /// What has gathered leaves.
    Send(usize),
    /// The next batch between two nodes arrives.
    Deliver(usize, usize),
    /// A connection breaks, with all that is on its way, and stands again.
    Break(usize, usize),
    /// A node starts anew; other nodes are elected for what it led.
    Restart(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 0..NODES.len();
    prop_oneof![
        4 => (node(), 0..GROUPS).prop_map(|(node, group)| Act::Elect(node, group)),
        2 => (0..GROUPS).prop_map(Act::StepDown),
        2 => (0..GROUPS).prop_map(Act::Shrink),
        4 => node().prop_map(Act::Send),
        8 => (node(), node()).prop_map(|(from, to)| Act::Deliver(from, to)),
        1 => (node(), node()).prop_map(|(a, b)| Act::Break(a, b)),
        1 => node().prop_map(Act::Restart),
    ]
}

struct World {
    tables: Vec<Leaders>,
    /// By sender and receiver.
    on_the_way: BTreeMap<(usize, usize), Vec<LeaderBatch>>,
    /// By group: its last epoch, who won it, whether that leads, the size of the in-sync set.
    truth: Vec<(i32, usize, bool, usize)>,
    ms: i64,
}

impl World {
    fn new() -> World {
        let truth = vec![(0, 0, false, 3); GROUPS as usize];
        let tables = NODES.iter().map(|node| Leaders::new(*node)).collect();
        let mut world = World { tables, on_the_way: BTreeMap::new(), truth, ms: 0 };
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            world.connect(a, b);
        }
        world
    }

    fn connect(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.on_the_way.remove(&(from, to));
            self.tables[from].set_live(NODES[to], true);
            self.tables[from].on_disconnected(NODES[to]);
            self.tables[from].on_connected(at(self.ms), NODES[to]);
        }
    }

    fn announce(&mut self, group: i32) {
        let (epoch, node, leads, in_sync) = self.truth[group as usize];
        let leader = leads.then_some(NODES[node]);
        self.tables[node].announce(at(self.ms), key(group), epoch, leader, &NODES[..in_sync]);
    }

    fn elect(&mut self, node: usize, group: i32) {
        let truth = &mut self.truth[group as usize];
        *truth = (truth.0 + 1, node, true, 3);
        self.announce(group);
    }

    fn send(&mut self, from: usize) {
        for (to, batch) in batches(&mut self.tables[from], self.ms) {
            let to = NODES.iter().position(|node| *node == to).unwrap();
            self.on_the_way.entry((from, to)).or_default().push(batch);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let waiting = self.on_the_way.entry((from, to)).or_default();
        if waiting.is_empty() {
            return false;
        }
        let batch = waiting.remove(0);
        let before: Vec<i32> = (0..GROUPS).map(|group| known(&self.tables[to], group).0).collect();
        let rose = self.tables[to].on_rows(NODES[from], batch.whole, &batch.rows, &|_| false);
        for group in 0..GROUPS {
            let now = known(&self.tables[to], group).0;
            assert!(now >= before[group as usize] || batch.whole, "an epoch fell");
            assert_eq!(rose.contains(&key(group)), now > before[group as usize], "group {group}");
        }
        true
    }

    fn act(&mut self, act: &Act) {
        self.ms += 4;
        match *act {
            Act::Elect(node, group) => self.elect(node, group),
            Act::StepDown(group) | Act::Shrink(group) => {
                let truth = &mut self.truth[group as usize];
                match act {
                    Act::Shrink(_) => truth.3 = 1 + truth.3 % 3,
                    _ => truth.2 = false,
                }
                if truth.0 > 0 {
                    self.announce(group);
                }
            }
            Act::Send(node) => self.send(node),
            Act::Deliver(from, to) => _ = self.deliver(from, to),
            Act::Break(a, b) if a == b => {}
            Act::Break(a, b) => self.connect(a, b),
            Act::Restart(node) => {
                self.tables[node] = Leaders::new(NODES[node]);
                let others = [(node + 1) % 3, (node + 2) % 3];
                others.into_iter().for_each(|other| self.connect(node, other));
                for group in 0..GROUPS {
                    if self.truth[group as usize].1 == node && self.truth[group as usize].0 > 0 {
                        self.elect(others[group as usize % 2], group);
                    }
                }
            }
        }
    }

    fn quiet(&mut self) {
        self.ms += 100;
        (0..3).for_each(|node| self.send(node));
        for (from, to) in (0..9).map(|pair| (pair / 3, pair % 3)) {
            while self.deliver(from, to) {}
        }
    }
}

proptest! {
    #[test]
    fn all_tables_agree_with_the_last_election_once_everything_has_arrived(
        acts in prop::collection::vec(act(), 0..120),
    ) {
        let mut world = World::new();
        acts.iter().for_each(|act| world.act(act));
        world.quiet();
        for (group, (epoch, node, leads, in_sync)) in world.truth.iter().enumerate() {
            for table in &world.tables {
                let view = table.leader(key(group as i32));
                if *epoch == 0 {
                    prop_assert_eq!(view.epoch, NONE);
                } else {
                    let leader = leads.then_some(NODES[*node]);
                    prop_assert_eq!((view.epoch, view.leader), (*epoch, leader), "at node {}", table.node);
                    prop_assert_eq!(view.in_sync, &NODES[..*in_sync]);
                }
            }
        }
    }
}
