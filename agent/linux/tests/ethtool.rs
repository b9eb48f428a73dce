//! Compares the ioctl's results with the output of ethtool(8).

mod support;

use std::collections::BTreeMap;
use std::time::Duration;
use support::{Stream, is_root, pair, text};
use tandem_linux::ethtool::{Duplex, Ethtool};

/// `name: value` lines, as ethtool prints them.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let split = |l: &str| l.split_once(": ").map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()));
    text.lines().filter_map(split).collect()
}

#[test]
fn driver_link_features_and_counters_are_those_of_ethtool() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let stream = Stream::start(&left, &right, 9500, Duration::from_micros(300));
    stream.wait(50);
    assert_eq!(stream.end().1, 0);
    let (driver, carrier, link, features, counters) = left
        .run(|| {
            let mut e = Ethtool::open()?;
            let name = "left";
            Ok::<_, tandem_linux::Error>((
                e.driver(name)?,
                e.carrier(name)?,
                e.link(name)?,
                e.features(name)?,
                e.statistics(name)?,
            ))
        })
        .expect("a namespace")
        .expect("the driver's answers");

    let shown = pairs(&text(&left, "ethtool", &["-i", "left"]));
    let driver = driver.expect("veth has a driver");
    assert_eq!((&driver.name, &driver.version), (&shown["driver"], &shown["version"]));
    assert_eq!(driver.bus, "", "there is no card behind it");

    let shown = pairs(&text(&left, "ethtool", &["left"]));
    let link = link.expect("veth has link settings");
    let speed = shown["Speed"].strip_suffix("Mb/s").and_then(|s| s.parse::<u64>().ok());
    assert_eq!(link.speed, speed.map(|m| m * 1_000_000));
    assert_eq!(link.duplex, (shown["Duplex"] == "Full").then_some(Duplex::Full));
    assert_eq!(carrier, Some(shown["Link detected"] == "yes"));

    let shown = pairs(&text(&left, "ethtool", &["-k", "left"]));
    let mut compared = 0;
    for feature in &features {
        // ethtool prints some features under older names.
        let Some(value) = shown.get(&feature.name) else { continue };
        assert_eq!(value.starts_with("on"), feature.active, "{feature:?} {value}");
        assert_eq!(!value.contains("[fixed]"), feature.changeable, "{feature:?} {value}");
        compared += 1;
    }
    assert!(compared > 20, "{compared} of {} features", features.len());

    let shown = pairs(&text(&left, "ethtool", &["-S", "left"]));
    assert_eq!(counters.len(), shown.len());
    for (name, value) in &counters {
        assert_eq!(shown[name], value.to_string(), "{name}");
    }
    assert!(counters.iter().any(|(_, value)| *value != 0));
}

#[test]
fn features_are_switched_and_what_cannot_be_is_refused() {
    if !is_root() {
        return;
    }
    let (left, _right) = pair();
    let feature = |name: &str| pairs(&text(&left, "ethtool", &["-k", "left"]))[name].clone();
    let set = |wanted: &[(&str, bool)]| {
        left.run(|| Ethtool::open().and_then(|mut e| e.set_features("left", wanted))).expect("a namespace")
    };
    set(&[("tx-checksum-ip-generic", false), ("rx-gro", true)]).expect("veth lets itself be told");
    assert_eq!(
        (feature("tx-checksum-ip-generic"), feature("generic-receive-offload")),
        ("off".into(), "on".into())
    );
    set(&[("tx-checksum-ip-generic", true)]).expect("veth lets itself be told");
    assert_eq!(feature("tx-checksum-ip-generic"), "on");
    let fixed = set(&[("netns-local", true)]).or_else(|_| set(&[("rx-lro", true)])).expect_err("it is fixed");
    assert!(fixed.to_string().contains("left"), "{fixed}");
    let unknown = set(&[("no-such-feature", true)]).expect_err("there is none").to_string();
    assert!(unknown.contains("no-such-feature") && unknown.contains("ethtool -k"), "{unknown}");
}

#[test]
fn an_interface_that_is_not_there_is_an_error_and_the_loopback_has_no_link_settings() {
    let mut e = Ethtool::open().expect("a socket");
    for name in ["no-such-if", "a-name-that-is-longer-than-any"] {
        let error = e.driver(name).expect_err("there is none").to_string();
        assert!(error.contains(name), "{error}");
        e.statistics(name).expect_err("there is none");
    }
    assert_eq!(e.link("lo").expect("an answer"), None);
    assert_eq!(e.statistics("lo").expect("an answer"), []);
}
