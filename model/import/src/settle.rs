//! What each node of a graph is in a site: a switch, a server or a gateway; and what there has to be
//! besides. The steps carry the same numbers in [`settle`].
//!
//! 1. A link from a node to itself is left out.
//! 2. A host that is linked to a host is a switch, if it has several neighbours (a router in a
//!    container).
//! 3. A host that joins switches which nothing else joins is a switch.
//! 4. What is not connected to the largest part is left out.
//! 5. Gateways are the hosts that were named; without any, one is added at the most central switch.
//! 6. Where there is no server, each switch gets some.

use crate::additions::{add_gateway, add_servers};
use crate::graph::{Edge, Graph, Kind};
use crate::names::{LONGEST, Names, comment, of_port, plain};
use crate::{ImportError, Options};
use std::collections::{BTreeMap, BTreeSet};

/// Links that a server may have in a free-form site.
const MOST_UPLINKS: u32 = 8;

/// A node of the site.
pub(crate) struct Placed {
    /// Its name in the site.
    pub name: String,
    /// What it was called, where that is something else.
    pub was: Option<String>,
    pub kind: Kind,
    pub dpid: Option<u64>,
}

/// A graph of which every node is settled.
pub(crate) struct ResolvedGraph {
    pub graph: Graph,
    pub nodes: Vec<Placed>,
}

/// Settles what each node is.
pub(crate) fn settle(mut graph: Graph, options: &Options) -> Result<ResolvedGraph, ImportError> {
    let found = (graph.nodes.len(), graph.edges.len());
    // 1.
    let loops: Vec<usize> = graph.edges.iter().filter(|e| e.ends.0 == e.ends.1).map(|e| e.line).collect();
    for line in loops {
        graph.leave(line, "a link from a node to itself", "it carries nothing");
    }
    graph.edges.retain(|e| e.ends.0 != e.ends.1);
    let named = name_gateways(&mut graph, options)?;
    let neighbours = neighbours(&graph);
    // 2. and 3.
    hosts_that_forward(&mut graph, &neighbours);
    hosts_that_join(&mut graph, &neighbours, &named);
    if !graph.nodes.iter().any(|n| n.kind == Kind::Switch) {
        return Err(ImportError::NoSwitch { file: graph.file.clone(), nodes: found.0, links: found.1 });
    }
    // 4.
    keep_largest(&mut graph, &neighbours);
    if let Some(lost) = named.iter().find(|name| !graph.nodes.iter().any(|n| n.name == **name)) {
        return Err(unknown(&graph, lost, "it is not connected to the largest part"));
    }
    let mut names = Names::default();
    let mut nodes: Vec<Placed> = Vec::new();
    for node in &graph.nodes {
        nodes.push(Placed { name: names.take(&node.name), was: None, kind: node.kind, dpid: node.dpid });
    }
    rename_ports(&mut nodes, &mut names);
    for (placed, node) in nodes.iter_mut().zip(&graph.nodes) {
        placed.was = (placed.name != node.name).then(|| node.name.clone());
    }
    let mut settled = ResolvedGraph { graph, nodes };
    // 5.
    if !settled.nodes.iter().any(|n| n.kind == Kind::Gateway) {
        add_gateway(&mut settled, &mut names)?;
    }
    // 6.
    if options.servers_per_switch > 0 && !settled.nodes.iter().any(|n| n.kind == Kind::Host) {
        add_servers(&mut settled, &mut names, options.servers_per_switch)?;
    }
    Ok(settled)
}

/// Renames switches that are called as another one's port would be (`s1-2` beside `s1`). A new name
/// can be that other one of a longer name, which is shorter by two bytes each time.
fn rename_ports(nodes: &mut [Placed], names: &mut Names) {
    for _ in 0..LONGEST {
        let switches = nodes.iter().filter(|n| n.kind == Kind::Switch);
        let taken: BTreeSet<String> = switches.map(|n| n.name.clone()).collect();
        let is_port = |name: &str| of_port(name).is_some_and(|stem| taken.contains(stem));
        for node in nodes.iter_mut().filter(|n| n.kind == Kind::Switch && is_port(&n.name)) {
            node.name = names.take(&node.name.replace('-', ""));
        }
    }
}

