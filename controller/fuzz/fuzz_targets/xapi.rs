//! Whatever a server answers, by XML-RPC or JSON-RPC: it is an answer or an error; and a value in an answer can be sent back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_controller::vmm::xapi::rpc::{json, xml};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Ok(value)) = json::decode_answer(1, bytes) {
        let _ = json::encode_call(2, "VM.set_other_config", &[value]);
    }
    if let Ok(Ok(value)) = xml::decode_answer(bytes) {
        // XML that was read has no character that XML cannot carry, unless it came as a reference to one.
        let _ = xml::encode_call("VM.set_other_config", &[value]);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = xml::decode_value(text);
    }
});
