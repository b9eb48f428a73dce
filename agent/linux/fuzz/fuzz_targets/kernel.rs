//! Whatever bytes a kernel answers are read or left: netlink notifications and the structures of ethtool.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_linux::{ethtool::parse, netlink, tc};

fuzz_target!(|data: &[u8]| {
    let names = parse::strings(data);
    let _ = (parse::driver(data), parse::link(data), parse::mask_words(data), parse::set_size(data));
    let _ = (parse::statistics(data, &names), parse::features(data, &names));
    let _ = (tc::interfaces(data), netlink::error_text(data));
});
