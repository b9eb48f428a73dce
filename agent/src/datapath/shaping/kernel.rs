//! Changes the kernel's queueing by the difference to the wanted one, with a record before and
//! after.

use super::entry::{Stage, Whose, words};
use super::{Kept, Shaped, Shaping};
use crate::desired::Fault;
use std::collections::{BTreeMap, BTreeSet};
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, tc};

/// The kernel's root queueing of all interfaces, and the trees of some.
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
    /// Sets the queueing of these interfaces to `shaped`. Returns the number of requests, and the
    /// interfaces that were changed.
    pub(super) fn set(
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
        // 1. Records what is changed, and that the change has begun.
        let mut begun = record.clone();
        let mut work = Vec::new();
        for (name, shaped, index) in list {
            let mut requests = tc::difference(index, actual.trees.get(&index), Some(&shaped.tree));
            let kind = actual.roots.get(&index).filter(|r| r.major == 1 && r.kind != "htb");
            if kind.is_some() && !requests.is_empty() {
                // The kernel does not replace a root by one of another kind with the same handle.
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
        // 3. Records the result. If that fails, the record `Applying` is still true: any part of
        //    the queueing may be there.
        if let Err(error) = self.record.put(ended) {
            faults.push(Fault::new("", None, error.to_string()));
        }
        Ok((changes, changed))
    }

    pub(super) fn give_back_all(
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
            // Another interface with this name, or the same one after a reboot: it has none of the
            // agent's queueing.
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
