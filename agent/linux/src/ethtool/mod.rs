//! Properties of a network card: driver, negotiated link, features and counters, by the ethtool
//! ioctl (linux/ethtool.h), as ethtool(8) shows them.
//!
//! All requests are about an interface in the namespace in which the socket was opened. sysfs is
//! not used: it shows the namespace of the process that mounted it. A value that a driver does not
//! report is absent, not zero.

pub mod parse;

pub use parse::{Driver, Duplex, Feature, Link};

use crate::{Error, sys};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use parse::{STRING, Set};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

// Commands (linux/ethtool.h).
const GET_DRIVER: u32 = 0x03;
const GET_LINK: u32 = 0x0a;
const SET_TX_CHECKSUM: u32 = 0x17;
const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
const GET_LINK_SETTINGS: u32 = 0x4c;

/// The kernel changed a feature otherwise than asked (ETHTOOL_F_UNSUPPORTED, ETHTOOL_F_WISH).
const UNSUPPORTED: i32 = 1;
const WISH: i32 = 2;

/// An ethtool socket. Names of counters and features are requested once for each interface.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    names: HashMap<(String, Set), Vec<String>>,
    /// Words of a link mode mask in this kernel.
    mask_words: Option<u8>,
}

impl Ethtool {
    /// Opens a socket in the thread's network namespace.
    ///
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Ethtool, Error> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map_err(Error::nix("opening a socket"))?;
        Ok(Ethtool { socket, names: HashMap::new(), mask_words: None })
    }

    /// The reply to a command: starts with `head`, at most `room` bytes long. `None` if the driver
    /// does not support it.
    fn ask(&self, name: &str, what: &str, head: &[u8], room: usize) -> Result<Option<Vec<u8>>, Error> {
        match sys::ethtool(self.socket.as_fd(), name, head, room) {
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(None),
            Err(source) => Err(Error::Io { what: format!("asking for the {what} of {name}"), cause: source }),
        }
    }

    /// The interface's driver; `None` if it reports none.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn driver(&self, name: &str) -> Result<Option<Driver>, Error> {
        let answer = self.ask(name, "driver", &GET_DRIVER.to_ne_bytes(), parse::DRIVER)?;
        Ok(answer.as_deref().and_then(parse::driver))
    }

    /// Whether the card has a carrier; `None` if it does not report that. (An interface that is
    /// down has none.)
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn carrier(&self, name: &str) -> Result<Option<bool>, Error> {
        let answer = self.ask(name, "carrier", &GET_LINK.to_ne_bytes(), 8)?;
        Ok(answer.as_deref().and_then(|a| parse::number(a, 4)).map(|n| n != 0))
    }

    /// The link's speed and duplex, negotiated or set by hand; `None` if the driver does not
    /// support that.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        // To masks of the wrong length, the kernel answers only with the right length, negated.
        for _ in 0..2 {
            let words = self.mask_words.unwrap_or_default();
            let head = parse::link_request(GET_LINK_SETTINGS, words);
            let room = parse::LINK + usize::from(words) * 3 * 4;
            let Some(answer) = self.ask(name, "link settings", &head, room)? else { return Ok(None) };
            match parse::mask_words(&answer) {
                Some(other) => self.mask_words = Some(other),
                None => return Ok(parse::link(&answer)),
            }
        }
        Ok(None)
    }

    /// The interface's features, as `ethtool -k` lists them, by the kernel's names.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn features(&mut self, name: &str) -> Result<Vec<Feature>, Error> {
        let names = self.names(name, Set::Features)?;
        let blocks = names.len().div_ceil(32);
        let head = [GET_FEATURES, u32::try_from(blocks).unwrap_or_default()].map(u32::to_ne_bytes).concat();
        let answer = self.ask(name, "features", &head, 8 + blocks * 16)?;
        Ok(answer.map(|a| parse::features(&a, &names)).unwrap_or_default())
    }

    /// Turns features on or off, by the kernel's names.
    ///
    /// # Errors When there is no such interface or feature, without CAP_NET_ADMIN, or when the card
    /// does not allow the change.
    pub fn set_features(&mut self, name: &str, wanted: &[(&str, bool)]) -> Result<(), Error> {
        let names = self.names(name, Set::Features)?;
        let what = || {
            let list: Vec<String> =
                wanted.iter().map(|(f, on)| format!("{f} {}", if *on { "on" } else { "off" })).collect();
            format!("setting {} of {name}", list.join(", "))
        };
        let fail = |source| Error::Io { what: what(), cause: source };
        let head = parse::feature_request(SET_FEATURES, &names, wanted).ok_or_else(|| {
            fail(std::io::Error::new(
                ErrorKind::NotFound,
                "there is no such feature; `ethtool -k` lists those there are",
            ))
        })?;
        let (outcome, _) = sys::ethtool(self.socket.as_fd(), name, &head, head.len()).map_err(fail)?;
        if outcome & (UNSUPPORTED | WISH) != 0 {
            let why = "the interface does not let it be changed, or another feature needs it as it is";
            return Err(fail(std::io::Error::new(ErrorKind::Unsupported, why)));
        }
        Ok(())
    }

    /// The driver's counters, as `ethtool -S` lists them; empty if it has none.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn statistics(&mut self, name: &str) -> Result<Vec<(String, u64)>, Error> {
        // A card whose queues have changed has other counters, which shows in their number.
        if let Some(known) = self.names.get(&(name.to_owned(), Set::Statistics))
            && self.count(name, Set::Statistics)? != known.len()
        {
            self.forget(name);
        }
        let names = self.names(name, Set::Statistics)?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let head =
            [GET_STATISTICS, u32::try_from(names.len()).unwrap_or_default()].map(u32::to_ne_bytes).concat();
        let answer = self.ask(name, "counters", &head, 8 + names.len() * 8)?;
        Ok(answer.map(|a| parse::statistics(&a, &names)).unwrap_or_default())
    }

    /// Drops the cached names of an interface: another one may have its name now.
    pub fn forget(&mut self, name: &str) {
        self.names.retain(|(of, _), _| of != name);
    }

    /// Drops the cached names of all interfaces for which `stays` is false.
    pub fn keep_only(&mut self, stays: impl Fn(&str) -> bool) {
        self.names.retain(|(of, _), _| stays(of));
    }

    fn count(&self, name: &str, set: Set) -> Result<usize, Error> {
        let answer = self.ask(name, "number of names", &parse::set_info_request(GET_SET_INFO, set), 20)?;
        Ok(answer.as_deref().and_then(parse::set_size).unwrap_or_default())
    }

    fn names(&mut self, name: &str, set: Set) -> Result<Vec<String>, Error> {
        let key = (name.to_owned(), set);
        if let Some(known) = self.names.get(&key) {
            return Ok(known.clone());
        }
        let count = self.count(name, set)?;
        let head = [GET_STRINGS, set as u32, u32::try_from(count).unwrap_or_default()]
            .map(u32::to_ne_bytes)
            .concat();
        let answer = if count == 0 { None } else { self.ask(name, "names", &head, 12 + count * STRING)? };
        let names = answer.map(|a| parse::strings(&a)).unwrap_or_default();
        self.names.insert(key, names.clone());
        Ok(names)
    }
}

/// Makes the kernel compute the checksums of sent packets itself, on interfaces of the thread's
/// namespace. A userspace switch at the other end of a veth pair would get packets with incomplete
/// checksums otherwise.
///
/// When an interface does not exist or does not allow the change.
pub fn tx_checksum_off<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let ethtool = Ethtool::open()?;
    let head = [SET_TX_CHECKSUM, 0].map(u32::to_ne_bytes).concat();
    for name in names {
        sys::ethtool(ethtool.socket.as_fd(), name, &head, head.len())
            .map_err(Error::io(format!("switching off transmit checksum offload of {name}")))?;
    }
    Ok(())
}
