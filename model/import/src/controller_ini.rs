//! From the ini file of the thesis' controller (Teixeira 2013, section 3.2) to keys of site.toml.
//!
//! | in the ini | in site.toml |
//! |---|---|
//! | `[topology] outside_link core_link agg_link edge_link`, in Mbit/s | `[bandwidth]` |
//! | `[host] cpu ram disk` (cores, MiB, GiB, where no unit is written) | `[servers]` |
//! | `[hostippool] dhcpip dns` | `[addresses] dhcp dns` |
//! | `[stats] polling_time hist_weight` | `[statistics] period history_weight` |
//! | `[vmallocation] algorithm`, `*_policy` | `[policy] allocation`, `[policy.joint]` |
//! | `[vmallocation] switch_ratio link_ratio` | `[policy] switch_margin link_margin` |
//!
//! The counts of switches are not in it: they are those of a conf.ini that is given besides, or
//! the defaults of the shape.

use crate::Source;
use crate::graph::leave;
use crate::ini::{Draft, Ini, Known, Origin, Value};
use crate::mininet_ini::{given, not};
use std::net::Ipv4Addr;
use tandem_model::Bytes;
use tandem_model::spellings::scaled;

/// What the controller's ini may say.
pub(crate) const KNOWN: Known = &[
    ("topology", &["outside_link", "core_link", "agg_link", "edge_link"]),
    ("host", &["cpu", "ram", "disk"]),
    ("hostippool", &["server", "gateway", "dhcpip", "vm", "dns"]),
    ("stats", &["polling_time", "hist_weight"]),
    ("statsexport", &["switchsratiodir", "linksratiodir"]),
    (
        "vmallocation",
        &[
            "algorithm",
            "core_policy",
            "agg_policy",
            "edge_policy",
            "host_policy",
            "switch_ratio",
            "link_ratio",
        ],
    ),
    ("vmreceiver", &["ip", "port"]),
];

/// Sections that conf.ini does not have.
pub(crate) fn recognises(source: Source<'_>) -> bool {
    let section = |line: &str| KNOWN.iter().any(|(s, _)| line.trim() == format!("[{s}]"));
    crate::ends_with(source.file, &[".ini", ".conf", ".cfg"]) && source.text.lines().any(section)
}

/// Writes the keys of the site that the ini has.
pub(crate) fn write(ini: &mut Ini<'_>, file: usize, draft: &mut Draft) {
    if draft.get("topology", "edge").is_none() {
        draft.decisions.push(
            "The controller's ini has no counts of switches: they are the defaults; give a conf.ini besides"
                .to_owned(),
        );
    }
    write_links(ini, file, draft);
    write_host(ini, file, draft);
    write_addresses(ini, file, draft);
    if let Some((value, origin)) = given(ini, file, "stats", "polling_time") {
        match scaled(value.text, 1_000) {
            Some(_) => {
                draft.set("statistics", "period", format!("\"{} s\"", value.text), Some(origin));
            }
            None => not(ini, &value, &origin.key, "a number of seconds"),
        }
    }
    if let Some((value, origin)) = given(ini, file, "stats", "hist_weight") {
        match ratio(value.text) {
            Some(weight) => {
                draft.set("statistics", "history_weight", weight, Some(origin));
            }
            None => not(ini, &value, &origin.key, "a weight from 0 to below 1"),
        }
    }
    write_policy(ini, file, draft);
    for (section, key, why) in [
        ("statsexport", "switchsratiodir", "the folder of CSV files is `tandem serve --csv`"),
        ("statsexport", "linksratiodir", "the folder of CSV files is `tandem serve --csv`"),
        ("vmreceiver", "ip", "where requests are taken is an option of `tandem serve`"),
        ("vmreceiver", "port", "where requests are taken is an option of `tandem serve`"),
        ("hostippool", "server", "a server has an address of its edge switch's prefix"),
        ("hostippool", "vm", "a VM has an address of its edge switch's prefix"),
        ("hostippool", "gateway", "gateways have addresses of their own prefix"),
    ] {
        if let Some(value) = ini.get(section, key) {
            let line = ini.line(&value.span);
            leave(&mut draft.leftovers, ini.file, line, format!("{section}.{key}"), why);
        }
    }
}

/// A rate that conf.ini has too stays as it is there: that is what the emulator sets, and this is
/// what the controller takes it for.
fn write_links(ini: &mut Ini<'_>, file: usize, draft: &mut Draft) {
    for (key, to) in [
        ("outside_link", "gateway"),
        ("core_link", "core"),
        ("agg_link", "aggregation"),
        ("edge_link", "edge"),
    ] {
        let Some((value, origin)) = given(ini, file, "topology", key) else { continue };
        let Some(rate) = scaled(value.text, 1_000_000) else {
            not(ini, &value, &origin.key, "a number of Mbit/s");
            continue;
        };
        let before = draft.get("bandwidth", to).map(str::to_owned);
        let Some(before) = before else {
            draft.set("bandwidth", to, format!("\"{} Mbit/s\"", value.text), Some(origin));
            continue;
        };
        let number = before.trim_matches('"').trim_end_matches(" Mbit/s");
        if scaled(number, 1_000_000) != Some(rate) {
            let why = format!("conf.ini says {number} Mbit/s, which the emulator sets");
            let what = format!("topology.{key} = {}", value.text);
            leave(&mut draft.leftovers, ini.file, ini.line(&value.span), what, why);
        }
    }
}

