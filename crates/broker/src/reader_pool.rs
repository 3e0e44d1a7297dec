//! A few threads that read files, so that the broker thread never waits for a disk.
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    ready: Condvar,
}

/// The pool; dropping it ends its threads after the jobs they have begun.
pub(crate) struct ReaderPool {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl ReaderPool {
    /// A pool of `threads` threads.
    pub(crate) fn new(threads: usize) -> std::io::Result<ReaderPool> {
        let queue = Arc::new(Queue { jobs: Mutex::new((VecDeque::new(), false)), ready: Condvar::new() });
        let threads = (0..threads.max(1))
            .map(|n| {
                let queue = queue.clone();
                std::thread::Builder::new()
                    .name(format!("reader-{n}"))
                    .stack_size(256 << 10)
                    .spawn(move || work(&queue))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(ReaderPool { queue, threads })
    }

    /// Jobs that no thread has taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner).0.len()
    }

    /// Queues `job` for a thread of the pool; `None` when it panicked or the pool ends.
    pub(crate) fn run<T, F>(&self, job: F) -> impl Future<Output = Option<T>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move || {
            // A fetch that was given up has no receiver any more.
            let _ = send.send(job());
        });
        self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner).0.push_back(job);
        self.queue.ready.notify_one();
        async move { receive.await.ok() }
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.queue.ready.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(queue: &Queue) {
    loop {
        let job = {
            let mut state = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if state.1 {
                    return;
                }
                match state.0.pop_front() {
                    Some(job) => break job,
                    None => state = queue.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        // A job that panics fails its own fetch; the thread serves the others.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn jobs_run_and_a_panic_stays_within_its_job() {
        let pool = ReaderPool::new(1).unwrap();
        assert_eq!(pool.run(|| 6 * 7).await, Some(42));
        assert_eq!(pool.run(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(pool.run(|| 1).await, Some(1));
    }
}
