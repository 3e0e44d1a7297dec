//! Subscriptions by regular expression, resolved against the topics that the asking member may see.
//!
//! The engine takes time linear in the name, as RE2 does, which Kafka 4 uses; what it cannot do (look-around, back
//! references) RE2 cannot either.
use super::{ConsumerConfig, ConsumerGroup, TopicFilter, TopicImage, Work};
use crate::records::{ConsumerKey, RegexValue};
use model::ErrorCode;
use regex::{Regex, RegexBuilder};

/// Bytes of a compiled expression; Kafka's engine has a bound of the same kind.
const COMPILED: usize = 1 << 20;

/// The expression, to match whole names.
fn compile(regex: &str, config: &ConsumerConfig) -> Result<Regex, (ErrorCode, String)> {
    let refuse = |why: String| (ErrorCode::InvalidRegularExpression, why);
    if regex.len() > config.max_regex_bytes {
        return Err(refuse(format!(
            "The regular expression is longer than {} bytes.",
            config.max_regex_bytes
        )));
    }
    let build = |text: &str| {
        RegexBuilder::new(text).size_limit(COMPILED).dfa_size_limit(COMPILED).build().map_err(|e| {
            refuse(format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {e}."))
        })
    };
    // Alone first: a lone bracket must not pair with ours.
    build(regex)?;
    build(&format!(r"\A(?:{regex})\z"))
}

pub(crate) fn check(regex: &str, config: &ConsumerConfig) -> Result<(), (ErrorCode, String)> {
    compile(regex, config).map(drop)
}

fn resolve(regex: &str, w: &Work<'_>, allowed: &TopicFilter) -> Option<RegexValue> {
    let compiled = compile(regex, w.config).ok()?;
    let matches = matching(&compiled, w.topics).filter(|name| allowed.allows(name));
    Some(RegexValue {
        topics: matches.map(str::to_owned).collect(),
        version: i64::try_from(w.topics.version()).unwrap_or(i64::MAX),
        at_ms: w.now.wall,
    })
}

fn matching<'a>(regex: &Regex, topics: &'a TopicImage) -> impl Iterator<Item = &'a str> {
    topics.names().map(|name| name.as_ref()).filter(|name| regex.is_match(name))
}

impl ConsumerGroup {
    /// Resolves the member's expression if it is new, and anew what has become old: because topics changed, at most
    /// every ten seconds, or because time passed, as what a client may see can change.
    pub(crate) fn refresh_regexes(&mut self, w: &mut Work<'_>, member_id: &str, allowed: &TopicFilter) {
        let version = i64::try_from(w.topics.version()).unwrap_or(i64::MAX);
        let interval = i64::from(w.config.regex_refresh_interval_ms);
        let is_due = |old: &RegexValue| {
            let age = w.now.wall.saturating_sub(old.at_ms);
            // A clock that went back makes no answer live for ever.
            age < 0 || age >= interval || (old.version != version && age >= w.config.regex_min_refresh_ms)
        };
        let mut due: Vec<String> =
            self.regexes.iter().filter(|(_, old)| is_due(old)).map(|(regex, _)| regex.clone()).collect();
        let own = self.members.get(member_id).and_then(|m| m.value.regex.as_ref());
        due.extend(own.filter(|regex| !self.regexes.contains_key(*regex)).cloned());
        for regex in due {
            let Some(new) = resolve(&regex, w, allowed) else { continue };
            if self.regexes.get(&regex).is_none_or(|old| old.topics != new.topics) {
                w.put(ConsumerKey::Regex(regex.clone()), Some(new.encode()));
            }
            self.regexes.insert(regex, new);
        }
    }

    /// Expressions that no member has any more go.
    pub(crate) fn forget_unused_regexes(&mut self, w: &mut Work<'_>) {
        if self.regexes.is_empty() {
            return;
        }
        let unused: Vec<String> = self
            .regexes
            .keys()
            .filter(|r| !self.members.values().any(|m| m.value.regex.as_ref() == Some(r)))
            .cloned()
            .collect();
        for regex in unused {
            self.regexes.remove(&regex);
            w.put(ConsumerKey::Regex(regex), None);
        }
    }

    /// Whether a regular expression is to be resolved because the topics changed, though it is too early yet.
    pub(crate) fn has_stale_regexes(&self, version: u64) -> bool {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        self.regexes.values().any(|regex| regex.version != version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TopicId;

    fn found(regex: &str) -> Result<Vec<String>, ErrorCode> {
        let mut topics = TopicImage::new(1);
        for (at, name) in ["orders", "orders-eu", "payments", "a+b"].into_iter().enumerate() {
            topics.add(name, TopicId([at as u8 + 1; 16]), 1, &[]);
        }
        let compiled = compile(regex, &ConsumerConfig::default()).map_err(|(error, _)| error)?;
        Ok(matching(&compiled, &topics).map(str::to_owned).collect())
    }

    #[test]
    fn whole_names_match() {
        assert_eq!(found("orders"), Ok(vec!["orders".to_owned()]));
        assert_eq!(found("orders.*"), Ok(vec!["orders".to_owned(), "orders-eu".to_owned()]));
        assert_eq!(found("rder|orders|pay.*"), Ok(vec!["orders".to_owned(), "payments".to_owned()]));
        assert_eq!(found(""), Ok(vec![]));
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for bad in ["(", ")|(", "a)(b", "(?=a)", r"(a)\1", "[", "*"] {
            assert_eq!(found(bad), Err(ErrorCode::InvalidRegularExpression), "{bad}");
        }
        let long = "a".repeat(10_000);
        assert_eq!(found(&long), Err(ErrorCode::InvalidRegularExpression));
        assert_eq!(found("(((a{100}){100}){100})"), Err(ErrorCode::InvalidRegularExpression));
    }
}
