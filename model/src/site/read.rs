//! From the text of `site.toml` to a checked [`Site`], or to all of its faults at once.
//!
//! serde stops at the first fault, so the spanned table is walked by hand: every key is read, its
//! default stands in for what is wrong, and only then is the result used or thrown away.

use super::addresses::{check_room, read_addresses};
use super::class_servers::{self, ServerNames};
use super::faults::{Collector, Faults};
use super::migration::read_migration;
use super::overrides::Lists;
use super::policy::{PolicyNames, read_policy};
use super::requests::read_requests;
use super::section::Section;
use super::shape::{check_topology, read_shape};
use super::traffic::{TOOL, read_traffic};
use super::{DiscoveryConfig, Modules, ServiceClass, Site, StatisticsConfig, VmConfig};
use crate::shapes::Parameters;
use crate::topology::{LinkConfig, Resources};
use crate::{BitRate, Bytes, ClassId};
use std::time::Duration;
use toml::de::DeTable;

/// Reads and checks a site file.
///
/// # Errors
/// All faults, each with its line and column.
pub fn read(text: &str, file: &str) -> Result<Site, Faults> {
    read_with(text, file, &PolicyNames::default())
}

/// Reads a site file whose policies must be among `known`.
///
/// # Errors
/// All faults, each with its line and column.
pub fn read_with(text: &str, file: &str, known: &PolicyNames<'_>) -> Result<Site, Faults> {
    read_by(text, file, |root, c| read_root(root, c, known))
}

/// Reads any TOML file that people write in the site file's manner: `root` reads the keys that it
/// knows and gives the result; what it did not ask for is an unknown key.
///
/// # Errors
/// All faults, each with its line and column.
pub fn read_by<T>(
    text: &str,
    file: &str,
    root: impl for<'a> FnOnce(&mut Section<'a>, &mut Collector<'_>) -> Option<T>,
) -> Result<T, Faults> {
    let mut c = Collector::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        c.add(span, "", error.message().trim(), "correct the TOML (toml.io/en/v1.0.0)");
    }
    if !c.is_empty() {
        return Err(c.finish(file));
    }
    let mut section = Section::new("", 0..text.lines().next().unwrap_or("").len(), table.get_ref());
    let result = root(&mut section, &mut c);
    section.finish(&mut c);
    match result {
        Some(result) if c.is_empty() => Ok(result),
        _ => Err(c.finish(file)),
    }
}

fn read_root(root: &mut Section<'_>, c: &mut Collector<'_>, known: &PolicyNames<'_>) -> Option<Site> {
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
    let mut lists = Lists::read(root, c);
    let shape = read_shape(root, &mut lists, c);
    let (plan, prefix_len) = read_addresses(root, c, shape.as_ref().map(|s| s.size));
    if let (Some(shape), Some(plan)) = (&shape, &plan) {
        check_room(root, c, shape.size, plan, prefix_len);
    }
    let buildable = c.len() == faults_before;
    let links = read_links(root, c);
    let (server, net_given) = read_server(root, c, links.edge.rate);
    let policy = read_policy(root, c, known);
    let statistics = read_statistics(root, c);
    let modules = read_modules(root, c);
    let discovery = read_discovery(root, c);
    let traffic = read_traffic(root, c);
    let vm = read_vm(root, c);
    let (mut classes, default_class, class_servers) = read_classes(root, c, links.edge.queue);
    let requests = read_requests(root, c);
    let migration = read_migration(root, c, &classes, known);
    let (shape, plan) = match (shape, plan) {
        (Some(shape), Some(plan)) if buildable => (shape, plan),
        _ => {
            // The keys of the lists are still checked, without a topology to check their names
            // against.
            lists.apply(None, net_given, c);
            return None;
        }
    };
    let parameters = Parameters {
        gateway_link: links.gateway,
        core_link: links.core,
        aggregation_link: links.aggregation,
        edge_link: links.edge,
        server,
        net_given,
        network: plan.network,
        prefix_len,
        gateways: plan.gateways,
    };
    let topology = shape.build(&parameters);
    let topology = lists.apply(Some(topology), net_given, c);
    check_topology(root, c, &topology);
    class_servers::resolve(&mut classes, class_servers, &topology, c);
    Some(Site {
        name,
        topology,
        addresses: plan,
        policy,
        statistics,
        modules,
        discovery,
        traffic,
        classes,
        default_class,
        migration,
        vm,
        requests,
    })
}

