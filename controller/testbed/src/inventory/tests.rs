//! Valid inventories, and the faults of invalid ones.

use super::*;
use tandem_model::site;

const EXAMPLE: &str = include_str!("../../inventory.toml");

fn read(text: &str, site: Option<&Site>) -> Result<Inventory, Faults> {
    Inventory::read(text, "inventory.toml", Path::new("/etc/lab"), site)
}

/// Line and key of each fault.
fn faults(text: &str, site: Option<&Site>) -> Vec<(usize, String)> {
    read(text, site).err().into_iter().flat_map(|f| f.faults).map(|f| (f.line, f.key)).collect()
}

fn small_site() -> Site {
    let text = "name = \"small\"\n[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 2\n";
    site::read(text, "site.toml").expect("a good site")
}

#[test]
fn the_example_is_read_and_its_defaults_are_those_it_says() {
    let full = read(EXAMPLE, None).expect("a good inventory");
    let short: String = EXAMPLE
        .lines()
        .filter(|l| !l.contains("left out") && !l.starts_with("options") && !l.starts_with("adopt"))
        .map(|l| format!("{l}\n"))
        .collect();
    let short = short.replace("datapath = \"auto\"", "").replace("[ssh]", "").replace("[machine.ovs]", "");
    let mut short = read(&short, None).expect("a good inventory");
    // The only default that is written explicitly.
    short.machines[0].ovs.datapath = Some("auto");
    assert_eq!(full, short);
    assert_eq!(full.machines[0].path("/run/x"), Path::new("/run/x"));
    let (machine, node) = full.node("gw1").expect("the gateway");
    assert_eq!((machine.name.as_str(), node.ports[0].interface.as_str()), ("outside", "eth2"));
}

#[test]
fn a_machine_may_be_reached_otherwise_than_the_others() {
    let text = "name = \"l\"\n[controller]\naddress = \"10.0.0.1\"\n[ssh]\nport = 2222\nkey = \"id\"\n\
        [[machine]]\nname = \"a\"\naddress = \"h\"\ncontrol = \"eth0\"\n[machine.ssh]\nuser = \"lab\"\nknown_hosts = \"~/kh\"\n";
    let inventory = read(text, None).expect("a good inventory");
    let ssh = &inventory.machines[0].ssh;
    assert_eq!((ssh.user.as_str(), ssh.port), ("lab", 2222));
    assert_eq!(ssh.key.as_deref(), Some(Path::new("/etc/lab/id")));
    assert_eq!(ssh.known_hosts.as_deref(), Some(Path::new("~/kh")));
}

#[test]
fn all_faults_are_told_at_once_each_at_its_line() {
    let text = r#"name = "lab 1"
[controller]
openflow = 70000
[[machine]]
name = "m"
address = "-oProxyCommand=x"
control = "eth0"
colour = "red"
[[machine.switch]]
name = "edge1"
datapath = "magic"
[[machine.switch.port]]
number = 1
interface = "eth0"
[[machine.switch.port]]
number = 1
interface = "eth1"
[[machine]]
name = "m"
address = "10.0.0.2"
root = "here"
[[machine.server]]
name = "edge1"
[[machine.server.port]]
number = 1
interface = "eth1"
[[machine.server.port]]
interface = "eth1"
"#;
    let told = faults(text, None);
    for expected in [
        (1, "name"),
        (2, "controller.address"),
        (3, "controller.openflow"),
        (6, "machine.address"),
        (8, "machine.colour"),
        (11, "machine.switch.datapath"),
        (14, "machine.switch.port.interface"),
        (16, "machine.switch.port.number"),
        (19, "machine.name"),
        (18, "machine.control"),
        (21, "machine.root"),
        (23, "machine.server.name"),
        (27, "machine.server.port.number"),
        (28, "machine.server.port.interface"),
    ] {
        assert!(told.contains(&(expected.0, expected.1.to_owned())), "{expected:?} is not in {told:?}");
    }
    assert_eq!(told.len(), 14, "{told:?}");
    let text = read(text, None).expect_err("faults").to_string();
    assert!(text.contains("would cut off the machine"), "{text}");
}

#[test]
fn names_and_ports_are_held_against_the_site() {
    let site = small_site();
    let text = EXAMPLE.replace("number = 3", "number = 9");
    let told = read(&text, Some(&site)).expect_err("port 9").to_string();
    assert!(told.contains("edge1 has no port 9 in the site"), "{told}");
    let text = EXAMPLE.replace("\"edge1\"", "\"egde1\"").replace("\"srv1\"", "\"edge1\"");
    let told = read(&text, Some(&site)).expect_err("names").to_string();
    assert!(
        told.contains("the site small has no switch \"egde1\"") && told.contains("it has edge1"),
        "{told}"
    );
    assert!(
        told.contains("the site small has no server \"edge1\"") && told.contains("it has srv1, srv2"),
        "{told}"
    );
    let good = read(EXAMPLE, Some(&site)).expect("all is in the site");
    assert_eq!(good.missing(&site), ["srv2"]);
}

#[test]
fn the_same_place_twice_is_a_fault_but_not_with_another_root() {
    let two = |root: &str| {
        format!(
            "name = \"l\"\n[controller]\naddress = \"c\"\n[[machine]]\nname = \"a\"\naddress = \"h\"\ncontrol = \"lo\"\n\
             service = \"process\"\nroot = \"/tmp/a\"\n[[machine]]\nname = \"b\"\naddress = \"h\"\ncontrol = \"lo\"\n\
             service = \"process\"\nroot = \"{root}\"\n"
        )
    };
    assert_eq!(faults(&two("/tmp/b"), None), []);
    assert_eq!(faults(&two("/tmp/a"), None), [(12, "machine.address".to_owned())]);
}

#[test]
fn no_text_makes_it_panic() {
    for cut in 0..EXAMPLE.len() {
        let _ = read(&EXAMPLE[..cut], Some(&small_site()));
    }
}

use proptest::prelude::*;
use tandem_tests::damage::damage;

/// The example with a key that has a value of any kind.
fn damaged() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        "-?[0-9]{1,21}",
        "\"[a-zA-Z0-9:/@.\u{7f}-\u{9f}-]{0,30}\"",
        Just("\"\"".to_owned()),
        Just("[]".to_owned()),
        Just("[[[[]]]]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("1e999".to_owned()),
        Just("true".to_owned()),
        ".{0,20}",
    ];
    let change = (0..EXAMPLE.lines().count(), prop::option::of(value));
    prop::collection::vec(change, 1..4).prop_map(|changes| damage(EXAMPLE, changes))
}

proptest! {
    /// A damaged inventory either is valid, so that agents' configurations can be written, or has
    /// faults with their place.
    #[test]
    fn any_text_is_an_inventory_or_has_faults(text in prop_oneof![4 => damaged(), 1 => ".{0,200}"]) {
        for site in [None, Some(&small_site())] {
            match read(&text, site) {
                Ok(inventory) => {
                    for machine in &inventory.machines {
                        let written = crate::deploy::release::agent_toml(&inventory, machine);
                        prop_assert!(written.parse::<toml::Table>().is_ok(), "{}", written);
                    }
                }
                Err(faults) => {
                    prop_assert!(!faults.faults.is_empty());
                    let lines = text.split('\n').count();
                    prop_assert!(faults.faults.iter().all(|f| (1..=lines).contains(&f.line)));
                    prop_assert!(!faults.to_string().is_empty());
                }
            }
        }
    }
}
