//! What numbers and names of a request may be, whatever a data centre's size: beyond these they are
//! a slip or an attack, and are refused with the reason before they reach any arithmetic.

use crate::vm_ref;
use crate::vms::VmSize;
use std::time::Duration;
use tandem_model::{NoTrafficTool, Resources, TrafficTool, text};

/// CPU cores of a VM.
const CORES: u32 = 65_536;
/// Bytes of RAM: 1 PiB.
const RAM: u64 = 1 << 50;
/// Bytes of disk: 1 EiB.
const DISK: u64 = 1 << 60;
/// Network, bit/s: 1 Pbit/s.
const NET: u64 = 1_000_000_000_000_000;
/// Seconds to live: a millisecond to a hundred years.
const LIFETIME: std::ops::RangeInclusive<f64> = 0.001..=3_155_760_000.0;
/// Percent of a port's rate, as in a site file.
const PERCENT: std::ops::RangeInclusive<f64> = 0.1..=100.0;
/// Switches that a path is pinned to.
pub const LONGEST_PATH: usize = 64;
/// VMs that are requested together.
pub const GROUP_MEMBERS: usize = 256;
/// Characters of an image's name: a path or a UUID at its hypervisor.
const IMAGE: usize = 255;

/// What a VM gets: what is said, and `default` for the rest.
///
/// # Errors
/// When something of what is said is nothing, or more than any server has.
pub fn resources(body: &VmSize, default: Resources) -> Result<Resources, String> {
    let said = [
        ("cpu", body.cpu.map(u64::from), u64::from(CORES), u64::from(default.cpu), "cores"),
        ("ram", body.ram, RAM, default.ram.0, "bytes"),
        ("disk", body.disk, DISK, default.disk.0, "bytes"),
        ("net", body.net, NET, default.net.0, "bit/s"),
    ];
    for (what, value, most, default, unit) in said {
        // A site whose VMs have no disk of their own has 0 as its default.
        let least = if default == 0 && (what == "disk" || what == "net") { 0 } else { 1 };
        if value.is_some_and(|v| !(least..=most).contains(&v)) {
            return Err(format!("{what} is {least} to {most} {unit}, and {} is not", value.unwrap_or(0)));
        }
    }
    Ok(body.resources(default))
}

/// Seconds to live.
///
/// # Errors
/// When they are no time, or more than a hundred years.
pub fn lifetime(seconds: f64) -> Result<Duration, String> {
    let bad =
        || format!("timeout is {} to {} seconds, and {seconds:e} is not", LIFETIME.start(), LIFETIME.end());
    if !LIFETIME.contains(&seconds) {
        return Err(bad());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

/// A rate between VMs, bit/s.
///
/// # Errors
/// When it is nothing, or more than any link has.
pub fn rate(rate: u64) -> Result<u64, String> {
    let text = || format!("rate is 1 to {NET} bit/s, and {rate} is not");
    (1..=NET).contains(&rate).then_some(rate).ok_or_else(text)
}

/// Percent of a port's rate.
///
/// # Errors
/// When it is none.
pub fn percent(what: &str, value: f64) -> Result<(), String> {
    let good = PERCENT.contains(&value);
    let text = || format!("{what} is {} to {} percent, and {value:e} is not", PERCENT.start(), PERCENT.end());
    good.then_some(()).ok_or_else(text)
}

/// A name that a client chose.
///
/// # Errors
/// When it is empty, too long, or has characters that do not show.
pub fn name(name: &str) -> Result<(), String> {
    text::check_name(name).map_err(|why| why.to_string())
}

/// A VM's name: it must not read as something else that says which VM is meant.
///
/// # Errors
/// As [`name`], and when it is a number or an address.
pub fn vm_name(text: &str) -> Result<(), String> {
    name(text)?;
    if vm_ref::is_taken_otherwise(text) {
        return Err(format!("{text:?} is a VM's number or an address, and no name; add a letter"));
    }
    Ok(())
}

/// What a VM is made from.
///
/// # Errors
/// As [`name`], with more characters.
pub fn image(image: &str) -> Result<(), String> {
    let long = image.chars().count();
    let plain = text::escaped_to(image, IMAGE).to_string() == image;
    if (1..=IMAGE).contains(&long) && plain {
        return Ok(());
    }
    Err(format!("an image's name has 1 to {IMAGE} characters, none of them a control or invisible one"))
}

/// What generates a VM's traffic.
///
/// # Errors
/// When it cannot be a traffic tool's name.
pub fn traffic(tool: &str) -> Result<TrafficTool, String> {
    tool.parse().map_err(|why: NoTrafficTool| format!("{tool:?}: {why}"))
}

/// Where an agent reaches the controller.
///
/// # Errors
/// When it is no `HOST:PORT`.
pub fn host_and_port(text: &str) -> Result<(), String> {
    let host = |h: &str| {
        (1..=255).contains(&h.len())
            && h.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b))
    };
    let good = text.rsplit_once(':').is_some_and(|(h, p)| host(h) && p.parse::<u16>().is_ok_and(|p| p > 0));
    let bad = || format!("address is HOST:PORT, and \"{}\" is not", text::escaped_to(text, 80));
    good.then_some(()).ok_or_else(bad)
}
