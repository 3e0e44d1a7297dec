//! What the clients were told.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// One acknowledged batch: values `first..first + count` of `producer` at `base_offset` and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) producer: u32,
    pub(crate) partition: i32,
    pub(crate) base_offset: i64,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Everything that was acknowledged.
#[derive(Default, Debug)]
pub(crate) struct History {
    pub(crate) acked: Vec<Acked>,
    /// The last committed offset that was acknowledged, by partition.
    pub(crate) committed: BTreeMap<i32, i64>,
    /// What went wrong while the load ran.
    pub(crate) violations: Vec<String>,
    /// Errors that clients retried.
    pub(crate) retries: u64,
}

/// Shared by the tasks of one thread.
pub(crate) type Shared = Rc<RefCell<History>>;

/// The value of a record.
pub(crate) fn value(producer: u32, number: u64) -> String {
    format!("p{producer}-{number}")
}
