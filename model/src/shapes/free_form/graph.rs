//! From declared tables to a graph: who is linked to whom, what that makes of each switch, and
//! whether it is one data centre.

use super::declarations::{Declared, DeclaredLink, Name};
use super::{FreeForm, Link, Node, Server, Switch};
use crate::shapes::builder::dpid_base;
use crate::site::Collector;
use crate::text::nearest;
use crate::{Dpid, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Links that a server may have, as in the other shapes.
const MOST_UPLINKS: u32 = 8;
/// So many unknown names are compared with those that there are: a file that is wrong from end to
/// end is not worth a comparison of all with all.
const MOST_GUESSES: u32 = 50;
const MOST_COMPARED: usize = 2000;

/// The links of every node, by what is at their other ends.
#[derive(Default, Clone)]
struct Neighbours {
    switches: BTreeSet<usize>,
    servers: u32,
    gateways: u32,
}

/// The graph that was declared; what is wrong with it is added to the faults.
pub(super) fn resolve(declared: Declared, c: &mut Collector<'_>) -> FreeForm {
    let (links, sound) = links(&declared, c);
    let mut around = vec![Neighbours::default(); declared.switches.len()];
    for link in &links {
        match (link.upper, link.lower) {
            (Node::Switch(a), Node::Switch(b)) => {
                around[a].switches.insert(b);
                around[b].switches.insert(a);
            }
            (Node::Gateway(_), Node::Switch(s)) => around[s].gateways += link.declared.count,
            (Node::Switch(s), Node::Server(_)) => around[s].servers += link.declared.count,
            _ => {}
        }
    }
    check_counts(&declared, c);
    if sound {
        check_pieces(&declared, &links, &around, c);
    }
    let switches = switches(&declared, &around);
    let links = directed(links, &switches, &around);
    let servers = servers(&declared, &links, c);
    let gateways = declared.gateways.into_iter().map(|g| g.name).collect();
    FreeForm { switches, servers, gateways, links }
}

/// Finds the ends of every link; false when some of them were not found.
fn links(declared: &Declared, c: &mut Collector<'_>) -> (Vec<Link>, bool) {
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    let switches = declared.switches.iter().enumerate().map(|(n, s)| (s.name.name.as_str(), Node::Switch(n)));
    let servers = declared.servers.iter().enumerate().map(|(n, s)| (s.name.as_str(), Node::Server(n)));
    let gateways = declared.gateways.iter().enumerate().map(|(n, g)| (g.name.as_str(), Node::Gateway(n)));
    for (name, node) in switches.chain(servers).chain(gateways).filter(|(name, _)| !name.is_empty()) {
        nodes.entry(name).or_insert(node);
    }
    let mut guesses = 0;
    let mut sound = !declared.has_broken_link;
    let mut links = Vec::with_capacity(declared.links.len());
    for link in &declared.links {
        let [a, b] = &link.ends;
        if a.is_empty() && b.is_empty() {
            continue;
        }
        let unknown: Vec<&String> = [a, b].into_iter().filter(|n| !nodes.contains_key(n.as_str())).collect();
        if !unknown.is_empty() {
            sound = false;
            for name in unknown {
                guesses += 1;
                let (problem, instead) = unknown_node(name, &nodes, guesses <= MOST_GUESSES);
                c.add(link.span.clone(), "link.between", problem, instead);
            }
            continue;
        }
        let (Some(x), Some(y)) = (nodes.get(a.as_str()), nodes.get(b.as_str())) else { continue };
        match ordered(*x, *y) {
            Ok((upper, lower)) => links.push(Link { upper, lower, declared: link.clone() }),
            Err((problem, instead)) => {
                sound = false;
                c.add(
                    link.span.clone(),
                    "link.between",
                    problem.replace("{a}", a).replace("{b}", b),
                    instead,
                );
            }
        }
    }
    (links, sound)
}

fn unknown_node(name: &str, nodes: &BTreeMap<&str, Node>, guess: bool) -> (String, String) {
    let shown: String = name.chars().take(40).collect();
    let known = || nodes.keys().copied().take(MOST_COMPARED).collect::<Vec<&str>>();
    let instead = match guess.then(|| nearest(name, &known())).flatten() {
        Some(meant) => {
            format!("did you mean {meant:?}? Each node has a [[switch]], [[server]] or [[gateway]]")
        }
        None => "declare it by a [[switch]], [[server]] or [[gateway]], or correct the name".to_owned(),
    };
    (format!("there is no node {shown:?}"), instead)
}

/// The upper end first, as far as the kinds say it; or why there can be no such link.
fn ordered(a: Node, b: Node) -> Result<(Node, Node), (&'static str, &'static str)> {
    match (a, b) {
        _ if a == b => Err(("\"{a}\" is linked to itself", "name two nodes")),
        (Node::Server(_) | Node::Gateway(_), Node::Server(_) | Node::Gateway(_)) => Err((
            "neither \"{a}\" nor \"{b}\" is a switch",
            "link both to a switch: servers and gateways forward nothing",
        )),
        (Node::Server(_), switch) => Ok((switch, a)),
        (switch, Node::Gateway(_)) => Ok((b, switch)),
        _ => Ok((a, b)),
    }
}

/// A site has switches and a gateway.
fn check_counts(declared: &Declared, c: &mut Collector<'_>) {
    let whole = 0..0;
    if declared.switches.is_empty() {
        let instead = "write [[switch]] with name = \"s1\", and a [[link]] for each of its cables";
        c.add(whole.clone(), "switch", "a free-form site has no switch", instead);
    }
    if declared.gateways.is_empty() {
        let instead = "write [[gateway]] with name = \"gw1\": VMs reach the outside by it";
        c.add(whole, "gateway", "a free-form site has no gateway", instead);
    }
}

/// Nothing is alone, and every switch is reached from the first one: servers and gateways forward
/// nothing, so a piece that hangs on them is a piece of its own.
fn check_pieces(declared: &Declared, links: &[Link], around: &[Neighbours], c: &mut Collector<'_>) {
    let linked: BTreeSet<Node> = links.iter().flat_map(|l| [l.upper, l.lower]).collect();
    let mut alone = |node: Node, name: &str, span: &Range<usize>, key: &str| {
        if !linked.contains(&node) && !name.is_empty() {
            let instead = format!("write a [[link]] with between = [\"...\", {name:?}]");
            c.add(span.clone(), key, format!("no link leads to {name:?}"), instead);
        }
    };
    for (n, switch) in declared.switches.iter().enumerate() {
        alone(Node::Switch(n), &switch.name.name, &switch.name.span, "switch.name");
    }
    for (n, server) in declared.servers.iter().enumerate() {
        alone(Node::Server(n), &server.name, &server.span, "server.name");
    }
    for (n, gateway) in declared.gateways.iter().enumerate() {
        alone(Node::Gateway(n), &gateway.name, &gateway.span, "gateway.name");
    }
    let mut piece_of = vec![None; around.len()];
    let mut first = None;
    for start in 0..around.len() {
        if piece_of[start].is_some() || !linked.contains(&Node::Switch(start)) {
            continue;
        }
        let mut open = vec![start];
        let mut count = 0;
        while let Some(at) = open.pop() {
            if piece_of[at].is_none() {
                piece_of[at] = Some(start);
                count += 1;
                open.extend(around[at].switches.iter().copied().filter(|n| piece_of[*n].is_none()));
            }
        }
        let name = &declared.switches[start].name;
        let Some(main) = first else {
            first = Some(name);
            continue;
        };
        piece(name, main, count, c);
    }
}

fn piece(name: &Name, main: &Name, count: usize, c: &mut Collector<'_>) {
    let (name, span, main) = (&name.name, &name.span, &main.name);
    let with = match count {
        1 => String::new(),
        2 => " and the switch that is linked to it".to_owned(),
        n => format!(" and the {} switches that it reaches", n - 1),
    };
    let verb = if count == 1 { "is" } else { "are" };
    let problem = format!("{name:?}{with} {verb} not connected to {main:?}");
    c.add(
        span.clone(),
        "switch.name",
        problem,
        "link the pieces of the data centre by a [[link]] between switches",
    );
}

/// Derives what is not written.
fn switches(declared: &Declared, around: &[Neighbours]) -> Vec<Switch> {
    let mut taken: BTreeSet<Dpid> = declared.switches.iter().filter_map(|s| s.dpid).collect();
    let mut next = BTreeMap::new();
    let mut switches = Vec::with_capacity(declared.switches.len());
    for (s, near) in declared.switches.iter().zip(around) {
        let derived = match near {
            Neighbours { servers: 1.., .. } => Role::Edge,
            Neighbours { gateways: 1.., .. } => Role::Core,
            _ => Role::Aggregation,
        };
        let role = s.role.unwrap_or(derived);
        let dpid = s.dpid.unwrap_or_else(|| {
            let next = next.entry(role).or_insert(dpid_base(role));
            loop {
                *next += 1;
                if taken.insert(Dpid(*next)) {
                    return Dpid(*next);
                }
            }
        });
        switches.push(Switch {
            name: s.name.name.clone(),
            dpid,
            role,
            has_prefix: role == Role::Edge || near.servers > 0,
            datapath: s.datapath,
        });
    }
    switches
}

/// Turns links between switches so that the end nearer to a gateway is the upper one; of equally
/// near ones the one with the higher role, then the one that is written first.
fn directed(mut links: Vec<Link>, switches: &[Switch], around: &[Neighbours]) -> Vec<Link> {
    let mut distance = vec![usize::MAX; around.len()];
    let mut level: Vec<usize> = (0..around.len()).filter(|n| around[*n].gateways > 0).collect();
    let mut steps = 0;
    while !level.is_empty() {
        level.iter().for_each(|n| distance[*n] = steps);
        steps += 1;
        let near = level.iter().flat_map(|n| around[*n].switches.iter().copied());
        let next: BTreeSet<usize> = near.filter(|n| distance[*n] == usize::MAX).collect();
        level = next.into_iter().collect();
    }
    for link in &mut links {
        if let (Node::Switch(a), Node::Switch(b)) = (link.upper, link.lower) {
            let rank = |n: usize| (distance[n], switches[n].role);
            if rank(b) < rank(a) {
                (link.upper, link.lower) = (link.lower, link.upper);
            }
        }
    }
    links
}

/// Where each server is plugged in: its first link says which switch's prefix its address is of.
fn servers(declared: &Declared, links: &[Link], c: &mut Collector<'_>) -> Vec<Server> {
    let mut uplinks: BTreeMap<usize, (usize, usize, u32)> = BTreeMap::new();
    for (n, link) in links.iter().enumerate() {
        if let (Node::Switch(switch), Node::Server(server)) = (link.upper, link.lower) {
            let DeclaredLink { count, .. } = link.declared;
            let entry = uplinks.entry(server).or_insert((n, switch, 0));
            entry.2 = entry.2.saturating_add(count);
        }
    }
    let mut at = BTreeMap::new();
    let mut servers = Vec::with_capacity(declared.servers.len());
    for (n, server) in declared.servers.iter().enumerate() {
        // One without a link is a fault, so what is built from here is thrown away.
        let (uplink, edge, count) = uplinks.get(&n).copied().unwrap_or((usize::MAX, usize::MAX, 0));
        if count > MOST_UPLINKS {
            let problem = format!("{:?} has {count} links", server.name);
            c.add(
                server.span.clone(),
                "server.name",
                problem,
                format!("write at most {MOST_UPLINKS} for a server"),
            );
        }
        let next = at.entry(edge).or_insert(0);
        let place = *next;
        *next += 1;
        servers.push(Server { declared: server.clone(), edge, place, uplink });
    }
    servers
}
