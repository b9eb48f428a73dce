//! Any text is a rate, a size or a time, or an error of bounded length that says what to write;
//! what an error proposes is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_model::UnitError;
use tandem_model::spellings::{bits_per_second, bytes, time};

fuzz_target!(|text: &str| {
    for error in
        [bits_per_second(text).err(), bytes(text).err(), time(text).err()].into_iter().flatten()
    {
        check(&error);
    }
    if let Ok(rate) = bits_per_second(text) {
        // A unit more or less does not change what a number is.
        assert!(rate == 0 || text.bytes().any(|b| b.is_ascii_digit()));
    }
});

fn check(error: &UnitError) {
    assert!(error.problem().len() < 1000 && error.instead().len() < 1000);
    assert!(error.instead().starts_with("write "));
}
