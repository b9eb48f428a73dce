//! State and counters of interfaces, independent of the datapath.

use super::{PortReport, SwitchReport, shaping};
use crate::desired::{Port, Switch};
use crate::nic;
use std::collections::BTreeMap;
use tandem_linux::ethtool::Ethtool;
use tandem_linux::link;
use tandem_linux::link::Stats64;
use tandem_linux::netlink::Netlink;
use tandem_model::PortCounters;

/// The report of these switches' ports; empty when the kernel does not list interfaces.
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
    let mut report = PortReport {
        number: port.number,
        interface: port.interface.clone(),
        // A missing interface has counted nothing.
        counters: of_interface(&Stats64::default()),
        ..PortReport::default()
    };
    let Some(interface) = interface else {
        report.missing = true;
        if let Some(ethtool) = ethtool {
            ethtool.forget(&port.interface);
        }
        return report;
    };
    report.up = interface.running;
    if let Some(s) = &interface.stats {
        report.counters = of_interface(s);
    }
    if let Some(ethtool) = ethtool {
        let nic = nic::inspect(ethtool, &port.interface);
        (report.speed, report.half_duplex, report.by_hand) = (nic.speed, nic.half_duplex, nic.by_hand);
        report.hardware = nic::counters(ethtool, &port.interface);
    }
    report.classes = shaping::classes(netlink, port, interface.index);
    report
}

/// The kernel's counters of an interface.
pub(super) fn of_interface(stats: &Stats64) -> PortCounters {
    PortCounters {
        rx_packets: Some(stats.rx_packets),
        tx_packets: Some(stats.tx_packets),
        rx_bytes: Some(stats.rx_bytes),
        tx_bytes: Some(stats.tx_bytes),
        rx_dropped: Some(stats.rx_dropped),
        tx_dropped: Some(stats.tx_dropped),
        rx_errors: Some(stats.rx_errors),
        tx_errors: Some(stats.tx_errors),
        rx_frame_errors: Some(stats.rx_frame_errors),
        rx_overrun_errors: Some(stats.rx_over_errors),
        rx_crc_errors: Some(stats.rx_crc_errors),
        collisions: Some(stats.collisions),
        ..PortCounters::default()
    }
}
