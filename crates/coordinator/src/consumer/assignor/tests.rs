use super::*;
use proptest::prelude::*;

fn topic(n: u8) -> TopicId {
    TopicId([n; 16])
}

fn member(topics: &[u8], assigned: &[(u8, &[i32])]) -> MemberSpec {
    MemberSpec {
        instance_id: None,
        subscribed: topics.iter().map(|t| topic(*t)).collect(),
        assigned: assigned.iter().map(|(t, ps)| (topic(*t), ps.iter().copied().collect())).collect(),
    }
}

fn group(members: &[(&str, MemberSpec)], topics: &[(u8, i32)]) -> GroupSpec {
    GroupSpec {
        members: members.iter().map(|(id, m)| ((*id).to_owned(), m.clone())).collect(),
        topics: topics.iter().map(|(t, n)| (topic(*t), *n)).collect(),
    }
}

fn load(own: &Partitions) -> usize {
    own.values().map(BTreeSet::len).sum()
}

/// Every partition of a subscribed topic has exactly one owner, who subscribes to it; nothing else is given out.
fn check(spec: &GroupSpec, out: &BTreeMap<String, Partitions>) {
    assert!(out.keys().eq(spec.members.keys()));
    let mut seen = BTreeSet::new();
    for (id, own) in out {
        for (topic, partitions) in own {
            assert!(spec.members[id].subscribed.contains(topic), "{id} does not subscribe to {topic}");
            assert!(!partitions.is_empty());
            for p in partitions {
                assert!(*p >= 0 && *p < spec.topics[topic]);
                assert!(seen.insert((*topic, *p)), "{topic}-{p} has two owners");
            }
        }
    }
    let wanted: BTreeSet<TopicId> = spec.members.values().flat_map(|m| m.subscribed.clone()).collect();
    let total: i32 = spec.topics.iter().filter(|(t, _)| wanted.contains(t)).map(|(_, n)| *n).sum();
    assert_eq!(seen.len(), total as usize);
}

fn with_result(spec: &GroupSpec, out: &BTreeMap<String, Partitions>) -> GroupSpec {
    let mut next = spec.clone();
    for (id, own) in out {
        if let Some(member) = next.members.get_mut(id) {
            member.assigned = own.clone();
        }
    }
    next
}

#[test]
fn names_are_kafkas() {
    assert_eq!(Assignor::parse("uniform"), Some(Assignor::Uniform));
    let class = "org.apache.kafka.coordinator.group.assignor.RangeAssignor";
    assert_eq!(Assignor::parse(class), Some(Assignor::Range));
    assert_eq!(Assignor::parse("Uniform"), None);
}

#[test]
fn range_gives_runs_in_the_order_of_instance_ids() {
    let mut spec = group(
        &[("a", member(&[1, 2], &[])), ("b", member(&[1, 2], &[])), ("c", member(&[2], &[]))],
        &[(1, 3), (2, 3)],
    );
    spec.members.get_mut("b").unwrap().instance_id = Some("i".into());
    let out = Assignor::Range.assign(&spec);
    check(&spec, &out);
    assert_eq!(out["b"], member(&[], &[(1, &[0, 1]), (2, &[0])]).assigned);
    assert_eq!(out["a"], member(&[], &[(1, &[2]), (2, &[1])]).assigned);
    assert_eq!(out["c"], member(&[], &[(2, &[2])]).assigned);
}

#[test]
fn uniform_moves_only_what_a_new_member_must_have() {
    let one = group(&[("a", member(&[1], &[]))], &[(1, 4)]);
    let out = Assignor::Uniform.assign(&one);
    let mut two = with_result(&one, &out);
    two.members.insert("b".into(), member(&[1], &[]));
    let out = Assignor::Uniform.assign(&two);
    check(&two, &out);
    assert_eq!((load(&out["a"]), load(&out["b"])), (2, 2));
    let kept = out["a"][&topic(1)].clone();
    assert!(kept.is_subset(&two.members["a"].assigned[&topic(1)]));
}

#[test]
fn uniform_leaves_the_extra_partition_where_it_is() {
    // b has the extra one: that a comes first in order is no reason to move it.
    let spec = group(&[("a", member(&[1], &[(1, &[0])])), ("b", member(&[1], &[(1, &[1, 2])]))], &[(1, 3)]);
    let out = Assignor::Uniform.assign(&spec);
    assert_eq!(with_result(&spec, &out), spec);
}

