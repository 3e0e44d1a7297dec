//! All connections: limits on their number, and the sweep that ends idle and stalled ones.
use crate::context::ConnectionInfo;
use crate::metrics::handles::{Closed, Refused};
use crate::settings::Settings;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A frame must be complete within this, plus a second for every 256 KiB of it.
const FRAME_PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST_BYTES_A_SECOND: usize = 256 << 10;
/// While others wait for the memory, a frame must come at that pace from here on.
const PRESSED_PATIENCE: Duration = Duration::from_secs(2);

/// What the sweep sees of a connection.
pub(crate) struct Handle {
    pub(crate) info: Rc<ConnectionInfo>,
    last_active: Cell<Duration>,
    /// Answers that are due.
    pub(crate) unanswered: Cell<usize>,
    /// A handler works on its request.
    pub(crate) in_handler: Cell<bool>,
    /// When the frame that is being read began, and its length.
    pub(crate) frame_since: Cell<Option<(Instant, usize)>>,
    /// Bytes of it that are here.
    pub(crate) frame_received: Cell<usize>,
    /// When the answer that is being written last made progress.
    pub(crate) writing_since: Cell<Option<Instant>>,
    close: Cell<Option<Closed>>,
    waker: RefCell<Option<Waker>>,
}

impl Handle {
    /// Counts as active at `uptime`.
    pub(crate) fn touch(&self, uptime: Duration) {
        self.last_active.set(uptime);
    }

