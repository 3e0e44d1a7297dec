//! Stored bytes are made even where they clearly are not: for numbers alone a broker may get all that is large.
use super::plan::racks;
use super::view::{Held, View};
use cluster::is_clearly_above;
use std::collections::BTreeMap;

/// A broker stores too much when it has 1.3 times the mean, and so many bytes more.
const MARGIN: u64 = 1 << 30;
/// What is to be copied must be worth it: the fuller of two brokers gets emptier by so many bytes.
const LEAST_GAIN: u64 = 64 << 20;
/// Replicas of each side that are looked at for an exchange.
const LOOKED_AT: usize = 200;
/// Exchanges of one plan.
const MOST: usize = 1_000;

/// A replica that changes its broker, and another one that comes back for it.
type Exchange = (usize, Option<usize>);

/// Exchanges replicas between the broker that stores most and others, while it stores clearly too much. The number of
/// replicas that each has stays even.
pub(crate) fn even_stored(view: &View, held: &mut [Held]) {
    for _ in 0..MOST {
        let mut rows: Vec<(u64, usize, i32)> = view.brokers.keys().map(|id| stored(held, *id)).collect();
        rows.sort_unstable();
        let sum = rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.0));
        let full = rows.iter().rev().filter(|row| is_clearly_above(row.0, sum, rows.len(), MARGIN));
        let pairs = full.flat_map(|from| rows.iter().map(move |to| (*from, *to)));
        let found = pairs
            .filter(|(from, to)| from.2 != to.2)
            .find_map(|(from, to)| best(view, held, from, to).map(|(away, back)| (from.2, to.2, away, back)));
        let Some((from, to, away, back)) = found else { return };
        replace(&mut held[away].replicas, from, to);
        if let Some(back) = back {
            replace(&mut held[back].replicas, to, from);
        }
    }
}

/// (bytes, replicas, id) of a broker.
fn stored(held: &[Held], id: i32) -> (u64, usize, i32) {
    let here = held.iter().filter(|h| h.replicas.contains(&id));
    let (bytes, count) = here.fold((0u64, 0), |(bytes, count), h| (bytes.saturating_add(h.bytes), count + 1));
    (bytes, count, id)
}

fn replace(replicas: &mut [i32], from: i32, to: i32) {
    replicas.iter_mut().filter(|id| **id == from).for_each(|id| *id = to);
}

/// Replicas that may go from one broker to the other: on as many racks as before.
fn movable(view: &View, held: &[Held], from: i32, to: i32) -> Vec<usize> {
    let fits = |h: &Held| {
        let mut after = h.replicas.clone();
        replace(&mut after, from, to);
        h.replicas.contains(&from)
            && !h.replicas.contains(&to)
            && racks(view, &after) >= racks(view, &h.replicas)
    };
    (0..held.len()).filter(|at| fits(&held[*at])).collect()
}

/// The exchange that leaves the fuller of both brokers emptiest. A replica goes without another one coming back only
/// where there are more of them than on the other broker.
fn best(view: &View, held: &[Held], from: (u64, usize, i32), to: (u64, usize, i32)) -> Option<Exchange> {
    let mut away = movable(view, held, from.2, to.2);
    away.sort_by_key(|at| (std::cmp::Reverse(held[*at].bytes), *at));
    let mut back = movable(view, held, to.2, from.2);
    back.sort_by_key(|at| (held[*at].bytes, *at));
    away.truncate(LOOKED_AT);
    back.truncate(LOOKED_AT);
    let alone = (from.1 > to.1).then_some(None);
    let mut scored: BTreeMap<u64, Exchange> = BTreeMap::new();
    for away in away {
        for back in alone.into_iter().chain(back.iter().copied().map(Some)) {
            let shift = held[away].bytes.saturating_sub(back.map_or(0, |back| held[back].bytes));
            let after = from.0.saturating_sub(shift).max(to.0.saturating_add(shift));
            if after.saturating_add(LEAST_GAIN) <= from.0 {
                scored.entry(after).or_insert((away, back));
            }
        }
    }
    scored.into_values().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn view(racks: &[(i32, &str)]) -> View {
        let rack = |(id, rack): &(i32, &str)| (*id, Some((*rack).to_owned()));
        View { brokers: racks.iter().map(rack).collect(), ..View::default() }
    }

    fn held(rows: &[(&[i32], u64)]) -> Vec<Held> {
        let row = |(at, (replicas, gib)): (usize, &(&[i32], u64))| Held {
            place: ("t".to_owned(), at as i32),
            replicas: replicas.to_vec(),
            leader: replicas[0],
            bytes: gib * GIB,
            rate: 0,
        };
        rows.iter().enumerate().map(row).collect()
    }

    fn gib_on(held: &[Held], ids: &[i32]) -> Vec<u64> {
        ids.iter().map(|id| stored(held, *id).0 / GIB).collect()
    }

    #[test]
    fn large_replicas_are_exchanged_for_small_ones() {
        let mut held =
            held(&[(&[1], 40), (&[1], 30), (&[1], 20), (&[2], 0), (&[2], 1), (&[2], 2), (&[3], 5)]);
        let view = view(&[(1, "a"), (2, "a"), (3, "a")]);
        even_stored(&view, &mut held);
        let counts: Vec<usize> = [1, 2, 3].map(|id| stored(&held, id).1).to_vec();
        let most = *gib_on(&held, &[1, 2, 3]).iter().max().unwrap();
        assert!(most <= 45, "{:?}", gib_on(&held, &[1, 2, 3]));
        assert!(counts.iter().all(|count| (1..=3).contains(count)), "{counts:?}");
        let once = held.clone();
        even_stored(&view, &mut held);
        assert_eq!(once, held, "it ends");
    }

    #[test]
    fn little_is_not_copied_and_racks_are_kept_apart() {
        let mut small = held(&[(&[1], 1), (&[1], 0), (&[2], 0), (&[2], 0)]);
        let before = small.clone();
        even_stored(&view(&[(1, "a"), (2, "b")]), &mut small);
        assert_eq!(small, before);
        let mut apart = held(&[(&[1, 2], 50), (&[1, 2], 50), (&[3, 2], 1), (&[3, 2], 1)]);
        even_stored(&view(&[(1, "a"), (2, "b"), (3, "a")]), &mut apart);
        assert_eq!(gib_on(&apart, &[1, 3]), [51, 51]);
        assert!(apart.iter().all(|h| h.replicas.contains(&2)), "else two replicas would be in one rack");
    }
}
