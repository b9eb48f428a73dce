//! Open vSwitch: bridges and ports by OVSDB, queues and classes by the kernel's HTB.

use super::takeover_outage::Measurement;
use crate::config::{Address, Config, DatapathChoice, OvsConfig, SwitchConfig};
use crate::datapath::port_admin_state::PortAdminState;
use crate::datapath::shaping::{PortThere, PortsThere, Shaping};
use crate::datapath::soft::withhold;
use crate::datapath::{
    Datapath, Outcome, Presented, PresentedPort, Selection, SwitchReport, elsewhere, mgmt_interfaces,
    port_counters,
};
use crate::desired::{Fault, Port, Switch};
use crate::nic;
use std::time::Duration;
use tandem_linux::ethtool::Ethtool;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovs::Datapath as Path;
use tandem_linux::ovsdb::{
    self, ActualBridge, Adopt, Monitor, Ovsdb, Synced, WantedBridge, WantedPort, Watch,
};
use tandem_linux::{link, vswitchd};

/// How long vswitchd may take to carry out what the database says.
const LIMIT: Duration = Duration::from_secs(60);
/// And for each port that is wanted.
const LIMIT_OF_PORT: Duration = Duration::from_millis(50);
/// What vswitchd's packet socket may hold, for all ports together: the default (212,992 bytes, about 90 packets) is used up by one
/// port that is backlogged, and then packets to idle ports are lost, which nobody counts.
const SEND_BUFFER: usize = 32 << 20;

/// See the module.
pub struct Ovs {
    owner: String,
    config: OvsConfig,
    switches: Vec<SwitchConfig>,
    controller: Address,
    path: Path,
    database: Option<Ovsdb>,
    ethtool: Option<Ethtool>,
    shaping: Shaping,
    admin_state: PortAdminState,
    /// What was asked for last, and which switches were to be left as they are.
    asked: (Vec<Switch>, Vec<String>),
    /// The same without what speaks against it: what is to be there.
    wanted: Vec<Switch>,
    left: Vec<String>,
    /// Those of `wanted` that nothing spoke against.
    made: Vec<Switch>,
    /// Hears who changes bridges; absent until the first application, and while the database is away.
    watch: Option<Monitor>,
    /// The database is to be looked at again.
    stale: bool,
    measurements: Vec<Measurement>,
    notices: Vec<Fault>,
}

