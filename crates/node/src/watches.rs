//! Who waits for which partition to move: the long polls of Fetch.
//!
//! One shot: a token that was woken is forgotten. Bounded by the requests in flight, which the shell
//! bounds by connections and bytes.
use crate::api::Token;
use model::GroupKey;
use std::collections::BTreeMap;

/// Rows for which a partition at which nobody waits keeps room.
const MOST_KEPT: usize = 16;

/// Waiting fetches by partition.
///
/// A long poll of many partitions ends with the first that moves. Its rows at the others stay until those
/// move or their list is full of such rows: a row counts only while its number is its token's.
#[derive(Default, Debug)]
pub(crate) struct Watches {
    by_key: BTreeMap<GroupKey, Vec<(Token, u64)>>,
    /// The number of the watch that counts.
    by_token: BTreeMap<Token, u64>,
    last_number: u64,
}

impl Watches {
    /// `token` waits until one of `keys` moves. A token that waits already waits for `keys` instead.
    pub(crate) fn watch(&mut self, token: Token, keys: &[GroupKey]) {
        self.last_number += 1;
        let number = self.last_number;
        self.by_token.insert(token, number);
        for key in keys {
            let rows = self.by_key.entry(*key).or_default();
            if rows.len() == rows.capacity() {
                rows.retain(|(token, number)| self.by_token.get(token) == Some(number));
                if rows.len() > rows.capacity() / 2 {
                    // Room for as many again, or most of these would be looked at once more soon.
                    rows.reserve(rows.capacity());
                }
            }
            rows.push((token, number));
        }
    }

    /// `token` waits no more.
    pub(crate) fn unwatch(&mut self, token: Token) {
        self.by_token.remove(&token);
    }

    /// `key` moved: pushes every token that waited for it, in the order in which they came.
    pub(crate) fn moved(&mut self, key: GroupKey, woken: &mut Vec<Token>) {
        let Some(rows) = self.by_key.get_mut(&key) else { return };
        for (token, number) in rows.drain(..) {
            if self.by_token.get(&token) == Some(&number) {
                self.by_token.remove(&token);
                woken.push(token);
            }
        }
        rows.shrink_to(MOST_KEPT);
    }

    /// Nothing is there any more that could be watched as `key`; call `moved` first.
    pub(crate) fn forget(&mut self, key: GroupKey) {
        self.by_key.remove(&key);
    }

    /// How many fetches wait.
    pub(crate) fn len(&self) -> usize {
        self.by_token.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> GroupKey {
        GroupKey { topic: model::TopicId::METADATA, partition }
    }

    #[test]
    fn a_woken_token_is_forgotten_everywhere() {
        let mut watches = Watches::default();
        watches.watch(Token(1), &[key(0), key(1)]);
        watches.watch(Token(2), &[key(1)]);
        let mut woken = Vec::new();
        watches.moved(key(0), &mut woken);
        assert_eq!(woken, [Token(1)]);
        watches.moved(key(1), &mut woken);
        assert_eq!(woken, [Token(1), Token(2)]);
        assert_eq!(watches.len(), 0);
    }

    #[test]
    fn rows_of_fetches_that_ended_do_not_pile_up_at_quiet_partitions() {
        let mut watches = Watches::default();
        let mut woken = Vec::new();
        watches.watch(Token(u64::MAX), &[key(1)]);
        for n in 0..10_000 {
            watches.watch(Token(n), &[key(0), key(1)]);
            watches.moved(key(0), &mut woken);
        }
        assert_eq!((woken.len(), watches.len()), (10_000, 1));
        assert!(watches.by_key.values().all(|rows| rows.capacity() <= 8));
        woken.clear();
        watches.moved(key(1), &mut woken);
        assert_eq!(woken, [Token(u64::MAX)]);
        watches.forget(key(1));
        assert_eq!(watches.by_key.len(), 1);
    }

    #[test]
    fn watching_again_replaces_the_first_watch() {
        let mut watches = Watches::default();
        watches.watch(Token(1), &[key(0)]);
        watches.watch(Token(1), &[key(1)]);
        let mut woken = Vec::new();
        watches.moved(key(0), &mut woken);
        assert!(woken.is_empty());
        watches.moved(key(1), &mut woken);
        assert_eq!(woken, [Token(1)]);
    }
}
