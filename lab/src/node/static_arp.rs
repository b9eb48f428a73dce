//! Neighbours by hand, for a site whose controller answers no ARP: every server and gateway knows
//! all others, every VM knows the gateways and the other VMs, and they know it. That is a table
//! entry for each pair: n hosts have n * (n - 1).

use crate::node::hosts::{Host, Hosts};
use crate::node::vms::{BRIDGE, ETH0};
use anyhow::Context;
use std::net::Ipv4Addr;
use tandem_linux::link;
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::NetNs;

type Neighbour = (Ipv4Addr, [u8; 6]);

/// The number of the interface that has a server's or gateway's address.
fn home(host: &Host, is_server: bool) -> Option<u32> {
    match &host.uplinks[..] {
        // A server lives on its first bridge, since its VMs need one.
        [(port, _), ..] if is_server => Some(BRIDGE + port.0.saturating_sub(1)),
        [(_, own)] => Some(*own),
        [] => None,
        _ => Some(crate::world::emulated::network::BRIDGE),
    }
}

fn tell(ns: &NetNs, interface: u32, neighbours: impl Iterator<Item = Neighbour>) -> anyhow::Result<()> {
    let requests: Vec<Request> = neighbours.map(|(ip, mac)| link::neighbour(interface, ip, mac)).collect();
    Ok(ns.run(|| Netlink::open()?.batch(&requests))??)
}

/// Lets all servers and gateways know each other.
///
/// # Errors
/// When the kernel refuses.
pub fn hosts(hosts: &Hosts) -> anyhow::Result<()> {
    hosts.settle()?;
    let all = || hosts.servers.iter().map(|h| (h, true)).chain(hosts.gateways.iter().map(|h| (h, false)));
    for (host, is_server) in all() {
        let Some(interface) = home(host, is_server) else { continue };
        let others = all().map(|(h, _)| (h.address, h.mac)).filter(|(ip, _)| *ip != host.address);
        tell(&host.ns, interface, others).with_context(|| format!("neighbours of {}", host.name))?;
    }
    Ok(())
}

/// Lets a VM that was just started know the gateways and the other VMs, and them know it.
///
/// # Errors
/// When the kernel refuses.
pub fn vm(hosts: &Hosts, id: u64, mac: [u8; 6], address: Ipv4Addr) -> anyhow::Result<()> {
    let others = hosts.know_vm(id, mac, address);
    let own = hosts.place(&format!("vm{id}")).with_context(|| format!("there is no vm{id}"))?;
    let gateways = hosts.gateways.iter().map(|g| (g.address, g.mac));
    tell(&own, ETH0, gateways.chain(others.iter().map(|(_, n)| *n)))?;
    for gateway in &hosts.gateways {
        let Some(interface) = home(gateway, false) else { continue };
        tell(&gateway.ns, interface, std::iter::once((address, mac)))?;
    }
    for (other, _) in others {
        // One that has ended meanwhile needs to know nobody.
        let Some(ns) = hosts.place(&format!("vm{other}")) else { continue };
        tell(&ns, ETH0, std::iter::once((address, mac)))?;
    }
    Ok(())
}
