//! A settled graph as the text of site.toml, held to the site's own reader before anyone sees it.

use crate::graph::{Edge, Graph, Kind};
use crate::names::{comment, site_name};
use crate::settle::{ResolvedGraph, settle};
use crate::values::{percent_text, rate_text, time_text};
use crate::{ImportError, Imported, Leftover, Options};
use std::collections::BTreeMap;
use std::fmt::Write;
use tandem_model::site;

/// Settles a graph and writes it.
pub(crate) fn finish(graph: Graph, options: &Options) -> Result<Imported, ImportError> {
    let settled = settle(graph, options)?;
    let text = site_text(&settled);
    if let Err(faults) = site::read(&text, "the translation") {
        return Err(ImportError::Unfit { file: settled.graph.file, faults });
    }
    let Graph { leftovers, decisions, .. } = settled.graph;
    Ok(Imported { site: text, leftovers, decisions })
}

/// The head of a translated file: where it is from, what was decided, what was left out.
pub(crate) fn head(text: &mut String, origin: &str, leftovers: &[Leftover], decisions: &[String]) {
    let _ = writeln!(text, "# From {origin}, by `tandem site import`.");
    for decision in decisions {
        let _ = writeln!(text, "# {decision}.");
    }
    if !leftovers.is_empty() {
        let _ = writeln!(text, "# Not carried over:");
        for leftover in leftovers {
            let _ = writeln!(text, "#   {leftover}");
        }
    }
}

fn site_text(settled: &ResolvedGraph) -> String {
    let ResolvedGraph { graph, nodes } = settled;
    let mut text = String::new();
    let file = comment(crate::base_name(&graph.file));
    head(&mut text, &format!("{file} ({})", graph.origin), &graph.leftovers, &graph.decisions);
    let stem = file.split('.').next().unwrap_or_default();
    let name = if graph.name.trim().is_empty() { stem } else { &graph.name };
    let _ = write!(text, "name = \"{}\"\n\n[topology]\nshape = \"free-form\"\n", site_name(name));
    for (table, kind) in [("switch", Kind::Switch), ("server", Kind::Host), ("gateway", Kind::Gateway)] {
        for node in nodes.iter().filter(|n| n.kind == kind) {
            let _ = write!(text, "\n[[{table}]]\nname = \"{}\"", node.name);
            if let Some(was) = &node.was {
                let _ = write!(text, "    # {}", comment(was));
            }
            text.push('\n');
            if let Some(dpid) = node.dpid.filter(|_| kind == Kind::Switch) {
                let _ = writeln!(text, "dpid = \"{dpid:#x}\"");
            }
        }
    }
    for (edge, count) in counted(&graph.edges) {
        let name = |n: usize| nodes.get(n).map_or("", |n| n.name.as_str());
        let _ =
            write!(text, "\n[[link]]\nbetween = [\"{}\", \"{}\"]\n", name(edge.ends.0), name(edge.ends.1));
        if let Some(rate) = edge.rate {
            let _ = writeln!(text, "rate = \"{}\"", rate_text(rate));
        }
        if let Some(delay) = edge.delay {
            let _ = writeln!(text, "delay = \"{}\"", time_text(delay));
        }
        if let Some(loss) = edge.loss_ppm {
            let _ = writeln!(text, "loss = {}", percent_text(loss));
        }
        if let Some(queue) = edge.queue {
            let _ = writeln!(text, "queue = {queue}");
        }
        if count > 1 {
            let _ = writeln!(text, "count = {count}");
        }
    }
    text
}

/// Links that one table may stand for.
const MOST_PARALLEL: usize = 64;

/// Links in the order of the file; those that are the same as an earlier one are counted there.
fn counted(edges: &[Edge]) -> Vec<(&Edge, usize)> {
    let mut known = BTreeMap::new();
    let mut counted: Vec<(&Edge, usize)> = Vec::new();
    for edge in edges {
        let (a, b) = edge.ends;
        let key = (a.min(b), a.max(b), edge.rate, edge.delay, edge.loss_ppm, edge.queue);
        let at = *known.entry(key).or_insert(counted.len());
        match counted.get_mut(at) {
            Some((_, count)) if *count < MOST_PARALLEL => *count += 1,
            _ => {
                known.insert(key, counted.len());
                counted.push((edge, 1));
            }
        }
    }
    counted
}
