//! A version: one folder of installed files on a machine, so that a change to it and back is one
//! rename. It has the agent, its configuration after the inventory, its unit, and the script that
//! activates it; its name is a digest of its contents.

use super::script;
use crate::inventory::{Inventory, Machine, Service};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use toml::Value;

/// The folder of versions, below a machine's root.
pub const BASE: &str = "/opt/tandem";
/// The agent's folder for files that must survive a restart.
pub const STATE: &str = "/var/lib/tandem-agent";
/// The agent's folder for its socket and pid file.
pub const RUN: &str = "/run/tandem-agent";
/// The log of an agent without a service manager.
pub const LOG: &str = "/var/log/tandem-agent.log";
/// systemd's unit.
pub const UNIT: &str = "/etc/systemd/system/tandem-agent.service";

/// The agent's program, as it was built.
#[derive(Debug, Clone)]
pub struct Binary {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256, hexadecimal.
    pub digest: String,
    /// Its architecture, in the kernel's terms (`uname -m`).
    pub architecture: &'static str,
}

/// Why a file is not an agent.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// It cannot be read.
    #[error("cannot read the agent {}; build it: scripts/deploy does, or `cargo build --release -p tandem-agent`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It is not a program for Linux.
    #[error("{} is no program for x86_64 or aarch64 Linux; give the built tandem-agent", file.display())]
    NoProgram {
        /// The file.
        file: PathBuf,
    },
}

/// SHA-256 of some bytes, hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Binary {
    /// Reads a program.
    ///
    /// When it cannot be read, or is not a program.
    pub fn read(file: &Path) -> Result<Binary, BinaryError> {
        let bytes =
            std::fs::read(file).map_err(|source| BinaryError::Read { file: file.to_owned(), source })?;
        let architecture =
            architecture(&bytes).ok_or_else(|| BinaryError::NoProgram { file: file.to_owned() })?;
        Ok(Binary { digest: digest(&bytes), bytes, architecture })
    }
}

/// `e_machine` of a 64-bit little-endian ELF file (System V ABI, ELF header; values: EM_X86_64,
/// EM_AARCH64).
fn architecture(bytes: &[u8]) -> Option<&'static str> {
    if !bytes.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return None;
    }
    match u16::from_le_bytes(bytes.get(18..20)?.try_into().ok()?) {
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        _ => None,
    }
}

/// A version for one machine.
#[derive(Debug, Clone)]
pub struct Version {
    /// The first digits of the digest of all its files.
    pub id: String,
    /// Name, content and mode of each file except the agent.
    pub files: Vec<(&'static str, String, u32)>,
    /// The output of `sha256sum` for all of them, sorted by name.
    pub sums: String,
}

impl Version {
    /// The version for a machine: always the same for the same binary and inventory.
    pub fn of(inventory: &Inventory, machine: &Machine, binary: &Binary) -> Version {
        let agent = machine.path(&format!("{BASE}/current/tandem-agent"));
        let config = machine.path(&format!("{BASE}/current/agent.toml"));
        let unit = include_str!("unit.service")
            .replace("@AGENT@", &agent.display().to_string())
            .replace("@CONFIG@", &config.display().to_string());
        let mut files = vec![
            ("activate", script::activate(machine), 0o755),
            ("agent.toml", agent_toml(inventory, machine), 0o644),
        ];
        if machine.service == Service::Systemd {
            files.push(("tandem-agent.service", unit, 0o644));
        }
        let mut sums: Vec<(String, &str)> =
            files.iter().map(|(name, content, _)| (digest(content.as_bytes()), *name)).collect();
        sums.push((binary.digest.clone(), "tandem-agent"));
        sums.sort_by(|a, b| a.1.cmp(b.1));
        let sums = sums.iter().map(|(sum, name)| format!("{sum}  {name}")).collect::<Vec<_>>().join("\n");
        let id = digest(sums.as_bytes())[..12].to_owned();
        Version { id, files, sums }
    }

