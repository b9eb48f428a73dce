//! The soft switch: one [`Engine`] per switch, in this process. Queues and classes are those of the
//! kernel's HTB, as for Open vSwitch; a flow's queue selects the class.
//!
//! A switch lives as long as the agent's process. The next process restores the flows that were
//! saved in the state folder (every second, if they have changed) and forwards by them before a
//! controller is connected; in between nothing is forwarded. Each port is locked by an abstract
//! socket in the network namespace, which vanishes with its process: a second agent on the same
//! interface is refused.

use super::SwitchDump;
use super::io::PacketIo;
use super::lifecycle::{targets, versions};
use super::running::{Running, is_other, shared};
use crate::config::{Address, Config, SwitchConfig};
use crate::datapath::netfpga::Talk;
use crate::datapath::port_admin_state::PortAdminState;
use crate::datapath::shaping::Shaping;
use crate::datapath::{
    Adopt, ApplyResult, Datapath, PortCapabilities, QueueSelection, RunMode, SwitchCapabilities,
    SwitchReport, mgmt_interfaces, occupied, ovs, port_counters,
};
use crate::desired::{Fault, Port, Switch};
use crate::nic;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tandem_linux::ethtool::Ethtool;
use tandem_linux::link::{self};
use tandem_linux::link_monitor::{End, LinkMonitor};
use tandem_linux::netlink::Netlink;

/// Creates the packet I/O of a switch.
pub type MakeIo = Box<dyn Fn(&Switch) -> Result<Box<dyn PacketIo>, String> + Send>;

/// State of a switch's ports that does not come from interfaces.
#[derive(Clone)]
pub struct Ports {
    /// Their link state, by number.
    pub talk: Talk,
    /// Ports without an interface.
    pub bare: BTreeSet<u32>,
}

/// The datapath of switches inside this process.
pub struct Soft {
    pub(super) folder: PathBuf,
    pub(super) kind: &'static str,
    pub(super) make: MakeIo,
    pub(super) switches: Vec<SwitchConfig>,
    pub(super) known: BTreeMap<String, Ports>,
    /// A port of them was refused in the last application.
    pub(super) withheld: bool,
    pub(super) controller: Address,
    /// The group whose members may use the switches' management sockets.
    pub(super) group: Option<String>,
    /// Open vSwitch's database, if there is one: its ports cannot be used here.
    pub(super) database: PathBuf,
    /// Switches run only in a daemon.
    pub(super) mode: RunMode,
    pub(super) shaping: Shaping,
    pub(super) admin_state: PortAdminState,
    pub(super) wanted: Vec<Switch>,
    pub(super) left: Vec<String>,
    pub(super) made: Vec<Switch>,
    pub(super) running: Arc<Mutex<Running>>,
    /// Ends the thread that watches interfaces.
    pub(super) watch: Option<End>,
    pub(super) ethtool: Option<Ethtool>,
    pub(super) notices: Vec<Fault>,
    /// When switches that do not run were last tried again, and the result.
    pub(super) tried: Option<Instant>,
    pub(super) missing: Vec<Fault>,
}

/// How often a switch that could not be started is tried again.
const AGAIN: Duration = Duration::from_secs(5);

impl Soft {
    /// For the switches of this kind in a configuration.
    pub fn new(
        config: &Config,
        switches: Vec<SwitchConfig>,
        kind: &'static str,
        mode: RunMode,
        make: MakeIo,
    ) -> Soft {
        // Separate from that of other datapaths: each restores only what it has changed.
        let folder = config.state.join(kind);
        Soft {
            shaping: Shaping::open(&folder),
            admin_state: PortAdminState::open(&folder),
            folder,
            kind,
            make,
            switches,
            known: BTreeMap::new(),
            withheld: false,
            controller: config.controller.clone(),
            group: config.group.clone(),
            database: config.ovs.database.clone(),
            mode,
            wanted: Vec::new(),
            left: Vec::new(),
            made: Vec::new(),
            running: Arc::default(),
            watch: None,
            ethtool: Ethtool::open().ok(),
            notices: Vec::new(),
            tried: None,
            missing: Vec::new(),
        }
    }

    /// With the state of some switches' ports that does not come from interfaces.
    #[must_use]
    pub fn with_port_status(mut self, known: BTreeMap<String, Ports>) -> Soft {
        self.known = known;
        self
    }

    /// The switches with only those of their ports that have interfaces.
    fn with_interfaces(&self, switches: &[Switch]) -> Vec<Switch> {
        let mut switches = switches.to_vec();
        for switch in &mut switches {
            if let Some(known) = self.known.get(&switch.name) {
                switch.ports.retain(|p| !known.bare.contains(&p.number));
            }
        }
        switches
    }

