//! Any text is either a site or a list of faults that each have a place in it; the same for `conf.ini`, whose result is a site.
//! Start with the example sites: `cargo +nightly fuzz run site corpus ../sites ../tests/data`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_model::site::{Faults, from_seed_ini, read};

fuzz_target!(|text: &str| {
    // A site of a million servers is right but slow to build, and shows nothing that one of a few hundred does not.
    if text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.len() > 2
    }) && !text.contains("linear")
    {
        return;
    }
    match read(text, "site.toml") {
        Ok(site) => {
            let t = &site.topology;
            assert!(t.links.iter().all(|l| t.link_at(l.a.node, l.a.port).is_some() && t.link_at(l.b.node, l.b.port).is_some()));
            assert!(t.servers.iter().all(|s| !s.uplinks.is_empty() && site.addresses.network.contains(s.address)));
        }
        Err(faults) => check(text, &faults),
    }
    match from_seed_ini(text, "conf.ini") {
        Ok(toml) => assert!(read(&toml, "site.toml").is_ok(), "{toml}"),
        Err(faults) => check(text, &faults),
    }
});

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
