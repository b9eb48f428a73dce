//! The store's thread: writes that arrive together are one transaction, and each gets a reply.

use super::Store;
use crate::event_loop::Input;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use tandem_model::{Event, StoreId, StoreOp};

/// The capacity of the queue of writes: a burst of all VMs of a large data centre (each writes two
/// or three records while it starts). The queue fills only when the disk does not keep up: then
/// further writes are answered `StoreFailed`, so that memory stays bounded and the caller is
/// notified.
pub const WRITES: usize = 16 * 1024;

/// The queue to the store's thread.
#[derive(Clone)]
pub struct Writer(SyncSender<(StoreId, StoreOp)>);

impl Writer {
    /// Starts the store's thread; replies go to the event loop.
    ///
    /// When no thread can be started.
    pub fn start(
        store: Box<dyn Store>,
        event_loop: tokio::sync::mpsc::Sender<Input>,
    ) -> std::io::Result<Writer> {
        Writer::with_depth(store, event_loop, WRITES)
    }

    fn with_depth(
        store: Box<dyn Store>,
        event_loop: tokio::sync::mpsc::Sender<Input>,
        depth: usize,
    ) -> std::io::Result<Writer> {
        let (sender, receiver) = mpsc::sync_channel(depth);
        std::thread::Builder::new().name("store".into()).spawn(move || run(store, &receiver, &event_loop))?;
        Ok(Writer(sender))
    }

    /// Queues a write.
    ///
    /// When the queue is full, with the reason; the write is dropped, without a further reply.
    pub fn write(&self, id: StoreId, record: StoreOp) -> Result<(), String> {
        self.0.try_send((id, record)).map_err(|error| match error {
            TrySendError::Full(_) => {
                format!("its disk takes nothing: {WRITES} writes are waiting for it already")
            }
            TrySendError::Disconnected(_) => "its thread has ended; restart the controller".to_owned(),
        })
    }
}

/// Writes until both the queue and the event loop are closed.
fn run(
    mut store: Box<dyn Store>,
    queue: &Receiver<(StoreId, StoreOp)>,
    event_loop: &tokio::sync::mpsc::Sender<Input>,
) {
    while let Ok(first) = queue.recv() {
        let batch = std::iter::once(first).chain(queue.try_iter().take(WRITES));
        let (ids, records): (Vec<StoreId>, Vec<StoreOp>) = batch.unzip();
        // A panic is an error of ours, but others must not wait for ever: the transaction is rolled
        // back when it is dropped.
        let written = std::panic::catch_unwind(AssertUnwindSafe(|| store.commit(&records)));
        let result = match written {
            Ok(result) => result.map_err(|e| format!("{e:#}")),
            Err(panic) => Err(format!("an error within the controller: {}", reason(panic.as_ref()))),
        };
        for id in ids {
            let event = match &result {
                Ok(()) => Event::Stored { id },
                Err(why) => Event::StoreFailed { id, why: why.clone() },
            };
            if event_loop.blocking_send(Input::Event(event)).is_err() {
                return;
            }
        }
    }
}

/// The message of a panic.
fn reason(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::{GroupId, PersistedState};

    /// A store whose commits wait for the test, and end as it says.
    struct Held(Receiver<bool>);

    impl Store for Held {
        fn load(&mut self) -> anyhow::Result<PersistedState> {
            Ok(PersistedState::default())
        }
        fn commit(&mut self, _: &[StoreOp]) -> anyhow::Result<()> {
            assert!(self.0.recv()?, "out of luck");
            Ok(())
        }
    }

    fn record(n: u64) -> StoreOp {
        StoreOp::RemoveGroup { group: GroupId(n) }
    }

    #[test]
    fn a_wedged_disk_takes_a_bounded_number_of_writes_and_the_rest_is_refused_with_the_reason() {
        let (word, held) = mpsc::channel();
        let (event_loop, mut events) = tokio::sync::mpsc::channel(64);
        let writer = Writer::with_depth(Box::new(Held(held)), event_loop, 4).expect("a thread");
        let refused = (1..=100).filter(|n| writer.write(StoreId(*n), record(*n)).is_err()).count();
        assert!(refused >= 95, "four wait and one is being written: {refused} of 100 were refused");
        let why = (0..10).find_map(|n| writer.write(StoreId(200 + n), record(1)).err()).expect("full");
        assert!(why.contains("disk"), "{why}");
        (0..100).for_each(|_| word.send(true).expect("it waits"));
        let first = events.blocking_recv();
        assert!(matches!(first, Some(Input::Event(Event::Stored { id: StoreId(1) }))), "{first:?}");
    }

    #[test]
    fn a_panic_while_writing_is_a_failed_write_and_the_next_one_is_tried() {
        let (word, held) = mpsc::channel();
        let (event_loop, mut events) = tokio::sync::mpsc::channel(64);
        let writer = Writer::with_depth(Box::new(Held(held)), event_loop, 4).expect("a thread");
        word.send(false).expect("it waits");
        writer.write(StoreId(1), record(1)).expect("room");
        let Some(Input::Event(Event::StoreFailed { id, why })) = events.blocking_recv() else {
            panic!("it is answered")
        };
        assert!(id == StoreId(1) && why.contains("out of luck"), "{why}");
        word.send(true).expect("it waits");
        writer.write(StoreId(2), record(2)).expect("room");
        let next = events.blocking_recv();
        assert!(matches!(next, Some(Input::Event(Event::Stored { id: StoreId(2) }))), "{next:?}");
    }
}
