//! Public topologies (tests/data/topologies), their counts beside those of others' programs; and what
//! each reader makes of the rest of a file.

use tandem_model::site::read;
use tandem_model::{NodeId, Site, Topology};
use tandem_site_import::{ImportError, Imported, Options, Source, recognise};

fn import(file: &str, text: &str, options: &Options) -> Result<Imported, ImportError> {
    let source = Source { file, text };
    let format = recognise(source).unwrap_or_else(|| panic!("{file} is not recognised"));
    (format.translate)(&[source], options)
}

fn site(imported: &Imported) -> Site {
    read(&imported.site, "site.toml").unwrap_or_else(|faults| panic!("{faults}\n{}", imported.site))
}

fn plain(file: &str, text: &str) -> (Imported, Site) {
    let imported = import(file, text, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let built = site(&imported);
    (imported, built)
}

macro_rules! data {
    ($file:literal) => {
        ($file, include_str!(concat!("../../../tests/data/topologies/", $file)))
    };
}

/// What a topology has without what the import adds: the gateway, and servers where there are none.
fn own_counts(imported: &Imported, t: &Topology) -> (usize, usize) {
    let added = |node: NodeId| match node {
        NodeId::Gateway(_) => imported.decisions.iter().any(|d| d.contains("was added as the gateway")),
        NodeId::Server(_) => imported.decisions.iter().any(|d| d.contains("no hosts in it")),
        NodeId::Switch(_) => false,
    };
    let (servers, gateways) = (t.servers.len() as u32, t.gateways.len() as u32);
    let hosts = (0..servers).map(|n| NodeId::Server(tandem_model::ServerId(n)));
    let hosts = hosts.chain((0..gateways).map(|n| NodeId::Gateway(tandem_model::GatewayId(n))));
    let nodes = t.switches.len() + hosts.filter(|n| !added(*n)).count();
    (nodes, t.links.iter().filter(|l| !added(l.a.node) && !added(l.b.node)).count())
}

/// Nodes and links as PyYAML and NetworkX count them (tests/data/topologies/README.md).
#[test]
fn public_topologies_have_the_counts_that_others_find() {
    for ((file, text), nodes, links) in [
        (data!("clos02.clab.yml"), 14, 16),
        (data!("frr01.clab.yml"), 6, 6),
        (data!("br01.clab.yml"), 4, 3),
        (data!("Geant2012.json"), 37, 58),
        (data!("germany50.json"), 50, 88),
        (data!("Nsfnet.graphml"), 13, 15),
        (data!("AttMpls.graphml"), 25, 56),
    ] {
        let (imported, built) = plain(file, text);
        assert_eq!(own_counts(&imported, &built.topology), (nodes, links), "{file}");
    }
}

/// Routers in `linux` containers forward, for hosts are linked to them; the PCs stay servers.
#[test]
fn what_a_node_is_follows_from_its_kind_and_its_links() {
    let (file, text) = data!("frr01.clab.yml");
    let (imported, built) = plain(file, text);
    let t = &built.topology;
    assert_eq!((t.switches.len(), t.servers.len(), t.gateways.len()), (3, 3, 1));
    assert!(
        imported.decisions.iter().any(|d| d.starts_with("router1 is taken for a switch")),
        "{imported:?}"
    );
    let options = Options { gateways: vec!["PC3".to_owned()], ..Options::default() };
    let built = site(&import(file, text, &options).unwrap_or_else(|e| panic!("{e}")));
    assert_eq!(built.topology.gateways[0].name, "PC3");
    assert_eq!(built.topology.servers.len(), 2);
    for (name, problem) in [("PC9", "there is no such node"), ("leaf1", "it is a switch")] {
        let (file, text) = data!("clos02.clab.yml");
        let options = Options { gateways: vec![name.to_owned()], ..Options::default() };
        let error = import(file, text, &options).expect_err("no gateway").to_string();
        assert!(error.contains(problem) && error.contains("client1, client2"), "{error}");
    }
}

#[test]
fn a_graph_without_hosts_gets_servers_and_a_gateway_at_its_centre() {
    let (file, text) = data!("Nsfnet.graphml");
    let options = Options { servers_per_switch: 3, ..Options::default() };
    let imported = import(file, text, &options).unwrap_or_else(|e| panic!("{e}"));
    let built = site(&imported);
    assert_eq!(built.topology.servers.len(), 13 * 3);
    assert!(imported.site.contains("gw1 was added as the gateway at"), "the file says so: {}", imported.site);
    let link = &built.topology.links[built.topology.gateways[0].uplinks[0].0 as usize];
    let centre =
        built.topology.name(link.other(NodeId::Gateway(tandem_model::GatewayId(0))).expect("an end").node);
    assert!(imported.decisions.iter().any(|d| d.contains(&format!("at {centre},"))), "{imported:?}");
    // Two cities of the file are some 1,000 km apart: 5 ms.
    assert!(built.topology.links.iter().any(|l| l.cfg.delay.as_millis() >= 4), "delays are by distance");
}

#[test]
fn names_that_a_site_does_not_take_are_kept_in_comments() {
    let (file, text) = data!("germany50.json");
    let (imported, built) = plain(file, text);
    assert!(built.topology.switches.iter().all(|s| s.name.len() <= 10));
    assert!(imported.leftovers.iter().any(|l| l.what == "`demands`"), "{:?}", imported.leftovers);
    let text = text.replacen("\"Aachen\"", "\"Aachen\\n[x] Süd\"", 1);
    let (imported, _) = plain(file, &text);
    assert!(imported.site.contains("name = \"Aachen-x-S\"    # Aachen\\u{a}[x] Süd"), "{}", imported.site);
}

/// The form of yEd, in which the Topology Zoo's first files are: labels are drawn, edges directed.
#[test]
fn labels_that_are_drawn_and_opposite_edges_are_understood() {
    let text = r#"<?xml version="1.0"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:y="http://www.yworks.com/xml/graphml">
  <key attr.name="label" attr.type="string" for="edge" id="d1"/>
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d2"/>
  <graph edgedefault="directed" id="G">
    <node id="n0"><data key="d7"><y:ShapeNode><y:NodeLabel>Braga</y:NodeLabel></y:ShapeNode></data></node>
    <node id="n1"/>
    <node id="n2"/>
    <edge source="n0" target="n1"><data key="d1">OC-48</data></edge>
    <edge source="n1" target="n0"><data key="d1">OC-48</data></edge>
    <edge source="n1" target="n2"><data key="d2">10000000.0</data></edge>
    <edge source="n2" target="n2"/>
  </graph>
</graphml>"#;
    let (imported, built) = plain("x.graphml", text);
    assert_eq!(own_counts(&imported, &built.topology), (3, 2));
    assert_eq!(built.topology.switches[0].name, "Braga");
    let rates: Vec<u64> = built.topology.links.iter().map(|l| l.cfg.rate.0).take(2).collect();
    assert_eq!(rates, [2_488_320_000, 10_000_000], "48 times 51.84 Mbit/s, and as it stands");
    let left = imported.leftovers.iter().find(|l| l.what == "a link from a node to itself");
    assert_eq!(left.map(|l| l.line), Some(12));
}

#[test]
fn both_forms_of_links_and_ends_outside_are_told_apart() {
    let text = "name: both\ntopology:\n  defaults: {kind: linux}\n  nodes:\n    sw: {kind: ovs-bridge}\n    a:\n    b:\n  links:\n\
    \x20   - endpoints: [\"sw:e1\", \"a:eth1\"]\n\
    \x20   - type: veth\n      endpoints:\n        - {node: sw, interface: e2}\n        - {node: b, interface: eth1}\n      mtu: 9000\n\
    \x20   - endpoints: [\"sw:e3\", \"host:veth0\"]\n    - type: mgmt-net\n      endpoint: {node: sw, interface: e4}\n";
    let (imported, built) = plain("lab.clab.yml", text);
    assert_eq!(own_counts(&imported, &built.topology), (3, 2));
    let lines: Vec<(usize, &str)> = imported.leftovers.iter().map(|l| (l.line, l.what.as_str())).collect();
    assert_eq!(lines, [(14, "`mtu` of a link"), (15, "a link to host"), (16, "a link of the type mgmt-net")]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let bomb = (1..12).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let many = vec![format!("*a{}", n - 1); 12].join(",");
        text + &format!("a{n}: &a{n} [{many}]\n")
    });
    let endless = "topology: &t\n  nodes: *t\n";
    let deep = format!("topology: {}\n", "{a: ".repeat(100));
    let entities = "<!DOCTYPE a [<!ENTITY x \"y\">]><graphml><graph/></graphml>";
    for (file, text, expected) in [
        ("l.clab.yml", bomb + "topology: *a11\n", "l.clab.yml:1:1: topology: there is no topology in it"),
        ("l.clab.yml", endless.to_owned(), "l.clab.yml:2:10: an alias of what it stands in has no end"),
        ("l.clab.yml", deep, "nested deeper than 64 levels"),
        ("l.clab.yml", "topology:\n  nodes:\n    a: {kind: bridge\n".to_owned(), "this is not YAML"),
        (
            "l.clab.yml",
            "topology:\n  nodes:\n    a: {kind: bridge}\n  links:\n    - endpoints: [\"a:e1\", \"bb:e1\"]\n"
                .to_owned(),
            "l.clab.yml:5:27: topology.links: there is no node \"bb\"",
        ),
        ("g.graphml", "<graphml><graph>".to_owned(), "g.graphml:1:"),
        ("g.graphml", entities.to_owned(), "this is no XML"),
        (
            "g.graphml",
            "<graphml><graph>\n<node id=\"a\"/><edge source=\"a\" target=\"b\"/></graph></graphml>"
                .to_owned(),
            "g.graphml:2:15: edge: its target, \"b\", is no node",
        ),
        ("t.json", "{\"nodes\": [}".to_owned(), "t.json:1:12: this is no JSON"),
        ("t.json", "{\"nodes\": [{}], \"edges\": []}".to_owned(), "t.json:1:12: nodes: a node without an id"),
        ("t.json", "{\"nodes\": [], \"edges\": []}".to_owned(), "t.json has no switch"),
        (
            "t.json",
            format!("{{\"nodes\": {}1{}}}", "[".repeat(200), "]".repeat(200)),
            "nested deeper than 64 levels",
        ),
    ] {
        let error = import(file, &text, &Options::default()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn parts_that_are_not_connected_are_left_out_by_name() {
    let text = r#"{"nodes": [{"id": 1}, {"id": 2}, {"id": 3}, {"id": "alone"}],
 "links": [{"source": 1, "target": 2, "rate": "10 Mbit/s"},
  {"source": 1, "target": 2, "rate": "10 Mbit/s"}, {"source": 2, "target": 3}]}"#;
    let (imported, built) = plain("t.json", text);
    assert_eq!(own_counts(&imported, &built.topology), (3, 3), "two links in parallel are two");
    assert!(imported.site.contains("count = 2"), "{}", imported.site);
    assert_eq!(imported.leftovers[0].what, "node alone");
    assert!(imported.site.contains("shape = \"free-form\""));
}

/// What the reader of free-form sites does not take as it stands in the file.
#[test]
fn names_links_and_uplinks_beyond_a_sites_limits_are_fitted() {
    let mut text = "topology:\n  defaults: {kind: bridge}\n  nodes:\n    s1:\n    s1-2:\n    s12-3:\n    vm1: {kind: linux}\n    lo: {kind: linux}\n  links:\n"
        .to_owned();
    let mut link = |a: &str, b: &str, count: usize| {
        for _ in 0..count {
            text += &format!("    - endpoints: [\"{a}:e\", \"{b}:e\"]\n");
        }
    };
    link("s1", "s1-2", 70);
    link("s1-2", "s12-3", 1);
    link("s1", "vm1", 8);
    link("lo", "s1", 5);
    link("lo", "s12-3", 4);
    let (imported, built) = plain("x.clab.yml", &text);
    let t = &built.topology;
    let switches: Vec<&str> = t.switches.iter().map(|s| s.name.as_str()).collect();
    assert!(["s1", "s12", "s123", "n-lo"].iter().all(|n| switches.contains(n)), "{switches:?}");
    assert_eq!(t.servers[0].name, "n-vm1");
    assert_eq!(own_counts(&imported, t), (5, 88));
    assert!(imported.decisions.iter().any(|d| d.contains("more links than a server")), "{imported:?}");
}
