//! Byte budgets: what requests and responses may hold at one time.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A number of bytes shared by the tasks of the broker thread. A request larger than the whole
/// budget passes when it is alone, as Kafka's memory pool lets it.
pub(crate) struct ByteBudget {
    limit: Cell<u64>,
    used: Cell<u64>,
    /// Of `used`, what is still to come.
    ahead: Cell<u64>,
    waiting: RefCell<VecDeque<Waker>>,
    waits: Cell<u64>,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Rc<ByteBudget> {
        Rc::new(ByteBudget {
            limit: Cell::new(limit),
            used: Cell::new(0),
            ahead: Cell::new(0),
            waiting: RefCell::new(VecDeque::new()),
            waits: Cell::new(0),
        })
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.get()
    }

    /// Bytes allowed.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.get()
    }

    /// Whether somebody waits.
    pub(crate) fn pressed(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Changes what is allowed; what is taken stays taken.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.set(limit);
        self.wake_all();
    }

    /// How often somebody had to wait.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.get()
    }

    /// Takes `bytes` if they are there.
    pub(crate) fn try_take(self: &Rc<Self>, bytes: u64) -> Option<Held> {
        let used = self.used.get();
        if used != 0 && used.saturating_add(bytes) > self.limit.get() {
            return None;
        }
        self.used.set(used.saturating_add(bytes));
        Some(Held { budget: self.clone(), bytes, ahead: 0 })
    }

    /// Takes `bytes` that were announced and did not come yet. A quarter of the budget is kept from them:
    /// who announces and does not send holds up no request that is here. One that is larger than the other
    /// three counts as those.
    fn try_take_ahead(self: &Rc<Self>, bytes: u64) -> Option<Held> {
        let most = self.limit.get() - self.limit.get() / 4;
        let bytes = bytes.min(most);
        if self.ahead.get().saturating_add(bytes) > most {
            return None;
        }
        let mut held = self.try_take(bytes)?;
        self.ahead.set(self.ahead.get() + bytes);
        held.ahead = bytes;
        Some(held)
    }

    /// Takes `bytes`, waiting until they are there. Every release wakes every waiter, so nobody
    /// starves behind a request that does not fit.
    pub(crate) async fn take(self: &Rc<Self>, bytes: u64) -> Held {
        self.wait(|| self.try_take(bytes)).await
    }

    /// The same for bytes that are announced: [`Held::arrived`] is told when they are here.
    pub(crate) async fn take_ahead(self: &Rc<Self>, bytes: u64) -> Held {
        self.wait(|| self.try_take_ahead(bytes)).await
    }

    async fn wait(&self, take: impl Fn() -> Option<Held>) -> Held {
        let mut counted = false;
        poll_fn(|cx| match take() {
            Some(held) => Poll::Ready(held),
            None => {
                if !std::mem::replace(&mut counted, true) {
                    self.waits.set(self.waits.get() + 1);
                }
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn give_back(&self, bytes: u64) {
        self.used.set(self.used.get().saturating_sub(bytes));
        self.wake_all();
    }

    fn wake_all(&self) {
        if !self.waiting.borrow().is_empty() {
            let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// Bytes taken from a budget; given back on drop.
pub(crate) struct Held {
    budget: Rc<ByteBudget>,
    bytes: u64,
    /// Of `bytes`, what is still to come.
    ahead: u64,
}

impl Held {
    /// What was announced is here: it counts as any other from now on.
    pub(crate) fn arrived(&mut self) {
        let ahead = std::mem::take(&mut self.ahead);
        if ahead > 0 {
            self.budget.ahead.set(self.budget.ahead.get() - ahead);
            self.budget.wake_all();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.ahead.set(self.budget.ahead.get() - self.ahead);
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_when_the_holder_goes() {
        let budget = ByteBudget::new(10);
        let a = budget.try_take(6).unwrap();
        assert!(budget.try_take(5).is_none());
        let b = budget.try_take(4).unwrap();
        assert_eq!(budget.used(), 10);
        drop(a);
        assert!(budget.try_take(6).is_some());
        drop(b);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_request_larger_than_the_budget_passes_alone() {
        let budget = ByteBudget::new(10);
        let big = budget.try_take(100).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(big);
        assert!(budget.try_take(1).is_some());
    }

    #[test]
    fn what_is_announced_leaves_room_for_what_is_here() {
        let budget = ByteBudget::new(100);
        let mut first = budget.try_take_ahead(1_000).unwrap();
        assert_eq!(budget.used(), 75, "one that is larger than its share counts as the whole share");
        assert!(budget.try_take_ahead(1).is_none());
        let here = budget.try_take(25).unwrap();
        assert!(budget.try_take(1).is_none());
        first.arrived();
        assert!(budget.try_take_ahead(1).is_none(), "it holds its memory until it is answered");
        drop(here);
        let second = budget.try_take_ahead(25).unwrap();
        drop((first, second));
        assert_eq!((budget.used(), budget.ahead.get()), (0, 0));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_waiter_is_woken_by_a_release() {
        let budget = ByteBudget::new(10);
        let held = budget.try_take(10).unwrap();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let waiter = tokio::task::spawn_local({
                    let budget = budget.clone();
                    async move { budget.take(5).await }
                });
                tokio::task::yield_now().await;
                assert_eq!(budget.waits(), 1);
                drop(held);
                let got = waiter.await.unwrap();
                assert_eq!(budget.used(), 5);
                drop(got);
            })
            .await;
    }
}
