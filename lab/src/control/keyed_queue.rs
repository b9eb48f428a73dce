//! A queue of orders by key: orders that concern the same thing are executed one after the other,
//! as they came; those that concern different things are executed side by side.
//!
//! A few workers take short orders. A long one (a migration takes minutes) gets a thread of its
//! own, and its key's other orders wait meanwhile, so that a stop never overtakes the start before
//! it and no worker waits for a transfer.

use crate::control::service::lock;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Short orders that are carried out at once: most of them wait for the kernel.
const WORKERS: usize = 4;

/// What an order concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A VM.
    Vm(u64),
    /// A generated flow.
    Flow(u64),
}

/// How long an order takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// A moment: a worker does it.
    Short,
    /// As long as a transfer: a thread of its own does it.
    Long,
}

type Work = Box<dyn FnOnce() + Send>;

struct Job {
    length: Length,
    work: Work,
}

#[derive(Default)]
struct Inner {
    /// Keys with something under way or to be done; what waits for each.
    queues: BTreeMap<Key, VecDeque<Job>>,
    /// Keys with nothing under way and something to be done.
    ready: VecDeque<Key>,
    /// What waits for all keys together.
    waiting: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    more: Condvar,
}

/// A queue of orders by key, and the workers that execute them. The workers end when it is dropped;
/// what is under way is finished.
pub struct KeyedQueue {
    shared: Arc<Shared>,
}

impl KeyedQueue {
    /// Starts the workers; each calls `enter` first and keeps what that gives (a runtime's guard)
    /// until it ends.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new<G: 'static>(enter: impl Fn() -> G + Clone + Send + 'static) -> std::io::Result<KeyedQueue> {
        let shared: Arc<Shared> = Arc::default();
        for n in 0..WORKERS {
            let shared = shared.clone();
            let enter = enter.clone();
            std::thread::Builder::new().name(format!("orders-{n}")).spawn(move || {
                let _guard = enter();
                while let Some((key, job)) = shared.next() {
                    match job.length {
                        Length::Short => shared.execute(key, job.work),
                        Length::Long => {
                            let own = shared.clone();
                            let enter = enter.clone();
                            let work = Arc::new(Mutex::new(Some(job.work)));
                            let theirs = work.clone();
                            let started = std::thread::Builder::new().name("order".into()).spawn(move || {
                                let _guard = enter();
                                if let Some(work) = lock(&theirs).take() {
                                    own.execute(key, work);
                                }
                            });
                            // Where no thread can be had, this one does it.
                            if started.is_err()
                                && let Some(work) = lock(&work).take()
                            {
                                shared.execute(key, work);
                            }
                        }
                    }
                }
            })?;
        }
        Ok(KeyedQueue { shared })
    }

    /// How many orders wait. Whoever submits is to submit no more while there are too many.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.inner).waiting
    }

    /// Adds an order behind those of its key.
    pub fn submit(&self, key: Key, length: Length, work: impl FnOnce() + Send + 'static) {
        let mut inner = lock(&self.shared.inner);
        let job = Job { length, work: Box::new(work) };
        let idle = !inner.queues.contains_key(&key);
        inner.queues.entry(key).or_default().push_back(job);
        inner.waiting += 1;
        if idle {
            inner.ready.push_back(key);
            self.shared.more.notify_one();
        }
    }
}

impl Drop for KeyedQueue {
    fn drop(&mut self) {
        lock(&self.shared.inner).closed = true;
        self.shared.more.notify_all();
    }
}

impl Shared {
    /// The next order of a key of which nothing is under way; `None` at the end.
    fn next(&self) -> Option<(Key, Job)> {
        let mut inner = lock(&self.inner);
        loop {
            while let Some(key) = inner.ready.pop_front() {
                if let Some(job) = inner.queues.get_mut(&key).and_then(VecDeque::pop_front) {
                    inner.waiting -= 1;
                    return Some((key, job));
                }
            }
            if inner.closed {
                return None;
            }
            inner = self.more.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn execute(&self, key: Key, work: Work) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("an order for {key:?} has panicked; the next one of its key goes on");
        }
        let mut inner = lock(&self.inner);
        if inner.queues.get(&key).is_some_and(VecDeque::is_empty) {
            inner.queues.remove(&key);
        } else {
            inner.ready.push_back(key);
            self.more.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_key_keeps_its_order_and_long_orders_hold_up_their_own_key_only() {
        let queues = KeyedQueue::new(|| ()).expect("threads");
        let (say, said) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        // More long ones than there are workers, of which the first VM's waits for us.
        let tell = say.clone();
        queues.submit(Key::Vm(1), Length::Long, move || {
            gate.recv_timeout(LIMIT).expect("the gate");
            tell.send("1: moved").expect("heard");
        });
        let tell = say.clone();
        queues.submit(Key::Vm(1), Length::Short, move || tell.send("1: stopped").expect("heard"));
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for vm in 10..20 {
            let held = held.clone();
            queues.submit(Key::Vm(vm), Length::Long, move || {
                let _ = lock(&held).recv_timeout(LIMIT);
            });
        }
        let tell = say.clone();
        queues.submit(Key::Vm(2), Length::Short, move || tell.send("2: started").expect("heard"));
        assert_eq!(said.recv_timeout(LIMIT), Ok("2: started"), "another VM does not wait");
        assert!(said.try_recv().is_err(), "the first one still waits");
        assert_eq!(queues.waiting(), 1, "the stop behind it; the long ones are under way");
        open.send(()).expect("open");
        assert_eq!(said.recv_timeout(LIMIT), Ok("1: moved"));
        assert_eq!(said.recv_timeout(LIMIT), Ok("1: stopped"));
        drop(hold);
    }

    #[test]
    fn an_order_that_panics_does_not_hold_up_its_key() {
        let queues = KeyedQueue::new(|| ()).expect("threads");
        let (say, said) = mpsc::channel();
        for n in 0..2 * WORKERS {
            queues.submit(Key::Flow(1), Length::Short, move || assert!(n > 100, "on purpose"));
        }
        queues.submit(Key::Flow(1), Length::Short, move || say.send(()).expect("heard"));
        assert_eq!(said.recv_timeout(LIMIT), Ok(()));
    }
}
