//! Translates the agents' messages from and to the core's types, without decisions.

use tandem_agent_protocol::agent as wire;
use tandem_api::agents::{AgentPortView, CardView};
use tandem_model::{
    AgentDesired, AgentSample, AgentSwitch, BitRate, ClassSample, DesiredClass, DesiredPort, DesiredSwitch,
    PortCounters, PortNo, PortSample, QueueSelection, counted,
};

/// The interval of an agent's reports, in milliseconds, if the site's period is too long for the
/// field.
const PERIOD_MS: u32 = 1000;

/// A switch in an agent's hello.
pub(super) fn presented(switch: &wire::Presented) -> AgentSwitch {
    let ports = switch.ports.iter().map(|p| (PortNo(p.number), selection(p.selection())));
    AgentSwitch { name: switch.name.clone(), datapath: switch.datapath.clone(), ports: ports.collect() }
}

fn selection(selection: wire::QueueSelection) -> QueueSelection {
    match selection {
        wire::QueueSelection::Queue => QueueSelection::Queue,
        wire::QueueSelection::Dscp => QueueSelection::Dscp,
        wire::QueueSelection::RateLimiter => QueueSelection::RateLimiter,
        wire::QueueSelection::Mark => QueueSelection::Mark,
        wire::QueueSelection::None => QueueSelection::None,
    }
}

/// The message of a desired state.
pub(super) fn desired(desired: AgentDesired) -> wire::Desired {
    wire::Desired {
        generation: desired.generation,
        switches: desired.switches.into_iter().map(switch).collect(),
        report_period_ms: u32::try_from(desired.report_period.as_millis()).unwrap_or(PERIOD_MS),
    }
}

/// Controllers and protocols stay empty: an agent has them in its own configuration.
fn switch(switch: DesiredSwitch) -> wire::Switch {
    wire::Switch {
        name: switch.name,
        datapath_id: switch.dpid.0,
        controllers: Vec::new(),
        protocols: Vec::new(),
        ports: switch.ports.into_iter().map(port).collect(),
    }
}

fn port(port: DesiredPort) -> wire::Port {
    let class = |class: DesiredClass| wire::Class {
        rate_bit_per_s: class.rate.0,
        ceiling_bit_per_s: class.ceiling.0,
        dscp: class.dscp.into(),
        queue_packets: class.queue,
    };
    wire::Port {
        number: port.port.0,
        rate_bit_per_s: port.rate.0,
        queue_packets: port.queue,
        classes: port.classes.into_iter().map(class).collect(),
        default_class: port.default_class,
    }
}

/// The view of a port in a report; `switch` is that in the agent's hello.
pub(super) fn port_view(switch: &wire::Presented, port: &wire::PortReport) -> AgentPortView {
    let presented = switch.ports.iter().find(|p| p.number == port.number);
    AgentPortView {
        port: format!("{}.{}", switch.name, port.number),
        interface: presented.map(|p| p.interface.clone()).unwrap_or_default(),
        datapath: switch.datapath.clone(),
        up: port.up,
        speed: port.speed_bit_per_s,
        half_duplex: port.half_duplex,
        hardware: port.hardware.iter().map(|c| (c.name.clone(), c.value)).collect(),
    }
}

/// The view of a card in a report.
pub(super) fn card_view(switch: &str, card: &wire::CardReport) -> CardView {
    use wire::card_report::Path;
    let path = match card.path() {
        Path::Forwards => "forwards",
        Path::Stopped => "stopped",
        Path::Recovering => "recovering",
        Path::Unreachable => "unreachable",
    };
    CardView {
        switch: switch.to_owned(),
        path: path.into(),
        outages: card.outages,
        outage_ms: card.outage_ms,
    }
}

fn counters(p: &wire::PortReport) -> PortCounters {
    PortCounters {
        rx_packets: counted(p.rx_packets),
        tx_packets: counted(p.tx_packets),
        rx_bytes: counted(p.rx_bytes),
        tx_bytes: counted(p.tx_bytes),
        rx_dropped: counted(p.rx_dropped),
        tx_dropped: counted(p.tx_dropped),
        rx_errors: counted(p.rx_errors),
        tx_errors: counted(p.tx_errors),
        rx_frame_errors: p.rx_frame_errors,
        rx_overrun_errors: p.rx_overrun_errors,
        rx_crc_errors: p.rx_crc_errors,
        collisions: p.collisions,
        ..PortCounters::default()
    }
}

/// The core's form of a port in a report.
pub(super) fn sample(p: wire::PortReport) -> AgentSample {
    let class = |c: &wire::ClassReport| ClassSample {
        bytes: c.bytes,
        packets: c.packets,
        drops: c.drops,
        queued: c.queued,
    };
    AgentSample {
        interface: PortSample { port: PortNo(p.number), counters: counters(&p) },
        speed: (p.speed_bit_per_s > 0).then_some(BitRate(p.speed_bit_per_s)),
        half_duplex: p.half_duplex,
        classes: p.classes.iter().map(class).collect(),
        hardware: p.hardware.into_iter().map(|c| (c.name, c.value)).collect(),
    }
}

/// A fault as a sentence.
pub(super) fn fault(f: &wire::Fault) -> String {
    match (f.switch_name.as_str(), f.port) {
        ("", _) => f.why.clone(),
        (switch, 0) => format!("{switch}: {}", f.why),
        (switch, port) => format!("{switch} port {port}: {}", f.why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tandem_model::Dpid;

    /// The message keeps the field numbers of earlier agents.
    #[test]
    fn a_desired_state_is_told_as_agents_know_it() {
        let class = |rate: u64, dscp: u8| DesiredClass {
            rate: BitRate(rate),
            ceiling: BitRate(8000),
            dscp,
            queue: 50,
        };
        let port = DesiredPort {
            port: PortNo(3),
            rate: BitRate(8000),
            queue: 100,
            classes: vec![class(5600, 46), class(2400, 10)],
            default_class: 1,
        };
        let switch = DesiredSwitch { name: "edge1".into(), dpid: Dpid(0xe1), ports: vec![port] };
        let report_period = Duration::from_millis(200);
        let told = desired(AgentDesired { generation: 7, report_period, switches: vec![switch] });
        let class = |rate_bit_per_s: u64, dscp: u32| wire::Class {
            rate_bit_per_s,
            ceiling_bit_per_s: 8000,
            dscp,
            queue_packets: 50,
        };
        let port = wire::Port {
            number: 3,
            rate_bit_per_s: 8000,
            queue_packets: 100,
            classes: vec![class(5600, 46), class(2400, 10)],
            default_class: 1,
        };
        // Controllers and protocols are those in the agent's own configuration.
        let switch = wire::Switch {
            name: "edge1".into(),
            datapath_id: 0xe1,
            controllers: Vec::new(),
            protocols: Vec::new(),
            ports: vec![port],
        };
        assert_eq!(told, wire::Desired { generation: 7, switches: vec![switch], report_period_ms: 200 });
        let long = AgentDesired { generation: 8, report_period: Duration::MAX, switches: Vec::new() };
        assert_eq!(desired(long).report_period_ms, PERIOD_MS);
    }
}
