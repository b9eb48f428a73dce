//! Open vSwitch: bridges and ports by OVSDB, queues and classes by the kernel's HTB.

use super::config::OvsConfig;
use super::takeover_outage::Measurement;
use crate::config::{Address, Config, SwitchConfig};
use crate::datapath::port_admin_state::PortAdminState;
use crate::datapath::shaping::{PortsThere, Shaping};
use crate::datapath::soft::withhold;
use crate::datapath::{
    ApplyResult, Datapath, PortCapabilities, QueueSelection, SwitchCapabilities, SwitchReport,
    mgmt_interfaces, occupied, port_counters,
};
use crate::desired::{Fault, Port, Switch};
use crate::nic;
use std::time::Duration;
use tandem_linux::ethtool::Ethtool;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovs::Datapath as Path;
use tandem_linux::ovsdb::{self, Adopt, Monitor, Ovsdb, WantedBridge};
use tandem_linux::{link, vswitchd};

/// How long vswitchd may take to execute the database's configuration.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// Additional time for each wanted port.
pub(super) const LIMIT_OF_PORT: Duration = Duration::from_millis(50);
/// The send buffer of vswitchd's packet socket, for all ports together. With the default (212,992
/// bytes, about 90 packets) one congested port fills it, and packets to idle ports are lost without
/// being counted.
const SEND_BUFFER: usize = 32 << 20;

/// The datapath of Open vSwitch: its bridges, and the queueing of their ports.
pub struct Ovs {
    pub(super) owner: String,
    pub(super) config: OvsConfig,
    pub(super) switches: Vec<SwitchConfig>,
    pub(super) controller: Address,
    pub(super) path: Path,
    pub(super) database: Option<Ovsdb>,
    pub(super) ethtool: Option<Ethtool>,
    pub(super) shaping: Shaping,
    pub(super) admin_state: PortAdminState,
    /// The last request: switches, and those to be left as they are.
    pub(super) asked: (Vec<Switch>, Vec<String>),
    /// The requested switches without their refused ports.
    pub(super) wanted: Vec<Switch>,
    pub(super) left: Vec<String>,
    /// Those of `wanted` without a refusal.
    pub(super) made: Vec<Switch>,
    /// Watches bridges for changes; absent until the first application, and while there is no
    /// connection to the database.
    pub(super) watch: Option<Monitor>,
    /// The database has to be read again.
    pub(super) stale: bool,
    pub(super) measurements: Vec<Measurement>,
    pub(super) notices: Vec<Fault>,
}

