//! From the `conf.ini` of the thesis's Mininet environment (Teixeira 2013, appendix A) to a
//! `site.toml`.
//!
//! Faults name the lines of `conf.ini`, also those that only the site's own checks find. What a
//! site does not have (queues, ports and paths of the thesis's tools) is named in a comment of the
//! result, so that nothing is lost silently.

use super::faults::{Collector, Faults};
use super::read::read;
use crate::spellings::scaled;
use crate::text::nearest;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

/// How a value is written on the other side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// A whole number under this key.
    Count(&'static str),
    /// Mbit/s under this key.
    Rate(&'static str),
    /// A number from 0 to 1: the share of UDP.
    UdpRatio,
    /// Not at all, for this reason.
    Left(&'static str),
}

const OWN_TIMERS: &str = "hosts are probed by ARP when they are silent";
const NO_QUEUES: &str = "a site has no queues yet";
const OWN_PORTS: &str = "traffic is generated without iperf";
const OWN_SOCKET: &str = "the API's socket is an option of `tandem serve`";

/// Section, key, meaning; in the order of the result. `queue_bw1`, `queue_bw2` ... stand behind
/// `queue_bw`.
const KEYS: [(&str, &str, As); 18] = [
    ("TopologyHosts", "out_no", As::Count("topology.gateways")),
    ("TopologySwitches", "core_no", As::Count("topology.core")),
    ("TopologySwitches", "agg_no", As::Count("topology.aggregation")),
    ("TopologySwitches", "edge_no", As::Count("topology.edge")),
    ("TopologyHosts", "host_no", As::Count("topology.servers_per_edge")),
    ("TopologyLinks", "coretooutlinkno", As::Count("topology.core_gateway_links")),
    ("TopologyLinks", "aggtocorelinkno", As::Count("topology.aggregation_core_links")),
    ("TopologyLinks", "edgetoagglinkno", As::Count("topology.edge_aggregation_links")),
    ("SwitchBandwidth", "out_bw", As::Rate("bandwidth.gateway")),
    ("SwitchBandwidth", "core_bw", As::Rate("bandwidth.core")),
    ("SwitchBandwidth", "agg_bw", As::Rate("bandwidth.aggregation")),
    ("SwitchBandwidth", "edge_bw", As::Rate("bandwidth.edge")),
    ("Traffic", "udp_ratio", As::UdpRatio),
    ("TopologyHosts", "host_detectable_time", As::Left(OWN_TIMERS)),
    ("SwitchQueues", "queue_no", As::Left(NO_QUEUES)),
    ("SwitchQueues", "queue_bw", As::Left(NO_QUEUES)),
    ("Traffic", "iperf_port", As::Left(OWN_PORTS)),
    ("Socket", "socket_path", As::Left(OWN_SOCKET)),
];

/// What stands in the file: by section and key, where and what.
type Entries<'a> = BTreeMap<(&'static str, String), (Range<usize>, &'a str)>;

/// Translates a `conf.ini`; the result is a site file that [`read`] takes.
///
/// # Errors
/// All faults, each with its line and column in `conf.ini`.
pub fn from_mininet_ini(text: &str, file: &str) -> Result<String, Faults> {
    let mut c = Collector::new(text);
    let (entries, sections) = entries(text, &mut c);
    let site = write_site(&entries, &sections, &mut c);
    if !c.is_empty() {
        return Err(c.finish(file));
    }
    if let Err(faults) = read(&site, "site.toml") {
        for fault in faults.faults {
            let origin = KEYS.iter().find(|(.., meaning)| match meaning {
                As::Count(key) | As::Rate(key) => *key == fault.key,
                As::UdpRatio | As::Left(_) => false,
            });
            let place = origin.and_then(|(section, key, _)| {
                let (span, _) = entries.get(&(*section, (*key).to_owned()))?;
                Some((span.clone(), format!("{section}.{key}")))
            });
            let whole = || (sections.first().map_or(0..0, |(_, span)| span.clone()), String::new());
            let (span, key) = place.unwrap_or_else(whole);
            c.add(span, &key, fault.problem, fault.instead);
        }
        return Err(c.finish(file));
    }
    Ok(site)
}

type Sections = Vec<(&'static str, Range<usize>)>;

/// Reads the lines: `[Section]`, `key = value` or `key: value`, comments behind `#` and `;`.
fn entries<'a>(text: &'a str, c: &mut Collector<'_>) -> (Entries<'a>, Sections) {
    let mut entries = Entries::new();
    let mut sections = Sections::new();
    let mut section = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let at = start;
        start += line.len();
        let content = line.trim();
        let offset = at + (line.len() - line.trim_start().len());
        let span = offset..offset + content.len();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = content.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
            section = KEYS.iter().map(|(s, ..)| *s).find(|s| *s == name.trim());
            match section {
                Some(known) => sections.push((known, span)),
                None => c.add(span, name, "unknown section", section_hint(name)),
            }
            continue;
        }
        let Some((key, value)) = content.split_once(['=', ':']) else {
            let instead = "write `key = value`, or `#` before a comment";
            c.add(span, "", "neither a section nor a key with its value", instead);
            continue;
        };
        let Some(section) = section else {
            if sections.is_empty() {
                let instead = "write it under a section, such as [TopologySwitches]";
                c.add(span, "", "a key before any section", instead);
            }
            continue;
        };
        let name = key.trim().to_lowercase();
        let key_span = offset..offset + key.trim_end().len();
        let path = format!("{section}.{name}");
        if meaning(section, &name).is_none() {
            let known: Vec<&str> = KEYS.iter().filter(|(s, ..)| *s == section).map(|(_, k, _)| *k).collect();
            let guess = nearest(&name, &known).map_or(String::new(), |k| format!("did you mean `{k}`? "));
            c.add(key_span, &path, "unknown key", format!("{guess}Known here: {}", known.join(", ")));
            continue;
        }
        let value_at = offset + key.len() + 1 + (value.len() - value.trim_start().len());
        let value = value.trim();
        let comment = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
        let value = value[..comment.unwrap_or(value.len())].trim_end();
        let value_span = if value.is_empty() { key_span } else { value_at..value_at + value.len() };
        if entries.insert((section, name), (value_span.clone(), value)).is_some() {
            c.add(value_span, &path, "written twice", "keep one of them");
        }
    }
    (entries, sections)
}

