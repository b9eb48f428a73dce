//! The example of a datapath, examples/null_datapath.rs, fulfils the contract in
//! docs/howto/add-a-datapath.md.

#[path = "../../examples/null_datapath.rs"]
mod null_datapath;

use null_datapath::ENTRY;
use std::path::Path;
use tandem_agent::config::Config;
use tandem_agent::datapath::{Adopt, Datapath, RunMode};
use tandem_agent::desired::Desired;

const CONFIGURATION: &str = r#"
name = "mini1"
controller = "unix:/x"
[[switch]]
name = "edge1"
datapath = "soft"
[[switch.port]]
number = 1
interface = "eth1"
"#;

const DESIRED: &str = r#"
[[switch]]
name = "edge1"
datapath_id = "0000000000000001"
[[switch.port]]
number = 1
interface = "eth1"
"#;

/// Opens it for a switch with `settings` as its `[switch.settings]`. Its name is not a kind of this
/// agent, so the settings are added to the configuration after parsing.
fn open(settings: &str) -> Box<dyn Datapath> {
    let mut config = Config::parse(CONFIGURATION).expect("a configuration");
    config.switches[0].settings = toml::from_str(settings).expect("a table");
    let switches = config.switches.clone();
    (ENTRY.open)(&config, switches, RunMode::Command).expect("it opens")
}

fn desired(text: &str) -> Desired {
    toml::from_str(text).expect("a desired state")
}

#[test]
fn it_makes_the_difference_and_nothing_when_there_is_none() {
    let mut null = open("links = true");
    let wanted = desired(DESIRED).switches;
    assert_eq!(null.validate(&wanted), Vec::new());
    assert_eq!(null.apply(&wanted, &[], Adopt::No).changes, 1);
    assert_eq!(null.apply(&wanted, &[], Adopt::No).changes, 0);
    let report = null.report(&wanted);
    assert!(report[0].ports[0].up, "as its settings say: {report:?}");
    assert_eq!(null.capabilities()[0].ports[0].interface, "eth1");
    // A refused switch stays; one that is no longer wanted is removed.
    assert_eq!(null.apply(&[], &["edge1".into()], Adopt::No).changes, 0);
    assert_eq!(null.apply(&[], &[], Adopt::No).changes, 1);
    assert_eq!(null.release(), Ok(Vec::new()));
}

#[test]
fn what_it_cannot_do_is_refused_with_what_to_do() {
    let classes =
        format!("{DESIRED}rate = \"1 Mbit/s\"\n[[switch.port.class]]\nrate = \"1 Mbit/s\"\ndscp = 1\n");
    let faults = open("").validate(&desired(&classes).switches);
    assert!(faults[0].to_string().contains("datapath = \"soft\""), "{faults:?}");
    assert!(!open("").report(&desired(DESIRED).switches)[0].ports[0].up, "by default");
}

#[test]
fn what_a_lab_writes_for_it_is_read_by_its_check() {
    let lab = (ENTRY.lab)();
    let settings = lab.switch.strip_prefix("[switch.settings]\n").expect("its settings");
    let mut null = open(settings);
    assert!(null.report(&desired(DESIRED).switches)[0].ports[0].up);
    assert_eq!((ENTRY.records)(Path::new("/s")), Path::new("/s/null"));
    let config = Config::parse(CONFIGURATION).expect("a configuration");
    assert_eq!((ENTRY.check)(&config.switches[0]), Ok(()), "a switch of another kind is not its matter");
}
