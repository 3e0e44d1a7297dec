//! Keys and values from all sources, judged against the table of broker configs.
use super::error::{ConfigErrors, Notice};
use super::nearest::nearest;
use cluster::config_defs::{broker_def, broker_defs};
use cluster::{ConfigDef, Effect, parse_value};
use std::collections::BTreeMap;

/// Where a value was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File { line: usize },
    Variable,
    Flag,
}

/// Keys and values; what is set later stands above what was set before.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The file that was read, for messages.
    pub(super) file: String,
    values: BTreeMap<String, (String, Origin)>,
}

/// The definition behind a key, with or without the prefix of a listener.
fn definition(key: &str) -> Option<&'static ConfigDef> {
    broker_def(key).or_else(|| {
        let (_, base) = key.strip_prefix("listener.name.")?.split_once('.')?;
        broker_def(base).or_else(|| broker_def(base.split_once('.')?.1))
    })
}

impl Settings {
    pub(super) fn set(&mut self, key: String, value: String, origin: Origin) {
        self.values.insert(key, (value, origin));
    }

    fn place(&self, origin: Origin) -> String {
        match origin {
            Origin::File { line } => format!("{}:{line}", self.file),
            Origin::Variable => "environment".to_owned(),
            Origin::Flag => "command line".to_owned(),
        }
    }

    /// Where each key was set.
    pub(super) fn places(&self) -> BTreeMap<String, String> {
        self.values.iter().map(|(key, (_, origin))| (key.clone(), self.place(*origin))).collect()
    }

    pub(super) fn into_values(self) -> BTreeMap<String, String> {
        let known = self.values.into_iter().filter(|(key, _)| definition(key).is_some());
        known.map(|(key, (value, _))| (key, value)).collect()
    }

    /// Checks each key and value. Unknown keys are errors in TOML, on the command line and with `strict`.
    pub(super) fn judge(&self, is_toml: bool, strict: bool) -> Result<Vec<Notice>, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let (mut idle, mut unknown) = (Vec::new(), Vec::new());
        for (key, (value, origin)) in &self.values {
            let Some(def) = definition(key) else {
                let place = self.place(*origin);
                let nearest = nearest(key, broker_defs().iter().map(|d| d.name));
                let notice = Notice::Unknown { key: key.clone(), place, nearest };
                let fatal = match origin {
                    Origin::File { .. } => is_toml || strict,
                    Origin::Variable => strict,
                    Origin::Flag => true,
                };
                if fatal {
                    errors.push(notice.to_string());
                } else {
                    unknown.push(notice);
                }
                continue;
            };
            if let Err(e) = parse_value(def, value) {
                errors.push(format!("{}: {e}", self.place(*origin)));
            }
            if matches!(def.effect, Effect::Accepted(_)) {
                idle.push(key.clone());
            }
        }
        let mut notices = Vec::new();
        if !idle.is_empty() {
            notices.push(Notice::NoEffect(idle));
        }
        if strict {
            notices.iter().for_each(|n| errors.push(n.to_string()));
        }
        errors.check()?;
        notices.extend(unknown);
        Ok(notices)
    }
}
