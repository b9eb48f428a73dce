//! The queueing of ports: makes it what is wanted, keeps it so, and gives it back as it was found.
//!
//! A record in the state folder ([`super::record`]) says whose queueing was touched and what was there before. What is not in it is
//! somebody else's, whatever it looks like. The way of a port:
//! 1. [`Shaping::prepare`], before the interface becomes a port: what is there is written down ([`Stage::Prepared`]), or the port is
//!    refused because what is there could not be given back.
//! 2. [`Shaping::apply`]: `Applying` is written down, the kernel is told, `Applied` is written down with what was set.
//! 3. When it is no longer wanted: what was set is taken away and what was found is put back. What is neither (somebody has changed it
//!    since) stays, and is told.
//!
//! Whoever is killed between two of these finds in the record what may be there, and goes on from that.
//!
//! Between applications the kernel itself tells whose queueing has changed ([`tc::Listener`]); only those interfaces are read again.

use super::record::{self, Record, RecordError};
use crate::desired::{Fault, Port, Switch};
use crate::queues;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, link, tc};

/// What was found as the root queueing of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    kind: String,
    major: u16,
    options: Vec<u8>,
}

impl Found {
    fn root(&self) -> tc::Root {
        tc::Root { kind: self.kind.clone(), major: self.major, options: self.options.clone() }
    }
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    /// What was found is written down; of ours nothing is there. Open vSwitch may have taken away what was found.
    Prepared,
    /// The kernel is being told: any part of it may be there.
    Applying,
    /// This is there ([`words`]).
    Applied(String),
}

/// An interface whose queueing is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    switch: String,
    /// What is to be put back; `None` is the kernel's own choice, or what Open vSwitch makes by itself (`by_ovs`).
    found: Option<Found>,
    /// When the interface was looked at, and its number then. Records of earlier releases do not say.
    #[serde(default)]
    boot: String,
    #[serde(default)]
    index: u32,
    /// It was Open vSwitch's own, by its database, which keeps it.
    #[serde(default)]
    by_ovs: bool,
    /// Earlier releases did not say; they wrote the record and told the kernel at once.
    #[serde(default = "Stage::of_earlier_releases")]
    stage: Stage,
}

impl Stage {
    fn of_earlier_releases() -> Stage {
        Stage::Applying
    }
}

/// By interface.
type Entries = BTreeMap<String, Kept>;

/// What Open vSwitch's database says of a port that is there already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PortThere {
    /// Its bridge.
    pub(super) bridge: String,
    /// vswitchd shapes it (`Port.qos`).
    pub(super) by_ovs: bool,
    /// It did until we took that over.
    pub(super) taken: bool,
}

/// Ports of Open vSwitch by name.
pub(super) type PortsThere = BTreeMap<String, PortThere>;

/// An interface that is shaped.
#[derive(Debug, Clone)]
struct Shaped {
    switch: String,
    port: u32,
    tree: tc::Tree,
    /// Its number when it was shaped; `None` while there is no such interface.
    index: Option<u32>,
}

/// What a root queueing is, by the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The kernel's own choice: nobody's.
    Nobodys,
    /// As it was found.
    AsFound,
    /// What we have set, or a part of it.
    Ours,
    /// Somebody has changed it since.
    Others,
}

/// See the module.
pub(super) struct Shaping {
    record: Record<Entries>,
    boot: String,
    shaped: BTreeMap<String, Shaped>,
    /// Ports whose queueing is somebody else's and stays.
    refused: BTreeSet<String>,
    /// What the last preparation has written down anew.
    fresh: BTreeSet<String>,
    listener: Option<tc::Listener>,
    /// What others have changed since and is therefore not given back, in words.
    kept: Vec<String>,
}

fn numbers(interfaces: &[link::Interface]) -> BTreeMap<&str, u32> {
    interfaces.iter().map(|i| (i.name.as_str(), i.index)).collect()
}

/// A tree in words that mean the same to every release, with its parts in order.
fn words(tree: &tc::Tree) -> String {
    let tree = tree.normal();
    let mut out = format!("default {}", tree.default);
    for c in &tree.classes {
        let (burst, cburst, quantum) = (c.burst.unwrap_or(0), c.cburst.unwrap_or(0), c.quantum.unwrap_or(0));
        out += &format!(
            "; class {} {} {} {} {} {} {burst} {cburst} {quantum}",
            c.id, c.parent, c.rate, c.ceil, c.queue, c.priority
        );
    }
    for f in &tree.filters {
        let select = match f.select {
            tc::Select::Dscp(dscp) => format!("dscp {dscp}"),
            tc::Select::Pcp(pcp) => format!("pcp {pcp}"),
            tc::Select::Foreign => "foreign".to_owned(),
        };
        out += &format!("; filter {} {select} {}", f.priority, f.class);
    }
    out
}

