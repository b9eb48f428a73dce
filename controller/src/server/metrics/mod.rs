//! `GET /metrics`: every figure that is shown elsewhere, for Prometheus, in the OpenMetrics text
//! format (version 1.0.0).
//!
//! A scrape reads the published snapshot and what agents have said; it asks nobody, so it costs the
//! data centre nothing. Bytes and seconds are the units, also of rates (bytes a second), and what
//! is counted ends in `_total`. docs/monitoring.md lists all names. A counter that a switch does
//! not have is left out, not 0.

mod loads;

use crate::agents::AgentFigures;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tandem_api::agents::CardView;
use tandem_core::Snapshot;
use tandem_core::network::agent_ports::{AgentPort, ClassCounters};
use tandem_core::network::topology_state::Sync;
use tandem_core::snapshot::{OverrideView, PortView};
use tandem_model::{BitRate, VmState};

/// What a counter holds that is not counted.
const NOT_COUNTED: u64 = u64::MAX;

/// All figures as text.
///
/// # Errors
/// When the encoder fails; it has no cause to.
pub fn exposition(snapshot: Arc<Snapshot>, agents: Vec<AgentFigures>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures { snapshot, agents }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Figures {
    snapshot: Arc<Snapshot>,
    agents: Vec<AgentFigures>,
}

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauge<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples.into_iter().filter(|(_, value)| *value != NOT_COUNTED) {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabels, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A counter that is no whole number.
    fn counter_of<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn info<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        for labels in samples {
            family.encode_info(&labels)?;
        }
        Ok(())
    }
}

type NoLabels = prometheus_client::encoding::NoLabelSet;
type Label<'a> = (&'static str, &'a str);

/// No labels at all.
const NONE: [Label<'static>; 0] = [];

fn ratio() -> Option<Unit> {
    Some(Unit::Other("ratio".into()))
}

fn per_second() -> Option<Unit> {
    Some(Unit::Other("bytes_per_second".into()))
}

fn bytes(rate: BitRate) -> f64 {
    rate.0 as f64 / 8.0
}

fn one(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// A port with its labels.
struct Port<'a> {
    switch: &'a str,
    number: String,
    view: &'a PortView,
}

impl Port<'_> {
    fn labels(&self) -> [Label<'_>; 2] {
        [("switch", self.switch), ("port", &self.number)]
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Families(encoder);
        let s = &*self.snapshot;
        let version = env!("CARGO_PKG_VERSION");
        out.info("tandem_build", "The controller's version", [[("version", version)]])?;
        let site = [("site", s.site.name.as_str()), ("policy", s.policy.as_str())];
        out.info("tandem_site", "The site and its allocation policy", [site])?;
        switches(&mut out, s)?;
        let ports: Vec<Port<'_>> = s
            .switches
            .iter()
            .flat_map(|switch| {
                switch.ports.iter().map(|view| Port {
                    switch: &switch.name,
                    number: view.port.to_string(),
                    view,
                })
            })
            .collect();
        self::ports(&mut out, &ports)?;
        interfaces(&mut out, &ports)?;
        classes(&mut out, s, &ports)?;
        links(&mut out, s)?;
        servers(&mut out, s)?;
        vms(&mut out, s)?;
        loads::loads(&mut out, s)?;
        loads::moves(&mut out, s)?;
        agents(&mut out, &self.agents)
    }
}

fn switches(out: &mut Families<'_>, s: &Snapshot) -> fmt::Result {
    let all = || s.switches.iter().filter(|x| !x.legacy);
    let of = |f: fn(&tandem_core::snapshot::SwitchView) -> f64| {
        all().map(move |x| ([("switch", x.name.as_str())], f(x)))
    };
    let roles: Vec<String> =
        all().map(|x| x.role.map_or_else(|| "unknown".to_owned(), |r| r.to_string())).collect();
    let dpids: Vec<String> = all().map(|x| x.dpid.to_string()).collect();
    let infos = all().zip(&roles).zip(&dpids).map(|((x, role), dpid)| {
        let version = x.version.as_deref().unwrap_or_default();
        [("switch", x.name.as_str()), ("role", role), ("dpid", dpid), ("openflow", version)]
    });
    out.info("tandem_switch", "A switch's role, datapath id and OpenFlow version", infos)?;
    out.gauge("tandem_switch_up", "1 for a switch that is connected", None, of(|x| one(x.connected)))?;
    let synced = of(|x| one(x.sync == Sync::Done));
    out.gauge("tandem_switch_synced", "1 for a switch that has confirmed its rules", None, synced)?;
    out.gauge("tandem_switch_rules", "Our rules in the switch", None, of(|x| x.rules as f64))?;
    let help = "What its ports send over the sum of their links' capacities";
    out.gauge("tandem_switch_utilization", help, ratio(), of(|x| x.ratio))
}

