//! When the replicas of a lost leader campaign.
use model::GroupKey;
use std::time::Duration;

/// The spread for each thousand groups, ms.
const SPREAD_MS: u64 = 50;
/// However many groups there are: some replica campaigns within a second.
const MOST_MS: u64 = 1_000;
/// What the first live replica has ahead of the others, ms: a round of votes on an idle network.
const AHEAD_MS: u64 = 10;

/// How long a replica waits before it campaigns after its leader's lease was lost.
///
/// `position` counts the live replicas of the wanted set before this one: the first campaigns at once. The
/// others stand by in case it does not, spread by a hash of `seed`, group and position over 50 ms for each
/// thousand `groups` that lost their leader with this one, at most 1 s. So ten thousand groups do not all
/// campaign twice in one millisecond, and two replicas of one group rarely at the same time.
pub(crate) fn campaign_delay(key: GroupKey, seed: u64, position: usize, groups: usize) -> Duration {
    if position == 0 {
        return Duration::ZERO;
    }
    let thousands = (groups as u64).div_ceil(1_000).max(1);
    let last = thousands.saturating_mul(SPREAD_MS).min(MOST_MS);
    let (high, low) = key.topic.0.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().fold(0u64, |word, byte| (word << 8) | u64::from(*byte));
    let parts = [word(high), word(low), key.partition as u64, position as u64];
    let hash = parts.iter().fold(mix(seed), |hash, part| mix(hash ^ *part));
    let micros = (last - AHEAD_MS) * 1_000;
    Duration::from_micros(AHEAD_MS * 1_000 + hash % (micros + 1))
}

/// The finalizer of splitmix64.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TopicId;

    fn delays(seed: u64, position: usize, groups: usize) -> Vec<u64> {
        let key = |partition| GroupKey { topic: TopicId([7; 16]), partition };
        (0..1_000).map(|p| campaign_delay(key(p), seed, position, groups).as_micros() as u64).collect()
    }

    #[test]
    fn the_first_live_replica_campaigns_at_once_and_the_others_after_it() {
        assert!(delays(1, 0, 10_000).iter().all(|delay| *delay == 0));
        assert!(delays(1, 1, 10_000).iter().all(|delay| *delay >= AHEAD_MS * 1_000));
    }

    #[test]
    fn the_others_are_spread_over_fifty_ms_for_each_thousand_groups_up_to_a_second() {
        for (groups, ms) in
            [(0, 50), (1, 50), (1_000, 50), (1_001, 100), (10_000, 500), (20_000, 1_000), (usize::MAX, 1_000)]
        {
            let all = delays(3, 1, groups);
            let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
            assert!(*most <= ms * 1_000, "{groups}: {most}");
            let span = (ms - AHEAD_MS) * 1_000;
            assert!(most - least > span * 9 / 10, "{groups}: from {least} to {most}");
            let half = AHEAD_MS * 1_000 + span / 2;
            let early = all.iter().filter(|delay| **delay < half).count();
            assert!((400..600).contains(&early), "{groups}: {early} of 1000 in the first half");
        }
    }

    #[test]
    fn delays_depend_on_seed_and_position_and_are_the_same_each_time() {
        assert_eq!(delays(1, 1, 500), delays(1, 1, 900));
        assert_ne!(delays(1, 1, 500), delays(2, 1, 500));
        assert_ne!(delays(1, 1, 500), delays(1, 2, 500));
    }
}
