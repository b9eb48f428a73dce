//! `[[class]] servers`: the servers that a class's VMs go to, by name, by range and by edge switch.
//!
//! A name is a server's or an edge switch's (all servers whose first uplink is there). `srv3..srv7`
//! is a range: the server of the first name, that of the second, and all between them in the site's
//! order.

use super::ServiceClass;
use super::faults::Collector;
use super::section::Section;
use crate::text::nearest;
use crate::{ServerId, SwitchId, Topology};
use std::collections::BTreeSet;
use std::ops::Range;

/// What one class's table says, and where.
pub(super) struct ServerNames {
    names: Option<Vec<String>>,
    span: Range<usize>,
    path: String,
}

impl ServerNames {
    pub(super) fn read(s: &mut Section<'_>, c: &mut Collector<'_>) -> ServerNames {
        let names = s.texts(c, "servers");
        if names.as_ref().is_some_and(Vec::is_empty) {
            s.fault(
                c,
                "servers",
                "a class without servers takes no VM",
                "name servers, or leave the key out",
            );
        }
        ServerNames { names, span: s.span_of("servers"), path: s.path("servers") }
    }
}

/// Gives each class the servers that its table names.
pub(super) fn resolve(
    classes: &mut [ServiceClass],
    names: Vec<ServerNames>,
    topology: &Topology,
    c: &mut Collector<'_>,
) {
    for (class, said) in classes.iter_mut().zip(names) {
        let mut servers = BTreeSet::new();
        for name in said.names.into_iter().flatten() {
            match servers_of(&name, topology) {
                Ok(found) => servers.extend(found),
                Err((problem, instead)) => c.add(said.span.clone(), &said.path, problem, instead),
            }
        }
        class.servers = servers.into_iter().collect();
    }
}

fn server(name: &str, topology: &Topology) -> Option<ServerId> {
    let at = topology.servers.iter().position(|s| s.name == name)?;
    Some(ServerId(at as u32))
}

/// The servers of one entry, or what is wrong with it and what to write instead.
fn servers_of(entry: &str, topology: &Topology) -> Result<Vec<ServerId>, (String, String)> {
    let unknown = |name: &str| {
        let servers = topology.servers.iter().map(|s| s.name.as_str());
        let known: Vec<&str> = servers.chain(topology.switches.iter().map(|s| s.name.as_str())).collect();
        let guess = nearest(name, &known).map_or(String::new(), |k| format!("did you mean {k:?}? "));
        let instead = format!(
            "{guess}write a server's name, a range such as \"srv1..srv4\", or the name of an edge switch"
        );
        (format!("there is no server {name:?}"), instead)
    };
    if let Some((first, last)) = entry.split_once("..") {
        let (first, last) = (first.trim(), last.trim());
        let from = server(first, topology).ok_or_else(|| unknown(first))?;
        let to = server(last, topology).ok_or_else(|| unknown(last))?;
        if from > to {
            let instead = format!("write {last}..{first}");
            return Err((format!("{first} comes after {last}"), instead));
        }
        return Ok((from.0..=to.0).map(ServerId).collect());
    }
    if let Some(id) = server(entry, topology) {
        return Ok(vec![id]);
    }
    let at = topology.switches.iter().position(|s| s.name == entry).ok_or_else(|| unknown(entry))?;
    let behind: Vec<ServerId> = (0..topology.servers.len() as u32)
        .map(ServerId)
        .filter(|id| topology.edge_of(*id, 0) == Some(SwitchId(at as u32)))
        .collect();
    if behind.is_empty() {
        let instead = "name an edge switch that servers are plugged into".to_owned();
        return Err((format!("no server's first uplink is at {entry}"), instead));
    }
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use crate::site::{Faults, read};
    use crate::{ServerId, Site};

    /// A site of 2 edge switches with 3 servers each, whose class has these servers.
    fn with(servers: &str) -> Result<Site, Faults> {
        let text = format!(
            "[topology]\nshape = \"linear\"\nswitches = 2\nservers_per_switch = 3\n\
             [[class]]\nname = \"gold\"\nshare = 70\nservers = {servers}\n"
        );
        read(&text, "site.toml")
    }

    fn ids(servers: &str) -> Vec<u32> {
        let site = with(servers).unwrap_or_else(|faults| panic!("{faults}"));
        site.classes[0].servers.iter().map(|ServerId(n)| *n).collect()
    }

    #[test]
    fn names_ranges_and_edge_switches_are_servers() {
        assert_eq!(ids("[\"srv2\"]"), [1]);
        assert_eq!(ids("[\"srv5\", \"srv1..srv3\", \"srv2\"]"), [0, 1, 2, 4]);
        let site = with("[\"srv1\"]").unwrap_or_else(|faults| panic!("{faults}"));
        let edge = &site.topology.switches[1].name;
        assert_eq!(ids(&format!("[\"{edge}\", \"srv1 .. srv1\"]")), [0, 3, 4, 5]);
    }

    #[test]
    fn what_is_no_server_is_a_fault_with_its_place_and_a_guess() {
        for (servers, what) in [
            ("[\"srv22\"]", "there is no server \"srv22\""),
            ("[\"srv1..srw2\"]", "there is no server \"srw2\""),
            ("[\"srv3..srv1\"]", "srv3 comes after srv1"),
            ("[]", "a class without servers takes no VM"),
            ("[\"gw1\"]", "there is no server \"gw1\""),
            ("\"srv1\"", "this is not a list of texts"),
        ] {
            let faults = with(servers).expect_err(servers).to_string();
            assert!(faults.contains(what) && faults.contains("8:"), "{servers}: {faults}");
        }
        let faults = with("[\"srv22\"]").expect_err("no server").to_string();
        assert!(faults.contains("did you mean \"srv2\"?"), "{faults}");
    }
}
