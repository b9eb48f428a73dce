//! Whatever `/rrd_updates` answers: a table with no more cells than there were bytes, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_controller::vmm::xapi::rrd;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(updates) = rrd::parse(bytes) {
        let cells: usize = updates.rows.iter().map(|(_, cells)| cells.len()).sum();
        assert!(cells + updates.columns.len() <= bytes.len());
    }
});
