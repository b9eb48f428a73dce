//! What is exported is read back to the same nodes, links and rates.

use proptest::prelude::*;
use std::fmt::Write;
use tandem_model::site::{EXAMPLES, read};
use tandem_model::{BitRate, LinkConfig, NodeId, Site};
use tandem_site_import::export::{containerlab, graphviz};
use tandem_site_import::{Options, Source, recognise};

/// A name, and what it is the name of.
type Node = (String, u8);
/// The names of a link's ends, and what it is like.
type Ends = (String, String, LinkConfig);

/// Nodes with what they are, and links with what they are like, in one order.
fn shape(site: &Site) -> (Vec<Node>, Vec<Ends>) {
    let t = &site.topology;
    let mut nodes: Vec<Node> = (t.switches.iter().map(|n| (n.name.clone(), 0)))
        .chain(t.servers.iter().map(|n| (n.name.clone(), 1)))
        .chain(t.gateways.iter().map(|n| (n.name.clone(), 2)))
        .collect();
    nodes.sort();
    let mut links: Vec<_> = (t.links.iter())
        .map(|l| {
            let (a, b) = (t.name(l.a.node).to_owned(), t.name(l.b.node).to_owned());
            (a.clone().min(b.clone()), a.max(b), l.cfg)
        })
        .collect();
    links.sort_by_key(|(a, b, cfg)| (a.clone(), b.clone(), cfg.rate, cfg.delay, cfg.loss_ppm, cfg.queue));
    (nodes, links)
}

fn through_clab(site: &Site) -> Site {
    let text = containerlab(site);
    let source = Source { file: "x.clab.yml", text: &text };
    let format = recognise(source).expect("containerlab's");
    assert_eq!(format.name, "clab");
    // A site without servers stays without.
    let options = Options { servers_per_switch: 0, ..Options::default() };
    let imported = (format.translate)(&[source], &options).unwrap_or_else(|e| panic!("{e}\n{text}"));
    read(&imported.site, "x").unwrap_or_else(|f| panic!("{f}\n{}", imported.site))
}

#[test]
fn every_example_comes_back_from_containerlab() {
    for (name, text) in EXAMPLES {
        let site = read(text, name).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(shape(&through_clab(&site)), shape(&site), "{name}");
    }
}

#[test]
fn a_drawing_has_every_node_and_every_link_once() {
    for (name, text) in EXAMPLES {
        let site = read(text, name).unwrap_or_else(|f| panic!("{f}"));
        let drawn = graphviz(&site);
        let t = &site.topology;
        let nodes = t.switches.len() + t.servers.len() + t.gateways.len();
        assert_eq!(drawn.matches(" [shape=").count(), nodes, "{name}");
        assert_eq!(drawn.matches(" -- ").count(), t.links.len(), "{name}");
        assert!(drawn.starts_with("// ") && drawn.ends_with("}\n"));
    }
}

/// A connected graph: a tree of switches, other links between them, servers and a gateway.
fn sites() -> impl Strategy<Value = String> {
    let link = (8_000u64..=4_000_000_000_000, 0u64..10_000_000, 0u32..=1_000_000, 1u32..=100_000);
    let links =
        proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), link), 0..12);
    (1usize..7, 0usize..5, links).prop_map(|(switches, servers, links)| {
        let mut text = "name = \"p\"\n[topology]\nshape = \"free-form\"\n".to_owned();
        for n in 0..switches {
            let _ = write!(text, "[[switch]]\nname = \"s{n}\"\n");
        }
        for n in 0..servers {
            let _ = write!(text, "[[server]]\nname = \"h{n}\"\n");
        }
        text += "[[gateway]]\nname = \"gw\"\n[[link]]\nbetween = [\"gw\", \"s0\"]\n";
        for n in 1..switches {
            let _ = write!(text, "[[link]]\nbetween = [\"s{n}\", \"s{}\"]\n", (n - 1) / 2);
        }
        for n in 0..servers {
            let _ = write!(text, "[[link]]\nbetween = [\"s{}\", \"h{n}\"]\n", n % switches);
        }
        for (a, b, (rate, micros, loss, queue)) in links {
            let (a, b) = (a.index(switches), b.index(switches));
            if a != b {
                let percent = f64::from(loss) / 10_000.0;
                let _ = write!(
                    text,
                    "[[link]]\nbetween = [\"s{a}\", \"s{b}\"]\nrate = \"{rate} bit/s\"\ndelay = \"{micros} us\"\n\
                     loss = {percent:?}\nqueue = {queue}\n"
                );
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_graph_comes_back_from_containerlab(text in sites()) {
        let site = read(&text, "p").unwrap_or_else(|f| panic!("{f}\n{text}"));
        prop_assert_eq!(shape(&through_clab(&site)), shape(&site));
    }

    /// Whatever a file says, the result is a site, or there is an error that says something.
    #[test]
    fn any_change_of_a_file_is_a_site_or_an_error(
        which in 0usize..3,
        at in any::<prop::sample::Index>(),
        len in 0usize..40,
        with in prop_oneof![Just(String::new()), "[\\[\\]{}\":,<>/&*=.0-9a-z#\n -]{0,12}", "\\PC{0,6}"],
    ) {
        let (file, text) = [
            ("l.clab.yml", include_str!("../../../tests/data/topologies/frr01.clab.yml")),
            ("g.graphml", include_str!("../../../tests/data/topologies/Nsfnet.graphml")),
            ("c.ini", include_str!("data/conf.ini")),
        ][which];
        let chars: Vec<char> = text.chars().collect();
        let from = at.index(chars.len());
        let to = (from + len).min(chars.len());
        let text: String = chars[..from].iter().copied().chain(with.chars()).chain(chars[to..].iter().copied()).collect();
        let source = Source { file, text: &text };
        if let Some(format) = recognise(source) {
            match (format.translate)(&[source], &Options::default()) {
                Ok(imported) => prop_assert!(read(&imported.site, "x").is_ok(), "{}", imported.site),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}

#[test]
fn gateways_keep_their_place() {
    let (_, text) = EXAMPLES.iter().find(|(name, _)| *name == "office").expect("an example");
    let site = read(text, "office").unwrap_or_else(|f| panic!("{f}"));
    let back = through_clab(&site);
    assert_eq!(back.topology.gateways.len(), 1);
    let end = back.topology.links[back.topology.gateways[0].uplinks[0].0 as usize].clone();
    let other = end.other(NodeId::Gateway(tandem_model::GatewayId(0))).expect("an end");
    assert_eq!(back.topology.name(other.node), "core1");
    assert_eq!(BitRate::mbit(160), end.cfg.rate);
}
