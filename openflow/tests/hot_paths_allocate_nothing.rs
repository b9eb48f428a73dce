//! The hot paths allocate no memory: cutting a message out of the stream and viewing it as
//! PACKET_IN, and sending a packet through a switch by its flow cache.

mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tandem_model::Time;
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Port, Sink, Switch};
use tandem_openflow::table::{Criteria, Flow, Instructions, Op};
use tandem_openflow::{AnyMessage, framing, of10, of13};

/// The system's allocator, with a counter.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// the counter is a plain thread-local number without a destructor, so that counting itself neither
// allocates nor fails.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller guarantees the layout.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer comes from `alloc` above, so from the system's allocator.
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
    // A counter that does not count would make the test pass always.
    drop(std::hint::black_box(vec![1u8; 10]));
    assert!(COUNT.get() > before);
}

/// Counts the frames that are sent.
#[derive(Default)]
struct Sent(usize);

impl Sink for Sent {
    fn transmit(&mut self, _: u32, _: u32, frame: &[u8]) {
        self.0 += frame.len();
    }
    fn send(&mut self, _: ConnId, _: &[u8]) {}
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

#[test]
fn a_cached_packet_takes_no_memory() {
    let mut switch = Switch::new(Config::default());
    let mut sent = Sent::default();
    for number in 1..=3 {
        let (name, mac, queues) = (format!("p{number}"), [2, 0, 0, 0, 0, 1], Vec::new());
        let port = Port { number, name, mac, up: true, speed: None, config: 0, queues };
        switch.port(port, Time::ZERO, &mut sent);
    }
    let ops = vec![
        Op::SetQueue(1),
        Op::Output(2),
        Op::PushVlan(0x8100),
        Op::SetVlanVid(5),
        Op::DecTtl,
        Op::Output(of13::port::ALL),
    ];
    let flow = Flow::new(1, Criteria::any(), Instructions::applying(ops), Time::ZERO);
    switch.add_flow(0, flow).expect("room");
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17];
    frame.resize(64, 0);
    // The first packet is decided by the tables, and grows the scratch memory for a longer frame.
    let mut copies = vec![frame; 101];
    let (first, rest) = copies.split_first_mut().expect("frames");
    switch.on_packet(1, first, Time::ZERO, &mut sent);
    let before = COUNT.get();
    for frame in rest {
        switch.on_packet(1, frame, Time::ZERO, &mut sent);
    }
    assert_eq!(COUNT.get(), before);
    assert_eq!((switch.pipeline().cache().hits, sent.0), (100, 101 * (64 + 68 * 2)));
}
