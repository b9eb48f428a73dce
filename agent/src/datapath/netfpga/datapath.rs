//! Switches with a NetFPGA card: each is a soft switch with the card between its ports and its
//! tables (`crate::datapath::netfpga`).
//!
//! A port of the card has no class queues: packets are marked with their class's DSCP for the next
//! switch, or the port is limited to its rate if the bitfile has limiters. The plain NICs of the
//! same switch have queues that read the mark.

use super::{CardIo, Opened, Talk, card_ports, shared, target};
use crate::config::{Config, SwitchConfig};
use crate::datapath::soft::io::PacketIo;
use crate::datapath::soft::{Ports, Soft, SwitchDump};
use crate::datapath::{
    Adopt, ApplyResult, Datapath, QueueSelection, RunMode, SwitchCapabilities, SwitchReport,
};
use crate::desired::{Fault, Switch};
use std::collections::{BTreeMap, BTreeSet};
use tandem_fpga_card::target::Target;
use tandem_fpga_config::profile::builtin;

/// The datapath of switches with a NetFPGA card.
pub struct Netfpga {
    soft: Soft,
    switches: Vec<SwitchConfig>,
    talks: BTreeMap<String, Talk>,
}

/// The device of a switch's card; an invalid one was refused with the configuration.
fn way(switch: &SwitchConfig) -> Option<Target> {
    target(switch.card.as_ref()?).ok()
}

/// Whether each port of the card is an interface whose frames this program sends into the card.
fn injects(switch: &SwitchConfig) -> bool {
    switch.card.as_ref().is_some_and(super::injects)
}

/// Whether the card's ports have no interface at all.
fn is_bare(switch: &SwitchConfig) -> bool {
    switch.card.as_ref().is_some_and(|c| !super::injects(c) && !super::cpu_ports(c))
}

impl Netfpga {
    /// For the switches of this kind in a configuration.
    pub fn new(config: &Config, switches: Vec<SwitchConfig>, mode: RunMode) -> Netfpga {
        let talks: BTreeMap<String, Talk> =
            switches.iter().map(|s| (s.name.clone(), Talk::default())).collect();
        let known = switches.iter().filter_map(|switch| {
            let bare = match is_bare(switch) {
                true => card_ports(switch).into_keys().collect(),
                false => BTreeSet::new(),
            };
            Some((switch.name.clone(), Ports { talk: talks.get(&switch.name)?.clone(), bare }))
        });
        let known = known.collect();
        let (by_name, own) = (switches.clone(), talks.clone());
        let make = move |switch: &Switch| -> Result<Box<dyn PacketIo>, String> {
            let found = by_name.iter().find(|s| s.name == switch.name).zip(own.get(&switch.name));
            let (config, talk) = found.ok_or("it is not in agent.toml")?;
            Ok(Box::new(CardIo::open(config, talk.clone())?))
        };
        let soft =
            Soft::new(config, switches.clone(), "netfpga", mode, Box::new(make)).with_port_status(known);
        Netfpga { soft, switches, talks }
    }

    fn config(&self, name: &str) -> Option<&SwitchConfig> {
        self.switches.iter().find(|s| s.name == name)
    }

    /// The wanted kernel queueing at ports of cards: none, except where a port is an interface that
    /// stands for a link of its rate.
    fn without_classes(&self, wanted: &[Switch]) -> Vec<Switch> {
        let mut wanted = wanted.to_vec();
        for switch in &mut wanted {
            let Some(config) = self.config(&switch.name) else { continue };
            let (of_card, injects) = (card_ports(config), injects(config));
            if let Some(talk) = self.talks.get(&switch.name) {
                let rates = switch.ports.iter().filter(|p| of_card.contains_key(&p.number));
                shared(talk).rates = rates.filter_map(|p| Some((p.number, p.rate?.0))).collect();
            }
            for port in switch.ports.iter_mut().filter(|p| of_card.contains_key(&p.number)) {
                port.classes.clear();
                port.default_class = 0;
                if !injects {
                    port.rate = None;
                }
            }
        }
        wanted
    }
}

impl Datapath for Netfpga {
    fn capabilities(&mut self) -> Vec<SwitchCapabilities> {
        let mut all = self.soft.capabilities();
        for presented in &mut all {
            let Some(config) = self.config(&presented.name) else { continue };
            let of_card = card_ports(config);
            // The bitfile is known once the card is open; with a profile in the configuration,
            // before.
            let profile = config.card.as_ref().and_then(|c| builtin::named(c.profile.as_deref()?).ok());
            let limited = profile.is_some_and(|p| p.rate_limiter.is_some());
            for port in &mut presented.ports {
                port.selection = match port.selection {
                    QueueSelection::None => QueueSelection::None,
                    _ if !of_card.contains_key(&port.number) => QueueSelection::Dscp,
                    _ if limited => QueueSelection::RateLimiter,
                    _ => QueueSelection::Mark,
                };
            }
            let way = config.card.as_ref().map_or("", |c| c.device.as_str());
            presented.datapath = format!("netfpga ({way})");
        }
        all
    }

    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        self.soft.validate(wanted)
    }

    fn disruptive_changes(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        self.soft.disruptive_changes(wanted)
    }

    fn apply(&mut self, wanted: &[Switch], left: &[String], adopt: Adopt) -> ApplyResult {
        let wanted = self.without_classes(wanted);
        self.soft.apply(&wanted, left, adopt)
    }

    fn reconcile(&mut self) -> ApplyResult {
        self.soft.reconcile()
    }

    fn take_events(&mut self, wait: bool) -> Vec<Fault> {
        let mut notices = self.soft.take_events(wait);
        for (name, talk) in &self.talks {
            let said = std::mem::take(&mut shared(talk).notices);
            notices.extend(said.into_iter().map(|why| Fault::new(name, None, why)));
        }
        notices
    }

    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        let mut reports = self.soft.report(wanted);
        for report in &mut reports {
            let Some(config) = self.config(&report.name) else { continue };
            let of_card = card_ports(config);
            let Some(talk) = self.talks.get(&report.name) else { continue };
            report.card = shared(talk).card;
            for port in report.ports.iter_mut().filter(|p| of_card.contains_key(&p.number)) {
                port.classes.clear();
                if let Some(up) = shared(talk).links.get(&port.number).copied() {
                    (port.missing, port.up) = (false, up);
                }
            }
        }
        reports
    }

    fn dump_flows(&mut self) -> Vec<(String, SwitchDump)> {
        self.soft.dump_flows()
    }

    fn release(&mut self) -> Result<Vec<String>, String> {
        let kept = self.soft.release()?;
        for switch in self.switches.iter().filter(|s| way(s) != Some(Target::Model)) {
            // No rows stay in the card: after the release it forwards nothing.
            let lock = Opened::lock(switch).map_err(|why| format!("{}: {why}", switch.name))?;
            let mut opened = Opened::open(switch).map_err(|why| format!("{}: {why}", switch.name))?;
            if let Some(map) = opened.profile.flow_table {
                super::clear(&map, &mut opened.card).map_err(|e| format!("{}: {e}", switch.name))?;
            }
            drop(lock);
        }
        Ok(kept)
    }
}
