//! A topology as other tools have it: nodes and links, with what each tool says of them. Readers
//! make it; `settle` decides what each node is in a site.

use crate::{ImportError, Leftover};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::BitRate;

/// Nodes that a topology may have.
pub const MOST_NODES: usize = 100_000;
/// Links that a topology may have.
pub const MOST_LINKS: usize = 500_000;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Forwards packets.
    Switch,
    /// A machine at the border of the network.
    Host,
    /// A host that is a gateway.
    Gateway,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name in the file.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it stands; 0 where that is not known.
    pub line: usize,
    /// Its datapath id.
    pub dpid: Option<u64>,
}

/// A link.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// The nodes at its ends.
    pub ends: (usize, usize),
    /// Of each direction.
    pub rate: Option<BitRate>,
    /// One way.
    pub delay: Option<Duration>,
    /// Packets lost of a million.
    pub loss_ppm: Option<u32>,
    /// Packets that wait.
    pub queue: Option<u32>,
    /// Where it stands; 0 where that is not known.
    pub line: usize,
}

impl Edge {
    /// A link of which nothing but its ends is known.
    pub fn plain(ends: (usize, usize), line: usize) -> Edge {
        Edge { ends, rate: None, delay: None, loss_ppm: None, queue: None, line }
    }
}

/// A topology.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The file it is from.
    pub file: String,
    /// What that file is, for people.
    pub origin: &'static str,
    /// Its name, if it has one.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its links.
    pub edges: Vec<Edge>,
    /// What is not carried over.
    pub leftovers: Vec<Leftover>,
    /// What was decided where the file says nothing.
    pub decisions: Vec<String>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new(file: &str, origin: &'static str) -> Graph {
        Graph { file: file.to_owned(), origin, ..Graph::default() }
    }

    /// Adds a node; its number.
    ///
    /// # Errors
    /// When there are too many.
    pub fn node(&mut self, name: &str, kind: Kind, line: usize) -> Result<usize, ImportError> {
        if self.nodes.len() >= MOST_NODES {
            return Err(ImportError::TooMany { file: self.file.clone(), what: "nodes", most: MOST_NODES });
        }
        self.nodes.push(Node { name: name.to_owned(), kind, line, dpid: None });
        Ok(self.nodes.len() - 1)
    }

    /// Adds a link.
    ///
    /// # Errors
    /// When there are too many.
    pub fn edge(&mut self, edge: Edge) -> Result<(), ImportError> {
        if self.edges.len() >= MOST_LINKS {
            return Err(ImportError::TooMany { file: self.file.clone(), what: "links", most: MOST_LINKS });
        }
        self.edges.push(edge);
        Ok(())
    }

    /// Notes something that is not carried over; the same for the same reason is counted.
    pub fn leave(&mut self, line: usize, what: impl Into<String>, why: impl Into<String>) {
        leave(&mut self.leftovers, &self.file, line, what, why);
    }
}

/// Makes one link of two directed edges that are each other's opposite; a directed edge alone is a
/// link as well, for every link of a site carries both directions.
pub(crate) fn pair_directions(graph: &mut Graph, directed: &[bool]) {
    let mut waiting: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut paired = 0;
    let mut flags = directed.iter();
    graph.edges.retain(|edge| {
        if !flags.next().copied().unwrap_or(false) {
            return true;
        }
        let (from, to) = edge.ends;
        if let Some(count) = waiting.get_mut(&(to, from)).filter(|count| **count > 0) {
            *count -= 1;
            paired += 1;
            return false;
        }
        *waiting.entry((from, to)).or_default() += 1;
        true
    });
    if paired > 0 {
        graph.decisions.push(format!("{paired} pairs of opposite edges are one link each"));
    }
}

/// Leftovers that are told one by one; what comes after them is one sum.
const TOLD: usize = 200;

/// Notes something that is not carried over; the same for the same reason is counted.
pub(crate) fn leave(
    leftovers: &mut Vec<Leftover>,
    file: &str,
    line: usize,
    what: impl Into<String>,
    why: impl Into<String>,
) {
    let mut what = what.into();
    let mut why = why.into();
    let same = |l: &&mut Leftover, what: &str, why: &str| l.file == file && l.what == what && l.why == why;
    if let Some(known) = leftovers.iter_mut().find(|l| same(l, &what, &why)) {
        known.more += 1;
        return;
    }
    if leftovers.len() >= TOLD {
        what = "and others".to_owned();
        why = "there are too many to name each".to_owned();
        if let Some(known) = leftovers.iter_mut().find(|l| same(l, &what, &why)) {
            known.more += 1;
            return;
        }
    }
    leftovers.push(Leftover { file: file.to_owned(), line, more: 0, what, why });
}
