//! Widened counters and rate limiters, compared with documented values and with a reference that
//! cannot wrap.

use proptest::prelude::*;
use std::time::Duration;
use tandem_fpga_config::codec::PortMap;
use tandem_fpga_config::codec::ofctl::Line;
use tandem_fpga_config::counters::{ExactCounter, Sweep, WRAP_AT_LINE_RATE, Wrapping, last_seen};
use tandem_fpga_config::limiter::{LimitError, Setting};
use tandem_fpga_config::model::Model;
use tandem_fpga_config::offload::row_plan::{Owner, Slot};
use tandem_fpga_config::offload::{Offload, Options};
use tandem_fpga_config::profile::{LimiterKind, Profile, builtin};
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_model::{BitRate, Time};
use tandem_openflow::table::{AddOptions, Flow, Pipeline};

fn profile(name: &str) -> Profile {
    builtin::named(name).expect("a profile")
}

#[test]
fn bytes_wrap_in_34_s_at_line_rate() {
    assert_eq!(WRAP_AT_LINE_RATE.as_secs(), 34);
    assert_eq!(WRAP_AT_LINE_RATE, Duration::from_millis((1u64 << 32) * 8 / 1_000_000));
}

#[test]
fn a_wrap_counts_what_really_passed() {
    let mut counter = Wrapping::since(0);
    assert_eq!(counter.read(u32::MAX), u64::from(u32::MAX));
    assert_eq!(counter.read(0), 1, "not 0 and not 2: wrap deltas are easily off by one");
    assert_eq!(counter.read(9), 9);
    assert_eq!(counter.total(), (1 << 32) + 9);
    let mut unknown = Wrapping::unknown();
    assert_eq!((unknown.read(500), unknown.read(501), unknown.total()), (0, 1, 1));
    unknown.restart(0);
    assert_eq!((unknown.read(7), unknown.total()), (7, 8), "a reset loses nothing that was counted");
}

