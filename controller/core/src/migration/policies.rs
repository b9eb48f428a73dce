//! Migration policies: when it is time to move VMs, which ones, where to, and by which path. Each
//! is a small trait with a default, and a [`Policy`] is the four of them beside the allocation
//! policy. One of your own is a few lines:
//!
//! ```
//! use tandem_core::migration::policies::{Candidate, Hot, View, VmSelector};
//! use tandem_core::policy::BestFit;
//! use tandem_core::{Core, Policy};
//! use tandem_model::{PersistedState, Time, site};
//!
//! /// Moves the youngest VMs away from a hot place: they have been promised the least.
//! struct YoungestFirst;
//!
//! impl VmSelector for YoungestFirst {
//!     fn rank(&self, vm: &Candidate<'_>, _hot: &Hot, _view: &View<'_>) -> f64 {
//!         -vm.record.placed_at.as_secs_f64()
//!     }
//! }
//!
//! let site = site::read("[topology]\nshape = \"three-tier\"\n", "site.toml")?;
//! let policy = Policy { which: Box::new(YoungestFirst), ..Policy::new(Box::new(BestFit)) };
//! let core = Core::with_policy(site.into(), PersistedState::default(), Time::from_secs(1), policy);
//! # assert!(core.next_deadline().is_some());
//! # Ok::<(), site::Faults>(())
//! ```
//!
//! A policy only says what it would like: the core moves nothing to a server without room, out of
//! service or that would get hot by it.

use crate::compute::ComputeRef;
use crate::compute::host_load::LoadView;
use crate::compute::inventory::Inventory;
use crate::migration::trend::ahead;
use crate::policy::allocation::AllocationPolicy;
use crate::policy::allocation_policies::best_fit::BestFit;
use crate::policy::registry;
use crate::policy::routing::RoutingPolicy;
use crate::policy::routing_policies::default_first::DefaultFirst;
use crate::policy::view::ServerView;
use serde::{Deserialize, Serialize};
use tandem_model::{BitRate, Hop, HotPlace, LinkId, Resource, ServerId, Site, Time, VmId, VmRecord};

/// The data centre as a policy sees it: as it is, or, while a plan is made, as it will be after the
/// moves so far.
pub struct View<'a> {
    pub(crate) compute: ComputeRef<'a>,
    pub(crate) inventory: &'a Inventory,
}

impl<'a> View<'a> {
    /// Now.
    pub fn now(&self) -> Time {
        self.compute.cx.now
    }

    /// The site: topology and configuration.
    pub fn site(&self) -> &'a Site {
        &self.compute.cx.site
    }

    /// All servers with what is reserved on them, in order of id.
    pub fn servers(&self) -> &'a [ServerView] {
        self.inventory.servers()
    }

    /// True for a server that gets no more VMs.
    pub fn is_drained(&self, server: ServerId) -> bool {
        self.inventory.is_drained(server)
    }

    /// What a server uses, as its hypervisor measures it.
    pub fn server_load(&self, server: ServerId) -> Option<LoadView> {
        self.compute.server_load(server)
    }

    /// All VMs, in order of id, where they are now.
    pub fn vms(&self) -> impl Iterator<Item = &'a VmRecord> {
        self.compute.vms()
    }

    /// What a VM uses, as its hypervisor measures it.
    pub fn vm_load(&self, vm: VmId) -> Option<LoadView> {
        self.compute.vm_load(vm)
    }

    /// Measured over capacity, the busier direction.
    pub fn link_ratio(&self, link: LinkId) -> f64 {
        self.compute.net.links.ratio(link)
    }
}

/// How warm a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HotspotState {
    /// Nothing is to be done.
    Cool,
    /// It is expected to get hot.
    Expected,
    /// Too much of it is in use.
    Hot,
}

/// The last samples of a resource of one place.
#[derive(Debug)]
pub struct ResourceSeries<'a> {
    /// Which server or link.
    pub place: Place,
    /// Which resource of it.
    pub resource: Resource,
    /// When, and which share was in use, the latest last; at most `[hotspot] of`.
    pub samples: &'a [(Time, f64)],
    /// Above this share it counts as hot: `[hotspot] server` or `link`.
    pub threshold: f64,
    /// What it is taken for so far.
    pub so_far: HotspotState,
}

/// When is it time? Asked at every sample of a server or link.
pub trait HotspotDetector: Send + Sync {
    /// What a place is to be taken for from now on.
    fn heat(&self, watched: &ResourceSeries<'_>, view: &View<'_>) -> HotspotState;
}

/// A server or link that is too hot, or expected to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hot {
    /// Which.
    pub place: Place,
    /// Of what too much is in use.
    pub resource: Resource,
    /// Which share, 0 to 1 and above; of an expected one: what the trend comes to.
    pub ratio: f64,
    /// Only expected.
    pub expected: bool,
}

/// A VM that could be moved away from a hot place.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// All that is decided of it.
    pub record: &'a VmRecord,
    /// Share of its server's CPU that it uses, 0 to 1; as measured, else as reserved. The next two
    /// likewise.
    pub cpu: f64,
    /// Share of its server's memory.
    pub ram: f64,
    /// Share of its server's network, the busier direction.
    pub net: f64,
    /// By how much the hot place's ratio falls without it; above 0.
    pub relief: f64,
}