fn write_host(ini: &mut Ini<'_>, file: usize, draft: &mut Draft) {
    if let Some((value, origin)) = given(ini, file, "host", "cpu") {
        match value.text.parse::<u32>() {
            Ok(cpu) => {
                draft.set("servers", "cpu", cpu.to_string(), Some(origin));
            }
            Err(_) => not(ini, &value, &origin.key, "a number of cores"),
        }
    }
    for (key, unit) in [("ram", "MiB"), ("disk", "GiB")] {
        let Some((value, origin)) = given(ini, file, "host", key) else { continue };
        let bare = format!("{} {unit}", value.text);
        let size = [value.text, &bare].into_iter().find(|text| text.parse::<Bytes>().is_ok());
        match size {
            Some(size) => {
                draft.set("servers", key, format!("\"{size}\""), Some(origin));
            }
            None => not(ini, &value, &origin.key, &format!("a number of {unit}")),
        }
    }
}

fn write_addresses(ini: &mut Ini<'_>, file: usize, draft: &mut Draft) {
    let address = |ini: &mut Ini<'_>, value: &Value<'_>, origin: &Origin, text: &str| {
        let address = text.trim().parse::<Ipv4Addr>();
        if address.is_err() {
            let problem = format!("{:?} is not an IPv4 address", text.trim());
            ini.c.add(value.span.clone(), &origin.key, problem, "write an address, such as 10.0.0.1");
        }
        address.ok()
    };
    if let Some((value, origin)) = given(ini, file, "hostippool", "dhcpip")
        && let Some(dhcp) = address(ini, &value, &origin, value.text)
    {
        draft.set("addresses", "dhcp", format!("\"{dhcp}\""), Some(origin));
    }
    if let Some((value, origin)) = given(ini, file, "hostippool", "dns") {
        let servers: Vec<String> = (value.text.split([',', ' ']).filter(|t| !t.trim().is_empty()))
            .filter_map(|text| address(ini, &value, &origin, text))
            .map(|a| format!("\"{a}\""))
            .collect();
        draft.set("addresses", "dns", format!("[{}]", servers.join(", ")), Some(origin));
    }
}

fn write_policy(ini: &mut Ini<'_>, file: usize, draft: &mut Draft) {
    const SECTION: &str = "vmallocation";
    if let Some((value, origin)) = given(ini, file, SECTION, "algorithm") {
        let name = match value.text.to_ascii_uppercase().as_str() {
            "ND" => Some("network-driven"),
            "SD" => Some("server-driven"),
            _ => None,
        };
        match name {
            Some(name) => {
                draft.set("policy", "allocation", format!("\"{name}\""), Some(origin));
            }
            None => {
                let problem = format!("{:?} is no algorithm", value.text);
                let instead = "write ND (network-driven) or SD (server-driven)";
                ini.c.add(value.span, &origin.key, problem, instead);
            }
        }
    }
    for (key, to) in [("switch_ratio", "switch_margin"), ("link_ratio", "link_margin")] {
        let Some((value, origin)) = given(ini, file, SECTION, key) else { continue };
        match ratio(value.text) {
            Some(margin) => {
                draft.set("policy", to, margin, Some(origin));
            }
            None => not(ini, &value, &origin.key, "a ratio, such as 1.20"),
        }
    }
    for (key, to) in [
        ("core_policy", "core"),
        ("agg_policy", "aggregation"),
        ("edge_policy", "edge"),
        ("host_policy", "server"),
    ] {
        let Some((value, origin)) = given(ini, file, SECTION, key) else { continue };
        let fit = match value.text.to_ascii_uppercase().as_str() {
            "FF" => "first-fit",
            "BF" => "best-fit",
            "WF" => "worst-fit",
            _ => {
                let problem = format!("{:?} is no policy", value.text);
                ini.c.add(value.span, &origin.key, problem, "write FF, BF or WF (first, best, worst fit)");
                continue;
            }
        };
        draft.set("policy.joint", to, format!("\"{fit}\""), Some(origin));
    }
}

/// A decimal number as TOML has it.
fn ratio(text: &str) -> Option<String> {
    scaled(text, 1_000_000_000)?;
    Some(if text.contains('.') { text.to_owned() } else { format!("{text}.0") })
}
