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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn network(more: &str, shaped: bool) -> Value {
        let text = format!(
            "name = \"m\"\n[topology]\nshape = \"three-tier\"\ncore = 2\naggregation = 1\nedge = 1\nservers_per_edge = 1\n\
             gateways = 1\ncore_gateway_links = 1\n[bandwidth]\nedge = \"2.5 Mbit/s\"\n{more}"
        );
        let site = tandem_model::site::read(&text, "the test's site").expect("a site");
        let controller = Controller { ip: Ipv4Addr::LOCALHOST, port: 6653 };
        let protocols = ["OpenFlow10".to_owned(), "OpenFlow13".to_owned()];
        let network = Network::of(&site, &protocols, Datapath::Userspace, shaped, Some(controller));
        assert_eq!(network.size(), 2 * site.topology.links.len() + 2 + site.topology.switches.len());
        serde_json::to_value(network).expect("JSON")
    }

    fn link_of<'a>(network: &'a Value, node: &str) -> &'a Value {
        let links = network["links"].as_array().expect("links");
        let has = |l: &&Value| l["ends"].as_array().is_some_and(|e| e.iter().any(|e| e["node"] == node));
        links.iter().find(has).expect("a link of the node")
    }

    fn end(link: &Value, is_host: bool) -> &Value {
        let ends = link["ends"].as_array().expect("ends");
        ends.iter().find(|e| e["host"] == is_host).expect("an end")
    }

    #[test]
    fn mininet_is_told_the_sites_names_ports_and_addresses() {
        let network = network("", true);
        assert_eq!(network["protocols"], "OpenFlow10,OpenFlow13");
        assert_eq!((&network["datapath"], &network["controller"]["port"]), (&json!("user"), &json!(6653)));
        let link = link_of(&network, "srv1");
        assert_eq!(link["shape"], json!({ "bw": 2.5 }), "without netem, unless something is imitated");
        let server = end(link, true);
        assert_eq!((&server["interface"], &server["port"]), (&json!("eth0"), &json!(1)));
        assert!(server["mac"].is_string() && server["shaped"] == true, "{server}");
        let switch = end(link, false);
        assert!(switch["interface"].as_str().is_some_and(|i| i.starts_with("edge1-")), "{switch}");
        assert_eq!((&switch["shaped"], &switch["mac"]), (&json!(true), &Value::Null));
        // A gateway with two uplinks lives on a bridge, and has its MAC address at the first.
        let hosts = network["hosts"].as_array().expect("hosts");
        let of = |name: &str| hosts.iter().find(|h| h["name"] == name).expect("a host");
        assert_eq!(of("gw1")["address"], Value::Null);
        assert!(of("srv1")["address"].as_str().is_some_and(|a| a.contains('/')));
        let macs = network["links"]
            .as_array()
            .expect("links")
            .iter()
            .flat_map(|l| l["ends"].as_array().expect("ends"));
        assert_eq!(macs.filter(|e| e["node"] == "gw1" && e["mac"].is_string()).count(), 1);
    }

    /// The agent shapes the ports of a site with classes; what is imitated stays TCLink's.
    #[test]
    fn ports_are_shaped_by_one_of_both() {
        let agents = network("", false);
        let link = link_of(&agents, "srv1");
        assert_eq!((&end(link, false)["shaped"], &end(link, true)["shaped"]), (&json!(false), &json!(true)));
        let imitated = network("[links]\ndelay = \"2 ms\"\nloss = 0.01\nqueue = 70\n", false);
        let link = link_of(&imitated, "srv1");
        assert_eq!(end(link, false)["shaped"], true);
        assert_eq!(link["shape"]["delay"], "2000us");
        assert_eq!(link["shape"]["max_queue_size"], 70);
        assert!(link["shape"]["loss"].as_f64().is_some_and(|l| l > 0.0), "{link}");
    }
}
