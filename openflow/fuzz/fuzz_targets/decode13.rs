//! Any input either fails to decode, or encodes to the same bytes again. The target writes a valid
//! header over the input, so that the fuzzer reaches the bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_openflow::of13::{Message, PacketInView};

fuzz_target!(|body: &[u8]| {
    let Some((kind, body)) = body.split_first() else { return };
    let Ok(length) = u16::try_from(body.len() + 8) else { return };
    let mut bytes = vec![tandem_openflow::header::V13, kind % 32];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 1]);
    bytes.extend_from_slice(body);
    let _ = PacketInView::new(&bytes);
    if let Ok((xid, message)) = Message::decode(&bytes) {
        let mut out = Vec::new();
        message.encode(xid, &mut out).expect("as long as before");
        assert_eq!(out, bytes);
    }
});
