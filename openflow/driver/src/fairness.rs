//! Limits the packets of a switch that go to the core to a rate shared fairly by its ports, so that
//! a machine that floods one port takes nothing from those at other ports.
//!
//! Half of the switch's rate is divided equally among the ports that it had when it connected.
//! Beyond its part, a port takes from the other half, first come, first served. Ports that appeared
//! later, and port numbers that the switch invents, share one part.

use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::rate_limit::RateLimiter;
use tandem_model::{PortNo, Time};

const SECOND: Duration = Duration::from_secs(1);

/// Limits the packets of a switch that go to the core, port by port.
#[derive(Debug, Clone)]
pub(crate) struct PacketRateLimiter {
    parts: BTreeMap<PortNo, RateLimiter>,
    later: RateLimiter,
    common: RateLimiter,
}

impl PacketRateLimiter {
    /// Limits to `total` packets a second, for a switch with these ports.
    pub(crate) fn new(total: u32, ports: &[PortNo], now: Time) -> PacketRateLimiter {
        let parts = u32::try_from(ports.len()).unwrap_or(u32::MAX).saturating_add(1);
        let part = (total / 2).checked_div(parts).unwrap_or(0);
        let limiter = || RateLimiter::new(part, SECOND, now);
        let common = total.saturating_sub(part.saturating_mul(parts));
        PacketRateLimiter {
            parts: ports.iter().map(|port| (*port, limiter())).collect(),
            later: limiter(),
            common: RateLimiter::new(common, SECOND, now),
        }
    }

    /// True when one more packet of a port may go to the core.
    pub(crate) fn take(&mut self, port: PortNo, now: Time) -> bool {
        self.parts.get_mut(&port).unwrap_or(&mut self.later).take(now) || self.common.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_at_one_port_leaves_the_others_their_parts() {
        let ports: Vec<PortNo> = (1..=48).map(PortNo).collect();
        let mut allowance = PacketRateLimiter::new(5000, &ports, Time::ZERO);
        let through = (0..1_000_000).filter(|_| allowance.take(PortNo(1), Time::ZERO)).count();
        let invented = (0..100_000).filter(|n| allowance.take(PortNo(100 + n), Time::ZERO)).count();
        assert!(through <= 2600 && invented <= 60, "{through} {invented}");
        for port in 2..=48 {
            let got = (0..50).filter(|_| allowance.take(PortNo(port), Time::ZERO)).count();
            assert_eq!(got, 50, "port {port}");
        }
        assert!(allowance.take(PortNo(1), Time::from_secs(1)));
    }
}
