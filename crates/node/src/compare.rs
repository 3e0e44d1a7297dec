//! Replicas compare what they hold: the chain value after an entry stands for every byte up to there.
//!
//! A replica that has read a file asks its leader for the value after the file's last entry. Where the two
//! differ each of them asks every member of the group, and judges itself alone: one that has a majority of the voters
//! against it is suspect, and is brought up anew (`suspect.rs`). So a leader in the minority gives way instead of
//! overwriting good replicas, and where nobody has a majority nothing is repaired. docs/replication.md, "Damage".
use crate::api::{Effect, Event, PeerOut};
use crate::data::ReadFor;
use crate::node::Node;
use model::planted::{Bug, planted};
use model::{GroupKey, Mono, NodeId, Now};
use std::collections::BTreeMap;
use storage::{ChainPlan, ExtractError, Extracted, Replica, ReplicaKind};

/// Who did not answer is asked again after this, ms.
const AGAIN_MS: i64 = 1_000;
/// So long a leader is asked before it is given up, ms: the next round of the scrub asks again.
const LEADER_MS: i64 = 30_000;
/// So long all members are asked when two differ, ms: one of them may be down.
const ALL_MS: i64 = 600_000;
/// What was judged is remembered for so long, ms: others may ask about the same yet.
const JUDGED_MS: i64 = 10_000;
/// After this, ms, a comparison gives way to one of a later entry, which says as much and more: retention may have
/// gone past the earlier one.
const STALE_MS: i64 = 5_000;
/// Groups that compare at once; more are left for the next round of the scrub.
const MOST_GROUPS: usize = 64;
/// Values that are looked up in files at once; questions beyond are asked again.
const MOST_READS: usize = 32;

/// A value that is looked up in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookUp {
    key: GroupKey,
    index: u64,
    /// The replica's life whose file it is.
    life: u32,
    /// Who asked, with its own value.
    node: NodeId,
    value: u32,
}

/// One group's.
#[derive(Debug)]
struct Compare {
    index: u64,
    own: u32,
    /// What others said.
    said: BTreeMap<NodeId, u32>,
    /// Two differ: everybody is asked.
    all: bool,
    judged: bool,
    begun: Mono,
    until: Mono,
    ask_at: Mono,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Compares {
    running: BTreeMap<GroupKey, Compare>,
    reads: usize,
    counts: CompareCounts,
}

/// Numbers since the node was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompareCounts {
    /// Files up to whose end a leader holds the same.
    pub equal: u64,
    /// Differences that were seen.
    pub different: u64,
    /// Of these, those in which no value has a majority of the voters.
    pub undecided: u64,
    /// Files that were not compared: no leader answered, or too many were under way.
    pub skipped: u64,
}

impl Compares {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.running.values().map(|compare| compare.until.min(compare.ask_at)).min()
    }

    /// The replica begins a new life, or goes.
    pub(crate) fn forget(&mut self, key: GroupKey) {
        self.running.remove(&key);
    }
}

/// What most of `voters` hold, if there is such a value.
fn majority(voters: &[NodeId], said: &BTreeMap<NodeId, u32>) -> Option<u32> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    voters.iter().filter_map(|node| said.get(node)).for_each(|value| *counts.entry(*value).or_default() += 1);
    counts.into_iter().find(|(_, count)| *count > voters.len() / 2).map(|(value, _)| value)
}

impl Node {
    /// A file was read and is good in itself: the leader is asked whether its log holds the same.
    pub(crate) fn compare(&mut self, now: Now, key: GroupKey, index: u64, own: u32) {
        // What nobody can say any more gives way to a later entry.
        let stale = |c: &Compare| c.all && c.begun.after_ms(STALE_MS) <= now.mono;
        self.compare_unless(now, key, (index, own), stale);
    }

    fn compare_unless(
        &mut self,
        now: Now,
        key: GroupKey,
        (index, own): (u64, u32),
        gives_way: impl Fn(&Compare) -> bool,
    ) {
        let follows = self.open_group(key).is_some_and(|open| open.follows() && !open.partition.is_witness());
        if !follows || self.suspects.rows.contains_key(&key) || planted(Bug::ChainsNotCompared) {
            return;
        }
        let running = self.compares.running.get(&key);
        let full = running.is_none() && self.compares.running.len() >= MOST_GROUPS;
        if full || running.is_some_and(|c| c.judged || c.index >= index || !gives_way(c)) {
            self.compares.counts.skipped += 1;
            return;
        }
        self.begin_compare(now, key, index, own, LEADER_MS);
        self.ask_for_chains(now, key);
    }

    /// When all files of a group were read: as of what is committed. The leader has that entry, while it may not know the
    /// value where a file of this replica ends: compaction cut its own files elsewhere. So what it has not said yet
    /// gives way.
    pub(crate) fn compare_end(&mut self, now: Now, key: GroupKey) {
        let Some(open) = self.open_group(key) else { return };
        let index = open.partition.log().commit();
        if let ChainPlan::Known(own) = open.partition.log().chain_plan(index, &self.dir) {
            let stale = |c: &Compare| !c.all || c.begun.after_ms(STALE_MS) <= now.mono;
            self.compare_unless(now, key, (index, own), stale);
        }
    }

