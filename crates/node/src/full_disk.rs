//! A full disk: groups whose appends find no room are closed and read back, so that nothing waits behind them. What
//! leads here goes to replicas whose disks have room.
use crate::api::{Effect, Event};
use crate::groups::Slot;
use crate::node::Node;
use model::{ErrorCode, GroupKey, NodeId, Now};
use partition::PartitionFx;
use storage::{RecoverJob, birth, generation_dir};

/// A disk that is full for so long loses its leads, ms: the next look may find room again.
const PATIENCE_MS: i64 = 1_000;
/// Groups handed over in one look, and the time to the next, ms.
const AT_ONCE: usize = 200;
const EVERY_MS: i64 = 1_000;

impl Node {
    /// Whether a node, this one or another, refuses what clients append because its disk is full.
    pub(crate) fn disk_is_full(&self, node: NodeId) -> bool {
        if node == self.cfg.node_id { self.dir.full() } else { self.peers.liveness.is_full(node) }
    }

    /// Hands what leads here to replicas that take what clients append, while this disk does not.
    pub(crate) fn leave_full_disk(&mut self, now: Now) {
        if !self.dir.full() {
            self.peers.leave_full_at = None;
            return;
        }
        let at = *self.peers.leave_full_at.get_or_insert(now.mono.after_ms(PATIENCE_MS));
        if at > now.mono || self.handing_over.is_some() {
            return;
        }
        self.peers.leave_full_at = Some(now.mono.after_ms(EVERY_MS));
        let with_room = |(_, heir): &(GroupKey, NodeId)| !self.disk_is_full(*heir);
        let moves: Vec<_> = self.heirs(now).filter(with_room).take(AT_ONCE).collect();
        if !moves.is_empty() {
            self.fx.push(Effect::Event(Event::LeftFullDisk(moves.len())));
        }
        for (key, heir) in moves {
            self.transfer_leader(now, key, heir);
        }
    }

    /// Closes those of `groups` that may be, as if their replicas had crashed, and opens them again: what was
    /// not written is gone and its askers are told to ask again. The metadata stays, what frees room goes
    /// through it.
    pub(crate) fn give_up(&mut self, groups: Vec<GroupKey>) {
        let given: Vec<GroupKey> = groups.into_iter().filter(|key| self.give_up_group(*key)).collect();
        if !given.is_empty() {
            self.fx.push(Effect::Event(Event::GivenUp(given.len())));
        }
    }

    pub(crate) fn give_up_group(&mut self, key: GroupKey) -> bool {
        if key == GroupKey::METADATA {
            return false;
        }
        let image = self.metadata.image();
        let held = self.held(&image, key);
        let (Some((_, _, members)), Some(Slot::Open(open))) = (held, self.groups.get_mut(&key)) else {
            // It failed meanwhile: nobody waits for what it still had to write.
            self.dir.give_up(key);
            return false;
        };
        // An append may be on disk all the same: this error alone says neither yes nor no, to every client.
        open.partition.fail(ErrorCode::RequestTimedOut, &mut self.scratch);
        self.said.extend(self.scratch.drain(..).map(|said| (key, said)));
        self.said.push_back((key, PartitionFx::Resigned));
        let state = self.dir.give_up(key);
        let job = RecoverJob {
            key,
            dir: generation_dir(key, state.generation),
            mark: state.mark,
            birth: birth(key, members),
        };
        self.states.insert(key, state);
        self.given_up.insert(key);
        let Some(Slot::Open(open)) = self.groups.remove(&key) else { return false };
        open.partition.close(&mut self.dir);
        let mut waiting = open.waiting;
        if !self.stopping() {
            self.dir.recover(job);
            self.groups.insert(key, Slot::Opening(std::mem::take(&mut waiting)));
        }
        for touch in waiting {
            self.refuse(key, touch, ErrorCode::NotLeaderOrFollower);
        }
        true
    }
}
