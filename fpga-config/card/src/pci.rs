//! Finds cards by their PCI id in `/sys/bus/pci/devices`.

use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tandem_fpga_config::profile::PciId;

/// The kernel's list of PCI devices.
pub const DEVICES: &str = "/sys/bus/pci/devices";

/// A card on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Domain, bus, device and function, e.g. `0000:03:00.0`.
    pub address: String,
    /// Its folder in that list.
    pub folder: PathBuf,
    /// Its driver; `None` when no driver uses it.
    pub driver: Option<String>,
    /// Its network interfaces, if the driver has any.
    pub interfaces: Vec<String>,
}

/// The cards with this id, in the order of their addresses.
///
/// When the folder cannot be read. On a machine without PCI the list is empty.
pub fn list(devices: &Path, id: &PciId) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(devices) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        if hex(&folder.join("vendor")) != Some(id.vendor) || hex(&folder.join("device")) != Some(id.device) {
            continue;
        }
        let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
        let driver = fs::read_link(folder.join("driver")).ok().and_then(|p| name(&p));
        let mut interfaces: Vec<String> = fs::read_dir(folder.join("net"))
            .map(|dir| dir.filter_map(|e| name(&e.ok()?.path())).collect())
            .unwrap_or_default();
        interfaces.sort();
        let address = name(&folder).unwrap_or_default();
        found.push(Found { address, folder, driver, interfaces });
    }
    found.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(found)
}

/// A file with a number such as `0xfeed`.
fn hex(path: &Path) -> Option<u16> {
    let text = fs::read_to_string(path).ok()?;
    u16::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}