    /// Resolves when the connection is to be ended, with the reason.
    pub(crate) async fn closing(&self) -> Closed {
        poll_fn(|cx| match self.close.get() {
            Some(reason) => Poll::Ready(reason),
            None => {
                let mut waker = self.waker.borrow_mut();
                if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }

    fn crawling(&self, now: Instant, pressed: bool) -> bool {
        let Some((since, bytes)) = self.frame_since.get() else { return false };
        let taken = now.duration_since(since);
        let fair = |bytes: usize| Duration::from_secs((bytes / SLOWEST_BYTES_A_SECOND) as u64);
        taken > FRAME_PATIENCE + fair(bytes)
            || pressed && taken > PRESSED_PATIENCE + fair(self.frame_received.get())
    }

    /// Ends the connection.
    pub(crate) fn close(&self, reason: Closed) {
        self.close.set(Some(reason));
        self.wake();
    }

    /// Lets the connection's task look around: at the time, at a stop.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The connections of a broker.
pub(crate) struct Connections {
    open: RefCell<Slab<Rc<Handle>>>,
    per_ip: RefCell<HashMap<IpAddr, usize>>,
    next_id: Cell<u64>,
    rate: Cell<(u64, u32)>,
}

impl Connections {
    pub(crate) fn new() -> Connections {
        Connections {
            open: RefCell::new(Slab::new()),
            per_ip: RefCell::new(HashMap::new()),
            next_id: Cell::new(1),
            rate: Cell::new((0, 0)),
        }
    }

    /// Connections now.
    pub(crate) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Connections now, by listener.
    pub(crate) fn by_listener(&self) -> Vec<(Rc<str>, usize)> {
        let mut counts: Vec<(Rc<str>, usize)> = Vec::new();
        for (_, handle) in self.open.borrow().iter() {
            match counts.iter_mut().find(|(name, _)| *name == handle.info.listener) {
                Some((_, count)) => *count += 1,
                None => counts.push((handle.info.listener.clone(), 1)),
            }
        }
        counts
    }

    /// A number for the next connection.
    pub(crate) fn next_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    /// Takes a connection in, or says why not.
    pub(crate) fn admit(
        &self,
        settings: &Settings,
        info: ConnectionInfo,
        uptime: Duration,
    ) -> Result<(usize, Rc<Handle>), Refused> {
        if self.len() >= settings.max_connections {
            return Err(Refused::Total);
        }
        let (second, count) = self.rate.get();
        let count = if second == uptime.as_secs() { count } else { 0 };
        if count >= settings.max_connection_rate {
            return Err(Refused::Rate);
        }
        let mut per_ip = self.per_ip.borrow_mut();
        let of_ip = per_ip.entry(info.peer).or_insert(0);
        let own = settings.per_ip_overrides.iter().find(|(ip, _)| *ip == info.peer.to_string());
        if *of_ip >= own.map_or(settings.max_connections_per_ip, |(_, limit)| *limit) {
            let empty = *of_ip == 0;
            if empty {
                per_ip.remove(&info.peer);
            }
            return Err(Refused::PerIp);
        }
        *of_ip += 1;
        self.rate.set((uptime.as_secs(), count + 1));
        let handle = Rc::new(Handle {
            info: Rc::new(info),
            last_active: Cell::new(uptime),
            unanswered: Cell::new(0),
            in_handler: Cell::new(false),
            frame_since: Cell::new(None),
            frame_received: Cell::new(0),
            writing_since: Cell::new(None),
            close: Cell::new(None),
            waker: RefCell::new(None),
        });
        let key = self.open.borrow_mut().insert(handle.clone());
        Ok((key, handle))
    }

    /// A connection ended.
    pub(crate) fn gone(&self, key: usize) {
        let handle = self.open.borrow_mut().remove(key);
        let mut per_ip = self.per_ip.borrow_mut();
        if let Some(count) = per_ip.get_mut(&handle.info.peer) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&handle.info.peer);
            }
        }
    }

    /// Ends what is idle, what sends a frame too slowly and what does not read its answers. `pressed`: others
    /// wait for the memory of frames that are on their way.
    pub(crate) fn sweep(&self, settings: &Settings, uptime: Duration, now: Instant, pressed: bool) {
        for (_, handle) in self.open.borrow().iter() {
            let idle = uptime.saturating_sub(handle.last_active.get());
            let stalled =
                handle.writing_since.get().is_some_and(|t| now.duration_since(t) > settings.write_stall);
            let crawling = handle.crawling(now, pressed);
            if stalled {
                handle.close(Closed::SlowReader);
            } else if handle.unanswered.get() > 0 {
                // An answer may be overdue.
                handle.wake();
            } else if crawling || settings.idle_timeout.is_some_and(|limit| idle > limit) {
                // As in Kafka a request that waits for long does not keep it: the peer may be gone.
                handle.close(Closed::Idle);
            }
        }
    }

    /// Lets every connection's task look around.
    pub(crate) fn wake_all(&self) {
        for (_, handle) in self.open.borrow().iter() {
            handle.wake();
        }
    }

    /// Whether whoever is left waits in a handler: for other members of a group, say.
    pub(crate) fn only_handlers(&self) -> bool {
        self.open.borrow().iter().all(|(_, handle)| handle.in_handler.get() && handle.unanswered.get() == 0)
    }

    /// Ends every connection.
    pub(crate) fn close_all(&self, reason: Closed) {
        for (_, handle) in self.open.borrow().iter() {
            handle.close(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Principal;

    fn info(peer: [u8; 4]) -> ConnectionInfo {
        ConnectionInfo {
            id: 1,
            listener: "PLAINTEXT".into(),
            peer: IpAddr::from(peer),
            principal: Principal::anonymous(),
        }
    }

    #[test]
    fn limits_hold_in_total_per_address_and_per_second() {
        let all = Connections::new();
        let settings = Settings {
            max_connections: 3,
            max_connections_per_ip: 2,
            max_connection_rate: 4,
            ..Settings::default()
        };
        let at = Duration::from_secs(1);
        let (first, _) = all.admit(&settings, info([127, 0, 0, 1]), at).unwrap();
        all.admit(&settings, info([127, 0, 0, 1]), at).unwrap();
        assert_eq!(all.admit(&settings, info([127, 0, 0, 1]), at).err(), Some(Refused::PerIp));
        all.admit(&settings, info([127, 0, 0, 2]), at).unwrap();
        assert_eq!(all.admit(&settings, info([127, 0, 0, 3]), at).err(), Some(Refused::Total));
        all.gone(first);
        let (second, _) = all.admit(&settings, info([127, 0, 0, 1]), at).unwrap();
        all.gone(second);
        assert_eq!(all.admit(&settings, info([127, 0, 0, 1]), at).err(), Some(Refused::Rate));
        all.admit(&settings, info([127, 0, 0, 1]), Duration::from_secs(2)).unwrap();
    }

    #[test]
    fn the_sweep_ends_idle_stalled_and_crawling_connections_only() {
        let all = Connections::new();
        let settings = Settings { idle_timeout: Some(Duration::from_secs(10)), ..Settings::default() };
        let start = Instant::now();
        let admit = || all.admit(&settings, info([127, 0, 0, 1]), Duration::ZERO).unwrap().1;
        let (idle, busy, stalled, crawling) = (admit(), admit(), admit(), admit());
        let gone = admit();
        gone.in_handler.set(true);
        busy.unanswered.set(1);
        stalled.writing_since.set(Some(start));
        stalled.touch(Duration::from_secs(99));
        crawling.frame_since.set(Some((start, 0)));
        crawling.touch(Duration::from_secs(99));
        let (pressing, coming) = (admit(), admit());
        for handle in [&pressing, &coming] {
            handle.frame_since.set(Some((start, 100 << 20)));
            handle.touch(Duration::from_secs(99));
        }
        coming.frame_received.set(98 * SLOWEST_BYTES_A_SECOND);
        let (uptime, now) = (Duration::from_secs(99), start + Duration::from_secs(99));
        all.sweep(&settings, uptime, now, false);
        assert_eq!(pressing.close.get(), None, "a large frame has time while nobody waits");
        all.sweep(&settings, uptime, now, true);
        assert_eq!(pressing.close.get(), Some(Closed::Idle));
        assert_eq!(coming.close.get(), None);
        assert_eq!(idle.close.get(), Some(Closed::Idle));
        assert_eq!(gone.close.get(), Some(Closed::Idle), "its fetch may wait for weeks");
        assert_eq!(busy.close.get(), None);
        assert_eq!(stalled.close.get(), Some(Closed::SlowReader));
        assert_eq!(crawling.close.get(), Some(Closed::Idle));
    }
}
