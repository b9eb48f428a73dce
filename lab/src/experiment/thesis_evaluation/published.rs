//! The thesis' own series (Teixeira 2013, chapter 4), from its raw data: `lab/data/thesis-results`.

const TRAFFIC_RATIO: &str = include_str!("../../../data/thesis-results/Bandwidth.txt");
const HOSTS_RATIO: &str = include_str!("../../../data/thesis-results/Topology.txt");
const GATEWAY_RATIO: &str = include_str!("../../../data/thesis-results/Hosts.txt");
const TRAFFIC_MEMORY: &str = include_str!("../../../data/thesis-results/MemoryUsage1.txt");
const HOSTS_MEMORY: &str = include_str!("../../../data/thesis-results/MemoryUsage2.txt");

/// A figure of the thesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Published {
    /// Average host link ratio over traffic generated for each host.
    #[value(name = "4.3")]
    TrafficRatio,
    /// Average host link ratio over the number of hosts.
    #[value(name = "4.4")]
    HostsRatio,
    /// Average host link ratio over the hosts behind one gateway.
    #[value(name = "4.5")]
    GatewayRatio,
    /// Memory over traffic generated for each host.
    #[value(name = "4.6")]
    TrafficMemory,
    /// Memory over the number of hosts.
    #[value(name = "4.7")]
    HostsMemory,
}

impl Published {
    /// All, in order.
    pub const ALL: [Published; 5] = [
        Published::TrafficRatio,
        Published::HostsRatio,
        Published::GatewayRatio,
        Published::TrafficMemory,
        Published::HostsMemory,
    ];

    /// Its number.
    pub fn number(self) -> &'static str {
        match self {
            Published::TrafficRatio => "4.3",
            Published::HostsRatio => "4.4",
            Published::GatewayRatio => "4.5",
            Published::TrafficMemory => "4.6",
            Published::HostsMemory => "4.7",
        }
    }

    /// The published points: ratios in percent, memory in MB, without the point at 0, where nothing
    /// ran.
    pub fn points(self) -> Vec<(f64, f64)> {
        let (text, factor) = match self {
            Published::TrafficRatio => (TRAFFIC_RATIO, 1.0),
            Published::HostsRatio => (HOSTS_RATIO, 1.0),
            // The only file that has ratios from 0 to 1.
            Published::GatewayRatio => (GATEWAY_RATIO, 100.0),
            Published::TrafficMemory => (TRAFFIC_MEMORY, 1.0),
            Published::HostsMemory => (HOSTS_MEMORY, 1.0),
        };
        let point = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse::<f64>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()? * factor))
        };
        text.lines().filter_map(point).filter(|(x, _)| *x > 0.0).collect()
    }

    /// The published value at `x`, if there is one.
    pub fn at(self, x: f64) -> Option<f64> {
        self.points().into_iter().find(|p| (p.0 - x).abs() < 1e-9).map(|p| p.1)
    }
}

/// The most that the thesis' data centre carried in sum, Mbit/s: ratio times what was generated, for
/// its 8 hosts.
pub fn most_traffic() -> f64 {
    Published::TrafficRatio.points().iter().map(|(x, ratio)| x * 8.0 * ratio / 100.0).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_raw_data_is_a_point() {
        let lengths = Published::ALL.map(|p| p.points().len());
        let lines = [TRAFFIC_RATIO, HOSTS_RATIO, GATEWAY_RATIO, TRAFFIC_MEMORY, HOSTS_MEMORY]
            .map(|t| t.lines().filter(|l| !l.trim().is_empty() && !l.starts_with("0\t")).count());
        assert_eq!(lengths, lines);
        assert!(lengths.iter().all(|n| *n >= 5), "{lengths:?}");
    }

    #[test]
    fn the_thesis_carried_61_mbit_and_a_gateway_of_4_mbit_held_4_hosts() {
        assert!((most_traffic() - 61.2).abs() < 0.1, "{}", most_traffic());
        let shares: Vec<f64> =
            Published::GatewayRatio.points().iter().skip(1).map(|(n, ratio)| n * ratio / 100.0).collect();
        assert!(shares.iter().all(|s| (3.9..=4.01).contains(s)), "{shares:?}");
        assert_eq!(Published::HostsMemory.at(8.0), Some(46.0));
        assert_eq!(Published::HostsMemory.at(9.0), None);
    }
}
