//! Random flows and packets with few different values, so that they match each other.

#![allow(dead_code, unreachable_pub, reason = "a part of a test, of which each test file uses a part")]

use super::Dice;

const MACS: [&str; 3] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff"];
const IPS: [&str; 4] = ["10.0.0.1", "10.0.1.1", "10.1.0.1", "192.168.0.1"];
const PORTS: [u16; 3] = [80, 1000, 2000];
const TOS: [u8; 3] = [0, 32, 184];

fn prefix(d: &mut Dice) -> String {
    let ip = d.pick(&IPS);
    match d.roll(4) {
        0 => ip.to_owned(),
        1 => format!("{ip}/24"),
        2 => format!("{ip}/8"),
        _ => format!("{ip}/15"),
    }
}

/// The match of a random flow in the syntax of ovs-ofctl, with a comma at the end.
pub fn matched(d: &mut Dice, transport: bool) -> String {
    let mut out = String::new();
    if d.one_in(2) {
        out += &format!("in_port={},", d.pick(&[1, 2, 3, 4, 7]));
    }
    if d.one_in(4) {
        out += &format!("dl_src={},", d.pick(&MACS));
    }
    if d.one_in(3) {
        out += &format!("dl_dst={},", d.pick(&MACS));
    }
    match d.roll(8) {
        0 => out += "dl_vlan=0xffff,",
        1 => out += "dl_vlan=5,",
        2 => out += "dl_vlan=5,dl_vlan_pcp=3,",
        3 => out += "dl_vlan_pcp=3,",
        _ => {}
    }
    let (network, ports) = match d.roll(9) {
        0..3 => {
            out += "ip,";
            (true, false)
        }
        3 => {
            out += "tcp,";
            (true, true)
        }
        4 => {
            out += "udp,";
            (true, true)
        }
        5 => {
            out += "icmp,";
            (true, true)
        }
        6 => {
            out += "arp,";
            if d.one_in(2) {
                out += &format!("nw_proto={},", d.pick(&[1, 2]));
            }
            (true, false)
        }
        7 => {
            out += &format!("dl_type={:#x},", d.pick(&[0x86dd, 0x88cc, 0x88b5]));
            (false, false)
        }
        _ => (false, false),
    };
    if network {
        if d.one_in(2) {
            out += &format!("nw_src={},", prefix(d));
        }
        if d.one_in(2) {
            out += &format!("nw_dst={},", prefix(d));
        }
        if !out.contains("arp") && d.one_in(5) {
            out += &format!("nw_tos={},", d.pick(&TOS));
        }
    }
    if ports && d.roll(4) < if transport { 2 } else { 1 } {
        let of = if out.contains("icmp") { [0u16, 8, 3] } else { PORTS };
        if d.one_in(2) {
            out += &format!("tp_src={},", d.pick(&of));
        }
        if d.one_in(2) {
            out += &format!("tp_dst={},", d.pick(&of));
        }
    }
    out
}

/// Random actions.
pub fn actions(d: &mut Dice) -> String {
    let mut words: Vec<String> = Vec::new();
    if d.one_in(3) {
        for _ in 0..1 + d.roll(2) {
            words.push(match d.roll(12) {
                0 => "mod_vlan_vid:6".into(),
                1 => "mod_vlan_pcp:5".into(),
                2 => "strip_vlan".into(),
                3 | 4 => format!("mod_dl_src:{}", d.pick(&MACS)),
                5 | 6 => format!("mod_dl_dst:{}", d.pick(&MACS)),
                7 => format!("mod_nw_src:{}", d.pick(&IPS)),
                8 => format!("mod_nw_dst:{}", d.pick(&IPS)),
                9 => format!("mod_nw_tos:{}", d.pick(&TOS)),
                10 => "mod_tp_src:1234".into(),
                _ => "mod_tp_dst:4321".into(),
            });
        }
    }
    match d.roll(16) {
        0 => words.push("flood".into()),
        1 => words.push("all".into()),
        2 => words.push("in_port".into()),
        3 => words.push("controller:128".into()),
        4 => words.push("local".into()),
        5 => words.push("normal".into()),
        6 => words.push("output:7".into()),
        7 => words.push("enqueue:2:1".into()),
        8 => words.extend(["output:1".into(), "output:2".into()]),
        9 => words.extend(["output:1".into(), "mod_dl_src:02:00:00:00:00:02".into(), "output:3".into()]),
        10 => return "drop".into(),
        _ => words.push(format!("output:{}", d.pick(&[1, 2, 3, 4]))),
    }
    words.join(",")
}

/// A whole flow.
pub fn flow(d: &mut Dice, transport: bool) -> String {
    let priority = d.pick(&[0, 1, 10, 10, 100, 100, 1000, 30000]);
    if d.one_in(8) {
        return format!("priority={priority},{},actions={}", exact(d), actions(d));
    }
    format!("priority={priority},{}actions={}", matched(d, transport), actions(d))
}

