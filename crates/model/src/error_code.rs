//! Kafka 4.4 error codes: one row each.

macro_rules! error_codes {
    ($($(#[$meta:meta])* $number:literal $code:ident $name:ident $kind:ident;)*) => {
        /// An error code of the Kafka protocol, as it travels in responses. `None` is success.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = concat!("`", stringify!($name), "`, ", stringify!($kind), " for clients.")]
                $(#[$meta])*
                $code = $number,
            )*
        }

        /// Every code, in numeric order.
        pub const ALL: &[ErrorCode] = &[$(ErrorCode::$code,)*];

        impl ErrorCode {
            /// Kafka's own name, `UNKNOWN_TOPIC_OR_PARTITION` for example.
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$code => stringify!($name),)*
                }
            }

            /// Whether Kafka's Java client retries it.
            pub fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$code => error_codes!(@ $kind),)*
                }
            }
        }
    };
    (@ retriable) => { true };
    (@ definite) => { false };
}

// Number, name here, name in Kafka, and what Kafka's Java client does about it.
error_codes! {
    -1 UnknownServerError UNKNOWN_SERVER_ERROR definite;
    #[default]
    0 None NONE definite;
    1 OffsetOutOfRange OFFSET_OUT_OF_RANGE definite;
    2 CorruptMessage CORRUPT_MESSAGE retriable;
    3 UnknownTopicOrPartition UNKNOWN_TOPIC_OR_PARTITION retriable;
    4 InvalidFetchSize INVALID_FETCH_SIZE definite;
    5 LeaderNotAvailable LEADER_NOT_AVAILABLE retriable;
    6 NotLeaderOrFollower NOT_LEADER_OR_FOLLOWER retriable;
    7 RequestTimedOut REQUEST_TIMED_OUT retriable;
    8 BrokerNotAvailable BROKER_NOT_AVAILABLE definite;
    9 ReplicaNotAvailable REPLICA_NOT_AVAILABLE retriable;
    10 MessageTooLarge MESSAGE_TOO_LARGE definite;
    11 StaleControllerEpoch STALE_CONTROLLER_EPOCH definite;
    12 OffsetMetadataTooLarge OFFSET_METADATA_TOO_LARGE definite;
    13 NetworkException NETWORK_EXCEPTION retriable;
    14 CoordinatorLoadInProgress COORDINATOR_LOAD_IN_PROGRESS retriable;
    15 CoordinatorNotAvailable COORDINATOR_NOT_AVAILABLE retriable;
    16 NotCoordinator NOT_COORDINATOR retriable;
    17 InvalidTopicException INVALID_TOPIC_EXCEPTION definite;
    18 RecordListTooLarge RECORD_LIST_TOO_LARGE definite;
    19 NotEnoughReplicas NOT_ENOUGH_REPLICAS retriable;
    20 NotEnoughReplicasAfterAppend NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable;
    21 InvalidRequiredAcks INVALID_REQUIRED_ACKS definite;
    22 IllegalGeneration ILLEGAL_GENERATION definite;
    23 InconsistentGroupProtocol INCONSISTENT_GROUP_PROTOCOL definite;
    24 InvalidGroupId INVALID_GROUP_ID definite;
    25 UnknownMemberId UNKNOWN_MEMBER_ID definite;
    26 InvalidSessionTimeout INVALID_SESSION_TIMEOUT definite;
    27 RebalanceInProgress REBALANCE_IN_PROGRESS definite;
    28 InvalidCommitOffsetSize INVALID_COMMIT_OFFSET_SIZE definite;
    29 TopicAuthorizationFailed TOPIC_AUTHORIZATION_FAILED definite;
    30 GroupAuthorizationFailed GROUP_AUTHORIZATION_FAILED definite;
    31 ClusterAuthorizationFailed CLUSTER_AUTHORIZATION_FAILED definite;
    32 InvalidTimestamp INVALID_TIMESTAMP definite;
    33 UnsupportedSaslMechanism UNSUPPORTED_SASL_MECHANISM definite;
    34 IllegalSaslState ILLEGAL_SASL_STATE definite;
    35 UnsupportedVersion UNSUPPORTED_VERSION definite;
    36 TopicAlreadyExists TOPIC_ALREADY_EXISTS definite;
    37 InvalidPartitions INVALID_PARTITIONS definite;
    38 InvalidReplicationFactor INVALID_REPLICATION_FACTOR definite;
    39 InvalidReplicaAssignment INVALID_REPLICA_ASSIGNMENT definite;
    40 InvalidConfig INVALID_CONFIG definite;
    41 NotController NOT_CONTROLLER retriable;
    42 InvalidRequest INVALID_REQUEST definite;
    43 UnsupportedForMessageFormat UNSUPPORTED_FOR_MESSAGE_FORMAT definite;
    44 PolicyViolation POLICY_VIOLATION definite;
    45 OutOfOrderSequenceNumber OUT_OF_ORDER_SEQUENCE_NUMBER definite;
    46 DuplicateSequenceNumber DUPLICATE_SEQUENCE_NUMBER definite;
    47 InvalidProducerEpoch INVALID_PRODUCER_EPOCH definite;
    48 InvalidTxnState INVALID_TXN_STATE definite;
    49 InvalidProducerIdMapping INVALID_PRODUCER_ID_MAPPING definite;
    50 InvalidTransactionTimeout INVALID_TRANSACTION_TIMEOUT definite;
    51 ConcurrentTransactions CONCURRENT_TRANSACTIONS retriable;
    52 TransactionCoordinatorFenced TRANSACTION_COORDINATOR_FENCED definite;
    53 TransactionalIdAuthorizationFailed TRANSACTIONAL_ID_AUTHORIZATION_FAILED definite;
    54 SecurityDisabled SECURITY_DISABLED definite;
    55 OperationNotAttempted OPERATION_NOT_ATTEMPTED definite;
    56 KafkaStorageError KAFKA_STORAGE_ERROR retriable;
    57 LogDirNotFound LOG_DIR_NOT_FOUND definite;
    58 SaslAuthenticationFailed SASL_AUTHENTICATION_FAILED definite;
    59 UnknownProducerId UNKNOWN_PRODUCER_ID definite;
    60 ReassignmentInProgress REASSIGNMENT_IN_PROGRESS definite;
    61 DelegationTokenAuthDisabled DELEGATION_TOKEN_AUTH_DISABLED definite;
    62 DelegationTokenNotFound DELEGATION_TOKEN_NOT_FOUND definite;
    63 DelegationTokenOwnerMismatch DELEGATION_TOKEN_OWNER_MISMATCH definite;
    64 DelegationTokenRequestNotAllowed DELEGATION_TOKEN_REQUEST_NOT_ALLOWED definite;
    65 DelegationTokenAuthorizationFailed DELEGATION_TOKEN_AUTHORIZATION_FAILED definite;
    66 DelegationTokenExpired DELEGATION_TOKEN_EXPIRED definite;
    67 InvalidPrincipalType INVALID_PRINCIPAL_TYPE definite;
    68 NonEmptyGroup NON_EMPTY_GROUP definite;
    69 GroupIdNotFound GROUP_ID_NOT_FOUND definite;
    70 FetchSessionIdNotFound FETCH_SESSION_ID_NOT_FOUND retriable;
    71 InvalidFetchSessionEpoch INVALID_FETCH_SESSION_EPOCH retriable;
    72 ListenerNotFound LISTENER_NOT_FOUND retriable;
    73 TopicDeletionDisabled TOPIC_DELETION_DISABLED definite;
    74 FencedLeaderEpoch FENCED_LEADER_EPOCH retriable;
    75 UnknownLeaderEpoch UNKNOWN_LEADER_EPOCH retriable;
    76 UnsupportedCompressionType UNSUPPORTED_COMPRESSION_TYPE definite;
    77 StaleBrokerEpoch STALE_BROKER_EPOCH definite;
    78 OffsetNotAvailable OFFSET_NOT_AVAILABLE retriable;
    79 MemberIdRequired MEMBER_ID_REQUIRED definite;
    80 PreferredLeaderNotAvailable PREFERRED_LEADER_NOT_AVAILABLE retriable;
    81 GroupMaxSizeReached GROUP_MAX_SIZE_REACHED definite;
    82 FencedInstanceId FENCED_INSTANCE_ID definite;
    83 EligibleLeadersNotAvailable ELIGIBLE_LEADERS_NOT_AVAILABLE retriable;
    84 ElectionNotNeeded ELECTION_NOT_NEEDED retriable;
    85 NoReassignmentInProgress NO_REASSIGNMENT_IN_PROGRESS definite;
    86 GroupSubscribedToTopic GROUP_SUBSCRIBED_TO_TOPIC definite;
    87 InvalidRecord INVALID_RECORD definite;
    88 UnstableOffsetCommit UNSTABLE_OFFSET_COMMIT retriable;
    89 ThrottlingQuotaExceeded THROTTLING_QUOTA_EXCEEDED retriable;
    90 ProducerFenced PRODUCER_FENCED definite;
    91 ResourceNotFound RESOURCE_NOT_FOUND definite;
    92 DuplicateResource DUPLICATE_RESOURCE definite;
    93 UnacceptableCredential UNACCEPTABLE_CREDENTIAL definite;
    94 InconsistentVoterSet INCONSISTENT_VOTER_SET definite;
    95 InvalidUpdateVersion INVALID_UPDATE_VERSION definite;
    96 FeatureUpdateFailed FEATURE_UPDATE_FAILED definite;
    97 PrincipalDeserializationFailure PRINCIPAL_DESERIALIZATION_FAILURE definite;
    98 SnapshotNotFound SNAPSHOT_NOT_FOUND definite;
    99 PositionOutOfRange POSITION_OUT_OF_RANGE definite;
    100 UnknownTopicId UNKNOWN_TOPIC_ID retriable;
    101 DuplicateBrokerRegistration DUPLICATE_BROKER_REGISTRATION definite;
    102 BrokerIdNotRegistered BROKER_ID_NOT_REGISTERED definite;
    103 InconsistentTopicId INCONSISTENT_TOPIC_ID retriable;
    104 InconsistentClusterId INCONSISTENT_CLUSTER_ID definite;
    105 TransactionalIdNotFound TRANSACTIONAL_ID_NOT_FOUND definite;
    106 FetchSessionTopicIdError FETCH_SESSION_TOPIC_ID_ERROR retriable;
    107 IneligibleReplica INELIGIBLE_REPLICA definite;
    108 NewLeaderElected NEW_LEADER_ELECTED definite;
    109 OffsetMovedToTieredStorage OFFSET_MOVED_TO_TIERED_STORAGE definite;
    110 FencedMemberEpoch FENCED_MEMBER_EPOCH definite;
    111 UnreleasedInstanceId UNRELEASED_INSTANCE_ID definite;
    112 UnsupportedAssignor UNSUPPORTED_ASSIGNOR definite;
    113 StaleMemberEpoch STALE_MEMBER_EPOCH definite;
    114 MismatchedEndpointType MISMATCHED_ENDPOINT_TYPE definite;
    115 UnsupportedEndpointType UNSUPPORTED_ENDPOINT_TYPE definite;
    116 UnknownControllerId UNKNOWN_CONTROLLER_ID definite;
    117 UnknownSubscriptionId UNKNOWN_SUBSCRIPTION_ID definite;
    118 TelemetryTooLarge TELEMETRY_TOO_LARGE definite;
    119 InvalidRegistration INVALID_REGISTRATION definite;
    120 TransactionAbortable TRANSACTION_ABORTABLE definite;
    121 InvalidRecordState INVALID_RECORD_STATE definite;
    122 ShareSessionNotFound SHARE_SESSION_NOT_FOUND retriable;
    123 InvalidShareSessionEpoch INVALID_SHARE_SESSION_EPOCH retriable;
    124 FencedStateEpoch FENCED_STATE_EPOCH definite;
    125 InvalidVoterKey INVALID_VOTER_KEY definite;
    126 DuplicateVoter DUPLICATE_VOTER definite;
    127 VoterNotFound VOTER_NOT_FOUND definite;
    128 InvalidRegularExpression INVALID_REGULAR_EXPRESSION definite;
    129 RebootstrapRequired REBOOTSTRAP_REQUIRED definite;
    130 StreamsInvalidTopology STREAMS_INVALID_TOPOLOGY definite;
    131 StreamsInvalidTopologyEpoch STREAMS_INVALID_TOPOLOGY_EPOCH definite;
    132 StreamsTopologyFenced STREAMS_TOPOLOGY_FENCED definite;
    133 ShareSessionLimitReached SHARE_SESSION_LIMIT_REACHED retriable;
    134 GroupDeletionFailed GROUP_DELETION_FAILED definite;
    135 StreamsTopologyDescriptionUpdateFailed STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED definite;
    136 ControllerIdNotRegistered CONTROLLER_ID_NOT_REGISTERED definite;
}

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Whether this is success.
    pub fn is_none(self) -> bool {
        self == ErrorCode::None
    }

    /// The code of a number; an unknown number is `None` (the Option).
    pub fn from_code(code: i16) -> Option<ErrorCode> {
        ALL.iter().copied().find(|e| e.code() == code)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
