//! Sites that are declared by hand: what is derived of what is written, random connected graphs,
//! and every fault of a graph at its place.

mod soundness;

use proptest::prelude::*;
use std::collections::BTreeSet;
use tandem_model::site::{EXAMPLES, Fault, read};
use tandem_model::{BitRate, Bytes, Dpid, NodeId, Role, ServerId, Site};

fn site(text: &str) -> Site {
    read(text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn example() -> Site {
    EXAMPLES.iter().find(|(n, _)| *n == "free-form").map(|(_, text)| site(text)).expect("the example")
}

fn switch<'a>(site: &'a Site, name: &str) -> &'a tandem_model::Switch {
    site.topology.switches.iter().find(|s| s.name == name).expect("the switch")
}

/// Rates of the links between two nodes, with the ports at the first.
fn between(site: &Site, a: &str, b: &str) -> Vec<(u32, BitRate)> {
    let t = &site.topology;
    let node = t.by_name(a).expect("the node");
    let ports = t.ports(node).iter();
    let found = ports.filter_map(|(port, link)| {
        let link = t.link(*link)?;
        let other = link.other(node)?;
        (t.name(other.node) == b).then_some((port.0, link.cfg.rate))
    });
    found.collect()
}

/// The example says in its comments what is derived: roles, rates, addresses, resources.
#[test]
fn the_example_is_what_its_comments_say() {
    let site = example();
    soundness::check(&site);
    let roles: Vec<(&str, Role, bool)> =
        site.topology.switches.iter().map(|s| (s.name.as_str(), s.role, s.prefix.is_some())).collect();
    let wanted = [
        ("north", Role::Core, false),
        ("east", Role::Edge, true),
        ("south", Role::Edge, true),
        ("west", Role::Edge, true),
        ("middle", Role::Aggregation, false),
    ];
    assert_eq!(roles, wanted);
    assert_eq!(switch(&site, "west").dpid, Dpid(0x77));
    let servers: Vec<(&str, &str)> = (0u32..)
        .zip(&site.topology.servers)
        .map(|(n, s)| {
            let edge = site.topology.edge_of(ServerId(n), 0).and_then(|e| site.topology.switch(e));
            (s.name.as_str(), edge.map_or("", |e| e.name.as_str()))
        })
        .collect();
    assert_eq!(servers, [("h1", "east"), ("h2", "east"), ("h3", "south"), ("h4", "west")]);
    let h2 = &site.topology.servers[1].capacity;
    assert_eq!((h2.cpu, h2.ram, h2.net), (16, Bytes::gib(64), BitRate::mbit(100)));
    assert_eq!(site.topology.servers[0].capacity.net, BitRate::mbit(10));
    let mbit = BitRate::mbit;
    assert_eq!(between(&site, "north", "gw1"), [(1, mbit(80))]);
    assert_eq!(between(&site, "north", "east"), [(2, mbit(40)), (3, mbit(40))], "a core switch's links");
    assert_eq!(between(&site, "east", "south"), [(3, mbit(20))], "between edge switches");
    assert_eq!(between(&site, "south", "west"), [(3, mbit(15))], "its own");
    assert_eq!(between(&site, "south", "gw2"), [(1, mbit(40))]);
    assert_eq!(between(&site, "h3", "west"), [(2, mbit(10))]);
}

/// A role that is written stays, and whoever has servers owns a prefix all the same.
#[test]
fn a_core_switch_with_servers_owns_a_prefix() {
    let site = site(&format!(
        "{HEAD}[[switch]]\nname = \"a\"\nrole = \"core\"\n[[switch]]\nname = \"b\"\nrole = \"edge\"\n\
         [[server]]\nname = \"h\"\nnet = \"3 Mbit/s\"\n[[gateway]]\nname = \"g\"\n\
         [[link]]\nbetween = [\"h\", \"a\"]\n[[link]]\nbetween = [\"a\", \"g\"]\n[[link]]\nbetween = [\"b\", \"a\"]\n"
    ));
    soundness::check(&site);
    assert_eq!((switch(&site, "a").role, switch(&site, "a").prefix.is_some()), (Role::Core, true));
    assert!(switch(&site, "b").prefix.is_some(), "an edge switch without servers owns one too");
    assert_eq!(site.topology.servers[0].capacity.net, BitRate::mbit(3));
    assert_eq!(between(&site, "a", "b"), [(3, BitRate::mbit(40))], "a core switch's");
    let link = &site.topology.links[2];
    assert_eq!(site.topology.name(link.a.node), "a", "the end nearer to the gateway is the upper one");
}

