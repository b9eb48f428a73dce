//! Reads the values that several sections of an inventory have: names, addresses, TCP ports and
//! network interfaces.

use tandem_model::site::{Collector, Section};

/// The longest name of a network interface (IFNAMSIZ - 1, linux/if.h).
const LONGEST_INTERFACE: usize = 15;

/// True for letters, digits, '-', '_' and '.', at most `longest` of them, that cannot be taken as
/// an option.
pub(super) fn plain(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The `name` of a machine or a node; `example` is for the fault of a missing one.
pub(super) fn name(s: &mut Section<'_>, c: &mut Collector<'_>, example: &str) -> String {
    let name = s.text(c, "name").unwrap_or_default();
    if !s.has("name") {
        s.fault(c, "name", "there is no name", format!("write {example}"));
    } else if !plain(&name, 64) && !name.is_empty() || s.has("name") && name.is_empty() {
        let problem = format!("{name:?} cannot be a name");
        s.fault(c, "name", problem, "write up to 64 letters, digits, '-', '_' or '.'");
    }
    name
}

/// The `address` of a machine or of the controller; `what` says which one for the faults.
pub(super) fn address(s: &mut Section<'_>, c: &mut Collector<'_>, what: &str) -> String {
    let address = s.text(c, "address").unwrap_or_default();
    let good = plain(&address.replace([':', '%'], "."), 255) && !address.starts_with('%');
    if !s.has("address") {
        s.fault(
            c,
            "address",
            "there is no address",
            format!("write {what}, such as address = \"10.0.0.11\""),
        );
    } else if !good && s.text(c, "address").is_some() {
        s.fault(
            c,
            "address",
            format!("{address:?} is no address"),
            format!("write {what}, such as \"10.0.0.11\""),
        );
    }
    address
}

/// A TCP port.
pub(super) fn tcp_port(s: &mut Section<'_>, c: &mut Collector<'_>, key: &'static str) -> Option<u16> {
    s.count(c, key, 1..=65535).and_then(|p| u16::try_from(p).ok())
}

/// The name of a network interface.
pub(super) fn interface(s: &mut Section<'_>, c: &mut Collector<'_>, key: &'static str) -> Option<String> {
    let nic = s.text(c, key)?;
    let good = (1..=LONGEST_INTERFACE).contains(&nic.len())
        && !nic.starts_with('-')
        && nic.bytes().all(|b| b.is_ascii_graphic() && !b"/:\"'\\$`;&|<>*?".contains(&b));
    if !good {
        let problem = format!("{nic:?} cannot be an interface's name");
        s.fault(c, key, problem, format!("write up to {LONGEST_INTERFACE} characters, such as \"eth1\""));
        return None;
    }
    Some(nic)
}
