//! The hot path - cut a message out of the stream, view it as PACKET_IN - takes no memory from the allocator.

mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tandem_openflow::{AnyMessage, framing, of10, of13};

/// The system's allocator, counting.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; the counter is a plain
// thread-local number without a destructor, so that counting itself neither allocates nor fails.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is from `alloc` above, so from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn packet_in_views_take_no_memory() {
    let stream: Vec<u8> = samples::all()
        .into_iter()
        .filter(|(m, _)| {
            matches!(
                m,
                AnyMessage::V10(of10::Message::PacketIn(_)) | AnyMessage::V13(of13::Message::PacketIn(_))
            )
        })
        .flat_map(|(_, bytes)| bytes)
        .collect();
    let before = COUNT.get();
    let mut rest = &stream[..];
    let (mut seen, mut octets) = (0, 0);
    while let Ok(Some((message, after))) = framing::next(rest) {
        if let Ok(view) = of10::PacketInView::new(message) {
            assert_eq!(view.in_port, 1);
            octets += view.data.len();
            seen += 1;
        }
        if let Ok(view) = of13::PacketInView::new(message) {
            assert_eq!((view.in_port, view.table_id, view.cookie), (1, 1, 7));
            octets += view.data.len();
            seen += 1;
        }
        rest = after;
    }
    assert_eq!(COUNT.get(), before, "something allocated");
    assert_eq!((seen, octets), (2, 120));
    // The counter counts: otherwise the test proves nothing.
    drop(std::hint::black_box(vec![1u8; 10]));
    assert!(COUNT.get() > before);
}
