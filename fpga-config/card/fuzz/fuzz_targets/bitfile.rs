//! Any bytes are parsed as a bitfile or refused; a bitfile is written again unchanged, except for
//! the nine bytes without meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_fpga_config::bitfile::{Bitfile, write};

fuzz_target!(|file: &[u8]| {
    let Ok(bitfile) = Bitfile::parse(file) else { return };
    assert_eq!(bitfile.words().len(), bitfile.data.len().div_ceil(4));
    if let Some(header) = bitfile.header()
        && header.design.is_ascii()
        && header.part.is_ascii()
        && header.date.is_ascii()
        && header.time.is_ascii()
    {
        let again = write(&header, bitfile.data).expect("what was read fits");
        assert_eq!(again[11..], file[11..]);
    }
});
