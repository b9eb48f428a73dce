//! What is said of a bad site file: every kind of fault at its exact place, with what is wrong and
//! what to write instead.

use proptest::prelude::*;
use tandem_model::site::{EXAMPLES, Fault, read};

fn faults(text: &str) -> Vec<Fault> {
    read(text, "site.toml").map_or_else(|f| f.faults, |_| Vec::new())
}

/// The text with its fault between `«` and `»`, and what is said of it: key, problem, instead.
type Case = (&'static str, &'static str, &'static str, &'static str);

const LINE: &str = "[topology]\nshape = \"linear\"\n";
const TREE: &str = "[topology]\nshape = \"three-tier\"\n";

/// Under a sound shape.
const CASES: &[Case] = &[
    // Keys and types.
    (
        "[policy]\n«alocation» = \"best-fit\"\n",
        "policy.alocation",
        "unknown key",
        "did you mean `allocation`?",
    ),
    (
        "[policy]\n«colour» = \"red\"\n",
        "policy.colour",
        "unknown key",
        "known here: allocation, joint, link_margin",
    ),
    ("[«polcy»]\n", "polcy", "unknown key", "did you mean `policy`?"),
    (
        "[modules]\ndhcp = «\"yes\"»\n",
        "modules.dhcp",
        "a string is neither true nor false",
        "write true or false",
    ),
    ("[vm]\ncpu = «1.5»\n", "vm.cpu", "a float is not a whole number", "from 0 to 1000000"),
    ("[vm]\ncpu = «-1»\n", "vm.cpu", "-1 is out of range", "from 0 to 1000000"),
    ("[vm]\nnet = «1»\n", "vm.net", "an integer is not a bit rate", "such as \"10 Mbit/s\""),
    ("[vm]\nnet = «\"1 Mb\"»\n", "vm.net", "\"1 Mb\" is not a bit rate", "such as \"10 Mbit/s\""),
    ("[vm]\nram = «\"1 Gigabyte\"»\n", "vm.ram", "is not a size", "\"512 MiB\""),
    ("[vm]\nlifetime = «90»\n", "vm.lifetime", "an integer is not a time", "\"85 min\""),
    ("[vm]\nlifetime = «\"90\"»\n", "vm.lifetime", "\"90\" is not a time", "\"90 s\" or \"90 ms\""),
    ("[vm]\nlifetime = «\"5m\"»\n", "vm.lifetime", "read as 5 min and as 5 ms", "\"5 min\""),
    ("[vm]\nnet = «\"10\"»\n", "vm.net", "it has no unit", "\"10 Mbit/s\" or \"10 bit/s\""),
    ("[vm]\nnet = «\"1gbps\"»\n", "vm.net", "read as 1 Gbit/s and as 1 GB/s", "\"1 Gbit/s\" or"),
    ("[vm]\nstart_timeout = «\"1 ms\"»\n", "vm.start_timeout", "no VM starts as fast", "\"1 s\""),
    ("[policy]\nlink_margin = «nan»\n", "policy.link_margin", "not a number from", "write a number from"),
    (
        "[policy]\nserver_margin = «0»\n",
        "policy.server_margin",
        "not a number from 0.01",
        "write a number from",
    ),
    // Ranges.
    (
        "[statistics]\nhistory_weight = «1.0»\n",
        "statistics.history_weight",
        "not a number from 0 to 0.999",
        "write",
    ),
    (
        "[statistics]\nperiod = «\"1 ms\"»\n",
        "statistics.period",
        "1ms is out of range",
        "from \"50 ms\" to \"1 h\"",
    ),
    ("[discovery]\nlldp_period = «\"1 ms\"»\n", "discovery.lldp_period", "shorter than 100 ms", "at least"),
    (
        "[discovery]\nlldp_timeout = «\"9 s\"»\n",
        "discovery.lldp_timeout",
        "less than two periods",
        "twice lldp_period",
    ),
    (
        "[discovery]\nhost_timeout = «\"9 ms\"»\n",
        "discovery.host_timeout",
        "shorter than a second",
        "\"1 s\"",
    ),
    ("[migration]\nmanner = «\"warm\"»\n", "migration.manner", "not known here", "\"live\" or \"cold\""),
    (
        "[migration]\nclass = «\"gold\"»\n",
        "migration.class",
        "there is no class \"gold\"",
        "[[class]] tables",
    ),
    ("[migration]\nrate = «\"1 bit/s\"»\n", "migration.rate", "out of range", "from 8 kbit/s"),
    ("[migration]\nat_once = «0»\n", "migration.at_once", "0 is out of range", "from 1"),
    ("[migration]\ndowntime = «\"0 s\"»\n", "migration.downtime", "without a pause", "\"1 ms\""),
    ("[migration]\ntimeout = «\"1 ms\"»\n", "migration.timeout", "shorter than a second", "\"1 s\""),
    ("[hotspot]\ncool = «1.5»\n", "hotspot.cool", "not a number from 0.01 to 1", "write a number"),
    ("[hotspot]\nover = «6»\nof = 5\n", "hotspot.over", "6 samples out of 5", "as many as `of`"),
    ("[keep_policy]\nperiod = «\"5 ms\"»\n", "keep_policy.period", "shorter than a second", "leave it out"),
    ("[keep_policy]\nmoves = «0»\n", "keep_policy.moves", "0 is out of range", "from 1"),
    ("[links]\nloss = «100.5»\n", "links.loss", "not a number from 0 to 100", "write a number"),
    ("[links]\ndelay = «\"11 s\"»\n", "links.delay", "longer than 10 s", "one-way delay"),
    ("[links]\nqueue = «0»\n", "links.queue", "0 is out of range", "from 1 to 100000"),
    ("[bandwidth]\nedge = «\"1 kbit/s\"»\n", "bandwidth.edge", "out of range", "8 kbit/s to 4 Tbit/s"),
    ("[traffic]\npacket = «9000»\n", "traffic.packet", "9000 is out of range", "from 128 to 1500"),
    ("[traffic]\nudp_share = «1.5»\n", "traffic.udp_share", "not a number from 0 to 1", "write a number"),
    ("[traffic]\npattern = «\"ring\"»\n", "traffic.pattern", "not known here", "\"gateway\" or \"incast\""),
    (
        "[traffic]\npattern = \"incast\"\ndirection = «\"both\"»\n",
        "traffic.direction",
        "has its own directions",
        "leave out direction",
    ),
    ("[traffic.poisson]\nseeds = «[1]»\n", "traffic.poisson.seeds", "an array is no option", "a number"),
    (
        "[[class]]\nname = \"gold\"\nshare = 10\ntraffic = «\"UDP\"»\n",
        "class.traffic",
        "\"UDP\" is not the name of a traffic tool",
        "such as \"udp\"",
    ),
    ("[discovery]\nannounce = «\"9 ms\"»\n", "discovery.announce", "shorter than 100 ms", "leave it out"),
    ("[vm]\npolice = «1»\n", "vm.police", "neither true nor false", "write true or false"),
    // Addresses.
    ("[addresses]\nnetwork = «\"10.0.0.1/8\"»\n", "addresses.network", "host bits zero", "\"10.0.0.0/8\""),
    ("[addresses]\nnetwork = «\"224.0.0.0/8\"»\n", "addresses.network", "machines cannot have", "unicast"),
    ("[addresses]\nnetwork = «\"127.0.0.0/8\"»\n", "addresses.network", "machines cannot have", "unicast"),
    ("[addresses]\nnetwork = «\"10.0.0.0/24\"»\n", "addresses.network", "do not fit into", "larger network"),
    ("[addresses]\nprefix_len = «9»\n", "addresses.prefix_len", "do not fit into", "longer prefix length"),
    (
        "[addresses]\nprefix_len = «30»\nservers_per_prefix = 3\n",
        "addresses.prefix_len",
        "no room for VMs",
        "such as 24",
    ),
    (
        "[addresses]\nservers_per_prefix = «0»\n",
        "addresses.servers_per_prefix",
        "do not fit in 0",
        "at least 1",
    ),
    (
        "[addresses]\ngateways = «\"11.0.0.0/24\"»\n",
        "addresses.gateways",
        "not inside the network",
        "at its end",
    ),
    (
        "[addresses]\ngateways = «\"10.9.9.8/31\"»\n",
        "addresses.gateways",
        "no room for all gateways",
        "shorter",
    ),
    (
        "[addresses]\ndhcp = «\"10.0.0.9\"»\n",
        "addresses.dhcp",
        "in an edge switch's prefix",
        "after the edges'",
    ),
    ("[addresses]\ndhcp = «\"10.255.255.1\"»\n", "addresses.dhcp", "somebody else's", "a free address"),
    (
        "[addresses]\ndns = «[\"9.9.9.9\", \"nine\"]»\n",
        "addresses.dns",
        "\"nine\" is not an address",
        "leave it out",
    ),
    ("[addresses]\nlease = «\"1 s\"»\n", "addresses.lease", "out of range", "\"30 s\""),
    // Overrides.
    ("[[switch]]\nname = «\"srv1\"»\n", "switch.name", "no switch \"srv1\"", "\"core1\""),
    ("[[switch]]\nname = \"edge1\"\ndatapath = «\"asic\"»\n", "switch.datapath", "asic", "netfpga"),
    ("[[server]]\nname = «\"srv9\"»\n", "server.name", "no server \"srv9\"", "\"srv1\""),
    ("[[server]]\nname = «\"edge1\"»\n", "server.name", "no server \"edge1\"", "\"srv1\""),
    ("«[[server]]»\ncpu = 1\n", "server.name", "not said which server", "name = \"srv1\""),
    (
        "[[server]]\nname = \"srv1\"\n[[server]]\nname = «\"srv1\"»\n",
        "server.name",
        "twice",
        "one [[server]]",
    ),
    ("[[link]]\nbetween = «[\"edge1\"]»\n", "link.between", "two nodes are needed", "[\"edge1\", \"srv1\"]"),
    ("«[[link]]»\nrate = \"1 Mbit/s\"\n", "link.between", "two nodes are needed", "[\"edge1\", \"srv1\"]"),
    (
        "[[link]]\nbetween = «[\"edge1\", 2]»\n",
        "link.between",
        "not a list of texts",
        "write [\"...\", \"...\"]",
    ),
    (
        "[[link]]\nbetween = «[\"edge1\", \"edg2\"]»\n",
        "link.between",
        "no node \"edg2\"",
        "write names such as",
    ),
    (
        "[[link]]\nbetween = «[\"edge1\", \"srv2\"]»\n",
        "link.between",
        "no link between",
        "edge1 is linked to gw1, edge2, srv1",
    ),
    (
        "[[link]]\nbetween = [\"edge1\", \"srv1\"]\nbandwith = 3\nrate = «\"1 bit/s\"»\n",
        "link.rate",
        "out of range",
        "8 kbit/s",
    ),
    (
        "[[link]]\nbetween = [\"edge1\", \"srv1\"]\n[[link]]\nbetween = «[\"srv1\", \"edge1\"]»\n",
        "link.between",
        "described twice",
        "one [[link]]",
    ),
    (
        "[[legacy]]\nname = «\"edge2\"»\nbetween = [\"edge1\", \"edge2\"]\n",
        "legacy.name",
        "is taken",
        "nowhere else",
    ),
    (
        "[[legacy]]\nname = «\"a b\"»\nbetween = [\"edge1\", \"edge2\"]\n",
        "legacy.name",
        "cannot be a name",
        "letters",
    ),
    ("«[[legacy]]»\nbetween = [\"edge1\", \"edge2\"]\n", "legacy.name", "has no name", "up to 10 letters"),
    (
        "[[legacy]]\nname = \"x\"\nbetween = «[\"edge1\", \"gw7\"]»\n",
        "legacy.between",
        "no node \"gw7\"",
        "names such as",
    ),
    (
        "[[legacy]]\nname = \"x\"\nbetween = [\"edge1\", \"edge2\"]\n[[link]]\nbetween = «[\"x\", \"srv1\"]»\n",
        "link.between",
        "no link between",
        "x is linked to edge1, edge2",
    ),
];

