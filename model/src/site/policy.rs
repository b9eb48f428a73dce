//! `[policy]`, `[policy.weighted]` and `[policy.joint]`: where VMs go and which paths they take.

use super::faults::Collector;
use super::section::Section;
use super::{Allocation, PolicyConfig, Ties};
use serde::{Deserialize, Serialize};

/// The names of the policies that there are. A kind of which none is named here is taken as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolicyNames<'a> {
    /// For `[policy] allocation`.
    pub allocation: &'a [String],
    /// For `[policy] routing`.
    pub routing: &'a [String],
    /// For `[migration] detector`.
    pub detector: &'a [String],
    /// For `[migration] selector`.
    pub selector: &'a [String],
    /// For `[migration] destination`.
    pub destination: &'a [String],
    /// For `[migration] transfer_path`.
    pub transfer_path: &'a [String],
}

/// How much each cost of a server counts in the allocation policy `weighted`. Each cost is a share
/// from 0 to 1 (above where more than the limit is in use), and the server with the lowest weighted
/// sum is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// The share of the server's most-used resource that is reserved.
    pub server: f64,
    /// How full the edge switch's links to other switches are, their mean.
    pub edge: f64,
    /// How full the fullest link between the edge switch and its nearest gateway is.
    pub path: f64,
    /// The idle power of a server that is empty, and so would have to be switched on.
    pub energy: f64,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { server: 1.0, edge: 0.5, path: 0.5, energy: 0.2 }
    }
}

/// By what each level is chosen where server and path are placed together (the allocation policies
/// `server-driven` and `network-driven`, the routing policy `by-level`; Adami et al., IM 2013).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joint {
    /// Core switches, by their load.
    pub core: Allocation,
    /// Aggregation switches, by their load.
    pub aggregation: Allocation,
    /// Edge switches, by their load.
    pub edge: Allocation,
    /// Servers, by how full they are.
    pub server: Allocation,
}

impl Default for Joint {
    fn default() -> Joint {
        let best = Allocation::BestFit;
        Joint { core: best, aggregation: best, edge: best, server: best }
    }
}

/// The largest weight that a site file may have.
const LARGEST: f64 = 1_000_000.0;

pub(super) fn read_policy(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    known: &PolicyNames<'_>,
) -> PolicyConfig {
    let mut p = root.section(c, "policy");
    let cfg = PolicyConfig {
        allocation: p.name(c, "allocation", known.allocation).unwrap_or(Allocation::BestFit.into()),
        routing: p.name(c, "routing", known.routing).unwrap_or_default(),
        ties: p.word(c, "ties", &[("first", Ties::First), ("last", Ties::Last)]).unwrap_or(Ties::First),
        link_margin: p.fraction(c, "link_margin", 0.01, 1000.0).unwrap_or(1.0),
        switch_margin: p.fraction(c, "switch_margin", 0.01, 1000.0),
        server_margin: p.fraction(c, "server_margin", 0.01, 1000.0).unwrap_or(1.0),
        near_misses: p.count(c, "near_misses", 0..=1000).unwrap_or(3),
        weighted: read_weights(&mut p, c),
        joint: read_joint(&mut p, c),
    };
    p.finish(c);
    cfg
}

fn read_joint(policy: &mut Section<'_>, c: &mut Collector<'_>) -> Joint {
    let mut j = policy.section(c, "joint");
    let fits = [Allocation::FirstFit, Allocation::BestFit, Allocation::WorstFit].map(|fit| (fit.name(), fit));
    let mut level = |key| j.word(c, key, &fits).unwrap_or(Allocation::BestFit);
    let joint = Joint {
        core: level("core"),
        aggregation: level("aggregation"),
        edge: level("edge"),
        server: level("server"),
    };
    j.finish(c);
    joint
}

/// Without a section the defaults hold; in a section, what is not written does not count.
fn read_weights(policy: &mut Section<'_>, c: &mut Collector<'_>) -> Weights {
    let is_written = policy.has("weighted");
    let mut w = policy.section(c, "weighted");
    let faults = c.len();
    let mut weight = |key| w.fraction(c, key, 0.0, LARGEST).unwrap_or(0.0);
    let weights = Weights {
        server: weight("server"),
        edge: weight("edge"),
        path: weight("path"),
        energy: weight("energy"),
    };
    let nothing_counts =
        [weights.server, weights.edge, weights.path, weights.energy].iter().all(|w| *w == 0.0);
    if is_written && nothing_counts && c.len() == faults {
        policy.fault(
            c,
            "weighted",
            "no weight is above 0, so all servers would be the same to it",
            "give at least one of server, edge, path, energy a weight above 0, such as `server = 1.0`, or leave the section out",
        );
    }
    w.finish(c);
    if is_written { weights } else { Weights::default() }
}
