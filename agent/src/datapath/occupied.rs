//! Finds interfaces that are in use already: in a bond, a team, a kernel bridge or a datapath. As a
//! port of a switch they would be taken from it, or their packets would be forwarded twice.

use super::shaping::PortsThere;
use crate::desired::{Fault, Switch};
use tandem_linux::link::Interface;

/// The master of the ports of Open vSwitch's kernel datapath.
const OPENVSWITCH: &str = "openvswitch";

/// What an interface belongs to, and what to do about it; `None` when it is free.
pub fn place(interface: &Interface, all: &[Interface]) -> Option<String> {
    let master = interface.master?;
    let name = &interface.name;
    let Some(master) = all.iter().find(|i| i.index == master) else {
        return Some(format!("{name} belongs to interface {master}, which is in another namespace"));
    };
    let of = &master.name;
    Some(match master.kind.as_deref() {
        Some(kind @ ("bond" | "team")) => format!(
            "{name} is part of the {kind} {of}, which sends and receives by it; name the {kind} instead (interface = {of:?}), or take it out \
             first (ip link set {name} nomaster)"
        ),
        Some("bridge") => format!(
            "{name} is a port of the kernel's bridge {of}, which belongs to somebody else; take it out there first (ip link set {name} \
             nomaster), or name another interface"
        ),
        Some(OPENVSWITCH) => format!(
            "{name} is a port of an Open vSwitch bridge; take it out there first (ovs-vsctl del-port {name}), or name another interface"
        ),
        kind => format!(
            "{name} belongs to {of} ({}); take it out there first (ip link set {name} nomaster), or name another interface",
            kind.unwrap_or("of an unknown kind")
        ),
    })
}

/// Faults of ports whose interfaces are in use. `there` are the ports of Open vSwitch's bridges in
/// its database. For a switch that is one of these bridges (`is_ovs`), the database has checked its
/// ports already.
pub(super) fn refuse(wanted: &[Switch], all: &[Interface], there: &PortsThere, is_ovs: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (switch, port) in wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
        let name = &port.interface;
        let Some(interface) = all.iter().find(|i| i.name == *name) else { continue };
        let master = interface.master.and_then(|m| all.iter().find(|i| i.index == m));
        let is_datapath = master.is_some_and(|m| m.kind.as_deref() == Some(OPENVSWITCH));
        let why = match there.get(name).filter(|_| !is_ovs) {
            Some(at) => Some(format!(
                "{name} is a port of the Open vSwitch bridge {}; take it out there first (ovs-vsctl del-port {} {name}), or name another \
                 interface",
                at.bridge, at.bridge
            )),
            None if is_ovs && is_datapath => None,
            None => place(interface, all),
        };
        faults.extend(why.map(|why| Fault::new(&switch.name, Some(port.number), why)));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, kind: Option<&str>, master: Option<u32>) -> Interface {
        Interface {
            index,
            name: name.into(),
            up: true,
            running: true,
            master,
            kind: kind.map(str::to_owned),
            lower: None,
            mtu: 1500,
            mac: [0; 6],
            stats: None,
        }
    }

    #[test]
    fn who_has_an_interface_is_named_with_what_to_do() {
        let all = [
            interface(1, "bond0", Some("bond"), None),
            interface(2, "team0", Some("team"), None),
            interface(3, "virbr0", Some("bridge"), None),
            interface(4, "ovs-system", Some("openvswitch"), None),
            interface(5, "eth1", None, Some(1)),
            interface(6, "eth2", None, Some(2)),
            interface(7, "eth3", None, Some(3)),
            interface(8, "eth4", None, Some(4)),
            interface(9, "eth5", None, Some(99)),
            interface(10, "eth6", None, None),
        ];
        let said: Vec<Option<String>> = all[4..].iter().map(|i| place(i, &all)).collect();
        for (said, word) in said.iter().zip([
            "interface = \"bond0\"",
            "interface = \"team0\"",
            "kernel's bridge virbr0",
            "ovs-vsctl del-port eth4",
            "another namespace",
        ]) {
            assert!(said.as_ref().is_some_and(|s| s.contains(word)), "{word}: {said:?}");
        }
        assert_eq!(said[5], None, "a free one");
        assert_eq!(place(&all[0], &all), None, "the bond itself can be a port");
    }
}
