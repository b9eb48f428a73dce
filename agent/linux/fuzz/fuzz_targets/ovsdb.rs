//! A stream is cut into the same messages however it arrives, each beginning and ending with its braces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_linux::ovsdb::framing::{FrameError, Framer};

fn cut(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut framer, mut all) = (Framer::new(4096), Vec::new());
    for bytes in stream.chunks(piece.max(1)) {
        framer.push(bytes);
        loop {
            match framer.next_message() {
                Ok(Some(message)) => all.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let at_once = cut(stream, stream.len());
    assert_eq!(cut(stream, piece.into()), at_once);
    assert!(at_once.0.iter().all(|m| m.starts_with(b"{") && matches!(m.last(), Some(b'}' | b']'))));
});
