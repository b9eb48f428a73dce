//! All policies of one core together: by the site's choice, or handed over by a program.

use crate::migration::destinations::as_allocated::AsAllocated;
use crate::migration::detectors::over_threshold::OverThreshold;
use crate::migration::policies::{DestinationSelector, HotspotDetector, TransferPathPolicy, VmSelector};
use crate::migration::registry::{DESTINATIONS, DETECTORS, SELECTORS, TRANSFER_PATHS};
use crate::migration::selectors::least_volume::LeastVolume;
use crate::migration::transfer_paths::least_loaded::LeastLoaded;
use crate::policy::allocation::AllocationPolicy;
use crate::policy::registry::{ALLOCATION, ROUTING, UnknownPolicy, named};
use crate::policy::routing::RoutingPolicy;
use crate::policy::routing_policies::default_first::DefaultFirst;
use tandem_model::Site;
use tandem_model::site::PolicyName;

/// All that decides: where new VMs go, and the four questions of migration.
pub struct Policy {
    /// Where new VMs go.
    pub allocation: Box<dyn AllocationPolicy>,
    /// Which path a VM's traffic takes.
    pub routing: Box<dyn RoutingPolicy>,
    /// When VMs are moved.
    pub when: Box<dyn HotspotDetector>,
    /// Which ones.
    pub which: Box<dyn VmSelector>,
    /// Where to.
    pub place: Box<dyn DestinationSelector>,
    /// By which path.
    pub path: Box<dyn TransferPathPolicy>,
}

impl Policy {
    /// What a site file names in its sections `[policy]` and `[migration]`.
    ///
    /// # Errors
    /// The first name that is in no table. [`crate::site::read`] lets none pass; a site that comes
    /// another way, such as out of a recording, may have one.
    pub fn of_site(site: &Site) -> Result<Policy, UnknownPolicy> {
        let (policy, migration) = (&site.policy, &site.migration);
        let allocation = named(ALLOCATION, "policy.allocation", &policy.allocation)?;
        let routing = match allocation.routing() {
            Some(name) if policy.routing.0.is_empty() => PolicyName(name.to_owned()),
            _ => policy.routing.clone(),
        };
        Ok(Policy {
            routing: named(ROUTING, "policy.routing", &routing)?,
            allocation,
            when: named(DETECTORS, "migration.detector", &migration.detector)?,
            which: named(SELECTORS, "migration.selector", &migration.selector)?,
            place: named(DESTINATIONS, "migration.destination", &migration.destination)?,
            path: named(TRANSFER_PATHS, "migration.transfer_path", &migration.transfer_path)?,
        })
    }

    /// An allocation policy, and the defaults of the rest.
    pub fn new(allocation: Box<dyn AllocationPolicy>) -> Policy {
        Policy {
            allocation,
            routing: Box::new(DefaultFirst),
            when: Box::new(OverThreshold),
            which: Box::new(LeastVolume),
            place: Box::new(AsAllocated),
            path: Box::new(LeastLoaded),
        }
    }

    /// Lets each take what the site file says for it.
    pub(crate) fn configured(mut self, site: &Site) -> Policy {
        self.allocation.configure(site);
        self.routing.configure(site);
        self.when.configure(site);
        self.which.configure(site);
        self.place.configure(site);
        self.path.configure(site);
        self
    }
}

impl From<Box<dyn AllocationPolicy>> for Policy {
    fn from(allocation: Box<dyn AllocationPolicy>) -> Policy {
        Policy::new(allocation)
    }
}

impl<P: AllocationPolicy + 'static> From<Box<P>> for Policy {
    fn from(allocation: Box<P>) -> Policy {
        Policy::new(allocation)
    }
}

/// The four of migration, as the core keeps them.
pub(crate) struct Parts {
    pub(crate) when: Box<dyn HotspotDetector>,
    pub(crate) which: Box<dyn VmSelector>,
    pub(crate) place: Box<dyn DestinationSelector>,
    pub(crate) path: Box<dyn TransferPathPolicy>,
}
