//! Register writes as text: `compile` makes them of a flow, `decode` explains them. One write per
//! line, `w ADDR VALUE` in hexadecimal, as in the co-simulation protocol; the rest of a line behind
//! a `#` is a comment.

use super::action::Action;
use super::entry::{Exact, Row};
use super::key::{Field, Key, Mask, Pattern};
use super::ofctl::{Line, LineError};
use super::ports::{PortMap, queue};
use super::reject_reason::RejectReason;
use super::rule::{Rule, Transport};
use crate::profile::FlowMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use tandem_model::Mac;
use tandem_openflow::table::ops::Unsupported;

/// Why a flow cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Its text cannot be parsed.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The flow table does not support it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The card does not support it. (The reason is part of the message, and not a `source` too.)
    #[error("the card cannot have this rule: {0}")]
    Card(RejectReason),
    /// It does not have exactly one key.
    #[error(
        "an exact entry needs every field of its packets: in_port, dl_src, dl_dst, dl_vlan (and dl_vlan_pcp), dl_type, and for IP nw_src, nw_dst, nw_tos, nw_proto and ports"
    )]
    NotExact,
    /// The bitfile makes its key of other frames too.
    #[error(
        "this is the key that the card makes of every frame with an IPv4 header length below 5, \
         so an entry would take frames of other ports"
    )]
    Guarded,
    /// It needs more rows than there are.
    #[error("it takes {needs} rows from row {first} on, and the card has {rows}")]
    Rows {
        /// Rows that it needs.
        needs: usize,
        /// The first row.
        first: u32,
        /// Rows of the card.
        rows: u32,
    },
}

impl From<RejectReason> for CompileError {
    fn from(reason: RejectReason) -> CompileError {
        CompileError::Card(reason)
    }
}

/// Translates a flow for the card; also returns a comment where the card differs from a flow table.
fn rule(text: &str, ports: &PortMap, transport: Transport) -> Result<(Rule, String), CompileError> {
    let line = Line::parse(text, Some(ports))?;
    let (criteria, instructions) = (line.criteria(), line.instructions()?);
    let note = match Rule::new(&criteria, &instructions, ports, Transport::Card).plan {
        Err(why) if transport == Transport::Literal => format!("# not as a flow table does it: {why}\n"),
        _ => String::new(),
    };
    Ok((Rule::new(&criteria, &instructions, ports, transport), note))
}

/// The register writes of a flow in wildcard rows, from row `first` on.
///
/// # Errors
/// When it cannot be read, or the card cannot have it.
pub fn compile(
    text: &str,
    ports: &PortMap,
    transport: Transport,
    a: &FlowMap,
    first: u32,
) -> Result<String, CompileError> {
    let (rule, mut out) = rule(text, ports, transport)?;
    let rows = rule.rows()?;
    let needs = rows.len();
    if first as usize + needs > usize::from(a.rows) {
        return Err(CompileError::Rows { needs, first, rows: a.rows.into() });
    }
    for (at, row) in (first..).zip(rows) {
        let _ = writeln!(out, "# row {at}: {}", Shown(&row.pattern, &row.action, ports));
        write(&mut out, row.writes(a, at));
    }
    Ok(out)
}

/// The register writes of a flow as an exact entry, for both of its possible rows; the first is
/// used if it is free, the second is written as comments.
///
/// # Errors
/// When it cannot be read, is not exact, or the card cannot have it.
pub fn compile_exact(
    text: &str,
    ports: &PortMap,
    transport: Transport,
    a: &FlowMap,
) -> Result<String, CompileError> {
    let (rule, mut out) = rule(text, ports, transport)?;
    let plan = rule.plan.clone()?;
    let key = rule.key().map(|(key, _)| key).or_else(|| whole(&rule)).ok_or(CompileError::NotExact)?;
    if a.guard.is_some_and(|guard| Key::of_fault(guard) == key) {
        return Err(CompileError::Guarded);
    }
    let action = plan.action((key.get(Field::SOURCE) / 2) as u8);
    let entry = Exact { key, action };
    let [first, second] = entry.rows();
    let shown = Shown(&Pattern::exactly(key), &action, ports).to_string();
    let _ = writeln!(out, "# exact row {first:#06x} (taken: tried first): {shown}");
    write(&mut out, entry.writes(a, first));
    let _ = writeln!(out, "# exact row {second:#06x} (taken when the first holds another entry)");
    for (address, value) in entry.writes(a, second) {
        let _ = writeln!(out, "# w {address:07x} {value:08x}");
    }
    Ok(out)
}

