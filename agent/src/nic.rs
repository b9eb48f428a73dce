//! What a network card has negotiated, as sysfs tells (Documentation/ABI/testing/sysfs-class-net). Where it does not say (a veth pair, no
//! carrier, a namespace without its own sysfs), nothing is claimed.

use std::path::Path;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nic {
    /// Negotiated, bit/s.
    pub speed: Option<u64>,
    /// Cannot send and receive at once.
    pub half_duplex: bool,
    /// The driver's name.
    pub driver: Option<String>,
}

/// Looks at an interface of this process's network namespace.
pub fn look(name: &str) -> Nic {
    let folder = Path::new("/sys/class/net").join(name);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok().map(|t| t.trim().to_owned());
    let mbit = read("speed").and_then(|s| s.parse::<u64>().ok());
    // A veth pair says 10 Gbit/s whatever it is shaped to: that is no negotiated speed. Real cards have a device behind them.
    let is_card = folder.join("device").exists();
    Nic {
        speed: mbit.filter(|m| is_card && *m > 0 && *m < 1 << 31).map(|m| m * 1_000_000),
        half_duplex: is_card && read("duplex").as_deref() == Some("half"),
        driver: std::fs::read_link(folder.join("device/driver"))
            .ok()
            .and_then(|p| Some(p.file_name()?.to_str()?.to_owned())),
    }
}
