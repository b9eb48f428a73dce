//! Replay and capture: frames as words compared with the card's Verilog, the writes of a replay on
//! the model, and errors.

use proptest::prelude::*;
use std::time::Duration;
use tandem_fpga_config::generator::words::{GAP, Stored, Word, decode, encode, needed};
use tandem_fpga_config::generator::{Options, Plan, ReplayError, Timed, capture};
use tandem_fpga_config::limiter::Setting;
use tandem_fpga_config::model::{Model, WAITING};
use tandem_fpga_config::profile::{Fault, Generator, Profile, builtin};
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_model::{BitRate, Time};

fn profile() -> Profile {
    builtin::named("packet-generator").expect("a profile that comes along")
}

fn generator(profile: &Profile) -> &Generator {
    profile.generator.as_ref().expect("it replays")
}

fn once(port: u8) -> Options {
    Options { port, iterations: 1, gaps: false, rate: None }
}

/// Frames of these lengths, with different bytes, `gap` apart from start to start.
fn frames(lengths: &[usize], gap: Duration) -> Vec<Timed> {
    let frame = |(n, length): (u32, &usize)| Timed {
        at: Duration::from_secs(1_000) + gap * n,
        bytes: (0..*length).map(|i| (i as u8).wrapping_add(n as u8)).collect(),
    };
    (0..).zip(lengths).map(frame).collect()
}

fn bytes(frames: &[Timed]) -> Vec<Vec<u8>> {
    frames.iter().map(|f| f.bytes.clone()).collect()
}

/// Loads and starts, as the tool does.
fn start(card: &mut Model, profile: &Profile, frames: &[Timed], options: Options) {
    let (generator, limiter) = (generator(profile), profile.rate_limiter.as_ref());
    let plan = Plan::new(generator, limiter, frames, options).expect("it fits");
    generator.hold(card, limiter, options.port).expect("held");
    generator.release(card, options.port).expect("released");
    plan.load(card, &mut |_| true).expect("loaded");
    plan.start(card, false).expect("started");
}

/// The frames that leave by a port while the clock advances by `by`.
fn leave(card: &mut Model, now: &mut Time, by: Duration) -> Vec<(u8, Vec<u8>)> {
    *now = *now + by;
    card.burst(&[], *now)
}

/// Source: the layout in the verification script `test_gen_twoPktShortDelay` and the Verilog's
/// field positions. A frame of 60 bytes for port 1: destination bit 9, 8 words, 60 bytes; 200 ns;
/// four bytes in the last word, so bit 4.
#[test]
fn a_frame_becomes_the_words_that_the_card_reads() {
    let frame: Vec<u8> = (0..60).collect();
    let mut words = Vec::new();
    encode(&frame, Duration::from_nanos(200), 9, &mut words);
    let mut expected = vec![(0xff, 0x0200_0008_0000_003c), (0xfe, 200)];
    expected.extend((0..7u64).map(|n| (0, 0x0001_0203_0405_0607 + n * 0x0808_0808_0808_0808)));
    expected.push((0x10, 0x3839_3a3b_0000_0000));
    assert_eq!(words.iter().map(|w| (w.control, w.data)).collect::<Vec<_>>(), expected);
    // The last byte of a word is bit 0, the first bit 7; without a gap there is no delay word.
    for (length, control) in [(64, 1), (65, 0x80), (66, 0x40), (71, 0x02)] {
        let mut words = Vec::new();
        encode(&vec![7; length], Duration::ZERO, 8, &mut words);
        assert_eq!(words.last().map(|w| w.control), Some(control), "{length} bytes");
        assert_eq!(words.len(), 1 + length.div_ceil(8));
    }
}

