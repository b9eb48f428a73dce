//! Whether this machine has room for a lab, asked before anything is made: memory, descriptors, network namespaces. What is refused is refused
//! with the figures. And how long the work may take, which grows with it.

use anyhow::bail;
use std::time::Duration;
use tandem_linux::limits;
use tandem_model::{NodeId, Site, SwitchId};

/// KiB that a server takes with its namespace, its cable and its port at a switch: 0.12 MB were measured with 1,024 servers, Open vSwitch
/// and the agent included; with room for what was not.
const SERVER_KIB: u64 = 200;
/// KiB that a switch takes beside its ports.
const SWITCH_KIB: u64 = 600;
/// KiB of the programs themselves.
const PROGRAMS_KIB: u64 = 100 << 10;
/// Descriptors beside those of namespaces and ports: listeners, logs, connections, traffic.
const MORE_DESCRIPTORS: u64 = 1024;
/// Descriptors that a switch takes beside its ports': management, flows' and controllers' connections, its own device.
const SWITCH_DESCRIPTORS: u64 = 8;

/// What a lab costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// KiB of memory.
    pub memory_kib: u64,
    /// Descriptors of the process that needs most.
    pub descriptors: u64,
    /// Network namespaces.
    pub namespaces: u64,
}

/// What a machine has left; `None` where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Have {
    /// KiB of memory that can be had without swapping (MemAvailable).
    pub memory_kib: Option<u64>,
    /// Descriptors that a process may have.
    pub descriptors: Option<u64>,
    /// Network namespaces that this user may have (`user.max_net_namespaces`).
    pub namespaces: Option<u64>,
}

/// Ports of all switches that are an agent's.
fn ports(site: &Site) -> usize {
    let t = &site.topology;
    let switches = (0u32..).zip(&t.switches).filter(|(_, s)| !s.legacy);
    switches.map(|(n, _)| t.ports(NodeId::Switch(SwitchId(n))).len()).sum()
}

impl Need {
    /// What a site's lab needs.
    pub fn of(site: &Site) -> Need {
        let t = &site.topology;
        let count = |n: usize| n as u64;
        let hosts = count(t.servers.len() + t.gateways.len());
        let switches = count(t.switches.len());
        // A socket for each port in the switches' process, a namespace for each host in the lab's.
        let of_ports = count(ports(site)) + switches * SWITCH_DESCRIPTORS;
        Need {
            memory_kib: PROGRAMS_KIB + hosts * SERVER_KIB + switches * SWITCH_KIB,
            descriptors: MORE_DESCRIPTORS + of_ports.max(2 * hosts),
            namespaces: hosts + 1,
        }
    }

    /// Refuses what there is no room for.
    ///
    /// # Errors
    /// With all that is missing, and the figures.
    pub fn check(&self, have: &Have) -> anyhow::Result<()> {
        let mut missing = Vec::new();
        if let Some(memory) = have.memory_kib.filter(|m| *m < self.memory_kib) {
            missing.push(format!(
                "{} MiB of memory are needed, and {} MiB are available",
                self.memory_kib >> 10,
                memory >> 10
            ));
        }
        if let Some(most) = have.descriptors.filter(|d| *d < self.descriptors) {
            missing.push(format!(
                "{} descriptors are needed, and a process may have {most} (`ulimit -Hn`, or LimitNOFILE of its unit)",
                self.descriptors
            ));
        }
        if let Some(most) = have.namespaces.filter(|n| *n < self.namespaces) {
            missing.push(format!(
                "{} network namespaces are needed, and this user may have {most} (sysctl user.max_net_namespaces)",
                self.namespaces
            ));
        }
        if missing.is_empty() {
            return Ok(());
        }
        bail!("this machine has no room for the lab, and nothing was made: {}", missing.join("; "))
    }
}

impl Have {
    /// Looks.
    pub fn now() -> Have {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = text
            .lines()
            .find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok());
        let namespaces = std::fs::read_to_string("/proc/sys/user/max_net_namespaces").ok();
        Have {
            memory_kib,
            descriptors: limits::most_descriptors(),
            namespaces: namespaces.and_then(|n| n.trim().parse().ok()),
        }
    }
}

/// How long the agents may take to make a site's switches: two minutes, and for each port as long as it took on a busy machine of two
/// cores, several times over.
pub fn agents_limit(site: &Site) -> Duration {
    const LEAST: Duration = Duration::from_secs(120);
    const EACH: Duration = Duration::from_millis(60);
    LEAST + EACH * u32::try_from(ports(site)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(edges: u32, servers: u32) -> Site {
        let text = format!(
            "name = \"large\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = {edges}\n\
             servers_per_edge = {servers}\n[bandwidth]\nedge = \"1 Gbit/s\"\n"
        );
        tandem_model::site::read(&text, "the test's site").expect("a site")
    }

    #[test]
    fn what_has_no_room_is_refused_with_the_figures() {
        let need = Need::of(&site(50, 100));
        assert!(need.descriptors > 2 * 5000 && need.namespaces > 5000 && need.memory_kib > 1 << 20);
        let all = Have { memory_kib: Some(16 << 20), descriptors: Some(1 << 20), namespaces: Some(100_000) };
        assert!(need.check(&all).is_ok());
        assert!(need.check(&Have { memory_kib: None, descriptors: None, namespaces: None }).is_ok());
        let none = Have { memory_kib: Some(512 << 10), descriptors: Some(4096), namespaces: Some(1000) };
        let why = need.check(&none).expect_err("no room").to_string();
        for word in ["nothing was made", "and 512 MiB are available", "may have 4096", "may have 1000"] {
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_large_lab_may_take_longer() {
        assert!(agents_limit(&site(50, 100)) > 2 * agents_limit(&site(2, 2)));
    }
}
