//! `[addresses]`: the network, the edge switches' prefixes, the gateways and the DHCP server, none
//! in another's way.

use super::AddressPlan;
use super::faults::Collector;
use super::section::Section;
use crate::shapes::Size;
use crate::{Mac, Prefix};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The plan, and the length of an edge switch's prefix. What depends on the number of servers waits
/// for the shape.
pub(super) fn read_addresses(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    shape: Option<Size>,
) -> (Option<AddressPlan>, u8) {
    let mut a = root.section(c, "addresses");
    let prefix = "a prefix with its host bits zero, such as \"10.0.0.0/8\"";
    let address = "an address such as \"10.255.255.254\"";
    let default = Prefix::new(Ipv4Addr::new(10, 0, 0, 0), 8);
    let network: Option<Prefix> = if a.has("network") {
        a.parsed(c, "network", prefix)
    } else {
        a.get(c, "network", |_| Ok(()));
        default
    };
    let per_edge = shape.map_or(0, |s| s.servers_per_edge);
    let servers_per_prefix = a.count(c, "servers_per_prefix", 0..=65534).unwrap_or(per_edge.max(1));
    if servers_per_prefix < per_edge {
        let problem =
            format!("{per_edge} servers of an edge switch do not fit in {servers_per_prefix} addresses");
        a.fault(c, "servers_per_prefix", problem, format!("write at least {per_edge}"));
    }
    // Room for the servers, 64 VMs each, and the first and last address; at least a /24.
    let wanted = (u64::from(servers_per_prefix) * 65 + 2).next_power_of_two().max(256);
    let default_len = 32 - wanted.trailing_zeros();
    let prefix_len = a.count(c, "prefix_len", 8..=30).unwrap_or(default_len) as u8;
    let last_block = network.and_then(|n| {
        let count = u64::from(shape.map_or(1, |s| s.gateways)) + 3;
        let len = 32 - count.next_power_of_two().max(256).trailing_zeros() as u8;
        Prefix::new(n.last(), len.max(n.len()))
    });
    let gateways: Option<Prefix> = if a.has("gateways") {
        a.parsed(c, "gateways", prefix)
    } else {
        a.get(c, "gateways", |_| Ok(()));
        last_block
    };
    let dhcp_default = gateways.and_then(|g| g.nth(g.size().saturating_sub(2)));
    let dhcp: Option<Ipv4Addr> = if a.has("dhcp") {
        a.parsed(c, "dhcp", address)
    } else {
        a.get(c, "dhcp", |_| Ok(()));
        dhcp_default
    };
    let texts = a.texts(c, "dns").unwrap_or_default();
    let mut dns = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(ip) => dns.push(ip),
            Err(_) => a.fault(
                c,
                "dns",
                format!("{text:?} is not an address"),
                "write [\"9.9.9.9\"], or leave it out",
            ),
        }
    }
    let lease = a.duration(c, "lease").unwrap_or(Duration::from_secs(3600));
    if lease < Duration::from_secs(30) || lease > Duration::from_secs(u64::from(u32::MAX) - 1) {
        a.fault(c, "lease", format!("{lease:?} is out of range"), "write a lease of at least \"30 s\"");
    }
    let plan = match (network, gateways, dhcp) {
        (Some(network), Some(gateways), Some(dhcp)) => {
            if a.has("network") && !usable_by_machines(network) {
                let problem = format!("machines cannot have addresses of {network}");
                a.fault(c, "network", problem, "write a unicast network, such as \"10.0.0.0/8\"");
            }
            if !network.covers(gateways) {
                let problem = format!("the gateways' prefix {gateways} is not inside the network {network}");
                a.fault(c, "gateways", problem, "write a prefix inside it, at its end");
            }
            let taken =
                (0..u64::from(shape.map_or(0, |s| s.gateways))).any(|n| gateways.nth(n + 1) == Some(dhcp));
            if !network.contains(dhcp) || taken || dhcp == network.last() || dhcp == network.address() {
                let problem =
                    format!("{dhcp} cannot be the DHCP server's: it is outside {network} or somebody else's");
                a.fault(
                    c,
                    "dhcp",
                    problem,
                    "write a free address of the network, such as the gateways' last but one",
                );
            }
            if gateways.size() < u64::from(shape.map_or(0, |s| s.gateways)) + 3 {
                a.fault(
                    c,
                    "gateways",
                    format!("{gateways} has no room for all gateways"),
                    "write a shorter prefix length",
                );
            }
            let dhcp_mac = Mac([0x02, 0x02, 0, 0, 0, 1]);
            Some(AddressPlan { network, gateways, servers_per_prefix, dhcp, dhcp_mac, dns, lease })
        }
        _ => None,
    };
    a.finish(c);
    (plan, prefix_len)
}

/// Neither this network (RFC 1122 3.2.1.3: 0.0.0.0/8, 127.0.0.0/8), nor multicast (RFC 5771), nor
/// reserved (RFC 1112 section 4).
fn usable_by_machines(network: Prefix) -> bool {
    [[0, 8], [127, 8], [224, 3]].iter().all(|[first, len]| {
        Prefix::new(Ipv4Addr::new(*first, 0, 0, 0), *len).is_none_or(|special| !special.overlaps(network))
    })
}

/// The edges' prefixes must fit into the network beside the gateways.
pub(super) fn check_room(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    shape: Size,
    plan: &AddressPlan,
    prefix_len: u8,
) {
    let a = root.section(c, "addresses");
    let network = plan.network;
    let gateways = plan.gateways;
    let size = 1u64 << (32 - u32::from(prefix_len));
    if u64::from(plan.servers_per_prefix) + 2 >= size {
        let problem =
            format!("a /{prefix_len} has no room for VMs beside {} servers", plan.servers_per_prefix);
        a.fault(c, "prefix_len", problem, "write a shorter prefix length, such as 24");
    }
    let needed = size.saturating_mul(shape.edges);
    let start = u64::from(network.address().to_bits());
    let clash = needed > network.size()
        || (u64::from(gateways.last().to_bits()) >= start
            && u64::from(gateways.address().to_bits()) < start + needed);
    if prefix_len < network.len() || clash {
        let problem = format!(
            "{} prefixes of length {prefix_len} do not fit into {network} beside the gateways' {gateways}",
            shape.edges
        );
        a.fault(
            c,
            if a.has("prefix_len") { "prefix_len" } else { "network" },
            problem,
            "write a larger network or a longer prefix length",
        );
    }
    let dhcp = u64::from(plan.dhcp.to_bits());
    if dhcp >= start && dhcp < start + needed {
        a.fault(
            c,
            "dhcp",
            format!("{} lies in an edge switch's prefix", plan.dhcp),
            "write an address after the edges' prefixes",
        );
    }
}
