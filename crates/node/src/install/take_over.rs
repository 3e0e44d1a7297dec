//! The end of an install: what was pulled is the replica from now on.
use super::{Install, Stage};
use crate::api::{Effect, Event, InstallEvent};
use crate::groups::Slot;
use crate::node::Node;
use model::{ErrorCode, GroupKey, Now};
use storage::{Recovered, generation_dir};

impl Node {
    /// Everything is here and durable: the old life ends.
    pub(super) fn take_over(&mut self, key: GroupKey, recovered: Box<Recovered>) {
        let Some(install) = self.installs.running.get(&key) else { return };
        let (repairs, mut floor) = (install.repairs && self.suspects.rows.contains_key(&key), install.floor);
        let checkpoint = &recovered.checkpoint;
        if self.goes_back(key, checkpoint.index) {
            // It went on meanwhile: the next offer is of a newer one.
            return self.drop_install(key);
        }
        match self.groups.get_mut(&key) {
            Some(Slot::Open(open)) if open.partition.is_behind(checkpoint.index, checkpoint.term) => {}
            Some(Slot::Open(open)) if repairs && open.partition.may_be_replaced() => {
                floor = floor.max(open.partition.last_index());
            }
            Some(Slot::Failed(_)) if repairs => {}
            Some(Slot::Open(open)) if !repairs && !open.partition.is_leader() => {
                return self.drop_install(key);
            }
            // It is being opened anew, or leads now; a later offer comes back here.
            _ => return,
        }
        let slot = self.groups.insert(key, Slot::Opening(Vec::new()));
        let mut waiting = Vec::new();
        let open = match slot {
            Some(Slot::Open(mut open)) => {
                open.partition.fail(ErrorCode::RequestTimedOut, &mut self.scratch);
                self.said.extend(self.scratch.drain(..).map(|said| (key, said)));
                waiting = std::mem::take(&mut open.waiting);
                Some(open)
            }
            _ => None,
        };
        // What an earlier life left to be caught up with stays to be.
        let (state, round) = self.dir.begin_life(key, &recovered, if repairs { floor } else { 0 });
        self.states.insert(key, state);
        if let Some(install) = self.installs.running.get_mut(&key) {
            install.stage = Stage::Switches(round, recovered);
        }
        if let Some(open) = open {
            open.partition.close(&mut self.dir);
        }
        for touch in waiting {
            self.refuse(key, touch, ErrorCode::NotLeaderOrFollower);
        }
        self.wake(key);
    }

    /// A round is durable: perhaps the one that began a replica's new life.
    pub(crate) fn life_begun(&mut self, now: Now, key: GroupKey, round: u64) {
        let switches = |i: &Install| matches!(i.stage, Stage::Switches(due, _) if due <= round);
        if !self.installs.running.get(&key).is_some_and(switches) {
            return;
        }
        let Some(install) = self.installs.running.remove(&key) else { return };
        let Stage::Switches(_, recovered) = install.stage else { return };
        let (node, index) = (install.from, install.index);
        if key == GroupKey::METADATA {
            self.metadata_installed(now, recovered);
        } else {
            self.on_recovered(now, key, Ok(*recovered));
        }
        let path = generation_dir(key, install.generation - 1);
        self.dir.remove_dir(path);
        self.installs.stats.finished += 1;
        let ms = now.mono.since(install.begun).as_millis() as u64;
        let what = InstallEvent::Finished { index, bytes: install.pulled, ms };
        self.fx.push(Effect::Event(Event::Install { key, node, what }));
        self.healed(key);
        self.tell_end(key, node);
    }
}
