//! The record of an interface whose queueing the agent configures, and the owner of a queueing by
//! that record.

use crate::datapath::record::Record;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tandem_linux::netlink::Netlink;
use tandem_linux::{Error, tc};

/// The root queueing of an interface before the agent changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) kind: String,
    pub(super) major: u16,
    pub(super) options: Vec<u8>,
}

impl Found {
    pub(super) fn root(&self) -> tc::Root {
        tc::Root { kind: self.kind.clone(), major: self.major, options: self.options.clone() }
    }
}

/// The progress of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// The former queueing is recorded; nothing of the agent's is in the kernel. Open vSwitch may
    /// have removed the former queueing.
    Prepared,
    /// The kernel is being changed: any part of the agent's queueing may be there.
    Applying,
    /// This queueing was set ([`words`]).
    Applied(String),
}

/// An interface whose queueing the agent configures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) switch: String,
    /// The queueing to restore; `None` for the kernel's default, or for that which Open vSwitch
    /// sets up itself (`by_ovs`).
    pub(super) found: Option<Found>,
    /// The machine's boot and the interface's number when the record was made; empty in records of
    /// earlier releases.
    #[serde(default)]
    pub(super) boot: String,
    #[serde(default)]
    pub(super) index: u32,
    /// It belonged to Open vSwitch, whose database has it.
    #[serde(default)]
    pub(super) by_ovs: bool,
    /// Empty in records of earlier releases, which wrote the record and changed the kernel at once.
    #[serde(default = "Stage::of_earlier_releases")]
    pub(super) stage: Stage,
}

impl Stage {
    pub(super) fn of_earlier_releases() -> Stage {
        Stage::Applying
    }
}

/// By interface.
pub(super) type Entries = BTreeMap<String, Kept>;

/// The owner of a root queueing, by the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The kernel's default, without an owner.
    Nobodys,
    /// The former queueing.
    AsFound,
    /// The agent's queueing, or a part of it.
    Ours,
    /// Another program's: it was changed since.
    Others,
}

/// A tree as text in a form that is the same in every release, with its parts sorted.
pub(super) fn words(tree: &tc::Tree) -> String {
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
    pub(super) fn is_of(&self, boot: &str, index: u32) -> bool {
        self.boot.is_empty() || (self.boot == boot && self.index == index)
    }

    pub(super) fn whose(&self, root: Option<&tc::Root>, tree: Option<&tc::Tree>) -> Whose {
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

/// The interfaces in a folder's record; `None` when it is damaged.
pub(in crate::datapath) fn in_record(folder: &Path) -> Option<Vec<String>> {
    let record = Record::<Entries>::open(folder.join("queueing.json"));
    record.get().ok().map(|entries| entries.keys().cloned().collect())
}

/// The queueing to restore later; or why that would not be possible, as text.
pub(super) fn found(
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

    /// Every stage, with everything that may be in the kernel then.
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
                // With one byte changed, the record is damaged, or restores what it says, without a
                // panic.
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