impl Ovs {
    /// For the switches of this kind in a configuration.
    pub fn new(config: &Config, switches: Vec<SwitchConfig>) -> Ovs {
        Ovs {
            owner: config.name.clone(),
            config: config.ovs.clone(),
            switches,
            controller: config.controller.clone(),
            path: config.ovs.forwarding(),
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

    /// The result when nothing was done, with the reason.
    fn nothing(&mut self, wanted: &[Switch], why: &str, stale: bool) -> ApplyResult {
        self.stale = stale;
        let mut faults: Vec<Fault> = wanted.iter().map(|s| Fault::new(&s.name, None, why)).collect();
        if faults.is_empty() {
            faults.push(Fault::new("", None, why));
        }
        ApplyResult { faults, changes: 0 }
    }

    /// Removes ports whose interfaces are in use from the switches to set up, and leaves queueing
    /// alone that could not be restored later.
    fn refuse_ports(
        &mut self,
        made: &mut [Switch],
        there: &PortsThere,
    ) -> Result<Vec<Fault>, tandem_linux::Error> {
        let interfaces = link::list_bare(&mut Netlink::open()?)?;
        let mut faults = occupied::refuse(made, &interfaces, there, true);
        withhold(made, &faults);
        let unshaped = self.shaping.prepare(made, Some(there))?;
        for switch in made {
            let is_refused =
                |p: &Port| unshaped.iter().any(|f| f.switch == switch.name && f.port == Some(p.number));
            // An interface that is in the bridge already stays a port, with its queueing.
            switch.ports.retain(|p| {
                !is_refused(p) || there.get(&p.interface).is_some_and(|t| t.bridge == switch.name)
            });
            for port in switch.ports.iter_mut().filter(|p| is_refused(p)) {
                port.rate = None;
                port.classes.clear();
            }
        }
        faults.extend(unshaped);
        Ok(faults)
    }

    /// Sets up the queueing of ports.
    fn shape(&mut self, made: &[Switch], left: &[String], outcome: &mut ApplyResult) {
        match self.shaping.apply(made, left) {
            Ok((changes, faults)) => {
                outcome.changes += changes;
                outcome.faults.extend(faults);
            }
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        let kept = self.shaping.take_kept();
        outcome.faults.extend(kept.into_iter().map(|why| Fault::new("", None, why)));
    }

    pub(super) fn say(&mut self, notice: Fault) {
        // The session reads the notices every second; the limit is for when there is no session.
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
            // In a user namespace this is not permitted; the short leaf queues bound the share of a
            // port in the buffer.
            tracing::warn!("{why}");
            return None;
        }
        Some(why)
    }
}

fn is_not_permitted(error: &tandem_linux::Error) -> bool {
    matches!(error, tandem_linux::Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied)
}

impl Datapath for Ovs {
    fn capabilities(&mut self) -> Vec<SwitchCapabilities> {
        let (selection, kind) = match self.path {
            Path::Kernel => (QueueSelection::Queue, "ovs (kernel)"),
            Path::Userspace => (QueueSelection::Dscp, "ovs (userspace)"),
        };
        let ethtool = &mut self.ethtool;
        let mut speed = |name: &str| ethtool.as_mut().and_then(|e| nic::inspect(e, name).speed);
        let mut all = Vec::new();
        for switch in &self.switches {
            let ports = switch
                .ports
                .iter()
                .map(|p| PortCapabilities {
                    number: p.number,
                    interface: p.interface.clone(),
                    selection: if p.queueing { selection } else { QueueSelection::None },
                    speed: speed(&p.interface),
                })
                .collect();
            all.push(SwitchCapabilities { name: switch.name.clone(), datapath: kind.into(), ports });
        }
        all
    }

    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        mgmt_interfaces::refuse(&self.controller, wanted)
    }

    fn disruptive_changes(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let bridges: Vec<WantedBridge> = wanted.iter().map(|s| self.bridge(s)).collect();
        let owner = self.owner.clone();
        // A database that does not answer is reported by the application.
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

    fn apply(&mut self, wanted: &[Switch], left: &[String], adopt: Adopt) -> ApplyResult {
        let adopt = adopt.max(self.config.may_adopt());
        self.asked = (wanted.to_vec(), left.to_vec());
        (self.wanted, self.left, self.made) = (wanted.to_vec(), left.to_vec(), Vec::new());
        if wanted.is_empty() && left.is_empty() && !self.config.database.exists() {
            return ApplyResult::default();
        }
        // 1. Without the records, what belongs to this agent is unknown.
        if let Some(why) = self.shaping.damage().or_else(|| self.admin_state.damage()) {
            (self.wanted, self.left) = (Vec::new(), Vec::new());
            return self.nothing(wanted, &why.to_string(), false);
        }
        // 2. The reasons against a switch are found before anything is recorded or changed.
        let mut outcome = ApplyResult::default();
        let (refusals, there) = match self.inspect(wanted, adopt) {
            Ok(found) => found,
            Err(error) => return self.nothing(wanted, &error.to_string(), true),
        };
        let is_refused = |s: &Switch| refusals.iter().any(|f| f.switch == s.name);
        let (out, mut made): (Vec<Switch>, Vec<Switch>) = wanted.iter().cloned().partition(is_refused);
        let mut left = left.to_vec();
        left.extend(out.into_iter().map(|s| s.name));
        outcome.faults.extend(refusals);
        // 3. The same for each port: an interface that is in use, or whose configuration could not
        //    be restored later, does not become a port.
        match self.refuse_ports(&mut made, &there) {
            Ok(faults) => outcome.faults.extend(faults),
            Err(error) => return self.nothing(wanted, &error.to_string(), true),
        }
        (self.wanted, self.left) = (made.clone(), left.clone());
        // 4. Queueing that Open vSwitch takes over again is restored before.
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
        // 6. Queueing: a bridge that another process manages does not get ours.
        made.retain(|s| !late.contains(&s.name));
        left.extend(late);
        self.shape(&made, &left, &mut outcome);
        // 7. Interfaces go up last: once up they forward, and have to be shaped by then.
        let (changes, faults) = self.admin_state.apply(&made, &left);
        outcome.changes += changes;
        outcome.faults.extend(faults);
        self.made = made;
        outcome.faults.extend(self.raise_send_buffer().map(|why| Fault::new("", None, why)));
        outcome
    }

    fn reconcile(&mut self) -> ApplyResult {
        if self.wanted.is_empty() && self.left.is_empty() {
            return ApplyResult::default();
        }
        let changed = !self.stale && self.bridges_changed();
        if self.stale || changed && self.wanted != self.asked.0 {
            // Parts that failed because of the database or a refusal are tried again together.
            let (wanted, left) = self.asked.clone();
            return self.apply(&wanted, &left, Adopt::No);
        }
        let (wanted, left) = (self.wanted.clone(), self.left.clone());
        let mut outcome = ApplyResult::default();
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
                let (changes, mut said) = self.shaping.reconcile(&interfaces);
                outcome.changes += changes;
                let (changes, faults) = self.admin_state.apply_new(&self.made, &wanted, &left, &interfaces);
                outcome.changes += changes;
                said.extend(faults);
                said.into_iter().for_each(|notice| self.say(notice));
            }
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        outcome
    }

    fn take_events(&mut self, wait: bool) -> Vec<Fault> {
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
        // 1. Queueing that Open vSwitch takes over again is restored before.
        match self.inspect(&[], Adopt::No) {
            Ok((_, there)) => {
                let taken: Vec<String> = there.into_iter().filter(|(_, t)| t.taken).map(|(n, _)| n).collect();
                match self.shaping.give_back(&taken) {
                    Ok(faults) => left.extend(faults.into_iter().map(|f| f.why)),
                    Err(error) => left.push(error.to_string()),
                }
            }
            Err(error @ ovsdb::Error::DamagedRecord { .. }) => return Err(error.to_string()),
            // The next step reports the error too.
            Err(_) => {}
        }
        // 2. The bridges.
        match self.with_database(|d| d.release(&owner, LIMIT)) {
            Ok(others) => kept.extend(others),
            Err(error) => left.push(error.to_string()),
        }
        // 3. The other queueing, after the bridges: queueing that is restored on a former port
        //    stays.
        match self.shaping.apply(&[], &[]) {
            Ok((_, faults)) => left.extend(faults.into_iter().map(|f| f.why)),
            Err(error) => left.push(error.to_string()),
        }
        kept.extend(self.shaping.take_kept());
        left.extend(self.admin_state.apply(&[], &[]).1.into_iter().map(|f| f.why));
        if left.is_empty() { Ok(kept) } else { Err(left.join("; ")) }
    }
}
