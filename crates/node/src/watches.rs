//! Who waits for which partition to move: the long polls of Fetch.
//!
//! One shot: a token that was woken is forgotten. Bounded by the requests in flight, which the shell
//! bounds by connections and bytes.
use crate::api::Token;
use model::GroupKey;
use std::collections::BTreeMap;

/// Waiting fetches by partition.
#[derive(Default, Debug)]
pub(crate) struct Watches {
    by_key: BTreeMap<GroupKey, Vec<Token>>,
    by_token: BTreeMap<Token, Vec<GroupKey>>,
}

impl Watches {
    /// `token` waits until one of `keys` moves. A token that waits already waits for `keys` instead.
    pub(crate) fn watch(&mut self, token: Token, keys: &[GroupKey]) {
        self.unwatch(token);
        for key in keys {
            self.by_key.entry(*key).or_default().push(token);
        }
        self.by_token.insert(token, keys.to_vec());
    }

    /// `token` waits no more.
    pub(crate) fn unwatch(&mut self, token: Token) {
        for key in self.by_token.remove(&token).unwrap_or_default() {
            if let Some(tokens) = self.by_key.get_mut(&key) {
                tokens.retain(|t| *t != token);
                if tokens.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
    }

    /// `key` moved: pushes every token that waited for it, in the order in which they came.
    pub(crate) fn moved(&mut self, key: GroupKey, woken: &mut Vec<Token>) {
        if let Some(tokens) = self.by_key.remove(&key) {
            for token in tokens {
                self.unwatch(token);
                woken.push(token);
            }
        }
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