    fn begin_compare(&mut self, now: Now, key: GroupKey, index: u64, own: u32, for_ms: i64) {
        let (until, ask_at) = (now.mono.after_ms(for_ms), now.mono);
        let (said, begun) = (BTreeMap::new(), now.mono);
        let compare = Compare { index, own, said, all: false, judged: false, begun, until, ask_at };
        self.compares.running.insert(key, compare);
    }

    fn ask_for_chains(&mut self, now: Now, key: GroupKey) {
        let leader = self.leader_for(key);
        let me = self.cfg.node_id;
        let nodes: Vec<NodeId> = self.members_of(key).iter().map(|m| m.node_id).collect();
        let Some(compare) = self.compares.running.get_mut(&key) else { return };
        compare.ask_at = now.mono.after_ms(AGAIN_MS);
        let (index, own) = (compare.index, compare.own);
        let wanted = |node: &NodeId| *node != me && !compare.said.contains_key(node);
        let asked: Vec<NodeId> =
            nodes.into_iter().filter(|node| compare.all || leader == Some(*node)).filter(wanted).collect();
        asked.into_iter().for_each(|node| self.tell_chain(node, key, index, own, true));
    }

    /// The table of leaders does not hold the metadata's.
    fn leader_for(&self, key: GroupKey) -> Option<NodeId> {
        if key == GroupKey::METADATA { self.metadata_leader() } else { self.leader_of(key).1 }
    }

    fn tell_chain(&mut self, node: NodeId, key: GroupKey, index: u64, value: u32, asks: bool) {
        self.fx.push(Effect::Peer(node, PeerOut::Chain { key, index, value, asks }));
    }

    /// Those whose logs are alike: a witness keeps heads alone.
    fn members_of(&self, key: GroupKey) -> Vec<Replica> {
        let open = self.open_group(key).filter(|open| !open.partition.is_witness());
        let members = open.map(|open| open.partition.members()).unwrap_or_default();
        members.iter().filter(|m| !m.witness).cloned().collect()
    }

    /// Another member says what its chain value after `index` is, and perhaps asks for the one here.
    pub(crate) fn on_chain(
        &mut self,
        now: Now,
        node: NodeId,
        key: GroupKey,
        (index, value): (u64, u32),
        asks: bool,
    ) {
        let member = self.members_of(key).iter().any(|m| m.node_id == node);
        if !member || planted(Bug::ChainsNotCompared) {
            return;
        }
        if let Some(compare) = self.compares.running.get_mut(&key).filter(|c| c.index == index) {
            compare.said.insert(node, value);
            let own = compare.own;
            self.judge(now, key);
            if asks {
                self.tell_chain(node, key, index, own, false);
            }
        } else if asks {
            self.look_up_chain(now, LookUp { key, index, life: self.dir.life(key).0, node, value });
        }
    }

    fn look_up_chain(&mut self, now: Now, look: LookUp) {
        let Some(open) = self.open_group(look.key) else { return };
        match open.partition.log().chain_plan(look.index, &self.dir) {
            ChainPlan::Known(own) => self.chain_found(now, look, own),
            ChainPlan::File(range) if self.compares.reads < MOST_READS => {
                self.compares.reads += 1;
                let read = self.new_read(ReadFor::Chain(look));
                self.fx.push(Effect::Read(read, range));
            }
            ChainPlan::File(_) | ChainPlan::Unknown => {}
        }
    }

    /// The entry was read whose chain value somebody asked for.
    pub(crate) fn chain_read(&mut self, now: Now, look: LookUp, result: Result<Extracted, ExtractError>) {
        self.compares.reads = self.compares.reads.saturating_sub(1);
        // Of an earlier life it says nothing.
        if self.open_group(look.key).is_none() || self.dir.life(look.key).0 != look.life {
            return;
        }
        match result {
            Ok(Extracted { chain: Some(own), entries, .. })
                if entries.last().is_some_and(|(head, _)| head.index == look.index) =>
            {
                self.chain_found(now, look, own);
            }
            Err(ExtractError::Damaged(damage)) => self.on_damage(now, look.key, damage.to_string()),
            // Its file went meanwhile.
            Ok(_) | Err(ExtractError::Disk(_) | ExtractError::Unsettled(_)) => {}
        }
    }

    fn chain_found(&mut self, now: Now, look: LookUp, own: u32) {
        let LookUp { key, index, node, value, .. } = look;
        self.tell_chain(node, key, index, own, false);
        let fresh = |c: &Compare| c.index >= index || c.begun.after_ms(STALE_MS) > now.mono;
        let running = self.compares.running.get(&key);
        let busy = running.is_some_and(|c| c.judged || c.all && fresh(c));
        let full = running.is_none() && self.compares.running.len() >= MOST_GROUPS;
        if value == own || busy || full || self.suspects.rows.contains_key(&key) {
            return;
        }
        self.compares.counts.skipped += u64::from(running.is_some());
        self.begin_compare(now, key, index, own, ALL_MS);
        if let Some(compare) = self.compares.running.get_mut(&key) {
            compare.said.insert(node, value);
        }
        self.judge(now, key);
    }