impl Kept {
    fn is_of(&self, boot: &str, index: u32) -> bool {
        self.boot.is_empty() || (self.boot == boot && self.index == index)
    }

    fn whose(&self, root: Option<&tc::Root>, tree: Option<&tc::Tree>) -> Whose {
        let Some(root) = root else { return Whose::Nobodys };
        if self.found.as_ref().is_some_and(|f| f.root() == *root) {
            return Whose::AsFound;
        }
        let is_htb = root.kind == "htb" && root.major == 1;
        match &self.stage {
            Stage::Prepared if self.by_ovs => Whose::AsFound,
            Stage::Prepared => Whose::Others,
            Stage::Applying if is_htb => Whose::Ours,
            Stage::Applied(set) if is_htb && tree.is_some_and(|t| words(t) == *set) => Whose::Ours,
            Stage::Applying | Stage::Applied(_) => Whose::Others,
        }
    }
}

/// The kernel's queueing of all interfaces, and the trees of some.
struct Actual {
    roots: BTreeMap<u32, tc::Root>,
    trees: BTreeMap<u32, tc::Tree>,
}

impl Actual {
    fn read(netlink: &mut Netlink, indices: &[u32]) -> Result<Actual, Error> {
        let trees = if indices.is_empty() { BTreeMap::new() } else { tc::read_all(netlink, indices)? };
        Ok(Actual { roots: tc::roots(netlink)?, trees })
    }
}

impl Shaping {
    /// With what is remembered in the folder.
    pub(super) fn open(folder: &Path) -> Shaping {
        Shaping {
            record: Record::open(folder.join("queueing.json")),
            boot: record::boot(),
            shaped: BTreeMap::new(),
            refused: BTreeSet::new(),
            fresh: BTreeSet::new(),
            listener: None,
            kept: Vec::new(),
        }
    }

    /// Why nothing may be touched.
    pub(super) fn damage(&self) -> Option<RecordError> {
        self.record.get().err()
    }

    /// What others have changed since and was therefore not given back, each told once.
    pub(super) fn take_kept(&mut self) -> Vec<String> {
        std::mem::take(&mut self.kept)
    }

