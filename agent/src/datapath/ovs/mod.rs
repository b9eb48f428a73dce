//! Open vSwitch: bridges and ports by OVSDB, queues and classes by the kernel's HTB.

mod datapath;
mod takeover_outage;

pub use datapath::Ovs;
pub(super) use datapath::ports_there;
