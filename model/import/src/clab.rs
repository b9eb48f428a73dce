//! From containerlab's topology file (containerlab.dev/manual/topo-def-file) to a graph.
//!
//! What a node is follows from its kind; `kind`, like `group`, is looked for in the node, its group
//! and the defaults. Bridges, switches and routers forward; a `linux` container is a host, unless it
//! joins others ([`crate::settle`]). Links are read in the short form
//! (`endpoints: ["a:eth1", "b:eth1"]`) and in the long one (`type: veth` and two endpoints with
//! `node` and `interface`). containerlab has no rates in the file: what [`crate::export`] writes
//! under a link's `vars` is read back.

use crate::graph::{Edge, Graph, Kind};
use crate::names::comment;
use crate::tree::{self, Node};
use crate::values::{LONGEST_DELAY, RATES};
use crate::{ImportError, Imported, Options, Source};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::BitRate;
use tandem_model::site::Collector;

/// Kinds that are hosts.
const HOSTS: &[&str] = &[
    "linux",
    "ext-container",
    "host",
    "generic_vm",
    "freebsd",
    "openbsd",
    "spirent_stc",
    "keysight_ixia-c-one",
];
/// Kinds that forward: bridges, and routers and switches by the beginnings of their names, also
/// those of before (`srl`, `vr-sros`).
const SWITCHES: &[&str] = &[
    "bridge",
    "ovs-bridge",
    "nokia_",
    "srl",
    "arista_",
    "ceos",
    "juniper_",
    "crpd",
    "cjunosevolved",
    "cisco_",
    "xrd",
    "c8000",
    "vr-",
    "sonic-",
    "cumulus_",
    "cvx",
    "nvidia_",
    "dell_",
    "huawei_",
    "mikrotik_",
    "6wind_",
    "arrcus_",
    "aruba_",
    "ciena_",
    "checkpoint_",
    "fortinet_",
    "f5_",
    "fdio_",
    "ipinfusion_",
    "openwrt",
    "paloalto_",
    "plvision_",
    "rare",
    "veesix_",
    "vyosnetworks_",
];
/// Ends of links that are no nodes of the topology: the machine itself and what is outside.
const OUTSIDE: &[&str] = &["host", "mgmt-net", "macvlan", "dummy"];

/// The value of the label by which [`crate::export`] tells gateways.
pub(crate) const GATEWAY_LABEL: &str = "gateway";
/// That label.
pub(crate) const LABEL: &str = "tandem";

/// True for a topology file of containerlab.
pub(crate) fn recognises(source: Source<'_>) -> bool {
    let yaml = crate::ends_with(source.file, &[".yml", ".yaml"]);
    yaml && source.text.lines().any(|line| line.starts_with("topology:"))
}

/// Translates it.
pub(crate) fn translate(sources: &[Source<'_>], options: &Options) -> Result<Imported, ImportError> {
    let source = crate::single(sources)?;
    crate::write::finish(read(source)?, options)
}

/// The file as a graph.
pub(crate) fn read(source: Source<'_>) -> Result<Graph, ImportError> {
    let tree = tree::read(source)?;
    let mut reader = Reader {
        text: source.text,
        c: Collector::new(source.text),
        graph: Graph::new(source.file, "containerlab"),
        nodes: BTreeMap::new(),
    };
    let root = tree.root().filter(|root| root.is_map());
    let Some(topology) = root.and_then(|root| root.get("topology")).filter(|t| t.is_map()) else {
        reader.c.add(
            0..1,
            "topology",
            "there is no topology in it",
            "write `topology:` with `nodes:` and `links:`",
        );
        return Err(ImportError::Faults(vec![reader.c.finish(source.file)]));
    };
    reader.graph.name = root.and_then(|r| r.get("name")).and_then(Node::text).unwrap_or_default().to_owned();
    for (key, value) in root.into_iter().flat_map(Node::entries) {
        if let Some(key @ ("mgmt" | "settings")) = key.text() {
            reader.graph.leave(value.line(), key, "a lab's control network is made by `tandem-lab up`");
        }
    }
    reader.nodes(topology)?;
    reader.links(topology)?;
    if reader.c.is_empty() {
        Ok(reader.graph)
    } else {
        Err(ImportError::Faults(vec![reader.c.finish(source.file)]))
    }
}

struct Reader<'s> {
    text: &'s str,
    c: Collector<'s>,
    graph: Graph,
    /// By name.
    nodes: BTreeMap<String, usize>,
}

