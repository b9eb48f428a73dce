//! Whatever text is a distribution, a choice or a trace of arrivals; what it gives is in bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_lab::workload::distribution::{choice, count, rate, size, time};
use tandem_lab::workload::trace::{BINS, FLAVOURS, Texts, read};

fuzz_target!(|text: &str| {
    let mut random = tandem_lab::workload::random(1);
    for parse in [count, size, rate, time] {
        if let Ok(values) = parse(text) {
            let value = values.sample(&mut random);
            assert!(value > 0.0 && value <= 1e9, "{value}");
        }
    }
    if let Ok(choice) = choice(text) {
        assert!(!choice.sample(&mut random).is_empty());
    }
    let (arrivals, lifetimes) = text.split_once('\0').unwrap_or((text, ""));
    let lifetimes = Some(lifetimes).filter(|l| !l.is_empty());
    let _ = read(&Texts { arrivals, lifetimes, flavours: FLAVOURS, bins: BINS }, &mut random);
});