/// Source: the public header made from the register definitions (see the profile).
#[test]
fn table_of_the_generators_registers() {
    let profile = profile();
    for (name, address) in [
        ("OQ_QUEUE_0_CTRL", 0x200_0000),
        ("OQ_QUEUE_8_ADDR_LO", 0x200_0820),
        ("OQ_QUEUE_11_MAX_ITER", 0x200_0b48),
        ("OQ_QUEUE_9_CURR_ITER", 0x200_0944),
        ("DELAY_RESET", 0x200_1100),
        ("RATE_LIMIT_7_TOKEN_INC", 0x200_1308),
        ("PKT_GEN_CTRL_ENABLE", 0x200_1400),
        ("PKT_GEN_CTRL_0_PKT_COUNT", 0x200_1480),
        ("PKT_GEN_CTRL_3_TIME_LAST_LO", 0x200_14f8),
    ] {
        assert_eq!(profile.register(name).map(|r| r.address), Some(address), "{name}");
    }
    let generator = generator(&profile);
    assert_eq!(generator.word(0), Some(0x100_0004), "control; the data is behind it");
    assert_eq!(generator.word(0x7_ffff), Some(0x17f_fff4));
    assert_eq!(generator.word(0x8_0000), None);
    assert_eq!(generator.part(0x100_001c), Some((1, 2)));
    assert_eq!((generator.part(0x100_0010), generator.part(0x180_0004)), (None, None));
    // Port 1's limiter is that of its queue, the third.
    assert_eq!(profile.rate_limiter.as_ref().map(|l| l.of_port(1)), Some(2));
    // No two queues share a word, and none is outside.
    let mut queues: Vec<_> =
        generator.others.iter().copied().chain(generator.ports.iter().map(|p| p.queue)).collect();
    queues.sort_by_key(|q| q.first);
    assert_eq!(queues.len(), 12);
    assert!(queues.windows(2).all(|q| q[0].first + q[0].words <= q[1].first), "{queues:?}");
    assert!(queues.iter().all(|q| q.first + q.words <= generator.sram_words));
}

#[test]
fn a_profile_with_an_impossible_generator_says_everything_that_is_wrong() {
    let text = builtin::PROFILES.iter().find(|(name, _)| *name == "packet-generator").expect("there").1;
    let wrong = text
        .replace("sram_words = 0x80000", "sram_words = 0x10000")
        .replace("longest = 2000", "longest = 9000")
        .replace("first_queue = 8", "first_queue = 250");
    let error = Profile::parse("mine", &wrong).expect_err("wrong");
    let says = |part: &str| error.faults.iter().any(|f| f.to_string().contains(part));
    assert!(says("sram_words = 65536 leaves too few") && says("longest = 9000"), "{error}");
    let missing =
        |f: &Fault| matches!(f, Fault::Missing { part: "generator", name } if name == "OQ_QUEUE_250_CTRL");
    assert!(error.faults.iter().any(missing), "{error}");
}

#[test]
fn frames_leave_by_their_port_as_often_as_asked_and_are_counted() {
    let profile = profile();
    let mut now = Time::from_secs(5);
    let mut card = Model::new(profile.clone(), now);
    let frames = frames(&[60, 61, 1_514, 64], Duration::ZERO);
    start(&mut card, &profile, &frames, Options { iterations: 3, ..once(2) });
    let plan =
        Plan::new(generator(&profile), None, &frames, Options { iterations: 3, ..once(2) }).expect("fits");
    let sent = leave(&mut card, &mut now, Duration::from_secs(1));
    let expected: Vec<_> = (0..3).flat_map(|_| bytes(&frames)).map(|f| (4, f)).collect();
    assert_eq!(sent, expected);
    let status = plan.status(&mut card).expect("asked");
    assert_eq!((status.sent, status.of, status.iteration, status.done), (12, 12, 3, true));
    let mut read = |name: &str| card.read32(profile.register(name).expect(name).address).expect("read");
    assert_eq!(read("OQ_QUEUE_10_NUM_PKTS_REMOVED"), 12);
    assert_eq!(read("OQ_QUEUE_10_NUM_PKT_BYTES_REMOVED"), 3 * (60 + 61 + 1_514 + 64));
    assert_eq!(read("MAC_GRP_2_TX_QUEUE_NUM_PKTS_SENT"), 12);
    assert_eq!(read("MAC_GRP_2_TX_QUEUE_NUM_BYTES_PUSHED"), 3 * (60 + 61 + 1_514 + 64));
    assert_eq!(read("OQ_QUEUE_9_NUM_PKTS_REMOVED"), 0, "another port's");
    assert_eq!(leave(&mut card, &mut now, Duration::from_secs(9)), [], "and then no more");
}

