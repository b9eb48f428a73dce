//! The layers of ARCHITECTURE.md: what each crate may depend on, and what pure crates must never
//! reach.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn metadata() -> Value {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            &platform,
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
        ])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// Per package name: its normal dependencies' names.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| (p["id"].as_str().expect("id"), p["name"].as_str().expect("name")))
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let normal =
        |dep: &&Value| dep["dep_kinds"].as_array().is_some_and(|k| k.iter().any(|k| k["kind"].is_null()));
    nodes
        .iter()
        .map(|node| {
            let deps = node["deps"].as_array().expect("deps").iter().filter(normal);
            let deps = deps.map(|d| names[d["pkg"].as_str().expect("pkg")].to_owned()).collect();
            (names[node["id"].as_str().expect("id")].to_owned(), deps)
        })
        .collect()
}

/// What each of our crates may use of ours. Every crate of the workspace must be here.
const LAYERS: &[(&str, &[&str])] = &[
    ("tandem-model", &[]),
    ("tandem-site-import", &["tandem-model"]),
    ("tandem-openflow", &["tandem-model"]),
    ("tandem-switch-driver", &["tandem-model", "tandem-openflow"]),
    ("tandem-fpga-config", &["tandem-model", "tandem-openflow"]),
    ("tandem-fpga-card", &["tandem-model", "tandem-fpga-config"]),
    ("tandem-linux", &[]),
    ("tandem-agent-protocol", &[]),
    (
        "tandem-agent",
        &[
            "tandem-model",
            "tandem-openflow",
            "tandem-fpga-config",
            "tandem-fpga-card",
            "tandem-linux",
            "tandem-agent-protocol",
        ],
    ),
    ("tandem-core", &["tandem-model"]),
    ("tandem-api", &["tandem-core", "tandem-model"]),
    ("tandem-testbed", &["tandem-model"]),
    ("tandem-hypervisor", &["tandem-model", "tandem-agent-protocol", "tandem-testbed"]),
    (
        "tandem-controller",
        &[
            "tandem-hypervisor",
            "tandem-api",
            "tandem-core",
            "tandem-openflow",
            "tandem-switch-driver",
            "tandem-model",
            "tandem-agent-protocol",
            "tandem-site-import",
            "tandem-testbed",
        ],
    ),
    (
        "tandem-lab",
        &[
            "tandem-model",
            "tandem-openflow",
            "tandem-switch-driver",
            "tandem-linux",
            "tandem-api",
            "tandem-core",
            "tandem-agent-protocol",
            "tandem-testbed",
            "tandem-sim",
            "tandem-draw",
        ],
    ),
    ("tandem-sim", &["tandem-model", "tandem-core"]),
    ("tandem-draw", &["tandem-model"]),
    ("tandem-tests", &[]),
];

#[test]
fn every_crate_keeps_to_its_layer() {
    let deps = dependencies(&metadata());
    let ours: BTreeSet<&String> = deps.keys().filter(|n| n.starts_with("tandem-")).collect();
    let listed: BTreeSet<String> = LAYERS.iter().map(|(n, _)| (*n).to_owned()).collect();
    assert_eq!(ours, listed.iter().collect(), "a crate of the workspace is not in the table of layers");
    for (name, allowed) in LAYERS {
        let used = deps[*name].iter().filter(|d| d.starts_with("tandem-"));
        let beyond: Vec<&String> = used.filter(|d| !allowed.contains(&d.as_str())).collect();
        assert!(beyond.is_empty(), "{name} must not depend on {beyond:?}");
    }
}

/// Everything that a pure crate may reach, directly or not. None of it opens a socket, a file or a
/// clock on its own account.
const PURE: &[&str] = &[
    "allocator-api2",
    "arraydeque",
    "arrayvec",
    "crc",
    "crc-catalog",
    "data-encoding",
    "dhcproto",
    "dhcproto-macros",
    "equivalent",
    "etherparse",
    "foldhash",
    "hashbrown",
    "heck",
    "idna",
    "idna_adapter",
    "icu_collections",
    "icu_locale_core",
    "icu_normalizer",
    "icu_normalizer_data",
    "icu_properties",
    "icu_properties_data",
    "icu_provider",
    "indexmap",
    "ipnet",
    "itoa",
    "litemap",
    "memchr",
    "percent-encoding",
    "form_urlencoded",
    "potential_utf",
    "proc-macro2",
    "quote",
    // Random numbers of a seed alone: the simulated world is given one.
    "ppv-lite86",
    "rand_chacha",
    // XML and YAML that others wrote, as trees and events.
    "roxmltree",
    "ryu",
    "saphyr-parser",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "serde_spanned",
    "smallvec",
    "stable_deref_trait",
    "strsim",
    "syn",
    "synstructure",
    "thiserror",
    "thiserror-impl",
    "tinystr",
    "tinyvec",
    "tinyvec_macros",
    "toml",
    "toml_datetime",
    "toml_parser",
    "toml_writer",
    "trust-dns-proto",
    "unicode-ident",
    "url",
    // Schemas of what the API answers, for its description: only with the feature `schema`.
    "utoipa",
    "utoipa-gen",
    "utf8_iter",
    "winnow",
    "writeable",
    "yoke",
    "yoke-derive",
    "zerocopy",
    "zerocopy-derive",
    "zerofrom",
    "zerofrom-derive",
    "zerotrie",
    "zerovec",
    "zerovec-derive",
    "zmij",
    "displaydoc",
    "rand",
    "rand_core",
    "hickory-proto",
    "thiserror-no-std",
    // Reached only through dhcproto, whose DNS names (hickory-proto) bring them along; the bans of
    // clippy.toml hold for our own code.
    "cfg-if",
    "chacha20",
    "cpufeatures",
    "critical-section",
    "getrandom",
    "libc",
    "log",
    "once_cell",
    "pin-project-lite",
    "portable-atomic",
    "tracing",
    "tracing-attributes",
    "tracing-core",
    "utf_types",
];

