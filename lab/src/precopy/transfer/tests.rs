use super::receiver::UNKNOWN_PEERS;
use super::*;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

/// A VM that writes at a rate, and can be told to cancel when it is so far.
struct Vm<'a> {
    rate: f64,
    last: Instant,
    paused: bool,
    steps: Vec<Step>,
    cancel_at: Option<(u64, &'a Control)>,
}

impl<'a> Vm<'a> {
    fn new(rate: f64, cancel_at: Option<(u64, &'a Control)>) -> Vm<'a> {
        Vm { rate, last: Instant::now(), paused: false, steps: Vec::new(), cancel_at }
    }
}

impl Source for Vm<'_> {
    fn written(&mut self) -> f64 {
        let since = std::mem::replace(&mut self.last, Instant::now()).elapsed();
        if self.paused { 0.0 } else { since.as_secs_f64() * self.rate }
    }
    fn pause(&mut self) -> anyhow::Result<()> {
        self.paused = true;
        Ok(())
    }
    fn step(&mut self, step: Step) {
        if let Some((_, control)) = self.cancel_at.filter(|(at, _)| step.sent >= *at) {
            control.cancel();
        }
        self.steps.push(step);
    }
}

const MIB: u64 = 1 << 20;
const FAST: u64 = 10_000_000_000;

fn receiver() -> (SocketAddrV4, Arc<Expected>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = match listener.local_addr() {
        Ok(std::net::SocketAddr::V4(address)) => address,
        other => panic!("{other:?}"),
    };
    let expected: Arc<Expected> = Arc::default();
    let known = expected.clone();
    std::thread::spawn(move || serve(&listener, &known));
    (address, expected)
}

/// Announces it to the receiver, and sends.
fn go(
    to: SocketAddrV4,
    expected: &Expected,
    memory: Memory,
    (downtime, rounds): (u64, u32),
    control: &Control,
    vm: &mut Vm<'_>,
) -> Result<Step, TransferError> {
    let key = expected.announce(memory.pages());
    let how = How { key, downtime: Duration::from_millis(downtime), rounds };
    send(connect(to).expect("open"), memory, &how, control, vm)
}

fn pages(seed: u64, bytes: u64, working_set: f64) -> Memory {
    Memory::new(seed, bytes, working_set).expect("small")
}

#[test]
fn an_idle_vm_is_sent_once_and_a_busy_one_in_rounds_that_get_smaller() {
    let (to, expected) = receiver();
    let control = Control::new(FAST);
    let mut vm = Vm::new(0.0, None);
    let memory = pages(1, 4 * MIB, 0.0);
    let end = go(to, &expected, memory, (10, 30), &control, &mut vm).expect("sent");
    // All of it, then an empty round while it is paused.
    assert_eq!((end.sent, end.round, vm.paused), (4 * MIB, 2, true));

    let control = Control::new(80_000_000);
    let mut vm = Vm::new(2e6, None);
    let memory = pages(2, 4 * MIB, 0.5);
    let end = go(to, &expected, memory, (5, 30), &control, &mut vm).expect("sent");
    // How much more than once depends on how busy this machine is.
    assert!(end.sent > 4 * MIB && end.round > 2, "{end:?}");
    assert!(vm.steps.iter().any(|s| s.dirty > 0 && s.rate > 0), "progress says how fast: {:?}", vm.steps);
}

#[test]
fn one_that_does_not_converge_ends_after_its_rounds() {
    let ((to, expected), control) = (receiver(), Control::new(FAST));
    let mut vm = Vm::new(1e12, None);
    let memory = pages(3, MIB, 1.0);
    let end = go(to, &expected, memory, (0, 4), &control, &mut vm).expect("sent");
    assert_eq!((end.sent, end.round), (5 * MIB, 5), "four rounds, and the last while it is paused");
}

#[test]
fn a_cancel_is_heard_before_the_pause_and_not_afterwards() {
    let ((to, expected), control) = (receiver(), Control::new(40_000_000));
    let mut vm = Vm::new(0.0, Some((MIB, &control)));
    let memory = pages(4, 64 * MIB, 0.0);
    let error = go(to, &expected, memory, (10, 30), &control, &mut vm).expect_err("cancelled");
    assert!(matches!(error, TransferError::Cancelled) && !vm.paused, "{error}");
    assert!(vm.steps.last().is_some_and(|s| s.sent < 8 * MIB), "{:?}", vm.steps.last());

    // Cold: it is paused from the start, and goes through.
    let control = Control::new(FAST);
    let mut vm = Vm::new(0.0, Some((MIB, &control)));
    let memory = pages(5, 4 * MIB, 0.0);
    let end = go(to, &expected, memory, (0, 0), &control, &mut vm).expect("sent");
    assert_eq!((end.sent, end.round), (4 * MIB, 1));
}

#[test]
fn a_receiver_that_is_not_there_goes_away_or_lies_is_an_error() {
    let closed =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("its number");
    let std::net::SocketAddr::V4(closed) = closed else { panic!("{closed}") };
    assert!(matches!(connect(closed), Err(TransferError::Lost { .. })));

    for lie in [false, true] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let std::net::SocketAddr::V4(to) = listener.local_addr().expect("its number") else { panic!() };
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a sender");
            let mut all = vec![0; 24 + 256 * (24 + PAGE as usize) + 24];
            if lie {
                stream.read_exact(&mut all).expect("a round");
                stream.write_all(&words(ROUND, 256, 12345)).expect("an answer");
            } else {
                stream.read_exact(&mut all[..100_000]).expect("a part");
            }
        });
        let control = Control::new(FAST);
        let mut vm = Vm::new(0.0, None);
        let memory = pages(6, MIB, 0.0);
        let error = go(to, &Expected::default(), memory, (10, 30), &control, &mut vm).expect_err("wrong");
        assert!(
            if lie {
                matches!(error, TransferError::Differs { .. })
            } else {
                matches!(error, TransferError::Lost { .. })
            },
            "{error}"
        );
    }
}