#[test]
fn uniform_moves_through_a_third_member_where_subscriptions_differ() {
    // a has all of 1; b could take 1 but is busy with 2, which c could take.
    let spec = group(
        &[
            ("a", member(&[1], &[(1, &[0, 1, 2, 3])])),
            ("b", member(&[1, 2], &[(2, &[0, 1, 2])])),
            ("c", member(&[2], &[])),
        ],
        &[(1, 4), (2, 3)],
    );
    let out = Assignor::Uniform.assign(&spec);
    check(&spec, &out);
    let mut loads: Vec<usize> = out.values().map(load).collect();
    loads.sort_unstable();
    assert_eq!(loads, [2, 2, 3]);
}

#[test]
fn topics_that_do_not_exist_and_groups_without_members_are_no_error() {
    let spec = group(&[("a", member(&[9], &[(9, &[0])]))], &[]);
    for assignor in Assignor::ALL {
        assert_eq!(assignor.assign(&spec)["a"], Partitions::new());
        assert!(assignor.assign(&GroupSpec::default()).is_empty());
    }
}

fn specs(homogeneous: bool) -> impl Strategy<Value = GroupSpec> {
    let topics = proptest::collection::btree_map(1u8..6, 0i32..9, 1..5);
    let members =
        proptest::collection::btree_map("[a-f]", proptest::collection::btree_set(1u8..6, 0..5), 1..6);
    let old = proptest::collection::vec((0usize..6, 1u8..6, 0i32..12), 0..30);
    (topics, members, old).prop_map(move |(topics, members, old)| {
        let first = members.values().next().cloned().unwrap_or_default();
        let mut spec = GroupSpec {
            topics: topics.into_iter().map(|(t, n)| (topic(t), n)).collect(),
            ..GroupSpec::default()
        };
        for (id, set) in members {
            let set = if homogeneous { first.clone() } else { set };
            let set: Vec<u8> = set.into_iter().collect();
            spec.members.insert(id, member(&set, &[]));
        }
        for (at, t, p) in old {
            let at = at % spec.members.len();
            if let Some(m) = spec.members.values_mut().nth(at) {
                m.assigned.entry(topic(t)).or_default().insert(p);
            }
        }
        spec
    })
}

proptest! {
    #[test]
    fn every_partition_goes_to_exactly_one_subscriber(spec in specs(false)) {
        for assignor in Assignor::ALL {
            check(&spec, &assignor.assign(&spec));
        }
    }

    #[test]
    fn equal_subscriptions_give_loads_within_one_and_keep_what_that_allows(spec in specs(true)) {
        let out = Assignor::Uniform.assign(&spec);
        check(&spec, &out);
        let loads: Vec<usize> = out.values().map(load).collect();
        let (least, most) = (*loads.iter().min().unwrap(), *loads.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{loads:?}");
        // A member loses only what is above its share, and gains only if it is below it.
        for (id, own) in spec.kept().0 {
            let own: BTreeSet<_> = own.into_iter().collect();
            let now: BTreeSet<_> = out[id].iter().flat_map(|(t, ps)| ps.iter().map(|p| (*t, *p))).collect();
            let kept = own.intersection(&now).count();
            prop_assert!(kept == own.len() || kept >= least, "{id} lost what it could keep");
            prop_assert!(kept == own.len() || now.len() == kept, "{id} lost some and gained others");
        }
        prop_assert_eq!(Assignor::Uniform.assign(&with_result(&spec, &out)), out);
    }

    #[test]
    fn different_subscriptions_leave_no_direct_move_that_would_balance_better(spec in specs(false)) {
        let out = Assignor::Uniform.assign(&spec);
        for (from, own) in &out {
            for (to, other) in &out {
                let movable = own.keys().any(|t| spec.members[to].subscribed.contains(t));
                prop_assert!(!movable || load(own) <= load(other) + 1, "{from} could give to {to}");
            }
        }
        prop_assert_eq!(Assignor::Uniform.assign(&with_result(&spec, &out)), out);
    }
}
