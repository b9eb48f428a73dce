//! Lending a machine's interfaces to its servers and gateways, and giving them back as they were.

use crate::world::testbed::node_protocol::{HostSetup, NodeSetup};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::nic::{self, Nic};

/// An interface that is lent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NicLease {
    /// As it was found.
    pub found: Nic,
    /// To which of the hosts.
    pub host: usize,
}

/// What is to be lent; nothing is changed yet.
///
/// # Errors
/// With everything that speaks against it: an interface that is not there, is used twice, or
/// carries what must not be cut.
pub fn plan(take: &NodeSetup, nics: &[Nic], ours: Option<&str>) -> anyhow::Result<Vec<NicLease>> {
    let mut loans = Vec::new();
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for (host, HostSetup { name, ports, .. }) in take.hosts.iter().enumerate() {
        for port in ports {
            let interface = port.interface.as_str();
            let mut fault = |why: String| faults.push(format!("{name}.{}, {interface}: {why}", port.number));
            let Some(found) = nics.iter().find(|n| n.name == interface) else {
                let there: Vec<&str> = nics.iter().map(|n| n.name.as_str()).filter(|n| *n != "lo").collect();
                fault(format!("this machine has no such interface; it has {}", there.join(", ")));
                continue;
            };
            let carries = |ip: &str| found.addresses.iter().any(|(a, _)| a.to_string() == ip);
            if interface == take.control || interface == "lo" {
                fault(
                    "it carries the control network; name the interface that the data's cable is in".into(),
                );
            } else if ours.is_some_and(carries) {
                fault("it carries this very ssh connection; the inventory's `control` is wrong".into());
            } else if found.default_route {
                fault(
                    "the machine's default route leaves by it; take that away first, if it may be cut off"
                        .into(),
                );
            } else if found.controller.is_some() {
                fault("it is in a bridge or a bond; take it out first".into());
            } else if !used.insert(interface) {
                fault("it is named twice".into());
            } else {
                loans.push(NicLease { found: found.clone(), host });
            }
        }
    }
    if !faults.is_empty() {
        bail!("nothing was changed: {}", faults.join("; "));
    }
    Ok(loans)
}

/// Lends the interfaces, from the thread's namespace.
///
/// # Errors
/// When the kernel refuses; those lent before are then given back.
pub fn lend(loans: &[NicLease], spaces: &[NetNs], home: &NetNs) -> anyhow::Result<()> {
    for (n, loan) in loans.iter().enumerate() {
        let lent = spaces
            .get(loan.host)
            .context("a host without a namespace")
            .and_then(|ns| Ok(Netlink::open()?.batch(&[nic::lend(loan.found.index, ns)])?));
        if let Err(error) = lent {
            let left = restore(&loans[..n], spaces, home);
            let left = if left.is_empty() { String::new() } else { format!("; and {}", left.join("; ")) };
            bail!("{}: {error:#}{left}", loan.found.name);
        }
    }
    Ok(())
}

/// Gives interfaces back to `home`, as they were. Goes on past failures; says them all.
#[must_use]
pub fn restore(loans: &[NicLease], spaces: &[NetNs], home: &NetNs) -> Vec<String> {
    loans
        .iter()
        .filter_map(|loan| {
            let returned = restore_one(loan, spaces, home);
            returned.err().map(|e| format!("{} could not be given back as it was: {e:#}", loan.found.name))
        })
        .collect()
}

fn index(name: &str) -> anyhow::Result<Option<u32>> {
    Ok(nic::look(&mut Netlink::open()?)?.into_iter().find(|n| n.name == name).map(|n| n.index))
}

fn restore_one(loan: &NicLease, spaces: &[NetNs], home: &NetNs) -> anyhow::Result<()> {
    let name = loan.found.name.as_str();
    let ns = spaces.get(loan.host).context("a host without a namespace")?;
    ns.run(|| -> anyhow::Result<()> {
        // One that is not there may have been given back by the kernel already.
        let Some(index) = index(name)? else { return Ok(()) };
        Ok(Netlink::open()?.batch(&[nic::lend(index, home)])?)
    })??;
    home.run(|| -> anyhow::Result<()> {
        let index = index(name)?.context("it is gone from this machine")?;
        Ok(Netlink::open()?.batch(&nic::restore(index, &loan.found))?)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::testbed::node_protocol::PortSetup;

    fn nic(name: &str, index: u32) -> Nic {
        Nic {
            index,
            name: name.into(),
            up: true,
            controller: None,
            addresses: Vec::new(),
            default_route: false,
        }
    }

    fn take(interfaces: &[&str]) -> NodeSetup {
        let ports = (1u32..).zip(interfaces).map(|(number, interface)| PortSetup {
            number,
            interface: (*interface).into(),
            rate: 1,
            queue: 1,
        });
        let host = HostSetup {
            name: "srv1".into(),
            gateway: false,
            mac: [2; 6],
            address: [10, 0, 0, 1].into(),
            prefix_len: 8,
            ports: ports.collect(),
        };
        NodeSetup { control: "eth0".into(), hosts: vec![host], announce: None }
    }

    #[test]
    fn what_must_not_be_cut_is_refused_and_all_faults_are_told_at_once() {
        let mut nics: Vec<Nic> =
            (1u32..).zip(["eth0", "eth1", "eth2", "eth3", "eth4"]).map(|(n, name)| nic(name, n)).collect();
        nics[1].default_route = true;
        nics[2].controller = Some(9);
        nics[3].addresses.push(([192, 168, 0, 5].into(), 24));
        let all = take(&["eth0", "eth1", "eth2", "eth3", "eth9", "eth4", "eth4"]);
        let told = plan(&all, &nics, Some("192.168.0.5")).expect_err("faults").to_string();
        for expected in [
            "srv1.1, eth0: it carries the control network",
            "srv1.2, eth1: the machine's default route",
            "srv1.3, eth2: it is in a bridge",
            "srv1.4, eth3: it carries this very ssh connection",
            "srv1.5, eth9: this machine has no such interface",
            "srv1.7, eth4: it is named twice",
        ] {
            assert!(told.contains(expected), "{expected} is not in {told}");
        }
        let loans = plan(&take(&["eth3", "eth4"]), &nics, None).expect("both may be lent");
        assert_eq!(loans.iter().map(|l| l.found.index).collect::<Vec<_>>(), [4, 5]);
    }
}
