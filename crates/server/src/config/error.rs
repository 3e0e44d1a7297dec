//! What is wrong with a configuration, and what is only worth a word.
use std::collections::BTreeMap;
use std::fmt;

/// Everything that is wrong, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigErrors(pub(crate) Vec<String>);

impl ConfigErrors {
    pub(super) fn one(line: String) -> ConfigErrors {
        ConfigErrors(vec![line])
    }

    pub(super) fn push(&mut self, line: String) {
        self.0.push(line);
    }

    /// Keeps the error of `result` and goes on.
    pub(super) fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|line| self.push(line)).ok()
    }

    /// Puts in front of each line that begins with a key where that key was set.
    pub(super) fn placed(self, places: &BTreeMap<String, String>) -> ConfigErrors {
        let place = |line: String| {
            let key = line.split([':', ' ']).next().unwrap_or_default();
            match places.get(key) {
                Some(place) => format!("{place}: {line}"),
                None => line,
            }
        };
        ConfigErrors(self.0.into_iter().map(place).collect())
    }

    pub(super) fn check(&self) -> Result<(), ConfigErrors> {
        if self.0.is_empty() { Ok(()) } else { Err(self.clone()) }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A word to the author of a configuration that starts all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Keys of Kafka's that do nothing here.
    NoEffect(Vec<String>),
    /// A key that is none, where it stands, and the name that is nearest.
    Unknown {
        /// The key.
        key: String,
        /// `server.properties:3`, `environment`.
        place: String,
        /// Did you mean this?
        nearest: Option<&'static str>,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::NoEffect(keys) => write!(f, "keys without effect here: {}", keys.join(", ")),
            Notice::Unknown { key, place, nearest: Some(nearest) } => {
                write!(f, "{place}: unknown key {key}; did you mean {nearest}?")
            }
            Notice::Unknown { key, place, nearest: None } => write!(f, "{place}: unknown key {key}"),
        }
    }
}
