//! Plans from views of small clusters.
use super::*;
use client_lite::Ongoing;

fn view(brokers: &[(i32, &str)], held: &[&[i32]]) -> View {
    let rack = |(id, rack): &(i32, &str)| (*id, (!rack.is_empty()).then(|| (*rack).to_owned()));
    let row = |(at, replicas): (usize, &&[i32])| Held {
        place: ("t".to_owned(), at as i32),
        replicas: replicas.to_vec(),
        leader: replicas[0],
        bytes: 1_000,
        rate: 0,
    };
    View {
        brokers: brokers.iter().map(rack).collect(),
        held: held.iter().enumerate().map(row).collect(),
        ..View::default()
    }
}

const FOUR: [(i32, &str); 4] = [(1, ""), (2, ""), (3, ""), (4, "")];

#[test]
fn a_drained_broker_keeps_nothing_and_the_least_loaded_take_over() {
    let view = view(&FOUR, &[&[1, 2], &[1, 3], &[2, 3], &[3, 1]]);
    let plan = drain(&view, 1).unwrap();
    let to: Vec<&[i32]> = plan.moves.iter().map(|m| &m.to[..]).collect();
    assert_eq!(to, [&[2, 4][..], &[3, 4], &[3, 2]]);
    assert_eq!((plan.bytes(), plan.most(), plan.seconds(500)), (3_000, Some((4, 2_000)), 4));
}

#[test]
fn what_cannot_leave_is_named() {
    let view = view(&[(1, ""), (2, ""), (3, "")], &[&[1, 2, 3]]);
    let error = drain(&view, 3).unwrap_err();
    assert!(error.starts_with("1 partition(s) cannot leave broker 3: t-0 for one has 3 replicas"), "{error}");
}

#[test]
fn racks_are_kept_apart() {
    let view = view(&[(1, "a"), (2, "b"), (3, "b"), (4, "a")], &[&[1, 2]]);
    assert_eq!(drain(&view, 1).unwrap().moves[0].to, [2, 4]);
    assert_eq!(drain(&view, 2).unwrap().moves[0].to, [1, 3]);
}

#[test]
fn a_new_broker_gets_its_share_of_replicas_and_of_leaders() {
    let view = view(&FOUR, &[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3], &[1, 2, 3]]);
    let plan = rebalance(&view);
    let mut replicas: BTreeMap<i32, usize> = BTreeMap::new();
    let mut leaders: BTreeMap<i32, usize> = BTreeMap::new();
    for held in &view.held {
        let to = plan.moves.iter().find(|m| m.place == held.place).map_or(&held.replicas, |m| &m.to);
        to.iter().for_each(|id| *replicas.entry(*id).or_default() += 1);
        *leaders.entry(to[0]).or_default() += 1;
    }
    assert_eq!(replicas.values().copied().collect::<Vec<_>>(), [3, 3, 3, 3]);
    assert!(leaders.values().all(|n| *n <= 2), "{leaders:?}");
    assert_eq!(plan.bytes(), 3_000, "no more is copied than must be");
}

#[test]
fn what_is_even_is_left_alone() {
    let view = view(&FOUR, &[&[1, 2], &[2, 3], &[3, 4], &[4, 1]]);
    assert_eq!(rebalance(&view).moves, []);
}

#[test]
fn what_is_led_much_is_spread_by_what_it_takes_in() {
    let all: [&[i32]; 6] = [&[1, 2, 3]; 6];
    let mut view = view(&FOUR[..3], &all);
    // One is as much as three others, and there are two at rest.
    for (held, mib) in view.held.iter_mut().zip([30, 10, 10, 10, 0, 0]) {
        held.rate = mib << 20;
    }
    let plan = rebalance(&view);
    let led: Vec<Value> = plan.shares.iter().map(|share| share.as_json()["after"]["led"].clone()).collect();
    let mut led: Vec<u64> = led.iter().filter_map(Value::as_u64).map(|led| led >> 20).collect();
    led.sort_unstable();
    assert_eq!((led, plan.bytes()), (vec![10, 20, 30], 0));
    let after = |held: &Held| plan.moves.iter().find(|m| m.place == held.place).map(|m| m.to.clone());
    let moved: Vec<Held> = view
        .held
        .iter()
        .map(|held| Held { replicas: after(held).unwrap_or(held.replicas.clone()), ..held.clone() })
        .collect();
    view.held = moved;
    assert_eq!(rebalance(&view).moves, [], "what is even is left alone");
}

