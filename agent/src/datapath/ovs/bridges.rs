//! The bridges in Open vSwitch's database: their check, their setup, and the watch for changes by
//! others.

use super::datapath::{LIMIT, LIMIT_OF_PORT, Ovs};
use super::takeover_outage::Measurement;
use crate::datapath::ApplyResult;
use crate::datapath::shaping::{PortThere, PortsThere};
use crate::desired::{Fault, Port, Switch};
use std::time::Duration;
use tandem_linux::ovsdb::{self, ActualBridge, Adopt, Ovsdb, Synced, WantedBridge, WantedPort, Watch};

/// The columns to watch for changes by others. Counters and states are not among them: they change
/// all the time.
fn watches() -> [Watch; 4] {
    [
        Watch::new(
            "Bridge",
            [
                "name",
                "ports",
                "controller",
                "fail_mode",
                "protocols",
                "datapath_type",
                "other_config",
                "external_ids",
            ],
        ),
        Watch::new("Port", ["name", "interfaces", "qos", "external_ids"]),
        Watch::new("Interface", ["name", "ofport", "ofport_request", "external_ids"]),
        Watch::new("Controller", ["target", "max_backoff", "inactivity_probe"]),
    ]
}

impl Ovs {
    /// Calls `work` with the database; if the connection has ended meanwhile, connects again once.
    pub(super) fn with_database<T>(
        &mut self,
        work: impl Fn(&mut Ovsdb) -> Result<T, ovsdb::Error>,
    ) -> Result<T, ovsdb::Error> {
        if let Some(database) = &mut self.database {
            match work(database) {
                Err(ovsdb::Error::Io { .. } | ovsdb::Error::Closed | ovsdb::Error::Garbled { .. }) => {}
                result => return result,
            }
        }
        self.database = None;
        let mut database = Ovsdb::connect(&self.config.database)?;
        let result = work(&mut database);
        self.database = Some(database);
        result
    }

    pub(super) fn bridge(&self, switch: &Switch) -> WantedBridge {
        let port = |p: &Port| WantedPort {
            name: p.interface.clone(),
            number: p.number,
            takes_queueing: p.rate.is_some(),
        };
        WantedBridge {
            name: switch.name.clone(),
            datapath_id: switch.datapath_id.0,
            datapath_type: self.path.kind().to_owned(),
            protocols: switch.protocols.clone(),
            controllers: switch.controllers.clone(),
            secure: true,
            ports: switch.ports.iter().map(port).collect(),
        }
    }

    /// Sets up the bridges; a bridge with a refusal is reported and left as it is, the others are
    /// set up.
    pub(super) fn sync(&mut self, wanted: &[Switch], left: &[String], allowed: Adopt) -> ApplyResult {
        let mut outcome = ApplyResult::default();
        let owner = self.owner.clone();
        let mut bridges: Vec<WantedBridge> = wanted.iter().map(|s| self.bridge(s)).collect();
        let mut spared = left.to_vec();
        let gap = allowed == Adopt::EvenWithGap;
        let mut adopt = allowed.min(Adopt::WithoutGap);
        let ports = wanted.iter().map(|s| s.ports.len()).sum::<usize>();
        let limit = LIMIT + LIMIT_OF_PORT * u32::try_from(ports).unwrap_or(u32::MAX);
        let result = loop {
            let error = match self.with_database(|d| d.sync_bridges(&owner, &bridges, &spared, adopt, limit))
            {
                Ok(synced) => break Ok(synced),
                Err(error) => error,
            };
            // A refusal changes nothing. In the second try no refusal is left, or another process
            // has caused a new one.
            let first = allowed.min(Adopt::WithoutGap);
            let Ok(refusals) = self.with_database(|d| d.refusals(&owner, &bridges, first)) else {
                break Err(error);
            };
            let before = (bridges.len(), adopt);
            for (bridge, why) in refusals {
                if gap && matches!(why, ovsdb::Error::WouldInterrupt { .. }) {
                    if adopt < Adopt::EvenWithGap {
                        self.announce(&bridge, &why);
                    }
                    continue;
                }
                outcome.faults.push(Fault::new(&bridge, None, in_our_words(&why)));
                bridges.retain(|b| b.name != bridge);
                spared.push(bridge);
            }
            if gap {
                adopt = Adopt::EvenWithGap;
            }
            if before == (bridges.len(), adopt) {
                break Err(error);
            }
        };
        self.stale = result.is_err();
        match result {
            Ok(synced) => {
                outcome.changes += usize::from(synced.changed);
                outcome.faults.extend(synced.kept.iter().map(|why| Fault::new("", None, why.clone())));
                outcome.faults.extend(port_faults(wanted, synced));
            }
            Err(error) => {
                outcome.faults.extend(bridges.iter().map(|b| Fault::new(&b.name, None, error.to_string())));
            }
        }
        outcome
    }

