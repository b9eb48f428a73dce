//! The most load for the fewest bytes sent.

use crate::migration::policies::{Candidate, Hot, View, VmSelector};

/// The least bytes sent per load relieved: Sandpiper's volume-to-size ratio (Wood et al., NSDI
/// 2007, section 5), the highest first. The volume is `1/(1-cpu) 1/(1-net) 1/(1-ram)`, the size is
/// the VM's memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastVolume;

impl VmSelector for LeastVolume {
    fn name(&self) -> &str {
        "volume-size-ratio"
    }

    fn rank(&self, vm: &Candidate<'_>, _hot: &Hot, _view: &View<'_>) -> f64 {
        let free = |share: f64| (1.0 - share).clamp(0.01, 1.0);
        let volume = 1.0 / (free(vm.cpu) * free(vm.net) * free(vm.ram));
        vm.record.request.resources.ram.0 as f64 / volume
    }
}