/// `[[legacy]]` goes into a declared link, and a `[[link]]` to it is about one side.
#[test]
fn a_legacy_switch_stands_in_a_declared_link() {
    let base = format!("{HEAD}{SMALL}[[legacy]]\nname = \"old\"\nbetween = [\"s1\", \"s2\"]\n");
    let site = site(&format!("{base}[[link]]\nbetween = [\"old\", \"s2\"]\nrate = \"1 Mbit/s\"\n"));
    soundness::check(&site);
    assert!(switch(&site, "old").legacy && switch(&site, "old").prefix.is_none());
    assert_eq!(between(&site, "old", "s2").len(), 1);
    assert_eq!(between(&site, "old", "s2")[0].1, BitRate::mbit(1));
    assert_ne!(between(&site, "old", "s1")[0].1, BitRate::mbit(1));
    assert!(between(&site, "s1", "s2").is_empty());
}

/// Records know nodes by their place: what is added at the end leaves the others where they were,
/// with their numbers, ports and addresses.
#[test]
fn what_is_added_at_the_end_moves_nothing() {
    let before = site(&format!("{HEAD}{SMALL}"));
    let more = "[[switch]]\nname = \"s3\"\n[[server]]\nname = \"h2\"\n[[gateway]]\nname = \"g2\"\n\
                [[link]]\nbetween = [\"s3\", \"s1\"]\n[[link]]\nbetween = [\"h2\", \"s3\"]\n\
                [[link]]\nbetween = [\"g2\", \"s3\"]\n";
    let after = site(&format!("{HEAD}{SMALL}{more}"));
    soundness::check(&after);
    let (a, b) = (&before.topology, &after.topology);
    assert_eq!(a.switches[..], b.switches[..a.switches.len()]);
    assert_eq!(a.servers[..], b.servers[..a.servers.len()]);
    assert_eq!(a.gateways[..], b.gateways[..a.gateways.len()]);
    assert_eq!(a.links[..], b.links[..a.links.len()]);
}

const HEAD: &str = "[topology]\nshape = \"free-form\"\n";
const SMALL: &str = "[[switch]]\nname = \"s1\"\n[[switch]]\nname = \"s2\"\n[[server]]\nname = \"h1\"\n\
                     [[gateway]]\nname = \"g1\"\n[[link]]\nbetween = [\"s1\", \"g1\"]\n\
                     [[link]]\nbetween = [\"s1\", \"s2\"]\n[[link]]\nbetween = [\"s2\", \"h1\"]\n";

/// A connected graph: a random tree of switches, links that close loops or double others, and
/// gateways and servers with their links.
#[derive(Debug, Clone)]
struct Graph {
    switches: usize,
    /// Links, by names.
    links: Vec<(String, String, u32)>,
    servers: usize,
    gateways: usize,
}

fn graph() -> impl Strategy<Value = Graph> {
    let index = any::<prop::sample::Index>;
    let homes = move || prop::collection::vec(index(), 1..4);
    (
        prop::collection::vec(index(), 0..12),
        prop::collection::vec((index(), index(), 1u32..3), 0..12),
        prop::collection::vec(homes(), 0..10),
        prop::collection::vec(homes(), 1..4),
    )
        .prop_map(|(tree, extra, servers, gateways)| {
            let switches = tree.len() + 1;
            let name = |n: usize| format!("s{n}");
            let mut links: Vec<(String, String, u32)> =
                (1..).zip(&tree).map(|(n, to)| (name(n), name(to.index(n)), 1)).collect();
            let extra = extra.iter().map(|(a, b, count)| (a.index(switches), b.index(switches), *count));
            links.extend(extra.filter(|(a, b, _)| a != b).map(|(a, b, count)| (name(a), name(b), count)));
            for (stem, homes) in [("h", &servers), ("g", &gateways)] {
                for (n, homes) in homes.iter().enumerate() {
                    links.extend(homes.iter().map(|s| (format!("{stem}{n}"), name(s.index(switches)), 1)));
                }
            }
            Graph { switches, links, servers: servers.len(), gateways: gateways.len() }
        })
}

