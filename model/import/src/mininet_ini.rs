//! From the `conf.ini` of the thesis' Mininet environment (Teixeira 2013, appendix A) to a
//! three-tier site, with or without the ini file of its controller ([`crate::controller_ini`]).
//!
//! | in conf.ini | in site.toml |
//! |---|---|
//! | `[TopologySwitches]`, `[TopologyHosts]`, `[TopologyLinks]` | `[topology]` |
//! | `[SwitchBandwidth]`, in Mbit/s | `[bandwidth]` |
//! | `queue_no`, `queue_bw1` ... , the lower the number the more urgent | a `[[class]]` each |
//! | `udp_ratio` | `[traffic] udp_share` |
//! | `host_detectable_time` | `[discovery] announce` |
//! | `iperf_port`, `socket_path` | nothing |

use crate::controller_ini;
use crate::graph::leave;
use crate::ini::{Draft, Ini, Known, Origin, Value, faults_of};
use crate::{ImportError, Imported, Options, Source, base_name};
use tandem_model::spellings::scaled;

/// What conf.ini may say.
const KNOWN: Known = &[
    ("TopologySwitches", &["core_no", "agg_no", "edge_no"]),
    ("TopologyHosts", &["out_no", "host_no", "host_detectable_time"]),
    ("TopologyLinks", &["edgetoagglinkno", "aggtocorelinkno", "coretooutlinkno"]),
    ("SwitchBandwidth", &["out_bw", "core_bw", "agg_bw", "edge_bw"]),
    ("SwitchQueues", &["queue_no", "queue_bw#"]),
    ("Traffic", &["udp_ratio", "iperf_port"]),
    ("Socket", &["socket_path"]),
];

/// Counts of `[topology]`: section and key there and here.
const COUNTS: [(&str, &str, &str); 8] = [
    ("TopologyHosts", "out_no", "gateways"),
    ("TopologySwitches", "core_no", "core"),
    ("TopologySwitches", "agg_no", "aggregation"),
    ("TopologySwitches", "edge_no", "edge"),
    ("TopologyHosts", "host_no", "servers_per_edge"),
    ("TopologyLinks", "coretooutlinkno", "core_gateway_links"),
    ("TopologyLinks", "aggtocorelinkno", "aggregation_core_links"),
    ("TopologyLinks", "edgetoagglinkno", "edge_aggregation_links"),
];

/// Rates of `[bandwidth]`.
const RATES: [(&str, &str); 4] =
    [("out_bw", "gateway"), ("core_bw", "core"), ("agg_bw", "aggregation"), ("edge_bw", "edge")];

/// True for a conf.ini.
pub(crate) fn recognises(source: Source<'_>) -> bool {
    let section = |line: &str| KNOWN.iter().any(|(s, _)| line.trim() == format!("[{s}]"));
    crate::ends_with(source.file, &[".ini", ".conf", ".cfg"]) && source.text.lines().any(section)
}

