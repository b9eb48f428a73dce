//! Any bytes are parsed as a file of frames or refused; frames are written and read again
//! unchanged, and those that fit the card's memory are unchanged after encoding and decoding its
//! words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use tandem_fpga_card::pcap::{Writer, read};
use tandem_fpga_config::generator::words::{SHORTEST, Stored, decode, encode};

fuzz_target!(|file: &[u8]| {
    let _ = decode(&file.chunks_exact(12).map(word).collect::<Vec<_>>());
    let Ok(frames) = read(file) else { return };
    let mut writer = Writer::new(Vec::new()).expect("memory takes it");
    for frame in &frames {
        writer.frame(frame.at, &frame.bytes).expect("what was read fits");
    }
    assert_eq!(read(&writer.into_inner()[..]).expect("what was written is read"), frames);
    let mut words = Vec::new();
    let mut wanted = Vec::new();
    for frame in frames {
        let gap = Duration::from_nanos(u64::from(frame.at.subsec_nanos()));
        encode(&frame.bytes, gap, 8, &mut words);
        let mut bytes = frame.bytes;
        bytes.resize(bytes.len().max(SHORTEST), 0);
        wanted.push(Stored { gap, bytes });
    }
    assert_eq!(decode(&words), Ok(wanted));
});

/// A word of twelve bytes.
fn word(bytes: &[u8]) -> tandem_fpga_config::generator::words::Word {
    let part = |at: usize| bytes.iter().skip(at).take(4).fold(0, |n, b| n << 8 | u32::from(*b));
    tandem_fpga_config::generator::words::Word::of([part(0), part(4), part(8)])
}
