//! The latest changes of the data centre, numbered and kept for whoever follows them.
//!
//! The event loop writes, streams of the API read. Neither waits for the other: a reader copies
//! what it has not seen yet out of a ring of fixed size, at its own pace. One that is slower than
//! the ring is told that it has missed something, and where to go on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tandem_model::{SiteEvent, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Events that are kept. A data centre in which every link of a large switch fails at once has some
/// hundreds; a reader has to come back within so many.
pub const KEPT: usize = 1024;

/// Streams at once, over all listeners: dashboards and tools of a team. Each costs a connection.
pub const STREAMS: usize = 64;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberedEvent {
    /// Its number: larger than those of all earlier ones, also of those before a restart.
    pub id: u64,
    /// When it happened, by the wall clock.
    pub at: Time,
    /// What has changed.
    pub event: SiteEvent,
}

/// What a reader has not seen yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unseen {
    /// Something before these events is not kept any more, or was never: the reader's number is of
    /// another time.
    pub is_missed: bool,
    /// Oldest first.
    pub events: Vec<NumberedEvent>,
    /// The number to ask with the next time.
    pub last: u64,
}

struct Ring {
    events: VecDeque<NumberedEvent>,
    last: u64,
}

/// The ring, and the place where readers wait.
pub struct EventLog {
    ring: Mutex<Ring>,
    last: watch::Sender<u64>,
    streams: Arc<Semaphore>,
}

impl EventLog {
    /// An empty one, begun at `wall`. Numbers go on from the microseconds of that date, so that a
    /// number of an earlier run of the controller is never taken for one of this run.
    pub fn new(wall: Time) -> Arc<EventLog> {
        let first = wall.0 / 1000;
        Arc::new(EventLog {
            ring: Mutex::new(Ring { events: VecDeque::with_capacity(KEPT), last: first }),
            last: watch::Sender::new(first),
            streams: Arc::new(Semaphore::new(STREAMS)),
        })
    }

    /// A panic while it is held leaves a ring that can be read.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what has happened, oldest first; the oldest ones that are kept make room.
    pub fn add(&self, events: &[(Time, SiteEvent)]) {
        if events.is_empty() {
            return;
        }
        let mut ring = self.ring();
        for (at, event) in events {
            if ring.events.len() == KEPT {
                ring.events.pop_front();
            }
            ring.last += 1;
            let id = ring.last;
            ring.events.push_back(NumberedEvent { id, at: *at, event: *event });
        }
        let last = ring.last;
        drop(ring);
        self.last.send_replace(last);
    }

    /// The number of the latest event, and of a place before the first one.
    pub fn last(&self) -> u64 {
        self.ring().last
    }

    /// Everything that is kept.
    pub fn all(&self) -> Unseen {
        let ring = self.ring();
        Unseen { is_missed: false, events: ring.events.iter().copied().collect(), last: ring.last }
    }

    /// What has come after the event with this number.
    pub fn after(&self, id: u64) -> Unseen {
        let ring = self.ring();
        let first = ring.events.front().map_or(ring.last + 1, |e| e.id);
        if id > ring.last || id + 1 < first {
            drop(ring);
            return Unseen { is_missed: true, ..self.all() };
        }
        let seen = (id + 1 - first) as usize;
        Unseen { is_missed: false, events: ring.events.range(seen..).copied().collect(), last: ring.last }
    }

    /// The number of the latest event, to be waited on.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Room for one more stream, until it is dropped; `None` when there are [`STREAMS`] already.
    pub fn stream(&self) -> Option<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::LinkId;

    fn event(n: u32) -> (Time, SiteEvent) {
        (Time::from_secs(u64::from(n)), SiteEvent::LinkDown { link: LinkId(n) })
    }

    fn links(unseen: &Unseen) -> Vec<u32> {
        let link = |e: &NumberedEvent| match e.event {
            SiteEvent::LinkDown { link } => link.0,
            other => panic!("{other:?}"),
        };
        unseen.events.iter().map(link).collect()
    }

    #[test]
    fn a_reader_gets_what_it_has_not_seen_and_nothing_twice() {
        let log = EventLog::new(Time::from_secs(1_700_000_000));
        let start = log.last();
        assert_eq!(log.after(start), Unseen { is_missed: false, events: Vec::new(), last: start });
        log.add(&[event(1), event(2)]);
        let first = log.after(start);
        assert_eq!((links(&first), first.is_missed), (vec![1, 2], false));
        log.add(&[event(3)]);
        let second = log.after(first.last);
        assert_eq!((links(&second), second.is_missed), (vec![3], false));
        assert_eq!(links(&log.after(first.events[0].id)), [2, 3], "from the middle");
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told_and_goes_on_with_what_is_kept() {
        let log = EventLog::new(Time::from_secs(1_700_000_000));
        let start = log.last();
        let many: Vec<_> = (0..KEPT as u32 + 1).map(event).collect();
        log.add(&many);
        let unseen = log.after(start);
        assert!(unseen.is_missed, "the first one is gone");
        assert_eq!((unseen.events.len(), links(&unseen)[0]), (KEPT, 1), "the ring does not grow");
        assert!(!log.after(start + 1).is_missed, "one that has seen the first has missed none");
    }

    /// A number that a client has from before a restart, or of a controller whose clock was ahead.
    #[test]
    fn a_number_of_another_run_is_never_taken_for_one_of_this_run() {
        let before = EventLog::new(Time::from_secs(1_700_000_000));
        before.add(&[event(1), event(2)]);
        let now = EventLog::new(Time::from_secs(1_700_000_060));
        assert!(now.after(before.last()).is_missed, "even when nothing has happened since");
        now.add(&[event(3)]);
        let unseen = now.after(before.last());
        assert_eq!((links(&unseen), unseen.is_missed), (vec![3], true));
        assert!(before.after(now.last()).is_missed, "a clock that was set back");
    }

    #[test]
    fn so_many_streams_and_no_more() {
        let log = EventLog::new(Time::ZERO);
        let mut all: Vec<_> = (0..STREAMS).map(|_| log.stream().expect("room")).collect();
        assert!(log.stream().is_none());
        all.pop();
        assert!(log.stream().is_some(), "one that has ended makes room");
    }
}
