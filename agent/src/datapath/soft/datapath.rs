//! The soft switch: an [`Engine`] per switch, in this process. Queues and classes are the kernel's HTB, as for Open vSwitch; a flow's queue
//! selects the class.
//!
//! A switch lives as long as the agent. The next process takes over: it finds the flows that were kept in the state folder (every second,
//! where they have changed) and forwards by them before a controller is there; between the two nothing is forwarded. Each port is locked
//! by an abstract socket in the network namespace, which is gone when its process is: a second agent on the same interface is refused.

use super::io::{IoPort, PacketIo};
use super::{Engine, EnginePort, Target, View};
use crate::config::{Address, Config, SwitchConfig};
use crate::datapath::netfpga::{self, Talk};
use crate::datapath::port_admin_state::PortAdminState;
use crate::datapath::shaping::Shaping;
use crate::datapath::{
    Adopt, Datapath, Outcome, Presented, PresentedPort, Selection, SwitchReport, elsewhere, mgmt_interfaces,
    ovs, port_counters,
};
use crate::desired::{Fault, Port, Switch};
use crate::local_socket;
use crate::nic;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tandem_linux::ethtool::Ethtool;
use tandem_linux::link::{self, Interface};
use tandem_linux::link_monitor::{End, LinkMonitor};
use tandem_linux::netlink::Netlink;
use tandem_openflow::switch::{Cfg, Description, Queue};

/// Makes the way to the wires of a switch.
pub type MakeIo = Box<dyn Fn(&Switch) -> Result<Box<dyn PacketIo>, String> + Send>;

/// What others than interfaces know of the ports of a switch.
#[derive(Clone)]
pub struct Ports {
    /// Whether they have links, by number.
    pub talk: Talk,
    /// Ports without an interface.
    pub bare: BTreeSet<u32>,
}

/// See the module.
pub struct Soft {
    folder: PathBuf,
    kind: &'static str,
    make: MakeIo,
    switches: Vec<SwitchConfig>,
    known: BTreeMap<String, Ports>,
    /// A port of them was refused when they were last applied.
    withheld: bool,
    controller: Address,
    /// Who may use the switches' management sockets.
    group: Option<String>,
    /// Open vSwitch's database, where there is one: its ports are not free.
    database: PathBuf,
    /// This process stays, so that a switch can live in it.
    keeper: bool,
    shaping: Shaping,
    admin_state: PortAdminState,
    wanted: Vec<Switch>,
    left: Vec<String>,
    made: Vec<Switch>,
    running: Arc<Mutex<Running>>,
    /// Ends the thread that hears of interfaces.
    watch: Option<End>,
    ethtool: Option<Ethtool>,
    notices: Vec<Fault>,
    /// When switches that do not run were tried again, and what came of it.
    tried: Option<Instant>,
    missing: Vec<Fault>,
}

/// How often a switch that could not be started is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The switches that run, shared with the thread that hears of interfaces.
#[derive(Default)]
struct Running(BTreeMap<String, One>);

struct One {
    engine: Engine,
    /// What it was started as.
    switch: Switch,
    /// Its ports as they are wanted.
    ports: Vec<Port>,
    /// Its ports as the engine has them.
    sent: Vec<EnginePort>,
    /// What speaks against the others.
    faults: Vec<Fault>,
    /// By interface number.
    locks: BTreeMap<u32, UnixDatagram>,
    known: Option<Ports>,
    /// The state of the tables whose flows were written down.
    kept: u64,
}

