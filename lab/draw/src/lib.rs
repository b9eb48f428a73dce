//! A data centre as a picture (SVG), level by level, and who is plugged into what as a picture and
//! a table.
//!
//! This crate is pure: it takes a checked site and, through [`Cabling`], which machines its nodes
//! are, and gives text. `tandem-lab draw` writes that to a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tandem_model::{BitRate, Endpoint, LinkId, NodeId, PortNo, Role, Site, SwitchId};

/// Which machine each node of a site is, and which interface each of its ports; a testbed's
/// inventory.
pub trait Cabling {
    /// The machine that a node is, by the node's name in the site file; `None` if none is named.
    fn machine(&self, node: &str) -> Option<&str>;
    /// The interface of that machine that a port of the node is.
    fn interface(&self, node: &str, port: PortNo) -> Option<&str>;
}

/// Where the drawing begins: room for the levels' names.
const LEFT: f64 = 130.0;
const TOP: f64 = 64.0;
const BOX_HEIGHT: f64 = 50.0;
/// Nodes in a row up to which names are written level and ports are numbered.
const FEW: usize = 20;
/// Colours of rates, from the highest; further ones begin again.
const COLORS: [&str; 6] = ["#1e5ab4", "#c8461e", "#2f7d32", "#7a3fa0", "#b8860b", "#008b8b"];

/// A placed node.
#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
}

struct Picture<'a> {
    site: &'a Site,
    cabling: Option<&'a dyn Cabling>,
    rows: Vec<(&'static str, Vec<NodeId>)>,
    places: BTreeMap<NodeId, Place>,
    width: f64,
    height: f64,
    /// Ports are numbered and names are level.
    roomy: bool,
}

fn rows(site: &Site) -> Vec<(&'static str, Vec<NodeId>)> {
    let t = &site.topology;
    let switches = |role: Option<Role>| -> Vec<NodeId> {
        (0u32..)
            .zip(&t.switches)
            .filter(|(_, s)| if s.legacy { role.is_none() } else { role == Some(s.role) })
            .map(|(n, _)| NodeId::Switch(SwitchId(n)))
            .collect()
    };
    let named = |names: Vec<&str>| names.into_iter().filter_map(|n| t.by_name(n)).collect();
    let all = [
        ("gateways", named(t.gateways.iter().map(|g| g.name.as_str()).collect())),
        ("core", switches(Some(Role::Core))),
        ("aggregation", switches(Some(Role::Aggregation))),
        ("edge", switches(Some(Role::Edge))),
        ("legacy", switches(None)),
        ("servers", named(t.servers.iter().map(|s| s.name.as_str()).collect())),
    ];
    all.into_iter().filter(|(_, nodes)| !nodes.is_empty()).collect()
}

