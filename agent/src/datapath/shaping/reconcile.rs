//! Checks between applications: interfaces that appeared or vanished, and queueing that others have
//! changed.

use super::entry::{Stage, found};
use super::{Kept, Shaping, gone, numbers};
use crate::desired::Fault;
use std::collections::{BTreeMap, BTreeSet};
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, link, tc};

impl Shaping {
    /// Repairs changes by others, and sets up interfaces that came back since the last call;
    /// reports both. `interfaces` are the existing ones.
    pub(in crate::datapath) fn reconcile(&mut self, interfaces: &[link::Interface]) -> (usize, Vec<Fault>) {
        let (back, mut said) = self.note_interfaces(&numbers(interfaces));
        let mut netlink = match Netlink::open() {
            Ok(netlink) => netlink,
            Err(error) => return (0, vec![Fault::new("", None, error.to_string())]),
        };
        if let Err(error) = self.came(&mut netlink, &back, &mut said) {
            said.push(Fault::new("", None, error.to_string()));
        }
        let changed = self.changed();
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
                // They are read again next time.
                self.listener = None;
                said.push(Fault::new("", None, error.to_string()));
                (0, said)
            }
        }
    }

    /// Updates the numbers of interfaces that appeared, vanished, or were replaced under the same
    /// name. Returns those that are back, and a report of all.
    fn note_interfaces(&mut self, indices: &BTreeMap<&str, u32>) -> (BTreeSet<String>, Vec<Fault>) {
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
        (back, said)
    }

    /// The numbers of interfaces whose queueing was changed by the kernel's notifications, perhaps
    /// by this agent; of all interfaces, if notifications were lost.
    fn changed(&mut self) -> BTreeSet<u32> {
        let all = || self.shaped.values().filter_map(|s| s.index).collect();
        match self.listener.as_mut().map(tc::Listener::changed) {
            Some(Ok(Some(changed))) => changed,
            Some(Ok(None)) => all(),
            Some(Err(_)) | None => {
                self.listener = tc::Listener::open().ok();
                all()
            }
        }
    }

    /// Handles interfaces that appeared: their queueing is recorded, or they are left alone if it
    /// could not be restored.
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
