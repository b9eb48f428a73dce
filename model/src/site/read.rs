//! From the text of `site.toml` to a checked [`Site`], or to all of its faults at once.
//!
//! serde stops at the first fault, so the spanned table is walked by hand: every key is read, its default stands in for what is
//! wrong, and only then is the result used or thrown away.

use super::faults::{Collector, Faults};
use super::overrides::Lists;
use super::section::Section;
use super::{
    AddressPlan, Allocation, DiscoveryCfg, Modules, PolicyCfg, Site, StatisticsCfg, Ties, TrafficCfg, VmCfg,
};
use crate::shapes::{self, Common, FatTree, Linear, ThreeTier};
use crate::topology::{LinkCfg, NodeId, Resources, Topology};
use crate::{BitRate, Bytes, Direction, Mac, Prefix, SwitchId, Transport};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use toml::de::DeTable;

/// The most servers a site may have.
const MOST_SERVERS: u64 = 1_000_000;
/// The most ports a switch may have: OpenFlow 1.0 reserves numbers from 0xff00 on (OF 1.0 section 5.2.1).
const MOST_PORTS: usize = 0xfeff;

/// Reads and checks a site file.
///
/// # Errors
/// All faults, each with its line and column.
pub fn read(text: &str, file: &str) -> Result<Site, Faults> {
    let mut c = Collector::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        c.add(span, "", error.message().trim(), "correct the TOML (toml.io/en/v1.0.0)");
    }
    if !c.is_empty() {
        return Err(c.finish(file));
    }
    let mut root = Section::new("", 0..text.lines().next().unwrap_or("").len(), table.get_ref());
    let site = read_root(&mut root, &mut c);
    root.finish(&mut c);
    match site {
        Some(site) if c.is_empty() => Ok(site),
        _ => Err(c.finish(file)),
    }
}

fn read_root<'a>(root: &mut Section<'a>, c: &mut Collector<'_>) -> Option<Site> {
    let name = root.text(c, "name").unwrap_or_else(|| "site".to_owned());
    if name.is_empty()
        || name.len() > 32
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        root.fault(
            c,
            "name",
            format!("{name:?} cannot be a name"),
            "write up to 32 letters, digits, '-', '_' or '.'",
        );
    }
    let faults_before = c.len();
    let shape = read_shape(root, c);
    let (plan, prefix_len) = read_addresses(root, c, shape.as_ref());
    if let (Some(shape), Some(plan)) = (&shape, &plan) {
        check_room(root, c, shape, plan, prefix_len);
    }
    let buildable = c.len() == faults_before;
    let links = read_links(root, c);
    let (server, net_given) = read_server(root, c, links.edge.rate);
    let policy = read_policy(root, c);
    let statistics = read_statistics(root, c);
    let modules = read_modules(root, c);
    let discovery = read_discovery(root, c);
    let traffic = read_traffic(root, c);
    let vm = read_vm(root, c);
    let lists = Lists::read(root, c);
    let (shape, plan) = match (shape, plan) {
        (Some(shape), Some(plan)) if buildable => (shape, plan),
        _ => {
            // The keys of the lists are still checked, without a topology to check their names against.
            lists.apply(None, net_given, c);
            return None;
        }
    };
    let common = Common {
        gateway_link: links.gateway,
        core_link: links.core,
        aggregation_link: links.aggregation,
        edge_link: links.edge,
        server,
        network: plan.network,
        prefix_len,
        gateways: plan.gateways,
    };
    let topology = match shape {
        Shape::ThreeTier(s) => shapes::three_tier(s, &common),
        Shape::FatTree(s) => shapes::fat_tree(s, &common),
        Shape::Linear(s) => shapes::linear(s, &common),
    };
    let topology = lists.apply(Some(topology), net_given, c);
    check_topology(root, c, &topology);
    Some(Site { name, topology, addresses: plan, policy, statistics, modules, discovery, traffic, vm })
}

/// A shape with its counts.
#[derive(Debug, Clone, Copy)]
enum Shape {
    ThreeTier(ThreeTier),
    FatTree(FatTree),
    Linear(Linear),
}

