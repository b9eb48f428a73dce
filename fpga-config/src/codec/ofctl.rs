//! Flows in the syntax of ovs-ofctl, for OpenFlow 1.0:
//! `priority=100,ip,nw_dst=10.0.0.0/8,actions=output:2`.
//!
//! A flow that is printed parses to the same flow. Time-outs, cookies and tables are not part of a
//! rule, and are refused by name.

use super::ports::PortMap;
use std::fmt;
use std::net::Ipv4Addr;
use tandem_model::Mac;
use tandem_openflow::of10::matching::{VLAN_NONE, wildcard};
use tandem_openflow::of10::{Action, Match, port};
use tandem_openflow::table::ops::Unsupported;
use tandem_openflow::table::{Criteria, Instructions};
use tandem_openflow::wire::Pad;

/// The default priority, that of ovs-ofctl.
pub const PRIORITY: u16 = 0x8000;

/// A flow as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Higher wins.
    pub priority: u16,
    /// Its match.
    pub matching: Match,
    /// Its actions in order; without any it drops.
    pub actions: Vec<Action>,
}

/// What is wrong with a flow's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// `actions=` is missing.
    #[error("there is no `actions=`; write `actions=drop` for a flow that drops")]
    NoActions,
    /// An unknown field.
    #[error("{0:?} is no field or protocol of OpenFlow 1.0 that a rule can have")]
    Field(String),
    /// An unknown action.
    #[error("{0:?} is no action of OpenFlow 1.0")]
    Action(String),
    /// A field without its prerequisite, which would be ignored.
    #[error("{0} is ignored without {1}; add it")]
    Needs(&'static str, &'static str),
    /// An invalid value.
    #[error("{name}: {value:?} is not {wanted}")]
    Value {
        /// The field's name.
        name: String,
        /// The value.
        value: String,
        /// What is valid.
        wanted: &'static str,
    },
    /// A field occurs twice.
    #[error("{0} is there twice")]
    Twice(String),
}

fn bad(name: &str, value: &str, wanted: &'static str) -> LineError {
    LineError::Value { name: name.into(), value: value.into(), wanted }
}

fn number<T: TryFrom<u64>>(name: &str, value: &str, most: u64, wanted: &'static str) -> Result<T, LineError> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    };
    parsed.filter(|n| *n <= most).and_then(|n| T::try_from(n).ok()).ok_or_else(|| bad(name, value, wanted))
}

const RESERVED: [(&str, u16); 7] = [
    ("in_port", port::IN_PORT),
    ("table", port::TABLE),
    ("normal", port::NORMAL),
    ("flood", port::FLOOD),
    ("all", port::ALL),
    ("controller", port::CONTROLLER),
    ("local", port::LOCAL),
];

fn port_number(name: &str, value: &str, ports: Option<&PortMap>) -> Result<u16, LineError> {
    let wanted =
        "a port: a number from 1 to 65280, a port's name, or IN_PORT, NORMAL, FLOOD, ALL, CONTROLLER, LOCAL";
    let known = ports.and_then(|p| p.named(value)).and_then(|p| u16::try_from(p.number).ok());
    let reserved = || RESERVED.iter().find(|(n, _)| n.eq_ignore_ascii_case(value)).map(|(_, p)| *p);
    match known.or_else(reserved) {
        Some(port) => Ok(port),
        None => number(name, value, 0xffff, wanted),
    }
}

fn mac(name: &str, value: &str) -> Result<Mac, LineError> {
    value.parse().map_err(|_| bad(name, value, "an Ethernet address such as 02:00:00:00:00:01"))
}

fn address(name: &str, value: &str) -> Result<Ipv4Addr, LineError> {
    value.parse().map_err(|_| bad(name, value, "an IPv4 address such as 10.0.0.1"))
}

/// An address, and the number of its low bits that are wildcarded.
fn prefix(name: &str, value: &str) -> Result<(Ipv4Addr, u32), LineError> {
    let wanted = "an IPv4 prefix such as 10.0.0.0/8 (OpenFlow 1.0 has no other masks)";
    let Some((ip, length)) = value.split_once('/') else { return Ok((address(name, value)?, 0)) };
    let ip = address(name, ip)?;
    let any = match length.parse::<Ipv4Addr>() {
        Ok(mask) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros().min(32) == 32 => {
            mask.to_bits().count_zeros()
        }
        Ok(_) => return Err(bad(name, value, wanted)),
        Err(_) => 32 - number::<u32>(name, length, 32, wanted)?,
    };
    let kept = if any == 32 { 0 } else { ip.to_bits() >> any << any };
    Ok((kept.into(), any))
}