    /// Faults of ports that do not run here and whose interfaces are in use.
    fn not_free(&self, wanted: &[Switch]) -> Vec<Fault> {
        let mut new = self.with_interfaces(wanted);
        {
            let running = shared(&self.running);
            for switch in &mut new {
                let sent = running.0.get(&switch.name).map(|one| &one.sent);
                let runs = |p: &Port| sent.is_some_and(|s| s.iter().any(|e| e.io.interface == p.interface));
                switch.ports.retain(|p| !runs(p));
            }
        }
        if new.iter().all(|s| s.ports.is_empty()) {
            return Vec::new();
        }
        let Ok(all) = Netlink::open().and_then(|mut n| link::list_bare(&mut n)) else { return Vec::new() };
        // If the database does not answer, its ports do not forward.
        let there = ovs::ports_there(&self.database).unwrap_or_default();
        occupied::refuse(&new, &all, &there, false)
    }

    /// Starts to watch interfaces.
    fn listen(&mut self) -> Result<(), String> {
        if self.watch.is_some() {
            return Ok(());
        }
        let (mut watch, end) = LinkMonitor::open().map_err(|e| e.to_string())?;
        let running = self.running.clone();
        let hear = move || {
            let mut ethtool = Ethtool::open().ok();
            loop {
                match watch.wait() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => return tracing::error!("{error}; links are looked at every second only"),
                }
                if let Err(error) = shared(&running).refresh(&mut ethtool) {
                    tracing::warn!("{error}");
                }
            }
        };
        let thread = std::thread::Builder::new().name("links".into()).stack_size(256 << 10);
        thread.spawn(hear).map_err(|e| format!("starting a thread: {e}"))?;
        self.watch = Some(end);
        Ok(())
    }

    fn refresh(&mut self) -> (usize, Vec<Fault>) {
        let mut running = shared(&self.running);
        match running.refresh(&mut self.ethtool) {
            Ok(changes) => (changes, running.0.values().flat_map(|o| o.faults.clone()).collect()),
            Err(error) => (0, vec![Fault::new("", None, error)]),
        }
    }
}

impl Drop for Soft {
    fn drop(&mut self) {
        // The thread that watches interfaces may hold a reference for a moment longer.
        shared(&self.running).0.clear();
    }
}

