//! Any text is parsed as a profile or refused; a valid one has each address once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_fpga_config::profile::Profile;

fuzz_target!(|text: &str| {
    if let Ok(profile) = Profile::parse("fuzz", text) {
        assert!(profile.registers.windows(2).all(|w| w[0].address < w[1].address));
        if let Some(path) = &profile.data_path {
            assert!(
                profile.at(path.entered).is_some() && path.decided.iter().all(|a| profile.at(*a).is_some())
            );
            assert!(path.ready.is_none_or(|(a, mask)| profile.at(a).is_some() && mask.count_ones() == 1));
        }
        assert!(
            profile
                .flow_table
                .is_none_or(|f| f.guard.is_none() || profile.faults.iter().any(|k| k.key == f.guard))
        );
        for register in &profile.registers {
            assert_eq!(profile.register(&register.name), Some(register));
        }
    }
});
