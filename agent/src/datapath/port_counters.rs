//! What interfaces are and have counted, whatever their switch is made of.

use super::{Counters, PortReport, SwitchReport, shaping};
use crate::desired::{Port, Switch};
use crate::nic;
use std::collections::BTreeMap;
use tandem_linux::ethtool::Ethtool;
use tandem_linux::link;
use tandem_linux::netlink::Netlink;

/// The report of these switches' ports; empty when the kernel does not say.
pub(super) fn report(wanted: &[Switch], ethtool: &mut Option<Ethtool>) -> Vec<SwitchReport> {
    let Ok(mut netlink) = Netlink::open() else { return Vec::new() };
    let interfaces: BTreeMap<String, link::Interface> =
        link::list(&mut netlink).unwrap_or_default().into_iter().map(|i| (i.name.clone(), i)).collect();
    let mut all = Vec::new();
    for switch in wanted {
        let mut ports = Vec::new();
        for port in &switch.ports {
            ports.push(port_report(&mut netlink, ethtool, port, interfaces.get(&port.interface)));
        }
        all.push(SwitchReport { name: switch.name.clone(), ports, card: None });
    }
    all
}

fn port_report(
    netlink: &mut Netlink,
    ethtool: &mut Option<Ethtool>,
    port: &Port,
    interface: Option<&link::Interface>,
) -> PortReport {
    let mut report =
        PortReport { number: port.number, interface: port.interface.clone(), ..PortReport::default() };
    let Some(interface) = interface else {
        report.missing = true;
        if let Some(ethtool) = ethtool {
            ethtool.forget(&port.interface);
        }
        return report;
    };
    report.up = interface.running;
    if let Some(s) = &interface.stats {
        report.counters = Counters {
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_dropped: s.rx_dropped,
            tx_dropped: s.tx_dropped,
            rx_errors: s.rx_errors,
            tx_errors: s.tx_errors,
        };
    }
    if let Some(ethtool) = ethtool {
        let nic = nic::inspect(ethtool, &port.interface);
        (report.speed, report.half_duplex, report.by_hand) = (nic.speed, nic.half_duplex, nic.by_hand);
        report.hardware = nic::counters(ethtool, &port.interface);
    }
    report.classes = shaping::classes(netlink, port, interface.index);
    report
}