/// Makes the hosts that were named gateways; their names in the file.
fn name_gateways(graph: &mut Graph, options: &Options) -> Result<Vec<String>, ImportError> {
    let mut named = Vec::new();
    for wanted in &options.gateways {
        let exactly = graph.nodes.iter().position(|n| n.name == *wanted);
        let at = exactly.or_else(|| graph.nodes.iter().position(|n| plain(&n.name) == *wanted));
        let Some(node) = at.and_then(|at| graph.nodes.get_mut(at)) else {
            return Err(unknown(graph, wanted, "there is no such node"));
        };
        if node.kind == Kind::Switch {
            return Err(unknown(graph, wanted, "it is a switch"));
        }
        node.kind = Kind::Gateway;
        named.push(node.name.clone());
    }
    Ok(named)
}

fn unknown(graph: &Graph, name: &str, problem: &'static str) -> ImportError {
    let hosts: Vec<String> =
        graph.nodes.iter().filter(|n| n.kind != Kind::Switch).map(|n| comment(&n.name)).collect();
    let known = match hosts.as_slice() {
        [] => "none (without --gateway, one is added)".to_owned(),
        few if few.len() <= 10 => few.join(", "),
        many => format!("{} and {} more", many[..10].join(", "), many.len() - 10),
    };
    ImportError::Gateway { name: name.to_owned(), problem, known }
}

/// The distinct neighbours of each node.
fn neighbours(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let mut neighbours = vec![BTreeSet::new(); graph.nodes.len()];
    for Edge { ends: (a, b), .. } in &graph.edges {
        for (from, to) in [(*a, *b), (*b, *a)] {
            if let Some(set) = neighbours.get_mut(from) {
                set.insert(to);
            }
        }
    }
    neighbours
}

/// Hosts, those with the most neighbours first, then in the file's order.
fn hosts(graph: &Graph, neighbours: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut hosts: Vec<usize> = (0..graph.nodes.len())
        .filter(|n| graph.nodes.get(*n).is_some_and(|n| n.kind == Kind::Host))
        .collect();
    hosts.sort_by_key(|n| (std::cmp::Reverse(neighbours.get(*n).map_or(0, BTreeSet::len)), *n));
    hosts
}

fn kind(graph: &Graph, node: usize) -> Option<Kind> {
    graph.nodes.get(node).map(|n| n.kind)
}

fn make_switch(graph: &mut Graph, node: usize, why: &str) {
    let Some(node) = graph.nodes.get_mut(node) else { return };
    node.kind = Kind::Switch;
    let said = format!("{} is taken for a switch: {why}", comment(&node.name));
    graph.decisions.push(said);
}

fn hosts_that_forward(graph: &mut Graph, neighbours: &[BTreeSet<usize>]) {
    let mut links = vec![0u32; graph.nodes.len()];
    for edge in &graph.edges {
        for end in [edge.ends.0, edge.ends.1] {
            if let Some(count) = links.get_mut(end) {
                *count += 1;
            }
        }
    }
    for node in hosts(graph, neighbours) {
        let Some(others) = neighbours.get(node).filter(|others| others.len() > 1) else { continue };
        if others.iter().any(|other| kind(graph, *other) != Some(Kind::Switch)) {
            make_switch(graph, node, "hosts are linked to it");
        } else if links.get(node).is_some_and(|links| *links > MOST_UPLINKS) {
            make_switch(graph, node, "it has more links than a server can have");
        }
    }
}

fn hosts_that_join(graph: &mut Graph, neighbours: &[BTreeSet<usize>], named: &[String]) {
    let mut parts = Parts::new(graph.nodes.len());
    for Edge { ends: (a, b), .. } in &graph.edges {
        if [*a, *b].iter().all(|n| kind(graph, *n) == Some(Kind::Switch)) {
            parts.join(*a, *b);
        }
    }
    // A gateway inside of the network (a NAT between two parts of it) is a router as well, unless
    // somebody has named it.
    let inner = graph.nodes.iter().enumerate().filter(|(_, n)| n.kind == Kind::Gateway);
    let inner: Vec<usize> = inner.filter(|(_, n)| !named.contains(&n.name)).map(|(at, _)| at).collect();
    for node in hosts(graph, neighbours).into_iter().chain(inner) {
        let others: Vec<usize> = (neighbours.get(node).into_iter().flatten().copied())
            .filter(|other| kind(graph, *other) == Some(Kind::Switch))
            .collect();
        let joined: BTreeSet<usize> = others.iter().map(|other| parts.root(*other)).collect();
        if joined.len() > 1 {
            make_switch(graph, node, "nothing else joins the switches that it is linked to");
            for other in others {
                parts.join(node, other);
            }
        }
    }
}