    /// Its folder.
    pub fn folder(&self, machine: &Machine) -> PathBuf {
        machine.path(&format!("{BASE}/versions/{}", self.id))
    }
}

fn text(value: impl Into<String>) -> String {
    Value::String(value.into()).to_string()
}

/// `tcp:HOST:PORT`, with brackets around a bare IPv6 address.
fn tcp(host: &str, port: u16) -> String {
    if host.contains(':') { format!("tcp:[{host}]:{port}") } else { format!("tcp:{host}:{port}") }
}

/// The agent's configuration of a machine.
pub fn agent_toml(inventory: &Inventory, machine: &Machine) -> String {
    let mut out =
        format!("# Written from the inventory {}: change it there and deploy again.\n", inventory.name);
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let path = |absolute: &str| text(machine.path(absolute).display().to_string());
    let controller = &inventory.controller;
    line(format!("name = {}", text(&machine.name)));
    line(format!("controller = {}", text(tcp(&controller.address, controller.agents))));
    line(format!("state = {}", path(STATE)));
    line(format!("control = {}", path(&format!("{RUN}/control.sock"))));
    line("\n[ovs]".to_owned());
    let ovs = &machine.ovs;
    for (key, file) in [("database", &ovs.database), ("pid_file", &ovs.pid_file)] {
        if let Some(file) = file {
            line(format!("{key} = {}", text(file.display().to_string())));
        }
    }
    if let Some(datapath) = ovs.datapath {
        line(format!("datapath = {}", text(datapath)));
    }
    line(format!("adopt = {}", ovs.adopt));
    line(format!("adopt_with_gap = {}", ovs.adopt_with_gap));
    for switch in &machine.switches {
        line(format!("\n[[switch]]\nname = {}\ndatapath = \"ovs\"", text(&switch.name)));
        line(format!("controllers = [{}]", text(tcp(&controller.address, controller.openflow))));
        for port in &switch.ports {
            line(format!("[[switch.port]]\nnumber = {}\ninterface = {}", port.number, text(&port.interface)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Inventory {
        let text = include_str!("../../inventory.toml");
        Inventory::read(text, "inventory.toml", Path::new("/"), None).expect("a good inventory")
    }

    #[test]
    fn a_version_is_named_by_all_that_is_in_it() {
        let inventory = example();
        let machine = &inventory.machines[0];
        let binary =
            |bytes: &[u8]| Binary { bytes: bytes.to_vec(), digest: digest(bytes), architecture: "x86_64" };
        let first = Version::of(&inventory, machine, &binary(b"a"));
        assert_eq!(first.id, Version::of(&inventory, machine, &binary(b"a")).id);
        assert_ne!(first.id, Version::of(&inventory, machine, &binary(b"b")).id);
        let mut other = inventory.clone();
        other.machines[0].switches[0].ports[0].interface = "eth9".into();
        assert_ne!(first.id, Version::of(&other, &other.machines[0], &binary(b"a")).id);
        // The example in FIPS 180-4.
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn the_agents_configuration_is_what_the_inventory_says() {
        let inventory = example();
        let config: toml::Table = agent_toml(&inventory, &inventory.machines[0]).parse().expect("TOML");
        assert_eq!(config["name"].as_str(), Some("mini1"));
        assert_eq!(config["controller"].as_str(), Some("tcp:10.0.0.1:6655"));
        assert_eq!(config["switch"][0]["port"][1]["interface"].as_str(), Some("eth2"));
        assert_eq!(config["switch"][0]["controllers"][0].as_str(), Some("tcp:10.0.0.1:6653"));
        assert_eq!(tcp("fd00::1", 1), "tcp:[fd00::1]:1");
    }

    #[test]
    fn only_programs_of_known_machines_are_taken() {
        let own = Binary::read(&std::env::current_exe().expect("a program")).expect("this program");
        assert_eq!(own.architecture, std::env::consts::ARCH);
        for cut in [0, 3, 19] {
            assert_eq!(architecture(&own.bytes[..cut]), None);
        }
    }
}
