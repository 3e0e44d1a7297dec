//! Carries a pass out: a step beside the writer, its writes, the next step; at the end one sync of the new files.
use crate::compact::job::{CleanEnd, CleanJob, CleanStep};
use crate::directory::Directory;
use crate::disk_op::{DiskOp, OpToken};
use crate::install::AsideDone;
use model::GroupKey;
use std::collections::BTreeSet;

/// A step that was carried out.
#[derive(Debug)]
pub struct CleanedAside {
    /// The pass.
    pub job: CleanJob,
    /// What its step came to.
    pub step: CleanStep,
}

/// What a [`CleanRun`] waits for, or came to.
#[derive(Debug)]
pub enum CleanProgress {
    /// For the disk.
    Waits,
    /// It read and wrote so many bytes: [`CleanRun::go_on`] when the rate allows it.
    Rests(u64),
    /// It is over: [`crate::Log::cleaned`].
    Over(Box<CleanJob>, CleanEnd),
}

/// A pass that is carried out.
#[derive(Debug)]
pub struct CleanRun {
    key: GroupKey,
    id: u64,
    /// Steps, writes or the sync that have not ended.
    waits: BTreeSet<OpToken>,
    /// `None` while a step goes on.
    job: Option<Box<CleanJob>>,
    end: CleanEnd,
    syncs: bool,
    /// Bytes that the last step read, and gave to be written.
    moved: u64,
    /// There was no room for something.
    full: bool,
}

impl CleanRun {
    /// Begins with the first step.
    pub fn begin(job: CleanJob, dir: &mut Directory) -> CleanRun {
        let mut run = CleanRun {
            key: job.key,
            id: job.id,
            waits: BTreeSet::new(),
            job: Some(Box::new(job)),
            end: CleanEnd::More,
            syncs: false,
            moved: 0,
            full: false,
        };
        run.go_on(dir);
        run
    }

    /// Which pass: see [`crate::Log::is_cleaning`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The group.
    pub fn key(&self) -> GroupKey {
        self.key
    }

    /// The next step.
    pub fn go_on(&mut self, dir: &mut Directory) {
        if let Some(job) = self.job.take() {
            self.waits.insert(dir.clean(job));
        }
    }

    /// Whether the end of an operation beside the files of groups is its own.
    pub fn awaits(&self, token: OpToken) -> bool {
        self.waits.contains(&token)
    }

    /// Something ended that it [`CleanRun::awaits`].
    pub fn on_aside(&mut self, token: OpToken, done: AsideDone, dir: &mut Directory) -> CleanProgress {
        self.waits.remove(&token);
        match done {
            AsideDone::Cleaned(cleaned) => {
                let CleanedAside { job, step } = *cleaned;
                let CleanStep { read, writes, end } = step;
                (self.end, self.job) = (end, Some(Box::new(job)));
                self.moved = read + writes.iter().map(|(_, _, bytes)| bytes.len() as u64).sum::<u64>();
                for (path, pos, bytes) in writes {
                    self.waits.insert(dir.put_aside(self.key, path, pos, bytes));
                }
            }
            AsideDone::Stored(ok) => self.full |= !ok,
            AsideDone::Looked(_) => {}
        }
        if !self.waits.is_empty() {
            return CleanProgress::Waits;
        }
        if self.full && self.end != CleanEnd::More || self.syncs {
            return self.over();
        }
        match &self.end {
            CleanEnd::More if self.full => self.over(),
            CleanEnd::More => CleanProgress::Rests(self.moved),
            CleanEnd::Done => self.sync(dir),
            CleanEnd::Damaged(..) | CleanEnd::Gone(_) => self.over(),
        }
    }

    fn sync(&mut self, dir: &mut Directory) -> CleanProgress {
        let paths = self.job.as_ref().map(|job| job.paths()).unwrap_or_default();
        if paths.is_empty() {
            return self.over();
        }
        self.syncs = true;
        self.waits.insert(dir.sync_files(self.key, paths));
        CleanProgress::Waits
    }

    fn over(&mut self) -> CleanProgress {
        let Some(job) = self.job.take() else { return CleanProgress::Waits };
        let end = if self.full { CleanEnd::Gone("there is no room".to_owned()) } else { self.end.clone() };
        CleanProgress::Over(job, end)
    }
}

impl Directory {
    /// Carries out a step of a pass. Ends with [`crate::DirEvent::Aside`].
    fn clean(&mut self, job: Box<CleanJob>) -> OpToken {
        let token = self.aside(job.key);
        self.fx.ops.push(DiskOp::Clean { job, token });
        token
    }

    /// Makes files that were put aside durable, with their names. Ends with [`crate::DirEvent::Aside`].
    fn sync_files(&mut self, key: GroupKey, paths: Vec<String>) -> OpToken {
        let token = self.aside(key);
        self.fx.ops.push(DiskOp::SyncFiles { paths, token });
        token
    }
}