fn ports(out: &mut Families<'_>, ports: &[Port<'_>]) -> fmt::Result {
    // What a switch does not count has no sample.
    let count =
        |f: fn(&PortView) -> Option<u64>| ports.iter().filter_map(move |p| Some((p.labels(), f(p.view)?)));
    let rate = |f: fn(&PortView) -> Option<tandem_model::BitRate>| {
        ports.iter().filter_map(move |p| Some((p.labels(), bytes(f(p.view)?))))
    };
    let gauge = |f: fn(&PortView) -> f64| ports.iter().map(move |p| (p.labels(), f(p.view)));
    let infos = ports.iter().map(|p| {
        let [switch, port] = p.labels();
        [switch, port, ("name", p.view.name.as_str()), ("peer", p.view.peer.as_str())]
    });
    out.info("tandem_port", "A port's name on its switch, and what is declared to be plugged in", infos)?;
    out.gauge("tandem_port_up", "1 for a port that is enabled and has a link", None, gauge(|p| one(p.up)))?;
    let help = "1 for a port that the operator has switched off";
    out.gauge("tandem_port_switched_off", help, None, gauge(|p| one(p.switched_off)))?;
    let unit = || Some(Unit::Bytes);
    out.counter("tandem_port_receive", "Bytes in, as the switch counts", unit(), count(|p| p.rx_bytes))?;
    out.counter("tandem_port_transmit", "Bytes out, as the switch counts", unit(), count(|p| p.tx_bytes))?;
    out.counter("tandem_port_receive_packets", "Packets in", None, count(|p| p.rx_packets))?;
    out.counter("tandem_port_transmit_packets", "Packets out", None, count(|p| p.tx_packets))?;
    out.counter("tandem_port_dropped_packets", "Packets dropped, in and out", None, count(|p| p.dropped))?;
    out.counter("tandem_port_errors", "Errors, in and out", None, count(|p| p.errors))?;
    let mut plain = |name, help, f| out.counter(name, help, None, count(f));
    plain("tandem_port_receive_frame_errors", "Frame alignment errors coming in", |p| p.rx_frame_errors)?;
    plain("tandem_port_receive_overrun_errors", "Overruns coming in", |p| p.rx_overrun_errors)?;
    plain("tandem_port_receive_crc_errors", "CRC errors coming in", |p| p.rx_crc_errors)?;
    plain("tandem_port_collisions", "Collisions", |p| p.collisions)?;
    let (rx, tx) = (rate(|p| p.rx), rate(|p| p.tx));
    out.gauge("tandem_port_receive", "Rate in, smoothed by the site's history weight", per_second(), rx)?;
    out.gauge("tandem_port_transmit", "Rate out, smoothed by the site's history weight", per_second(), tx)
}

