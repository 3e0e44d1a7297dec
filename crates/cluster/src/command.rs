//! Commands as the metadata log carries them.
use crate::ApplyError;
use bytes::Bytes;
use prost::Message;
pub use proto::cluster::command::Kind as Command;

/// Format version that this build writes and the newest that it applies.
pub(crate) const VERSION: u32 = 1;

/// What a dynamic config belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A topic, by name.
    Topic,
    /// A node by its id as text; the empty name stands for all.
    Broker,
    /// The log levels of a node; never stored.
    BrokerLogger,
    /// A client metrics subscription.
    ClientMetrics,
    /// A group.
    Group,
}

impl ResourceKind {
    /// Kafka's number of the resource type, as in DescribeConfigs.
    pub fn from_wire(code: i8) -> Option<ResourceKind> {
        Some(match code {
            2 => ResourceKind::Topic,
            4 => ResourceKind::Broker,
            8 => ResourceKind::BrokerLogger,
            16 => ResourceKind::ClientMetrics,
            32 => ResourceKind::Group,
            _ => return None,
        })
    }

    /// Kafka's number of the resource type.
    pub fn to_wire(self) -> i8 {
        match self {
            ResourceKind::Topic => 2,
            ResourceKind::Broker => 4,
            ResourceKind::BrokerLogger => 8,
            ResourceKind::ClientMetrics => 16,
            ResourceKind::Group => 32,
        }
    }

    pub(crate) fn to_proto(self) -> Option<proto::cluster::ResourceKind> {
        use proto::cluster::ResourceKind as P;
        Some(match self {
            ResourceKind::Topic => P::ResourceTopic,
            ResourceKind::Broker => P::ResourceBroker,
            ResourceKind::Group => P::ResourceGroup,
            ResourceKind::ClientMetrics => P::ResourceClientMetrics,
            ResourceKind::BrokerLogger => return None,
        })
    }

    pub(crate) fn from_proto(kind: i32) -> Option<ResourceKind> {
        use proto::cluster::ResourceKind as P;
        Some(match P::try_from(kind).ok()? {
            P::ResourceTopic => ResourceKind::Topic,
            P::ResourceBroker => ResourceKind::Broker,
            P::ResourceGroup => ResourceKind::Group,
            P::ResourceClientMetrics => ResourceKind::ClientMetrics,
            P::ResourceUnknown => return None,
        })
    }
}

/// The bytes of a command, to be proposed to the metadata group.
pub fn encode_command(command: &Command) -> Bytes {
    let message = proto::cluster::Command { version: VERSION, kind: Some(command.clone()) };
    Bytes::from(message.encode_to_vec())
}

/// Reads what [`encode_command`] wrote. Errors: damage, a newer format, an unknown kind.
pub fn decode_command(index: u64, bytes: Bytes) -> Result<Command, ApplyError> {
    let message = proto::cluster::Command::decode(bytes)
        .map_err(|e| ApplyError::Decode { index, what: e.to_string() })?;
    if message.version > VERSION {
        return Err(ApplyError::Newer { index, needs: message.version, knows: VERSION });
    }
    message.kind.ok_or(ApplyError::UnknownCommand { index })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::cluster::{Command as Wrapper, SetClusterId};

    #[test]
    fn a_newer_or_unknown_command_is_refused() {
        let known = Command::SetClusterId(SetClusterId { cluster_id: "c".into(), founders: Vec::new() });
        assert_eq!(decode_command(7, encode_command(&known)), Ok(known.clone()));
        let newer = Wrapper { version: VERSION + 1, kind: Some(known) };
        assert_eq!(
            decode_command(7, newer.encode_to_vec().into()),
            Err(ApplyError::Newer { index: 7, needs: VERSION + 1, knows: VERSION })
        );
        // Field 900, length-delimited, empty: a kind that this build does not know.
        let unknown = Bytes::from_static(&[0x08, 0x01, 0xa2, 0x38, 0x00]);
        assert_eq!(decode_command(8, unknown), Err(ApplyError::UnknownCommand { index: 8 }));
        assert!(matches!(decode_command(9, Bytes::from_static(&[0xff])), Err(ApplyError::Decode { .. })));
    }
}
