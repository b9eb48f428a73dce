//! A site as a graph of Graphviz (graphviz.org/doc/info/lang.html).

use super::ends;
use crate::values::{rate_text, time_text};
use std::fmt::Write;
use tandem_model::Site;

/// The site as an undirected graph: gateways at the top, servers at the bottom, links labelled with
/// rate, delay and loss.
pub fn graphviz(site: &Site) -> String {
    let t = &site.topology;
    let mut text = String::new();
    let _ =
        writeln!(text, "// The site {}, by `tandem site export --dot`. Draw it: dot -Tsvg FILE", site.name);
    let _ = writeln!(text, "graph \"{}\" {{", site.name);
    let _ = writeln!(text, "  node [fontname=\"sans-serif\"];");
    let _ = writeln!(text, "  edge [fontname=\"sans-serif\", fontsize=9];");
    for gateway in &t.gateways {
        let _ = writeln!(text, "  \"{}\" [shape=house];", gateway.name);
    }
    for switch in &t.switches {
        let style = if switch.legacy { "dashed" } else { "solid" };
        let _ = writeln!(
            text,
            "  \"{}\" [shape=box, style={style}, tooltip=\"{}, dpid {}\"];",
            switch.name, switch.role, switch.dpid
        );
    }
    for server in &t.servers {
        let _ = writeln!(text, "  \"{}\" [shape=ellipse, tooltip=\"{}\"];", server.name, server.address);
    }
    for link in &t.links {
        let [(a, a_port), (b, b_port)] = ends(t, link);
        let mut label = rate_text(link.cfg.rate);
        if !link.cfg.delay.is_zero() {
            let _ = write!(label, ", {}", time_text(link.cfg.delay));
        }
        if link.cfg.loss_ppm > 0 {
            let _ = write!(label, ", {}% loss", crate::values::percent_text(link.cfg.loss_ppm));
        }
        let _ = writeln!(
            text,
            "  \"{a}\" -- \"{b}\" [label=\"{label}\", tooltip=\"port {a_port} - port {b_port}\"];"
        );
    }
    text.push_str("}\n");
    text
}