/// Whole files.
const FILES: &[Case] = &[
    ("«»", "topology.shape", "the site has no shape", "\"fat-tree\""),
    ("[«topology»]\nk = 4\n", "topology.shape", "the site has no shape", "\"fat-tree\""),
    ("[topology]\nshape = «\"ring\"»\n", "topology.shape", "\"ring\" is not known", "\"three-tier\" or"),
    ("[«topology»]\nshape = \"fat-tree\"\n", "topology.k", "needs its number of ports", "k = 4"),
    ("[topology]\nshape = \"fat-tree\"\nk = «5»\n", "topology.k", "5 is odd", "even"),
    (
        "[topology]\nshape = \"linear\"\n«edge» = 4\n",
        "topology.edge",
        "unknown key",
        "known here: gateways, servers_per_switch",
    ),
    (
        "servers = «3»\n[topology]\nshape = \"linear\"\n",
        "servers",
        "an integer is not a section",
        "write it as [servers]",
    ),
    ("server = «3»\n[topology]\nshape = \"linear\"\n", "server", "list of sections", "[[server]]"),
    ("name = «\"a b\"»\n[topology]\nshape = \"linear\"\n", "name", "cannot be a name", "up to 32 letters"),
    ("[topology]\nshape = \"linear\"\nswitches «»3\n", "", "key with no value", "correct the TOML"),
    ("[topology]\nshape = \"linear\"\n«shape» = \"linear\"\n", "", "duplicate key", "correct the TOML"),
];

