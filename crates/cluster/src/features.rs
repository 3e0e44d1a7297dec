//! Feature levels: what a node supports, what the cluster has settled on, and how that is changed (KIP-584).
use crate::command::Command;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use model::ErrorCode;
use proto::cluster as pb;
use std::collections::BTreeMap;

/// A feature that this program supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The lowest level that it can work at.
    pub lowest: i16,
    /// The highest; a new cluster begins with it.
    pub highest: i16,
}

/// Formats of our own: what nodes write to the metadata and to each other.
///
/// | level | what is written from it on |
/// |---|---|
/// | 1 | what the first release writes |
/// | 2 | voters of the metadata change (`SetVoter`) |
/// | 3 | two replicas have a witness; an operator accepts loss (`Recover`, and a change of members that makes one replica all of its group) |
/// | 4 | transactions: begin marks in the logs of partitions, open and aborted transactions in their checkpoints |
/// | 4 | compaction: files that it wrote are in checkpoints, and a partition commits its horizon (`CleanHorizon`) |
const PLIMSOLL: &str = "plimsoll.version";
/// The level from which voters of the metadata change.
pub(crate) const VOTERS_CHANGE: i16 = 2;
/// The level from which two replicas have a witness.
pub(crate) const WITNESSES: i16 = 3;
/// The level from which an operator can accept loss.
pub(crate) const ACCEPTED_LOSS: i16 = 3;
/// The level from which partitions take transactions.
const TRANSACTIONS: i16 = 4;

/// The level from which compaction runs.
const COMPACTION: i16 = 4;

const TRANSACTION_VERSION: &str = "transaction.version";

const GROUP_VERSION: &str = "group.version";

/// All of them. Kafka's others are left out as long as what they stand for is not served: `share.version`,
/// `streams.version`, `eligible.leader.replicas.version`.
pub const FEATURES: &[Feature] = &[
    // Voters that come and go (KIP-853).
    Feature { name: "kraft.version", lowest: 1, highest: 1 },
    // Kafka's level of what the served APIs can say: 4.4-IV2.
    Feature { name: "metadata.version", lowest: 33, highest: 33 },
    Feature { name: PLIMSOLL, lowest: 1, highest: 4 },
    // Every end of a transaction raises its producer's epoch (KIP-890).
    Feature { name: TRANSACTION_VERSION, lowest: 0, highest: 2 },
    // Consumer groups of the new protocol (KIP-848).
    Feature { name: GROUP_VERSION, lowest: 0, highest: 1 },
];

/// The cluster's level of our own formats.
pub(crate) fn plimsoll_level(image: &Image) -> i16 {
    image.features.get(PLIMSOLL).copied().unwrap_or(1)
}

/// Whether partitions take transactions: every node can read what these leave in a log.
pub fn takes_transactions(image: &Image) -> bool {
    plimsoll_level(image) >= TRANSACTIONS
}

/// The finalised `transaction.version`; 0 where the cluster is not at one.
pub fn transaction_version(image: &Image) -> i16 {
    image.features.get(TRANSACTION_VERSION).copied().unwrap_or(0)
}

/// Whether consumer groups of the new protocol are served: `group.version` is finalised at 1, which every node supports
/// then, so whoever leads a partition of `__consumer_offsets` next knows their records. Nodes that registered no
/// features are of below the level of transactions.
pub fn serves_consumer_groups(image: &Image) -> bool {
    image.features.get(GROUP_VERSION).is_some_and(|level| *level >= 1) && takes_transactions(image)
}

/// Whether every node of the cluster knows what compaction writes.
pub fn compacts(image: &Image) -> bool {
    plimsoll_level(image) >= COMPACTION
}

/// What this program supports, as a node registers it.
pub(crate) fn ranges() -> Vec<pb::FeatureRange> {
    let range = |f: &Feature| pb::FeatureRange {
        name: f.name.to_owned(),
        lowest: i32::from(f.lowest),
        highest: i32::from(f.highest),
    };
    FEATURES.iter().map(range).collect()
}

/// The levels of a feature that a node supports. One that registered none is of the first release.
fn range_of(features: &[(String, i16, i16)], name: &str) -> Option<(i16, i16)> {
    if features.is_empty() && name == PLIMSOLL {
        return Some((1, 1));
    }
    features.iter().find(|(theirs, ..)| theirs == name).map(|(_, lowest, highest)| (*lowest, *highest))
}

/// Whether a node may register that supports `features`: all that the cluster has settled on. Errors: the
/// feature, its level, and what the node supports of it.
pub fn check_features(image: &Image, features: &[pb::FeatureRange]) -> ItemResult<()> {
    let level = |level: i32| i16::try_from(level).unwrap_or(0);
    let theirs: Vec<_> =
        features.iter().map(|f| (f.name.clone(), level(f.lowest), level(f.highest))).collect();
    for (name, level) in image.features.iter() {
        let range = range_of(&theirs, name);
        let supports = range.is_some_and(|(lowest, highest)| (lowest..=highest).contains(level));
        // A node of before features were registered says nothing of Kafka's own.
        if supports || theirs.is_empty() && name != PLIMSOLL {
            continue;
        }
        return Err(ItemError::new(
            ErrorCode::UnsupportedVersion,
            format!("the cluster is at level {level} of {name}, the node supports {}", shown(range)),
        ));
    }
    Ok(())
}