impl Reader<'_> {
    fn fault(&mut self, at: Node<'_>, key: &str, problem: String, instead: &str) {
        let start = at.offset(self.text);
        let width = at.text().map_or(1, str::len);
        self.c.add(start..start + width, key, problem, instead);
    }

    fn nodes(&mut self, topology: Node<'_>) -> Result<(), ImportError> {
        let Some(nodes) = topology.get("nodes").filter(|nodes| nodes.is_map()) else {
            self.fault(
                topology,
                "topology.nodes",
                "there are no nodes".to_owned(),
                "write them under `nodes:`",
            );
            return Ok(());
        };
        for (key, node) in nodes.entries() {
            let Some(name) = key.text().filter(|name| !name.is_empty()) else {
                self.fault(key, "topology.nodes", "a node's name is a text".to_owned(), "write a name");
                continue;
            };
            if name == "<<" {
                self.graph.leave(key.line(), "nodes that are merged by `<<`", "write them out");
                continue;
            }
            let kind = self.kind(topology, node, name);
            let number = self.graph.node(name, kind, key.line())?;
            if self.nodes.insert(name.to_owned(), number).is_some() {
                self.fault(
                    key,
                    "topology.nodes",
                    format!("there are two nodes {:?}", comment(name)),
                    "rename one",
                );
            }
            for left in ["exec", "binds", "startup-config", "ports", "env", "cmd"] {
                if let Some(value) = node.get(left) {
                    let why = "what runs in a node is the lab's matter";
                    self.graph.leave(value.line(), format!("`{left}` of a node"), why);
                }
            }
        }
        Ok(())
    }

    /// What a node is, by its kind.
    fn kind(&mut self, topology: Node<'_>, node: Node<'_>, name: &str) -> Kind {
        let defaults = topology.get("defaults");
        let own = |key: &str| node.get(key).and_then(Node::text);
        let group = own("group").and_then(|group| topology.get("groups")?.get(group));
        let kind = own("kind")
            .or_else(|| group.and_then(|g| g.get("kind")).and_then(Node::text))
            .or_else(|| defaults.and_then(|d| d.get("kind")).and_then(Node::text));
        let label = node.get("labels").and_then(|l| l.get(LABEL)).and_then(Node::text);
        match kind {
            _ if label == Some(GATEWAY_LABEL) => Kind::Gateway,
            Some(kind) if HOSTS.contains(&kind) => Kind::Host,
            Some(kind) if SWITCHES.iter().any(|begin| kind.starts_with(begin)) => Kind::Switch,
            // A cluster whose nodes are others of the file.
            Some("k8s-kind") => Kind::Host,
            Some(kind) => {
                let said = format!("{} of the kind {} is taken for a switch", comment(name), comment(kind));
                self.graph.decisions.push(said);
                Kind::Switch
            }
            None => Kind::Host,
        }
    }

    fn links(&mut self, topology: Node<'_>) -> Result<(), ImportError> {
        let Some(links) = topology.get("links") else { return Ok(()) };
        let Some(list) = links.list() else {
            // `links:` with nothing behind it.
            if links.text().is_none_or(|text| !text.is_empty()) {
                self.fault(links, "topology.links", "links are a list".to_owned(), "begin each with `- `");
            }
            return Ok(());
        };
        for link in list {
            let kind = link.get("type").and_then(Node::text).unwrap_or("veth");
            if kind != "veth" || link.get("endpoint").is_some() {
                let why = "its other end is outside of the topology";
                self.graph.leave(link.line(), format!("a link of the type {}", comment(kind)), why);
                continue;
            }
            let ends: Vec<Node<'_>> = match link.get("endpoints").and_then(Node::list) {
                Some(ends) if ends.len() == 2 => ends.collect(),
                _ => {
                    let instead = "write endpoints: [\"a:eth1\", \"b:eth1\"]";
                    self.fault(link, "topology.links", "a link has two endpoints".to_owned(), instead);
                    continue;
                }
            };
            let ends: Vec<Option<usize>> = ends.into_iter().map(|end| self.end(end)).collect();
            let [Some(a), Some(b)] = ends.as_slice() else { continue };
            let edge = self.characteristics(link, Edge::plain((*a, *b), link.line()));
            self.graph.edge(edge)?;
        }
        Ok(())
    }

    /// The node at an end of a link: `node:interface`, or a map with `node`.
    fn end(&mut self, end: Node<'_>) -> Option<usize> {
        let (at, name) = match end.text() {
            Some(text) => (end, text.split_once(':').map_or(text, |(name, _)| name)),
            None => {
                let node = end.get("node").unwrap_or(end);
                (node, node.text().unwrap_or_default())
            }
        };
        let known = self.nodes.get(name).copied();
        if known.is_none() && OUTSIDE.contains(&name) {
            self.graph.leave(
                end.line(),
                format!("a link to {name}"),
                "its other end is outside of the topology",
            );
        } else if known.is_none() {
            let problem = format!("there is no node {:?}", comment(name));
            self.fault(
                at,
                "topology.links",
                problem,
                "write the name of a node and its interface: \"a:eth1\"",
            );
        }
        known
    }

    /// What stands under `vars` of a link, as [`crate::export`] writes it.
    fn characteristics(&mut self, link: Node<'_>, mut edge: Edge) -> Edge {
        for left in ["mtu", "labels"] {
            if let Some(value) = link.get(left) {
                self.graph.leave(value.line(), format!("`{left}` of a link"), "a site's links have none");
            }
        }
        let Some(vars) = link.get("vars") else { return edge };
        for (key, value) in vars.entries() {
            let text = value.text().unwrap_or_default();
            let understood = match key.text() {
                Some("rate") => {
                    edge.rate = text.parse().ok().filter(|r: &BitRate| RATES.contains(&r.0));
                    edge.rate.is_some()
                }
                Some("delay") => {
                    edge.delay =
                        tandem_model::spellings::time(text).ok().filter(|d: &Duration| *d <= LONGEST_DELAY);
                    edge.delay.is_some()
                }
                Some("loss") => {
                    edge.loss_ppm = value.number().and_then(crate::values::loss_of);
                    edge.loss_ppm.is_some()
                }
                Some("queue") => {
                    edge.queue = text.parse().ok().filter(|n| (1..=100_000).contains(n));
                    edge.queue.is_some()
                }
                _ => false,
            };
            if !understood {
                let name = format!("`vars` {} of a link", comment(key.text().unwrap_or("?")));
                self.graph.leave(key.line(), name, "a site has rate, delay, loss and queue");
            }
        }
        edge
    }
}