/// Service classes, under a linear shape.
const CLASSES: &[Case] = &[
    ("«[[class]]»\nshare = 70\n", "class.name", "\"\" cannot be a class's name", "up to 16 letters"),
    (
        "[[class]]\nname = «\"gold class\"»\nshare = 7\n",
        "class.name",
        "cannot be a class's name",
        "digits or '-'",
    ),
    (
        "[[class]]\nname = «\"7\"»\nshare = 7\n",
        "class.name",
        "cannot be a class's name",
        "a letter among them",
    ),
    (
        "[[class]]\nname = \"gold\"\nshare = 7\n[[class]]\nname = «\"gold\"»\nshare = 3\n",
        "class.name",
        "two classes \"gold\"",
        "its own name",
    ),
    ("«[[class]]»\nname = \"gold\"\n", "class.share", "missing", "such as share = 70"),
    (
        "[[class]]\nname = \"gold\"\nshare = «0»\n",
        "class.share",
        "not a number from 0.1 to 100",
        "from 0.1 to 100",
    ),
    ("[[class]]\nname = \"gold\"\nshare = «\"70%\"»\n", "class.share", "not a number", "from 0.1 to 100"),
    (
        "[[class]]\nname = \"gold\"\nshare = 70\nceiling = «60»\n",
        "class.ceiling",
        "a ceiling of 60% is below the guaranteed 70%",
        "at least the share",
    ),
    (
        "[[class]]\nname = \"gold\"\nshare = 70\n[[class]]\nname = \"silver\"\nshare = «40»\n",
        "class.share",
        "110% of each port are guaranteed",
        "add up to 100",
    ),
    (
        "[[class]]\nname = \"gold\"\nshare = 7\ndscp = «64»\n",
        "class.dscp",
        "64 is out of range",
        "from 0 to 63",
    ),
    (
        "[[class]]\nname = \"gold\"\nshare = 7\ndscp = 46\n[[class]]\nname = \"tin\"\nshare = 3\ndscp = «46»\n",
        "class.dscp",
        "DSCP 46 is that of \"gold\"",
        "its own, 0 to 63",
    ),
    (
        "[[class]]\nname = \"gold\"\nshare = 7\nqueue = «0»\n",
        "class.queue",
        "0 is out of range",
        "from 1 to 1000",
    ),
    (
        "[[class]]\nname = \"gold\"\nshare = 7\ndefault = true\n[[class]]\nname = \"tin\"\nshare = 3\ndefault = «true»\n",
        "class.default",
        "a default class already",
        "one class be the default",
    ),
    ("[[class]]\nname = \"gold\"\nshare = 7\n«ceil» = 80\n", "class.ceil", "unknown key", "ceiling"),
];