/// What of the database is ours to keep. Counters and states are not among it: they change all the time.
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
    /// With what a configuration says, for its switches of this kind.
    pub fn new(config: &Config, switches: Vec<SwitchConfig>) -> Ovs {
        let path = match config.ovs.datapath {
            DatapathChoice::Auto => Path::probe(),
            DatapathChoice::Kernel => Path::Kernel,
            DatapathChoice::Userspace => Path::Userspace,
        };
        Ovs {
            owner: config.name.clone(),
            config: config.ovs.clone(),
            switches,
            controller: config.controller.clone(),
            path,
            database: None,
            ethtool: Ethtool::open().ok(),
            shaping: Shaping::open(&config.state),
            admin_state: PortAdminState::open(&config.state),
            asked: Default::default(),
            wanted: Vec::new(),
            left: Vec::new(),
            made: Vec::new(),
            watch: None,
            stale: false,
            measurements: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Calls `work` with the database, connecting again once if the connection has ended since.
    fn with_database<T>(
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

    fn bridge(&self, switch: &Switch) -> WantedBridge {
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

    /// Makes the bridges; what has something against it is told and left as it is, the others are made.
    fn sync(&mut self, wanted: &[Switch], left: &[String], allowed: Adopt) -> Outcome {
        let mut outcome = Outcome::default();
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
            // Nothing is changed by a refusal. The second time nothing is left to be refused, or it is somebody else's doing.
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

    /// What speaks against each of the wanted switches, and the ports that there are; found without changing anything.
    fn inspect(
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

    /// Nothing is done, and this is why.
    fn nothing(&mut self, wanted: &[Switch], why: &str, stale: bool) -> Outcome {
        self.stale = stale;
        let mut faults: Vec<Fault> = wanted.iter().map(|s| Fault::new(&s.name, None, why)).collect();
        if faults.is_empty() {
            faults.push(Fault::new("", None, why));
        }
        Outcome { faults, changes: 0 }
    }

    /// Says that a bridge's forwarding stops now, and begins to measure for how long.
    fn announce(&mut self, bridge: &str, why: &ovsdb::Error) {
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

    /// Sets ports' interfaces up, and down again those that are no longer ports.
    fn raise(&mut self, wanted: &[Switch], left: &[String]) -> (usize, Vec<Fault>) {
        match Netlink::open() {
            Ok(mut netlink) => self.admin_state.apply(&mut netlink, wanted, left),
            Err(error) => (0, vec![Fault::new("", None, error.to_string())]),
        }
    }

    fn say(&mut self, notice: Fault) {
        // Who reads them comes every second; a bound for who never comes.
        const MOST: usize = 256;
        if self.notices.len() < MOST {
            self.notices.push(notice);
        }
    }

    fn raise_send_buffer(&self) -> Option<String> {
        if self.path != Path::Userspace || self.wanted.is_empty() {
            return None;
        }
        let error = vswitchd::raise_send_buffer(&self.config.pid_file, SEND_BUFFER).err()?;
        let why = format!("congestion of one port may lose packets of others: {error}");
        if is_not_permitted(&error) {
            // In a user namespace nobody may; the short leaf queues bound what a port can take of the buffer.
            tracing::warn!("{why}");
            return None;
        }
        Some(why)
    }

    /// True when somebody, maybe we, has changed what is kept; also when that cannot be known.
    fn bridges_changed(&mut self) -> bool {
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

fn is_not_permitted(error: &tandem_linux::Error) -> bool {
    matches!(error, tandem_linux::Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The database's refusal, with what a user of the agent can do.
fn in_our_words(error: &ovsdb::Error) -> String {
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

fn port_faults(wanted: &[Switch], synced: Synced) -> Vec<Fault> {
    let failed = synced.ports.into_iter().filter_map(|(b, p, result)| Some((b, p, result.err()?)));
    failed
        .map(|(bridge, port, why)| {
            let switch = wanted.iter().find(|s| s.name == bridge);
            let number = switch.and_then(|s| s.ports.iter().find(|p| p.interface == port)).map(|p| p.number);
            Fault::new(&bridge, number, format!("{port}: {why}"))
        })
        .collect()
}

impl Datapath for Ovs {
    fn present(&mut self) -> Vec<Presented> {
        let (selection, kind) = match self.path {
            Path::Kernel => (Selection::Queue, "ovs (kernel)"),
            Path::Userspace => (Selection::Dscp, "ovs (userspace)"),
        };
        let ethtool = &mut self.ethtool;
        let mut speed = |name: &str| ethtool.as_mut().and_then(|e| nic::look(e, name).speed);
        let mut all = Vec::new();
        for switch in &self.switches {
            let ports = switch
                .ports
                .iter()
                .map(|p| PresentedPort {
                    number: p.number,
                    interface: p.interface.clone(),
                    selection: if p.queueing { selection } else { Selection::None },
                    speed: speed(&p.interface),
                })
                .collect();
            all.push(Presented { name: switch.name.clone(), datapath: kind.into(), ports });
        }
        all
    }

    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        mgmt_interfaces::refuse(&self.controller, wanted)
    }

    fn gaps(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let bridges: Vec<WantedBridge> = wanted.iter().map(|s| self.bridge(s)).collect();
        let owner = self.owner.clone();
        // A database that does not answer is told by the application.
        let refusals = self.with_database(|d| d.refusals(&owner, &bridges, Adopt::WithoutGap));
        refusals
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(bridge, why)| match why {
                ovsdb::Error::WouldInterrupt { gap, .. } => Some(Fault::new(&bridge, None, gap.to_string())),
                _ => None,
            })
            .collect()
    }

    fn apply(&mut self, wanted: &[Switch], left: &[String], adopt: Adopt) -> Outcome {
        let adopt = adopt.max(self.config.may_adopt());
        self.asked = (wanted.to_vec(), left.to_vec());
        (self.wanted, self.left, self.made) = (wanted.to_vec(), left.to_vec(), Vec::new());
        if wanted.is_empty() && left.is_empty() && !self.config.database.exists() {
            return Outcome::default();
        }
        // 1. Without the records nobody knows what is ours.
        if let Some(why) = self.shaping.damage().or_else(|| self.admin_state.damage()) {
            (self.wanted, self.left) = (Vec::new(), Vec::new());
            return self.nothing(wanted, &why.to_string(), false);
        }
        // 2. What speaks against a switch is found before anything of it is written down or touched.
        let mut outcome = Outcome::default();
        let (refusals, there) = match self.inspect(wanted, adopt) {
            Ok(found) => found,
            Err(error) => return self.nothing(wanted, &error.to_string(), true),
        };
        let is_refused = |s: &Switch| refusals.iter().any(|f| f.switch == s.name);
        let (out, mut made): (Vec<Switch>, Vec<Switch>) = wanted.iter().cloned().partition(is_refused);
        let mut left = left.to_vec();
        left.extend(out.into_iter().map(|s| s.name));
        outcome.faults.extend(refusals);
        // 3. The same of each port: one that is somebody else's, or has what could not be given back, does not become one of ours.
        let interfaces = match Netlink::open().and_then(|mut n| link::list_bare(&mut n)) {
            Ok(interfaces) => interfaces,
            Err(error) => return self.nothing(wanted, &error.to_string(), true),
        };
        let elsewhere = elsewhere::refuse(&made, &interfaces, &there, true);
        withhold(&mut made, &elsewhere);
        outcome.faults.extend(elsewhere);
        let faults = match self.shaping.prepare(&made, Some(&there)) {
            Ok(faults) => faults,
            Err(error) => return self.nothing(wanted, &error.to_string(), true),
        };
        for switch in &mut made {
            let is_refused =
                |p: &Port| faults.iter().any(|f| f.switch == switch.name && f.port == Some(p.number));
            // One that is in the bridge already goes on being a port, with the queueing that it has.
            switch.ports.retain(|p| {
                !is_refused(p) || there.get(&p.interface).is_some_and(|t| t.bridge == switch.name)
            });
            for port in switch.ports.iter_mut().filter(|p| is_refused(p)) {
                port.rate = None;
                port.classes.clear();
            }
        }
        outcome.faults.extend(faults);
        (self.wanted, self.left) = (made.clone(), left.clone());
        // 4. What Open vSwitch shapes again is given back to it before it does.
        let mut over = self.shaping.over(&made, &left);
        over.retain(|name| there.get(name).is_some_and(|t| t.taken || t.by_ovs));
        match self.shaping.give_back(&over) {
            Ok(faults) => outcome.faults.extend(faults),
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        // 5. The bridges.
        let synced = self.sync(&made, &left, adopt);
        outcome.add(synced);
        let is_out = |s: &Switch| outcome.faults.iter().any(|f| f.port.is_none() && f.switch == s.name);
        let late: Vec<String> = made.iter().filter(|s| is_out(s)).map(|s| s.name.clone()).collect();
        if !late.is_empty()
            && let Err(error) = self.shaping.forget(&late)
        {
            outcome.faults.push(Fault::new("", None, error.to_string()));
        }
        if self.stale {
            return outcome;
        }
        // 6. Queueing: a bridge that somebody else keeps does not get ours.
        made.retain(|s| !late.contains(&s.name));
        left.extend(late);
        match self.shaping.apply(&made, &left) {
            Ok((changes, faults)) => {
                outcome.changes += changes;
                outcome.faults.extend(faults);
            }
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        outcome.faults.extend(self.shaping.take_kept().into_iter().map(|why| Fault::new("", None, why)));
        // 7. Last: what is up forwards, and is to be shaped by then.
        let (changes, faults) = self.raise(&made, &left);
        outcome.changes += changes;
        outcome.faults.extend(faults);
        self.made = made;
        outcome.faults.extend(self.raise_send_buffer().map(|why| Fault::new("", None, why)));
        outcome
    }

    fn mend(&mut self) -> Outcome {
        if self.wanted.is_empty() && self.left.is_empty() {
            return Outcome::default();
        }
        let changed = !self.stale && self.bridges_changed();
        if self.stale || changed && self.wanted != self.asked.0 {
            // What could not be done for want of the database, or because something spoke against it, is tried again as a whole.
            let (wanted, left) = self.asked.clone();
            return self.apply(&wanted, &left, Adopt::No);
        }
        let (wanted, left) = (self.wanted.clone(), self.left.clone());
        let mut outcome = Outcome::default();
        if changed {
            outcome = self.sync(&wanted, &left, self.config.may_adopt());
            if outcome.changes > 0 {
                let why = "its bridges were changed by somebody else; they are put right";
                self.say(Fault::new("", None, why));
            }
        }
        let _ = self.raise_send_buffer();
        match Netlink::open().and_then(|mut n| link::list_bare(&mut n)) {
            Ok(interfaces) => {
                let (changes, mut said) = self.shaping.mend(&interfaces);
                outcome.changes += changes;
                if self.admin_state.is_due(&self.made, &interfaces) {
                    let made = self.made.clone();
                    let refused =
                        wanted.iter().map(|s| s.name.clone()).filter(|n| !made.iter().any(|m| m.name == *n));
                    let left: Vec<String> = left.iter().cloned().chain(refused).collect();
                    let (changes, faults) = self.raise(&made, &left);
                    outcome.changes += changes;
                    said.extend(faults);
                }
                said.into_iter().for_each(|notice| self.say(notice));
            }
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        outcome
    }

    fn notices(&mut self, wait: bool) -> Vec<Fault> {
        let all = std::mem::take(&mut self.measurements);
        let (over, on): (Vec<_>, Vec<_>) = all.into_iter().partition(|m| wait || m.is_over());
        self.measurements = on;
        for measurement in over {
            let bridge = measurement.bridge.clone();
            self.say(Fault::new(&bridge, None, format!("taken over: {}", measurement.result())));
        }
        std::mem::take(&mut self.notices)
    }

    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        port_counters::report(wanted, &mut self.ethtool)
    }

    fn release(&mut self) -> Result<Vec<String>, String> {
        let owner = self.owner.clone();
        (self.wanted, self.left, self.made, self.watch) = (Vec::new(), Vec::new(), Vec::new(), None);
        if let Some(why) = self.shaping.damage().or_else(|| self.admin_state.damage()) {
            return Err(why.to_string());
        }
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        // 1. What Open vSwitch shapes again is given back to it before it does.
        match self.inspect(&[], Adopt::No) {
            Ok((_, there)) => {
                let taken: Vec<String> = there.into_iter().filter(|(_, t)| t.taken).map(|(n, _)| n).collect();
                match self.shaping.give_back(&taken) {
                    Ok(faults) => left.extend(faults.into_iter().map(|f| f.why)),
                    Err(error) => left.push(error.to_string()),
                }
            }
            Err(error @ ovsdb::Error::DamagedRecord { .. }) => return Err(error.to_string()),
            // Told by the next step, too.
            Err(_) => {}
        }
        // 2. The bridges.
        match self.with_database(|d| d.release(&owner, LIMIT)) {
            Ok(others) => kept.extend(others),
            Err(error) => left.push(error.to_string()),
        }
        // 3. The other queueing, behind the bridges: no longer a port, what is put back stays.
        match self.shaping.apply(&[], &[]) {
            Ok((_, faults)) => left.extend(faults.into_iter().map(|f| f.why)),
            Err(error) => left.push(error.to_string()),
        }
        kept.extend(self.shaping.take_kept());
        left.extend(self.raise(&[], &[]).1.into_iter().map(|f| f.why));
        if left.is_empty() { Ok(kept) } else { Err(left.join("; ")) }
    }
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
