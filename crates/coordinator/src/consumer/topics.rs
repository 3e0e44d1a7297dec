//! What the coordinator knows of topics: an image that the host hands in when the metadata changes.
use model::TopicId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One topic as assignments need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicMeta {
    /// Its id.
    pub id: TopicId,
    /// Its partitions are numbered from 0 to below this.
    pub partitions: i32,
    /// A value of id, name, partitions and the racks of the replicas; 0 for none. A change is a rebalance (KIP-1101).
    pub hash: u64,
}

/// All topics of the cluster at one version of its metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicImage {
    version: u64,
    by_name: BTreeMap<Arc<str>, TopicMeta>,
    by_id: BTreeMap<TopicId, Arc<str>>,
}

impl TopicImage {
    /// An image without topics. `version` grows with every change of topics, partitions or racks.
    pub fn new(version: u64) -> TopicImage {
        TopicImage { version, ..TopicImage::default() }
    }

    /// Adds a topic. `racks` has the sorted racks of each partition's replicas, or is empty where no broker names one.
    pub fn add(&mut self, name: &str, id: TopicId, partitions: i32, racks: &[Vec<String>]) {
        let name: Arc<str> = Arc::from(name);
        let mut hash = Hash::default();
        hash.bytes(&id.0);
        hash.bytes(name.as_bytes());
        hash.bytes(&partitions.to_be_bytes());
        for partition in racks {
            hash.bytes(&(partition.len() as u64).to_be_bytes());
            partition.iter().for_each(|rack| hash.bytes(rack.as_bytes()));
        }
        self.by_id.insert(id, name.clone());
        self.by_name.insert(name, TopicMeta { id, partitions: partitions.max(0), hash: hash.0 });
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A topic by its name.
    pub fn get(&self, name: &str) -> Option<&TopicMeta> {
        self.by_name.get(name)
    }

    /// The name of a topic.
    pub fn name(&self, id: &TopicId) -> Option<&Arc<str>> {
        self.by_id.get(id)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }

    /// One value for all these topics; those that do not exist do not count, and 0 is "none exists".
    pub(crate) fn hash<'a>(&self, names: impl Iterator<Item = &'a str>) -> i64 {
        let mut hash = Hash::default();
        let mut any = false;
        for topic in names.filter_map(|name| self.get(name)) {
            hash.bytes(&topic.hash.to_be_bytes());
            any = true;
        }
        if any { hash.0 as i64 } else { 0 }
    }
}

/// FNV-1a with lengths, so that neighbouring texts cannot be mistaken. Kafka's own hash differs: a group that comes
/// from it rebalances once.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_be_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Which topics the asking client may see. Topics that it may not see are left out of what a regular expression
/// resolves to; a client that names such a topic is refused by the host before it comes here.
#[derive(Clone, Default)]
pub struct TopicFilter(Option<Arc<MayDescribe>>);

type MayDescribe = dyn Fn(&str) -> bool + Send + Sync;

impl TopicFilter {
    /// Everything is visible.
    pub fn all() -> TopicFilter {
        TopicFilter(None)
    }

    /// Only what `may_describe` says.
    pub fn new(may_describe: impl Fn(&str) -> bool + Send + Sync + 'static) -> TopicFilter {
        TopicFilter(Some(Arc::new(may_describe)))
    }

    pub(crate) fn allows(&self, topic: &str) -> bool {
        self.0.as_ref().is_none_or(|allows| allows(topic))
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "TopicFilter(some)" } else { "TopicFilter(all)" })
    }
}

impl PartialEq for TopicFilter {
    fn eq(&self, other: &TopicFilter) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for TopicFilter {}