fn text(graph: &Graph) -> String {
    let mut text = HEAD.to_owned();
    for (kind, stem, count) in
        [("switch", "s", graph.switches), ("server", "h", graph.servers), ("gateway", "g", graph.gateways)]
    {
        (0..count).for_each(|n| text.push_str(&format!("[[{kind}]]\nname = \"{stem}{n}\"\n")));
    }
    for (a, b, count) in &graph.links {
        text.push_str(&format!("[[link]]\nbetween = [\"{a}\", \"{b}\"]\ncount = {count}\n"));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any connected graph is a site: its nodes and links are those that were written, in that
    /// order; roles and prefixes follow from what is linked to each switch.
    #[test]
    fn any_connected_graph_is_a_data_centre(graph in graph()) {
        let site = site(&text(&graph));
        soundness::check(&site);
        let t = &site.topology;
        prop_assert_eq!(t.switches.len(), graph.switches);
        prop_assert_eq!(t.servers.len(), graph.servers);
        prop_assert_eq!(t.gateways.len(), graph.gateways);
        let ends = |a: &str, b: &str| BTreeSet::from([a.to_owned(), b.to_owned()]);
        let written: Vec<_> = graph.links.iter()
            .flat_map(|(a, b, count)| (0..*count).map(move |_| ends(a, b))).collect();
        let built: Vec<_> = t.links.iter().map(|l| ends(t.name(l.a.node), t.name(l.b.node))).collect();
        prop_assert_eq!(built, written);
        for (n, s) in (0u32..).zip(&t.switches) {
            let node = NodeId::Switch(tandem_model::SwitchId(n));
            prop_assert_eq!(&s.name, &format!("s{n}"));
            let others = || t.ports(node).iter().filter_map(|(_, l)| t.link(*l)?.other(node)).map(|e| e.node);
            let has_servers = others().any(|n| matches!(n, NodeId::Server(_)));
            let has_gateways = others().any(|n| matches!(n, NodeId::Gateway(_)));
            let role = match (has_servers, has_gateways) {
                (true, _) => Role::Edge,
                (false, true) => Role::Core,
                (false, false) => Role::Aggregation,
            };
            prop_assert_eq!((s.role, s.prefix.is_some()), (role, has_servers));
        }
        // A server's uplinks are in the order of the file, and its primary edge is the first.
        for (n, server) in t.servers.iter().enumerate() {
            let first = graph.links.iter().find(|(a, _, _)| *a == format!("h{n}")).map(|(_, b, _)| b.as_str());
            let edge = t.edge_of(ServerId(n as u32), 0).and_then(|e| t.switch(e)).map(|s| s.name.as_str());
            prop_assert_eq!(edge, first);
            prop_assert!(server.uplinks.is_sorted());
        }
    }

    /// Without one of its links a graph is a site, or what is cut off is named, each piece once.
    #[test]
    fn a_link_less_is_a_site_or_names_what_it_cuts_off(graph in graph(), cut in any::<prop::sample::Index>()) {
        let mut less = graph.clone();
        less.links.remove(cut.index(graph.links.len()));
        match read(&text(&less), "site.toml") {
            Ok(site) => soundness::check(&site),
            Err(faults) => {
                prop_assert!(faults.faults.len() <= 2, "{faults}");
                for fault in &faults.faults {
                    let cut_off = fault.problem.contains("not connected to") || fault.problem.contains("no link leads to");
                    prop_assert!(cut_off && fault.key.ends_with(".name"), "{faults}");
                }
            }
        }
    }
}

/// The text with its fault between `«` and `»`, and what is said of it: key, problem, instead.
type Case = (&'static str, &'static str, &'static str, &'static str);

/// After [`SMALL`], which is sound.
const CASES: &[Case] = &[
    ("[[switch]]\nname = «\"s1\"»\n", "switch.name", "two switches are called \"s1\"", "its own name"),
    ("[[server]]\nname = «\"h1\"»\n", "server.name", "two servers are called", "its own name"),
    ("[[gateway]]\nname = «\"g1\"»\n", "gateway.name", "two gateways are called", "its own name"),
    ("[[server]]\nname = «\"s1\"»\n", "server.name", "a switch is called \"s1\" too", "its own name"),
    ("«[[switch]]»\nrole = \"edge\"\n", "switch.name", "the switch has no name", "write name ="),
    ("[[gateway]]\nname = «3»\n", "gateway.name", "is not a text", "in quotes"),
    ("[[server]]\nname = «\"elevenbytes\"»\n", "server.name", "too long: 11 bytes", "up to 10 letters"),
    ("[[server]]\nname = «\"a_b\"»\n", "server.name", "cannot be a name", "digits or '-'"),
    ("[[server]]\nname = «\"-b\"»\n", "server.name", "cannot be a name", "a letter or digit first"),
    ("[[server]]\nname = «\"vm7\"»\n", "server.name", "what a VM is called", "letters"),
    ("[[switch]]\nname = «\"lo\"»\n", "switch.name", "the system has taken", "letters"),
    ("[[switch]]\nname = «\"s1-2\"»\n", "switch.name", "port 2 of the switch \"s1\"", "rename"),
    ("[[switch]]\nname = \"s3\"\nrole = «\"spine\"»\n", "switch.role", "not known here", "\"core\" or"),
    ("[[switch]]\nname = \"s3\"\ndpid = «0»\n", "switch.dpid", "not a datapath id", "from 1 on"),
    ("[[switch]]\nname = \"s3\"\ndpid = «\"17\"»\n", "switch.dpid", "not a datapath id", "\"0x11\""),
    (
        "[[switch]]\nname = \"s3\"\ndpid = 17\n[[switch]]\nname = \"s4\"\ndpid = «\"0x11\"»\n",
        "switch.dpid",
        "two switches have the datapath id 0000000000000011",
        "its own",
    ),
    (
        "[[switch]]\nname = \"s3\"\n«colour» = 1\n",
        "switch.colour",
        "unknown key",
        "datapath, dpid, name, role",
    ),
    ("[[switch]]\nname = «\"s3\"»\n", "switch.name", "no link leads to \"s3\"", "write a [[link]]"),
    ("[[server]]\nname = «\"h2\"»\n", "server.name", "no link leads to \"h2\"", "write a [[link]]"),
    ("[[gateway]]\nname = «\"g2\"»\n", "gateway.name", "no link leads to \"g2\"", "write a [[link]]"),
    (
        "[[switch]]\nname = «\"s3\"»\n[[switch]]\nname = \"s4\"\n[[link]]\nbetween = [\"s3\", \"s4\"]\n",
        "switch.name",
        "\"s3\" and the switch that is linked to it are not connected to \"s1\"",
        "a [[link]] between switches",
    ),
    // A server forwards nothing, so it holds no pieces together.
    (
        "[[switch]]\nname = «\"s3\"»\n[[link]]\nbetween = [\"h1\", \"s3\"]\n",
        "switch.name",
        "\"s3\" is not connected to \"s1\"",
        "between switches",
    ),
    ("[[link]]\nbetween = «[\"s1\", \"s1\"]»\n", "link.between", "\"s1\" is linked to itself", "two nodes"),
    (
        "[[link]]\nbetween = «[\"h1\", \"g1\"]»\n",
        "link.between",
        "neither \"h1\" nor \"g1\" is a switch",
        "forward",
    ),
    ("[[link]]\nbetween = «[\"s1\", \"s22\"]»\n", "link.between", "no node \"s22\"", "did you mean \"s2\"?"),
    ("[[link]]\nbetween = «[\"s1\"]»\n", "link.between", "between two nodes", "between = ["),
    ("«[[link]]»\nrate = \"1 Mbit/s\"\n", "link.between", "between two nodes", "between = ["),
    ("[[link]]\nbetween = «\"s1\"»\n", "link.between", "not a list of texts", "write ["),
    (
        "[[link]]\nbetween = [\"s1\", \"s2\"]\ncount = «0»\n",
        "link.count",
        "0 is out of range",
        "from 1 to 64",
    ),
    ("[[link]]\nbetween = [\"s1\", \"s2\"]\nrate = «\"1 bit/s\"»\n", "link.rate", "out of range", "8 kbit/s"),
    (
        "[[link]]\nbetween = [\"s1\", \"s2\"]\ndelay = «\"1 h\"»\n",
        "link.delay",
        "longer than 10 s",
        "one-way",
    ),
    (
        "[[server]]\nname = «\"h2\"»\n[[link]]\nbetween = [\"h2\", \"s1\"]\ncount = 9\n",
        "server.name",
        "\"h2\" has 9 links",
        "at most 8",
    ),
];

/// Whole files.
const FILES: &[Case] = &[
    (
        "«[topology]»\nshape = \"free-form\"\n[[switch]]\nname = \"s\"\n",
        "gateway",
        "a free-form site has no gateway",
        "write [[gateway]]",
    ),
    (
        "«[topology]»\nshape = \"free-form\"\n[[gateway]]\nname = \"g\"\n",
        "switch",
        "a free-form site has no switch",
        "write [[switch]]",
    ),
    ("[topology]\nshape = \"free-form\"\n«switches» = 3\n", "topology.switches", "unknown key", "shape"),
    (
        "[topology]\nshape = \"linear\"\n[[gateway]]\nname = «\"gw1\"»\n",
        "gateway.name",
        "by their number",
        "gateways = 2",
    ),
    (
        "[topology]\nshape = \"leaf-spine\"\nborder_leaves = «2»\n",
        "topology.border_leaves",
        "only where the gateways are at them",
        "gateways_at = \"border\"",
    ),
    (
        "[topology]\nshape = \"leaf-spine\"\ngateway_links = «3»\n",
        "topology.gateway_links",
        "only 2 switches",
        "at most 2",
    ),
    (
        "[topology]\nshape = \"leaf-spine\"\ngateways_at = «\"top\"»\n",
        "topology.gateways_at",
        "\"top\"",
        "\"border\"",
    ),
];

fn faults(text: &str) -> Vec<Fault> {
    read(text, "site.toml").map_or_else(|f| f.faults, |_| Vec::new())
}

#[test]
fn every_fault_of_a_graph_is_told_at_its_place() {
    let sound = format!("{HEAD}{SMALL}");
    assert_eq!(faults(&sound), []);
    let cases = CASES.iter().map(|case| (sound.as_str(), case)).chain(FILES.iter().map(|case| ("", case)));
    for (before, (text, key, problem, instead)) in cases {
        let text = format!("{before}{text}");
        let (start, rest) = text.split_once('«').expect("a mark");
        let (inside, after) = rest.split_once('»').expect("its end");
        let line = start.matches('\n').count() + 1;
        let column = start.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let found = faults(&format!("{start}{inside}{after}"));
        let hit = found.iter().find(|f| f.key == *key && f.problem.contains(problem));
        let Some(fault) = hit else { panic!("{text}: wanted {key}: {problem}; got {found:#?}") };
        assert_eq!((fault.line, fault.column), (line, column), "{text}: {fault:?}");
        assert!(fault.instead.contains(instead), "{text}: {fault:?}");
    }
}

/// All faults of a graph in one reading, and none that only follows from another: with a name that
/// nobody has, nobody can say what is alone.
#[test]
fn faults_of_a_graph_come_together_and_only_once() {
    let text = format!(
        "{HEAD}{SMALL}[[switch]]\nname = \"s1\"\n[[switch]]\nname = \"s3\"\n[[link]]\nbetween = [\"s3\", \"s9\"]\n\
         [[link]]\nbetween = [\"s2\", \"s2\"]\nrate = 5\n[[server]]\nname = \"a b\"\ncpu = -1\n"
    );
    let keys: Vec<String> = faults(&text).into_iter().map(|f| f.key).collect();
    let wanted = ["switch.name", "link.between", "link.between", "link.rate", "server.name", "server.cpu"];
    assert_eq!(keys, wanted);
}

/// A thousand switches in a ring with ten servers each, and a file that is wrong from end to end:
/// both are read in time linear in their size.
#[test]
fn a_large_graph_is_read_and_a_large_wrong_one_told() {
    let mut text = HEAD.to_owned();
    text.push_str("[[gateway]]\nname = \"g\"\n[[link]]\nbetween = [\"g\", \"s0\"]\n");
    for n in 0..1000 {
        text.push_str(&format!(
            "[[switch]]\nname = \"s{n}\"\n[[link]]\nbetween = [\"s{n}\", \"s{}\"]\n",
            (n + 1) % 1000
        ));
        for h in 0..10 {
            text.push_str(&format!(
                "[[server]]\nname = \"h{n}x{h}\"\n[[link]]\nbetween = [\"s{n}\", \"h{n}x{h}\"]\n"
            ));
        }
    }
    let site = site(&text);
    soundness::check(&site);
    assert_eq!((site.topology.switches.len(), site.topology.servers.len()), (1000, 10_000));
    let wrong = text.replace("between = [\"s", "between = [\"t");
    assert_eq!(faults(&wrong).len(), 11_000);
}
