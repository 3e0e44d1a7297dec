//! An ordered map whose clones share their contents: a change copies one small chunk.
use std::borrow::Borrow;
use std::sync::Arc;

/// Entries in a chunk before it is split; what one change copies at most.
const CHUNK: usize = 64;

/// A sorted map in chunks behind `Arc`s. Cloning costs one pointer per chunk.
#[derive(Clone, Debug)]
pub(crate) struct CowMap<K, V> {
    /// Never empty chunks, in order of their keys.
    chunks: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        CowMap { chunks: Vec::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> CowMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|c| c.iter().map(|(k, v)| (k, v)))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        Some(&chunk[at].1)
    }

    /// Entries with keys at or above `from`, in order.
    pub(crate) fn range_from<'a, Q: Ord + ?Sized>(
        &'a self,
        from: &'a Q,
    ) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        self.chunks[self.chunk_of(from)..]
            .iter()
            .flat_map(|c| c.iter().map(|(k, v)| (k, v)))
            .skip_while(move |(k, _)| (*k).borrow() < from)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.chunks.is_empty() {
            self.chunks.push(Arc::new(Vec::with_capacity(1)));
        }
        let at = self.chunk_of(&key).min(self.chunks.len() - 1);
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        match chunk.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(i) => Some(std::mem::replace(&mut chunk[i].1, value)),
            Err(i) => {
                chunk.insert(i, (key, value));
                self.len += 1;
                if chunk.len() > CHUNK {
                    let upper = chunk.split_off(CHUNK / 2);
                    self.chunks.insert(at + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.chunk_of(key);
        let i = self.chunks.get(at)?.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        let (_, value) = chunk.remove(i);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// The first chunk whose last key is not below `key`.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.chunks.partition_point(|c| c.last().is_some_and(|(k, _)| k.borrow() < key))
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for CowMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self.chunks.iter().flat_map(|c| c.iter()).eq(other.chunks.iter().flat_map(|c| c.iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_like_a_btree_map(ops in prop::collection::vec((any::<bool>(), 0u16..400, any::<u8>()), 0..1500)) {
            let (mut ours, mut model) = (CowMap::default(), BTreeMap::new());
            for (put, key, value) in ops {
                let before = ours.clone();
                if put {
                    prop_assert_eq!(ours.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(ours.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(ours.len(), model.len());
                prop_assert_eq!(ours.get(&key), model.get(&key));
                drop(before);
            }
            prop_assert!(ours.iter().eq(model.iter()));
            prop_assert!(ours.range_from(&200).eq(model.range(200..)));
        }
    }

    #[test]
    fn a_change_leaves_clones_alone_and_copies_one_chunk() {
        let mut map = CowMap::default();
        for i in 0..10_000u32 {
            map.insert(i, i);
        }
        let old = map.clone();
        map.insert(5_000, 1);
        assert_eq!(old.get(&5_000), Some(&5_000));
        let shared = map.chunks.iter().zip(&old.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, map.chunks.len() - 1);
    }
}