/// Gaps are from start to start; a frame is delayed while the wire or the limiter is busy.
#[test]
fn frames_leave_when_their_gaps_the_wire_and_the_limiter_let_them() {
    let profile = profile();
    let ms = Duration::from_millis(1);
    let frames = frames(&[60, 60, 60], ms);
    // 100 Mbit/s: 10 clocks of 8 ns a byte; 64 bytes with FCS take 5.12 us.
    let limit = BitRate::mbit(100);
    for (gaps, rate, each) in [
        (true, None, ms),
        (false, None, Duration::from_nanos(84 * 8)),
        (false, Some(limit), Duration::from_nanos(64 * 80)),
        (true, Some(limit), ms),
    ] {
        let mut now = Time::from_secs(5);
        let mut card = Model::new(profile.clone(), now);
        start(&mut card, &profile, &frames, Options { gaps, rate, ..once(0) });
        let mut counts = vec![leave(&mut card, &mut now, Duration::ZERO).len()];
        for _ in 0..2 {
            counts.push(leave(&mut card, &mut now, each - Duration::from_nanos(1)).len());
            counts.push(leave(&mut card, &mut now, Duration::from_nanos(1)).len());
        }
        assert_eq!(counts, [1, 0, 1, 0, 1], "{gaps} {rate:?}");
    }
}

#[test]
fn a_captured_frame_has_the_time_at_which_it_came_and_is_counted() {
    let profile = profile();
    let generator = generator(&profile);
    let mut now = Time::from_secs(5);
    let mut card = Model::new(profile.clone(), now);
    card.cable(0, 1);
    generator.capture(&mut card, 1).expect("begun");
    let gap = Duration::from_micros(70);
    let frames = frames(&[60, 100, 64], gap);
    now = now + Duration::from_secs(2);
    card.set_time(now);
    start(&mut card, &profile, &frames, Options { gaps: true, iterations: 2, ..once(0) });
    let sent = leave(&mut card, &mut now, Duration::from_secs(1));
    let seen: Vec<_> =
        sent.iter().map(|(queue, frame)| (*queue, capture::split(frame).expect("stamped"))).collect();
    assert!(seen.iter().all(|(queue, _)| *queue == 3), "to the CPU of the other port");
    let twice: Vec<_> = bytes(&frames).into_iter().chain(bytes(&frames)).collect();
    assert_eq!(seen.iter().map(|(_, (_, bytes))| bytes.to_vec()).collect::<Vec<_>>(), twice);
    let two = Duration::from_secs(2);
    // The second iteration follows at once: the first frame has no gap.
    let wire = |bytes: u32| Duration::from_nanos(8) * (bytes + 24);
    let again = 2 * gap + wire(64);
    let times = [Duration::ZERO, gap, 2 * gap, again, again + gap, again + 2 * gap].map(|t| two + t);
    assert_eq!(seen.iter().map(|(_, (at, _))| *at).collect::<Vec<_>>(), times);
    let counted = generator.captured(&mut card, 1).expect("asked").expect("a port");
    assert_eq!((counted.packets, counted.bytes), (6, 2 * (60 + 100 + 64 + 3 * 4)));
    assert_eq!(counted.during, again + 2 * gap + Duration::from_nanos(8 * 68));

    // Without a capture, frames have no header; if they are kept from the CPU, they are only
    // counted.
    generator.end_capture(&mut card, 1).expect("ended");
    assert_eq!(card.packet(2, &[7; 60], now), [(3, vec![7; 60])]);
    card.write32(generator.control, 0x202).expect("written");
    assert_eq!(card.packet(2, &[7; 60], now), []);
    let counted = generator.captured(&mut card, 1).expect("asked").expect("a port");
    assert_eq!((counted.packets, counted.bytes), (1, 64), "from 0 again");
}

#[test]
fn a_stopped_replay_sends_no_more_and_the_port_sends_other_frames_again() {
    let profile = profile();
    let (generator, limiter) = (generator(&profile), profile.rate_limiter.as_ref());
    let mut now = Time::from_secs(5);
    let mut card = Model::new(profile.clone(), now);
    let frames = frames(&[60, 60], Duration::from_millis(100));
    let options = Options { gaps: true, iterations: 1_000, rate: Some(BitRate::mbit(1)), port: 0 };
    start(&mut card, &profile, &frames, options);
    assert!(generator.is_replaying(&mut card, 0).expect("asked"));
    assert_eq!(leave(&mut card, &mut now, Duration::from_millis(150)).len(), 3);
    assert_eq!(card.packet(1, &[7; 60], now), [], "the port is the replay's");
    generator.hold(&mut card, limiter, 0).expect("held");
    generator.flush(&mut card).expect("flushed");
    generator.release(&mut card, 0).expect("released");
    assert_eq!(leave(&mut card, &mut now, Duration::from_secs(9)), []);
    assert_eq!(card.packet(1, &[7; 60], now), [(0, vec![7; 60])]);
    assert!(!generator.is_replaying(&mut card, 0).expect("asked"));
    assert_eq!(limiter.expect("it has them").get(&mut card, 0).expect("asked"), Setting::Off);
}