impl<'a> Picture<'a> {
    fn new(site: &'a Site, cabling: Option<&'a dyn Cabling>) -> Picture<'a> {
        let rows = rows(site);
        let most = rows.iter().map(|(_, nodes)| nodes.len()).max().unwrap_or(1);
        let roomy = most <= FEW;
        let pitch: f64 = match (cabling.is_some(), roomy) {
            (true, true) => 150.0,
            (false, true) => 96.0,
            _ => 30.0,
        };
        // A row of many narrow boxes must still leave the upper levels apart.
        let inner = (most as f64 * pitch).max(560.0);
        let least = if cabling.is_some() { 180.0 } else { 130.0 };
        // A wide picture is also higher, so that its cables are not all level.
        let gap = (inner / 20.0).clamp(least, 260.0);
        let mut places = BTreeMap::new();
        for (level, (_, nodes)) in rows.iter().enumerate() {
            let step = inner / nodes.len() as f64;
            for (n, node) in nodes.iter().enumerate() {
                let ports = site.topology.ports(*node).len() as f64;
                let wanted = if roomy { (ports * 24.0).max(74.0) } else { 26.0 };
                let width = wanted.min(step - 4.0);
                let x = LEFT + step * (n as f64 + 0.5);
                places.insert(*node, Place { x, y: TOP + level as f64 * gap, width });
            }
        }
        let height = TOP + (rows.len().max(1) - 1) as f64 * gap + BOX_HEIGHT + 40.0;
        Picture { site, cabling, rows, places, width: LEFT + inner + 20.0, height, roomy }
    }

    fn place(&self, node: NodeId) -> Place {
        self.places.get(&node).copied().unwrap_or(Place { x: 0.0, y: 0.0, width: 0.0 })
    }

    /// Where a cable leaves a node: on the side that faces the other end, cables in the order of
    /// their other ends, so that few cross.
    fn spot(&self, end: Endpoint) -> (f64, f64) {
        let own = self.place(end.node);
        let other = |link: LinkId| self.site.topology.link(link).and_then(|l| l.other(end.node));
        let side = |p: Place| p.y.total_cmp(&own.y);
        let mine = self.site.topology.link_at(end.node, end.port).and_then(other);
        let Some(facing) = mine.map(|e| side(self.place(e.node))) else { return (own.x, own.y) };
        let mut same: Vec<(f64, PortNo)> = self
            .site
            .topology
            .ports(end.node)
            .iter()
            .filter_map(|(port, link)| Some((self.place(other(*link)?.node), *port)))
            .filter(|(place, _)| side(*place) == facing)
            .map(|(place, port)| (place.x, port))
            .collect();
        same.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let at = same.iter().position(|(_, p)| *p == end.port).unwrap_or(0) as f64;
        let x = own.x - own.width / 2.0 + own.width * (at + 1.0) / (same.len() as f64 + 1.0);
        (x, if facing == std::cmp::Ordering::Greater { own.y + BOX_HEIGHT } else { own.y })
    }

    /// The inventory's machine and interface of a port.
    fn plugged(&self, end: Endpoint) -> Option<(&str, &str)> {
        plugged(self.site, self.cabling?, end)
    }

    fn svg(&self) -> String {
        let rates: BTreeSet<u64> = self.site.topology.links.iter().map(|l| l.cfg.rate.0).collect();
        let rates: Vec<u64> = rates.into_iter().rev().collect();
        let color = |rate: u64| COLORS[rates.iter().position(|r| *r == rate).unwrap_or(0) % COLORS.len()];
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0} {1:.0}\" width=\"{0:.0}\" height=\"{1:.0}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            self.width, self.height
        );
        let t = &self.site.topology;
        let _ = writeln!(
            out,
            "<text x=\"16\" y=\"26\" font-size=\"17\">{}: {} switches, {} servers, {} links</text>",
            escape(&self.site.name),
            t.switches.len(),
            t.servers.len(),
            t.links.len()
        );
        let mut x = 16.0;
        for rate in &rates {
            let label = BitRate(*rate).to_string();
            let _ = writeln!(
                out,
                "<path d=\"M{x:.0} 44h24\" stroke=\"{}\" stroke-width=\"2\"/><text x=\"{:.0}\" y=\"48\">{label}</text>",
                color(*rate),
                x + 30.0
            );
            x += 50.0 + label.len() as f64 * 7.0;
        }
        for (level, nodes) in &self.rows {
            let y = nodes.first().map_or(0.0, |n| self.place(*n).y) + BOX_HEIGHT / 2.0 + 4.0;
            let _ =
                writeln!(out, "<text x=\"16\" y=\"{y:.0}\" fill=\"#555\">{level} ({})</text>", nodes.len());
        }
        for link in &t.links {
            let a = self.spot(link.a);
            let b = self.spot(link.b);
            let stroke = if self.roomy { 1.6 } else { 0.8 };
            let _ = writeln!(
                out,
                "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{}\" stroke-width=\"{stroke}\"/>",
                a.0,
                a.1,
                b.0,
                b.1,
                color(link.cfg.rate.0)
            );
        }
        for (node, place) in &self.places {
            self.node(&mut out, *node, *place);
        }
        // Labels come after all lines and boxes, so that none is hidden.
        if self.roomy {
            for link in &t.links {
                let a = self.spot(link.a);
                let b = self.spot(link.b);
                self.label(&mut out, link.a, a, b);
                self.label(&mut out, link.b, b, a);
            }
        }
        out.push_str("</svg>\n");
        out
    }

    /// The port's number inside its node, and its interface, where that is known, along the cable.
    fn label(&self, out: &mut String, end: Endpoint, at: (f64, f64), other: (f64, f64)) {
        let above = at.1 > self.place(end.node).y;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"9\" fill=\"#555\">{}</text>",
            at.0,
            if above { at.1 - 4.0 } else { at.1 + 10.0 },
            end.port
        );
        let Some((_, interface)) = self.plugged(end) else { return };
        let dx = other.0 - at.0;
        let dy = other.1 - at.1;
        let length = dx.hypot(dy).max(1.0);
        // Never upside down.
        let angle = dy.atan2(dx).to_degrees();
        let (angle, anchor) = if angle.abs() > 90.0 { (angle + 180.0, "end") } else { (angle, "start") };
        let x = at.0 + dx / length * 14.0;
        let y = at.1 + dy / length * 14.0;
        let _ = writeln!(
            out,
            "<text transform=\"translate({x:.1} {y:.1}) rotate({angle:.1})\" text-anchor=\"{anchor}\" dy=\"-4\" font-size=\"10\">{}</text>",
            escape(interface)
        );
    }

    fn node(&self, out: &mut String, node: NodeId, place: Place) {
        let (fill, round) = match node {
            NodeId::Switch(id) if self.site.topology.switch(id).is_some_and(|s| s.legacy) => ("#eeeeee", 3),
            NodeId::Switch(_) => ("#dfe9f7", 3),
            NodeId::Server(_) => ("#e6f2e2", 3),
            NodeId::Gateway(_) => ("#f8ead2", 14),
        };
        let name = self.site.topology.name(node);
        let _ = writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BOX_HEIGHT}\" rx=\"{round}\" fill=\"{fill}\" stroke=\"#555\"/>",
            place.x - place.width / 2.0,
            place.y,
            place.width
        );
        let x = place.x;
        let middle = place.y + BOX_HEIGHT / 2.0;
        if !self.roomy {
            let _ = writeln!(
                out,
                "<text transform=\"translate({x:.1} {middle:.1}) rotate(-90)\" text-anchor=\"middle\" dy=\"3\" font-size=\"9\">{}</text>",
                escape(name)
            );
            return;
        }
        let machine = self.cabling.and_then(|c| c.machine(name));
        let y = if self.cabling.is_some() { middle - 1.0 } else { middle + 4.0 };
        let _ =
            writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", escape(name));
        if self.cabling.is_some() {
            let (text, color) = machine.map_or(("no machine", "#c00"), |m| (m, "#555"));
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"{color}\">{}</text>",
                middle + 11.0,
                escape(text)
            );
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn plugged<'i>(site: &Site, cabling: &'i dyn Cabling, end: Endpoint) -> Option<(&'i str, &'i str)> {
    let node = site.topology.name(end.node);
    Some((cabling.machine(node)?, cabling.interface(node, end.port)?))
}