fn shared(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// OpenFlow version bytes, from the words that Open vSwitch has for them.
fn versions(protocols: &[String]) -> Result<Vec<u8>, String> {
    let version = |word: &String| match word.as_str() {
        "OpenFlow10" => Ok(1),
        "OpenFlow13" => Ok(4),
        other => Err(format!("protocol {other:?}: this switch speaks OpenFlow10 and OpenFlow13")),
    };
    protocols.iter().map(version).collect()
}

fn targets(switch: &Switch) -> Result<Vec<Target>, String> {
    switch.controllers.iter().map(|c| Target::parse(c, &switch.name)).collect()
}

impl Soft {
    /// With what a configuration says, for its switches of this kind. A `keeper` is a process that stays.
    pub fn new(
        config: &Config,
        switches: Vec<SwitchConfig>,
        kind: &'static str,
        keeper: bool,
        make: MakeIo,
    ) -> Soft {
        // Apart from another datapath's: each gives back only what it has taken.
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
            keeper,
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

    /// With what others know of the ports of some switches.
    #[must_use]
    pub fn knowing(mut self, known: BTreeMap<String, Ports>) -> Soft {
        self.known = known;
        self
    }

    /// The switches with those of their ports that have interfaces.
    fn with_interfaces(&self, switches: &[Switch]) -> Vec<Switch> {
        let mut switches = switches.to_vec();
        for switch in &mut switches {
            if let Some(known) = self.known.get(&switch.name) {
                switch.ports.retain(|p| !known.bare.contains(&p.number));
            }
        }
        switches
    }

    /// What it is made of, in the words of OFPMP_DESC.
    fn cfg(&self, switch: &Switch) -> Result<Cfg, String> {
        Ok(Cfg {
            dpid: switch.datapath_id,
            versions: versions(&switch.protocols)?,
            description: Description {
                manufacturer: "Tandem".into(),
                hardware: self.kind.into(),
                software: concat!("tandem-agent ", env!("CARGO_PKG_VERSION")).into(),
                serial: "None".into(),
                datapath: switch.name.clone(),
            },
            // A card looks a packet up once.
            tables: if self.kind == "netfpga" { 1 } else { Cfg::default().tables },
            ..Cfg::default()
        })
    }

    fn start(&self, switch: &Switch) -> Result<One, String> {
        let said = |what: &str, path: &Path| {
            let path = path.display().to_string();
            let what = what.to_owned();
            move |error: std::io::Error| format!("{what} {path}: {error}")
        };
        std::fs::create_dir_all(&self.folder).map_err(said("making", &self.folder))?;
        let path = self.folder.join(format!("{}.mgmt", switch.name));
        let peers = local_socket::peers(self.group.as_deref()).map_err(|e| e.to_string())?;
        let guests = local_socket::listen(&path, self.group.as_deref())
            .map_err(|error| format!("listening on {}: {error}", path.display()))?;
        let flows = std::fs::read(self.flows(&switch.name)).unwrap_or_default();
        let io = (self.make)(switch)?;
        let engine = Engine::start(&switch.name, self.cfg(switch)?, io, Some((guests, peers)), flows)
            .map_err(|e| format!("starting its engine: {e}"))?;
        Ok(One {
            engine,
            switch: switch.clone(),
            ports: Vec::new(),
            sent: Vec::new(),
            faults: Vec::new(),
            locks: BTreeMap::new(),
            known: self.known.get(&switch.name).cloned(),
            kept: 0,
        })
    }

    /// Faults of ports that do not run here and whose interfaces are somebody else's.
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
        // A database that does not answer has no ports that forward.
        let there = ovs::ports_there(&self.database).unwrap_or_default();
        elsewhere::refuse(&new, &all, &there, false)
    }

    fn flows(&self, switch: &str) -> PathBuf {
        self.folder.join(format!("{switch}.flows"))
    }

    /// Hears of interfaces from now on.
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

    fn raise(&mut self, wanted: &[Switch], left: &[String]) -> (usize, Vec<Fault>) {
        match Netlink::open() {
            Ok(mut netlink) => self.admin_state.apply(&mut netlink, wanted, left),
            Err(error) => (0, vec![Fault::new("", None, error.to_string())]),
        }
    }

    fn refresh(&mut self) -> (usize, Vec<Fault>) {
        let mut running = shared(&self.running);
        match running.refresh(&mut self.ethtool) {
            Ok(changes) => (changes, running.0.values().flat_map(|o| o.faults.clone()).collect()),
            Err(error) => (0, vec![Fault::new("", None, error)]),
        }
    }

    /// Starts what is new, ends what is not wanted any more, and tells each its controllers.
    fn engines(&mut self, wanted: &[Switch], left: &[String], outcome: &mut Outcome) {
        let running = self.running.clone();
        let mut running = shared(&running);
        let before = running.0.len();
        running.0.retain(|name, _| wanted.iter().any(|s| s.name == *name) || left.contains(name));
        outcome.changes += before - running.0.len();
        for switch in wanted {
            let is_other = running.0.get(&switch.name).is_some_and(|one| is_other(one, switch));
            if is_other {
                running.0.remove(&switch.name);
            }
            if !running.0.contains_key(&switch.name) {
                match self.start(switch) {
                    Ok(one) => drop(running.0.insert(switch.name.clone(), one)),
                    Err(why) => {
                        outcome.faults.push(Fault::new(&switch.name, None, why));
                        continue;
                    }
                }
                outcome.changes += 1;
            }
            let Some(one) = running.0.get_mut(&switch.name) else { continue };
            one.ports.clone_from(&switch.ports);
            match targets(switch) {
                Ok(targets) => drop(one.engine.set_controllers(targets)),
                Err(why) => outcome.faults.push(Fault::new(&switch.name, None, why)),
            }
            one.switch.controllers.clone_from(&switch.controllers);
        }
    }

    /// Takes away switches whose thread has ended, which is a fault of this program; they are to be started again.
    fn ended(&mut self) -> Vec<Fault> {
        let mut said = Vec::new();
        shared(&self.running).0.retain(|name, one| {
            let runs = one.engine.runs();
            if !runs {
                let why = "its engine has ended, which it should not; it is started again with the flows that were kept";
                said.push(Fault::new(name, None, why));
            }
            runs
        });
        said
    }

    /// Writes down the flows of switches whose tables have changed.
    fn keep(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let running = self.running.clone();
        for (name, one) in &mut shared(&running).0 {
            let (generation, flows) = match one.engine.kept(one.kept) {
                Ok(Some(kept)) => kept,
                Ok(None) => continue,
                Err(error) => {
                    faults.push(Fault::new(name, None, error.to_string()));
                    continue;
                }
            };
            one.kept = generation;
            let file = self.flows(name);
            let beside = file.with_extension("new");
            let written = std::fs::write(&beside, flows).and_then(|()| std::fs::rename(&beside, &file));
            if let Err(error) = written {
                let why = format!("its flows could not be kept for a restart: {}: {error}", file.display());
                faults.push(Fault::new(name, None, why));
            }
        }
        faults
    }
}

impl Drop for Soft {
    fn drop(&mut self) {
        // The thread that hears of interfaces may hold them for a moment longer than this lives.
        shared(&self.running).0.clear();
    }
}

/// True when a switch has to begin anew to become what is wanted.
fn is_other(one: &One, switch: &Switch) -> bool {
    (one.switch.datapath_id, &one.switch.protocols) != (switch.datapath_id, &switch.protocols)
}

impl Running {
    /// Tells each engine what its ports are now. How many were told something new.
    fn refresh(&mut self, ethtool: &mut Option<Ethtool>) -> Result<usize, String> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let all =
            Netlink::open().and_then(|mut n| link::list_bare(&mut n)).map_err(|error| error.to_string())?;
        let there: BTreeMap<&str, &Interface> = all.iter().map(|i| (i.name.as_str(), i)).collect();
        let mut changes = 0;
        for (name, one) in &mut self.0 {
            changes += usize::from(one.refresh(name, &there, ethtool));
        }
        Ok(changes)
    }
}

