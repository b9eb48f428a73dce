//! The checks of `tandem-agent doctor` for NetFPGA cards.

use crate::doctor::Findings;
use std::path::Path;

/// Finds a NetFPGA by its PCI id; `tandem-fpga` shows the capabilities of its bitfile.
pub(super) fn boards(folder: &Path, findings: &mut Findings) {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let devices = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for device in devices {
        let id = (read(device.path().join("vendor")), read(device.path().join("device")));
        if id == ("0xfeed".to_owned(), "0x0001".to_owned()) {
            let at = device.file_name().to_string_lossy().into_owned();
            let driver = std::fs::read_link(device.path().join("driver")).ok();
            let driver =
                driver.as_ref().and_then(|d| d.file_name()).map(|d| d.to_string_lossy().into_owned());
            let driver = driver.map_or("no driver".to_owned(), |d| format!("driver {d}"));
            findings.add(None, "NetFPGA", format!("a card is at {at} ({driver})"));
        }
    }
}
