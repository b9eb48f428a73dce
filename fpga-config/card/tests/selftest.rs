//! The selftest passes on a card that behaves like the Verilog, with every check for its bitfile,
//! and fails by the right check on one that does not. The card's state is unchanged afterwards.

use std::collections::BTreeMap;
use std::time::Duration;
use tandem_fpga_card::Card;
use tandem_fpga_card::selftest::{Check, Verdict, run};
use tandem_fpga_config::model::{CLEARING, Model};
use tandem_fpga_config::profile::{FlowMap, Profile, builtin};
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_model::Time;

/// A card with its own clock, and a fault in its hardware.
struct Bench {
    model: Model,
    now: Time,
    /// Changes the value read at an address.
    wrong: fn(&FlowMap, u32, u32) -> u32,
    /// The last words of key and mask as a row was loaded, for the fault that makes them 32 bits
    /// wide.
    wide: bool,
    loaded: BTreeMap<u32, u32>,
}

fn profile(name: &str) -> Profile {
    builtin::named(name).expect("built in")
}

impl Bench {
    fn new(wrong: fn(&FlowMap, u32, u32) -> u32) -> Bench {
        let now = Time::from_secs(5);
        let mut model = Model::new(profile("openflow-switch"), Time::from_secs(1));
        model.set_time(now + CLEARING);
        Bench { model, now: now + CLEARING, wrong, wide: false, loaded: BTreeMap::new() }
    }

    fn map(&self) -> FlowMap {
        self.model.profile().flow_table.expect("it has one")
    }

    fn checks(&mut self) -> Vec<Check> {
        let profile = self.model.profile().clone();
        run(self, &profile).expect("it answers")
    }
}

impl Registers for Bench {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        let (value, map) = (self.model.read32(address)?, self.map());
        Ok(self.loaded.get(&address).copied().unwrap_or((self.wrong)(&map, address, value)))
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        let map = self.map();
        if self.wide && address == map.read_row {
            self.loaded = [map.key + 28, map.mask + 28].map(|at| (at, u32::MAX)).into();
        } else {
            self.loaded.remove(&address);
        }
        self.model.write32(address, value)
    }
}

impl Card for Bench {
    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.model.set_time(self.now);
    }
}

fn failed(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|c| c.verdict == Verdict::Fail).map(|c| c.name.as_str()).collect()
}

#[test]
fn it_passes_on_a_card_that_answers_as_the_verilog_does_and_leaves_no_trace() {
    let mut bench = Bench::new(|_, _, value| value);
    let map = bench.map();
    // A row in the middle of being written.
    let staging: Vec<u32> = (0..26).map(|n| map.action + 4 * n).collect();
    for address in &staging {
        bench.write32(*address, 0x8000_0000 | address).expect("a register");
    }
    let checks = bench.checks();
    assert_eq!(failed(&checks), [""; 0], "{checks:#?}");
    for name in ["staging: last word of the key", "a row has 24 bits of the last words"] {
        assert!(checks.iter().any(|c| c.name == name && c.verdict == Verdict::Pass), "{name}: {checks:#?}");
    }
    for address in staging {
        assert_eq!(bench.read32(address).expect("a register"), 0x8000_0000 | address, "put back");
    }
}

#[test]
fn it_fails_on_registers_of_other_widths_than_the_verilog_s() {
    type Wrong = fn(&FlowMap, u32, u32) -> u32;
    let cases: [(Wrong, &str); 4] = [
        (|m, at, v| if at == m.key + 28 { v & 0x00ff_ffff } else { v }, "staging: last word of the key"),
        (|m, at, v| if at == m.mask { v & 0x7fff_ffff } else { v }, "staging: first word of the mask"),
        (|m, at, v| if at == m.read_row { v & 0xf } else { v }, "a row has 24 bits of the last words"),
        (|m, at, v| if at == m.seconds - 8 { v.swap_bytes() } else { v }, "look-up's scratch register"),
    ];
    for (wrong, name) in cases {
        assert_eq!(failed(&Bench::new(wrong).checks()), [name]);
    }
    // A row loaded with more bits than it has.
    let mut wide = Bench { wide: true, ..Bench::new(|_, _, value| value) };
    assert_eq!(failed(&wide.checks()), ["a row has 24 bits of the last words"]);
}
