//! Any answers to the questions of `tandem init` end in a site, or in what is missing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_model::site::{Faults, read};
use tandem_site_import::init::Init;

fuzz_target!(|answers: &[u8]| {
    // Counts of three digits or more are right but slow to build, once for each answer.
    if answers.split(|b| !b.is_ascii_digit()).any(|digits| digits.len() > 2) {
        return;
    }
    let check = |text: &str| -> Result<(), Faults> { read(text, "site.toml").map(|_| ()) };
    let init = Init { check: &check, allocations: &["best-fit".to_owned()] };
    match init.ask(&mut &*answers, &mut std::io::sink()) {
        Ok(site) => assert!(read(&site, "site.toml").is_ok(), "{site}"),
        Err(error) => assert!(error.to_string().contains("missing: "), "{error}"),
    }
});
