//! Placeholders in an image's texts, such as `{name}`, which are replaced for each VM.

use std::net::Ipv4Addr;
use tandem_model::{VmId, VmSpec};

/// All placeholders.
pub const KNOWN: [&str; 8] = ["name", "vm", "ip", "address", "netmask", "router", "memory_mib", "vcpus"];

/// Checks that a text has no other placeholders. A brace without a word of lower-case letters
/// behind it is literal.
///
/// # Errors The first unknown one.
pub fn check(text: &str) -> Result<(), String> {
    for (start, _) in text.match_indices('{') {
        if let Some(word) = word(&text[start + 1..])
            && !KNOWN.contains(&word)
        {
            return Err(word.to_owned());
        }
    }
    Ok(())
}

fn word(after: &str) -> Option<&str> {
    let (word, _) = after.split_once('}')?;
    (!word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some(word)
}

/// Replaces the placeholders in a text.
pub fn fill(text: &str, vm: VmId, name: &str, spec: &VmSpec) -> String {
    let fixed = spec.fixed_address;
    let netmask = fixed.map_or_else(String::new, |f| netmask(f.prefix_len).to_string());
    let router = fixed.map_or_else(String::new, |f| f.router.to_string());
    let address = fixed.map_or(spec.address, |f| f.address).to_string();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let word = word(after).unwrap_or("");
        match word {
            "name" => out.push_str(name),
            "vm" => out.push_str(&vm.0.to_string()),
            // DHCP by the kernel's own client, or a static configuration (Linux,
            // Documentation/admin-guide/nfs/nfsroot.rst).
            "ip" if fixed.is_some() => {
                out.push_str(&format!("ip={address}::{router}:{netmask}:{name}:eth0:off"));
            }
            "ip" => out.push_str("ip=dhcp"),
            "address" => out.push_str(&address),
            "netmask" => out.push_str(&netmask),
            "router" => out.push_str(&router),
            "memory_mib" => out.push_str(&(spec.resources.ram.0 >> 20).to_string()),
            "vcpus" => out.push_str(&spec.resources.cpu.max(1).to_string()),
            _ => {
                out.push('{');
                rest = after;
                continue;
            }
        }
        rest = after.get(word.len() + 1..).unwrap_or("");
    }
    out.push_str(rest);
    out
}

fn netmask(prefix_len: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::{BitRate, Bytes, FixedAddress, Mac, PortNo, Resources, VmOrigin};

    fn spec(fixed: bool) -> VmSpec {
        let address = Ipv4Addr::new(10, 0, 1, 9);
        VmSpec {
            resources: Resources { cpu: 2, ram: Bytes::mib(96), disk: Bytes(0), net: BitRate(0) },
            name: None,
            image: None,
            mac: Mac([2, 0, 0, 0, 0, 9]),
            address,
            uplink_port: PortNo(1),
            fixed_address: fixed.then_some(FixedAddress {
                address,
                prefix_len: 24,
                router: Ipv4Addr::new(10, 0, 1, 1),
            }),
            origin: VmOrigin::default(),
        }
    }

    #[test]
    fn each_is_replaced_and_other_braces_stay() {
        let fill = |text, fixed| fill(text, VmId(9), "tandem-vm9", &spec(fixed));
        assert_eq!(fill("console=hvc0 {ip} quiet", false), "console=hvc0 ip=dhcp quiet");
        assert_eq!(fill("{ip}", true), "ip=10.0.1.9::10.0.1.1:255.255.255.0:tandem-vm9:eth0:off");
        assert_eq!(fill("a{memory_mib}/{vcpus}{", false), "a96/2{");
        assert_eq!(fill("{} { name } {X} {{name}}", false), "{} { name } {X} {tandem-vm9}");
        assert_eq!(check("{name} {} {X}"), Ok(()));
        assert_eq!(check("{name} {colour}"), Err("colour".to_owned()));
    }

    #[test]
    fn a_netmask_is_made_of_any_length() {
        assert_eq!(netmask(0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(netmask(20), Ipv4Addr::new(255, 255, 240, 0));
        assert_eq!(netmask(33), Ipv4Addr::BROADCAST);
    }
}
