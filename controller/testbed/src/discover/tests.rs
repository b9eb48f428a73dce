//! The site files written for discovered hardware: always valid, with the differences as comments.

use super::*;
use std::path::Path;

const INVENTORY: &str = include_str!("../../../../docs/testbed/inventory.toml");

fn inventory(text: &str) -> Inventory {
    Inventory::read(text, "inventory.toml", Path::new("/"), None).unwrap_or_else(|f| panic!("{f}"))
}

/// Every NIC of the inventory, at 1 Gbit/s.
fn facts(inventory: &Inventory) -> Vec<Result<Facts, String>> {
    let nic = |(n, name): (usize, &String)| Nic {
        name: name.clone(),
        mac: format!("02:00:00:00:00:{n:02x}"),
        speed: Some(1000),
        driver: "e1000e".into(),
        carrier: true,
    };
    let of = |m: &Machine| {
        let mut names = vec![m.control.clone()];
        names.extend(m.nodes().flat_map(|n| n.ports.iter().map(|p| p.interface.clone())));
        let nics = names.iter().enumerate().map(nic).collect();
        Ok(Facts { nics, cpu: 2, ram: Bytes::gib(4), disk: Bytes::gib(900) })
    };
    inventory.machines.iter().map(of).collect()
}

fn cable(a: &str, b: &str) -> Cable {
    (a.to_owned(), b.to_owned())
}

#[test]
fn the_worked_examples_shape_is_found_from_its_ports_alone() {
    let inventory = inventory(INVENTORY);
    let text = write(&inventory, &facts(&inventory), &[cable("agg1.1", "core1.2")]);
    let site = site::read(&text, "found.toml").unwrap_or_else(|f| panic!("{f}\n{text}"));
    let expected = include_str!("../../../../docs/testbed/site.toml");
    let expected = site::read(expected, "site.toml").unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(site.topology.links, expected.topology.links, "{text}");
    assert!(text.contains("core1.2 - agg1.1: seen\n"), "{text}");
    assert!(text.contains("(1 of 6 were seen)"), "{text}");
    assert_eq!(site.topology.servers[0].capacity.ram, Bytes::gib(4));
    assert!(!text.contains("FILL IN:") && !text.contains("DIFFERS"), "{text}");
}

#[test]
fn what_does_not_fit_is_said_and_the_file_can_be_read() {
    let inventory = inventory(&INVENTORY.replace("number = 2                      # to srv1", "number = 3"));
    let mut facts = facts(&inventory);
    facts[6] = Err("outside: ssh cannot reach it".into());
    if let Ok(server) = &mut facts[4] {
        server.nics[1].speed = Some(100);
    }
    if let Ok(mini) = &mut facts[0] {
        mini.nics.retain(|n| n.name != "eth2");
    }
    let text = write(&inventory, &facts, &[cable("edge1.1", "edge2.1")]);
    let site = site::read(&text, "found.toml").unwrap_or_else(|f| panic!("{f}\n{text}"));
    for said in [
        "DIFFERS: edge1.1 is plugged into edge2.1",
        "DIFFERS: the inventory has edge1.3",
        "FILL IN: the inventory has no NIC for edge1.2",
        "FILL IN: core1.2 has no such NIC",
        "FILL IN: not asked: outside: ssh cannot reach it",
        "edge = \"100 Mbit/s\"",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    // The faster one of the two is a deviation.
    let rate = |name: &str| {
        let NodeId::Server(id) = site.topology.by_name(name).expect("a node") else { panic!("{name}") };
        let uplink = site.topology.servers[id.0 as usize].uplinks[0];
        site.topology.link(uplink).expect("a link").cfg.rate
    };
    assert_eq!((rate("srv1").0, rate("srv2").0), (100_000_000, 1_000_000_000), "{text}");
}

#[test]
fn what_a_machine_says_is_read() {
    let inventory = inventory(INVENTORY);
    let said = "nic br0 no 02:00:00:00:00:01 -1 0 ?\nnic eth0 yes 02:00:00:00:00:02 1000 1 r8169\n\
                nic eth1 yes 02:00:00:00:00:03 4294967295 0 e1000e\nnic nf2c0 no 02:00:00:00:00:04 10000 1 nf2\n\
                cpu 4\nram 4194304\ndisk 1048576\nnonsense\n";
    let facts = read(&inventory.machines[1], said);
    let names: Vec<&str> = facts.nics.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["eth0", "eth1", "nf2c0"]);
    assert_eq!(facts.nics.iter().map(|n| n.speed).collect::<Vec<_>>(), [Some(1000), None, None]);
    assert_eq!((facts.cpu, facts.ram, facts.disk), (4, Bytes::gib(4), Bytes::gib(1)));
}

use proptest::prelude::*;

proptest! {
    /// Whatever machines and links report, the result is a valid site file without terminal control
    /// characters.
    #[test]
    fn whatever_machines_say_the_file_can_be_read(
        lines in prop::collection::vec(prop_oneof![
            "nic [a-z0-9]{1,5} (yes|no) [0-9a-f:]{1,17} -?[0-9]{1,21} [01] [a-z0-9?]{1,8}",
            "(cpu|ram|disk) -?[0-9]{1,21}",
            "nic eth1 yes \u{1b}\\[2J 1000 1 \u{1b}\u{9b}x",
            ".{0,60}",
        ], 0..8),
        why in prop::option::of(".{0,60}"),
        ends in prop::collection::vec(("[a-z]{3,5}[0-9]\\.[0-9]", ".{0,12}"), 0..3),
    ) {
        let inventory = inventory(INVENTORY);
        let facts: Vec<Result<Facts, String>> = (inventory.machines.iter())
            .map(|m| match &why {
                Some(why) => Err(why.clone()),
                None => Ok(read(m, &lines.join("\n"))),
            })
            .collect();
        let text = write(&inventory, &facts, &ends);
        prop_assert!(site::read(&text, "found.toml").is_ok(), "{}", text);
        let is_escape = |c: char| matches!(c, '\u{1b}' | '\u{9b}');
        let has_escapes = text.chars().any(is_escape);
        prop_assert!(!has_escapes);
    }
}
