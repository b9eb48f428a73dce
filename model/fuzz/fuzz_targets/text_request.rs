//! Any bytes on the text socket are requests or faults that have a place, however they come in
//! pieces; what is read as a request is within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_model::text_request::{Framer, LONGEST, MOST_MEMBERS, TextRequest, parse};

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut framer = Framer::default();
    for piece in &pieces {
        framer.push(piece);
        loop {
            match framer.next_line() {
                Ok(Some(text)) => check(&text),
                Ok(None) => break,
                // A connection ends there.
                Err(_) => return,
            }
        }
        // A pause after every other piece.
        if piece.len().is_multiple_of(2)
            && let Ok(Some(text)) = framer.take_rest()
        {
            assert!(text.len() <= LONGEST);
            check(&text);
        }
    }
});

fn check(text: &str) {
    match parse(text) {
        Ok(TextRequest::Vm { resources, timeout, .. }) => {
            assert!(resources.cpu > 0 && resources.ram.0 > 0);
            assert!(timeout.is_none_or(|t| !t.is_zero()));
        }
        Ok(TextRequest::Group(members)) => assert!((2..=MOST_MEMBERS).contains(&members.len())),
        Err(bad) => assert!((1..=text.chars().count() + 1).contains(&bad.column)),
    }
}
