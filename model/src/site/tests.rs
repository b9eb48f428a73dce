//! What a site file may say, and what is said of a bad one.

use super::*;
use crate::NodeId;

/// Figure 4.2 of the thesis (Teixeira 2013): 1 gateway, 2 core, 4 aggregation, 8 edge switches, 16
/// servers.
const SEED: &str = r#"
name = "figure-4-2"
[topology]
shape = "three-tier"
gateways = 1
core = 2
aggregation = 4
edge = 8
servers_per_edge = 2
edge_aggregation_links = 2
aggregation_core_links = 2
[bandwidth]
edge = "3 Mbit/s"
"#;

fn faults(text: &str) -> Vec<(usize, usize, String)> {
    match read(text, "site.toml") {
        Ok(_) => Vec::new(),
        Err(f) => f.faults.into_iter().map(|f| (f.line, f.column, f.key)).collect(),
    }
}

#[test]
fn the_seeds_data_centre_is_a_few_lines() {
    let site = read(SEED, "site.toml").expect("a good site");
    let t = &site.topology;
    assert_eq!((t.gateways.len(), t.switches.len(), t.servers.len()), (1, 14, 16));
    assert_eq!(t.links.len(), 2 + 8 + 16 + 16);
    assert_eq!(t.servers[0].address.to_string(), "10.0.0.1");
    assert_eq!(t.servers[2].address.to_string(), "10.0.1.1");
    assert_eq!(site.addresses.dhcp.to_string(), "10.255.255.254");
    assert_eq!(
        t.servers[0].capacity.net,
        BitRate::mbit(3),
        "a server's network is its uplink unless said otherwise"
    );
    assert_eq!(site.policy.allocation, Allocation::BestFit);
}

#[test]
fn all_faults_are_reported_at_once_each_at_its_place() {
    let text = "nmae = \"x\"\n[topology]\nshape = \"three-tier\"\nedge = -1\n[bandwidth]\nedge = \"3 Mbit\"\ncore = 40\n[modules]\ndhcp = \"yes\"\n";
    assert_eq!(
        faults(text),
        vec![
            (1, 1, "nmae".to_owned()),
            (4, 8, "topology.edge".to_owned()),
            (7, 8, "bandwidth.core".to_owned()),
            (9, 8, "modules.dhcp".to_owned()),
        ]
    );
    let report = read(text, "site.toml").expect_err("faults").to_string();
    assert!(report.contains("site.toml:1:1: nmae: unknown key"), "{report}");
    assert!(report.contains("did you mean `name`?"), "{report}");
    assert!(report.ends_with("4 faults in site.toml"), "{report}");
}

