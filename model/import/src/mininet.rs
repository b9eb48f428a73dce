//! From a Mininet script to a graph.
//!
//! The script is Python, so that only running it tells its topology. That is done elsewhere (by
//! `tandem site import`, in a child that can start and change nothing); what it finds comes here as
//! JSON ([`Recorded`]), which is foreign text like any other.

use crate::graph::{Edge, Graph, Kind};
use crate::names::comment;
use crate::values::{loss_of, rate_of, tc_time};
use crate::{ImportError, Imported, Options, Source};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use tandem_model::site::Collector;

/// What was recorded of a script: what it adds to a `Topo` or to a `Mininet`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recorded {
    /// The class or key of the topology.
    name: String,
    nodes: Vec<RecordedNode>,
    links: Vec<RecordedLink>,
    /// What was seen besides, such as a controller: line, what, why it is left out.
    notes: Vec<(usize, String, String)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedNode {
    name: String,
    kind: Kind,
    line: usize,
    /// Options, by name; values that are neither text nor number as null.
    options: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedLink {
    ends: (String, String),
    line: usize,
    options: BTreeMap<String, Value>,
}

/// The option of a host by which [`crate::export`] tells gateways.
pub(crate) const GATEWAY_OPTION: &str = "site_gateway";

/// True for a Python file.
pub(crate) fn recognises(source: Source<'_>) -> bool {
    crate::ends_with(source.file, &[".py"])
}

/// Translates what was recorded of a script.
pub(crate) fn translate(sources: &[Source<'_>], options: &Options) -> Result<Imported, ImportError> {
    let source = crate::single(sources)?;
    crate::write::finish(read(source)?, options)
}

/// What was recorded as a graph.
pub(crate) fn read(source: Source<'_>) -> Result<Graph, ImportError> {
    let fault = |problem: String, instead: &str| {
        let mut c = Collector::new("");
        c.add(0..0, "", problem, instead);
        ImportError::Faults(vec![c.finish(source.file)])
    };
    let recorded: Recorded = serde_json::from_str(source.text).map_err(|error| {
        let instead = "let the script leave the recording to whom started it";
        fault(format!("what was recorded of the script is not as it should be: {error}"), instead)
    })?;
    let mut graph = Graph::new(source.file, "Mininet");
    graph.name = recorded.name;
    let mut numbers = BTreeMap::new();
    for mut node in recorded.nodes {
        let is_gateway = node.options.remove(GATEWAY_OPTION).is_some_and(|value| value == Value::Bool(true));
        let kind = if is_gateway && node.kind == Kind::Host { Kind::Gateway } else { node.kind };
        let number = graph.node(&node.name, kind, node.line)?;
        let mut dpid = None;
        for (key, value) in &node.options {
            let what = format!("`{}` of a node", comment(key));
            match key.as_str() {
                "dpid" if node.kind == Kind::Switch => {
                    dpid =
                        value.as_str().and_then(|hex| u64::from_str_radix(hex, 16).ok()).filter(|d| *d != 0);
                    if dpid.is_none() {
                        graph.leave(
                            node.line,
                            what,
                            "it is no number in hexadecimal digits (mininet.node.Switch)",
                        );
                    }
                }
                "ip" | "defaultRoute" => graph.leave(node.line, what, "addresses come from [addresses]"),
                "mac" => graph.leave(node.line, what, "Ethernet addresses are given by the site"),
                "cls" => {}
                _ => graph.leave(node.line, what, "a site has no such thing"),
            }
        }
        if let Some(made) = graph.nodes.get_mut(number) {
            made.dpid = dpid;
        }
        numbers.insert(node.name, number);
    }
    for link in recorded.links {
        let (Some(a), Some(b)) = (numbers.get(&link.ends.0), numbers.get(&link.ends.1)) else {
            graph.leave(link.line, "a link of a node that is not in the topology", "it has one end only");
            continue;
        };
        let edge = characteristics(&mut graph, &link, Edge::plain((*a, *b), link.line));
        graph.edge(edge)?;
    }
    let mut dpids = std::collections::BTreeSet::new();
    for node in &mut graph.nodes {
        node.dpid = node.dpid.filter(|dpid| dpids.insert(*dpid));
    }
    for (line, what, why) in recorded.notes {
        graph.leave(line, comment(&what), comment(&why));
    }
    Ok(graph)
}

/// `bw` in Mbit/s, `delay` as tc has it, `loss` in percent, `max_queue_size` in packets
/// (mininet.link.TCIntf).
fn characteristics(graph: &mut Graph, link: &RecordedLink, mut edge: Edge) -> Edge {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    for (key, value) in &link.options {
        if value.is_null() {
            continue;
        }
        let (is_read, why) = match key.as_str() {
            "bw" => {
                edge.rate = number(value).and_then(|mbit| rate_of(mbit, 1e6));
                (edge.rate.is_some(), "a site's rates go from 8 kbit/s to 4 Tbit/s")
            }
            "delay" => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                edge.delay = tc_time(&text);
                (edge.delay.is_some(), "it is no time up to 10 s")
            }
            "loss" => {
                edge.loss_ppm = number(value).and_then(loss_of);
                (edge.loss_ppm.is_some(), "it is no percentage")
            }
            "max_queue_size" => {
                let packets = number(value).filter(|n| (1.0..=100_000.0).contains(n));
                edge.queue = packets.map(|n| n as u32);
                (edge.queue.is_some(), "a site's queues hold 1 to 100,000 packets")
            }
            "port1" | "port2" => (false, "ports are numbered in the order of the links"),
            _ => (false, "a site's links have rate, delay, loss and queue"),
        };
        if !is_read {
            graph.leave(link.line, format!("`{}` of a link", comment(key)), why);
        }
    }
    edge
}
