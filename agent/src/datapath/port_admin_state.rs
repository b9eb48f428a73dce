//! Sets interfaces up when they become ports: an unconfigured card is down, and Open vSwitch leaves
//! it down.
//!
//! Each is set up once, when it becomes a port or comes back as another interface of its name; a
//! port that is turned off afterwards, by OpenFlow or by hand, stays off. A file in the state
//! folder records which ones were down before: they are set down again on release.

use super::record::{self, Record, RecordError};
use crate::desired::{Fault, Port, Switch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, link};

/// An interface that became a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    switch: String,
    /// Its interface number at that time.
    index: u32,
    /// It was down before.
    raised: bool,
}

/// The record since the machine was booted, as interface numbers change with a boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entries {
    boot: String,
    interfaces: BTreeMap<String, Kept>,
}

/// The changes between a record and the wanted ports.
struct Difference<'w> {
    /// The record after the changes.
    next: Entries,
    /// The interfaces to set up: of which port, and their numbers.
    raise: Vec<(&'w Switch, &'w Port, u32)>,
    /// The interfaces to set down: their names, records and numbers.
    lower: Vec<(String, Kept, u32)>,
}

/// The admin state of the interfaces of one datapath's ports.
pub(super) struct PortAdminState {
    boot: String,
    record: Record<Entries>,
}

impl Entries {
    fn knows(&self, boot: &str, name: &str, index: u32) -> bool {
        self.boot == boot && self.interfaces.get(name).is_some_and(|k| k.index == index)
    }
}

impl PortAdminState {
    /// Opens the record in the folder.
    pub(super) fn open(folder: &Path) -> PortAdminState {
        PortAdminState { boot: record::boot(), record: Record::open(folder.join("interfaces.json")) }
    }

    /// Why nothing may be changed: the record is damaged.
    pub(super) fn damage(&self) -> Option<RecordError> {
        self.record.get().err()
    }

    /// Whether an interface of a port was not handled yet.
    fn is_due(&self, wanted: &[Switch], interfaces: &[link::Interface]) -> bool {
        let index: BTreeMap<&str, u32> = interfaces.iter().map(|i| (i.name.as_str(), i.index)).collect();
        let Ok(record) = self.record.get() else { return false };
        let mut names = wanted.iter().flat_map(|s| s.ports.iter().map(|p| p.interface.as_str()));
        names.any(|name| index.get(name).is_some_and(|i| !record.knows(&self.boot, name, *i)))
    }

    /// Sets interfaces of new ports up, and those of former ports down again. Switches named in
    /// `left` stay as they are. Returns the number of changes, and the faults.
    pub(super) fn apply(&mut self, wanted: &[Switch], left: &[String]) -> (usize, Vec<Fault>) {
        let mut faults = Vec::new();
        let changes =
            Netlink::open().and_then(|mut netlink| self.difference(&mut netlink, wanted, left, &mut faults));
        let changes = changes.unwrap_or_else(|error| {
            faults.push(Fault::new("", None, error.to_string()));
            0
        });
        (changes, faults)
    }

    /// Sets interfaces up that appeared since the last call: of the switches in `made`. Those that
    /// are wanted, but could not be made, stay as they are, like those in `left`.
    pub(super) fn apply_new(
        &mut self,
        made: &[Switch],
        wanted: &[Switch],
        left: &[String],
        interfaces: &[link::Interface],
    ) -> (usize, Vec<Fault>) {
        if !self.is_due(made, interfaces) {
            return (0, Vec::new());
        }
        let refused = wanted.iter().map(|s| &s.name).filter(|n| !made.iter().any(|m| m.name == **n));
        let left: Vec<String> = left.iter().chain(refused).cloned().collect();
        self.apply(made, &left)
    }

    fn difference(
        &mut self,
        netlink: &mut Netlink,
        wanted: &[Switch],
        left: &[String],
        faults: &mut Vec<Fault>,
    ) -> Result<usize, Error> {
        let record = match self.record.get() {
            Ok(record) => record,
            Err(error) => {
                faults.push(Fault::new("", None, error.to_string()));
                return Ok(0);
            }
        };
        let there: BTreeMap<String, link::Interface> =
            link::list_bare(netlink)?.into_iter().map(|i| (i.name.clone(), i)).collect();
        let Difference { mut next, raise, lower } = self.compare(record, wanted, left, &there);
        // Written before anything is changed, and with the interfaces that still have to go down:
        // an agent that is killed in between still knows which ones were down.
        let mut begun = next.clone();
        begun.interfaces.extend(lower.iter().map(|(name, kept, _)| (name.clone(), kept.clone())));
        if let Err(error) = self.record.put(begun) {
            faults.push(Fault::new("", None, error.to_string()));
            return Ok(0);
        }
        let changes = raise.len() + lower.len();
        for (switch, port, index) in raise {
            if let Err(error) = netlink.batch(&[link::set_up(index, true)]) {
                faults.push(Fault::new(&switch.name, Some(port.number), error.to_string()));
            }
        }
        next.interfaces.extend(set_down(netlink, lower, faults));
        if let Err(error) = self.record.put(next) {
            faults.push(Fault::new("", None, error.to_string()));
        }
        Ok(changes)
    }

    /// Compares the record with the wanted ports; `there` are the existing interfaces.
    fn compare<'w>(
        &self,
        record: &Entries,
        wanted: &'w [Switch],
        left: &[String],
        there: &BTreeMap<String, link::Interface>,
    ) -> Difference<'w> {
        let mut next = Entries { boot: self.boot.clone(), interfaces: BTreeMap::new() };
        let mut raise = Vec::new();
        for (switch, port) in wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
            let name = &port.interface;
            let before = record.interfaces.get(name);
            let Some(interface) = there.get(name) else {
                // The interface may come back; its former state is still recorded then.
                next.interfaces.extend(before.map(|k| (name.clone(), k.clone())));
                continue;
            };
            let mut raised = before.is_some_and(|k| k.raised);
            if !record.knows(&self.boot, name, interface.index) && !interface.up {
                raised = true;
                raise.push((switch, port, interface.index));
            }
            let kept = Kept { switch: switch.name.clone(), index: interface.index, raised };
            next.interfaces.insert(name.clone(), kept);
        }
        let mut lower = Vec::new();
        for (name, kept) in &record.interfaces {
            if next.interfaces.contains_key(name) {
                continue;
            }
            if left.contains(&kept.switch) {
                next.interfaces.insert(name.clone(), kept.clone());
            } else if let Some(interface) = there.get(name).filter(|i| kept.raised && i.up) {
                lower.push((name.clone(), kept.clone(), interface.index));
            }
        }
        Difference { next, raise, lower }
    }
}

/// Sets interfaces down again; returns those that failed.
fn set_down(
    netlink: &mut Netlink,
    interfaces: Vec<(String, Kept, u32)>,
    faults: &mut Vec<Fault>,
) -> Vec<(String, Kept)> {
    let mut left = Vec::new();
    for (name, kept, index) in interfaces {
        if let Err(error) = netlink.batch(&[link::set_up(index, false)]) {
            faults.push(Fault::new("", None, format!("{name} is not set down again: {error}")));
            left.push((name, kept));
        }
    }
    left
}
