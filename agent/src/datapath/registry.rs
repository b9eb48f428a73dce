//! The registry of all kinds of datapaths, and the open datapaths of a host.

use super::{Adopt, ApplyResult, Datapath, RunMode, SwitchCapabilities, SwitchDump, SwitchReport, shaping};
use crate::config::{Config, SwitchConfig};
use crate::desired::{Fault, Switch};
use crate::doctor::Findings;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tandem_agent_protocol::datapaths::{DatapathDescription, LabSetup};
use tandem_model::{DatapathKind, with_datapath_kinds};

macro_rules! entries_of {
    ($($constant:ident: $name:ident,)*) => {
        [$((DatapathKind::$constant, &super::$name::ENTRY)),*]
    };
}

/// Every kind, in the order in which they are opened and applied: the `ENTRY` of each folder that
/// the model's list names ([`with_datapath_kinds`]).
pub static REGISTRY: [(DatapathKind, &DatapathEntry); DatapathKind::ALL.len()] =
    with_datapath_kinds!(entries_of);

/// Opens a datapath for its switches of a host.
pub type OpenDatapath = fn(&Config, Vec<SwitchConfig>, RunMode) -> Option<Box<dyn Datapath>>;

/// The properties and functions of a kind of datapath that the agent needs before one is open.
pub struct DatapathEntry {
    /// A description of one line.
    pub about: &'static str,
    /// True if it has settings of its own for a switch: the table `[switch.settings]` of agent.toml,
    /// which `check` reads. Elsewhere such a table is refused.
    pub has_settings: bool,
    /// Finds contradictions in a switch of agent.toml. It is called for switches of every kind,
    /// since settings of this kind in a switch of another kind are a mistake too.
    pub check: fn(&SwitchConfig) -> Result<(), String>,
    /// Opens it for its switches; `None` if it has nothing to set up and nothing to restore.
    pub open: OpenDatapath,
    /// Its checks in `tandem-agent doctor`; without a configuration, those that apply to any host.
    pub doctor: fn(Option<&Config>, &mut Findings),
    /// True if its ports' packets are read in user space, where merged packets are dropped.
    pub reads_in_user_space: fn(&Config) -> bool,
    /// True if its switches are bridges of Open vSwitch: a port may then already be in a bridge
    /// with the switch's name.
    pub makes_bridges: bool,
    /// The folder below the state folder with its records.
    pub records: fn(&Path) -> PathBuf,
    /// What a lab sets up for its switches on this machine.
    pub lab: fn() -> LabSetup,
}

/// The entry of a kind.
pub fn entry(kind: DatapathKind) -> Option<&'static DatapathEntry> {
    REGISTRY.iter().find(|(of, _)| *of == kind).map(|(_, entry)| *entry)
}

/// The output of `tandem-agent datapaths`: every kind of this program, in the registry's order.
pub fn describe() -> Vec<DatapathDescription> {
    let describe = |(kind, entry): &(DatapathKind, &DatapathEntry)| DatapathDescription {
        name: kind.name().to_owned(),
        about: entry.about.to_owned(),
        lab: (entry.lab)(),
    };
    REGISTRY.iter().map(describe).collect()
}

/// The interfaces whose queueing belongs to the agent by the records of a state folder; `None` when
/// one is damaged.
pub fn queueing_in_record(state: &Path) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for (_, entry) in REGISTRY {
        all.extend(shaping::in_record(&(entry.records)(state))?);
    }
    Some(all)
}

/// A datapath with the names of its switches.
struct Opened {
    switches: BTreeSet<String>,
    datapath: Box<dyn Datapath>,
}

impl Opened {
    fn own(&self, wanted: &[Switch]) -> Vec<Switch> {
        wanted.iter().filter(|s| self.switches.contains(&s.name)).cloned().collect()
    }
}

/// All datapaths of a host, each with its switches.
pub struct Datapaths(Vec<Opened>);

