//! Which damage was told when: clients ask for a damaged range again and again, and each time it is found anew.
use std::collections::HashMap;
use std::time::Duration;
use storage::Damage;

/// The same damage is told no more often than this.
const AGAIN: Duration = Duration::from_secs(60);
/// Places that are remembered one by one; what is found beyond them is told as if it were one.
const MOST: usize = 256;

struct Told {
    at: Duration,
    /// How often it was found since.
    since: u64,
}

/// Remembers damage by file and position.
#[derive(Default)]
pub(crate) struct DamageLog {
    told: HashMap<(String, u64), Told>,
}

impl DamageLog {
    /// Counts the damage, and says how often it was found since it was last told if it is to be told now.
    pub(crate) fn found(&mut self, uptime: Duration, damage: &Damage) -> Option<u64> {
        let mut place = (damage.file.clone(), damage.pos);
        if self.told.len() >= MOST && !self.told.contains_key(&place) {
            self.told.retain(|_, told| uptime < told.at + AGAIN);
            if self.told.len() >= MOST {
                place = Default::default();
            }
        }
        match self.told.get_mut(&place) {
            Some(told) if uptime < told.at + AGAIN => {
                told.since += 1;
                None
            }
            Some(told) => {
                let times = told.since + 1;
                *told = Told { at: uptime, since: 0 };
                Some(times)
            }
            None => {
                self.told.insert(place, Told { at: uptime, since: 0 });
                Some(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(file: &str, pos: u64) -> Damage {
        Damage { file: file.to_owned(), pos, detail: "bad".to_owned() }
    }

    #[test]
    fn the_same_damage_is_told_once_a_minute_with_how_often_it_was_found() {
        let mut log = DamageLog::default();
        let at = Duration::from_millis;
        assert_eq!(log.found(at(0), &damage("a", 1)), Some(1));
        for ms in 1..1000 {
            assert_eq!(log.found(at(ms), &damage("a", 1)), None);
        }
        assert_eq!(log.found(at(1000), &damage("a", 2)), Some(1), "another place");
        assert_eq!(log.found(at(1000), &damage("b", 1)), Some(1), "another file");
        assert_eq!(log.found(at(60_000), &damage("a", 1)), Some(1000));
        assert_eq!(log.found(at(60_001), &damage("a", 1)), None);
    }

    #[test]
    fn memory_and_lines_are_bounded_however_much_is_damaged() {
        let mut log = DamageLog::default();
        let mut told = 0;
        for pos in 0..100_000 {
            told += usize::from(log.found(Duration::from_secs(1), &damage("a", pos)).is_some());
        }
        assert_eq!(told, MOST + 1);
        assert!(log.told.len() <= MOST + 1);
        let later = Duration::from_secs(62);
        assert_eq!(log.found(later, &damage("b", 0)), Some(1), "what was told long ago makes room");
        assert_eq!(log.told.len(), 1);
    }
}
