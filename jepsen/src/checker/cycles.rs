//! Cycles among committed transactions.
//!
//! Edges: *wr* from a transaction to each that read a value of it, *ww* from the one that wrote a record to the one
//! that wrote the next record of that key. Kafka does not isolate writes: what two transactions write at the same time
//! lies in their keys in any order, so cycles with a ww edge (G0, and G1c that needs one) are normal and only
//! counted. A cycle of wr edges alone (G1c) cannot be: each of its transactions would have read what another one
//! wrote, which is visible only after that one's commit, which came after its reads. An rw edge (who read past an
//! offset before it was written) forbids nothing: reads are not isolated either.
use super::log::Logs;
use super::txn::{Writers, writers};
use super::{Kind, Verdict};
use crate::history::{History, Outcome};
use std::collections::{BTreeMap, BTreeSet};

type Graph = BTreeMap<u64, BTreeSet<u64>>;

pub(super) fn check(history: &History, logs: &Logs, verdict: &mut Verdict) {
    if history.txns.is_empty() {
        return;
    }
    let writers = writers(history);
    let committed = |id: &u64| history.txns.get(id).is_some_and(|txn| matches!(txn.outcome, Outcome::Ok(_)));
    let mut reads: Graph = BTreeMap::new();
    for poll in &history.polls {
        let Some(reader) = poll.txn.filter(committed) else { continue };
        for (_, _, value) in &poll.records {
            let writer = writers.get(value).and_then(|send| send.txn).filter(committed);
            if let Some(writer) = writer.filter(|writer| *writer != reader) {
                reads.entry(writer).or_default().insert(reader);
            }
        }
    }
    for cycle in cycles(&reads) {
        let told = || format!("each of these transactions read what the one before it wrote: {cycle:?}");
        verdict.found(Kind::ReadCycle, told);
    }
    let writes = write_edges(logs, &writers, committed);
    verdict.figures.write_cycles = cycles(&writes).len() as u64;
    for (from, to) in writes {
        reads.entry(from).or_default().extend(to);
    }
    verdict.figures.mixed_cycles = cycles(&reads).len() as u64;
}

fn write_edges(logs: &Logs, writers: &Writers<'_>, committed: impl Fn(&u64) -> bool) -> Graph {
    let mut graph: Graph = BTreeMap::new();
    for log in logs.keys.values() {
        for pair in log.seen.windows(2) {
            let of = |at: usize| writers.get(&pair[at].1).and_then(|send| send.txn).filter(&committed);
            if let (Some(from), Some(to)) = (of(0), of(1))
                && from != to
            {
                graph.entry(from).or_default().insert(to);
            }
        }
    }
    graph
}

/// One node on the way that Tarjan's algorithm has taken.
struct Visit {
    node: u64,
    next: Vec<u64>,
}

/// The strongly connected components of more than one node, by Tarjan's algorithm without recursion.
fn cycles(graph: &Graph) -> Vec<Vec<u64>> {
    let successors = |node: u64| graph.get(&node).into_iter().flatten().copied().collect::<Vec<u64>>();
    let mut found = Vec::new();
    let mut index: BTreeMap<u64, usize> = BTreeMap::new();
    let mut low: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut stack, mut on_stack) = (Vec::new(), BTreeSet::new());
    for root in graph.keys() {
        if index.contains_key(root) {
            continue;
        }
        let mut way = vec![Visit { node: *root, next: successors(*root) }];
        while let Some(visit) = way.last_mut() {
            let node = visit.node;
            if let std::collections::btree_map::Entry::Vacant(new) = index.entry(node) {
                let at = *new.insert(low.len());
                low.insert(node, at);
                stack.push(node);
                on_stack.insert(node);
            }
            if let Some(next) = visit.next.pop() {
                if !index.contains_key(&next) {
                    way.push(Visit { node: next, next: successors(next) });
                } else if on_stack.contains(&next) {
                    lower(&mut low, node, index[&next]);
                }
                continue;
            }
            way.pop();
            if let Some(parent) = way.last() {
                let mine = low[&node];
                lower(&mut low, parent.node, mine);
            }
            if low[&node] == index[&node] {
                let begin = stack.iter().rposition(|other| *other == node).unwrap_or_default();
                let component = stack.split_off(begin);
                for node in &component {
                    on_stack.remove(node);
                }
                if component.len() > 1 {
                    found.push(component);
                }
            }
        }
    }
    found
}

fn lower(low: &mut BTreeMap<u64, usize>, node: u64, to: usize) {
    let entry = low.entry(node).or_insert(to);
    *entry = (*entry).min(to);
}

#[cfg(test)]
mod tests {
    use super::{Graph, cycles};

    fn graph(edges: &[(u64, u64)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry(*from).or_default().insert(*to);
        }
        graph
    }

    fn found(edges: &[(u64, u64)]) -> Vec<Vec<u64>> {
        let mut all = cycles(&graph(edges));
        all.iter_mut().for_each(|cycle| cycle.sort_unstable());
        all.sort();
        all
    }

    #[test]
    fn a_graph_without_a_way_back_has_no_cycle() {
        assert!(found(&[(1, 2), (2, 3), (1, 3), (4, 3)]).is_empty());
    }

    #[test]
    fn each_component_is_found_once_with_all_of_its_nodes() {
        let edges = [(1, 2), (2, 3), (3, 1), (3, 4), (4, 5), (5, 4), (6, 5), (2, 7)];
        assert_eq!(found(&edges), [vec![1, 2, 3], vec![4, 5]]);
    }

    #[test]
    fn a_long_way_needs_no_deep_stack() {
        let mut edges: Vec<(u64, u64)> = (0..20_000).map(|n| (n, n + 1)).collect();
        assert!(found(&edges).is_empty());
        edges.push((20_000, 0));
        assert_eq!(found(&edges)[0].len(), 20_001);
    }
}
