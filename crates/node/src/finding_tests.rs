//! Founders agree, whatever order they are started in; who cannot know waits.
use crate::finding::*;
use model::NodeId;
use proptest::prelude::*;
use storage::Replica;

fn at(node: NodeId, heard: Heard) -> (String, At) {
    (format!("node {node}"), At::Node(Heard { node, ..heard }))
}

fn looking(node: NodeId, voters: &[NodeId]) -> (String, At) {
    at(node, Heard { voters: voters.to_vec(), ..Heard::default() })
}

fn knowing(node: NodeId, cluster_id: &str, nodes: &[NodeId], replica: u64) -> (String, At) {
    let (cluster_id, founders) = (cluster_id.to_owned(), founders(nodes));
    at(node, Heard { cluster_id, founders, replica, ..Heard::default() })
}

fn itself() -> (String, At) {
    ("here".to_owned(), At::Itself)
}

fn silent() -> (String, At) {
    ("there".to_owned(), At::Silent("refused".to_owned()))
}

fn waits(decision: &Decision, part: &str) {
    match decision {
        Decision::Wait(why) => assert!(why.contains(part), "{why}"),
        other => panic!("{part}: {other:?}"),
    }
}

fn founded(decision: Decision) -> (Vec<NodeId>, u64) {
    match decision {
        Decision::Found(m) => (m.founders.iter().map(|r| r.node_id).collect(), m.replica),
        other => panic!("{other:?}"),
    }
}

#[test]
fn by_addresses_all_must_have_answered_and_see_the_same() {
    let plan = Plan::Servers;
    waits(&decide(1, &plan, &[itself(), looking(2, &[1, 2]), silent()]), "there is not reached (refused)");
    waits(&decide(1, &plan, &[itself(), looking(2, &[])]), "has not reached all of its own");
    waits(&decide(1, &plan, &[itself(), looking(2, &[1, 2, 3])]), "must be the same on all");
    waits(&decide(9, &plan, &[looking(1, &[1, 2]), looking(2, &[1, 2])]), "is node 9, which joins when");
    let all = [looking(7, &[2, 5, 7]), itself(), looking(2, &[2, 5, 7])];
    assert_eq!(founded(decide(5, &plan, &all)), (vec![2, 5, 7], 2));
    // A name may lead to a node by two ways.
    let twice = [itself(), looking(2, &[1, 2]), looking(2, &[1, 2])];
    assert_eq!(founded(decide(1, &plan, &twice)), (vec![1, 2], 1));
}

#[test]
fn by_a_list_a_majority_that_says_the_same_is_enough() {
    let plan = Plan::Voters(vec![1, 2, 3]);
    waits(&decide(1, &plan, &[silent(), silent()]), "1 more of the voters (1, 2, 3)");
    assert_eq!(founded(decide(1, &plan, &[looking(2, &[1, 2, 3]), silent()])), (vec![1, 2, 3], 1));
    let other = [looking(2, &[1, 2, 4]), looking(3, &[1, 2, 3])];
    waits(&decide(1, &plan, &other), "node 2 takes other nodes for the voters (1, 2, 4, here 1, 2, 3)");
    waits(&decide(4, &plan, &[looking(1, &[1, 2, 3]), silent(), silent()]), "does not name node 4");
}

#[test]
fn a_cluster_that_somebody_knows_counts_whatever_the_configuration_says() {
    for plan in [Plan::Servers, Plan::Voters(vec![1, 2, 3]), Plan::Voters(vec![2, 3])] {
        let formed = knowing(2, "c", &[2, 3], 0);
        assert_eq!(decide(1, &plan, &[silent(), formed.clone()]), Decision::Join(1));
        let forming = knowing(2, "", &[2, 3], 0);
        waits(&decide(1, &plan, std::slice::from_ref(&forming)), "may join when it stands");
        // Whoever knows the id knows more.
        let later = knowing(3, "c", &[2, 3], 0);
        assert_eq!(decide(1, &plan, &[forming, later]), Decision::Join(1));
        let mine = knowing(2, "c", &[1, 2], 1);
        assert_eq!(founded(decide(1, &plan, &[mine])), (vec![1, 2], 1));
        let mine = knowing(2, "", &[1, 2], 0);
        assert_eq!(founded(decide(1, &plan, &[mine, silent()])), (vec![1, 2], 1));
    }
}

