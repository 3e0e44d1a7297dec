//! The range assignor of Kafka's consumers: each topic's partitions in runs, by member order.
use crate::offsets::Place;
use std::collections::BTreeMap;

/// A member as the leader of its group sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Its member id.
    pub member: String,
    /// Its static id, by which static members are ordered.
    pub instance: Option<String>,
    /// The topics it wants.
    pub topics: Vec<String>,
}

/// Who reads which partitions. `partitions` gives the number of partitions of each topic; topics that it
/// lacks are left out. Every member has an entry, perhaps an empty one.
pub fn assign_range(
    members: &[Subscriber],
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Vec<Place>> {
    let mut order: Vec<&Subscriber> = members.iter().collect();
    // Static members first, by their own ids, as Kafka orders them: their shares survive a restart.
    order.sort_by(|a, b| match (&a.instance, &b.instance) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.member.cmp(&b.member),
    });
    let mut shares: BTreeMap<String, Vec<Place>> =
        members.iter().map(|m| (m.member.clone(), Vec::new())).collect();
    for (topic, count) in partitions {
        let readers: Vec<&&Subscriber> = order.iter().filter(|m| m.topics.contains(topic)).collect();
        let Ok(among) = i32::try_from(readers.len()) else { continue };
        let mut next = 0;
        for (at, reader) in (0..).zip(readers) {
            let run = count / among + i32::from(at < count % among);
            let share = shares.entry(reader.member.clone()).or_default();
            share.extend((next..next + run).map(|p| (topic.clone(), p)));
            next += run;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, topics: &[&str]) -> Subscriber {
        let topics = topics.iter().map(ToString::to_string).collect();
        Subscriber { member: name.to_owned(), instance: None, topics }
    }

    #[test]
    fn each_topic_is_dealt_in_runs_and_the_first_members_get_the_rest() {
        let members = [member("b", &["x", "y"]), member("a", &["x"])];
        let partitions = BTreeMap::from([("x".to_owned(), 3), ("y".to_owned(), 2), ("z".to_owned(), 9)]);
        let shares = assign_range(&members, &partitions);
        let row = |topic: &str, p| (topic.to_owned(), p);
        assert_eq!(shares["a"], [row("x", 0), row("x", 1)]);
        assert_eq!(shares["b"], [row("x", 2), row("y", 0), row("y", 1)]);
    }

    #[test]
    fn more_members_than_partitions_leaves_some_idle() {
        let members = [member("a", &["x"]), member("b", &["x"])];
        let shares = assign_range(&members, &BTreeMap::from([("x".to_owned(), 1)]));
        assert_eq!(shares["a"].len(), 1);
        assert!(shares["b"].is_empty());
    }
}
