//! A site as Mininet is told of it: what `driver.py` reads.

use crate::world::emulated::agents::is_imitated;
use crate::world::emulated::network::{HostSpec, host_specs, port_name, uplink_name};
use serde::Serialize;
use std::net::Ipv4Addr;
use tandem_linux::ovs::Datapath;
use tandem_model::{Endpoint, LinkConfig, NodeId, PortNo, Site};

/// The class into which TCLink shapes (mininet/link.py, `TCIntf.bwCmds`): 5:1.
pub const CLASS: (u16, u16) = (5, 1);

/// What Mininet makes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    hosts: Vec<Host>,
    switches: Vec<Switch>,
    links: Vec<Link>,
    /// OpenFlow versions, in OVS's words.
    protocols: String,
    /// `user` or `kernel`.
    datapath: &'static str,
    controller: Option<Controller>,
}

/// Where Mininet's switches find their controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Controller {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Host {
    name: String,
    /// With its prefix's length; none where it is on a bridge that is not Mininet's.
    address: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Switch {
    name: String,
    dpid: String,
    legacy: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Link {
    ends: [End; 2],
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct End {
    node: String,
    port: u32,
    interface: String,
    mac: Option<String>,
    /// At a server or gateway.
    host: bool,
    /// TCLink shapes what is sent here.
    shaped: bool,
}

/// In the words of TCLink's parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Shape {
    /// Mbit/s.
    bw: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    /// Percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<f64>,
    /// Packets; Mininet has netem for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_queue_size: Option<u32>,
}

impl Shape {
    fn of(cfg: &LinkConfig) -> Shape {
        let imitated = is_imitated(cfg);
        Shape {
            bw: cfg.rate.0 as f64 / 1e6,
            delay: (!cfg.delay.is_zero()).then(|| format!("{}us", cfg.delay.as_micros())),
            loss: (cfg.loss_ppm > 0).then(|| f64::from(cfg.loss_ppm) / 1e4),
            max_queue_size: imitated.then_some(cfg.queue),
        }
    }
}

/// A host's address is Mininet's to set; but not that of a gateway with several uplinks, which are
/// ports of a bridge.
pub fn has_address(host: &HostSpec<'_>) -> bool {
    !matches!((host.node, host.uplinks), (NodeId::Gateway(_), [_, _, ..]))
}

impl Network {
    /// Of a site. `shaped`: TCLink shapes the ports of OpenFlow switches too; if not, their agent
    /// does, except where a link is delayed or loses packets.
    pub fn of(
        site: &Site,
        protocols: &[String],
        datapath: Datapath,
        shaped: bool,
        controller: Option<Controller>,
    ) -> Network {
        let t = &site.topology;
        let len = site.addresses.network.len();
        let specs = host_specs(site);
        let host = |host: &HostSpec<'_>| Host {
            name: host.name.to_owned(),
            address: has_address(host).then(|| format!("{}/{len}", host.address)),
        };
        let end = |end: Endpoint, cfg: &LinkConfig| {
            let node = t.name(end.node).to_owned();
            let port = end.port.0;
            if let NodeId::Switch(id) = end.node {
                let legacy = t.switch(id).is_some_and(|s| s.legacy);
                let interface = port_name(t, id, end.port);
                let shaped = shaped || legacy || is_imitated(cfg);
                return End { node, port, interface, mac: None, host: false, shaped };
            }
            let of_host = specs.iter().find(|h| h.node == end.node).filter(|_| end.port == PortNo(1));
            let mac = of_host.map(|h| h.mac.to_string());
            End { node, port, interface: uplink_name(end.port), mac, host: true, shaped: true }
        };
        let links = t
            .links
            .iter()
            .map(|l| Link { ends: [end(l.a, &l.cfg), end(l.b, &l.cfg)], shape: Shape::of(&l.cfg) });
        let switches = t.switches.iter().map(|s| Switch {
            name: s.name.clone(),
            dpid: s.dpid.to_string(),
            legacy: s.legacy,
        });
        Network {
            hosts: specs.iter().map(host).collect(),
            switches: switches.collect(),
            links: links.collect(),
            protocols: protocols.join(","),
            datapath: match datapath {
                Datapath::Kernel => "kernel",
                Datapath::Userspace => "user",
            },
            controller,
        }
    }

    /// Ends of links, and nodes.
    pub fn size(&self) -> usize {
        2 * self.links.len() + self.hosts.len() + self.switches.len()
    }
}
