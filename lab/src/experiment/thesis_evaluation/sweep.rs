//! The three series of data centres that the thesis' figures 4.3 to 4.7 were measured on: what is
//! changed from point to point, and the site file of each point.

use super::published::Published;
use tandem_model::TrafficTool;

/// What all hosts of the growing data centre are sent together, Mbit/s: as much as the first one of
/// 8 hosts with 1 Mbit/s each.
const CONSTANT: f64 = 8.0;
/// A gateway's link in figure 4.5, Mbit/s, over hosts of 1 Mbit/s.
const GATEWAY: f64 = 4.0;
/// Links that are not to hold anything back have so many times what goes over all of them.
const AMPLE: f64 = 2.0;
/// Packets a second of a flow at least, so that a reading of half a second has several; below,
/// packets are smaller.
const PACKETS: f64 = 40.0;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// Traffic for each of 8 hosts: figures 4.3 and 4.6.
    Traffic,
    /// Hosts and switches, the traffic in sum staying: figures 4.4 and 4.7.
    Hosts,
    /// Hosts behind one gateway: figure 4.5.
    Gateway,
}

/// One data centre of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Centre {
    /// What grows, at this point.
    pub(super) x: f64,
    gateways: u32,
    core: u32,
    aggregation: u32,
    edge: u32,
    servers_per_edge: u32,
    /// Of a host's link and of its traffic, Mbit/s.
    pub(super) host: f64,
    /// Of a gateway's link.
    gateway: f64,
    /// How much more than it has a link may promise: where the point is that it has too little.
    margin: f64,
}

impl Sweep {
    pub(super) const ALL: [Sweep; 3] = [Sweep::Traffic, Sweep::Hosts, Sweep::Gateway];

    pub(super) fn name(self) -> &'static str {
        match self {
            Sweep::Traffic => "traffic",
            Sweep::Hosts => "hosts",
            Sweep::Gateway => "gateway",
        }
    }

    /// The figures that come from it.
    pub(super) fn figures(self) -> &'static [Published] {
        match self {
            Sweep::Traffic => &[Published::TrafficRatio, Published::TrafficMemory],
            Sweep::Hosts => &[Published::HostsRatio, Published::HostsMemory],
            Sweep::Gateway => &[Published::GatewayRatio],
        }
    }

    /// The data centres: at every point that the thesis has, or at so many of them, the first and
    /// the last among them; hosts at most `largest`.
    pub(super) fn centres(self, points: Option<usize>, largest: u32) -> Vec<Centre> {
        let mut all: Vec<f64> = self.figures().iter().flat_map(|f| f.points()).map(|(x, _)| x).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        if self != Sweep::Traffic {
            all.retain(|x| *x <= f64::from(largest));
        }
        thinned(&all, points).into_iter().map(|x| self.centre(x)).collect()
    }

    fn centre(self, x: f64) -> Centre {
        let hosts = if self == Sweep::Traffic { 8 } else { x as u32 };
        let edge = if self == Sweep::Gateway { hosts.clamp(1, 8) } else { hosts };
        let host = match self {
            Sweep::Traffic => x,
            Sweep::Hosts => CONSTANT / x,
            Sweep::Gateway => 1.0,
        };
        let one = self == Sweep::Gateway;
        Centre {
            x,
            // One core switch, so that the gateway has one link.
            gateways: if one { 1 } else { 2 },
            core: if one { 1 } else { (edge / 4).max(1) },
            aggregation: (edge / 2).max(1),
            edge,
            servers_per_edge: hosts.div_ceil(edge),
            host,
            gateway: if one { GATEWAY } else { host * f64::from(hosts) * AMPLE },
            margin: if one { 1000.0 } else { 1.1 },
        }
    }
}

/// So many of the values, evenly, the first and the last among them.
fn thinned(all: &[f64], points: Option<usize>) -> Vec<f64> {
    let count = points.unwrap_or(all.len()).min(all.len());
    if count < 2 {
        return all.iter().copied().take(count).collect();
    }
    (0..count).filter_map(|n| all.get(n * (all.len() - 1) / (count - 1)).copied()).collect()
}

