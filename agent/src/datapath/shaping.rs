//! The queueing of ports: makes it what is wanted, keeps it so, and gives it back as it was found.
//!
//! A file in the state folder remembers whose queueing was touched and what was there before; it is written before the kernel is told, so
//! that an agent that was killed in between knows on its next start. Between applications the kernel itself tells whose queueing has
//! changed ([`tc::Listener`]); only those interfaces are read again.

use crate::desired::{Fault, Port, Switch};
use crate::queues;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, link, tc};

/// What was found as the root queueing of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    kind: String,
    major: u16,
    options: Vec<u8>,
}

/// An interface whose queueing is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    switch: String,
    /// What is to be put back; `None` is the kernel's own choice.
    found: Option<Found>,
}

/// By interface.
type Record = BTreeMap<String, Kept>;

/// An interface that is shaped.
#[derive(Debug, Clone)]
struct Shaped {
    switch: String,
    port: u32,
    tree: tc::Tree,
    /// Its number when it was shaped; `None` while there is no such interface.
    index: Option<u32>,
}

/// See the module.
pub(super) struct Shaping {
    file: PathBuf,
    record: Record,
    shaped: BTreeMap<String, Shaped>,
    listener: Option<tc::Listener>,
}

fn load(file: &Path) -> Record {
    let Ok(text) = std::fs::read_to_string(file) else { return Record::default() };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(
            "{} is damaged: what was there before is not known any more ({error})",
            file.display()
        );
        Record::default()
    })
}

fn numbers(interfaces: &[link::Interface]) -> BTreeMap<&str, u32> {
    interfaces.iter().map(|i| (i.name.as_str(), i.index)).collect()
}

impl Shaping {
    /// With what is remembered in the folder.
    pub(super) fn open(folder: &Path) -> Shaping {
        let file = folder.join("queueing.json");
        Shaping { record: load(&file), file, shaped: BTreeMap::new(), listener: None }
    }

    fn save(&self, record: &Record) -> std::io::Result<()> {
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, serde_json::to_string(record)?)?;
        std::fs::rename(&beside, &self.file)
    }

    /// Makes the queueing of all ports that have a rate what is wanted, and gives back that of the others. Ports of the switches named in
    /// `left` stay as they are. The number of requests that changed something, and what could not be done.
    ///
    /// # Errors
    /// When the kernel does not say what there is.
    pub(super) fn apply(&mut self, wanted: &[Switch], left: &[String]) -> Result<(usize, Vec<Fault>), Error> {
        let (mut changes, mut faults) = (0, Vec::new());
        let mut netlink = Netlink::open()?;
        // From before the first look, so that no change is missed.
        if self.listener.is_none() {
            self.listener = tc::Listener::open().ok();
        }
        let interfaces = link::list_bare(&mut netlink)?;
        let indices = numbers(&interfaces);
        let mut next: BTreeMap<String, Shaped> = BTreeMap::new();
        for (switch, port) in wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
            let Some(tree) = queues::tree(port) else { continue };
            let index = indices.get(port.interface.as_str()).copied();
            let shaped = Shaped { switch: switch.name.clone(), port: port.number, tree, index };
            next.insert(port.interface.clone(), shaped);
        }
        // 1. What is touched for the first time is remembered with what is there.
        let new: Vec<String> = next.keys().filter(|n| !self.record.contains_key(*n)).cloned().collect();
        if !new.is_empty() {
            let roots = tc::roots(&mut netlink)?;
            let mut record = self.record.clone();
            for name in new {
                let Some((switch, index)) = next.get(&name).and_then(|s| Some((s.switch.clone(), s.index?)))
                else {
                    continue;
                };
                match found(&mut netlink, roots.get(&index), index)? {
                    Ok(found) => drop(record.insert(name, Kept { switch, found })),
                    Err(kind) => {
                        if let Some(refused) = next.remove(&name) {
                            let why = format!(
                                "{name} has a {kind} queueing of somebody else, whose classes could not be given back; take it away (tc qdisc del dev {name} root), or leave the port to it (queueing = false in agent.toml)"
                            );
                            faults.push(Fault::new(&refused.switch, Some(refused.port), why));
                        }
                    }
                }
            }
            self.remember(record, &mut faults);
        }
        // 2. The difference.
        let known: Vec<u32> = next
            .values()
            .filter_map(|s| s.index)
            .chain(self.record.keys().filter_map(|n| indices.get(n.as_str()).copied()))
            .collect::<BTreeSet<u32>>()
            .into_iter()
            .collect();
        let actual = tc::read_all(&mut netlink, &known)?;
        for (name, shaped) in &next {
            let Some(index) = shaped.index else {
                let why = gone(name);
                faults.push(Fault::new(&shaped.switch, Some(shaped.port), why));
                continue;
            };
            let requests = tc::difference(index, actual.get(&index), Some(&shaped.tree));
            changes += requests.len();
            if let Err(error) = netlink.batch(&requests) {
                faults.push(Fault::new(&shaped.switch, Some(shaped.port), error.to_string()));
            }
        }
        // 3. What is no longer wanted.
        let over: Vec<String> = self
            .record
            .iter()
            .filter(|(name, kept)| !next.contains_key(*name) && !left.contains(&kept.switch))
            .map(|(name, _)| name.clone())
            .collect();
        let mut record = self.record.clone();
        for (name, kept) in &mut record {
            if let Some(shaped) = next.get(name) {
                kept.switch.clone_from(&shaped.switch);
            }
        }
        for name in over {
            if let Some(index) = indices.get(name.as_str()) {
                let mut requests = tc::difference(*index, actual.get(index), None);
                if let Some(found) = record.get(&name).and_then(|k| k.found.clone()) {
                    let root = tc::Root { kind: found.kind, major: found.major, options: found.options };
                    requests.push(root.request(*index));
                }
                changes += requests.len();
                if let Err(error) = netlink.batch(&requests) {
                    faults.push(Fault::new("", None, format!("{name} is not given back: {error}")));
                    continue;
                }
            }
            record.remove(&name);
        }
        self.remember(record, &mut faults);
        let old = std::mem::take(&mut self.shaped);
        next.extend(old.into_iter().filter(|(_, s)| left.contains(&s.switch)));
        self.shaped = next;
        Ok((changes, faults))
    }

    fn remember(&mut self, record: Record, faults: &mut Vec<Fault>) {
        if record == self.record {
            return;
        }
        if let Err(error) = self.save(&record) {
            let why = format!(
                "{}: {error}; after a restart it is not known what was there before",
                self.file.display()
            );
            faults.push(Fault::new("", None, why));
        }
        self.record = record;
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
                Some(index) => {
                    back.insert(index);
                    format!("{name} is back; its queueing is made again")
                }
            };
            said.push(Fault::new(&shaped.switch, Some(shaped.port), why));
            shaped.index = now;
        }
        // 2. Those of which the kernel says that their queueing has changed: maybe by us.
        let changed = match self.listener.as_mut().map(tc::Listener::changed) {
            Some(Ok(Some(changed))) => changed,
            Some(Ok(None)) => self.shaped.values().filter_map(|s| s.index).collect(),
            Some(Err(_)) | None => {
                self.listener = tc::Listener::open().ok();
                self.shaped.values().filter_map(|s| s.index).collect()
            }
        };
        let look: Vec<(&String, &Shaped, u32)> = self
            .shaped
            .iter()
            .filter_map(|(n, s)| Some((n, s, s.index?)))
            .filter(|(_, _, i)| changed.contains(i) || back.contains(i))
            .collect();
        if look.is_empty() {
            return (0, said);
        }
        match repair(&look, &back, &mut said) {
            Ok(changes) => (changes, said),
            Err(error) => {
                // Looked at again next time.
                self.listener = None;
                said.push(Fault::new("", None, error.to_string()));
                (0, said)
            }
        }
    }
}

