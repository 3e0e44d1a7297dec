//! Waiting requests: one slot a request, however many partitions it names.
//!
//! A request that needs answers of the node takes a slot, hands out one token per answer and sleeps
//! until the count of outstanding answers is zero. Nothing is allocated per answer: a slot keeps its
//! vectors for the next request.
use std::collections::VecDeque;
use std::task::Waker;

const ITEM_BITS: u32 = 24;
const SLOT_BITS: u32 = 20;
/// The highest bit of a token stays 0: those with it are the node's own. Half a million uses of a slot, and the
/// one that rested longest is used next: an answer that is so late finds nobody.
const GENERATION_MASK: u32 = (1 << 19) - 1;
const ITEM_MASK: u64 = (1 << ITEM_BITS) - 1;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// Answers one slot can wait for.
pub(crate) const MAX_ITEMS: usize = 1 << ITEM_BITS;
/// Reply vectors above this capacity are not kept for reuse.
const KEEP_CAPACITY: usize = 256;

/// Names a slot and its use; stale names are recognised by their generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    index: u32,
    generation: u32,
}

impl SlotId {
    /// Of a request for which there was no slot: no answer reaches it.
    pub(crate) const NOBODY: SlotId = SlotId { index: SLOT_MASK as u32, generation: 0 };

    /// The token of answer number `item` of this slot.
    pub(crate) fn token(self, item: usize) -> u64 {
        debug_assert!(item < MAX_ITEMS);
        (u64::from(self.generation) << (ITEM_BITS + SLOT_BITS))
            | (u64::from(self.index) << ITEM_BITS)
            | (item as u64 & ITEM_MASK)
    }

    fn of_token(token: u64) -> (SlotId, usize) {
        let index = ((token >> ITEM_BITS) & SLOT_MASK) as u32;
        let generation = (token >> (ITEM_BITS + SLOT_BITS)) as u32;
        (SlotId { index, generation }, (token & ITEM_MASK) as usize)
    }
}

struct Slot<R> {
    generation: u32,
    used: bool,
    outstanding: usize,
    replies: Vec<(usize, R)>,
    waker: Option<Waker>,
}

/// All slots of the broker thread.
pub(crate) struct Slots<R> {
    slots: Vec<Slot<R>>,
    free: VecDeque<u32>,
}

impl<R> Slots<R> {
    pub(crate) fn new() -> Slots<R> {
        Slots { slots: Vec::new(), free: VecDeque::new() }
    }

    /// Slots in use.
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a slot that waits for `outstanding` answers; `None` when a million requests wait already, or
    /// for more than [`MAX_ITEMS`].
    pub(crate) fn take(&mut self, outstanding: usize) -> Option<SlotId> {
        if outstanding > MAX_ITEMS {
            return None;
        }
        let index = match self.free.pop_front() {
            Some(index) => index,
            None => {
                if self.slots.len() as u64 >= SLOT_MASK {
                    return None;
                }
                self.slots.push(Slot {
                    generation: 0,
                    used: false,
                    outstanding: 0,
                    replies: Vec::new(),
                    waker: None,
                });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        slot.used = true;
        slot.outstanding = outstanding;
        Some(SlotId { index, generation: slot.generation })
    }

    /// Stores the answer for `token`; an answer nobody waits for any more is dropped.
    pub(crate) fn complete(&mut self, token: u64, reply: R) {
        let (id, item) = SlotId::of_token(token);
        let Some(slot) = self.live(id) else { return };
        if slot.outstanding == 0 {
            return;
        }
        slot.replies.push((item, reply));
        slot.outstanding -= 1;
        if slot.outstanding == 0
            && let Some(waker) = slot.waker.take()
        {
            waker.wake();
        }
    }

    /// Whether every answer has come; remembers `waker` otherwise.
    pub(crate) fn poll_done(&mut self, id: SlotId, waker: &Waker) -> bool {
        let Some(slot) = self.live(id) else { return true };
        if slot.outstanding == 0 {
            return true;
        }
        if !slot.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        false
    }

    /// Hands out the answers that came, in the order in which they came.
    pub(crate) fn drain(&mut self, id: SlotId, mut each: impl FnMut(usize, R)) {
        if let Some(slot) = self.live(id) {
            for (item, reply) in slot.replies.drain(..) {
                each(item, reply);
            }
        }
    }

    /// Gives the slot back; answers still on their way will be dropped.
    pub(crate) fn release(&mut self, id: SlotId) {
        let Some(slot) = self.live(id) else { return };
        slot.used = false;
        slot.outstanding = 0;
        slot.waker = None;
        slot.replies.clear();
        if slot.replies.capacity() > KEEP_CAPACITY {
            slot.replies = Vec::new();
        }
        self.free.push_back(id.index);
    }

    fn live(&mut self, id: SlotId) -> Option<&mut Slot<R>> {
        self.slots.get_mut(id.index as usize).filter(|s| s.used && s.generation == id.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<R> Slots<R> {
        fn is_done(&mut self, id: SlotId) -> bool {
            self.poll_done(id, Waker::noop())
        }
    }

    #[test]
    fn a_slot_is_done_when_every_answer_came() {
        let mut slots: Slots<&str> = Slots::new();
        let id = slots.take(2).unwrap();
        assert!(!slots.is_done(id));
        slots.complete(id.token(1), "b");
        assert!(!slots.is_done(id));
        slots.complete(id.token(0), "a");
        assert!(slots.is_done(id));
        let mut got = Vec::new();
        slots.drain(id, |item, r| got.push((item, r)));
        assert_eq!(got, [(1, "b"), (0, "a")]);
    }

    #[test]
    fn a_late_answer_does_not_reach_the_next_user_of_the_slot() {
        let mut slots: Slots<u8> = Slots::new();
        let old = slots.take(1).unwrap();
        slots.release(old);
        let mut new = slots.take(1).unwrap();
        assert_eq!(old.index, new.index);
        slots.complete(old.token(0), 1);
        assert!(!slots.is_done(new));
        for _ in 0..100_000 {
            slots.release(new);
            let again = slots.take(1).unwrap();
            assert_ne!(again, old);
            if again.generation & 0x7ff == old.generation & 0x7ff {
                slots.complete(old.token(0), 1);
                assert!(!slots.is_done(again));
            }
            new = again;
        }
        slots.complete(new.token(0), 2);
        assert!(slots.is_done(new));
        assert_eq!(slots.in_use(), 1);
    }

    #[test]
    fn who_got_no_slot_is_answered_at_once_and_by_nobody() {
        let mut slots: Slots<u8> = Slots::new();
        assert_eq!(slots.take(MAX_ITEMS + 1), None);
        let id = slots.take(1).unwrap();
        slots.complete(SlotId::NOBODY.token(0), 1);
        assert!(slots.is_done(SlotId::NOBODY) && !slots.is_done(id));
        slots.release(SlotId::NOBODY);
        assert_eq!(slots.in_use(), 1);
    }

    #[test]
    fn more_answers_than_expected_are_dropped() {
        let mut slots: Slots<u8> = Slots::new();
        let id = slots.take(1).unwrap();
        slots.complete(id.token(0), 1);
        slots.complete(id.token(0), 2);
        let mut got = Vec::new();
        slots.drain(id, |_, r| got.push(r));
        assert_eq!(got, [1]);
    }
}
