//! What a machine cannot do for a site that it is to emulate, each with what to do about it: for
//! people who want to know before they try. What there is no room for at all is refused by
//! [`super::room`] when a lab is brought up; this only tells.

use super::room::{Available, Required};
use serde::Serialize;
use std::fmt;
use tandem_linux::link::neighbour_limit;
use tandem_linux::ovs::Datapath;
use tandem_linux::probe::{Probe, queueing};
use tandem_model::{BitRate, DatapathKind, NodeId, Site, SwitchId};

/// What a core forwards in user space, by the order of magnitude: `tandem-lab bench datapath` measures
/// it.
const FORWARDED_BY_A_CORE: BitRate = BitRate::mbit(1000);
/// Ports of a NetFPGA-1G card.
const CARD_PORTS: usize = 4;

/// Something that a machine lacks for a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shortcoming {
    /// What it is about, in a word: `netem`, `memory`, `namespaces` ...
    pub about: &'static str,
    /// What is short.
    pub problem: String,
    /// What to do about it.
    pub instead: String,
}

impl fmt::Display for Shortcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.about, self.problem, self.instead)
    }
}

/// What a machine has.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Programs, devices and rights.
    pub probe: Probe,
    /// The kernel delays and loses packets (netem); `None` where that could not be tried.
    pub netem: Option<bool>,
    /// Memory, descriptors, namespaces, processes.
    pub available: Available,
    /// Neighbours (ARP) that the kernel keeps for all namespaces together.
    pub neighbours: Option<usize>,
    /// Processors.
    pub cores: usize,
}