impl Centre {
    pub(super) fn hosts(&self) -> u32 {
        self.edge * self.servers_per_edge
    }

    pub(super) fn switches(&self) -> u32 {
        self.core + self.aggregation + self.edge
    }

    /// Its site file: a host takes one VM, which is sent as much as its link has.
    pub(super) fn site(&self, name: &str, tool: TrafficTool) -> String {
        let Centre { gateways, core, aggregation, edge, servers_per_edge, margin, .. } = self;
        let rate = |mbit: f64| format!("{} kbit/s", (mbit * 1000.0).round());
        let host = rate(self.host);
        let ample = rate(self.host * f64::from(self.hosts()) * AMPLE);
        let gateway = rate(self.gateway);
        let packet = (self.host * 1e6 / 8.0 / PACKETS).clamp(128.0, 1400.0) as u16;
        format!(
            "name = \"{name}\"\n[topology]\nshape = \"three-tier\"\ngateways = {gateways}\ncore = {core}\n\
             aggregation = {aggregation}\nedge = {edge}\nservers_per_edge = {servers_per_edge}\n\
             core_gateway_links = 1\naggregation_core_links = {}\nedge_aggregation_links = {}\n\
             [bandwidth]\ngateway = \"{gateway}\"\ncore = \"{ample}\"\naggregation = \"{ample}\"\nedge = \"{host}\"\n\
             [servers]\ncpu = 1\nram = \"16 MiB\"\ndisk = \"1 GiB\"\n\
             [vm]\ncpu = 1\nram = \"16 MiB\"\ndisk = \"1 GiB\"\nnet = \"{host}\"\nstart_timeout = \"60 s\"\n\
             [policy]\nallocation = \"first-fit\"\nlink_margin = {margin}\n\
             [statistics]\nperiod = \"500 ms\"\nhistory_weight = 0.0\n\
             [traffic]\ntransport = \"{tool}\"\ndirection = \"to-vm\"\npacket = {packet}\n",
            core.min(&2),
            aggregation.min(&2),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::BitRate;

    #[test]
    fn every_point_of_the_thesis_is_a_good_site_with_the_hosts_that_it_says() {
        for sweep in Sweep::ALL {
            for centre in sweep.centres(None, u32::MAX) {
                let text = centre.site("thesis", TrafficTool::UDP);
                let site = tandem_core::site::read(&text, "point").unwrap_or_else(|e| panic!("{e}\n{text}"));
                let hosts = if sweep == Sweep::Traffic { 8.0 } else { centre.x };
                assert_eq!(site.topology.servers.len() as f64, hosts, "{sweep:?} at {}", centre.x);
                assert_eq!(site.topology.switches.len() as u32, centre.switches());
                let sum = centre.host * hosts;
                match sweep {
                    Sweep::Traffic => assert_eq!(centre.host, centre.x),
                    Sweep::Hosts => assert!((sum - 8.0).abs() < 1e-9, "{sum} Mbit/s in sum"),
                    Sweep::Gateway => {
                        let gateway = site.topology.gateways.len();
                        let links = site.topology.links.iter().filter(|l| l.cfg.rate == BitRate(4_000_000));
                        assert_eq!((gateway, links.count()), (1, 1));
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_data_centre_is_figure_4_3s() {
        let centre = &Sweep::Traffic.centres(Some(1), 8)[0];
        let counts = (centre.gateways, centre.core, centre.aggregation, centre.edge, centre.hosts());
        assert_eq!(counts, (2, 2, 4, 8, 8));
    }

    #[test]
    fn fewer_points_are_spread_and_large_ones_left_out() {
        let x = |centres: Vec<Centre>| centres.iter().map(|c| c.x).collect::<Vec<_>>();
        assert_eq!(x(Sweep::Hosts.centres(Some(3), u32::MAX)), [8.0, 32.0, 128.0]);
        assert_eq!(x(Sweep::Hosts.centres(None, 32)), [8.0, 16.0, 32.0]);
        assert_eq!(x(Sweep::Gateway.centres(Some(2), 100)), [1.0, 64.0]);
        assert_eq!(x(Sweep::Gateway.centres(Some(0), 100)), [] as [f64; 0]);
    }
}