#[test]
fn every_kind_of_fault_has_a_case() {
    let base = "[topology]\nshape = \"linear\"\n";
    let cases: &[(&str, &str)] = &[
        ("", "topology.shape"),
        ("[topology]\nshape = \"moebius\"\n", "topology.shape"),
        ("[topology]\nshape = \"fat-tree\"\nk = 3\n", "topology.k"),
        ("[topology]\nshape = \"fat-tree\"\n", "topology.k"),
        (
            "[topology]\nshape = \"three-tier\"\naggregation = 2\nedge_aggregation_links = 3\n",
            "topology.edge_aggregation_links",
        ),
        (
            "[topology]\nshape = \"three-tier\"\ncore = 2\naggregation = 2\nedge = 2\naggregation_core_links = 1\nedge_aggregation_links = 1\n",
            "topology.shape",
        ),
        (&format!("{base}[statistics]\nhistory_weight = 1.0\n"), "statistics.history_weight"),
        (&format!("{base}[statistics]\nperiod = \"0 s\"\n"), "statistics.period"),
        (&format!("{base}[discovery]\nlldp_timeout = \"1 s\"\n"), "discovery.lldp_timeout"),
        (&format!("{base}[links]\nloss = 101\n"), "links.loss"),
        (&format!("{base}[links]\ndelay = \"5\"\n"), "links.delay"),
        (&format!("{base}[addresses]\nnetwork = \"10.0.0.1/8\"\n"), "addresses.network"),
        (&format!("{base}[addresses]\nnetwork = \"10.0.0.0/24\"\n"), "addresses.network"),
        (&format!("{base}[addresses]\ngateways = \"11.0.0.0/24\"\n"), "addresses.gateways"),
        (&format!("{base}[addresses]\ndhcp = \"10.0.0.9\"\n"), "addresses.dhcp"),
        (&format!("{base}[addresses]\ndns = [\"nowhere\"]\n"), "addresses.dns"),
        (&format!("{base}[vm]\nram = \"1 Gigabyte\"\n"), "vm.ram"),
        (&format!("{base}[[server]]\nname = \"srv9\"\n"), "server.name"),
        (&format!("{base}[[link]]\nbetween = [\"edge1\", \"edge9\"]\n"), "link.between"),
        (&format!("{base}[[link]]\nbetween = [\"edge1\"]\n"), "link.between"),
        (&format!("{base}[[legacy]]\nname = \"edge2\"\nbetween = [\"edge1\", \"edge2\"]\n"), "legacy.name"),
        (&format!("{base}[policy]\nlink_margin = nan\n"), "policy.link_margin"),
        (&format!("{base}[policy]\nswitch_margin = 0\n"), "policy.switch_margin"),
        (&format!("{base}[policy.joint]\ncore = \"tight-fit\"\n"), "policy.joint.core"),
        (&format!("{base}[statistics]\nmax_age = \"1 s\"\n"), "statistics.max_age"),
        (&format!("{base}[statistics]\non_request = true\nmax_age = \"2 h\"\n"), "statistics.max_age"),
        (&format!("{base}[statistics]\nperiod = \"never\"\n"), "statistics.period"),
        (&format!("{base}[keep_policy]\norder = \"smallest-first\"\n"), "keep_policy.order"),
        (&format!("{base}[keep_policy]\nplanner = \"fewest-moves\"\ngain = 1\n"), "keep_policy.gain"),
        ("name = \"a b\"\n[topology]\nshape = \"linear\"\n", "name"),
        ("topology = 3\n", "topology"),
        ("[topology\n", ""),
    ];
    for (text, key) in cases {
        let found = faults(text);
        assert!(found.iter().any(|(_, _, k)| k == key), "{text:?}: wanted a fault of {key:?}, got {found:?}");
    }
}

#[test]
fn a_legacy_switch_stands_between_its_neighbours() {
    let text = format!("{SEED}[[legacy]]\nname = \"office\"\nbetween = [\"edge1\", \"srv1\"]\n");
    let site = read(&text, "site.toml").expect("a good site");
    let t = &site.topology;
    assert_eq!(t.switches.len(), 15);
    assert_eq!(t.edge_of(crate::ServerId(0), 0).map(|s| t.name(NodeId::Switch(s))), Some("edge1"));
    let first = t.servers[0].uplinks[0];
    let other =
        t.link(first).and_then(|l| l.other(NodeId::Server(crate::ServerId(0)))).map(|e| t.name(e.node));
    assert_eq!(other, Some("office"));
}

#[test]
fn shapes_have_the_counts_of_the_literature() {
    for k in [2u32, 4, 8] {
        let text = format!("[topology]\nshape = \"fat-tree\"\nk = {k}\n");
        let site = read(&text, "site.toml").expect("a good site");
        let t = &site.topology;
        assert_eq!(t.servers.len() as u32, k * k * k / 4, "k^3/4 servers");
        assert_eq!(t.switches.len() as u32, 5 * k * k / 4, "5k^2/4 switches");
        for n in 0..t.switches.len() as u32 {
            let ports = t.ports(NodeId::Switch(crate::SwitchId(n))).len() as u32;
            let gateway = u32::from(t.switches[n as usize].role == crate::Role::Core);
            assert_eq!(ports, k + gateway, "{}", t.switches[n as usize].name);
        }
    }
}

mod never_panics {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn on_any_text(text in "\\PC{0,200}") {
            let _ = read(&text, "x");
        }

        #[test]
        fn on_a_good_site_with_a_piece_replaced(at in 0usize..400, len in 0usize..20, with in "\\PC{0,12}") {
            let mut bytes: Vec<char> = SEED.chars().collect();
            let at = at.min(bytes.len());
            let end = (at + len).min(bytes.len());
            bytes.splice(at..end, with.chars());
            let text: String = bytes.into_iter().collect();
            if let Err(faults) = read(&text, "x") {
                let lines = text.lines().count().max(1) + 1;
                prop_assert!(faults.faults.iter().all(|f| f.line >= 1 && f.line <= lines && f.column >= 1));
            }
        }
    }
}