impl One {
    fn refresh(
        &mut self,
        name: &str,
        there: &BTreeMap<&str, &Interface>,
        ethtool: &mut Option<Ethtool>,
    ) -> bool {
        let mut ports = Vec::new();
        self.faults.clear();
        let wanted = |index: u32| {
            self.ports.iter().any(|p| there.get(p.interface.as_str()).is_some_and(|i| i.index == index))
        };
        let locks = std::mem::take(&mut self.locks);
        self.locks = locks.into_iter().filter(|(index, _)| wanted(*index)).collect();
        for port in &self.ports {
            // One that is not there is told by who shapes it, and comes back by itself.
            let link =
                self.known.as_ref().and_then(|k| netfpga::shared(&k.talk).links.get(&port.number).copied());
            let Some(interface) = there.get(port.interface.as_str()) else {
                if self.known.as_ref().is_some_and(|k| k.bare.contains(&port.number)) {
                    ports.push(bare_port(port, link.unwrap_or(false)));
                }
                continue;
            };
            if let Entry::Vacant(place) = self.locks.entry(interface.index) {
                match lock(interface.index) {
                    Ok(lock) => drop(place.insert(lock)),
                    Err(error) => {
                        let why = format!(
                            "{} is a port of another agent's switch on this machine, or somebody holds the lock of it ({error}; the abstract \
                             socket @tandem-port/{}, which any user can take: `ss -xlp` names its process); stop that agent or process, or \
                             take the port out of one agent.toml",
                            port.interface, interface.index
                        );
                        self.faults.push(Fault::new(name, Some(port.number), why));
                        continue;
                    }
                }
            }
            let known =
                self.sent.iter().find(|p| p.io.index == interface.index && p.port.up == interface.running);
            let speed = match known {
                Some(known) => known.port.speed,
                None => ethtool.as_mut().and_then(|e| nic::look(e, &port.interface).speed),
            };
            let mut port = engine_port(port, interface, speed);
            port.port.up &= link.unwrap_or(true);
            ports.push(port);
        }
        // Ports that could not be had are tried again, with or without a change.
        if ports == self.sent {
            return false;
        }
        match self.engine.set_ports(ports.clone()) {
            Ok(refused) => {
                let refused: BTreeMap<u32, String> = refused.into_iter().collect();
                ports.retain(|p| !refused.contains_key(&p.io.number));
                self.faults.extend(refused.into_iter().map(|(n, why)| Fault::new(name, Some(n), why)));
            }
            Err(error) => self.faults.push(Fault::new(name, None, error.to_string())),
        }
        self.sent = ports;
        true
    }
}