fn section_hint(name: &str) -> String {
    let mut known: Vec<&'static str> = KEYS.iter().map(|(s, ..)| *s).collect();
    known.sort_unstable();
    known.dedup();
    let guess = nearest(name, &known).map_or(String::new(), |k| format!("did you mean [{k}]? "));
    format!("{guess}Known: {}", known.join(", "))
}

fn meaning(section: &str, key: &str) -> Option<As> {
    let numbered = key.strip_prefix("queue_bw").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let key = if numbered { "queue_bw" } else { key };
    KEYS.iter().find(|(s, k, _)| *s == section && *k == key).map(|(.., meaning)| *meaning)
}

fn write_site(entries: &Entries<'_>, sections: &Sections, c: &mut Collector<'_>) -> String {
    let mut site =
        "# From the conf.ini of the Mininet environment of Teixeira 2013.\nname = \"seed\"\n".to_owned();
    let mut table = "";
    let flat = entries.get(&("TopologySwitches", "agg_no".to_owned())).is_some_and(|(_, v)| *v == "0");
    for (section, key, meaning) in KEYS {
        let path = format!("{section}.{key}");
        let found = entries.get(&(section, key.to_owned()));
        let (As::Count(to) | As::Rate(to)) = meaning else { continue };
        let Some((span, value)) = found else {
            let at = sections.iter().find(|(s, _)| *s == section).map_or(0..0, |(_, span)| span.clone());
            let instead = match meaning {
                As::Rate(_) => format!("write `{key} = 1` (Mbit/s) under [{section}]"),
                _ => format!("write `{key} = 1` under [{section}]"),
            };
            c.add(at, &path, "missing", instead);
            continue;
        };
        let written = match meaning {
            As::Rate(_) => (scaled(value, 1_000_000).map(|_| format!("\"{value} Mbit/s\"")))
                .ok_or_else(|| format!("{value:?} is not a number of Mbit/s")),
            _ => (value.parse::<u32>().map(|n| n.to_string()))
                .map_err(|_| format!("{value:?} is not a whole number")),
        };
        let written = match written {
            Ok(written) => written,
            Err(problem) => {
                c.add(span.clone(), &path, problem, "write a number without sign or unit, such as 2");
                continue;
            }
        };
        if flat && to == "topology.aggregation_core_links" {
            continue;
        }
        let Some((into, name)) = to.split_once('.') else { continue };
        if into != table {
            table = into;
            let _ = write!(site, "\n[{table}]\n");
            if table == "topology" {
                site.push_str("shape = \"three-tier\"\n");
            }
        }
        let _ = writeln!(site, "{name} = {written}");
    }
    if let Some((span, value)) = entries.get(&("Traffic", "udp_ratio".to_owned())) {
        // In millionths, so that the comparison with a half is exact.
        match scaled(value, 1_000_000).filter(|n| *n <= 1_000_000) {
            None => {
                let problem = format!("{value:?} is not a ratio");
                c.add(span.clone(), "Traffic.udp_ratio", problem, "write a number from 0 to 1");
            }
            Some(ratio) => {
                let transport = if ratio >= 500_000 { "udp" } else { "tcp" };
                let note = match ratio {
                    0 | 1_000_000 => "",
                    _ => "    # the thesis mixed UDP and TCP; a site has one of them, the larger part",
                };
                let _ = write!(site, "\n[traffic]\ntransport = \"{transport}\"{note}\n");
            }
        }
    }
    let mut left = String::new();
    for (section, key) in entries.keys() {
        if let Some(As::Left(why)) = meaning(section, key) {
            let _ = writeln!(left, "#   {section}.{key}: {why}");
        }
    }
    if !left.is_empty() {
        let _ = write!(site, "\n# Not carried over:\n{left}");
    }
    site
}
