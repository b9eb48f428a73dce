//! Whatever text is a profile or not; one that is right has each address once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_fpga_config::profile::Profile;

fuzz_target!(|text: &str| {
    if let Ok(profile) = Profile::parse("fuzz", text) {
        assert!(profile.registers.windows(2).all(|w| w[0].address < w[1].address));
        for register in &profile.registers {
            assert_eq!(profile.register(&register.name), Some(register));
        }
    }
});