fn gone(name: &str) -> String {
    format!("there is no interface {name}; is the card in, the cable named right? (`ip link` lists them)")
}

/// What is to be put back later; or the kind of what cannot be.
fn found(
    netlink: &mut Netlink,
    root: Option<&tc::Root>,
    index: u32,
) -> Result<Result<Option<Found>, String>, Error> {
    let Some(root) = root else { return Ok(Ok(None)) };
    if !root.is_classful() {
        let (kind, major, options) = (root.kind.clone(), root.major, root.options.clone());
        return Ok(Ok(Some(Found { kind, major, options })));
    }
    // Ours, of an agent whose state is lost: by its form.
    let tree = if root.kind == "htb" { tc::read(netlink, index)? } else { None };
    let is_ours = tree.is_some_and(|t| {
        let ids: Vec<(u16, u16)> = t.classes.iter().map(|c| (c.id, c.parent)).collect();
        t.classes.is_empty()
            || ids == [(1, 0)]
            || ids.iter().all(|(id, parent)| *parent == queues::INNER || (*id, *parent) == (queues::INNER, 0))
    });
    Ok(if is_ours { Ok(None) } else { Err(root.kind.clone()) })
}

fn repair(
    look: &[(&String, &Shaped, u32)],
    back: &BTreeSet<u32>,
    said: &mut Vec<Fault>,
) -> Result<usize, Error> {
    let mut netlink = Netlink::open()?;
    let indices: Vec<u32> = look.iter().map(|(_, _, i)| *i).collect();
    let actual = tc::read_all(&mut netlink, &indices)?;
    let mut changes = 0;
    for (name, shaped, index) in look {
        let requests = tc::difference(*index, actual.get(index), Some(&shaped.tree));
        if requests.is_empty() {
            continue;
        }
        changes += requests.len();
        let outcome = netlink.batch(&requests);
        let why = match outcome {
            Ok(()) if back.contains(index) => continue,
            Ok(()) => format!("the queueing of {name} was changed by somebody else; it is put right"),
            Err(error) => {
                format!("the queueing of {name} is not as wanted, and cannot be put right: {error}")
            }
        };
        said.push(Fault::new(&shaped.switch, Some(shaped.port), why));
    }
    Ok(changes)
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
