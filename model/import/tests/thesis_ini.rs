//! The thesis' two ini files (Teixeira 2013): conf.ini of appendix A, and the controller's.

use std::time::Duration;
use tandem_model::site::{Faults, read};
use tandem_model::{BitRate, Site, TrafficTool};
use tandem_site_import::{ImportError, Imported, Options, Source, format, recognise};

const CONF: &str = include_str!("data/conf.ini");
const CONTROLLER: &str = include_str!("data/controller.ini");

fn source<'a>(file: &'a str, text: &'a str) -> Source<'a> {
    Source { file, text }
}

fn translate(sources: &[Source<'_>]) -> Result<Imported, ImportError> {
    let format = recognise(sources[0]).expect("a known format");
    (format.translate)(sources, &Options::default())
}

fn conf(text: &str) -> Result<Imported, ImportError> {
    translate(&[source("conf.ini", text)])
}

fn site(imported: &Imported) -> Site {
    read(&imported.site, "site.toml").unwrap_or_else(|faults| panic!("{faults}\n{}", imported.site))
}

fn faults(result: Result<Imported, ImportError>) -> Vec<Faults> {
    match result {
        Err(ImportError::Faults(faults)) => faults,
        other => panic!("{other:?}"),
    }
}

fn places(result: Result<Imported, ImportError>) -> Vec<(usize, usize, String)> {
    faults(result).into_iter().flat_map(|f| f.faults).map(|f| (f.line, f.column, f.key)).collect()
}

/// Appendix A: 4 core, 8 aggregation, 16 edge switches, 2 hosts each, 4 outside hosts. All of it but
/// the socket and iperf's port is in the site.
#[test]
fn appendix_a_becomes_a_site() {
    let imported = conf(CONF).unwrap_or_else(|f| panic!("{f}"));
    let built = site(&imported);
    let t = &built.topology;
    assert_eq!((t.gateways.len(), t.switches.len(), t.servers.len()), (4, 4 + 8 + 16, 32));
    assert_eq!(t.links.len(), 4 + 8 * 2 + 16 * 2 + 32);
    let rate = |a: &str, b: &str| {
        let ends = [a, b];
        let link = t.links.iter().find(|l| [t.name(l.a.node), t.name(l.b.node)] == ends);
        link.map(|l| l.cfg.rate)
    };
    assert_eq!(rate("gw1", "core1"), Some(BitRate::mbit(4)));
    assert_eq!(rate("agg1", "edge1"), Some(BitRate::mbit(2)));
    assert_eq!(rate("edge1", "srv1"), Some(BitRate::mbit(1)));
    assert_eq!(built.traffic.udp_share, Some(0.5));
    assert_eq!(built.discovery.announce, Some(Duration::from_secs(2)));
    let classes: Vec<_> = built.classes.iter().map(|c| (c.name.as_str(), c.share)).collect();
    assert_eq!(classes, [("queue1", 80.0), ("queue2", 20.0)]);
    assert!(built.classes[0].dscp > built.classes[1].dscp, "the lower the number, the more urgent");
    let left: Vec<String> = imported.leftovers.iter().map(|l| format!("{}:{}", l.line, l.what)).collect();
    assert_eq!(left, ["27:Traffic.iperf_port", "30:Socket.socket_path"]);
    for name in ["iperf_port", "socket_path"] {
        assert!(imported.site.contains(name), "the file says it too: {}", imported.site);
    }
}

#[test]
fn faults_are_found_all_at_once_on_the_lines_of_conf_ini() {
    let text = CONF
        .replace("core_no = 4", "core_no = four")
        .replace("host_no = 2", "hosts_no = 2")
        .replace("edge_bw = 1", "edge_bw = 1 Mbit/s")
        .replace("udp_ratio = 0.5", "udp_ratio = 2");
    let expected = [
        (4, 11, "TopologySwitches.core_no"),
        (7, 1, "TopologyHosts.host_no"),
        (9, 1, "TopologyHosts.hosts_no"),
        (20, 11, "SwitchBandwidth.edge_bw"),
        (26, 13, "Traffic.udp_ratio"),
    ];
    assert_eq!(places(conf(&text)), expected.map(|(l, c, k)| (l, c, k.to_owned())));
    let report = conf(&text).expect_err("faults").to_string();
    assert!(report.contains("did you mean `host_no`?"), "{report}");
}

/// What only the site's checks find is told in the words of the file that the reader has before
/// him.
#[test]
fn faults_that_only_the_site_shows_stand_on_the_lines_of_conf_ini() {
    let text = CONF.replace("edgetoagglinkno = 2", "edgetoagglinkno = 9").replace("out_bw = 4", "out_bw = 0");
    let expected = [(12, 19, "TopologyLinks.edgetoagglinkno"), (17, 10, "SwitchBandwidth.out_bw")];
    assert_eq!(places(conf(&text)), expected.map(|(l, c, k)| (l, c, k.to_owned())));
    // Two of the four gateways have no link: the shape as a whole is at fault.
    let text = CONF.replace("core_no = 4", "core_no = 2");
    assert_eq!(places(conf(&text)), vec![(1, 1, String::new())]);
    // 130% of each port.
    let text = CONF.replace("queue_bw2 = 0.2", "queue_bw2 = 0.5");
    assert_eq!(places(conf(&text)), vec![(24, 13, "SwitchQueues.queue_bw2".to_owned())]);
}

#[test]
fn two_tiers_and_the_other_ways_to_write_an_ini_file() {
    let text = CONF
        .replace("agg_no = 8", "AGG_NO: 0 ; two tiers")
        .replace("aggtocorelinkno = 2", "aggtocorelinkno=0")
        .replace("udp_ratio = 0.5", "udp_ratio = 0")
        .replace("host_detectable_time = 2", "host_detectable_time = 0");
    let built = site(&conf(&text).unwrap_or_else(|f| panic!("{f}")));
    assert_eq!(built.topology.switches.len(), 4 + 16);
    assert_eq!((built.traffic.transport, built.traffic.udp_share), (TrafficTool::TCP, None));
    assert_eq!(built.discovery.announce, None, "0 is \"always detectable\"");
}

/// A file that its editor has not finished: the last line is cut anywhere.
#[test]
fn a_half_written_ini_has_faults_with_places_or_is_whole() {
    for end in 0..CONF.len() {
        let text = &CONF[..end];
        match recognise(source("conf.ini", text)) {
            None => assert!(end < "[TopologySwitches]".len(), "{text}"),
            Some(format) => match (format.translate)(&[source("conf.ini", text)], &Options::default()) {
                Ok(imported) => drop(site(&imported)),
                Err(ImportError::Faults(faults)) => {
                    let lines = text.split('\n').count();
                    let good = |f: &tandem_model::site::Fault| f.line <= lines && !f.instead.is_empty();
                    assert!(faults[0].faults.iter().all(good), "{}", faults[0]);
                }
                Err(other) => panic!("{other}"),
            },
        }
    }
    let report = conf("[TopologySwitches]\ncore_no = 4\nagg_no").expect_err("half of it").to_string();
    assert!(report.contains("conf.ini:3:1: neither a section nor a key"), "{report}");
    assert!(report.contains("SwitchBandwidth.out_bw: missing"), "{report}");
    let text = CONF.replace("queue_no = 2", "queue_no = 3");
    let report = conf(&text).expect_err("a queue too few").to_string();
    assert!(report.contains("3 queues, and queue_bw3 is missing"), "{report}");
}

#[test]
fn both_files_make_one_site_in_either_order() {
    let files = [source("conf.ini", CONF), source("pox.ini", CONTROLLER)];
    let forward = translate(&files).unwrap_or_else(|e| panic!("{e}"));
    let files = [files[1], files[0]];
    let backward = translate(&files).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(forward.site, backward.site);
    let built = site(&forward);
    assert_eq!(built.topology.switches.len(), 28, "of conf.ini");
    assert_eq!(built.policy.allocation.0, "network-driven", "of the controller's");
    assert_eq!(built.policy.link_margin, 1.2);
    assert_eq!(built.statistics.period, Duration::from_secs(5));
    assert_eq!(built.statistics.history_weight, 0.3);
    assert_eq!(built.topology.servers[0].capacity.cpu, 16);
    // The edge link is 1 Mbit/s in one and 10 in the other.
    let edge = forward.leftovers.iter().find(|l| l.what == "topology.edge_link = 10");
    assert!(edge.is_some_and(|l| l.line == 6 && l.why.contains("1 Mbit/s")), "{:?}", forward.leftovers);
    for line in [
        "core = \"worst-fit\"",
        "aggregation = \"best-fit\"",
        "edge = \"first-fit\"",
        "server = \"worst-fit\"",
    ] {
        assert!(forward.site.contains(line), "{}", forward.site);
    }
    assert!(forward.site.contains("switch_margin = 1.1"), "{}", forward.site);
}

#[test]
fn the_controllers_file_alone_takes_the_counts_of_the_shape() {
    let imported = translate(&[source("pox.ini", CONTROLLER)]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(site(&imported).topology.switches.len(), 14);
    assert!(imported.decisions[0].contains("no counts of switches"), "{:?}", imported.decisions);
    let text = CONTROLLER.replace("algorithm = ND", "algorithm = NO").replace("cpu = 16", "cpu = many");
    let expected = [(9, 7, "host.cpu"), (27, 13, "vmallocation.algorithm")];
    let found = places(translate(&[source("pox.ini", &text)]));
    assert_eq!(found, expected.map(|(l, c, k)| (l, c, k.to_owned())));
}

#[test]
fn only_these_two_are_read_together() {
    let two = translate(&[source("conf.ini", CONF), source("other.ini", CONF)]);
    assert!(matches!(two, Err(ImportError::NotTogether(..))), "{two:?}");
    assert_eq!(format("conf-ini").and_then(|f| f.partner), Some("controller-ini"));
}
