//! A full disk: groups whose appends find no room are closed and read back, so that nothing waits behind them.
use crate::api::{Effect, Event};
use crate::groups::Slot;
use crate::node::Node;
use model::{ErrorCode, GroupKey};
use partition::PartitionFx;
use storage::{RecoverJob, birth, generation_dir};

impl Node {
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
