//! What is looked at of a packet that some machine has sent, and how a forged one is reported.

use crate::network::access_ports::{Behind, PortKey};
use crate::network::host_tracker::{HostKind, Place};
use crate::network::{NetworkMut, NetworkRef};
use std::net::Ipv4Addr;
use tandem_model::{Dpid, Mac, PortNo};

/// Names in a notice about a port; a server may have hundreds of VMs.
const NAMED: usize = 4;

impl<'a> NetworkRef<'a> {
    /// Who sends with whose addresses, and who may send there.
    pub(crate) fn spoofed_text(
        self,
        at: Place,
        (mac, mac_of): (Mac, Option<HostKind>),
        (ip, ip_of): (Ipv4Addr, Option<HostKind>),
    ) -> String {
        let owner = |of: Option<HostKind>| of.map_or_else(|| "nobody".to_owned(), |k| self.cx.host_name(k));
        let what = match (mac_of, ip_of) {
            (None, None) => format!("{ip} with the Ethernet address {mac}, which no machine has there"),
            (a, b) if a == b => format!("{ip}, {mac}: both are of {}, which is not there", owner(a)),
            (a, b) => format!("{ip} of {} with the Ethernet address {mac} of {}", owner(b), owner(a)),
        };
        let place = self.cx.port_name(at.0, at.1);
        let who = self.who_is_at(at);
        format!("somebody at {place} ({who}) sends as {what}; it is not believed and reaches nobody")
    }

    /// Who may send at a port, as text.
    pub(crate) fn who_is_at(self, at: Place) -> String {
        let mut names: Vec<String> = match self.net.access.behind(at.0, at.1) {
            Behind::Servers(servers) => {
                servers.iter().map(|s| self.cx.host_name(HostKind::Server(*s))).collect()
            }
            Behind::Gateways(gateways) => {
                gateways.iter().map(|g| self.cx.host_name(HostKind::Gateway(*g))).collect()
            }
            Behind::Switches | Behind::Unknown => Vec::new(),
        };
        let there = self.net.hosts.iter().filter(|(_, h)| h.expected.contains(&at)).map(|(_, h)| h.kind);
        names.extend(there.filter(|k| matches!(k, HostKind::Vm(_))).map(|k| self.cx.host_name(k)));
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        match (names.is_empty(), more) {
            (true, _) => "a port that the site does not declare".to_owned(),
            (false, 0) => format!("the port of {}", names.join(", ")),
            (false, more) => format!("the port of {} and {more} more", names.join(", ")),
        }
    }
}

impl NetworkMut<'_> {
    /// The place of a packet that is looked at: at a switch that the site knows, at a port that has
    /// not sent too many.
    pub(crate) fn looked_at(&mut self, dpid: Dpid, port: PortNo) -> Option<Place> {
        let switch = self.net.live.id(dpid)?;
        let key: PortKey = self.net.access.key(switch, port);
        self.may_cost(key).then_some((switch, port))
    }
}