/// A program killed at any moment leaves a card on which the next replay works.
#[test]
fn after_any_number_of_writes_of_a_killed_program_the_next_replay_is_right() {
    struct Killed<'a>(&'a mut Model, usize);
    impl Registers for Killed<'_> {
        fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
            self.0.read32(address)
        }
        fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
            self.1 = self
                .1
                .checked_sub(1)
                .ok_or(AccessError::Closed(tandem_fpga_config::registers::Access::Write(address, value)))?;
            self.0.write32(address, value)
        }
    }
    let profile = profile();
    let old = frames(&[300, 200, 100], Duration::from_millis(1));
    let new = frames(&[64, 90], Duration::from_millis(1));
    let options = Options { gaps: true, iterations: 50, rate: Some(BitRate::mbit(10)), port: 3 };
    for writes in (0..450).step_by(7) {
        let mut now = Time::from_secs(5);
        let mut card = Model::new(profile.clone(), now);
        let plan =
            Plan::new(generator(&profile), profile.rate_limiter.as_ref(), &old, options).expect("fits");
        let mut killed = Killed(&mut card, writes);
        let _ = plan.load(&mut killed, &mut |_| true).and_then(|()| plan.start(&mut killed, false));
        leave(&mut card, &mut now, Duration::from_millis(2));
        start(&mut card, &profile, &new, once(3));
        let sent = leave(&mut card, &mut now, Duration::from_secs(1));
        let expected: Vec<_> = bytes(&new).into_iter().map(|f| (6, f)).collect();
        assert_eq!(sent, expected, "killed after {writes} writes");
    }
}

#[test]
fn ports_replay_independently() {
    let profile = profile();
    let mut now = Time::from_secs(5);
    let mut card = Model::new(profile.clone(), now);
    let (one, other) = (frames(&[60, 60], Duration::ZERO), frames(&[200, 300], Duration::ZERO));
    start(&mut card, &profile, &one, Options { iterations: 1 << 31, ..once(0) });
    start(&mut card, &profile, &other, once(1));
    let sent = leave(&mut card, &mut now, Duration::from_micros(100));
    assert_eq!(sent.iter().filter(|(q, _)| *q == 2).count(), 2);
    assert_eq!(sent.iter().filter(|(q, _)| *q == 0).count(), 1 + 100_000 / (84 * 8), "as fast as a wire is");
    // An hour later all are counted, and at most the limit waits.
    let waiting = leave(&mut card, &mut now, Duration::from_secs(3_600)).len();
    assert_eq!(waiting, WAITING);
    let plan =
        Plan::new(generator(&profile), None, &one, Options { iterations: 1 << 31, ..once(0) }).expect("fits");
    let status = plan.status(&mut card).expect("asked");
    assert_eq!((status.sent, status.done), (1 << 32, true), "more than the counter's 32 bits");
}