/// A match without wildcards.
fn exact(d: &mut Dice) -> String {
    let vlan =
        d.pick(&["dl_vlan=0xffff,dl_vlan_pcp=0", "dl_vlan=5,dl_vlan_pcp=3", "dl_vlan=5,dl_vlan_pcp=0"]);
    let l4 = match d.roll(3) {
        0 => format!("tcp,tp_src={},tp_dst={}", d.pick(&PORTS), d.pick(&PORTS)),
        1 => format!("udp,tp_src={},tp_dst={}", d.pick(&PORTS), d.pick(&PORTS)),
        _ => "icmp,tp_src=8,tp_dst=0".to_owned(),
    };
    format!(
        "in_port={},dl_src={},dl_dst={},{vlan},{l4},nw_src={},nw_dst={},nw_tos={}",
        d.pick(&[1, 2, 3, 4]),
        d.pick(&MACS[..2]),
        d.pick(&MACS[..2]),
        d.pick(&IPS[..2]),
        d.pick(&IPS[..2]),
        d.pick(&TOS[..1]),
    )
}

fn mac(text: &str) -> Vec<u8> {
    text.split(':').map(|b| u8::from_str_radix(b, 16).expect("hex")).collect()
}

fn ip(text: &str) -> Vec<u8> {
    text.split('.').map(|b| b.parse().expect("a byte")).collect()
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A random frame. The payload of later fragments looks like ports.
pub fn frame(d: &mut Dice, fragments: bool) -> Vec<u8> {
    let mut f = mac(d.pick(&MACS));
    f.extend(mac(d.pick(&MACS)));
    let vlan = d.pick(&["", "", "5/3", "5/0", "6/3", "0/0"]);
    if let Some((id, pcp)) = vlan.split_once('/') {
        let (id, pcp): (u16, u16) = (id.parse().expect("id"), pcp.parse().expect("pcp"));
        f.extend([0x81, 0]);
        f.extend((pcp << 13 | id).to_be_bytes());
    }
    match d.roll(10) {
        0 => {
            f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, d.pick(&[1, 2])]);
            f.extend(mac(MACS[0]));
            f.extend(ip(d.pick(&IPS)));
            f.extend([0; 6]);
            f.extend(ip(d.pick(&IPS)));
        }
        1 => {
            f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
            f.extend([0x20; 32]);
            f.extend([0, 80, 0, 80, 0, 8, 0, 0]);
        }
        // An experimental type, and LLDP. 802.3 frames with a length are tested in `deviations.rs`.
        2 => f.extend([0x88, 0xb5, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
        3 => f.extend([0x88, 0xcc, 2, 7, 4]),
        _ => {
            let options = if d.one_in(4) { vec![1u8; d.pick(&[4, 4, 8, 12, 24, 40])] } else { Vec::new() };
            let protocol = d.pick(&[6u8, 17, 17, 1, 47]);
            let part =
                if fragments && d.one_in(4) { d.pick(&[[0x20, 0], [0, 10], [0x20, 3]]) } else { [0, 0] };
            let (source, target) = (d.pick(&PORTS), d.pick(&PORTS));
            let mut body = Vec::new();
            match protocol {
                1 => body.extend([d.pick(&[0u8, 8, 3]), d.pick(&[0u8, 1]), 0, 0, 0, 0, 0, 0]),
                _ => {
                    body.extend(source.to_be_bytes());
                    body.extend(target.to_be_bytes());
                    body.extend([0, 12]);
                    // No checksum, or any.
                    body.extend(d.pick(&[[0, 0], [0, 0x34], [0x12, 0x34], [0xff, 0xff]]));
                    body.extend([0; 12]);
                }
            }
            let start = f.len() + 2;
            f.extend([8, 0, 0x45 + options.len() as u8 / 4, d.pick(&TOS) | d.pick(&[0, 1])]);
            f.extend(((20 + options.len() + body.len()) as u16).to_be_bytes());
            f.extend([0, 1, part[0], part[1], 64, protocol, 0, 0]);
            f.extend(ip(d.pick(&IPS)));
            f.extend(ip(d.pick(&IPS)));
            f.extend(options);
            let check = sum(&f[start..]).to_be_bytes();
            f[start + 10..start + 12].copy_from_slice(&check);
            f.extend(body);
        }
    }
    f.resize(f.len().max(60), 0);
    f
}

/// A frame that a card may treat differently from software: IPv4 headers too short or beyond the
/// frame, LLC and SNAP, truncated frames.
pub fn odd(d: &mut Dice, fragments: bool) -> Vec<u8> {
    let mut f = frame(d, fragments);
    let at = if f[12..14] == [0x81, 0] { 16 } else { 12 };
    match d.roll(4) {
        0 | 1 if f[at..at + 2] == [8, 0] => f[at + 2] = 0x40 | d.roll(16) as u8,
        2 => {
            let length = (f.len() - at - 2) as u16;
            let snap = [0xaa, 0xaa, 3, 0, 0, 0];
            let llc = if d.one_in(2) { snap.to_vec() } else { vec![0x42, 0x42, 3] };
            f.splice(at..at, [&length.to_be_bytes()[..], &llc].concat());
        }
        _ => f.truncate(d.pick(&[37, 38, 40, 42, 46, 52, 58, 59])),
    }
    f
}
