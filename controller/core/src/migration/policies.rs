//! Migration policies: when it is time to move VMs, which ones, where to, and by which path. Each
//! is a small trait, and a site file names one of each in `[migration]`. A folder each has those
//! that there are: `detectors`, `selectors`, `destinations`, `transfer_paths`. One of your own is a
//! few lines:
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
//!     fn name(&self) -> &str {
//!         "youngest-first"
//!     }
//!
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
use crate::policy::view::ServerView;
use serde::{Deserialize, Serialize};
use tandem_model::{
    BitRate, Hop, HotPlace, LinkId, Resource, ServerId, Site, SiteEvent, Time, VmId, VmRecord,
};

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
    /// Its name in `[migration] detector`.
    fn name(&self) -> &str;

    /// Takes what the site file says for it. Called once, before anything else is asked.
    fn configure(&mut self, _site: &Site) {}

    /// Something has happened: as [`RoutingPolicy::on_event`], before the next decision.
    ///
    /// [`RoutingPolicy::on_event`]: crate::policy::routing::RoutingPolicy::on_event
    fn on_event(&mut self, _event: &SiteEvent, _view: &View<'_>) {}

    /// What a place is to be taken for from now on.
    fn heat(&self, watched: &ResourceSeries<'_>, view: &View<'_>) -> HotspotState;
}

/// A server or link that is too hot, or expected to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hot {
    /// The server or link.
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
    /// Its name in `[migration] selector`.
    fn name(&self) -> &str;

    /// Takes what the site file says for it. Called once, before anything else is asked.
    fn configure(&mut self, _site: &Site) {}

    /// Something has happened: as [`RoutingPolicy::on_event`], before the next decision.
    ///
    /// [`RoutingPolicy::on_event`]: crate::policy::routing::RoutingPolicy::on_event
    fn on_event(&mut self, _event: &SiteEvent, _view: &View<'_>) {}

    /// Its place in the order: the lowest rank goes first; of equal ones the lowest id.
    fn rank(&self, vm: &Candidate<'_>, hot: &Hot, view: &View<'_>) -> f64;
}

/// Where does a VM go?
pub trait DestinationSelector: Send + Sync {
    /// Its name in `[migration] destination`.
    fn name(&self) -> &str;

    /// Takes what the site file says for it. Called once, before anything else is asked.
    fn configure(&mut self, _site: &Site) {}

    /// Something has happened: as [`RoutingPolicy::on_event`], before the next decision.
    ///
    /// [`RoutingPolicy::on_event`]: crate::policy::routing::RoutingPolicy::on_event
    fn on_event(&mut self, _event: &SiteEvent, _view: &View<'_>) {}

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
    /// Its name in `[migration] transfer_path`.
    fn name(&self) -> &str;

    /// Takes what the site file says for it. Called once, before anything else is asked.
    fn configure(&mut self, _site: &Site) {}

    /// Something has happened: as [`RoutingPolicy::on_event`], before the next decision.
    ///
    /// [`RoutingPolicy::on_event`]: crate::policy::routing::RoutingPolicy::on_event
    fn on_event(&mut self, _event: &SiteEvent, _view: &View<'_>) {}

    /// The lowest rank is taken; of equal ones the one with the lowest link ids.
    fn rank(&self, way: &Way<'_>, view: &View<'_>) -> f64;
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
