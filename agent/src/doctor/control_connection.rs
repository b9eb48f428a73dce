//! Checks whether the controller is reachable, by which interfaces, and with which certificate.

use super::Findings;
use crate::config::{Address, Config};
use std::net::ToSocketAddrs;
use std::time::Duration;
use tandem_linux::link;
use tandem_linux::netlink::Netlink;

pub(super) fn inspect(config: &Config, findings: &mut Findings) {
    let what = format!("controller ({})", config.controller);
    let reached = match &config.controller {
        Address::Unix(path) => std::os::unix::net::UnixStream::connect(path).map(drop),
        Address::Tcp(address) => address.to_socket_addrs().and_then(|mut all| {
            let first = all.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
            std::net::TcpStream::connect_timeout(&first, Duration::from_secs(3)).map(drop)
        }),
    };
    match reached {
        Ok(()) => findings.add(Some(true), &what, "accepts connections".into()),
        Err(error) => findings.add(
            Some(false),
            &what,
            format!("{error}; does `tandem serve` run there with --agents, does a firewall stand between?"),
        ),
    }
    if let Address::Tcp(_) = config.controller {
        let interfaces = Netlink::open().and_then(|mut n| link::list(&mut n)).unwrap_or_default();
        let carrying = crate::datapath::mgmt_interfaces(&config.controller, &interfaces);
        let ports = config.switches.iter().flat_map(|s| &s.ports);
        let cut: Vec<&str> = ports.map(|p| p.interface.as_str()).filter(|i| carrying.contains(*i)).collect();
        match (cut.is_empty(), carrying.is_empty()) {
            (false, _) => findings.add(
                Some(false),
                "control path",
                format!(
                    "{} carries the connection to the controller and is in agent.toml as a port: take it out, or give the controller another way",
                    cut.join(", ")
                ),
            ),
            (true, false) => {
                let names: Vec<&str> = carrying.iter().map(String::as_str).collect();
                findings.add(Some(true), "control path", format!("by {}", names.join(", ")));
            }
            (true, true) => findings.add(None, "control path", "on this machine".into()),
        }
        let enrolled = config.state.join("agent.crt").exists();
        let found = if enrolled {
            "there".to_owned()
        } else {
            format!(
                "not enrolled: `tandem agent token {}` on the controller, then here `tandem-agent enroll --token TOKEN`",
                config.name
            )
        };
        findings.add(Some(enrolled), "certificate", found);
    }
}