/// Translates a conf.ini, a controller's ini, or one of each.
///
/// # Errors
/// All faults of both files, each with its line and column.
pub(crate) fn translate(sources: &[Source<'_>], _: &Options) -> Result<Imported, ImportError> {
    let is_conf = |s: &&Source<'_>| !controller_ini::recognises(**s);
    let conf = sources.iter().find(is_conf);
    let controller = sources.iter().find(|s| !is_conf(s));
    if let (true, [first, .., last]) = (conf.is_none() || controller.is_none() || sources.len() > 2, sources)
    {
        return Err(ImportError::NotTogether(first.file.to_owned(), last.file.to_owned()));
    }
    let mut inis = Vec::new();
    let mut draft = Draft::default();
    draft.set("topology", "shape", "\"three-tier\"", None);
    let mut origins = Vec::new();
    if let Some(conf) = conf {
        let mut ini = Ini::read(*conf, KNOWN);
        write_conf(&mut ini, 0, &mut draft);
        inis.push(ini);
        origins.push(format!("{} (conf.ini of the thesis' Mininet environment)", base_name(conf.file)));
    }
    if let Some(controller) = controller {
        let mut ini = Ini::read(*controller, controller_ini::KNOWN);
        controller_ini::write(&mut ini, inis.len(), &mut draft);
        inis.push(ini);
        origins.push(format!("{} (ini of the thesis' controller)", base_name(controller.file)));
    }
    match faults_of(&mut inis) {
        Some(faults) => Err(faults),
        None => draft.finish(&origins.join(" and "), &mut inis),
    }
}

fn write_conf(ini: &mut Ini<'_>, file: usize, draft: &mut Draft) {
    let flat = ini.get("TopologySwitches", "agg_no").is_some_and(|v| v.text == "0");
    for (section, key, to) in COUNTS {
        let Some((value, origin)) = required(ini, file, section, key, "") else { continue };
        match value.text.parse::<u32>() {
            // Edge switches are linked to core switches then; how many links that makes is the other
            // count.
            Ok(_) if flat && to == "aggregation_core_links" => {}
            Ok(n) => {
                draft.set("topology", to, n.to_string(), Some(origin));
            }
            Err(_) => not(ini, &value, &origin.key, "a whole number"),
        }
    }
    for (key, to) in RATES {
        let Some((value, origin)) = required(ini, file, "SwitchBandwidth", key, " (Mbit/s)") else {
            continue;
        };
        match scaled(value.text, 1_000_000) {
            Some(_) => {
                draft.set("bandwidth", to, format!("\"{} Mbit/s\"", value.text), Some(origin));
            }
            None => not(ini, &value, &origin.key, "a number of Mbit/s"),
        }
    }
    if let Some((value, origin)) = given(ini, file, "Traffic", "udp_ratio") {
        // In millionths, so that what is written is exact.
        match scaled(value.text, 1_000_000).filter(|n| *n <= 1_000_000) {
            Some(share) => {
                let transport = if share == 0 { "\"tcp\"" } else { "\"udp\"" };
                draft.set("traffic", "transport", transport, None);
                if !(share == 0 || share == 1_000_000) {
                    draft.set("traffic", "udp_share", decimal(share, 1_000_000), Some(origin));
                }
            }
            None => {
                let problem = format!("{:?} is not a ratio", value.text);
                ini.c.add(value.span, &origin.key, problem, "write a number from 0 to 1");
            }
        }
    }
    if let Some((value, origin)) = given(ini, file, "TopologyHosts", "host_detectable_time") {
        match scaled(value.text, 1_000) {
            // "0 == always detectable": such hosts do not announce themselves.
            Some(0) => {}
            Some(_) => {
                draft.set("discovery", "announce", format!("\"{} s\"", value.text), Some(origin));
            }
            None => not(ini, &value, &origin.key, "a number of seconds"),
        }
    }
    write_queues(ini, file, draft);
    for (section, key, why) in [
        ("Traffic", "iperf_port", "traffic is generated without iperf's ports"),
        ("Socket", "socket_path", "where requests are taken is an option of `tandem serve`"),
    ] {
        if let Some(value) = ini.get(section, key) {
            let line = ini.line(&value.span);
            leave(&mut draft.leftovers, ini.file, line, format!("{section}.{key}"), why);
        }
    }
}

/// A class for each queue. The lower a queue's number, the more urgent its packets: they have the
/// higher class selector (RFC 2474 section 4.2.2). Requests that name no class get the last one.
fn write_queues(ini: &mut Ini<'_>, file: usize, draft: &mut Draft) {
    const SECTION: &str = "SwitchQueues";
    let queues = ini.numbered(SECTION, "queue_bw");
    let count = match given(ini, file, SECTION, "queue_no") {
        None => queues.len() as u64,
        Some((value, origin)) => match value.text.parse::<u64>() {
            Ok(n) if n <= MOST_QUEUES => {
                let missing = (1..=n).find(|n| u32::try_from(*n).is_ok_and(|n| !queues.contains_key(&n)));
                if let Some(missing) = missing {
                    let problem = format!("{n} queues, and queue_bw{missing} is missing");
                    let instead =
                        format!("write `queue_bw{missing} = 0.1` under [{SECTION}], or lower queue_no");
                    ini.c.add(value.span, &origin.key, problem, instead);
                }
                n
            }
            _ => {
                let problem = format!("{:?} is not a number of queues", value.text);
                let instead = format!("write a whole number up to {MOST_QUEUES}");
                ini.c.add(value.span, &origin.key, problem, instead);
                return;
            }
        },
    };
    if queues.len() as u64 > MOST_QUEUES {
        let at = ini.place(SECTION);
        ini.c.add(at, SECTION, format!("more than {MOST_QUEUES} queues"), "use fewer");
        return;
    }
    for (place, (number, value)) in queues.iter().enumerate() {
        let key = format!("{SECTION}.queue_bw{number}");
        let origin = Origin { file, span: value.span.clone(), key: key.clone() };
        if u64::from(*number) > count || *number == 0 {
            let problem = format!("there are {count} queues, counted from 1");
            ini.c.add(value.span.clone(), &key, problem, "raise queue_no, or take this line out");
            continue;
        }
        let Some(share) = scaled(value.text, 1_000_000).filter(|s| (1..=1_000_000).contains(s)) else {
            let problem = format!("{:?} is not a share of the link", value.text);
            ini.c.add(value.span.clone(), &key, problem, "write a number above 0, up to 1, such as 0.8");
            continue;
        };
        // Class selectors as long as there are enough of them, else any mark below the one before.
        let (count, place) = (queues.len() as u64, place as u64);
        let dscp = if count <= 7 { 8 * (count - place) } else { count - place };
        draft.push(
            "class",
            vec![
                ("name", format!("\"queue{number}\""), Some(origin.clone())),
                ("share", decimal(share, 10_000), Some(origin.clone())),
                ("dscp", dscp.to_string(), Some(origin)),
            ],
        );
    }
}

/// DSCP has 64 values, and 0 is that of packets without a class.
const MOST_QUEUES: u64 = 63;

/// A count of `1/per`, as a decimal number.
fn decimal(count: u64, per: u64) -> String {
    let width = per.ilog10() as usize;
    let text = format!("{}.{:0width$}", count / per, count % per);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

/// A value with its origin.
pub(crate) fn given<'a>(
    ini: &Ini<'a>,
    file: usize,
    section: &'static str,
    key: &str,
) -> Option<(Value<'a>, Origin)> {
    let value = ini.get(section, key)?;
    let origin = Origin { file, span: value.span.clone(), key: format!("{section}.{key}") };
    Some((value, origin))
}

fn required<'a>(
    ini: &mut Ini<'a>,
    file: usize,
    section: &'static str,
    key: &str,
    unit: &str,
) -> Option<(Value<'a>, Origin)> {
    let found = given(ini, file, section, key);
    if found.is_none() {
        let at = ini.place(section);
        let instead = format!("write `{key} = 1`{unit} under [{section}]");
        ini.c.add(at, &format!("{section}.{key}"), "missing", instead);
    }
    found
}

/// A fault: a value is not what it should be.
pub(crate) fn not(ini: &mut Ini<'_>, value: &Value<'_>, key: &str, wanted: &str) {
    let problem = format!("{:?} is not {wanted}", value.text);
    ini.c.add(value.span.clone(), key, problem, "write a number without sign or unit, such as 2");
}