/// Which VM leaves a hot place first?
pub trait VmSelector: Send + Sync {
    /// Its place in the order: the lowest rank goes first; of equal ones the lowest id.
    fn rank(&self, vm: &Candidate<'_>, hot: &Hot, view: &View<'_>) -> f64;
}

/// Where does a VM go?
pub trait DestinationSelector: Send + Sync {
    /// Servers to try, in this order; `None` leaves it to the allocation policy.
    fn order(&self, _vm: &VmRecord, _view: &View<'_>) -> Option<Vec<ServerId>> {
        None
    }

    /// For keep-policy: where all VMs should be, thought out as a whole; `None` takes each away and
    /// asks the allocation policy again. The core finds an order in which no server is overfilled
    /// at any step; VMs in a ring wait on a free server in between.
    fn assign(&self, _view: &View<'_>) -> Option<Vec<(VmId, ServerId)>> {
        None
    }
}

/// A way for a migration's own traffic.
#[derive(Debug)]
pub struct Way<'a> {
    /// From the old server to the new one.
    pub hops: &'a [Hop],
    /// What its narrowest hop has left.
    pub free: BitRate,
    /// How full its fullest hop is: the larger of reserved and measured over what it may carry.
    pub load: f64,
}

/// By which path does a migration's own traffic go? Asked about the shortest ones.
pub trait TransferPathPolicy: Send + Sync {
    /// The lowest rank is taken; of equal ones the one with the lowest link ids.
    fn rank(&self, way: &Way<'_>, view: &View<'_>) -> f64;
}

/// The default of [`HotspotDetector`]: the Sandpiper rule (Wood et al., NSDI 2007, section 4.1), `[hotspot]
/// over` of the last `of` samples above the threshold and the latest one too. It is cool again once
/// the latest one is below the threshold times `cool`. Expected is what the least-squares line
/// through the last `of` samples brings above the threshold within `horizon`.
#[derive(Debug, Clone, Copy)]
pub struct OverThreshold;

impl HotspotDetector for OverThreshold {
    fn heat(&self, watched: &ResourceSeries<'_>, view: &View<'_>) -> HotspotState {
        let cfg = &view.site().migration.hotspot;
        let Some((_, latest)) = watched.samples.last().copied() else { return HotspotState::Cool };
        let above = watched.samples.iter().filter(|(_, ratio)| *ratio > watched.threshold).count();
        let cool = watched.threshold * cfg.cool;
        if latest > watched.threshold && above >= cfg.over as usize {
            return HotspotState::Hot;
        }
        if watched.so_far == HotspotState::Hot && latest >= cool {
            return HotspotState::Hot;
        }
        let full = watched.samples.len() >= cfg.of as usize;
        let ahead = ahead(watched.samples, cfg.horizon).filter(|_| full);
        let wanted = if watched.so_far == HotspotState::Expected { cool } else { watched.threshold };
        if ahead.is_some_and(|ratio| ratio > wanted) { HotspotState::Expected } else { HotspotState::Cool }
    }
}

/// The default of [`VmSelector`]: the least bytes sent per load relieved. The load is Sandpiper's
/// volume, `1/(1-cpu) 1/(1-net) 1/(1-ram)` (Wood et al., NSDI 2007, section 5), the bytes are the
/// VM's memory.
#[derive(Debug, Clone, Copy)]
pub struct LeastVolume;

impl VmSelector for LeastVolume {
    fn rank(&self, vm: &Candidate<'_>, _hot: &Hot, _view: &View<'_>) -> f64 {
        let free = |share: f64| (1.0 - share).clamp(0.01, 1.0);
        let volume = 1.0 / (free(vm.cpu) * free(vm.net) * free(vm.ram));
        vm.record.request.resources.ram.0 as f64 / volume
    }
}

/// The default of [`DestinationSelector`]: as the allocation policy places new VMs.
#[derive(Debug, Clone, Copy)]
pub struct AsAllocated;

impl DestinationSelector for AsAllocated {}

/// The default of [`TransferPathPolicy`]: of the shortest paths the one whose fullest hop is the least full.
#[derive(Debug, Clone, Copy)]
pub struct LeastLoaded;

impl TransferPathPolicy for LeastLoaded {
    fn rank(&self, way: &Way<'_>, _view: &View<'_>) -> f64 {
        way.load
    }
}

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
    /// What a site file names in its section `[policy]`. A name that nobody knows stands for the
    /// first of its kind: [`crate::site::read`] lets none pass.
    pub fn of_site(site: &Site) -> Policy {
        let allocation = registry::find(registry::ALLOCATION, &site.policy.allocation.0);
        let routing = registry::find(registry::ROUTING, &site.policy.routing.0);
        let policy = Policy::new(allocation.unwrap_or_else(|| Box::new(BestFit)));
        Policy { routing: routing.unwrap_or_else(|| Box::new(DefaultFirst)), ..policy }
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

/// What can be hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A server.
    Server(ServerId),
    /// A link.
    Link(LinkId),
}

impl From<Place> for HotPlace {
    fn from(place: Place) -> HotPlace {
        match place {
            Place::Server(id) => HotPlace::Server(id),
            Place::Link(id) => HotPlace::Link(id),
        }
    }
}
