//! `tests/skips.txt`: what a machine may lack without failing the run.
use std::path::Path;

use anyhow::{Context, Result};

/// Lines of `NAME: missing kernel feature or right`.
pub(crate) struct Skips {
    names: Vec<String>,
}

impl Skips {
    /// Reads the list; a missing file allows nothing.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self { names: Vec::new() });
        }
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let names = lines.filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
        Ok(Self { names: names.collect() })
    }

    /// Whether a skip, which begins with its name and a colon, is listed.
    pub(crate) fn allow(&self, skip: &str) -> bool {
        skip.split_once(':').is_some_and(|(name, _)| self.names.iter().any(|listed| listed == name.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::Skips;

    #[test]
    fn only_a_listed_name_is_allowed() {
        let skips = Skips { names: vec!["crash/power-cut".to_owned()] };
        assert!(skips.allow("crash/power-cut: no loop devices"));
        assert!(!skips.allow("crash: no loop devices"));
        assert!(!skips.allow("crash/power-cut"));
    }
}
