//! The dynamic configs of one resource.
use proto::cluster::ConfigEntry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value and the metadata version (log index) that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value as the client wrote it.
    pub value: Arc<str>,
    /// Index of the metadata entry that set it.
    pub version: u64,
}

/// Dynamic configs by name. Clones share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(Arc<BTreeMap<Arc<str>, Entry>>);

impl Entries {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|e| &*e.value)
    }

    /// The value of `name` with its version.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.0.get(name)
    }

    /// Names and entries in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(k, v)| (&**k, v))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names are set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn apply(&self, changes: &[ConfigEntry], version: u64) -> Entries {
        let mut map = BTreeMap::clone(&self.0);
        for change in changes {
            match &change.value {
                Some(value) => {
                    let entry = Entry { value: value.as_str().into(), version };
                    map.insert(change.name.as_str().into(), entry);
                }
                None => {
                    map.remove(change.name.as_str());
                }
            }
        }
        Entries(Arc::new(map))
    }

    pub(crate) fn to_proto(&self) -> Vec<ConfigEntry> {
        self.iter()
            .map(|(name, e)| ConfigEntry {
                name: name.to_owned(),
                value: Some(e.value.to_string()),
                version: e.version,
            })
            .collect()
    }

    pub(crate) fn from_proto(entries: Vec<ConfigEntry>) -> Entries {
        let pairs = entries.into_iter().filter_map(|e| {
            let value = e.value?;
            Some((Arc::from(e.name), Entry { value: Arc::from(value), version: e.version }))
        });
        Entries(Arc::new(pairs.collect()))
    }

    /// A set without versions, for judging a change before it has one.
    pub(crate) fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Entries {
        let entries =
            pairs.into_iter().map(|(k, v)| (Arc::from(k), Entry { value: Arc::from(v), version: 0 }));
        Entries(Arc::new(entries.collect()))
    }
}
