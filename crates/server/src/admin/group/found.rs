//! A group of either protocol, as the commands show it.
use super::super::connect::advise;
use client_lite::{Client, ClientError, Place, decode_assignment};
use wire::consumer_group_describe_response::{
    Assignment, DescribedGroup as ConsumerGroup, Member as Consumer,
};
use wire::describe_groups_response::{DescribedGroup as ClassicGroup, DescribedGroupMember};

/// A group that was described.
#[derive(Debug)]
pub(crate) enum Found {
    /// Of the classic protocol.
    Classic(ClassicGroup),
    /// Of the new protocol (KIP-848).
    Consumer(ConsumerGroup),
}

/// One member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its id in this group.
    pub(crate) id: String,
    /// Its static id.
    pub(crate) instance: Option<String>,
    /// What its client calls itself.
    pub(crate) client: String,
    /// Where it connects from.
    pub(crate) host: String,
    /// What it reads; empty if the group does not use the consumer protocol.
    pub(crate) partitions: Vec<Place>,
    /// What only groups of the new protocol know.
    pub(crate) more: Option<More>,
}

/// What a group of the new protocol knows of a member.
#[derive(Clone, Debug)]
pub(crate) struct More {
    /// Its epoch.
    pub(crate) epoch: i32,
    /// What it is to read.
    pub(crate) target: Vec<Place>,
    /// Its own protocol: `classic` or `consumer`.
    pub(crate) protocol: &'static str,
    /// Topics that it names, and its regular expression.
    pub(crate) subscribes: Vec<String>,
    /// Its regular expression.
    pub(crate) regex: Option<String>,
}

/// Describes a group of either protocol.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Found, ClientError> {
    match client.describe_consumer_group(name).await? {
        Some(group) => Ok(Found::Consumer(group)),
        None => client.describe_group(name).await.map(Found::Classic),
    }
}

impl Found {
    /// Its type, as ListGroups names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Found::Classic(_) => "classic",
            Found::Consumer(_) => "consumer",
        }
    }

    /// Its state.
    pub(crate) fn state(&self) -> &str {
        match self {
            Found::Classic(group) => &group.group_state,
            Found::Consumer(group) => &group.group_state,
        }
    }

    /// Its protocol type.
    pub(crate) fn protocol_type(&self) -> &str {
        match self {
            Found::Classic(group) => &group.protocol_type,
            Found::Consumer(_) => "consumer",
        }
    }

    /// Its assignor.
    pub(crate) fn assignor(&self) -> &str {
        match self {
            Found::Classic(group) => &group.protocol_data,
            Found::Consumer(group) => &group.assignor_name,
        }
    }

    /// The epochs of the group and of its assignment.
    pub(crate) fn epochs(&self) -> Option<(i32, i32)> {
        match self {
            Found::Classic(_) => None,
            Found::Consumer(group) => Some((group.group_epoch, group.assignment_epoch)),
        }
    }

    /// Why it rebalanced, as a Plimsoll broker tells it.
    pub(crate) fn log(&self) -> &str {
        let text = match self {
            Found::Classic(group) => &group.error_message,
            Found::Consumer(group) => &group.error_message,
        };
        text.as_deref().unwrap_or_default()
    }

    /// How many members it has.
    pub(crate) fn member_count(&self) -> usize {
        match self {
            Found::Classic(group) => group.members.len(),
            Found::Consumer(group) => group.members.len(),
        }
    }

    /// Its members.
    pub(crate) fn members(&self) -> anyhow::Result<Vec<Member>> {
        match self {
            Found::Classic(group) => {
                let reads = group.protocol_type == "consumer";
                group.members.iter().map(|row| classic_member(row, reads)).collect()
            }
            Found::Consumer(group) => Ok(group.members.iter().map(consumer_member).collect()),
        }
    }
}

fn classic_member(row: &DescribedGroupMember, reads: bool) -> anyhow::Result<Member> {
    let mut partitions =
        if reads { decode_assignment(&row.member_assignment).map_err(advise)? } else { Vec::new() };
    partitions.sort();
    Ok(Member {
        id: row.member_id.to_string(),
        instance: row.group_instance_id.as_ref().map(ToString::to_string),
        client: row.client_id.to_string(),
        host: row.client_host.to_string(),
        partitions,
        more: None,
    })
}

fn consumer_member(row: &Consumer) -> Member {
    Member {
        id: row.member_id.to_string(),
        instance: row.instance_id.as_ref().map(ToString::to_string),
        client: row.client_id.to_string(),
        host: row.client_host.to_string(),
        partitions: places(&row.assignment),
        more: Some(More {
            epoch: row.member_epoch,
            target: places(&row.target_assignment),
            protocol: if row.member_type == 0 { "classic" } else { "consumer" },
            subscribes: row.subscribed_topic_names.iter().map(ToString::to_string).collect(),
            regex: row.subscribed_topic_regex.as_ref().filter(|r| !r.is_empty()).map(ToString::to_string),
        }),
    }
}

fn places(assignment: &Assignment) -> Vec<Place> {
    let topics = assignment.topic_partitions.iter();
    let mut all: Vec<Place> =
        topics.flat_map(|t| t.partitions.iter().map(|p| (t.topic_name.to_string(), *p))).collect();
    all.sort();
    all
}