#[test]
fn a_move_by_hand_says_what_it_gives_up() {
    let view = view(&FOUR, &[&[1, 2, 3]]);
    let place = ("t".to_owned(), 0);
    assert_eq!(one(&view, &place, &[1, 2, 3]).unwrap().moves, []);
    let plan = one(&view, &place, &[4, 9]).unwrap();
    assert_eq!(plan.constraints.len(), 2, "{:?}", plan.constraints);
    assert_eq!(plan.constraints[0], "broker 9 is not running: the move waits for it");
    assert_eq!(plan.bytes(), 2_000);
    assert!(one(&view, &place, &[4, 4]).is_err() && one(&view, &("u".to_owned(), 0), &[1]).is_err());
}

#[test]
fn a_broker_that_is_not_registered_is_not_waited_for() {
    let mut view = view(&FOUR[..3], &[&[1, 2, 3]]);
    let place = ("t".to_owned(), 0);
    view.registered = Some([1, 2, 3, 4].into());
    let plan = one(&view, &place, &[1, 2, 4]).unwrap();
    assert_eq!(plan.constraints, ["broker 4 is not running: the move waits for it"]);
    let error = one(&view, &place, &[1, 8, 4, 9]).unwrap_err();
    assert_eq!(error, "broker 8,9 is not registered: registered are 1,2,3,4");
}

#[test]
fn sizes_and_times_are_rounded_for_people() {
    assert_eq!(
        (human(999), human(1_536), human(3 << 30)),
        ("999 B".into(), "1.5 KiB".into(), "3.0 GiB".into())
    );
    assert_eq!(
        (duration(1), duration(90), duration(600)),
        ("a second".into(), "90 s".into(), "10 min".into())
    );
}

#[test]
fn a_replica_on_a_broker_that_is_down_is_not_waited_for_unless_it_is_new() {
    let mut view = view(&FOUR[..3], &[&[1, 2, 4]]);
    let place = ("t".to_owned(), 0);
    let plan = one(&view, &place, &[1, 4, 3]).unwrap();
    assert_eq!(plan.constraints.len(), 1, "{:?}", plan.constraints);
    assert!(
        plan.constraints[0].starts_with("broker 4 is not running: what it has"),
        "{:?}",
        plan.constraints
    );
    let ongoing = Ongoing { replicas: vec![1, 2, 4, 3], adding: vec![4], removing: vec![3] };
    view.ongoing.insert(place.clone(), ongoing);
    let plan = one(&view, &place, &[1, 4]).unwrap();
    assert_eq!(plan.constraints[0], "broker 4 is not running: the move waits for it");
    assert!(plan.constraints[2].contains("this takes the place of what goes on"), "{:?}", plan.constraints);
    let same = one(&view, &place, &[1, 2, 4]).unwrap();
    assert_eq!(
        (same.moves.len(), &same.constraints[..]),
        (0, &["t-0 is being moved there already".to_owned()][..])
    );
}

#[test]
fn the_only_copy_on_a_broker_that_is_down_waits_for_it_and_the_others_do_not() {
    let mut view = view(&FOUR[..3], &[&[4], &[4, 1, 2]]);
    view.held[0].leader = -1;
    view.held[1].leader = 1;
    let plan = drain(&view, 4).unwrap();
    assert_eq!((plan.moves.len(), &plan.waiting), (2, &BTreeSet::from([("t".to_owned(), 0)])));
    assert_eq!(
        plan.constraints,
        [
            "1 partition(s) cannot move until broker 4 runs, for without it they have no leader to copy from: t-0"
        ]
    );
    assert_eq!(plan.as_json(1)["waiting"][0]["partition"], 0);
    // Most of its replicas run: it has a leader in a moment.
    view.held[1].leader = -1;
    assert_eq!(drain(&view, 4).unwrap().waiting.len(), 1);
}

#[test]
fn many_partitions_are_not_all_named() {
    let places: Vec<Place> = (0..23).map(|index| ("t".to_owned(), index)).collect();
    assert_eq!(named(&places[..2]), "t-0, t-1");
    assert!(named(&places).ends_with("t-19 and 3 more"), "{}", named(&places));
}