/// Which nodes are connected (union-find with path halving).
struct Parts(Vec<usize>);

impl Parts {
    fn new(nodes: usize) -> Parts {
        Parts((0..nodes).collect())
    }

    fn root(&mut self, mut node: usize) -> usize {
        while let Some(parent) = self.0.get(node).copied().filter(|parent| *parent != node) {
            let above = self.0.get(parent).copied().unwrap_or(parent);
            if let Some(slot) = self.0.get_mut(node) {
                *slot = above;
            }
            node = above;
        }
        node
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller number stays the root, so that a part is known by its first node.
        if let Some(slot) = self.0.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
    }
}

/// Leaves out all but the part with the most switches, and in it hosts without a switch.
fn keep_largest(graph: &mut Graph, neighbours: &[BTreeSet<usize>]) {
    let mut parts = Parts::new(graph.nodes.len());
    let is_switch = |graph: &Graph, n: usize| kind(graph, n) == Some(Kind::Switch);
    for Edge { ends: (a, b), .. } in &graph.edges {
        if is_switch(graph, *a) && is_switch(graph, *b) {
            parts.join(*a, *b);
        }
    }
    let mut switches: BTreeMap<usize, usize> = BTreeMap::new();
    for node in (0..graph.nodes.len()).filter(|n| is_switch(graph, *n)) {
        *switches.entry(parts.root(node)).or_default() += 1;
    }
    let largest = switches.iter().max_by_key(|(root, size)| (**size, std::cmp::Reverse(**root)));
    let Some(largest) = largest.map(|(root, _)| *root) else { return };
    let stays: Vec<bool> = (0..graph.nodes.len())
        .map(|node| match is_switch(graph, node) {
            true => parts.root(node) == largest,
            false => (neighbours.get(node).into_iter().flatten())
                .any(|other| is_switch(graph, *other) && parts.root(*other) == largest),
        })
        .collect();
    let away: Vec<(usize, String)> = (graph.nodes.iter().zip(&stays))
        .filter(|(_, stays)| !**stays)
        .map(|(node, _)| (node.line, comment(&node.name)))
        .collect();
    for (line, name) in away {
        graph.leave(line, format!("node {name}"), "it is not connected to the largest part");
    }
    let mut renumbered = vec![usize::MAX; graph.nodes.len()];
    let kept = renumbered.iter_mut().zip(&stays).filter(|(_, stays)| **stays);
    for (next, (slot, _)) in kept.enumerate() {
        *slot = next;
    }
    let number = |node: usize| renumbered.get(node).copied().unwrap_or(usize::MAX);
    let mut kept = stays.iter();
    graph.nodes.retain(|_| kept.next().copied().unwrap_or(false));
    let mut cut = 0;
    graph.edges.retain_mut(|edge| {
        edge.ends = (number(edge.ends.0), number(edge.ends.1));
        let whole = edge.ends.0 != usize::MAX && edge.ends.1 != usize::MAX;
        cut += usize::from(!whole);
        whole
    });
    // Between two hosts that both stay there may be a link as well.
    let hosts_only =
        |graph: &Graph, edge: &Edge| !is_switch(graph, edge.ends.0) && !is_switch(graph, edge.ends.1);
    let between: Vec<usize> = graph.edges.iter().filter(|e| hosts_only(graph, e)).map(|e| e.line).collect();
    for line in between {
        graph.leave(line, "a link between two hosts", "hosts of a site are linked to switches only");
    }
    let switch: Vec<bool> = graph.nodes.iter().map(|n| n.kind == Kind::Switch).collect();
    let at = |node: usize| switch.get(node).copied().unwrap_or(false);
    graph.edges.retain(|edge| at(edge.ends.0) || at(edge.ends.1));
}