#[test]
fn pure_crates_reach_nothing_but_what_is_listed() {
    let deps = dependencies(&metadata());
    for name in [
        "tandem-model",
        "tandem-site-import",
        "tandem-openflow",
        "tandem-switch-driver",
        "tandem-fpga-config",
        "tandem-core",
        "tandem-sim",
        "tandem-draw",
    ] {
        let seen = reached(&deps, name);
        let beyond: Vec<&String> =
            seen.iter().filter(|d| !d.starts_with("tandem-") && !PURE.contains(&d.as_str())).collect();
        assert!(
            beyond.is_empty(),
            "{name} reaches {beyond:?}, which the list of pure dependencies does not have"
        );
    }
}

/// Everything that a crate reaches, directly or not.
fn reached(deps: &BTreeMap<String, BTreeSet<String>>, name: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        for dep in deps.get(&next).into_iter().flatten() {
            if seen.insert(dep.clone()) {
                open.push(dep.clone());
            }
        }
    }
    seen
}

#[test]
fn the_client_of_the_api_brings_no_server_along() {
    let seen = reached(&dependencies(&metadata()), "tandem-api");
    for server in ["axum", "tonic", "rusqlite", "clap"] {
        assert!(!seen.contains(server), "tandem-api reaches {server}");
    }
}

#[test]
fn every_pure_crate_bans_clocks_files_and_sockets() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for folder in [
        "model",
        "model/import",
        "openflow",
        "openflow/driver",
        "fpga-config",
        "controller/core",
        "lab/sim",
        "lab/draw",
    ] {
        let text = std::fs::read_to_string(format!("{root}/{folder}/clippy.toml"))
            .expect("a clippy.toml per pure crate");
        for banned in [
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "std::fs::File",
            "std::net::TcpStream::connect",
            "std::collections::HashMap",
            "std::thread::spawn",
            "std::process::Command",
        ] {
            assert!(text.contains(banned), "{folder}/clippy.toml does not ban {banned}");
        }
    }
}

/// Where the wall clock is read, and why there. Everything timed goes by a monotonic clock: a date
/// that is set must not end or delay it.
const WALL_CLOCK: &[(&str, &str)] = &[
    ("agent/src/enrollment.rs", "whether a certificate is good"),
    ("agent/src/datapath/soft/engine.rs", "the moment at which its monotonic clock starts"),
    ("controller/src/agents/authority.rs", "how long certificates and enrolment tokens are good"),
    (
        "controller/src/clock.rs",
        "the moment at which the monotonic clock starts; whether the wall clock was set",
    ),
    ("controller/src/store/tokens.rs", "how long tokens of the API are good"),
    (
        "controller/hypervisor/src/xapi/load.rs",
        "from when on a host is asked the first time; then its own clock counts",
    ),
    ("controller/testbed/src/lease.rs", "since when a testbed is held, for people on other machines"),
    ("fpga-config/card/src/memory_card.rs", "the moment at which its monotonic clock starts"),
    ("lab/src/node/probe.rs", "the kernel's time stamps of packets are by it"),
];

fn sources(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "tests" && name != "benches" && name != "fuzz" {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

#[test]
fn the_wall_clock_is_read_only_where_a_date_is_meant() {
    let root =
        std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().expect("the root");
    let mut files = Vec::new();
    for folder in ["agent", "controller", "fpga-config", "lab", "model", "openflow"] {
        sources(&root.join(folder), &mut files);
    }
    let reads = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a source file");
        ["SystemTime::now", "now_utc", "now_local", "CLOCK_REALTIME"].iter().any(|word| text.contains(word))
    };
    let found: BTreeSet<String> = files
        .iter()
        .filter(|p| reads(p))
        .map(|p| p.strip_prefix(&root).expect("below the root").display().to_string())
        .collect();
    let listed: BTreeSet<String> = WALL_CLOCK.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(found, listed, "read a monotonic clock, or say in WALL_CLOCK what date is meant");
}
