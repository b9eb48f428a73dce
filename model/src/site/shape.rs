//! `[topology]`: a shape and its counts, and whether what it makes is one data centre.

use super::faults::Collector;
use super::overrides::Lists;
use super::section::Section;
use crate::SwitchId;
use crate::shapes::{Counted, Registered, SHAPES};
use crate::topology::{NodeId, Topology};
use std::collections::BTreeSet;

/// The most servers a site may have.
const MOST_SERVERS: u64 = 1_000_000;
/// The most ports a switch may have: OpenFlow 1.0 reserves numbers from 0xff00 on (OF 1.0 section
/// 5.2.1).
const MOST_PORTS: usize = 0xfeff;

pub(super) fn read_shape(
    root: &mut Section<'_>,
    lists: &mut Lists<'_>,
    c: &mut Collector<'_>,
) -> Option<Counted> {
    let mut t = root.section(c, "topology");
    if !t.has("shape") {
        t.get(c, "shape", |_| Ok(()));
        let instead = format!("write [topology] with shape = {}", names());
        t.fault(c, "shape", "the site has no shape", instead);
        return None;
    }
    let words: Vec<(&str, &Registered)> = SHAPES.iter().map(|s| (s.name, s)).collect();
    let shape = t.word(c, "shape", &words)?.read(&mut t, lists, c);
    let servers = shape.servers;
    if servers > MOST_SERVERS {
        t.fault(c, "shape", format!("{servers} servers are more than {MOST_SERVERS}"), "lower the counts");
    }
    t.finish(c);
    Some(shape)
}

/// The shapes' names as a sentence has them: `"a", "b" or "c"`.
fn names() -> String {
    let names: Vec<String> = SHAPES.iter().map(|s| format!("{:?}", s.name)).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// One name each, ports that OpenFlow can number, and in one piece.
pub(super) fn check_topology(root: &mut Section<'_>, c: &mut Collector<'_>, topology: &Topology) {
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