/// Names of protocols: Ethernet type, IP protocol.
const PROTOCOLS: [(&str, u16, Option<u8>); 5] = [
    ("ip", 0x0800, None),
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("icmp", 0x0800, Some(1)),
    ("arp", 0x0806, None),
];

impl Line {
    /// Reads a flow. Ports may be named where a map is given.
    ///
    /// # Errors
    /// With the word that is wrong.
    pub fn parse(text: &str, ports: Option<&PortMap>) -> Result<Line, LineError> {
        let (matched, actions) = match text.trim().strip_prefix("actions=") {
            Some(actions) => ("", actions),
            None => [",actions=", " actions="]
                .iter()
                .find_map(|cut| text.split_once(cut))
                .ok_or(LineError::NoActions)?,
        };
        let mut line = Line { priority: PRIORITY, matching: Match::any(), actions: Vec::new() };
        let mut seen: Vec<&str> = Vec::new();
        for word in matched.split([',', ' ']).filter(|w| !w.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if seen.contains(&name) {
                return Err(LineError::Twice(name.into()));
            }
            seen.push(name);
            line.field(name, value, word, ports)?;
        }
        line.check()?;
        for word in actions.split([',', ' ']).filter(|w| !w.is_empty()) {
            if word != "drop" {
                line.actions.push(action(word, ports)?);
            }
        }
        Ok(line)
    }

    fn field(
        &mut self,
        name: &str,
        value: &str,
        word: &str,
        ports: Option<&PortMap>,
    ) -> Result<(), LineError> {
        let m = &mut self.matching;
        let wild = |m: &mut Match, bits: u32| m.wildcards &= !bits;
        if let Some((_, kind, protocol)) = PROTOCOLS.iter().find(|(n, ..)| *n == word) {
            if m.wildcards & wildcard::DL_TYPE == 0 {
                return Err(LineError::Twice("the Ethernet type".into()));
            }
            (m.dl_type, m.nw_proto) = (*kind, protocol.unwrap_or(0));
            wild(m, wildcard::DL_TYPE | if protocol.is_some() { wildcard::NW_PROTO } else { 0 });
            return Ok(());
        }
        if !word.contains('=') {
            return Err(LineError::Field(word.into()));
        }
        let bits = match name {
            "priority" => {
                self.priority = number(name, value, 0xffff, "a priority from 0 to 65535")?;
                0
            }
            "in_port" => {
                m.in_port = port_number(name, value, ports)?;
                wildcard::IN_PORT
            }
            "dl_src" => {
                m.dl_src = mac(name, value)?;
                wildcard::DL_SRC
            }
            "dl_dst" => {
                m.dl_dst = mac(name, value)?;
                wildcard::DL_DST
            }
            "dl_vlan" => {
                let wanted = "a VLAN id from 0 to 4095, or 0xffff for none";
                m.dl_vlan = number(name, value, 0xffff, wanted)?;
                if m.dl_vlan > 0xfff && m.dl_vlan != VLAN_NONE {
                    return Err(bad(name, value, wanted));
                }
                wildcard::DL_VLAN
            }
            "dl_vlan_pcp" => {
                m.dl_vlan_pcp = number(name, value, 7, "a VLAN priority from 0 to 7")?;
                wildcard::DL_VLAN_PCP
            }
            "dl_type" => {
                if m.wildcards & wildcard::DL_TYPE == 0 {
                    return Err(LineError::Twice("the Ethernet type".into()));
                }
                m.dl_type = number(name, value, 0xffff, "an Ethernet type such as 0x0800")?;
                wildcard::DL_TYPE
            }
            "nw_tos" => {
                m.nw_tos = number(name, value, 0xff, "a type of service from 0 to 252, a multiple of 4")?;
                if m.nw_tos & 3 != 0 {
                    return Err(bad(name, value, "a multiple of 4: the low two bits are not matched"));
                }
                wildcard::NW_TOS
            }
            "nw_proto" => {
                m.nw_proto = number(name, value, 0xff, "an IP protocol from 0 to 255")?;
                wildcard::NW_PROTO
            }
            "nw_src" | "nw_dst" => {
                let (ip, any) = prefix(name, value)?;
                let shift = if name == "nw_src" {
                    m.nw_src = ip;
                    wildcard::NW_SRC_SHIFT
                } else {
                    m.nw_dst = ip;
                    wildcard::NW_DST_SHIFT
                };
                m.wildcards = m.wildcards & !(0x3f << shift) | any << shift;
                0
            }
            "tp_src" | "icmp_type" => {
                m.tp_src = number(name, value, 0xffff, "a port, or an ICMP type")?;
                wildcard::TP_SRC
            }
            "tp_dst" | "icmp_code" => {
                m.tp_dst = number(name, value, 0xffff, "a port, or an ICMP code")?;
                wildcard::TP_DST
            }
            _ => return Err(LineError::Field(word.into())),
        };
        wild(m, bits);
        Ok(())
    }