/// The key of a rule that compares every bit that its packets have, although it is not marked
/// exact. Fields that they do not have are zero.
fn whole(rule: &Rule) -> Option<Key> {
    let from = rule.ingress.iter().next().filter(|_| rule.ingress.len() == 1)?;
    let (mut key, mask) = (rule.pattern.key, &rule.pattern.mask);
    let kind = key.get(Field::ETH_TYPE);
    let protocol = key.get(Field::IP_PROTO);
    for (_, field) in Field::ALL.iter().filter(|(_, f)| *f != Field::SOURCE) {
        let has = match *field {
            Field::IP_TOS => kind == 0x0800,
            Field::IP_PROTO | Field::IP_SRC | Field::IP_DST => matches!(kind, 0x0800 | 0x0806),
            Field::TP_SRC | Field::TP_DST => kind == 0x0800 && matches!(protocol, 1 | 6 | 17),
            _ => true,
        };
        // The low two bits of the type of service are zero in every key, and so are the bits above
        // ICMP's type and code.
        let bits = match *field {
            Field::IP_TOS => 0xfc,
            Field::TP_SRC | Field::TP_DST if protocol == 1 => 0xff,
            _ => u64::MAX,
        };
        let open = mask.get(*field) & bits;
        if has && open != 0 {
            return None;
        }
    }
    key.set(Field::SOURCE, queue(from).into());
    Some(key)
}

fn write(out: &mut String, writes: impl Iterator<Item = (u32, u32)>) {
    for (address, value) in writes {
        let _ = writeln!(out, "w {address:07x} {value:08x}");
    }
}

/// Why register writes cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?} is no register write; write `w ADDR VALUE` in hexadecimal")]
pub struct DecodeError {
    /// Line number, from 1.
    pub line: usize,
    /// The line's text.
    pub text: String,
}

/// Explains register writes: a line per committed row and valid entry, and one per entry that is
/// invalid at the end. Other writes are skipped.
///
/// # Errors With the first line that is not a write.
pub fn decode(text: &str, a: &FlowMap, ports: &PortMap) -> Result<String, DecodeError> {
    let mut written: BTreeMap<u32, u32> = BTreeMap::new();
    let mut off = BTreeSet::new();
    let mut out = String::new();
    for (at, full) in text.lines().enumerate() {
        let line = full.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let bad = || DecodeError { line: at + 1, text: full.into() };
        let mut words = line.split_whitespace();
        let (Some("w"), Some(address), Some(value), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad());
        };
        let hex = |word: &str| u32::from_str_radix(word.trim_start_matches("0x"), 16).map_err(|_| bad());
        let (address, value) = (hex(address)?, hex(value)?);
        written.insert(address, value);
        let word = |at: u32| written.get(&at).copied().unwrap_or(0);
        let words = |first: u32| std::array::from_fn(|n| word(first + 4 * n as u32));
        let exact = a.exact..a.exact.saturating_add(a.exact_rows.saturating_mul(a.exact_stride));
        if address == a.write_row {
            let action = Action::of_words(&std::array::from_fn(|n| word(a.action + 4 * n as u32)));
            let pattern = Pattern { key: Key(words(a.key)), mask: Mask(words(a.mask)) };
            let row = Row { pattern, action };
            let _ = match row.is_deleted() {
                true => writeln!(out, "row {value}: deleted"),
                false => writeln!(out, "row {value}: {}", Shown(&pattern, &action, ports)),
            };
        } else if exact.contains(&address) && (address - a.exact) % a.exact_stride == 28 {
            let row = (address - a.exact) / a.exact_stride;
            if value >> 31 == 1 {
                off.remove(&row);
                let first = address - 28;
                let mut key = Key(words(first));
                key.set(Field::VALID, 0);
                let action = Action::of_words(&std::array::from_fn(|n| word(first + 0x28 + 4 * n as u32)));
                let shown = Shown(&Pattern::exactly(key), &action, ports).to_string();
                let _ = writeln!(out, "exact row {row:#06x}: {shown}");
            } else {
                off.insert(row);
            }
        }
    }
    for row in off {
        let _ = writeln!(out, "exact row {row:#06x}: not valid");
    }
    Ok(out)
}

/// A row or entry as text, in the syntax of ovs-ofctl where possible.
pub struct Shown<'a>(pub &'a Pattern, pub &'a Action, pub &'a PortMap);

fn mac(number: u64) -> Mac {
    let [_, _, mac @ ..] = number.to_be_bytes();
    Mac(mac)
}

fn queue_name(f: &mut fmt::Formatter<'_>, queue: u8, ports: &PortMap) -> fmt::Result {
    match (queue % 2, ports.number(queue / 2)) {
        (0, Some(number)) => write!(f, "{number}"),
        (0, None) => write!(f, "mac{}", queue / 2),
        _ => write!(f, "cpu{}", queue / 2),
    }
}

