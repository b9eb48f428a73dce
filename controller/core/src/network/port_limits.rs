//! What frames and messages of one switch port may cost: events that are looked at, and notices.
//!
//! Machines, and switches too, can send anything as often as they like. Each port has its own
//! allowance, so that none takes another's, and all undeclared ports of a switch have one together;
//! of each kind of notice there is one per port and minute.

use crate::network::access_ports::PortKey;
use std::time::Duration;
use tandem_model::Time;
use tandem_model::rate_limit::KeyedRateLimiter;

/// ARP, DHCP and other packets per port and second that are looked at. A gateway that has just
/// started asks for some hundreds of machines at once; a server with a hundred VMs is far below.
pub(crate) const HOST_EVENTS: u32 = 1000;

/// What is said of a port at most once a minute each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PortNotice {
    Spoofed,
    UnknownHost,
    TooManyUnknown,
    Declined,
    Flapping,
    UnknownPorts,
    Miswired,
    UnknownLink,
}

impl PortNotice {
    pub(crate) const KINDS: usize = 8;

    pub(crate) fn kind(self) -> &'static str {
        match self {
            PortNotice::Spoofed => "spoofed",
            PortNotice::UnknownHost => "host-unknown",
            PortNotice::TooManyUnknown => "hosts-too-many",
            PortNotice::Declined => "dhcp-declined",
            PortNotice::Flapping => "port-flapping",
            PortNotice::UnknownPorts => "ports-too-many",
            PortNotice::Miswired => "link-miswired",
            PortNotice::UnknownLink => "link-unknown",
        }
    }
}

/// What each switch port may still cost: events that are looked at, and notices.
#[derive(Debug, Clone)]
pub(crate) struct PortAllowances {
    pub(crate) events: KeyedRateLimiter<PortKey>,
    pub(crate) notices: KeyedRateLimiter<(PortKey, PortNotice)>,
}

impl PortAllowances {
    pub(crate) fn new(ports: usize, now: Time) -> PortAllowances {
        let second = Duration::from_secs(1);
        PortAllowances {
            events: KeyedRateLimiter::new(HOST_EVENTS, second, ports, now),
            notices: KeyedRateLimiter::new(1, second * 60, ports * PortNotice::KINDS, now),
        }
    }
}