    /// To be called before interfaces are put into bridges. What they have is written down; ports whose queueing could not be given back
    /// are refused, and [`Shaping::apply`] leaves them alone. `there` are the ports that Open vSwitch has; `None` for a switch that takes
    /// nothing away from an interface that becomes its port, which vswitchd does.
    ///
    /// # Errors
    /// When the kernel does not say what there is.
    pub(super) fn prepare(
        &mut self,
        wanted: &[Switch],
        there: Option<&PortsThere>,
    ) -> Result<Vec<Fault>, Error> {
        self.refused.clear();
        self.fresh.clear();
        let mut faults = Vec::new();
        let record = match self.record.get() {
            Ok(record) => record,
            Err(error) => {
                let fault = |s: &Switch| Fault::new(&s.name, None, error.to_string());
                return Ok(wanted.iter().map(fault).collect());
            }
        };
        let mut netlink = Netlink::open()?;
        let interfaces = link::list_bare(&mut netlink)?;
        let indices = numbers(&interfaces);
        let is_known = |name: &str, index: u32| record.get(name).is_some_and(|k| k.is_of(&self.boot, index));
        let new: Vec<(&Switch, &Port, u32)> = wanted
            .iter()
            .flat_map(|s| s.ports.iter().map(move |p| (s, p)))
            .filter_map(|(s, p)| Some((s, p, *indices.get(p.interface.as_str())?)))
            .filter(|(_, p, index)| !is_known(&p.interface, *index))
            // One that is a port already and is left to somebody else loses nothing.
            .filter(|(_, p, _)| p.rate.is_some() || there.is_some_and(|t| !t.contains_key(&p.interface)))
            .collect();
        if new.is_empty() {
            return Ok(faults);
        }
        let roots = tc::roots(&mut netlink)?;
        let ingress = tc::ingresses(&mut netlink)?;
        let mut next = record.clone();
        let mut fresh = BTreeSet::new();
        for (switch, port, index) in new {
            let name = &port.interface;
            let at = there.and_then(|t| t.get(name));
            let becomes_port = there.is_some() && at.is_none();
            let by_ovs = at.is_some_and(|p| p.by_ovs);
            let found = match roots.get(&index) {
                _ if becomes_port && ingress.contains(&index) => Err(format!(
                    "{name} has an ingress queueing of somebody else, which Open vSwitch takes away from an interface that becomes its \
                     port and which could not be given back; take it away (tc qdisc del dev {name} ingress), or name another interface"
                )),
                None => Ok(None),
                Some(_) if by_ovs => Ok(None),
                Some(root) => found(&mut netlink, root, index, name, port.rate.is_some())?,
            };
            match found {
                Ok(None) if port.rate.is_none() => {}
                Ok(found) => {
                    let kept = Kept {
                        switch: switch.name.clone(),
                        found,
                        boot: self.boot.clone(),
                        index,
                        by_ovs,
                        stage: Stage::Prepared,
                    };
                    next.insert(name.clone(), kept);
                    fresh.insert(name.clone());
                }
                Err(why) => {
                    self.refused.insert(name.clone());
                    faults.push(Fault::new(&switch.name, Some(port.number), why));
                }
            }
        }
        if let Err(error) = self.record.put(next) {
            for (switch, port) in wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
                if fresh.contains(&port.interface) {
                    faults.push(Fault::new(&switch.name, Some(port.number), error.to_string()));
                }
            }
            self.refused.append(&mut fresh);
        }
        self.fresh = fresh;
        Ok(faults)
    }

    /// Forgets what the last preparation has written down of ports that did not become any after all: what was refused leaves no record.
    /// One that is no longer as it was found is kept, so that it is put back.
    ///
    /// # Errors
    /// When the kernel does not say what there is.
    pub(super) fn forget(&mut self, switches: &[String]) -> Result<(), Error> {
        let Ok(record) = self.record.get() else { return Ok(()) };
        let is_meant = |name: &String| {
            self.fresh.contains(name) && record.get(name).is_some_and(|k| switches.contains(&k.switch))
        };
        let names: Vec<String> = record.keys().filter(|n| is_meant(n)).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let roots = tc::roots(&mut Netlink::open()?)?;
        let mut next = record.clone();
        next.retain(|name, kept| {
            let root = roots.get(&kept.index);
            let is_as_found =
                root.is_none() && kept.found.is_none() || kept.whose(root, None) == Whose::AsFound;
            !(names.contains(name) && is_as_found)
        });
        if let Err(error) = self.record.put(next) {
            self.kept.push(error.to_string());
        }
        Ok(())
    }

    /// Makes the queueing of all ports that have a rate what is wanted, and gives back that of the others. Ports of the switches named in
    /// `left` stay as they are. The number of requests that changed something, and what could not be done.
    ///
    /// # Errors
    /// When the kernel does not say what there is.
    pub(super) fn apply(&mut self, wanted: &[Switch], left: &[String]) -> Result<(usize, Vec<Fault>), Error> {
        let mut faults = Vec::new();
        let Ok(record) = self.record.get() else { return Ok((0, faults)) };
        let mut netlink = Netlink::open()?;
        // From before the first look, so that no change is missed.
        if self.listener.is_none() {
            self.listener = tc::Listener::open().ok();
        }
        let interfaces = link::list_bare(&mut netlink)?;
        let indices = numbers(&interfaces);
        let mut next: BTreeMap<String, Shaped> = BTreeMap::new();
        for (switch, port) in wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
            let name = &port.interface;
            let Some(tree) = queues::tree(port).filter(|_| !self.refused.contains(name)) else { continue };
            let index = indices.get(name.as_str()).copied();
            if index.is_none() {
                faults.push(Fault::new(&switch.name, Some(port.number), gone(name)));
            }
            // One that has come since the others were looked at is one that comes back.
            let index = index.filter(|i| record.get(name).is_some_and(|k| k.is_of(&self.boot, *i)));
            next.insert(name.clone(), Shaped { switch: switch.name.clone(), port: port.number, tree, index });
        }
        let over: Vec<String> = record
            .iter()
            .filter(|(name, kept)| !next.contains_key(*name) && !left.contains(&kept.switch))
            .map(|(name, _)| name.clone())
            .collect();
        let old = std::mem::take(&mut self.shaped);
        let meant: Vec<String> = next.keys().cloned().collect();
        next.extend(old.into_iter().filter(|(_, s)| left.contains(&s.switch)));
        self.shaped = next;
        let (mut changes, _) = self.set(&mut netlink, &meant, &mut faults)?;
        changes += self.give_back_all(&mut netlink, &over, &indices, &mut faults)?;
        Ok((changes, faults))
    }

    /// Gives back the queueing of these interfaces, if it is ours: to be called before Open vSwitch is told to shape them again.
    ///
    /// # Errors
    /// When the kernel does not say what there is.
    pub(super) fn give_back(&mut self, names: &[String]) -> Result<Vec<Fault>, Error> {
        let mut faults = Vec::new();
        let mut netlink = Netlink::open()?;
        let interfaces = link::list_bare(&mut netlink)?;
        let ours: Vec<String> = match self.record.get() {
            Ok(record) => names.iter().filter(|n| record.contains_key(*n)).cloned().collect(),
            Err(_) => Vec::new(),
        };
        self.shaped.retain(|name, _| !ours.contains(name));
        self.give_back_all(&mut netlink, &ours, &numbers(&interfaces), &mut faults)?;
        Ok(faults)
    }

    /// The interfaces whose queueing is ours and that are no ports with a rate any more.
    pub(super) fn over(&self, wanted: &[Switch], left: &[String]) -> Vec<String> {
        let ports = || wanted.iter().flat_map(|s| &s.ports).filter(|p| p.rate.is_some());
        let Ok(record) = self.record.get() else { return Vec::new() };
        let is_over = |name: &str, kept: &Kept| {
            !left.contains(&kept.switch)
                && (self.refused.contains(name) || !ports().any(|p| p.interface == name))
        };
        record.iter().filter(|(n, k)| is_over(n, k)).map(|(n, _)| n.clone()).collect()
    }

    /// Makes the queueing of these what `shaped` says. How many requests that took, and whose queueing had to be changed.
    fn set(
        &mut self,
        netlink: &mut Netlink,
        names: &[String],
        faults: &mut Vec<Fault>,
    ) -> Result<(usize, BTreeSet<String>), Error> {
        let Ok(record) = self.record.get() else { return Ok((0, BTreeSet::new())) };
        let list: Vec<(&String, &Shaped, u32)> = names
            .iter()
            .filter_map(|n| Some((n, self.shaped.get(n)?)))
            .filter_map(|(n, s)| Some((n, s, s.index?)))
            .filter(|(n, _, _)| record.contains_key(*n))
            .collect();
        let indices: Vec<u32> = list.iter().map(|(_, _, i)| *i).collect();
        let actual = Actual::read(netlink, &indices)?;
        // 1. What is to be told, and that it is being told.
        let mut begun = record.clone();
        let mut work = Vec::new();
        for (name, shaped, index) in list {
            let mut requests = tc::difference(index, actual.trees.get(&index), Some(&shaped.tree));
            let kind = actual.roots.get(&index).filter(|r| r.major == 1 && r.kind != "htb");
            if kind.is_some() && !requests.is_empty() {
                // The kernel replaces no root by one of another kind that has the same handle.
                requests.insert(0, tc::remove_root(index));
            }
            let done = Stage::Applied(words(&shaped.tree));
            let Some(kept) = begun.get_mut(name) else { continue };
            kept.switch.clone_from(&shaped.switch);
            let is_done = requests.is_empty() && kept.stage == done;
            if !is_done {
                kept.stage = Stage::Applying;
                work.push((name.clone(), requests, done, Fault::new(&shaped.switch, Some(shaped.port), "")));
            }
        }
        let mut ended = begun.clone();
        let is_due = work.iter().any(|(_, requests, _, _)| !requests.is_empty()) || work.is_empty();
        if is_due && let Err(error) = self.record.put(begun) {
            faults.extend(work.into_iter().map(|(_, _, _, f)| Fault { why: error.to_string(), ..f }));
            return Ok((0, BTreeSet::new()));
        }
        // 2. The kernel.
        let mut changes = 0;
        let mut changed = BTreeSet::new();
        for (name, requests, done, fault) in work {
            changes += requests.len();
            match netlink.batch(&requests) {
                Ok(()) => {
                    if let Some(kept) = ended.get_mut(&name) {
                        kept.stage = done;
                    }
                    if !requests.is_empty() {
                        changed.insert(name);
                    }
                }
                Err(error) => faults.push(Fault { why: error.to_string(), ..fault }),
            }
        }
        // 3. What is there now. A record that says `Applying` instead is no lie: any part of it is there.
        if let Err(error) = self.record.put(ended) {
            faults.push(Fault::new("", None, error.to_string()));
        }
        Ok((changes, changed))
    }

    fn give_back_all(
        &mut self,
        netlink: &mut Netlink,
        names: &[String],
        indices: &BTreeMap<&str, u32>,
        faults: &mut Vec<Fault>,
    ) -> Result<usize, Error> {
        let Ok(record) = self.record.get() else { return Ok(0) };
        if names.is_empty() {
            return Ok(0);
        }
        let there: Vec<u32> = names.iter().filter_map(|n| indices.get(n.as_str()).copied()).collect();
        let actual = Actual::read(netlink, &there)?;
        let mut next = record.clone();
        let mut changes = 0;
        for name in names {
            let Some(kept) = record.get(name) else { continue };
            // Another interface of its name, or the same after a restart of the machine: of ours nothing is there.
            let index = indices.get(name.as_str()).copied().filter(|i| kept.is_of(&self.boot, *i));
            if let Some(index) = index {
                let root = actual.roots.get(&index);
                let back = kept.found.as_ref().map(|f| f.root().request(index));
                let requests = match kept.whose(root, actual.trees.get(&index)) {
                    Whose::AsFound => Vec::new(),
                    Whose::Nobodys => back.into_iter().collect(),
                    Whose::Ours => std::iter::once(tc::remove_root(index)).chain(back).collect(),
                    Whose::Others => {
                        self.kept.push(others_have(name, root, kept));
                        Vec::new()
                    }
                };
                changes += requests.len();
                if let Err(error) = netlink.batch(&requests) {
                    faults.push(Fault::new("", None, format!("{name} is not given back: {error}")));
                    continue;
                }
            }
            next.remove(name);
        }
        if let Err(error) = self.record.put(next) {
            faults.push(Fault::new("", None, error.to_string()));
        }
        Ok(changes)
    }

    /// Puts right what somebody else has changed, and what has come back, since the last call; says it. `interfaces` are those there are.
    pub(super) fn mend(&mut self, interfaces: &[link::Interface]) -> (usize, Vec<Fault>) {
        let indices = numbers(interfaces);
        // 1. Interfaces that came, went, or are others of the same name.
        let mut said = Vec::new();
        let mut back = BTreeSet::new();
        for (name, shaped) in &mut self.shaped {
            let now = indices.get(name.as_str()).copied();
            if now == shaped.index {
                continue;
            }
            let why = match now {
                None => gone(name),
                Some(_) => {
                    back.insert(name.clone());
                    format!("{name} is back; its queueing is made again")
                }
            };
            said.push(Fault::new(&shaped.switch, Some(shaped.port), why));
            shaped.index = now;
        }
        let mut netlink = match Netlink::open() {
            Ok(netlink) => netlink,
            Err(error) => return (0, vec![Fault::new("", None, error.to_string())]),
        };
        if let Err(error) = self.came(&mut netlink, &back, &mut said) {
            said.push(Fault::new("", None, error.to_string()));
        }
        // 2. Those of which the kernel says that their queueing has changed: maybe by us.
        let all = || self.shaped.values().filter_map(|s| s.index).collect();
        let changed: BTreeSet<u32> = match self.listener.as_mut().map(tc::Listener::changed) {
            Some(Ok(Some(changed))) => changed,
            Some(Ok(None)) => all(),
            Some(Err(_)) | None => {
                self.listener = tc::Listener::open().ok();
                all()
            }
        };
        let look: Vec<String> = self
            .shaped
            .iter()
            .filter(|(name, s)| s.index.is_some_and(|i| changed.contains(&i)) || back.contains(*name))
            .map(|(name, _)| name.clone())
            .collect();
        if look.is_empty() {
            return (0, said);
        }
        let mut faults = Vec::new();
        match self.set(&mut netlink, &look, &mut faults) {
            Ok((changes, repaired)) => {
                for name in repaired.iter().filter(|n| !back.contains(*n)) {
                    let Some(shaped) = self.shaped.get(name) else { continue };
                    let why = format!("the queueing of {name} was changed by somebody else; it is put right");
                    said.push(Fault::new(&shaped.switch, Some(shaped.port), why));
                }
                for fault in faults {
                    let why =
                        format!("its queueing is not as wanted, and cannot be put right: {}", fault.why);
                    said.push(Fault { why, ..fault });
                }
                (changes, said)
            }
            Err(error) => {
                // Looked at again next time.
                self.listener = None;
                said.push(Fault::new("", None, error.to_string()));
                (0, said)
            }
        }
    }

    /// Interfaces that came since they were looked at: what they have is written down, or they are left to whoever has set it.
    fn came(
        &mut self,
        netlink: &mut Netlink,
        names: &BTreeSet<String>,
        said: &mut Vec<Fault>,
    ) -> Result<(), Error> {
        let Ok(record) = self.record.get() else { return Ok(()) };
        if names.is_empty() {
            return Ok(());
        }
        let roots = tc::roots(netlink)?;
        let mut next = record.clone();
        for name in names {
            let Some((shaped, index)) = self.shaped.get(name).and_then(|s| Some((s, s.index?))) else {
                continue;
            };
            if record.get(name).is_some_and(|k| k.is_of(&self.boot, index)) {
                continue;
            }
            let found = match roots.get(&index) {
                None => Ok(None),
                Some(root) => found(netlink, root, index, name, true)?,
            };
            match found {
                Ok(found) => {
                    let (switch, boot) = (shaped.switch.clone(), self.boot.clone());
                    let kept = Kept { switch, found, boot, index, by_ovs: false, stage: Stage::Prepared };
                    next.insert(name.clone(), kept);
                }
                Err(why) => {
                    said.push(Fault::new(&shaped.switch, Some(shaped.port), why));
                    next.remove(name);
                    self.refused.insert(name.clone());
                }
            }
        }
        self.shaped.retain(|name, _| !self.refused.contains(name));
        if let Err(error) = self.record.put(next) {
            said.push(Fault::new("", None, error.to_string()));
        }
        Ok(())
    }
}