proptest! {
    #[test]
    fn wraps_of_32_bits_are_seen(start: u32, steps in proptest::collection::vec(any::<u32>(), 1..50)) {
        let mut counter = Wrapping::since(start);
        let mut truth = u64::from(start);
        for step in steps {
            truth += u64::from(step);
            prop_assert_eq!(counter.read(truth as u32), u64::from(step));
        }
        prop_assert_eq!(counter.total(), truth - u64::from(start));
    }

    #[test]
    fn exact_counters_count_every_packet_whatever_bit_24_does(steps in proptest::collection::vec((0u32..1 << 25, any::<u32>(), 0u32..128), 1..50)) {
        // The register has packets in bits 24:0, of which reading clears 23:0.
        let mut register = 0u32;
        let mut counter = ExactCounter::new();
        let (mut packets, mut bytes) = (0u64, 0u64);
        for (step, size, second) in steps {
            register = register.wrapping_add(step) & 0x01ff_ffff;
            packets += u64::from(step);
            bytes += u64::from(size);
            let counted = counter.read(second << 25 | register, size);
            register &= 0x0100_0000;
            prop_assert_eq!(counted.packets, u64::from(step));
            prop_assert_eq!(u32::from(counted.last_seen), second);
        }
        prop_assert_eq!((counter.packets(), counter.bytes()), (packets, bytes));
    }

    #[test]
    fn the_second_of_a_hit_is_found_from_its_low_7_bits(clock: u32, ago in 0u32..128) {
        let hit = clock.saturating_sub(ago);
        prop_assert_eq!(last_seen(clock, (hit & 0x7f) as u8), hit);
    }

    #[test]
    fn a_limit_is_never_above_what_was_asked_for(bits in 2_000u64..2_000_000_000) {
        for kind in [LimiterKind::Shift, LimiterKind::Tokens] {
            match Setting::at_most(kind, BitRate(bits)) {
                Ok(setting) => {
                    let rate = setting.rate().expect("on");
                    prop_assert!(rate <= BitRate(bits), "{setting:?} lets {rate} through");
                }
                Err(LimitError::TooLow { lowest, .. }) => prop_assert!(lowest > BitRate(bits)),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
        let tokens = Setting::at_most(LimiterKind::Tokens, BitRate(bits)).expect("down to 954 bit/s");
        let rate = tokens.rate().expect("on").0 as f64;
        prop_assert!(rate >= bits.min(1_000_000_000) as f64 * 0.99, "{tokens:?} is {rate}, asked for {bits}");
    }
}

#[test]
fn table_rate_limiters_shift() {
    // Documented as 0.89 G, 123 M, 244 k.
    for (shift, low, high) in
        [(3, 880_000_000, 890_000_000), (6, 122_500_000, 123_500_000), (15, 243_500, 244_500)]
    {
        let rate = Setting::Shift(shift).rate().expect("on").0;
        assert!((low..high).contains(&rate), "shift {shift}: {rate}");
    }
    assert!(matches!(Setting::at_most(LimiterKind::Shift, BitRate(200_000)), Err(LimitError::TooLow { .. })));
    assert_eq!(
        Setting::at_most(LimiterKind::Shift, BitRate::mbit(900)).expect("there is one"),
        Setting::Shift(3)
    );
}

#[test]
fn table_rate_limiters_tokens() {
    let setting = Setting::Tokens { interval: 4, increment: 1 };
    assert_eq!(setting.rate(), Some(BitRate::mbit(250)), "increment / interval Gbit/s");
    let exact = Setting::at_most(LimiterKind::Tokens, BitRate::mbit(100)).expect("there is one");
    assert_eq!(exact, Setting::Tokens { interval: 10, increment: 1 });
    let lowest = Setting::at_most(LimiterKind::Tokens, BitRate(900)).expect_err("below 2^20 clocks a byte");
    assert!(lowest.to_string().contains("953 bit/s"), "{lowest}");
}

#[test]
fn limits_are_set_read_back_and_switched_off_on_each_bitfile_that_has_them() {
    for name in ["router-buffer-sizing", "tutorial-router", "packet-generator"] {
        let profile = profile(name);
        let limiter = profile.rate_limiter.clone().expect("it has them");
        let mut card = Model::new(profile, Time::ZERO);
        for index in 0..u8::try_from(limiter.at.len()).expect("few") {
            assert_eq!(limiter.get(&mut card, index).expect("asked"), Setting::Off);
            let setting =
                Setting::at_most(limiter.kind, BitRate::mbit(100 + u64::from(index))).expect("there is one");
            limiter.set(&mut card, index, setting).expect("set");
            assert_eq!(limiter.get(&mut card, index).expect("asked"), setting);
        }
        limiter.set(&mut card, 0, Setting::Off).expect("set");
        assert_eq!(limiter.get(&mut card, 0).expect("asked"), Setting::Off);
        assert!(matches!(limiter.get(&mut card, 8), Err(LimitError::NoSuch { index: 8, .. })));
    }
}

#[test]
fn a_limit_that_does_not_stay_is_said() {
    let limiter = profile("tutorial-router").rate_limiter.expect("it has them");
    let mut other = Model::new(profile("reference-router"), Time::ZERO);
    let error = limiter.set(&mut other, 0, Setting::Shift(3)).expect_err("another bitfile");
    assert!(matches!(error, LimitError::NotKept { .. }), "{error}");
}

/// Counts reads per address.
struct Counting(Model, std::collections::BTreeMap<u32, u32>);

impl Registers for Counting {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        *self.1.entry(address).or_default() += 1;
        self.0.read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.0.write32(address, value)
    }
}

#[test]
fn a_sweep_reads_no_register_twice_and_under_200_with_the_rows() {
    let profile = profile("openflow-switch");
    let rows = profile.flow_table.map_or(0, |f| usize::from(f.rows));
    let mut sweeps: Vec<Sweep> =
        ["MAC_GRP", "BRAM_OQ", "OPENFLOW_LOOKUP"].map(|p| Sweep::new(&profile, p)).into();
    let mut card = Counting(Model::new(profile, Time::ZERO), Default::default());
    for sweep in &mut sweeps {
        sweep.read(&mut card).expect("asked");
    }
    assert!(card.1.values().all(|n| *n == 1));
    // 32 rows with packets, bytes and last-seen each.
    let reads = card.1.len() + 3 * rows;
    eprintln!("a sweep of 4 MACs, 8 queues, the look-up and {rows} rows: {reads} reads");
    assert!(reads < 200, "{reads}");
}

#[test]
fn a_sweep_widens_and_says_what_does_not_answer() {
    let profile = profile("openflow-switch");
    let mut card = Model::new(profile.clone(), Time::ZERO);
    let mut sweep = Sweep::new(&profile, "RX_QUEUE_NUM_PKTS_STORED");
    assert_eq!(sweep.len(), 4);
    for _ in 0..3 {
        card.packet(2, &[0; 60], Time::ZERO);
    }
    let readings = sweep.read(&mut card).expect("asked");
    assert_eq!((readings[1].value, readings[1].delta), (3, Some(3)));
    card.packet(2, &[0; 60], Time::ZERO);
    assert_eq!(sweep.read(&mut card).expect("asked")[1].delta, Some(1));
    let mut silent = card.unloaded();
    let readings = sweep.read(&mut silent).expect("asked");
    assert_eq!(
        (readings[1].value, readings[1].delta, readings[1].raw),
        (4, Some(0), None),
        "0xdeadbeef is no count"
    );
}

/// Frames counted by the input arbiter: any access clears the counter, so that a smaller reading
/// never means a wrap.
#[test]
fn what_reading_clears_is_summed_by_whoever_asks_for_it_and_left_to_others_otherwise() {
    let profile = profile("openflow-switch");
    let mut card = Model::new(profile.clone(), Time::ZERO);
    assert!(Sweep::new(&profile, "IN_ARB").is_empty(), "not read by the way");
    let mut sweep = Sweep::with_clearing(&profile, "IN_ARB");
    assert_eq!((sweep.len(), sweep.clearing()), (1, 1));
    let mut sums = Vec::new();
    for frames in [3, 1, 0, 2] {
        for _ in 0..frames {
            card.packet(0, &[0; 60], Time::ZERO);
        }
        let reading = sweep.read(&mut card).expect("asked").remove(0);
        sums.push((reading.delta, reading.value));
    }
    assert_eq!(sums, [(Some(3), 3), (Some(1), 4), (Some(0), 4), (Some(2), 6)]);
    let entered = profile.data_path.expect("described").entered;
    card.packet(0, &[0; 60], Time::ZERO);
    card.write32(entered, 0x55).expect("mapped");
    assert_eq!(card.read32(entered).expect("mapped"), 0, "a write clears it, and is not kept");
}

/// If a bitfile's rows clear on reading, its profile says so, and both model and offload follow it.
#[test]
fn rows_that_clear_on_reading_are_counted_by_the_profile_s_word() {
    let (name, text) = builtin::PROFILES[0];
    let clearing = text.replace("row_counters = \"accumulate\"", "row_counters = \"clear on read\"");
    assert_ne!(clearing, text);
    for (text, left) in [(text, 5), (clearing.as_str(), 0)] {
        let profile = Profile::parse(name, text).expect("right");
        let map = profile.flow_table.expect("a flow table");
        let register = profile.at(map.packets_hit).expect("listed");
        assert_eq!(profile.clears(register), left == 0);
        let mut card = Model::new(profile, Time::ZERO);
        let mut now = Time::ZERO + Duration::from_secs(1);
        card.set_time(now);
        let ports = PortMap::one_card(false);
        let mut offload =
            Offload::start(map, ports.clone(), Options::default(), now, &mut card).expect("it answers");
        let mut table = Pipeline::new(1, 10, vec![1, 2, 3, 4]);
        let line = Line::parse("in_port=1,actions=output:2", Some(&ports)).expect("a flow");
        let instructions = line.instructions().expect("actions");
        let how = AddOptions { check_overlap: false, keep_counts: false };
        let flow = Flow::new(line.priority, line.criteria(), instructions, now);
        table.tables[0].add(flow, how).expect("room");
        offload.sync(&table.tables[0], now, &mut card).expect("it answers");
        let mut packets = 0;
        for frames in [2, 3] {
            for _ in 0..frames {
                assert_eq!(card.packet(0, &[7; 60], now).len(), 1);
            }
            now = now + Duration::from_secs(1);
            card.set_time(now);
            packets += offload.sweep(now, &mut card).expect("asked").iter().map(|c| c.packets).sum::<u64>();
        }
        assert_eq!(packets, 5);
        let mine = |slot: &Option<Slot>| slot.is_some_and(|s| matches!(s.owner, Owner::Flow(_)));
        let row = offload.rows().iter().position(mine).expect("one");
        assert_eq!(card.read32(map.packets_hit + 4 * row as u32).expect("mapped"), left, "in the register");
    }
}