impl Shape {
    fn edges(&self) -> u64 {
        u64::from(match self {
            Shape::ThreeTier(s) => s.edge,
            Shape::FatTree(s) => s.k * s.k / 2,
            Shape::Linear(s) => s.switches,
        })
    }

    fn servers_per_edge(&self) -> u32 {
        match self {
            Shape::ThreeTier(s) => s.servers_per_edge,
            Shape::FatTree(s) => s.servers_per_edge,
            Shape::Linear(s) => s.servers_per_switch,
        }
    }

    fn gateways(&self) -> u32 {
        match self {
            Shape::ThreeTier(s) => s.gateways,
            Shape::FatTree(s) => s.gateways,
            Shape::Linear(s) => s.gateways,
        }
    }
}

fn read_shape(root: &mut Section<'_>, c: &mut Collector<'_>) -> Option<Shape> {
    let mut t = root.section(c, "topology");
    if !t.has("shape") {
        t.get(c, "shape", |_| Ok(()));
        let instead = "write [topology] with shape = \"three-tier\", \"fat-tree\" or \"linear\"";
        t.fault(c, "shape", "the site has no shape", instead);
        return None;
    }
    let words = [("three-tier", 0), ("fat-tree", 1), ("linear", 2)];
    let shape = match t.word(c, "shape", &words) {
        Some(0) => {
            let core = t.count(c, "core", 1..=4096).unwrap_or(2);
            let aggregation = t.count(c, "aggregation", 0..=16384).unwrap_or(4);
            let above_edge = if aggregation == 0 { core } else { aggregation };
            let s = ThreeTier {
                gateways: t.count(c, "gateways", 1..=4096).unwrap_or(1),
                core,
                aggregation,
                edge: t.count(c, "edge", 1..=65536).unwrap_or(8),
                servers_per_edge: t.count(c, "servers_per_edge", 0..=4096).unwrap_or(2),
                core_gateway_links: t.count(c, "core_gateway_links", 1..=64).unwrap_or(1),
                aggregation_core_links: t.count(c, "aggregation_core_links", 1..=64).unwrap_or(core.min(2)),
                edge_aggregation_links: t
                    .count(c, "edge_aggregation_links", 1..=64)
                    .unwrap_or(above_edge.min(2)),
                server_uplinks: t.count(c, "server_uplinks", 1..=8).unwrap_or(1),
            };
            for (key, links, uppers) in [
                ("core_gateway_links", s.core_gateway_links, s.gateways),
                (
                    "aggregation_core_links",
                    s.aggregation_core_links.min(if s.aggregation == 0 { 1 } else { 64 }),
                    s.core,
                ),
                (
                    "edge_aggregation_links",
                    s.edge_aggregation_links,
                    if s.aggregation == 0 { s.core } else { s.aggregation },
                ),
                ("server_uplinks", s.server_uplinks, s.edge),
            ] {
                if links > uppers {
                    let problem =
                        format!("{links} links each, but there are only {uppers} nodes above to link to");
                    t.fault(c, key, problem, format!("write at most {uppers}"));
                }
            }
            Some(Shape::ThreeTier(s))
        }
        Some(1) => {
            let k = t.count(c, "k", 2..=128).unwrap_or(4);
            if !t.has("k") {
                t.fault(
                    c,
                    "k",
                    "a fat tree needs its number of ports per switch",
                    "write k = 4, or another even number",
                );
            }
            if k % 2 == 1 {
                t.fault(
                    c,
                    "k",
                    format!("{k} is odd: a fat tree has as many ports up as down"),
                    "write an even number",
                );
            }
            Some(Shape::FatTree(FatTree {
                k: k & !1,
                servers_per_edge: t.count(c, "servers_per_edge", 0..=4096).unwrap_or(k / 2),
                gateways: t.count(c, "gateways", 1..=4096).unwrap_or(1),
            }))
        }
        Some(_) => Some(Shape::Linear(Linear {
            switches: t.count(c, "switches", 1..=4096).unwrap_or(2),
            servers_per_switch: t.count(c, "servers_per_switch", 0..=4096).unwrap_or(1),
            gateways: t.count(c, "gateways", 1..=4096).unwrap_or(1),
        })),
        None => None,
    };
    if let Some(shape) = &shape {
        let servers = shape.edges() * u64::from(shape.servers_per_edge());
        if servers > MOST_SERVERS {
            t.fault(
                c,
                "shape",
                format!("{servers} servers are more than {MOST_SERVERS}"),
                "lower the counts",
            );
        }
        t.finish(c);
    }
    shape
}

