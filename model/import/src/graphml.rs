//! From GraphML (graphml.graphdrawing.org) to a graph; what the Topology Zoo (Knight et al., IEEE
//! JSAC 29(9), 2011) writes in its files is understood:
//!
//! | in the file | in the site |
//! |---|---|
//! | a node's `label` (or the text that yEd draws) | its name |
//! | `Longitude` and `Latitude` of both ends | a link's delay: the great circle at 200 km a ms |
//! | `LinkSpeedRaw`, else `LinkSpeed` with `LinkSpeedUnits`, else `LinkLabel` or `label` | its rate |
//!
//! Every node is a switch. Document types are refused, so that no entity can be expanded.

use crate::graph::{Edge, Graph, Kind};
use crate::lines::Lines;
use crate::names::comment;
use crate::values::{distance_km, fibre_delay, rate_of};
use crate::{ImportError, Imported, LARGEST_FILE, Options, Source};
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::BTreeMap;
use tandem_model::BitRate;
use tandem_model::site::Collector;

/// Elements and texts that a document may have.
const MOST_ELEMENTS: u32 = 4_000_000;

/// True for a GraphML file.
pub(crate) fn recognises(source: Source<'_>) -> bool {
    let named = crate::ends_with(source.file, &[".graphml"]);
    named || (crate::ends_with(source.file, &[".xml"]) && source.text.contains("<graphml"))
}

/// Translates it.
pub(crate) fn translate(sources: &[Source<'_>], options: &Options) -> Result<Imported, ImportError> {
    crate::write::finish(read(crate::single(sources)?)?, options)
}

/// The data of an element, by the names of their keys.
type Data<'d> = BTreeMap<&'d str, &'d str>;

/// The file as a graph.
pub(crate) fn read(source: Source<'_>) -> Result<Graph, ImportError> {
    let mut c = Collector::new(source.text);
    let refused = |mut c: Collector<'_>, at: usize, problem: String, instead: &str| {
        c.add(at..at + 1, "", problem, instead);
        Err(ImportError::Faults(vec![c.finish(source.file)]))
    };
    if source.text.len() as u64 > LARGEST_FILE {
        let problem = format!("the file is larger than {} MiB", LARGEST_FILE >> 20);
        return refused(c, 0, problem, "take a part of it");
    }
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MOST_ELEMENTS, ..ParsingOptions::default() };
    let document = match Document::parse_with_options(source.text, options) {
        Ok(document) => document,
        Err(error) => {
            let place = error.pos();
            let at = line_and_column(source.text, place.row as usize, place.col as usize);
            // The parser says the place behind its sentence; we say it before.
            let said = error.to_string();
            let said = said.split(" at ").next().unwrap_or_default();
            return refused(
                c,
                at,
                format!("this is no XML: {}", comment(said)),
                "correct it, or export it again",
            );
        }
    };
    let root = document.root_element();
    let graph_element = root.children().find(|n| n.has_tag_name_of("graph"));
    let Some(element) = graph_element.filter(|_| root.has_tag_name_of("graphml")) else {
        return refused(c, 0, "there is no graph in it".to_owned(), "a GraphML file has <graphml><graph>");
    };
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for key in root.children().filter(|n| n.has_tag_name_of("key")) {
        if let (Some(id), Some(name)) = (key.attribute("id"), key.attribute("attr.name")) {
            keys.insert(id, name);
        }
    }
    let lines = Lines::of(source.text);
    let mut graph = Graph::new(source.file, "GraphML");
    let about = data(element, &keys);
    graph.name = about.get("Network").or_else(|| about.get("label")).unwrap_or(&"").trim().to_owned();
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut places: Vec<Option<(f64, f64)>> = Vec::new();
    for node in element.children().filter(|n| n.has_tag_name_of("node")) {
        let Some(id) = node.attribute("id") else {
            c.add(node.range(), "node", "a node without an id", "give it an `id`");
            continue;
        };
        let of_node = data(node, &keys);
        let drawn = || node.descendants().find(|n| n.has_tag_name_of("NodeLabel")).and_then(|n| n.text());
        let label = of_node.get("label").copied().or_else(drawn).map_or("", str::trim);
        let name = if label.is_empty() { id } else { label };
        let line = lines.at(node.range().start);
        let number = graph.node(name, Kind::Switch, line)?;
        if numbers.insert(id, number).is_some() {
            c.add(node.range(), "node", format!("there are two nodes {:?}", comment(id)), "rename one");
        }
        let degrees = |name: &str, most: f64| {
            let number = of_node.get(name)?.trim().parse::<f64>().ok()?;
            (number.abs() <= most).then_some(number)
        };
        places.push(degrees("Longitude", 180.0).zip(degrees("Latitude", 90.0)));
        if node.children().any(|n| n.has_tag_name_of("graph")) {
            graph.leave(line, "a graph inside a node", "a switch of a site has no inside");
        }
    }
    let is_directed = element.attribute("edgedefault") == Some("directed");
    let mut directed = Vec::new();
    let mut far = 0;
    for edge in element.children().filter(|n| n.has_tag_name_of("edge")) {
        let end = |c: &mut Collector<'_>, which: &str| {
            let name = edge.attribute(which).unwrap_or_default();
            let number = numbers.get(name).copied();
            if number.is_none() {
                let problem = format!("its {which}, {:?}, is no node", comment(name));
                c.add(edge.range(), "edge", problem, "write the id of a node");
            }
            number
        };
        let (from, to) = (end(&mut c, "source"), end(&mut c, "target"));
        let (Some(from), Some(to)) = (from, to) else { continue };
        let line = lines.at(edge.range().start);
        let mut link = Edge::plain((from, to), line);
        let of_edge = data(edge, &keys);
        link.rate = rate(&of_edge);
        let label = of_edge.get("LinkLabel").or_else(|| of_edge.get("label"));
        if let (None, Some(label)) = (link.rate, label.filter(|label| !label.trim().is_empty())) {
            let what = format!("the label {:?} of a link", comment(label.trim()));
            graph.leave(line, what, "it is no rate");
        }
        if let (Some(Some(a)), Some(Some(b))) = (places.get(from), places.get(to)) {
            link.delay = fibre_delay(distance_km(*a, *b));
            far += usize::from(link.delay.is_some());
        }
        directed.push(edge.attribute("directed").map_or(is_directed, |d| d == "true"));
        graph.edge(link)?;
    }
    for left in element.children().filter(|n| n.has_tag_name_of("hyperedge")) {
        let line = lines.at(left.range().start);
        graph.leave(line, "a hyperedge", "a link has two ends");
    }
    if far > 0 {
        graph
            .decisions
            .push(format!("Delays of {far} links are by the places of their ends, at 200 km a ms"));
    }
    crate::graph::pair_directions(&mut graph, &directed);
    if c.is_empty() { Ok(graph) } else { Err(ImportError::Faults(vec![c.finish(source.file)])) }
}

