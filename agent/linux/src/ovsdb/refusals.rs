//! Finds the reasons against a wanted bridge, before anything is changed.

use super::actual::{Found, FoundBridge, FoundPort};
use super::desired::{Adopt, WantedBridge};
use super::{Error, Gap};
use std::collections::BTreeMap;

/// The reason against each wanted bridge that cannot be set up.
pub(super) fn refusals(
    found: &Found,
    owner: &str,
    wanted: &[WantedBridge],
    adopt: Adopt,
) -> Vec<(String, Error)> {
    let by_name: BTreeMap<&str, &FoundBridge> = found.bridges.iter().map(|b| (b.name.as_str(), b)).collect();
    let places = places(found);
    let refusal = |bridge: &WantedBridge| {
        let there = by_name.get(bridge.name.as_str()).copied();
        refuse(bridge, there, owner, adopt, &places).err().map(|why| (bridge.name.clone(), why))
    };
    wanted.iter().filter_map(refusal).collect()
}

/// The bridge and port that an interface is in.
struct Place<'a> {
    bridge: &'a FoundBridge,
    port: &'a FoundPort,
}

fn places(found: &Found) -> BTreeMap<&str, Place<'_>> {
    let mut places = BTreeMap::new();
    for bridge in &found.bridges {
        for port in &bridge.ports {
            places.insert(port.name.as_str(), Place { bridge, port });
            for interface in &port.interfaces {
                places.insert(interface.name.as_str(), Place { bridge, port });
            }
        }
    }
    places
}

fn refuse(
    wanted: &WantedBridge,
    there: Option<&FoundBridge>,
    owner: &str,
    adopt: Adopt,
    places: &BTreeMap<&str, Place<'_>>,
) -> Result<(), Error> {
    let other = |bridge: &FoundBridge, by: Option<&str>| match by {
        Some(by) if by != owner => {
            Err(Error::OwnedByOther { bridge: bridge.name.clone(), owner: by.to_owned() })
        }
        _ => Ok(()),
    };
    match there {
        Some(bridge) => other(bridge, bridge.owner())?,
        None => {
            if let Some(place) = places.get(wanted.name.as_str()) {
                return Err(elsewhere(&wanted.name, place));
            }
        }
    }
    for port in &wanted.ports {
        let Some(place) = places.get(port.name.as_str()) else { continue };
        let ours = place.port.owner() == Some(owner);
        if place.port.name != port.name || !place.port.interfaces.iter().any(|i| i.name == port.name) {
            return Err(Error::PortInBond {
                port: port.name.clone(),
                bond: place.port.name.clone(),
                bridge: place.bridge.name.clone(),
            });
        }
        // Checked after the bond: a member of a bond is not a port that could be moved.
        if place.bridge.name != wanted.name && (!ours || place.bridge.name == port.name) {
            return Err(elsewhere(&port.name, place));
        }
        other(place.bridge, place.port.owner())?;
        let interface = place.port.interfaces.iter().find(|i| i.name == port.name);
        other(place.bridge, interface.and_then(|i| i.owner()))?;
    }
    let foreign = there.filter(|b| b.owner().is_none());
    if foreign.is_some() && adopt == Adopt::No {
        return Err(Error::NotOurs { bridge: wanted.name.clone() });
    }
    match foreign.filter(|_| adopt == Adopt::WithoutGap).and_then(|b| gap(b, wanted)) {
        Some(gap) => Err(Error::WouldInterrupt { bridge: wanted.name.clone(), gap }),
        None => Ok(()),
    }
}

fn elsewhere(port: &str, place: &Place<'_>) -> Error {
    Error::PortElsewhere { port: port.to_owned(), bridge: place.bridge.name.clone() }
}

/// The reason why adopting a bridge would interrupt its forwarding.
fn gap(there: &FoundBridge, wanted: &WantedBridge) -> Option<Gap> {
    if there.datapath_type() != wanted.datapath_type {
        let (from, to) = (there.datapath_type().to_owned(), wanted.datapath_type.clone());
        return Some(Gap::DatapathType { from, to });
    }
    match (there.controllers.is_empty(), wanted.controllers.is_empty()) {
        (true, false) => return Some(Gap::FirstController),
        (false, true) => return Some(Gap::LastController),
        _ => {}
    }
    wanted.ports.iter().find_map(|port| {
        let interfaces = &there.ports.iter().find(|p| p.name == port.name)?.interfaces;
        let from = interfaces.iter().find(|i| i.name == port.name)?.number()?;
        (from != port.number).then(|| Gap::PortNumber { port: port.name.clone(), from, to: port.number })
    })
}
