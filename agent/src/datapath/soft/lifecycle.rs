//! Starts and ends the engines of switches, and saves the flows for the next process.

use super::datapath::Soft;
use super::running::{RunningSwitch, is_other, shared};
use super::{Engine, Target};
use crate::datapath::ApplyResult;
use crate::desired::{Fault, Switch};
use crate::local_socket;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tandem_openflow::switch::{Config, Description};

/// OpenFlow version bytes from Open vSwitch's names.
pub(super) fn versions(protocols: &[String]) -> Result<Vec<u8>, String> {
    let version = |word: &String| match word.as_str() {
        "OpenFlow10" => Ok(1),
        "OpenFlow13" => Ok(4),
        other => Err(format!("protocol {other:?}: this switch speaks OpenFlow10 and OpenFlow13")),
    };
    protocols.iter().map(version).collect()
}

pub(super) fn targets(switch: &Switch) -> Result<Vec<Target>, String> {
    switch.controllers.iter().map(|c| Target::parse(c, &switch.name)).collect()
}

impl Soft {
    /// The configuration of a switch, with its kind in the description (OFPMP_DESC).
    pub(super) fn switch_config(&self, switch: &Switch) -> Result<Config, String> {
        Ok(Config {
            dpid: switch.datapath_id,
            versions: versions(&switch.protocols)?,
            description: Description {
                manufacturer: "Tandem".into(),
                hardware: self.kind.into(),
                software: concat!("tandem-agent ", env!("CARGO_PKG_VERSION")).into(),
                serial: "None".into(),
                datapath: switch.name.clone(),
            },
            // A card has one look-up.
            tables: if self.kind == "netfpga" { 1 } else { Config::default().tables },
            ..Config::default()
        })
    }

    pub(super) fn start(&self, switch: &Switch) -> Result<RunningSwitch, String> {
        let said = |what: &str, path: &Path| {
            let path = path.display().to_string();
            let what = what.to_owned();
            move |error: std::io::Error| format!("{what} {path}: {error}")
        };
        std::fs::create_dir_all(&self.folder).map_err(said("making", &self.folder))?;
        let path = self.folder.join(format!("{}.mgmt", switch.name));
        let peers = local_socket::peers(self.group.as_deref()).map_err(|e| e.to_string())?;
        let listener = local_socket::listen(&path, self.group.as_deref())
            .map_err(|error| format!("listening on {}: {error}", path.display()))?;
        let flows = std::fs::read(self.flows(&switch.name)).unwrap_or_default();
        let io = (self.make)(switch)?;
        let engine =
            Engine::start(&switch.name, self.switch_config(switch)?, io, Some((listener, peers)), flows)
                .map_err(|e| format!("starting its engine: {e}"))?;
        Ok(RunningSwitch {
            engine,
            switch: switch.clone(),
            ports: Vec::new(),
            sent: Vec::new(),
            faults: Vec::new(),
            locks: BTreeMap::new(),
            known: self.known.get(&switch.name).cloned(),
            kept: 0,
        })
    }

    pub(super) fn flows(&self, switch: &str) -> PathBuf {
        self.folder.join(format!("{switch}.flows"))
    }

    /// Starts new engines, ends those that are no longer wanted, and sets the controllers of each.
    pub(super) fn engines(&mut self, wanted: &[Switch], left: &[String], outcome: &mut ApplyResult) {
        let running = self.running.clone();
        let mut running = shared(&running);
        let before = running.0.len();
        running.0.retain(|name, _| wanted.iter().any(|s| s.name == *name) || left.contains(name));
        outcome.changes += before - running.0.len();
        for switch in wanted {
            let is_other = running.0.get(&switch.name).is_some_and(|one| is_other(one, switch));
            if is_other {
                running.0.remove(&switch.name);
            }
            if !running.0.contains_key(&switch.name) {
                match self.start(switch) {
                    Ok(one) => drop(running.0.insert(switch.name.clone(), one)),
                    Err(why) => {
                        outcome.faults.push(Fault::new(&switch.name, None, why));
                        continue;
                    }
                }
                outcome.changes += 1;
            }
            let Some(one) = running.0.get_mut(&switch.name) else { continue };
            one.ports.clone_from(&switch.ports);
            match targets(switch) {
                Ok(targets) => drop(one.engine.set_controllers(targets)),
                Err(why) => outcome.faults.push(Fault::new(&switch.name, None, why)),
            }
            one.switch.controllers.clone_from(&switch.controllers);
        }
    }

    /// Removes switches whose thread has ended by a panic, so that they are started again.
    pub(super) fn ended(&mut self) -> Vec<Fault> {
        let mut said = Vec::new();
        shared(&self.running).0.retain(|name, one| {
            let runs = one.engine.runs();
            if !runs {
                let why = "its engine has ended, which it should not; it is started again with the flows that were kept";
                said.push(Fault::new(name, None, why));
            }
            runs
        });
        said
    }

    /// Saves the flows of switches whose tables have changed.
    pub(super) fn keep(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let running = self.running.clone();
        for (name, one) in &mut shared(&running).0 {
            let (generation, flows) = match one.engine.kept(one.kept) {
                Ok(Some(kept)) => kept,
                Ok(None) => continue,
                Err(error) => {
                    faults.push(Fault::new(name, None, error.to_string()));
                    continue;
                }
            };
            one.kept = generation;
            let file = self.flows(name);
            let beside = file.with_extension("new");
            let written = std::fs::write(&beside, flows).and_then(|()| std::fs::rename(&beside, &file));
            if let Err(error) = written {
                let why = format!("its flows could not be kept for a restart: {}: {error}", file.display());
                faults.push(Fault::new(name, None, why));
            }
        }
        faults
    }
}
