//! The example in docs/testbed.md is a valid inventory, and complete.

use std::collections::BTreeSet;
use std::path::Path;
use tandem_model::site;
use tandem_testbed::inventory::Inventory;

#[test]
fn the_worked_example_is_one_data_centre() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/testbed"));
    let text = std::fs::read_to_string(folder.join("site.toml")).expect("the site file");
    let site = site::read(&text, "docs/testbed/site.toml").unwrap_or_else(|f| panic!("{f}"));
    let inventory =
        Inventory::load(&folder.join("inventory.toml"), Some(&site)).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(inventory.missing(&site), Vec::<&str>::new());
    // Every end of every link has a NIC.
    for link in &site.topology.links {
        for end in [link.a, link.b] {
            let name = site.topology.name(end.node);
            let (machine, node) = inventory.node(name).expect("a machine");
            assert!(
                node.ports.iter().any(|p| p.number == end.port.0),
                "{name} port {} on {}",
                end.port,
                machine.name
            );
        }
    }
    // The machines in the thesis, without the laptop, which runs the controller.
    assert_eq!(inventory.machines.len(), 2 + 4 + 1);
    assert_eq!(site.classes.iter().map(|c| c.share).collect::<Vec<_>>(), [70.0, 30.0]);
    // The guide names every NIC that the inventory uses.
    let guide = std::fs::read_to_string(folder.with_extension("md")).expect("the guide");
    let used: BTreeSet<&str> = (inventory.machines.iter())
        .flat_map(|m| m.nodes().flat_map(|n| &n.ports).map(|p| p.interface.as_str()))
        .collect();
    for nic in used {
        assert!(guide.contains(nic), "{nic}");
    }
}
