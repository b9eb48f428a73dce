//! A site as a Mininet script (mininet.org): a `Topo` class for `mn --custom` and for imports, and a
//! main part that starts it with a remote controller.

use super::ends;
use crate::mininet::GATEWAY_OPTION;
use crate::values::{percent_text, time_text};
use std::fmt::Write;
use tandem_model::{BitRate, Site};

/// The largest rate that Mininet's TCIntf takes unless it is told otherwise, in Mbit/s.
const TC_LIMIT: u64 = 1000;

/// The site as a Python script.
pub fn script(site: &Site) -> String {
    let t = &site.topology;
    let mut text = String::new();
    let _ = write!(
        text,
        "#!/usr/bin/env python3\n\
         \"\"\"The site {name}, by `tandem site export --mininet`.\n\n\
         sudo python3 FILE starts it and waits for a controller at 127.0.0.1:6653;\n\
         sudo mn --custom FILE --topo {name} --link tc starts it with Mininet's own.\n\
         \"\"\"\n\n\
         from mininet.cli import CLI\n\
         from mininet.link import TCIntf, TCLink\n\
         from mininet.log import setLogLevel\n\
         from mininet.net import Mininet\n\
         from mininet.node import OVSBridge, OVSSwitch, RemoteController\n\
         from mininet.topo import Topo\n\n",
        name = site.name
    );
    let fastest = t.links.iter().map(|l| l.cfg.rate.0.div_ceil(1_000_000)).max().unwrap_or(0);
    if fastest > TC_LIMIT {
        let _ = writeln!(
            text,
            "# Mininet ignores larger rates unless it is told so.\nTCIntf.bwParamMax = {fastest}\n"
        );
    }
    text.push_str("\nclass SiteTopo(Topo):\n    def build(self):\n");
    for switch in &t.switches {
        let how = match switch.legacy {
            // A switch that learns by itself and speaks no OpenFlow.
            true => ", cls=OVSBridge",
            false => "",
        };
        let _ = writeln!(
            text,
            "        self.addSwitch(\"{}\", dpid=\"{:016x}\"{how})",
            switch.name, switch.dpid.0
        );
    }
    let network = site.addresses.network.len();
    for server in &t.servers {
        let _ = writeln!(
            text,
            "        self.addHost(\"{}\", ip=\"{}/{network}\", mac=\"{}\")",
            server.name, server.address, server.mac
        );
    }
    for gateway in &t.gateways {
        let _ = writeln!(
            text,
            "        self.addHost(\"{}\", ip=\"{}/{network}\", mac=\"{}\", {GATEWAY_OPTION}=True)",
            gateway.name, gateway.address, gateway.mac
        );
    }
    for link in &t.links {
        let [(a, a_port), (b, b_port)] = ends(t, link);
        let _ = write!(text, "        self.addLink(\"{a}\", \"{b}\", port1={a_port}, port2={b_port}");
        let _ = write!(text, ", bw={}", mbit(link.cfg.rate));
        if !link.cfg.delay.is_zero() {
            let _ = write!(text, ", delay=\"{}\"", time_text(link.cfg.delay).replace(' ', ""));
        }
        if link.cfg.loss_ppm > 0 {
            let _ = write!(text, ", loss={}", percent_text(link.cfg.loss_ppm));
        }
        let _ = writeln!(text, ", max_queue_size={})", link.cfg.queue);
    }
    let _ = write!(
        text,
        "\n\ntopos = {{\"{}\": SiteTopo}}\n\n\
         if __name__ == \"__main__\":\n    \
             setLogLevel(\"info\")\n    \
             net = Mininet(topo=SiteTopo(), link=TCLink, switch=OVSSwitch, controller=None)\n    \
             net.addController(\"tandem\", controller=RemoteController, ip=\"127.0.0.1\", port=6653)\n    \
             net.start()\n    \
             CLI(net)\n    \
             net.stop()\n",
        site.name
    );
    text
}

/// A rate in Mbit/s, exactly.
fn mbit(rate: BitRate) -> String {
    let text = format!("{}.{:06}", rate.0 / 1_000_000, rate.0 % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
