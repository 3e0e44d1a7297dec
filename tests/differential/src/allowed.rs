//! Which differences are meant: `allowed.txt`, a pattern and its reason a line.
use anyhow::{Context, Result};
use std::path::Path;

/// A pattern (`*` stands for anything, `{a,b}` for either) over "API vN: step: path = ours / theirs", and why the
/// difference is meant, in words that stand in docs/differences.md.
#[derive(Debug)]
struct Rule {
    pattern: String,
    #[cfg_attr(not(test), allow(dead_code))]
    reason: String,
}

/// All rules.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    rules: Vec<Rule>,
}

impl Allowed {
    /// Reads the file: lines of `pattern | reason`, `#` begins a remark.
    pub(crate) fn read(path: &Path) -> Result<Allowed> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Allowed::parse(&text)
    }

    fn parse(text: &str) -> Result<Allowed> {
        let mut rules = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (pattern, reason) = line.rsplit_once(" | ").with_context(|| format!("no reason: {line}"))?;
            let mut pattern = pattern.trim().to_owned();
            if !pattern.contains(" = ") {
                pattern.push_str(" = *");
            }
            let reason = reason.trim().to_owned();
            rules
                .extend(expand(&pattern).into_iter().map(|pattern| Rule { pattern, reason: reason.clone() }));
        }
        Ok(Allowed { rules })
    }

    /// Whether a difference is meant.
    pub(crate) fn allows(&self, difference: &str) -> bool {
        self.rules.iter().any(|rule| matches(&rule.pattern, difference))
    }

    /// Patterns that fit none of the differences.
    pub(crate) fn unused(&self, differences: &[String]) -> Vec<&str> {
        let idle = |rule: &&Rule| !differences.iter().any(|one| matches(&rule.pattern, one));
        self.rules.iter().filter(idle).map(|rule| rule.pattern.as_str()).collect()
    }
}

/// A pattern for each choice among the words in braces.
fn expand(pattern: &str) -> Vec<String> {
    let parts = pattern.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
    let Some((head, (choices, tail))) = parts else { return vec![pattern.to_owned()] };
    let tails = expand(tail);
    let each = |choice: &str| tails.iter().map(|tail| format!("{head}{choice}{tail}")).collect::<Vec<_>>();
    choices.split(',').flat_map(each).collect()
}

/// Whether `text` is `pattern` with something for each `*`.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last: &str| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("ab*b", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} over {text}");
        }
    }

    #[test]
    fn braces_are_a_choice() {
        assert_eq!(expand("a{1,22}b{x,y}*"), ["a1bx*", "a1by*", "a22bx*", "a22by*"]);
        assert_eq!(expand("a*"), ["a*"]);
    }

    /// The table of the page that says what the list is for.
    #[test]
    fn every_reason_of_the_table_is_in_the_list() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(root.join("../../docs/differences.md")).unwrap();
        let (_, table) = page.split_once("## In answers, field by field").unwrap();
        let rules = Allowed::read(&root.join("allowed.txt")).unwrap().rules;
        let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
        let reasons: Vec<&str> =
            rows.map(|row| row.split(" | ").next().unwrap().trim_matches(['|', ' '])).collect();
        assert!(reasons.len() > 10, "{reasons:?}");
        for reason in reasons {
            assert!(rules.iter().any(|rule| rule.reason == reason), "no pattern is for {reason:?}");
        }
    }

    #[test]
    fn every_reason_stands_on_the_page_of_differences() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(root.join("../../docs/differences.md")).unwrap();
        for rule in Allowed::read(&root.join("allowed.txt")).unwrap().rules {
            assert!(page.contains(&rule.reason), "docs/differences.md does not say {:?}", rule.reason);
        }
    }
}
