//! What each broker has before and after a plan.
use super::plan::human;
use super::view::Held;
use crate::admin::table::Table;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What one broker has at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Has {
    /// Replicas.
    pub(crate) replicas: usize,
    /// Partitions that it is preferred for as the leader.
    pub(crate) leads: usize,
    /// Bytes a second that these take in.
    pub(crate) led: u64,
    /// Bytes of its replicas.
    pub(crate) stored: u64,
}

impl Has {
    fn of(held: &[Held], broker: i32) -> Has {
        let mut has = Has::default();
        for one in held.iter().filter(|one| one.replicas.contains(&broker)) {
            has.replicas += 1;
            has.stored = has.stored.saturating_add(one.bytes);
            if one.replicas.first() == Some(&broker) {
                has.leads += 1;
                has.led = has.led.saturating_add(one.rate);
            }
        }
        has
    }

    fn as_json(self) -> Value {
        json!({ "replicas": self.replicas, "leads": self.leads, "led": self.led, "stored": self.stored })
    }
}

/// One broker before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    broker: i32,
    before: Has,
    after: Has,
}

/// Of all these brokers.
pub(crate) fn shares(brokers: &BTreeSet<i32>, before: &[Held], after: &[Held]) -> Vec<Share> {
    let share = |id: &i32| Share { broker: *id, before: Has::of(before, *id), after: Has::of(after, *id) };
    brokers.iter().map(share).collect()
}

impl Share {
    /// A table, empty without shares.
    pub(crate) fn as_text(shares: &[Share]) -> String {
        if shares.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&["#BROKER", "#REPLICAS", "#PREFERRED", "#LED", "#STORED"]);
        let pair = |before: String, after: String| match before == after {
            true => before,
            false => format!("{before} -> {after}"),
        };
        for Share { broker, before, after } in shares {
            table.push([
                broker.to_string(),
                pair(before.replicas.to_string(), after.replicas.to_string()),
                pair(before.leads.to_string(), after.leads.to_string()),
                pair(format!("{}/s", human(before.led)), format!("{}/s", human(after.led))),
                pair(human(before.stored), human(after.stored)),
            ]);
        }
        format!("\n{table}\n")
    }

    /// For scripts.
    pub(crate) fn as_json(&self) -> Value {
        json!({ "broker": self.broker, "before": self.before.as_json(), "after": self.after.as_json() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_shown_with_both_values() {
        let held = |replicas: &[i32]| Held {
            place: ("t".to_owned(), 0),
            replicas: replicas.to_vec(),
            leader: 1,
            bytes: 2_048,
            rate: 1_024,
        };
        let (before, after) = ([held(&[1, 2]), held(&[1, 2])], [held(&[1, 2]), held(&[2, 3])]);
        let shares = shares(&BTreeSet::from([1, 2, 3]), &before, &after);
        let text = Share::as_text(&shares);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for line in [
            "1 2 -> 1 2 -> 1 2.0 KiB/s -> 1.0 KiB/s 4.0 KiB -> 2.0 KiB",
            "2 2 0 -> 1 0 B/s -> 1.0 KiB/s 4.0 KiB",
            "3 0 -> 1 0 0 B/s 0 B -> 2.0 KiB",
        ] {
            assert!(text.lines().any(|there| words(there) == words(line)), "{line:?} in\n{text}");
        }
        assert_eq!(shares[1].as_json()["after"]["led"], 1_024);
        assert_eq!(Share::as_text(&[]), "");
    }
}