/// A field's condition; `any` are the bits that may have any value.
fn condition(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    field: Field,
    (value, any): (u64, u64),
    ports: &PortMap,
) -> fmt::Result {
    match field {
        Field::SOURCE if any == 0 => {
            write!(f, "{name}=")?;
            queue_name(f, value as u8, ports)?;
        }
        Field::SOURCE => {
            write!(f, "{name}=")?;
            let queues = (0..8u8).filter(|q| u64::from(*q) & !any == value);
            for (at, queue) in queues.enumerate() {
                f.write_str(if at > 0 { "|" } else { "" })?;
                queue_name(f, queue, ports)?;
            }
        }
        Field::ETH_SRC | Field::ETH_DST if any == 0 => write!(f, "{name}={}", mac(value))?,
        Field::ETH_SRC | Field::ETH_DST => {
            write!(f, "{name}={}/{}", mac(value), mac(!any & field.full()))?;
        }
        Field::VLAN if any == 0 && value == 0xffff => f.write_str("dl_vlan=0xffff")?,
        Field::VLAN => tag(f, value, any)?,
        Field::ETH_TYPE if any == 0 => write!(f, "{name}={value:#06x}")?,
        Field::IP_SRC | Field::IP_DST => {
            let look = !(any as u32);
            write!(f, "{name}={}", Ipv4Addr::from(value as u32))?;
            match (look.leading_ones(), look.count_ones()) {
                (32, _) => {}
                (prefix, ones) if prefix == ones => write!(f, "/{prefix}")?,
                _ => write!(f, "/{}", Ipv4Addr::from(look))?,
            }
        }
        Field::IP_TOS if any & 0xfc == 0 => write!(f, "{name}={value}")?,
        _ if any == 0 => write!(f, "{name}={value}")?,
        _ => write!(f, "{name}={value:#x}/{:#x}", !any & field.full())?,
    }
    Ok(())
}

/// The condition on parts of the VLAN tag; the key's bit 12 is 0 with a tag.
fn tag(f: &mut fmt::Formatter<'_>, value: u64, any: u64) -> fmt::Result {
    let id = !any & 0xfff;
    let mut parts = Vec::new();
    match id {
        0 => {}
        0xfff => parts.push(format!("dl_vlan={}", value & 0xfff)),
        id => parts.push(format!("dl_vlan={}/{id:#x}", value & 0xfff)),
    }
    match !any >> 13 & 7 {
        0 => {}
        7 => parts.push(format!("dl_vlan_pcp={}", value >> 13)),
        bits => parts.push(format!("dl_vlan_pcp={}/{bits}", value >> 13)),
    }
    if parts.is_empty() {
        parts.push(if value & 0x1000 == 0 { "tagged".into() } else { "untagged".into() });
    }
    f.write_str(&parts.join(","))
}

/// The actions in the syntax of ovs-ofctl.
fn actions(f: &mut fmt::Formatter<'_>, action: &Action, ports: &PortMap) -> fmt::Result {
    if action.ports == 0 {
        return f.write_str("drop");
    }
    let mut words = Vec::new();
    if action.strip {
        words.push("strip_vlan".to_owned());
    }
    words.extend(action.vid.map(|v| format!("mod_vlan_vid:{v}")));
    words.extend(action.pcp.map(|v| format!("mod_vlan_pcp:{v}")));
    words.extend(action.dl_src.map(|v| format!("mod_dl_src:{}", Mac(v))));
    words.extend(action.dl_dst.map(|v| format!("mod_dl_dst:{}", Mac(v))));
    words.extend(action.nw_src.map(|v| format!("mod_nw_src:{}", Ipv4Addr::from(v))));
    words.extend(action.nw_dst.map(|v| format!("mod_nw_dst:{}", Ipv4Addr::from(v))));
    words.extend(action.tos.map(|v| format!("mod_nw_tos:{v}")));
    words.extend(action.tp_src.map(|v| format!("mod_tp_src:{v}")));
    words.extend(action.tp_dst.map(|v| format!("mod_tp_dst:{v}")));
    for word in words {
        write!(f, "{word},")?;
    }
    let queues = (0..16u8).filter(|q| action.ports >> q & 1 == 1);
    for (at, queue) in queues.enumerate() {
        f.write_str(if at > 0 { ",output:" } else { "output:" })?;
        queue_name(f, queue, ports)?;
    }
    Ok(())
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(Pattern { key, mask }, action, ports) = self;
        let mut some = false;
        let kind = (mask.get(Field::ETH_TYPE) == 0).then(|| key.get(Field::ETH_TYPE));
        let arp = kind == Some(0x0806);
        for (name, field) in [
            ("in_port", Field::SOURCE),
            ("dl_src", Field::ETH_SRC),
            ("dl_dst", Field::ETH_DST),
            ("dl_vlan", Field::VLAN),
            ("dl_type", Field::ETH_TYPE),
            (if arp { "arp_op" } else { "nw_proto" }, Field::IP_PROTO),
            ("nw_src", Field::IP_SRC),
            ("nw_dst", Field::IP_DST),
            ("nw_tos", Field::IP_TOS),
            ("tp_src", Field::TP_SRC),
            ("tp_dst", Field::TP_DST),
        ] {
            let (value, any) = (key.get(field), mask.get(field));
            if any == field.full() {
                continue;
            }
            if some {
                f.write_str(",")?;
            }
            some = true;
            condition(f, name, field, (value, any), ports)?;
        }
        f.write_str(if some { " actions=" } else { "actions=" })?;
        actions(f, action, ports)
    }
}
