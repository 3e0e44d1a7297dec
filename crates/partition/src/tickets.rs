//! Questions to transaction coordinators that are under way, so that an answer counts only while nothing came between
//! (KIP-890, part 1): in memory, of one leader's term.
use crate::transactions::OWN_EPOCHS;
use model::{Mono, ProducerEpoch, ProducerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Questions kept for one partition at most. Beyond it the longest unused goes if it is older than [`KEPT`].
pub(crate) const MOST: usize = 10_000;
/// A question that is older gives way to a new one: a coordinator was asked again by then.
pub(crate) const KEPT: Duration = Duration::from_secs(60);

/// Names a question. Opaque: take it before you ask, hand it back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) number: u64,
    pub(crate) term: u64,
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) version: i16,
}

impl Ticket {
    /// Whose transaction is asked about.
    pub fn producer_id(&self) -> ProducerId {
        self.producer_id
    }

    /// Its epoch.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        self.epoch
    }
}

/// What one producer waits for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    ticket: Ticket,
    /// The lowest sequence that came since: a later batch must not overtake an earlier one that failed.
    lowest: i32,
    at: Mono,
}

/// All questions of one partition.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    asked: BTreeMap<ProducerId, Asked>,
    numbers: u64,
}

/// What a ticket is for: the fields of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) term: u64,
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) sequence: i32,
    pub(crate) version: i16,
}

impl Tickets {
    /// The ticket for a batch: that of the question that is under way, or a new one. `None`: too many are.
    pub(crate) fn take(&mut self, now: Mono, question: Question) -> Option<Ticket> {
        let Question { term, producer_id, epoch, sequence, version } = question;
        let same =
            |a: &&mut Asked| a.ticket.epoch == epoch && a.ticket.version == version && a.ticket.term == term;
        if let Some(asked) = self.asked.get_mut(&producer_id).filter(same) {
            if precedes(version, sequence, asked.lowest) {
                asked.lowest = sequence;
            }
            asked.at = now;
            return Some(asked.ticket);
        }
        if self.asked.len() >= MOST && !self.asked.contains_key(&producer_id) {
            let (id, oldest) =
                self.asked.iter().min_by_key(|(_, asked)| asked.at).map(|(id, a)| (*id, a.at))?;
            if now.since(oldest) < KEPT {
                return None;
            }
            self.asked.remove(&id);
        }
        self.numbers += 1;
        let ticket = Ticket { number: self.numbers, term, producer_id, epoch, version };
        self.asked.insert(producer_id, Asked { ticket, lowest: sequence, at: now });
        Some(ticket)
    }

    /// Whether nothing came between.
    pub(crate) fn holds(&self, ticket: &Ticket) -> bool {
        self.asked.get(&ticket.producer_id).is_some_and(|asked| asked.ticket == *ticket)
    }

    /// The sequence that has to come first; `None` where there is no question.
    pub(crate) fn lowest(&self, producer_id: ProducerId) -> Option<i32> {
        self.asked.get(&producer_id).map(|asked| asked.lowest)
    }

    /// What was asked about the producer so far counts no more.
    pub(crate) fn void(&mut self, producer_id: ProducerId) {
        self.asked.remove(&producer_id);
    }

    /// Another leader may have appended anything.
    pub(crate) fn void_all(&mut self) {
        self.asked.clear();
    }

    /// Forgets what nobody came back for.
    pub(crate) fn expire(&mut self, now: Mono) {
        self.asked.retain(|_, asked| now.since(asked.at) < KEPT);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }
}

/// Whether sequence `a` comes before `b` in a transaction. Where those of a producer share an epoch, it goes on counting
/// from one to the next and may have wrapped around (KIP-98).
pub(crate) fn precedes(version: i16, a: i32, b: i32) -> bool {
    if version >= OWN_EPOCHS { a < b } else { a != b && (b.wrapping_sub(a) & i32::MAX) < (1 << 30) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(producer_id: i64, epoch: i16, sequence: i32) -> Question {
        Question { term: 3, producer_id, epoch, sequence, version: 2 }
    }

    #[test]
    fn batches_of_one_transaction_share_a_question_and_a_newer_epoch_voids_it() {
        let mut tickets = Tickets::default();
        let first = tickets.take(Mono(1), question(7, 1, 5)).unwrap();
        assert_eq!(tickets.take(Mono(1), question(7, 1, 3)), Some(first));
        assert_eq!(tickets.take(Mono(1), question(7, 1, 9)), Some(first));
        assert_eq!(tickets.lowest(7), Some(3));
        let second = tickets.take(Mono(1), question(7, 2, 0)).unwrap();
        assert!(!tickets.holds(&first) && tickets.holds(&second));
        assert_eq!(tickets.lowest(7), Some(0));
        tickets.void(7);
        assert!(!tickets.holds(&second));
        let third = tickets.take(Mono(1), question(7, 2, 0)).unwrap();
        assert_ne!(third, second, "an answer to the second says nothing about the third");
        tickets.void_all();
        assert!(!tickets.holds(&third));
    }

    #[test]
    fn questions_are_bounded_and_old_ones_give_way() {
        let mut tickets = Tickets::default();
        for id in 0..MOST as i64 {
            tickets.take(Mono(1).after_ms(id / 100), question(id, 0, 0)).unwrap();
        }
        let now = Mono(1).after_ms(1_000);
        assert_eq!(tickets.take(now, question(-5, 0, 0)), None);
        assert!(tickets.take(now, question(5, 1, 0)).is_some(), "one that is there already");
        assert!(tickets.take(now.after(KEPT), question(-5, 0, 0)).is_some());
        assert_eq!(tickets.len(), MOST);
        tickets.expire(now.after(KEPT));
        assert_eq!(tickets.len(), 1);
    }

    #[test]
    fn sequences_are_compared_around_the_wrap_where_they_go_on_from_transaction_to_transaction() {
        assert!(precedes(1, 0, 1) && precedes(1, i32::MAX, 0) && precedes(1, i32::MAX - 3, 4));
        assert!(!precedes(1, 1, 0) && !precedes(1, 0, i32::MAX) && !precedes(1, 7, 7));
        assert!(precedes(2, 0, i32::MAX) && !precedes(2, i32::MAX, 0) && !precedes(2, 7, 7));
    }
}
