//! placeholder until storage::disk lands
use std::path::Path;
use std::sync::Arc;
use storage::{Completion, DiskError, DiskOp, DiskRead};
pub(crate) struct RealDisk;
impl RealDisk {
    pub(crate) fn open(_: &Path, _: Box<dyn Fn(Completion) + Send>) -> Result<RealDisk, DiskError> { Ok(RealDisk) }
    pub(crate) fn reader(&self) -> Arc<dyn DiskRead + Send + Sync> { panic!() }
    pub(crate) fn submit(&self, _: DiskOp) {}
}
