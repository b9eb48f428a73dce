//! Ports that change their state too often. A few changes count at once, as they come. After that
//! the port is damped: that it is down counts at once, that it is up counts when it has kept still
//! for a pause, which doubles with each time. So the last state always wins, within
//! [`LONGEST_PAUSE`] of the last change, and whatever a switch says, links and routes are computed
//! anew only as often as the allowances here let them.
//!
//! What is kept is bounded by the ports that are declared or were there when the switch connected.

use crate::network::access_ports::PortKey;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::rate_limit::KeyedRateLimiter;
use tandem_model::{PortInfo, PortNo, SwitchId, Time};

/// Changes of a port a minute that count at once: a cable that is pulled and plugged in again makes
/// two.
pub(crate) const PORT_CHANGES: u32 = 6;

/// The same for all ports of a switch together: what a switch with a few line cards may lose and
/// get back at once.
pub(crate) const SWITCH_CHANGES: u32 = 256;

pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// How long a damped port keeps still until it is up, at first and at most.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);

pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Ports that a switch may have beyond those that were declared or there when it connected: people
/// plug things in.
pub(crate) const MORE_PORTS: usize = 64;

/// A port that is damped.
#[derive(Debug, Clone)]
pub(crate) struct Damped {
    /// What it said last, and that it is gone.
    pub(crate) last: (PortInfo, bool),
    pub(crate) pause: Duration,
    /// Changes since it was last still.
    pub(crate) changes: u64,
    pub(crate) settled: Option<Time>,
}

/// How much each port has flapped, and which ports are damped.
#[derive(Debug, Clone)]
pub(crate) struct PortDamping {
    pub(crate) ports: KeyedRateLimiter<PortKey>,
    pub(crate) switches: KeyedRateLimiter<SwitchId>,
    pub(crate) damped: BTreeMap<(SwitchId, PortNo), Damped>,
}

impl PortDamping {
    pub(crate) fn new(ports: usize, switches: usize, now: Time) -> PortDamping {
        PortDamping {
            ports: KeyedRateLimiter::new(PORT_CHANGES, PERIOD, ports, now),
            switches: KeyedRateLimiter::new(SWITCH_CHANGES, PERIOD, switches, now),
            damped: BTreeMap::new(),
        }
    }

    /// How many ports of a switch are damped that it does not have.
    pub(crate) fn waiting(&self, switch: SwitchId, ports: &BTreeMap<PortNo, PortInfo>) -> usize {
        let all = (switch, PortNo(0))..=(switch, PortNo(u32::MAX));
        self.damped.range(all).filter(|((_, port), _)| !ports.contains_key(port)).count()
    }

    /// A switch has told all its ports anew: what was held back of them is void. Allowances stay.
    pub(crate) fn forget_switch(&mut self, switch: SwitchId) -> Vec<PortNo> {
        let all = (switch, PortNo(0))..=(switch, PortNo(u32::MAX));
        let ports: Vec<PortNo> = self.damped.range(all).map(|((_, port), _)| *port).collect();
        ports.iter().for_each(|port| drop(self.damped.remove(&(switch, *port))));
        ports
    }
}
