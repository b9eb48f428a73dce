//! Loads a bitfile into the card in memory, in virtual time, with every possible failure.

use std::time::Duration;
use tandem_fpga_card::Card;
use tandem_fpga_card::program::{ProgramError, program};
use tandem_fpga_config::bitfile::{Bitfile, BitfileError, Header, SYNC, write};
use tandem_fpga_config::device_id::DeviceId;
use tandem_fpga_config::model::Model;
use tandem_fpga_config::profile::{Profile, builtin};
use tandem_fpga_config::registers::{AccessError, Registers, UNMAPPED};
use tandem_model::Time;

/// A card whose time passes only in waits, with a fault.
struct Bench {
    model: Model,
    now: Time,
    fault: Fault,
    writes: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Every read returns this.
    Reads(u32),
    /// Every read of this address returns this.
    At(u32, u32),
    /// After this many words the bus loses one.
    Loses(u32),
    /// The status reads are answered without the card, so that the FIFO cannot drain.
    Deaf,
    /// The card vanishes after this many writes.
    Gone(u32),
}

impl Bench {
    fn new(fault: Fault) -> Bench {
        let now = Time::from_secs(5);
        let model = Model::new(profile(), now).unloaded();
        Bench { model, now, fault, writes: 0 }
    }
}

fn profile() -> Profile {
    builtin::named("openflow-switch").expect("a profile")
}

impl Registers for Bench {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        match self.fault {
            Fault::Reads(value) => Ok(value),
            Fault::At(at, value) if at == address => Ok(value),
            Fault::Deaf if address == 0x104 && self.writes > 2 => Ok(2),
            _ => self.model.read32(address),
        }
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.writes += 1;
        match self.fault {
            Fault::Loses(n) if n == self.writes => Ok(()),
            Fault::Gone(n) if n <= self.writes => {
                Err(AccessError::Closed(tandem_fpga_config::registers::Access::Write(address, value)))
            }
            _ => self.model.write32(address, value),
        }
    }
}

impl Card for Bench {
    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.model.set_time(self.now);
    }
}

fn file() -> Vec<u8> {
    let header = Header {
        design: "top.ncd".into(),
        part: "2vp50ff1152".into(),
        date: "2009/ 7/ 4".into(),
        time: "12:00:00".into(),
    };
    let mut data = SYNC.to_vec();
    data.resize(2_377_668, 0x11);
    write(&header, &data).expect("short enough")
}

fn load(bench: &mut Bench, file: &[u8], wanted: Option<&str>) -> Result<DeviceId, ProgramError> {
    let bitfile = Bitfile::parse(file).expect("a bitfile");
    let mut last = 0;
    let outcome = program(bench, &profile().board, &bitfile, wanted, &mut |done| {
        assert!(done > last, "progress only grows");
        last = done;
    });
    assert!(outcome.is_err() || last == bitfile.data.len(), "and ends with the whole");
    outcome
}

#[test]
fn a_bitfile_goes_in_and_the_card_says_what_it_is() {
    let mut bench = Bench::new(Fault::None);
    assert_eq!(bench.read32(0x40_0000).expect("read"), UNMAPPED, "nothing loaded before");
    let id = load(&mut bench, &file(), Some("openflow_switch")).expect("loaded");
    assert_eq!(id.directory, "openflow_switch");
    assert!(bench.now.since(Time::from_secs(5)) >= Duration::from_millis(2_010), "the waits were kept");
    assert_eq!(bench.read32(0x200_0030).expect("read"), 0, "and its registers answer");
    load(&mut bench, &file(), None).expect("over a loaded one, too");
}

#[test]
fn a_file_for_another_part_or_too_short_never_touches_the_card() {
    let mut bench = Bench::new(Fault::None);
    let header = |part: &str| Header {
        design: String::new(),
        part: part.into(),
        date: String::new(),
        time: String::new(),
    };
    let mut data = SYNC.to_vec();
    data.resize(166_980, 0);
    let cpci = write(&header("2s200fg456"), &data).expect("written");
    let error = load(&mut bench, &cpci, None).expect_err("another part");
    assert!(matches!(error, ProgramError::Bitfile(BitfileError::Part { .. })), "{error}");
    let short = write(&header("2vp50ff1152"), &data).expect("written");
    let error = load(&mut bench, &short, None).expect_err("too short");
    assert!(matches!(error, ProgramError::Bitfile(BitfileError::Length { length: 166_980, .. })), "{error}");
    assert_eq!(bench.writes, 0);
}

#[test]
fn an_unknown_bus_fpga_is_left_alone() {
    let mut bench = Bench::new(Fault::At(0, 3 | 1 << 24));
    let error = load(&mut bench, &file(), None).expect_err("version 3");
    assert!(matches!(error, ProgramError::Cpci { found: 3, wanted: 4 }), "{error}");
    let mut bench = Bench::new(Fault::Reads(UNMAPPED));
    let error = load(&mut bench, &file(), None).expect_err("answers 0xdeadbeef");
    assert!(matches!(error, ProgramError::Cpci { .. }), "{error}");
    assert_eq!(bench.writes, 0);
}

#[test]
fn a_card_that_does_not_take_its_reset_is_said() {
    let error = load(&mut Bench::new(Fault::At(0x104, 0x100)), &file(), None).expect_err("still DONE");
    assert!(matches!(error, ProgramError::Reset { status: 0x100 }), "{error}");
    let error = load(&mut Bench::new(Fault::At(0x104, 0x1_0002)), &file(), None).expect_err("INIT stays");
    assert!(matches!(error, ProgramError::Init { .. }), "{error}");
}

#[test]
fn an_overflow_and_a_lost_word_are_found() {
    // The status reads as if the FIFO were empty: it overflows, and INIT is never seen.
    let error = load(&mut Bench::new(Fault::Deaf), &file(), None).expect_err("overflow");
    assert!(matches!(error, ProgramError::NotDone { .. }), "{error}");
    // The second word, which synchronises, is lost.
    let error = load(&mut Bench::new(Fault::Loses(4)), &file(), None).expect_err("no synchronisation");
    let ProgramError::Transfer { at: 32, error, .. } = error else { panic!("{error}") };
    assert_eq!(error & 1 << 16, 1 << 16);
    // Any later word is lost: the FPGA waits for one more.
    let error = load(&mut Bench::new(Fault::Loses(1_000)), &file(), None).expect_err("a word short");
    assert!(matches!(error, ProgramError::NotDone { status: 2 }), "{error}");
}

#[test]
fn a_bitfile_that_says_nothing_or_something_else_is_found_out() {
    let mut bench = Bench::new(Fault::None);
    bench.model = bench.model.clone().saying(None);
    let error = load(&mut bench, &file(), None).expect_err("no device id block");
    assert!(matches!(error, ProgramError::NoDeviceId { .. }), "{error}");
    let error =
        load(&mut Bench::new(Fault::None), &file(), Some("reference_router")).expect_err("another design");
    assert!(
        error.to_string().contains("openflow_switch") && error.to_string().contains("reference_router"),
        "{error}"
    );
}

#[test]
fn a_card_that_goes_away_in_the_middle_is_an_error() {
    let error = load(&mut Bench::new(Fault::Gone(5_000)), &file(), None).expect_err("gone");
    assert!(matches!(error, ProgramError::Access(AccessError::Closed(_))), "{error}");
}
