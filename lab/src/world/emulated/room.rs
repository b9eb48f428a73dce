//! Whether this machine has room for a lab, asked before anything is made: memory, descriptors,
//! network namespaces, processes, and ports of a switch. What is refused is refused with the
//! figures. And how long the work may take, which grows with it.

use anyhow::bail;
use std::time::Duration;
use tandem_linux::limits;
use tandem_model::{NodeId, Site, SwitchId};

/// KiB that a server takes with its namespace, its cable and its port at a switch: 0.12 MB were
/// measured with 1,024 servers, Open vSwitch and the agent included; with room for what was not.
const SERVER_KIB: u64 = 200;
/// KiB that a switch takes beside its ports.
const SWITCH_KIB: u64 = 600;
/// KiB of the programs themselves.
const PROGRAMS_KIB: u64 = 100 << 10;
/// Descriptors beside those of namespaces and ports: listeners, logs, connections, traffic.
const MORE_DESCRIPTORS: u64 = 1024;
/// Processes and threads of the lab itself: its first process, its own with its lanes and traffic,
/// vswitchd with a handler and a revalidator for each of some processors, an agent's.
const TASKS: u64 = 200;
/// Ports that a switch may have: numbers from 0xff00 on mean something else (OpenFlow 1.0.0,
/// OFPP_MAX), and the lab's switches speak that too.
const PORTS_OF_A_SWITCH: u64 = 0xff00;
/// Descriptors that a switch takes beside its ports': management, flows' and controllers'
/// connections, its own device.
const SWITCH_DESCRIPTORS: u64 = 8;

/// What a lab costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Required {
    /// KiB of memory.
    pub memory_kib: u64,
    /// Descriptors of the process that needs most.
    pub descriptors: u64,
    /// Network namespaces.
    pub namespaces: u64,
    /// Processes and threads, as long as there are no VMs.
    pub tasks: u64,
    /// Ports of the switch that has most.
    pub ports: u64,
}

/// What a machine has left; `None` where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// KiB of memory that can be had without swapping (MemAvailable).
    pub memory_kib: Option<u64>,
    /// Descriptors that a process may have.
    pub descriptors: Option<u64>,
    /// Network namespaces that this user may have (`user.max_net_namespaces`).
    pub namespaces: Option<u64>,
    /// Processes and threads that may be started yet: of this user (RLIMIT_NPROC), of this control
    /// group (`pids.max`), of the machine.
    pub tasks: Option<u64>,
}

/// Ports of all switches that are an agent's.
fn ports(site: &Site) -> usize {
    let t = &site.topology;
    let switches = (0u32..).zip(&t.switches).filter(|(_, s)| !s.legacy);
    switches.map(|(n, _)| t.ports(NodeId::Switch(SwitchId(n))).len()).sum()
}

impl Required {
    /// What a site's lab needs.
    pub fn of(site: &Site) -> Required {
        let t = &site.topology;
        let count = |n: usize| n as u64;
        let hosts = count(t.servers.len() + t.gateways.len());
        let switches = count(t.switches.len());
        // A socket for each port in the switches' process, a namespace for each host in the lab's.
        let of_ports = count(ports(site)) + switches * SWITCH_DESCRIPTORS;
        Required {
            memory_kib: PROGRAMS_KIB + hosts * SERVER_KIB + switches * SWITCH_KIB,
            descriptors: MORE_DESCRIPTORS + of_ports.max(2 * hosts),
            namespaces: hosts + 1,
            // An agent or a soft switch's thread for each switch, where they have one.
            tasks: TASKS + 2 * switches,
            ports: (0u32..)
                .zip(&t.switches)
                .map(|(n, _)| count(t.ports(NodeId::Switch(SwitchId(n))).len()))
                .max()
                .unwrap_or(0),
        }
    }

    /// Refuses what there is no room for.
    ///
    /// # Errors
    /// With all that is missing, and the figures.
    pub fn check(&self, have: &Available) -> anyhow::Result<()> {
        let missing: Vec<String> = self.missing(have).into_iter().map(|(_, problem)| problem).collect();
        if missing.is_empty() {
            return Ok(());
        }
        bail!("this machine has no room for the lab, and nothing was made: {}", missing.join("; "))
    }

