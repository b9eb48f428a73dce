//! What hosts with `xl` print is read without a panic, and domains are read alike however often.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_controller::vmm::xl::parse::{Log, complaint, counters, domains, info};

fuzz_target!(|text: &str| {
    assert_eq!(domains(text), domains(text));
    let _ = (info(text), counters(text), complaint(text));
    // A suspension is found wherever the log is cut into pieces.
    let mut whole = Log::default();
    whole.read(text);
    let mut pieces = Log::default();
    for character in text.chars() {
        pieces.read(character.encode_utf8(&mut [0; 4]));
    }
    assert_eq!(whole.suspended, pieces.suspended);
});
