//! A stream is cut into messages of at least 8 bytes, and the messages put together are the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let mut rest = stream;
    while let Ok(Some((message, after))) = tandem_openflow::framing::next(rest) {
        assert!(message.len() >= 8);
        assert_eq!(message.len() + after.len(), rest.len());
        rest = after;
    }
});
