//! The tables of a free-form site, one by one: `[[switch]]`, `[[server]]`, `[[gateway]]` and
//! `[[link]]`, with the faults that each has by itself, and names that two of them have.

use crate::site::{Collector, Lists, Section, check_delay, check_rate, loss};
use crate::{BitRate, Bytes, DatapathKind, Dpid, LinkConfig, Resources, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// The longest name: with a port's number behind it, it has to be an interface's (15 bytes).
const LONGEST_NAME: usize = 10;
/// So many links one table may stand for.
const MOST_PARALLEL: u32 = 64;
/// Names of interfaces and settings that every network namespace has.
const RESERVED: [&str; 5] = ["lo", "all", "default", "root", "ovs-system"];

/// Everything that was declared, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) switches: Vec<DeclaredSwitch>,
    pub(super) servers: Vec<DeclaredServer>,
    pub(super) gateways: Vec<Name>,
    pub(super) links: Vec<DeclaredLink>,
    /// A link whose ends could not be read, so that nobody can say what is alone.
    pub(super) has_broken_link: bool,
}

/// A name, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) span: Range<usize>,
}

#[derive(Debug)]
pub(super) struct DeclaredSwitch {
    pub(super) name: Name,
    pub(super) role: Option<Role>,
    pub(super) dpid: Option<Dpid>,
    pub(super) datapath: Option<DatapathKind>,
}

/// A server: what is left out is as `[servers]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredServer {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    cpu: Option<u32>,
    ram: Option<Bytes>,
    disk: Option<Bytes>,
    net: Option<BitRate>,
}

impl DeclaredServer {
    pub(super) fn capacity(&self, default: Resources) -> Resources {
        Resources {
            cpu: self.cpu.unwrap_or(default.cpu),
            ram: self.ram.unwrap_or(default.ram),
            disk: self.disk.unwrap_or(default.disk),
            net: self.net.unwrap_or(default.net),
        }
    }
}

/// A link: what is left out is as `[links]` and `[bandwidth]` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredLink {
    pub(super) ends: [String; 2],
    /// Where the ends are named.
    pub(super) span: Range<usize>,
    /// So many of them, in parallel.
    pub(super) count: u32,
    rate: Option<BitRate>,
    delay: Option<Duration>,
    loss_ppm: Option<u32>,
    queue: Option<u32>,
}

impl DeclaredLink {
    pub(super) fn config(&self, level: LinkConfig) -> LinkConfig {
        LinkConfig {
            rate: self.rate.unwrap_or(level.rate),
            delay: self.delay.unwrap_or(level.delay),
            loss_ppm: self.loss_ppm.unwrap_or(level.loss_ppm),
            queue: self.queue.unwrap_or(level.queue),
        }
    }
}

/// Takes the tables that declare nodes and links. Links with a `[[legacy]]` switch at an end stay:
/// they are about one side of a link that is declared here.
pub(super) fn read(lists: &mut Lists<'_>, c: &mut Collector<'_>) -> Declared {
    let legacy = lists.legacy_names(c);
    let mut names = Names::default();
    let mut declared = Declared::default();
    let mut dpids = BTreeSet::new();
    for mut s in std::mem::take(&mut lists.switches) {
        let name = names.read(&mut s, c, "switch");
        let roles = [("core", Role::Core), ("aggregation", Role::Aggregation), ("edge", Role::Edge)];
        let role = s.word(c, "role", &roles);
        let dpid = s.datapath_id(c, "dpid");
        if let Some(dpid) = dpid.filter(|d| !dpids.insert(*d)) {
            s.fault(c, "dpid", format!("two switches have the datapath id {dpid}"), "give each its own");
        }
        let kinds: Vec<(&str, DatapathKind)> = DatapathKind::ALL.iter().map(|k| (k.name(), *k)).collect();
        let datapath = s.word(c, "datapath", &kinds);
        s.finish(c);
        declared.switches.push(DeclaredSwitch { name, role, dpid, datapath });
    }
    for mut s in std::mem::take(&mut lists.servers) {
        let Name { name, span } = names.read(&mut s, c, "server");
        let server = DeclaredServer {
            cpu: s.count(c, "cpu", 0..=1_000_000),
            ram: s.bytes(c, "ram"),
            disk: s.bytes(c, "disk"),
            net: s.rate(c, "net"),
            name,
            span,
        };
        if server.net.is_some() {
            lists.net_written.insert(server.name.clone());
        }
        s.finish(c);
        declared.servers.push(server);
    }
    for mut s in std::mem::take(&mut lists.gateways) {
        declared.gateways.push(names.read(&mut s, c, "gateway"));
        s.finish(c);
    }
    for mut s in std::mem::take(&mut lists.links) {
        match ends(&mut s, c) {
            Some(ends) if ends.iter().any(|name| legacy.contains(name) && !names.all.contains_key(name)) => {
                lists.links.push(s);
            }
            ends => {
                declared.has_broken_link |= ends.is_none();
                let link = link(&mut s, c, ends.unwrap_or_default());
                s.finish(c);
                declared.links.push(link);
            }
        }
    }
    names.check_ports(&declared, c);
    declared
}