/// The interfaces that a folder's record has; `None` when it is damaged.
pub(super) fn in_record(folder: &Path) -> Option<Vec<String>> {
    let record = Record::<Entries>::open(folder.join("queueing.json"));
    record.get().ok().map(|entries| entries.keys().cloned().collect())
}

fn gone(name: &str) -> String {
    format!("there is no interface {name}; is the card in, the cable named right? (`ip link` lists them)")
}

fn others_have(name: &str, root: Option<&tc::Root>, kept: &Kept) -> String {
    let now = root.map_or("another", |r| r.kind.as_str());
    let before = match &kept.found {
        Some(found) => format!(", and the {} that was there before is not put back", found.kind),
        None => String::new(),
    };
    format!(
        "the queueing of {name} was changed by somebody else since it was set; what is there now ({now}) stays{before} (`tc qdisc show \
         dev {name}`)"
    )
}

/// What is to be put back later; or why it could not be, in words.
fn found(
    netlink: &mut Netlink,
    root: &tc::Root,
    index: u32,
    name: &str,
    shaped: bool,
) -> Result<Result<Option<Found>, String>, Error> {
    if tc::is_bare(netlink, index, root)? {
        let (kind, major, options) = (root.kind.clone(), root.major, root.options.clone());
        return Ok(Ok(Some(Found { kind, major, options })));
    }
    let kind = &root.kind;
    Ok(Err(if shaped {
        format!(
            "{name} has a {kind} queueing of somebody else, whose classes could not be given back; take it away (tc qdisc del dev {name} root), or leave the port to it (queueing = false in agent.toml)"
        )
    } else {
        format!(
            "{name} has a {kind} queueing of somebody else, which Open vSwitch takes away from an interface that becomes its port and whose \
             classes could not be given back; take it away (tc qdisc del dev {name} root), or put the interface into its bridge before"
        )
    }))
}