    /// OpenFlow 1.0 ignores fields without their prerequisite, which is always a mistake.
    fn check(&self) -> Result<(), LineError> {
        let m = &self.matching;
        let has = |bit: u32| m.wildcards & bit == 0;
        let kind = has(wildcard::DL_TYPE).then_some(m.dl_type);
        let ip = kind == Some(0x0800);
        let protocol = (ip && has(wildcard::NW_PROTO)).then_some(m.nw_proto);
        let network = ip || kind == Some(0x0806);
        for (name, there, good, needs) in [
            ("nw_src", m.nw_src_bits() > 0, network, "ip or arp"),
            ("nw_dst", m.nw_dst_bits() > 0, network, "ip or arp"),
            ("nw_proto", has(wildcard::NW_PROTO), network, "ip or arp"),
            ("nw_tos", has(wildcard::NW_TOS), ip, "ip"),
            ("tp_src", has(wildcard::TP_SRC), matches!(protocol, Some(1 | 6 | 17)), "tcp, udp or icmp"),
            ("tp_dst", has(wildcard::TP_DST), matches!(protocol, Some(1 | 6 | 17)), "tcp, udp or icmp"),
            (
                "dl_vlan_pcp",
                has(wildcard::DL_VLAN_PCP),
                !has(wildcard::DL_VLAN) || m.dl_vlan != VLAN_NONE || m.dl_vlan_pcp == 0,
                "a VLAN tag (dl_vlan is 0xffff: none)",
            ),
        ] {
            if there && !good {
                return Err(LineError::Needs(name, needs));
            }
        }
        Ok(())
    }

    /// The match for flow tables.
    pub fn criteria(&self) -> Criteria {
        Criteria::from_of10(&self.matching)
    }

    /// The instructions for flow tables.
    ///
    /// For output ports that do not exist.
    pub fn instructions(&self) -> Result<Instructions, Unsupported> {
        Instructions::from_of10(&self.actions)
    }
}

