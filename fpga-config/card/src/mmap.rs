//! A card through its PCI device's `resource0`, on any kernel and without the driver. It has
//! registers only: no packets to and from the CPU.

use crate::Card;
use crate::sys::Bar;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use tandem_fpga_config::registers::{Access, AccessError, BAR_BYTES, Registers, check};

/// A mapped card.
#[derive(Debug)]
pub struct MmapCard {
    bar: Bar,
}

impl MmapCard {
    /// Maps the card with this folder in `/sys/bus/pci/devices`. A device without a driver is
    /// enabled first: otherwise it does not answer.
    ///
    /// When it does not exist, may not be opened (root may), or its BAR is smaller than a card's.
    pub fn open(device: &Path) -> io::Result<MmapCard> {
        let enable = device.join("enable");
        if std::fs::read_to_string(&enable).is_ok_and(|e| e.trim() == "0") {
            std::fs::write(&enable, "1")?;
        }
        let path = device.join("resource0");
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                e.kind(),
                format!("{}: {e}; only root may, and not under lockdown", path.display()),
            ),
            _ => io::Error::new(e.kind(), format!("{}: {e}", path.display())),
        })?;
        let bytes = file.metadata()?.len();
        if bytes < u64::from(BAR_BYTES) {
            let why = format!(
                "{} has {bytes} bytes, a card's BAR 0 has {BAR_BYTES}; is it a NetFPGA-1G?",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let bytes = usize::try_from(BAR_BYTES).map_err(io::Error::other)?;
        Ok(MmapCard { bar: Bar::map(&file, bytes)? })
    }
}

impl Registers for MmapCard {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        check(Access::Read(address))?;
        self.bar.read(address).ok_or(AccessError::Address(Access::Read(address)))
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        let access = Access::Write(address, value);
        check(access)?;
        self.bar.write(address, value).ok_or(AccessError::Address(access))
    }
}

impl Card for MmapCard {}