fn shown(range: Option<(i16, i16)>) -> String {
    range.map_or("none of it".to_owned(), |(lowest, highest)| format!("{lowest} to {highest}"))
}

/// Which way a level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// Up.
    Upgrade,
    /// Down, where nothing is lost.
    SafeDowngrade,
    /// Down, whatever is lost.
    UnsafeDowngrade,
    /// A number that Kafka does not know.
    Unknown,
}

/// One item of UpdateFeatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub name: String,
    /// The wanted level.
    pub level: i16,
    /// Which way it may go.
    pub upgrade: UpgradeType,
}

/// Judges the updates of one request; each is `None` where the level is what it was.
pub fn update_features(
    image: &Image,
    own: model::NodeId,
    updates: &[FeatureUpdate],
) -> Vec<ItemResult<Option<Command>>> {
    let mut seen = BTreeMap::new();
    let judge = |update: &FeatureUpdate| {
        let twice = seen.insert(update.name.clone(), ()).is_some();
        if twice {
            Err(invalid(update, "It is named twice in one request."))
        } else {
            one(image, own, update)
        }
    };
    updates.iter().map(judge).collect()
}

fn invalid(update: &FeatureUpdate, why: &str) -> ItemError {
    let FeatureUpdate { name, level, .. } = update;
    ItemError::new(
        ErrorCode::InvalidUpdateVersion,
        format!("Invalid update version {level} for feature {name}. {why}"),
    )
}

