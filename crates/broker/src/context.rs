//! Who asks, and what they may do.
use model::ErrorCode;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

/// Who a connection speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// `User` for clients.
    pub(crate) kind: Rc<str>,
    /// `ANONYMOUS` on a listener without authentication.
    pub(crate) name: Rc<str>,
}

impl Principal {
    /// The principal of a listener without authentication.
    pub(crate) fn anonymous() -> Principal {
        Principal { kind: "User".into(), name: "ANONYMOUS".into() }
    }
}

/// As Kafka writes it, `User:ANONYMOUS` for example.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

/// What does not change within a connection.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// A number that rises from one to the next, of all listeners.
    pub(crate) id: u64,
    /// The listener's name, `PLAINTEXT` for example.
    pub(crate) listener: Rc<str>,
    /// The address of the other end.
    pub(crate) peer: IpAddr,
    /// Who it speaks for.
    pub(crate) principal: Principal,
}

/// What quotas charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaEntity {
    /// The user.
    pub(crate) user: Rc<str>,
    /// The client id.
    pub(crate) client_id: Rc<str>,
}

/// Everything a handler knows about its request besides the request itself.
#[derive(Clone)]
pub(crate) struct RequestContext {
    /// The connection.
    pub(crate) connection: Rc<ConnectionInfo>,
    /// Client id of the request header; empty when null.
    pub(crate) client_id: Rc<str>,
    /// Name and version of the client's software (KIP-511); empty until it told.
    pub(crate) software: Rc<Software>,
    /// Number of the API.
    pub(crate) api_key: i16,
    /// Version of the request.
    pub(crate) api_version: i16,
    /// Echoed in the answer.
    pub(crate) correlation_id: i32,
    /// When the request was read.
    pub(crate) received: Instant,
    /// Bytes of the request.
    pub(crate) request_bytes: usize,
    /// The leader of the metadata, who alone could carry it out, cannot be had: the handler only says so.
    pub(crate) refused: Option<ErrorCode>,
}

/// Client software as ApiVersions told it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Software {
    /// `apache-kafka-java`, `librdkafka`, ...
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

impl std::fmt::Display for Software {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// An operation of Kafka's access control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read records, join groups, commit offsets.
    Read,
    /// Append records.
    Write,
    /// Create topics.
    Create,
    /// Delete topics, groups, records.
    Delete,
    /// Change topics.
    Alter,
    /// See that something is there.
    Describe,
    /// Acts between brokers.
    ClusterAction,
    /// Read configuration.
    DescribeConfigs,
    /// Change configuration.
    AlterConfigs,
    /// Idempotent writes on the cluster.
    IdempotentWrite,
}

impl Operation {
    /// The bit of this operation in the `authorized operations` fields.
    pub(crate) fn bit(self) -> i32 {
        1 << match self {
            Operation::Read => 3,
            Operation::Write => 4,
            Operation::Create => 5,
            Operation::Delete => 6,
            Operation::Alter => 7,
            Operation::Describe => 8,
            Operation::ClusterAction => 9,
            Operation::DescribeConfigs => 10,
            Operation::AlterConfigs => 11,
            Operation::IdempotentWrite => 12,
        }
    }
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// A topic by name.
    Topic(&'a str),
    /// A group by id.
    Group(&'a str),
    /// The cluster as a whole.
    Cluster,
    /// A transactional id.
    TransactionalId(&'a str),
}

/// Operations that make sense on a topic, in the order of Kafka's own list.
pub(crate) const TOPIC_OPERATIONS: [Operation; 8] = [
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];
/// Operations that make sense on a group.
pub(crate) const GROUP_OPERATIONS: [Operation; 5] = [
    Operation::Read,
    Operation::Describe,
    Operation::Delete,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];
/// Operations that make sense on the cluster.
pub(crate) const CLUSTER_OPERATIONS: [Operation; 7] = [
    Operation::Create,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
    Operation::Alter,
    Operation::Describe,
];
/// What an `authorized operations` field says when it was not asked for.
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Whether the request may do `operation` on `resource`. Without an authorizer everything is allowed;
/// every handler asks per resource and answers per item, so that one can be put in.
pub(crate) fn authorize(_ctx: &RequestContext, _operation: Operation, _resource: Resource<'_>) -> bool {
    true
}

/// The `authorized operations` field for a resource.
pub(crate) fn authorized_operations(ctx: &RequestContext, all: &[Operation], resource: Resource<'_>) -> i32 {
    all.iter().filter(|op| authorize(ctx, **op, resource)).fold(0, |bits, op| bits | op.bit())
}

/// What a request is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Bytes of a decoded request.
    Decode(usize),
    /// Bytes appended.
    Append(usize),
    /// Bytes of a response with records.
    Response(usize),
    /// Topics or partitions created or deleted.
    Mutation(usize),
}

impl RequestContext {
    /// Whether our own command line asks (KIP-511), which is told more in places that others have no use for.
    pub(crate) fn is_our_command_line(&self) -> bool {
        self.software.name == "plimsoll"
    }

    /// What quotas charge for this request.
    pub(crate) fn quota_entity(&self) -> QuotaEntity {
        QuotaEntity { user: self.connection.principal.name.clone(), client_id: self.client_id.clone() }
    }

    /// Charges the request and says for how many milliseconds its sender shall be throttled. No quota
    /// can be set yet: what is charged shows in the log at trace level, and nobody is throttled.
    pub(crate) fn charge(&self, charge: Charge) -> i32 {
        tracing::trace!(connection = self.connection.id, software = %self.software, ?charge, entity = ?self.quota_entity(), "charge");
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_bits_are_those_of_the_access_control_api() {
        assert_eq!(Operation::Read.bit(), 8);
        assert_eq!(Operation::IdempotentWrite.bit(), 4096);
        let all = TOPIC_OPERATIONS.iter().fold(0, |bits, op| bits | op.bit());
        assert_eq!(all, 3576, "what Apache Kafka answers for a topic without an authorizer");
    }
}