struct Links {
    gateway: LinkConfig,
    core: LinkConfig,
    aggregation: LinkConfig,
    edge: LinkConfig,
}

fn read_links(root: &mut Section<'_>, c: &mut Collector<'_>) -> Links {
    let mut l = root.section(c, "links");
    let base = LinkConfig {
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
        LinkConfig { rate, ..base }
    };
    let edge = level(c, "edge", BitRate::mbit(10));
    let aggregation = level(c, "aggregation", BitRate::mbit(20));
    let core = level(c, "core", BitRate::mbit(40));
    let gateway = level(c, "gateway", BitRate::mbit(160));
    b.finish(c);
    Links { gateway, core, aggregation, edge }
}

/// Rates from 8 kbit/s (a byte per millisecond) to 4 Tbit/s.
pub(crate) fn check_rate(s: &Section<'_>, c: &mut Collector<'_>, key: &str, rate: BitRate) {
    if s.has(key) && !(8_000..=4_000_000_000_000).contains(&rate.0) {
        s.fault(c, key, format!("{rate} is out of range"), "write a rate from 8 kbit/s to 4 Tbit/s");
    }
}

pub(crate) fn check_delay(s: &Section<'_>, c: &mut Collector<'_>, delay: Duration) {
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
pub(crate) fn loss(s: &mut Section<'_>, c: &mut Collector<'_>) -> Option<u32> {
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

fn read_statistics(root: &mut Section<'_>, c: &mut Collector<'_>) -> StatisticsConfig {
    let mut s = root.section(c, "statistics");
    let period = s.duration_or_off(c, "period");
    let cfg = StatisticsConfig {
        period: period.flatten().unwrap_or(Duration::from_secs(5)),
        is_periodic: period != Some(None),
        on_request: s.flag(c, "on_request").unwrap_or(false),
        max_age: s.duration(c, "max_age"),
        history_weight: s.fraction(c, "history_weight", 0.0, 0.999).unwrap_or(0.5),
    };
    if cfg.max_age.is_some() && !cfg.on_request {
        s.fault(
            c,
            "max_age",
            "readings are not asked for when a request arrives, so no age matters",
            "write `on_request = true` beside it, or leave it out",
        );
    }
    if cfg.max_age.is_some_and(|age| age > Duration::from_secs(3600)) {
        s.fault(c, "max_age", "older than an hour", "write a time up to \"1 h\"");
    }
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
        metrics: m.flag(c, "metrics").unwrap_or(true),
    };
    m.finish(c);
    modules
}

fn read_discovery(root: &mut Section<'_>, c: &mut Collector<'_>) -> DiscoveryConfig {
    let mut d = root.section(c, "discovery");
    let cfg = DiscoveryConfig {
        lldp_period: d.duration(c, "lldp_period").unwrap_or(Duration::from_secs(5)),
        lldp_timeout: d.duration(c, "lldp_timeout").unwrap_or(Duration::from_secs(30)),
        switch_grace: d.duration(c, "switch_grace").unwrap_or(Duration::from_secs(10)),
        host_timeout: d.duration(c, "host_timeout").unwrap_or(Duration::from_secs(120)),
        host_probes: d.count(c, "host_probes", 1..=100).unwrap_or(3),
        announce: d.duration(c, "announce"),
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
    if cfg.announce.is_some_and(|period| period < Duration::from_millis(100)) {
        d.fault(c, "announce", "shorter than 100 ms", "write at least \"100 ms\", or leave it out: never");
    }
    d.finish(c);
    cfg
}

fn read_vm(root: &mut Section<'_>, c: &mut Collector<'_>) -> VmConfig {
    let mut v = root.section(c, "vm");
    let default = Resources { cpu: 1, ram: Bytes::gib(1), disk: Bytes::gib(10), net: BitRate::mbit(1) };
    let cfg = VmConfig {
        default: resources(&mut v, c, default),
        start_timeout: v.duration(c, "start_timeout").unwrap_or(Duration::from_secs(60)),
        lifetime: v.duration(c, "lifetime"),
        unique_names: true,
        police: v.flag(c, "police").unwrap_or(false),
    };
    if cfg.start_timeout < Duration::from_millis(100) {
        v.fault(c, "start_timeout", "no VM starts as fast as that", "write at least \"1 s\"");
    }
    v.finish(c);
    cfg
}

/// `[[class]]`. A class without a DSCP of its own has a class selector (RFC 2474 section 4.2.2) by
/// its place: 8, 16, 24 ...
fn read_classes(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    queue: u32,
) -> (Vec<ServiceClass>, Option<ClassId>, Vec<ServerNames>) {
    let mut classes: Vec<ServiceClass> = Vec::new();
    let mut servers = Vec::new();
    let mut default = None;
    let mut total = 0.0;
    for (n, mut s) in root.list(c, "class").into_iter().enumerate() {
        let name = s.text(c, "name").unwrap_or_default();
        let usable = (1..=16).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !name.bytes().all(|b| b.is_ascii_digit());
        if !usable {
            let help = "write up to 16 letters, digits or '-', with a letter among them";
            s.fault(c, "name", format!("{name:?} cannot be a class's name"), help);
        } else if classes.iter().any(|k| k.name == name) {
            s.fault(c, "name", format!("there are two classes {name:?}"), "give each its own name");
        }
        if !s.has("share") {
            s.fault(
                c,
                "share",
                "missing",
                "write what the class is guaranteed, in percent, such as share = 70",
            );
        }
        let share = s.fraction(c, "share", 0.1, 100.0).unwrap_or(1.0);
        let ceiling = s.fraction(c, "ceiling", 0.1, 100.0).unwrap_or(100.0);
        if ceiling < share {
            let problem = format!("a ceiling of {ceiling}% is below the guaranteed {share}%");
            s.fault(c, "ceiling", problem, "write at least the share, or leave it out: 100 is the default");
        }
        total += share;
        if total > 100.000_001 {
            let problem = format!("with this one, {total}% of each port are guaranteed");
            s.fault(c, "share", problem, "let all shares add up to 100 at most");
        }
        let dscp = s.count(c, "dscp", 0..=63).unwrap_or((n as u32 + 1) * 8 % 64) as u8;
        if let Some(other) = classes.iter().find(|k| k.dscp == dscp) {
            let problem =
                format!("DSCP {dscp} is that of {:?}: their packets cannot be told apart", other.name);
            s.fault(c, "dscp", problem, "give each class its own, 0 to 63");
        }
        let queue = s.count(c, "queue", 1..=1000).unwrap_or(queue.min(50));
        if s.flag(c, "default").unwrap_or(false) {
            if default.is_some() {
                s.fault(c, "default", "there is a default class already", "let one class be the default");
            }
            default = Some(ClassId(n as u16));
        }
        let traffic = s.parsed(c, "traffic", TOOL);
        if n >= 64 {
            s.fault(c, "name", "more than 64 classes", "DSCP has 64 values; use fewer classes");
        }
        servers.push(ServerNames::read(&mut s, c));
        s.finish(c);
        classes.push(ServiceClass { name, share, ceiling, dscp, queue, traffic, servers: Vec::new() });
    }
    let last = classes.len().checked_sub(1).map(|n| ClassId(n as u16));
    (classes, default.or(last), servers)
}
