//! Any text is either a site or a list of faults that each have a place in it. Start with the example
//! sites: `cargo +nightly fuzz run site corpus ../sites`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_model::site::{Faults, read};

fuzz_target!(|text: &str| {
    // A site of a million servers is right but slow to build, and shows nothing that one of a few
    // hundred does not.
    if text.lines().any(is_big) {
        return;
    }
    match read(text, "site.toml") {
        Ok(site) => {
            let t = &site.topology;
            assert!(
                t.links
                    .iter()
                    .all(|l| t.link_at(l.a.node, l.a.port).is_some()
                        && t.link_at(l.b.node, l.b.port).is_some())
            );
            assert!(
                t.servers.iter().all(|s| !s.uplinks.is_empty() && site.addresses.network.contains(s.address))
            );
        }
        Err(faults) => check(text, &faults),
    }
});

/// A count of three digits or more, or a fat tree of ten ports or more.
fn is_big(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    let digits = value.trim().bytes().filter(u8::is_ascii_alphanumeric).count();
    let counts = [
        "core",
        "aggregation",
        "edge",
        "servers_per_edge",
        "switches",
        "servers_per_switch",
        "gateways",
        "spines",
        "leaves",
        "servers_per_leaf",
        "border_leaves",
    ];
    let key = key.trim().to_lowercase();
    (key == "k" && digits > 1)
        || (digits > 2 && !value.contains('"') && counts.contains(&key.as_str()))
}

fn check(text: &str, faults: &Faults) {
    assert!(!faults.faults.is_empty());
    let lines: Vec<&str> = text.split('\n').collect();
    for fault in &faults.faults {
        let line = lines.get(fault.line - 1).expect("a line of the text");
        assert!(fault.column >= 1 && fault.column <= line.chars().count() + 1, "{fault:?}");
        assert!(!fault.problem.is_empty() && !fault.instead.is_empty(), "{fault:?}");
    }
    let _ = faults.to_string();
}