fn one(image: &Image, own: model::NodeId, update: &FeatureUpdate) -> ItemResult<Option<Command>> {
    let FeatureUpdate { name, level, upgrade } = update;
    if *upgrade == UpgradeType::Unknown {
        return Err(invalid(update, "The controller does not support the given upgrade type."));
    }
    if *level < 0 {
        return Err(invalid(update, "A feature version cannot be less than 0."));
    }
    let Some(known) = FEATURES.iter().find(|f| f.name == name) else {
        return Err(invalid(update, &format!("Local controller {own} does not support this feature.")));
    };
    let within = |(lowest, highest): (i16, i16)| (lowest..=highest).contains(level);
    if !within((known.lowest, known.highest)) {
        let why = format!("Local controller {own} only supports versions {}-{}", known.lowest, known.highest);
        return Err(invalid(update, &why));
    }
    for node in image.nodes.values() {
        match range_of(&node.features, name) {
            Some(range) if within(range) => {}
            Some((lowest, highest)) => {
                let why = format!("Broker {} only supports versions {lowest}-{highest}", node.id);
                return Err(invalid(update, &why));
            }
            None if node.features.is_empty() => {}
            None => {
                let why = format!("Broker {} does not support this feature.", node.id);
                return Err(invalid(update, &why));
            }
        }
    }
    let current = image.features.get(name).copied().unwrap_or(if name == PLIMSOLL { 1 } else { 0 });
    match (level.cmp(&current), upgrade) {
        (std::cmp::Ordering::Equal, _) => return Ok(None),
        (std::cmp::Ordering::Less, UpgradeType::Upgrade) => {
            return Err(invalid(
                update,
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                 unsafe downgrade.",
            ));
        }
        // Changes of voters may stand in the log, which the lower level cannot read.
        (std::cmp::Ordering::Less, _) => {
            return Err(invalid(update, "What was written at the present level cannot be taken back."));
        }
        (std::cmp::Ordering::Greater, UpgradeType::Upgrade)
            if name == GROUP_VERSION && !takes_transactions(image) =>
        {
            let why = format!(
                "It needs {PLIMSOLL} {TRANSACTIONS} first: nodes of an earlier level cannot read such groups."
            );
            return Err(invalid(update, &why));
        }
        (std::cmp::Ordering::Greater, UpgradeType::Upgrade) => {}
        (std::cmp::Ordering::Greater, _) => {
            return Err(invalid(update, "Can't downgrade to a newer version."));
        }
    }
    Ok(Some(Command::UpdateFeature(pb::UpdateFeature { name: name.clone(), level: i32::from(*level) })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metadata;

    /// Name, lowest and highest level.
    type Range<'a> = (&'a str, i32, i32);

    fn cluster(level: i32, ranges: &[(i32, &[Range<'_>])]) -> Metadata {
        let mut metadata = Metadata::new(1, Default::default());
        let feature = pb::UpdateFeature { name: PLIMSOLL.into(), level };
        metadata.apply(1, &Command::UpdateFeature(feature)).unwrap();
        for (index, (node_id, features)) in (2..).zip(ranges) {
            let range = |(name, lowest, highest): &(&str, i32, i32)| pb::FeatureRange {
                name: (*name).into(),
                lowest: *lowest,
                highest: *highest,
            };
            let features = features.iter().map(range).collect();
            let node = pb::RegisterNode { node_id: *node_id, features, ..Default::default() };
            metadata.apply(index, &Command::RegisterNode(node)).unwrap();
        }
        metadata
    }

    fn raise(metadata: &Metadata, level: i16, upgrade: UpgradeType) -> Result<bool, String> {
        let update = FeatureUpdate { name: PLIMSOLL.into(), level, upgrade };
        let judged = update_features(&metadata.image(), 1, &[update]).remove(0);
        judged.map(|command| command.is_some()).map_err(|e| e.message.unwrap_or_default())
    }

    #[test]
    fn a_level_rises_only_when_every_registered_node_supports_it() {
        let new: &[(&str, i32, i32)] = &[(PLIMSOLL, 1, 2)];
        assert_eq!(raise(&cluster(1, &[(1, new), (2, new)]), 2, UpgradeType::Upgrade), Ok(true));
        let mixed = cluster(1, &[(1, new), (2, &[])]);
        let said = raise(&mixed, 2, UpgradeType::Upgrade).unwrap_err();
        assert!(said.ends_with("Broker 2 only supports versions 1-1"), "{said}");
        assert_eq!(raise(&mixed, 1, UpgradeType::Upgrade), Ok(false), "it is there already");
        let said = raise(&mixed, 5, UpgradeType::Upgrade).unwrap_err();
        assert!(said.ends_with("Local controller 1 only supports versions 1-4"), "{said}");
        for bad in [-1, 0] {
            assert!(raise(&mixed, bad, UpgradeType::Upgrade).is_err());
        }
    }

    #[test]
    fn partitions_take_transactions_from_level_four_on() {
        for (level, takes) in [(1, false), (3, false), (4, true)] {
            assert_eq!(takes_transactions(&cluster(level, &[]).image()), takes, "level {level}");
        }
    }

    #[test]
    fn consumer_groups_are_served_once_every_node_supports_them() {
        let mut metadata = Metadata::new(1, Default::default());
        let mut set = |index, name: &str, level| {
            let feature = pb::UpdateFeature { name: name.into(), level };
            metadata.apply(index, &Command::UpdateFeature(feature)).unwrap();
            serves_consumer_groups(&metadata.image())
        };
        assert!(!set(1, PLIMSOLL, 4), "group.version is not finalised");
        assert!(!set(2, GROUP_VERSION, 0));
        assert!(set(3, GROUP_VERSION, 1));
        let old: &[Range<'_>] = &[(PLIMSOLL, 1, 4), (TRANSACTION_VERSION, 0, 2)];
        let update = FeatureUpdate { name: GROUP_VERSION.into(), level: 1, upgrade: UpgradeType::Upgrade };
        let mixed = cluster(4, &[(1, old)]).image();
        let refused = |image: &Image, update| {
            update_features(image, 1, &[update]).remove(0).unwrap_err().message.unwrap()
        };
        let said = refused(&mixed, update.clone());
        assert!(said.ends_with("Broker 1 does not support this feature."), "{said}");
        let said = refused(&cluster(3, &[]).image(), update);
        assert!(said.contains("It needs plimsoll.version 4 first"), "{said}");
    }

    #[test]
    fn a_level_does_not_fall() {
        let new: &[(&str, i32, i32)] = &[(PLIMSOLL, 1, 2)];
        let metadata = cluster(2, &[(1, new)]);
        for upgrade in [UpgradeType::Upgrade, UpgradeType::SafeDowngrade, UpgradeType::UnsafeDowngrade] {
            assert!(raise(&metadata, 1, upgrade).is_err(), "{upgrade:?}");
        }
        assert!(raise(&metadata, 2, UpgradeType::Unknown).is_err());
        assert!(raise(&cluster(1, &[(1, new)]), 2, UpgradeType::SafeDowngrade).is_err());
    }

    #[test]
    fn a_feature_is_judged_once_and_unknown_ones_not_at_all() {
        let metadata = cluster(1, &[]);
        let update = FeatureUpdate { name: PLIMSOLL.into(), level: 2, upgrade: UpgradeType::Upgrade };
        let twice = update_features(&metadata.image(), 1, &[update.clone(), update.clone()]);
        assert!(twice[0].is_ok() && twice[1].is_err());
        let unknown = FeatureUpdate { name: "share.version".into(), ..update };
        let said = update_features(&metadata.image(), 1, &[unknown]).remove(0).unwrap_err();
        assert!(said.message.unwrap().ends_with("does not support this feature."));
    }

    #[test]
    fn a_node_registers_only_if_it_supports_what_the_cluster_has_settled_on() {
        let image = cluster(2, &[]).image();
        assert!(check_features(&image, &ranges()).is_ok());
        let said = check_features(&image, &[]).unwrap_err();
        assert_eq!(said.code, ErrorCode::UnsupportedVersion);
        assert!(said.message.unwrap().ends_with("the node supports 1 to 1"));
        assert!(check_features(&cluster(1, &[]).image(), &[]).is_ok());
    }
}