impl Machine {
    /// Looks at this one. Traffic control is tried in a namespace that is gone afterwards.
    pub fn now() -> Machine {
        Machine {
            probe: Probe::new(),
            netem: queueing().ok().map(|q| q.netem),
            available: Available::now(),
            neighbours: neighbour_limit(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }
}

/// What a machine lacks for a site; empty when it can do all of it.
pub fn shortcomings(site: &Site, machine: &Machine) -> Vec<Shortcoming> {
    let mut notes = Vec::new();
    let mut note = |about, problem: String, instead: String| {
        notes.push(Shortcoming { about, problem, instead });
    };
    rights_and_programs(site, machine, &mut note);
    capacity(site, machine, &mut note);
    cards(site, &mut note);
    notes
}

type Tell<'a> = dyn FnMut(&'static str, String, String) + 'a;

fn rights_and_programs(site: &Site, machine: &Machine, note: &mut Tell<'_>) {
    let Machine { probe, netem, .. } = machine;
    if !probe.namespaces {
        let problem = "neither root nor user namespaces, so no emulated data centre can be brought up";
        let instead = "run tandem-lab with sudo, or let ordinary users make user namespaces (user_namespaces(7)); \
                       the simulated world needs neither";
        note("namespaces", problem.into(), instead.into());
    }
    let wants_ovs = site.topology.switches.iter().any(|s| s.datapath == Some(DatapathKind::OVS));
    if !probe.ovs {
        let problem = if wants_ovs {
            "Open vSwitch is not installed, and switches of the site have datapath = \"ovs\""
        } else {
            "Open vSwitch is not installed: switches are the agent's own (soft)"
        };
        note("open-vswitch", problem.into(), "apt-get install openvswitch-switch".into());
    } else if !probe.tun && probe.datapath == Datapath::Userspace {
        let problem = "/dev/net/tun cannot be opened, which Open vSwitch needs in user space";
        let instead = "modprobe tun, or mknod -m 666 /dev/net/tun c 10 200; or tandem-lab up --datapath soft";
        note("tun", problem.into(), instead.into());
    }
    if !probe.udhcpc && site.modules.dhcp {
        let problem = "no DHCP client is installed, by which emulated VMs get their addresses";
        note(
            "udhcpc",
            problem.into(),
            "apt-get install udhcpc, or write dhcp = false under [modules]".into(),
        );
    }
    let late = site.topology.links.iter().filter(|l| !l.cfg.delay.is_zero() || l.cfg.loss_ppm > 0).count();
    if late > 0 && *netem != Some(true) {
        let have = if late == 1 { "one link has".to_owned() } else { format!("{late} links have") };
        let problem = match netem {
            Some(_) => format!("this kernel has no netem (module sch_netem), and {have} delay or loss"),
            None => format!("{have} delay or loss, and whether this kernel has netem only root can try"),
        };
        let instead = "modprobe sch_netem (package linux-modules-extra on some systems), or leave delay and loss out; \
                       the simulated world has both";
        note("netem", problem, instead.into());
    }
}

fn capacity(site: &Site, machine: &Machine, note: &mut Tell<'_>) {
    let t = &site.topology;
    for (about, problem) in Required::of(site).missing(&machine.available) {
        note(
            about,
            problem,
            "use a smaller site, or the simulated world (tandem-lab experiment ... )".into(),
        );
    }
    let hosts = t.servers.len() + t.gateways.len();
    if let Some(limit) = machine.neighbours.filter(|limit| 2 * hosts > *limit) {
        let problem = format!(
            "this kernel keeps {limit} neighbours (ARP) for all namespaces together, and {hosts} servers and gateways with their \
             VMs need more"
        );
        let most = (8 * hosts).next_power_of_two();
        note("neighbours", problem, format!("sysctl -w net.ipv4.neigh.default.gc_thresh3={most}"));
    }
    // What all servers together can send at once.
    let sum = t.servers.iter().filter_map(|s| t.link(*s.uplinks.first()?)).map(|l| l.cfg.rate);
    let sum = sum.fold(BitRate(0), BitRate::saturating_add);
    let able = BitRate(FORWARDED_BY_A_CORE.0.saturating_mul(machine.cores as u64));
    if sum > able {
        let cores = machine.cores;
        let problem = format!(
            "the servers' links add up to {sum}, and {cores} cores forward about {able} of full-size packets in user space"
        );
        let instead = "scale the rates down, or let less traffic run at once; tandem-lab bench datapath measures this machine";
        note("rates", problem, instead.into());
    }
}

fn cards(site: &Site, note: &mut Tell<'_>) {
    let t = &site.topology;
    for (n, switch) in (0u32..).zip(&t.switches) {
        let ports = t.ports(NodeId::Switch(SwitchId(n))).len();
        if switch.datapath == Some(DatapathKind::NETFPGA) && ports > CARD_PORTS {
            let problem = format!(
                "{} has {ports} ports, and its card {CARD_PORTS}: the others are plain interfaces, whose packets the card does not see",
                switch.name
            );
            note("card-ports", problem, "give it at most 4 links, its busiest ones first".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::site::read;

    fn able() -> Machine {
        let probe =
            Probe { namespaces: true, tun: true, ovs: true, udhcpc: true, datapath: Datapath::Userspace };
        let available = Available {
            memory_kib: Some(8 << 20),
            descriptors: Some(1 << 20),
            namespaces: Some(10_000),
            tasks: Some(100_000),
        };
        Machine { probe, netem: Some(true), available, neighbours: Some(1024), cores: 4 }
    }

    fn told(site: &str, machine: &Machine) -> Vec<&'static str> {
        let site = read(site, "site.toml").expect("a site");
        let notes = shortcomings(&site, machine);
        assert!(notes.iter().all(|n| !n.problem.is_empty() && !n.instead.is_empty()));
        notes.into_iter().map(|n| n.about).collect()
    }

    const SMALL: &str = "[topology]\nshape = \"linear\"\n";

    #[test]
    fn a_machine_that_can_do_it_is_told_nothing() {
        assert_eq!(told(SMALL, &able()), [""; 0]);
        let late = format!("{SMALL}[links]\ndelay = \"1ms\"\n");
        assert_eq!(told(&late, &able()), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_told_where_the_site_needs_it() {
        let late = format!("{SMALL}[links]\nloss = 0.1\n");
        let without = Machine { netem: Some(false), ..able() };
        assert_eq!((told(SMALL, &without), told(&late, &without)), (vec![], vec!["netem"]));
        let untried = Machine { netem: None, ..able() };
        assert_eq!(told(&late, &untried), ["netem"]);
        let no_tun = Machine { probe: Probe { tun: false, ..able().probe }, ..able() };
        assert_eq!(told(SMALL, &no_tun), ["tun"]);
        let kernel = Probe { tun: false, datapath: Datapath::Kernel, ..able().probe };
        assert_eq!(told(SMALL, &Machine { probe: kernel, ..able() }), [""; 0]);
        let bare = Probe { namespaces: false, ovs: false, udhcpc: false, ..able().probe };
        let bare = Machine { probe: bare, ..able() };
        assert_eq!(told(SMALL, &bare), ["namespaces", "open-vswitch", "udhcpc"]);
        let by_hand = format!("{SMALL}[modules]\ndhcp = false\n");
        assert_eq!(told(&by_hand, &bare), ["namespaces", "open-vswitch"]);
    }

    #[test]
    fn what_there_is_no_room_for_is_told_with_figures() {
        let large = "[topology]\nshape = \"leaf-spine\"\nleaves = 64\nservers_per_leaf = 32\n";
        let small = Available {
            memory_kib: Some(300 << 10),
            descriptors: Some(1000),
            namespaces: Some(100),
            tasks: Some(100),
        };
        let machine = Machine { available: small, cores: 2, ..able() };
        assert_eq!(
            told(large, &machine),
            ["memory", "descriptors", "namespaces", "tasks", "neighbours", "rates"]
        );
        // The same rates in a smaller site, and the same site in a larger machine.
        assert_eq!(told(SMALL, &Machine { cores: 2, ..able() }), [""; 0]);
        let larger = Machine { neighbours: Some(100_000), cores: 64, ..able() };
        assert_eq!(told(large, &larger), [""; 0]);
    }

    #[test]
    fn a_switch_with_more_ports_than_its_card_is_told() {
        let card = |servers: u32| {
            let shape =
                format!("[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = {servers}\n");
            format!("{shape}[[switch]]\nname = \"edge1\"\ndatapath = \"netfpga\"\n")
        };
        assert_eq!((told(&card(3), &able()), told(&card(4), &able())), (vec![], vec!["card-ports"]));
    }

    #[test]
    fn this_machine_is_looked_at() {
        let machine = Machine::now();
        assert!(machine.cores > 0 && machine.available.memory_kib.is_some_and(|m| m > 0));
    }
}
