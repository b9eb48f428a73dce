//! The queueing of ports: sets it up as wanted, maintains it, and restores the former one on
//! release.
//!
//! A record in the state folder ([`super::record`]) lists the interfaces whose queueing was
//! changed, and their former queueing. Any other queueing belongs to others, whatever it looks
//! like. The stages of a port:
//! 1. [`Shaping::prepare`], before the interface becomes a port: its queueing is recorded
//!    ([`Stage::Prepared`]), or the port is refused because that queueing could not be restored.
//! 2. [`Shaping::apply`]: `Applying` is recorded, the kernel is changed, and `Applied` is recorded
//!    with what was set.
//! 3. When the port is no longer wanted, the agent's queueing is removed and the former one
//!    restored. A queueing that is neither (changed by others since) stays, and is reported.
//!
//! An agent that was killed between two of these finds in the record what may be in the kernel, and
//! continues from there.
//!
//! Between applications the kernel announces whose queueing has changed ([`tc::Listener`]); only
//! those interfaces are read again.

mod entry;
mod kernel;
mod reconcile;

pub(super) use entry::in_record;

use super::record::{self, Record, RecordError};
use crate::desired::{Fault, Port, Switch};
use crate::queues;
use entry::{Entries, Kept, Stage, Whose, found};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, link, tc};

/// What Open vSwitch's database says about an existing port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PortThere {
    /// Its bridge.
    pub(super) bridge: String,
    /// vswitchd shapes it (`Port.qos`).
    pub(super) by_ovs: bool,
    /// vswitchd shaped it until the agent cleared its `Port.qos`.
    pub(super) taken: bool,
}

/// Ports of Open vSwitch by name.
pub(super) type PortsThere = BTreeMap<String, PortThere>;

/// A shaped interface.
#[derive(Debug, Clone)]
struct Shaped {
    switch: String,
    port: u32,
    tree: tc::Tree,
    /// Its number when it was shaped; `None` while it does not exist.
    index: Option<u32>,
}

/// The queueing of the ports of one datapath.
pub(super) struct Shaping {
    record: Record<Entries>,
    boot: String,
    shaped: BTreeMap<String, Shaped>,
    /// Ports whose queueing belongs to others and stays.
    refused: BTreeSet<String>,
    /// Entries that the last preparation has added to the record.
    fresh: BTreeSet<String>,
    listener: Option<tc::Listener>,
    /// Queueing that others have changed since and that is therefore not restored, as text.
    kept: Vec<String>,
}

fn numbers(interfaces: &[link::Interface]) -> BTreeMap<&str, u32> {
    interfaces.iter().map(|i| (i.name.as_str(), i.index)).collect()
}

impl Shaping {
    /// Opens the record in the folder.
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

    /// Why nothing may be changed: the record is damaged.
    pub(super) fn damage(&self) -> Option<RecordError> {
        self.record.get().err()
    }

    /// Queueing that others have changed since and that was therefore not restored, each reported
    /// once.
    pub(super) fn take_kept(&mut self) -> Vec<String> {
        std::mem::take(&mut self.kept)
    }

    /// To be called before interfaces are added to bridges. Records their queueing; ports whose
    /// queueing could not be restored are refused, and [`Shaping::apply`] leaves them alone.
    /// `there` are the ports of Open vSwitch; `None` for a switch that leaves the queueing of its
    /// ports' interfaces in place, which vswitchd does not.
    ///
    /// When the kernel does not list the queueing.
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
        let new = self.unrecorded(record, wanted, there, &numbers(&interfaces));
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
            let by_ovs = at.is_some_and(|p| p.by_ovs);
            let found = match roots.get(&index) {
                // vswitchd removes the ingress queueing of an interface that becomes its port.
                _ if there.is_some() && at.is_none() && ingress.contains(&index) => Err(has_ingress(name)),
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

    /// The ports with interfaces that exist and are not in the record, with their numbers, if the
    /// agent will configure their queueing or Open vSwitch will remove it.
    fn unrecorded<'w>(
        &self,
        record: &Entries,
        wanted: &'w [Switch],
        there: Option<&PortsThere>,
        indices: &BTreeMap<&str, u32>,
    ) -> Vec<(&'w Switch, &'w Port, u32)> {
        let is_known = |name: &str, index: u32| record.get(name).is_some_and(|k| k.is_of(&self.boot, index));
        wanted
            .iter()
            .flat_map(|s| s.ports.iter().map(move |p| (s, p)))
            .filter_map(|(s, p)| Some((s, p, *indices.get(p.interface.as_str())?)))
            .filter(|(_, p, index)| !is_known(&p.interface, *index))
            // A port of Open vSwitch already, whose queueing others configure, loses nothing.
            .filter(|(_, p, _)| p.rate.is_some() || there.is_some_and(|t| !t.contains_key(&p.interface)))
            .collect()
    }

    /// Removes the entries that the last preparation has added for ports that were refused
    /// afterwards. An entry stays if the queueing has changed since, so that it will be restored.
    ///
    /// When the kernel does not list the queueing.
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

    /// Sets up the queueing of all ports with a rate, and restores that of the others. Ports of the
    /// switches named in `left` stay as they are. Returns the number of requests that changed
    /// something, and the faults.
    ///
    /// When the kernel does not list the queueing.
    pub(super) fn apply(&mut self, wanted: &[Switch], left: &[String]) -> Result<(usize, Vec<Fault>), Error> {
        let mut faults = Vec::new();
        let Ok(record) = self.record.get() else { return Ok((0, faults)) };
        let mut netlink = Netlink::open()?;
        // Opened before the first list, so that no change is missed.
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
            // An interface that appeared after the others were listed is handled as one that came
            // back.
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

    /// Restores the queueing of these interfaces, if the agent has configured it: to be called
    /// before Open vSwitch is configured to shape them again.
    ///
    /// When the kernel does not list the queueing.
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

    /// The interfaces whose queueing the agent configures and that are no longer ports with a rate.
    pub(super) fn over(&self, wanted: &[Switch], left: &[String]) -> Vec<String> {
        let ports = || wanted.iter().flat_map(|s| &s.ports).filter(|p| p.rate.is_some());
        let Ok(record) = self.record.get() else { return Vec::new() };
        let is_over = |name: &str, kept: &Kept| {
            !left.contains(&kept.switch)
                && (self.refused.contains(name) || !ports().any(|p| p.interface == name))
        };
        record.iter().filter(|(n, k)| is_over(n, k)).map(|(n, _)| n.clone()).collect()
    }
}

fn has_ingress(name: &str) -> String {
    format!(
        "{name} has an ingress queueing of somebody else, which Open vSwitch takes away from an interface that becomes its \
         port and which could not be given back; take it away (tc qdisc del dev {name} ingress), or name another interface"
    )
}

fn gone(name: &str) -> String {
    format!("there is no interface {name}; is the card in, the cable named right? (`ip link` lists them)")
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
