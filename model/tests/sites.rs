//! The ready-made sites and what they document.

use std::time::Duration;
use tandem_model::site::{EXAMPLES, read};
use tandem_model::{
    BitRate, Bytes, NodeId, PolicyName, ServerId, Site, ToolOption, TrafficId, TrafficTool, VmId,
};

fn site(text: &str) -> Site {
    read(text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn example(name: &str) -> Site {
    EXAMPLES.iter().find(|(n, _)| *n == name).map(|(_, text)| site(text)).expect("an example")
}

/// The ways of a link between two nodes: its rate, delay and loss.
fn links_between(site: &Site, a: &str, b: &str) -> Vec<(BitRate, Duration, u32)> {
    let t = &site.topology;
    let found = t.links.iter().filter(|l| {
        let ends = [t.name(l.a.node), t.name(l.b.node)];
        ends == [a, b] || ends == [b, a]
    });
    found.map(|l| (l.cfg.rate, l.cfg.delay, l.cfg.loss_ppm)).collect()
}

#[test]
fn every_example_reads_without_fault_and_bears_its_name() {
    for (name, text) in EXAMPLES {
        assert_eq!(site(text).name, name);
    }
}

/// The three-tier example says of itself that it writes the defaults: without them the site is the
/// same.
#[test]
fn the_documented_defaults_are_the_defaults() {
    let short = site("name = \"three-tier\"\n[topology]\nshape = \"three-tier\"\n");
    let mut full = example("three-tier");
    // A policy that is not named is the first of its kind, and only the core knows which that is:
    // `controller/core/tests/scenarios/policies.rs` holds these names.
    full.policy.routing = PolicyName::default();
    full.migration.detector = PolicyName::default();
    full.migration.selector = PolicyName::default();
    full.migration.destination = PolicyName::default();
    full.migration.transfer_path = PolicyName::default();
    assert_eq!(full.addresses, short.addresses);
    assert_eq!(full.policy, short.policy);
    assert_eq!(full.statistics, short.statistics);
    assert_eq!(full.modules, short.modules);
    assert_eq!(full.discovery, short.discovery);
    assert_eq!(full.traffic, short.traffic);
    assert_eq!(full.vm, short.vm);
    assert_eq!(full.topology.servers, short.topology.servers);
    assert_eq!(full.topology.links, short.topology.links);
    assert!(full == short, "something else differs");
}

/// Every key of every section of the three-tier example is one that the reader knows by that very
/// name: with one letter changed it is unknown, and the reader says which one was meant.
#[test]
fn a_slip_in_any_key_of_the_example_is_found_and_the_right_key_proposed() {
    let (_, text) = EXAMPLES[0];
    for (n, line) in text.lines().enumerate() {
        let key = line.split(' ').next().unwrap_or("");
        if key.is_empty() || key.starts_with(['#', '[']) || key == "shape" {
            continue;
        }
        let slip = format!("{key}x");
        let broken: Vec<String> = (text.lines().enumerate())
            .map(|(m, l)| if m == n { l.replacen(key, &slip, 1) } else { l.to_owned() })
            .collect();
        let faults = read(&broken.join("\n"), "site.toml").expect_err(&slip).faults;
        let fault = faults
            .iter()
            .find(|f| f.problem == "unknown key")
            .unwrap_or_else(|| panic!("{slip}: {faults:?}"));
        assert_eq!((fault.line, fault.column), (n + 1, 1), "{slip}");
        assert!(fault.instead.contains(&format!("did you mean `{key}`?")), "{slip}: {}", fault.instead);
    }
}

/// The three-tier example shows a class in a comment: without the marks of the comment it is one,
/// with the values that it documents.
#[test]
fn the_documented_class_is_one() {
    let (_, text) = EXAMPLES[0];
    let at = text.find("# [[class]]").expect("a class in a comment");
    let (before, class) = text.split_at(at);
    let class: String =
        class.lines().filter_map(|l| l.strip_prefix("# ")).map(|l| format!("{l}\n")).collect();
    let site = site(&format!("{before}{class}"));
    let [gold] = &site.classes[..] else { panic!("one class") };
    assert_eq!((gold.name.as_str(), gold.share, gold.ceiling), ("gold", 70.0, 100.0));
    assert_eq!((gold.dscp, gold.queue), (46, 50));
    assert_eq!(site.default_class.map(|d| d.0), Some(0), "the last one, since none says that it is");
    // Left out: the ceiling is 100, the DSCP goes by the place, a queue is no longer than the
    // links'.
    let short = format!("{before}[[class]]\nname = \"a\"\nshare = 1\n[[class]]\nname = \"b\"\nshare = 99\n");
    let site = self::site(&short.replace("queue = 50", "queue = 20"));
    let seen: Vec<_> = site.classes.iter().map(|c| (c.ceiling, c.dscp, c.queue)).collect();
    assert_eq!(seen, [(100.0, 8, 20), (100.0, 16, 20)]);
    assert_eq!(site.default_class.map(|d| d.0), Some(1));
}

/// A cable may differ, also one side of a legacy switch; a server whose network rate is written
/// nowhere has its cable's.
#[test]
fn the_office_has_its_exceptions_where_they_were_written() {
    let office = example("office");
    let t = &office.topology;
    let plain = (BitRate::mbit(20), Duration::ZERO, 0);
    assert_eq!(
        links_between(&office, "agg1", "edge1"),
        vec![(BitRate::mbit(20), Duration::from_millis(2), 1000)]
    );
    assert_eq!(links_between(&office, "agg2", "edge2"), vec![], "the cellar stands between them");
    assert_eq!(links_between(&office, "agg2", "cellar"), vec![plain]);
    assert_eq!(links_between(&office, "cellar", "edge2"), vec![(BitRate::mbit(10), Duration::ZERO, 0)]);
    assert_eq!(t.servers[3].capacity.cpu, 64);
    assert_eq!(t.servers[3].capacity.disk, Bytes(4_000_000_000_000));
    let nets: Vec<BitRate> = t.servers.iter().map(|s| s.capacity.net).collect();
    assert_eq!(nets, [10, 10, 10, 1000].map(BitRate::mbit));
    let edges = |server: u32| {
        [0, 1].map(|uplink| t.edge_of(ServerId(server), uplink).map_or("?", |s| t.name(NodeId::Switch(s))))
    };
    assert_eq!(edges(0), ["edge1", "edge2"], "the switch under the desk is passed through");
    assert_eq!(edges(3), ["edge2", "edge1"], "the primary uplink is the own edge switch's");
    assert_eq!(t.servers[2].address.to_string(), "10.0.1.1");
    for node in t.switches.iter().filter(|s| s.legacy) {
        assert!(node.prefix.is_none(), "{} has no addresses of its own", node.name);
    }
}

/// Legacy switches stand anywhere: at a gateway, between switches, twice in one link. Uplinks keep
/// their numbers, ports stay without gaps, and everything is still connected.
#[test]
fn legacy_switches_stand_anywhere_without_disturbing_ports() {
    let base = "[topology]\nshape = \"linear\"\nswitches = 2\n";
    let plain = site(base);
    let legacy = |name: &str, a: &str, b: &str| {
        format!("[[legacy]]\nname = \"{name}\"\nbetween = [\"{a}\", \"{b}\"]\n")
    };
    let text = format!(
        "{base}{}{}{}{}",
        legacy("hall", "gw1", "edge1"),
        legacy("up", "edge1", "edge2"),
        legacy("low", "edge2", "edge1"),
        legacy("desk", "srv2", "edge2")
    );
    let built = site(&text);
    let t = &built.topology;
    let p = &plain.topology;
    assert_eq!((t.switches.len(), t.links.len()), (p.switches.len() + 4, p.links.len() + 4));
    for (n, node) in [("edge1", 3), ("edge2", 2), ("hall", 2), ("up", 2), ("low", 2), ("desk", 2)] {
        let id = t.by_name(n).expect("a node");
        let ports: Vec<u32> = t.ports(id).iter().map(|(p, _)| p.0).collect();
        assert_eq!(ports, (1..=node).collect::<Vec<u32>>(), "{n}");
    }
    for (a, b) in [
        ("gw1", "hall"),
        ("hall", "edge1"),
        ("edge1", "up"),
        ("up", "low"),
        ("low", "edge2"),
        ("edge2", "desk"),
        ("desk", "srv2"),
    ] {
        assert_eq!(links_between(&built, a, b).len(), 1, "{a} - {b}");
    }
    assert_eq!(
        t.servers.iter().map(|s| s.uplinks.clone()).collect::<Vec<_>>(),
        p.servers.iter().map(|s| s.uplinks.clone()).collect::<Vec<_>>()
    );
    assert_eq!(t.gateways[0].uplinks, p.gateways[0].uplinks);
    for (server, edge) in [(0, "edge1"), (1, "edge2")] {
        assert_eq!(t.edge_of(ServerId(server), 0).map(|s| t.name(NodeId::Switch(s))), Some(edge));
    }
}

#[test]
fn a_mix_of_transports_has_its_share_and_a_seed_says_which_flows() {
    let text = |more: &str| format!("[topology]\nshape = \"linear\"\n[traffic]\nudp_share = 0.25\n{more}");
    let traffic = site(&text("")).traffic;
    // One flow a VM, of VMs 1 to 40, towards it.
    let tools = |t: &tandem_model::site::TrafficConfig| -> Vec<TrafficTool> {
        (1..=40).map(|vm| t.tool_of(TrafficId::with_gateway(VmId(vm), false))).collect()
    };
    let udp = tools(&traffic).iter().filter(|t| **t == TrafficTool::UDP).count();
    assert!((9..=11).contains(&udp), "{udp} of 40");
    assert_eq!(tools(&traffic), tools(&site(&text("seed = 1\n")).traffic));
    assert_ne!(tools(&traffic), tools(&site(&text("seed = 2\n")).traffic));
    for (share, all) in [("0.0", TrafficTool::TCP), ("1.0", TrafficTool::UDP)] {
        let traffic = site(&text("").replace("0.25", share)).traffic;
        assert!(tools(&traffic).iter().all(|t| *t == all), "{share}");
    }
    // Another tool is told of the mix and decides itself.
    let iperf = site(&text("transport = \"iperf3\"\n")).traffic;
    assert!(tools(&iperf).iter().all(|t| t.as_str() == "iperf3"));
    assert!((1..=40).any(|vm| iperf.is_udp(TrafficId(2 * vm)) == Some(true)));
}

#[test]
fn what_tools_are_told_is_kept_as_it_is_written() {
    let text = "[topology]\nshape = \"linear\"\n[traffic]\npattern = \"incast\"\n[traffic.web]\ntool = \"pcap\"\n\
        file = \"a.pcap\"\nrounds = 3\nquick = true\n[discovery]\nannounce = \"30 s\"\n[vm]\npolice = true\n";
    let site = site(text);
    let web = &site.traffic.tools[&"web".parse().expect("a name")];
    assert_eq!(web["file"], ToolOption::Text("a.pcap".into()));
    assert_eq!((&web["rounds"], &web["quick"]), (&ToolOption::Number(3.0), &ToolOption::Flag(true)));
    assert_eq!(site.discovery.announce, Some(std::time::Duration::from_secs(30)));
    assert!(site.vm.police);
    // As a recording has it.
    let json = serde_json::to_string(&site).expect("JSON");
    assert_eq!(serde_json::from_str::<Site>(&json).expect("a site"), site);
    let plain = example("linear");
    let json = serde_json::to_string(&plain).expect("JSON");
    assert!(!json.contains("udp_share") && !json.contains("police") && !json.contains("announce"));
    assert_eq!(serde_json::from_str::<Site>(&json).expect("a site"), plain);
}