fn engine_port(port: &Port, interface: &Interface, speed: Option<u64>) -> EnginePort {
    let rate = port.rate.map_or(0, |r| r.0).max(1);
    // In tenths of a percent (OF 1.3.5 section 7.2.2).
    let share =
        |part: u64| u16::try_from(u128::from(part) * 1000 / u128::from(rate)).unwrap_or(1000).min(1000);
    let queues = (0u32..).zip(&port.classes).map(|(id, class)| Queue {
        id,
        min: Some(share(class.rate.0)),
        max: class.ceiling.map(|c| share(c.0)),
    });
    EnginePort {
        io: IoPort {
            number: port.number,
            interface: port.interface.clone(),
            index: interface.index,
            mtu: interface.mtu,
            queues: port.classes.len() as u32,
        },
        port: tandem_openflow::switch::Port {
            number: port.number,
            name: port.interface.clone(),
            mac: interface.mac,
            up: interface.running,
            speed,
            config: 0,
            queues: queues.collect(),
        },
    }
}

/// A port that has no interface.
fn bare_port(port: &Port, up: bool) -> EnginePort {
    let interface = Interface {
        index: u32::MAX - port.number,
        name: port.interface.clone(),
        up,
        running: up,
        master: None,
        kind: None,
        lower: None,
        mtu: 1500,
        mac: [0; 6],
        stats: None,
    };
    let mut bare = engine_port(port, &interface, Some(1_000_000_000));
    bare.port.up = up;
    bare
}

/// Takes the lock of an interface: abstract names are a network namespace's own, and go with their process.
fn lock(index: u32) -> std::io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("tandem-port/{index}"))?)
}

