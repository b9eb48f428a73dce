//! Any replies to `/rrd_updates` give tables with no more cells than bytes, or errors; and the
//! counters of their loads never go back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_hypervisor::xapi::load::Loads;
use tandem_hypervisor::xapi::rrd;
use tandem_model::{ServerId, VmId};

fuzz_target!(|bytes: &[u8]| {
    let loads = Loads::default();
    let ours = [(VmId(1), true, "v-1".to_owned()), (VmId(2), false, "v-2".to_owned())];
    let (mut start, mut before) = (0, 0);
    // A byte that no XML has separates the replies.
    for answer in bytes.split(|b| *b == 0) {
        let Ok(updates) = rrd::parse(answer) else { continue };
        let cells: usize = updates.rows.iter().map(|(_, cells)| cells.len()).sum();
        assert!(cells + updates.columns.len() <= answer.len());
        let room: usize = updates.rows.iter().map(|(_, cells)| cells.capacity()).sum();
        assert!(room <= 4 * answer.len(), "room is made for what is not there");
        let load = loads.take_in(ServerId(0), "h-1", &ours, start, &updates);
        start = updates.end;
        assert_eq!(load.vms.len(), 1);
        let now = load.vms[0].1.cpu_ns;
        assert!(now >= before, "a counter goes back, or is not counted any more");
        before = if now == u64::MAX { before } else { now };
    }
});
