//! What the disk did beside the files of groups goes to whoever waits for it.
use crate::node::Node;
use model::{GroupKey, Now};
use storage::{AsideDone, OpToken};

impl Node {
    /// The disk did something beside a replica's files.
    pub(crate) fn on_aside(&mut self, now: Now, key: GroupKey, token: OpToken, done: AsideDone) {
        if self.checked(now, token, &done) || self.scrubbed(now, token, &done) {
            return;
        }
        let Some(done) = self.cleaned_aside(now, token, done) else { return };
        match done {
            AsideDone::Stored(ok) => self.aside_stored(now, key, token, ok),
            AsideDone::Looked(result) => self.aside_looked(now, key, token, *result),
            // Of a pass that was void meanwhile.
            AsideDone::Cleaned(_) => {}
        }
    }
}