    /// The reasons against wanted switches, and the existing ports; found without changing
    /// anything.
    pub(super) fn inspect(
        &mut self,
        wanted: &[Switch],
        allowed: Adopt,
    ) -> Result<(Vec<Fault>, PortsThere), ovsdb::Error> {
        let owner = self.owner.clone();
        let wanted: Vec<WantedBridge> = wanted.iter().map(|s| self.bridge(s)).collect();
        let (bridges, refusals) = self.with_database(|d| d.inspect(&owner, &wanted, allowed))?;
        let faults = refusals.iter().map(|(b, why)| Fault::new(b, None, in_our_words(why)));
        Ok((faults.collect(), ports_of(&bridges)))
    }

    /// Logs that a bridge's forwarding is interrupted, and starts to measure how long.
    pub(super) fn announce(&mut self, bridge: &str, why: &ovsdb::Error) {
        let gap = match why {
            ovsdb::Error::WouldInterrupt { gap, .. } => gap.to_string(),
            other => other.to_string(),
        };
        let notice = format!("taken over although its forwarding stops for a moment: {gap}");
        self.say(Fault::new(bridge, None, notice));
        let folder = self.config.database.parent().unwrap_or(std::path::Path::new("/run/openvswitch"));
        match Measurement::start(folder, bridge) {
            Ok(measurement) => self.measurements.push(measurement),
            Err(error) => {
                let why = format!(
                    "how long its forwarding stops cannot be measured: {} does not answer: {error}",
                    folder.join(format!("{bridge}.mgmt")).display()
                );
                self.say(Fault::new(bridge, None, why));
            }
        }
    }

    /// Whether a watched column has changed, by this agent or by others; true also when that is
    /// unknown.
    pub(super) fn bridges_changed(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            let monitor = Ovsdb::connect(&self.config.database).and_then(|d| d.into_monitor(&watches()));
            let Ok(mut monitor) = monitor else { return false };
            // Existing rows come first; the caller reads them anyway.
            while matches!(monitor.next(Duration::ZERO), Ok(Some(_))) {}
            self.watch = Some(monitor);
            return true;
        };
        let mut changed = false;
        loop {
            match watch.next(Duration::ZERO) {
                Ok(Some(_)) => changed = true,
                Ok(None) => return changed,
                Err(error) => {
                    let why = format!("{error}; forwarding goes on by the flows that are there");
                    self.watch = None;
                    self.say(Fault::new("", None, why));
                    return false;
                }
            }
        }
    }
}

/// The database's refusal, with what a user of the agent can do about it.
pub(super) fn in_our_words(error: &ovsdb::Error) -> String {
    match error {
        ovsdb::Error::NotOurs { bridge } => format!(
            "bridge {bridge} is there already and was not made by this agent. To let the agent take it over, and give it back by \
             `tandem-agent release`: adopt = true under [ovs] in agent.toml, or `tandem-agent apply --adopt`. Otherwise call the switch \
             otherwise"
        ),
        ovsdb::Error::WouldInterrupt { bridge, gap } => format!(
            "bridge {bridge} is there already, and taking it over would stop its forwarding for a moment: {gap}. To allow it: adopt_with_gap = true under [ovs] in agent.toml, or `tandem-agent apply --adopt-with-gap`"
        ),
        other => other.to_string(),
    }
}

pub(super) fn port_faults(wanted: &[Switch], synced: Synced) -> Vec<Fault> {
    let failed = synced.ports.into_iter().filter_map(|(b, p, result)| Some((b, p, result.err()?)));
    failed
        .map(|(bridge, port, why)| {
            let switch = wanted.iter().find(|s| s.name == bridge);
            let number = switch.and_then(|s| s.ports.iter().find(|p| p.interface == port)).map(|p| p.number);
            Fault::new(&bridge, number, format!("{port}: {why}"))
        })
        .collect()
}

/// The ports of all bridges of a database; of a bond also its interfaces.
pub(in crate::datapath) fn ports_there(database: &std::path::Path) -> Result<PortsThere, ovsdb::Error> {
    Ok(ports_of(&Ovsdb::connect(database)?.read_bridges()?))
}

fn ports_of(bridges: &[ActualBridge]) -> PortsThere {
    let mut all = PortsThere::new();
    for bridge in bridges {
        for port in &bridge.ports {
            // With `linux-noop`, vswitchd leaves the shaping to others.
            let by_ovs = port.qos.as_ref().is_some_and(|kind| !kind.is_empty() && kind != "linux-noop");
            let there = PortThere { bridge: bridge.name.clone(), by_ovs, taken: port.took_queueing };
            all.extend(port.interfaces.iter().map(|i| (i.clone(), there.clone())));
            all.insert(port.name.clone(), there);
        }
    }
    all
}
