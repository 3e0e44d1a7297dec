//! A partition whose replicas are changed.
use crate::PartitionConfig;
use crate::replicas_tests::{Trio, two_of_three};
use crate::test_rig::{Rig, plain};
use consensus::{ChangeError, MemberChange};
use model::ErrorCode;

fn learner(id: u64) -> MemberChange {
    MemberChange::AddLearner { replica_id: id, node_id: id as i32, witness: false }
}

fn replace(promote: &[u64], remove: &[u64]) -> MemberChange {
    MemberChange::Replace { promote: promote.to_vec(), remove: remove.to_vec() }
}

impl Trio {
    fn change(&mut self, leader: i32, change: &MemberChange) -> Result<(), ChangeError> {
        let rig = self.of(leader);
        let result = rig.part.propose_change(rig.now, change, &mut rig.dir, &mut rig.fx);
        self.settle();
        self.tick(4);
        result
    }

    /// Led by node 1 with two records, and a fourth node that has nothing yet.
    fn with_a_fourth(cfg: PartitionConfig) -> Trio {
        let mut trio = Trio::led(cfg.clone());
        trio.append(1, 1, plain(&["a", "b"])).unwrap();
        trio.rigs.push(Rig::replica(4, 3, cfg));
        trio
    }

    fn ids(&mut self, node: i32) -> Vec<u64> {
        self.of(node).part.members().iter().map(|m| m.id).collect()
    }
}

#[test]
fn a_moved_replica_has_everything_and_the_members_survive_a_power_cut() {
    let mut trio = Trio::with_a_fourth(two_of_three());
    trio.change(1, &learner(4)).unwrap();
    let now = trio.of(1).now;
    assert!(trio.of(1).part.keeps_up(now, 4));
    trio.change(1, &replace(&[4], &[2])).unwrap();
    trio.append(1, 2, plain(&["c"])).unwrap();
    trio.tick(4);
    assert_eq!(trio.values(4), ["a", "b", "c"]);
    for node in [1, 3, 4] {
        assert_eq!(trio.ids(node), [1, 3, 4]);
        trio.of(node).restart(true);
        let known = trio.ids(node);
        assert!(known.contains(&4), "node {node} knows {known:?}");
    }
    trio.elect(1);
    trio.tick(4);
    assert_eq!((trio.ids(1), trio.ids(4)), (vec![1, 3, 4], vec![1, 3, 4]));
    trio.cut = [2, 3].into();
    trio.append(1, 3, plain(&["d"])).unwrap();
}

#[test]
fn a_learners_copy_counts_for_nothing_that_is_promised() {
    let mut trio = Trio::with_a_fourth(PartitionConfig { min_insync_replicas: 3, ..two_of_three() });
    trio.change(1, &learner(4)).unwrap();
    trio.cut = [3].into();
    trio.lose(1, 3);
    let refused = trio.append(1, 2, plain(&["c"])).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotEnoughReplicas);
    let now = trio.of(1).now;
    assert_eq!(trio.of(1).part.in_sync_replicas(now), [1, 2, 4], "clients are told of it all the same");
}

#[test]
fn who_has_the_entry_that_was_agreed_upon_needs_no_vote_of_those_that_are_gone() {
    let mut trio = Trio::with_a_fourth(PartitionConfig::default());
    trio.change(1, &replace(&[], &[2])).unwrap();
    let rig = trio.of(1);
    // The change is in 3's log, and nothing that would tell it that it is committed.
    let change = replace(&[], &[3]);
    rig.part.propose_change(rig.now, &change, &mut rig.dir, &mut rig.fx).unwrap();
    trio.settle();
    let (index, term) = trio.of(1).part.applied_point();
    assert_eq!(trio.ids(1), [1]);
    trio.rigs[0].restart(true);
    let before = trio.ids(1);
    let rig = trio.of(1);
    rig.part.set_agreed(index, term);
    rig.part.look(rig.now, &mut rig.dir, &mut rig.fx);
    assert_eq!((before.is_empty(), trio.ids(1)), (false, vec![1]));
    let rig = trio.of(1);
    rig.part.touch(rig.now, &mut rig.dir, &mut rig.fx);
    rig.settle();
    assert!(trio.of(1).part.leader_epoch().is_some(), "it is alone and leads");
    // An entry of another term at that index says nothing.
    let rig = trio.of(3);
    let (applied, _) = rig.part.applied_point();
    rig.part.set_agreed(applied + 1, term + 7);
    rig.part.look(rig.now, &mut rig.dir, &mut rig.fx);
    assert_eq!(trio.of(3).part.applied_point().0, applied);
}