fn action(word: &str, ports: Option<&PortMap>) -> Result<Action, LineError> {
    let (name, value) = word.split_once(':').unwrap_or((word, ""));
    let id = |most| number::<u16>(name, value, most, "a VLAN id from 0 to 4095");
    Ok(match name.to_ascii_lowercase().as_str() {
        "output" => Action::Output { port: port_number(name, value, ports)?, max_len: 0 },
        "controller" => {
            let wanted = "a length from 0 to 65535";
            let max_len = if value.is_empty() { 0xffff } else { number(name, value, 0xffff, wanted)? };
            Action::Output { port: port::CONTROLLER, max_len }
        }
        "enqueue" => {
            let wanted = "a port and a queue such as enqueue:2:1";
            let (to, queue) = value.split_once([':', 'q']).ok_or_else(|| bad(name, value, wanted))?;
            let queue_id = number(name, queue, u32::MAX.into(), wanted)?;
            Action::Enqueue { port: port_number(name, to, ports)?, pad: Pad::default(), queue_id }
        }
        "mod_vlan_vid" => Action::SetVlanVid(id(0xfff)?, Pad::default()),
        "mod_vlan_pcp" => {
            Action::SetVlanPcp(number(name, value, 7, "a VLAN priority from 0 to 7")?, Pad::default())
        }
        "strip_vlan" => Action::StripVlan(Pad::default()),
        "mod_dl_src" => Action::SetDlSrc(mac(name, value)?, Pad::default()),
        "mod_dl_dst" => Action::SetDlDst(mac(name, value)?, Pad::default()),
        "mod_nw_src" => Action::SetNwSrc(address(name, value)?),
        "mod_nw_dst" => Action::SetNwDst(address(name, value)?),
        "mod_nw_tos" => {
            let tos: u8 = number(name, value, 0xff, "a type of service from 0 to 252")?;
            if tos & 3 != 0 {
                return Err(bad(name, value, "a multiple of 4: the low two bits are not set"));
            }
            Action::SetNwTos(tos, Pad::default())
        }
        "mod_tp_src" => Action::SetTpSrc(number(name, value, 0xffff, "a port")?, Pad::default()),
        "mod_tp_dst" => Action::SetTpDst(number(name, value, 0xffff, "a port")?, Pad::default()),
        other => match RESERVED.iter().find(|(n, _)| *n == other && value.is_empty()) {
            Some((_, port)) => Action::Output { port: *port, max_len: 0 },
            None => return Err(LineError::Action(word.into())),
        },
    })
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.matching;
        let has = |bit: u32| m.wildcards & bit == 0;
        write!(f, "priority={}", self.priority)?;
        if has(wildcard::IN_PORT) {
            f.write_str(",in_port=")?;
            write_port(f, m.in_port)?;
        }
        if has(wildcard::DL_SRC) {
            write!(f, ",dl_src={}", m.dl_src)?;
        }
        if has(wildcard::DL_DST) {
            write!(f, ",dl_dst={}", m.dl_dst)?;
        }
        if has(wildcard::DL_VLAN) {
            match m.dl_vlan {
                VLAN_NONE => f.write_str(",dl_vlan=0xffff")?,
                id => write!(f, ",dl_vlan={id}")?,
            }
        }
        if has(wildcard::DL_VLAN_PCP) {
            write!(f, ",dl_vlan_pcp={}", m.dl_vlan_pcp)?;
        }
        let protocol = has(wildcard::NW_PROTO).then_some(m.nw_proto);
        if has(wildcard::DL_TYPE) {
            let named = PROTOCOLS.iter().find(|(_, kind, p)| *kind == m.dl_type && *p == protocol);
            match named.or_else(|| PROTOCOLS.iter().find(|(_, kind, p)| *kind == m.dl_type && p.is_none())) {
                Some((name, ..)) => write!(f, ",{name}")?,
                None => write!(f, ",dl_type={:#06x}", m.dl_type)?,
            }
            if let (None, Some(protocol)) = (named.filter(|(.., p)| p.is_some()), protocol) {
                write!(f, ",nw_proto={protocol}")?;
            }
        } else if let Some(protocol) = protocol {
            write!(f, ",nw_proto={protocol}")?;
        }
        for (name, ip, bits) in [("nw_src", m.nw_src, m.nw_src_bits()), ("nw_dst", m.nw_dst, m.nw_dst_bits())]
        {
            match bits {
                0 => {}
                32 => write!(f, ",{name}={ip}")?,
                bits => write!(f, ",{name}={ip}/{bits}")?,
            }
        }
        if has(wildcard::NW_TOS) {
            write!(f, ",nw_tos={}", m.nw_tos)?;
        }
        for (name, bit, value) in
            [("tp_src", wildcard::TP_SRC, m.tp_src), ("tp_dst", wildcard::TP_DST, m.tp_dst)]
        {
            if has(bit) {
                write!(f, ",{name}={value}")?;
            }
        }
        f.write_str(",actions=")?;
        if self.actions.is_empty() {
            return f.write_str("drop");
        }
        for (at, action) in self.actions.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write_action(f, action)?;
        }
        Ok(())
    }
}

fn write_port(f: &mut fmt::Formatter<'_>, port: u16) -> fmt::Result {
    match RESERVED.iter().find(|(_, p)| *p == port) {
        Some((name, _)) => f.write_str(name),
        None => write!(f, "{port}"),
    }
}

fn write_action(f: &mut fmt::Formatter<'_>, action: &Action) -> fmt::Result {
    match action {
        Action::Output { port: port::CONTROLLER, max_len } => write!(f, "controller:{max_len}"),
        Action::Output { port, .. } if RESERVED.iter().any(|(_, p)| p == port) => write_port(f, *port),
        Action::Output { port, .. } => write!(f, "output:{port}"),
        Action::Enqueue { port, queue_id, .. } => {
            f.write_str("enqueue:")?;
            write_port(f, *port)?;
            write!(f, ":{queue_id}")
        }
        Action::SetVlanVid(id, _) => write!(f, "mod_vlan_vid:{id}"),
        Action::SetVlanPcp(pcp, _) => write!(f, "mod_vlan_pcp:{pcp}"),
        Action::StripVlan(_) => f.write_str("strip_vlan"),
        Action::SetDlSrc(mac, _) => write!(f, "mod_dl_src:{mac}"),
        Action::SetDlDst(mac, _) => write!(f, "mod_dl_dst:{mac}"),
        Action::SetNwSrc(ip) => write!(f, "mod_nw_src:{ip}"),
        Action::SetNwDst(ip) => write!(f, "mod_nw_dst:{ip}"),
        Action::SetNwTos(tos, _) => write!(f, "mod_nw_tos:{tos}"),
        Action::SetTpSrc(port, _) => write!(f, "mod_tp_src:{port}"),
        Action::SetTpDst(port, _) => write!(f, "mod_tp_dst:{port}"),
        Action::Vendor { vendor, .. } => write!(f, "vendor:{vendor:#x}"),
        Action::Other { kind, .. } => write!(f, "action:{kind}"),
    }
}
