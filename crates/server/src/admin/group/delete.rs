//! `plimsoll group delete`.
use super::super::connect::{ConnectArgs, Does, advise};
use super::super::coordinated::OF_GROUPS;
use super::super::failures::Failures;
use super::super::format::FormatArgs;
use super::super::places::Named;
use super::found::find;
use anyhow::anyhow;
use clap::Args;
use client_lite::{Client, Place};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Delete empty groups and their offsets, or only some offsets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group delete billing
  plimsoll group delete billing --topic orders         only the offsets of one topic
  plimsoll group delete billing --topic orders:0,3     only those of two partitions

What can be deleted is, also where something else that was named cannot: that is an error after it.")]
pub(crate) struct DeleteArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// Delete only the offsets of this topic, or TOPIC:PARTITION,PARTITION, and keep the group; may be repeated.
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<Named>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was deleted.
#[derive(Default)]
struct Deleted {
    groups: Vec<String>,
    /// Of which group, and which.
    offsets: Vec<(String, Place)>,
}

/// Runs the command. What was deleted is said before what failed.
pub(crate) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let (mut deleted, mut failures) = (Deleted::default(), Failures::default());
    let delete = async {
        let client = args.connect.client().await?;
        for name in &args.names {
            if !args.topics.is_empty() {
                let done = delete_offsets(&client, name, &args.topics, &mut deleted, &mut failures).await;
                failures.note(done);
            } else if failures.note(client.delete_group(name).await.map_err(advise)).is_some() {
                deleted.groups.push(name.clone());
            }
        }
        Ok(())
    };
    let done = args.connect.within_leaders_of(&[OF_GROUPS], Does::Change, delete).await;
    failures.note(done);
    if !deleted.groups.is_empty() {
        let sentence = format!("Deleted {}.", deleted.groups.join(", "));
        args.format.say(&sentence, &json!({ "deleted": deleted.groups }))?;
    }
    if !deleted.offsets.is_empty() {
        let row = |(group, place): &(String, Place)| -> Value {
            json!({ "group": group, "topic": place.0, "partition": place.1 })
        };
        let rows: Vec<Value> = deleted.offsets.iter().map(row).collect();
        let sentence = format!("Deleted {} committed offsets.", rows.len());
        args.format.say(&sentence, &json!({ "deletedOffsets": rows }))?;
    }
    failures.end()
}

/// Deletes what a group has committed for the named, topic by topic.
async fn delete_offsets(
    client: &Client,
    group: &str,
    named: &[Named],
    deleted: &mut Deleted,
    failures: &mut Failures,
) -> anyhow::Result<()> {
    // Names a group that is not there for what it is.
    find(client, group).await.map_err(advise)?;
    let committed: BTreeSet<Place> =
        client.committed(group, None).await.map_err(advise)?.into_keys().collect();
    let (places, missing) = chosen(named, &committed);
    for topic in missing {
        failures.note::<()>(Err(anyhow!(
            "group {group} has committed nothing for {topic}\n  `plimsoll group describe {group}` shows what it has committed"
        )));
    }
    for (topic, partitions) in places {
        let places: Vec<Place> = partitions.into_iter().map(|p| (topic.to_owned(), p)).collect();
        let done = client.delete_offsets(group, &places).await.map_err(advise);
        if failures.note(done).is_some() {
            deleted.offsets.extend(places.into_iter().map(|place| (group.to_owned(), place)));
        }
    }
    Ok(())
}

/// What of the named is committed, by topic, and what is not: `topic t` or `t-0`.
fn chosen<'a>(
    named: &'a [Named],
    committed: &BTreeSet<Place>,
) -> (BTreeMap<&'a str, BTreeSet<i32>>, BTreeSet<String>) {
    let (mut places, mut missing) = (BTreeMap::<&str, BTreeSet<i32>>::new(), BTreeSet::new());
    for Named { topic, partitions } in named {
        let has: BTreeSet<i32> = committed.iter().filter(|p| p.0 == *topic).map(|p| p.1).collect();
        let (there, not): (BTreeSet<i32>, BTreeSet<i32>) = match partitions {
            Some(wanted) => wanted.iter().partition(|p| has.contains(p)),
            None if has.is_empty() => {
                missing.insert(format!("topic {topic}"));
                continue;
            }
            None => (has, BTreeSet::new()),
        };
        missing.extend(not.into_iter().map(|p| format!("{topic}-{p}")));
        if !there.is_empty() {
            places.entry(topic).or_default().extend(there);
        }
    }
    (places, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_named_that_is_chosen_which_is_committed() {
        let committed = [("a", 0), ("a", 2), ("b", 0)].map(|(t, p)| (t.to_owned(), p)).into();
        let named = ["a:0,1,0", "a:2", "b", "c"].map(|text| text.parse().unwrap());
        let (places, missing) = chosen(&named, &committed);
        assert_eq!(places, [("a", [0, 2].into()), ("b", [0].into())].into());
        assert_eq!(missing, ["a-1".to_owned(), "topic c".to_owned()].into());
    }
}
