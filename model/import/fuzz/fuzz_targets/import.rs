//! Any text, taken for a file of each format, is a site that the site's own reader takes and that
//! comes back from containerlab's form, or an error whose places are in the text. Start with the
//! public topologies: `cargo +nightly fuzz run import corpus ../../../tests/data/topologies`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_model::site::read;
use tandem_site_import::{FORMATS, ImportError, Options, Source, export, format};

fuzz_target!(|text: &str| {
    // A data centre of a million servers is right but slow to build.
    if text.lines().any(is_big) {
        return;
    }
    for with in FORMATS {
        let source = Source { file: "x", text };
        let imported = match (with.translate)(&[source], &Options::default()) {
            Ok(imported) => imported,
            Err(error) => {
                check(text, with.name, &error);
                continue;
            }
        };
        let site = read(&imported.site, "site.toml").unwrap_or_else(|f| panic!("{f}\n{}", imported.site));
        let clab = export::containerlab(&site);
        let back = Source { file: "x.clab.yml", text: &clab };
        let options = Options { servers_per_switch: 0, ..Options::default() };
        let again = (format("clab").expect("a format").translate)(&[back], &options);
        let again = again.unwrap_or_else(|e| panic!("{e}\n{clab}"));
        let again = read(&again.site, "site.toml").unwrap_or_else(|f| panic!("{f}\n{clab}"));
        assert_eq!(again.topology.links.len(), site.topology.links.len(), "{clab}");
        let _ = (export::script(&site), export::graphviz(&site));
    }
});

/// A count of three digits or more in one of the thesis' ini files.
fn is_big(line: &str) -> bool {
    let Some((key, value)) = line.split_once(['=', ':']) else { return false };
    let counts = ["core_no", "agg_no", "edge_no", "out_no", "host_no"];
    let digits = value.bytes().filter(u8::is_ascii_alphanumeric).count();
    digits > 2 && counts.contains(&key.trim().to_lowercase().as_str())
}

fn check(text: &str, format: &str, error: &ImportError) {
    assert!(!error.to_string().is_empty());
    let ImportError::Faults(files) = error else { return };
    // What was recorded of a script is no text that a person has.
    let lines: Vec<&str> = if format == "mininet" { vec![""] } else { text.split('\n').collect() };
    for fault in files.iter().flat_map(|f| &f.faults) {
        let line = lines.get(fault.line - 1).expect("a line of the text");
        assert!(fault.column >= 1 && fault.column <= line.chars().count() + 1, "{fault:?}");
        assert!(!fault.problem.is_empty() && !fault.instead.is_empty(), "{fault:?}");
    }
}
