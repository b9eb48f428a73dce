//! What frames and messages of one switch port may cost: events that are looked at, and notices.
//!
//! Machines, and switches too, can send anything as often as they like. Each port has its own allowance, so that none takes
//! another's, and all undeclared ports of a switch have one together; of each kind of notice there is one per port and minute.

use crate::access_ports::PortKey;
use crate::services::{NetworkMut, NetworkRef};
use std::time::Duration;
use tandem_model::rate_limit::{KeyedRateLimiter, Verdict};
use tandem_model::{Level, Time};

/// ARP, DHCP and other packets per port and second that are looked at. A gateway that has just started asks for some hundreds of
/// machines at once; a server with a hundred VMs is far below.
const HOST_EVENTS: u32 = 1000;

/// What is said of a port at most once a minute each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PortNotice {
    Spoofed,
    Stranger,
    TooManyStrangers,
    Declined,
    Flapping,
    UnknownPorts,
    Miswired,
    UnknownLink,
}

impl PortNotice {
    const KINDS: usize = 8;

    fn kind(self) -> &'static str {
        match self {
            PortNotice::Spoofed => "spoofed",
            PortNotice::Stranger => "host-unknown",
            PortNotice::TooManyStrangers => "hosts-too-many",
            PortNotice::Declined => "dhcp-declined",
            PortNotice::Flapping => "port-flapping",
            PortNotice::UnknownPorts => "ports-too-many",
            PortNotice::Miswired => "link-miswired",
            PortNotice::UnknownLink => "link-unknown",
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct PortAllowances {
    events: KeyedRateLimiter<PortKey>,
    notices: KeyedRateLimiter<(PortKey, PortNotice)>,
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

impl NetworkMut<'_> {
    /// True when one more packet of that port is looked at.
    pub(crate) fn may_cost(&mut self, port: PortKey) -> bool {
        self.net.allowances.events.take(port, self.cx.now)
    }

    /// A notice about a port, unless there was one of that kind within the minute.
    pub(crate) fn port_notice(
        &mut self,
        port: PortKey,
        notice: PortNotice,
        level: Level,
        text: impl FnOnce(NetworkRef<'_>) -> String,
    ) {
        let Verdict::Allowed { held_back } = self.net.allowances.notices.ask((port, notice), self.cx.now)
        else {
            return;
        };
        let mut text = text(self.network());
        if held_back > 0 {
            text.push_str(&format!(" ({held_back} more of this kind since the last notice)"));
        }
        self.cx.notice(level, notice.kind(), text);
    }
}