#[test]
fn a_founder_that_was_taken_away_joins_anew_and_one_known_otherwise_waits() {
    let gone = knowing(2, "c", &[1, 2], 0);
    assert_eq!(decide(1, &Plan::Servers, std::slice::from_ref(&gone)), Decision::Join(0));
    assert_eq!(decide(1, &Plan::Joins, std::slice::from_ref(&gone)), Decision::Join(0));
    waits(&decide(1, &Plan::Joins, &[looking(2, &[2])]), "is no controller");
    let refused = ("node 3".to_owned(), At::Refused("another data directory".to_owned()));
    waits(&decide(1, &Plan::Servers, &[gone, refused]), "another data directory");
}

#[test]
fn two_clusters_and_a_twin_are_named() {
    let two = [knowing(2, "c", &[2], 0), knowing(3, "d", &[3], 0)];
    waits(&decide(1, &Plan::Servers, &two), "node 2 and node 3 belong to different clusters");
    waits(&decide(1, &Plan::Servers, &[looking(1, &[])]), "node 1 is node 1 too");
}

/// Nodes that look for each other, on a network that loses answers.
struct World {
    plans: Vec<Plan>,
    /// By node, what it last heard at each address; addresses are those of all nodes.
    heard: Vec<Vec<(String, At)>>,
    decided: Vec<Option<Vec<Replica>>>,
}

impl World {
    fn new(plans: Vec<Plan>) -> World {
        let count = plans.len();
        let heard = (0..count).map(|_| (0..count).map(|_| silent()).collect()).collect();
        World { plans, heard, decided: vec![None; count] }
    }

    /// Node `from` asks node `to`; `lost`: and hears nothing.
    fn ask(&mut self, from: usize, to: usize, lost: bool) {
        let id = to as NodeId + 1;
        let answer = if from == to {
            At::Itself
        } else if lost {
            At::Silent("lost".to_owned())
        } else {
            let founders = self.decided[to].clone().unwrap_or_default();
            let voters = seen(id, &self.plans[to], &self.addresses(to));
            At::Node(Heard { node: id, founders, voters, ..Heard::default() })
        };
        self.heard[from][to].1 = answer;
    }

    fn addresses(&self, node: usize) -> Vec<(String, At)> {
        let all = self.heard[node].iter().enumerate();
        let listed = matches!(self.plans[node], Plan::Voters(_));
        // A list names the node itself, which needs not be asked.
        all.filter(|(place, _)| !(listed && *place == node)).map(|(_, at)| at.clone()).collect()
    }

    fn decide(&mut self, node: usize) {
        if self.decided[node].is_none()
            && let Decision::Found(m) = decide(node as NodeId + 1, &self.plans[node], &self.addresses(node))
        {
            self.decided[node] = Some(m.founders);
        }
    }

    /// The process begins anew; what it decided is on its disk.
    fn restart(&mut self, node: usize) {
        self.heard[node].iter_mut().for_each(|at| *at = silent());
    }
}

proptest! {
    #[test]
    fn founders_agree_and_all_get_there_once_they_hear_each_other(
        listed in prop::collection::vec(any::<bool>(), 3),
        steps in prop::collection::vec((0..3usize, 0..3usize, any::<bool>(), 0..20u8), 0..120),
    ) {
        let plan = |listed: &bool| if *listed { Plan::Voters(vec![1, 2, 3]) } else { Plan::Servers };
        let mut world = World::new(listed.iter().map(plan).collect());
        for (from, to, lost, what) in steps {
            match what {
                0 => world.restart(from),
                1..5 => world.decide(from),
                _ => world.ask(from, to, lost),
            }
            let mut founders = world.decided.iter().flatten();
            if let Some(first) = founders.next() {
                prop_assert!(founders.all(|other| other == first));
            }
        }
        for _ in 0..3 {
            for (from, to) in (0..9).map(|pair| (pair / 3, pair % 3)) {
                world.ask(from, to, false);
            }
            (0..3).for_each(|node| world.decide(node));
        }
        prop_assert!(world.decided.iter().all(Option::is_some));
    }
}
