//! `tandem check` and `tandem replay`: what needs no running controller.

use super::args::{GlobalArgs, print_json};
use super::machine;
use anyhow::Context;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use tandem_core::record_replay;

/// `tandem check`; false when the site file has faults. What this machine cannot do for it is no
/// fault.
///
/// # Errors
/// When it cannot be read.
pub fn check(global: &GlobalArgs, path: &Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the site file {}", path.display()))?;
    let site = match tandem_core::site::read(&text, &path.display().to_string()) {
        Ok(site) => site,
        Err(faults) if global.json => {
            print_json(&json!({ "ok": false, "faults": faults.faults }))?;
            return Ok(false);
        }
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(false);
        }
    };
    let t = &site.topology;
    let [gateways, switches, servers, links] =
        [t.gateways.len(), t.switches.len(), t.servers.len(), t.links.len()];
    let policies = tandem_core::site::policies();
    let notes = machine::notes(path);
    if global.json {
        let policies: BTreeMap<&str, Vec<String>> = policies.into_iter().collect();
        print_json(&json!({
            "ok": true,
            "gateways": gateways,
            "switches": switches,
            "servers": servers,
            "links": links,
            "policies": policies,
            "notes": notes,
        }))?;
        return Ok(true);
    }
    println!(
        "{}: {gateways} gateways, {switches} switches, {servers} servers, {links} links; no faults",
        site.name
    );
    for (key, names) in policies {
        println!("{key}: {}", names.join(", "));
    }
    notes.iter().for_each(|note| println!("note: {note}"));
    Ok(true)
}

/// `tandem replay`.
///
/// # Errors
/// Where the recording first goes another way, or cannot be read.
pub fn replay(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open the recording {}", path.display()))?;
    let events = record_replay::replay(BufReader::new(file))?;
    println!("{events} events, all decided the same");
    Ok(())
}