#[test]
fn a_receiver_takes_no_nonsense() {
    let (to, expected) = receiver();
    let hello = || words(HELLO, expected.announce(10), 10);
    for nonsense in [
        [&hello()[..], &words(PAGE_FOLLOWS, 10, 0), &[0; PAGE as usize]].concat(),
        [&hello()[..], &words(ROUND, 3, 0)].concat(),
        // What nobody announced, in any size; and an announced one with another number of pages.
        [&words(HELLO, 1, 10)[..], &words(END, 0, 0)].concat(),
        [&words(HELLO, 1, u64::MAX)[..], &words(END, 0, 0)].concat(),
        [&words(HELLO, expected.announce(10), 1 << 32)[..], &words(END, 0, 0)].concat(),
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
    ] {
        assert!(answer(to, &nonsense).is_empty(), "{nonsense:?}");
    }
    // One that is expected is taken in, and only once.
    let whole = [&hello()[..], &words(END, 0, 0)].concat();
    assert_eq!(answer(to, &whole), words(END, 0, 0));
    assert!(answer(to, &whole).is_empty());
}

/// What a receiver says to such bytes until it closes.
fn answer(to: SocketAddrV4, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("open");
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    // Closed, by a reset where something was left unread.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Unknown peers who say nothing keep nobody out for longer than a moment, and are no more than a few
/// at once.
#[test]
fn who_only_connects_is_closed_and_keeps_nobody_out() {
    let (to, expected) = receiver();
    let silent: Vec<TcpStream> =
        (0..4 * UNKNOWN_PEERS).map(|_| TcpStream::connect(to).expect("open")).collect();
    // Those beyond the first few are closed at once; the rest when they have not said who they are.
    for mut stream in silent {
        stream.set_read_timeout(Some(STALL * 4)).expect("a time-out");
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "it says something");
    }
    let hello = [&words(HELLO, expected.announce(0), 0)[..], &words(END, 0, 0)].concat();
    assert_eq!(answer(to, &hello), words(END, 0, 0));
}

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    /// Any messages behind a right greeting: a receiver answers with what it has, or closes.
    #[test]
    fn whatever_a_sender_says_the_receiver_ends(
        pages in 0u64..4,
        messages in prop::collection::vec((0u64..6, 0u64..6, any::<bool>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (to, expected) = receiver();
        let mut bytes = words(HELLO, expected.announce(pages), pages).to_vec();
        for (kind, number, page) in messages {
            bytes.extend(words(kind, number, 0));
            if page {
                bytes.extend([7; PAGE as usize]);
            }
        }
        bytes.extend(tail);
        let mut stream = TcpStream::connect(to).expect("open");
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        prop_assert!(answer.len() <= bytes.len());
    }
}
