//! Names of cards (`ioctl:nf2c0`, `mmap:0000:03:00.0`, `cosim:/run/card.sock`, `model`), and how
//! they are opened and locked.

use crate::Card;
use crate::cosim::CosimCard;
use crate::ioctl::IoctlCard;
use crate::lock::{Lock, LockError};
use crate::memory_card::MemoryCard;
use crate::mmap::MmapCard;
use crate::pci::DEVICES;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tandem_fpga_config::profile::Profile;
use tandem_fpga_config::registers::AccessError;

/// A card's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Behind a driver: its interface or device file.
    Ioctl(String),
    /// A PCI device.
    Mmap(String),
    /// A co-simulation's socket.
    Cosim(PathBuf),
    /// In memory, in this process.
    Model,
}

/// A malformed name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" names no card: ioctl:nf2c0 (by the driver), mmap:0000:03:00.0 (by PCI address, see `list`), cosim:SOCKET or model"
)]
pub struct TargetError(pub String);

/// Why a card could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("opening the card {target}")]
    Io {
        /// The card.
        target: Target,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It was opened, but no card answers.
    #[error(
        "{target} answers 0x{value:08x} where every card has its bus FPGA's id: it is no card, is not powered, or its PCI device is not enabled"
    )]
    Silent {
        /// The card.
        target: Target,
        /// The value read.
        value: u32,
    },
    /// It was opened, but an access failed.
    #[error("opening the card {target}")]
    Access {
        /// The card.
        target: Target,
        /// The reason.
        #[source]
        source: AccessError,
    },
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let wrong = || TargetError(text.to_owned());
        match text.split_once(':') {
            None if text == "model" => Ok(Target::Model),
            Some((_, "")) => Err(wrong()),
            Some(("ioctl", device)) if device.starts_with("/dev/") => Ok(Target::Ioctl(device.to_owned())),
            Some(("ioctl", name)) if name.len() < 16 && !name.contains('/') => {
                Ok(Target::Ioctl(name.to_owned()))
            }
            Some(("mmap", address)) if !address.contains('/') => Ok(Target::Mmap(match address.len() {
                // The domain may be left out, as in the output of lspci.
                7 => format!("0000:{address}"),
                _ => address.to_owned(),
            })),
            Some(("cosim", path)) => Ok(Target::Cosim(path.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Ioctl(device) => write!(f, "ioctl:{device}"),
            Target::Mmap(address) => write!(f, "mmap:{address}"),
            Target::Cosim(path) => write!(f, "cosim:{}", path.display()),
            Target::Model => f.write_str("model"),
        }
    }
}

impl Target {
    /// Opens it. `profile` has the numbers of its driver, and the bitfile of a modelled card;
    /// `within` is how long a co-simulation may take for one reply.
    ///
    /// When it does not exist, may not be used, or does not answer.
    pub fn open(&self, profile: &Profile, within: Duration) -> Result<Box<dyn Card + Send>, OpenError> {
        let failed = |source: io::Error| OpenError::Io { target: self.clone(), source };
        let mut card: Box<dyn Card + Send> = match self {
            Target::Ioctl(device) => Box::new(IoctlCard::open(device, &profile.board.ioctl).map_err(failed)?),
            Target::Mmap(address) => {
                Box::new(MmapCard::open(&Path::new(DEVICES).join(address)).map_err(failed)?)
            }
            Target::Cosim(path) => Box::new(CosimCard::connect(path, within).map_err(failed)?),
            Target::Model => Box::new(MemoryCard::new(profile.clone())),
        };
        // A bus without a card reads as all ones. A card's id register is neither 0 nor that.
        if profile.board.bus_fpga.is_some() {
            let id = card.read32(0).map_err(|source| OpenError::Access { target: self.clone(), source })?;
            if matches!(id, 0 | u32::MAX | tandem_fpga_config::registers::UNMAPPED) {
                return Err(OpenError::Silent { target: self.clone(), value: id });
            }
        }
        Ok(card)
    }

    /// The card's lock. A card has the same lock for any device: that of its PCI device.
    pub fn lock_path(&self) -> Option<PathBuf> {
        let by_pci = |address: &str| PathBuf::from(format!("/run/lock/tandem-fpga-{address}.lock"));
        match self {
            Target::Ioctl(device) => {
                let device = Path::new(device).file_name()?.to_string_lossy().into_owned();
                let pci =
                    std::fs::canonicalize(Path::new("/sys/class/net").join(&device).join("device")).ok();
                let pci = pci.and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()));
                // If the driver does not report an interface's PCI device, each card has four
                // consecutive interfaces.
                let card = device.strip_prefix("nf2c").and_then(|n| n.parse::<u32>().ok());
                let first = card.map(|n| format!("nf2c{}", n / 4 * 4));
                Some(by_pci(&pci.or(first).unwrap_or(device)))
            }
            Target::Mmap(address) => Some(by_pci(address)),
            Target::Cosim(path) => {
                let mut path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()).into_os_string();
                path.push(".lock");
                Some(path.into())
            }
            Target::Model => None,
        }
    }

    /// Takes the lock for writing to the card, held as long as the value lives; `None` for a card
    /// that no other process can reach.
    ///
    /// When another process holds it, or the lock's file cannot be created.
    pub fn lock(&self, who: &str) -> Result<Option<Lock>, LockError> {
        self.lock_path().map(|path| Lock::take(&path, who)).transpose()
    }
}
