//! Interfaces that are set up because they became ports: a card of a machine that nobody configured
//! is down, and Open vSwitch leaves it so.
//!
//! Each is set up once, when it becomes a port or comes back as another interface of its name; a
//! port that is switched off afterwards, by OpenFlow or by hand, stays off. A file in the state
//! folder remembers which ones were found down: they are set down again when they are given back.

use super::record::{self, Record, RecordError};
use crate::desired::{Fault, Switch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, link};

/// An interface that became a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    switch: String,
    /// Its number then.
    index: u32,
    /// It was down.
    raised: bool,
}

/// What was done since the machine was started: numbers begin anew with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entries {
    boot: String,
    interfaces: BTreeMap<String, Kept>,
}

/// The interfaces of one datapath's ports that were set up because they became ports.
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
    /// With what is remembered in the folder.
    pub(super) fn open(folder: &Path) -> PortAdminState {
        PortAdminState { boot: record::boot(), record: Record::open(folder.join("interfaces.json")) }
    }

    /// Why nothing may be touched.
    pub(super) fn damage(&self) -> Option<RecordError> {
        self.record.get().err()
    }

    /// True when there is an interface of a port that was not looked at yet.
    pub(super) fn is_due(&self, wanted: &[Switch], interfaces: &[link::Interface]) -> bool {
        let index: BTreeMap<&str, u32> = interfaces.iter().map(|i| (i.name.as_str(), i.index)).collect();
        let Ok(record) = self.record.get() else { return false };
        let mut names = wanted.iter().flat_map(|s| s.ports.iter().map(|p| p.interface.as_str()));
        names.any(|name| index.get(name).is_some_and(|i| !record.knows(&self.boot, name, *i)))
    }

    /// Sets up what became a port, and down again what is none any more. Switches named in `left`
    /// stay as they are. How many were changed, and what could not be done.
    pub(super) fn apply(
        &mut self,
        netlink: &mut Netlink,
        wanted: &[Switch],
        left: &[String],
    ) -> (usize, Vec<Fault>) {
        let mut faults = Vec::new();
        let changes = self.difference(netlink, wanted, left, &mut faults).unwrap_or_else(|error| {
            faults.push(Fault::new("", None, error.to_string()));
            0
        });
        (changes, faults)
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
        let mut next = Entries { boot: self.boot.clone(), interfaces: BTreeMap::new() };
        let mut raise = Vec::new();
        for (switch, port) in wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
            let name = &port.interface;
            let before = record.interfaces.get(name);
            let Some(interface) = there.get(name) else {
                // It may come back; what it was is still known then.
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
        // Before anything is touched, and those that go down again stay in it until they are: who
        // is killed in between still knows what was down.
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
}

/// Sets interfaces down again; returns those that could not be.
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
