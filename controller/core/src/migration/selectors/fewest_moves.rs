//! As few VMs as possible.

use crate::migration::policies::{Candidate, Hot, Place, View, VmSelector};

/// Minimization of migrations (Beloglazov, Abawajy and Buyya, Future Generation Computer Systems
/// 28(5), 2012, section 5.2): of the VMs whose leaving is enough, the one that leaves the most
/// behind in use; where none is enough, the one that relieves the most.
#[derive(Debug, Clone, Copy, Default)]
pub struct FewestMoves;

impl VmSelector for FewestMoves {
    fn name(&self) -> &str {
        "fewest-moves"
    }

    fn rank(&self, vm: &Candidate<'_>, hot: &Hot, view: &View<'_>) -> f64 {
        let cfg = &view.site().migration.hotspot;
        let threshold = match hot.place {
            Place::Server(_) => cfg.server,
            Place::Link(_) => cfg.link,
        };
        let too_much = hot.ratio - threshold * cfg.cool;
        let over = vm.relief - too_much;
        // What is enough ranks from 0 upwards. What is not comes behind all of that, the largest
        // first.
        if over >= 0.0 { over } else { f64::MAX / (1.0 + vm.relief) }
    }
}
