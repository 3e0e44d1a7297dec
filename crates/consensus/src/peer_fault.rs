//! Why a message between replicas is refused.
use std::fmt;

/// A message that is not sent, or not taken. Nothing of it was used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("raft message, {}{field}: {fault}", Place(*.entry))]
pub struct PeerCodecError {
    /// The entry's number in the message, from 0 on, where the fault is in one.
    pub entry: Option<usize>,
    /// The field, as in `RaftMessage`, `EntryHead` or `Snapshot` of `peer.proto`.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: PeerFault,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// A type that this program does not know.
    #[error("{0} is unknown")]
    Unknown(i32),
    /// A message that a node makes for itself alone.
    #[error("a message that never leaves its node")]
    Local,
    /// A number that is impossible here.
    #[error("{0} is out of range")]
    Range(i128),
    /// What must follow one another does not.
    #[error("{found} where {due} is due")]
    Order {
        /// What is there.
        found: i128,
        /// What had to be.
        due: i128,
    },
    /// More items or bytes than there may be.
    #[error("{count}, the limit is {limit}")]
    Count {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Bytes of another length than stated.
    #[error("{length} bytes, {expected} are stated")]
    Length {
        /// What there are.
        length: usize,
        /// What there must be.
        expected: usize,
    },
    /// Not a part of a message or an entry of this type.
    #[error("it has no place here")]
    Misplaced,
    /// A part that a message or an entry of this type must have.
    #[error("it is missing")]
    Missing,
    /// A payload that is no membership change as raft writes it.
    #[error("no configuration change")]
    NoConfChange,
    /// A membership that no changes lead to.
    #[error("an impossible membership")]
    Members,
}

impl PeerFault {
    /// The fault in a field of the message.
    pub(crate) fn of(self, field: &'static str) -> PeerCodecError {
        PeerCodecError { entry: None, field, fault: self }
    }

    /// The fault in a field of an entry.
    pub(crate) fn at(self, entry: usize, field: &'static str) -> PeerCodecError {
        PeerCodecError { entry: Some(entry), field, fault: self }
    }
}

struct Place(Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(entry) => write!(f, "entry {entry}, "),
            None => Ok(()),
        }
    }
}