struct Links {
    gateway: LinkCfg,
    core: LinkCfg,
    aggregation: LinkCfg,
    edge: LinkCfg,
}

fn read_links(root: &mut Section<'_>, c: &mut Collector<'_>) -> Links {
    let mut l = root.section(c, "links");
    let base = LinkCfg {
        rate: BitRate(0),
        delay: l.duration(c, "delay").unwrap_or_default(),
        loss_ppm: loss(&mut l, c).unwrap_or(0),
        queue: l.count(c, "queue", 1..=100_000).unwrap_or(50),
    };
    check_delay(&l, c, base.delay);
    l.finish(c);
    let mut b = root.section(c, "bandwidth");
    let mut level = |c: &mut Collector<'_>, key, default| {
        let rate = b.rate(c, key).unwrap_or(default);
        check_rate(&b, c, key, rate);
        LinkCfg { rate, ..base }
    };
    let edge = level(c, "edge", BitRate::mbit(10));
    let aggregation = level(c, "aggregation", BitRate::mbit(20));
    let core = level(c, "core", BitRate::mbit(40));
    let gateway = level(c, "gateway", BitRate::mbit(160));
    b.finish(c);
    Links { gateway, core, aggregation, edge }
}

/// Rates from 8 kbit/s (a byte per millisecond) to 4 Tbit/s.
pub(super) fn check_rate(s: &Section<'_>, c: &mut Collector<'_>, key: &str, rate: BitRate) {
    if s.has(key) && !(8_000..=4_000_000_000_000).contains(&rate.0) {
        s.fault(c, key, format!("{rate} is out of range"), "write a rate from 8 kbit/s to 4 Tbit/s");
    }
}

pub(super) fn check_delay(s: &Section<'_>, c: &mut Collector<'_>, delay: Duration) {
    if delay > Duration::from_secs(10) {
        s.fault(
            c,
            "delay",
            format!("{delay:?} is longer than 10 s"),
            "write a one-way delay, such as \"2 ms\"",
        );
    }
}

/// `loss` in percent, as parts per million.
pub(super) fn loss(s: &mut Section<'_>, c: &mut Collector<'_>) -> Option<u32> {
    s.fraction(c, "loss", 0.0, 100.0).map(|percent| (percent * 10_000.0).round() as u32)
}

/// What a server has, and whether its network rate is written rather than its uplink's.
fn read_server(root: &mut Section<'_>, c: &mut Collector<'_>, uplink: BitRate) -> (Resources, bool) {
    let mut s = root.section(c, "servers");
    let server =
        resources(&mut s, c, Resources { cpu: 8, ram: Bytes::gib(16), disk: Bytes::gib(500), net: uplink });
    let net_given = s.has("net");
    s.finish(c);
    (server, net_given)
}

pub(super) fn resources(s: &mut Section<'_>, c: &mut Collector<'_>, default: Resources) -> Resources {
    Resources {
        cpu: s.count(c, "cpu", 0..=1_000_000).unwrap_or(default.cpu),
        ram: s.bytes(c, "ram").unwrap_or(default.ram),
        disk: s.bytes(c, "disk").unwrap_or(default.disk),
        net: s.rate(c, "net").unwrap_or(default.net),
    }
}

