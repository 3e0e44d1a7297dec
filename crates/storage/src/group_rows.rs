//! What the state log says of each group: rows come, change and go.
use crate::directory::Directory;
use crate::disk_op::DiskOp;
use crate::install::generation_dir;
use crate::state_record::GroupRow;
use model::GroupKey;

impl Directory {
    /// Entries of the group may count as persisted once they are written, from the round on that says so: after a
    /// loss of power its replica here must not be believed.
    pub fn relax(&mut self, key: GroupKey) {
        if !std::mem::replace(&mut self.row(key).relaxed, true) {
            self.rounds.refresh(key);
            self.rounds.changed(key, true);
        }
    }

    /// The group's row.
    pub(crate) fn row(&mut self, key: GroupKey) -> &mut GroupRow {
        self.groups.entry(key).or_insert_with(|| {
            self.rounds.refresh(key);
            let replica = self.born.remove(&key).unwrap_or_default();
            GroupRow { replica, ..GroupRow::default() }
        })
    }

    /// What is here of the group is `replica`, from its beginning on. It is written with the first thing that the
    /// replica promises: a replica that comes to this directory later under another id does not take over its
    /// vote or its files.
    pub fn born(&mut self, key: GroupKey, replica: u64) {
        if !self.groups.contains_key(&key) {
            self.born.insert(key, replica);
        }
    }

    /// What is here of the group is `replica` from now on, which nobody may doubt: what its former life may have
    /// acknowledged and lacks was given up. Nothing that is appended from now on is persisted before that is.
    pub fn rename(&mut self, key: GroupKey, replica: u64) {
        let row = self.row(key);
        (row.replica, row.floor, row.relaxed, row.failed) = (replica, 0, false, None);
        self.rounds.refresh(key);
        self.rounds.changed(key, true);
    }

    /// Removes what a group has on disk, in the life that it is in; [`DirEvent::Removed`] is the end of it. Nothing
    /// of the group may be created here before that. Call it before [`Directory::forget`].
    pub fn remove(&mut self, key: GroupKey) {
        let token = self.fx.token();
        self.removals.insert(token, key);
        let path = generation_dir(key, self.life(key).0);
        self.fx.ops.push(DiskOp::RemoveDir { path, token });
    }

    /// Removes a directory in which no replica lives; nobody is told of the end.
    pub fn remove_dir(&mut self, path: String) {
        let token = self.fx.token();
        self.fx.ops.push(DiskOp::RemoveDir { path, token });
    }

    /// Replicas that must not vote yet, see [`GroupState::floor`].
    pub fn below_their_floor(&self) -> usize {
        self.groups.values().filter(|row| row.floor > 0).count()
    }

    /// Marks a replica failed (not opened again without a command) or, with `None`, well again.
    pub fn set_failed(&mut self, key: GroupKey, why: Option<String>) {
        self.row(key).failed = why;
        self.rounds.changed(key, true);
    }

    /// Forgets a deleted group.
    pub fn forget(&mut self, key: GroupKey) {
        self.fx.drop_group(key);
        self.born.remove(&key);
        if self.groups.remove(&key).is_some() {
            self.rounds.forget(key);
        }
    }

    /// Entries of the group up to this index are known to be synced.
    pub fn durable_index(&self, key: GroupKey) -> u64 {
        self.groups.get(&key).and_then(|row| row.mark).map_or(0, |mark| mark.durable_index)
    }
}
