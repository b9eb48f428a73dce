//! A datapath of the agent that drops everything: the smallest one there can be.
//!
//! `agent/tests/null_datapath.rs` compiles and runs this file, so it is true to the agent. To have
//! it in the agent, make it `agent/src/datapath/null/mod.rs`, with `crate::` for `tandem_agent::`;
//! docs/howto/add-a-datapath.md says what else there is to do (two lines).

use serde::Deserialize;
use std::collections::BTreeMap;
use tandem_agent::config::SwitchConfig;
use tandem_agent::datapath::registry::DatapathEntry;
use tandem_agent::datapath::{
    Adopt, ApplyResult, Datapath, PortCapabilities, PortReport, QueueSelection, SwitchCapabilities,
    SwitchReport,
};
use tandem_agent::desired::{Fault, Switch};
use tandem_agent_protocol::datapaths::{LabSetup, Management};

/// All that is asked of this kind before there is one.
pub(super) static ENTRY: DatapathEntry = DatapathEntry {
    about: "a switch that drops every packet",
    has_settings: true,
    // It is asked for switches of every kind, and speaks for its own alone.
    check: |switch| match switch.datapath.name() {
        "null" => Settings::read(switch).map(drop),
        _ => Ok(()),
    },
    open: |_, switches, _| Some(Box::new(Null::new(switches))),
    // There is nothing to look at: it needs no program, no module and no capability.
    doctor: |_, _| {},
    reads_in_user_space: |_| false,
    makes_bridges: false,
    records: |state| state.join("null"),
    lab: || LabSetup {
        title: "null switch".into(),
        place: "nothing".into(),
        needs_open_vswitch: false,
        management: Management::None,
        switch: "[switch.settings]\nlinks = true\n".into(),
        ports: Vec::new(),
    },
};

/// `[switch.settings]` of such a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Its ports report a link.
    #[serde(default)]
    links: bool,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// With the switch and what is wrong, for whoever wrote agent.toml.
    fn read(switch: &SwitchConfig) -> Result<Settings, String> {
        let table = toml::Value::Table(switch.settings.clone());
        table.try_into().map_err(|error: toml::de::Error| {
            format!("switch {:?}, [switch.settings]: {}", switch.name, error.message())
        })
    }
}

/// Its switches: what agent.toml says of them, and what was applied.
pub(super) struct Null {
    switches: Vec<SwitchConfig>,
    applied: BTreeMap<String, Switch>,
}

impl Null {
    /// With its switches of agent.toml.
    pub(super) fn new(switches: Vec<SwitchConfig>) -> Null {
        Null { switches, applied: BTreeMap::new() }
    }

    fn settings(&self, switch: &str) -> Settings {
        let own = self.switches.iter().find(|s| s.name == switch);
        // `check` has refused what cannot be read.
        own.and_then(|s| Settings::read(s).ok()).unwrap_or_default()
    }
}

impl Datapath for Null {
    fn capabilities(&mut self) -> Vec<SwitchCapabilities> {
        let switches = self.switches.iter().map(|switch| {
            let ports = switch.ports.iter().map(|port| PortCapabilities {
                number: port.number,
                interface: port.interface.clone(),
                // Without classes the controller grants none at such a port.
                selection: QueueSelection::None,
                speed: None,
            });
            SwitchCapabilities { name: switch.name.clone(), datapath: "null".into(), ports: ports.collect() }
        });
        switches.collect()
    }

    /// What it cannot do is said before anything is touched. A fault of a port leaves the others.
    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for switch in wanted {
            for port in switch.ports.iter().filter(|p| !p.classes.is_empty()) {
                let why = "it drops every packet, so it has no classes; take them out, or choose datapath = \"soft\"";
                faults.push(Fault::new(&switch.name, Some(port.number), why));
            }
        }
        faults
    }

    /// Nothing forwards, so no forwarding stops.
    fn disruptive_changes(&mut self, _: &[Switch]) -> Vec<Fault> {
        Vec::new()
    }

    /// Counts what differs from what is there: 0 changes when all was so already.
    fn apply(&mut self, wanted: &[Switch], left: &[String], _: Adopt) -> ApplyResult {
        let mut result = ApplyResult::default();
        let before = self.applied.len();
        self.applied.retain(|name, _| left.contains(name) || wanted.iter().any(|s| s.name == *name));
        result.changes += before - self.applied.len();
        for switch in wanted {
            if self.applied.get(&switch.name) != Some(switch) {
                self.applied.insert(switch.name.clone(), switch.clone());
                result.changes += 1;
            }
        }
        result
    }

    /// Nobody else can change what is in this process.
    fn reconcile(&mut self) -> ApplyResult {
        ApplyResult::default()
    }

    fn take_events(&mut self, _: bool) -> Vec<Fault> {
        Vec::new()
    }

    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        let switches = wanted.iter().map(|switch| {
            let up = self.settings(&switch.name).links;
            let ports = switch.ports.iter().map(|port| PortReport {
                number: port.number,
                interface: port.interface.clone(),
                up,
                ..PortReport::default()
            });
            SwitchReport { name: switch.name.clone(), ports: ports.collect(), card: None }
        });
        switches.collect()
    }

    /// It has taken nothing over, so there is nothing to give back and nothing that is left.
    fn release(&mut self) -> Result<Vec<String>, String> {
        self.applied.clear();
        Ok(Vec::new())
    }
}