/// The picture; with the cabling, each node with its machine and each end of a cable with its
/// interface.
pub fn svg(site: &Site, cabling: Option<&dyn Cabling>) -> String {
    Picture::new(site, cabling).svg()
}

/// Who is plugged into what: a line a cable.
pub fn table(site: &Site, cabling: &dyn Cabling) -> String {
    let mut rows =
        vec![["machine", "interface", "port", "port", "interface", "machine", "rate"].map(str::to_owned)];
    for link in &site.topology.links {
        let end = |end: Endpoint| {
            let (machine, interface) = plugged(site, cabling, end).unwrap_or(("?", "?"));
            (
                machine.to_owned(),
                interface.to_owned(),
                format!("{}.{}", site.topology.name(end.node), end.port),
            )
        };
        let a = end(link.a);
        let b = end(link.b);
        rows.push([a.0, a.1, a.2, b.2, b.1, b.0, link.cfg.rate.to_string()]);
    }
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(text, w)| format!("{text:<w$}")).collect();
        let line = format!("{}  <->  {}", cells[..3].join("  "), cells[3..].join("  "));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::site;

    const SITE: &str = "name = \"bench\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 1\nservers_per_edge = 2\n";

    /// A cabling that names edge1's second port and nothing else.
    struct OneSwitch;

    impl Cabling for OneSwitch {
        fn machine(&self, node: &str) -> Option<&str> {
            (node == "edge1").then_some("mini1")
        }

        fn interface(&self, node: &str, port: PortNo) -> Option<&str> {
            (node == "edge1" && port == PortNo(2)).then_some("eth5")
        }
    }

    #[test]
    fn every_node_and_every_cable_is_drawn_once() {
        let site = site::read(SITE, "site").expect("a site");
        let svg = svg(&site, None);
        // Lines of links begin with M; those of the legend are level (h).
        let cables = svg.matches("<path d=\"M").count() - svg.matches("h24\"").count();
        assert_eq!(cables, site.topology.links.len());
        for name in ["gw1", "core1", "agg1", "edge1", "srv1", "srv2"] {
            assert_eq!(svg.matches(&format!(">{name}</text>")).count(), 1, "{name}");
        }
        assert_eq!(escape("a<b&\"c\">"), "a&lt;b&amp;&quot;c&quot;&gt;");
    }

    #[test]
    fn the_cabling_names_machine_interface_and_port_at_both_ends_and_says_what_is_open() {
        let site = site::read(SITE, "site").expect("a site");
        let table = table(&site, &OneSwitch);
        let line = table.lines().find(|l| l.contains("srv1.1")).expect("the cable");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["mini1", "eth5", "edge1.2", "<->", "srv1.1", "?", "?", "10", "Mbit/s"]);
        assert_eq!(table.lines().count(), 1 + site.topology.links.len());
        let svg = svg(&site, Some(&OneSwitch));
        assert!(svg.contains(">eth5</text>") && svg.contains(">no machine</text>"));
    }
}
