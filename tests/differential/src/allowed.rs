//! Which differences are meant: `allowed.txt`, a pattern and its reason a line.
use anyhow::{Context, Result};
use std::path::Path;

/// A pattern (`*` stands for anything) over "API vN: step: path = ours / theirs", and why the difference is meant, in
/// words that stand in docs/differences.md.
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
            rules.push(Rule { pattern, reason: reason.trim().to_owned() });
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
    fn every_reason_stands_on_the_page_of_differences() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(root.join("../../docs/differences.md")).unwrap();
        for rule in Allowed::read(&root.join("allowed.txt")).unwrap().rules {
            assert!(page.contains(&rule.reason), "docs/differences.md does not say {:?}", rule.reason);
        }
    }
}
