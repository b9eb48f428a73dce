//! From node-link JSON, as NetworkX writes it (`node_link_data`) and TopoHub gives it away, to a
//! graph.
//!
//! Nodes have an `id`, a `name` or `label`, and a `pos`; edges stand under `edges` (`links` in
//! NetworkX before 3.4) and have `source`, `target`, and `dist` in km, of which a delay is made (200
//! km a ms). `rate` and `delay` with their units are taken as a site has them. A node is a switch,
//! unless its `type` says host, server or gateway.

use crate::graph::{Edge, Graph, Kind};
use crate::names::comment;
use crate::tree::{self, Node};
use crate::values::{LONGEST_DELAY, RATES, fibre_delay};
use crate::{ImportError, Imported, Options, Source};
use std::collections::BTreeMap;
use tandem_model::BitRate;
use tandem_model::site::Collector;

/// True for node-link JSON.
pub(crate) fn recognises(source: Source<'_>) -> bool {
    crate::ends_with(source.file, &[".json"]) && source.text.contains("\"nodes\"")
}

/// Translates it.
pub(crate) fn translate(sources: &[Source<'_>], options: &Options) -> Result<Imported, ImportError> {
    crate::write::finish(read(crate::single(sources)?)?, options)
}

/// The file as a graph.
pub(crate) fn read(source: Source<'_>) -> Result<Graph, ImportError> {
    let mut c = Collector::new(source.text);
    // What is no JSON is told as JSON; then YAML, which contains it, knows every value's place.
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(source.text) {
        let lines = source.text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let start: usize = lines.map(str::len).sum();
        let at = start + error.column().saturating_sub(1);
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default().to_owned();
        c.add(at..at + 1, "", format!("this is no JSON: {said}"), "correct it, or export it again");
        return Err(ImportError::Faults(vec![c.finish(source.file)]));
    }
    let tree = tree::read(source)?;
    let mut graph = Graph::new(source.file, "node-link JSON");
    let root = tree.root();
    let nodes = root.and_then(|root| root.get("nodes")).and_then(Node::list);
    let edges = root.and_then(|root| root.get("edges").or_else(|| root.get("links"))).and_then(Node::list);
    let (Some(root), Some(nodes), Some(edges)) = (root, nodes, edges) else {
        let instead =
            "write it with networkx.node_link_data: \"nodes\" and \"edges\" (or \"links\") are lists";
        c.add(0..1, "", "there are no lists of nodes and edges", instead);
        return Err(ImportError::Faults(vec![c.finish(source.file)]));
    };
    let about = root.get("graph");
    graph.name = about.and_then(|g| g.get("name")).and_then(Node::text).unwrap_or_default().to_owned();
    if let Some(demands) = about.and_then(|g| g.get("demands")).filter(|d| d.entries().next().is_some()) {
        graph.leave(demands.line(), "`demands`", "traffic is made per VM ([traffic] of a site)");
    }
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        let Some(id) = node.get("id").and_then(Node::text) else {
            let at = node.offset(source.text);
            c.add(at..at + 1, "nodes", "a node without an id", "give it an \"id\"");
            continue;
        };
        let label = node.get("name").or_else(|| node.get("label")).and_then(Node::text).map_or("", str::trim);
        let kind = match node.get("type").and_then(Node::text) {
            Some("host" | "server") => Kind::Host,
            Some("gateway") => Kind::Gateway,
            _ => Kind::Switch,
        };
        let number = graph.node(if label.is_empty() { id } else { label }, kind, node.line())?;
        if numbers.insert(id, number).is_some() {
            let at = node.offset(source.text);
            c.add(at..at + 1, "nodes", format!("there are two nodes {:?}", comment(id)), "rename one");
        }
        unread(&mut graph, node, "a node", &["id", "name", "label", "type", "pos"]);
    }
    let is_directed = root.get("directed").and_then(Node::text) == Some("true");
    let mut directed = Vec::new();
    let mut far = 0;
    for edge in edges {
        let end = |c: &mut Collector<'_>, which: &str| {
            let name = edge.get(which).and_then(Node::text).unwrap_or_default();
            let number = numbers.get(name).copied();
            if number.is_none() {
                let at = edge.offset(source.text);
                let problem = format!("its {which}, {:?}, is no node", comment(name));
                c.add(at..at + 1, "edges", problem, "write the id of a node");
            }
            number
        };
        let (from, to) = (end(&mut c, "source"), end(&mut c, "target"));
        let (Some(from), Some(to)) = (from, to) else { continue };
        let mut link = Edge::plain((from, to), edge.line());
        let text = |key: &str| edge.get(key).and_then(Node::text);
        link.rate = text("rate").and_then(|r| r.parse().ok()).filter(|r: &BitRate| RATES.contains(&r.0));
        link.delay = text("delay")
            .and_then(|text| tandem_model::spellings::time(text).ok())
            .filter(|d| *d <= LONGEST_DELAY);
        if link.delay.is_none() {
            link.delay = edge.get("dist").and_then(Node::number).and_then(fibre_delay);
            far += usize::from(link.delay.is_some());
        }
        unread(&mut graph, edge, "an edge", &["source", "target", "key", "dist", "rate", "delay"]);
        directed.push(is_directed);
        graph.edge(link)?;
    }
    if far > 0 {
        graph
            .decisions
            .push(format!("Delays of {far} links are by their lengths in km (dist), at 200 km a ms"));
    }
    crate::graph::pair_directions(&mut graph, &directed);
    if c.is_empty() { Ok(graph) } else { Err(ImportError::Faults(vec![c.finish(source.file)])) }
}

/// Notes the keys of a map that nobody reads.
fn unread(graph: &mut Graph, map: Node<'_>, of: &str, known: &[&str]) {
    for (key, value) in map.entries() {
        if let Some(name) = key.text().filter(|name| !known.contains(name)) {
            graph.leave(value.line(), format!("`{}` of {of}", comment(name)), "a site has no such thing");
        }
    }
}