/// What agents see at the ports.
fn interfaces(out: &mut Families<'_>, ports: &[Port<'_>]) -> fmt::Result {
    let seen: Vec<(&Port<'_>, &AgentPort)> =
        ports.iter().filter_map(|p| Some((p, p.view.agent.as_deref()?))).collect();
    let count =
        |f: fn(&AgentPort) -> Option<u64>| seen.iter().filter_map(move |(p, a)| Some((p.labels(), f(a)?)));
    let speeds = seen.iter().filter_map(|(p, a)| Some((p.labels(), bytes(a.speed?))));
    out.gauge("tandem_interface_speed", "Negotiated speed", per_second(), speeds)?;
    let duplex = seen.iter().map(|(p, a)| (p.labels(), one(a.half_duplex)));
    let help = "1 for an interface that cannot send and receive at once";
    out.gauge("tandem_interface_half_duplex", help, None, duplex)?;
    let unit = || Some(Unit::Bytes);
    let help = "Bytes in, as the kernel counts";
    out.counter("tandem_interface_receive", help, unit(), count(|a| a.interface.counters.rx_bytes))?;
    let help = "Bytes out, as the kernel counts";
    out.counter("tandem_interface_transmit", help, unit(), count(|a| a.interface.counters.tx_bytes))?;
    let mut plain = |name, help, f| out.counter(name, help, None, count(f));
    plain("tandem_interface_receive_packets", "Packets in", |a| a.interface.counters.rx_packets)?;
    plain("tandem_interface_transmit_packets", "Packets out", |a| a.interface.counters.tx_packets)?;
    plain("tandem_interface_receive_dropped_packets", "Packets dropped coming in", |a| {
        a.interface.counters.rx_dropped
    })?;
    plain("tandem_interface_transmit_dropped_packets", "Packets dropped going out", |a| {
        a.interface.counters.tx_dropped
    })?;
    plain("tandem_interface_receive_errors", "Errors coming in", |a| a.interface.counters.rx_errors)?;
    plain("tandem_interface_transmit_errors", "Errors going out", |a| a.interface.counters.tx_errors)?;
    let hardware = seen.iter().flat_map(|(p, a)| {
        a.hardware.iter().map(|(name, value)| {
            let [switch, port] = p.labels();
            ([switch, port, ("counter", name.as_str())], *value)
        })
    });
    let help = "A counter of the card, by the name that its driver gives it; those that are not zero";
    out.counter("tandem_hardware_counter", help, None, hardware)
}

fn classes(out: &mut Families<'_>, s: &Snapshot, ports: &[Port<'_>]) -> fmt::Result {
    let of = |f: fn(f64, f64) -> f64| {
        s.classes
            .iter()
            .map(move |c| ([("class", c.name.as_str())], f(c.share.share, c.share.ceiling) / 100.0))
    };
    out.gauge("tandem_class_share", "Guaranteed, of a port's rate", ratio(), of(|share, _| share))?;
    out.gauge("tandem_class_ceiling", "At most, of a port's rate", ratio(), of(|_, ceiling| ceiling))?;
    let all: Vec<([Label<'_>; 3], &ClassCounters)> = ports
        .iter()
        .flat_map(|p| {
            s.classes.iter().zip(&p.view.classes).map(|(class, counters)| {
                let [switch, port] = p.labels();
                ([switch, port, ("class", class.name.as_str())], counters)
            })
        })
        .collect();
    let count = |f: fn(&ClassCounters) -> u64| all.iter().map(move |(labels, c)| (*labels, f(c)));
    let gauge = |f: fn(&ClassCounters) -> f64| all.iter().map(move |(labels, c)| (*labels, f(c)));
    let help = "Bytes that the class has sent here";
    out.counter("tandem_class_transmit", help, Some(Unit::Bytes), count(|c| c.sample.bytes))?;
    let help = "Packets that the class has sent here";
    out.counter("tandem_class_transmit_packets", help, None, count(|c| c.sample.packets))?;
    let help = "Packets that found the class's queue full";
    out.counter("tandem_class_dropped_packets", help, None, count(|c| c.sample.drops))?;
    let help = "Packets that wait in the class's queue";
    out.gauge("tandem_class_queued_packets", help, None, gauge(|c| f64::from(c.sample.queued)))?;
    let help = "Rate, smoothed by the site's history weight";
    out.gauge("tandem_class_transmit", help, per_second(), gauge(|c| bytes(c.rate)))?;
    let help = "Guaranteed to the class here";
    out.gauge("tandem_class_guaranteed", help, per_second(), gauge(|c| bytes(c.guaranteed)))?;
    let help = "What the class sends of the port's rate";
    out.gauge("tandem_class_port_share", help, ratio(), gauge(|c| c.share / 100.0))
}

fn links(out: &mut Families<'_>, s: &Snapshot) -> fmt::Result {
    let gauge = |f: fn(&tandem_core::snapshot::LinkView) -> f64| {
        s.links.iter().map(move |l| ([("link", l.name.as_str())], f(l)))
    };
    let infos = s.links.iter().map(|l| {
        let level = match l.level {
            tandem_core::snapshot::LinkLevel::Core => "core",
            tandem_core::snapshot::LinkLevel::Aggregation => "aggregation",
            tandem_core::snapshot::LinkLevel::Edge => "edge",
            tandem_core::snapshot::LinkLevel::Host => "host",
        };
        [("link", l.name.as_str()), ("level", level)]
    });
    out.info("tandem_link", "A declared link's level", infos)?;
    let states = s.links.iter().flat_map(|l| {
        ["declared", "confirmed", "down", "missing"]
            .into_iter()
            .map(move |state| ([("link", l.name.as_str()), ("state", state)], one(l.state == state)))
    });
    out.gauge("tandem_link_state", "1 for the state that the link is in", None, states)?;
    out.gauge("tandem_link_capacity", "Each direction", per_second(), gauge(|l| bytes(l.capacity)))?;
    let directions = |f: fn(&tandem_core::snapshot::LinkView) -> [BitRate; 2]| {
        s.links.iter().flat_map(move |l| {
            let [up, down] = f(l);
            [("up", up), ("down", down)]
                .map(|(direction, rate)| ([("link", l.name.as_str()), ("direction", direction)], bytes(rate)))
        })
    };
    // What no switch counts has no sample.
    let counted: Vec<&tandem_core::snapshot::LinkView> = s.links.iter().filter(|l| !l.uncounted).collect();
    let measured = counted.iter().flat_map(|l| {
        [("up", l.up), ("down", l.down)]
            .map(|(direction, rate)| ([("link", l.name.as_str()), ("direction", direction)], bytes(rate)))
    });
    out.gauge(
        "tandem_link_measured",
        "Measured, smoothed; up is towards the gateways",
        per_second(),
        measured,
    )?;
    let reserved = directions(|l| [l.reserved_up, l.reserved_down]);
    out.gauge("tandem_link_reserved", "Reserved for VMs", per_second(), reserved)?;
    let help = "The busier direction, as measured, over the capacity";
    out.gauge(
        "tandem_link_utilization",
        help,
        ratio(),
        counted.iter().map(|l| ([("link", l.name.as_str())], l.ratio)),
    )
}

fn servers(out: &mut Families<'_>, s: &Snapshot) -> fmt::Result {
    let gauge = |f: fn(&tandem_core::snapshot::ServerView) -> f64| {
        s.servers.iter().map(move |x| ([("server", x.name.as_str())], f(x)))
    };
    let unit = || Some(Unit::Bytes);
    let help = "What the server has for VMs, margin included";
    out.gauge("tandem_server_cpu_cores", help, None, gauge(|x| f64::from(x.capacity.cpu)))?;
    out.gauge("tandem_server_memory", help, unit(), gauge(|x| x.capacity.ram.0 as f64))?;
    out.gauge("tandem_server_disk", help, unit(), gauge(|x| x.capacity.disk.0 as f64))?;
    out.gauge("tandem_server_network", help, per_second(), gauge(|x| bytes(x.capacity.net)))?;
    let help = "What is reserved for VMs";
    out.gauge("tandem_server_cpu_reserved_cores", help, None, gauge(|x| f64::from(x.used.cpu)))?;
    out.gauge("tandem_server_memory_reserved", help, unit(), gauge(|x| x.used.ram.0 as f64))?;
    out.gauge("tandem_server_disk_reserved", help, unit(), gauge(|x| x.used.disk.0 as f64))?;
    out.gauge("tandem_server_network_reserved", help, per_second(), gauge(|x| bytes(x.used.net)))?;
    out.gauge("tandem_server_vms", "VMs on the server", None, gauge(|x| x.vms.len() as f64))
}

fn vms(out: &mut Families<'_>, s: &Snapshot) -> fmt::Result {
    let state = |state: &VmState| match state {
        VmState::Placed => 0,
        VmState::Starting => 1,
        VmState::Running => 2,
        VmState::Cut { .. } => 3,
        VmState::Stopping { .. } => 4,
    };
    let mut counts = [0.0; 5];
    s.vms.iter().for_each(|vm| counts[state(&vm.record.state)] += 1.0);
    let states = ["placed", "starting", "running", "cut", "stopping"].map(|name| [("state", name)]);
    out.gauge("tandem_vms", "VMs by their state", None, states.into_iter().zip(counts))?;
    let names: Vec<String> = s.vms.iter().map(|vm| vm.record.id.to_string()).collect();
    let rates = s
        .vms
        .iter()
        .zip(&names)
        .map(|(vm, name)| ([("vm", name.as_str()), ("server", vm.server_name.as_str())], bytes(vm.rate)));
    out.gauge("tandem_vm_traffic", "A VM's traffic, in and out together, smoothed", per_second(), rates)?;
    let mut kinds = BTreeMap::from([("gateway", 0.0), ("server", 0.0), ("unknown", 0.0), ("vm", 0.0)]);
    for host in s.hosts.iter().filter(|h| h.at.is_some()) {
        *kinds.entry(host.kind.as_str()).or_default() += 1.0;
    }
    let kinds = kinds.into_iter().map(|(kind, n)| ([("kind", kind)], n));
    out.gauge("tandem_hosts", "Hosts that the network shows", None, kinds)?;
    out.gauge("tandem_groups", "VM groups", None, [(NONE, s.groups.len() as f64)])?;
    let ports = s.overrides.iter().filter(|o| matches!(o, OverrideView::PortOff { .. })).count();
    let overrides = [("port-off", ports), ("path-pinned", s.overrides.len() - ports)];
    let overrides = overrides.map(|(kind, n)| ([("kind", kind)], n as f64));
    out.gauge("tandem_overrides", "What the operator has decided by hand", None, overrides)?;
    let surprises = [(NONE, s.surprises.len() as f64)];
    out.gauge("tandem_surprises", "Cables that are plugged in otherwise than declared", None, surprises)?;
    let world = [(NONE, one(s.world.is_some()))];
    out.gauge("tandem_world_up", "1 while a hypervisor service is connected", None, world)?;
    let c = &s.counters;
    let mut total = |name, help, n: u64| out.counter(name, help, None, [(NONE, n)]);
    total("tandem_vm_requests", "VM requests since the controller's start", c.requested)?;
    total("tandem_vm_requests_accepted", "Requests that led to a running VM", c.accepted)?;
    total("tandem_vm_requests_rejected", "Requests that could not be met", c.rejected)?;
    total("tandem_vm_requests_failed", "Requests that were placed but failed to start", c.failed)?;
    total("tandem_vms_expired", "VMs whose time ran out", c.expired)?;
    total("tandem_vms_rerouted", "VMs that were given another path", c.rerouted)
}

fn agents(out: &mut Families<'_>, agents: &[AgentFigures]) -> fmt::Result {
    let gauge =
        |f: fn(&AgentFigures) -> f64| agents.iter().map(move |a| ([("agent", a.name.as_str())], f(a)));
    out.gauge("tandem_agent_up", "1 for an agent that is connected", None, gauge(|a| one(a.connected)))?;
    let help = "1 for an agent that has applied the latest desired state";
    out.gauge("tandem_agent_applied", help, None, gauge(|a| one(a.generation == a.applied)))?;
    let help = "The desired state that the agent was sent last";
    out.gauge("tandem_agent_generation", help, None, gauge(|a| a.generation as f64))?;
    let help = "The desired state that the agent has applied last";
    out.gauge("tandem_agent_applied_generation", help, None, gauge(|a| a.applied as f64))?;
    let help = "How long that took";
    out.gauge("tandem_agent_apply_duration", help, Some(Unit::Seconds), gauge(|a| a.took_ms / 1e3))?;
    out.gauge("tandem_agent_faults", "What the agent could not do", None, gauge(|a| a.faults as f64))?;
    out.gauge("tandem_agent_switches", "Its switches", None, gauge(|a| a.switches as f64))?;
    let cards: Vec<&CardView> = agents.iter().flat_map(|a| &a.cards).collect();
    let of = |f: fn(&CardView) -> f64| cards.iter().map(move |c| ([("switch", c.switch.as_str())], f(c)));
    let help =
        "1 for a card that forwards, 0 for one that lags, has stopped, is written anew or cannot be asked";
    out.gauge("tandem_card_forwards", help, None, of(|c| one(c.path == "forwards")))?;
    let outages = cards.iter().map(|c| ([("switch", c.switch.as_str())], c.outages));
    out.counter("tandem_card_outages", "How often a card's data path has lagged or stopped", None, outages)?;
    let help = "How long it did so, the outage that lasts included";
    out.counter_of("tandem_card_outage", help, Some(Unit::Seconds), of(|c| c.outage_ms / 1e3))
}
