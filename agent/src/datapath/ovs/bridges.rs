//! The bridges of Open vSwitch's database: made what is wanted, looked at before that, and watched
//! for what others change.

use super::datapath::{LIMIT, LIMIT_OF_PORT, Ovs};
use super::takeover_outage::Measurement;
use crate::datapath::ApplyResult;
use crate::datapath::shaping::{PortThere, PortsThere};
use crate::desired::{Fault, Port, Switch};
use std::time::Duration;
use tandem_linux::ovsdb::{self, ActualBridge, Adopt, Ovsdb, Synced, WantedBridge, WantedPort, Watch};

/// What of the database is ours to keep. Counters and states are not among it: they change all the
/// time.
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
    /// Calls `work` with the database, connecting again once if the connection has ended since.
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

    /// Makes the bridges; what has something against it is reported and left as it is, the others
    /// are made.
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
            // Nothing is changed by a refusal. The second time nothing is left to be refused, or it
            // is somebody else's doing.
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

    /// What speaks against each of the wanted switches, and the ports that there are; found without
    /// changing anything.
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

    /// Says that a bridge's forwarding stops now, and begins to measure for how long.
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

    /// True when somebody, maybe we, has changed what is kept; also when that cannot be known.
    pub(super) fn bridges_changed(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            let monitor = Ovsdb::connect(&self.config.database).and_then(|d| d.into_monitor(&watches()));
            let Ok(mut monitor) = monitor else { return false };
            // What is there already comes first, and is what the caller looks at.
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

/// The database's refusal, with what a user of the agent can do.
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

/// The ports of all bridges of a database; of a bond its interfaces, too.
pub(in crate::datapath) fn ports_there(database: &std::path::Path) -> Result<PortsThere, ovsdb::Error> {
    Ok(ports_of(&Ovsdb::connect(database)?.read_bridges()?))
}

fn ports_of(bridges: &[ActualBridge]) -> PortsThere {
    let mut all = PortsThere::new();
    for bridge in bridges {
        for port in &bridge.ports {
            // `linux-noop` is for somebody else than vswitchd to shape.
            let by_ovs = port.qos.as_ref().is_some_and(|kind| !kind.is_empty() && kind != "linux-noop");
            let there = PortThere { bridge: bridge.name.clone(), by_ovs, taken: port.took_queueing };
            all.extend(port.interfaces.iter().map(|i| (i.clone(), there.clone())));
            all.insert(port.name.clone(), there);
        }
    }
    all
}