/// Under a three-tier shape.
const TREES: &[Case] = &[
    ("edge_aggregation_links = «9»\n", "topology.edge_aggregation_links", "only 4 nodes above", "at most 4"),
    ("aggregation_core_links = «3»\n", "topology.aggregation_core_links", "only 2 nodes above", "at most 2"),
    ("core_gateway_links = «2»\n", "topology.core_gateway_links", "only 1 nodes above", "at most 1"),
    ("edge = 1\nserver_uplinks = «2»\n", "topology.server_uplinks", "only 1 nodes above", "at most 1"),
    ("core = «0»\n", "topology.core", "0 is out of range", "from 1 to 4096"),
];

/// Takes the marks out; line, column and width of what stood between them.
fn marked(text: &str) -> (String, usize, usize, usize) {
    let (before, rest) = text.split_once('«').expect("a mark");
    let (inside, after) = rest.split_once('»').expect("its end");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (format!("{before}{inside}{after}"), line, column, inside.chars().count().max(1))
}

fn check(before: &str, case: &Case) {
    let (text, key, problem, instead) = case;
    let (text, line, column, width) = marked(&format!("{before}{text}"));
    let found = faults(&text);
    let hit = found.iter().find(|f| f.key == *key && f.problem.contains(problem));
    let Some(fault) = hit else { panic!("{text:?}: wanted {key}: {problem}; got {found:#?}") };
    assert_eq!((fault.line, fault.column), (line, column), "{text:?}: {fault:?}");
    assert!(fault.instead.contains(instead), "{text:?}: {fault:?}");
    let report = read(&text, "site.toml").expect_err("a fault").to_string();
    let carets = format!("| {}{}\n", " ".repeat(column - 1), "^".repeat(width));
    assert!(report.contains(&carets), "{carets:?} is not in\n{report}");
}