/// Names are compared without their namespaces, which files often forget.
trait TagName {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl TagName for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

fn data<'d>(element: Node<'d, '_>, keys: &BTreeMap<&'d str, &'d str>) -> Data<'d> {
    let all = element.children().filter(|n| n.has_tag_name_of("data"));
    all.filter_map(|d| Some((*keys.get(d.attribute("key")?)?, d.text()?))).collect()
}

/// The place of a line and column in bytes.
fn line_and_column(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + crate::tree::offset(rest, column.saturating_sub(1)).min(rest.find('\n').unwrap_or(rest.len()))
}

fn rate(edge: &Data<'_>) -> Option<BitRate> {
    let number = |name: &str| edge.get(name)?.trim().parse::<f64>().ok();
    if let Some(raw) = number("LinkSpeedRaw") {
        return rate_of(raw, 1.0);
    }
    if let Some(speed) = number("LinkSpeed") {
        let unit = edge.get("LinkSpeedUnits").map_or("", |u| u.trim());
        return rate_of(speed, factor(unit)?);
    }
    ["LinkLabel", "label"].into_iter().filter_map(|key| edge.get(key)).find_map(|label| labelled(label))
}

fn factor(unit: &str) -> Option<f64> {
    Some(match unit {
        "K" | "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return None,
    })
}

/// A rate as people label links: a number with its unit, or the name of a line (ITU-T G.702 and
/// G.707, ANSI T1.105).
pub(crate) fn labelled(label: &str) -> Option<BitRate> {
    let label: String = label.chars().filter(|c| !c.is_whitespace() && *c != '-').take(40).collect();
    let lower = label.to_ascii_lowercase();
    let digits = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        // A letter behind it: `c` of a concatenated signal.
        rest.get(..end)?.parse::<f64>().ok().filter(|_| rest.len() - end <= 1)
    };
    let line = match lower.as_str() {
        "t1" | "ds1" => Some(1.544),
        "e1" => Some(2.048),
        "e3" => Some(34.368),
        "t3" | "ds3" => Some(44.736),
        _ => (lower.strip_prefix("oc").and_then(digits).map(|n| n * 51.84))
            .or_else(|| lower.strip_prefix("stm").and_then(digits).map(|n| n * 155.52)),
    };
    if let Some(mbit) = line {
        return rate_of(mbit, 1e6);
    }
    let end = label.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = label.split_at(end);
    let letter = unit.get(..1)?;
    let rest = unit.get(1..)?.to_ascii_lowercase();
    let known = ["", "b", "bps", "b/s", "bit", "bit/s", "bits", "bits/s", "be", "ige", "e", "ig", "igabit"];
    if !known.contains(&rest.as_str()) {
        return None;
    }
    rate_of(number.parse().ok()?, factor(&letter.to_ascii_uppercase())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_rates_where_they_say_one() {
        let mbit = |label: &str| labelled(label).map(|r| r.0 as f64 / 1e6);
        assert_eq!(mbit("OC-192c"), Some(9953.28), "192 times 51.84 Mbit/s");
        assert_eq!(mbit("STM-1"), Some(155.52));
        assert_eq!(mbit("10 Gbps"), Some(10_000.0));
        assert_eq!(mbit("2.5Gb/s"), Some(2_500.0));
        assert_eq!(mbit("622 Mbit/s"), Some(622.0));
        assert_eq!(mbit("10GbE"), Some(10_000.0));
        assert_eq!(mbit("T3"), Some(44.736));
        for none in ["", "fibre", "10", "OC", "10 Gulden", "1e9", "0 M", "é"] {
            assert_eq!(mbit(none), None, "{none}");
        }
    }
}
