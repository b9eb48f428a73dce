//! A site as a topology file of containerlab (containerlab.dev/manual/topo-def-file).

use super::ends;
use crate::clab::{GATEWAY_LABEL, LABEL};
use crate::values::{percent_text, rate_text, time_text};
use std::fmt::Write;
use tandem_model::{NodeId, Site};

/// The site: switches as `ovs-bridge`, servers and gateways as `linux` containers, what a link is
/// like under its `vars`, which containerlab keeps and does not act on.
pub fn containerlab(site: &Site) -> String {
    let t = &site.topology;
    let mut text = String::new();
    let _ = write!(
        text,
        "# The site {}, by `tandem site export --clab`.\n\
         # containerlab expects its bridges to be there: ovs-vsctl add-br NAME for each ovs-bridge.\n\
         # It sets no rates by itself; `vars` of each link have them, for\n\
         #   containerlab tools netem set --node NODE --interface ethN --rate KBIT --delay TIME --loss PERCENT\n\
         name: \"{}\"\n\ntopology:\n  nodes:\n",
        site.name, site.name
    );
    for switch in &t.switches {
        let legacy = if switch.legacy { "  # no OpenFlow" } else { "" };
        let _ = writeln!(text, "    \"{}\": {{kind: ovs-bridge}}{legacy}", switch.name);
    }
    let hosts = (t.servers.iter().map(|s| (&s.name, s.address, "server")))
        .chain(t.gateways.iter().map(|g| (&g.name, g.address, GATEWAY_LABEL)));
    let network = site.addresses.network.len();
    for (name, address, label) in hosts {
        let _ = write!(
            text,
            "    \"{name}\":\n      kind: linux\n      image: alpine:3\n      labels: {{{LABEL}: {label}}}\n      \
             exec: [\"ip address add {address}/{network} dev eth1\"]\n"
        );
    }
    if !t.links.is_empty() {
        text.push_str("  links:\n");
    }
    for link in &t.links {
        let interface = |at: usize| {
            let (name, port) = ends(t, link)[at];
            let node = if at == 0 { link.a.node } else { link.b.node };
            // Ports of bridges share the machine's names; those of containers are their own.
            match node {
                NodeId::Switch(_) => format!("\"{name}:{name}-{port}\""),
                NodeId::Server(_) | NodeId::Gateway(_) => format!("\"{name}:eth{port}\""),
            }
        };
        let _ = writeln!(text, "    - endpoints: [{}, {}]", interface(0), interface(1));
        let _ = write!(text, "      vars: {{rate: \"{}\"", rate_text(link.cfg.rate));
        if !link.cfg.delay.is_zero() {
            let _ = write!(text, ", delay: \"{}\"", time_text(link.cfg.delay));
        }
        if link.cfg.loss_ppm > 0 {
            let _ = write!(text, ", loss: {}", percent_text(link.cfg.loss_ppm));
        }
        let _ = writeln!(text, ", queue: {}}}", link.cfg.queue);
    }
    text
}