/// The counters of a port's classes, in the order of their queue numbers.
pub(super) fn classes(netlink: &mut Netlink, port: &Port, index: u32) -> Vec<super::ClassReport> {
    if port.classes.is_empty() {
        return Vec::new();
    }
    let found = tc::classes(netlink, index).unwrap_or_default();
    (0..port.classes.len())
        .map(|n| {
            let class = found.iter().find(|c| c.id == queues::class_of(n));
            class.map_or(super::ClassReport::default(), |c| super::ClassReport {
                bytes: c.bytes,
                packets: c.packets,
                drops: c.drops.into(),
                queued: c.queued,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(stage: Stage, found: Option<Found>) -> Kept {
        Kept { switch: "edge1".into(), found, boot: "b".into(), index: 4, by_ovs: false, stage }
    }

    fn root(kind: &str, major: u16) -> tc::Root {
        tc::Root { kind: kind.into(), major, options: vec![1] }
    }

    /// Every stage with everything that may be there then.
    #[test]
    fn what_is_there_is_ours_only_by_the_record() {
        let tree = tc::Tree {
            default: 1,
            classes: vec![tc::Class::new(1, 0, 8_000_000, 8_000_000, 50)],
            filters: Vec::new(),
        };
        let mut changed = tree.clone();
        changed.classes[0].rate = 16_000;
        let tbf = Found { kind: "tbf".into(), major: 5, options: vec![1] };
        let applied = || Stage::Applied(words(&tree));
        let (htb, other_htb, tbf_root) = (root("htb", 1), root("htb", 9), root("tbf", 5));
        use Whose::{AsFound, Nobodys, Others, Ours};
        for (stage, there, actual, whose) in [
            (Stage::Prepared, None, None, Nobodys),
            (Stage::Prepared, Some(&tbf_root), None, AsFound),
            (Stage::Prepared, Some(&htb), Some(&tree), Others),
            (Stage::Applying, None, None, Nobodys),
            (Stage::Applying, Some(&tbf_root), None, AsFound),
            (Stage::Applying, Some(&htb), Some(&changed), Ours),
            (Stage::Applying, Some(&other_htb), None, Others),
            (applied(), None, None, Nobodys),
            (applied(), Some(&htb), Some(&tree), Ours),
            (applied(), Some(&htb), Some(&changed), Others),
            (applied(), Some(&htb), None, Others),
            (applied(), Some(&other_htb), None, Others),
            (applied(), Some(&tbf_root), None, AsFound),
        ] {
            let case = format!("{stage:?} {there:?}");
            assert_eq!(kept(stage, Some(tbf.clone())).whose(there, actual), whose, "{case}");
        }
        let by_ovs = Kept { by_ovs: true, ..kept(Stage::Prepared, None) };
        assert_eq!(by_ovs.whose(Some(&htb), Some(&changed)), AsFound, "vswitchd has made it");
    }

    fn some_kept() -> impl Strategy<Value = Kept> {
        let found = (".{0,9}", any::<u16>(), prop::collection::vec(any::<u8>(), 0..9));
        let found = found.prop_map(|(kind, major, options)| Found { kind, major, options });
        let stage =
            prop_oneof![Just(Stage::Prepared), Just(Stage::Applying), ".{0,20}".prop_map(Stage::Applied),];
        (".{0,9}", prop::option::of(found), ".{0,9}", any::<u32>(), any::<bool>(), stage).prop_map(
            |(switch, found, boot, index, by_ovs, stage)| Kept { switch, found, boot, index, by_ovs, stage },
        )
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written_and_another_text_is_damage_or_a_record(
            entries in prop::collection::btree_map(".{0,9}", some_kept(), 0..4),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("queueing.json");
            Record::<Entries>::open(file.clone()).put(entries.clone()).expect("room");
            if let Ok(bytes) = std::fs::read(&file) {
                let again = Record::<Entries>::open(file.clone());
                prop_assert_eq!(again.get().expect("whole"), &entries);
                let names: Vec<String> = entries.keys().cloned().collect();
                prop_assert_eq!(in_record(folder.path()), Some(names));
                // One byte of it is another: damage, or something that is put back as it says, never a panic.
                let mut other = bytes;
                let at = at.index(other.len());
                other[at] = byte;
                std::fs::write(&file, &other).expect("room");
                if let Ok(entries) = Record::<Entries>::open(file).get() {
                    for kept in entries.values() {
                        let _ = kept.whose(kept.found.as_ref().map(Found::root).as_ref(), None);
                    }
                }
            }
        }
    }

    #[test]
    fn records_of_earlier_releases_are_read() {
        let old = r#"{"p1":{"switch":"edge1","found":null},"p2":{"switch":"edge1","found":{"kind":"tbf","major":5,"options":[1,2]}}}"#;
        let entries: Entries = serde_json::from_str(old).expect("what an earlier release wrote");
        assert!(entries["p1"].is_of("any", 7) && entries["p1"].stage == Stage::Applying);
    }
}