impl Datapath for Soft {
    fn present(&mut self) -> Vec<Presented> {
        let (kind, ethtool) = (self.kind, &mut self.ethtool);
        let mut all = Vec::new();
        for switch in &self.switches {
            let ports = switch.ports.iter().map(|p| PresentedPort {
                number: p.number,
                interface: p.interface.clone(),
                selection: if p.queueing { Selection::Queue } else { Selection::None },
                speed: ethtool.as_mut().and_then(|e| nic::look(e, &p.interface).speed),
            });
            let ports = ports.collect();
            all.push(Presented { name: switch.name.clone(), datapath: kind.into(), ports });
        }
        all
    }

    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let mut faults = mgmt_interfaces::refuse(&self.controller, wanted);
        for switch in wanted {
            let mut say = |why: String| faults.push(Fault::new(&switch.name, None, why));
            if !self.keeper {
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

    fn gaps(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let running = shared(&self.running);
        let others = wanted.iter().filter(|s| running.0.get(&s.name).is_some_and(|one| is_other(one, s)));
        let why =
            "its datapath id or its protocols change: the switch begins anew with the flows that it has";
        others.map(|s| Fault::new(&s.name, None, why)).collect()
    }

    fn apply(&mut self, wanted: &[Switch], left: &[String], _adopt: Adopt) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.keeper {
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
        // What is refused now is wanted all the same, and tried again.
        (self.wanted, self.left) = (wanted.to_vec(), left.to_vec());
        let mut refused_ports = self.not_free(wanted);
        let mut wanted = wanted.to_vec();
        withhold(&mut wanted, &refused_ports);
        match self.shaping.prepare(&self.with_interfaces(&wanted), None) {
            Ok(faults) => refused_ports.extend(faults),
            // What could not be looked at is not touched.
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
        // The locks decide whose ports they are; what another agent has is not shaped either.
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
        let (changes, faults) = self.raise(&made, &left);
        outcome.changes += changes;
        outcome.faults.extend(faults);
        // What was set up is told by the kernel; who asks at once is to see it, too.
        outcome.faults.extend(self.refresh().1.into_iter().filter(|f| f.port.is_none()));
        self.made = made;
        outcome
    }

    fn mend(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        if self.wanted.is_empty() && self.left.is_empty() {
            return outcome;
        }
        let ended = self.ended();
        if !ended.is_empty() {
            self.notices.extend(ended);
            let (wanted, left) = (self.wanted.clone(), self.left.clone());
            return self.apply(&wanted, &left, Adopt::No);
        }
        // A switch that could not be started (its card was not there, or is another agent's) is tried again, and so is a port that was
        // somebody else's.
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
                let (changes, mut said) = self.shaping.mend(&interfaces);
                outcome.changes += changes;
                if self.admin_state.is_due(&self.made, &interfaces) {
                    let made = self.made.clone();
                    let refused = self.wanted.iter().map(|s| s.name.clone());
                    let refused = refused.filter(|n| !made.iter().any(|m| m.name == *n));
                    let left: Vec<String> = self.left.iter().cloned().chain(refused).collect();
                    let (changes, faults) = self.raise(&made, &left);
                    outcome.changes += changes;
                    said.extend(faults);
                }
                // Who reads them comes every second; a bound for who never comes.
                const MOST: usize = 256;
                self.notices.extend(said);
                self.notices.truncate(MOST);
            }
            Err(error) => outcome.faults.push(Fault::new("", None, error.to_string())),
        }
        outcome
    }

    fn notices(&mut self, _wait: bool) -> Vec<Fault> {
        std::mem::take(&mut self.notices)
    }

    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        port_counters::report(wanted, &mut self.ethtool)
    }

    fn views(&mut self) -> Vec<(String, View)> {
        let running = shared(&self.running);
        running.0.iter().filter_map(|(name, one)| Some((name.clone(), one.engine.look().ok()?))).collect()
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
        left.extend(self.raise(&[], &[]).1.into_iter().map(|f| f.why));
        for switch in &self.switches {
            for what in ["flows", "mgmt"] {
                let _ = std::fs::remove_file(self.folder.join(format!("{}.{what}", switch.name)));
            }
        }
        let kept = self.shaping.take_kept();
        left.is_empty().then_some(kept).ok_or_else(|| left.join("; "))
    }
}

/// Takes the ports that something speaks against out of what is wanted.
pub(in crate::datapath) fn withhold(wanted: &mut [Switch], faults: &[Fault]) {
    for switch in wanted {
        let is_refused =
            |p: &Port| faults.iter().any(|f| f.switch == switch.name && f.port == Some(p.number));
        switch.ports.retain(|p| !is_refused(p));
    }
}
