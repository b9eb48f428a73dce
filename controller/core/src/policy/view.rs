//! What a policy may see of the data centre.

use tandem_model::{
    BitRate, GroupRecord, Hop, LinkId, Resources, ServerId, Site, SwitchId, Time, VmId, VmRecord,
};

/// A link as a policy sees it, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopView {
    /// What VMs on it have reserved, in bit/s.
    pub reserved: BitRate,
    /// What is measured on it, smoothed, in bit/s.
    pub measured: BitRate,
    /// What it has left: its capacity times the margin, less the larger of the other two; `None`
    /// while it must not be used.
    pub left: Option<BitRate>,
}

/// The data centre at the moment of a decision. It only looks: what a policy wants is in its
/// answer, and the core admits it or does not.
pub trait PlacementView {
    /// Now, by the core's clock, which never goes back.
    fn now(&self) -> Time;

    /// The site: topology and configuration.
    fn site(&self) -> &Site;

    /// All servers that get VMs, in order of id. O(n).
    fn servers(&self) -> Vec<ServerView>;

    /// One server. O(1).
    fn server(&self, id: ServerId) -> Option<ServerView>;

    /// The edge switch of a server's first uplink. O(1).
    fn edge_of(&self, server: ServerId) -> Option<SwitchId>;

    /// A hop of a link. O(1).
    fn hop(&self, hop: Hop) -> HopView;

    /// The larger of reserved and measured over what a link may carry, in its busier direction; 1
    /// is full. O(1).
    fn link_load(&self, link: LinkId) -> f64;

    /// How full an edge switch's links to other switches are: the mean of their loads, 0 where it
    /// has none. O(its links).
    fn edge_load(&self, edge: SwitchId) -> f64;

    /// How full the fullest link of the default path between an edge switch and its nearest gateway
    /// is; 1 where it reaches none. O(hops).
    fn path_load(&self, edge: SwitchId) -> f64;

    /// How full a switch is: the larger of reserved and measured, over all that it sends, over the
    /// sum of its links' rates (times `switch_margin`, where the site has one). O(1).
    fn switch_load(&self, switch: SwitchId) -> f64;

    /// What a switch may send more, in bit/s, as much as there is where it has no limit of its own;
    /// a VM takes it twice, on its way up and on its way down. `None` while the switch must not be
    /// used. O(1).
    fn switch_left(&self, switch: SwitchId) -> Option<BitRate>;

    /// CPU cores that a server uses, as its hypervisor measures it; `None` where nobody tells.
    /// O(log n).
    fn cpu_load(&self, server: ServerId) -> Option<f64>;

    /// A VM. O(log n).
    fn vm(&self, id: VmId) -> Option<&VmRecord>;

    /// All VMs, in order of id. O(n).
    fn vms(&self) -> Vec<&VmRecord>;

    /// All groups, in order of id. O(n).
    fn groups(&self) -> Vec<&GroupRecord>;
}

/// What a policy sees of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerView {
    /// The server's id.
    pub id: ServerId,
    /// What it has for VMs, safety margin included.
    pub capacity: Resources,
    /// What its VMs have reserved.
    pub used: Resources,
}

impl ServerView {
    /// One, as the fit scalar counts it.
    pub const FULL: u64 = 1 << 24;

    /// The fit scalar: the share of the most-used resource, from 0 to [`ServerView::FULL`]. A
    /// resource that the server does not have does not count.
    pub fn share(&self) -> u64 {
        let of = |used: u64, capacity: u64| {
            if capacity == 0 {
                return 0;
            }
            let scaled = u128::from(used) * u128::from(Self::FULL) / u128::from(capacity);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        of(u64::from(self.used.cpu), u64::from(self.capacity.cpu))
            .max(of(self.used.ram.0, self.capacity.ram.0))
            .max(of(self.used.disk.0, self.capacity.disk.0))
            .max(of(self.used.net.0, self.capacity.net.0))
    }

    /// What is left for VMs.
    pub fn free(&self) -> Resources {
        self.capacity.minus(self.used)
    }
}
