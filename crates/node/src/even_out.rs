//! Leads move off a node that leads much more bytes a second than the others (docs/cluster.md, "Who holds and leads
//! how much"). The leader of the metadata alone does that: one partition a look.
use crate::admin::Internal;
use crate::api::{Effect, Event};
use crate::even::{Movable, best_move, leads_too_much};
use crate::load::{LoadReport, Pace};
use crate::node::Node;
use cluster::{Image, ReplicaKind};
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node leads too much when it did in so many looks in a row.
const IN_A_ROW: u32 = 3;
/// What was moved stays for so many looks.
const STAYS: i64 = 10;
/// The new leader is asked for so often, ms, and so long; after that it is the preferred one, which is enough.
const ASK_MS: i64 = 500;
const ASK_FOR_MS: i64 = 10_000;

/// What the leader of the metadata remembers from look to look.
#[derive(Debug, Default)]
pub(crate) struct EvenOut {
    /// `None` while this node does not lead the metadata.
    next_look: Option<Mono>,
    /// The node that led too much in the last looks, and in how many, with these nodes live.
    hot: Option<(NodeId, u32)>,
    live: Vec<NodeId>,
    /// Until when partitions stay that were moved: one a look, so a few.
    stays: BTreeMap<GroupKey, Mono>,
    asked: Option<Asked>,
    moves: u64,
}

/// A partition whose new preferred replica is to lead it now.
#[derive(Clone, Copy, Debug)]
struct Asked {
    key: GroupKey,
    to: NodeId,
    next: Mono,
    until: Mono,
}

impl EvenOut {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.next_look.into_iter().chain(self.asked.map(|asked| asked.next)).min()
    }

    pub(crate) fn moves(&self) -> u64 {
        self.moves
    }

    /// Counts looks in a row: whether `hot` led too much in enough of them.
    fn persists(&mut self, hot: Option<NodeId>, live: Vec<NodeId>) -> bool {
        let before = self.hot.filter(|_| self.live == live);
        self.live = live;
        self.hot = hot.map(|node| (node, before.filter(|(was, _)| *was == node).map_or(1, |(_, n)| n + 1)));
        self.hot.is_some_and(|(_, looks)| looks >= IN_A_ROW)
    }
}

impl Node {
    /// Looks whether a node leads too much, and moves one lead off it if so.
    pub(crate) fn even_out(&mut self, now: Now, pace: Pace) {
        self.ask_for_lead(now);
        let state = &mut self.peers.load.even_out;
        if !self.registered || state.next_look.is_some_and(|at| at > now.mono) {
            return;
        }
        if !self.leads_metadata() {
            let (moves, asked) = (self.peers.load.even_out.moves, self.peers.load.even_out.asked);
            self.peers.load.even_out = EvenOut { moves, asked, ..EvenOut::default() };
            return;
        }
        let first = self.peers.load.even_out.next_look.replace(now.mono.after_ms(pace.look)).is_none();
        let image = self.metadata.pending();
        let config = image.broker_config();
        let margin = config.leader_imbalance_margin_bytes.unsigned_abs();
        if first || !config.auto_leader_rebalance_enable || self.handing_over.is_some() {
            return;
        }
        let mut live = self.peers.liveness.live(now.mono);
        live.retain(|node| image.nodes.contains_key(node));
        let reports = self.reports(now);
        if live.iter().any(|node| !reports.contains_key(node)) {
            self.peers.load.even_out.hot = None;
            return;
        }
        let (led, movable) = self.what_is_led(&image, &live, &reports);
        let state = &mut self.peers.load.even_out;
        state.stays.retain(|_, until| *until > now.mono);
        let hot = leads_too_much(&led, margin);
        let (true, Some(node)) = (state.persists(hot, live), hot) else { return };
        let movable: Vec<Movable> = movable
            .into_iter()
            .filter(|(leader, one)| *leader == node && !state.stays.contains_key(&one.key))
            .map(|(_, one)| one)
            .collect();
        if let Some((key, rate, to)) = best_move(&led, node, margin, &movable) {
            self.prefer(now, pace, key, (node, to), rate);
        }
    }

