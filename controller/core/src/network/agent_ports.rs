//! Ports as their agents see them: what the interface, its classes and the card have counted, and
//! the rates that follow.
//!
//! A switch's own port counters ([`crate::network::switch_counters`]) say what the data path did;
//! these say what the kernel and the hardware below it did, and where packets of a class wait or
//! are lost. They are smoothed by the same history weight. They are known only while somebody
//! counts: when the agent or the switch goes away its figures go too, and what comes after that is
//! a new start.

use crate::network::switch_counters::{Smoothed, advance_within};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tandem_model::{AgentSample, BitRate, ClassSample, PortNo, PortSample, SwitchId, Time, counted};

/// A port as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AgentPort {
    /// Negotiated, if the interface says.
    pub speed: Option<BitRate>,
    /// True when it cannot send and receive at once.
    pub half_duplex: bool,
    /// The interface's counters, as the kernel keeps them.
    pub interface: PortSample,
    /// Smoothed rate in, bit/s.
    pub rx: BitRate,
    /// Smoothed rate out.
    pub tx: BitRate,
    /// The card's own counters that are not zero, by the names that its driver gives them.
    pub hardware: BTreeMap<String, u64>,
}

/// A class's counters at one port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ClassCounters {
    /// As the agent reported them last.
    #[serde(flatten)]
    pub sample: ClassSample,
    /// Sent lately, smoothed by the site's history weight.
    pub rate: BitRate,
    /// The same in percent of the port's rate.
    pub share: f64,
    /// Guaranteed to it here.
    pub guaranteed: BitRate,
}

#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) view: Arc<AgentPort>,
    pub(crate) rx: Smoothed,
    pub(crate) tx: Smoothed,
    pub(crate) classes: Vec<(ClassSample, Smoothed)>,
    pub(crate) at: Time,
}

/// Ports of a switch that are kept at most, whatever numbers its agent invents. A large chassis has
/// a few hundred.
pub(crate) const MOST_PORTS: usize = 4096;

#[derive(Debug, Clone, Default)]
pub(crate) struct Switch {
    pub(crate) agent: String,
    pub(crate) ports: BTreeMap<PortNo, Port>,
}

/// What agents have reported of their switches' ports, by switch.
#[derive(Debug, Clone, Default)]
pub struct Managed(pub(crate) BTreeMap<SwitchId, Switch>);

impl Managed {
    /// The agent that manages a switch's ports.
    pub fn agent(&self, switch: SwitchId) -> Option<&str> {
        self.0.get(&switch).map(|s| s.agent.as_str())
    }

    /// A port, as its agent saw it last.
    pub fn port(&self, switch: SwitchId, port: PortNo) -> Option<&Arc<AgentPort>> {
        self.0.get(&switch)?.ports.get(&port).map(|p| &p.view)
    }

    /// The classes' counters and rates at a port, in the classes' order.
    pub fn classes(&self, switch: SwitchId, port: PortNo) -> impl Iterator<Item = (ClassSample, BitRate)> {
        let port = self.0.get(&switch).and_then(|s| s.ports.get(&port));
        port.into_iter().flat_map(|p| p.classes.iter().map(|(sample, rate)| (*sample, rate.rate())))
    }

    pub(crate) fn entrust(&mut self, switch: SwitchId, agent: &str) {
        let entry = self.0.entry(switch).or_default();
        if entry.agent != agent {
            *entry = Switch { agent: agent.to_owned(), ports: BTreeMap::new() };
        }
    }

    /// Forgets what was counted at a switch; who manages it stays known.
    pub(crate) fn forget_switch(&mut self, switch: SwitchId) {
        if let Some(s) = self.0.get_mut(&switch) {
            s.ports.clear();
        }
    }

    pub(crate) fn forget_agent(&mut self, agent: &str) {
        self.0.values_mut().filter(|s| s.agent == agent).for_each(|s| s.ports.clear());
    }

    /// Takes in one port. `most` is the highest rate that a counter which stepped back is believed
    /// to show: it is then taken to have wrapped; otherwise it started again.
    pub(crate) fn take(
        &mut self,
        switch: SwitchId,
        sample: AgentSample,
        most: BitRate,
        history: f64,
        now: Time,
    ) {
        let ports = &mut self.0.entry(switch).or_default().ports;
        let number = sample.interface.port;
        let before = ports.get(&number);
        if before.is_none() && ports.len() >= MOST_PORTS {
            return;
        }
        let period = before.map_or(std::time::Duration::ZERO, |b| now.since(b.at));
        if before.is_some() && period.is_zero() {
            return;
        }
        let grown = |rate: &mut Smoothed, old: Option<u64>, new: Option<u64>| {
            if let Some(bytes) = advance_within(old, new, period, most) {
                rate.add(bytes as f64 * 8.0 / period.as_secs_f64(), history);
            }
        };
        let (mut rx, mut tx) = before.map_or_else(Default::default, |b| (b.rx, b.tx));
        if let Some(b) = before {
            grown(&mut rx, b.view.interface.counters.rx_bytes, sample.interface.counters.rx_bytes);
            grown(&mut tx, b.view.interface.counters.tx_bytes, sample.interface.counters.tx_bytes);
        }
        let classes = sample.classes.iter().enumerate().map(|(n, class)| {
            let last = before.and_then(|b| b.classes.get(n));
            let mut rate = last.map_or_else(Smoothed::default, |(_, rate)| *rate);
            if let Some((last, _)) = last {
                grown(&mut rate, counted(last.bytes), counted(class.bytes));
            }
            (*class, rate)
        });
        let classes = classes.collect();
        let view = AgentPort {
            speed: sample.speed,
            half_duplex: sample.half_duplex,
            interface: sample.interface,
            rx: rx.rate(),
            tx: tx.rate(),
            hardware: sample.hardware,
        };
        ports.insert(number, Port { view: Arc::new(view), rx, tx, classes, at: now });
    }
}