impl Datapaths {
    /// Opens the datapaths that a configuration names, and those that may have something to
    /// restore.
    pub fn open(config: &Config, mode: RunMode) -> Datapaths {
        let open = |(kind, entry): &(DatapathKind, &DatapathEntry)| {
            let of_kind = config.switches.iter().filter(|s| s.datapath == *kind);
            let own: Vec<SwitchConfig> = of_kind.cloned().collect();
            let switches = own.iter().map(|s| s.name.clone()).collect();
            Some(Opened { switches, datapath: (entry.open)(config, own, mode)? })
        };
        Datapaths(REGISTRY.iter().filter_map(open).collect())
    }

    /// See [`Datapath::capabilities`].
    pub fn capabilities(&mut self) -> Vec<SwitchCapabilities> {
        self.0.iter_mut().flat_map(|o| o.datapath.capabilities()).collect()
    }

    /// See [`Datapath::validate`] and [`Datapath::apply`]: a switch with a fault is not changed.
    pub fn apply(&mut self, wanted: &[Switch], adopt: Adopt) -> ApplyResult {
        let mut all = ApplyResult::default();
        for opened in &mut self.0 {
            let own = opened.own(wanted);
            let faults = opened.datapath.validate(&own);
            let is_refused = |s: &Switch| faults.iter().any(|f| f.switch == s.name && f.port.is_none());
            let (left, sound): (Vec<Switch>, Vec<Switch>) = own.into_iter().partition(is_refused);
            let left: Vec<String> = left.into_iter().map(|s| s.name).collect();
            let result = opened.datapath.apply(&sound, &left, adopt);
            all.faults.extend(faults);
            all.add(result);
        }
        all
    }

    /// See [`Datapath::disruptive_changes`].
    pub fn disruptive_changes(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let mut all = Vec::new();
        for opened in &mut self.0 {
            let own = opened.own(wanted);
            all.extend(opened.datapath.disruptive_changes(&own));
        }
        all
    }

    /// See [`Datapath::reconcile`].
    pub fn reconcile(&mut self) -> ApplyResult {
        let mut all = ApplyResult::default();
        self.0.iter_mut().for_each(|o| all.add(o.datapath.reconcile()));
        all
    }

    /// See [`Datapath::take_events`].
    pub fn take_events(&mut self, wait: bool) -> Vec<Fault> {
        self.0.iter_mut().flat_map(|o| o.datapath.take_events(wait)).collect()
    }

    /// See [`Datapath::report`].
    pub fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        let mut all = Vec::new();
        for opened in &mut self.0 {
            let own = opened.own(wanted);
            all.extend(opened.datapath.report(&own));
        }
        all
    }

    /// See [`Datapath::dump_flows`].
    pub fn dump_flows(&mut self) -> Vec<(String, SwitchDump)> {
        self.0.iter_mut().flat_map(|o| o.datapath.dump_flows()).collect()
    }

    /// See [`Datapath::release`]. A datapath that fails does not keep the others from releasing.
    ///
    /// With what could not be restored.
    pub fn release(&mut self) -> Result<Vec<String>, String> {
        let mut kept = Vec::new();
        let mut left = Vec::new();
        for opened in &mut self.0 {
            match opened.datapath.release() {
                Ok(others) => kept.extend(others),
                Err(why) => left.push(why),
            }
        }
        if left.is_empty() { Ok(kept) } else { Err(left.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_share_their_records_and_what_a_lab_writes_for_each_is_read_back() {
        let folders: BTreeSet<PathBuf> = REGISTRY.iter().map(|(_, e)| (e.records)(Path::new("/s"))).collect();
        assert_eq!(folders.len(), REGISTRY.len(), "each gives back only what it has taken");
        for description in describe() {
            let DatapathDescription { name, lab, .. } = description;
            let mut text = format!(
                "name = \"a\"\ncontroller = \"tcp:a:1\"\n[[switch]]\nname = \"s\"\ndatapath = {name:?}\n{}",
                lab.switch
            );
            for n in 0..=lab.ports.len() {
                let more = lab.ports.get(n).map_or("", String::as_str);
                text.push_str(&format!("[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\n{more}"));
            }
            let config = Config::parse(&text).unwrap_or_else(|e| panic!("{name}: {e:#}\n{text}"));
            assert_eq!(config.switches[0].datapath.name(), name);
        }
    }
}