/// The names so far, with what has them.
#[derive(Default)]
struct Names {
    all: BTreeMap<String, &'static str>,
}

impl Names {
    /// The name of a node of a kind; a fault where it is none, or somebody else's.
    fn read(&mut self, s: &mut Section<'_>, c: &mut Collector<'_>, kind: &'static str) -> Name {
        let given = s.has("name");
        let name = s.text(c, "name");
        let span = s.span_of("name");
        let name = match name {
            Some(name) => name,
            None => {
                if !given {
                    let instead = format!("write name = \"...\" under [[{kind}]]");
                    s.fault(c, "name", format!("the {kind} has no name"), instead);
                }
                return Name { name: String::new(), span };
            }
        };
        if let Some(problem) = unusable(&name) {
            let instead =
                format!("write up to {LONGEST_NAME} letters, digits or '-', a letter or digit first");
            s.fault(c, "name", problem, instead);
        } else if let Some(other) = self.all.insert(name.clone(), kind) {
            let problem = if other == kind {
                format!("two {} are called {name:?}", plural(kind))
            } else {
                format!("a {other} is called {name:?} too")
            };
            s.fault(c, "name", problem, "give each node its own name");
        }
        Name { name, span }
    }

    /// `a-1` is the interface of port 1 of `a`, so no switch beside `a` is called so.
    fn check_ports(&self, declared: &Declared, c: &mut Collector<'_>) {
        for Name { name, span } in declared.switches.iter().map(|s| &s.name) {
            let Some((stem, port)) = name.rsplit_once('-') else { continue };
            let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            if is_port && self.all.get(stem) == Some(&"switch") {
                let problem = format!("{name:?} is what port {port} of the switch {stem:?} is called");
                c.add(span.clone(), "switch.name", problem, "rename one of the two switches");
            }
        }
    }
}

fn plural(kind: &str) -> &'static str {
    match kind {
        "switch" => "switches",
        "server" => "servers",
        _ => "gateways",
    }
}

/// Why a text cannot be a node's name.
fn unusable(name: &str) -> Option<String> {
    if name.len() > LONGEST_NAME {
        let shown: String = name.chars().take(40).collect();
        return Some(format!(
            "{shown:?} is too long: {} bytes, and a name has at most {LONGEST_NAME}",
            name.len()
        ));
    }
    let is_sound = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && name.bytes().next().is_some_and(|b| b != b'-');
    if !is_sound {
        return Some(format!("{name:?} cannot be a name"));
    }
    let is_vm =
        name.strip_prefix("vm").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if is_vm {
        return Some(format!("{name:?} is what a VM is called"));
    }
    RESERVED.contains(&name).then(|| format!("{name:?} is a name that the system has taken"))
}

/// The two names of `between = ["a", "b"]`; `None` where they cannot be read.
fn ends(s: &mut Section<'_>, c: &mut Collector<'_>) -> Option<[String; 2]> {
    let given = s.has("between");
    let names = s.texts(c, "between");
    if given && names.is_none() {
        return None;
    }
    let ends: Option<[String; 2]> = names.and_then(|names| names.try_into().ok());
    if ends.is_none() {
        s.fault(c, "between", "a link is between two nodes", "write between = [\"s1\", \"h1\"]");
    }
    ends
}

fn link(s: &mut Section<'_>, c: &mut Collector<'_>, ends: [String; 2]) -> DeclaredLink {
    let link = DeclaredLink {
        ends,
        span: s.span_of("between"),
        count: s.count(c, "count", 1..=MOST_PARALLEL).unwrap_or(1),
        rate: s.rate(c, "rate"),
        delay: s.duration(c, "delay"),
        loss_ppm: loss(s, c),
        queue: s.count(c, "queue", 1..=100_000),
    };
    if let Some(rate) = link.rate {
        check_rate(s, c, "rate", rate);
    }
    check_delay(s, c, link.delay.unwrap_or_default());
    link
}
