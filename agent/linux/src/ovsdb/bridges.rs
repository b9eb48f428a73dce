//! Makes bridges what is wanted, and gives them back.

use super::actual::{Found, FoundBridge};
use super::plan::{Difference, difference};
use super::refusals::refusals;
use super::{ActualBridge, Adopt, Error, Ovsdb, WantedBridge, WantedPort};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a transaction is tried whose bridges somebody else has changed between reading and
/// writing.
const TRIES: u32 = 5;

/// What has become of the wanted bridges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Whether anything had to be changed.
    pub changed: bool,
    /// What somebody else has changed since the owner set it and is therefore not given back, as
    /// text.
    pub kept: Vec<String>,
    /// For each wanted port: its bridge, its name, and whether it has its number, or why not. An
    /// interface that does not exist yet is attached by vswitchd as soon as it comes.
    pub ports: Vec<(String, String, Result<(), String>)>,
}

/// The bridges that are there, and what each of the wanted ones that cannot be has against it.
pub type Inspected = (Vec<ActualBridge>, Vec<(String, Error)>);

impl Ovsdb {
    /// Makes the bridges of `owner` what is wanted: one transaction with only the differences, or
    /// none if there are none. Then waits until vswitchd has carried it out, and reads back what
    /// has become of the ports.
    ///
    /// What it makes is marked with `owner` (`external_ids:tandem`). Marked bridges and ports that
    /// are no longer wanted are removed; what is not marked never is. A bridge of a wanted name
    /// without a mark is taken over, where `adopt` says so, and remembers how it was found, for
    /// [`Ovsdb::release`]. A port that somebody else has put into a wanted bridge stays; if it is
    /// wanted, it gets its number.
    ///
    /// Bridges named in `spared` stay as they are, marked or not: what is wanted of them is not
    /// known or cannot be.
    ///
    /// A taken-over bridge keeps its flows. One whose `fail_mode` was standalone and whose
    /// controller did not answer was a learning switch, and is none any more.
    ///
    /// # Errors
    /// Before anything is changed: [`Error::Invalid`], [`Error::OwnedByOther`],
    /// [`Error::PortElsewhere`], [`Error::PortInBond`], and [`Error::NotOurs`] and
    /// [`Error::WouldInterrupt`] unless `adopt` allows it, [`Error::DamagedRecord`];
    /// [`Error::Refused`] and [`Error::Changed`] by the database. After it:
    /// [`Error::VswitchdSilent`] when vswitchd takes longer than `limit`. Those of the connection
    /// at any time.
    pub fn sync_bridges(
        &mut self,
        owner: &str,
        wanted: &[WantedBridge],
        spared: &[String],
        adopt: Adopt,
        limit: Duration,
    ) -> Result<Synced, Error> {
        for _ in 0..TRIES {
            let mut found = self.find_bridges()?;
            let Difference { operations, kept } = difference(&found, owner, wanted, spared, adopt)?;
            let changed = !operations.is_empty();
            let Some(target) = self.commit(&operations, found.next_cfg)? else { continue };
            if changed || found.cur_cfg < target {
                self.wait_for_vswitchd(target, limit)?;
                found = self.find_bridges()?;
            }
            return Ok(Synced { changed, kept, ports: outcomes(&found, wanted) });
        }
        Err(Error::Changed { tries: TRIES })
    }

    /// What each of the bridges that cannot be has against it, found without changing anything;
    /// with [`Adopt::WithoutGap`] this names those whose forwarding would stop for a moment.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn refusals(
        &mut self,
        owner: &str,
        wanted: &[WantedBridge],
        adopt: Adopt,
    ) -> Result<Vec<(String, Error)>, Error> {
        Ok(refusals(&self.find_bridges()?, owner, wanted, adopt))
    }

    /// Removes all that carries the mark of `owner`, and gives back what was taken over as it was
    /// found. Waits until vswitchd has carried it out. What somebody else has changed since is
    /// reported and stays.
    ///
    /// A bridge of the owner's making that holds a port of somebody else is left to that port,
    /// without controllers.
    ///
    /// # Errors
    /// [`Error::VswitchdSilent`] when vswitchd takes longer than `limit`; [`Error::Refused`],
    /// [`Error::Changed`]; those of the connection.
    pub fn release(&mut self, owner: &str, limit: Duration) -> Result<Vec<String>, Error> {
        self.sync_bridges(owner, &[], &[], Adopt::No, limit).map(|synced| synced.kept)
    }

    /// What is there, and what each of the wanted bridges that cannot be has against it, as of one
    /// moment and without changing anything.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`]; those of the connection.
    pub fn inspect(
        &mut self,
        owner: &str,
        wanted: &[WantedBridge],
        adopt: Adopt,
    ) -> Result<Inspected, Error> {
        let found = self.find_bridges()?;
        difference(&found, owner, &[], &[], Adopt::No)?;
        let bridges = found.bridges.iter().map(|b| b.actual(&found.qos)).collect();
        Ok((bridges, refusals(&found, owner, wanted, adopt)))
    }

    /// The configuration number to wait for; `None` when a guard has found something else than was
    /// read.
    fn commit(&mut self, operations: &[Value], now: i64) -> Result<Option<i64>, Error> {
        if operations.is_empty() {
            return Ok(Some(now));
        }
        match self.transact(operations) {
            Ok(results) => {
                match results.get(operations.len() - 1).and_then(|r| r["rows"][0]["next_cfg"].as_i64()) {
                    Some(number) => Ok(Some(number)),
                    None => Err(Error::Garbled {
                        why: "the database has no row Open_vSwitch with next_cfg".into(),
                    }),
                }
            }
            Err(Error::Refused { operation, error, .. })
                if operation.starts_with("wait ") && error == "timed out" =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn outcomes(found: &Found, wanted: &[WantedBridge]) -> Vec<(String, String, Result<(), String>)> {
    let bridges: BTreeMap<&str, &FoundBridge> = found.bridges.iter().map(|b| (b.name.as_str(), b)).collect();
    let mut all = Vec::new();
    for bridge in wanted {
        let there = bridges.get(bridge.name.as_str());
        for port in &bridge.ports {
            let outcome = match there {
                Some(there) => outcome(there, port),
                None => Err("its bridge was removed meanwhile".into()),
            };
            all.push((bridge.name.clone(), port.name.clone(), outcome));
        }
    }
    all
}

fn outcome(bridge: &FoundBridge, wanted: &WantedPort) -> Result<(), String> {
    let interfaces = || bridge.ports.iter().flat_map(|p| &p.interfaces);
    let Some(interface) = interfaces().find(|i| i.name == wanted.name) else {
        return Err("it was removed meanwhile".into());
    };
    match interface.number() {
        Some(number) if number == wanted.number => Ok(()),
        Some(number) => {
            let holder = interfaces().find(|i| i.number() == Some(wanted.number));
            let holder = holder.map(|i| format!(", which {} has", i.name)).unwrap_or_default();
            Err(format!("it was given number {number} instead of {}{holder}", wanted.number))
        }
        None => Err(interface.row.text("error").unwrap_or("vswitchd has not attached it").to_owned()),
    }
}