#[test]
fn every_kind_of_fault_is_told_at_its_place() {
    CASES.iter().for_each(|case| check(LINE, case));
    CLASSES.iter().for_each(|case| check(LINE, case));
    TREES.iter().for_each(|case| check(TREE, case));
    FILES.iter().for_each(|case| check("", case));
}

/// All the cases of a kind that do not stand in each other's way, in one file: each is told, in the
/// order of its place.
#[test]
fn faults_of_the_shape_do_not_hide_those_of_the_rest() {
    let text = "nmae = \"x\"\n[topology]\nshape = \"ring\"\n[vm]\ncpu = -1\n[[link]]\nbetwen = [\"a\", \"b\"]\nrate = 5\n";
    let found: Vec<(usize, usize, String)> =
        faults(text).into_iter().map(|f| (f.line, f.column, f.key)).collect();
    let expected = [
        (1, 1, "nmae"),
        (3, 9, "topology.shape"),
        (5, 7, "vm.cpu"),
        (6, 1, "link.between"),
        (7, 1, "link.betwen"),
        (8, 8, "link.rate"),
    ];
    assert_eq!(found, expected.map(|(l, c, k)| (l, c, k.to_owned())));
}

/// A fault elsewhere does not hide that a name is wrong: the shape is sound, so names can be looked
/// up.
#[test]
fn faults_elsewhere_do_not_hide_those_of_names() {
    let found = faults("[topology]\nshape = \"linear\"\n[vm]\ncpu = -1\n[[server]]\nname = \"srv9\"\n");
    let keys: Vec<&str> = found.iter().map(|f| f.key.as_str()).collect();
    assert_eq!(keys, ["vm.cpu", "server.name"]);
}

#[test]
fn a_report_reads_like_a_compilers() {
    let text = "[topology]\nshape = \"linear\"\n\tswitchs = 3\t# three\n";
    let report = read(text, "lab/site.toml").expect_err("a fault").to_string();
    let expected = "lab/site.toml:3:2: topology.switchs: unknown key\n\
                    3 | \tswitchs = 3\t# three\n  | \t^^^^^^^\n  = did you mean `switches`? Known here: gateways, \
                    servers_per_switch, shape, switches\n1 fault in lab/site.toml";
    assert_eq!(report, expected);
}

proptest! {
    /// Any example with a piece taken out, doubled or replaced is a site, or each fault has a place
    /// in the text.
    #[test]
    fn a_mutated_example_never_panics_and_its_faults_have_places(
        which in 0..EXAMPLES.len(),
        at in any::<prop::sample::Index>(),
        len in 0usize..30,
        with in prop_oneof![
            Just(String::new()),
            "[\\[\\]\"=.0-9a-z#\n -]{0,12}",
            "\\PC{0,6}",
            Just("999999999999999999999".to_owned()),
            Just("\r\n\t\u{0}é«".to_owned()),
        ],
    ) {
        let chars: Vec<char> = EXAMPLES[which].1.chars().collect();
        let from = at.index(chars.len());
        let to = (from + len).min(chars.len());
        let text: String = chars[..from].iter().copied().chain(with.chars()).chain(chars[to..].iter().copied()).collect();
        let lines: Vec<&str> = text.split('\n').collect();
        if let Err(found) = read(&text, "x") {
            prop_assert!(!found.faults.is_empty());
            for fault in &found.faults {
                let line = lines.get(fault.line - 1);
                prop_assert!(line.is_some_and(|l| (1..=l.chars().count() + 1).contains(&fault.column)), "{:?}", fault);
                prop_assert!(!fault.problem.is_empty() && !fault.instead.is_empty());
            }
        }
    }
}