fn read_addresses(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    shape: Option<&Shape>,
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
    let per_edge = shape.map_or(0, Shape::servers_per_edge);
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
        let count = u64::from(shape.map_or(1, Shape::gateways)) + 3;
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
                (0..u64::from(shape.map_or(0, Shape::gateways))).any(|n| gateways.nth(n + 1) == Some(dhcp));
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
            if gateways.size() < u64::from(shape.map_or(0, Shape::gateways)) + 3 {
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

/// Neither this network (RFC 1122 3.2.1.3: 0.0.0.0/8, 127.0.0.0/8), nor multicast (RFC 5771), nor reserved (RFC 1112 section 4).
fn usable_by_machines(network: Prefix) -> bool {
    [[0, 8], [127, 8], [224, 3]].iter().all(|[first, len]| {
        Prefix::new(Ipv4Addr::new(*first, 0, 0, 0), *len).is_none_or(|special| !special.overlaps(network))
    })
}

/// The edges' prefixes must fit into the network beside the gateways.
fn check_room(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    shape: &Shape,
    plan: &AddressPlan,
    prefix_len: u8,
) {
    let a = root.section(c, "addresses");
    let (network, gateways) = (plan.network, plan.gateways);
    let size = 1u64 << (32 - u32::from(prefix_len));
    if u64::from(plan.servers_per_prefix) + 2 >= size {
        let problem =
            format!("a /{prefix_len} has no room for VMs beside {} servers", plan.servers_per_prefix);
        a.fault(c, "prefix_len", problem, "write a shorter prefix length, such as 24");
    }
    let needed = size.saturating_mul(shape.edges());
    let start = u64::from(network.address().to_bits());
    let clash = needed > network.size()
        || (u64::from(gateways.last().to_bits()) >= start
            && u64::from(gateways.address().to_bits()) < start + needed);
    if prefix_len < network.len() || clash {
        let problem = format!(
            "{} prefixes of length {prefix_len} do not fit into {network} beside the gateways' {gateways}",
            shape.edges()
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

fn read_policy(root: &mut Section<'_>, c: &mut Collector<'_>) -> PolicyCfg {
    let mut p = root.section(c, "policy");
    let words = [
        ("first-fit", Allocation::FirstFit),
        ("best-fit", Allocation::BestFit),
        ("worst-fit", Allocation::WorstFit),
    ];
    let cfg = PolicyCfg {
        allocation: p.word(c, "allocation", &words).unwrap_or(Allocation::BestFit),
        ties: p.word(c, "ties", &[("first", Ties::First), ("last", Ties::Last)]).unwrap_or(Ties::First),
        link_margin: p.fraction(c, "link_margin", 0.01, 1000.0).unwrap_or(1.0),
        server_margin: p.fraction(c, "server_margin", 0.01, 1000.0).unwrap_or(1.0),
        near_misses: p.count(c, "near_misses", 0..=1000).unwrap_or(3),
    };
    p.finish(c);
    cfg
}

fn read_statistics(root: &mut Section<'_>, c: &mut Collector<'_>) -> StatisticsCfg {
    let mut s = root.section(c, "statistics");
    let cfg = StatisticsCfg {
        period: s.duration(c, "period").unwrap_or(Duration::from_secs(5)),
        history_weight: s.fraction(c, "history_weight", 0.0, 0.999).unwrap_or(0.5),
    };
    if cfg.period < Duration::from_millis(50) || cfg.period > Duration::from_secs(3600) {
        s.fault(
            c,
            "period",
            format!("{:?} is out of range", cfg.period),
            "write a time from \"50 ms\" to \"1 h\"",
        );
    }
    s.finish(c);
    cfg
}

fn read_modules(root: &mut Section<'_>, c: &mut Collector<'_>) -> Modules {
    let mut m = root.section(c, "modules");
    let modules = Modules {
        dhcp: m.flag(c, "dhcp").unwrap_or(true),
        arp: m.flag(c, "arp").unwrap_or(true),
        discovery: m.flag(c, "discovery").unwrap_or(true),
        exporter: m.flag(c, "exporter").unwrap_or(true),
    };
    m.finish(c);
    modules
}

fn read_discovery(root: &mut Section<'_>, c: &mut Collector<'_>) -> DiscoveryCfg {
    let mut d = root.section(c, "discovery");
    let cfg = DiscoveryCfg {
        lldp_period: d.duration(c, "lldp_period").unwrap_or(Duration::from_secs(5)),
        lldp_timeout: d.duration(c, "lldp_timeout").unwrap_or(Duration::from_secs(30)),
        switch_grace: d.duration(c, "switch_grace").unwrap_or(Duration::from_secs(10)),
        host_timeout: d.duration(c, "host_timeout").unwrap_or(Duration::from_secs(120)),
        host_probes: d.count(c, "host_probes", 1..=100).unwrap_or(3),
    };
    if cfg.lldp_period < Duration::from_millis(100) {
        d.fault(c, "lldp_period", "shorter than 100 ms", "write at least \"100 ms\"");
    }
    if cfg.lldp_timeout < cfg.lldp_period * 2 {
        let problem = format!(
            "{:?} is less than two periods of {:?}: every lost frame would look like a lost link",
            cfg.lldp_timeout, cfg.lldp_period
        );
        d.fault(c, "lldp_timeout", problem, "write at least twice lldp_period");
    }
    if cfg.host_timeout < Duration::from_secs(1) {
        d.fault(c, "host_timeout", "shorter than a second", "write at least \"1 s\"");
    }
    d.finish(c);
    cfg
}

fn read_traffic(root: &mut Section<'_>, c: &mut Collector<'_>) -> TrafficCfg {
    let mut t = root.section(c, "traffic");
    let directions = [("to-vm", Direction::ToVm), ("from-vm", Direction::FromVm), ("both", Direction::Both)];
    let cfg = TrafficCfg {
        enabled: t.flag(c, "enabled").unwrap_or(true),
        transport: t
            .word(c, "transport", &[("udp", Transport::Udp), ("tcp", Transport::Tcp)])
            .unwrap_or(Transport::Udp),
        direction: t.word(c, "direction", &directions).unwrap_or(Direction::ToVm),
        share: t.fraction(c, "share", 0.0, 10.0).unwrap_or(1.0),
        packet: t.count(c, "packet", 128..=1500).unwrap_or(1400) as u16,
    };
    t.finish(c);
    cfg
}

fn read_vm(root: &mut Section<'_>, c: &mut Collector<'_>) -> VmCfg {
    let mut v = root.section(c, "vm");
    let default = Resources { cpu: 1, ram: Bytes::gib(1), disk: Bytes::gib(10), net: BitRate::mbit(1) };
    let cfg = VmCfg {
        default: resources(&mut v, c, default),
        start_timeout: v.duration(c, "start_timeout").unwrap_or(Duration::from_secs(60)),
        lifetime: v.duration(c, "lifetime"),
    };
    if cfg.start_timeout < Duration::from_millis(100) {
        v.fault(c, "start_timeout", "no VM starts as fast as that", "write at least \"1 s\"");
    }
    v.finish(c);
    cfg
}

fn check_topology(root: &mut Section<'_>, c: &mut Collector<'_>, topology: &Topology) {
    let t = root.section(c, "topology");
    let mut names = BTreeSet::new();
    let all = topology.switches.iter().map(|s| &s.name).chain(topology.servers.iter().map(|s| &s.name));
    for name in all.chain(topology.gateways.iter().map(|g| &g.name)) {
        if !names.insert(name.as_str()) {
            t.fault(c, "shape", format!("two nodes are called {name:?}"), "rename one");
        }
    }
    for (n, switch) in (0u32..).zip(&topology.switches) {
        let ports = topology.ports(NodeId::Switch(SwitchId(n))).len();
        if ports > MOST_PORTS {
            let problem = format!("{} would have {ports} ports, more than {MOST_PORTS}", switch.name);
            t.fault(c, "shape", problem, "use more switches with fewer links each");
        }
    }
    let Some(first) = topology.switches.first().map(|_| NodeId::Switch(SwitchId(0))) else { return };
    let distance = crate::paths::distances_to(topology, first, |_| true);
    let lonely = distance.iter().position(|d| *d == u32::MAX);
    if let Some(slot) = lonely {
        let name = topology.switches.get(slot).map_or("a server or gateway", |s| s.name.as_str());
        let problem = format!("{name} is not connected to {}", topology.name(first));
        t.fault(
            c,
            "shape",
            problem,
            "raise the link counts between the levels until every switch is reached",
        );
    }
}