#[test]
fn a_policy_has_a_name_that_somebody_knows() {
    let text = |words: &str| format!("[topology]\nshape = \"linear\"\n[policy]\n{words}\n");
    let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let (allocation, routing) = (names(&["best-fit", "mine"]), names(&["shortest"]));
    let known = PolicyNames { allocation: &allocation, routing: &routing, ..PolicyNames::default() };
    let site = read_with(&text("allocation = \"mine\"\nrouting = \"shortest\""), "site.toml", &known);
    let policy = site.expect("both are known").policy;
    assert_eq!((policy.allocation.0.as_str(), policy.routing.0.as_str()), ("mine", "shortest"));
    for (words, key) in
        [("allocation = \"tightest\"", "policy.allocation"), ("routing = \"mine\"", "policy.routing")]
    {
        let faults = read_with(&text(words), "site.toml", &known).expect_err("nobody knows it");
        assert!(faults.faults.iter().any(|f| f.key == key && f.line == 4), "{faults}");
        assert!(read(&text(words), "site.toml").is_ok(), "who knows no names takes any");
    }
}

/// A word that is nearly a policy's name is answered with that name.
#[test]
fn a_misspelt_policy_is_guessed() {
    let known = ["volume-size-ratio".to_owned(), "fewest-moves".to_owned()];
    let known = PolicyNames { selector: &known, ..PolicyNames::default() };
    let text = "[topology]\nshape = \"linear\"\n[migration]\nselector = \"fewest-move\"\n";
    let faults = read_with(text, "site.toml", &known).expect_err("nobody knows it").to_string();
    assert!(faults.contains("did you mean \"fewest-moves\"?"), "{faults}");
    assert!(faults.contains("\"volume-size-ratio\""), "all are named: {faults}");
}

/// Without a section the weights have defaults; what a section does not name does not count; and a
/// section in which nothing counts is a fault that says what to write.
#[test]
fn weights_are_finite_and_not_all_zero() {
    let text = |words: &str| format!("[topology]\nshape = \"linear\"\n{words}\n");
    let weights = |words: &str| read(&text(words), "site.toml").map(|site| site.policy.weighted);
    assert_eq!(weights("").expect("a good site"), Weights::default());
    let some = weights("[policy.weighted]\nedge = 0.5\nenergy = 2").expect("a good site");
    assert_eq!(some, Weights { server: 0.0, edge: 0.5, path: 0.0, energy: 2.0 });
    for (words, problem) in [
        ("[policy.weighted]\nserver = 0.0", "at least one of server, edge, path, energy"),
        ("[policy.weighted]", "at least one of server, edge, path, energy"),
        ("[policy.weighted]\npath = -1.0", "write a number from 0 to 1000000"),
        ("[policy.weighted]\npath = nan", "write a number from 0 to 1000000"),
        ("[policy.weighted]\nserver = 1e300", "write a number from 0 to 1000000"),
        ("[policy.weighted]\nserver = 1\npaths = 1", "did you mean `path`?"),
    ] {
        let faults = weights(words).expect_err("it is at fault");
        assert!(faults.to_string().contains(problem), "{words}: {faults}");
        assert_eq!(faults.faults.len(), 1, "{faults}");
    }
}

/// What is left out of `[policy.joint]` is best fit, and counters may be read on request alone.
#[test]
fn levels_have_fits_and_counters_may_be_read_on_request_alone() {
    let text = |words: &str| format!("[topology]\nshape = \"linear\"\n{words}\n");
    let site = |words: &str| read(&text(words), "site.toml").unwrap_or_else(|faults| panic!("{faults}"));
    let some = site("[policy]\nswitch_margin = 1.2\n[policy.joint]\ncore = \"worst-fit\"").policy;
    assert_eq!(some.joint, Joint { core: Allocation::WorstFit, ..Joint::default() });
    assert_eq!((some.switch_margin, site("").policy.switch_margin), (Some(1.2), None));
    let off = site("[statistics]\nperiod = \"off\"\non_request = true").statistics;
    assert!(!off.is_periodic && off.on_request && off.poll_period() > Duration::from_secs(86_400 * 366));
    assert_eq!((off.period, off.oldest()), (Duration::from_secs(5), Duration::from_secs(5)));
    let usual = site("").statistics;
    assert!(usual.is_periodic && !usual.on_request && usual.poll_period() == usual.period);
}