impl Datapath for Soft {
    fn capabilities(&mut self) -> Vec<SwitchCapabilities> {
        let (kind, ethtool) = (self.kind, &mut self.ethtool);
        let mut all = Vec::new();
        for switch in &self.switches {
            let ports = switch.ports.iter().map(|p| PortCapabilities {
                number: p.number,
                interface: p.interface.clone(),
                selection: if p.queueing { QueueSelection::Queue } else { QueueSelection::None },
                speed: ethtool.as_mut().and_then(|e| nic::inspect(e, &p.interface).speed),
            });
            let ports = ports.collect();
            all.push(SwitchCapabilities { name: switch.name.clone(), datapath: kind.into(), ports });
        }
        all
    }

    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let mut faults = mgmt_interfaces::refuse(&self.controller, wanted);
        for switch in wanted {
            let mut say = |why: String| faults.push(Fault::new(&switch.name, None, why));
            if self.mode == RunMode::Command {
                say(format!(
                    "a {} switch lives in the agent that runs, not in a command that ends; start tandem-agent, with the file as `initial` in agent.toml if there is no controller",
                    self.kind
                ));
            }
            if let Err(why) = versions(&switch.protocols) {
                say(why);
            }
            if let Err(why) = targets(switch) {
                say(why);
            }
        }
        faults
    }

    fn disruptive_changes(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let running = shared(&self.running);
        let others = wanted.iter().filter(|s| running.0.get(&s.name).is_some_and(|one| is_other(one, s)));
        let why =
            "its datapath id or its protocols change: the switch begins anew with the flows that it has";
        others.map(|s| Fault::new(&s.name, None, why)).collect()
    }

    fn apply(&mut self, wanted: &[Switch], left: &[String], _adopt: Adopt) -> ApplyResult {
        let mut outcome = ApplyResult::default();
        if self.mode == RunMode::Command {
            return outcome;
        }
        if let Some(why) = self.shaping.damage().or_else(|| self.admin_state.damage()) {
            outcome.faults.extend(wanted.iter().map(|s| Fault::new(&s.name, None, why.to_string())));
            return outcome;
        }
        if !wanted.is_empty()
            && let Err(why) = self.listen()
        {
            outcome.faults.push(Fault::new("", None, why));
        }
        // Refused parts stay wanted, and are tried again.
        (self.wanted, self.left) = (wanted.to_vec(), left.to_vec());
        let mut refused_ports = self.not_free(wanted);
        let mut wanted = wanted.to_vec();
        withhold(&mut wanted, &refused_ports);
        match self.shaping.prepare(&self.with_interfaces(&wanted), None) {
            Ok(faults) => refused_ports.extend(faults),
            // A port whose interface cannot be checked is not changed.
            Err(error) => {
                outcome.faults.extend(wanted.iter().map(|s| Fault::new(&s.name, None, error.to_string())));
                return outcome;
            }
        }
        withhold(&mut wanted, &refused_ports);
        self.withheld = !refused_ports.is_empty();
        outcome.faults.extend(refused_ports);
        self.engines(&wanted, left, &mut outcome);
        let refused: Vec<String> =
            outcome.faults.iter().filter(|f| f.port.is_none()).map(|f| f.switch.clone()).collect();
        // The locks decide which agent has a port; a port of another agent is not shaped either.
        let (changes, faults) = self.refresh();
        outcome.changes += changes;
        let mut made: Vec<Switch> = wanted.into_iter().filter(|s| !refused.contains(&s.name)).collect();
        withhold(&mut made, &faults);
        self.withheld |= !faults.is_empty();
        outcome.faults.extend(faults);
        let left = [left, &refused].concat();
        let made = self.with_interfaces(&made);
        match self.shaping.apply(&made, &left) {
            Ok((changes, faults)) => {
                outcome.changes += changes;
                outcome.faults.extend(faults);
            }
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        outcome.faults.extend(self.shaping.take_kept().into_iter().map(|why| Fault::new("", None, why)));
        let (changes, faults) = self.admin_state.apply(&made, &left);
        outcome.changes += changes;
        outcome.faults.extend(faults);
        // Reads the link states again after the setup, so that a report right after this call has
        // them.
        outcome.faults.extend(self.refresh().1.into_iter().filter(|f| f.port.is_none()));
        self.made = made;
        outcome
    }

    fn reconcile(&mut self) -> ApplyResult {
        let mut outcome = ApplyResult::default();
        if self.wanted.is_empty() && self.left.is_empty() {
            return outcome;
        }
        let ended = self.ended();
        if !ended.is_empty() {
            self.notices.extend(ended);
            let (wanted, left) = (self.wanted.clone(), self.left.clone());
            return self.apply(&wanted, &left, Adopt::No);
        }
        // Tries again: a switch that could not be started (its card was missing, or in use by
        // another agent), and a port whose interface was in use.
        let missing =
            self.withheld || self.wanted.iter().any(|s| !shared(&self.running).0.contains_key(&s.name));
        if missing && self.tried.is_none_or(|t| t.elapsed() >= AGAIN) {
            let (wanted, left) = (self.wanted.clone(), self.left.clone());
            self.missing = self.apply(&wanted, &left, Adopt::No).faults;
            self.tried = Some(Instant::now());
        }
        if missing {
            outcome.faults.clone_from(&self.missing);
        }
        outcome.faults.extend(self.keep());
        let (changes, faults) = self.refresh();
        outcome.changes += changes;
        outcome.faults.extend(faults);
        match Netlink::open().and_then(|mut n| link::list_bare(&mut n)) {
            Ok(interfaces) => {
                let (changes, mut said) = self.shaping.reconcile(&interfaces);
                outcome.changes += changes;
                let (changes, faults) =
                    self.admin_state.apply_new(&self.made, &self.wanted, &self.left, &interfaces);
                outcome.changes += changes;
                said.extend(faults);
                // The session reads the notices every second; the limit is for when there is no
                // session.
                const MOST: usize = 256;
                self.notices.extend(said);
                self.notices.truncate(MOST);
            }
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        outcome
    }

    fn take_events(&mut self, _wait: bool) -> Vec<Fault> {
        std::mem::take(&mut self.notices)
    }

    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        port_counters::report(wanted, &mut self.ethtool)
    }

    fn dump_flows(&mut self) -> Vec<(String, SwitchDump)> {
        let running = shared(&self.running);
        running.0.iter().filter_map(|(name, one)| Some((name.clone(), one.engine.dump().ok()?))).collect()
    }

    fn release(&mut self) -> Result<Vec<String>, String> {
        if let Some(why) = self.shaping.damage().or_else(|| self.admin_state.damage()) {
            return Err(why.to_string());
        }
        (self.wanted, self.left, self.made, self.watch) = (Vec::new(), Vec::new(), Vec::new(), None);
        self.withheld = false;
        shared(&self.running).0.clear();
        let mut left = Vec::new();
        match self.shaping.apply(&[], &[]) {
            Ok((_, faults)) => left.extend(faults.into_iter().map(|f| f.why)),
            Err(error) => left.push(error.to_string()),
        }
        left.extend(self.admin_state.apply(&[], &[]).1.into_iter().map(|f| f.why));
        for switch in &self.switches {
            for what in ["flows", "mgmt"] {
                let _ = std::fs::remove_file(self.folder.join(format!("{}.{what}", switch.name)));
            }
        }
        let kept = self.shaping.take_kept();
        left.is_empty().then_some(kept).ok_or_else(|| left.join("; "))
    }
}

/// Removes the refused ports from the wanted ones.
pub(in crate::datapath) fn withhold(wanted: &mut [Switch], faults: &[Fault]) {
    for switch in wanted {
        let is_refused =
            |p: &Port| faults.iter().any(|f| f.switch == switch.name && f.port == Some(p.number));
        switch.ports.retain(|p| !is_refused(p));
    }
}
