//! The VM that is moved in the shortest time.

use crate::migration::policies::{Candidate, Hot, View, VmSelector};

/// The least memory first: minimum migration time (Beloglazov and Buyya, Concurrency and
/// Computation 24(13), 2012, section 4.2). The paper divides by the server's free bandwidth, which
/// is the same for all VMs of one server.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastMemory;

impl VmSelector for LeastMemory {
    fn name(&self) -> &str {
        "minimum-migration-time"
    }

    fn rank(&self, vm: &Candidate<'_>, _hot: &Hot, _view: &View<'_>) -> f64 {
        vm.record.request.resources.ram.0 as f64
    }
}
