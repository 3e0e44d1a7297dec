//! Metadata: the pure state machine behind brokers, topics, configs and producer ids.
//!
//! Its commands travel through the metadata raft group; [`Metadata`] applies them, publishes an
//! immutable [`Image`] and tells what changed. The admission functions ([`create_topics`],
//! [`delete_topics`], [`create_partitions`], [`alter_configs`], [`incremental_alter_configs`]) judge a
//! request against an image and return commands or Kafka errors.
//!
//! Must not know: logs, raft, sockets, the clock.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod alter_configs;
mod bootstrap;
mod broker_config;
mod broker_config_rules;
mod change;
mod collision;
mod command;
mod config_def;
pub mod config_defs;
pub mod config_docs;
mod config_value;
mod consumer_configs;
mod cow_map;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe_configs;
mod entries;
mod error;
mod features;
mod group_config_rules;
mod image;
mod load;
mod metadata;
mod nodes;
mod placement;
mod prefer;
mod producer_ids;
mod quorum;
mod raise;
mod reassign;
#[cfg(test)]
mod reassign_tests;
mod recover;
#[cfg(test)]
mod recover_tests;
mod resolve;
mod snapshot;
mod topic_config;
mod topic_config_rules;
mod topic_name;
mod witness;
#[cfg(test)]
mod witness_tests;

pub use alter_configs::{
    AlterEntry, AlterResource, IncrementalEntry, IncrementalResource, alter_configs,
    incremental_alter_configs,
};
pub use bootstrap::{Registration, check_registration, start_commands};
pub use broker_config::{BrokerConfig, CleanerConfig};
pub use change::Change;
pub use command::{Command, ResourceKind, decode_command, encode_command};
pub use config_def::{ConfigDef, ConfigType, Dynamic, Effect, Synonym, Unit, Valid};
pub use config_value::{ConfigError, Value, parse_value};
pub use consumer_configs::{Bounded, ConsumerGroupOverrides, ConsumerGroupsConfig, check_consumer_groups};
pub use create_partitions::{NewPartitions, create_partitions};
pub use create_topics::{CreatedConfig, CreatedTopic, NewTopic, TopicOutcome, auto_create, create_topics};
pub use delete_topics::{DeletedTopic, TopicRef, delete_topics};
pub use describe_configs::{
    DescribeResource, DescribedConfig, DescribedResource, DescribedSynonym, describe_configs,
    list_config_resources,
};
pub use entries::{Entries, Entry};
pub use error::{ApplyError, ItemError, ItemResult};
pub use features::{
    FEATURES, Feature, FeatureUpdate, UpgradeType, check_features, compacts, serves_consumer_groups,
    takes_transactions, transaction_version, update_features,
};
pub use image::{Endpoint, Image, Node, Partition, Replica, ReplicaKind, Topic};
pub use load::{Candidates, NodeLoad, TRAFFIC_MARGIN, is_clearly_above};
pub use metadata::{Metadata, Unstaged};
pub use nodes::unregister_node;
pub use prefer::prefer_leader;
pub use producer_ids::{PRODUCER_ID_BLOCK, allocate_producer_ids};
pub use quorum::{add_voter, remove_voter};
pub use raise::raise_internal;
pub use reassign::{PartitionTarget, alter_reassignments};
pub use recover::{Loss, Recovery, accept_loss, may_accept_loss};
pub use resolve::ConfigSource;
pub use topic_config::{CleanupPolicy, CompressionType, TimestampType, TopicConfig};
pub use topic_name::{
    CONSUMER_OFFSETS, SHARE_GROUP_STATE, TRANSACTION_STATE, is_internal, unify_collision_chars,
    validate_topic_name,
};
pub use witness::{lacks_witness, raise_witnesses};