    /// What each live node leads when preferred leaders are back, and which of it others could lead.
    fn what_is_led(
        &self,
        image: &Image,
        live: &[NodeId],
        reports: &BTreeMap<NodeId, Arc<LoadReport>>,
    ) -> (BTreeMap<NodeId, u64>, Vec<(NodeId, Movable)>) {
        let mut led: BTreeMap<NodeId, u64> =
            live.iter().map(|node| (*node, reports.get(node).map_or(0, |report| report.led))).collect();
        let mut movable = Vec::new();
        let told = reports.iter().flat_map(|(node, report)| report.most.iter().map(|row| (*node, *row)));
        for (node, (key, rate)) in told.filter(|(node, _)| live.contains(node)) {
            let partition = image.partition(key);
            let Some(partition) = partition.filter(|partition| !partition.is_moving()) else { continue };
            let in_sync = self.in_sync_of(key);
            let fit = |id: NodeId| live.contains(&id) && in_sync.contains(&id) && !self.disk_is_full(id);
            let heirs: Vec<NodeId> = partition
                .wanted()
                .filter(|r| r.kind == ReplicaKind::Voter && r.node != node && fit(r.node))
                .map(|r| r.node)
                .collect();
            let preferred = partition.wanted().next().map(|r| r.node);
            match preferred.filter(|preferred| heirs.contains(preferred)) {
                // It goes back by itself.
                Some(preferred) => {
                    for (id, gets) in [(node, false), (preferred, true)] {
                        let led = led.entry(id).or_default();
                        *led = if gets { led.saturating_add(rate) } else { led.saturating_sub(rate) };
                    }
                }
                None => movable.push((node, Movable { key, rate, heirs })),
            }
        }
        (led, movable)
    }

    /// The replica on `to` becomes the preferred leader instead of the one on `from`; then it is to lead.
    fn prefer(&mut self, now: Now, pace: Pace, key: GroupKey, (from, to): (NodeId, NodeId), rate: u64) {
        let Some(command) = cluster::prefer_leader(&self.metadata.pending(), key, to) else { return };
        if !self.propose(now, &command, Internal::Part) {
            return;
        }
        let (next, until) = (now.mono.after_ms(ASK_MS), now.mono.after_ms(ASK_FOR_MS));
        let state = &mut self.peers.load.even_out;
        state.asked = Some(Asked { key, to, next, until });
        state.stays.insert(key, now.mono.after_ms(pace.look.saturating_mul(STAYS)));
        state.moves += 1;
        self.fx.push(Effect::Event(Event::LeadsTooMuch { node: from, key, rate, to }));
    }

    /// Asks the leader of the partition that was moved last to hand over, once the new order is committed: before
    /// that the lead would go back.
    fn ask_for_lead(&mut self, now: Now) {
        let Some(asked) = self.peers.load.even_out.asked.filter(|asked| asked.next <= now.mono) else {
            return;
        };
        let Asked { key, to, until, .. } = asked;
        let image = self.metadata.image();
        let partition = image.partition(key);
        let preferred = partition.and_then(|p| p.wanted().next()).map(|r| r.node);
        let over = until <= now.mono || self.leader_of(key).1 == Some(to);
        let next = now.mono.after_ms(ASK_MS);
        self.peers.load.even_out.asked = (!over).then_some(Asked { next, ..asked });
        if !over && preferred == Some(to) {
            self.ask_hand_over(now, key, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_must_lead_too_much_for_three_looks_with_the_same_nodes_live() {
        let mut state = EvenOut::default();
        let mut look = |hot: Option<NodeId>, live: &[NodeId]| state.persists(hot, live.to_vec());
        let all = [1, 2, 3];
        assert_eq!([1, 1, 1, 1].map(|node| look(Some(node), &all)), [false, false, true, true]);
        assert_eq!([2, 2].map(|node| look(Some(node), &all)), [false; 2], "another one");
        assert!(!look(None, &all));
        assert_eq!([1, 1].map(|node| look(Some(node), &all)), [false; 2]);
        assert!(!look(Some(1), &[1, 3]), "one is gone: leaders have moved");
        assert_eq!([1, 1].map(|node| look(Some(node), &[1, 3])), [false, true]);
    }
}