#[test]
fn what_cannot_be_replayed_is_refused_with_what_to_do() {
    let profile = profile();
    let (generator, limiter) = (generator(&profile), profile.rate_limiter.as_ref());
    let plan = |frames: &[Timed], options| Plan::new(generator, limiter, frames, options).map(drop);
    let short = frames(&[60], Duration::ZERO);
    assert!(matches!(plan(&short, once(4)), Err(ReplayError::NoSuchPort { port: 4, ports: 4 })));
    assert!(matches!(plan(&[], once(0)), Err(ReplayError::Empty)));
    for iterations in [0, (1 << 31) + 1] {
        let options = Options { iterations, ..once(0) };
        assert!(matches!(plan(&short, options), Err(ReplayError::Iterations(n)) if n == iterations));
    }
    let long = frames(&[60, 2_001], Duration::ZERO);
    assert!(matches!(
        plan(&long, once(0)),
        Err(ReplayError::TooLong { frame: 2, bytes: 2_001, longest: 2_000 })
    ));
    let far = frames(&[60, 60], GAP);
    let gaps = Options { gaps: true, ..once(0) };
    assert!(matches!(plan(&far, gaps), Err(ReplayError::Gap { frame: 2, gap }) if gap == GAP));
    plan(&far, once(0)).expect("without gaps it can");
    let slow = Options { rate: Some(BitRate(1)), ..once(0) };
    assert!(matches!(plan(&short, slow), Err(ReplayError::Limit(_))));
    let rate = Options { rate: Some(BitRate::mbit(1)), ..once(0) };
    assert!(matches!(Plan::new(generator, None, &short, rate), Err(ReplayError::NoLimiter(0))));

    // 94,208 words: a frame of 60 bytes takes 9, and 10 with a gap, which the first has not.
    let room = generator.ports[0].queue.words as usize;
    let many = frames(&vec![60; room / 9 + 1], Duration::from_nanos(1));
    let error = plan(&many, once(0)).expect_err("one too many").to_string();
    assert!(error.contains(&format!("hold the first {}; nothing was written", room / 9)), "{error}");
    plan(&many[1..], once(0)).expect("they fit exactly so far");
    let fit = (room + 1) / 10;
    assert!(matches!(plan(&many, gaps), Err(ReplayError::TooMany { fit: f, .. }) if f == fit));
    plan(&many[..fit], gaps).expect("so many fit");
}

#[test]
fn another_bitfile_does_not_keep_what_is_written_and_that_is_said() {
    let profile = profile();
    let mut card = Model::new(builtin::named("openflow-switch").expect("there"), Time::from_secs(5));
    let plan = Plan::new(generator(&profile), None, &frames(&[60], Duration::ZERO), once(0)).expect("fits");
    let error = plan.load(&mut card, &mut |_| true).expect_err("another bitfile").to_string();
    assert!(error.contains("is the packet generator's bitfile loaded?"), "{error}");
}

fn stored() -> impl Strategy<Value = Stored> {
    let gap = (0..GAP.as_nanos() as u64).prop_map(Duration::from_nanos);
    let gap = prop_oneof![Just(Duration::ZERO), gap];
    (gap, prop::collection::vec(any::<u8>(), 60..2_001)).prop_map(|(gap, bytes)| Stored { gap, bytes })
}

fn word() -> impl Strategy<Value = Word> {
    let control = prop_oneof![Just(0xff), Just(0xfe), Just(0), Just(1), any::<u8>()];
    let head = (0u64..12, 0u64..100).prop_map(|(words, bytes)| words << 32 | bytes);
    (control, prop_oneof![head, any::<u64>()]).prop_map(|(control, data)| Word { control, data })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Words decode to the same frames with the same gaps, also from their parts.
    #[test]
    fn words_are_the_frames_that_they_were_made_of(all in prop::collection::vec(stored(), 1..20), queue in 8u8..12) {
        let mut words = Vec::new();
        for frame in &all {
            let before = words.len();
            encode(&frame.bytes, frame.gap, queue, &mut words);
            prop_assert_eq!(words.len() - before, needed(frame.bytes.len(), frame.gap));
        }
        let words: Vec<Word> = words.into_iter().map(|w| Word::of(w.parts())).collect();
        prop_assert_eq!(decode(&words), Ok(all));
    }

    /// Whatever the SRAM contains, and wherever a queue is in it, there is no panic, and the work
    /// is bounded.
    #[test]
    fn no_content_of_the_sram_stops_the_model(
        words in prop::collection::vec(word(), 0..60), low: u32, high: u32, iterations: u32, odd: bool,
    ) {
        let _ = decode(&words);
        let profile = profile();
        let generator = generator(&profile);
        let mut card = Model::new(profile.clone(), Time::from_secs(5));
        let at = generator.ports[0];
        let (low, high) = if odd { (low, high) } else { (0, words.len() as u32) };
        for (word, n) in words.iter().zip(0..) {
            let address = generator.word(n).expect("within");
            for (part, value) in (0..).zip(word.parts()) {
                card.write32(address + 4 * part, value).expect("written");
            }
        }
        for (address, value) in [(at.queue.low, low), (at.queue.high, high), (at.queue.control, 3),
            (at.iterations, iterations), (generator.control, 0xf0f)] {
            card.write32(address, value).expect("written");
        }
        prop_assert!(card.burst(&[], Time::from_secs(100_000)).len() <= WAITING);
    }
}