    /// What is short, in a word and with the figures.
    pub fn missing(&self, have: &Available) -> Vec<(&'static str, String)> {
        let mut missing = Vec::new();
        if let Some(memory) = have.memory_kib.filter(|m| *m < self.memory_kib) {
            let problem = format!(
                "{} MiB of memory are needed, and {} MiB are available",
                self.memory_kib >> 10,
                memory >> 10
            );
            missing.push(("memory", problem));
        }
        if let Some(most) = have.descriptors.filter(|d| *d < self.descriptors) {
            let problem = format!(
                "{} descriptors are needed, and a process may have {most} (`ulimit -Hn`, or LimitNOFILE of its unit)",
                self.descriptors
            );
            missing.push(("descriptors", problem));
        }
        if let Some(most) = have.namespaces.filter(|n| *n < self.namespaces) {
            let problem = format!(
                "{} network namespaces are needed, and this user may have {most} (sysctl user.max_net_namespaces)",
                self.namespaces
            );
            missing.push(("namespaces", problem));
        }
        if let Some(most) = have.tasks.filter(|n| *n < self.tasks) {
            let problem = format!(
                "{} processes and threads are needed, and {most} may be started (`ulimit -u`, pids.max of the control group)",
                self.tasks
            );
            missing.push(("tasks", problem));
        }
        if self.ports > PORTS_OF_A_SWITCH {
            let problem = format!(
                "a switch has {} ports, and OpenFlow 1.0 has numbers for {PORTS_OF_A_SWITCH}; let more switches share them",
                self.ports
            );
            missing.push(("ports", problem));
        }
        missing
    }
}

impl Available {
    /// Looks.
    pub fn now() -> Available {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = text
            .lines()
            .find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok());
        let namespaces = std::fs::read_to_string("/proc/sys/user/max_net_namespaces").ok();
        Available {
            memory_kib,
            descriptors: limits::most_descriptors(),
            namespaces: namespaces.and_then(|n| n.trim().parse().ok()),
            tasks: [limits::most_processes(), tasks_of_group(), tasks_of_machine()]
                .into_iter()
                .flatten()
                .min(),
        }
    }
}

/// What a file with a number says; `max` is no number.
fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What is left of this process's control group and those above it (cgroup v2, `pids.max` and
/// `pids.current`).
fn tasks_of_group() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|l| l.strip_prefix("0::"))?.trim_start_matches('/').to_owned();
    std::path::Path::new(&own)
        .ancestors()
        .filter_map(|group| {
            let at = |file: &str| format!("/sys/fs/cgroup/{}/{file}", group.display());
            Some(number(&at("pids.max"))?.saturating_sub(number(&at("pids.current"))?))
        })
        .min()
}

/// What is left of the whole machine (`kernel.threads-max`; how many there are is the second part
/// of /proc/loadavg's fourth field).
fn tasks_of_machine() -> Option<u64> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let there: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(number("/proc/sys/kernel/threads-max")?.saturating_sub(there))
}

/// How long a lab may take to be gone: the kernel takes namespaces, cables and packet sockets apart
/// one after the other.
pub fn down_limit(servers: u64) -> Duration {
    const LEAST: Duration = Duration::from_secs(60);
    const EACH: Duration = Duration::from_millis(50);
    LEAST + EACH * u32::try_from(servers).unwrap_or(u32::MAX)
}

/// How long the agents may take to make a site's switches: two minutes, and for each port as long
/// as it took on a busy machine of two cores, several times over.
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
        let need = Required::of(&site(50, 100));
        assert!(need.descriptors > 2 * 5000 && need.namespaces > 5000 && need.memory_kib > 1 << 20);
        assert_eq!((need.ports, need.tasks > 2 * 50), (102, true), "{need:?}");
        let all = Available {
            memory_kib: Some(16 << 20),
            descriptors: Some(1 << 20),
            namespaces: Some(100_000),
            tasks: Some(10_000),
        };
        assert!(need.check(&all).is_ok());
        let unknown = Available { memory_kib: None, descriptors: None, namespaces: None, tasks: None };
        assert!(need.check(&unknown).is_ok());
        let none = Available {
            memory_kib: Some(512 << 10),
            descriptors: Some(4096),
            namespaces: Some(1000),
            tasks: Some(100),
        };
        let why = need.check(&none).expect_err("no room").to_string();
        for word in [
            "nothing was made",
            "and 512 MiB are available",
            "may have 4096",
            "may have 1000",
            "and 100 may be started",
        ] {
            assert!(why.contains(word), "{why}");
        }
        // Each of them alone is enough.
        let one =
            |have: Available| need.check(&have).expect_err("no room").to_string().matches("needed").count();
        assert_eq!(one(Available { descriptors: Some(need.descriptors - 1), ..all }), 1);
        assert_eq!(one(Available { namespaces: Some(need.namespaces - 1), ..all }), 1);
        assert_eq!(one(Available { memory_kib: Some(need.memory_kib - 1), ..all }), 1);
        assert_eq!(one(Available { tasks: Some(need.tasks - 1), ..all }), 1);
        let why = Required { ports: 65_281, ..need }.check(&all).expect_err("no number").to_string();
        assert!(why.contains("65281 ports"), "{why}");
    }

    #[test]
    fn this_machine_says_what_it_has() {
        let have = Available::now();
        assert!(have.memory_kib.is_some_and(|m| m > 1 << 10), "{have:?}");
        assert!(have.tasks.is_some_and(|n| n > 10), "{have:?}");
    }

    #[test]
    fn a_large_lab_may_take_longer() {
        assert!(agents_limit(&site(50, 100)) > 2 * agents_limit(&site(2, 2)));
        assert!(down_limit(5000) > 4 * down_limit(10));
    }
}
