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
    waiting: RefCell<VecDeque<Waker>>,
    waits: Cell<u64>,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Rc<ByteBudget> {
        Rc::new(ByteBudget {
            limit: Cell::new(limit),
            used: Cell::new(0),
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
        Some(Held { budget: self.clone(), bytes })
    }

    /// Takes `bytes`, waiting until they are there. Every release wakes every waiter, so nobody
    /// starves behind a request that does not fit.
    pub(crate) async fn take(self: &Rc<Self>, bytes: u64) -> Held {
        let mut counted = false;
        poll_fn(|cx| match self.try_take(bytes) {
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
}

impl Drop for Held {
    fn drop(&mut self) {
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
