//! Changes bridges to the wanted state, and releases them.

use super::actual::{Found, FoundBridge};
use super::plan::{Difference, difference};
use super::refusals::refusals;
use super::{ActualBridge, Adopt, Error, Ovsdb, WantedBridge, WantedPort};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a transaction is tried when somebody else changes its bridges between the read and the
/// write.
const TRIES: u32 = 5;

/// The result of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Whether a change was necessary.
    pub changed: bool,
    /// Settings that somebody else has changed since the owner set them, and that were therefore
    /// not restored, as text.
    pub kept: Vec<String>,
    /// For each wanted port: its bridge, its name, and whether it has its number, or why not.
    /// vswitchd attaches an interface as soon as it exists.
    pub ports: Vec<(String, String, Result<(), String>)>,
}

/// The actual bridges, and the reason against each wanted bridge that cannot be set up.
pub type Inspected = (Vec<ActualBridge>, Vec<(String, Error)>);

impl Ovsdb {
    /// Changes the bridges of `owner` to the wanted state, in one transaction with only the
    /// differences, or in none if there are none. Then waits until vswitchd has executed it, and
    /// reads the state of the ports.
    ///
    /// What it creates is marked with `owner` (`external_ids:tandem`). Marked bridges and ports
    /// that are no longer wanted are removed; unmarked ones never are. An unmarked bridge with a
    /// wanted name is adopted if `adopt` allows it, and its settings are recorded for
    /// [`Ovsdb::release`]. A port that somebody else has put into a wanted bridge stays; if it is
    /// wanted, it gets its number.
    ///
    /// Bridges named in `spared` are not changed, marked or not: their wanted state is unknown or
    /// impossible.
    ///
    /// An adopted bridge keeps its flows. If its `fail_mode` was standalone and its controller did
    /// not answer, it was a learning switch before, and is one no longer.
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

    /// The reason against each wanted bridge that cannot be set up, found without changing
    /// anything; with [`Adopt::WithoutGap`] also names those whose forwarding would be interrupted.
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

    /// Removes everything with the mark of `owner`, and restores what it adopted to its former
    /// state. Waits until vswitchd has executed it. Settings that somebody else has changed since
    /// are reported and stay.
    ///
    /// A bridge of the owner that has a foreign port stays for that port, without controllers.
    ///
    /// # Errors
    /// [`Error::VswitchdSilent`] when vswitchd takes longer than `limit`; [`Error::Refused`],
    /// [`Error::Changed`]; those of the connection.
    pub fn release(&mut self, owner: &str, limit: Duration) -> Result<Vec<String>, Error> {
        self.sync_bridges(owner, &[], &[], Adopt::No, limit).map(|synced| synced.kept)
    }

    /// The actual bridges, and the reason against each wanted bridge that cannot be set up, read in
    /// one transaction and without changing anything.
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

    /// The configuration number to wait for; `None` when a guard shows that something was changed
    /// since it was read.
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
