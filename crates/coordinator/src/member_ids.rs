//! Member ids: `<client id or instance id>-<uuid>`, random by an injected seed.
use crate::codec::cut;

/// A splitmix64 sequence.
#[derive(Clone, Debug)]
pub(crate) struct MemberIds {
    state: u64,
}

impl MemberIds {
    pub(crate) fn new(seed: u64) -> MemberIds {
        MemberIds { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A new id; a very long prefix is cut so that the id fits a record.
    pub(crate) fn generate(&mut self, prefix: &str) -> String {
        let high = (self.next() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.next() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{}-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            cut(prefix, 32_000),
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_4_and_depend_on_the_seed_alone() {
        let mut a = MemberIds::new(7);
        let mut b = MemberIds::new(7);
        let (first, second) = (a.generate("app"), a.generate("app"));
        assert_eq!(first, b.generate("app"));
        assert_ne!(first, second);
        let uuid = first.strip_prefix("app-").unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
    }
}
