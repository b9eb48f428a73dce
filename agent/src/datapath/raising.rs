//! Interfaces that are set up because they became ports: a card of a machine that nobody configured is down, and Open vSwitch leaves it so.
//!
//! Each is set up once, when it becomes a port or comes back as another interface of its name; a port that is switched off afterwards, by
//! OpenFlow or by hand, stays off. A file in the state folder remembers which ones were found down: they are set down again when they are
//! given back.

use crate::desired::{Fault, Switch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
struct Record {
    boot: String,
    interfaces: BTreeMap<String, Kept>,
}

/// See the module.
pub(super) struct Raising {
    file: PathBuf,
    boot: String,
    record: Record,
}

impl Raising {
    /// With what is remembered in the folder.
    pub(super) fn open(folder: &Path) -> Raising {
        let file = folder.join("interfaces.json");
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let record = if text.is_empty() {
            Record::default()
        } else {
            serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(
                    "{} is damaged: which interfaces were down is not known any more ({error})",
                    file.display()
                );
                Record::default()
            })
        };
        Raising { file, boot, record }
    }

    fn is_known(&self, name: &str, index: u32) -> bool {
        self.record.boot == self.boot && self.record.interfaces.get(name).is_some_and(|k| k.index == index)
    }

    /// True when there is an interface of a port that was not looked at yet.
    pub(super) fn is_due(&self, wanted: &[Switch], interfaces: &[link::Interface]) -> bool {
        let index: BTreeMap<&str, u32> = interfaces.iter().map(|i| (i.name.as_str(), i.index)).collect();
        let mut names = wanted.iter().flat_map(|s| s.ports.iter().map(|p| p.interface.as_str()));
        names.any(|name| index.get(name).is_some_and(|i| !self.is_known(name, *i)))
    }

    /// Sets up what became a port, and down again what is none any more. Switches named in `left` stay as they are. How many were changed,
    /// and what could not be done.
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
        let there: BTreeMap<String, link::Interface> =
            link::list_bare(netlink)?.into_iter().map(|i| (i.name.clone(), i)).collect();
        let mut next = Record { boot: self.boot.clone(), interfaces: BTreeMap::new() };
        let mut raise = Vec::new();
        for (switch, port) in wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
            let name = &port.interface;
            let before = self.record.interfaces.get(name);
            let Some(interface) = there.get(name) else {
                // It may come back; what it was is still known then.
                next.interfaces.extend(before.map(|k| (name.clone(), k.clone())));
                continue;
            };
            let mut raised = before.is_some_and(|k| k.raised);
            if !self.is_known(name, interface.index) && !interface.up {
                raised = true;
                raise.push((switch, port, interface.index));
            }
            let kept = Kept { switch: switch.name.clone(), index: interface.index, raised };
            next.interfaces.insert(name.clone(), kept);
        }
        let mut lower = Vec::new();
        for (name, kept) in &self.record.interfaces {
            if next.interfaces.contains_key(name) {
                continue;
            }
            if left.contains(&kept.switch) {
                next.interfaces.insert(name.clone(), kept.clone());
            } else if let Some(interface) = there.get(name).filter(|i| kept.raised && i.up) {
                lower.push((name, interface.index));
            }
        }
        // Before anything is touched: who is killed in between still knows what was down.
        if next != self.record
            && let Err(error) = self.save(&next)
        {
            let why =
                format!("{}: {error}; after a restart it is not known what was down", self.file.display());
            faults.push(Fault::new("", None, why));
        }
        let changes = raise.len() + lower.len();
        for (switch, port, index) in raise {
            if let Err(error) = netlink.batch(&[link::set_up(index, true)]) {
                faults.push(Fault::new(&switch.name, Some(port.number), error.to_string()));
            }
        }
        for (name, index) in lower {
            if let Err(error) = netlink.batch(&[link::set_up(index, false)]) {
                faults.push(Fault::new("", None, format!("{name} is not set down again: {error}")));
            }
        }
        self.record = next;
        Ok(changes)
    }

    fn save(&self, record: &Record) -> std::io::Result<()> {
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, serde_json::to_string(record)?)?;
        std::fs::rename(&beside, &self.file)
    }
}
