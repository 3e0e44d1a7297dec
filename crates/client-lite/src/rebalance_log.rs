//! Why a group rebalanced, as Plimsoll tells it.
//!
//! Kafka has no field for it. A successful DescribeGroups answer has no use for its error text, so a
//! Plimsoll broker puts the log there for clients that call themselves `plimsoll`: a line an event,
//! MS, GENERATION, KIND, MEMBER and REASON with tabs between them, oldest first; a member that is not
//! known is `-`.

/// Why one rebalance happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// When, ms since 1970.
    pub at: i64,
    /// The generation that it ended.
    pub generation: i32,
    /// What set it off: `member-joined`, `session-expired` and the like.
    pub kind: String,
    /// Who set it off, if it was a member.
    pub member: Option<String>,
    /// The client's own words or the broker's.
    pub reason: String,
}

/// Reads the text of a DescribeGroups answer; lines of another shape are left out.
pub fn parse_rebalance_log(text: &str) -> Vec<Rebalance> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Rebalance> {
    let mut words = line.splitn(5, '\t');
    Some(Rebalance {
        at: words.next()?.parse().ok()?,
        generation: words.next()?.parse().ok()?,
        kind: words.next()?.to_owned(),
        member: words.next().filter(|m| *m != "-").map(str::to_owned),
        reason: words.next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_other_text_is_left_out() {
        let text =
            "1700\t3\tmember-joined\tmy app-1\ta new member\n1800\t4\tsession-expired\t-\t\nGroup is fine.";
        let log = parse_rebalance_log(text);
        assert_eq!(log.len(), 2);
        assert_eq!((log[0].at, log[0].generation, log[0].reason.as_str()), (1700, 3, "a new member"));
        assert_eq!((log[0].member.as_deref(), log[1].member.as_deref()), (Some("my app-1"), None));
    }
}
