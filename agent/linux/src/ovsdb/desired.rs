//! Wanted bridges as plain values, and contradictions in them.

use super::Error;
use std::collections::{BTreeMap, BTreeSet};

/// The longest pause between two attempts of a bridge to reach its controller, in ms: the lowest
/// value that the database accepts.
pub const MAX_BACKOFF: u64 = 1000;

/// How long a controller may be silent before the bridge sends an echo request, in ms.
pub const INACTIVITY_PROBE: u64 = 10_000;

/// The highest OpenFlow port number that can be asked for (ovs-vswitchd.conf.db(5),
/// `ofport_request`).
const HIGHEST_PORT: u32 = 65_279;

/// A wanted bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedBridge {
    /// Name.
    pub name: String,
    /// Datapath id; not 0.
    pub datapath_id: u64,
    /// `system` (kernel) or `netdev` (userspace).
    pub datapath_type: String,
    /// e.g. `OpenFlow10`, `OpenFlow13`; empty for vswitchd's choice.
    pub protocols: Vec<String>,
    /// e.g. `tcp:10.0.0.1:6653`. Of Unix sockets vswitchd takes only
    /// `unix:RUNDIR/BRIDGE.controller`; `%` stands for the bridge's name.
    pub controllers: Vec<String>,
    /// Whether the bridge forwards by its flows only (`fail_mode` secure), or as a learning switch
    /// while it has no controller.
    pub secure: bool,
    /// Ports. Foreign ports in the bridge stay.
    pub ports: Vec<WantedPort>,
}

/// A wanted port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPort {
    /// Name of its interface, which need not exist yet.
    pub name: String,
    /// OpenFlow port number, 1 to 65279.
    pub number: u32,
    /// The caller configures its queueing: a foreign `Port.qos` is recorded and cleared, and
    /// restored on release. Otherwise it is left alone.
    pub takes_queueing: bool,
}

/// Whether an existing bridge without a mark may be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adopt {
    /// Never: it belongs to somebody else.
    No,
    /// Only if it keeps its flows.
    WithoutGap,
    /// Even if its forwarding is interrupted.
    EvenWithGap,
}

impl WantedBridge {
    /// Its controllers' targets, each once, in order.
    pub(super) fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        for controller in &self.controllers {
            let target = controller.replace('%', &self.name);
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }
}

/// Refuses wanted bridges that contradict each other.
pub(super) fn check(owner: &str, wanted: &[WantedBridge]) -> Result<(), Error> {
    let fail = |why: String| Err(Error::Invalid { why });
    if owner.is_empty() {
        return fail("the owner has no name".into());
    }
    let mut names = BTreeSet::new();
    let mut ports: BTreeMap<&str, &str> = BTreeMap::new();
    for bridge in wanted {
        let name = bridge.name.as_str();
        if name.is_empty() {
            return fail("a bridge has no name".into());
        }
        if !names.insert(name) {
            return fail(format!("bridge {name} is wanted twice"));
        }
        if bridge.datapath_id == 0 {
            return fail(format!("bridge {name} has datapath id 0, which Open vSwitch does not take"));
        }
        let mut numbers = BTreeMap::new();
        for port in &bridge.ports {
            if port.name.is_empty() {
                return fail(format!("a port of bridge {name} has no name"));
            }
            if !(1..=HIGHEST_PORT).contains(&port.number) {
                return fail(format!(
                    "port {} of bridge {name} has number {}; 1 to {HIGHEST_PORT} are possible",
                    port.name, port.number
                ));
            }
            if let Some(other) = numbers.insert(port.number, &port.name) {
                return fail(format!(
                    "ports {other} and {} of bridge {name} both have number {}",
                    port.name, port.number
                ));
            }
            if let Some(other) = ports.insert(&port.name, name) {
                return fail(format!("port {} is wanted in bridge {other} and in bridge {name}", port.name));
            }
        }
    }
    match ports.iter().find(|(port, _)| names.contains(*port)) {
        Some((port, bridge)) => fail(format!("port {port} of bridge {bridge} has the name of a bridge")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(name: &str, ports: &[(&str, u32)]) -> WantedBridge {
        WantedBridge {
            name: name.into(),
            datapath_id: 1,
            datapath_type: "netdev".into(),
            protocols: vec![],
            controllers: vec!["unix:/run/%.ctl".into(), "unix:/run/%.ctl".into()],
            secure: true,
            ports: ports
                .iter()
                .map(|(n, number)| WantedPort { name: (*n).into(), number: *number, takes_queueing: false })
                .collect(),
        }
    }

    #[test]
    fn contradictions_are_refused_with_their_names() {
        let zero = WantedBridge { datapath_id: 0, ..bridge("a", &[]) };
        for (owner, wanted, word) in [
            ("", vec![], "owner"),
            ("me", vec![bridge("", &[])], "no name"),
            ("me", vec![bridge("a", &[]), bridge("a", &[])], "bridge a is wanted twice"),
            ("me", vec![zero], "datapath id 0"),
            ("me", vec![bridge("a", &[("", 1)])], "no name"),
            ("me", vec![bridge("a", &[("p", 0)])], "1 to 65279"),
            ("me", vec![bridge("a", &[("p", 65_280)])], "1 to 65279"),
            ("me", vec![bridge("a", &[("p", 1), ("q", 1)])], "both have number 1"),
            ("me", vec![bridge("a", &[("p", 1)]), bridge("b", &[("p", 1)])], "in bridge a and in bridge b"),
            ("me", vec![bridge("a", &[("b", 1)]), bridge("b", &[])], "the name of a bridge"),
        ] {
            let said = check(owner, &wanted).expect_err(word).to_string();
            assert!(said.contains(word), "{said}");
        }
        check("me", &[bridge("a", &[("p", 1)]), bridge("b", &[("q", 1)])]).expect("nothing against it");
        assert_eq!(bridge("x", &[]).targets(), ["unix:/run/x.ctl"]);
    }
}