    /// Looks at what is known of the comparison of a group.
    fn judge(&mut self, now: Now, key: GroupKey) {
        let leader = self.leader_for(key);
        let members = self.members_of(key);
        let me = self.cfg.node_id;
        let Some(compare) = self.compares.running.get_mut(&key).filter(|c| !c.judged) else { return };
        let (index, own) = (compare.index, compare.own);
        let other =
            compare.said.iter().find(|(_, value)| **value != own).map(|(node, value)| (*node, *value));
        let Some((node, theirs)) = other else {
            if !compare.all && leader.is_some_and(|leader| compare.said.contains_key(&leader)) {
                self.compares.running.remove(&key);
                self.compares.counts.equal += 1;
            }
            return;
        };
        let fresh = !std::mem::replace(&mut compare.all, true);
        if fresh {
            compare.until = now.mono.after_ms(ALL_MS);
        }
        let votes =
            |m: &&Replica| m.kind == ReplicaKind::Voter as i32 || m.kind == ReplicaKind::Leaving as i32;
        let voters: Vec<NodeId> = members.iter().filter(votes).map(|m| m.node_id).collect();
        let mut said = compare.said.clone();
        said.insert(me, own);
        let (most, whole) = (majority(&voters, &said), voters.iter().all(|voter| said.contains_key(voter)));
        let judged = most.is_some() || whole;
        if judged {
            compare.judged = true;
            compare.until = now.mono.after_ms(JUDGED_MS);
        }
        if fresh {
            self.compares.counts.different += 1;
            let file = self.file_with(key, index);
            self.fx.push(Effect::Event(Event::ChainsDiffer { key, index, file, ours: own, node, theirs }));
            self.ask_for_chains(now, key);
        }
        match most {
            Some(most) if most != own => {
                let file = self.file_with(key, index);
                let why = format!(
                    "{file}: the chain value after entry {index} is {own:08x}, and {most:08x} on most replicas"
                );
                self.on_damage(now, key, why);
            }
            None if judged => self.undecided(key, index),
            _ => {}
        }
    }

    fn undecided(&mut self, key: GroupKey, index: u64) {
        self.compares.counts.undecided += 1;
        let file = self.file_with(key, index);
        self.fx.push(Effect::Event(Event::ChainsUndecided { key, index, file }));
    }

    fn file_with(&self, key: GroupKey, index: u64) -> String {
        let file = self.open_group(key).and_then(|open| open.partition.log().file_with(index));
        file.unwrap_or_else(|| "a file that is gone".to_owned())
    }

    /// Asks again; gives up what nobody answers.
    pub(crate) fn tick_compares(&mut self, now: Now) {
        if self.stopping() || self.compares.next_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        let over = |c: &Compare| c.until <= now.mono;
        let running = &self.compares.running;
        let ended: Vec<GroupKey> = running.iter().filter(|(_, c)| over(c)).map(|(key, _)| *key).collect();
        for key in ended {
            match self.compares.running.remove(&key) {
                Some(Compare { judged: true, .. }) | None => {}
                Some(Compare { all: true, index, .. }) => self.undecided(key, index),
                Some(_) => self.compares.counts.skipped += 1,
            }
        }
        let asks = |c: &Compare| c.ask_at <= now.mono;
        let running = &mut self.compares.running;
        let due: Vec<GroupKey> = running.iter().filter(|(_, c)| asks(c)).map(|(key, _)| *key).collect();
        for key in due {
            if self.compares.running.get(&key).is_some_and(|c| c.judged) {
                if let Some(compare) = self.compares.running.get_mut(&key) {
                    compare.ask_at = compare.until;
                }
                continue;
            }
            self.ask_for_chains(now, key);
        }
    }

    /// What came of comparing chain values.
    pub fn compare_counts(&self) -> CompareCounts {
        self.compares.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_half_of_all_voters_are_a_majority() {
        let said = |rows: &[(NodeId, u32)]| rows.iter().copied().collect::<BTreeMap<_, _>>();
        assert_eq!(majority(&[1, 2, 3], &said(&[(1, 7), (2, 7), (3, 8)])), Some(7));
        assert_eq!(majority(&[1, 2, 3], &said(&[(1, 7), (3, 8)])), None, "one has not said");
        assert_eq!(majority(&[1, 2, 3], &said(&[(1, 7), (2, 8), (3, 9)])), None);
        assert_eq!(majority(&[1, 2], &said(&[(1, 7), (2, 8)])), None);
        assert_eq!(majority(&[1, 2, 3, 4], &said(&[(1, 7), (2, 7), (3, 8), (4, 8)])), None);
        assert_eq!(majority(&[1, 2, 3], &said(&[(1, 7), (4, 8), (5, 8)])), None, "learners do not count");
    }
}
