//! Any output of hosts with `xl` is parsed without a panic, and parsing domains twice gives the
//! same; it is followed to the driver's conclusions: VMs found, loads, a migration's progress, and
//! the place of a VM after an interrupted move.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_hypervisor::xl::answers;
use tandem_hypervisor::xl::parse::{Log, complaint, counters, domains, info};
use tandem_model::{Bytes, ServerId, VmId};

const SITE: &str = "testbed";

fuzz_target!(|text: &str| {
    assert_eq!(domains(text), domains(text));
    let _ = (info(text), counters(text), complaint(text));
    // A suspension is found wherever the log is cut.
    let mut whole = Log::default();
    whole.read(text);
    let mut pieces = Log::default();
    for character in text.chars() {
        pieces.read(character.encode_utf8(&mut [0; 4]));
    }
    assert_eq!(whole.suspended, pieces.suspended);
    // `@7` is the UUID of the VM that is located; a form feed separates the output of the two
    // hosts.
    let text = text.replace("@7", &answers::uuid(SITE, VmId(7)).unwrap_or_default());
    let parts: Vec<&str> = text.split('\x0c').collect();
    let _ = answers::found(SITE, ServerId(0), parts[0]);
    let _ = answers::loads(SITE, parts.iter().copied());
    let _ = answers::followed(Bytes(u64::MAX), parts.iter().copied());
    let resolved = answers::resolved(SITE, VmId(7), Some(parts[0]), parts.get(1).copied());
    if let Ok((place, runs, destroyed)) = resolved {
        assert!(!(runs[0] && runs[1]), "it runs on both sides");
        if let Some(at_target) = place {
            assert!(!destroyed[usize::from(at_target)], "the side that has it is destroyed");
        }
    }
});
